/* The agent against a coordinator played by the test: real processes, real sockets. The test program plays the other
 * two parts as well: `--agent ENDPOINT SLOTS` is the agent, `--trainer LABEL` (as the agent starts it) a trainer that
 * does what the job's key "fake" says. */
#include "worker/agent.h"

#include <arpa/inet.h>
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "common/log.h"
#include "proto/wire_net.h"
#include "worker/trainer.h"
#include "worker/trainer_numbers.h"

enum { DEADLINE_MS = 20000, BEAT_MS = 100, MEMBER = 7, LINES_KEPT = 64 };

/* ---- the trainer's part */

static void leave(int number) {
    (void)number;
    _exit(0);
}

static int play(const struct trainer_handover *handover) {
    const char *mode = config_text(handover->spec, "fake", "");
    signal(SIGTERM, strcmp(mode, "stubborn") == 0 ? SIG_IGN : leave);
    if (strcmp(mode, "print") == 0) {
        printf("hello from %s %s\n", handover->job_name, config_text(handover->spec, "text", ""));
        printf("token %016llx\nno newline at the end", (unsigned long long)handover->token);
        fflush(stdout);
        fprintf(stderr, "first\nlast words\xff");
        return 5;
    }
    if (strcmp(mode, "reason") == 0) {
        dprintf(TRAINER_NUMBERS_FD, "reason the dataset is missing\n");
        fprintf(stderr, "something else\n");
        return 3;
    }
    if (strcmp(mode, "flood") == 0) {
        for (int i = 0; i < 3000; i++)
            printf("line %d %s\n", i, "the same again and again and again and again and again");
        return 0;
    }
    if (strcmp(mode, "short") == 0) {
        dprintf(TRAINER_NUMBERS_FD, "numbers state=training steps=1 samples=1\n");
        return 0;
    }
    if (strcmp(mode, "numbers") == 0)
        dprintf(TRAINER_NUMBERS_FD, "nonsense\npushes 3:0.5 0:1 x\npushes 3:0.5 0:1\nnumbers steps=x\nnumbers "
                                    "state=training steps=120 samples=3840 loss=0.5 "
                                    "accuracy=0.9 compute_ns=2000000000 communication_ns=1 rate=99\n");
    printf("pid %d\n", (int)getpid());
    fflush(stdout);
    for (;;)
        pause();
}

static int fake_trainer(void) {
    struct trainer_handover handover;
    struct lg_error error = {0};
    int code = 99;
    if (trainer_begin(&handover, &error) == LG_OK)
        code = play(&handover);
    else
        fprintf(stderr, "%s\n", error.message);
    trainer_handover_deinit(&handover);
    return code;
}

/* ---- the agent's part */

static int run_agent(const char *endpoint, const char *slots) {
    struct worker_config config;
    struct config *options = config_new();
    struct lg_error error = {0};
    if (!options || config_set(options, "coordinator", endpoint, "test", NULL) != LG_OK ||
        config_set(options, "slots", slots, "test", NULL) != LG_OK ||
        config_set(options, "name", "box", "test", NULL) != LG_OK ||
        option_apply(&worker_table, "", options, &config, &error) != LG_OK ||
        worker_config_check(options, &config, &error) != LG_OK)
        return 98;
    config_free(options);
    log_init("worker", LOG_LEVEL_INFO);
    if (agent_run(&config, "/proc/self/exe", &error) == LG_OK)
        return 0;
    fprintf(stderr, "%s\n", error.message);
    return 97;
}

/* ---- the coordinator's part: the test */

static void *zmq, *router;
static struct net_message frames;
static struct wire_arena *arena;
static struct wire_message message; /* the last one received */
static uint8_t route[16];
static size_t route_bytes;
static char endpoint[NET_ENDPOINT_BYTES], http[200];
static uint64_t instance;
static pid_t agent;
static bool acknowledge; /* exits */

