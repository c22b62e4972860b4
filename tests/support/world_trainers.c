/* Fake trainers: join, take leases, apply a batch on every shard each step, report, leave. What is not answered is
 * asked again after a second with the same request number. */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/world_internal.h"

enum { AGAIN_MS = 1000, BATCH_LEAST = 8, BATCH_KINDS = 10 };

/* Trainers differ, so that a slice is never cut twice at the same places by chance. */
static uint64_t batch_of(const struct world_trainer *trainer) {
    return BATCH_LEAST + trainer->route % BATCH_KINDS;
}

struct world_trainer *world_trainer_new(struct world *world) {
    for (size_t i = 0; i < WORLD_TRAINERS; i++) {
        struct world_trainer *trainer = &world->trainers[i];
        if (trainer->used)
            continue;
        *trainer = (struct world_trainer){.there = true,
                                          .used = true,
                                          .agent = -1,
                                          .route = world->next_route++,
                                          .next_request = 1,
                                          .asked_ms = -AGAIN_MS,
                                          .step_ms = world->now_ms};
        return trainer;
    }
    ck_abort_msg("too many trainers");
    return NULL;
}

struct world_trainer *world_trainer_at(struct world *world, size_t n) {
    for (size_t i = 0; i < WORLD_TRAINERS; i++)
        if (world->trainers[i].there && n-- == 0)
            return &world->trainers[i];
    return NULL;
}

size_t world_trainer_count(const struct world *world) {
    size_t count = 0;
    for (size_t i = 0; i < WORLD_TRAINERS; i++)
        count += world->trainers[i].there;
    return count;
}

struct world_trainer *world_holder(struct world *world, enum wire_lease kind) {
    for (size_t i = 0; i < WORLD_TRAINERS; i++) {
        struct world_trainer *trainer = &world->trainers[i];
        if (trainer->there && trainer->state == WORLD_TRAINER_WORKING && trainer->lease_kind == kind)
            return trainer;
    }
    return NULL;
}

void world_kill_trainer(struct world *world, struct world_trainer *trainer, int code, int signal, const char *reason) {
    trainer->there = false;
    for (size_t i = 0; trainer->agent >= 0 && i < WORLD_TRAINERS; i++)
        if (!world->exits[i].used) {
            world->exits[i] = (struct world_exit){.used = true,
                                                  .agent = trainer->agent,
                                                  .trainer = trainer->number,
                                                  .request = ++world->next_request,
                                                  .code = code,
                                                  .signal = signal,
                                                  .sent_ms = -AGAIN_MS};
            snprintf(world->exits[i].reason, sizeof world->exits[i].reason, "%s", reason);
            return;
        }
}

struct world_trainer *world_join(struct world *world, const char *job, enum wire_role role) {
    struct world_trainer *trainer = world_trainer_new(world);
    trainer->role = role;
    trainer->job = (uint64_t)world_number(world, job, "id");
    return trainer;
}

/* ---- asking */

static void ask(struct world *world, struct world_trainer *trainer, struct wire_message *message) {
    if (trainer->request == 0)
        trainer->request = trainer->next_request++;
    message->request = trainer->request;
    trainer->asked_ms = world->now_ms;
    world_send(world, trainer->route, message);
}

static void ask_join(struct world *world, struct world_trainer *trainer) {
    char job[32];
    struct wire_message message = {.kind = WIRE_JOIN};
    snprintf(job, sizeof job, "%llu", (unsigned long long)trainer->job);
    message.join = (struct wire_join){.job = job,
                                      .role = trainer->role,
                                      .trainer = trainer->number,
                                      .token = trainer->token,
                                      .dataset_fingerprint = world->fingerprint,
                                      .train_samples = world->train_samples,
                                      .test_samples = world->test_samples,
                                      .batch = (uint32_t)batch_of(trainer),
                                      .device = "a device, as it calls itself"};
    if (trainer->role == WIRE_ROLE_TRAINER) {
        message.tensors = world->tensors;
        message.tensor_count = world->tensor_count;
    }
    ask(world, trainer, &message);
}

static void ask_lease(struct world *world, struct world_trainer *trainer) {
    struct wire_message message = {.kind = WIRE_LEASE_REQUEST};
    message.lease_request = (struct wire_lease_request){
        trainer->session, 1, trainer->steps ? (double)batch_of(trainer) * 1000 / (double)world->step_time_ms : 0};
    ask(world, trainer, &message);
}

