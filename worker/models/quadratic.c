/* A quadratic bowl, for experiments where the answer is known: f(x) = 1/2 sum a_i x_i^2.
 *
 * Its gradient is a_i x_i + noise * z_i, with z_i the mean over the batch of standard normal numbers that each sample
 * always brings along: noise shrinks with the batch as that of a real gradient does, and the same batch gives the same
 * gradient. The loss is f itself; nothing is ever predicted correctly. Computed on the host, on any device. */
#include "worker/models/core.h"
#include "worker/models/models.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "common/random.h"

enum { CURVATURES_MAX = 64 };

struct quadratic {
    struct core core;
    double curvatures[CURVATURES_MAX];
    uint32_t kinds; /* different curvatures; coordinate i has i mod kinds */
    float start, noise;
    struct core_tensor x;
    float *host, *gradient; /* [elements] */
    double *shake;          /* [elements] mean of the batch's normal numbers */
};

static void quadratic_destroy(struct model *model) {
    struct quadratic *m = (struct quadratic *)model;
    free(m->host);
    free(m->gradient);
    free(m->shake);
    core_deinit(&m->core);
    free(m);
}

static enum lg_status read_curvatures(struct quadratic *m, const char *text, struct lg_error *error) {
    for (const char *at = text + strspn(text, " ,+"); *at; at += strspn(at, " ,+")) {
        char *end = NULL;
        double value = strtod(at, &end);
        if (end == at || !isfinite(value) || value < 0 || m->kinds == CURVATURES_MAX)
            return lg_fail(error, LG_INVALID,
                           "model.curvatures \"%.100s\" should be up to %d numbers from 0, such as \"1, 0.1\"", text,
                           CURVATURES_MAX);
        m->curvatures[m->kinds++] = value;
        at = end;
    }
    if (m->kinds == 0)
        return lg_fail(error, LG_INVALID, "model.curvatures is empty: give at least one, such as \"1\"");
    return LG_OK;
}

static enum lg_status quadratic_create(const void *options, const struct dataset_info *info, struct device *device,
                                       uint32_t batch_max, struct model **out, struct lg_error *error) {
    const struct quadratic_options *o = options;
    struct quadratic *m = calloc(1, sizeof *m);
    size_t size = (size_t)o->size;
    if (!m)
        return lg_fail(error, LG_NO_MEMORY, "no memory for model \"quadratic\"");
    core_init(&m->core, &model_quadratic, info, device, batch_max, info->context ? info->context : 1);
    m->x = core_vector(&m->core, size, "x");
    m->start = (float)o->start;
    m->noise = (float)o->noise;
    m->host = calloc(size, sizeof *m->host);
    m->gradient = calloc(size, sizeof *m->gradient);
    m->shake = calloc(size, sizeof *m->shake);
    enum lg_status status = read_curvatures(m, o->curvatures, error);
    if (status == LG_OK && (!m->host || !m->gradient || !m->shake))
        status = lg_fail(error, LG_NO_MEMORY, "no memory for model \"quadratic\"");
    if (status == LG_OK)
        status = core_commit(&m->core, error);
    if (status != LG_OK)
        quadratic_destroy(&m->core.model);
    else
        *out = &m->core.model;
    return status;
}

static void quadratic_initialise(const struct model *model, uint64_t seed, float *parameters) {
    const struct quadratic *m = (const struct quadratic *)model;
    (void)seed;
    core_constant(m->x, m->start, parameters);
}

/* What tells a sample from others: its features, or tokens, and its label. */
static uint64_t sample_hash(const struct model *model, const struct batch *batch, uint32_t i) {
    const struct dataset_info *info = &model->info;
    if (info->form == DATASET_TOKENS)
        return XXH3_64bits(batch->tokens + (size_t)i * info->context, info->context * sizeof *batch->tokens);
    if (info->form == DATASET_DENSE)
        return XXH3_64bits_withSeed(batch->features + (size_t)i * info->width, info->width * sizeof *batch->features,
                                    (uint64_t)batch->labels[i]);
    size_t first = batch->row_starts[i], count = batch->row_starts[i + 1] - first;
    return XXH3_64bits_withSeed(batch->columns + first, count * sizeof *batch->columns,
                                XXH3_64bits(batch->values + first, count * sizeof *batch->values));
}

static void shake(struct quadratic *m, const struct batch *batch) {
    size_t size = (size_t)m->core.model.elements;
    memset(m->shake, 0, size * sizeof *m->shake);
    for (uint32_t i = 0; m->noise > 0 && i < batch->count; i++) {
        struct random random;
        random_init(&random, sample_hash(&m->core.model, batch, i));
        for (size_t k = 0; k < size; k++)
            m->shake[k] += (double)random_normal(&random) / batch->count;
    }
}

static enum lg_status quadratic_forward(struct model *model, const struct batch *batch, struct model_result *result,
                                        struct lg_error *error) {
    struct quadratic *m = (struct quadratic *)model;
    struct core *c = &m->core;
    double f = 0;
    c->ops->download(c->stream, model->elements * sizeof *m->host, core_parameter(c, m->x), m->host);
    enum lg_status status = c->ops->synchronize(c->stream, error);
    for (size_t i = 0; i < model->elements; i++) {
        double a = m->curvatures[i % m->kinds];
        f += 0.5 * a * (double)m->host[i] * (double)m->host[i];
    }
    shake(m, batch);
    c->rows = batch->count;
    uint64_t predictions = (uint64_t)batch->count * (model->info.context ? model->info.context : 1);
    *result = (struct model_result){.loss_sum = f * (double)predictions, .predictions = predictions};
    return status;
}

static enum lg_status quadratic_backward(struct model *model, model_gradient_fn *ready, void *context,
                                         struct lg_error *error) {
    struct quadratic *m = (struct quadratic *)model;
    struct core *c = &m->core;
    for (size_t i = 0; i < model->elements; i++)
        m->gradient[i] = (float)(m->curvatures[i % m->kinds] * (double)m->host[i] + (double)m->noise * m->shake[i]);
    c->ops->upload(c->stream, model->elements * sizeof *m->gradient, m->gradient, core_gradient(c, m->x));
    return core_ready(c, ready, context, 0, 1, error);
}

static const struct option rows[] = {
    {"curvatures", OPTION_STRING, offsetof(struct quadratic_options, curvatures), "1", 0, 0, NULL, NULL,
     "second derivatives, joined with ',' or '+'; coordinates take them in turn"},
    {"size", OPTION_INT, offsetof(struct quadratic_options, size), "1", 1, 1e6, NULL, NULL, "coordinates"},
    {"start", OPTION_FLOAT, offsetof(struct quadratic_options, start), "1", -1e6, 1e6, NULL, NULL,
     "where every coordinate starts"},
    {"noise", OPTION_FLOAT, offsetof(struct quadratic_options, noise), "0", 0, 1e6, NULL, NULL,
     "deviation of the gradient of one sample, per coordinate"},
};

static const struct option_table table = {
    .name = "model quadratic",
    .summary = "a quadratic bowl",
    .options = rows,
    .count = sizeof rows / sizeof *rows,
    .config_bytes = sizeof(struct quadratic_options),
};

const struct model_kind model_quadratic = {
    .name = "quadratic",
    .summary = "a quadratic bowl with chosen curvatures, for experiments; takes any dataset",
    .options = &table,
    .create = quadratic_create,
    .initialise = quadratic_initialise,
    .forward = quadratic_forward,
    .backward = quadratic_backward,
    .destroy = quadratic_destroy,
};
