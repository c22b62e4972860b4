/* A real loop on a thread of its own; the tests are raw socket clients. */
#include <arpa/inet.h>
#include <check.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/http.h"

static uv_loop_t loop;
static uv_async_t stop;
static struct http_server *server;
static pthread_t thread;
static bool closed;
static char reply[1 << 20];

static char metrics_text[] = "a 1\n";

static void produce_metrics(void *data, struct http_reply *out) {
    out->content_type = "application/openmetrics-text";
    buf_printf(&out->body, "%s", (const char *)data);
}

static void produce_large(void *data, struct http_reply *out) {
    (void)data;
    for (int i = 0; i < 100000; i++)
        buf_printf(&out->body, "%05d\n", i);
}

static void produce_sick(void *data, struct http_reply *out) {
    (void)data;
    out->status = 503;
    buf_text(&out->body, "no\n");
}

static const struct http_route routes[] = {
    {.path = "/metrics", .produce = produce_metrics, .data = metrics_text},
    {.path = "/large", .produce = produce_large},
    {.path = "/healthz", .open = true, .produce = produce_sick},
};

static void on_closed(void *data) {
    *(bool *)data = true;
}

static void on_stop(uv_async_t *async) {
    http_close(server, on_closed, &closed);
    http_close(server, on_closed, &closed);
    uv_close((uv_handle_t *)async, NULL);
}

static void *run(void *arg) {
    uv_run(&loop, UV_RUN_DEFAULT);
    return arg;
}

static void start(const struct http_options *options) {
    struct lg_error error;
    ck_assert_int_eq(uv_loop_init(&loop), 0);
    uv_async_init(&loop, &stop, on_stop);
    enum lg_status status = http_start(&loop, options, routes, 3, &server, &error);
    ck_assert_msg(status == LG_OK, "%s", error.message);
    ck_assert_int_eq(pthread_create(&thread, NULL, run, NULL), 0);
}

static void finish(void) {
    uv_async_send(&stop);
    pthread_join(thread, NULL);
    ck_assert(closed);
    ck_assert_int_eq(uv_loop_close(&loop), 0); /* nothing left in it */
}

static int dial(void) {
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons(http_port(server)), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    ck_assert_int_eq(connect(fd, (struct sockaddr *)&address, sizeof address), 0);
    return fd;
}

/* Sends `request`, reads until the server closes, returns the status code; the whole reply is in `reply`. */
static int ask(const char *request) {
    size_t at = 0;
    ssize_t got;
    int fd = dial(), status = 0;
    ck_assert_int_eq(send(fd, request, strlen(request), MSG_NOSIGNAL), (ssize_t)strlen(request));
    while (at < sizeof reply - 1 && (got = recv(fd, reply + at, sizeof reply - 1 - at, 0)) > 0)
        at += (size_t)got;
    reply[at] = '\0';
    close(fd);
    if (strncmp(reply, "HTTP/1.1 ", 9) == 0)
        status = (int)strtol(reply + 9, NULL, 10);
    return status;
}

#define REQUEST(line, headers) line " HTTP/1.1\r\nConnection: close\r\n" headers "\r\n"
#define LOCAL "Host: 127.0.0.1:1\r\n"

static const char *body(void) {
    const char *end = strstr(reply, "\r\n\r\n");
    ck_assert_ptr_nonnull(end);
    return end + 4;
}

