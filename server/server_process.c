#include "server/server_process.h"

#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>
#include <uv.h>

#include "common/daemon.h"
#include "common/http.h"
#include "common/log.h"
#include "common/metrics.h"
#include "proto/wire_net.h"
#include "server/shard_thread.h"

enum { SHARDS_MAX = 64, JOBS_PER_SHARD_MAX = 64, CONTROL_ARENA_BYTES = 16 << 20, SILENT_WARN_MS = 3000 };

/* Messages kept for a coordinator that is away: it asks again for what matters, and old beats help nobody. */
enum { LINK_QUEUE = 1000 };

struct process;

struct hosted_shard {
    struct process *process;
    struct shard_thread *thread;
    char advertised[NET_ENDPOINT_BYTES];
    struct net_watch watch; /* of the control end of its pair */
    struct wire_shard_job_stats stats[JOBS_PER_SHARD_MAX];
    size_t stat_count;
    uint64_t memory_bytes;
};

struct process {
    const struct server_config *config;
    char name[OPTION_TEXT_BYTES];
    uv_loop_t loop;
    uv_signal_t signals[2];
    uv_timer_t timer;
    void *zmq, *link; /* DEALER to the coordinator */
    struct net_watch link_watch;
    struct wire_arena *arena;
    struct metrics *metrics;
    struct http_server *http;
    struct hosted_shard *shards;
    size_t shard_count;
    uint64_t memory_bytes, instance, member, coordinator;
    bool registered, said_silent, stopping;
    bool refused; /* said that the coordinator refuses this server */
    uint64_t last_answer_ms;
};

/* ---- to the coordinator */

static void link_send(struct process *process, const struct wire_message *message) {
    struct net_message out = {0};
    enum lg_status status = wire_net_add(message, &out);
    if (status == LG_OK)
        status = net_send(process->link, &out);
    if (status != LG_OK) {
        net_message_clear(&out);
        log_debug("link-send", "could not send %s to the coordinator: %s", wire_kind_name(message->kind),
                  lg_status_text(status));
    }
}

static void send_register(struct process *process) {
    const char *endpoints[SHARDS_MAX];
    for (size_t i = 0; i < process->shard_count; i++)
        endpoints[i] = process->shards[i].advertised;
    struct wire_message message = {.kind = WIRE_REGISTER, .request = 1};
    message.register_ = (struct wire_register){
        .kind = WIRE_MEMBER_SERVER,
        .name = process->name,
        .instance = process->instance,
        .endpoints = endpoints,
        .endpoint_count = process->shard_count,
        .memory_bytes = process->memory_bytes,
        .http = http_url(process->http),
        .pid = (uint64_t)getpid(),
        .version = LAGOON_VERSION,
        .member = process->member,
        .cores = (uint64_t)sysconf(_SC_NPROCESSORS_ONLN),
    };
    link_send(process, &message);
}

static void send_beat(struct process *process) {
    struct wire_shard_job_stats stats[WIRE_STATS_MAX];
    struct wire_message message = {.kind = WIRE_BEAT, .request = 1};
    struct wire_beat *beat = &message.beat;
    *beat = (struct wire_beat){.member = process->member, .instance = process->instance, .stats = stats};
    for (size_t i = 0; i < process->shard_count; i++)
        beat->memory_used_bytes += process->shards[i].memory_bytes;
    for (size_t j = 0; j < JOBS_PER_SHARD_MAX; j++) /* the newest job of every shard, then the next */
        for (size_t i = 0; i < process->shard_count && beat->stat_count < WIRE_STATS_MAX; i++)
            if (j < process->shards[i].stat_count)
                stats[beat->stat_count++] = process->shards[i].stats[j];
    link_send(process, &message);
}

static void on_timer(uv_timer_t *timer) {
    struct process *process = timer->data;
    if (process->registered)
        send_beat(process);
    else
        send_register(process);
    uint64_t silent_ms = uv_now(&process->loop) - process->last_answer_ms;
    if (silent_ms > SILENT_WARN_MS && !process->said_silent) {
        log_warn("coordinator-silent",
                 "the coordinator at %s does not answer; shards go on serving, trying again every second",
                 process->config->coordinator);
        process->said_silent = true;
    }
}

/* ---- from the coordinator */

static struct hosted_shard *shard_of_number(struct process *process, uint32_t number) {
    for (size_t i = 0; i < process->shard_count; i++)
        if (shard_thread_index(process->shards[i].thread) == number)
            return &process->shards[i];
    return NULL;
}

