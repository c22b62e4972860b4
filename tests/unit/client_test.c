/* liblagoon over real ZeroMQ, against a coordinator that does as it is told and real shard cores. */
#include "client/lagoon.h"

#include <check.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/net.h"
#include "tests/support/fake_client.h"

static struct fake_cluster *cluster;
static struct lg_client *client;
static float *parameters, *gradients;

static void setup(void) {
    cluster = fake_cluster_start();
    client = NULL;
    parameters = calloc(FAKE_ELEMENTS, sizeof *parameters);
    gradients = calloc(FAKE_ELEMENTS, sizeof *gradients);
    ck_assert(parameters && gradients);
}

static void teardown(void) {
    lg_client_close(&client, "the test is over");
    fake_cluster_stop(cluster);
    free(parameters);
    free(gradients);
}

static struct lg_client_options options_of(enum lg_role role) {
    struct lg_client_options options = fake_client_options(cluster);
    options.role = role;
    if (role != LG_ROLE_TRAINER) {
        options.tensors = NULL;
        options.tensor_count = 0;
    }
    return options;
}

static struct lg_client *open_client(enum lg_role role) {
    const struct lg_client_options options = options_of(role);
    return fake_client_open(&options);
}

static void fill(float *values, float value) {
    for (size_t i = 0; i < FAKE_ELEMENTS; i++)
        values[i] = value;
}

static void check_all(const float *values, float value) {
    for (size_t i = 0; i < FAKE_ELEMENTS; i++)
        ck_assert_msg(values[i] == value, "element %zu is %g, not %g", i, (double)values[i], (double)value);
}

/* Takes the initialise lease and sets all values. */
static void initialise(float value) {
    struct lg_error error = {0};
    struct lg_lease lease;
    must(lg_lease_next(client, &lease, &error), &error);
    ck_assert_int_eq(lease.kind, LG_LEASE_INITIALISE);
    fill(gradients, value);
    must(lg_push(client, &(struct lg_push){.initial = true}, gradients, NULL, &error), &error);
    must(lg_lease_done(client, &lease, &error), &error);
}

static struct lg_push push_of(const struct lg_lease *lease) {
    return (struct lg_push){.samples = lease->end - lease->first,
                            .lease = lease->lease,
                            .fence = lease->fence,
                            .epoch = lease->epoch,
                            .first = lease->first,
                            .end = lease->end,
                            .local_steps = 1};
}

static void start_job(uint64_t samples, uint64_t slice) {
    struct fake_knobs *knobs = fake_lock(cluster);
    knobs->samples = samples;
    knobs->slice = slice;
    fake_unlock(cluster);
    client = open_client(LG_ROLE_TRAINER);
    initialise(100);
}

/* Waits until `knob` reaches `least`. */
static void wait_for(const unsigned *knob, unsigned least) {
    for (int i = 0; i < 20000; i++) {
        fake_lock(cluster);
        bool there = *knob >= least;
        fake_unlock(cluster);
        if (there)
            return;
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    }
    ck_abort_msg("nothing happened within 20 s");
}

/* ---- the usual way */

START_TEST(a_job_from_join_to_finish) {
    struct lg_error error = {0};
    struct lg_lease lease;
    start_job(20, 8);
    size_t count;
    ck_assert_str_eq(lg_client_tensors(client, &count)[0].name, "matrix");
    ck_assert_uint_eq(count, 3);
    ck_assert_str_eq(lg_client_spec(client, "updater.kind"), "sgd");
    ck_assert_ptr_null(lg_client_spec(client, "nonsense"));
    uint64_t next = 0;
    float expected = 100;
    for (int steps = 0;; steps++) {
        must(lg_lease_next(client, &lease, &error), &error);
        if (lease.kind == LG_LEASE_FINISHED)
            break;
        ck_assert_int_eq(lease.kind, LG_LEASE_TRAIN);
        ck_assert_uint_eq(lease.first, next);
        next = lease.end;
        must(lg_pull(client, parameters, &error), &error);
        check_all(parameters, expected);
        fill(gradients, 1);
        expected -= 1;
        struct lg_push push = push_of(&lease);
        struct lg_push_result result;
        must(lg_push(client, &push, gradients, &result, &error), &error);
        ck_assert_uint_eq(result.staleness_max, 0);
        ck_assert(result.weight_min == 1.0f && !result.dropped && !result.repeated);
        must(lg_lease_done(client, &lease, &error), &error);
    }
    ck_assert_uint_eq(next, 20);
    must(lg_lease_next(client, &lease, &error), &error);
    ck_assert_int_eq(lease.kind, LG_LEASE_FINISHED);
    ck_assert(fake_value(cluster, 0) == 97.0f && fake_value(cluster, 3) == 97.0f);
    for (unsigned i = 0; i < FAKE_SHARDS; i++) {
        struct wire_shard_job_stats stats;
        fake_stats(cluster, i, &stats);
        ck_assert_uint_eq(stats.pushes, 3);
        ck_assert_uint_eq(stats.samples, 20);
    }
    lg_client_close(&client, "finished");
    ck_assert_ptr_null(client);
    struct fake_knobs *knobs = fake_lock(cluster);
    ck_assert_uint_eq(knobs->dones, 4);
    ck_assert_uint_eq(knobs->leaves, 1);
    ck_assert_str_eq(knobs->last_reason, "finished");
    fake_unlock(cluster);
}
END_TEST

