#include "worker/models/core.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/random.h"

enum { CORE_ALIGNMENT_BYTES = 64, NARROW_ALIGNMENT = 64 /* elements */, PAGE_BYTES = 4096 };

static size_t rounded(size_t bytes) {
    return (bytes + CORE_ALIGNMENT_BYTES - 1) / CORE_ALIGNMENT_BYTES * CORE_ALIGNMENT_BYTES;
}

void core_init(struct core *core, const struct model_kind *kind, const struct dataset_info *info, struct device *device,
               uint32_t batch_max, uint32_t labels) {
    core->model.kind = kind;
    core->model.device = device;
    core->model.info = *info;
    core->model.batch_max = batch_max;
    core->ops = device->ops;
    core_plan(core, &core->labels, (size_t)batch_max * labels);
    core_plan(core, &core->sums, 1);
    core->kept_bytes = rounded(sizeof(struct device_sums)) + rounded((size_t)batch_max * labels * sizeof(int32_t));
    core->narrow_first = UINT64_MAX;
}

void core_deinit(struct core *core) {
    if (core->memory)
        core->ops->free(core->model.device, core->memory);
    if (core->stream)
        core->ops->stream_close(core->stream);
    if (core->kept)
        core->ops->host_unregister(core->model.device, core->kept);
    free(core->kept);
    free(core->pieces);
    free(core->model.tensors);
}

LG_PRINTF(4, 0)
static struct core_tensor tensor_append(struct core *core, uint32_t rank, const uint64_t *shape, const char *format,
                                        va_list args) {
    struct model *model = &core->model;
    if (model->tensor_count == core->tensor_capacity) {
        size_t capacity = core->tensor_capacity ? 2 * core->tensor_capacity : 16;
        struct tensor_spec *grown = realloc(model->tensors, capacity * sizeof *grown);
        if (!grown) {
            core->failed = true;
            return (struct core_tensor){0};
        }
        model->tensors = grown;
        core->tensor_capacity = capacity;
    }
    struct tensor_spec *spec = &model->tensors[model->tensor_count];
    *spec = (struct tensor_spec){.rank = rank, .no_weight_decay = rank == 1, .lr_factor = 1};
    memcpy(spec->shape, shape, rank * sizeof *shape);
    vsnprintf(spec->name, sizeof spec->name, format, args);
    struct core_tensor tensor = {model->tensor_count, model->elements, tensor_elements(spec)};
    model->tensor_count++;
    model->elements += tensor.elements;
    return tensor;
}

/* Rounded down, so that what is aligned in the parameters is aligned in their copy. */
static void product_reads(struct core *core, struct core_tensor tensor) {
    uint64_t first = tensor.offset / NARROW_ALIGNMENT * NARROW_ALIGNMENT;
    core->narrow_first = first < core->narrow_first ? first : core->narrow_first;
}

struct core_tensor core_vector(struct core *core, uint64_t elements, const char *format, ...) {
    va_list args;
    va_start(args, format);
    struct core_tensor tensor = tensor_append(core, 1, (uint64_t[]){elements}, format, args);
    va_end(args);
    return tensor;
}

struct core_tensor core_matrix(struct core *core, uint64_t rows, uint64_t columns, const char *format, ...) {
    va_list args;
    va_start(args, format);
    struct core_tensor tensor = tensor_append(core, 2, (uint64_t[]){rows, columns}, format, args);
    va_end(args);
    return tensor;
}

struct core_tensor core_filters(struct core *core, uint64_t filters, uint64_t channels, uint64_t kernel,
                                const char *format, ...) {
    va_list args;
    va_start(args, format);
    struct core_tensor tensor = tensor_append(core, 4, (uint64_t[]){filters, channels, kernel, kernel}, format, args);
    va_end(args);
    product_reads(core, tensor);
    return tensor;
}

void core_plan_bytes(struct core *core, void *slot, size_t bytes) {
    if (core->piece_count == core->piece_capacity) {
        size_t capacity = core->piece_capacity ? 2 * core->piece_capacity : 32;
        struct core_piece *grown = realloc(core->pieces, capacity * sizeof *grown);
        if (!grown) {
            core->failed = true;
            return;
        }
        core->pieces = grown;
        core->piece_capacity = capacity;
    }
    core->pieces[core->piece_count++] = (struct core_piece){slot, bytes};
}

