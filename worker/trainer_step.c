#include "worker/trainer_step.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/log.h"
#include "worker/trainer_stop.h"

/* ---- buffers */

static enum lg_status make_buffers(struct trainer *trainer, struct lg_error *error) {
    const struct model *model = trainer->model;
    trainer->parameters = model->parameters;
    trainer->gradients = model->gradients;
    if (trainer->device->host_memory)
        return LG_OK;
    trainer->staging = calloc(2 * model->elements, sizeof *trainer->staging);
    trainer->stream = trainer->device->ops->stream_open(trainer->device);
    trainer->parameters = trainer->staging;
    trainer->gradients = trainer->staging ? trainer->staging + model->elements : NULL;
    if (!trainer->staging || !trainer->stream)
        return lg_fail(error, LG_NO_MEMORY, "no memory for %" PRIu64 " parameters between host and device",
                       model->elements);
    return LG_OK;
}

enum lg_status trainer_step_init(struct trainer *trainer, struct lg_error *error) {
    const struct model *model = trainer->model;
    enum lg_status status = make_buffers(trainer, error);
    if (status != LG_OK)
        return status;
    trainer->offsets = malloc((model->tensor_count + 1) * sizeof *trainer->offsets);
    trainer->indices = malloc(model->batch_max * sizeof *trainer->indices);
    if (!trainer->offsets || !trainer->indices)
        return lg_fail(error, LG_NO_MEMORY, "no memory for a batch of %u samples", model->batch_max);
    trainer->offsets[0] = 0;
    for (size_t i = 0; i < model->tensor_count; i++)
        trainer->offsets[i + 1] = trainer->offsets[i] + tensor_elements(&model->tensors[i]);
    return LG_OK;
}

void trainer_step_deinit(struct trainer *trainer) {
    if (trainer->stream)
        trainer->device->ops->stream_close(trainer->stream);
    free(trainer->staging);
    free(trainer->offsets);
    free(trainer->indices);
    batch_deinit(&trainer->batch);
    range_queue_deinit(&trainer->ranges);
}

/* Host to device, where they are apart. */
static enum lg_status upload_parameters(struct trainer *trainer, struct lg_error *error) {
    const struct model *model = trainer->model;
    if (!trainer->staging)
        return LG_OK;
    trainer->device->ops->upload(trainer->stream, model->elements * sizeof(float), trainer->parameters,
                                 model->parameters);
    return trainer->device->ops->synchronize(trainer->stream, error);
}

static enum lg_status download_gradients(struct trainer *trainer, uint64_t from, uint64_t to, struct lg_error *error) {
    if (!trainer->staging)
        return LG_OK;
    trainer->device->ops->download(trainer->stream, (to - from) * sizeof(float), trainer->model->gradients + from,
                                   trainer->gradients + from);
    return trainer->device->ops->synchronize(trainer->stream, error);
}

/* ---- the parts of a step */

static void count_communication(struct trainer *trainer, uint64_t since_ns) {
    trainer->meter.numbers.communication_ns += meter_clock_ns() - since_ns;
}

static enum lg_status start_pull(struct trainer *trainer, struct lg_error *error) {
    uint64_t start_ns = meter_clock_ns();
    enum lg_status status = lg_pull_start(trainer->client, trainer->parameters, error);
    trainer->pulling = status == LG_OK;
    count_communication(trainer, start_ns);
    return status;
}

static enum lg_status finish_pull(struct trainer *trainer, struct lg_error *error) {
    uint64_t start_ns = meter_clock_ns();
    enum lg_status status = lg_pull_wait(trainer->client, error);
    trainer->pulling = false;
    count_communication(trainer, start_ns);
    return status == LG_OK ? upload_parameters(trainer, error) : status;
}

/* Waits until the shards have taken the last push; a batch that straddles marks goes back to be done in pieces. */
static enum lg_status settle(struct trainer *trainer, struct lg_error *error) {
    struct lg_push_result result;
    size_t cut_count = 0;
    uint64_t start_ns = meter_clock_ns();
    if (!trainer->pushing)
        return LG_OK;
    trainer->pushing = false;
    enum lg_status status = lg_push_wait(trainer->client, &result, error);
    count_communication(trainer, start_ns);
    if (status != LG_OK || result.cut_count == 0)
        return status;
    const uint64_t *cuts = lg_push_cuts(trainer->client, &cut_count);
    log_info("batch-cut", "samples [%" PRIu64 ", %" PRIu64 ") were applied in part before: doing them in pieces",
             trainer->pushed.first, trainer->pushed.end);
    return range_queue_put(&trainer->ranges, trainer->pushed.first, trainer->pushed.end, cuts, cut_count, error);
}