START_TEST(serves_routes) {
    start(&(struct http_options){0});
    ck_assert_uint_gt(http_port(server), 0);
    ck_assert_int_eq(strncmp(http_url(server), "http://127.0.0.1:", 17), 0);
    ck_assert_int_eq(ask(REQUEST("GET /metrics", LOCAL)), 200);
    ck_assert_str_eq(body(), "a 1\n");
    ck_assert_ptr_nonnull(strstr(reply, "Content-Type: application/openmetrics-text\r\n"));
    ck_assert_ptr_nonnull(strstr(reply, "default-src 'self'"));
    ck_assert_int_eq(ask(REQUEST("GET /metrics?x=1", LOCAL)), 200);
    ck_assert_int_eq(ask(REQUEST("HEAD /metrics", LOCAL)), 200);
    ck_assert_ptr_nonnull(strstr(reply, "Content-Length: 4\r\n"));
    ck_assert_str_eq(body(), "");
    ck_assert_int_eq(ask(REQUEST("GET /healthz", LOCAL)), 503);
    ck_assert_int_eq(ask(REQUEST("GET /nothing", LOCAL)), 404);
    ck_assert_ptr_nonnull(strstr(body(), "/metrics"));
    ck_assert_int_eq(ask(REQUEST("GET /large", LOCAL)), 200);
    ck_assert_uint_eq(strlen(body()), 600000);
    finish();
}
END_TEST

START_TEST(refuses_other_methods) {
    start(&(struct http_options){0});
    ck_assert_int_eq(ask(REQUEST("POST /metrics", LOCAL "Content-Length: 4\r\n") "body"), 405);
    ck_assert_ptr_nonnull(strstr(reply, "Allow: GET, HEAD\r\n"));
    ck_assert_int_eq(ask(REQUEST("DELETE /metrics", LOCAL)), 405);
    finish();
}
END_TEST

START_TEST(checks_the_host) {
    start(&(struct http_options){.hosts = "node7, lagoon.example"});
    ck_assert_int_eq(ask(REQUEST("GET /metrics", "Host: evil.example\r\n")), 421);
    ck_assert_int_eq(ask(REQUEST("GET /metrics", "Host: node77\r\n")), 421);
    ck_assert_int_eq(ask(REQUEST("GET /metrics", "Host: node\r\n")), 421);
    ck_assert_int_eq(ask(REQUEST("GET /metrics", "Host: \r\n")), 421);
    ck_assert_int_eq(ask(REQUEST("GET /metrics", "Host: node7:80\r\n")), 200);
    ck_assert_int_eq(ask(REQUEST("GET /metrics", "Host: Lagoon.example\r\n")), 200);
    ck_assert_int_eq(ask(REQUEST("GET /metrics", "Host: localhost:5\r\n")), 200);
    ck_assert_int_eq(ask(REQUEST("GET /metrics", "Host: [::1]:5\r\n")), 200);
    ck_assert_int_eq(ask(REQUEST("GET /metrics", "Host: 10.1.2.3\r\n")), 200);
    ck_assert_int_eq(ask(REQUEST("GET /metrics", "")), 400);
    finish();
}
END_TEST

START_TEST(checks_the_token) {
    start(&(struct http_options){.token = "s3cret"});
    ck_assert_int_eq(ask(REQUEST("GET /metrics", LOCAL)), 401);
    ck_assert_int_eq(ask(REQUEST("GET /metrics", LOCAL "Authorization: Bearer s3cre\r\n")), 401);
    ck_assert_int_eq(ask(REQUEST("GET /metrics", LOCAL "Authorization: Bearer s3cret2\r\n")), 401);
    ck_assert_int_eq(ask(REQUEST("GET /metrics", LOCAL "Authorization: Basic s3cret\r\n")), 401);
    ck_assert_int_eq(ask(REQUEST("GET /nothing", LOCAL)), 401);
    ck_assert_int_eq(ask(REQUEST("GET /metrics", LOCAL "Authorization: Bearer s3cret\r\n")), 200);
    ck_assert_int_eq(ask(REQUEST("GET /healthz", LOCAL)), 503); /* open, and sick */
    finish();
}
END_TEST

