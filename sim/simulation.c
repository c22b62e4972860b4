/* The clock of a simulation, and what happens when. */
#include "sim/simulation.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "sim/simulation_state.h"

enum { PROGRESS_EVENTS = 1 << 12, STANDSTILL_STEPS = 1000 };

#define NS_PER_MS INT64_C(1000000)

void simulation_fail(struct simulation *simulation, enum lg_status status, const char *format, ...) {
    va_list args;
    simulation->over = true;
    if (simulation->failure.status != LG_OK)
        return;
    simulation->failure.status = status;
    va_start(args, format);
    vsnprintf(simulation->failure.message, sizeof simulation->failure.message, format, args);
    va_end(args);
}

void simulation_end(struct simulation *simulation, const char *format, ...) {
    va_list args;
    if (simulation->over)
        return;
    simulation->over = true;
    va_start(args, format);
    vsnprintf(simulation->outcome->end, sizeof simulation->outcome->end, format, args);
    va_end(args);
}

void simulation_at(struct simulation *simulation, int64_t at_ns, struct event event) {
    event.at_ns = at_ns > simulation->now_ns ? at_ns : simulation->now_ns;
    if (event_queue_push(&simulation->queue, event))
        return;
    letter_free(event.letter);
    simulation_fail(simulation, LG_NO_MEMORY, "no memory for one more event");
}

double simulation_seconds(const struct simulation *simulation) {
    return simulation->trained ? (double)(simulation->now_ns - simulation->origin_ns) / SIM_NS_PER_S : 0;
}

/* ---- who comes when */

static double start_s(const struct simulation *simulation, const struct virtual_worker *worker) {
    double at_s = simulation->classes.classes[worker->class].start_s;
    if (strcmp(simulation->options.start, "spread") == 0)
        at_s += simulation->times[worker->class].mean_s * worker->index / simulation->worker_count;
    return at_s;
}

void simulation_begin(struct simulation *simulation) {
    simulation->trained = true;
    simulation->origin_ns = simulation->now_ns;
    compute_evaluate(simulation);
    for (uint32_t i = 0; i < simulation->worker_count; i++) {
        struct virtual_worker *worker = &simulation->workers[i];
        int64_t at_ns = simulation->now_ns + (int64_t)(start_s(simulation, worker) * SIM_NS_PER_S);
        if (!worker->session) /* the first has joined, to set the initial values */
            simulation_at(simulation, at_ns,
                          (struct event){.kind = EVENT_JOIN, .worker = worker->index, .life = worker->life});
    }
}

/* ---- events */

static void evaluate_if_due(struct simulation *simulation) {
    uint64_t samples = simulation->shards[simulation->lead].samples;
    uint64_t every = (uint64_t)simulation->options.evaluate_every;
    if (every == 0)
        every = simulation->dataset->info.train_samples;
    if (samples < simulation->next_evaluation + every)
        return;
    simulation->next_evaluation = samples - samples % every;
    compute_evaluate(simulation);
}

static void stop_if_due(struct simulation *simulation) {
    const struct sim_options *options = &simulation->options;
    const struct virtual_shard *lead = &simulation->shards[simulation->lead];
    if (options->stop_samples > 0 && lead->samples >= (uint64_t)options->stop_samples)
        simulation_end(simulation, "%llu samples were applied", (unsigned long long)lead->samples);
    if (options->stop_updates > 0 && lead->updates >= (uint64_t)options->stop_updates)
        simulation_end(simulation, "%llu updates were made", (unsigned long long)lead->updates);
    if (options->stop_time > 0 && simulation_seconds(simulation) >= options->stop_time)
        simulation_end(simulation, "%g s of simulated time went by", options->stop_time);
}

static void tick(struct simulation *simulation) {
    for (uint32_t i = 0; i < simulation->worker_count && !simulation->over; i++)
        worker_tick(&simulation->workers[i]);
    cluster_tick(simulation);
    simulation_at(simulation, simulation->now_ns + SIM_TICK_MS * NS_PER_MS, (struct event){.kind = EVENT_TICK});
    stop_if_due(simulation);
}