static void report(struct world *world, struct world_trainer *trainer) {
    struct wire_message message = {.kind = WIRE_LEASE_DONE};
    message.lease_done = (struct wire_lease_done){trainer->session, 1, trainer->lease, trainer->fence};
    if (trainer->lease_kind == WIRE_LEASE_EVALUATE) {
        message.kind = WIRE_EVAL_REPORT;
        message.eval_report = (struct wire_eval_report){
            trainer->session, 1, trainer->lease, trainer->epoch, 0.25, 0.9, world->test_samples};
    }
    if (trainer->request == 0)
        trainer->report_request = trainer->next_request;
    ask(world, trainer, &message);
}

static void leave(struct world *world, struct world_trainer *trainer) {
    struct wire_message message = {.kind = WIRE_LEAVE, .request = trainer->next_request++};
    message.leave = (struct wire_leave){trainer->session, 1, "done"};
    world_send(world, trainer->route, &message);
    world_kill_trainer(world, trainer, 0, 0, "finished");
}

static void beat(struct world *world, struct world_trainer *trainer) {
    if (world->now_ms - trainer->beat_ms < 1000 || !trainer->session || trainer->silent)
        return;
    trainer->beat_ms = world->now_ms;
    struct wire_message message = {.kind = WIRE_TRAINER_BEAT, .request = trainer->next_request++};
    message.trainer_beat = (struct wire_trainer_beat){.session = trainer->session,
                                                      .incarnation = 1,
                                                      .steps = trainer->steps,
                                                      .samples = trainer->samples,
                                                      .loss = 0.5,
                                                      .samples_per_second = 100,
                                                      .state = "training",
                                                      .parked = trainer->parked};
    world_send(world, trainer->route, &message);
}

/* ---- working */

/* The end of the batch at `at`: full, or up to the next cut. */
static uint64_t batch_end(const struct world_trainer *trainer) {
    uint64_t end = trainer->at + batch_of(trainer) < trainer->end ? trainer->at + batch_of(trainer) : trainer->end;
    for (size_t i = 0; i < trainer->cut_count; i++)
        if (trainer->cuts[i] > trainer->at && trainer->cuts[i] < end)
            end = trainer->cuts[i];
    return end;
}

static bool step_train(struct world *world, struct world_trainer *trainer) {
    uint64_t end = batch_end(trainer);
    size_t shards = trainer->stuck_after_half ? 1 : trainer->shard_count;
    for (size_t i = 0; i < shards; i++) {
        enum lg_status status =
            world_apply(world, trainer->shards[i], trainer->job, trainer->session, trainer->epoch, trainer->at, end);
        if (status == LG_UNAVAILABLE)
            return false; /* the same batch again later */
        if (status == LG_FENCED) {
            trainer->refused = status;
            world_kill_trainer(world, trainer, 4, 0, "fenced by a shard");
            return false;
        }
    }
    if (trainer->stuck_after_half) {
        world_kill_trainer(world, trainer, 0, 9, "killed by signal 9 (Killed)");
        return false;
    }
    trainer->samples += end - trainer->at;
    trainer->steps++;
    trainer->at = end;
    return true;
}

static void work(struct world *world, struct world_trainer *trainer) {
    if (trainer->frozen || world->now_ms - trainer->step_ms < world->step_time_ms)
        return;
    if (trainer->lease_kind == WIRE_LEASE_TRAIN && trainer->at < trainer->end) {
        if (step_train(world, trainer))
            trainer->step_ms = world->now_ms;
        return;
    }
    if (trainer->report_request == 0 || world->now_ms - trainer->asked_ms >= AGAIN_MS)
        report(world, trainer);
}

static void step(struct world *world, struct world_trainer *trainer) {
    bool again = trainer->request == 0 || world->now_ms - trainer->asked_ms >= AGAIN_MS;
    beat(world, trainer);
    if (!trainer->there)
        return;
    switch (trainer->state) {
    case WORLD_TRAINER_JOINING:
        if (again && world->now_ms >= trainer->retry_ms && !world->keep_trainers_from_joining)
            ask_join(world, trainer);
        break;
    case WORLD_TRAINER_IDLE:
        if (trainer->role != WIRE_ROLE_OBSERVER && again && world->now_ms >= trainer->retry_ms && !trainer->frozen)
            ask_lease(world, trainer);
        break;
    case WORLD_TRAINER_WORKING:
        work(world, trainer);
        break;
    case WORLD_TRAINER_DONE:
        leave(world, trainer);
        break;
    }
}

void world_trainers_tick(struct world *world) {
    for (size_t i = 0; i < WORLD_TRAINERS; i++)
        if (world->trainers[i].there)
            step(world, &world->trainers[i]);
}

/* ---- answers */