START_TEST(pushes_overlap_with_compute_and_the_next_pull) {
    struct lg_error error = {0};
    start_job(0, 8);
    must(lg_pull(client, parameters, &error), &error);
    fill(gradients, 2);
    float *second = calloc(FAKE_ELEMENTS, sizeof *second);
    for (size_t i = 0; i < FAKE_ELEMENTS; i++)
        second[i] = 3;
    must(lg_push_start(client, &(struct lg_push){.samples = 4, .local_steps = 1}, gradients, &error), &error);
    ck_assert_int_eq(lg_push_wait(client, NULL, &error), LG_INVALID); /* nothing is marked */
    ck_assert_int_eq(lg_push_start(client, &(struct lg_push){.samples = 4}, second, &error), LG_INVALID);
    lg_push_ready(client, 2, 1);
    lg_push_ready(client, 1, 1);
    lg_push_ready(client, 1, 2); /* again: nothing new */
    ck_assert_int_eq(lg_push_wait(client, NULL, &error), LG_INVALID);
    lg_push_ready(client, 0, 1);
    must(lg_pull_start(client, parameters, &error), &error);
    ck_assert_int_eq(lg_pull_start(client, parameters, &error), LG_INVALID);
    must(lg_push_start(client, &(struct lg_push){.samples = 4}, second, &error), &error);
    lg_push_ready(client, 0, 3);
    ck_assert_int_eq(lg_push_start(client, &(struct lg_push){.samples = 4}, second, &error), LG_INVALID);
    struct lg_push_result result;
    must(lg_push_wait(client, &result, &error), &error);
    must(lg_pull_wait(client, &error), &error);
    must(lg_push_wait(client, &result, &error), &error);
    ck_assert_int_eq(lg_push_wait(client, &result, &error), LG_INVALID);
    ck_assert_int_eq(lg_pull_wait(client, &error), LG_INVALID);
    must(lg_pull(client, parameters, &error), &error);
    check_all(parameters, 95);
    free(second);
}
END_TEST

START_TEST(a_pull_brings_what_the_push_before_it_did) {
    struct lg_error error = {0};
    start_job(0, 8);
    must(lg_pull(client, parameters, &error), &error);
    fill(gradients, 1);
    for (int i = 1; i <= 50; i++) {
        must(lg_push_start(client, &(struct lg_push){.samples = 1}, gradients, &error), &error);
        lg_push_ready(client, 0, 3);
        must(lg_pull_start(client, parameters, &error), &error);
        must(lg_pull_wait(client, &error), &error);
        check_all(parameters, 100 - (float)i);
        must(lg_push_wait(client, NULL, &error), &error);
    }
}
END_TEST