static int64_t now_ms(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static void bind_router(const char *at) {
    struct lg_error error = {0};
    ck_assert_msg(net_socket_open(zmq, NET_SERVER, NULL, &router, &error) == LG_OK, "%s", error.message);
    ck_assert_msg(net_bind(router, at, endpoint, &error) == LG_OK, "%s", error.message);
}

static void spawn_agent(const char *slots) {
    char flag[] = "--agent";
    agent = fork();
    ck_assert_int_ge(agent, 0);
    if (agent == 0) {
        if (!getenv("V")) {
            int null = open("/dev/null", O_WRONLY);
            dup2(null, STDERR_FILENO);
        }
        execl("/proc/self/exe", "agent_test", flag, endpoint, slots, (char *)NULL);
        _exit(96);
    }
}

static enum lg_status try_send(struct wire_message *out) {
    struct net_message parts = {0};
    ck_assert_int_eq(net_message_add(&parts, route, route_bytes), LG_OK);
    ck_assert_int_eq(wire_net_add(out, &parts), LG_OK);
    return net_send(router, &parts);
}

static void send_message(struct wire_message *out) {
    ck_assert_int_eq(try_send(out), LG_OK);
}

/* As a coordinator would. An agent that has gone in the meantime does not mind. */
static void answer(void) {
    struct wire_message reply = {.request = message.request};
    if (message.kind == WIRE_REGISTER) {
        reply.kind = WIRE_REGISTER_REPLY;
        reply.register_reply = (struct wire_register_reply){.member = MEMBER, .beat_ms = BEAT_MS, .coordinator = 1};
        instance = message.register_.instance;
        snprintf(http, sizeof http, "%s", message.register_.http);
    } else if (message.kind == WIRE_BEAT) {
        reply.kind = WIRE_BEAT_REPLY;
    } else if (message.kind == WIRE_TRAINER_EXIT && acknowledge) {
        reply.kind = WIRE_ACK;
    } else {
        return;
    }
    (void)!try_send(&reply);
}

/* Receives one message into `message`, and answers it. */
static void receive_one(int64_t until_ms) {
    struct lg_error error = {0};
    while (net_receive(router, &frames) != LG_OK) {
        zmq_pollitem_t item = {.socket = router, .events = ZMQ_POLLIN};
        ck_assert_msg(now_ms() < until_ms, "what was waited for did not come");
        zmq_poll(&item, 1, 50);
    }
    ck_assert_uint_le(net_frame_bytes(&frames, 0), sizeof route);
    route_bytes = net_frame_bytes(&frames, 0);
    memcpy(route, net_frame_data(&frames, 0), route_bytes);
    ck_assert_msg(wire_net_decode(&frames, 1, arena, &message, &error) == LG_OK, "%s", error.message);
    answer();
}

static void receive_kind(enum wire_kind kind) {
    int64_t until_ms = now_ms() + DEADLINE_MS;
    do {
        ck_assert_msg(now_ms() < until_ms, "no %s came", wire_kind_name(kind));
        receive_one(until_ms);
    } while (message.kind != kind);
}

/* Receives until a log line that begins with `start`, which it returns (static). */
static const char *receive_line(const char *start) {
    static char line[2000];
    int64_t until_ms = now_ms() + DEADLINE_MS;
    for (;;) {
        ck_assert_msg(now_ms() < until_ms, "no line \"%s\" came", start);
        receive_one(until_ms);
        for (size_t i = 0; message.kind == WIRE_LOG && i < message.log.line_count; i++) {
            if (strncmp(message.log.lines[i], start, strlen(start)) == 0) {
                snprintf(line, sizeof line, "%s", message.log.lines[i]);
                return line;
            }
        }
    }
}

static void start_trainer(uint64_t trainer, uint32_t attempt, const char *mode) {
    const struct wire_pair spec[] = {{"fake", mode}, {"text", "a=b\\n c"}};
    struct wire_message out = {.kind = WIRE_TRAINER_START};
    out.trainer_start = (struct wire_trainer_start){.trainer = trainer,
                                                    .token = UINT64_C(0xF00DFACE12345678),
                                                    .job = 11,
                                                    .job_name = "digits",
                                                    .attempt = attempt,
                                                    .device = "cpu",
                                                    .spec = spec,
                                                    .spec_count = 2};
    send_message(&out);
}

/* The process id that a trainer prints when it runs. */
static pid_t receive_pid(void) {
    return (pid_t)strtol(receive_line("pid ") + 4, NULL, 10);
}

static void setup_with(const char *slots) {
    ck_assert_int_eq(prctl(PR_SET_CHILD_SUBREAPER, 1), 0); /* orphans become ours, so that we see them end */
    zmq = zmq_ctx_new();
    arena = wire_arena_new(16 << 20);
    acknowledge = true;
    bind_router("tcp://127.0.0.1:0");
    spawn_agent(slots);
    receive_kind(WIRE_REGISTER);
}

static void setup(void) {
    setup_with("1");
}

static int stop_agent(int number) {
    int status = -1;
    int64_t until_ms = now_ms() + DEADLINE_MS;
    kill(agent, number);
    while (waitpid(agent, &status, WNOHANG) == 0) {
        zmq_pollitem_t item = {.socket = router, .events = ZMQ_POLLIN};
        ck_assert_msg(now_ms() < until_ms, "the agent does not end");
        if (zmq_poll(&item, 1, 20) > 0)
            receive_one(until_ms);
    }
    return status;
}

static void teardown(void) {
    int status = stop_agent(SIGTERM);
    ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) == 0, "the agent ended with status %x", status);
    net_message_clear(&frames);
    net_socket_close(router);
    zmq_ctx_term(zmq);
    wire_arena_free(arena);
}

