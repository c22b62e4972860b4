/* Sessions: opening, greeting, credit, fencing. */
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

static struct bench_reply *hello(uint64_t session, uint32_t incarnation, uint64_t token, uint64_t route) {
    const struct wire_message message = {
        .kind = WIRE_HELLO,
        .request = ++bench.next_request,
        .hello = {.session = session, .incarnation = incarnation, .token = token, .job = BENCH_JOB, .window = 4}};
    return shard_bench_send(&bench, route, &message);
}

START_TEST(hello_grants_window_and_credit) {
    shard_bench_start(&bench);
    shard_bench_open_session(&bench, 1, 1);
    struct bench_reply *reply = hello(1, 1, 3, 10);
    ck_assert_int_eq(reply->kind, WIRE_HELLO_REPLY);
    ck_assert_uint_eq(reply->message.hello_reply.shard, BENCH_INDEX);
    ck_assert_uint_eq(reply->message.hello_reply.window, 4); /* as asked: fewer than the shard's 8 */
    ck_assert_uint_eq(reply->message.hello_reply.credit_bytes, bench.config.session_credit_bytes);
    ck_assert_uint_eq(reply->message.hello_reply.version, shard_bench_version(0));
    ck_assert_uint_eq(shard_bench_hello(&bench, 1, 10)->message.hello_reply.window, 8);
}
END_TEST

START_TEST(wrong_tokens_and_unknown_sessions_are_denied) {
    shard_bench_start(&bench);
    shard_bench_open_session(&bench, 1, 1);
    ck_assert_uint_eq(hello(1, 1, 4, 10)->status, LG_DENIED);
    ck_assert_uint_eq(hello(2, 1, 3, 10)->status, LG_DENIED);
    ck_assert_uint_eq(hello(1, 2, 3, 10)->status, LG_DENIED); /* that incarnation has not been opened */
}
END_TEST

START_TEST(only_the_greeted_connection_may_send) {
    start_training();
    struct bench_reply *reply = shard_bench_push(&bench, &(struct bench_push){.session = 1, .route = 2});
    ck_assert_uint_eq(reply->status, LG_DENIED);
    ck_assert_int_eq(hello(1, 1, 3, 2)->kind, WIRE_HELLO_REPLY); /* the client reconnects */
    const struct bench_push push = {.session = 1, .route = 2, .base = shard_bench_version(0)};
    ck_assert_uint_eq(shard_bench_push(&bench, &push)->status, LG_OK);
    ck_assert_uint_eq(shard_bench_push(&bench, &(struct bench_push){.session = 1, .route = 1})->status, LG_DENIED);
    ck_assert_uint_eq(shard_bench_pull(&bench, 1, NULL)->status, LG_DENIED);
    shard_bench_open_session(&bench, 5, 1); /* and one that never said hello */
    ck_assert_uint_eq(shard_bench_push(&bench, &(struct bench_push){.session = 5})->status, LG_DENIED);
}
END_TEST

/* The old connection's hello may be read after the new one's. */
START_TEST(a_late_hello_does_not_take_the_connection_back) {
    start_training();
    struct wire_message message = {
        .kind = WIRE_HELLO,
        .request = 50,
        .hello = {.session = 1, .incarnation = 1, .token = 3, .job = BENCH_JOB, .window = 4}};
    ck_assert_int_eq(shard_bench_send(&bench, 20, &message)->kind, WIRE_HELLO_REPLY);
    message.request = 49;
    ck_assert_uint_eq(shard_bench_send(&bench, 19, &message)->status, LG_STALE);
    const struct bench_push push = {.session = 1, .route = 20, .base = shard_bench_version(0)};
    ck_assert_uint_eq(shard_bench_push(&bench, &push)->status, LG_OK);
    message.request = 50; /* the same one, twice on the way */
    ck_assert_int_eq(shard_bench_send(&bench, 20, &message)->kind, WIRE_HELLO_REPLY);
    shard_bench_open_session(&bench, 1, 2); /* a new incarnation counts anew */
    message.request = 1;
    message.hello.incarnation = 2;
    ck_assert_int_eq(shard_bench_send(&bench, 21, &message)->kind, WIRE_HELLO_REPLY);
}
END_TEST

