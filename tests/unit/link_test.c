/* Links over real ZeroMQ: they come up, notice a loss, rest, and come up again, in a clock of the test's own. */
#include "client/link.h"

#include <arpa/inet.h>
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define MS INT64_C(1000000)

static void *zmq, *server;
static char endpoint[NET_ENDPOINT_BYTES];
static struct link link_;
static int64_t now;

static void serve(const char *where) {
    struct lg_error error = {0};
    enum lg_status status = LG_EXISTS;
    ck_assert_int_eq(net_socket_open(zmq, NET_SERVER, NULL, &server, &error), LG_OK);
    char at[NET_ENDPOINT_BYTES];
    memcpy(at, where, strlen(where) + 1);
    for (int i = 0; status == LG_EXISTS && i < 5000; i++) { /* ZeroMQ lets go of a closed port when it comes to it */
        status = net_bind(server, at, endpoint, &error);
        if (status == LG_EXISTS)
            (void)zmq_poll(NULL, 0, 1);
    }
    ck_assert_msg(status == LG_OK, "%s", error.message);
}

static void setup(void) {
    zmq = zmq_ctx_new();
    now = 1000 * MS;
    serve("tcp://127.0.0.1:0");
    link_init(&link_, zmq, endpoint);
}

static void teardown(void) {
    link_deinit(&link_);
    net_socket_close(server);
    zmq_ctx_term(zmq);
}

/* Waits for news of the monitor. */
static enum link_change news(void) {
    for (int i = 0; i < 100; i++) {
        zmq_pollitem_t item = {.socket = link_.monitor.socket, .events = ZMQ_POLLIN};
        ck_assert_ptr_nonnull(item.socket);
        (void)zmq_poll(&item, 1, 200);
        enum link_change change = link_events(&link_, now);
        if (change != LINK_CHANGE_NONE)
            return change;
    }
    ck_abort_msg("no news of the connection in 20 s");
    return LINK_CHANGE_NONE;
}

static void come_up(void) {
    ck_assert_int_eq(link_tick(&link_, now), LINK_CHANGE_NONE);
    ck_assert_int_eq(link_.state, LINK_CONNECTING);
    ck_assert_int_eq(news(), LINK_CHANGE_UP);
    ck_assert_int_eq(link_.state, LINK_UP);
    ck_assert_int_eq(link_next_ns(&link_), INT64_MAX);
}

START_TEST(a_loss_is_noticed_and_mended) {
    come_up();
    net_socket_close(server);
    ck_assert_int_eq(news(), LINK_CHANGE_DOWN);
    ck_assert_int_eq(link_.state, LINK_RESTING);
    ck_assert_ptr_null(link_.socket);
    ck_assert_int_eq(link_tick(&link_, now), LINK_CHANGE_NONE); /* it rests first */
    ck_assert_int_eq(link_.state, LINK_RESTING);
    char same[NET_ENDPOINT_BYTES];
    memcpy(same, endpoint, sizeof same);
    serve(same);
    now = link_next_ns(&link_);
    come_up();
}
END_TEST

/* A port that is taken, but where nobody listens: every attempt is refused. */
static int take_port(char where[NET_ENDPOINT_BYTES]) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t bytes = sizeof address;
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(bind(fd, (const struct sockaddr *)&address, sizeof address), 0);
    ck_assert_int_eq(getsockname(fd, (struct sockaddr *)&address, &bytes), 0);
    snprintf(where, NET_ENDPOINT_BYTES, "tcp://127.0.0.1:%u", ntohs(address.sin_port));
    return fd;
}

