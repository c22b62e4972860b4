#include "worker/agent.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "common/daemon.h"
#include "common/log.h"
#include "gpu/device.h"
#include "worker/agent_host.h"
#include "worker/agent_internal.h"

enum {
    FAREWELL_MS = 1000, /* how long a stopping agent waits for its last reports to be acknowledged */
    EXITS_COUNTED = 32, /* ended trainers that stay on /metrics */
};

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
    const struct agent_exit *old =
        &agent->exits[(agent->exit_next + AGENT_EXITS_MAX - EXITS_COUNTED) % AGENT_EXITS_MAX];
    if (old->request != 0 && !agent_find(agent, old->trainer))
        agent_stats_forget(agent, old->trainer);
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
    char more[32] = "";
    long long threads = (long long)host_threads(agent->config, agent->slots);
    if (agent->device_count > 1)
        snprintf(more, sizeof more, " and %zu more", agent->device_count - 1);
    log_info("ready", "worker \"%s\": %lld slot%s, device %s%s, %lld thread%s each; stats at %s", agent->name,
             (long long)agent->slots, agent->slots == 1 ? "" : "s", agent->devices[0], more, threads,
             threads == 1 ? "" : "s", http_url(agent->http));
    agent->device_numbers = agent_devices_start(&(struct agent_devices_options){
        .devices = (const char(*)[HOST_DEVICE_BYTES])agent->devices,
        .device_count = agent->device_count,
        .library = NVML_LIBRARY,
        .bus_id = nvml_bus_id,
    });
    uv_timer_start(&agent->tick, on_tick, 0, AGENT_TICK_MS);
    return LG_OK;
}

static void free_all(struct agent *agent) {
    net_socket_close(agent->link);
    if (agent->zmq)
        zmq_ctx_term(agent->zmq);
    wire_arena_free(agent->arena);
    line_queue_deinit(&agent->lines);
    agent_devices_stop(agent->device_numbers);
    metrics_free(agent->metrics);
    host_release(agent->name_lock);
    host_release(agent->slots_lock);
    free(agent);
}

/* What of the configured devices is not here. */
static void say_devices(const struct agent *agent, unsigned gpus) {
    unsigned number;
    const char *math;
    if (strncmp(agent->config->device, "auto", 4) == 0 && gpus == 0)
        log_info("device-auto", "no GPU can be used here (`lagoon doctor` says why): trainers compute on the CPU");
    for (size_t i = 0; i < agent->device_count; i++)
        if (device_spec_is_cuda(agent->devices[i], &number, &math) && number >= gpus)
            log_warn("device-absent",
                     "device \"%s\" cannot be used here: there are %u GPUs (`lagoon doctor` says why); jobs fail on it",
                     agent->devices[i], gpus);
}

enum lg_status agent_run(const struct worker_config *config, const char *program, struct lg_error *error) {
    struct agent *agent = calloc(1, sizeof *agent);
    if (!agent)
        return lg_fail(error, LG_NO_MEMORY, "no memory for the worker");
    agent->config = config;
    agent->program = program;
    host_take_name(config->name, agent->name, &agent->name_lock);
    const unsigned gpus = device_gpu_count();
    agent->device_count = host_devices(config->device, gpus, agent->devices);
    say_devices(agent, gpus);
    agent->slots = config->slots > 0 ? config->slots : (int64_t)agent->device_count;
    host_show_slots(agent->slots, &agent->slots_lock);
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
