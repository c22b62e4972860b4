/* Jobs: opening, closing, memory, queries. */
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

static struct bench_reply *close_job(void) {
    const struct wire_message close = {.kind = WIRE_JOB_CLOSE, .job_close = {.job = BENCH_JOB, .shard = BENCH_INDEX}};
    return shard_bench_send(&bench, SHARD_ROUTE_CONTROL, &close);
}

START_TEST(the_same_open_again_changes_nothing) {
    start_training();
    ck_assert_uint_eq(shard_bench_open_job(&bench)->status, LG_OK);
    ck_assert(shard_bench_value(&bench, 0) == 1);
}
END_TEST

START_TEST(another_job_under_the_number_is_refused) {
    shard_bench_start(&bench);
    bench.placement[1] = 1;
    ck_assert_uint_eq(shard_bench_open_job(&bench)->status, LG_EXISTS);
    bench.placement[1] = 0;
    bench.tensors[0].shape[0] = 299;
    bench.placement_count = 3;
    ck_assert_uint_eq(shard_bench_open_job(&bench)->status, LG_EXISTS);
    ck_assert_ptr_nonnull(strstr(bench.reply.reason, "close it first"));
}
END_TEST

static void open_another(uint64_t job) {
    const struct wire_message open = {.kind = WIRE_JOB_OPEN,
                                      .tensors = bench.tensors,
                                      .tensor_count = bench.tensor_count,
                                      .placement = bench.placement,
                                      .placement_count = bench.placement_count,
                                      .job_open = {.job = job,
                                                   .name = "another",
                                                   .shard = BENCH_INDEX,
                                                   .epoch = BENCH_EPOCH,
                                                   .map_version = BENCH_MAP,
                                                   .train_samples = BENCH_SAMPLES}};
    ck_assert_uint_eq(shard_bench_send(&bench, SHARD_ROUTE_CONTROL, &open)->status, LG_OK);
}

/* Where not all jobs fit into a report, old ones are left out, also after one was closed. */
START_TEST(statistics_tell_of_the_newest_jobs_first) {
    struct wire_shard_job_stats stats[3];
    shard_bench_start(&bench);
    for (uint64_t job = 1001; job <= 1003; job++)
        open_another(job);
    ck_assert_uint_eq(close_job()->status, LG_OK);
    ck_assert_uint_eq(shard_stats(bench.shard, stats, 2), 2);
    ck_assert_uint_eq(stats[0].job, 1003);
    ck_assert_uint_eq(stats[1].job, 1002);
    ck_assert_uint_eq(shard_stats(bench.shard, stats, 3), 3);
    ck_assert_uint_eq(stats[2].job, 1001);
}
END_TEST

START_TEST(only_the_units_placed_here_are_here) {
    bench.placement[1] = 1; /* somebody else's slot */
    start_training();
    ck_assert_uint_eq(shard_memory_bytes(bench.shard), (65536 + 10) * 4);
    ck_assert_ptr_null(shard_unit_data(bench.shard, BENCH_JOB, 1, NULL, NULL));
    ck_assert_ptr_null(shard_unit_data(bench.shard, BENCH_JOB, 99, NULL, NULL));
    const uint32_t elsewhere = 1;
    struct bench_reply *reply =
        shard_bench_push(&bench, &(struct bench_push){.session = 1, .units = &elsewhere, .unit_count = 1});
    ck_assert_uint_eq(reply->status, LG_INVALID);
    ck_assert_ptr_nonnull(strstr(reply->reason, "unit 1"));
}
END_TEST

START_TEST(a_job_without_units_here_is_fine) {
    for (int i = 0; i < BENCH_UNITS; i++)
        bench.placement[i] = 2;
    shard_bench_start(&bench);
    struct wire_shard_job_stats stats;
    ck_assert_uint_eq(shard_stats(bench.shard, &stats, 1), 1);
    ck_assert(stats.initialised);
    const struct wire_message marks = {
        .kind = WIRE_MARKS_QUERY,
        .marks_query = {.job = BENCH_JOB, .shard = BENCH_INDEX, .epoch = 0, .first = 10, .end = 20}};
    ck_assert_uint_eq(shard_bench_send(&bench, SHARD_ROUTE_CONTROL, &marks)->message.marks_reply.resume, 20);
}
END_TEST

