#include <arpa/inet.h>
#include <check.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/net.h"

static void *ctx, *server, *client;
static char endpoint[NET_ENDPOINT_BYTES];
static struct net_message message;

static void setup(void) {
    struct lg_error error;
    ctx = zmq_ctx_new();
    ck_assert_int_eq(net_socket_open(ctx, NET_SERVER, NULL, &server, &error), LG_OK);
    ck_assert_int_eq(net_bind(server, "tcp://127.0.0.1:0", endpoint, &error), LG_OK);
    ck_assert_int_eq(net_socket_open(ctx, NET_CLIENT, &(struct net_options){.no_reconnect = true}, &client, &error),
                     LG_OK);
}

static void teardown(void) {
    net_message_clear(&message);
    net_socket_close(client);
    net_socket_close(server);
    zmq_ctx_term(ctx); /* would hang if a socket were left */
}

/* Waits until the socket has something, at most five seconds. */
static void wait_readable(void *socket) {
    zmq_pollitem_t item = {.socket = socket, .events = ZMQ_POLLIN};
    ck_assert_int_eq(zmq_poll(&item, 1, 5000), 1);
}

static enum lg_status receive(void *socket) {
    wait_readable(socket);
    return net_receive(socket, &message);
}

static void connect_client(void) {
    ck_assert_int_eq(net_connect(client, endpoint, NULL), LG_OK);
}

static void send_text(void *socket, const char *text) {
    net_message_clear(&message);
    ck_assert_int_eq(net_message_add(&message, text, strlen(text)), LG_OK);
    ck_assert_int_eq(net_send(socket, &message), LG_OK);
    ck_assert_uint_eq(message.count, 0);
}

START_TEST(carries_messages_both_ways) {
    connect_client();
    ck_assert_int_eq(net_receive(server, &message), LG_UNAVAILABLE);
    ck_assert_int_eq(net_message_add(&message, "head", 4), LG_OK);
    ck_assert_int_eq(net_message_add(&message, "", 0), LG_OK);
    ck_assert_int_eq(net_message_add(&message, "body", 4), LG_OK);
    ck_assert_int_eq(net_send(client, &message), LG_OK);
    ck_assert_int_eq(receive(server), LG_OK);
    ck_assert_uint_eq(message.count, 4); /* the routing id comes first */
    ck_assert_uint_eq(net_frame_bytes(&message, 2), 0);
    ck_assert_int_eq(memcmp(net_frame_data(&message, 3), "body", 4), 0);
    ck_assert_uint_eq(net_message_bytes(&message), net_frame_bytes(&message, 0) + 8);
    ck_assert_int_eq(net_send(server, &message), LG_OK); /* back where it came from */
    ck_assert_int_eq(receive(client), LG_OK);
    ck_assert_uint_eq(message.count, 3);
    ck_assert_int_eq(memcmp(net_frame_data(&message, 0), "head", 4), 0);
}
END_TEST

START_TEST(waits_a_moment_for_a_message) {
    connect_client();
    ck_assert_int_eq(net_receive_soon(server, &message), LG_UNAVAILABLE); /* and comes back */
    send_text(client, "late");
    enum lg_status status = LG_UNAVAILABLE;
    for (int i = 0; i < 5000 / NET_SOON_MS && status == LG_UNAVAILABLE; i++)
        status = net_receive_soon(server, &message);
    ck_assert_int_eq(status, LG_OK);
    ck_assert_uint_eq(message.count, 2);
    ck_assert_int_eq(memcmp(net_frame_data(&message, 1), "late", 4), 0);
    ck_assert_int_eq(net_receive_soon(server, &message), LG_UNAVAILABLE);
}
END_TEST

static int released;
static void release(void *data, void *hint) {
    free(data);
    __atomic_fetch_add((int *)hint, 1, __ATOMIC_SEQ_CST);
}

START_TEST(borrows_and_moves_frames) {
    zmq_msg_t frame;
    char *data = malloc(1 << 20);
    memset(data, 7, 1 << 20);
    ck_assert_int_eq(net_message_add_data(&message, data, 1 << 20, release, &released), LG_OK);
    ck_assert_int_eq(zmq_msg_init_size(&frame, 3), 0);
    ck_assert_int_eq(net_message_add_move(&message, &frame), LG_OK);
    ck_assert_uint_eq(zmq_msg_size(&frame), 0);
    zmq_msg_close(&frame);
    connect_client();
    ck_assert_int_eq(net_send(client, &message), LG_OK);
    ck_assert_int_eq(receive(server), LG_OK);
    ck_assert_uint_eq(net_frame_bytes(&message, 1), 1 << 20);
    ck_assert_uint_eq(net_frame_bytes(&message, 2), 3);
    net_message_clear(&message);
    ck_assert_int_eq(net_message_add_data(&message, malloc(1), 1, release, &released), LG_OK);
    net_message_clear(&message); /* never sent: released here */
    ck_assert_int_ge(__atomic_load_n(&released, __ATOMIC_SEQ_CST), 1);
}
END_TEST

