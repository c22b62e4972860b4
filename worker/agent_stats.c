/* The agent's stats endpoint: /metrics, /stats.json, /healthz. */
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#include "worker/agent_internal.h"

/* ---- counting */

static void take_cells(struct agent_trainer *trainer) {
    struct metrics *metrics = trainer->agent->metrics;
    char number[24];
    const char *labels[] = {trainer->job_name, number};
    snprintf(number, sizeof number, "%" PRIu64, trainer->trainer);
    trainer->compute = metrics_cell(metrics, METRIC_WORKER_COMPUTE_SECONDS, labels);
    trainer->communication = metrics_cell(metrics, METRIC_WORKER_COMM_SECONDS, labels);
    trainer->read = metrics_cell(metrics, METRIC_WORKER_READ_SECONDS, labels);
    trainer->copy = metrics_cell(metrics, METRIC_WORKER_COPY_SECONDS, labels);
    trainer->copy_bytes = metrics_cell(metrics, METRIC_WORKER_COPY_BYTES, labels);
    trainer->wait = metrics_cell(metrics, METRIC_WORKER_WAIT_SECONDS, labels);
    trainer->samples = metrics_cell(metrics, METRIC_WORKER_SAMPLES, labels);
    trainer->steps = metrics_cell(metrics, METRIC_WORKER_STEPS, labels);
    trainer->staleness = metrics_cell(metrics, METRIC_WORKER_STALENESS, labels);
    trainer->weight = metrics_cell(metrics, METRIC_WORKER_WEIGHT, labels);
}

/* A counter never goes back, whatever a trainer says. */
static uint64_t growth(uint64_t before, uint64_t now) {
    return now > before ? now - before : 0;
}

void agent_stats_take_numbers(struct agent_trainer *trainer, const struct trainer_numbers *fresh) {
    const struct trainer_numbers *before = &trainer->numbers;
    if (!trainer->steps)
        take_cells(trainer);
    metric_add(trainer->compute, growth(before->compute_ns, fresh->compute_ns));
    metric_add(trainer->communication, growth(before->communication_ns, fresh->communication_ns));
    metric_add(trainer->read, growth(before->read_ns, fresh->read_ns));
    metric_add(trainer->copy, growth(before->copy_ns, fresh->copy_ns));
    metric_add(trainer->copy_bytes, growth(before->copy_bytes, fresh->copy_bytes));
    metric_add(trainer->wait, growth(before->wait_ns, fresh->wait_ns));
    metric_add(trainer->samples, growth(before->samples, fresh->samples));
    metric_add(trainer->steps, growth(before->steps, fresh->steps));
    trainer->numbers = *fresh;
}

void agent_stats_take_pushes(struct agent_trainer *trainer, const struct trainer_push *pushes, size_t count) {
    if (!trainer->steps)
        take_cells(trainer);
    for (size_t i = 0; i < count; i++) {
        metric_observe(trainer->staleness, (double)pushes[i].staleness);
        metric_observe(trainer->weight, pushes[i].weight);
    }
}

void agent_stats_forget(struct agent *agent, uint64_t trainer) {
    char number[24];
    snprintf(number, sizeof number, "%" PRIu64, trainer);
    metrics_remove(agent->metrics, (const char *const[]){"trainer", number, NULL});
}

void agent_stats_count_exit(struct agent *agent, const char *kind) {
    metric_add(metrics_cell(agent->metrics, METRIC_TRAINER_EXITS, &kind), 1);
}

/* ---- answering */

static void set_gauge(struct agent *agent, enum metric metric, const char *device, uint64_t number) {
    metric_set(metrics_cell(agent->metrics, metric, &device), (int64_t)number);
}

