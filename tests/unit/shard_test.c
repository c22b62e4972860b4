/* The rules of the shard, one by one, through shard_receive. */
#include "server/shard.h"

#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

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

/* ---- the way of a push */

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
    ck_assert_uint_eq(stats.pushes, 1);
    ck_assert_uint_eq(stats.samples, 32);
    ck_assert(stats.initialised);
}
END_TEST

START_TEST(a_pull_returns_values_versions_and_leaves_out_what_is_held) {
    start_training();
    struct bench_reply *reply = shard_bench_pull(&bench, 1, NULL);
    ck_assert_int_eq(reply->kind, WIRE_PULL_REPLY);
    ck_assert_uint_eq(reply->message.pull_reply.tag, 99);
    ck_assert_uint_eq(reply->message.pull_reply.version, shard_bench_version(0));
    ck_assert_uint_eq(reply->message.unit_count, BENCH_UNITS);
    uint64_t held[BENCH_UNITS];
    for (uint32_t i = 0; i < BENCH_UNITS; i++) {
        ck_assert(reply->values[i][0] == 1);
        ck_assert_uint_ne(reply->units[i].version, 0);
        held[i] = reply->units[i].version;
    }
    reply = shard_bench_pull(&bench, 1, held);
    ck_assert_uint_eq(reply->message.unit_count, 0);
    ck_assert_uint_eq(reply->message.pull_reply.units_unchanged, BENCH_UNITS);
    const uint32_t one = 2;
    shard_bench_push(
        &bench,
        &(struct bench_push){.session = 1, .value = 1, .base = shard_bench_version(0), .units = &one, .unit_count = 1});
    reply = shard_bench_pull(&bench, 1, held);
    ck_assert_uint_eq(reply->message.unit_count, 1);
    ck_assert_uint_eq(reply->units[0].unit, 2);
    ck_assert(reply->values[0][0] == 0.5f);
    ck_assert_uint_eq(reply->message.pull_reply.units_unchanged, BENCH_UNITS - 1);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("shard");
    TCase *tests = tcase_create("shard");
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, a_push_moves_every_unit_and_the_counter);
    tcase_add_test(tests, a_pull_returns_values_versions_and_leaves_out_what_is_held);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
