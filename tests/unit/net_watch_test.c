#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "common/net.h"

enum { BURST = 1000 };

struct bench {
    uv_loop_t loop;
    void *ctx, *server, *client;
    struct net_watch server_watch, client_watch;
    struct net_message out;
    int server_got, client_got, bursts, closed;
    size_t largest_burst;
    uv_timer_t deadline;
};
static struct bench bench;

static void on_watch_closed(struct net_watch *watch) {
    (void)watch;
    bench.closed++;
}

static void on_deadline(uv_timer_t *timer) {
    (void)timer;
    ck_abort_msg("nothing came within the deadline");
}

static void stop(void) {
    net_watch_close(&bench.server_watch, on_watch_closed);
    net_watch_close(&bench.client_watch, on_watch_closed);
    net_watch_close(&bench.client_watch, on_watch_closed); /* a second time does nothing */
    uv_close((uv_handle_t *)&bench.deadline, NULL);
}

static void start(void (*on_server)(struct net_watch *, enum lg_status, struct net_message *),
                  void (*on_client)(struct net_watch *, enum lg_status, struct net_message *)) {
    char endpoint[NET_ENDPOINT_BYTES];
    uv_loop_init(&bench.loop);
    bench.ctx = zmq_ctx_new();
    ck_assert_int_eq(net_socket_open(bench.ctx, NET_SERVER, NULL, &bench.server, NULL), LG_OK);
    ck_assert_int_eq(net_bind(bench.server, "tcp://127.0.0.1:0", endpoint, NULL), LG_OK);
    ck_assert_int_eq(net_socket_open(bench.ctx, NET_CLIENT, NULL, &bench.client, NULL), LG_OK);
    ck_assert_int_eq(net_connect(bench.client, endpoint, NULL), LG_OK);
    ck_assert_int_eq(net_watch_start(&bench.server_watch, &bench.loop, bench.server, on_server, &bench, NULL), LG_OK);
    ck_assert_int_eq(net_watch_start(&bench.client_watch, &bench.loop, bench.client, on_client, &bench, NULL), LG_OK);
    uv_timer_init(&bench.loop, &bench.deadline);
    uv_timer_start(&bench.deadline, on_deadline, 20000, 0);
}

static void finish(void) {
    ck_assert_int_eq(uv_run(&bench.loop, UV_RUN_DEFAULT), 0);
    ck_assert_int_eq(bench.closed, 2);
    ck_assert_int_eq(uv_loop_close(&bench.loop), 0);
    net_message_clear(&bench.out);
    net_socket_close(bench.client);
    net_socket_close(bench.server);
    zmq_ctx_term(bench.ctx);
}

static void send_number(void *socket, int number) {
    ck_assert_int_eq(net_message_add(&bench.out, &number, sizeof number), LG_OK);
    ck_assert_int_eq(net_send(socket, &bench.out), LG_OK);
}

static int frame_number(const struct net_message *message, size_t at) {
    int number;
    ck_assert_uint_eq(net_frame_bytes(message, at), sizeof number);
    memcpy(&number, net_frame_data(message, at), sizeof number);
    return number;
}

/* The server echoes; the client counts, checks the order and stops at the end. */
static void echo(struct net_watch *watch, enum lg_status status, struct net_message *message) {
    ck_assert_int_eq(status, LG_OK);
    ck_assert_ptr_eq(watch->data, &bench);
    ck_assert_int_eq(frame_number(message, 1), bench.server_got++);
    ck_assert_int_eq(net_send(watch->socket, message), LG_OK);
}

static void count(struct net_watch *watch, enum lg_status status, struct net_message *message) {
    (void)watch;
    ck_assert_int_eq(status, LG_OK);
    ck_assert_int_eq(frame_number(message, 0), bench.client_got++);
    if (bench.client_got == BURST)
        stop();
}

static void on_burst(struct net_watch *watch, size_t messages) {
    (void)watch;
    bench.bursts++;
    bench.largest_burst = messages > bench.largest_burst ? messages : bench.largest_burst;
}

START_TEST(delivers_all_in_order_within_the_budget) {
    bench.server_watch.on_burst = on_burst;
    start(echo, count);
    for (int i = 0; i < BURST; i++)
        send_number(bench.client, i);
    finish();
    ck_assert_int_eq(bench.server_got, BURST);
    ck_assert_int_gt(bench.bursts, 0);
    ck_assert_uint_le(bench.largest_burst, NET_RECEIVE_BUDGET);
}
END_TEST

/* One message at a time: every one must wake a loop that would otherwise block for ever. */
static void ping(struct net_watch *watch, enum lg_status status, struct net_message *message) {
    count(watch, status, message);
    if (bench.client_got < BURST)
        send_number(bench.client, bench.client_got);
}

START_TEST(never_sleeps_over_a_message) {
    start(echo, ping);
    send_number(bench.client, 0);
    finish();
    ck_assert_int_eq(bench.client_got, BURST);
}
END_TEST

/* Closing from within the callback delivers nothing more. */
static void close_at_once(struct net_watch *watch, enum lg_status status, struct net_message *message) {
    (void)watch;
    (void)status;
    (void)message;
    ck_assert_int_eq(bench.server_got++, 0);
    stop();
}

START_TEST(closes_from_the_callback) {
    start(close_at_once, count);
    for (int i = 0; i < 10; i++)
        send_number(bench.client, i);
    finish();
    ck_assert_int_eq(bench.server_got, 1);
}
END_TEST

static void expect_malformed(struct net_watch *watch, enum lg_status status, struct net_message *message) {
    (void)watch;
    ck_assert_int_eq(status, LG_MALFORMED);
    ck_assert_uint_eq(message->count, 0);
    stop();
}

START_TEST(reports_malformed_messages) {
    start(expect_malformed, count);
    for (int i = 0; i < 2 * NET_FRAMES_MAX; i++)
        ck_assert_int_eq(zmq_send(bench.client, "x", 1, i + 1 < 2 * NET_FRAMES_MAX ? ZMQ_SNDMORE : 0), 1);
    finish();
}
END_TEST

int main(void) {
    Suite *suite = suite_create("net_watch");
    TCase *tests = tcase_create("net_watch");
    tcase_set_timeout(tests, 30);
    tcase_add_test(tests, delivers_all_in_order_within_the_budget);
    tcase_add_test(tests, never_sleeps_over_a_message);
    tcase_add_test(tests, closes_from_the_callback);
    tcase_add_test(tests, reports_malformed_messages);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
