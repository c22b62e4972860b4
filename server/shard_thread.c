#include "server/shard_thread.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/log.h"
#include "proto/wire_net.h"
#include "server/local_door.h"
#include "server/recording.h"

enum {
    STATS_INTERVAL_MS = 500,
    ARENA_BYTES = 2 << 20,
    CONTROL_ARENA_BYTES = 16 << 20,
    STATS_JOBS_MAX = 64,
    DIGEST_EVERY = 4096, /* pushes; in recordings */
};

/* A socket that the thread takes messages from. */
struct inlet {
    void *socket;
    int fd;     /* tells of news only, see net_fd */
    bool quiet; /* nothing is there to be taken, and nothing was sent since */
};

struct shard_thread {
    void *zmq, *control_outside;
    struct inlet data, control;
    char endpoint[NET_ENDPOINT_BYTES];
    struct shard_config config;
    struct shard *shard;
    struct local_door *door;   /* NULL: no shared memory */
    char *record;              /* file; NULL: nothing is recorded */
    struct recorder *recorder; /* from the start on */
    uint64_t recorded_pushes;
    struct wire_bytes payload[WIRE_PAYLOAD_FRAMES_MAX];
    struct wire_arena *arena, *control_arena;
    struct net_message in, out; /* large: kept here, not on the stack */
    struct metric_cell *malformed, *queue_depth;
    pthread_t thread;
    bool started, stopping;
    bool lively; /* there were messages lately: the next one is likely to come soon */
    bool fresh;  /* one was taken since the last look around */
    int64_t next_stats_ms, looked_ms;
};

static int64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static int64_t sink_clock_ns(void *context) {
    (void)context;
    return now_ns();
}

/* ---- sending */

/* Snapshots are held until ZeroMQ has sent from them. */
static void *lend_snapshot(void *snapshots, size_t at) {
    struct snapshot *snapshot = ((struct snapshot *const *)snapshots)[at];
    snapshot_retain(snapshot);
    return snapshot;
}

static void give_back_snapshot(void *data, void *snapshot) {
    (void)data;
    snapshot_release(snapshot);
}

static void send_message(void *context, uint64_t route, const struct wire_message *message,
                         struct snapshot *const *snapshots, size_t snapshot_count) {
    struct shard_thread *thread = context;
    struct net_message *out = &thread->out;
    enum lg_status status = LG_OK;
    if (route != SHARD_ROUTE_CONTROL) {
        uint8_t id[8];
        size_t bytes = wire_route_unpack(route, id);
        status = net_message_add(out, id, bytes);
    }
    struct wire_net_lender lender = {(void *)snapshots, lend_snapshot, give_back_snapshot};
    if (status == LG_OK)
        status = snapshot_count > 0 ? wire_net_add_lent(message, &lender, out) : wire_net_add(message, out);
    if (status == LG_OK) {
        struct inlet *inlet = route == SHARD_ROUTE_CONTROL ? &thread->control : &thread->data;
        inlet->quiet = false;
        status = net_send(inlet->socket, out);
    }
    if (status != LG_OK) {
        /* The peer is gone (it asks again on its next connection) or memory is out. */
        log_debug("reply-lost", "shard %u could not send %s: %s", thread->config.index, wire_kind_name(message->kind),
                  lg_status_text(status));
        net_message_clear(out);
    }
}

/* ---- recording */

static void record_decision(void *context, const struct shard_decision *decision, const struct wire_message *push) {
    struct shard_thread *thread = context;
    recorder_decide(thread->recorder, decision, push);
}

static void record_digests(struct shard_thread *thread) {
    struct wire_shard_job_stats stats[STATS_JOBS_MAX];
    size_t count = shard_stats(thread->shard, stats, STATS_JOBS_MAX);
    for (size_t i = 0; i < count; i++)
        recorder_digest(thread->recorder, thread->shard, stats[i].job);
}