START_TEST(registers_beats_and_registers_again) {
    ck_assert_int_eq(message.register_.kind, WIRE_MEMBER_AGENT);
    ck_assert_str_eq(message.register_.name, "box");
    ck_assert_uint_eq(message.register_.slots, 1);
    ck_assert_uint_eq(message.register_.pid, (uint64_t)agent);
    ck_assert_uint_ge(message.register_.cores, 1);
    ck_assert_uint_eq(message.register_.member, 0);
    uint64_t first = instance;
    receive_kind(WIRE_BEAT);
    ck_assert_uint_eq(message.beat.member, MEMBER);
    ck_assert_uint_eq(message.beat.instance, first);
    ck_assert_uint_eq(message.beat.trainer_count, 0);
    struct wire_message out = {.kind = WIRE_BEAT_REPLY, .beat_reply = {.register_again = true}};
    send_message(&out);
    receive_kind(WIRE_REGISTER);
    ck_assert_uint_eq(message.register_.member, MEMBER);
    ck_assert_uint_eq(message.register_.instance, first);
    receive_kind(WIRE_BEAT);
}
END_TEST

START_TEST(what_a_trainer_prints_is_streamed_and_its_exit_reported) {
    start_trainer(3, 1, "print");
    ck_assert_str_eq(receive_line("hello"), "hello from digits a=b\\n c");
    ck_assert_uint_eq(message.log.job, 11);
    ck_assert_uint_eq(message.log.trainer, 3);
    receive_kind(WIRE_TRAINER_EXIT);
    ck_assert_uint_eq(message.trainer_exit.trainer, 3);
    ck_assert_int_eq(message.trainer_exit.code, 5);
    ck_assert_int_eq(message.trainer_exit.signal, 0);
    ck_assert_str_eq(message.trainer_exit.reason, "last words?");
}
END_TEST

START_TEST(the_token_and_unfinished_lines_arrive) {
    start_trainer(3, 1, "print");
    ck_assert_str_eq(receive_line("token"), "token f00dface12345678");
    while (message.kind != WIRE_TRAINER_EXIT)
        receive_one(now_ms() + DEADLINE_MS);
    start_trainer(4, 1, "print");
    receive_line("no newline at the end");
}
END_TEST

START_TEST(the_reason_that_a_trainer_gives_wins) {
    start_trainer(3, 1, "reason");
    receive_kind(WIRE_TRAINER_EXIT);
    ck_assert_int_eq(message.trainer_exit.code, 3);
    ck_assert_str_eq(message.trainer_exit.reason, "the dataset is missing");
}
END_TEST

START_TEST(a_killed_trainer_is_reported_within_a_second) {
    start_trainer(3, 1, "sleep");
    pid_t pid = receive_pid();
    int64_t killed_ms = now_ms();
    ck_assert_int_eq(kill(pid, SIGKILL), 0);
    receive_kind(WIRE_TRAINER_EXIT);
    ck_assert_int_lt(now_ms() - killed_ms, 1000);
    ck_assert_int_eq(message.trainer_exit.signal, SIGKILL);
    ck_assert_str_eq(message.trainer_exit.reason, "killed by signal 9 (Killed)");
}
END_TEST