static void on_shard_message(struct net_watch *watch, enum lg_status status, struct net_message *message);

static void start_shards(struct process *process, const struct wire_register_reply *reply) {
    struct lg_error error = {0};
    for (size_t i = 0; i < process->shard_count; i++) {
        struct hosted_shard *shard = &process->shards[i];
        if (shard_thread_index(shard->thread) != UINT32_MAX)
            continue;
        if (shard_thread_start(shard->thread, reply->shards[i], &error) != LG_OK ||
            net_watch_start(&shard->watch, &process->loop, shard_thread_control(shard->thread), on_shard_message, shard,
                            &error) != LG_OK) {
            log_error("shard-start", "cannot start shard %u: %s", reply->shards[i], error.message);
            uv_stop(&process->loop);
            return;
        }
        log_info("shard-ready", "shard %u serves %s", reply->shards[i], shard->advertised);
    }
}

static void take_register_reply(struct process *process, const struct wire_register_reply *reply) {
    if (reply->status != LG_OK) {
        if (!process->refused)
            log_error("register-refused", "the coordinator refuses this server: %s", reply->reason);
        process->refused = true;
        process->registered = false;
        return;
    }
    if (reply->shard_count != process->shard_count) {
        log_error("register-refused", "the coordinator gave %zu shard numbers for %zu shards", reply->shard_count,
                  process->shard_count);
        return;
    }
    if (!process->registered)
        log_info("registered", "member %llu of the coordinator at %s", (unsigned long long)reply->member,
                 process->config->coordinator);
    process->registered = true;
    process->refused = false;
    process->member = reply->member;
    process->coordinator = reply->coordinator;
    start_shards(process, reply);
    if (reply->beat_ms > 0)
        uv_timer_set_repeat(&process->timer, reply->beat_ms);
}

static void pass_command(struct process *process, const struct wire_message *message, struct net_message *frames) {
    uint32_t number = wire_command_shard(message);
    struct hosted_shard *shard = number == UINT32_MAX ? NULL : shard_of_number(process, number);
    if (shard) {
        if (net_send(shard_thread_control(shard->thread), frames) != LG_OK)
            log_warn("command-lost", "shard %u takes no commands now", number);
        return;
    }
    struct wire_message refusal = {.kind = WIRE_ACK, .request = message->request};
    refusal.ack = (struct wire_ack){LG_NOT_FOUND, "this server does not host that shard"};
    link_send(process, &refusal);
}

static void on_link_message(struct net_watch *watch, enum lg_status received, struct net_message *frames) {
    struct process *process = watch->data;
    struct wire_message message;
    struct lg_error error = {0};
    if (received != LG_OK || wire_net_decode(frames, 0, process->arena, &message, &error) != LG_OK) {
        log_warn("malformed", "dropped a message of the coordinator: %s", error.message);
        return;
    }
    process->last_answer_ms = uv_now(&process->loop);
    if (process->said_silent)
        log_info("coordinator-back", "the coordinator answers again");
    process->said_silent = false;
    switch (message.kind) {
    case WIRE_REGISTER_REPLY:
        take_register_reply(process, &message.register_reply);
        break;
    case WIRE_BEAT_REPLY:
        if (message.beat_reply.register_again && process->registered) { /* every beat under way is answered so */
            log_info("register-again", "the coordinator asks to register again");
            process->registered = false;
            send_register(process);
        }
        break;
    case WIRE_ERROR:
        log_warn("coordinator-error", "the coordinator answers: %s", message.error.reason);
        break;
    default:
        pass_command(process, &message, frames);
    }
}

/* ---- from the shards */

static void on_shard_message(struct net_watch *watch, enum lg_status received, struct net_message *frames) {
    struct hosted_shard *shard = watch->data;
    struct process *process = shard->process;
    struct wire_message message;
    struct lg_error error = {0};
    if (received != LG_OK || wire_net_decode(frames, 0, process->arena, &message, &error) != LG_OK) {
        log_error("bad-answer", "cannot read an answer of shard %u: %s", shard_thread_index(shard->thread),
                  error.message);
        return;
    }
    if (message.kind != WIRE_BEAT) {
        if (message.kind == WIRE_LEDGER_REPLY)
            send_beat(process); /* with the statistics that the shard published before it answered */
        if (net_send(process->link, frames) != LG_OK)
            log_debug("link-send", "an answer of shard %u is lost; the coordinator asks again",
                      shard_thread_index(shard->thread));
        return;
    }
    shard->stat_count = message.beat.stat_count < JOBS_PER_SHARD_MAX ? message.beat.stat_count : JOBS_PER_SHARD_MAX;
    if (shard->stat_count > 0)
        memcpy(shard->stats, message.beat.stats, shard->stat_count * sizeof *shard->stats);
    shard->memory_bytes = message.beat.memory_used_bytes;
}

