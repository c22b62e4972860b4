#include "cli/sample.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cli/link.h"
#include "cli/pulled.h"
#include "cli/table.h"
#include "common/random.h"
#include "worker/model.h"

/* The job's specification as its document tells it. */
static enum lg_status fetch_spec(const struct cli *cli, const char *job, struct config **config,
                                 struct lg_error *error) {
    json_t *document = NULL, *value;
    const char *key;
    enum lg_status status = link_query_once(cli, "job", job, &document, error);
    *config = config_new();
    if (status == LG_OK && !*config)
        status = lg_fail(error, LG_NO_MEMORY, "no memory for the job's specification");
    if (status == LG_OK)
        json_object_foreach(json_object_get(document, "spec"), key, value) if (status == LG_OK) status =
            config_set(*config, key, json_string_value(value), "job", error);
    json_decref(document);
    return status;
}

/* What the text dataset says of itself, without its file. */
static enum lg_status text_info(struct config *config, struct dataset_info *info, struct lg_error *error) {
    if (strcmp(config_text(config, "dataset.kind", "glyphs"), "text") != 0)
        return lg_fail(error, LG_UNSUPPORTED, "only jobs on the dataset \"text\" can write a sample");
    long context = strtol(config_text(config, "dataset.context", "128"), NULL, 10);
    if (context < 1 || context > 65536)
        return lg_fail(error, LG_INVALID, "the job's dataset.context is out of range");
    *info = (struct dataset_info){
        .form = DATASET_TOKENS, .train_samples = 1, .test_samples = 1, .classes = 256, .context = (uint32_t)context};
    return LG_OK;
}

static int32_t pick(const float *logits, uint32_t classes, double temperature, struct random *random) {
    uint32_t best = 0;
    double sum = 0;
    for (uint32_t i = 1; i < classes; i++)
        best = logits[i] > logits[best] ? i : best;
    if (temperature <= 0)
        return (int32_t)best;
    for (uint32_t i = 0; i < classes; i++)
        sum += exp((double)(logits[i] - logits[best]) / temperature);
    double at = random_double(random) * sum;
    for (uint32_t i = 0; i < classes; i++) {
        at -= exp((double)(logits[i] - logits[best]) / temperature);
        if (at <= 0)
            return (int32_t)i;
    }
    return (int32_t)best;
}

static enum lg_status write_text(struct model *model, const struct sample_request *request, FILE *out,
                                 struct lg_error *error) {
    uint32_t context = model->info.context, count = 0;
    int32_t *tokens = calloc(context, sizeof *tokens);
    float *logits = calloc(model->info.classes, sizeof *logits);
    struct random random;
    enum lg_status status = LG_OK;
    random_init(&random, request->seed);
    if (!tokens || !logits)
        status = lg_fail(error, LG_NO_MEMORY, "no memory for the sample");
    const char *prompt = request->prompt[0] ? request->prompt : "\n";
    for (size_t i = 0; status == LG_OK && prompt[i] && count < context; i++)
        tokens[count++] = (unsigned char)prompt[i];
    for (uint64_t i = 0; status == LG_OK && i < request->bytes; i++) {
        status = model->kind->next_logits(model, tokens, count, logits, error);
        if (status != LG_OK)
            break;
        int32_t next = pick(logits, model->info.classes, request->temperature, &random);
        fputc(next, out);
        if (count == context) {
            memmove(tokens, tokens + context / 2, (context - context / 2) * sizeof *tokens);
            count = context - context / 2;
        }
        tokens[count++] = next;
    }
    free(tokens);
    free(logits);
    return status;
}

int sample_text(const struct cli *cli, const struct sample_request *request, FILE *out) {
    struct lg_error error = {0};
    struct config *config = NULL;
    struct dataset_info info;
    struct device *device = NULL;
    struct model *model = NULL;
    struct pulled pulled = {0};
    enum lg_status status = fetch_spec(cli, request->job, &config, &error);
    if (status == LG_OK)
        status = text_info(config, &info, &error);
    if (status == LG_OK)
        status = device_open("cpu", 0, &device, &error);
    if (status == LG_OK)
        status = model_create(config, &info, device, 1, &model, &error);
    if (status == LG_OK && !model->kind->next_logits)
        status = lg_fail(&error, LG_UNSUPPORTED, "model \"%s\" is no language model", model->kind->name);
    if (status == LG_OK)
        status = pulled_open(&pulled, cli, request->job, &error);
    if (status == LG_OK && tensor_total_elements(pulled.specs, pulled.count) != model->elements)
        status = lg_fail(&error, LG_INVALID, "the job's tensors are not those of its model here");
    if (status == LG_OK) {
        memcpy(model->parameters, pulled.values, model->elements * sizeof *pulled.values);
        status = write_text(model, request, out, &error);
        fputc('\n', out);
    }
    pulled_close(&pulled);
    model_destroy(model);
    device_close(device);
    config_free(config);
    return status == LG_OK ? CLI_EXIT_OK : cli_fail(&error);
}
