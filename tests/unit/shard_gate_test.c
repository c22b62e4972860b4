/* Gates of a shard: what is answered when, what is applied at the end of a round, and what becomes of the rest. */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/shard_bench.h"

enum { PARKED = -1, READ = WIRE_GATE_KIND_READ, REST = WIRE_GATE_KIND_REST, TICKET = WIRE_GATE_KIND_TICKET };

static struct shard_bench bench;

static void setup(void) {
    shard_bench_init(&bench);
}

static void teardown(void) {
    shard_bench_stop(&bench);
}

/* Sessions 1 to `sessions` have joined, all values are 8, the learning rate is 1. */
static void start(const char *mode, const char *pushes, uint64_t sessions) {
    shard_bench_option(&bench, "consistency.mode", mode);
    if (pushes)
        shard_bench_option(&bench, "consistency.pushes", pushes);
    shard_bench_option(&bench, "lr.base", "1");
    shard_bench_start(&bench);
    for (uint64_t id = 1; id <= sessions; id++)
        shard_bench_join(&bench, id);
    shard_bench_initialise(&bench, 1, 8);
}

static int gate(uint64_t session, int kind, uint64_t round) {
    return (int)shard_bench_gate(&bench, session, (enum wire_gate_kind)kind, round);
}

/* The last answer to the session's last gate. */
static uint32_t answer(uint64_t session) {
    const struct bench_gate *found = shard_bench_answer(&bench, session);
    ck_assert_ptr_nonnull(found);
    return found->status;
}

static struct bench_reply *push(uint64_t session, uint64_t round, float value, uint64_t samples) {
    return shard_bench_push(
        &bench,
        &(struct bench_push){
            .session = session, .round = round, .value = value, .samples = samples, .base = shard_bench_version(0)});
}

static struct wire_shard_job_stats stats(void) {
    struct wire_shard_job_stats found;
    ck_assert_uint_eq(shard_stats(bench.shard, &found, 1), 1);
    return found;
}

START_TEST(a_round_applies_the_mean_over_samples_once) {
    start("bsp", NULL, 2);
    ck_assert_int_eq(gate(1, READ, 0), LG_OK);
    ck_assert_int_eq(gate(2, READ, 0), LG_OK);
    ck_assert_uint_eq(push(1, 0, 1, 1)->status, LG_OK);
    ck_assert(shard_bench_value(&bench, 0) == 8);
    ck_assert_int_eq(gate(1, READ, 1), PARKED);
    struct bench_reply *reply = push(2, 0, 5, 3);
    ck_assert_uint_eq(reply->message.push_reply.version, shard_bench_version(1));
    for (uint32_t unit = 0; unit < BENCH_UNITS; unit++)
        ck_assert(shard_bench_value(&bench, unit) == 4); /* 8 - (1 * 1 + 3 * 5) / 4 */
    ck_assert_uint_eq(answer(1), LG_OK);
    ck_assert_uint_eq(shard_bench_answer(&bench, 1)->round, 1);
    ck_assert_uint_eq(stats().pushes, 2);
    ck_assert_uint_eq(stats().samples, 4);
    ck_assert_uint_eq(stats().staleness_max, 0);
}
END_TEST

START_TEST(memory_of_what_is_gathered_counts) {
    start("bsp", NULL, 1);
    ck_assert_uint_eq(stats().state_bytes, stats().parameter_bytes); /* sgd has none of its own */
}
END_TEST

START_TEST(a_worker_that_dies_in_mid_push_biases_nothing) {
    const uint32_t part[] = {0};
    start("bsp", NULL, 2);
    ck_assert_int_eq(gate(1, READ, 0), LG_OK);
    ck_assert_int_eq(gate(2, READ, 0), LG_OK);
    shard_bench_push(&bench, &(struct bench_push){.session = 2,
                                                  .value = 4,
                                                  .samples = 3,
                                                  .part_count = 3,
                                                  .base = shard_bench_version(0),
                                                  .units = part,
                                                  .unit_count = 1});
    push(1, 0, 2, 1);
    ck_assert_int_eq(gate(1, READ, 1), PARKED);
    shard_bench_close_session(&bench, 2, 1, "dead");
    ck_assert_uint_eq(answer(1), LG_OK);
    ck_assert(shard_bench_value(&bench, 0) == 4.5f); /* 8 - (3 * 4 + 1 * 2) / 4 */
    ck_assert(shard_bench_value(&bench, 2) == 6);    /* 8 - 2 */
}
END_TEST