static void to_worker(struct simulation *simulation, const struct event *event) {
    struct virtual_worker *worker = &simulation->workers[event->worker];
    struct wire_message message;
    struct lg_error error = {0};
    if (letter_read(event->letter, simulation->arena, &message, &error) != LG_OK)
        simulation_fail(simulation, error.status, "worker %u cannot read a message: %s", worker->index, error.message);
    else if (event->kind == EVENT_FROM_CORE)
        worker_hear_core(worker, &message);
    else
        worker_hear_shard(worker, event->slot, &message);
}

/* Events of a worker that has been away since are for nobody. */
static void worker_event(struct simulation *simulation, const struct event *event) {
    struct virtual_worker *worker = &simulation->workers[event->worker];
    if (worker->life != event->life)
        return;
    switch ((enum event_kind)event->kind) {
    case EVENT_JOIN:
        worker_join(worker);
        break;
    case EVENT_COMPUTED:
        worker_computed(worker);
        break;
    case EVENT_DRIVE:
        worker_drive(worker);
        break;
    case EVENT_ASK:
        worker->asked = false;
        worker_ask(worker);
        break;
    case EVENT_LOSE:
        worker_lose(worker);
        break;
    default:
        to_worker(simulation, event);
    }
}

static void handle(struct simulation *simulation, const struct event *event) {
    switch ((enum event_kind)event->kind) {
    case EVENT_TO_SHARD:
        cluster_shard_receive(simulation, event);
        evaluate_if_due(simulation);
        stop_if_due(simulation);
        break;
    case EVENT_COMMAND:
        cluster_shard_receive(simulation, event);
        break;
    case EVENT_TO_CORE:
        cluster_core_receive(simulation, event->letter);
        break;
    case EVENT_TICK:
        tick(simulation);
        break;
    default:
        worker_event(simulation, event);
    }
}

/* ---- the run */

static double share_done(const struct simulation *simulation) {
    const struct sim_options *options = &simulation->options;
    const struct virtual_shard *lead = &simulation->shards[simulation->lead];
    double total = (double)simulation->job.epochs * (double)simulation->dataset->info.train_samples;
    double share = (double)lead->samples / total;
    if (options->stop_samples > 0)
        share = fmax(share, (double)lead->samples / (double)options->stop_samples);
    if (options->stop_updates > 0)
        share = fmax(share, (double)lead->updates / (double)options->stop_updates);
    if (options->stop_time > 0)
        share = fmax(share, simulation_seconds(simulation) / options->stop_time);
    return fmin(share, 1);
}

static void look_up(struct simulation *simulation) {
    const struct sim_setup *setup = simulation->setup;
    if (setup->interrupted && *setup->interrupted)
        simulation_fail(simulation, LG_CANCELLED, "interrupted");
    if (setup->progress)
        setup->progress(setup->context, share_done(simulation), simulation->shards[simulation->lead].samples,
                        simulation->accuracy);
}

/* A world in which nothing is applied any more would tick on for ever. */
static void notice_standstill(struct simulation *simulation, uint64_t *samples, int64_t *since_ns) {
    const struct virtual_shard *lead = &simulation->shards[simulation->lead];
    double slowest_s = 1;
    if (lead->samples != *samples || !simulation->trained) {
        *samples = lead->samples;
        *since_ns = simulation->now_ns;
        return;
    }
    for (size_t i = 0; i < simulation->classes.count; i++)
        slowest_s = fmax(slowest_s, fmax(simulation->times[i].mean_s, simulation->classes.classes[i].start_s / 100));
    if ((double)(simulation->now_ns - *since_ns) > STANDSTILL_STEPS * slowest_s * SIM_NS_PER_S)
        simulation_fail(simulation, LG_TIMEOUT, "nothing was applied for %.0f simulated seconds: it will never end",
                        (double)(simulation->now_ns - *since_ns) / SIM_NS_PER_S);
}

static void run(struct simulation *simulation) {
    struct event event;
    uint64_t samples = 0;
    int64_t since_ns = simulation->now_ns;
    worker_join(&simulation->workers[0]);
    simulation_at(simulation, simulation->now_ns, (struct event){.kind = EVENT_TICK});
    while (!simulation->over && event_queue_pop(&simulation->queue, &event)) {
        simulation->now_ns = event.at_ns;
        handle(simulation, &event);
        letter_free(event.letter);
        if (++simulation->outcome->events % PROGRESS_EVENTS == 0)
            look_up(simulation);
        if (event.kind == EVENT_TICK)
            notice_standstill(simulation, &samples, &since_ns);
    }
}

