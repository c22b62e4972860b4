/* A GPT: a decoder-only transformer over bytes or other tokens, pre-norm, learned positions, GELU (Radford et
 * al. 2019). Input and output embeddings are not tied, so that the head's gradient is final when backward starts.
 *
 * Shapes: N = batch * time rows, C = width, V = vocabulary. */
#include "worker/models/core.h"
#include "worker/models/models.h"

#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

static const float epsilon = 1e-5f;

struct norm {
    struct core_tensor gain, bias; /* [C] */
    struct activation *y;          /* [N][C] */
    float *mean, *rstd;            /* [N] */
};

struct block {
    struct norm norm1, norm2;
    struct core_linear qkv, out, up, down; /* C -> 3C, C -> C, C -> 4C, 4C -> C */
    struct activation *x, *middle;         /* residual stream at the block's start and middle, [N][C] */
    struct activation *packed;             /* query, key, value: [N][3C] */
    struct activation *mixed;              /* attention's result [N][C] */
    float *saved;                          /* what attention keeps for backward */
    struct activation *wide, *wide_gelu;   /* [N][4C] before and after GELU */
};

struct gpt {
    struct core core;
    size_t layers;
    uint32_t width, heads;
    struct core_tensor tokens_weight, positions_weight; /* [V][C], [context][C] */
    struct block *blocks;
    struct norm norm;
    struct core_linear head;
    int32_t *tokens;                                    /* [N] */
    struct activation *end;                             /* residual stream after the last block [N][C] */
    struct activation *branch;                          /* what a branch adds, and gradients of its input [N][C] */
    struct activation *logits;                          /* [N][V]; their gradient after forward */
    struct activation *gradient;                        /* of the residual stream [N][C] */
    struct activation *wide_gradient, *packed_gradient; /* [N][4C], [N][3C] */
    float *next;                                        /* logits of one row [V] */
};

static void gpt_destroy(struct model *model) {
    struct gpt *m = (struct gpt *)model;
    core_deinit(&m->core);
    free(m->blocks);
    free(m);
}

static void norm_plan(struct gpt *m, struct norm *norm, size_t rows, const char *name) {
    norm->gain = core_vector(&m->core, m->width, "%s.gain", name);
    norm->bias = core_vector(&m->core, m->width, "%s.bias", name);
    core_plan_activation(&m->core, &norm->y, rows * m->width);
    core_plan(&m->core, &norm->mean, rows);
    core_plan(&m->core, &norm->rstd, rows);
}

static struct core_linear linear_plan(struct gpt *m, size_t layer, uint32_t inputs, uint32_t outputs,
                                      const char *part) {
    char name[TENSOR_NAME_BYTES];
    snprintf(name, sizeof name, "block%zu.%s", layer, part);
    return core_linear(&m->core, inputs, outputs, true, name);
}

static struct device_attention attention_shape(const struct gpt *m, uint32_t batch, uint32_t time) {
    return (struct device_attention){batch, time, m->heads, m->width / m->heads};
}

static void block_plan(struct gpt *m, size_t layer, size_t rows) {
    struct core *c = &m->core;
    struct block *block = &m->blocks[layer];
    uint32_t width = m->width;
    char name[TENSOR_NAME_BYTES];
    struct device_attention shape = attention_shape(m, c->model.batch_max, c->model.info.context);
    core_plan_activation(c, &block->x, rows * width);
    snprintf(name, sizeof name, "block%zu.norm1", layer);
    norm_plan(m, &block->norm1, rows, name);
    block->qkv = linear_plan(m, layer, width, 3 * width, "attention.qkv");
    core_plan_activation(c, &block->packed, rows * 3 * width);
    core_plan(c, &block->saved, c->ops->attention_saved(&shape));
    core_plan_activation(c, &block->mixed, rows * width);
    block->out = linear_plan(m, layer, width, width, "attention.out");
    core_plan_activation(c, &block->middle, rows * width);
    snprintf(name, sizeof name, "block%zu.norm2", layer);
    norm_plan(m, &block->norm2, rows, name);
    block->up = linear_plan(m, layer, width, 4 * width, "mlp.up");
    core_plan_activation(c, &block->wide, rows * 4 * width);
    core_plan_activation(c, &block->wide_gelu, rows * 4 * width);
    block->down = linear_plan(m, layer, 4 * width, width, "mlp.down");
}