static void hand_over(struct shard_thread *thread, uint64_t route, const struct wire_message *message) {
    struct shard_input input = {.now_ns = now_ns(), .route = route, .message = message};
    if (!thread->recorder) {
        shard_receive(thread->shard, &input);
        return;
    }
    input.message = recorder_input(thread->recorder, &input);
    shard_receive(thread->shard, &input);
    if (message->kind == WIRE_LEDGER_QUERY ||
        (message->kind == WIRE_PUSH && ++thread->recorded_pushes % DIGEST_EVERY == 0))
        record_digests(thread);
    struct lg_error error = {0};
    if (!recorder_works(thread->recorder, &error))
        log_error("recording-failed", "%s", error.message);
}

static void end_recording(struct shard_thread *thread) {
    struct lg_error error = {0};
    if (thread->recorder && thread->shard)
        record_digests(thread);
    if (recorder_close(thread->recorder, &error) != LG_OK)
        log_error("recording-failed", "%s", error.message);
    thread->recorder = NULL;
    free(thread->record);
}

/* ---- receiving */

/* Payload that lies in the sender's memory. */
static bool find_payload(struct shard_thread *thread, struct wire_message *message, struct lg_error *error) {
    if (thread->door)
        return local_door_resolve(thread->door, message, thread->payload, error) == LG_OK;
    (void)lg_fail(error, LG_UNSUPPORTED, "this shard shares no memory: send the values");
    return false;
}

static void take_data(struct shard_thread *thread, enum lg_status received) {
    struct wire_message message = {0};
    struct lg_error error = {0};
    struct net_message *in = &thread->in;
    uint64_t route =
        received == LG_OK && in->count > 0 ? wire_route_pack(net_frame_data(in, 0), net_frame_bytes(in, 0)) : 0;
    if (route == 0) {
        metric_add(thread->malformed, 1);
        return;
    }
    if (wire_net_decode(in, 1, thread->arena, &message, &error) != LG_OK) {
        metric_add(thread->malformed, 1);
        log_debug("malformed", "shard %u dropped a message: %s", thread->config.index, error.message);
        shard_refuse(thread->shard, route, message.request, 0, &error);
        return;
    }
    if (message.kind == WIRE_PUSH && message.push.ring && !find_payload(thread, &message, &error)) {
        shard_refuse(thread->shard, route, message.request, message.push.seq, &error);
        return;
    }
    hand_over(thread, route, &message);
}

static void publish_stats(struct shard_thread *thread) {
    struct wire_shard_job_stats stats[STATS_JOBS_MAX];
    size_t count = shard_stats(thread->shard, stats, STATS_JOBS_MAX);
    struct wire_message beat = {.kind = WIRE_BEAT};
    beat.beat =
        (struct wire_beat){.stats = stats, .stat_count = count, .memory_used_bytes = shard_memory_bytes(thread->shard)};
    send_message(thread, SHARD_ROUTE_CONTROL, &beat, NULL, 0);
}

static void take_control(struct shard_thread *thread) {
    struct wire_message message;
    struct lg_error error = {0};
    if (net_frame_bytes(&thread->in, 0) == 0) {
        thread->stopping = true;
        return;
    }
    if (wire_net_decode(&thread->in, 0, thread->control_arena, &message, &error) != LG_OK) {
        log_error("bad-command", "shard %u cannot read a command: %s", thread->config.index, error.message);
        return;
    }
    if (message.kind == WIRE_LEDGER_QUERY) /* asked for at a job's end: its last statistics go first */
        publish_stats(thread);
    hand_over(thread, SHARD_ROUTE_CONTROL, &message);
}

/* True when there was a message. The thread is to stop when the context has ended. */
static bool taken(struct shard_thread *thread, struct inlet *inlet, enum lg_status status) {
    inlet->quiet = status == LG_UNAVAILABLE;
    thread->stopping = thread->stopping || status == LG_IO;
    return status == LG_OK || status == LG_MALFORMED;
}

static bool take(struct shard_thread *thread, struct inlet *inlet, enum lg_status *status) {
    *status = net_receive(inlet->socket, &thread->in);
    return taken(thread, inlet, *status);
}