START_TEST(an_exit_is_reported_until_it_is_acknowledged) {
    acknowledge = false;
    start_trainer(3, 1, "reason");
    receive_kind(WIRE_TRAINER_EXIT);
    uint64_t request = message.request;
    receive_kind(WIRE_TRAINER_EXIT);
    ck_assert_uint_eq(message.request, request);
    struct wire_message out = {.kind = WIRE_ACK, .request = request};
    send_message(&out);
    for (int i = 0; i < 15; i++) { /* beats: longer than it takes to send again */
        receive_kind(WIRE_BEAT);
        start_trainer(3, 1, "reason"); /* a late command repeats the report and starts nothing */
        receive_kind(WIRE_TRAINER_EXIT);
        ck_assert_uint_eq(message.request, request);
        send_message(&out);
    }
    acknowledge = true;
}
END_TEST

START_TEST(a_full_worker_refuses_and_a_repeated_start_is_one) {
    start_trainer(3, 1, "sleep");
    start_trainer(3, 1, "sleep");
    receive_pid();
    start_trainer(4, 1, "sleep");
    receive_kind(WIRE_TRAINER_EXIT);
    ck_assert_uint_eq(message.trainer_exit.trainer, 4);
    ck_assert_int_eq(message.trainer_exit.code, 1);
    ck_assert_str_eq(message.trainer_exit.reason, "no free slot on this worker");
    receive_kind(WIRE_BEAT);
    ck_assert_uint_eq(message.beat.trainer_count, 1);
    ck_assert_uint_eq(message.beat.trainers[0], 3);
}
END_TEST

static void stop_trainer(uint64_t trainer, uint64_t grace_ms) {
    struct wire_message out = {.kind = WIRE_TRAINER_STOP};
    out.trainer_stop = (struct wire_trainer_stop){trainer, grace_ms, "the job was cancelled"};
    send_message(&out);
}

START_TEST(a_trainer_is_asked_to_stop) {
    start_trainer(3, 1, "sleep");
    receive_pid();
    stop_trainer(3, 10000);
    receive_kind(WIRE_TRAINER_EXIT);
    ck_assert_int_eq(message.trainer_exit.code, 0);
    ck_assert_int_eq(message.trainer_exit.signal, 0);
    ck_assert_str_eq(message.trainer_exit.reason, "stopped: the job was cancelled");
}
END_TEST

START_TEST(a_trainer_that_does_not_stop_is_killed) {
    start_trainer(3, 1, "stubborn");
    receive_pid();
    stop_trainer(3, 100);
    receive_kind(WIRE_TRAINER_EXIT);
    ck_assert_int_eq(message.trainer_exit.signal, SIGKILL);
    ck_assert_str_eq(message.trainer_exit.reason, "did not stop when asked and was killed");
}
END_TEST

START_TEST(a_stopping_agent_stops_its_trainers) {
    bool reported = false;
    start_trainer(3, 1, "sleep");
    pid_t pid = receive_pid();
    kill(agent, SIGTERM);
    receive_kind(WIRE_REGISTER); /* with nothing to offer any more */
    ck_assert_uint_eq(message.register_.slots, 0);
    do {
        receive_one(now_ms() + DEADLINE_MS);
        reported = message.kind == WIRE_TRAINER_EXIT;
    } while (!reported);
    ck_assert_str_eq(message.trainer_exit.reason, "stopped: its worker is stopping");
    ck_assert_int_eq(kill(pid, 0), -1);
}
END_TEST

START_TEST(trainers_die_with_their_agent) {
    start_trainer(3, 1, "stubborn");
    pid_t pid = receive_pid();
    int status = 0;
    int64_t until_ms = now_ms() + DEADLINE_MS;
    kill(agent, SIGKILL);
    ck_assert_int_eq(waitpid(agent, &status, 0), agent);
    pid_t ended = 0;
    while ((ended = waitpid(pid, &status, WNOHANG)) != pid) { /* an error at first: not yet ours */
        ck_assert_msg(now_ms() < until_ms, "the trainer lives on");
        poll(NULL, 0, 5);
    }
    ck_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    spawn_agent("1"); /* for the teardown */
    receive_kind(WIRE_REGISTER);
}
END_TEST