static void gpt_plan(struct gpt *m, const struct dataset_info *info) {
    struct core *c = &m->core;
    size_t rows = (size_t)c->model.batch_max * info->context;
    m->tokens_weight = core_matrix(c, info->classes, m->width, "token.weight");
    m->positions_weight = core_matrix(c, info->context, m->width, "position.weight");
    core_plan(c, &m->tokens, rows);
    core_plan_upload(c, rows);
    for (size_t i = 0; i < m->layers; i++)
        block_plan(m, i, rows);
    norm_plan(m, &m->norm, rows, "norm");
    m->head = core_linear(c, m->width, info->classes, false, "head");
    c->model.flops_per_prediction += 12.0 * (double)m->layers * m->width * info->context;
    core_plan_activation(c, &m->end, rows * m->width);
    core_plan_activation(c, &m->branch, rows * m->width);
    core_plan_activation(c, &m->logits, rows * info->classes);
    core_plan_activation(c, &m->gradient, rows * m->width);
    core_plan_activation(c, &m->wide_gradient, rows * 4 * m->width);
    core_plan_activation(c, &m->packed_gradient, rows * 3 * m->width);
    core_plan(c, &m->next, info->classes);
}

static enum lg_status gpt_create(const void *options, const struct dataset_info *info, struct device *device,
                                 uint32_t batch_max, struct model **out, struct lg_error *error) {
    const struct gpt_options *o = options;
    if (info->form != DATASET_TOKENS)
        return lg_fail(error, LG_INVALID,
                       "model \"gpt\" needs tokens, but the dataset has features: use \"text\" or \"tokens\"");
    if (o->width % o->heads != 0)
        return lg_fail(error, LG_INVALID, "\"model.width\" %lld does not divide by \"model.heads\" %lld",
                       (long long)o->width, (long long)o->heads);
    struct gpt *m = calloc(1, sizeof *m);
    struct block *blocks = calloc((size_t)o->layers, sizeof *blocks);
    if (!m || !blocks) {
        free(m);
        free(blocks);
        return lg_fail(error, LG_NO_MEMORY, "no memory for model \"gpt\"");
    }
    m->blocks = blocks;
    m->layers = (size_t)o->layers;
    m->width = (uint32_t)o->width;
    m->heads = (uint32_t)o->heads;
    core_init(&m->core, &model_gpt, info, device, batch_max, info->context);
    gpt_plan(m, info);
    enum lg_status status = core_commit(&m->core, error);
    if (status != LG_OK)
        gpt_destroy(&m->core.model);
    else
        *out = &m->core.model;
    return status;
}

static void norm_initialise(const struct norm *norm, float *parameters) {
    core_constant(norm->gain, 1, parameters);
    core_constant(norm->bias, 0, parameters);
}

static void linear_initialise(const struct gpt *m, const struct core_linear *layer, uint64_t seed, double deviation,
                              float *parameters) {
    core_normal(&m->core, layer->weight, seed, deviation, parameters);
    core_constant(layer->bias, 0, parameters);
}

/* Radford et al. (2019) draw from N(0, 0.02), which suits widths near 1000; N(0, 1/width) is about that there, and
 * keeps narrow models from idling at single-byte statistics for their first million tokens, more so under staleness.
 * The 2 * layers projections that add to the residual stream are divided by the root of their number, so that its
 * variance does not grow with depth. */
static void gpt_initialise(const struct model *model, uint64_t seed, float *parameters) {
    const struct gpt *m = (const struct gpt *)model;
    double deviation = 1 / sqrt((double)m->width), residual = deviation / sqrt(2.0 * (double)m->layers);
    core_normal(&m->core, m->tokens_weight, seed, 0.1, parameters);
    core_normal(&m->core, m->positions_weight, seed, 0.05, parameters);
    for (size_t i = 0; i < m->layers; i++) {
        const struct block *block = &m->blocks[i];
        norm_initialise(&block->norm1, parameters);
        linear_initialise(m, &block->qkv, seed, deviation, parameters);
        linear_initialise(m, &block->out, seed, residual, parameters);
        norm_initialise(&block->norm2, parameters);
        linear_initialise(m, &block->up, seed, deviation, parameters);
        linear_initialise(m, &block->down, seed, residual, parameters);
    }
    norm_initialise(&m->norm, parameters);
    linear_initialise(m, &m->head, seed, 0.02, parameters);
}

/* x [rows][C] -> norm->y [rows][C] */
static void norm_forward(struct gpt *m, struct norm *norm, uint32_t rows, const struct activation *x) {
    struct core *c = &m->core;
    c->ops->norm_forward(c->stream, rows, m->width, epsilon, x, core_parameter(c, norm->gain),
                         core_parameter(c, norm->bias), norm->y, norm->mean, norm->rstd);
}

