/* A worker: joins, takes leases, and goes through them as a trainer does (worker/trainer_step.c), with a clock in place
 * of the machine: pull, compute for as long as a step takes, push. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sim/simulation_state.h"

enum { REJOIN_MS = 1000 };

#define NS_PER_MS INT64_C(1000000)

static void later(const struct virtual_worker *worker, int64_t delay_ns, enum event_kind kind) {
    simulation_at(worker->simulation, worker->simulation->now_ns + delay_ns,
                  (struct event){.kind = (uint16_t)kind, .worker = worker->index, .life = worker->life});
}

static int64_t ns_of(double seconds) {
    return (int64_t)(seconds * SIM_NS_PER_S);
}

static bool alone(const struct virtual_worker *worker) {
    return worker->simulation->options.sequential;
}

static bool mode_has(const struct virtual_worker *worker, unsigned flags) {
    return consistency_has(worker->simulation->job.consistency, flags);
}

/* So that nobody waits for pushes of a worker that has nothing to train on. `applied`: until all shards have applied
 * what it pushed, it is not at rest. */
static void rest(struct virtual_worker *worker, bool applied) {
    if (mode_has(worker, CONSISTENCY_RESTS))
        session_rest(worker->session, applied, worker->simulation->now_ns);
}

/* Batches that one push covers, and the time that they take. */
static uint64_t round_samples(const struct virtual_worker *worker) {
    return (uint64_t)(worker->simulation->job.batch * worker->simulation->job.local_steps);
}

static size_t pipeline(const struct virtual_worker *worker) {
    return alone(worker) ? 1 : (size_t)worker->simulation->job.pipeline;
}

/* ---- taking turns */

static bool turn_take(struct virtual_worker *worker) {
    struct simulation *simulation = worker->simulation;
    if (!alone(worker) || worker->turn)
        return true;
    if (worker->queued)
        return false;
    if (!simulation->turn_taken) {
        simulation->turn_taken = worker->turn = true;
        return true;
    }
    worker->queued = true;
    worker->after = NULL;
    if (simulation->turn_last)
        simulation->turn_last->after = worker;
    else
        simulation->turn_first = worker;
    simulation->turn_last = worker;
    return false;
}

static void turn_pass(struct virtual_worker *worker) {
    struct simulation *simulation = worker->simulation;
    if (!worker->turn)
        return;
    worker->turn = simulation->turn_taken = false;
    struct virtual_worker *next = simulation->turn_first;
    if (!next)
        return;
    simulation->turn_first = next->after;
    if (!next->after)
        simulation->turn_last = NULL;
    next->queued = false;
    next->turn = simulation->turn_taken = true;
    later(next, 0, EVENT_DRIVE);
}

static void turn_leave(struct virtual_worker *worker) {
    struct simulation *simulation = worker->simulation;
    struct virtual_worker *before = NULL;
    turn_pass(worker);
    for (struct virtual_worker *w = simulation->turn_first; worker->queued && w; before = w, w = w->after) {
        if (w != worker)
            continue;
        if (before)
            before->after = w->after;
        else
            simulation->turn_first = w->after;
        if (simulation->turn_last == w)
            simulation->turn_last = before;
        worker->queued = false;
    }
}

/* ---- life */

void worker_init(struct virtual_worker *worker, struct simulation *simulation, uint32_t index, uint32_t class) {
    *worker = (struct virtual_worker){.simulation = simulation, .index = index, .class = class};
    random_init_stream(&worker->random, simulation->setup->seed, index + UINT64_C(1));
    worker->place = step_times_place(&simulation->times[class], &worker->random);
}

static void lease_drop(struct worker_lease *lease) {
    free(lease->cuts);
    *lease = (struct worker_lease){0};
}

/* What it was at is gone with it. */
static void leave_off(struct virtual_worker *worker) {
    worker_session_close(worker);
    lease_drop(&worker->lease);
    lease_drop(&worker->next);
    worker->ranges.count = 0;
    worker->ahead = AHEAD_NONE;
    worker->asked = worker->rested = false;
    turn_leave(worker);
}

void worker_deinit(struct virtual_worker *worker) {
    leave_off(worker);
    range_queue_deinit(&worker->ranges);
    local_steps_deinit(&worker->local);
    free(worker->slots);
    free(worker->parameters[0]);
    free(worker->parameters[1]);
}

static bool need_local_steps(struct virtual_worker *worker) {
    struct simulation *simulation = worker->simulation;
    struct lg_error error = {0};
    local_steps_deinit(&worker->local); /* its optimizer starts anew with each life */
    if (simulation->job.local_steps == 1 ||
        local_steps_init(&worker->local, simulation->config, &simulation->job, simulation->model->tensors,
                         simulation->model->tensor_count, &error) == LG_OK)
        return true;
    simulation_fail(simulation, error.status, "%s", error.message);
    return false;
}

