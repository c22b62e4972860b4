#include "worker/agent.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/daemon.h"
#include "common/log.h"
#include "worker/agent_internal.h"

enum { FAREWELL_MS = 1000 }; /* how long a stopping agent waits for its last reports to be acknowledged */

/* ---- what is running, what has ended */

struct agent_trainer *agent_find(struct agent *agent, uint64_t trainer) {
    for (size_t i = 0; i < agent->trainer_count; i++)
        if (agent->trainers[i]->trainer == trainer)
            return agent->trainers[i];
    return NULL;
}

struct agent_exit *agent_exit_find(struct agent *agent, uint64_t trainer, uint32_t attempt) {
    for (size_t i = 0; i < AGENT_EXITS_MAX; i++) {
        struct agent_exit *exit = &agent->exits[i];
        if (exit->request != 0 && exit->trainer == trainer && exit->attempt == attempt)
            return exit;
    }
    return NULL;
}

void agent_exit_add(struct agent *agent, const struct agent_exit *exit) {
    struct agent_exit *place = &agent->exits[agent->exit_next];
    agent->exit_next = (agent->exit_next + 1) % AGENT_EXITS_MAX;
    *place = *exit;
    place->request = agent->next_request++;
    agent_link_flush_lines(agent); /* its last words first */
    agent_link_send_exit(agent, place);
}

void agent_remove(struct agent_trainer *trainer) {
    struct agent *agent = trainer->agent;
    for (size_t i = 0; i < agent->trainer_count; i++) {
        if (agent->trainers[i] == trainer) {
            agent->trainers[i] = agent->trainers[--agent->trainer_count];
            break;
        }
    }
    metric_set(agent->running, (int64_t)agent->trainer_count);
}

int64_t agent_threads(const struct worker_config *config) {
    cpu_set_t cpus;
    if (config->threads > 0)
        return config->threads;
    int64_t cores = sched_getaffinity(0, sizeof cpus, &cpus) == 0 ? CPU_COUNT(&cpus) : 1;
    return cores > config->slots ? cores / config->slots : 1;
}

/* ---- the name */

/* Takes the abstract socket address that stands for `name` on this host; it is given back when the process ends,
 * however it ends. */
static bool lock_name(const char *name, int *lock) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int length = snprintf(address.sun_path + 1, sizeof address.sun_path - 1, "lagoon-worker/%s", name);
    *lock = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (*lock >= 0 && bind(*lock, (struct sockaddr *)&address,
                           (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)length)) == 0)
        return true;
    if (*lock >= 0)
        close(*lock);
    *lock = -1;
    return false;
}

/* The configured name, else HOST, HOST-2, ...: the first that no other worker of this host has, so that names stay the
 * same over restarts. */
static void choose_name(struct agent *agent) {
    char host[64] = "worker";
    agent->name_lock = -1;
    snprintf(agent->name, sizeof agent->name, "%s", agent->config->name);
    if (agent->name[0])
        return;
    if (gethostname(host, sizeof host - 1) != 0 || !host[0])
        snprintf(host, sizeof host, "worker");
    host[strcspn(host, ".")] = '\0';
    for (int i = 1; i <= 1000; i++) {
        snprintf(agent->name, sizeof agent->name, i == 1 ? "%s" : "%s-%d", host, i);
        if (lock_name(agent->name, &agent->name_lock))
            return;
    }
}

/* ---- life */

static void on_closed_handle(uv_handle_t *handle) {
    (void)handle;
}

static void close_all(struct agent *agent) {
    uv_close((uv_handle_t *)&agent->tick, on_closed_handle);
    for (int i = 0; i < 2; i++)
        uv_close((uv_handle_t *)&agent->signals[i], on_closed_handle);
    if (agent->watching)
        net_watch_close(&agent->link_watch, NULL);
    if (agent->http)
        http_close(agent->http, NULL, NULL);
}

static bool all_acknowledged(const struct agent *agent) {
    for (size_t i = 0; i < AGENT_EXITS_MAX; i++)
        if (agent->exits[i].request != 0 && !agent->exits[i].acknowledged)
            return false;
    return true;
}