START_TEST(another_principal_is_denied) {
    start_training();
    const struct wire_unit unit = {.unit = 2, .elements = 10};
    const struct wire_message pull = {
        .kind = WIRE_PULL,
        .pull = {.session = 1, .incarnation = 1, .job = BENCH_JOB, .map_version = BENCH_MAP, .tag = 1},
        .units = &unit,
        .unit_count = 1};
    shard_receive(bench.shard, &(struct shard_input){.route = 1, .principal = 6, .message = &pull});
    ck_assert_uint_eq(bench.reply.status, LG_DENIED);
    shard_receive(bench.shard, &(struct shard_input){.route = 1, .message = &pull});
    ck_assert_int_eq(bench.reply.kind, WIRE_PULL_REPLY);
}
END_TEST

START_TEST(ended_sessions_are_fenced_with_the_reason) {
    start_training();
    ck_assert_uint_eq(shard_bench_close_session(&bench, 1, 1, "killed by signal 9")->status, LG_OK);
    ck_assert_uint_eq(shard_bench_close_session(&bench, 1, 1, "again")->status, LG_OK);
    struct bench_reply *reply = shard_bench_push(&bench, &(struct bench_push){.session = 1});
    ck_assert_uint_eq(reply->status, LG_FENCED);
    ck_assert_ptr_nonnull(strstr(reply->reason, "killed by signal 9"));
    ck_assert_uint_eq(shard_bench_pull(&bench, 1, NULL)->status, LG_FENCED);
    ck_assert_uint_eq(hello(1, 1, 3, 1)->status, LG_FENCED);
    ck_assert_uint_eq(shard_bench_open_session(&bench, 1, 1)->status, LG_FENCED); /* a late command */
    ck_assert_uint_eq(shard_bench_open_session(&bench, 1, 2)->status, LG_OK);
    ck_assert_int_eq(hello(1, 2, 3, 1)->kind, WIRE_HELLO_REPLY);
    ck_assert_uint_eq(shard_bench_push(&bench, &(struct bench_push){.session = 1})->status, LG_FENCED);
}
END_TEST

START_TEST(a_close_before_the_open_fences_too) {
    shard_bench_start(&bench);
    ck_assert_uint_eq(shard_bench_close_session(&bench, 9, 1, "gone before it came")->status, LG_OK);
    ck_assert_uint_eq(shard_bench_open_session(&bench, 9, 1)->status, LG_FENCED);
}
END_TEST

START_TEST(a_newer_incarnation_takes_the_place) {
    start_training();
    ck_assert_uint_eq(shard_bench_open_session(&bench, 1, 1)->status, LG_OK); /* the same command again */
    ck_assert_uint_eq(
        shard_bench_push(&bench, &(struct bench_push){.session = 1, .base = shard_bench_version(0)})->status, LG_OK);
    ck_assert_uint_eq(shard_bench_open_session(&bench, 1, 3)->status, LG_OK);
    ck_assert_uint_eq(shard_bench_push(&bench, &(struct bench_push){.session = 1})->status, LG_FENCED);
    ck_assert_uint_eq(shard_bench_open_session(&bench, 1, 2)->status, LG_FENCED);
    ck_assert_uint_eq(shard_bench_close_session(&bench, 1, 1, "late")->status, LG_OK); /* not the present one */
    ck_assert_int_eq(hello(1, 3, 3, 1)->kind, WIRE_HELLO_REPLY);
}
END_TEST

START_TEST(credit_comes_from_one_pool) {
    bench.config.credit_bytes = (8 << 20) + 100;
    bench.config.session_credit_bytes = 3 << 20;
    shard_bench_start(&bench);
    for (uint64_t id = 1; id <= 4; id++)
        shard_bench_open_session(&bench, id, 1);
    ck_assert_uint_eq(hello(1, 1, 3, 1)->message.hello_reply.credit_bytes, 3 << 20);
    ck_assert_uint_eq(hello(2, 1, 6, 2)->message.hello_reply.credit_bytes, 3 << 20);
    ck_assert_uint_eq(hello(3, 1, 9, 3)->message.hello_reply.credit_bytes, (2 << 20) + 100); /* what is left */
    struct bench_reply *reply = hello(4, 1, 12, 4);
    ck_assert_uint_eq(reply->status, LG_NO_CREDIT);
    ck_assert_ptr_nonnull(strstr(reply->reason, "raise \"shards.credit\""));
    ck_assert_uint_eq(hello(1, 1, 3, 1)->message.hello_reply.credit_bytes, 3 << 20); /* hello resets */
    shard_bench_close_session(&bench, 2, 1, "done");
    ck_assert_uint_eq(hello(4, 1, 12, 4)->message.hello_reply.credit_bytes, 3 << 20);
}
END_TEST

