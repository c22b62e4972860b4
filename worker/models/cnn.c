/* A small convolutional network after LeNet-5 (LeCun et al. 1998): twice convolution, 2x2 max-pooling and ReLU, then a
 * hidden and an output layer. ReLU comes after the pooling, where it is the same function on a quarter of the values.
 */
#include "worker/models/core.h"
#include "worker/models/models.h"

#include <stddef.h>
#include <stdlib.h>

enum { STAGES = 2, POOL_WINDOW = 2 };

/* Convolution, pooling, ReLU. */
struct stage {
    struct core_tensor weight, bias; /* [filters][channels][kernel][kernel], [filters] */
    struct device_conv conv;         /* batch as of the last forward */
    struct device_pool pool;
    size_t image, map, pooled;   /* floats per sample: of the input, the convolution's result, the pooled result */
    struct activation *x, *y;    /* [batch][image], [batch][map]; y holds its gradient during backward */
    uint8_t *which;              /* [batch][pooled] */
    struct activation *gradient; /* of the pooled result, [batch][pooled] */
};

struct cnn {
    struct core core;
    struct stage stages[STAGES];
    struct core_linear hidden, output;
    struct activation *flat;            /* [batch][stages[1].pooled] */
    struct activation *hidden_y;        /* [batch][hidden] after ReLU */
    struct activation *hidden_gradient; /* [batch][hidden] */
    struct activation *logits;          /* [batch][classes]; their gradient after forward */
};

static void cnn_destroy(struct model *model) {
    struct cnn *m = (struct cnn *)model;
    core_deinit(&m->core);
    free(m);
}

static void stage_init(struct stage *stage, uint32_t channels, uint32_t height, uint32_t width, uint32_t filters,
                       uint32_t kernel) {
    stage->conv = (struct device_conv){
        .channels = channels, .height = height, .width = width, .filters = filters, .kernel = kernel};
    stage->pool =
        (struct device_pool){.height = height - kernel + 1, .width = width - kernel + 1, .window = POOL_WINDOW};
    stage->image = (size_t)channels * height * width;
    stage->map = (size_t)filters * stage->pool.height * stage->pool.width;
    stage->pooled = (size_t)filters * (stage->pool.height / POOL_WINDOW) * (stage->pool.width / POOL_WINDOW);
}

/* Sets the stages' shapes; fails where an image is too small for two stages. */
static enum lg_status cnn_shape(struct cnn *m, const struct cnn_options *o, const struct dataset_info *info,
                                struct lg_error *error) {
    if (o->filters.count != STAGES)
        return lg_fail(error, LG_INVALID, "\"model.filters\" has %zu numbers, but the model has %d convolutions",
                       o->filters.count, STAGES);
    uint32_t kernel = (uint32_t)o->kernel, channels = info->channels, height = info->height, width = info->image_width;
    for (int i = 0; i < STAGES; i++) {
        uint32_t filters = (uint32_t)o->filters.values[i];
        if (height < kernel + POOL_WINDOW - 1 || width < kernel + POOL_WINDOW - 1)
            return lg_fail(error, LG_INVALID,
                           "images of %u x %u are too small for two convolutions of kernel %u with pooling: use a "
                           "smaller \"model.kernel\"",
                           info->height, info->image_width, kernel);
        stage_init(&m->stages[i], channels, height, width, filters, kernel);
        channels = filters;
        height = (height - kernel + 1) / POOL_WINDOW;
        width = (width - kernel + 1) / POOL_WINDOW;
    }
    return LG_OK;
}

