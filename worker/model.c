#include "worker/model.h"

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "worker/models/core.h"
#include "worker/models/models.h"

static const struct model_kind *const kinds[] = {
#define X(name) &model_##name,
#include "worker/model.def"
#undef X
};

enum { KIND_COUNT = sizeof kinds / sizeof *kinds };

const struct model_kind *const *model_kinds(size_t *count) {
    *count = KIND_COUNT;
    return kinds;
}

enum lg_status model_kind_find(const char *name, const struct model_kind **out, struct lg_error *error) {
    const char *names[KIND_COUNT + 1] = {0};
    char list[256] = "";
    for (size_t i = 0; i < KIND_COUNT; i++) {
        if (strcmp(name, kinds[i]->name) == 0) {
            *out = kinds[i];
            return LG_OK;
        }
        names[i] = kinds[i]->name;
        size_t used = strlen(list);
        snprintf(list + used, sizeof list - used, "%s%s", i ? ", " : "", kinds[i]->name);
    }
    const char *near = option_nearest(name, names);
    return lg_fail(error, LG_NOT_FOUND, "no model is called \"%s\"%s%s%s; there are: %s", name,
                   near ? " (did you mean \"" : "", near ? near : "", near ? "\"?)" : "", list);
}

static enum lg_status info_check(const struct dataset_info *info, uint32_t batch_max, struct lg_error *error) {
    if (batch_max == 0)
        return lg_fail(error, LG_INVALID, "a batch needs at least one sample");
    if (info->classes == 0)
        return lg_fail(error, LG_INVALID, "the dataset has no classes to tell apart");
    if (info->form == DATASET_TOKENS ? info->context == 0 : info->width == 0)
        return lg_fail(error, LG_INVALID, "the dataset's samples are empty");
    uint64_t predictions = (uint64_t)batch_max * (info->form == DATASET_TOKENS ? info->context : 1);
    if (predictions > INT32_MAX)
        return lg_fail(error, LG_INVALID, "a batch of %u samples is too large: use a smaller one", batch_max);
    return LG_OK;
}

struct kind_option {
    char kind[OPTION_TEXT_BYTES];
};

static const struct option kind_options[] = {
    {.key = "kind",
     .type = OPTION_STRING,
     .offset = offsetof(struct kind_option, kind),
     .fallback = "mlp",
     .help = "what is trained: softmax, mlp, cnn, gpt or quadratic"},
};
const struct option_table model_option_table = {
    .name = "model",
    .summary = "the model that a job trains",
    .options = kind_options,
    .count = 1,
    .config_bytes = sizeof(struct kind_option),
};

/* The entry that "model.kind" names; an error starts with the place of that key. */
static enum lg_status kind_of(struct config *config, const struct model_kind **kind, struct lg_error *error) {
    struct kind_option chosen;
    enum lg_status status = option_apply(&model_option_table, "model.", config, &chosen, error);
    if (status == LG_OK)
        status = model_kind_find(chosen.kind, kind, error);
    const struct config_entry *entry = config ? config_find(config, "model.kind") : NULL;
    if (status != LG_NOT_FOUND || !entry)
        return status;
    char place[256];
    config_place(entry, place, sizeof place);
    return lg_fail_prefix(error, status, "%s", place);
}

enum lg_status model_create(struct config *config, const struct dataset_info *info, struct device *device,
                            uint32_t batch_max, struct model **out, struct lg_error *error) {
    const struct model_kind *kind;
    void *options = NULL;
    *out = NULL;
    enum lg_status status = kind_of(config, &kind, error);
    if (status == LG_OK)
        status = info_check(info, batch_max, error);
    if (status != LG_OK)
        goto out;
    options = calloc(1, kind->options->config_bytes);
    if (options)
        status = option_apply(kind->options, "model.", config, options, error);
    else
        status = lg_fail(error, LG_NO_MEMORY, "no memory for the options of model \"%s\"", kind->name);
    if (status == LG_OK)
        status = kind->create(options, info, device, batch_max, out, error);
out:
    free(options);
    return status;
}

void model_destroy(struct model *model) {
    if (model)
        model->kind->destroy(model);
}

void model_initialise(const struct model *model, uint64_t seed, float *parameters) {
    model->kind->initialise(model, seed, parameters);
}

void model_use_parameters(struct model *model, float *parameters) {
    model->parameters = parameters;
    model->same_parameters = false;
}

void model_same_parameters(struct model *model) {
    model->same_parameters = true;
}

void model_use_gradients(struct model *model, float *gradients) {
    model->gradients = gradients;
}

static enum lg_status numbers_check(const int32_t *numbers, size_t count, uint32_t bound, const char *what,
                                    struct lg_error *error) {
    uint32_t most = 0;
    for (size_t i = 0; i < count; i++)
        most = (uint32_t)numbers[i] > most ? (uint32_t)numbers[i] : most; /* negative ones become large */
    if (most < bound)
        return LG_OK;
    return lg_fail(error, LG_INVALID, "a batch has %s %d, but they are below %u", what, (int)(int32_t)most, bound);
}

static enum lg_status sparse_check(const struct batch *batch, uint32_t width, struct lg_error *error) {
    for (uint32_t r = 0; r < batch->count; r++)
        if (batch->row_starts[r] > batch->row_starts[r + 1])
            return lg_fail(error, LG_INVALID, "row %u of a sparse batch ends before it starts", r);
    for (size_t i = batch->row_starts[0]; i < batch->row_starts[batch->count]; i++)
        if (batch->columns[i] >= width)
            return lg_fail(error, LG_INVALID, "a sparse batch has column %u, but they are below %u", batch->columns[i],
                           width);
    return LG_OK;
}

/* The ops index with what is in a batch, so a reader's bug must not become a wild pointer. */
static enum lg_status batch_check(const struct model *model, const struct batch *batch, struct lg_error *error) {
    const struct dataset_info *info = &model->info;
    if (batch->count == 0 || batch->count > model->batch_max)
        return lg_fail(error, LG_INVALID, "a batch of %u samples, but model \"%s\" was made for 1 to %u", batch->count,
                       model->kind->name, model->batch_max);
    size_t labels = batch->count;
    enum lg_status status = LG_OK;
    if (info->form == DATASET_TOKENS) {
        labels *= info->context;
        status = numbers_check(batch->tokens, labels, info->classes, "token", error);
    } else if (info->form == DATASET_SPARSE) {
        status = sparse_check(batch, info->width, error);
    }
    if (status != LG_OK)
        return status;
    return numbers_check(batch->labels, labels, info->classes, "label", error);
}

enum lg_status model_forward(struct model *model, const struct batch *batch, struct model_result *result,
                             struct lg_error *error) {
    enum lg_status status = batch_check(model, batch, error);
    if (status != LG_OK)
        return status;
    return model->kind->forward(model, batch, result, error);
}

enum lg_status model_backward(struct model *model, model_gradient_fn *ready, void *context, struct lg_error *error) {
    if (((struct core *)model)->rows == 0)
        return lg_fail(error, LG_INVALID, "model \"%s\" goes backward only after a forward", model->kind->name);
    return model->kind->backward(model, ready, context, error);
}