START_TEST(fills_up_at_the_frame_limit) {
    for (int i = 0; i < NET_FRAMES_MAX; i++)
        ck_assert_int_eq(net_message_add(&message, "x", 1), LG_OK);
    zmq_msg_t frame;
    zmq_msg_init(&frame);
    ck_assert_int_eq(net_message_add(&message, "x", 1), LG_NO_MEMORY);
    ck_assert_int_eq(net_message_add_move(&message, &frame), LG_NO_MEMORY);
    ck_assert_int_eq(net_message_add_data(&message, &frame, 1, NULL, NULL), LG_NO_MEMORY);
    zmq_msg_close(&frame);
}
END_TEST

START_TEST(drops_a_message_with_too_many_frames) {
    connect_client();
    for (int i = 0; i < NET_FRAMES_MAX; i++) /* with the routing id one too many */
        ck_assert_int_eq(zmq_send(client, "x", 1, i + 1 < NET_FRAMES_MAX ? ZMQ_SNDMORE : 0), 1);
    send_text(client, "next");
    ck_assert_int_eq(receive(server), LG_MALFORMED);
    ck_assert_uint_eq(message.count, 0);
    ck_assert_int_eq(receive(server), LG_OK);
    ck_assert_uint_eq(message.count, 2);
    ck_assert_int_eq(memcmp(net_frame_data(&message, 1), "next", 4), 0);
}
END_TEST

START_TEST(says_when_the_peer_is_not_there) {
    struct lg_error error;
    ck_assert_int_eq(net_message_add(&message, "nobody", 6), LG_OK);
    ck_assert_int_eq(net_message_add(&message, "x", 1), LG_OK);
    ck_assert_int_eq(net_send(server, &message), LG_UNAVAILABLE);
    ck_assert_uint_eq(message.count, 0);
    ck_assert_int_eq(net_message_add(&message, "x", 1), LG_OK);
    ck_assert_int_eq(net_send(client, &message), LG_UNAVAILABLE); /* not connected */
    ck_assert_int_eq(net_send(client, &message), LG_INVALID);
    ck_assert_int_eq(net_connect(client, "nonsense", &error), LG_INVALID);
}
END_TEST

/* What is kept for a peer that is away, or does not read, is bounded. */
START_TEST(bounds_what_waits_for_a_peer_that_is_away) {
    struct lg_error error;
    void *link;
    int taken = 0;
    ck_assert_int_eq(net_socket_open(ctx, NET_CLIENT, &(struct net_options){.queue = 10}, &link, &error), LG_OK);
    ck_assert_int_eq(net_connect(link, "tcp://127.0.0.1:1", &error), LG_OK);
    for (; taken < 100; taken++) {
        ck_assert_int_eq(net_message_add(&message, "beat", 4), LG_OK);
        if (net_send(link, &message) != LG_OK)
            break;
    }
    net_socket_close(link);
    ck_assert_int_eq(taken, 10);
}
END_TEST

START_TEST(bounds_what_waits_for_a_peer_that_does_not_read) {
    static char block[4096];
    zmq_msg_t id;
    int taken = 0, limit = 4 * NET_QUEUE;
    connect_client();
    send_text(client, "hello");
    ck_assert_int_eq(receive(server), LG_OK);
    zmq_msg_init(&id);
    zmq_msg_copy(&id, &message.frames[0]);
    enum lg_status status = LG_OK;
    for (; status == LG_OK && taken < limit; taken++) {
        net_message_clear(&message);
        ck_assert_int_eq(net_message_add(&message, zmq_msg_data(&id), zmq_msg_size(&id)), LG_OK);
        ck_assert_int_eq(net_message_add(&message, block, sizeof block), LG_OK);
        status = net_send(server, &message);
    }
    zmq_msg_close(&id);
    ck_assert_int_eq(status, LG_UNAVAILABLE);
    ck_assert_int_lt(taken, limit);
}
END_TEST

START_TEST(explains_a_port_in_use) {
    struct lg_error error;
    void *second;
    char actual[NET_ENDPOINT_BYTES];
    ck_assert_int_eq(net_socket_open(ctx, NET_SERVER, NULL, &second, &error), LG_OK);
    ck_assert_int_eq(net_bind(second, endpoint, actual, &error), LG_EXISTS);
    ck_assert_ptr_nonnull(strstr(error.message, "address already in use; choose another bind address or port 0"));
    ck_assert_int_eq(net_bind(second, "tcp://203.0.113.1:1", actual, &error), LG_IO);
    ck_assert_ptr_nonnull(strstr(error.message, "203.0.113.1"));
    net_socket_close(second);
    ck_assert_ptr_nonnull(strstr(endpoint, "tcp://127.0.0.1:"));
    ck_assert_str_ne(endpoint, "tcp://127.0.0.1:0");
}
END_TEST