START_TEST(a_push_brings_the_values_back_in_the_same_round_trip) {
    struct lg_error error = {0};
    struct lg_push_result result;
    struct wire_shard_job_stats before, after;
    start_job(0, 8);
    float *second = calloc(FAKE_ELEMENTS, sizeof *second);
    must(lg_pull(client, parameters, &error), &error);
    fill(gradients, 2);
    struct lg_push push = {.samples = 4, .parameters = second, .computed_from = parameters};
    must(lg_push(client, &push, gradients, &result, &error), &error);
    check_all(parameters, 100);
    check_all(second, 98);
    push = (struct lg_push){.samples = 4, .parameters = parameters, .computed_from = second};
    must(lg_push(client, &push, gradients, &result, &error), &error);
    ck_assert_uint_eq(result.staleness_max, 0);
    check_all(parameters, 96);
    fake_stats(cluster, 0, &before);
    must(lg_pull(client, parameters, &error), &error); /* brings nothing: all of it is there */
    fake_stats(cluster, 0, &after);
    ck_assert_uint_eq(after.pull_bytes, before.pull_bytes);
    check_all(parameters, 96);
    push.parameters = NULL; /* from values of one push ago */
    must(lg_push(client, &push, gradients, &result, &error), &error);
    ck_assert_uint_eq(result.staleness_max, 1);
    free(second);
}
END_TEST

START_TEST(the_fd_and_buffers_that_are_remembered) {
    struct lg_error error = {0};
    start_job(0, 8);
    struct pollfd fd = {.fd = lg_client_fd(client), .events = POLLIN};
    must(lg_pull(client, parameters, &error), &error);
    must(lg_pull_start(client, parameters, &error), &error);
    ck_assert_int_eq(poll(&fd, 1, 20000), 1);
    must(lg_pull_wait(client, &error), &error);
    check_all(parameters, 100);
    fill(parameters, 5); /* nothing has changed on the shards, so nothing is sent, until the client is told */
    must(lg_pull(client, parameters, &error), &error);
    check_all(parameters, 5);
    lg_pull_forget(client);
    must(lg_pull(client, parameters, &error), &error);
    check_all(parameters, 100);
}
END_TEST

/* No call waits, so the client's own thread finishes what the caller has begun, also right after calls that did wait.
 */
START_TEST(a_push_is_settled_while_the_caller_computes) {
    struct lg_error error = {0};
    start_job(0, 8);
    struct pollfd fd = {.fd = lg_client_fd(client), .events = POLLIN};
    fill(gradients, 1);
    for (int i = 1; i <= 20; i++) {
        must(lg_pull(client, parameters, &error), &error);
        ck_assert_int_eq(poll(&fd, 1, 0), 0);
        must(lg_push_start(client, &(struct lg_push){.samples = 1}, gradients, &error), &error);
        for (size_t tensor = 3; tensor-- > 0;)
            lg_push_ready(client, tensor, 1);
        ck_assert_int_eq(poll(&fd, 1, 20000), 1);
        ck_assert(fake_value(cluster, 0) == 100 - (float)i && fake_value(cluster, 1) == 100 - (float)i);
        must(lg_push_wait(client, NULL, &error), &error);
        ck_assert_int_eq(poll(&fd, 1, 0), 0);
    }
}
END_TEST

START_TEST(cuts_of_a_lease_and_of_a_push_come_through) {
    struct lg_error error = {0};
    struct fake_knobs *knobs = fake_lock(cluster);
    knobs->cut = 3;
    fake_unlock(cluster);
    start_job(8, 8);
    struct lg_lease lease;
    must(lg_lease_next(client, &lease, &error), &error);
    ck_assert_uint_eq(lease.cut_count, 1);
    ck_assert_uint_eq(lease.cuts[0], 3);
    must(lg_pull(client, parameters, &error), &error);
    struct lg_push push = push_of(&lease);
    struct lg_push_result result;
    push.end = 3;
    push.samples = 3;
    must(lg_push(client, &push, gradients, &result, &error), &error);
    push.end = 8; /* straddles what was applied */
    push.samples = 8;
    must(lg_push(client, &push, gradients, &result, &error), &error);
    ck_assert_uint_eq(result.cut_count, 1);
    size_t count;
    ck_assert_uint_eq(lg_push_cuts(client, &count)[0], 3);
    ck_assert_uint_eq(count, 1);
    push.first = 3;
    push.samples = 5;
    must(lg_push(client, &push, gradients, &result, &error), &error);
    ck_assert_uint_eq(result.cut_count, 0);
    ck_assert(!result.repeated);
    must(lg_push(client, &push, gradients, &result, &error), &error);
    ck_assert(result.repeated);
}
END_TEST