START_TEST(messages_beyond_the_grant_are_refused) {
    bench.tensors[0].shape[0] = 2000; /* 2.4 MB in units 0..9, bias in 10 */
    bench.placement_count = 11;
    bench.config.session_credit_bytes = 2 << 20;
    shard_bench_start(&bench);
    shard_bench_join(&bench, 1);
    struct bench_reply *reply =
        shard_bench_push(&bench, &(struct bench_push){.session = 1, .kind = WIRE_PUSH_KIND_INITIAL});
    ck_assert_uint_eq(reply->status, LG_NO_CREDIT);
    ck_assert_ptr_nonnull(strstr(reply->reason, "split"));
    ck_assert_uint_eq(shard_bench_pull(&bench, 1, NULL)->status, LG_NO_CREDIT);
}
END_TEST

START_TEST(sessions_are_limited) {
    bench.config.sessions_max = 2;
    shard_bench_start(&bench);
    ck_assert_uint_eq(shard_bench_open_session(&bench, 1, 1)->status, LG_OK);
    ck_assert_uint_eq(shard_bench_open_session(&bench, 2, 1)->status, LG_OK);
    ck_assert_uint_eq(shard_bench_open_session(&bench, 3, 1)->status, LG_UNAVAILABLE);
    shard_bench_close_session(&bench, 1, 1, "");
    ck_assert_uint_eq(shard_bench_open_session(&bench, 3, 1)->status, LG_OK);
}
END_TEST

START_TEST(the_memory_of_ended_sessions_is_bounded) {
    shard_bench_start(&bench);
    for (uint64_t id = 1; id <= 1000; id++) {
        ck_assert_uint_eq(shard_bench_open_session(&bench, id, 1)->status, LG_OK);
        ck_assert_uint_eq(shard_bench_close_session(&bench, id, 1, "over")->status, LG_OK);
    }
    ck_assert_uint_eq(hello(1000, 1, 3000, 1)->status, LG_FENCED);
    ck_assert_uint_eq(hello(1, 1, 3, 1)->status, LG_DENIED); /* forgotten, and still out */
}
END_TEST

START_TEST(observers_pull_and_do_not_push) {
    start_training();
    const struct wire_message open = {
        .kind = WIRE_SESSION_OPEN,
        .session_open = {.job = BENCH_JOB, .shard = BENCH_INDEX, .session = 2, .incarnation = 1, .token = 6}};
    ck_assert_uint_eq(shard_bench_send(&bench, SHARD_ROUTE_CONTROL, &open)->status, LG_OK);
    shard_bench_hello(&bench, 2, 2);
    ck_assert_int_eq(shard_bench_pull(&bench, 2, NULL)->kind, WIRE_PULL_REPLY);
    ck_assert_uint_eq(shard_bench_push(&bench, &(struct bench_push){.session = 2})->status, LG_DENIED);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("shard_session");
    TCase *tests = tcase_create("shard_session");
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, hello_grants_window_and_credit);
    tcase_add_test(tests, wrong_tokens_and_unknown_sessions_are_denied);
    tcase_add_test(tests, only_the_greeted_connection_may_send);
    tcase_add_test(tests, a_late_hello_does_not_take_the_connection_back);
    tcase_add_test(tests, another_principal_is_denied);
    tcase_add_test(tests, ended_sessions_are_fenced_with_the_reason);
    tcase_add_test(tests, a_close_before_the_open_fences_too);
    tcase_add_test(tests, a_newer_incarnation_takes_the_place);
    tcase_add_test(tests, credit_comes_from_one_pool);
    tcase_add_test(tests, messages_beyond_the_grant_are_refused);
    tcase_add_test(tests, sessions_are_limited);
    tcase_add_test(tests, the_memory_of_ended_sessions_is_bounded);
    tcase_add_test(tests, observers_pull_and_do_not_push);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
