#include "worker/trainer_push.h"

#include <string.h>

/* ---- pushes */

size_t trainer_push_depth(const struct trainer *trainer) {
    const bool encoded = trainer->encoder.model && !trainer->encoder.some_plain;
    return encoded ? trainer->encoder.count : trainer->buffers.gradient_count;
}

void trainer_push_turn(struct trainer *trainer) {
    trainer_buffers_turn(&trainer->buffers);
    if (trainer->encoder.model)
        trainer_encoder_turn(&trainer->encoder);
}

/* True where the push brings the next step's parameters. They start to come back while earlier layers are still being
 * computed, both directions of a network at once, but those of the last layers are older than a pull's would be: so it
 * does not pay on the same host. */
static bool brings_parameters(const struct trainer *trainer) {
    if (consistency_has(trainer->job.consistency, CONSISTENCY_READS)) /* whoever reads asks first */
        return false;
    if (trainer->job.pipeline > 1 || trainer->ranges.count == 0 || strcmp(trainer->job.push_pull, "no") == 0)
        return false;
    return strcmp(trainer->job.push_pull, "yes") == 0 || strcmp(lg_client_transport(trainer->client), "tcp") == 0;
}

enum lg_status trainer_push_start(struct trainer *trainer, const struct lg_lease *lease, struct sample_range range,
                                  uint32_t local_steps, struct lg_error *error) {
    const struct lg_push push = {
        .samples = range.end - range.first,
        .lease = lease->lease,
        .fence = lease->fence,
        .epoch = lease->epoch,
        .first = range.first,
        .end = range.end,
        .local_steps = local_steps,
        .delta = trainer->job.local_steps > 1,
        .computed_from = trainer->buffers.parameters,
        .parameters = brings_parameters(trainer) ? trainer->buffers.ahead : NULL,
        .encoded = trainer->encoder.model ? trainer_encoder_begin(&trainer->encoder, trainer->client) : NULL,
    };
    enum lg_status status = lg_push_start(trainer->client, &push, trainer->buffers.gradients, error);
    if (status != LG_OK)
        return status;
    trainer->flying[trainer->flying_count++] = range;
    if (push.parameters)
        trainer->ahead = AHEAD_PUSHED;
    return LG_OK;
}

/* ---- gradients */

void trainer_push_clip(struct trainer *trainer, size_t first, size_t count) {
    const struct model *model = trainer->model;
    const uint64_t *offsets = trainer->offsets;
    for (size_t i = first; trainer->clip == CLIP_TENSOR && i < first + count; i++)
        model->device->ops->clip(model->stream, offsets[i + 1] - offsets[i], trainer->job.clip_norm,
                                 model->gradients + offsets[i]);
}

void trainer_push_clip_global(struct trainer *trainer) {
    const struct model *model = trainer->model;
    if (trainer->clip == CLIP_GLOBAL)
        model->device->ops->clip(model->stream, model->elements, trainer->job.clip_norm, model->gradients);
}

/* Context of on_gradients. */
struct announcement {
    struct trainer *trainer;
    enum lg_status status;
    struct lg_error *error;
};

/* The gradients of tensors [first, first + count) are as they are to be pushed, or will be when the model's stream has
 * done what it has been given so far. */
static enum lg_status let_go(struct trainer *trainer, size_t first, size_t count, struct lg_error *error) {
    const uint64_t *offsets = trainer->offsets;
    if (trainer->encoder.model)
        return trainer_encoder_fetch(&trainer->encoder, first, count, trainer->buffers.gradients, error);
    if (trainer->buffers.stream)
        return trainer_buffers_fetch(&trainer->buffers, first, count, offsets[first], offsets[first + count], error);
    lg_push_ready(trainer->client, first, count);
    return LG_OK;
}

static void on_gradients(void *context, size_t first, size_t count) {
    struct announcement *announcement = context;
    struct trainer *trainer = announcement->trainer;
    if (announcement->status != LG_OK)
        return;
    trainer_micro_fold(&trainer->micro, trainer->offsets[first], trainer->offsets[first + count]);
    trainer_push_clip(trainer, first, count);
    if (trainer->clip != CLIP_GLOBAL)
        announcement->status = let_go(trainer, first, count, announcement->error);
}

/* What had to wait for the norm of them all: tensor by tensor, so that copying and sending overlap. */
static enum lg_status let_all_go(struct trainer *trainer, struct lg_error *error) {
    enum lg_status status = LG_OK;
    trainer_push_clip_global(trainer);
    for (size_t i = trainer->model->tensor_count; status == LG_OK && i-- > 0;)
        status = let_go(trainer, i, 1, error);
    return status;
}

static enum lg_status arrive(struct trainer *trainer, size_t *first, size_t *count, struct lg_error *error) {
    return trainer->encoder.model ? trainer_encoder_arrive(&trainer->encoder, first, count, error)
                                  : trainer_buffers_arrive(&trainer->buffers, first, count, error);
}

/* Where the host does not read the device's memory: pushes gradients as they come over, while the device goes on with
 * the backward pass, all of which it has been given. The next step's parameters are copied meanwhile, where shards have
 * them: before the gradients go, whose push changes them. */
static enum lg_status await_gradients(struct trainer *trainer, struct lg_error *error) {
    size_t first, count = trainer->buffers.stream ? 1 : 0;
    enum lg_status status = LG_OK;
    if (count > 0)
        trainer_copies_end_of_step(&trainer->buffers.copies, trainer->model->stream,
                                   trainer->encoder.model ? trainer->encoder.stream : trainer->buffers.stream);
    while (status == LG_OK && count > 0) {
        status = trainer_buffers_pull_go_on(&trainer->buffers, trainer->client, error);
        if (status != LG_OK)
            return status;
        status = arrive(trainer, &first, &count, error);
        if (status == LG_OK && count > 0)
            lg_push_ready(trainer->client, first, count);
    }
    return status;
}

enum lg_status trainer_push_backward(struct trainer *trainer, const struct lg_lease *lease, struct sample_range range,
                                     struct lg_error *error) {
    struct announcement announcement = {trainer, LG_OK, error};
    enum lg_status status = trainer_push_start(trainer, lease, range, 1, error);
    if (status != LG_OK)
        return status;
    uint64_t start_ns = meter_clock_ns(), start_cpu_ns = meter_cpu_ns();
    status = model_backward(trainer->model, on_gradients, &announcement, error);
    if (status == LG_OK)
        status = announcement.status;
    if (status == LG_OK && trainer->clip == CLIP_GLOBAL)
        status = let_all_go(trainer, error);
    if (status == LG_OK)
        status = await_gradients(trainer, error);
    trainer->backward_cpu_ns = meter_cpu_ns() - start_cpu_ns;
    trainer->meter.numbers.compute_ns += meter_clock_ns() - start_ns;
    return status;
}