/* Adds the gradient of x to m->gradient: dy [rows][C] is that of norm->y. */
static void norm_backward(struct gpt *m, struct norm *norm, uint32_t rows, const struct activation *x,
                          const struct activation *dy) {
    struct core *c = &m->core;
    c->ops->norm_backward(c->stream, rows, m->width, x, core_parameter(c, norm->gain), norm->mean, norm->rstd, dy,
                          m->gradient, core_gradient(c, norm->gain), core_gradient(c, norm->bias));
}

/* block->x [batch*time][C] -> y [batch*time][C] */
static void block_forward(struct gpt *m, struct block *block, uint32_t batch, uint32_t time, struct activation *y) {
    struct core *c = &m->core;
    uint32_t rows = batch * time;
    struct device_attention shape = attention_shape(m, batch, time);
    norm_forward(m, &block->norm1, rows, block->x);
    core_linear_forward(c, &block->qkv, rows, block->norm1.y, block->packed);
    c->ops->attention_forward(c->stream, &shape, block->packed, block->mixed, block->saved);
    core_linear_product(c, &block->out, rows, block->mixed, m->branch);
    c->ops->bias_residual(c->stream, rows, m->width, core_parameter(c, block->out.bias), m->branch, block->x,
                          block->middle);
    norm_forward(m, &block->norm2, rows, block->middle);
    core_linear_product(c, &block->up, rows, block->norm2.y, block->wide);
    c->ops->bias_gelu(c->stream, rows, 4 * m->width, core_parameter(c, block->up.bias), block->wide, block->wide_gelu);
    core_linear_product(c, &block->down, rows, block->wide_gelu, m->branch);
    c->ops->bias_residual(c->stream, rows, m->width, core_parameter(c, block->down.bias), m->branch, block->middle, y);
}

/* m->gradient of the block's second half's result becomes that of its start, block->middle. */
static void block_backward_mlp(struct gpt *m, struct block *block, uint32_t rows) {
    struct core *c = &m->core;
    core_linear_gradients(c, &block->down, rows, block->wide_gelu, m->gradient);
    core_linear_input(c, &block->down, rows, m->gradient, m->wide_gradient);
    c->ops->gelu_backward_sums(c->stream, rows, 4 * m->width, block->wide, m->wide_gradient, m->wide_gradient,
                               core_gradient(c, block->up.bias));
    core_linear_weight_gradient(c, &block->up, rows, block->norm2.y, m->wide_gradient);
    core_linear_input(c, &block->up, rows, m->wide_gradient, m->branch);
    norm_backward(m, &block->norm2, rows, block->middle, m->branch);
}

/* m->gradient of block->middle becomes that of block->x. */
static void block_backward_attention(struct gpt *m, struct block *block, uint32_t batch, uint32_t time) {
    struct core *c = &m->core;
    uint32_t rows = batch * time;
    struct device_attention shape = attention_shape(m, batch, time);
    core_linear_gradients(c, &block->out, rows, block->mixed, m->gradient);
    core_linear_input(c, &block->out, rows, m->gradient, m->branch);
    c->ops->attention_backward(c->stream, &shape, block->packed, block->mixed, block->saved, m->branch,
                               m->packed_gradient);
    core_linear_gradients(c, &block->qkv, rows, block->norm1.y, m->packed_gradient);
    core_linear_input(c, &block->qkv, rows, m->packed_gradient, m->branch);
    norm_backward(m, &block->norm1, rows, block->x, m->branch);
}

/* tokens [batch][time] (host) -> m->logits [batch*time][V] */
static void gpt_logits(struct gpt *m, const int32_t *tokens, uint32_t batch, uint32_t time) {
    struct core *c = &m->core;
    uint32_t rows = batch * time;
    core_begin(c);
    core_upload_bytes(c, (size_t)rows * sizeof *tokens, tokens, m->tokens);
    c->ops->embedding_forward(c->stream, batch, time, m->width, m->tokens, core_parameter(c, m->tokens_weight),
                              core_parameter(c, m->positions_weight), m->blocks[0].x);
    for (size_t i = 0; i < m->layers; i++)
        block_forward(m, &m->blocks[i], batch, time, i + 1 < m->layers ? m->blocks[i + 1].x : m->end);
    norm_forward(m, &m->norm, rows, m->end);
    core_linear_forward(c, &m->head, rows, m->norm.y, m->logits);
}

