/* A worker: joins, takes leases, hears. What it does with a lease is in virtual_step.c. */
#include "sim/virtual_worker.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { REJOIN_MS = 1000 };

#define NS_PER_MS INT64_C(1000000)

void worker_later(const struct virtual_worker *worker, int64_t delay_ns, enum event_kind kind) {
    simulation_at(worker->simulation, worker->simulation->now_ns + delay_ns,
                  (struct event){.kind = (uint16_t)kind, .worker = worker->index, .life = worker->life});
}

static int64_t ns_of(double seconds) {
    return (int64_t)(seconds * SIM_NS_PER_S);
}

bool worker_mode_has(const struct virtual_worker *worker, unsigned flags) {
    return consistency_has(worker->simulation->job.consistency, flags);
}

/* So that nobody waits for pushes of a worker that has nothing to train on. `applied`: until all shards have applied
 * what it pushed, it is not at rest. */
void worker_rest(struct virtual_worker *worker, bool applied) {
    if (worker_mode_has(worker, CONSISTENCY_RESTS))
        session_rest(worker->session, applied, worker->simulation->now_ns);
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
void worker_rejoin(struct virtual_worker *worker) {
    leave_off(worker);
    worker->state = WORKER_AWAY;
    worker_later(worker, REJOIN_MS * NS_PER_MS, EVENT_JOIN);
}

void worker_lose(struct virtual_worker *worker) {
    struct simulation *simulation = worker->simulation;
    simulation->outcome->losses++;
    leave_off(worker);
    worker->state = WORKER_AWAY;
    worker_later(worker, ns_of(step_times_exponential(&worker->random, simulation->options.loss_away)), EVENT_JOIN);
}

static void welcome(struct virtual_worker *worker, const struct wire_message *message) {
    struct simulation *simulation = worker->simulation;
    const struct wire_join_reply *reply = &message->join_reply;
    double every_s = simulation->classes.classes[worker->class].loss_every_s;
    if (reply->status == LG_UNAVAILABLE) {
        worker_later(worker, (int64_t)reply->retry_ms * NS_PER_MS, EVENT_JOIN);
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
            worker_later(worker, ns_of(step_times_exponential(&worker->random, every_s)), EVENT_LOSE);
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
        worker_rejoin(worker);
        return;
    }
    if (from->kind == WIRE_LEASE_WAIT) { /* counts as asked until it asks again */
        worker_later(worker, (int64_t)from->retry_ms * NS_PER_MS, EVENT_ASK);
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

void worker_report_lease(struct virtual_worker *worker) {
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

/* Begins what was leased; false while there is nothing. */
bool worker_begin_lease(struct virtual_worker *worker) {
    struct simulation *simulation = worker->simulation;
    struct lg_error error = {0};
    if (!worker->next.there) {
        worker_ask(worker);
        if (!worker->rested)
            worker_rest(worker, false);
        worker->rested = true;
        return false;
    }
    worker->lease = worker->next;
    worker->next = (struct worker_lease){0};
    worker->rested = worker->lease.kind != WIRE_LEASE_TRAIN;
    if (worker->rested)
        worker_rest(worker, true);
    else if (worker_mode_has(worker, CONSISTENCY_RESTS))
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
        return worker_initialise(worker);
    case WIRE_LEASE_EVALUATE:
        evaluate(worker);
        return false;
    default:
        worker->state = WORKER_FINISHED;
        simulation_end(simulation, "all epochs are done");
        return false;
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
            worker_rejoin(worker);
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