static void cnn_plan(struct cnn *m, const struct cnn_options *o, const struct dataset_info *info) {
    size_t batch = m->core.model.batch_max;
    core_plan_upload(&m->core, batch * m->stages[0].image);
    for (int i = 0; i < STAGES; i++) {
        struct stage *stage = &m->stages[i];
        stage->weight =
            core_filters(&m->core, stage->conv.filters, stage->conv.channels, stage->conv.kernel, "conv%d.weight", i);
        m->core.model.flops_per_prediction +=
            6.0 * (double)stage->weight.elements * stage->pool.height * stage->pool.width;
        stage->bias = core_vector(&m->core, stage->conv.filters, "conv%d.bias", i);
        core_plan_activation(&m->core, &stage->x, batch * stage->image);
        core_plan_activation(&m->core, &stage->y, batch * stage->map);
        core_plan(&m->core, &stage->which, batch * stage->pooled);
        core_plan_activation(&m->core, &stage->gradient, batch * stage->pooled);
    }
    size_t flat = m->stages[STAGES - 1].pooled;
    m->hidden = core_linear(&m->core, (uint32_t)flat, (uint32_t)o->hidden, true, "hidden");
    m->output = core_linear(&m->core, (uint32_t)o->hidden, info->classes, true, "output");
    core_plan_activation(&m->core, &m->flat, batch * flat);
    core_plan_activation(&m->core, &m->hidden_y, batch * m->hidden.outputs);
    core_plan_activation(&m->core, &m->hidden_gradient, batch * m->hidden.outputs);
    core_plan_activation(&m->core, &m->logits, batch * info->classes);
}

static enum lg_status cnn_create(const void *options, const struct dataset_info *info, struct device *device,
                                 uint32_t batch_max, struct model **out, struct lg_error *error) {
    if (info->form != DATASET_DENSE || info->channels == 0 || info->height == 0 || info->image_width == 0)
        return lg_fail(error, LG_INVALID,
                       "model \"cnn\" needs images, but the dataset's samples have no height and width");
    struct cnn *m = calloc(1, sizeof *m);
    if (!m)
        return lg_fail(error, LG_NO_MEMORY, "no memory for model \"cnn\"");
    core_init(&m->core, &model_cnn, info, device, batch_max, 1);
    enum lg_status status = cnn_shape(m, options, info, error);
    if (status == LG_OK) {
        cnn_plan(m, options, info);
        status = core_commit(&m->core, error);
    }
    if (status != LG_OK)
        cnn_destroy(&m->core.model);
    else
        *out = &m->core.model;
    return status;
}

static void cnn_initialise(const struct model *model, uint64_t seed, float *parameters) {
    const struct cnn *m = (const struct cnn *)model;
    for (int i = 0; i < STAGES; i++) {
        const struct device_conv *conv = &m->stages[i].conv;
        uint64_t taps = (uint64_t)conv->channels * conv->kernel * conv->kernel;
        core_normal(&m->core, m->stages[i].weight, seed, core_he(taps), parameters);
        core_constant(m->stages[i].bias, 0, parameters);
    }
    core_normal(&m->core, m->hidden.weight, seed, core_he(m->hidden.inputs), parameters);
    core_constant(m->hidden.bias, 0, parameters);
    core_normal(&m->core, m->output.weight, seed, core_output(m->output.inputs, m->output.outputs), parameters);
    core_constant(m->output.bias, 0, parameters);
}

/* stage->x [rows][channels][height][width] -> out [rows][filters][height'][width'] */
static void stage_forward(struct core *c, struct stage *stage, uint32_t rows, struct activation *out) {
    stage->conv.batch = rows;
    stage->pool.planes = rows * stage->conv.filters;
    c->ops->conv_forward(c->stream, &stage->conv, stage->x, core_weight(c, stage->weight),
                         core_parameter(c, stage->bias), stage->y);
    c->ops->pool_forward(c->stream, &stage->pool, stage->y, out, stage->which);
    c->ops->relu_forward(c->stream, rows * stage->pooled, out, out);
}

/* stage->gradient (of out) -> gradients of weight and bias, and dx [rows][image] unless NULL. */
static void stage_backward(struct core *c, struct stage *stage, const struct activation *out, struct activation *dx) {
    c->ops->relu_backward(c->stream, c->rows * stage->pooled, out, stage->gradient, stage->gradient);
    c->ops->pool_backward(c->stream, &stage->pool, stage->which, stage->gradient, stage->y);
    c->ops->conv_backward(c->stream, &stage->conv, stage->x, core_weight(c, stage->weight), stage->y, dx,
                          core_gradient(c, stage->weight), core_gradient(c, stage->bias));
}