START_TEST(speaks_ipv6) {
    char actual[NET_ENDPOINT_BYTES];
    struct lg_error error;
    void *second;
    ck_assert_int_eq(net_socket_open(ctx, NET_SERVER, NULL, &second, &error), LG_OK);
    if (net_bind(second, "tcp://[::1]:0", actual, &error) == LG_OK) { /* a machine may have no IPv6 at all */
        ck_assert_ptr_nonnull(strstr(actual, "tcp://[::1]:"));
        ck_assert_int_eq(net_connect(client, actual, &error), LG_OK);
        send_text(client, "six");
        ck_assert_int_eq(receive(second), LG_OK);
    }
    net_socket_close(second);
}
END_TEST

static enum net_event next_event(struct net_monitor *monitor) {
    enum net_event event = NET_EVENT_NONE;
    while (event == NET_EVENT_NONE) {
        wait_readable(monitor->socket);
        event = net_monitor_next(monitor);
    }
    return event;
}

START_TEST(monitor_sees_up_and_down) {
    struct net_monitor monitor;
    ck_assert_int_eq(net_monitor_open(&monitor, ctx, client, NULL), LG_OK);
    ck_assert_int_eq(net_monitor_next(&monitor), NET_EVENT_NONE);
    connect_client();
    ck_assert_int_eq(next_event(&monitor), NET_EVENT_UP);
    net_socket_close(server);
    server = NULL;
    ck_assert_int_eq(next_event(&monitor), NET_EVENT_DOWN);
    net_monitor_close(&monitor);
    net_monitor_close(&monitor);
}
END_TEST

START_TEST(monitor_sees_a_refused_connection) {
    struct net_monitor monitor;
    net_socket_close(server);
    server = NULL;
    /* The port stays bound to a socket that does not listen, so nobody else can take it and connections are refused. */
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t bytes = sizeof address;
    ck_assert_int_eq(bind(fd, (struct sockaddr *)&address, sizeof address), 0);
    ck_assert_int_eq(getsockname(fd, (struct sockaddr *)&address, &bytes), 0);
    snprintf(endpoint, sizeof endpoint, "tcp://127.0.0.1:%u", ntohs(address.sin_port));
    ck_assert_int_eq(net_monitor_open(&monitor, ctx, client, NULL), LG_OK);
    connect_client();
    ck_assert_int_eq(next_event(&monitor), NET_EVENT_FAILED);
    net_monitor_close(&monitor);
    close(fd);
}
END_TEST

/* Bytes that are no ZeroMQ must neither crash the server nor disturb other clients. */
START_TEST(survives_garbage) {
    char host[NET_ENDPOINT_BYTES], byte;
    uint16_t port;
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    ck_assert_int_eq(net_endpoint_split(endpoint, host, &port, NULL), LG_OK);
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    ck_assert_int_eq(connect(fd, (struct sockaddr *)&address, sizeof address), 0);
    static const char garbage[] =
        "GET / HTTP/1.1\r\nHost: x\r\n\r\n\xff\xff\xff\xff\xff\xff\xff\xff\x7f\xff\xff\xff\xff"
        "................................................................";
    ck_assert_int_gt(send(fd, garbage, sizeof garbage, MSG_NOSIGNAL), 0);
    while (recv(fd, &byte, 1, 0) > 0) /* until the server closes */
        continue;
    close(fd);
    connect_client();
    send_text(client, "still there");
    ck_assert_int_eq(receive(server), LG_OK);
    ck_assert_uint_eq(message.count, 2);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("net");
    TCase *tests = tcase_create("net");
    tcase_set_timeout(tests, 30);
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, carries_messages_both_ways);
    tcase_add_test(tests, waits_a_moment_for_a_message);
    tcase_add_test(tests, borrows_and_moves_frames);
    tcase_add_test(tests, fills_up_at_the_frame_limit);
    tcase_add_test(tests, drops_a_message_with_too_many_frames);
    tcase_add_test(tests, says_when_the_peer_is_not_there);
    tcase_add_test(tests, bounds_what_waits_for_a_peer_that_is_away);
    tcase_add_test(tests, bounds_what_waits_for_a_peer_that_does_not_read);
    tcase_add_test(tests, explains_a_port_in_use);
    tcase_add_test(tests, speaks_ipv6);
    tcase_add_test(tests, monitor_sees_up_and_down);
    tcase_add_test(tests, monitor_sees_a_refused_connection);
    tcase_add_test(tests, survives_garbage);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
