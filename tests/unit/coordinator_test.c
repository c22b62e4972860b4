/* A job's life as the coordinator's core sees it, with nothing going wrong, and what it refuses. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/log.h"
#include "server/coordinator/core.h"
#include "tests/support/world.h"

static void expect_refused(const struct world *world, enum lg_status status, const char *text) {
    ck_assert_int_eq(world->reply.kind, WIRE_SUBMIT_REPLY);
    ck_assert_uint_eq(world->reply.submit_reply.status, status);
    ck_assert_msg(strstr(world->reply_text, text) != NULL, "expected \"%s\" in \"%s\"", text, world->reply_text);
}

START_TEST(a_job_runs_from_submission_to_its_ledger) {
    struct world *world = world_new(1);
    world_populate(world);
    uint64_t job = world_submit(world, "name=first;train.batch=16;train.epochs=3");
    ck_assert_uint_eq(job, 1);
    ck_assert_str_eq(world_text(world, "first", "state"), "queued");
    world_until(world, "first", "running", 5000);
    world_advance(world, 1000);
    ck_assert_uint_eq(world_trainer_count(world), 3);
    world_until(world, "first", "finished", 60000);
    world_expect_exact(world, job, 3);
    ck_assert_uint_eq(world->repeats, 0);
    ck_assert_uint_eq(world->evaluations, 3);
    ck_assert_int_eq(world_number(world, "first", "samples_applied"), 3 * WORLD_SAMPLES);
    ck_assert(world_history_has(world, "first", "applied exactly once on all shards"));
    ck_assert(world_history_has(world, "first", "finished after"));
    ck_assert_int_eq(world_number(world, "first", "slices_taken_over"), 0);
    world_advance(world, 2000); /* trainers leave by themselves */
    ck_assert_uint_eq(world_trainer_count(world), 0);
    ck_assert_uint_eq(world_sessions(world, job), 0);
    ck_assert(world_holds(world, job)); /* for export */
    world_free(world);
}
END_TEST

START_TEST(a_specification_is_checked) {
    struct world *world = world_new(1);
    ck_assert_uint_eq(world_submit(world, "name=a;updater.kind=sdg"), 0);
    expect_refused(world, LG_INVALID, "sdg");
    world_submit(world, "name=a;updater.kind=momentum;updater.momentun=0.9");
    expect_refused(world, LG_INVALID, "momentun");
    world_submit(world, "name=a;staleness.policy=none");
    expect_refused(world, LG_INVALID, "none");
    world_submit(world, "name=a;train.batch=0");
    expect_refused(world, LG_INVALID, "train.batch");
    world_submit(world, "name=a;train.bacth=8");
    expect_refused(world, LG_INVALID, "train.batch"); /* the suggestion */
    world_submit(world, "name=a b");
    expect_refused(world, LG_INVALID, "a b");
    /* models and datasets have options of their own */
    ck_assert_uint_ne(world_submit(world, "name=a;model.hidden=64,32;dataset.noise=0.1"), 0);
    world_free(world);
}
END_TEST