START_TEST(a_flood_of_lines_is_bounded_and_the_agent_goes_on) {
    size_t lines = 0;
    start_trainer(3, 1, "flood");
    do {
        receive_one(now_ms() + DEADLINE_MS);
        lines += message.kind == WIRE_LOG ? message.log.line_count : 0;
    } while (message.kind != WIRE_TRAINER_EXIT);
    ck_assert_int_eq(message.trainer_exit.code, 0);
    ck_assert_uint_gt(lines, 100);
    ck_assert_uint_le(lines, 3001);
}
END_TEST

START_TEST(garbage_does_no_harm) {
    uint8_t noise[300];
    for (size_t round = 0; round < 50; round++) {
        struct net_message parts = {0};
        for (size_t i = 0; i < sizeof noise; i++)
            noise[i] = (uint8_t)(i * 131 + round * 17 + i * i);
        ck_assert_int_eq(net_message_add(&parts, route, route_bytes), LG_OK);
        for (size_t frame = 0; frame <= round % 4; frame++)
            ck_assert_int_eq(net_message_add(&parts, noise, round * 6), LG_OK);
        ck_assert_int_eq(net_send(router, &parts), LG_OK);
    }
    struct wire_message odd = {.kind = WIRE_CANCEL}; /* good, but not for an agent */
    odd.cancel.job = "x";
    send_message(&odd);
    stop_trainer(12345, 0); /* no such trainer */
    start_trainer(3, 1, "sleep");
    receive_pid();
}
END_TEST

START_TEST(a_coordinator_that_comes_later_is_found) {
    char at[NET_ENDPOINT_BYTES];
    stop_agent(SIGTERM);
    snprintf(at, sizeof at, "%s", endpoint);
    net_socket_close(router);
    spawn_agent("2");
    poll(NULL, 0, 300); /* lets some attempts fail; not needed for the test to pass */
    bind_router(at);
    receive_kind(WIRE_REGISTER);
    ck_assert_uint_eq(message.register_.slots, 2);
    receive_kind(WIRE_BEAT);
}
END_TEST

/* ---- the stats endpoint */

/* The answer to GET `path`, headers and all (static). */
static const char *http_get(const char *path) {
    static char text[200000];
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    size_t used = 0;
    const char *port = strrchr(http, ':');
    ck_assert_ptr_nonnull(port);
    address.sin_port = htons((uint16_t)strtol(port + 1, NULL, 10));
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    ck_assert_int_eq(connect(fd, (struct sockaddr *)&address, sizeof address), 0);
    dprintf(fd, "GET %s HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n", path);
    for (ssize_t count; (count = read(fd, text + used, sizeof text - 1 - used)) > 0;)
        used += (size_t)count;
    text[used] = '\0';
    close(fd);
    return text;
}

START_TEST(the_agent_tells_of_its_devices) {
    int64_t until_ms = now_ms() + DEADLINE_MS;
    do { /* utilisation comes with the second sample */
        ck_assert_msg(now_ms() < until_ms, "beats do not tell of the device");
        receive_kind(WIRE_BEAT);
    } while (message.beat.device_count == 0 || !message.beat.devices[0].utilisation_known);
    ck_assert_uint_eq(message.beat.device_count, 1);
    ck_assert_str_eq(message.beat.devices[0].device, "cpu");
    ck_assert_uint_gt(message.beat.devices[0].memory_bytes, message.beat.devices[0].memory_used_bytes);
    ck_assert_uint_le(message.beat.devices[0].utilisation_percent, 100);
    ck_assert_ptr_nonnull(strstr(http_get("/metrics"), "lagoon_device_memory_used_bytes{device=\"cpu\"} "));
    ck_assert_ptr_nonnull(strstr(http_get("/metrics"), "lagoon_device_utilisation_percent{device=\"cpu\"} "));
    ck_assert_ptr_null(strstr(http_get("/metrics"), "lagoon_device_power_watts{"));
    ck_assert_ptr_nonnull(strstr(http_get("/stats.json"), "\"devices\": [{\"device\": \"cpu\", \"name\": "));
}
END_TEST

