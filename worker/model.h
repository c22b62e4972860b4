/* Models: each written once against the device interface (gpu/device.h). One file under worker/models/ and one line in
 * model.def add one.
 *
 * A model has its parameters and gradients on its device, each one flat f32 buffer in tensor-table order
 * (common/tensor.h): its own, or others that it is told to use. The trainer's step is: read batch -> pull into
 * parameters -> model_forward -> model_backward (gradients become ready tensor by tensor, last layer first) -> push.
 * Not thread-safe. */
#ifndef LAGOON_WORKER_MODEL_H
#define LAGOON_WORKER_MODEL_H

#include "common/config.h"
#include "common/option.h"
#include "common/status.h"
#include "common/tensor.h"
#include "gpu/device.h"
#include "worker/dataset.h"

struct model; /* each kind embeds this first */

/* Sums over the predictions of a batch (samples, or tokens for language models). */
struct model_result {
    double loss_sum;      /* natural-log cross-entropy summed over predictions */
    uint64_t predictions; /* samples, or samples * context */
    uint64_t correct;     /* predictions whose largest logit is the label */
};

/* Called during model_backward as soon as the gradients of tensors [first, first+count) are final: where the host reads
 * the device's memory, now; else when the model's stream has done what it has been given so far. Runs on the caller's
 * thread. */
typedef void model_gradient_fn(void *context, size_t first, size_t count);

struct model_kind {
    const char *name;
    const char *summary;
    const struct option_table *options; /* the `model.*` keys, without `kind` */
    /* `options` has been filled by option_apply. Fails where the dataset's form does not fit, with the reason. */
    enum lg_status (*create)(const void *options, const struct dataset_info *info, struct device *device,
                             uint32_t batch_max, struct model **out, struct lg_error *error);
    /* Writes seeded initial values of all tensors into `parameters` (host, flat). */
    void (*initialise)(const struct model *model, uint64_t seed, float *parameters);
    /* Copies what it needs of the batch, which is the caller's again at once. A loss that is not finite is no error. */
    enum lg_status (*forward)(struct model *model, const struct batch *batch, struct model_result *result,
                              struct lg_error *error);
    /* Mean gradient over the batch's predictions of the last forward. `ready` may be NULL. Where the host does not read
     * the device's memory it returns when all is queued; what fails later is said by the next wait for the stream. */
    enum lg_status (*backward)(struct model *model, model_gradient_fn *ready, void *context, struct lg_error *error);
    /* Next-token logits for language models (NULL for others): `tokens` [count <= context] -> host logits [classes]. */
    enum lg_status (*next_logits)(struct model *model, const int32_t *tokens, uint32_t count, float *logits,
                                  struct lg_error *error);
    void (*destroy)(struct model *model);
};

struct model {
    const struct model_kind *kind;
    struct device *device;
    struct device_stream *stream; /* what both passes are queued on */
    struct dataset_info info;
    uint32_t batch_max;          /* samples */
    struct tensor_spec *tensors; /* owned */
    size_t tensor_count;
    uint64_t elements;             /* total */
    double flops_per_prediction;   /* of forward and backward, counted as 6 for each parameter that a product reads and
                                    * each place it is read at, and attention's 12 layers width context; 0: not known */
    float *parameters, *gradients; /* device memory, flat, `elements` each; host memory on the CPU device. Kinds look
                                    * here at every use */
    bool same_parameters;          /* see model_same_parameters */
};

const struct model_kind *const *model_kinds(size_t *count);
LG_MUST_CHECK enum lg_status model_kind_find(const char *name, const struct model_kind **out, struct lg_error *error);

extern const struct option_table model_option_table; /* "model.kind" */

/* Creates what `config` says under "model." ("model.kind"); batches may have up to `batch_max` samples. */
LG_MUST_CHECK enum lg_status model_create(struct config *config, const struct dataset_info *info, struct device *device,
                                          uint32_t batch_max, struct model **out, struct lg_error *error);
void model_destroy(struct model *model);
void model_initialise(const struct model *model, uint64_t seed, float *parameters);
/* From the next forward on it computes from `parameters`, from the next backward on it writes to `gradients`: flat, of
 * `elements`, device memory aligned to 64 bytes, the caller's. */
void model_use_parameters(struct model *model, float *parameters);
void model_use_gradients(struct model *model, float *gradients);
/* Says that the parameters are what they were at the last forward, so that the next one need not make the copy again
 * that products on some devices read. Holds for one forward. */
void model_same_parameters(struct model *model);
LG_MUST_CHECK enum lg_status model_forward(struct model *model, const struct batch *batch, struct model_result *result,
                                           struct lg_error *error);
LG_MUST_CHECK enum lg_status model_backward(struct model *model, model_gradient_fn *ready, void *context,
                                            struct lg_error *error);

#endif
