#include "worker/trainer.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/log.h"
#include "worker/trainer_saved.h"
#include "worker/trainer_step.h"
#include "worker/trainer_stop.h"

/* ---- opening what the job names */

static bool begins(const char *text, const char *prefix) {
    return strncmp(text, prefix, strlen(prefix)) == 0;
}

/* Every key of the specification must mean something to somebody; the shards read their own. */
static enum lg_status check_keys(struct trainer *trainer, struct lg_error *error) {
    struct config *spec = trainer->handover->spec;
    const struct option_table *tables[] = {&job_table, trainer->model->kind->options, trainer->dataset->kind->options};
    const char *prefixes[] = {"", "model.", "dataset."};
    for (size_t i = 0; i < spec->count; i++)
        if (begins(spec->entries[i].key, "updater.") || begins(spec->entries[i].key, "local.updater.") ||
            begins(spec->entries[i].key, "staleness."))
            spec->entries[i].used = true;
    return option_check_unused(spec, tables, prefixes, 3, error);
}

/* Language models take as many tokens as their memory was made for; others evaluate faster in larger batches. Where
 * memory is short, all are small. */
static uint32_t largest_batch(const struct trainer *trainer) {
    enum { EVALUATION_BATCH = 128 };
    int64_t batch = trainer->job.batch, micro = trainer->job.micro_batch;
    if (micro > 0)
        return (uint32_t)(micro < batch ? micro : batch);
    if (trainer->dataset->info.form != DATASET_TOKENS && batch < EVALUATION_BATCH)
        batch = EVALUATION_BATCH;
    return (uint32_t)batch;
}

static enum lg_status open_work(struct trainer *trainer, struct lg_error *error) {
    const struct trainer_handover *handover = trainer->handover;
    struct config *spec = handover->spec;
    int64_t threads = 0;
    enum lg_status status = job_configure(spec, &trainer->job, error);
    if (status == LG_OK && !config_find(spec, "model.kind"))
        status = config_set(spec, "model.kind", trainer->job.model, "default", error);
    if (status == LG_OK) {
        trainer->clip = clip_parse(trainer->job.clip);
        threads = trainer->job.threads > 0 ? trainer->job.threads : handover->threads;
        status = dataset_open(spec, &trainer->dataset, error);
    }
    if (status == LG_OK)
        status = device_open(handover->device, (unsigned)threads, &trainer->device, error);
    if (status == LG_OK)
        status = model_create(spec, &trainer->dataset->info, trainer->device, largest_batch(trainer), &trainer->model,
                              error);
    if (status == LG_OK)
        status = check_keys(trainer, error);
    if (status == LG_OK)
        status = trainer_step_init(trainer, error);
    if (status == LG_OK)
        meter_describe(&trainer->meter, trainer->dataset->info.form == DATASET_TOKENS,
                       trainer->model->flops_per_prediction, trainer->device);
    if (status == LG_OK)
        log_info("opened",
                 "job \"%s\": model %s, %" PRIu64 " parameters, on %s; dataset %s, %" PRIu64 " + %" PRIu64 " samples",
                 trainer->job.name, trainer->model->kind->name, trainer->model->elements, trainer->device->name,
                 trainer->dataset->kind->name, trainer->dataset->info.train_samples,
                 trainer->dataset->info.test_samples);
    return status;
}

static enum lg_status join(struct trainer *trainer, struct lg_error *error) {
    const struct trainer_handover *handover = trainer->handover;
    char job[24];
    snprintf(job, sizeof job, "%" PRId64, handover->job);
    const struct lg_client_options options = {
        .coordinator = handover->coordinator,
        .job = job,
        .role = LG_ROLE_TRAINER,
        .trainer = (uint64_t)handover->trainer,
        .token = handover->token,
        .tensors = trainer->model->tensors,
        .tensor_count = trainer->model->tensor_count,
        .dataset_fingerprint = trainer->dataset->info.fingerprint,
        .train_samples = trainer->dataset->info.train_samples,
        .test_samples = trainer->dataset->info.test_samples,
        .batch = (uint32_t)trainer->job.batch,
        .device = trainer->device->name,
    };
    meter_set_state(&trainer->meter, "joining");
    trainer_stop_idle(true);
    enum lg_status status = lg_client_open(&options, &trainer->client, error);
    trainer_stop_idle(false);
    if (status == LG_OK)
        trainer_saved_take(handover, trainer->client);
    return status == LG_OK ? trainer_step_join(trainer, error) : status;
}

/* ---- working */

/* Waiting for the rest of an epoch counts as communication. Waiting for the job to begin, for an epoch that others
 * finish or evaluate, or for its end does not: there is no work then, however fast anything travels. */
static enum lg_status next_lease(struct trainer *trainer, struct lg_lease *lease, struct lg_error *error) {
    const struct lg_lease before = *lease;
    uint64_t start_ns = meter_clock_ns();
    meter_tick(&trainer->meter, trainer->client);
    trainer_stop_idle(true);
    enum lg_status status = lg_lease_next(trainer->client, lease, error);
    trainer_stop_idle(false);
    if (before.kind == LG_LEASE_TRAIN && lease->kind == LG_LEASE_TRAIN && before.epoch == lease->epoch &&
        before.lease != 0)
        meter_add_wait(&trainer->meter, meter_clock_ns() - start_ns);
    return status;
}