START_TEST(memory_is_admitted_by_bytes) {
    shard_bench_option(&bench, "updater.kind", "adamw"); /* three times the parameters */
    bench.config.memory_bytes = 3 * 90010 * 4;
    shard_bench_start(&bench);
    struct wire_shard_job_stats stats;
    shard_stats(bench.shard, &stats, 1);
    ck_assert_uint_eq(stats.state_bytes, 2 * stats.parameter_bytes);
    ck_assert_uint_eq(shard_memory_bytes(bench.shard), bench.config.memory_bytes);
    struct wire_message message = {.kind = WIRE_JOB_OPEN,
                                   .tensors = bench.tensors + 1,
                                   .tensor_count = 1,
                                   .placement = bench.placement,
                                   .placement_count = 1};
    message.job_open = (struct wire_job_open){.job = 8, .name = "second", .shard = BENCH_INDEX};
    struct bench_reply *reply = shard_bench_send(&bench, SHARD_ROUTE_CONTROL, &message);
    ck_assert_uint_eq(reply->status, LG_NO_MEMORY);
    ck_assert_ptr_nonnull(strstr(reply->reason, "0 of"));
    ck_assert_uint_eq(close_job()->status, LG_OK);
    ck_assert_uint_eq(shard_memory_bytes(bench.shard), 0);
    ck_assert_uint_eq(shard_bench_send(&bench, SHARD_ROUTE_CONTROL, &message)->status, LG_OK);
}
END_TEST

START_TEST(bad_tables_and_specs_are_refused_with_a_reason) {
    shard_bench_start(&bench);
    close_job();
    bench.placement_count = 2;
    ck_assert_uint_eq(shard_bench_open_job(&bench)->status, LG_INVALID);
    ck_assert_ptr_nonnull(strstr(bench.reply.reason, "placement"));
    bench.placement_count = BENCH_UNITS;
    shard_bench_option(&bench, "updater.kind", "sdg");
    ck_assert_uint_eq(shard_bench_open_job(&bench)->status, LG_INVALID);
    ck_assert_ptr_nonnull(strstr(bench.reply.reason, "did you mean \"sgd\""));
    shard_bench_option(&bench, "updater.kind", "sgd");
    memcpy(bench.tensors[1].name, "weight", 7);
    ck_assert_uint_eq(shard_bench_open_job(&bench)->status, LG_INVALID);
    memcpy(bench.tensors[1].name, "bias", 5);
    bench.config.index++; /* a command for another shard */
    ck_assert_uint_eq(shard_bench_open_job(&bench)->status, LG_INVALID);
    bench.config.index--;
    ck_assert_uint_eq(shard_bench_open_job(&bench)->status, LG_OK);
}
END_TEST

START_TEST(a_closed_job_is_gone_and_closing_again_is_fine) {
    start_training();
    ck_assert_uint_eq(close_job()->status, LG_OK);
    ck_assert_uint_eq(close_job()->status, LG_OK);
    ck_assert_uint_eq(shard_memory_bytes(bench.shard), 0);
    ck_assert_uint_eq(shard_bench_push(&bench, &(struct bench_push){.session = 1})->status, LG_NOT_FOUND);
    ck_assert_uint_eq(shard_bench_hello(&bench, 1, 1)->status, LG_NOT_FOUND);
}
END_TEST

START_TEST(jobs_do_not_see_each_other) {
    start_training();
    struct wire_message message = {.kind = WIRE_JOB_OPEN,
                                   .tensors = bench.tensors,
                                   .tensor_count = bench.tensor_count,
                                   .placement = bench.placement,
                                   .placement_count = bench.placement_count};
    message.job_open = (struct wire_job_open){.job = 8, .name = "second", .shard = BENCH_INDEX};
    ck_assert_uint_eq(shard_bench_send(&bench, SHARD_ROUTE_CONTROL, &message)->status, LG_OK);
    ck_assert(shard_unit_data(bench.shard, 8, 0, NULL, NULL)[0] == 0);
    ck_assert(shard_unit_data(bench.shard, 8, 0, NULL, NULL) != shard_unit_data(bench.shard, BENCH_JOB, 0, NULL, NULL));
    message = (struct wire_message){.kind = WIRE_HELLO};
    message.hello = (struct wire_hello){.session = 1, .incarnation = 1, .token = 3, .job = 8};
    ck_assert_uint_eq(shard_bench_send(&bench, 1, &message)->status, LG_DENIED); /* a session of the first job */
}
END_TEST