START_TEST(late_pushes_are_dropped_and_early_ones_refused) {
    start("bsp", NULL, 2);
    ck_assert_int_eq(gate(1, READ, 0), LG_OK);
    push(1, 0, 1, 1);
    ck_assert(shard_bench_value(&bench, 0) == 7);
    struct bench_reply *reply = push(2, 0, 1, 7);
    ck_assert_uint_eq(reply->status, LG_DROPPED);
    ck_assert_str_eq(reply->reason, "its round was over");
    ck_assert(shard_bench_value(&bench, 0) == 7);
    ck_assert_uint_eq(stats().dropped, 7);
    reply = push(2, 5, 1, 1);
    ck_assert_uint_eq(reply->status, LG_INVALID);
    ck_assert_ptr_nonnull(strstr(reply->reason, "for round 5, but this is only round 1"));
}
END_TEST

START_TEST(tickets_are_for_the_first_and_the_rest_is_skipped) {
    start("backup", "1", 2);
    ck_assert_int_eq(gate(1, READ, 0), LG_OK);
    ck_assert_int_eq(gate(2, READ, 0), LG_OK);
    ck_assert_int_eq(gate(2, TICKET, 0), LG_OK);
    ck_assert_int_eq(gate(1, TICKET, 0), LG_DROPPED);
    push(2, 0, 1, 1);
    struct bench_reply *reply = shard_bench_push(&bench, &(struct bench_push){.session = 1,
                                                                              .kind = WIRE_PUSH_KIND_SKIPPED,
                                                                              .samples = 5,
                                                                              .lease = 1,
                                                                              .first = 10,
                                                                              .end = 15,
                                                                              .base = shard_bench_version(0)});
    ck_assert_uint_eq(reply->status, LG_DROPPED);
    ck_assert_str_eq(reply->reason, "it was skipped");
    ck_assert(shard_bench_value(&bench, 0) == 7);
    ck_assert_uint_eq(stats().dropped, 5);
    const struct wire_message query = {.kind = WIRE_LEDGER_QUERY,
                                       .ledger_query = {.job = BENCH_JOB, .shard = BENCH_INDEX}};
    reply = shard_bench_send(&bench, SHARD_ROUTE_CONTROL, &query);
    ck_assert_uint_eq(reply->rows[0].dropped, 5);
    ck_assert_int_eq(gate(1, READ, 1), LG_OK);
}
END_TEST

START_TEST(groups_are_applied_with_their_weights) {
    shard_bench_option(&bench, "staleness.policy", "inverse");
    start("buffered", "2", 2);
    push(1, 0, 4, 1); /* staleness 0 */
    push(2, 0, 4, 3);
    ck_assert(shard_bench_value(&bench, 0) == 4);
    push(1, 0, 4, 1); /* staleness 1, weight 1 */
    push(2, 0, 4, 1);
    ck_assert(shard_bench_value(&bench, 0) == 0);
    push(1, 0, 4, 1); /* staleness 2, weight 1/2 */
    push(2, 0, 4, 1);
    ck_assert(shard_bench_value(&bench, 0) == -2); /* divided by samples, not by weights */
    push(1, 0, 6, 1);                              /* 3: 1/3 */
    ck_assert_int_eq(gate(1, REST, 0), LG_OK);
    ck_assert(shard_bench_value(&bench, 0) == -2);
    ck_assert_int_eq(gate(2, REST, 0), LG_OK); /* nobody is left to fill the group */
    ck_assert_float_eq_tol(shard_bench_value(&bench, 0), -4, 1e-6f);
}
END_TEST

START_TEST(values_are_averaged_and_deltas_added) {
    bench.tensors[1].update = TENSOR_UPDATE_ASSIGN; /* unit 2 */
    start("bsp", NULL, 2);
    ck_assert_int_eq(gate(1, READ, 0), LG_OK);
    ck_assert_int_eq(gate(2, READ, 0), LG_OK);
    for (uint64_t id = 1; id <= 2; id++)
        shard_bench_push(&bench, &(struct bench_push){.session = id,
                                                      .kind = WIRE_PUSH_KIND_DELTA,
                                                      .sign = WIRE_SIGN_ADD,
                                                      .value = (float)(2 * id),
                                                      .samples = id == 1 ? 3 : 1,
                                                      .base = shard_bench_version(0)});
    ck_assert(shard_bench_value(&bench, 0) == 10.5f); /* 8 + (3 * 2 + 4) / 4 */
    ck_assert(shard_bench_value(&bench, 2) == 2.5f);
}
END_TEST

