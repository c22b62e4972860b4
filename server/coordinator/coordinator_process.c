#include "server/coordinator/coordinator_process.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include <uv.h>

#include "common/http.h"
#include "common/log.h"
#include "common/metrics.h"
#include "proto/wire_net.h"
#include "server/coordinator/coordinator.h"
#include "server/coordinator/outbox.h"
#include "server/coordinator/store_thread.h"

enum { ARENA_BYTES = 16 << 20, TICK_MS = 100, MALFORMED_LOG_MS = 10000 };

struct process {
    const struct coordinator_options *options;
    struct coordinator *core;
    struct store *store; /* until its thread has it */
    struct store_thread *store_thread;
    struct metrics *metrics;
    struct http_server *http;
    struct outbox outbox;
    struct net_message out; /* of messages that need not wait */

    uv_loop_t loop;
    uv_signal_t signals[2];
    uv_timer_t tick;
    uv_async_t committed;
    bool signals_open[2], tick_open, committed_open, watching, stopping;
    void *zmq, *socket; /* ROUTER */
    struct net_watch watch;
    struct wire_arena *arena;
    char endpoint[NET_ENDPOINT_BYTES];
    uint64_t malformed;
    int64_t malformed_logged_ms;
    enum lg_status failed;
    struct lg_error failure;
};

static struct coordinator_moment moment(void) {
    struct timespec wall;
    clock_gettime(CLOCK_REALTIME, &wall);
    return (struct coordinator_moment){(int64_t)uv_hrtime(), (int64_t)wall.tv_sec * 1000 + wall.tv_nsec / 1000000};
}

static uint64_t secret_random(void *context) {
    uint64_t number = 0;
    (void)context;
    while (getrandom(&number, sizeof number, 0) != (ssize_t)sizeof number)
        ;
    return number;
}

static void stop_with(struct process *process, const struct lg_error *error) {
    if (process->failed == LG_OK) {
        process->failed = error->status;
        process->failure = *error;
    }
    uv_stop(&process->loop);
}

/* ---- out */

/* Answers that promise nothing need not wait for the disk. A beat's answer that ends a session does promise. */
static bool promises_nothing(const struct wire_message *message) {
    return message->kind == WIRE_BEAT_REPLY || message->kind == WIRE_QUERY_REPLY ||
           (message->kind == WIRE_TRAINER_BEAT_REPLY && message->trainer_beat_reply.status == LG_OK);
}

static void send_message(void *context, uint64_t route, const struct wire_message *message) {
    struct process *process = context;
    enum lg_status status;
    if (promises_nothing(message)) {
        status = outbox_encode(route, message, &process->out);
        if (status == LG_OK && net_send(process->socket, &process->out) != LG_OK)
            log_debug("peer-gone", "a %s has no receiver any more", wire_kind_name(message->kind));
    } else {
        status = outbox_add(&process->outbox, route, message);
    }
    if (status != LG_OK)
        log_error("not-sent", "a %s cannot be sent: %s", wire_kind_name(message->kind), lg_status_text(status));
}

static void store_change(void *context, const struct store_change *change) {
    struct process *process = context;
    if (!store_thread_put(process->store_thread, change)) {
        struct lg_error error = {0};
        (void)lg_fail(&error, LG_NO_MEMORY, "no memory to write to the database");
        stop_with(process, &error);
    }
}

/* Sends what is durable by now. */
static void flush(struct process *process) {
    struct lg_error error = {0};
    uint64_t durable = 0;
    if (store_thread_durable(process->store_thread, &durable, &error) != LG_OK)
        stop_with(process, &error);
    size_t lost = outbox_send(&process->outbox, process->socket, durable);
    if (lost > 0)
        log_debug("peer-gone", "%zu messages have no receiver any more", lost);
}

/* The input is over: what it said waits for what it wrote, and for what was written before. */
static void settle(struct process *process) {
    outbox_mark(&process->outbox, store_thread_seal(process->store_thread));
    flush(process);
}

/* Called by the store's thread. */
static void on_written(void *context) {
    struct process *process = context;
    uv_async_send(&process->committed);
}

static void on_committed(uv_async_t *async) {
    flush(async->data);
}

/* ---- in */

static void count_malformed(struct process *process, uint64_t route, uint64_t request, const struct lg_error *error) {
    static const char *const socket = "coordinator";
    int64_t now_ms = (int64_t)uv_now(&process->loop);
    process->malformed++;
    metric_add(metrics_cell(process->metrics, METRIC_MALFORMED, &socket), 1);
    if (process->malformed == 1 || now_ms - process->malformed_logged_ms >= MALFORMED_LOG_MS) {
        log_warn("malformed", "dropped bytes that are no message: %s (%llu so far)", error->message,
                 (unsigned long long)process->malformed);
        process->malformed_logged_ms = now_ms;
    }
    if (route != 0)
        coordinator_refuse(process->core, route, request, error);
}