static struct bench_reply *marks(uint64_t epoch, uint64_t first, uint64_t end) {
    const struct wire_message query = {
        .kind = WIRE_MARKS_QUERY,
        .marks_query = {.job = BENCH_JOB, .shard = BENCH_INDEX, .epoch = epoch, .first = first, .end = end}};
    struct bench_reply *reply = shard_bench_send(&bench, SHARD_ROUTE_CONTROL, &query);
    ck_assert_int_eq(reply->kind, WIRE_MARKS_REPLY);
    ck_assert_uint_eq(reply->status, LG_OK);
    return reply;
}

static void push_range(uint64_t first, uint64_t end, const uint32_t *units, size_t count) {
    struct bench_reply *reply = shard_bench_push(&bench, &(struct bench_push){.session = 1,
                                                                              .base = shard_bench_version(0),
                                                                              .lease = 1,
                                                                              .first = first,
                                                                              .end = end,
                                                                              .samples = end - first,
                                                                              .units = units,
                                                                              .unit_count = count});
    ck_assert_msg(reply->status == LG_OK, "%s", reply->reason);
}

START_TEST(marks_and_ledgers_tell_what_was_applied) {
    start_training();
    const uint32_t some[] = {0, 2};
    push_range(0, 100, NULL, 0);
    push_range(100, 150, some, 2);
    struct bench_reply *reply = marks(0, 50, 1000);
    ck_assert_uint_eq(reply->message.marks_reply.resume, 100);
    ck_assert_uint_eq(reply->message.marks_reply.mark_count, 2);
    ck_assert(reply->positions[0] == 100 && reply->positions[1] == 150);
    ck_assert_uint_eq(marks(0, 0, 80)->message.marks_reply.resume, 80);
    ck_assert_uint_eq(marks(1, 30, 80)->message.marks_reply.resume, 30);
    push_range(150, BENCH_SAMPLES, some, 2);
    const uint32_t rest = 1;
    push_range(100, BENCH_SAMPLES, &rest, 1);
    ck_assert_uint_eq(marks(0, 0, BENCH_SAMPLES)->message.marks_reply.resume, BENCH_SAMPLES);
    const struct wire_message query = {.kind = WIRE_LEDGER_QUERY,
                                       .ledger_query = {.job = BENCH_JOB, .shard = BENCH_INDEX}};
    reply = shard_bench_send(&bench, SHARD_ROUTE_CONTROL, &query);
    ck_assert_int_eq(reply->kind, WIRE_LEDGER_REPLY);
    ck_assert_uint_eq(reply->message.ledger_reply.row_count, 1);
    ck_assert_uint_eq(reply->rows[0].samples_least, BENCH_SAMPLES);
    ck_assert_uint_eq(reply->rows[0].samples_most, BENCH_SAMPLES);
}
END_TEST

START_TEST(queries_about_unknown_jobs_are_answered) {
    shard_bench_start(&bench);
    const struct wire_message query = {.kind = WIRE_LEDGER_QUERY, .ledger_query = {.job = 99, .shard = BENCH_INDEX}};
    ck_assert_uint_eq(shard_bench_send(&bench, SHARD_ROUTE_CONTROL, &query)->status, LG_NOT_FOUND);
    const struct wire_message ask = {.kind = WIRE_MARKS_QUERY, .marks_query = {.job = 99, .shard = BENCH_INDEX}};
    ck_assert_uint_eq(shard_bench_send(&bench, SHARD_ROUTE_CONTROL, &ask)->status, LG_NOT_FOUND);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("shard_job");
    TCase *tests = tcase_create("shard_job");
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, the_same_open_again_changes_nothing);
    tcase_add_test(tests, another_job_under_the_number_is_refused);
    tcase_add_test(tests, statistics_tell_of_the_newest_jobs_first);
    tcase_add_test(tests, only_the_units_placed_here_are_here);
    tcase_add_test(tests, a_job_without_units_here_is_fine);
    tcase_add_test(tests, memory_is_admitted_by_bytes);
    tcase_add_test(tests, bad_tables_and_specs_are_refused_with_a_reason);
    tcase_add_test(tests, a_closed_job_is_gone_and_closing_again_is_fine);
    tcase_add_test(tests, jobs_do_not_see_each_other);
    tcase_add_test(tests, marks_and_ledgers_tell_what_was_applied);
    tcase_add_test(tests, queries_about_unknown_jobs_are_answered);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