START_TEST(a_push_that_is_not_finite_fails_with_the_reason) {
    struct lg_error error = {0};
    start_job(0, 8);
    must(lg_pull(client, parameters, &error), &error);
    gradients[5] = 1.0f / 0.0f;
    ck_assert_int_eq(lg_push(client, &(struct lg_push){.samples = 1}, gradients, NULL, &error), LG_NONFINITE);
    ck_assert_msg(strstr(error.message, "\"matrix\""), "%s", error.message);
    gradients[5] = 1;
    must(lg_push(client, &(struct lg_push){.samples = 1}, gradients, NULL, &error), &error);
}
END_TEST

START_TEST(observers_take_the_jobs_tensors_and_only_pull) {
    struct lg_error error = {0};
    start_job(0, 8);
    struct lg_client *observer = open_client(LG_ROLE_OBSERVER);
    size_t count;
    ck_assert_str_eq(lg_client_tensors(observer, &count)[2].name, "gain");
    must(lg_pull(observer, parameters, &error), &error);
    check_all(parameters, 100);
    ck_assert_int_eq(lg_push(observer, &(struct lg_push){.samples = 1}, gradients, NULL, &error), LG_DENIED);
    lg_client_close(&observer, NULL);
}
END_TEST

START_TEST(beats_carry_the_progress) {
    start_job(0, 8);
    lg_report_progress(client, &(struct lg_progress){.steps = 17, .samples_per_second = 250});
    struct fake_knobs *knobs = fake_lock(cluster);
    unsigned beats = knobs->beats;
    fake_unlock(cluster);
    wait_for(&knobs->beats, beats + 2);
    fake_lock(cluster);
    ck_assert_uint_eq(knobs->last_steps, 17);
    ck_assert_str_eq(knobs->last_state, "training");
    fake_unlock(cluster);
}
END_TEST

/* With 8 samples a second and 8 samples a lease, the next one is asked for with the last push of the first. */
START_TEST(one_lease_ahead_is_asked_for_near_the_end_of_the_one_at_hand) {
    struct lg_error error = {0};
    struct lg_lease lease;
    start_job(24, 8);
    lg_report_progress(client, &(struct lg_progress){.samples_per_second = 2});
    must(lg_lease_next(client, &lease, &error), &error);
    must(lg_pull(client, parameters, &error), &error);
    struct lg_push push = push_of(&lease);
    push.end = 4;
    push.samples = 4;
    must(lg_push(client, &push, gradients, NULL, &error), &error);
    struct fake_knobs *knobs = fake_lock(cluster);
    ck_assert_uint_eq(knobs->leases_granted, 2); /* initialise, and this one: two seconds are left */
    fake_unlock(cluster);
    push.first = 4;
    push.end = 6;
    push.samples = 2;
    must(lg_push(client, &push, gradients, NULL, &error), &error);
    wait_for(&knobs->leases_granted, 3);
    fake_lock(cluster);
    ck_assert(knobs->last_rate == 2.0);
    fake_unlock(cluster);
    must(lg_lease_next(client, &lease, &error), &error);
    ck_assert_uint_eq(lease.first, 8);
    fake_lock(cluster);
    ck_assert_uint_eq(knobs->leases_granted, 3); /* never more than one ahead */
    fake_unlock(cluster);
}
END_TEST

START_TEST(evaluations_are_reported) {
    struct lg_error error = {0};
    start_job(0, 8);
    struct lg_lease lease = {.kind = LG_LEASE_EVALUATE, .lease = 9, .epoch = 2};
    must(lg_report_evaluation(client, &lease, 0.5, 0.9, 1000, &error), &error);
    struct fake_knobs *knobs = fake_lock(cluster);
    fake_unlock(cluster);
    wait_for(&knobs->evaluations, 1);
}
END_TEST

/* ---- what goes wrong */

START_TEST(a_join_waits_while_the_job_has_no_room) {
    struct fake_knobs *knobs = fake_lock(cluster);
    knobs->join_refusals = 5;
    fake_unlock(cluster);
    client = open_client(LG_ROLE_TRAINER);
    fake_lock(cluster);
    ck_assert_uint_eq(knobs->joins, 6);
    fake_unlock(cluster);
}
END_TEST