static void on_message(struct net_watch *watch, enum lg_status received, struct net_message *frames) {
    struct process *process = watch->data;
    struct wire_message message = {0};
    struct lg_error error = {.status = LG_MALFORMED, .message = "a message with too many frames"};
    uint64_t route = 0;
    if (received == LG_OK && frames->count > 0)
        route = wire_route_pack(net_frame_data(frames, 0), net_frame_bytes(frames, 0));
    if (received == LG_OK && route == 0)
        (void)lg_fail(&error, LG_MALFORMED, "a routing id of a form that ZeroMQ does not make");
    if (received != LG_OK || route == 0 || wire_net_decode(frames, 1, process->arena, &message, &error) != LG_OK) {
        count_malformed(process, route, message.request, &error);
    } else {
        struct coordinator_input input = {moment(), route, &message};
        coordinator_receive(process->core, &input);
    }
    settle(process);
}

static void on_tick(uv_timer_t *timer) {
    struct process *process = timer->data;
    coordinator_tick(process->core, moment());
    settle(process);
}

static void on_signal(uv_signal_t *handle, int number) {
    struct process *process = handle->data;
    log_info("stopping", "%s: training goes on without the coordinator until it is started again",
             number == SIGTERM ? "SIGTERM" : "SIGINT");
    process->stopping = true;
    uv_stop(&process->loop);
}

/* ---- stats endpoint */

static void produce_metrics(void *data, struct http_reply *reply) {
    struct process *process = data;
    reply->content_type = METRICS_CONTENT_TYPE;
    metrics_render(process->metrics, &reply->body);
}

static void produce_health(void *data, struct http_reply *reply) {
    const struct process *process = data;
    reply->content_type = "application/json";
    reply->status = process->failed == LG_OK ? 200 : 503;
    buf_printf(&reply->body, "{\"status\": \"%s\"}\n", process->failed == LG_OK ? "ok" : "failing");
}

static void produce_stats(void *data, struct http_reply *reply) {
    struct process *process = data;
    struct wire_query query = {.what = "stats", .job = ""};
    struct lg_error error = {0};
    uint64_t next = 0;
    char *document = coordinator_query(process->core, &query, &next, &error);
    reply->content_type = "application/json";
    buf_printf(&reply->body, "{\"role\": \"coordinator\", \"stats\": %s, \"metrics\": ", document ? document : "null");
    metrics_render_json(process->metrics, &reply->body);
    buf_text(&reply->body, "}\n");
    free(document);
}

static enum lg_status start_http(struct process *process, struct lg_error *error) {
    const struct coordinator_options *options = process->options;
    const struct http_options http = {
        .address = options->http_bind,
        .port = options->http_port,
        .token = options->http_token,
        .exposed = options->exposed,
        .hosts = options->http_hosts,
    };
    const struct http_route routes[] = {
        {"/metrics", false, produce_metrics, process},
        {"/stats.json", false, produce_stats, process},
        {"/healthz", true, produce_health, process},
    };
    return http_start(&process->loop, &http, routes, sizeof routes / sizeof *routes, &process->http, error);
}

/* ---- life */

static enum lg_status visit(void *context, enum store_table table, const void *row, struct lg_error *error) {
    struct process *process = context;
    enum lg_status status = coordinator_restore(process->core, table, row, error);
    if (status != LG_OK)
        return lg_fail_prefix(error, status, "\"%.200s/coordinator.db\": table \"%s\"", process->options->data_dir,
                              store_table_name(table));
    return LG_OK;
}

static enum lg_status open_store(struct process *process, struct lg_error *error) {
    const char *folder = process->options->data_dir;
    char path[4096];
    if (mkdir(folder, 0755) != 0 && errno != EEXIST)
        return lg_fail(error, LG_IO, "data_dir: cannot make \"%.300s\": %s", folder, strerror(errno));
    if (snprintf(path, sizeof path, "%s/coordinator.db", folder) >= (int)sizeof path)
        return lg_fail(error, LG_INVALID, "data_dir: the path is too long");
    enum lg_status status = store_open(path, &process->store, error);
    if (status == LG_OK)
        status = store_load(process->store, visit, process, error);
    return status;
}

static enum lg_status open_core(struct process *process, struct lg_error *error) {
    const struct coordinator_options *options = process->options;
    const struct coordinator_config config = {.instance = secret_random(NULL),
                                              .beat_ms = options->beat_ms,
                                              .dead_after_ms = options->dead_after_ms,
                                              .server_grace_ms = options->server_grace_ms,
                                              .random = secret_random,
                                              .version = LAGOON_VERSION,
                                              .pid = (uint64_t)getpid(),
                                              .metrics = process->metrics};
    const struct coordinator_sink sink = {process, send_message, store_change};
    return coordinator_new(&config, &sink, &process->core, error);
}