/* Takes up to a budget of messages, so that neither socket starves the other. */
static int drain_data(struct shard_thread *thread) {
    enum lg_status status;
    int taken = 0;
    for (; taken < NET_RECEIVE_BUDGET && take(thread, &thread->data, &status); taken++)
        take_data(thread, status);
    metric_set(thread->queue_depth, taken);
    net_message_clear(&thread->in);
    return taken;
}

static void drain_control(struct shard_thread *thread) {
    enum lg_status status;
    while (!thread->stopping && take(thread, &thread->control, &status))
        if (status == LG_OK)
            take_control(thread);
    net_message_clear(&thread->in);
}

static void keep_house(struct shard_thread *thread, int64_t now_ms) {
    if (now_ms < thread->next_stats_ms)
        return;
    publish_stats(thread);
    if (thread->door)
        local_door_sweep(thread->door, thread->shard);
    thread->next_stats_ms = now_ms + STATS_INTERVAL_MS;
}

/* Waits for news where no message is likely to come soon, then works until there is nothing left: poll(2) on the
 * sockets' fds, as zmq_poll asks every socket twice each time. */
static void look_around(struct shard_thread *thread, int64_t now_ms) {
    struct pollfd fds[2 + LOCAL_DOOR_FDS] = {{.fd = thread->data.fd, .events = POLLIN},
                                             {.fd = thread->control.fd, .events = POLLIN}};
    nfds_t visitors = thread->door ? local_door_watch(thread->door, &fds[2]) : 0;
    int64_t wait_ms = thread->next_stats_ms - now_ms;
    bool quiet = !thread->lively && thread->data.quiet && thread->control.quiet;
    (void)poll(fds, 2 + visitors, quiet && wait_ms > 0 ? (int)wait_ms : 0);
    if (fds[1].revents || !thread->control.quiet)
        drain_control(thread);
    if ((fds[0].revents || !thread->data.quiet) && drain_data(thread) > 0)
        thread->fresh = true;
    bool called = false;
    for (nfds_t i = 0; i < visitors; i++)
        called = called || fds[2 + i].revents;
    if (called)
        local_door_serve(thread->door, thread->shard, now_ns());
    thread->lively = thread->fresh;
    thread->fresh = false;
    thread->looked_ms = now_ms;
}

/* Waits for the next message alone, a moment. */
static void take_next(struct shard_thread *thread) {
    enum lg_status status = net_receive_soon(thread->data.socket, &thread->in);
    if (taken(thread, &thread->data, status)) {
        take_data(thread, status);
        thread->fresh = true;
    } else
        thread->lively = false;
    net_message_clear(&thread->in);
}

/* While messages follow each other closely, the next is waited for alone, and the rest is looked at once a
 * millisecond. */
static void *serve(void *argument) {
    struct shard_thread *thread = argument;
    while (!thread->stopping) {
        int64_t now_ms = now_ns() / 1000000;
        keep_house(thread, now_ms);
        if (!thread->lively || now_ms != thread->looked_ms)
            look_around(thread, now_ms);
        if (thread->lively && !thread->stopping)
            take_next(thread);
    }
    while (drain_data(thread) == NET_RECEIVE_BUDGET)
        ;
    return NULL;
}

/* ---- life */

static enum lg_status open_pair(struct shard_thread *thread, struct lg_error *error) {
    char name[64];
    snprintf(name, sizeof name, "inproc://lagoon-shard-%p", (void *)thread);
    thread->control.socket = zmq_socket(thread->zmq, ZMQ_PAIR);
    thread->control_outside = zmq_socket(thread->zmq, ZMQ_PAIR);
    int zero = 0;
    if (!thread->control.socket || !thread->control_outside ||
        zmq_setsockopt(thread->control.socket, ZMQ_LINGER, &zero, sizeof zero) != 0 ||
        zmq_setsockopt(thread->control_outside, ZMQ_LINGER, &zero, sizeof zero) != 0 ||
        zmq_bind(thread->control.socket, name) != 0 || zmq_connect(thread->control_outside, name) != 0)
        return lg_fail(error, LG_IO, "cannot open the control pair of a shard: %s", zmq_strerror(zmq_errno()));
    return LG_OK;
}