START_TEST(an_observer_gives_up_at_its_deadline_with_the_reason) {
    struct fake_knobs *knobs = fake_lock(cluster);
    knobs->join_refusals = 100000;
    fake_unlock(cluster);
    struct lg_client_options options = options_of(LG_ROLE_OBSERVER);
    struct lg_error error = {0};
    options.timeout_ms = 700;
    ck_assert_int_eq(lg_client_open(&options, &client, &error), LG_TIMEOUT);
    ck_assert_ptr_null(client);
    ck_assert_str_eq(error.message, "waiting to join job \"fake\": needs 3.2 GiB, 1.1 GiB free; gave up joining job "
                                    "\"fake\" after 700 ms");
}
END_TEST

START_TEST(answers_that_nobody_asked_for_do_no_harm) {
    struct fake_knobs *knobs = fake_lock(cluster);
    knobs->stray_answers = true;
    fake_unlock(cluster);
    client = open_client(LG_ROLE_TRAINER);
    initialise(1);
}
END_TEST

START_TEST(a_refused_join_says_why) {
    struct fake_knobs *knobs = fake_lock(cluster);
    knobs->deny_joins = true;
    fake_unlock(cluster);
    struct lg_client_options options = options_of(LG_ROLE_TRAINER);
    struct lg_error error = {0};
    ck_assert_int_eq(lg_client_open(&options, &client, &error), LG_DENIED);
    ck_assert_str_eq(error.message, "cannot join job \"fake\": the token is wrong");
}
END_TEST

START_TEST(a_job_of_other_tensors_is_refused) {
    struct tensor_spec other = {.name = "matrix", .rank = 1, .shape = {4}, .lr_factor = 1};
    struct lg_client_options options = options_of(LG_ROLE_TRAINER);
    struct lg_error error = {0};
    options.tensors = &other;
    options.tensor_count = 1;
    ck_assert_int_eq(lg_client_open(&options, &client, &error), LG_INVALID);
    ck_assert_msg(strstr(error.message, "other tensors"), "%s", error.message);
    struct fake_knobs *knobs = fake_lock(cluster);
    ck_assert_uint_eq(knobs->leaves, 1);
    fake_unlock(cluster);
}
END_TEST

START_TEST(an_unreachable_coordinator_is_an_error_with_a_remedy_at_the_deadline) {
    fake_coordinator_reachable(cluster, false);
    struct lg_client_options options = options_of(LG_ROLE_TRAINER);
    struct lg_error error = {0};
    options.timeout_ms = 600;
    ck_assert_int_eq(lg_client_open(&options, &client, &error), LG_TIMEOUT);
    ck_assert_msg(strstr(error.message, "cannot reach the coordinator at tcp://127.0.0.1:"), "%s", error.message);
    ck_assert_msg(strstr(error.message, "is it running?"), "%s", error.message);
}
END_TEST

START_TEST(bad_options_are_refused) {
    struct lg_client_options options = options_of(LG_ROLE_TRAINER);
    struct lg_error error = {0};
    switch (_i) {
    case 0:
        options.coordinator = "nowhere";
        break;
    case 1:
        options.coordinator = NULL;
        break;
    case 2:
        options.job = "";
        break;
    case 3:
        options.tensors = NULL;
        break;
    case 4:
        options.role = LG_ROLE_OBSERVER; /* but brings tensors */
        break;
    case 5:
        options.tensor_count = 0;
        break;
    }
    ck_assert_int_eq(lg_client_open(&options, &client, &error), LG_INVALID);
    ck_assert_int_gt((int)strlen(error.message), 10);
}
END_TEST

START_TEST(a_coordinator_that_comes_late_is_waited_for) {
    fake_coordinator_reachable(cluster, false);
    struct lg_client_options options = options_of(LG_ROLE_TRAINER);
    struct lg_error error = {0};
    options.timeout_ms = 400;
    ck_assert_int_eq(lg_client_open(&options, &client, &error), LG_TIMEOUT);
    fake_coordinator_reachable(cluster, true);
    client = open_client(LG_ROLE_TRAINER);
}
END_TEST