/* What experiment E2 saw collapse is remarked on, with the command that shows it; what it did not is let be. */
START_TEST(momentum_on_many_workers_is_remarked_on) {
    static const struct {
        const char *keys;
        size_t warnings;
    } cases[] = {
        {"updater.kind=momentum;staleness.policy=constant;workers=8", 1},
        {"updater.kind=nesterov;staleness.policy=cutoff;workers=30", 1},
        {"updater.kind=momentum;staleness.policy=delay-adaptive;workers=8", 1},
        {"updater.kind=momentum;staleness.policy=dc-asgd;workers=8", 1},
        {"updater.kind=momentum;staleness.policy=polynomial;workers=30", 0},
        {"updater.kind=momentum;staleness.policy=gap-aware;workers=30", 0},
        {"updater.kind=momentum;staleness.policy=constant;workers=7", 0},
        {"updater.kind=momentum;updater.beta=0.5;staleness.policy=constant;workers=30", 0},
        {"updater.kind=adam;staleness.policy=constant;workers=30", 0},
        {"updater.kind=momentum;staleness.policy=constant;consistency.mode=bsp;workers=30", 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct world *world = world_new(1);
        world_add_server(world, 0, "s", 1, 1 << 30);
        world_add_agent(world, 0, "w", 30);
        world_advance(world, 500);
        ck_assert_uint_ne(world_submit(world, "name=a;%s", cases[i].keys), 0);
        ck_assert_msg(world->warning_count == cases[i].warnings, "%s: %zu", cases[i].keys, world->warning_count);
        world_free(world);
    }
    struct world *world = world_new(1);
    world_add_server(world, 0, "s", 1, 1 << 30);
    world_add_agent(world, 0, "w", 9);
    world_advance(world, 500);
    world_submit(world, "name=a;updater.kind=momentum;staleness.policy=constant"); /* workers: the slots there are */
    ck_assert_uint_eq(world->warning_count, 1);
    world_free(world);
}
END_TEST

/* A slice is never less than what one push is about, also where that takes longer than a slice should. */
START_TEST(slices_hold_whole_rounds_of_local_steps) {
    struct world *world = world_new(3);
    world_populate(world);
    uint64_t job = world_submit(world, "name=rounds;train.batch=8;train.local_steps=20;lease.duration=10ms");
    ck_assert_uint_ne(job, 0);
    bool seen = false;
    for (int step = 0; step < 400 && strcmp(world_text(world, "rounds", "state"), "finished") != 0; step++) {
        world_advance(world, 50);
        json_t *document = world_ask(world, "job", "rounds"), *leases = json_object_get(document, "leases"), *lease;
        size_t i;
        json_array_foreach(leases, i, lease) {
            uint64_t first = (uint64_t)json_integer_value(json_object_get(lease, "first")),
                     end = (uint64_t)json_integer_value(json_object_get(lease, "end"));
            ck_assert(end - first >= 160 || end == world->train_samples);
            seen = true;
        }
        json_decref(document);
    }
    ck_assert(seen);
    world_expect_exact(world, job, 1);
    world_free(world);
}
END_TEST

START_TEST(names_are_unique_among_live_jobs) {
    struct world *world = world_new(1);
    ck_assert_uint_eq(world_submit(world, "name=a"), 1);
    ck_assert_uint_eq(world_submit(world, "name=a"), 0);
    expect_refused(world, LG_EXISTS, "called \"a\" already");
    world_cancel(world, "a");
    ck_assert_uint_eq(world_submit(world, "name=a"), 2);
    ck_assert_int_eq(world_number(world, "a", "id"), 2); /* the newest wins */
    ck_assert_int_eq(world_number(world, "1", "id"), 1);
    ck_assert_str_eq(world_text(world, "1", "state"), "cancelled");
    ck_assert_uint_eq(world_submit(world, "model.kind=cnn"), 3);
    ck_assert_str_eq(world->reply_name, "cnn-3");
    world_free(world);
}
END_TEST

START_TEST(a_repeated_submission_makes_one_job) {
    struct world *world = world_new(1);
    const struct wire_pair pair = {"name", "once"};
    struct wire_message message = {.kind = WIRE_SUBMIT, .request = 5};
    message.submit = (struct wire_submit){&pair, 1, false};
    for (int i = 0; i < 3; i++) {
        world_say(world, ROUTE_CLI, &message);
        ck_assert_uint_eq(world->reply.submit_reply.status, LG_OK);
        ck_assert_uint_eq(world->reply.submit_reply.job, 1);
    }
    world_say(world, ROUTE_CLI + 1, &message); /* another program with the same numbers */
    expect_refused(world, LG_EXISTS, "once");
    world_free(world);
}
END_TEST

START_TEST(a_submission_to_an_empty_cluster_warns_and_waits) {
    struct world *world = world_new(1);
    world_submit(world, "name=a");
    ck_assert_uint_eq(world->warning_count, 2); /* no server, no worker */
    world_advance(world, 300);
    ck_assert_ptr_nonnull(strstr(world_text(world, "a", "reason"), "server"));
    world_add_server(world, 0, "s", 1, 1 << 30);
    world_advance(world, 500);
    ck_assert_ptr_nonnull(strstr(world_text(world, "a", "reason"), "worker"));
    world_add_agent(world, 0, "w", 2);
    world_until(world, "a", "finished", 60000);
    world_free(world);
}
END_TEST

START_TEST(jobs_get_slots_in_order_of_submission) {
    struct world *world = world_new(1);
    world_populate(world);
    world_submit(world, "name=one;workers=1");
    world_submit(world, "name=two;workers=1;train.epochs=2");
    world_submit(world, "name=rest");
    world_submit(world, "name=late");
    world_advance(world, 1000);
    ck_assert_uint_eq(world_trainer_count(world), 3);
    json_t *jobs = world_ask(world, "jobs", "");
    for (size_t i = 0; i < 4; i++)
        ck_assert_int_eq(json_integer_value(json_object_get(json_array_get(jobs, i), "trainers")), i < 3);
    json_decref(jobs);
    const char *names[] = {"one", "two", "rest", "late"};
    for (uint64_t i = 0; i < 4; i++) {
        world_until(world, names[i], "finished", 200000);
        world_expect_exact(world, i + 1, i == 1 ? 2 : 1);
    }
    world_free(world);
}
END_TEST

START_TEST(a_job_without_test_samples_is_not_evaluated) {
    struct world *world = world_new(1);
    world->test_samples = 0;
    world_populate(world);
    world_submit(world, "name=a");
    world_until(world, "a", "finished", 60000);
    ck_assert_uint_eq(world->evaluations, 0);
    world_free(world);
}
END_TEST

/* ---- admission */

START_TEST(a_job_beyond_all_memory_fails) {
    struct world *world = world_new(1);
    world_add_server(world, 0, "s", 2, 300000);
    world_add_agent(world, 0, "w", 1);
    world_advance(world, 500);
    world_submit(world, "name=big"); /* 150,300 parameters */
    world_until(world, "big", "failed", 10000);
    ck_assert_ptr_nonnull(strstr(world_text(world, "big", "reason"), "all servers together have"));
    world_advance(world, 2000);
    ck_assert_uint_eq(world_trainer_count(world), 0);
    world_free(world);
}
END_TEST

START_TEST(a_unit_beyond_every_shard_fails) {
    struct world *world = world_new(1);
    world_add_server(world, 0, "s", 2, 1300000); /* 650,000 a shard, a unit of adam needs 786,432 */
    world_add_server(world, 1, "t", 2, 1300000);
    world_add_agent(world, 0, "w", 1);
    world_advance(world, 500);
    world_submit(world, "name=big;updater.kind=adam");
    world_until(world, "big", "failed", 10000);
    ck_assert_ptr_nonnull(strstr(world_text(world, "big", "reason"), "no arrangement"));
    world_free(world);
}
END_TEST

START_TEST(a_job_waits_for_room_that_a_live_one_holds) {
    struct world *world = world_new(1);
    world_add_server(world, 0, "s", 1, 700000); /* one job of 601,200 bytes */
    world_add_agent(world, 0, "w", 2);
    world_advance(world, 500);
    world_submit(world, "name=a;workers=1;train.epochs=2");
    world_until(world, "a", "running", 10000);
    world_submit(world, "name=b;workers=1");
    world_advance(world, 1000);
    ck_assert_str_eq(world_text(world, "b", "state"), "queued");
    ck_assert_ptr_nonnull(strstr(world_text(world, "b", "reason"), "needs 587 KiB"));
    /* once the first has finished, its values make room, and not before */
    world_until(world, "b", "finished", 100000);
    ck_assert_str_eq(world_text(world, "a", "state"), "finished");
    ck_assert(!world_holds(world, 1));
    ck_assert(world_history_has(world, "a", "job \"b\" needs the room"));
    ck_assert(world_holds(world, 2));
    world_expect_exact(world, 2, 1);
    world_free(world);
}
END_TEST

START_TEST(the_oldest_ended_job_makes_room_first) {
    struct world *world = world_new(1);
    world_add_server(world, 0, "s", 1, 1400000);
    world_add_agent(world, 0, "w", 1);
    world_advance(world, 500);
    const char *names[] = {"a", "b", "c"};
    for (int i = 0; i < 3; i++) {
        world_submit(world, "name=%s", names[i]);
        world_until(world, names[i], "finished", 100000);
    }
    ck_assert(!world_holds(world, 1));
    ck_assert(world_holds(world, 2));
    ck_assert(world_holds(world, 3));
    world_free(world);
}
END_TEST

/* ---- joining */

START_TEST(another_model_or_dataset_may_not_join) {
    struct world *world = world_new(1);
    world_populate(world);
    world_submit(world, "name=a;workers=2;train.epochs=4");
    world_until(world, "a", "running", 10000);
    const char *expected[] = {"tensor 1 is \"v\" [300 x 100], in the job it is \"v\" [300 x 200]", "fingerprint",
                              "399 training", "it has 2 tensors"};
    for (int i = 0; i < 4; i++) {
        world->tensors[1].shape[1] = i == 0 ? 100 : 200;
        world->fingerprint = i == 1 ? 1 : 0xf00d;
        world->train_samples = i == 2 ? 399 : 400;
        world->tensor_count = i == 3 ? 2 : 3;
        struct world_trainer *odd = world_join(world, "a", WIRE_ROLE_TRAINER);
        world_advance(world, 200);
        ck_assert_int_eq(odd->refused, LG_INVALID);
        ck_assert_msg(strstr(odd->reason, expected[i]) != NULL, "%s", odd->reason);
    }
    world->tensor_count = 3;
    ck_assert_str_eq(world_text(world, "a", "state"), "running");
    world_until(world, "a", "finished", 100000);
    world_free(world);
}
END_TEST

START_TEST(a_worker_that_does_not_suit_is_left_out) {
    struct world *world = world_new(1);
    world_populate(world);
    world_submit(world, "name=a;workers=3;train.epochs=4");
    world_until(world, "a", "running", 10000);
    world_kill_trainer(world, world_trainer_at(world, 0), 0, 9, "killed by signal 9");
    world->fingerprint = 7; /* the file was exchanged meanwhile */
    world_advance(world, 3000);
    ck_assert_str_eq(world_text(world, "a", "state"), "running");
    ck_assert(world_history_has(world, "a", "left out of this job"));
    ck_assert_uint_eq(world_trainer_count(world), 2);
    world_until(world, "a", "finished", 100000);
    world_expect_exact(world, 1, 4);
    world_free(world);
}
END_TEST

START_TEST(a_stranger_is_not_a_trainer) {
    struct world *world = world_new(1);
    world_populate(world);
    world_submit(world, "name=a;train.epochs=4");
    world_until(world, "a", "running", 10000);
    struct world_trainer *stranger = world_join(world, "a", WIRE_ROLE_TRAINER);
    stranger->number = 1;
    stranger->token = 42;
    world_advance(world, 200);
    ck_assert_int_eq(stranger->refused, LG_DENIED);
    /* nor does an unknown session get anything */
    struct wire_message message = {.kind = WIRE_LEASE_REQUEST, .request = 3};
    message.lease_request = (struct wire_lease_request){12345, 1, 10};
    world_say(world, ROUTE_CLI, &message);
    ck_assert_uint_eq(world->reply.lease_grant.status, LG_FENCED);
    world_free(world);
}
END_TEST

START_TEST(a_trainer_may_come_by_itself) {
    struct world *world = world_new(1);
    world_add_server(world, 0, "s", 1, 1 << 30);
    world_advance(world, 500);
    world_submit(world, "name=a");
    world_join(world, "a", WIRE_ROLE_TRAINER);
    world_until(world, "a", "finished", 60000);
    world_expect_exact(world, 1, 1);
    world_free(world);
}
END_TEST

START_TEST(a_trainer_waits_for_room_on_the_shards) {
    struct world *world = world_new(1);
    world_populate(world);
    world->shard_sessions = 2;
    world_submit(world, "name=a;train.epochs=4");
    world_until(world, "a", "running", 10000);
    world_advance(world, 1000);
    struct world_trainer *waiting = NULL, *working = NULL;
    for (size_t n = 0; n < 3; n++) {
        struct world_trainer *trainer = world_trainer_at(world, n);
        if (trainer->state == WORLD_TRAINER_JOINING)
            waiting = trainer;
        else
            working = trainer;
    }
    ck_assert_ptr_nonnull(waiting);
    ck_assert_ptr_nonnull(strstr(waiting->reason, "shards.sessions")); /* it was told, with the remedy */
    ck_assert(world_history_has(world, "a", "waits to join"));
    world_advance(world, 5000);
    ck_assert(waiting->there);
    ck_assert_int_eq(world_number(world, "a", "restarts"), 0);
    /* somebody who came by itself waits too, and leaves nothing behind */
    struct world_trainer *observer = world_join(world, "a", WIRE_ROLE_OBSERVER);
    struct world_trainer *guest = world_join(world, "a", WIRE_ROLE_TRAINER);
    world_advance(world, 3000);
    ck_assert_ptr_nonnull(strstr(observer->reason, "shards.sessions"));
    ck_assert_ptr_nonnull(strstr(guest->reason, "shards.sessions"));
    ck_assert_int_eq(observer->state, WORLD_TRAINER_JOINING);
    guest->there = false;
    world_kill_trainer(world, working, 0, 9, "killed by signal 9");
    world_until(world, "a", "finished", 100000);
    world_expect_exact(world, 1, 4);
    world_advance(world, 10000);
    ck_assert_int_eq(observer->state, WORLD_TRAINER_IDLE); /* there is room */
    ck_assert_uint_eq(world_trainer_count(world), 1);
    world_free(world);
}
END_TEST

static struct wire_join_reply join_once(struct world *world, uint64_t request) {
    struct wire_message message = {.kind = WIRE_JOIN, .request = request};
    message.join = (struct wire_join){.job = "a", .role = WIRE_ROLE_OBSERVER, .device = ""};
    world->reply = (struct wire_message){.kind = WIRE_ERROR};
    world_say(world, ROUTE_CLI, &message);
    return world->reply.kind == WIRE_JOIN_REPLY ? world->reply.join_reply : (struct wire_join_reply){0};
}

START_TEST(too_many_sessions_wait) {
    char text[64];
    struct world *world = world_new(1);
    world_populate(world);
    world_submit(world, "name=a");
    world_until(world, "a", "finished", 60000);
    world_advance(world, 2000); /* the trainers have left */
    world->servers[0].stopped = world->servers[1].stopped = true;
    for (uint64_t i = 1; i <= WORLD_SESSIONS_PER_JOB_MAX; i++)
        ck_assert_uint_eq(join_once(world, i).status, LG_OK); /* no answer yet */
    struct wire_join_reply reply = join_once(world, WORLD_SESSIONS_PER_JOB_MAX + 1);
    ck_assert_uint_eq(reply.status, LG_UNAVAILABLE);
    ck_assert_uint_gt(reply.retry_ms, 0);
    snprintf(text, sizeof text, " %d sessions", WORLD_SESSIONS_PER_JOB_MAX);
    ck_assert_msg(strstr(world->reply_text, text) != NULL, "%s", world->reply_text);
    world_free(world);
}
END_TEST

START_TEST(no_more_trainers_than_sessions) {
    struct world *world = world_new(1);
    world_add_server(world, 0, "s", 1, 1 << 30);
    struct wire_message message = {.kind = WIRE_REGISTER, .request = 1};
    message.register_ = (struct wire_register){.kind = WIRE_MEMBER_AGENT,
                                               .name = "huge",
                                               .instance = 77,
                                               .slots = WORLD_SESSIONS_PER_JOB_MAX + 88,
                                               .version = "",
                                               .http = ""};
    world_say(world, ROUTE_CLI, &message);
    world_submit(world, "name=a");
    world_advance(world, 1000);
    json_t *jobs = world_ask(world, "jobs", "");
    ck_assert_int_eq(json_integer_value(json_object_get(json_array_get(jobs, 0), "trainers")),
                     WORLD_SESSIONS_PER_JOB_MAX);
    json_decref(jobs);
    world_free(world);
}
END_TEST

START_TEST(observers_look_and_take_nothing) {
    struct world *world = world_new(1);
    world_populate(world);
    world->keep_trainers_from_joining = true;
    world_submit(world, "name=a;train.epochs=2");
    world_advance(world, 1000);
    world->keep_trainers_from_joining = false;
    struct world_trainer *observer = world_join(world, "a", WIRE_ROLE_OBSERVER);
    world_until(world, "a", "running", 10000);
    world_advance(world, 1000);
    ck_assert_int_eq(observer->state, WORLD_TRAINER_IDLE);
    struct wire_message message = {.kind = WIRE_LEASE_REQUEST, .request = 3};
    message.lease_request = (struct wire_lease_request){observer->session, 1, 10};
    world_say(world, ROUTE_CLI, &message);
    ck_assert_uint_eq(world->reply.lease_grant.status, LG_DENIED);
    world_until(world, "a", "finished", 60000);
    struct world_trainer *late = world_join(world, "a", WIRE_ROLE_OBSERVER);
    world_advance(world, 500);
    ck_assert_int_eq(late->state, WORLD_TRAINER_IDLE); /* export */
    ck_assert_uint_ge(world_sessions(world, 1), 2);
    late->silent = observer->silent = true;
    world_advance(world, 70000);
    ck_assert_uint_eq(world_sessions(world, 1), 0);
    world_cancel(world, "a"); /* drops the values */
    world_advance(world, 1000);
    ck_assert(!world_holds(world, 1));
    ck_assert_str_eq(world_text(world, "a", "state"), "finished");
    late = world_join(world, "a", WIRE_ROLE_OBSERVER);
    world_advance(world, 200);
    ck_assert_int_eq(late->refused, LG_NOT_FOUND);
    world_free(world);
}
END_TEST

START_TEST(initial_values_may_come_from_a_file) {
    struct world *world = world_new(1);
    world_populate(world);
    world_submit(world, "init=file;name=a;workers=2");
    world_advance(world, 5000);
    ck_assert_str_eq(world_text(world, "a", "state"), "initialising");
    ck_assert_ptr_nonnull(strstr(world_text(world, "a", "reason"), "file"));
    ck_assert_ptr_null(world_holder(world, WIRE_LEASE_INITIALISE));
    struct world_trainer *file = world_join(world, "a", WIRE_ROLE_INITIALISER);
    world_until(world, "a", "running", 5000);
    world_until(world, "a", "finished", 60000);
    world_expect_exact(world, 1, 1);
    ck_assert(!file->there); /* it left */
    struct world_trainer *again = world_join(world, "a", WIRE_ROLE_INITIALISER);
    world_advance(world, 200);
    ck_assert_int_ne(again->refused, LG_OK);
    world_submit(world, "name=b");
    again = world_join(world, "b", WIRE_ROLE_INITIALISER);
    world_advance(world, 200);
    ck_assert_int_eq(again->refused, LG_DENIED);
    world_free(world);
}
END_TEST

/* ---- cancelling */

static void expect_cancelled(struct world *world) {
    world_cancel(world, "a");
    ck_assert_uint_eq(world->reply.ack.status, LG_OK);
    ck_assert_str_eq(world_text(world, "a", "state"), "cancelled");
    world_cancel(world, "a"); /* again: no harm */
    ck_assert_uint_eq(world->reply.ack.status, LG_OK);
    world_advance(world, 3000);
    ck_assert_uint_eq(world_trainer_count(world), 0);
    ck_assert(!world_holds(world, 1));
    world_submit(world, "name=next");
    world_until(world, "next", "finished", 60000);
    world_expect_exact(world, 2, 1);
    world_free(world);
}

START_TEST(cancel_while_queued) {
    struct world *world = world_new(1);
    world_populate(world);
    world->keep_trainers_from_joining = true;
    world_submit(world, "name=a");
    world_advance(world, 1000);
    ck_assert_str_eq(world_text(world, "a", "state"), "queued");
    world->keep_trainers_from_joining = false;
    expect_cancelled(world);
}
END_TEST

START_TEST(cancel_while_defining) {
    struct world *world = world_new(1);
    world_populate(world);
    world->servers[0].stopped = world->servers[1].stopped = true; /* they do not answer JOB_OPEN */
    world_submit(world, "name=a");
    world_until(world, "a", "defining", 3000);
    world->servers[0].stopped = world->servers[1].stopped = false;
    expect_cancelled(world);
}
END_TEST

START_TEST(cancel_while_initialising) {
    struct world *world = world_new(1);
    world_populate(world);
    world_submit(world, "init=file;name=a");
    world_until(world, "a", "initialising", 5000);
    expect_cancelled(world);
}
END_TEST

START_TEST(cancel_while_running) {
    struct world *world = world_new(1);
    world_populate(world);
    world_submit(world, "name=a");
    world_until(world, "a", "running", 5000);
    world_advance(world, 500);
    expect_cancelled(world);
}
END_TEST

START_TEST(cancel_while_evaluating) {
    struct world *world = world_new(1);
    world_populate(world);
    world_submit(world, "name=a");
    world_until(world, "a", "evaluating", 30000);
    expect_cancelled(world);
}
END_TEST

START_TEST(cancel_while_waiting) {
    struct world *world = world_new(1);
    world_populate(world);
    world_submit(world, "name=a");
    world_until(world, "a", "running", 5000);
    world->servers[1].stopped = true;
    world_until(world, "a", "waiting", 10000);
    world->servers[1].stopped = false;
    expect_cancelled(world);
}
END_TEST

START_TEST(cancel_of_an_unknown_job) {
    struct world *world = world_new(1);
    world_cancel(world, "ghost");
    ck_assert_uint_eq(world->reply.ack.status, LG_NOT_FOUND);
    ck_assert_ptr_nonnull(strstr(world->reply_text, "ghost"));
    world_free(world);
}
END_TEST

/* ---- repeats and losses of messages */

START_TEST(every_message_may_come_twice) {
    struct world *world = world_new(3);
    world->repeat_percent = 100;
    world_populate(world);
    world_submit(world, "name=a;train.epochs=3");
    world_until(world, "a", "finished", 60000);
    world_expect_exact(world, 1, 3);
    ck_assert_uint_eq(world->repeats, 0);
    ck_assert_int_eq(world_number(world, "a", "restarts"), 0);
    ck_assert_int_eq(world_number(world, "a", "slices_taken_over"), 0);
    json_t *evaluations = world_ask(world, "job", "a");
    ck_assert_uint_eq(json_array_size(json_object_get(evaluations, "evaluations")), 3);
    json_decref(evaluations);
    world_free(world);
}
END_TEST

START_TEST(messages_may_get_lost) {
    struct world *world = world_new(100 + (uint64_t)_i);
    world->lose_percent = 20;
    world->repeat_percent = 20;
    world_populate(world);
    world_submit(world, "name=a;train.epochs=2");
    world_until(world, "a", "finished", 600000);
    world_expect_exact(world, 1, 2);
    world_free(world);
}
END_TEST

/* ---- documents and oddities */

START_TEST(documents_have_their_keys) {
    struct world *world = world_new(1);
    world_populate(world);
    world_submit(world, "name=a");
    world_until(world, "a", "running", 5000);
    world_advance(world, 1500);
    json_t *status = world_ask(world, "status", "");
    ck_assert_int_eq(json_integer_value(json_object_get(status, "shards")), 4);
    ck_assert_int_eq(json_integer_value(json_object_get(json_object_get(status, "jobs"), "running")), 1);
    json_decref(status);
    json_t *shards = world_ask(world, "shards", "");
    ck_assert_uint_eq(json_array_size(shards), 4);
    json_t *on_shard = json_array_get(json_object_get(json_array_get(shards, 0), "jobs"), 0);
    ck_assert_int_eq(json_integer_value(json_object_get(on_shard, "pushes")), 10);
    json_decref(shards);
    json_t *workers = world_ask(world, "workers", "");
    ck_assert_uint_eq(json_array_size(workers), 3);
    ck_assert_int_eq(json_integer_value(json_object_get(json_array_get(workers, 2), "used")), 1);
    json_decref(workers);
    json_t *servers = world_ask(world, "servers", "");
    ck_assert_str_eq(json_string_value(json_object_get(json_array_get(servers, 1), "name")), "server-1");
    json_decref(servers);
    static const char *const keys[] = {"id",
                                       "name",
                                       "state",
                                       "reason",
                                       "epoch",
                                       "epochs",
                                       "loss",
                                       "accuracy",
                                       "submitted_at",
                                       "started_at",
                                       "finished_at",
                                       "evaluation_loss",
                                       "spec",
                                       "tensors",
                                       "parameters",
                                       "bytes",
                                       "trainers",
                                       "evaluations",
                                       "staleness",
                                       "weight_mean",
                                       "restarts",
                                       "dropped",
                                       "ledger",
                                       "leases",
                                       "history",
                                       "shards",
                                       "eta_s",
                                       "slices_taken_over",
                                       "samples_total",
                                       "samples_applied",
                                       "samples_per_second"};
    json_t *job = world_ask(world, "job", "a");
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        ck_assert_msg(json_object_get(job, keys[i]) != NULL, "\"%s\" is missing", keys[i]);
    ck_assert_uint_eq(json_array_size(json_object_get(job, "trainers")), 3);
    ck_assert(json_real_value(json_object_get(json_object_get(job, "staleness"), "mean")) > 1.49);
    json_decref(job);
    world_free(world);
}
END_TEST

START_TEST(lines_are_kept_and_asked_for_from_a_number_on) {
    struct world *world = world_new(1);
    char text[32];
    const char *line = text;
    world_submit(world, "name=a");
    for (int i = 0; i < 2100; i++) {
        struct wire_message message = {.kind = WIRE_LOG};
        snprintf(text, sizeof text, "line %d", i);
        message.log = (struct wire_log){1, 7, &line, 1};
        world_say(world, ROUTE_AGENT, &message);
    }
    struct wire_query query = {.what = "logs", .job = "a", .since = 2090, .limit = 4};
    uint64_t next = 0;
    char *document = coordinator_query(world->core, &query, &next, NULL);
    json_t *rows = json_loads(document, 0, NULL);
    ck_assert_uint_eq(json_array_size(rows), 4);
    ck_assert_uint_eq(next, 2094);
    ck_assert_str_eq(json_string_value(json_object_get(json_array_get(rows, 0), "line")), "line 2090");
    ck_assert_int_eq(json_integer_value(json_object_get(json_array_get(rows, 0), "trainer")), 7);
    json_decref(rows);
    free(document);
    rows = world_ask(world, "logs", "a");
    ck_assert_uint_eq(json_array_size(rows), 2000); /* the oldest are gone */
    json_decref(rows);
    world_free(world);
}
END_TEST

START_TEST(long_lines_are_cut_between_characters) {
    static char text[2 * CORE_LINE_BYTES] = "x"; /* the rest are characters of two bytes */
    struct world *world = world_new(1);
    const char *line = text;
    world_submit(world, "name=a");
    for (size_t i = 1; i + 2 < sizeof text; i += 2)
        memcpy(text + i, "\xc3\xa9", 2);
    world_say(world, ROUTE_AGENT, &(struct wire_message){.kind = WIRE_LOG, .log = {1, 7, &line, 1}});
    json_t *rows = world_ask(world, "logs", "a");
    ck_assert_uint_eq(json_array_size(rows), 1);
    ck_assert_uint_eq(strlen(json_string_value(json_object_get(json_array_get(rows, 0), "line"))), CORE_LINE_BYTES - 1);
    json_decref(rows);
    world_free(world);
}
END_TEST

START_TEST(questions_that_cannot_be_answered) {
    struct world *world = world_new(1);
    struct wire_message message = {.kind = WIRE_QUERY, .request = 9};
    message.query = (struct wire_query){.what = "weather", .job = ""};
    world_say(world, ROUTE_CLI, &message);
    ck_assert_uint_eq(world->reply.query_reply.status, LG_UNSUPPORTED);
    message.query = (struct wire_query){.what = "job", .job = "ghost"};
    world_say(world, ROUTE_CLI, &message);
    ck_assert_uint_eq(world->reply.query_reply.status, LG_NOT_FOUND);
    message = (struct wire_message){.kind = WIRE_HELLO, .request = 10};
    world_say(world, ROUTE_CLI, &message);
    ck_assert_int_eq(world->reply.kind, WIRE_ERROR);
    ck_assert_uint_eq(world->reply.request, 10);
    /* answers that nobody asked for */
    message = (struct wire_message){.kind = WIRE_ACK, .request = 77};
    world_say(world, ROUTE_CLI, &message);
    message = (struct wire_message){.kind = WIRE_MARKS_REPLY, .request = (UINT64_C(1) << 62) | 2};
    world_say(world, ROUTE_CLI, &message);
    message = (struct wire_message){.kind = WIRE_TRAINER_EXIT, .request = 1, .trainer_exit = {.trainer = 99}};
    world_say(world, ROUTE_CLI, &message);
    world_free(world);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("coordinator");
    TCase *tests = tcase_create("coordinator");
    log_init("test", LOG_LEVEL_ERROR);
    tcase_set_timeout(tests, 120);
    tcase_add_test(tests, a_job_runs_from_submission_to_its_ledger);
    tcase_add_test(tests, a_specification_is_checked);
    tcase_add_test(tests, momentum_on_many_workers_is_remarked_on);
    tcase_add_test(tests, slices_hold_whole_rounds_of_local_steps);
    tcase_add_test(tests, names_are_unique_among_live_jobs);
    tcase_add_test(tests, a_repeated_submission_makes_one_job);
    tcase_add_test(tests, a_submission_to_an_empty_cluster_warns_and_waits);
    tcase_add_test(tests, jobs_get_slots_in_order_of_submission);
    tcase_add_test(tests, a_job_without_test_samples_is_not_evaluated);
    tcase_add_test(tests, a_job_beyond_all_memory_fails);
    tcase_add_test(tests, a_unit_beyond_every_shard_fails);
    tcase_add_test(tests, a_job_waits_for_room_that_a_live_one_holds);
    tcase_add_test(tests, the_oldest_ended_job_makes_room_first);
    tcase_add_test(tests, another_model_or_dataset_may_not_join);
    tcase_add_test(tests, a_worker_that_does_not_suit_is_left_out);
    tcase_add_test(tests, a_stranger_is_not_a_trainer);
    tcase_add_test(tests, a_trainer_may_come_by_itself);
    tcase_add_test(tests, a_trainer_waits_for_room_on_the_shards);
    tcase_add_test(tests, too_many_sessions_wait);
    tcase_add_test(tests, no_more_trainers_than_sessions);
    tcase_add_test(tests, observers_look_and_take_nothing);
    tcase_add_test(tests, initial_values_may_come_from_a_file);
    tcase_add_test(tests, cancel_while_queued);
    tcase_add_test(tests, cancel_while_defining);
    tcase_add_test(tests, cancel_while_initialising);
    tcase_add_test(tests, cancel_while_running);
    tcase_add_test(tests, cancel_while_evaluating);
    tcase_add_test(tests, cancel_while_waiting);
    tcase_add_test(tests, cancel_of_an_unknown_job);
    tcase_add_test(tests, every_message_may_come_twice);
    tcase_add_loop_test(tests, messages_may_get_lost, 0, 10);
    tcase_add_test(tests, documents_have_their_keys);
    tcase_add_test(tests, lines_are_kept_and_asked_for_from_a_number_on);
    tcase_add_test(tests, long_lines_are_cut_between_characters);
    tcase_add_test(tests, questions_that_cannot_be_answered);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