/* Looked at when somebody asks. What is not known has no gauge; what was known once keeps its last number. */
static void show_devices(struct agent *agent) {
    struct device_sample samples[HOST_DEVICES_MAX];
    size_t count = agent_devices_take(agent->device_numbers, samples);
    for (size_t i = 0; i < count; i++) {
        const struct wire_device_stats *stats = &samples[i].stats;
        if (stats->memory_bytes > 0) {
            set_gauge(agent, METRIC_DEVICE_MEMORY, stats->device, stats->memory_bytes);
            set_gauge(agent, METRIC_DEVICE_MEMORY_USED, stats->device, stats->memory_used_bytes);
        }
        if (stats->utilisation_known)
            set_gauge(agent, METRIC_DEVICE_UTILISATION, stats->device, stats->utilisation_percent);
        if (stats->temperature_c > 0)
            set_gauge(agent, METRIC_DEVICE_TEMPERATURE, stats->device, stats->temperature_c);
        if (stats->power_mw > 0)
            set_gauge(agent, METRIC_DEVICE_POWER, stats->device, (stats->power_mw + 500) / 1000);
    }
}

static void produce_metrics(void *data, struct http_reply *reply) {
    struct agent *agent = data;
    show_devices(agent);
    reply->content_type = METRICS_CONTENT_TYPE;
    metrics_render(agent->metrics, &reply->body);
}

static void produce_health(void *data, struct http_reply *reply) {
    struct agent *agent = data;
    reply->content_type = "application/json";
    buf_printf(&reply->body, "{\"status\": \"ok\", \"registered\": %s}\n", agent->registered ? "true" : "false");
}

static void json_field(struct buf *body, const char *key, const char *value) {
    buf_printf(body, "\"%s\": ", key);
    buf_json_text(body, value);
    buf_text(body, ", ");
}

/* What is not known is left out. */
static void produce_parts(struct buf *body, const struct trainer_numbers *numbers) {
    buf_printf(body,
               ", \"read_seconds\": %.3f, \"copy_seconds\": %.3f, \"copy_bytes\": %" PRIu64 ", \"wait_seconds\": %.3f",
               (double)numbers->read_ns / 1e9, (double)numbers->copy_ns / 1e9, numbers->copy_bytes,
               (double)numbers->wait_ns / 1e9);
    if (numbers->tokens_per_second > 0)
        buf_printf(body, ", \"tokens_per_second\": %.6g", numbers->tokens_per_second);
    if (numbers->flops_per_second > 0)
        buf_printf(body, ", \"flops_per_second\": %.6g", numbers->flops_per_second);
    if (numbers->flops_peak > 0)
        buf_printf(body, ", \"flops_peak\": %.6g", numbers->flops_peak);
    if (numbers->memory_used_bytes > 0)
        buf_printf(body, ", \"memory_used_bytes\": %" PRIu64, numbers->memory_used_bytes);
}

static void produce_trainer(struct buf *body, const struct agent_trainer *trainer) {
    const struct trainer_numbers *numbers = &trainer->numbers;
    buf_printf(body, "{\"trainer\": %" PRIu64 ", ", trainer->trainer);
    json_field(body, "job", trainer->job_name);
    json_field(body, "device", trainer->device);
    json_field(body, "state", numbers->state);
    buf_printf(body, "\"pid\": %d, \"attempt\": %" PRIu32 ", \"uptime_s\": %.1f, ",
               uv_process_get_pid(&trainer->process), trainer->attempt,
               (double)(uv_now(&trainer->agent->loop) - trainer->started_ms) / 1000);
    buf_printf(body,
               "\"pushes\": %" PRIu64 ", \"dropped\": %" PRIu64 ", \"staleness_max\": %" PRIu64
               ", \"staleness_mean\": %.4g, \"weight_mean\": %.4g, ",
               numbers->pushes, numbers->dropped, numbers->staleness_max, numbers->staleness_mean,
               numbers->weight_mean);
    buf_printf(body, "\"steps\": %" PRIu64 ", \"samples\": %" PRIu64 ", \"loss\": ", numbers->steps, numbers->samples);
    buf_json_number(body, numbers->loss);
    buf_text(body, ", \"accuracy\": ");
    buf_json_number(body, numbers->accuracy);
    buf_text(body, ", \"samples_per_second\": ");
    buf_json_number(body, numbers->samples_per_second);
    buf_printf(body, ", \"compute_seconds\": %.3f, \"communication_seconds\": %.3f", (double)numbers->compute_ns / 1e9,
               (double)numbers->communication_ns / 1e9);
    produce_parts(body, numbers);
    buf_char(body, '}');
}