static enum lg_status open_socket(struct process *process, struct lg_error *error) {
    const struct coordinator_options *options = process->options;
    char wanted[NET_ENDPOINT_BYTES], bound[NET_ENDPOINT_BYTES];
    enum lg_status status = net_endpoint_parse(options->bind, true, wanted, error);
    if (status != LG_OK)
        return lg_fail_prefix(error, status, "bind");
    if (!net_is_loopback(wanted) && !options->exposed)
        return lg_fail(error, LG_DENIED,
                       "bind: \"%s\" is reachable from other machines and nothing is encrypted; say `security: none` "
                       "if this network is trusted, or bind to 127.0.0.1",
                       options->bind);
    status = net_socket_open(process->zmq, NET_SERVER, NULL, &process->socket, error);
    if (status == LG_OK)
        status = net_bind(process->socket, wanted, bound, error);
    if (status == LG_OK)
        status = net_advertise(bound, options->advertise ? options->advertise : "", process->endpoint, error);
    if (status == LG_OK)
        status = net_watch_start(&process->watch, &process->loop, process->socket, on_message, process, error);
    process->watching = status == LG_OK;
    return status;
}

static void open_handles(struct process *process) {
    const int numbers[2] = {SIGTERM, SIGINT};
    for (int i = 0; i < 2; i++) {
        uv_signal_init(&process->loop, &process->signals[i]);
        process->signals[i].data = process;
        process->signals_open[i] = true;
        uv_signal_start(&process->signals[i], on_signal, numbers[i]);
    }
    uv_timer_init(&process->loop, &process->tick);
    process->tick.data = process;
    process->tick_open = true;
    uv_timer_start(&process->tick, on_tick, TICK_MS, TICK_MS);
}

static enum lg_status open_store_thread(struct process *process, struct lg_error *error) {
    uv_async_init(&process->loop, &process->committed, on_committed);
    process->committed.data = process;
    process->committed_open = true;
    return store_thread_start(&process->store, on_written, process, &process->store_thread, error);
}

static enum lg_status announce(struct process *process, struct lg_error *error) {
    const struct coordinator_options *options = process->options;
    coordinator_set_addresses(process->core, process->endpoint, http_url(process->http));
    log_info("listening", "the coordinator listens on %s; stats at %s/metrics; database in \"%s\"", process->endpoint,
             http_url(process->http), options->data_dir);
    if (!options->ready)
        return LG_OK;
    return options->ready(options->context, process->endpoint, http_url(process->http), error);
}

/* The socket before the database: a port in use must not touch another coordinator's files. */
static enum lg_status process_open(struct process *process, struct lg_error *error) {
    process->zmq = zmq_ctx_new();
    process->metrics = metrics_new();
    process->arena = wire_arena_new(ARENA_BYTES);
    if (!process->zmq || !process->metrics || !process->arena)
        return lg_fail(error, LG_NO_MEMORY, "no memory for the coordinator");
    enum lg_status status = open_core(process, error);
    if (status == LG_OK)
        status = open_socket(process, error);
    if (status == LG_OK)
        status = open_store(process, error);
    if (status == LG_OK)
        status = open_store_thread(process, error);
    if (status == LG_OK)
        status = start_http(process, error);
    if (status == LG_OK)
        status = announce(process, error);
    if (status != LG_OK)
        return status;
    open_handles(process);
    coordinator_start(process->core, moment());
    settle(process);
    return LG_OK;
}

static void close_handles(struct process *process) {
    if (process->watching)
        net_watch_close(&process->watch, NULL);
    if (process->http)
        http_close(process->http, NULL, NULL);
    for (int i = 0; i < 2; i++)
        if (process->signals_open[i])
            uv_close((uv_handle_t *)&process->signals[i], NULL);
    if (process->tick_open)
        uv_close((uv_handle_t *)&process->tick, NULL);
    if (process->committed_open)
        uv_close((uv_handle_t *)&process->committed, NULL);
    uv_run(&process->loop, UV_RUN_DEFAULT);
}

static void process_close(struct process *process) {
    store_thread_stop(process->store_thread); /* what was decided is written */
    close_handles(process);
    store_close(process->store);
    outbox_clear(&process->outbox);
    net_socket_close(process->socket);
    if (process->zmq)
        zmq_ctx_term(process->zmq);
    uv_loop_close(&process->loop);
    coordinator_free(process->core);
    wire_arena_free(process->arena);
    metrics_free(process->metrics);
}

enum lg_status coordinator_process_run(const struct coordinator_options *options, struct lg_error *error) {
    struct process *process = calloc(1, sizeof *process);
    if (!process)
        return lg_fail(error, LG_NO_MEMORY, "no memory for the coordinator");
    process->options = options;
    uv_loop_init(&process->loop);
    enum lg_status status = process_open(process, error);
    if (status == LG_OK) {
        uv_run(&process->loop, UV_RUN_DEFAULT);
        status = process->failed;
        if (status != LG_OK && error)
            *error = process->failure;
    }
    process_close(process);
    if (status == LG_OK)
        log_info("stopped", "the coordinator has stopped; its jobs are in the database");
    free(process);
    return status;
}