START_TEST(lost_connections_to_shards_lose_nothing) {
    struct lg_error error = {0};
    struct lg_lease lease;
    start_job(120, 4);
    float expected = 100;
    for (unsigned step = 0;; step++) {
        must(lg_lease_next(client, &lease, &error), &error);
        if (lease.kind == LG_LEASE_FINISHED)
            break;
        must(lg_pull(client, parameters, &error), &error);
        check_all(parameters, expected);
        fill(gradients, 1);
        struct lg_push push = push_of(&lease);
        must(lg_push_start(client, &push, gradients, &error), &error);
        lg_push_ready(client, 0, 3);
        if (step % 4 == 0)
            fake_cut_shard(cluster, step / 4 % 2);
        struct lg_push_result result;
        must(lg_push_wait(client, &result, &error), &error);
        ck_assert(!result.repeated);
        must(lg_lease_done(client, &lease, &error), &error);
        expected -= 1;
    }
    for (unsigned i = 0; i < FAKE_SHARDS; i++) {
        struct wire_shard_job_stats stats;
        fake_stats(cluster, i, &stats);
        ck_assert_uint_eq(stats.pushes, 30);
        ck_assert_uint_eq(stats.samples, 120);
    }
}
END_TEST

START_TEST(training_goes_on_without_the_coordinator_and_reports_later) {
    struct lg_error error = {0};
    struct lg_lease lease;
    start_job(24, 8);
    must(lg_lease_next(client, &lease, &error), &error); /* the speed is unknown: another is asked for at once */
    struct fake_knobs *knobs = fake_lock(cluster);
    fake_unlock(cluster);
    wait_for(&knobs->leases_granted, 3);
    must(lg_pull(client, parameters, &error), &error);
    fake_coordinator_reachable(cluster, false);
    for (int i = 0; i < 2; i++) {
        struct lg_push push = push_of(&lease);
        must(lg_push(client, &push, gradients, NULL, &error), &error);
        must(lg_lease_done(client, &lease, &error), &error);
        if (i == 0)
            must(lg_lease_next(client, &lease, &error), &error);
    }
    fake_coordinator_reachable(cluster, true);
    must(lg_lease_next(client, &lease, &error), &error);
    ck_assert_uint_eq(lease.first, 16);
    fake_lock(cluster);
    ck_assert_uint_eq(knobs->dones, 3);
    fake_unlock(cluster);
}
END_TEST

/* The coordinator hears the request and is cut off before its answer arrives: the repeated request is the same one. */
START_TEST(an_unanswered_request_is_repeated_under_its_number) {
    struct lg_error error = {0};
    struct lg_lease lease;
    start_job(8, 8);
    struct fake_knobs *knobs = fake_lock(cluster);
    unsigned before = knobs->dones;
    fake_unlock(cluster);
    wait_for(&knobs->dones, before > 0 ? before : 1);
    must(lg_lease_next(client, &lease, &error), &error);
    must(lg_pull(client, parameters, &error), &error);
    struct lg_push push = push_of(&lease);
    must(lg_push(client, &push, gradients, NULL, &error), &error);
    fake_lock(cluster);
    knobs->drop_dones = 1;
    fake_unlock(cluster);
    must(lg_lease_done(client, &lease, &error), &error);
    for (bool dropped = false; !dropped;) {
        fake_lock(cluster);
        dropped = knobs->drop_dones == 0;
        fake_unlock(cluster);
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    }
    fake_cut_coordinator(cluster);
    must(lg_lease_next(client, &lease, &error), &error);
    ck_assert_int_eq(lease.kind, LG_LEASE_FINISHED);
}
END_TEST

START_TEST(a_fenced_session_ends_every_call) {
    struct lg_error error = {0};
    struct lg_lease lease;
    start_job(0, 8);
    must(lg_pull(client, parameters, &error), &error);
    if (_i == 0) {
        struct fake_knobs *knobs = fake_lock(cluster);
        knobs->fence = true;
        fake_unlock(cluster);
        ck_assert_int_eq(lg_lease_next(client, &lease, &error),
                         LG_FENCED); /* it waits, and the beat's answer ends it */
        ck_assert_str_eq(error.message, "no step for 30 s");
    } else {
        fake_close_sessions(cluster, "evicted");
        ck_assert_int_eq(lg_push(client, &(struct lg_push){.samples = 1}, gradients, NULL, &error), LG_FENCED);
        ck_assert_msg(strstr(error.message, "evicted"), "%s", error.message);
    }
    ck_assert_int_eq(lg_pull(client, parameters, &error), LG_FENCED);
    ck_assert_int_eq(lg_push(client, &(struct lg_push){.samples = 1}, gradients, NULL, &error), LG_FENCED);
    ck_assert_int_eq(lg_lease_next(client, &lease, &error), LG_FENCED);
    ck_assert_int_eq(lg_lease_done(client, &lease, &error), LG_FENCED);
}
END_TEST

