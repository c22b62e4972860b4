/* Softmax regression: logits = x weight^T + bias, on dense or sparse features.
 *
 * Sparse features read and write few rows of a weight that has one row per feature: there "weight" is
 * [features][classes], else [classes][features]. */
#include "worker/models/core.h"
#include "worker/models/models.h"

#include <stdlib.h>

struct softmax {
    struct core core;
    struct core_linear layer;
    struct activation *x;      /* dense: [batch_max][width] */
    struct activation *logits; /* [batch_max][classes]; their gradient after forward */
    struct device_sparse sparse;
    uint32_t *row_starts, *columns; /* device; the entries grow with the batches */
    float *values;
    size_t entry_capacity;
};

static void softmax_destroy(struct model *model) {
    struct softmax *m = (struct softmax *)model;
    m->core.ops->free(model->device, m->columns);
    m->core.ops->free(model->device, m->values);
    core_deinit(&m->core);
    free(m);
}

static enum lg_status softmax_create(const void *options, const struct dataset_info *info, struct device *device,
                                     uint32_t batch_max, struct model **out, struct lg_error *error) {
    (void)options;
    if (info->form == DATASET_TOKENS)
        return lg_fail(error, LG_INVALID, "model \"softmax\" needs features, but the dataset has tokens: use \"gpt\"");
    struct softmax *m = calloc(1, sizeof *m);
    if (!m)
        return lg_fail(error, LG_NO_MEMORY, "no memory for model \"softmax\"");
    core_init(&m->core, &model_softmax, info, device, batch_max, 1);
    if (info->form == DATASET_SPARSE) {
        m->layer = (struct core_linear){.inputs = info->width, .outputs = info->classes};
        m->layer.weight = core_matrix(&m->core, info->width, info->classes, "weight");
        m->layer.bias = core_vector(&m->core, info->classes, "bias");
        core_plan(&m->core, &m->row_starts, (size_t)batch_max + 1);
    } else {
        m->layer = core_linear(&m->core, info->width, info->classes, true, "");
        core_plan_upload(&m->core, (size_t)batch_max * info->width);
        core_plan_activation(&m->core, &m->x, (size_t)batch_max * info->width);
    }
    core_plan_activation(&m->core, &m->logits, (size_t)batch_max * info->classes);
    enum lg_status status = core_commit(&m->core, error);
    if (status != LG_OK)
        softmax_destroy(&m->core.model);
    else
        *out = &m->core.model;
    return status;
}

/* Zero: the problem is convex, and the first loss is exactly ln(classes). */
static void softmax_initialise(const struct model *model, uint64_t seed, float *parameters) {
    const struct softmax *m = (const struct softmax *)model;
    (void)seed;
    core_constant(m->layer.weight, 0, parameters);
    core_constant(m->layer.bias, 0, parameters);
}

static enum lg_status entries_reserve(struct softmax *m, size_t entries, struct lg_error *error) {
    struct device *device = m->core.model.device;
    if (entries <= m->entry_capacity && m->columns)
        return LG_OK;
    m->core.ops->free(device, m->columns);
    m->core.ops->free(device, m->values);
    m->entry_capacity = entries + entries / 2;
    m->columns = m->core.ops->alloc(device, m->entry_capacity * sizeof *m->columns);
    m->values = m->core.ops->alloc(device, m->entry_capacity * sizeof *m->values);
    if (m->columns && m->values)
        return LG_OK;
    m->core.ops->free(device, m->columns);
    m->core.ops->free(device, m->values);
    m->columns = NULL;
    m->values = NULL;
    return lg_fail(error, LG_NO_MEMORY, "no memory for a batch of %zu sparse entries: use a smaller batch", entries);
}

/* logits [count][classes] = x weight + bias, x in compressed sparse rows */
static enum lg_status sparse_forward(struct softmax *m, const struct batch *batch, struct lg_error *error) {
    struct core *c = &m->core;
    size_t entries = batch->row_starts[batch->count];
    enum lg_status status = entries_reserve(m, entries, error);
    if (status != LG_OK)
        return status;
    c->ops->upload(c->stream, (batch->count + 1u) * sizeof *m->row_starts, batch->row_starts, m->row_starts);
    c->ops->upload(c->stream, entries * sizeof *m->columns, batch->columns, m->columns);
    c->ops->upload(c->stream, entries * sizeof *m->values, batch->values, m->values);
    m->sparse = (struct device_sparse){batch->count, m->layer.inputs, m->row_starts, m->columns, m->values};
    c->ops->sparse_forward(c->stream, &m->sparse, m->layer.outputs, core_parameter(c, m->layer.weight), m->logits);
    c->ops->bias_add(c->stream, batch->count, m->layer.outputs, core_parameter(c, m->layer.bias), m->logits);
    return LG_OK;
}

static enum lg_status softmax_forward(struct model *model, const struct batch *batch, struct model_result *result,
                                      struct lg_error *error) {
    struct softmax *m = (struct softmax *)model;
    struct core *c = &m->core;
    if (model->info.form == DATASET_SPARSE) {
        enum lg_status status = sparse_forward(m, batch, error);
        if (status != LG_OK)
            return status;
    } else {
        core_begin(c);
        core_upload(c, (size_t)batch->count * m->layer.inputs, batch->features, m->x);
        core_linear_forward(c, &m->layer, batch->count, m->x, m->logits);
    }
    return core_loss(c, batch->count, 1, batch->labels, m->logits, m->logits, result, error);
}

static enum lg_status softmax_backward(struct model *model, model_gradient_fn *ready, void *context,
                                       struct lg_error *error) {
    struct softmax *m = (struct softmax *)model;
    struct core *c = &m->core;
    if (model->info.form == DATASET_SPARSE) {
        c->ops->sparse_backward(c->stream, &m->sparse, m->layer.outputs, m->logits, core_gradient(c, m->layer.weight));
        c->ops->column_sums(c->stream, c->rows, m->layer.outputs, m->logits, core_gradient(c, m->layer.bias));
    } else {
        core_linear_gradients(c, &m->layer, c->rows, m->x, m->logits);
    }
    return core_ready(c, ready, context, 0, model->tensor_count, error);
}

static const struct option_table softmax_table = {
    .name = "model softmax",
    .summary = "softmax regression",
    .config_bytes = sizeof(struct softmax_options),
};

const struct model_kind model_softmax = {
    .name = "softmax",
    .summary = "softmax regression on dense or sparse features",
    .options = &softmax_table,
    .create = softmax_create,
    .initialise = softmax_initialise,
    .forward = softmax_forward,
    .backward = softmax_backward,
    .destroy = softmax_destroy,
};