static enum lg_status cnn_forward(struct model *model, const struct batch *batch, struct model_result *result,
                                  struct lg_error *error) {
    struct cnn *m = (struct cnn *)model;
    struct core *c = &m->core;
    uint32_t rows = batch->count;
    core_begin(c);
    core_upload(c, rows * m->stages[0].image, batch->features, m->stages[0].x);
    stage_forward(c, &m->stages[0], rows, m->stages[1].x);
    stage_forward(c, &m->stages[1], rows, m->flat);
    core_linear_product(c, &m->hidden, rows, m->flat, m->hidden_y);
    c->ops->bias_relu(c->stream, rows, m->hidden.outputs, core_parameter(c, m->hidden.bias), m->hidden_y, m->hidden_y);
    core_linear_forward(c, &m->output, rows, m->hidden_y, m->logits);
    return core_loss(c, rows, 1, batch->labels, m->logits, m->logits, result, error);
}

static enum lg_status cnn_backward(struct model *model, model_gradient_fn *ready, void *context,
                                   struct lg_error *error) {
    struct cnn *m = (struct cnn *)model;
    struct core *c = &m->core;
    struct stage *first = &m->stages[0], *second = &m->stages[1];
    core_linear_gradients(c, &m->output, c->rows, m->hidden_y, m->logits);
    core_linear_input(c, &m->output, c->rows, m->logits, m->hidden_gradient);
    enum lg_status status = core_ready(c, ready, context, m->output.weight.index, 2, error);
    if (status != LG_OK)
        return status;
    c->ops->relu_backward_sums(c->stream, c->rows, m->hidden.outputs, m->hidden_y, m->hidden_gradient,
                               m->hidden_gradient, core_gradient(c, m->hidden.bias));
    core_linear_weight_gradient(c, &m->hidden, c->rows, m->flat, m->hidden_gradient);
    status = core_ready(c, ready, context, m->hidden.weight.index, 2, error);
    if (status != LG_OK)
        return status;
    core_linear_input(c, &m->hidden, c->rows, m->hidden_gradient, second->gradient);
    stage_backward(c, second, m->flat, first->gradient);
    status = core_ready(c, ready, context, second->weight.index, 2, error);
    if (status != LG_OK)
        return status;
    stage_backward(c, first, second->x, NULL);
    return core_ready(c, ready, context, first->weight.index, 2, error);
}

static const struct option cnn_rows[] = {
    {.key = "filters",
     .type = OPTION_INTS,
     .offset = offsetof(struct cnn_options, filters),
     .fallback = "16,32",
     .least = 1,
     .most = 4096,
     .help = "filters of the two convolutions"},
    {.key = "kernel",
     .type = OPTION_INT,
     .offset = offsetof(struct cnn_options, kernel),
     .fallback = "5",
     .least = 1,
     .most = 31,
     .help = "height and width of the convolutions' kernels"},
    {.key = "hidden",
     .type = OPTION_INT,
     .offset = offsetof(struct cnn_options, hidden),
     .fallback = "128",
     .least = 1,
     .most = 65536,
     .help = "width of the layer before the output"},
};

static const struct option_table cnn_table = {
    .name = "model cnn",
    .summary = "small convolutional network",
    .options = cnn_rows,
    .count = sizeof cnn_rows / sizeof *cnn_rows,
    .config_bytes = sizeof(struct cnn_options),
};

const struct model_kind model_cnn = {
    .name = "cnn",
    .summary = "small convolutional network on images",
    .options = &cnn_table,
    .create = cnn_create,
    .initialise = cnn_initialise,
    .forward = cnn_forward,
    .backward = cnn_backward,
    .destroy = cnn_destroy,
};
