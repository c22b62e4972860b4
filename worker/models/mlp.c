/* Multilayer perceptron: linear layers with an activation between them. */
#include "worker/models/core.h"
#include "worker/models/models.h"

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LAYERS_MAX = OPTION_INTS_MAX + 1 };

struct mlp {
    struct core core;
    bool gelu;
    size_t count; /* linear layers */
    struct core_linear layers[LAYERS_MAX];
    /* inputs[i] [batch_max][layers[i].inputs] is what layer i reads; before[i] the same ahead of the activation (ReLU
     * needs no copy of it: before[i] is inputs[i]); before[count] are the logits. */
    struct activation *inputs[LAYERS_MAX], *before[LAYERS_MAX + 1];
    struct activation *gradients[LAYERS_MAX]; /* [i]: of before[i]; [0] is not used */
};

static void mlp_destroy(struct model *model) {
    struct mlp *m = (struct mlp *)model;
    core_deinit(&m->core);
    free(m);
}

static void mlp_plan(struct mlp *m, const struct mlp_options *options, const struct dataset_info *info) {
    size_t batch = m->core.model.batch_max;
    uint32_t inputs = info->width;
    core_plan_upload(&m->core, batch * inputs);
    for (size_t i = 0; i < m->count; i++) {
        char name[TENSOR_NAME_BYTES];
        uint32_t outputs = i < options->hidden.count ? (uint32_t)options->hidden.values[i] : info->classes;
        snprintf(name, sizeof name, "layer%zu", i);
        m->layers[i] = core_linear(&m->core, inputs, outputs, true, name);
        core_plan_activation(&m->core, &m->inputs[i], batch * inputs);
        core_plan_activation(&m->core, &m->gradients[i], i ? batch * inputs : 0);
        if (m->gelu)
            core_plan_activation(&m->core, &m->before[i], i ? batch * inputs : 0);
        inputs = outputs;
    }
    core_plan_activation(&m->core, &m->before[m->count], batch * info->classes);
}

static enum lg_status mlp_create(const void *options, const struct dataset_info *info, struct device *device,
                                 uint32_t batch_max, struct model **out, struct lg_error *error) {
    const struct mlp_options *o = options;
    if (info->form != DATASET_DENSE)
        return lg_fail(error, LG_INVALID, "model \"mlp\" needs dense features, but the dataset has %s",
                       info->form == DATASET_TOKENS ? "tokens: use \"gpt\"" : "sparse rows: use \"softmax\"");
    struct mlp *m = calloc(1, sizeof *m);
    if (!m)
        return lg_fail(error, LG_NO_MEMORY, "no memory for model \"mlp\"");
    m->gelu = strcmp(o->activation, "gelu") == 0;
    m->count = o->hidden.count + 1;
    core_init(&m->core, &model_mlp, info, device, batch_max, 1);
    mlp_plan(m, o, info);
    enum lg_status status = core_commit(&m->core, error);
    for (size_t i = 1; !m->gelu && i < m->count; i++)
        m->before[i] = m->inputs[i];
    if (status != LG_OK)
        mlp_destroy(&m->core.model);
    else
        *out = &m->core.model;
    return status;
}

static void mlp_initialise(const struct model *model, uint64_t seed, float *parameters) {
    const struct mlp *m = (const struct mlp *)model;
    for (size_t i = 0; i < m->count; i++) {
        const struct core_linear *layer = &m->layers[i];
        bool last = i + 1 == m->count;
        double deviation = last ? core_output(layer->inputs, layer->outputs) : core_he(layer->inputs);
        core_normal(&m->core, layer->weight, seed, deviation, parameters);
        core_constant(layer->bias, 0, parameters);
    }
}

static enum lg_status mlp_forward(struct model *model, const struct batch *batch, struct model_result *result,
                                  struct lg_error *error) {
    struct mlp *m = (struct mlp *)model;
    struct core *c = &m->core;
    core_begin(c);
    core_upload(c, (size_t)batch->count * model->info.width, batch->features, m->inputs[0]);
    for (size_t i = 0; i + 1 < m->count; i++) {
        const struct core_linear *layer = &m->layers[i];
        const float *bias = core_parameter(c, layer->bias);
        struct activation *x = m->before[i + 1];
        core_linear_product(c, layer, batch->count, m->inputs[i], x);
        if (m->gelu)
            c->ops->bias_gelu(c->stream, batch->count, layer->outputs, bias, x, m->inputs[i + 1]);
        else
            c->ops->bias_relu(c->stream, batch->count, layer->outputs, bias, x, m->inputs[i + 1]);
    }
    struct activation *logits = m->before[m->count];
    core_linear_forward(c, &m->layers[m->count - 1], batch->count, m->inputs[m->count - 1], logits);
    return core_loss(c, batch->count, 1, batch->labels, logits, logits, result, error);
}

/* The gradient of a hidden layer's bias comes with that of its activation. */
static enum lg_status mlp_backward(struct model *model, model_gradient_fn *ready, void *context,
                                   struct lg_error *error) {
    struct mlp *m = (struct mlp *)model;
    struct core *c = &m->core;
    const struct activation *dy = m->before[m->count];
    enum lg_status status = LG_OK;
    for (size_t i = m->count; i-- > 0 && status == LG_OK;) {
        const struct core_linear *layer = &m->layers[i];
        struct activation *dx = m->gradients[i];
        if (i + 1 == m->count)
            core_linear_gradients(c, layer, c->rows, m->inputs[i], dy);
        else
            core_linear_weight_gradient(c, layer, c->rows, m->inputs[i], dy);
        status = core_ready(c, ready, context, layer->weight.index, 2, error);
        if (i == 0)
            break;
        float *bias = core_gradient(c, m->layers[i - 1].bias);
        core_linear_input(c, layer, c->rows, dy, dx);
        if (m->gelu)
            c->ops->gelu_backward_sums(c->stream, c->rows, layer->inputs, m->before[i], dx, dx, bias);
        else
            c->ops->relu_backward_sums(c->stream, c->rows, layer->inputs, m->inputs[i], dx, dx, bias);
        dy = dx;
    }
    return status;
}

static const struct option mlp_rows[] = {
    {.key = "hidden",
     .type = OPTION_INTS,
     .offset = offsetof(struct mlp_options, hidden),
     .fallback = "256,128",
     .least = 1,
     .most = 65536,
     .help = "widths of the hidden layers"},
    {.key = "activation",
     .type = OPTION_CHOICE,
     .offset = offsetof(struct mlp_options, activation),
     .fallback = "relu",
     .choices = "relu|gelu",
     .help = "function between the layers"},
};

static const struct option_table mlp_table = {
    .name = "model mlp",
    .summary = "multilayer perceptron",
    .options = mlp_rows,
    .count = sizeof mlp_rows / sizeof *mlp_rows,
    .config_bytes = sizeof(struct mlp_options),
};

const struct model_kind model_mlp = {
    .name = "mlp",
    .summary = "multilayer perceptron on dense features",
    .options = &mlp_table,
    .create = mlp_create,
    .initialise = mlp_initialise,
    .forward = mlp_forward,
    .backward = mlp_backward,
    .destroy = mlp_destroy,
};
