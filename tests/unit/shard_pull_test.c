/* Pulls: what is shared, what is kept, what is refused. */
#include <check.h>
#include <math.h>
#include <stdio.h>
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
    ck_assert_uint_eq(reply->message.pull_reply.version, shard_bench_version(1));
}
END_TEST

START_TEST(readers_of_one_version_share_its_copy) {
    start_training();
    shard_bench_join(&bench, 2);
    struct snapshot *first = shard_bench_pull(&bench, 1, NULL)->snapshots[0];
    snapshot_retain(first);
    ck_assert_ptr_eq(shard_bench_pull(&bench, 2, NULL)->snapshots[0], first);
    shard_bench_push(&bench, &(struct bench_push){.session = 1, .value = 1, .base = shard_bench_version(0)});
    ck_assert(first->data[0] == 1); /* never changed while held */
    struct snapshot *second = shard_bench_pull(&bench, 2, NULL)->snapshots[0];
    ck_assert_ptr_ne(second, first);
    ck_assert(second->data[0] == 0.5f);
    snapshot_release(first);
}
END_TEST

START_TEST(snapshots_may_outlive_the_job) {
    start_training();
    struct snapshot *held = shard_bench_pull(&bench, 1, NULL)->snapshots[2];
    snapshot_retain(held);
    const struct wire_message close = {.kind = WIRE_JOB_CLOSE, .job_close = {.job = BENCH_JOB, .shard = BENCH_INDEX}};
    shard_bench_send(&bench, SHARD_ROUTE_CONTROL, &close);
    ck_assert(held->data[9] == 1);
    snapshot_release(held);
}
END_TEST

/* More units than the shard keeps copies of: every pull still returns all of them, and they stay whole. */
START_TEST(many_units_are_pulled_in_one_message) {
    enum { MANY = 150 };
    for (size_t i = 0; i < MANY; i++) {
        bench.tensors[i] = (struct tensor_spec){.rank = 1, .shape = {i + 1}, .lr_factor = 1};
        snprintf(bench.tensors[i].name, sizeof bench.tensors[i].name, "t%zu", i);
    }
    bench.tensor_count = MANY;
    bench.placement_count = MANY;
    start_training();
    for (int round = 0; round < 5; round++) {
        struct bench_reply *reply = shard_bench_pull(&bench, 1, NULL);
        ck_assert_uint_eq(reply->message.unit_count, MANY);
        for (uint32_t i = 0; i < MANY; i++) {
            ck_assert_uint_eq(reply->units[i].unit, i);
            ck_assert(reply->values[i][i] == 1.0f - 0.5f * (float)round);
        }
        ck_assert_uint_eq(reply->message.payload_count, 1); /* small ones share a frame */
        const struct bench_push push = {.session = 1, .value = 1, .base = shard_bench_version((uint64_t)round)};
        ck_assert_uint_eq(shard_bench_push(&bench, &push)->status, LG_OK);
    }
}
END_TEST

START_TEST(pulls_wait_for_initial_values) {
    shard_bench_start(&bench);
    shard_bench_join(&bench, 1);
    struct bench_reply *reply = shard_bench_pull(&bench, 1, NULL);
    ck_assert_int_eq(reply->kind, WIRE_ERROR);
    ck_assert_uint_eq(reply->status, LG_UNAVAILABLE);
    ck_assert_uint_eq(reply->message.error.seq, 99);
    ck_assert_ptr_nonnull(strstr(reply->reason, "0 of 3"));
    const uint32_t some[] = {0, 1};
    shard_bench_push(
        &bench, &(struct bench_push){.session = 1, .kind = WIRE_PUSH_KIND_INITIAL, .units = some, .unit_count = 2});
    ck_assert_uint_eq(shard_bench_pull(&bench, 1, NULL)->status, LG_UNAVAILABLE);
    const uint32_t rest = 2;
    shard_bench_push(
        &bench, &(struct bench_push){.session = 1, .kind = WIRE_PUSH_KIND_INITIAL, .units = &rest, .unit_count = 1});
    ck_assert_int_eq(shard_bench_pull(&bench, 1, NULL)->kind, WIRE_PULL_REPLY);
}
END_TEST

static uint32_t pull_status(const struct wire_unit *units, size_t count, uint64_t map_version) {
    const struct wire_message pull = {
        .kind = WIRE_PULL,
        .pull = {.session = 1, .incarnation = 1, .job = BENCH_JOB, .map_version = map_version, .tag = 5},
        .units = units,
        .unit_count = count};
    struct bench_reply *reply = shard_bench_send(&bench, 1, &pull);
    return reply->kind == WIRE_PULL_REPLY ? LG_OK : reply->status;
}

START_TEST(bad_tables_are_refused) {
    start_training();
    static struct wire_unit units[WIRE_UNITS_MAX + 1] = {{.unit = 2, .elements = 10}, {.unit = 0, .elements = 65536}};
    ck_assert_uint_eq(pull_status(units, 2, BENCH_MAP), LG_OK);
    ck_assert_uint_eq(pull_status(units, 2, BENCH_MAP + 1), LG_FENCED);
    ck_assert_uint_eq(pull_status(units, 0, BENCH_MAP), LG_INVALID);
    units[1] = units[0]; /* twice */
    ck_assert_uint_eq(pull_status(units, 2, BENCH_MAP), LG_INVALID);
    units[1] = (struct wire_unit){.unit = 3, .elements = 10};
    ck_assert_uint_eq(pull_status(units, 2, BENCH_MAP), LG_INVALID);
    units[1] = (struct wire_unit){.unit = UINT32_MAX, .elements = 10};
    ck_assert_uint_eq(pull_status(units, 2, BENCH_MAP), LG_INVALID);
    units[1] = (struct wire_unit){.unit = 0, .elements = 65535};
    ck_assert_uint_eq(pull_status(units, 2, BENCH_MAP), LG_INVALID);
    ck_assert_uint_eq(pull_status(units, WIRE_UNITS_MAX + 1, BENCH_MAP), LG_INVALID);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("shard_pull");
    TCase *tests = tcase_create("shard_pull");
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, a_pull_returns_values_versions_and_leaves_out_what_is_held);
    tcase_add_test(tests, readers_of_one_version_share_its_copy);
    tcase_add_test(tests, snapshots_may_outlive_the_job);
    tcase_add_test(tests, many_units_are_pulled_in_one_message);
    tcase_add_test(tests, pulls_wait_for_initial_values);
    tcase_add_test(tests, bad_tables_are_refused);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