static bool need_parameters(struct virtual_worker *worker) {
    size_t bytes = (worker->simulation->model->elements * sizeof(float) + 63) / 64 * 64;
    for (size_t i = 0; i < 2; i++)
        if (!worker->parameters[i])
            worker->parameters[i] = aligned_alloc(64, bytes);
    if (worker->parameters[0] && worker->parameters[1])
        return true;
    simulation_fail(worker->simulation, LG_NO_MEMORY, "no memory for the parameters of worker %u", worker->index);
    return false;
}

static uint64_t send(struct virtual_worker *worker, struct wire_message *message) {
    message->request = ++worker->requests;
    network_to_core(worker, message);
    return message->request;
}

void worker_join(struct virtual_worker *worker) {
    struct simulation *simulation = worker->simulation;
    const struct dataset_info *info = &simulation->dataset->info;
    char job[32];
    snprintf(job, sizeof job, "%llu", (unsigned long long)simulation->job_id);
    struct wire_message message = {.kind = WIRE_JOIN,
                                   .join = {.job = job,
                                            .role = WIRE_ROLE_TRAINER,
                                            .dataset_fingerprint = info->fingerprint,
                                            .train_samples = info->train_samples,
                                            .test_samples = info->test_samples,
                                            .batch = (uint32_t)simulation->job.batch,
                                            .device = "simulated"},
                                   .tensors = simulation->model->tensors,
                                   .tensor_count = simulation->model->tensor_count};
    worker->state = WORKER_JOINING;
    if (need_parameters(worker) && need_local_steps(worker))
        worker->join_request = send(worker, &message);
}

/* The coordinator has ended the session: as when an agent starts the trainer again. */
static void rejoin(struct virtual_worker *worker) {
    leave_off(worker);
    worker->state = WORKER_AWAY;
    later(worker, REJOIN_MS * NS_PER_MS, EVENT_JOIN);
}

void worker_lose(struct virtual_worker *worker) {
    struct simulation *simulation = worker->simulation;
    simulation->outcome->losses++;
    leave_off(worker);
    worker->state = WORKER_AWAY;
    later(worker, ns_of(step_times_exponential(&worker->random, simulation->options.loss_away)), EVENT_JOIN);
}

static void welcome(struct virtual_worker *worker, const struct wire_message *message) {
    struct simulation *simulation = worker->simulation;
    const struct wire_join_reply *reply = &message->join_reply;
    double every_s = simulation->classes.classes[worker->class].loss_every_s;
    if (reply->status == LG_UNAVAILABLE) {
        later(worker, (int64_t)reply->retry_ms * NS_PER_MS, EVENT_JOIN);
    } else if (reply->status == LG_CANCELLED && simulation->trained) {
        worker->state = WORKER_FINISHED;
    } else if (reply->status != LG_OK) {
        simulation_fail(simulation, (enum lg_status)reply->status, "worker %u may not join: %s", worker->index,
                        reply->reason);
    } else if (worker_session_open(worker, message)) {
        simulation->outcome->joins++;
        worker->state = WORKER_LEASING;
        worker->clock = 0;
        worker->step_ns = simulation->now_ns;
        if (every_s > 0)
            later(worker, ns_of(step_times_exponential(&worker->random, every_s)), EVENT_LOSE);
        worker_ask(worker);
    }
}

/* ---- leases */

void worker_ask(struct virtual_worker *worker) {
    struct wire_message message = {.kind = WIRE_LEASE_REQUEST,
                                   .lease_request = {worker->id, worker->incarnation, worker->rate}};
    if (worker->asked || worker->next.there || !worker->session)
        return;
    worker->asked = true;
    worker->lease_request = send(worker, &message);
}

static void grant(struct virtual_worker *worker, const struct wire_lease_grant *from) {
    struct worker_lease *lease = &worker->next;
    if (from->status != LG_OK) {
        rejoin(worker);
        return;
    }
    if (from->kind == WIRE_LEASE_WAIT) { /* counts as asked until it asks again */
        later(worker, (int64_t)from->retry_ms * NS_PER_MS, EVENT_ASK);
        return;
    }
    worker->asked = false;
    *lease = (struct worker_lease){.there = true,
                                   .kind = from->kind,
                                   .lease = from->lease,
                                   .fence = from->fence,
                                   .epoch = from->epoch,
                                   .first = from->first,
                                   .end = from->end,
                                   .cut_count = from->cut_count};
    lease->cuts = from->cut_count > 0 ? malloc(from->cut_count * sizeof *lease->cuts) : NULL;
    if (from->cut_count > 0 && !lease->cuts)
        simulation_fail(worker->simulation, LG_NO_MEMORY, "no memory for a lease");
    else if (from->cut_count > 0)
        memcpy(lease->cuts, from->cuts, from->cut_count * sizeof *lease->cuts);
}

static void lease_report(struct virtual_worker *worker) {
    struct wire_message message = {
        .kind = WIRE_LEASE_DONE,
        .lease_done = {worker->id, worker->incarnation, worker->lease.lease, worker->lease.fence}};
    send(worker, &message);
    lease_drop(&worker->lease);
}