/* Counts as computing: for drawn datasets it is the larger part of small models' work. */
static enum lg_status read_batch(struct trainer *trainer, uint64_t epoch, struct sample_range range,
                                 struct lg_error *error) {
    uint64_t start_ns = meter_clock_ns();
    if (!trainer->order_known || trainer->order_epoch != epoch) {
        permutation_init(&trainer->order, trainer->dataset->info.train_samples, (uint64_t)trainer->job.seed, epoch);
        trainer->order_epoch = epoch;
        trainer->order_known = true;
    }
    for (uint64_t i = range.first; i < range.end; i++)
        trainer->indices[i - range.first] = permutation_at(&trainer->order, i);
    enum lg_status status = dataset_read(trainer->dataset, DATASET_TRAIN, epoch, trainer->indices,
                                         (uint32_t)(range.end - range.first), &trainer->batch, error);
    trainer->meter.numbers.compute_ns += meter_clock_ns() - start_ns;
    return status;
}

static enum lg_status check_loss(const struct trainer *trainer, const struct model_result *result, uint64_t epoch,
                                 struct sample_range range, struct lg_error *error) {
    if (isfinite(result->loss_sum))
        return LG_OK;
    return lg_fail(error, LG_NONFINITE,
                   "diverged: the loss of step %" PRIu64 " (samples [%" PRIu64 ", %" PRIu64 ") of epoch %" PRIu64
                   ") is not finite; lower lr.base, which is %g, or set train.clip",
                   trainer->meter.numbers.steps + 1, range.first, range.end, epoch + 1, trainer->job.learning_rate);
}

/* Context of on_gradients. */
struct announcement {
    struct trainer *trainer;
    enum lg_status status;
    struct lg_error *error;
};

/* The gradients of tensors [first, first + count) are final: clip them where that needs no others, and let them go. */
static void on_gradients(void *context, size_t first, size_t count) {
    struct announcement *announcement = context;
    struct trainer *trainer = announcement->trainer;
    const uint64_t *offsets = trainer->offsets;
    if (announcement->status == LG_OK)
        announcement->status = download_gradients(trainer, offsets[first], offsets[first + count], announcement->error);
    if (announcement->status != LG_OK || trainer->clip == CLIP_GLOBAL)
        return;
    for (size_t i = first; trainer->clip == CLIP_TENSOR && i < first + count; i++)
        clip_to_norm(trainer->gradients + offsets[i], offsets[i + 1] - offsets[i], trainer->job.clip_norm);
    lg_push_ready(trainer->client, first, count);
}

/* Backward pass and push in one: tensors go out while earlier layers are still being computed. */
static enum lg_status backward_and_push(struct trainer *trainer, const struct lg_lease *lease,
                                        struct sample_range range, struct lg_error *error) {
    const struct model *model = trainer->model;
    struct announcement announcement = {trainer, LG_OK, error};
    const struct lg_push push = {
        .samples = range.end - range.first,
        .lease = lease->lease,
        .fence = lease->fence,
        .epoch = lease->epoch,
        .first = range.first,
        .end = range.end,
        .local_steps = 1,
    };
    enum lg_status status = lg_push_start(trainer->client, &push, trainer->gradients, error);
    if (status != LG_OK)
        return status;
    trainer->pushing = true;
    trainer->pushed = range;
    uint64_t start_ns = meter_clock_ns();
    status = model_backward(trainer->model, on_gradients, &announcement, error);
    if (status == LG_OK)
        status = announcement.status;
    if (status == LG_OK && trainer->clip == CLIP_GLOBAL) {
        clip_to_norm(trainer->gradients, model->elements, trainer->job.clip_norm);
        lg_push_ready(trainer->client, 0, model->tensor_count);
    }
    trainer->backward_ns = meter_clock_ns() - start_ns;
    trainer->meter.numbers.compute_ns += trainer->backward_ns;
    return status;
}

/* Plays a machine that is `slowdown` times as slow: the time goes by between pull and push, as it would there. */
static void slow_down(struct trainer *trainer, uint64_t forward_ns) {
    double extra = trainer->handover->slowdown - 1, compute_ns = (double)(forward_ns + trainer->backward_ns);
    if (extra <= 0)
        return;
    uint64_t start_ns = meter_clock_ns();
    trainer_stop_sleep((uint64_t)(extra * compute_ns));
    trainer->meter.numbers.compute_ns += meter_clock_ns() - start_ns;
}

static enum lg_status forward(struct trainer *trainer, struct model_result *result, struct lg_error *error) {
    uint64_t start_ns = meter_clock_ns();
    enum lg_status status = model_forward(trainer->model, &trainer->batch, result, error);
    uint64_t forward_ns = meter_clock_ns() - start_ns;
    trainer->meter.numbers.compute_ns += forward_ns;
    slow_down(trainer, forward_ns);
    return status;
}

/* ---- the step
 *
 * The push of a step is waited for only after the pull of the next one has been asked for and the next batch has been
 * read: connections keep their order, so that pull sees this trainer's own push. */