START_TEST(a_silent_shard_fails_a_call_at_its_deadline) {
    struct lg_client_options options = options_of(LG_ROLE_TRAINER);
    struct lg_error error = {0};
    options.timeout_ms = 1500;
    must(lg_client_open(&options, &client, &error), &error);
    initialise(1);
    must(lg_pull(client, parameters, &error), &error);
    struct fake_knobs *knobs = fake_lock(cluster);
    knobs->shards_mute = true;
    fake_unlock(cluster);
    ck_assert_int_eq(lg_pull(client, parameters, &error), LG_TIMEOUT);
    ck_assert_msg(strstr(error.message, "no answer for 1."), "%s", error.message);
    ck_assert_int_eq(lg_push(client, &(struct lg_push){.samples = 1}, gradients, NULL, &error), LG_TIMEOUT);
    ck_assert_int_eq(lg_pull(client, parameters, &error), LG_TIMEOUT); /* a push cannot be taken back: it is over */
}
END_TEST

START_TEST(closing_never_hangs) {
    struct lg_error error = {0};
    start_job(0, 8);
    must(lg_pull_start(client, parameters, &error), &error);
    must(lg_push_start(client, &(struct lg_push){.samples = 1}, gradients, &error), &error);
    struct fake_knobs *knobs = fake_lock(cluster);
    knobs->mute = true;
    fake_unlock(cluster);
    if (_i == 1)
        fake_coordinator_reachable(cluster, false);
    struct timespec before, after;
    clock_gettime(CLOCK_MONOTONIC, &before);
    lg_client_close(&client, "in a hurry");
    clock_gettime(CLOCK_MONOTONIC, &after);
    ck_assert_int_le(after.tv_sec - before.tv_sec, 5);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("client");
    TCase *tests = tcase_create("client");
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_set_timeout(tests, 60);
    tcase_add_test(tests, a_job_from_join_to_finish);
    tcase_add_test(tests, pushes_overlap_with_compute_and_the_next_pull);
    tcase_add_test(tests, a_pull_brings_what_the_push_before_it_did);
    tcase_add_test(tests, a_push_brings_the_values_back_in_the_same_round_trip);
    tcase_add_test(tests, the_fd_and_buffers_that_are_remembered);
    tcase_add_test(tests, a_push_is_settled_while_the_caller_computes);
    tcase_add_test(tests, cuts_of_a_lease_and_of_a_push_come_through);
    tcase_add_test(tests, a_push_that_is_not_finite_fails_with_the_reason);
    tcase_add_test(tests, observers_take_the_jobs_tensors_and_only_pull);
    tcase_add_test(tests, beats_carry_the_progress);
    tcase_add_test(tests, one_lease_ahead_is_asked_for_near_the_end_of_the_one_at_hand);
    tcase_add_test(tests, evaluations_are_reported);
    tcase_add_test(tests, a_join_waits_while_the_job_has_no_room);
    tcase_add_test(tests, an_observer_gives_up_at_its_deadline_with_the_reason);
    tcase_add_test(tests, answers_that_nobody_asked_for_do_no_harm);
    tcase_add_test(tests, a_refused_join_says_why);
    tcase_add_test(tests, a_job_of_other_tensors_is_refused);
    tcase_add_test(tests, an_unreachable_coordinator_is_an_error_with_a_remedy_at_the_deadline);
    tcase_add_loop_test(tests, bad_options_are_refused, 0, 6);
    tcase_add_test(tests, a_coordinator_that_comes_late_is_waited_for);
    tcase_add_test(tests, lost_connections_to_shards_lose_nothing);
    tcase_add_test(tests, training_goes_on_without_the_coordinator_and_reports_later);
    tcase_add_test(tests, an_unanswered_request_is_repeated_under_its_number);
    tcase_add_loop_test(tests, a_fenced_session_ends_every_call, 0, 2);
    tcase_add_test(tests, a_silent_shard_fails_a_call_at_its_deadline);
    tcase_add_loop_test(tests, closing_never_hangs, 0, 2);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
