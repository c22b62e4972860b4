#include "worker/trainer_step.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/log.h"
#include "worker/trainer_push.h"
#include "worker/trainer_stop.h"

/* ---- life */

enum lg_status trainer_step_init(struct trainer *trainer, struct lg_error *error) {
    const struct model *model = trainer->model;
    const uint32_t batch = (uint32_t)trainer->job.batch,
                   batch_max = batch > model->batch_max ? batch : model->batch_max;
    enum lg_status status = trainer_buffers_init(&trainer->buffers, trainer->model, error);
    if (status == LG_OK)
        status = trainer_micro_init(&trainer->micro, trainer->model, batch, error);
    if (status != LG_OK)
        return status;
    trainer->offsets = malloc((model->tensor_count + 1) * sizeof *trainer->offsets);
    trainer->indices = malloc(batch_max * sizeof *trainer->indices);
    if (!trainer->offsets || !trainer->indices)
        return lg_fail(error, LG_NO_MEMORY, "no memory for a batch of %u samples", batch_max);
    trainer->offsets[0] = 0;
    for (size_t i = 0; i < model->tensor_count; i++)
        trainer->offsets[i + 1] = trainer->offsets[i] + tensor_elements(&model->tensors[i]);
    if (trainer->job.local_steps == 1)
        return LG_OK;
    if (!trainer->device->host_memory)
        return lg_fail(error, LG_UNSUPPORTED,
                       "local steps are taken in the host's memory, and %s has its own: leave "
                       "train.local_steps at 1, or train on device cpu",
                       trainer->device->name);
    return local_steps_init(&trainer->local, trainer->handover->spec, &trainer->job, model->tensors,
                            model->tensor_count, error);
}

enum lg_status trainer_step_join(struct trainer *trainer, struct lg_error *error) {
    const size_t pushes = (size_t)trainer->job.pipeline;
    struct trainer_buffers *buffers = &trainer->buffers;
    enum lg_status status = trainer_buffers_join(buffers, trainer->client, pushes, error);
    if (status == LG_OK && trainer_encoder_wanted(trainer->model, trainer->client))
        status = trainer_encoder_init(&trainer->encoder, trainer->model, trainer->client, pushes, buffers->gradient,
                                      buffers->gradient_count, error);
    return status;
}

void trainer_step_leave(struct trainer *trainer) {
    trainer_encoder_leave(&trainer->encoder);
    trainer_buffers_leave(&trainer->buffers);
}

void trainer_step_deinit(struct trainer *trainer) {
    trainer_encoder_deinit(&trainer->encoder);
    trainer_buffers_deinit(&trainer->buffers);
    trainer_micro_deinit(&trainer->micro);
    local_steps_deinit(&trainer->local);
    free(trainer->offsets);
    free(trainer->indices);
    batch_deinit(&trainer->batch);
    range_queue_deinit(&trainer->ranges);
}

/* ---- the parts of a step */

static void count_communication(struct trainer *trainer, uint64_t since_ns) {
    trainer->meter.numbers.communication_ns += meter_clock_ns() - since_ns;
}

static enum lg_status start_pull(struct trainer *trainer, struct lg_error *error) {
    uint64_t start_ns = meter_clock_ns();
    enum lg_status status = trainer_buffers_pull_start(&trainer->buffers, trainer->client, error);
    trainer->ahead = status == LG_OK ? AHEAD_PULLED : AHEAD_NOTHING;
    count_communication(trainer, start_ns);
    return status;
}

static enum lg_status finish_pull(struct trainer *trainer, struct lg_error *error) {
    const struct trainer_pull *pull = &trainer->buffers.pull;
    uint64_t start_ns = meter_clock_ns(), copied_ns = pull->copied_ns;
    enum lg_status status = trainer_buffers_pull_wait(&trainer->buffers, trainer->client, error);
    trainer->ahead = status == LG_OK ? AHEAD_THERE : AHEAD_NOTHING;
    copied_ns = pull->copied_ns - copied_ns;
    trainer->meter.numbers.compute_ns += copied_ns;
    meter_add_copies(&trainer->meter, copied_ns, 0);
    meter_add_wait(&trainer->meter, meter_clock_ns() - start_ns - copied_ns);
    return status;
}