void core_plan_activation(struct core *core, struct activation **slot, size_t count) {
    core_plan_bytes(core, slot, count * core->model.device->activation_bytes);
}

void core_plan_upload(struct core *core, size_t floats) {
    core->staged_floats = floats > core->staged_floats ? floats : core->staged_floats;
}

static bool is_narrow(const struct core *core) {
    return core->model.device->activation_bytes != sizeof(float);
}

/* What is needed only where activations are not f32. */
static void plan_narrow(struct core *core) {
    uint64_t elements = core->model.elements;
    core_plan(core, &core->staged, core->staged_floats);
    core->narrow_first = core->narrow_first < elements ? core->narrow_first : elements;
    core_plan_activation(core, &core->narrow, elements - core->narrow_first);
}

/* Where there is none, copies are made from and to what callers have. The loss lies at its start. */
static void keep_memory(struct core *core) {
    struct device *device = core->model.device;
    core->kept_bytes += rounded(core->staged_floats * sizeof(float));
    size_t bytes = (core->kept_bytes + PAGE_BYTES - 1) / PAGE_BYTES * PAGE_BYTES;
    char *memory = device->host_memory ? NULL : aligned_alloc(PAGE_BYTES, bytes);
    if (!memory)
        return;
    memset(memory, 0, bytes);
    if (core->ops->host_register(device, memory, bytes, false))
        core->kept = memory;
    else
        free(memory);
    core->kept_used = rounded(sizeof(struct device_sums));
}

enum lg_status core_commit(struct core *core, struct lg_error *error) {
    struct model *model = &core->model;
    core_plan(core, &model->parameters, model->elements);
    core_plan(core, &model->gradients, model->elements);
    if (is_narrow(core))
        plan_narrow(core);
    size_t bytes = 0;
    for (size_t i = 0; i < core->piece_count; i++)
        bytes += rounded(core->pieces[i].bytes);
    core->stream = model->stream = core->ops->stream_open(model->device);
    if (!core->failed)
        core->memory = core->ops->alloc(model->device, bytes);
    if (!core->memory || !core->stream)
        return lg_fail(error, LG_NO_MEMORY,
                       "no memory for model \"%s\": %zu MiB on device \"%s\"; use a smaller batch or model",
                       model->kind->name, bytes >> 20, model->device->name);
    unsigned char *next = core->memory;
    for (size_t i = 0; i < core->piece_count; i++) {
        memcpy(core->pieces[i].slot, &next, sizeof next);
        next += rounded(core->pieces[i].bytes);
    }
    keep_memory(core);
    core->ops->fill(core->stream, model->elements, 0, model->parameters);
    core->ops->fill(core->stream, model->elements, 0, model->gradients);
    return core->ops->synchronize(core->stream, error);
}

void core_begin(struct core *core) {
    struct model *model = &core->model;
    if (core->narrow && !model->same_parameters)
        core->ops->narrow(core->stream, model->elements - core->narrow_first, model->parameters + core->narrow_first,
                          core->narrow);
    model->same_parameters = false;
    core->kept_used = rounded(sizeof(struct device_sums));
}

void core_upload_bytes(struct core *core, size_t bytes, const void *host, void *memory) {
    if (core->kept && rounded(bytes) <= core->kept_bytes - core->kept_used) {
        host = memcpy(core->kept + core->kept_used, host, bytes);
        core->kept_used += rounded(bytes);
    }
    core->ops->upload(core->stream, bytes, host, memory);
}

void core_upload(struct core *core, size_t floats, const float *host, struct activation *x) {
    assert(!core->narrow || floats <= core->staged_floats);
    core_upload_bytes(core, floats * sizeof *host, host, core->narrow ? (void *)core->staged : (void *)x);
    if (core->narrow)
        core->ops->narrow(core->stream, floats, core->staged, x);
}