START_TEST(rests_grow_while_nobody_is_there) {
    char nowhere[NET_ENDPOINT_BYTES];
    int64_t before = 0;
    int fd = take_port(nowhere);
    link_init(&link_, zmq, nowhere);
    for (int i = 0; i < 8; i++) {
        ck_assert_int_eq(link_tick(&link_, now), LINK_CHANGE_NONE);
        ck_assert_int_eq(news(), LINK_CHANGE_FAILED);
        int64_t rest = link_next_ns(&link_) - now;
        ck_assert(rest >= before);
        ck_assert(rest >= 50 * MS && rest <= 1000 * MS);
        before = rest;
        now = link_next_ns(&link_);
    }
    ck_assert(before == 1000 * MS);
    close(fd);
}
END_TEST

START_TEST(an_attempt_without_an_answer_is_given_up) {
    ck_assert_int_eq(link_tick(&link_, now), LINK_CHANGE_NONE);
    ck_assert_int_eq(link_tick(&link_, now + 6000 * MS), LINK_CHANGE_NONE);
    ck_assert_int_eq(link_tick(&link_, now + 7000 * MS), LINK_CHANGE_FAILED);
    ck_assert_int_eq(link_.state, LINK_RESTING);
}
END_TEST

START_TEST(a_reopened_link_rests_longer) {
    come_up();
    link_reopen(&link_, now);
    ck_assert_int_eq(link_.state, LINK_RESTING);
    ck_assert(link_next_ns(&link_) - now == 500 * MS);
}
END_TEST

/* Takes one message at the server and sends it back. */
static void echo(void) {
    struct net_message message = {0};
    zmq_pollitem_t item = {.socket = server, .events = ZMQ_POLLIN};
    ck_assert_int_eq(zmq_poll(&item, 1, 20000), 1);
    ck_assert_int_eq(net_receive(server, &message), LG_OK);
    ck_assert_int_eq(net_send(server, &message), LG_OK);
}

START_TEST(a_quiet_link_tells_by_its_fds) {
    struct pollfd fds[LINK_FDS];
    struct net_message message = {0};
    come_up();
    ck_assert(!link_is_quiet(&link_));
    ck_assert_int_eq(link_events(&link_, now), LINK_CHANGE_NONE);
    for (int i = 0; i < 100; i++) {
        ck_assert_int_eq(net_message_add(&message, &i, sizeof i), LG_OK);
        ck_assert_int_eq(link_send(&link_, &message), LG_OK);
        ck_assert(!link_is_quiet(&link_)); /* the answer may be there already, and the fd says nothing */
        bool echoed = i % 2;
        if (echoed)
            echo();
        while (link_receive(&link_, &message) == LG_UNAVAILABLE) {
            ck_assert(link_is_quiet(&link_));
            if (!echoed)
                echo();
            echoed = true;
            link_watch(&link_, fds);
            do
                ck_assert_int_ge(poll(fds, LINK_FDS, 20000), 1);
            while (!fds[0].revents);
            link_polled(&link_, fds);
            ck_assert(!link_is_quiet(&link_));
        }
        net_message_clear(&message);
    }
}
END_TEST

START_TEST(a_stopped_link_stays_so) {
    come_up();
    link_stop(&link_);
    ck_assert_ptr_null(link_.socket);
    ck_assert(link_is_quiet(&link_));
    now += 3600000 * MS;
    ck_assert_int_eq(link_tick(&link_, now), LINK_CHANGE_NONE);
    ck_assert_int_eq(link_events(&link_, now), LINK_CHANGE_NONE);
    ck_assert_ptr_null(link_.socket);
    ck_assert_int_eq(link_next_ns(&link_), INT64_MAX);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("link");
    TCase *tests = tcase_create("link");
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_set_timeout(tests, 60);
    tcase_add_test(tests, a_loss_is_noticed_and_mended);
    tcase_add_test(tests, rests_grow_while_nobody_is_there);
    tcase_add_test(tests, an_attempt_without_an_answer_is_given_up);
    tcase_add_test(tests, a_reopened_link_rests_longer);
    tcase_add_test(tests, a_quiet_link_tells_by_its_fds);
    tcase_add_test(tests, a_stopped_link_stays_so);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