enum lg_status shard_thread_open(const struct shard_thread_options *options, struct shard_thread **out,
                                 struct lg_error *error) {
    struct shard_thread *thread = calloc(1, sizeof *thread);
    if (!thread)
        return lg_fail(error, LG_NO_MEMORY, "no memory for a shard");
    thread->zmq = options->zmq;
    thread->config = options->shard;
    thread->config.index = UINT32_MAX;
    if (options->record && !(thread->record = strdup(options->record))) {
        free(thread);
        return lg_fail(error, LG_NO_MEMORY, "no memory for a shard");
    }
    enum lg_status status = net_socket_open(options->zmq, NET_SERVER, NULL, &thread->data.socket, error);
    if (status == LG_OK)
        status = net_bind(thread->data.socket, options->endpoint, thread->endpoint, error);
    if (status == LG_OK)
        status = open_pair(thread, error);
    if (status == LG_OK) {
        thread->data.fd = net_fd(thread->data.socket);
        thread->control.fd = net_fd(thread->control.socket);
    }
    struct lg_error local_error = {0};
    if (status == LG_OK && options->local && local_door_open(&thread->door, &local_error) != LG_OK)
        log_warn("no-local", "workers on this host will send messages instead of sharing memory: %s",
                 local_error.message);
    if (status == LG_OK) {
        thread->config.local = thread->door ? local_door_name(thread->door) : NULL;
        thread->arena = wire_arena_new(ARENA_BYTES);
        thread->control_arena = wire_arena_new(CONTROL_ARENA_BYTES);
        if (!thread->arena || !thread->control_arena)
            status = lg_fail(error, LG_NO_MEMORY, "no memory for a shard's message arena");
    }
    if (status != LG_OK) {
        shard_thread_stop(thread);
        return status;
    }
    *out = thread;
    return LG_OK;
}

enum lg_status shard_thread_start(struct shard_thread *thread, uint32_t index, struct lg_error *error) {
    char number[16];
    snprintf(number, sizeof number, "%u", index);
    thread->config.index = index;
    thread->malformed = metrics_cell(thread->config.metrics, METRIC_MALFORMED, (const char *const[]){number});
    thread->queue_depth = metrics_cell(thread->config.metrics, METRIC_QUEUE_DEPTH, (const char *const[]){number});
    struct shard_sink sink = {.context = thread, .send = send_message, .clock_ns = sink_clock_ns};
    enum lg_status status =
        thread->record ? recorder_open(thread->record, &thread->config, &thread->recorder, error) : LG_OK;
    if (thread->recorder)
        sink.decide = record_decision;
    if (status == LG_OK)
        status = shard_new(&thread->config, &sink, &thread->shard, error);
    if (status != LG_OK)
        return status;
    if (thread->recorder)
        log_info("recording", "shard %u records its inputs and decisions to \"%s\"", index, thread->record);
    if (pthread_create(&thread->thread, NULL, serve, thread) != 0)
        return lg_fail(error, LG_NO_MEMORY, "cannot start the thread of shard %u", index);
    thread->started = true;
    return LG_OK;
}

const char *shard_thread_endpoint(const struct shard_thread *thread) {
    return thread->endpoint;
}

void *shard_thread_control(const struct shard_thread *thread) {
    return thread->control_outside;
}

uint32_t shard_thread_index(const struct shard_thread *thread) {
    return thread->config.index;
}

void shard_thread_stop(struct shard_thread *thread) {
    if (!thread)
        return;
    if (thread->started) {
        zmq_send(thread->control_outside, "", 0, 0);
        pthread_join(thread->thread, NULL);
    }
    end_recording(thread);
    shard_free(thread->shard);
    local_door_close(thread->door);
    net_message_clear(&thread->in);
    net_message_clear(&thread->out);
    wire_arena_free(thread->arena);
    wire_arena_free(thread->control_arena);
    net_socket_close(thread->data.socket);
    if (thread->control.socket)
        zmq_close(thread->control.socket);
    if (thread->control_outside)
        zmq_close(thread->control_outside);
    free(thread);
}