START_TEST(numbers_show_on_the_stats_endpoint) {
    int64_t until_ms = now_ms() + DEADLINE_MS;
    start_trainer(3, 1, "numbers");
    receive_pid();
    while (!strstr(http_get("/metrics"), "lagoon_worker_steps_total{job=\"digits\",trainer=\"3\"} 120"))
        ck_assert_msg(now_ms() < until_ms, "%s", http_get("/metrics"));
    ck_assert_ptr_nonnull(
        strstr(http_get("/metrics"), "lagoon_worker_compute_seconds_total{job=\"digits\",trainer=\"3\"} 2"));
    ck_assert_ptr_nonnull(
        strstr(http_get("/metrics"), "lagoon_worker_staleness_count{job=\"digits\",trainer=\"3\"} 2"));
    ck_assert_ptr_nonnull(strstr(http_get("/metrics"), "lagoon_worker_weight_sum{job=\"digits\",trainer=\"3\"} 1.5"));
    ck_assert_ptr_nonnull(strstr(http_get("/metrics"), "lagoon_trainers 1"));
    const char *stats = http_get("/stats.json");
    ck_assert_ptr_nonnull(strstr(stats, "\"samples_per_second\": 99"));
    ck_assert_ptr_nonnull(strstr(stats, "\"state\": \"training\""));
    ck_assert_ptr_nonnull(strstr(http_get("/healthz"), "\"registered\": true"));
}
END_TEST

START_TEST(ended_trainers_leave_the_stats_endpoint_in_time) {
    for (uint64_t trainer = 1; trainer <= 40; trainer++) {
        start_trainer(trainer, 1, "short");
        receive_kind(WIRE_TRAINER_EXIT);
        ck_assert_uint_eq(message.trainer_exit.trainer, trainer);
    }
    ck_assert_ptr_nonnull(strstr(http_get("/metrics"), "lagoon_worker_steps_total{job=\"digits\",trainer=\"40\"} 1"));
    ck_assert_ptr_nonnull(strstr(http_get("/metrics"), "trainer=\"9\""));
    ck_assert_ptr_null(strstr(http_get("/metrics"), "trainer=\"8\""));
}
END_TEST

int main(int argc, char **argv) {
    if (argc > 2 && strcmp(argv[1], "--trainer") == 0)
        return fake_trainer();
    if (argc > 3 && strcmp(argv[1], "--agent") == 0)
        return run_agent(argv[2], argv[3]);
    Suite *suite = suite_create("agent");
    TCase *tests = tcase_create("agent");
    tcase_set_timeout(tests, 60);
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, registers_beats_and_registers_again);
    tcase_add_test(tests, what_a_trainer_prints_is_streamed_and_its_exit_reported);
    tcase_add_test(tests, the_token_and_unfinished_lines_arrive);
    tcase_add_test(tests, the_reason_that_a_trainer_gives_wins);
    tcase_add_test(tests, a_killed_trainer_is_reported_within_a_second);
    tcase_add_test(tests, an_exit_is_reported_until_it_is_acknowledged);
    tcase_add_test(tests, a_full_worker_refuses_and_a_repeated_start_is_one);
    tcase_add_test(tests, a_trainer_is_asked_to_stop);
    tcase_add_test(tests, a_trainer_that_does_not_stop_is_killed);
    tcase_add_test(tests, a_stopping_agent_stops_its_trainers);
    tcase_add_test(tests, trainers_die_with_their_agent);
    tcase_add_test(tests, a_flood_of_lines_is_bounded_and_the_agent_goes_on);
    tcase_add_test(tests, garbage_does_no_harm);
    tcase_add_test(tests, a_coordinator_that_comes_later_is_found);
    tcase_add_test(tests, numbers_show_on_the_stats_endpoint);
    tcase_add_test(tests, the_agent_tells_of_its_devices);
    tcase_add_test(tests, ended_trainers_leave_the_stats_endpoint_in_time);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