/* ---- stats endpoint */

static void produce_metrics(void *data, struct http_reply *reply) {
    struct process *process = data;
    reply->content_type = METRICS_CONTENT_TYPE;
    metrics_render(process->metrics, &reply->body);
}

static void produce_health(void *data, struct http_reply *reply) {
    struct process *process = data;
    reply->content_type = "application/json";
    buf_printf(&reply->body, "{\"status\": \"ok\", \"registered\": %s}\n", process->registered ? "true" : "false");
}

static void produce_job(struct buf *body, const struct wire_shard_job_stats *job) {
    buf_printf(body,
               "{\"job\": %llu, \"initialised\": %s, \"pushes\": %llu, \"samples\": %llu, \"dropped\": %llu, "
               "\"duplicates\": %llu, \"staleness_mean\": %.6g, \"staleness_p99\": %llu, \"staleness_max\": %llu, "
               "\"weight_mean\": %.6g, \"push_bytes\": %llu, \"pull_bytes\": %llu, \"parameter_bytes\": %llu, "
               "\"state_bytes\": %llu, \"pulls\": %llu, \"version\": %llu}",
               (unsigned long long)job->job, job->initialised ? "true" : "false", (unsigned long long)job->pushes,
               (unsigned long long)job->samples, (unsigned long long)job->dropped, (unsigned long long)job->duplicates,
               job->staleness_mean, (unsigned long long)job->staleness_p99, (unsigned long long)job->staleness_max,
               job->weight_mean, (unsigned long long)job->push_bytes, (unsigned long long)job->pull_bytes,
               (unsigned long long)job->parameter_bytes, (unsigned long long)job->state_bytes,
               (unsigned long long)job->pulls, (unsigned long long)job->version);
}

static void produce_stats(void *data, struct http_reply *reply) {
    struct process *process = data;
    struct buf *body = &reply->body;
    reply->content_type = "application/json";
    buf_text(body, "{\"name\": ");
    buf_json_text(body, process->name);
    buf_printf(body, ", \"role\": \"server\", \"version\": \"%s\", \"pid\": %d, \"member\": %llu, \"shards\": [",
               LAGOON_VERSION, (int)getpid(), (unsigned long long)process->member);
    for (size_t i = 0; i < process->shard_count; i++) {
        const struct hosted_shard *shard = &process->shards[i];
        uint32_t number = shard_thread_index(shard->thread); /* UINT32_MAX: none was given yet */
        buf_printf(body, "%s{\"shard\": %lld, \"endpoint\": ", i ? ", " : "",
                   number == UINT32_MAX ? -1LL : (long long)number);
        buf_json_text(body, shard->advertised);
        buf_printf(body, ", \"memory_bytes\": %llu, \"jobs\": [", (unsigned long long)shard->memory_bytes);
        for (size_t j = 0; j < shard->stat_count; j++) {
            buf_text(body, j ? ", " : "");
            produce_job(body, &shard->stats[j]);
        }
        buf_text(body, "]}");
    }
    buf_text(body, "], \"metrics\": ");
    metrics_render_json(process->metrics, body);
    buf_text(body, "}\n");
}

static enum lg_status start_http(struct process *process, struct lg_error *error) {
    const struct http_options options = {
        .address = process->config->http_bind,
        .port = (uint16_t)process->config->http_port,
        .token = process->config->http_token,
        .exposed = strcmp(process->config->security, "none") == 0,
        .hosts = process->config->http_hosts,
    };
    const struct http_route routes[] = {
        {"/metrics", false, produce_metrics, process},
        {"/stats.json", false, produce_stats, process},
        {"/healthz", true, produce_health, process},
    };
    return http_start(&process->loop, &options, routes, sizeof routes / sizeof *routes, &process->http, error);
}

/* ---- life */

static void on_signal(uv_signal_t *handle, int number) {
    struct process *process = handle->data;
    log_info("stopping", "%s: draining %zu shards", number == SIGTERM ? "SIGTERM" : "SIGINT", process->shard_count);
    process->stopping = true;
    uv_stop(&process->loop);
}

