/* What all models share: the tensor table, one block of device memory carved into activations, the copy of the
 * parameters that products read, and the linear layer.
 *
 * A model's create function calls core_init, names its tensors (core_matrix, ...), plans its activations (core_plan)
 * and ends with core_commit; after a failure anywhere core_deinit frees what is there. A forward pass starts with
 * core_begin. */
#ifndef LAGOON_WORKER_MODELS_CORE_H
#define LAGOON_WORKER_MODELS_CORE_H

#include "worker/model.h"

/* A tensor of the table: its number, and its place in the flat parameters and gradients. */
struct core_tensor {
    size_t index;
    uint64_t offset, elements;
};

struct core_piece {
    void *slot; /* of any pointer type: set by core_commit */
    size_t bytes;
};

struct core {
    struct model model; /* first, so that a struct model * is a struct core * */
    const struct device_ops *ops;
    struct device_stream *stream; /* model.stream */
    struct core_piece *pieces;
    size_t piece_count, piece_capacity, tensor_capacity;
    void *memory;              /* device: parameters, gradients, activations */
    struct activation *narrow; /* parameters [narrow_first, elements) in the device's type; NULL where that is f32 */
    uint64_t narrow_first;     /* products read no tensor that lies before */
    float *staged;             /* what core_upload narrows, on such devices */
    size_t staged_floats;
    char *kept; /* memory of the host that stays in place: batches, and the loss, pass through it; NULL: they do not */
    size_t kept_bytes, kept_used;
    bool failed;              /* an allocation failed while planning */
    uint32_t rows;            /* samples of the last forward; 0: there is nothing to go backward from */
    int32_t *labels;          /* device [batch_max * predictions per sample] */
    struct device_sums *sums; /* device */
};

/* `labels` is the number of predictions per sample. */
void core_init(struct core *core, const struct model_kind *kind, const struct dataset_info *info, struct device *device,
               uint32_t batch_max, uint32_t labels);
/* Frees what a core owns, not the struct. */
void core_deinit(struct core *core);

/* Append a tensor with a printf-style name. Vectors (biases, norm gains) are not decayed. */
struct core_tensor core_vector(struct core *core, uint64_t elements, const char *format, ...) LG_PRINTF(3, 4);
struct core_tensor core_matrix(struct core *core, uint64_t rows, uint64_t columns, const char *format, ...)
    LG_PRINTF(4, 5);
struct core_tensor core_filters(struct core *core, uint64_t filters, uint64_t channels, uint64_t kernel,
                                const char *format, ...) LG_PRINTF(5, 6);

/* Plans `count` items of device memory for the pointer at `slot` (float **, uint8_t **, ...). */
#define core_plan(core, slot, count) core_plan_bytes((core), (slot), (size_t)(count) * sizeof **(slot))
void core_plan_bytes(struct core *core, void *slot, size_t bytes);
/* `count` numbers of an activation. */
void core_plan_activation(struct core *core, struct activation **slot, size_t count);
/* core_upload, or core_upload_bytes with numbers of 4 bytes, will be given up to `floats` in a forward pass. */
void core_plan_upload(struct core *core, size_t floats);
/* Allocates parameters, gradients and everything planned, and sets the slots. */
LG_MUST_CHECK enum lg_status core_commit(struct core *core, struct lg_error *error);

static inline float *core_parameter(const struct core *core, struct core_tensor tensor) {
    return core->model.parameters + tensor.offset;
}

static inline float *core_gradient(const struct core *core, struct core_tensor tensor) {
    return core->model.gradients + tensor.offset;
}

/* A tensor as products read it: in the device's own type. Of those made by core_linear and core_filters. */
static inline const struct activation *core_weight(const struct core *core, struct core_tensor tensor) {
    if (core->narrow)
        return activation_at(core->model.device, core->narrow, tensor.offset - core->narrow_first);
    return (const struct activation *)(const void *)core_parameter(core, tensor);
}

/* Brings core_weight up to date with the parameters. What was sent before must have arrived. */
void core_begin(struct core *core);
/* bytes of the host's memory, the caller's again at once -> device memory. Copies from memory that may be paged out
 * would wait for all that the stream was given before. */
void core_upload_bytes(struct core *core, size_t bytes, const void *host, void *memory);
/* Host floats -> x, in the device's own type. */
void core_upload(struct core *core, size_t floats, const float *host, struct activation *x);

/* Uploads `rows * labels` labels, then computes loss and correct predictions of logits [predictions][classes] into
 * `result`; gradient [predictions][classes] (may be logits) gets that of the mean loss. Waits for the device. */
LG_MUST_CHECK enum lg_status core_loss(struct core *core, uint32_t rows, uint32_t labels_each, const int32_t *labels,
                                       const struct activation *logits, struct activation *gradient,
                                       struct model_result *result, struct lg_error *error);
/* Announces tensors [first, first + count), whose gradients have been queued; on the CPU, once they are there. */
LG_MUST_CHECK enum lg_status core_ready(struct core *core, model_gradient_fn *ready, void *context, size_t first,
                                        size_t count, struct lg_error *error);

/* ---- the linear layer: y = x weight^T + bias. */
struct core_linear {
    struct core_tensor weight, bias; /* [outputs][inputs], [outputs]; bias.elements 0: none */
    uint32_t inputs, outputs;
};

/* Tensors "NAME.weight", "NAME.bias"; plain "weight" and "bias" where the name is empty. */
struct core_linear core_linear(struct core *core, uint32_t inputs, uint32_t outputs, bool bias, const char *name);
/* x [rows][inputs] -> y [rows][outputs] */
void core_linear_forward(struct core *core, const struct core_linear *layer, uint32_t rows, const struct activation *x,
                         struct activation *y);
/* The same without the bias, for callers that add it together with what follows. */
void core_linear_product(struct core *core, const struct core_linear *layer, uint32_t rows, const struct activation *x,
                         struct activation *y);
/* dy [rows][outputs] -> gradients of weight and bias. */
void core_linear_gradients(struct core *core, const struct core_linear *layer, uint32_t rows,
                           const struct activation *x, const struct activation *dy);
/* dy [rows][outputs] -> gradient of the weight alone, where that of the bias came with dy. */
void core_linear_weight_gradient(struct core *core, const struct core_linear *layer, uint32_t rows,
                                 const struct activation *x, const struct activation *dy);
/* dy [rows][outputs] -> dx [rows][inputs] */
void core_linear_input(struct core *core, const struct core_linear *layer, uint32_t rows, const struct activation *dy,
                       struct activation *dx);

/* ---- initial values; each tensor has its own stream of the seed. `parameters` is the flat host array. */
void core_normal(const struct core *core, struct core_tensor tensor, uint64_t seed, double deviation,
                 float *parameters);
void core_constant(struct core_tensor tensor, float value, float *parameters);
/* He et al. 2015, for layers before a ReLU: N(0, 2 / fan in). */
double core_he(uint64_t fan_in);
/* For output layers: a tenth of Glorot and Bengio's (2010) deviation sqrt(2 / (fan in + fan out)), so that the first
 * predictions are close to even whatever the scale of the activations. */
double core_output(uint64_t fan_in, uint64_t fan_out);

#endif