enum lg_status core_loss(struct core *core, uint32_t rows, uint32_t labels_each, const int32_t *labels,
                         const struct activation *logits, struct activation *gradient, struct model_result *result,
                         struct lg_error *error) {
    uint32_t predictions = rows * labels_each;
    struct device_sums here = {0}, *sums = core->kept ? (void *)core->kept : &here;
    core_upload_bytes(core, predictions * sizeof *labels, labels, core->labels);
    core->ops->softmax_cross_entropy(core->stream, predictions, core->model.info.classes, logits, core->labels,
                                     1.0f / (float)predictions, gradient, core->sums);
    core->ops->download(core->stream, sizeof *sums, core->sums, sums);
    enum lg_status status = core->ops->synchronize(core->stream, error);
    core->kept_used = rounded(sizeof *sums); /* all has arrived */
    *result = (struct model_result){sums->loss, predictions, sums->correct};
    core->rows = status == LG_OK ? rows : 0;
    return status;
}

enum lg_status core_ready(struct core *core, model_gradient_fn *ready, void *context, size_t first, size_t count,
                          struct lg_error *error) {
    if (!ready)
        return LG_OK;
    enum lg_status status = LG_OK;
    if (core->model.device->host_memory)
        status = core->ops->synchronize(core->stream, error);
    if (status == LG_OK)
        ready(context, first, count);
    return status;
}

struct core_linear core_linear(struct core *core, uint32_t inputs, uint32_t outputs, bool bias, const char *name) {
    struct core_linear layer = {.inputs = inputs, .outputs = outputs};
    const char *dot = *name ? "." : "";
    layer.weight = core_matrix(core, outputs, inputs, "%s%sweight", name, dot);
    product_reads(core, layer.weight);
    core->model.flops_per_prediction += 6.0 * inputs * outputs;
    if (bias)
        layer.bias = core_vector(core, outputs, "%s%sbias", name, dot);
    return layer;
}

void core_linear_product(struct core *core, const struct core_linear *layer, uint32_t rows, const struct activation *x,
                         struct activation *y) {
    core->ops->gemm(core->stream, false, true, rows, layer->outputs, layer->inputs, 1, x,
                    core_weight(core, layer->weight), 0, y);
}

void core_linear_forward(struct core *core, const struct core_linear *layer, uint32_t rows, const struct activation *x,
                         struct activation *y) {
    core_linear_product(core, layer, rows, x, y);
    if (layer->bias.elements)
        core->ops->bias_add(core->stream, rows, layer->outputs, core_parameter(core, layer->bias), y);
}

void core_linear_weight_gradient(struct core *core, const struct core_linear *layer, uint32_t rows,
                                 const struct activation *x, const struct activation *dy) {
    core->ops->gemm_gradient(core->stream, true, false, layer->outputs, layer->inputs, rows, 1, dy, x, 0,
                             core_gradient(core, layer->weight));
}

void core_linear_gradients(struct core *core, const struct core_linear *layer, uint32_t rows,
                           const struct activation *x, const struct activation *dy) {
    core_linear_weight_gradient(core, layer, rows, x, dy);
    if (layer->bias.elements)
        core->ops->column_sums(core->stream, rows, layer->outputs, dy, core_gradient(core, layer->bias));
}

void core_linear_input(struct core *core, const struct core_linear *layer, uint32_t rows, const struct activation *dy,
                       struct activation *dx) {
    core->ops->gemm(core->stream, false, false, rows, layer->inputs, layer->outputs, 1, dy,
                    core_weight(core, layer->weight), 0, dx);
}

void core_normal(const struct core *core, struct core_tensor tensor, uint64_t seed, double deviation,
                 float *parameters) {
    struct random random;
    assert(tensor.offset + tensor.elements <= core->model.elements);
    random_init_stream(&random, seed, tensor.index);
    for (uint64_t i = 0; i < tensor.elements; i++)
        parameters[tensor.offset + i] = (float)deviation * random_normal(&random);
}

void core_constant(struct core_tensor tensor, float value, float *parameters) {
    for (uint64_t i = 0; i < tensor.elements; i++)
        parameters[tensor.offset + i] = value;
}

double core_he(uint64_t fan_in) {
    return sqrt(2.0 / (double)fan_in);
}

double core_output(uint64_t fan_in, uint64_t fan_out) {
    return 0.1 * sqrt(2.0 / (double)(fan_in + fan_out));
}