static void on_tick(uv_timer_t *timer) {
    struct agent *agent = timer->data;
    uint64_t now = uv_now(&agent->loop);
    agent_link_tick(agent);
    if (!agent->stopping || agent->trainer_count > 0)
        return;
    if (agent->stopped_ms == 0)
        agent->stopped_ms = now;
    if (all_acknowledged(agent) || now - agent->stopped_ms >= FAREWELL_MS)
        close_all(agent);
}

static void on_signal(uv_signal_t *handle, int number) {
    struct agent *agent = handle->data;
    uint64_t grace_ms = agent->stopping ? 0 : (uint64_t)agent->config->grace_ms; /* asked twice: at once */
    log_info("stopping", "%s: stopping %zu trainers", number == SIGTERM ? "SIGTERM" : "SIGINT", agent->trainer_count);
    agent->stopping = true;
    agent_link_withdraw(agent);
    for (size_t i = 0; i < agent->trainer_count; i++)
        agent_trainer_stop(agent->trainers[i], grace_ms, "its worker is stopping");
}

static enum lg_status start_loop(struct agent *agent, struct lg_error *error) {
    static const int numbers[] = {SIGTERM, SIGINT};
    if (uv_loop_init(&agent->loop) != 0)
        return lg_fail(error, LG_IO, "cannot start an event loop: %s", strerror(errno));
    uv_timer_init(&agent->loop, &agent->tick);
    agent->tick.data = agent;
    agent->started_ms = uv_now(&agent->loop);
    for (int i = 0; i < 2; i++) {
        uv_signal_init(&agent->loop, &agent->signals[i]);
        agent->signals[i].data = agent;
        uv_signal_start(&agent->signals[i], on_signal, numbers[i]);
    }
    return LG_OK;
}

static enum lg_status write_ready(const struct agent *agent, struct lg_error *error) {
    struct buf text = {0};
    buf_text(&text, "{\"name\": ");
    buf_json_text(&text, agent->name);
    buf_text(&text, ", \"http\": ");
    buf_json_text(&text, http_url(agent->http));
    buf_printf(&text, ", \"pid\": %d}", (int)getpid());
    enum lg_status status = daemon_write_ready(agent->config->ready_file, buf_string(&text), error);
    buf_deinit(&text);
    return status;
}

static enum lg_status start(struct agent *agent, struct lg_error *error) {
    enum lg_status status = agent_stats_start(agent, error);
    if (status == LG_OK)
        status = agent_link_open(agent, error);
    if (status == LG_OK)
        status = write_ready(agent, error);
    if (status != LG_OK)
        return status;
    log_info("ready", "worker \"%s\": %lld slot%s, device %s, %lld threads each; stats at %s", agent->name,
             (long long)agent->config->slots, agent->config->slots == 1 ? "" : "s", agent->config->device,
             (long long)agent_threads(agent->config), http_url(agent->http));
    uv_timer_start(&agent->tick, on_tick, 0, AGENT_TICK_MS);
    return LG_OK;
}

static void free_all(struct agent *agent) {
    net_socket_close(agent->link);
    if (agent->zmq)
        zmq_ctx_term(agent->zmq);
    wire_arena_free(agent->arena);
    line_queue_deinit(&agent->lines);
    metrics_free(agent->metrics);
    if (agent->name_lock >= 0)
        close(agent->name_lock);
    free(agent);
}

enum lg_status agent_run(const struct worker_config *config, const char *program, struct lg_error *error) {
    struct agent *agent = calloc(1, sizeof *agent);
    if (!agent)
        return lg_fail(error, LG_NO_MEMORY, "no memory for the worker");
    agent->config = config;
    agent->program = program;
    choose_name(agent);
    if (getrandom(&agent->instance, sizeof agent->instance, 0) != sizeof agent->instance)
        agent->instance = (uint64_t)getpid() << 32 ^ uv_hrtime();
    enum lg_status status = start_loop(agent, error);
    if (status != LG_OK)
        goto out;
    status = start(agent, error);
    if (status != LG_OK)
        close_all(agent);
    uv_run(&agent->loop, UV_RUN_DEFAULT);
    uv_loop_close(&agent->loop);
    if (status == LG_OK)
        log_info("stopped", "worker \"%s\" has stopped", agent->name);
out:
    free_all(agent);
    return status;
}