/* What is not known is left out. */
static void produce_devices(struct buf *body, struct agent *agent) {
    struct device_sample samples[HOST_DEVICES_MAX];
    size_t count = agent_devices_take(agent->device_numbers, samples);
    for (size_t i = 0; i < count; i++) {
        const struct wire_device_stats *stats = &samples[i].stats;
        buf_text(body, i ? ", {\"device\": " : "{\"device\": ");
        buf_json_text(body, stats->device);
        buf_text(body, ", \"name\": ");
        buf_json_text(body, stats->name);
        if (stats->memory_bytes > 0)
            buf_printf(body, ", \"memory_bytes\": %" PRIu64 ", \"memory_used_bytes\": %" PRIu64, stats->memory_bytes,
                       stats->memory_used_bytes);
        if (stats->utilisation_known)
            buf_printf(body, ", \"utilisation\": %.2f", stats->utilisation_percent / 100.0);
        if (stats->temperature_c > 0)
            buf_printf(body, ", \"temperature_c\": %" PRIu32, stats->temperature_c);
        if (stats->power_mw > 0)
            buf_printf(body, ", \"power_w\": %.1f", (double)stats->power_mw / 1000);
        buf_char(body, '}');
    }
}

/* The newest exits, newest first. */
static void produce_exits(struct buf *body, const struct agent *agent) {
    enum { SHOWN = 16 };
    for (size_t i = 0; i < SHOWN; i++) {
        const struct agent_exit *exit = &agent->exits[(agent->exit_next + AGENT_EXITS_MAX - 1 - i) % AGENT_EXITS_MAX];
        if (exit->request == 0)
            break;
        buf_printf(body,
                   "%s{\"trainer\": %" PRIu64 ", \"attempt\": %" PRIu32 ", \"code\": %d, \"signal\": %d, \"reason\": ",
                   i ? ", " : "", exit->trainer, exit->attempt, (int)exit->code, (int)exit->signal);
        buf_json_text(body, exit->reason);
        buf_char(body, '}');
    }
}

static void produce_stats(void *data, struct http_reply *reply) {
    struct agent *agent = data;
    struct buf *body = &reply->body;
    reply->content_type = "application/json";
    show_devices(agent); /* for the metrics at the end */
    buf_char(body, '{');
    json_field(body, "name", agent->name);
    json_field(body, "role", "worker");
    json_field(body, "version", LAGOON_VERSION);
    json_field(body, "coordinator", agent->config->coordinator);
    buf_printf(body,
               "\"registered\": %s, \"member\": %" PRIu64 ", \"pid\": %d, \"uptime_s\": %.1f, \"slots\": %" PRId64
               ", \"used\": %zu, \"trainers\": [",
               agent->registered ? "true" : "false", agent->member, (int)getpid(),
               (double)(uv_now(&agent->loop) - agent->started_ms) / 1000, agent->slots, agent->trainer_count);
    for (size_t i = 0; i < agent->trainer_count; i++) {
        buf_text(body, i ? ", " : "");
        produce_trainer(body, agent->trainers[i]);
    }
    buf_text(body, "], \"devices\": [");
    produce_devices(body, agent);
    buf_text(body, "], \"exits\": [");
    produce_exits(body, agent);
    buf_text(body, "], \"metrics\": ");
    metrics_render_json(agent->metrics, body);
    buf_text(body, "}\n");
}

enum lg_status agent_stats_start(struct agent *agent, struct lg_error *error) {
    const struct worker_config *config = agent->config;
    const struct http_options options = {
        .address = config->http_bind,
        .port = (uint16_t)config->http_port,
        .token = config->http_token,
        .exposed = strcmp(config->security, "none") == 0,
        .hosts = config->http_hosts,
    };
    const struct http_route routes[] = {
        {"/metrics", false, produce_metrics, agent},
        {"/stats.json", false, produce_stats, agent},
        {"/healthz", true, produce_health, agent},
    };
    agent->metrics = metrics_new();
    agent->running = metrics_cell(agent->metrics, METRIC_TRAINERS, NULL);
    return http_start(&agent->loop, &options, routes, sizeof routes / sizeof *routes, &agent->http, error);
}