static uint64_t memory_per_server(const struct server_config *config) {
    if (config->memory_bytes > 0)
        return config->memory_bytes;
    return (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE) / 2;
}

/* "tcp://host:port+at", or port 0 for all. */
static enum lg_status shard_endpoint(const struct server_config *config, size_t at, char out[NET_ENDPOINT_BYTES],
                                     struct lg_error *error) {
    char first[NET_ENDPOINT_BYTES], host[NET_ENDPOINT_BYTES];
    uint16_t port;
    enum lg_status status = net_endpoint_parse(config->bind, true, first, error);
    if (status == LG_OK)
        status = net_endpoint_split(first, host, &port, error);
    if (status != LG_OK)
        return lg_fail_prefix(error, status, "bind");
    if (port + at > 65535)
        return lg_fail(error, LG_INVALID, "bind: port %u leaves no room for %zu shards; choose a lower one", port,
                       at + 1);
    if (!net_is_loopback(first) && strcmp(config->security, "none") != 0)
        return lg_fail(error, LG_DENIED,
                       "bind: \"%s\" is reachable from other machines and nothing is encrypted; say `security: none` "
                       "if this network is trusted, or bind to 127.0.0.1",
                       config->bind);
    const char *form = strchr(host, ':') ? "tcp://[%s]:%u" : "tcp://%s:%u";
    char text[NET_ENDPOINT_BYTES + 32];
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
    snprintf(text, sizeof text, form, host, port == 0 ? 0 : (unsigned)(port + at));
#pragma GCC diagnostic pop
    snprintf(out, NET_ENDPOINT_BYTES, "%.*s", NET_ENDPOINT_BYTES - 1, text);
    return LG_OK;
}

static enum lg_status open_shard(struct process *process, size_t at, enum isa isa, struct lg_error *error) {
    const struct server_config *config = process->config;
    struct hosted_shard *shard = &process->shards[at];
    char endpoint[NET_ENDPOINT_BYTES], record[OPTION_TEXT_BYTES + 16];
    struct shard_thread_options options = {
        .zmq = process->zmq,
        .endpoint = endpoint,
        .local = config->local,
        .record = config->record[0] ? record : NULL,
        .shard = {.credit_bytes = config->credit_bytes,
                  .session_credit_bytes = config->session_credit_bytes,
                  .memory_bytes = process->memory_bytes / (uint64_t)config->shards,
                  .window = (uint32_t)config->window,
                  .sessions_max = (uint32_t)config->sessions_max,
                  .reject_nonfinite = config->reject_nonfinite,
                  .isa = isa,
                  .metrics = process->metrics},
    };
    shard->process = process;
    if (config->shards > 1)
        snprintf(record, sizeof record, "%s.%zu", config->record, at);
    else
        snprintf(record, sizeof record, "%s", config->record);
    enum lg_status status = shard_endpoint(config, at, endpoint, error);
    if (status == LG_OK)
        status = shard_thread_open(&options, &shard->thread, error);
    if (status == LG_OK)
        status = net_advertise(shard_thread_endpoint(shard->thread), config->advertise, shard->advertised, error);
    return status;
}

static enum lg_status open_shards(struct process *process, struct lg_error *error) {
    enum isa isa;
    enum lg_status status = isa_parse(process->config->isa, &isa, error);
    process->shard_count = (size_t)process->config->shards;
    process->shards = calloc(process->shard_count, sizeof *process->shards);
    if (!process->shards)
        return lg_fail(error, LG_NO_MEMORY, "no memory for %zu shards", process->shard_count);
    for (size_t i = 0; status == LG_OK && i < process->shard_count; i++)
        status = open_shard(process, i, isa, error);
    return status;
}

static enum lg_status open_link(struct process *process, struct lg_error *error) {
    char endpoint[NET_ENDPOINT_BYTES];
    enum lg_status status = net_endpoint_parse(process->config->coordinator, false, endpoint, error);
    if (status != LG_OK)
        return lg_fail_prefix(error, status, "coordinator");
    status =
        net_socket_open(process->zmq, NET_CLIENT, &(struct net_options){.queue = LINK_QUEUE}, &process->link, error);
    if (status == LG_OK)
        status = net_connect(process->link, endpoint, error);
    if (status == LG_OK)
        status = net_watch_start(&process->link_watch, &process->loop, process->link, on_link_message, process, error);
    return status;
}

