/* The shard as a whole: who may say what, and what it tells about itself. */
#include "server/shard.h"

#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/block.h"
#include "tests/support/shard_bench.h"

static struct shard_bench bench;

static void setup(void) {
    shard_bench_init(&bench);
}

static void teardown(void) {
    shard_bench_stop(&bench);
}

/* A started bench with session 1 joined and all values 1. */
static void start_training(void) {
    shard_bench_start(&bench);
    shard_bench_join(&bench, 1);
    shard_bench_initialise(&bench, 1, 1);
}

START_TEST(a_push_moves_every_unit_and_the_counter) {
    start_training();
    struct bench_reply *reply = shard_bench_push(
        &bench, &(struct bench_push){.session = 1, .value = 0.5f, .base = shard_bench_version(0), .samples = 32});
    ck_assert_uint_eq(reply->status, LG_OK);
    ck_assert_uint_eq(reply->message.push_reply.units_applied, BENCH_UNITS);
    ck_assert_uint_eq(reply->message.push_reply.version, shard_bench_version(1));
    ck_assert_uint_eq(reply->message.push_reply.staleness, 0);
    ck_assert(reply->message.push_reply.weight == 1);
    for (uint32_t i = 0; i < BENCH_UNITS; i++)
        ck_assert(shard_bench_value(&bench, i) == 0.75f); /* 1 - 0.5 * 0.5 */
    struct wire_shard_job_stats stats;
    ck_assert_uint_eq(shard_stats(bench.shard, &stats, 1), 1);
    ck_assert_uint_eq(stats.job, BENCH_JOB);
    ck_assert_uint_eq(stats.shard, BENCH_INDEX);
    ck_assert_uint_eq(stats.pushes, 1);
    ck_assert_uint_eq(stats.samples, 32);
    ck_assert_uint_eq(stats.push_bytes, 2 * 90010 * 4); /* the initial values too */
    ck_assert_uint_eq(stats.parameter_bytes, 90010 * 4);
    ck_assert_uint_eq(stats.state_bytes, 0);
    ck_assert(stats.initialised);
    ck_assert_uint_eq(shard_stats(bench.shard, &stats, 0), 0);
}
END_TEST

START_TEST(commands_come_over_the_control_route_only) {
    shard_bench_start(&bench);
    const enum wire_kind commands[] = {WIRE_JOB_OPEN,      WIRE_JOB_CLOSE,   WIRE_SESSION_OPEN,
                                       WIRE_SESSION_CLOSE, WIRE_MARKS_QUERY, WIRE_LEDGER_QUERY};
    for (int i = 0; i < 6; i++) {
        struct bench_reply *reply = shard_bench_send(&bench, 5, &(struct wire_message){.kind = commands[i]});
        ck_assert_int_eq(reply->kind, WIRE_ERROR);
        ck_assert_uint_eq(reply->status, LG_DENIED);
    }
    const enum wire_kind others[] = {WIRE_HELLO, WIRE_PUSH, WIRE_PULL, WIRE_JOIN};
    for (int i = 0; i < 4; i++)
        ck_assert_int_eq(shard_bench_send(&bench, SHARD_ROUTE_CONTROL, &(struct wire_message){.kind = others[i]})->kind,
                         WIRE_ERROR);
}
END_TEST

START_TEST(what_a_shard_does_not_know_is_answered) {
    shard_bench_start(&bench);
    struct bench_reply *reply = shard_bench_send(&bench, 5, &(struct wire_message){.kind = WIRE_JOIN, .request = 8});
    ck_assert_int_eq(reply->kind, WIRE_ERROR);
    ck_assert_uint_eq(reply->status, LG_UNSUPPORTED);
    ck_assert_ptr_nonnull(strstr(reply->reason, "JOIN"));
    const struct wire_message pull = {.kind = WIRE_PULL, .request = 9, .pull = {.job = 12345, .tag = 77}};
    reply = shard_bench_send(&bench, 5, &pull);
    ck_assert_uint_eq(reply->status, LG_NOT_FOUND);
    ck_assert_uint_eq(reply->message.error.seq, 77);
    const struct wire_message push = {.kind = WIRE_PUSH, .push = {.job = 12345, .seq = 3}};
    reply = shard_bench_send(&bench, 5, &push);
    ck_assert_int_eq(reply->kind, WIRE_PUSH_REPLY);
    ck_assert_uint_eq(reply->status, LG_NOT_FOUND);
    ck_assert_uint_eq(reply->message.push_reply.seq, 3);
}
END_TEST