/* The evaluation at the end of the job. */
static void evaluate(struct virtual_worker *worker) {
    struct simulation *simulation = worker->simulation;
    const struct sim_outcome *outcome = simulation->outcome;
    compute_evaluate(simulation);
    if (outcome->curve_count == 0)
        return;
    const struct sim_point *point = &outcome->curve[outcome->curve_count - 1];
    struct wire_message message = {.kind = WIRE_EVAL_REPORT,
                                   .eval_report = {.session = worker->id,
                                                   .incarnation = worker->incarnation,
                                                   .lease = worker->lease.lease,
                                                   .epoch = worker->lease.epoch,
                                                   .loss = point->loss,
                                                   .accuracy = point->accuracy,
                                                   .predictions = simulation->dataset->info.test_samples}};
    send(worker, &message);
    lease_drop(&worker->lease);
    worker_ask(worker);
}

static bool initialise(struct virtual_worker *worker);

/* Begins what was leased; false while there is nothing. */
static bool lease_begin(struct virtual_worker *worker) {
    struct simulation *simulation = worker->simulation;
    struct lg_error error = {0};
    if (!worker->next.there) {
        worker_ask(worker);
        if (!worker->rested)
            rest(worker, false);
        worker->rested = true;
        return false;
    }
    worker->lease = worker->next;
    worker->next = (struct worker_lease){0};
    worker->rested = worker->lease.kind != WIRE_LEASE_TRAIN;
    if (worker->rested)
        rest(worker, true);
    else if (mode_has(worker, CONSISTENCY_RESTS))
        session_work(worker->session);
    switch (worker->lease.kind) {
    case WIRE_LEASE_TRAIN:
        worker->state = WORKER_READY;
        if (range_queue_put(&worker->ranges, worker->lease.first, worker->lease.end, worker->lease.cuts,
                            worker->lease.cut_count, &error) != LG_OK)
            simulation_fail(simulation, error.status, "%s", error.message);
        if (worker->rate <= 0) /* no telling when this one ends */
            worker_ask(worker);
        return true;
    case WIRE_LEASE_INITIALISE:
        worker->state = WORKER_SETTING;
        return initialise(worker);
    case WIRE_LEASE_EVALUATE:
        evaluate(worker);
        return false;
    default:
        worker->state = WORKER_FINISHED;
        simulation_end(simulation, "all epochs are done");
        return false;
    }
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

static bool initialise(struct virtual_worker *worker) {
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
        lease_report(worker);
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
    return !mode_has(worker, CONSISTENCY_READS) && pipeline(worker) == 1 && !alone(worker) &&
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
        rest(worker, false);
        worker->rested = true;
        worker->state = WORKER_RESTING;
    }
    if (worker->state == WORKER_RESTING && mode_has(worker, CONSISTENCY_RESTS) && !session_at_rest(worker->session))
        return false;
    lease_report(worker);
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
    later(worker, round_ns(worker), EVENT_COMPUTED);
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
            rejoin(worker);
            return;
        }
        settle(worker);
        poll_pull(worker);
        more = false;
        if (simulation->over)
            return;
        if (worker->state == WORKER_LEASING)
            more = lease_begin(worker);
        else if (worker->state == WORKER_READY)
            more = next_batch(worker);
        else if (worker->state == WORKER_COMPUTED)
            more = push_gradient(worker);
        else if (worker->state == WORKER_RESTING)
            more = lease_end(worker);
    }
}

/* ---- what it hears */

void worker_hear_shard(struct virtual_worker *worker, uint32_t slot, const struct wire_message *message) {
    session_receive(worker->session, slot, message, worker->simulation->now_ns);
    worker_drive(worker);
}

/* The first worker's initial values are in place: training begins. */
static void take_ack(struct virtual_worker *worker, const struct wire_ack *ack) {
    if (!worker->simulation->trained && ack->status == LG_OK)
        simulation_begin(worker->simulation);
}

void worker_hear_core(struct virtual_worker *worker, const struct wire_message *message) {
    switch (message->kind) {
    case WIRE_JOIN_REPLY:
        if (worker->state == WORKER_JOINING && message->request == worker->join_request)
            welcome(worker, message);
        break;
    case WIRE_LEASE_GRANT:
        if (worker->asked && message->request == worker->lease_request)
            grant(worker, &message->lease_grant);
        break;
    case WIRE_TRAINER_BEAT_REPLY:
        if (message->trainer_beat_reply.status != LG_OK && worker->session)
            rejoin(worker);
        break;
    case WIRE_ACK:
        take_ack(worker, &message->ack);
        break;
    default:
        break;
    }
    worker_drive(worker);
}

void worker_tick(struct virtual_worker *worker) {
    const struct simulation *simulation = worker->simulation;
    int64_t silent_ns = simulation->now_ns - worker->said_ns;
    if (!worker->session)
        return;
    session_tick(worker->session, simulation->now_ns);
    if (silent_ns < simulation->options.notice_ms * NS_PER_MS / 3)
        return;
    struct wire_message message = {.kind = WIRE_TRAINER_BEAT,
                                   .trainer_beat = {.session = worker->id,
                                                    .incarnation = worker->incarnation,
                                                    .steps = worker->steps,
                                                    .samples = worker->samples,
                                                    .samples_per_second = worker->rate,
                                                    .state = "training"}};
    send(worker, &message);
}
