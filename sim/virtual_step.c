/* What a worker does with a lease, as a trainer does (worker/trainer_step.c), with a clock in place of the machine:
 * pull, compute for as long as a step takes, push. */
#include "sim/virtual_worker.h"

#include <stdlib.h>
#include <string.h>

static int64_t ns_of(double seconds) {
    return (int64_t)(seconds * SIM_NS_PER_S);
}

static bool alone(const struct virtual_worker *worker) {
    return worker->simulation->options.sequential;
}

/* Batches that one push covers, and the time that they take. */
static uint64_t round_samples(const struct virtual_worker *worker) {
    return (uint64_t)(worker->simulation->job.batch * worker->simulation->job.local_steps);
}

static size_t pipeline(const struct virtual_worker *worker) {
    return alone(worker) ? 1 : (size_t)worker->simulation->job.pipeline;
}

/* ---- pushes and pulls */

static uint32_t steps_of(const struct virtual_worker *worker) {
    uint64_t batch = (uint64_t)worker->simulation->job.batch, samples = worker->batch.end - worker->batch.first;
    return samples > batch ? (uint32_t)((samples + batch - 1) / batch) : 1;
}

static bool push(struct virtual_worker *worker, enum wire_push_kind kind, float *gradients, float *into) {
    struct simulation *simulation = worker->simulation;
    struct worker_flight *flight = &worker->flights[worker->flight_count];
    struct lg_error error = {0};
    const struct wire_cover cover = {.lease = worker->lease.lease,
                                     .fence = worker->lease.fence,
                                     .epoch = worker->lease.epoch,
                                     .first = worker->batch.first,
                                     .end = worker->batch.end,
                                     .samples = worker->batch.end - worker->batch.first};
    const struct session_push what = {.clock = ++worker->clock,
                                      .kind = kind,
                                      .samples = cover.samples,
                                      .local_steps = steps_of(worker),
                                      .covers = &cover,
                                      .cover_count = kind != WIRE_PUSH_KIND_INITIAL,
                                      .gradients = gradients,
                                      .computed_from =
                                          kind == WIRE_PUSH_KIND_INITIAL ? NULL : worker->parameters[worker->current],
                                      .parameters = into};
    *flight = (struct worker_flight){.range = worker->batch, .gradients = gradients};
    enum lg_status status = session_push_open(worker->session, &what, simulation->now_ns, &flight->ticket, &error);
    if (status != LG_OK) {
        compute_give_buffer(simulation, gradients);
        if (status != LG_FENCED)
            simulation_fail(simulation, status, "worker %u cannot push: %s", worker->index, error.message);
        return false;
    }
    worker->flight_count++;
    session_push_ready(worker->session, 0, simulation->model->tensor_count, simulation->now_ns);
    return true;
}

bool worker_initialise(struct virtual_worker *worker) {
    float *values = compute_take_buffer(worker->simulation);
    if (!values)
        return false;
    model_initialise(worker->simulation->model, (uint64_t)worker->simulation->job.seed, values);
    worker->batch = (struct sample_range){0};
    return push(worker, WIRE_PUSH_KIND_INITIAL, values, NULL);
}

static void pull(struct virtual_worker *worker) {
    struct simulation *simulation = worker->simulation;
    struct lg_error error = {0};
    enum lg_status status =
        session_pull_open(worker->session, worker->parameters[1 - worker->current], simulation->now_ns, &error);
    if (status == LG_OK)
        worker->ahead = AHEAD_PULLED;
    else if (status != LG_FENCED)
        simulation_fail(simulation, status, "worker %u cannot pull: %s", worker->index, error.message);
}

static void poll_pull(struct virtual_worker *worker) {
    struct lg_error error = {0};
    if (worker->ahead != AHEAD_PULLED)
        return;
    enum lg_status status = session_pull_poll(worker->session, &error);
    if (status == LG_OK)
        worker->ahead = AHEAD_THERE;
    else if (status != LG_UNAVAILABLE && status != LG_FENCED)
        simulation_fail(worker->simulation, status, "a pull of worker %u failed: %s", worker->index, error.message);
}

/* What a push came to. */
static void count_push(struct virtual_worker *worker, struct sample_range range,
                       const struct session_push_result *result) {
    struct sim_outcome *outcome = worker->simulation->outcome;
    if (worker->state == WORKER_SETTING || (result->units_applied == 0 && !result->dropped))
        return;
    outcome->dropped += result->dropped;
    if (!spread_add(&outcome->spread, result->staleness_max, result->dropped ? 0 : (double)result->weight_min,
                    range.end - range.first))
        simulation_fail(worker->simulation, LG_NO_MEMORY, "no memory for statistics");
}

static void settled(struct virtual_worker *worker, struct sample_range range,
                    const struct session_push_result *result) {
    struct lg_error error = {0};
    count_push(worker, range, result);
    if (range_queue_put(&worker->ranges, range.first, result->cut_count > 0 ? range.end : range.first, result->cuts,
                        result->cut_count, &error) != LG_OK)
        simulation_fail(worker->simulation, error.status, "%s", error.message);
    if (worker->state == WORKER_SETTING) {
        worker_report_lease(worker);
        worker->state = WORKER_LEASING;
    }
}

