/* The coordinator as a process: real sockets, a real database, signals. */
#include "server/coordinator/coordinator_process.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "common/log.h"
#include "proto/wire_net.h"

enum { ANSWER_MS = 10000 };

static char folder[64], data[96];

static void make_folder(void) {
    snprintf(folder, sizeof folder, "/tmp/lagoon-coordinator-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(folder));
    snprintf(data, sizeof data, "%s/data", folder);
}

static void remove_folder(void) {
    static const char *const names[] = {"coordinator.db", "coordinator.db-wal", "coordinator.db-shm"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char file[160];
        snprintf(file, sizeof file, "%s/%s", data, names[i]);
        unlink(file);
    }
    rmdir(data);
    ck_assert_int_eq(rmdir(folder), 0);
}

/* ---- the process, and a peer of it */

struct process {
    pid_t pid;
    char endpoint[NET_ENDPOINT_BYTES], http[NET_ENDPOINT_BYTES];
    char failure[600]; /* why it did not start */
};

static int told[2];

static enum lg_status tell(void *context, const char *endpoint, const char *http, struct lg_error *error) {
    char line[2 * NET_ENDPOINT_BYTES];
    (void)context;
    int bytes = snprintf(line, sizeof line, "%s %s\n", endpoint, http);
    return write(told[1], line, (size_t)bytes) == bytes ? LG_OK : lg_fail(error, LG_IO, "the pipe is closed");
}

static void become(const char *bind) {
    struct coordinator_options options = {.bind = bind,
                                          .advertise = "",
                                          .data_dir = data,
                                          .beat_ms = 1000,
                                          .dead_after_ms = 5000,
                                          .server_grace_ms = 60000,
                                          .ready = tell};
    struct lg_error error = {0};
    close(told[0]);
    enum lg_status status = coordinator_process_run(&options, &error);
    if (status != LG_OK)
        dprintf(told[1], "! %s\n", error.message);
    exit(status == LG_OK ? 0 : 1);
}

static struct process start(const char *bind) {
    struct process process = {0};
    char line[2 * NET_ENDPOINT_BYTES + 600];
    ck_assert_int_eq(pipe(told), 0);
    process.pid = fork();
    ck_assert_int_ge(process.pid, 0);
    if (process.pid == 0)
        become(bind);
    close(told[1]);
    FILE *in = fdopen(told[0], "r");
    ck_assert_ptr_nonnull(fgets(line, sizeof line, in));
    if (line[0] == '!')
        snprintf(process.failure, sizeof process.failure, "%.590s", line + 2);
    else
        ck_assert_int_eq(sscanf(line, "%255s %255s", process.endpoint, process.http), 2);
    fclose(in);
    return process;
}

static int ended(const struct process *process) {
    int status;
    ck_assert_int_eq(waitpid(process->pid, &status, 0), process->pid);
    ck_assert_msg(WIFEXITED(status), "ended by signal %d", WTERMSIG(status));
    return WEXITSTATUS(status);
}

static void stop(const struct process *process) {
    kill(process->pid, SIGTERM);
    ck_assert_int_eq(ended(process), 0);
}

struct peer {
    void *zmq, *socket;
    struct net_message in, out;
    struct wire_arena *arena;
};

static struct peer connect_to(const struct process *process) {
    struct peer peer = {.zmq = zmq_ctx_new(), .arena = wire_arena_new(16 << 20)};
    ck_assert_int_eq(net_socket_open(peer.zmq, NET_CLIENT, NULL, &peer.socket, NULL), LG_OK);
    ck_assert_int_eq(net_connect(peer.socket, process->endpoint, NULL), LG_OK);
    return peer;
}

static void disconnect(struct peer *peer) {
    net_message_clear(&peer->in);
    net_socket_close(peer->socket);
    zmq_ctx_term(peer->zmq);
    wire_arena_free(peer->arena);
}

static void send_out(struct peer *peer) {
    zmq_pollitem_t item = {.socket = peer->socket, .events = ZMQ_POLLOUT};
    ck_assert_int_eq(zmq_poll(&item, 1, ANSWER_MS), 1);
    ck_assert_int_eq(net_send(peer->socket, &peer->out), LG_OK);
}

static struct wire_message receive(struct peer *peer) {
    struct wire_message reply;
    struct lg_error error = {0};
    zmq_pollitem_t item = {.socket = peer->socket, .events = ZMQ_POLLIN};
    ck_assert_msg(zmq_poll(&item, 1, ANSWER_MS) == 1, "no answer");
    ck_assert_int_eq(net_receive(peer->socket, &peer->in), LG_OK);
    ck_assert_msg(wire_net_decode(&peer->in, 0, peer->arena, &reply, &error) == LG_OK, "%s", error.message);
    return reply;
}

static struct wire_message ask(struct peer *peer, const struct wire_message *message) {
    ck_assert_int_eq(wire_net_add(message, &peer->out), LG_OK);
    send_out(peer);
    return receive(peer);
}

static struct wire_message submit(struct peer *peer, const char *name) {
    const struct wire_pair pair = {"name", name};
    struct wire_message message = {.kind = WIRE_SUBMIT, .request = 1};
    message.submit = (struct wire_submit){&pair, 1, false};
    return ask(peer, &message);
}

static struct wire_message query(struct peer *peer, const char *what, const char *job) {
    struct wire_message message = {.kind = WIRE_QUERY, .request = 2};
    message.query = (struct wire_query){.what = what, .job = job};
    return ask(peer, &message);
}

START_TEST(it_serves_and_stops) {
    struct process process = start("127.0.0.1:0");
    ck_assert_str_eq(process.failure, "");
    struct peer peer = connect_to(&process);
    struct wire_message reply = submit(&peer, "a");
    ck_assert_int_eq(reply.kind, WIRE_SUBMIT_REPLY);
    ck_assert_uint_eq(reply.submit_reply.job, 1);
    reply = query(&peer, "status", "");
    ck_assert_int_eq(reply.kind, WIRE_QUERY_REPLY);
    ck_assert_ptr_nonnull(
        memmem(reply.document.data, reply.document.bytes, process.endpoint, strlen(process.endpoint)));
    disconnect(&peer);
    stop(&process);
}
END_TEST

START_TEST(a_kill_loses_nothing_that_was_answered) {
    for (int round = 0; round < 5; round++) {
        struct process process = start("127.0.0.1:0");
        char name[16];
        struct peer peer = connect_to(&process);
        for (int i = 0; i < round; i++) {
            snprintf(name, sizeof name, "job-%d", i);
            struct wire_message known = query(&peer, "job", name);
            ck_assert_uint_eq(known.query_reply.status, LG_OK);
        }
        snprintf(name, sizeof name, "job-%d", round);
        struct wire_message reply = submit(&peer, name);
        ck_assert_uint_eq(reply.submit_reply.status, LG_OK);
        ck_assert_uint_eq(reply.submit_reply.job, (uint64_t)round + 1);
        kill(process.pid, SIGKILL); /* right behind the answer */
        ck_assert_int_eq(waitpid(process.pid, NULL, 0), process.pid);
        disconnect(&peer);
    }
}
END_TEST

/* What ends a session waits for the disk: an answer that must wait is not overtaken. */
START_TEST(a_beat_that_ends_a_session_waits_for_the_disk) {
    struct process process = start("127.0.0.1:0");
    struct peer peer = connect_to(&process);
    for (int i = 0; i < 20; i++) {
        char name[16];
        snprintf(name, sizeof name, "job-%d", i);
        const struct wire_pair pair = {"name", name};
        struct wire_message message = {.kind = WIRE_SUBMIT, .request = 1};
        message.submit = (struct wire_submit){&pair, 1, false};
        ck_assert_int_eq(wire_net_add(&message, &peer.out), LG_OK);
        send_out(&peer);
        message = (struct wire_message){.kind = WIRE_TRAINER_BEAT, .request = 2};
        message.trainer_beat = (struct wire_trainer_beat){.session = 7, .incarnation = 1, .state = ""};
        ck_assert_int_eq(wire_net_add(&message, &peer.out), LG_OK);
        send_out(&peer);
        ck_assert_int_eq(receive(&peer).kind, WIRE_SUBMIT_REPLY);
        struct wire_message reply = receive(&peer);
        ck_assert_int_eq(reply.kind, WIRE_TRAINER_BEAT_REPLY);
        ck_assert_uint_eq(reply.trainer_beat_reply.status, LG_FENCED);
    }
    disconnect(&peer);
    stop(&process);
}
END_TEST

/* ---- bytes from anybody */

static uint32_t next_random(uint32_t *state) {
    *state = *state * 1664525 + 1013904223;
    return *state >> 8;
}

START_TEST(garbage_is_answered_and_survived) {
    struct process process = start("127.0.0.1:0");
    struct peer peer = connect_to(&process);
    uint32_t state = 7;
    for (int i = 0; i < 500; i++) {
        unsigned char bytes[600];
        size_t frames = 1 + next_random(&state) % 5;
        for (size_t f = 0; f < frames; f++) {
            size_t size = next_random(&state) % sizeof bytes;
            for (size_t b = 0; b < size; b++)
                bytes[b] = (unsigned char)next_random(&state);
            ck_assert_int_eq(net_message_add(&peer.out, bytes, size), LG_OK);
        }
        send_out(&peer);
    }
    /* one error for each, in their order; then a question is answered as ever */
    for (int i = 0; i < 500; i++) {
        struct wire_message reply = receive(&peer);
        ck_assert_int_eq(reply.kind, WIRE_ERROR);
        ck_assert_uint_eq(reply.error.status, LG_MALFORMED);
    }
    struct wire_message reply = query(&peer, "jobs", "");
    ck_assert_int_eq(reply.kind, WIRE_QUERY_REPLY);
    disconnect(&peer);
    stop(&process);
}
END_TEST

START_TEST(messages_of_every_kind_are_survived) {
    struct process process = start("127.0.0.1:0");
    struct peer peer = connect_to(&process);
    submit(&peer, "a");
    for (int kind = 1; kind < 100; kind++) {
        struct wire_message message = {.kind = (enum wire_kind)kind, .request = 9};
        if (strcmp(wire_kind_name(message.kind), "UNKNOWN") == 0)
            continue;
        ck_assert_int_eq(wire_net_add(&message, &peer.out), LG_OK); /* all fields empty; some cannot be decoded */
        send_out(&peer);
    }
    struct wire_message question = {.kind = WIRE_QUERY, .request = 12345}, reply;
    question.query = (struct wire_query){.what = "jobs", .job = ""};
    ck_assert_int_eq(wire_net_add(&question, &peer.out), LG_OK);
    send_out(&peer);
    do /* whatever it says to those */
        reply = receive(&peer);
    while (reply.request != 12345);
    ck_assert_int_eq(reply.kind, WIRE_QUERY_REPLY);
    disconnect(&peer);
    stop(&process);
}
END_TEST

/* ---- starts that cannot be */

static void expect_failure(const char *bind, const char *text) {
    struct process process = start(bind);
    ck_assert_msg(strstr(process.failure, text) != NULL, "expected \"%s\" in \"%s\"", text, process.failure);
    ck_assert_int_eq(ended(&process), 1);
}

START_TEST(a_port_in_use) {
    struct process process = start("127.0.0.1:0");
    char first[96];
    memcpy(first, data, sizeof first);
    snprintf(data, sizeof data, "%s/other", folder);
    expect_failure(process.endpoint, "in use");
    rmdir(data);
    memcpy(data, first, sizeof data);
    stop(&process);
}
END_TEST

START_TEST(a_folder_in_use) {
    struct process process = start("127.0.0.1:0");
    expect_failure("127.0.0.1:0", "another coordinator uses this folder");
    stop(&process);
}
END_TEST

START_TEST(a_folder_that_cannot_be) {
    char first[96];
    memcpy(first, data, sizeof first);
    snprintf(data, sizeof data, "%s/no/where", folder);
    expect_failure("127.0.0.1:0", "data_dir: cannot make");
    memcpy(data, first, sizeof data);
}
END_TEST

START_TEST(all_addresses_need_a_word) {
    expect_failure("0.0.0.0:0", "security: none");
}
END_TEST

int main(void) {
    Suite *suite = suite_create("coordinator process");
    TCase *tests = tcase_create("process");
    log_init("test", LOG_LEVEL_ERROR);
    tcase_set_timeout(tests, 120);
    tcase_add_checked_fixture(tests, make_folder, remove_folder);
    tcase_add_test(tests, it_serves_and_stops);
    tcase_add_test(tests, a_kill_loses_nothing_that_was_answered);
    tcase_add_test(tests, a_beat_that_ends_a_session_waits_for_the_disk);
    tcase_add_test(tests, garbage_is_answered_and_survived);
    tcase_add_test(tests, messages_of_every_kind_are_survived);
    tcase_add_test(tests, a_port_in_use);
    tcase_add_test(tests, a_folder_in_use);
    tcase_add_test(tests, a_folder_that_cannot_be);
    tcase_add_test(tests, all_addresses_need_a_word);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