static void open_signals(struct process *process) {
    const int numbers[2] = {SIGTERM, SIGINT};
    for (int i = 0; i < 2; i++) {
        uv_signal_init(&process->loop, &process->signals[i]);
        process->signals[i].data = process;
        uv_signal_start(&process->signals[i], on_signal, numbers[i]);
    }
    uv_timer_init(&process->loop, &process->timer);
    process->timer.data = process;
    process->last_answer_ms = uv_now(&process->loop); /* silence counts from here */
    uv_timer_start(&process->timer, on_timer, 0, 1000);
}

static enum lg_status announce(struct process *process, struct lg_error *error) {
    struct buf text = {0};
    buf_printf(&text, "{\"role\": \"server\", \"pid\": %d, \"http\": \"%s\", \"shards\": [", (int)getpid(),
               http_url(process->http));
    for (size_t i = 0; i < process->shard_count; i++)
        buf_printf(&text, "%s\"%s\"", i ? ", " : "", process->shards[i].advertised);
    buf_text(&text, "]}");
    enum lg_status status = daemon_write_ready(process->config->ready_file, buf_string(&text), error);
    buf_deinit(&text);
    log_info("listening", "%zu shard%s of server \"%s\"; stats at %s/metrics", process->shard_count,
             process->shard_count == 1 ? "" : "s", process->name, http_url(process->http));
    return status;
}

static enum lg_status process_open(struct process *process, struct lg_error *error) {
    const struct server_config *config = process->config;
    if (config->name[0])
        snprintf(process->name, sizeof process->name, "%s", config->name);
    else if (gethostname(process->name, sizeof process->name - 1) != 0)
        snprintf(process->name, sizeof process->name, "server");
    process->memory_bytes = memory_per_server(config);
    process->zmq = zmq_ctx_new();
    process->metrics = metrics_new();
    process->arena = wire_arena_new(CONTROL_ARENA_BYTES);
    if (!process->zmq || !process->metrics || !process->arena ||
        getrandom(&process->instance, sizeof process->instance, 0) != sizeof process->instance)
        return lg_fail(error, LG_NO_MEMORY, "no memory for the server");
    enum lg_status status = open_shards(process, error);
    if (status == LG_OK)
        status = start_http(process, error);
    if (status == LG_OK)
        status = open_link(process, error);
    if (status == LG_OK)
        status = announce(process, error);
    if (status == LG_OK)
        open_signals(process);
    return status;
}

static void close_handle(uv_handle_t *handle, void *data) {
    (void)data;
    if (!uv_is_closing(handle))
        uv_close(handle, NULL);
}

/* Watches first, then what they watch; then whatever handle is left. */
static void process_close(struct process *process) {
    if (process->link_watch.data)
        net_watch_close(&process->link_watch, NULL);
    for (size_t i = 0; process->shards && i < process->shard_count; i++)
        if (process->shards[i].watch.data)
            net_watch_close(&process->shards[i].watch, NULL);
    if (process->http)
        http_close(process->http, NULL, NULL);
    for (int i = 0; i < 2; i++)
        if (process->signals[i].data)
            close_handle((uv_handle_t *)&process->signals[i], NULL);
    if (process->timer.data)
        close_handle((uv_handle_t *)&process->timer, NULL);
    uv_run(&process->loop, UV_RUN_DEFAULT);
    for (size_t i = 0; process->shards && i < process->shard_count; i++)
        shard_thread_stop(process->shards[i].thread);
    net_socket_close(process->link);
    if (process->zmq)
        zmq_ctx_term(process->zmq);
    uv_loop_close(&process->loop);
    wire_arena_free(process->arena);
    metrics_free(process->metrics);
    free(process->shards);
}

enum lg_status server_process_run(const struct server_config *config, struct lg_error *error) {
    struct process *process = calloc(1, sizeof *process);
    if (!process)
        return lg_fail(error, LG_NO_MEMORY, "no memory for the server");
    process->config = config;
    uv_loop_init(&process->loop);
    enum lg_status status = process_open(process, error);
    if (status == LG_OK) {
        uv_run(&process->loop, UV_RUN_DEFAULT);
        if (!process->stopping)
            status = lg_fail(error, LG_IO, "the server could not go on; the log says why");
    }
    process_close(process);
    if (status == LG_OK)
        log_info("stopped", "all shards drained");
    free(process);
    return status;
}