/* The oldest push, and those behind it, as far as they are answered. */
static void settle(struct virtual_worker *worker) {
    struct simulation *simulation = worker->simulation;
    while (worker->flight_count > 0) {
        struct session_push_result result = {0};
        struct lg_error error = {0};
        struct worker_flight flight = worker->flights[0];
        enum lg_status status = session_push_poll(worker->session, flight.ticket, &result, &error);
        if (status == LG_UNAVAILABLE || status == LG_FENCED)
            return;
        compute_give_buffer(simulation, flight.gradients);
        worker->flight_count--;
        memmove(worker->flights, worker->flights + 1, worker->flight_count * sizeof *worker->flights);
        if (status == LG_NONFINITE) {
            simulation->outcome->diverged = true;
            simulation_end(simulation, "diverged: a gradient is not finite");
        } else if (status != LG_OK) {
            simulation_fail(simulation, status, "a push of worker %u failed: %s", worker->index, error.message);
        } else {
            settled(worker, flight.range, &result);
        }
        if (worker->ahead == AHEAD_PUSHED && worker->flight_count == 0)
            worker->ahead = AHEAD_THERE;
        if (worker->flight_count == 0)
            turn_pass(worker);
    }
}

/* ---- the step */

static bool brings_parameters(const struct virtual_worker *worker) {
    return !worker_mode_has(worker, CONSISTENCY_READS) && pipeline(worker) == 1 && !alone(worker) &&
           worker->ranges.count > 0 && strcmp(worker->simulation->job.push_pull, "no") != 0;
}

/* With less than a second of the lease left, the next one is asked for, as the client library does. */
static void look_ahead(struct virtual_worker *worker) {
    if ((double)(worker->lease.end - worker->batch.end) <= worker->rate)
        worker_ask(worker);
}

static bool push_gradient(struct virtual_worker *worker) {
    struct simulation *simulation = worker->simulation;
    float *into = brings_parameters(worker) ? worker->parameters[1 - worker->current] : NULL;
    if (worker->flight_count + 1 > pipeline(worker))
        return false;
    float *gradients = compute_take_buffer(simulation);
    if (!gradients)
        return false;
    if (!compute_push(worker, gradients)) {
        compute_give_buffer(simulation, gradients);
        simulation->outcome->diverged = true;
        simulation_end(simulation, "diverged: the loss is not finite");
        return false;
    }
    worker->state = WORKER_READY;
    if (!push(worker, simulation->job.local_steps > 1 ? WIRE_PUSH_KIND_DELTA : WIRE_PUSH_KIND_GRADIENT, gradients,
              into))
        return false;
    if (into)
        worker->ahead = AHEAD_PUSHED;
    else if (worker->ahead == AHEAD_NONE && worker->ranges.count > 0 && !alone(worker))
        pull(worker); /* connections keep their order: it brings what the push did */
    double took_s = (double)(simulation->now_ns - worker->step_ns) / SIM_NS_PER_S;
    uint64_t samples = worker->batch.end - worker->batch.first;
    double rate = took_s > 0 ? (double)samples / took_s : 0;
    worker->rate = worker->rate > 0 ? 0.8 * worker->rate + 0.2 * rate : rate;
    worker->step_ns = simulation->now_ns;
    worker->steps++;
    worker->samples += samples;
    look_ahead(worker);
    return true;
}

/* Where no other lease follows at once, the shards hear first that this worker pushes nothing more for now. */
static bool lease_end(struct virtual_worker *worker) {
    if (worker->state != WORKER_RESTING && !(worker->next.there && worker->next.kind == WIRE_LEASE_TRAIN)) {
        worker_rest(worker, false);
        worker->rested = true;
        worker->state = WORKER_RESTING;
    }
    if (worker->state == WORKER_RESTING && worker_mode_has(worker, CONSISTENCY_RESTS) &&
        !session_at_rest(worker->session))
        return false;
    worker_report_lease(worker);
    worker->state = WORKER_LEASING;
    return true;
}

static int64_t round_ns(struct virtual_worker *worker) {
    double seconds = 0;
    for (uint32_t i = 0; i < steps_of(worker); i++)
        seconds += step_times_draw(&worker->simulation->times[worker->class], &worker->random, &worker->place);
    return ns_of(seconds);
}

static bool next_batch(struct virtual_worker *worker) {
    if (worker->ranges.count == 0) {
        if (worker->flight_count > 0 || worker->ahead == AHEAD_PULLED)
            return false;
        worker->ahead = AHEAD_NONE;
        return lease_end(worker);
    }
    if ((alone(worker) && worker->flight_count > 0) || !turn_take(worker))
        return false;
    if (worker->ahead == AHEAD_NONE)
        pull(worker);
    if ((pipeline(worker) == 1 && worker->flight_count > 0) || worker->ahead != AHEAD_THERE)
        return false;
    worker->current = 1 - worker->current;
    worker->ahead = AHEAD_NONE;
    range_queue_take(&worker->ranges, round_samples(worker), &worker->batch);
    if (pipeline(worker) > 1 && worker->ranges.count > 0)
        pull(worker);
    worker->state = WORKER_COMPUTING;
    worker_later(worker, round_ns(worker), EVENT_COMPUTED);
    return false;
}

void worker_computed(struct virtual_worker *worker) {
    worker->state = WORKER_COMPUTED;
    worker_drive(worker);
}

void worker_drive(struct virtual_worker *worker) {
    const struct simulation *simulation = worker->simulation;
    bool more = true;
    while (more && worker->session && !simulation->over) {
        if (session_status(worker->session, NULL) != LG_OK) {
            worker_rejoin(worker);
            return;
        }
        settle(worker);
        poll_pull(worker);
        more = false;
        if (simulation->over)
            return;
        if (worker->state == WORKER_LEASING)
            more = worker_begin_lease(worker);
        else if (worker->state == WORKER_READY)
            more = next_batch(worker);
        else if (worker->state == WORKER_COMPUTED)
            more = push_gradient(worker);
        else if (worker->state == WORKER_RESTING)
            more = lease_end(worker);
    }
}