static enum lg_status train_step(struct trainer *trainer, const struct lg_lease *lease, struct sample_range range,
                                 struct lg_error *error) {
    struct model_result result = {0};
    uint64_t start_ns = meter_clock_ns();
    enum lg_status status = trainer->pulling ? LG_OK : start_pull(trainer, error);
    if (status == LG_OK)
        status = read_batch(trainer, lease->epoch, range, error);
    if (status == LG_OK)
        status = settle(trainer, error);
    if (status == LG_OK)
        status = finish_pull(trainer, error);
    if (status == LG_OK)
        status = forward(trainer, &result, error);
    if (status == LG_OK)
        status = check_loss(trainer, &result, lease->epoch, range, error);
    if (status == LG_OK)
        status = backward_and_push(trainer, lease, range, error);
    if (status == LG_OK && trainer->ranges.count > 0)
        status = start_pull(trainer, error);
    meter_add_step(&trainer->meter, range.end - range.first, result.predictions, result.loss_sum, result.correct,
                   meter_clock_ns() - start_ns);
    meter_tick(&trainer->meter, trainer->client);
    return status;
}

enum lg_status trainer_train(struct trainer *trainer, const struct lg_lease *lease, bool *whole,
                             struct lg_error *error) {
    struct sample_range range;
    trainer->ranges.count = 0;
    enum lg_status status =
        range_queue_put(&trainer->ranges, lease->first, lease->end, lease->cuts, lease->cut_count, error);
    while (status == LG_OK && !trainer_stop_asked()) {
        if (range_queue_take(&trainer->ranges, (uint64_t)trainer->job.batch, &range))
            status = train_step(trainer, lease, range, error);
        else if (trainer->pushing) /* may bring pieces back */
            status = settle(trainer, error);
        else
            break;
    }
    *whole = status == LG_OK && trainer->ranges.count == 0 && !trainer->pushing;
    if (status == LG_OK && !*whole) { /* asked to stop: the step under way is finished */
        status = settle(trainer, error);
        if (status == LG_OK && trainer->pulling)
            status = finish_pull(trainer, error);
    }
    return status;
}

/* ---- the other leases */

enum lg_status trainer_initialise(struct trainer *trainer, const struct lg_lease *lease, struct lg_error *error) {
    const struct lg_push push = {.lease = lease->lease, .fence = lease->fence, .initial = true};
    model_initialise(trainer->model, (uint64_t)trainer->job.seed, trainer->parameters);
    log_info("initialise", "setting %" PRIu64 " parameters to their initial values, seed %" PRId64,
             trainer->model->elements, trainer->job.seed);
    return lg_push(trainer->client, &push, trainer->parameters, NULL, error);
}

/* Adds samples [first, first + count) of the test split to `sums`. */
static enum lg_status evaluate_batch(struct trainer *trainer, uint64_t epoch, uint64_t first, uint32_t count,
                                     struct model_result *sums, struct lg_error *error) {
    struct model_result result = {0};
    for (uint32_t i = 0; i < count; i++)
        trainer->indices[i] = first + i;
    enum lg_status status =
        dataset_read(trainer->dataset, DATASET_TEST, epoch, trainer->indices, count, &trainer->batch, error);
    if (status == LG_OK)
        status = model_forward(trainer->model, &trainer->batch, &result, error);
    sums->loss_sum += result.loss_sum;
    sums->correct += result.correct;
    sums->predictions += result.predictions;
    return status;
}

static enum lg_status report_evaluation(struct trainer *trainer, const struct lg_lease *lease,
                                        const struct model_result *sums, struct lg_error *error) {
    double predictions = sums->predictions ? (double)sums->predictions : 1;
    double loss = sums->loss_sum / predictions, accuracy = (double)sums->correct / predictions;
    if (!isfinite(loss))
        return lg_fail(error, LG_NONFINITE,
                       "diverged: the evaluation after epoch %" PRIu64 " gives a loss that is not finite; lower "
                       "lr.base, which is %g, or set train.clip",
                       lease->epoch, trainer->job.learning_rate);
    log_info("evaluation", "epoch %" PRIu64 ": loss %.4f, accuracy %.2f %% over %" PRIu64 " predictions", lease->epoch,
             loss, 100 * accuracy, sums->predictions);
    return lg_report_evaluation(trainer->client, lease, loss, accuracy, sums->predictions, error);
}

enum lg_status trainer_evaluate(struct trainer *trainer, const struct lg_lease *lease, bool *whole,
                                struct lg_error *error) {
    uint64_t samples = trainer->dataset->info.test_samples, limit = (uint64_t)trainer->job.evaluate_samples;
    uint64_t batch = trainer->model->batch_max, at = 0;
    struct model_result sums = {0};
    if (limit > 0 && limit < samples)
        samples = limit;
    enum lg_status status = start_pull(trainer, error);
    if (status == LG_OK)
        status = finish_pull(trainer, error);
    for (; status == LG_OK && at < samples && !trainer_stop_asked(); at += batch) {
        uint64_t count = samples - at < batch ? samples - at : batch;
        status = evaluate_batch(trainer, lease->epoch, at, (uint32_t)count, &sums, error);
        meter_tick(&trainer->meter, trainer->client);
    }
    *whole = status == LG_OK && at >= samples;
    return *whole ? report_evaluation(trainer, lease, &sums, error) : status;
}