/* Waits until the shards have taken the oldest push; a batch that straddles marks goes back to be done in pieces. */
static enum lg_status settle(struct trainer *trainer, struct lg_error *error) {
    struct lg_push_result result = {0};
    struct sample_range range = trainer->flying[0];
    size_t cut_count = 0;
    uint64_t start_ns = meter_clock_ns();
    memmove(trainer->flying, trainer->flying + 1, --trainer->flying_count * sizeof *trainer->flying);
    enum lg_status status = lg_push_wait(trainer->client, &result, error);
    meter_add_wait(&trainer->meter, meter_clock_ns() - start_ns);
    if (status == LG_OK && trainer->encoder.model)
        trainer_encoder_settle(&trainer->encoder);
    if (trainer->ahead == AHEAD_PUSHED && trainer->flying_count == 0)
        trainer->ahead = AHEAD_THERE;
    if (status == LG_OK && result.skipped) {
        if (trainer->meter.skipped++ == 0)
            log_info("skipped",
                     "samples [%" PRIu64 ", %" PRIu64 ") are given up: the round was full without this trainer's push; "
                     "from now on they are only counted",
                     range.first, range.end);
    } else if (status == LG_OK && result.cut_count == 0)
        meter_add_push(&trainer->meter, result.staleness_max, (double)result.weight_min);
    if (status != LG_OK || result.cut_count == 0)
        return status;
    const uint64_t *cuts = lg_push_cuts(trainer->client, &cut_count);
    log_info("batch-cut", "samples [%" PRIu64 ", %" PRIu64 ") were applied in part before: doing them in pieces",
             range.first, range.end);
    return range_queue_put(&trainer->ranges, range.first, range.end, cuts, cut_count, error);
}

/* Until at most `most` pushes are unsettled. */
static enum lg_status settle_down_to(struct trainer *trainer, size_t most, struct lg_error *error) {
    enum lg_status status = LG_OK;
    while (status == LG_OK && trainer->flying_count > most)
        status = settle(trainer, error);
    return status;
}