static enum lg_status gpt_forward(struct model *model, const struct batch *batch, struct model_result *result,
                                  struct lg_error *error) {
    struct gpt *m = (struct gpt *)model;
    gpt_logits(m, batch->tokens, batch->count, model->info.context);
    return core_loss(&m->core, batch->count, model->info.context, batch->labels, m->logits, m->logits, result, error);
}

/* The head and the last norm; m->gradient becomes that of m->end. */
static void end_backward(struct gpt *m, uint32_t rows) {
    struct core *c = &m->core;
    core_linear_gradients(c, &m->head, rows, m->norm.y, m->logits);
    core_linear_input(c, &m->head, rows, m->logits, m->branch);
    c->ops->zero(c->stream, (size_t)rows * m->width * c->model.device->activation_bytes, m->gradient);
    norm_backward(m, &m->norm, rows, m->end, m->branch);
}

static void embedding_backward(struct gpt *m, uint32_t batch, uint32_t time) {
    struct core *c = &m->core;
    c->ops->fill(c->stream, m->tokens_weight.elements, 0, core_gradient(c, m->tokens_weight));
    c->ops->embedding_backward(c->stream, batch, time, m->width, m->tokens, m->gradient,
                               core_gradient(c, m->tokens_weight), core_gradient(c, m->positions_weight));
}

static enum lg_status gpt_backward(struct model *model, model_gradient_fn *ready, void *context,
                                   struct lg_error *error) {
    struct gpt *m = (struct gpt *)model;
    struct core *c = &m->core;
    uint32_t time = model->info.context, rows = c->rows * time;
    end_backward(m, rows);
    size_t first = m->norm.gain.index;
    enum lg_status status = core_ready(c, ready, context, first, model->tensor_count - first, error);
    for (size_t i = m->layers; i-- > 0 && status == LG_OK;) {
        struct block *block = &m->blocks[i];
        size_t middle = block->norm2.gain.index, start = block->norm1.gain.index;
        block_backward_mlp(m, block, rows);
        status = core_ready(c, ready, context, middle, first - middle, error);
        if (status != LG_OK)
            break;
        block_backward_attention(m, block, c->rows, time);
        status = core_ready(c, ready, context, start, middle - start, error);
        first = start;
    }
    if (status != LG_OK)
        return status;
    embedding_backward(m, c->rows, time);
    return core_ready(c, ready, context, 0, first, error);
}

/* The last row of a single sequence; forward's activations are overwritten, so backward needs a new forward. */
static enum lg_status gpt_next_logits(struct model *model, const int32_t *tokens, uint32_t count, float *logits,
                                      struct lg_error *error) {
    struct gpt *m = (struct gpt *)model;
    struct core *c = &m->core;
    size_t classes = model->info.classes;
    c->rows = 0;
    gpt_logits(m, tokens, 1, count);
    c->ops->widen(c->stream, classes, activation_at(model->device, m->logits, (count - 1) * classes), m->next);
    c->ops->download(c->stream, classes * sizeof *logits, m->next, logits);
    return c->ops->synchronize(c->stream, error);
}

static const struct option gpt_rows[] = {
    {.key = "layers",
     .type = OPTION_INT,
     .offset = offsetof(struct gpt_options, layers),
     .fallback = "4",
     .least = 1,
     .most = 256,
     .help = "transformer blocks"},
    {.key = "width",
     .type = OPTION_INT,
     .offset = offsetof(struct gpt_options, width),
     .fallback = "128",
     .least = 1,
     .most = 65536,
     .help = "width of the residual stream"},
    {.key = "heads",
     .type = OPTION_INT,
     .offset = offsetof(struct gpt_options, heads),
     .fallback = "4",
     .least = 1,
     .most = 1024,
     .help = "attention heads, a divisor of the width"},
};

static const struct option_table gpt_table = {
    .name = "model gpt",
    .summary = "transformer over tokens",
    .options = gpt_rows,
    .count = sizeof gpt_rows / sizeof *gpt_rows,
    .config_bytes = sizeof(struct gpt_options),
};

const struct model_kind model_gpt = {
    .name = "gpt",
    .summary = "decoder-only transformer over bytes or other tokens",
    .options = &gpt_table,
    .create = gpt_create,
    .initialise = gpt_initialise,
    .forward = gpt_forward,
    .backward = gpt_backward,
    .next_logits = gpt_next_logits,
    .destroy = gpt_destroy,
};