static void show_state(struct trainer *trainer, const char *state) {
    if (strcmp(trainer->meter.numbers.state, state) != 0)
        meter_set_state(&trainer->meter, state);
}

static enum lg_status work_on(struct trainer *trainer, const struct lg_lease *lease, struct lg_error *error) {
    bool whole = true;
    enum lg_status status = LG_OK;
    switch (lease->kind) {
    case LG_LEASE_TRAIN:
        show_state(trainer, "training");
        status = trainer_train(trainer, lease, &whole, error);
        break;
    case LG_LEASE_EVALUATE:
        show_state(trainer, "evaluating");
        return trainer_evaluate(trainer, lease, &whole, error); /* its report ends the lease */
    case LG_LEASE_INITIALISE:
        show_state(trainer, "initialising");
        status = trainer_initialise(trainer, lease, error);
        break;
    case LG_LEASE_FINISHED:
        return LG_OK;
    }
    meter_flush(&trainer->meter, trainer->client);
    return status == LG_OK && whole ? lg_lease_done(trainer->client, lease, error) : status;
}

static enum lg_status work(struct trainer *trainer, struct lg_error *error) {
    struct lg_lease lease = {0};
    enum lg_status status = LG_OK;
    while (status == LG_OK && lease.kind != LG_LEASE_FINISHED && !trainer_stop_asked()) {
        status = next_lease(trainer, &lease, error);
        if (status == LG_OK)
            status = work_on(trainer, &lease, error);
    }
    return status;
}

/* ---- ending */

/* Before the job was joined, what fails is its configuration, unless the machine is short of something. */
static int exit_code_of(enum lg_status status, bool joined) {
    switch (status) {
    case LG_OK:
    case LG_CANCELLED:
        return TRAINER_EXIT_DONE;
    case LG_FENCED:
    case LG_DENIED:
        return TRAINER_EXIT_FENCED;
    case LG_NONFINITE:
        return TRAINER_EXIT_CONFIGURATION;
    case LG_NO_MEMORY:
    case LG_TIMEOUT:
    case LG_UNAVAILABLE:
    case LG_INTERNAL:
        return TRAINER_EXIT_FAILED;
    default:
        return joined ? TRAINER_EXIT_FAILED : TRAINER_EXIT_CONFIGURATION;
    }
}

static void say_end(const struct trainer *trainer, enum lg_status status, int code, const struct lg_error *error) {
    const struct trainer_numbers *numbers = &trainer->meter.numbers;
    if (code == TRAINER_EXIT_DONE && status == LG_OK)
        log_info("done", "%s after %" PRIu64 " steps, %" PRIu64 " samples",
                 trainer_stop_asked() ? "stopped as asked" : "the job is finished", numbers->steps, numbers->samples);
    else if (code == TRAINER_EXIT_DONE)
        log_info("done", "stopped: %s", error->message);
    else
        log_error("failed", "%s", error->message);
    if (code != TRAINER_EXIT_DONE)
        meter_say_reason(&trainer->meter, error->message);
}

/* For the next trainer of the job here. */
static void leave_residual(struct trainer *trainer) {
    struct lg_error error = {0};
    if (trainer_encoder_hand_over(&trainer->encoder, trainer->client, &error) == LG_OK)
        trainer_saved_put(trainer->handover, trainer->client);
    else
        log_warn("residual-lost", "what the codec has kept back of the gradients is lost: %s", error.message);
}

int trainer_run(struct trainer_handover *handover, int numbers_fd) {
    struct trainer trainer = {.handover = handover};
    struct lg_error error = {0};
    enum log_level level = LOG_LEVEL_INFO;
    if (log_level_parse(handover->log_level, &level) == LG_OK)
        log_init("trainer", level);
    trainer_stop_install();
    meter_init(&trainer.meter, numbers_fd);
    enum lg_status status = open_work(&trainer, &error);
    if (status == LG_OK)
        status = join(&trainer, &error);
    bool joined = status == LG_OK;
    if (status == LG_OK)
        status = work(&trainer, &error);
    if (joined && status == LG_OK && trainer_stop_asked())
        leave_residual(&trainer);
    if (joined)
        meter_flush(&trainer.meter, trainer.client);
    int code = trainer_stop_asked() ? TRAINER_EXIT_DONE : exit_code_of(status, joined);
    trainer_step_leave(&trainer);
    lg_client_close(&trainer.client, code == TRAINER_EXIT_DONE ? NULL : error.message);
    say_end(&trainer, status, code, &error);
    trainer_step_deinit(&trainer);
    model_destroy(trainer.model);
    device_close(trainer.device);
    dataset_close(trainer.dataset);
    return code;
}

int trainer_main(void) {
    struct trainer_handover handover;
    struct lg_error error = {0};
    int code = TRAINER_EXIT_FAILED;
    log_init("trainer", LOG_LEVEL_INFO);
    if (trainer_begin(&handover, &error) == LG_OK)
        code = trainer_run(&handover, TRAINER_NUMBERS_FD);
    else
        log_error("failed", "%s", error.message);
    trainer_handover_deinit(&handover);
    return code;
}