static void take_join(struct world *world, struct world_trainer *trainer, const struct wire_message *message) {
    const struct wire_join_reply *reply = &message->join_reply;
    trainer->request = 0;
    if (trainer->state != WORLD_TRAINER_JOINING)
        return;
    if (reply->status == LG_UNAVAILABLE) {
        trainer->retry_ms = world->now_ms + (int64_t)reply->retry_ms;
        snprintf(trainer->reason, sizeof trainer->reason, "%s", reply->reason);
        return;
    }
    if (reply->status != LG_OK) {
        trainer->refused = (enum lg_status)reply->status;
        snprintf(trainer->reason, sizeof trainer->reason, "%s", reply->reason);
        world_kill_trainer(world, trainer, 3, 0, reply->reason);
        return;
    }
    ck_assert_uint_ge(reply->shard_count, 1);
    ck_assert_uint_ge(message->tensor_count, 1);
    trainer->session = reply->session;
    trainer->map_version = reply->map_version;
    trainer->shard_count = reply->shard_count;
    for (size_t i = 0; i < reply->shard_count; i++) {
        trainer->shards[i] = reply->shards[i].shard;
        ck_assert_int_eq(strncmp(reply->shards[i].endpoint, "tcp://", 6), 0);
    }
    trainer->state = WORLD_TRAINER_IDLE;
}

static void take_grant(struct world *world, struct world_trainer *trainer, const struct wire_lease_grant *grant) {
    trainer->request = 0;
    if (trainer->state != WORLD_TRAINER_IDLE)
        return;
    if (grant->status != LG_OK) {
        trainer->refused = (enum lg_status)grant->status;
        snprintf(trainer->reason, sizeof trainer->reason, "%s", grant->reason);
        world_kill_trainer(world, trainer, grant->status == LG_CANCELLED ? 0 : 4, 0, grant->reason);
        return;
    }
    if (grant->kind == WIRE_LEASE_WAIT) {
        trainer->retry_ms = world->now_ms + (int64_t)grant->retry_ms;
        return;
    }
    trainer->lease_kind = grant->kind;
    trainer->lease = grant->lease;
    trainer->fence = grant->fence;
    trainer->epoch = grant->epoch;
    trainer->first = trainer->at = grant->first;
    trainer->end = grant->end;
    ck_assert_uint_le(grant->cut_count, sizeof trainer->cuts / sizeof *trainer->cuts);
    trainer->cut_count = grant->cut_count;
    if (grant->cut_count > 0)
        memcpy(trainer->cuts, grant->cuts, grant->cut_count * sizeof *grant->cuts);
    trainer->step_ms = world->now_ms;
    trainer->report_request = 0;
    trainer->state = grant->kind == WIRE_LEASE_FINISHED ? WORLD_TRAINER_DONE : WORLD_TRAINER_WORKING;
}

static void take_ack(struct world *world, struct world_trainer *trainer, const struct wire_ack *ack) {
    bool evaluated = trainer->lease_kind == WIRE_LEASE_EVALUATE;
    if (trainer->state != WORLD_TRAINER_WORKING)
        return;
    trainer->request = trainer->report_request = 0;
    trainer->state = WORLD_TRAINER_IDLE;
    if (ack->status != LG_OK) {
        trainer->refused = (enum lg_status)ack->status;
        snprintf(trainer->reason, sizeof trainer->reason, "%s", ack->reason);
        world_kill_trainer(world, trainer, ack->status == LG_CANCELLED ? 0 : 4, 0, ack->reason);
    }
    world->evaluations += evaluated && ack->status == LG_OK;
}

bool world_trainer_receive(struct world *world, uint64_t route, const struct wire_message *message) {
    struct world_trainer *trainer = NULL;
    for (size_t i = 0; i < WORLD_TRAINERS; i++)
        if (world->trainers[i].there && world->trainers[i].route == route)
            trainer = &world->trainers[i];
    if (!trainer)
        return route >= ROUTE_TRAINER;
    if (message->kind == WIRE_TRAINER_BEAT_REPLY) {
        if (message->trainer_beat_reply.status != LG_OK) {
            trainer->refused = (enum lg_status)message->trainer_beat_reply.status;
            snprintf(trainer->reason, sizeof trainer->reason, "%s", message->trainer_beat_reply.reason);
            world_kill_trainer(world, trainer, trainer->refused == LG_CANCELLED ? 0 : 4, 0, "told to end");
        }
        return true;
    }
    if (trainer->request == 0 || message->request != trainer->request)
        return true; /* a late copy */
    if (message->kind == WIRE_JOIN_REPLY)
        take_join(world, trainer, message);
    else if (message->kind == WIRE_LEASE_GRANT)
        take_grant(world, trainer, &message->lease_grant);
    else if (message->kind == WIRE_ACK)
        take_ack(world, trainer, &message->ack);
    else
        ck_abort_msg("a trainer got %s", wire_kind_name(message->kind));
    return true;
}