START_TEST(survives_garbage) {
    start(&(struct http_options){0});
    ask("\xff\xfe garbage\r\n\r\n\r\n");
    ask("GET\r\n\r\n");
    static char path[69000];
    memset(path, 'a', sizeof path);
    int fd = dial(); /* more than a connection may hold: the server answers or cuts */
    ck_assert_int_eq(send(fd, "GET /", 5, MSG_NOSIGNAL), 5);
    ck_assert_int_gt(send(fd, path, sizeof path, MSG_NOSIGNAL), 0);
    while (recv(fd, reply, sizeof reply, 0) > 0)
        continue;
    close(fd);
    ck_assert_int_eq(ask(REQUEST("GET /metrics", LOCAL)), 200);
    finish();
}
END_TEST

START_TEST(closes_with_connections_open) {
    start(&(struct http_options){0});
    int idle = dial(), half = dial();
    ck_assert_int_gt(send(half, "GET /me", 7, MSG_NOSIGNAL), 0);
    ck_assert_int_eq(ask(REQUEST("GET /metrics", LOCAL)), 200);
    finish();
    char byte;
    ck_assert_int_le(recv(idle, &byte, 1, 0), 0);
    ck_assert_int_le(recv(half, &byte, 1, 0), 0);
    close(idle);
    close(half);
}
END_TEST

START_TEST(keeps_connections_alive) {
    start(&(struct http_options){0});
    int fd = dial();
    for (int i = 0; i < 20; i++) {
        size_t at = 0;
        const char *request = "GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n";
        ck_assert_int_gt(send(fd, request, strlen(request), MSG_NOSIGNAL), 0);
        reply[0] = '\0';
        while (!strstr(reply, "\r\n\r\na 1\n")) {
            ssize_t got = recv(fd, reply + at, sizeof reply - 1 - at, 0);
            ck_assert_int_gt(got, 0);
            at += (size_t)got;
            reply[at] = '\0';
        }
    }
    close(fd);
    finish();
}
END_TEST

START_TEST(explains_why_it_cannot_start) {
    struct lg_error error;
    struct http_server *second;
    start(&(struct http_options){0});
    uv_loop_t idle;
    uv_loop_init(&idle);
    struct http_options options = {.port = http_port(server)};
    ck_assert_int_eq(http_start(&idle, &options, routes, 3, &second, &error), LG_EXISTS);
    ck_assert_ptr_nonnull(strstr(error.message, "address already in use; choose another http port or port 0"));
    options = (struct http_options){.address = "0.0.0.0"};
    ck_assert_int_eq(http_start(&idle, &options, routes, 3, &second, &error), LG_DENIED);
    ck_assert_ptr_nonnull(strstr(error.message, "set a token"));
    options = (struct http_options){.address = "example"};
    ck_assert_int_eq(http_start(&idle, &options, routes, 3, &second, &error), LG_INVALID);
    options = (struct http_options){.token = "two words"};
    ck_assert_int_eq(http_start(&idle, &options, routes, 3, &second, &error), LG_INVALID);
    ck_assert_ptr_null(second);
    ck_assert_int_eq(uv_loop_close(&idle), 0);
    finish();
}
END_TEST

START_TEST(may_be_exposed_in_so_many_words) {
    start(&(struct http_options){.address = "0.0.0.0", .exposed = true});
    ck_assert_int_eq(ask(REQUEST("GET /metrics", LOCAL)), 200);
    finish();
}
END_TEST

int main(void) {
    Suite *suite = suite_create("http");
    TCase *tests = tcase_create("http");
    tcase_set_timeout(tests, 30);
    tcase_add_test(tests, serves_routes);
    tcase_add_test(tests, refuses_other_methods);
    tcase_add_test(tests, checks_the_host);
    tcase_add_test(tests, checks_the_token);
    tcase_add_test(tests, survives_garbage);
    tcase_add_test(tests, closes_with_connections_open);
    tcase_add_test(tests, keeps_connections_alive);
    tcase_add_test(tests, explains_why_it_cannot_start);
    tcase_add_test(tests, may_be_exposed_in_so_many_words);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