static enum lg_status put(struct simulation *simulation, const char *key, uint64_t value, struct lg_error *error) {
    char text[32];
    snprintf(text, sizeof text, "%llu", (unsigned long long)value);
    return config_set(simulation->config, key, text, "simulator", error);
}

/* Keys of the job that follow from those of the simulator. */
static enum lg_status complete_job(struct simulation *simulation, struct lg_error *error) {
    const struct sim_options *o = &simulation->options;
    bool stops = o->stop_samples > 0 || o->stop_updates > 0 || o->stop_time > 0 || o->stop_accuracy > 0;
    enum lg_status status = put(simulation, "seed", simulation->setup->seed, error);
    if (status == LG_OK)
        status = put(simulation, "evaluate.every_epochs", 0, error);
    if (status == LG_OK && !config_find(simulation->config, "workers"))
        status = put(simulation, "workers", simulation->classes.workers < 10000 ? simulation->classes.workers : 10000,
                     error);
    if (status == LG_OK && stops && !config_find(simulation->config, "train.epochs"))
        status = put(simulation, "train.epochs", 100000, error);
    return status;
}

static enum lg_status read_options(struct simulation *simulation, struct lg_error *error) {
    enum lg_status status = sim_configure(simulation->config, &simulation->options, &simulation->classes, error);
    if (status == LG_OK)
        status = complete_job(simulation, error);
    if (status == LG_OK)
        status = job_configure(simulation->config, &simulation->job, error);
    if (status == LG_OK)
        status = sim_check_mode(&simulation->options, simulation->job.mode, error);
    for (size_t i = 0; status == LG_OK && i < simulation->classes.count; i++)
        status = step_times_init(&simulation->times[i], &simulation->options, &simulation->classes.classes[i], error);
    return status;
}

/* All but the keys that start with `without`. */
static enum lg_status copy_config(struct config **out, const struct config *from, const char *without,
                                  struct lg_error *error) {
    enum lg_status status = LG_OK;
    *out = config_new();
    if (!*out)
        return lg_fail(error, LG_NO_MEMORY, "no memory for the options");
    for (size_t i = 0; status == LG_OK && i < from->count; i++) {
        const struct config_entry *entry = &from->entries[i];
        if (strncmp(entry->key, without, strlen(without)) != 0)
            status = config_set(*out, entry->key, entry->value, entry->origin, error);
    }
    return status;
}

/* The job's specification has no keys of the simulator. */
static enum lg_status drop_sim_keys(struct simulation *simulation, struct lg_error *error) {
    struct config *job = NULL;
    enum lg_status status = copy_config(&job, simulation->config, "sim.", error);
    if (status == LG_OK && !config_find(job, "name"))
        status = config_set(job, "name", "simulated", "simulator", error);
    config_free(simulation->config);
    simulation->config = job;
    return status;
}

static enum lg_status open_workers(struct simulation *simulation, struct lg_error *error) {
    const struct sim_classes *classes = &simulation->classes;
    simulation->worker_count = classes->workers;
    simulation->workers = calloc(classes->workers, sizeof *simulation->workers);
    simulation->arena = wire_arena_new((size_t)16 << 20);
    if (!simulation->workers || !simulation->arena)
        return lg_fail(error, LG_NO_MEMORY, "no memory for %u workers", classes->workers);
    uint32_t index = 0;
    for (uint32_t class = 0; class < classes->count; class ++)
        for (uint32_t i = 0; i < classes->classes[class].count; i++, index++)
            worker_init(&simulation->workers[index], simulation, index, class);
    return LG_OK;
}