START_TEST(bytes_that_could_not_be_decoded_are_answered) {
    shard_bench_start(&bench);
    struct lg_error error = {0};
    (void)lg_fail(&error, LG_MALFORMED, "the header ends early");
    unsigned before = bench.replies;
    shard_refuse(bench.shard, 6, 42, 0, &error);
    ck_assert_uint_eq(bench.replies, before + 1);
    ck_assert_int_eq(bench.reply.kind, WIRE_ERROR);
    ck_assert_uint_eq(bench.reply.route, 6);
    ck_assert_uint_eq(bench.reply.request, 42);
    ck_assert_uint_eq(bench.reply.status, LG_MALFORMED);
    ck_assert_str_eq(bench.reply.reason, "the header ends early");
}
END_TEST

START_TEST(impossible_limits_are_refused_at_the_start) {
    shard_bench_start(&bench);
    struct shard *shard = NULL;
    const struct shard_sink sink = {0};
    struct lg_error error = {0};
    struct shard_config config = bench.config;
    config.credit_bytes = 1000;
    ck_assert_int_eq(shard_new(&config, &sink, &shard, &error), LG_INVALID);
    ck_assert_ptr_null(shard);
    config = bench.config;
    config.window = 0;
    ck_assert_int_eq(shard_new(&config, &sink, &shard, &error), LG_INVALID);
    shard_free(NULL);
}
END_TEST

START_TEST(metrics_count_and_go_with_the_job) {
    struct metrics *metrics = metrics_new();
    bench.config.metrics = metrics;
    start_training();
    shard_bench_push(&bench, &(struct bench_push){.session = 1, .base = shard_bench_version(0), .samples = 5});
    shard_bench_push(&bench, &(struct bench_push){.session = 1, .base = shard_bench_version(9)}); /* refused */
    shard_bench_pull(&bench, 1, NULL);
    ck_assert(metrics_total(metrics, METRIC_PUSH_PARTS, NULL) == 3);
    ck_assert(metrics_total(metrics, METRIC_PUSHES_APPLIED, (const char *const[]){"job", "bench", NULL}) == 1);
    ck_assert(metrics_total(metrics, METRIC_SAMPLES_APPLIED, (const char *const[]){"shard", "4", NULL}) == 5);
    ck_assert(metrics_total(metrics, METRIC_PULLS, NULL) == 1);
    ck_assert(metrics_total(metrics, METRIC_PULL_BYTES, NULL) == 90010 * 4);
    ck_assert(metrics_total(metrics, METRIC_REFUSED, (const char *const[]){"reason", "invalid", NULL}) == 1);
    ck_assert(metrics_total(metrics, METRIC_SESSIONS, NULL) == 1);
    ck_assert(metrics_total(metrics, METRIC_CREDIT_GRANTED, NULL) == (double)bench.config.session_credit_bytes);
    ck_assert(metrics_total(metrics, METRIC_PARAMETER_BYTES, NULL) == 90010 * 4);
    const struct wire_message close = {.kind = WIRE_JOB_CLOSE, .job_close = {.job = BENCH_JOB, .shard = BENCH_INDEX}};
    ck_assert_uint_eq(shard_bench_send(&bench, SHARD_ROUTE_CONTROL, &close)->status, LG_OK);
    ck_assert(metrics_total(metrics, METRIC_PUSH_PARTS, NULL) == 0);
    ck_assert(metrics_total(metrics, METRIC_SESSIONS, NULL) == 0);
    ck_assert(metrics_total(metrics, METRIC_CREDIT_GRANTED, NULL) == 0);
    ck_assert(metrics_total(metrics, METRIC_PARAMETER_BYTES, NULL) == 0);
    shard_free(bench.shard);
    bench.shard = NULL;
    metrics_free(metrics);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("shard");
    TCase *tests = tcase_create("shard");
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, a_push_moves_every_unit_and_the_counter);
    tcase_add_test(tests, commands_come_over_the_control_route_only);
    tcase_add_test(tests, what_a_shard_does_not_know_is_answered);
    tcase_add_test(tests, bytes_that_could_not_be_decoded_are_answered);
    tcase_add_test(tests, impossible_limits_are_refused_at_the_start);
    tcase_add_test(tests, metrics_count_and_go_with_the_job);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