/* What was asked for ahead is computed from now. */
static enum lg_status take_parameters(struct trainer *trainer, struct lg_error *error) {
    enum lg_status status = trainer->ahead == AHEAD_PULLED ? finish_pull(trainer, error) : LG_OK;
    trainer->ahead = AHEAD_NOTHING;
    return status == LG_OK ? trainer_buffers_adopt(&trainer->buffers, error) : status;
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
    meter_add_read(&trainer->meter, meter_clock_ns() - start_ns);
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

/* Plays a machine that is `slowdown` times as slow: the time goes by between pull and push, as it would there. Counted
 * from processor time, so that waiting for a core is not made longer too. */
static void slow_down(struct trainer *trainer, uint64_t forward_cpu_ns) {
    double extra = trainer->handover->slowdown - 1, compute_ns = (double)(forward_cpu_ns + trainer->backward_cpu_ns);
    if (extra <= 0)
        return;
    uint64_t start_ns = meter_clock_ns();
    trainer_stop_sleep((uint64_t)(extra * compute_ns));
    trainer->meter.numbers.compute_ns += meter_clock_ns() - start_ns;
}

static enum lg_status forward(struct trainer *trainer, struct model_result *result, struct lg_error *error) {
    uint64_t start_ns = meter_clock_ns(), start_cpu_ns = meter_cpu_ns();
    enum lg_status status = trainer_micro_forward(&trainer->micro, &trainer->batch, result, error);
    trainer->meter.numbers.compute_ns += meter_clock_ns() - start_ns;
    slow_down(trainer, meter_cpu_ns() - start_cpu_ns);
    return status;
}

/* ---- the step */

/* At a depth of 1 a step's parameters have the step before in them: they come back with its push, or behind it, while
 * the next batch is read. Else they are asked for before the step before computes, so that nothing waits for them, and
 * lack it. */
static enum lg_status read_batch_and_parameters(struct trainer *trainer, uint64_t epoch, struct sample_range range,
                                                struct lg_error *error) {
    enum lg_status status = trainer->ahead == AHEAD_NOTHING ? start_pull(trainer, error) : LG_OK;
    if (status == LG_OK)
        status = read_batch(trainer, epoch, range, error);
    if (status == LG_OK && trainer->job.pipeline == 1)
        status = settle_down_to(trainer, 0, error);
    if (status == LG_OK)
        status = take_parameters(trainer, error);
    if (status == LG_OK && trainer->job.pipeline > 1 && trainer->ranges.count > 0)
        status = start_pull(trainer, error);
    return status;
}

static enum lg_status count_copies(struct trainer *trainer, struct lg_error *error) {
    uint64_t ns, bytes;
    enum lg_status status = trainer_buffers_take_copies(&trainer->buffers, &ns, &bytes, error);
    meter_add_copies(&trainer->meter, ns, bytes + trainer->encoder.copied_bytes);
    trainer->encoder.copied_bytes = 0;
    return status;
}

static enum lg_status train_step(struct trainer *trainer, const struct lg_lease *lease, struct sample_range range,
                                 struct lg_error *error) {
    struct model_result result = {0};
    uint64_t start_ns = meter_clock_ns();
    enum lg_status status = read_batch_and_parameters(trainer, lease->epoch, range, error);
    trainer_push_turn(trainer);
    if (status == LG_OK && trainer->micro.sum) /* a batch in pieces goes backward before its forward pass is over */
        status = settle_down_to(trainer, trainer_push_depth(trainer) - 1, error);
    if (status == LG_OK)
        status = forward(trainer, &result, error);
    if (status == LG_OK)
        status = check_loss(trainer, &result, lease->epoch, range, error);
    if (status == LG_OK)
        status = settle_down_to(trainer, trainer_push_depth(trainer) - 1, error);
    if (status == LG_OK)
        status = trainer_push_backward(trainer, lease, range, error);
    if (status == LG_OK && trainer->ahead == AHEAD_NOTHING && trainer->ranges.count > 0)
        status = start_pull(trainer, error); /* connections keep their order: it brings what the push did */
    if (status == LG_OK)
        status = count_copies(trainer, error);
    meter_add_step(&trainer->meter, range.end - range.first, result.predictions, result.loss_sum, result.correct,
                   meter_clock_ns() - start_ns);
    meter_tick(&trainer->meter, trainer->client);
    return status;
}

/* ---- a round of local steps */

static enum lg_status local_backward(struct trainer *trainer, struct lg_error *error) {
    uint64_t start_ns = meter_clock_ns(), start_cpu_ns = meter_cpu_ns();
    enum lg_status status = model_backward(trainer->model, NULL, NULL, error);
    if (status == LG_OK) {
        trainer_micro_fold(&trainer->micro, 0, trainer->model->elements);
        trainer_push_clip(trainer, 0, trainer->model->tensor_count);
        trainer_push_clip_global(trainer);
        local_steps_take(&trainer->local, trainer->buffers.gradients);
    }
    trainer->backward_cpu_ns = meter_cpu_ns() - start_cpu_ns;
    trainer->meter.numbers.compute_ns += meter_clock_ns() - start_ns;
    return status;
}

/* One batch of a round. The first comes with fresh parameters, from which the trainer's own copy starts. */
static enum lg_status local_step(struct trainer *trainer, const struct lg_lease *lease, struct sample_range range,
                                 bool first, struct lg_error *error) {
    struct model_result result = {0};
    uint64_t start_ns = meter_clock_ns();
    enum lg_status status = first ? read_batch_and_parameters(trainer, lease->epoch, range, error)
                                  : read_batch(trainer, lease->epoch, range, error);
    if (status == LG_OK && first) {
        local_steps_begin(&trainer->local, trainer->buffers.parameters);
        model_use_parameters(trainer->model, trainer->local.parameters);
        trainer_push_turn(trainer);
    }
    if (status == LG_OK)
        status = forward(trainer, &result, error);
    if (status == LG_OK)
        status = check_loss(trainer, &result, lease->epoch, range, error);
    if (status == LG_OK)
        status = local_backward(trainer, error);
    meter_add_step(&trainer->meter, range.end - range.first, result.predictions, result.loss_sum, result.correct,
                   meter_clock_ns() - start_ns);
    meter_tick(&trainer->meter, trainer->client);
    return status;
}

static enum lg_status push_round(struct trainer *trainer, const struct lg_lease *lease, struct sample_range range,
                                 uint32_t steps, struct lg_error *error) {
    local_steps_result(&trainer->local, trainer->buffers.parameters, trainer->buffers.gradients);
    enum lg_status status = trainer_push_start(trainer, lease, range, steps, error);
    if (status == LG_OK)
        lg_push_ready(trainer->client, 0, trainer->model->tensor_count);
    return status;
}

static enum lg_status train_round(struct trainer *trainer, const struct lg_lease *lease, struct sample_range range,
                                  struct lg_error *error) {
    const uint64_t batch = (uint64_t)trainer->job.batch;
    enum lg_status status = LG_OK;
    uint32_t steps = 0;
    for (uint64_t at = range.first; status == LG_OK && at < range.end; at += batch, steps++) {
        const struct sample_range part = {at, at + batch < range.end ? at + batch : range.end};
        status = local_step(trainer, lease, part, steps == 0, error);
    }
    if (status == LG_OK)
        status = push_round(trainer, lease, range, steps, error);
    if (status == LG_OK && trainer->ahead == AHEAD_NOTHING && trainer->ranges.count > 0)
        status = start_pull(trainer, error);
    return status;
}

enum lg_status trainer_train(struct trainer *trainer, const struct lg_lease *lease, bool *whole,
                             struct lg_error *error) {
    struct sample_range range;
    trainer->ranges.count = 0;
    enum lg_status status =
        range_queue_put(&trainer->ranges, lease->first, lease->end, lease->cuts, lease->cut_count, error);
    while (status == LG_OK && !trainer_stop_asked()) {
        if (range_queue_take(&trainer->ranges, (uint64_t)(trainer->job.batch * trainer->job.local_steps), &range))
            status = trainer->job.local_steps > 1 ? train_round(trainer, lease, range, error)
                                                  : train_step(trainer, lease, range, error);
        else if (trainer->flying_count > 0) /* may bring pieces back */
            status = settle(trainer, error);
        else
            break;
    }
    *whole = status == LG_OK && trainer->ranges.count == 0 && trainer->flying_count == 0;
    if (status == LG_OK) /* where it was asked to stop: the step under way is finished */
        status = settle_down_to(trainer, 0, error);
    if (status == LG_OK && trainer->ahead == AHEAD_PULLED)
        status = finish_pull(trainer, error);
    trainer->ahead = AHEAD_NOTHING;
    return status;
}

/* ---- the other leases */

enum lg_status trainer_initialise(struct trainer *trainer, const struct lg_lease *lease, struct lg_error *error) {
    const struct lg_push push = {.lease = lease->lease, .fence = lease->fence, .initial = true};
    model_initialise(trainer->model, (uint64_t)trainer->job.seed, trainer->buffers.gradients);
    log_info("initialise", "setting %" PRIu64 " parameters to their initial values, seed %" PRId64,
             trainer->model->elements, trainer->job.seed);
    return lg_push(trainer->client, &push, trainer->buffers.gradients, NULL, error);
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
    enum lg_status status = trainer_buffers_pull_start(&trainer->buffers, trainer->client, error);
    if (status == LG_OK)
        status = trainer_buffers_pull_wait(&trainer->buffers, trainer->client, error);
    if (status == LG_OK)
        status = trainer_buffers_adopt(&trainer->buffers, error);
    for (; status == LG_OK && at < samples && !trainer_stop_asked(); at += batch) {
        uint64_t count = samples - at < batch ? samples - at : batch;
        status = evaluate_batch(trainer, lease->epoch, at, (uint32_t)count, &sums, error);
        meter_tick(&trainer->meter, trainer->client);
    }
    *whole = status == LG_OK && at >= samples;
    return *whole ? report_evaluation(trainer, lease, &sums, error) : status;
}