START_TEST(fast_ones_wait_for_slow_ones) {
    shard_bench_option(&bench, "consistency.bound", "1");
    start("ssp", NULL, 2);
    ck_assert_int_eq(gate(1, READ, 0), LG_OK);
    ck_assert_int_eq(gate(2, READ, 0), LG_OK);
    push(1, 0, 1, 1);
    ck_assert(shard_bench_value(&bench, 0) == 7); /* applied at once */
    ck_assert_int_eq(gate(1, READ, 0), LG_OK);
    push(1, 0, 1, 1);
    ck_assert_int_eq(gate(1, READ, 0), PARKED);
    push(2, 0, 1, 1);
    ck_assert_uint_eq(answer(1), LG_OK);
}
END_TEST

START_TEST(a_question_asked_again_is_answered_again) {
    start("bsp", NULL, 2);
    ck_assert_int_eq(gate(1, READ, 0), LG_OK);
    ck_assert_int_eq(gate(2, READ, 0), LG_OK);
    bench.next_tag--; /* the same tag: a repetition */
    ck_assert_int_eq(gate(2, READ, 0), LG_OK);
    push(1, 0, 1, 1);
    ck_assert_int_eq(gate(1, READ, 1), PARKED);
    bench.next_tag--;
    ck_assert_int_eq(gate(1, READ, 1), LG_UNAVAILABLE);
    shard_bench_hello(&bench, 1, 77); /* on a new connection */
    push(2, 0, 1, 1);
    ck_assert_uint_eq(shard_bench_answer(&bench, 77)->status, LG_OK);
}
END_TEST

START_TEST(older_and_foreign_questions_are_refused) {
    start("bsp", NULL, 2);
    ck_assert_int_eq(gate(1, READ, 0), LG_OK);
    bench.next_tag = 0;
    ck_assert_int_eq(gate(1, READ, 0), LG_OK);
    bench.next_tag = 40;
    ck_assert_int_eq(gate(1, REST, 0), LG_OK);
    bench.next_tag = 20;
    gate(1, READ, 0);
    ck_assert_int_eq(bench.reply.kind, WIRE_ERROR);
    ck_assert_uint_eq(bench.reply.status, LG_STALE);
    ck_assert_uint_eq(bench.reply.message.error.seq, 21);
    gate(1, TICKET, 0);
    ck_assert_uint_eq(bench.reply.status, LG_INVALID);
    ck_assert_ptr_nonnull(strstr(bench.reply.reason, "consistency.mode \"bsp\""));
    gate(9, READ, 0);
    ck_assert_uint_eq(bench.reply.status, LG_DENIED);
}
END_TEST

START_TEST(async_has_no_gates) {
    start("async", NULL, 1);
    gate(1, READ, 0);
    ck_assert_uint_eq(bench.reply.status, LG_INVALID);
    struct bench_reply *reply =
        shard_bench_push(&bench, &(struct bench_push){.session = 1, .kind = WIRE_PUSH_KIND_SKIPPED});
    ck_assert_uint_eq(reply->status, LG_INVALID);
    ck_assert_uint_eq(stats().state_bytes, 0);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("shard gate");
    TCase *tests = tcase_create("gates");
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, a_round_applies_the_mean_over_samples_once);
    tcase_add_test(tests, memory_of_what_is_gathered_counts);
    tcase_add_test(tests, a_worker_that_dies_in_mid_push_biases_nothing);
    tcase_add_test(tests, late_pushes_are_dropped_and_early_ones_refused);
    tcase_add_test(tests, tickets_are_for_the_first_and_the_rest_is_skipped);
    tcase_add_test(tests, groups_are_applied_with_their_weights);
    tcase_add_test(tests, values_are_averaged_and_deltas_added);
    tcase_add_test(tests, fast_ones_wait_for_slow_ones);
    tcase_add_test(tests, a_question_asked_again_is_answered_again);
    tcase_add_test(tests, older_and_foreign_questions_are_refused);
    tcase_add_test(tests, async_has_no_gates);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