static void finish(struct simulation *simulation) {
    struct sim_outcome *outcome = simulation->outcome;
    const struct virtual_shard *lead = &simulation->shards[simulation->lead];
    bool stopped = simulation->failure.status != LG_OK && simulation->failure.status != LG_CANCELLED;
    if (!stopped && simulation->trained)
        compute_evaluate(simulation);
    outcome->samples = lead->samples;
    outcome->updates = lead->updates;
    outcome->time_s = simulation_seconds(simulation);
    outcome->learning_rate = simulation->job.learning_rate;
    outcome->shard_count = simulation->shard_count;
    for (uint32_t i = 0; i < simulation->shard_count; i++)
        shard_stats(simulation->shards[i].shard, &outcome->shards[i], 1);
    look_up(simulation);
}

static void simulation_close(struct simulation *simulation) {
    event_queue_deinit(&simulation->queue);
    for (uint32_t i = 0; simulation->workers && i < simulation->worker_count; i++)
        worker_deinit(&simulation->workers[i]);
    event_queue_deinit(&simulation->queue);
    free(simulation->workers);
    cluster_close(simulation);
    compute_close(simulation);
    wire_arena_free(simulation->arena);
    for (size_t i = 0; i < simulation->classes.count; i++)
        step_times_deinit(&simulation->times[i]);
    config_free(simulation->config);
    free(simulation);
}

static double wall_s(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static enum lg_status simulate_once(const struct sim_setup *setup, struct sim_outcome *out, struct lg_error *error) {
    struct simulation *simulation = calloc(1, sizeof *simulation);
    double began_s = wall_s();
    *out = (struct sim_outcome){.target_s = NAN, .target_samples = NAN, .mean_weight_before = NAN};
    if (!simulation)
        return lg_fail(error, LG_NO_MEMORY, "no memory for a simulation");
    simulation->setup = setup;
    simulation->outcome = out;
    simulation->now_ns = SIM_EPOCH_NS;
    enum lg_status status = copy_config(&simulation->config, setup->config, "grid.", error);
    if (status == LG_OK)
        status = read_options(simulation, error);
    if (status == LG_OK)
        status = drop_sim_keys(simulation, error);
    if (status == LG_OK)
        status = compute_open(simulation, error);
    if (status == LG_OK)
        status = open_workers(simulation, error);
    if (status == LG_OK)
        status = cluster_open(simulation, error);
    if (status == LG_OK && simulation->failure.status == LG_OK) {
        run(simulation);
        finish(simulation);
    }
    if (status == LG_OK && simulation->failure.status != LG_OK)
        status = lg_fail(error, simulation->failure.status, "%s", simulation->failure.message);
    out->wall_s = wall_s() - began_s;
    simulation_close(simulation);
    return status;
}

/* ---- controls */

/* The same again at a constant weight: the mean of what was measured. */
static enum lg_status simulate_mean_weight(const struct sim_setup *setup, struct sim_outcome *out,
                                           struct lg_error *error) {
    struct sim_outcome before;
    struct config *config = NULL;
    char rate[64];
    enum lg_status status = simulate_once(setup, &before, error);
    double weight = spread_weight_mean(&before.spread), base = before.learning_rate;
    sim_outcome_deinit(&before);
    *out = (struct sim_outcome){.target_s = NAN, .target_samples = NAN};
    if (status == LG_OK)
        status = copy_config(&config, setup->config, "staleness.", error);
    snprintf(rate, sizeof rate, "%.17g", base * weight);
    if (status == LG_OK)
        status = config_set(config, "staleness.policy", "constant", "sim.control", error);
    if (status == LG_OK)
        status = config_set(config, "lr.base", rate, "sim.control", error);
    if (status == LG_OK) {
        struct sim_setup again = *setup;
        again.config = config;
        status = simulate_once(&again, out, error);
        out->mean_weight_before = weight;
    }
    config_free(config);
    return status;
}

enum lg_status simulate(const struct sim_setup *setup, struct sim_outcome *out, struct lg_error *error) {
    const char *control = config_text(setup->config, "sim.control", "none");
    if (strcmp(control, "mean_weight") == 0)
        return simulate_mean_weight(setup, out, error);
    return simulate_once(setup, out, error);
}

void sim_outcome_deinit(struct sim_outcome *outcome) {
    free(outcome->curve);
    spread_deinit(&outcome->spread);
    *outcome = (struct sim_outcome){0};
}
