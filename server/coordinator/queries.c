/* JSON documents for `lagoon`: the cluster, its members, lines. Jobs are in queries_job.c. Keys are stable. Epochs are
 * counted from 1, times are UTC texts. */
#include "server/coordinator/queries.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

json_t *query_time(int64_t wall_ms) {
    char text[64], whole[32];
    time_t seconds = (time_t)(wall_ms / 1000);
    struct tm parts;
    if (wall_ms == 0 || !gmtime_r(&seconds, &parts))
        return json_null();
    strftime(whole, sizeof whole, "%Y-%m-%dT%H:%M:%S", &parts);
    snprintf(text, sizeof text, "%s.%03dZ", whole, (int)(wall_ms % 1000));
    return json_string(text);
}

json_t *query_number(uint64_t number) {
    return json_integer(number < INT64_MAX ? (json_int_t)number : INT64_MAX);
}

/* ---- the cluster */

static json_t *status_document(const struct coordinator *core) {
    static const char *const states[] = {"queued",  "defining", "initialising", "running",  "evaluating",
                                         "waiting", "finished", "failed",       "cancelled"};
    size_t servers = 0, workers = 0, shards = 0;
    uint64_t memory = 0, used = 0;
    json_t *jobs = json_object();
    for (size_t i = 0; i < core->members.count; i++) {
        const struct member *member = core->members.items[i];
        bool server = member->kind == WIRE_MEMBER_SERVER;
        if (!member_is_alive(member))
            continue;
        servers += server;
        workers += !server;
        shards += server ? member->shard_count : 0;
        memory += server ? member->memory_bytes : 0;
        used += server ? member->memory_used_bytes : 0;
    }
    for (size_t s = 0; s < sizeof states / sizeof *states; s++) {
        json_int_t count = 0;
        for (size_t i = 0; i < core->jobs.count; i++)
            count += strcmp(job_state_name(core->jobs.items[i]), states[s]) == 0;
        json_object_set_new(jobs, states[s], json_integer(count));
    }
    char instance[24];
    snprintf(instance, sizeof instance, "%016llx", (unsigned long long)core->config.instance);
    return json_pack("{s:{s:s, s:s, s:o, s:s, s:o, s:s}, s:o, s:o, s:o, s:o, s:o, s:o}", "coordinator", "address",
                     core->config.address ? core->config.address : "", "http",
                     core->config.http ? core->config.http : "", "pid", query_number(core->config.pid), "version",
                     core->config.version ? core->config.version : "", "uptime_s",
                     json_integer(core_since_ms(core, core->started_ns) / 1000), "instance", instance, "servers",
                     query_number(servers), "workers", query_number(workers), "shards", query_number(shards), "jobs",
                     jobs, "memory_bytes", query_number(memory), "memory_used_bytes", query_number(used));
}

static const char *member_state(const struct member *member) {
    if (member->dead)
        return "silent";
    return member->registered ? "alive" : "expected";
}

static json_t *last_beat(const struct coordinator *core, const struct member *member) {
    return member->registered ? json_real((double)core_since_ms(core, member->heard_ns) / 1000) : json_null();
}

/* What there is to say of it shortly: there may be very many. */
static json_t *brief_trainer(const struct coordinator *core, const struct trainer *trainer) {
    const struct session *session = session_find(core, trainer->session);
    return json_pack("{s:o, s:s, s:s, s:f, s:s}", "trainer", query_number(trainer->number), "state",
                     query_trainer_state(trainer, session), "device", query_trainer_device(trainer, session),
                     "samples_per_second", session ? session->samples_per_second : 0.0, "transport",
                     session ? session->transport : "");
}

static json_t *worker_trainers(const struct coordinator *core, const struct member *agent, bool all) {
    json_t *rows = json_array();
    for (size_t i = 0; i < core->trainers.count; i++) {
        const struct trainer *trainer = core->trainers.items[i];
        const struct job *job = job_find(core, trainer->job);
        if (trainer->agent != agent->number || trainer->gone)
            continue;
        json_t *row = all ? query_running_trainer(core, trainer) : brief_trainer(core, trainer);
        json_object_set_new(row, "job", json_string(job ? job->name : ""));
        json_array_append_new(rows, row);
    }
    return rows;
}

/* What the agent knows of its devices; what it does not is null. */
static json_t *device_rows(const struct member *agent) {
    json_t *rows = json_array();
    for (size_t i = 0; i < agent->device_number_count; i++) {
        const struct device_numbers *device = &agent->device_numbers[i];
        const struct wire_device_stats *stats = &device->stats;
        bool memory = stats->memory_bytes > 0;
        json_array_append_new(
            rows,
            json_pack("{s:s, s:s, s:o, s:o, s:o, s:o, s:o}", "device", device->device, "name", device->name,
                      "memory_bytes", memory ? query_number(stats->memory_bytes) : json_null(), "memory_used_bytes",
                      memory ? query_number(stats->memory_used_bytes) : json_null(), "utilisation",
                      stats->utilisation_known ? json_real((double)stats->utilisation_percent / 100) : json_null(),
                      "temperature_c", stats->temperature_c ? query_number(stats->temperature_c) : json_null(),
                      "power_w", stats->power_mw ? json_real((double)stats->power_mw / 1000) : json_null()));
    }
    return rows;
}

/* `all`: all that is known of their trainers. */
static json_t *workers_document(const struct coordinator *core, bool all) {
    json_t *rows = json_array();
    for (size_t i = 0; i < core->members.count; i++) {
        const struct member *member = core->members.items[i];
        json_t *devices = json_array();
        for (size_t d = 0; d < member->device_count; d++)
            json_array_append_new(devices, json_string(member->devices[d]));
        if (member->kind != WIRE_MEMBER_AGENT) {
            json_decref(devices);
            continue;
        }
        json_array_append_new(
            rows,
            json_pack("{s:o, s:s, s:s, s:s, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:s}", "member",
                      query_number(member->number), "name", member->title, "state", member_state(member), "http",
                      member->http, "pid", query_number(member->pid), "cores", query_number(member->cores), "slots",
                      query_number(member->slots), "used", query_number(member_slots_used(core, member->number)),
                      "devices", devices, "device_stats", device_rows(member), "last_beat_s", last_beat(core, member),
                      "trainers", worker_trainers(core, member, all), "version", member->version));
    }
    return rows;
}

static json_t *servers_document(const struct coordinator *core) {
    json_t *rows = json_array();
    for (size_t i = 0; i < core->members.count; i++) {
        const struct member *member = core->members.items[i];
        if (member->kind != WIRE_MEMBER_SERVER)
            continue;
        json_t *shards = json_array();
        for (size_t s = 0; s < member->shard_count; s++)
            json_array_append_new(shards, query_number(member->shards[s]));
        json_array_append_new(rows,
                              json_pack("{s:o, s:s, s:s, s:s, s:o, s:o, s:o, s:o, s:o, s:s}", "member",
                                        query_number(member->number), "name", member->title, "state",
                                        member_state(member), "http", member->http, "pid", query_number(member->pid),
                                        "memory_bytes", query_number(member->memory_bytes), "memory_used_bytes",
                                        query_number(member->memory_used_bytes), "shards", shards, "last_beat_s",
                                        last_beat(core, member), "version", member->version));
    }
    return rows;
}

static json_t *shard_job(const struct job *job, size_t slot) {
    const struct wire_shard_job_stats *stats = &job->stats[slot];
    double pushes, pulls, bytes;
    bool known = numbers_rates(job, slot, &pushes, &pulls, &bytes);
    json_t *row =
        json_pack("{s:o, s:s, s:o, s:o, s:o, s:o, s:o, s:f, s:o, s:o, s:f, s:o, s:o}", "job", query_number(job->id),
                  "name", job->name, "units", query_number(job->slot_units[slot]), "parameter_bytes",
                  query_number(stats->parameter_bytes), "state_bytes", query_number(stats->state_bytes), "pushes",
                  query_number(stats->pushes), "samples", query_number(stats->samples), "staleness_mean",
                  stats->staleness_mean, "staleness_p99", query_number(stats->staleness_p99), "staleness_max",
                  query_number(stats->staleness_max), "weight_mean", stats->weight_mean, "push_bytes",
                  query_number(stats->push_bytes), "pull_bytes", query_number(stats->pull_bytes));
    json_t *more =
        json_pack("{s:o, s:o, s:o, s:o, s:o}", "pulls", query_number(stats->pulls), "version",
                  stats->version ? query_number(stats->version) : json_null(), "pushes_per_second",
                  known ? json_real(pushes) : json_null(), "pulls_per_second", known ? json_real(pulls) : json_null(),
                  "bytes_per_second", known ? json_real(bytes) : json_null());
    json_object_update(row, more);
    json_decref(more);
    return row;
}

static json_t *shard_jobs(const struct coordinator *core, uint32_t shard) {
    json_t *rows = json_array();
    for (size_t i = 0; i < core->jobs.count; i++) {
        const struct job *job = core->jobs.items[i];
        size_t slot = job_slot_of(job, shard);
        if (slot != SIZE_MAX && job->memory != JOB_MEMORY_NONE)
            json_array_append_new(rows, shard_job(job, slot));
    }
    return rows;
}

static json_t *shards_document(const struct coordinator *core) {
    json_t *rows = json_array();
    for (size_t i = 0; i < core->members.count; i++) {
        const struct member *server = core->members.items[i];
        for (size_t s = 0; server->kind == WIRE_MEMBER_SERVER && s < server->shard_count; s++)
            json_array_append_new(rows, json_pack("{s:o, s:s, s:s, s:s, s:s, s:o}", "shard",
                                                  query_number(server->shards[s]), "server", server->title, "endpoint",
                                                  server->endpoints[s], "state", member_state(server), "http",
                                                  server->http, "jobs", shard_jobs(core, server->shards[s])));
    }
    return rows;
}

/* ---- lines */

json_t *query_lines(const struct line_ring *ring, bool log, uint64_t since, uint64_t limit, uint64_t *next) {
    json_t *rows = json_array();
    uint64_t taken = 0;
    *next = since > ring->next ? ring->next : since;
    for (size_t i = 0; i < ring->count && (limit == 0 || taken < limit); i++) {
        const struct line *line = line_ring_at(ring, i);
        if (line->seq < since)
            continue;
        json_t *row = json_pack("{s:o, s:o, s:s}", "seq", query_number(line->seq), "at", query_time(line->at_ms),
                                log ? "line" : "text", line->text);
        if (row && log)
            json_object_set_new(row, "trainer", query_number(line->trainer));
        json_array_append_new(rows, row);
        *next = line->seq + 1;
        taken++;
    }
    return rows;
}

/* ---- all of them */

static json_t *stats_document(struct coordinator *core, const struct wire_query *query, struct lg_error *error) {
    if (query->job[0]) {
        const struct job *job = job_named(core, query->job, error);
        return job ? query_job(core, job) : NULL;
    }
    return json_pack("{s:o, s:o, s:o, s:o, s:o}", "status", status_document(core), "jobs", query_jobs(core), "servers",
                     servers_document(core), "workers", workers_document(core, true), "shards", shards_document(core));
}

static json_t *document_of(struct coordinator *core, const struct wire_query *query, uint64_t *next,
                           struct lg_error *error) {
    static const char *const kinds[] = {"status", "jobs",  "job",  "workers", "servers",
                                        "shards", "stats", "logs", "history", NULL};
    const char *what = query->what;
    if (strcmp(what, "status") == 0)
        return status_document(core);
    if (strcmp(what, "jobs") == 0)
        return query_jobs(core);
    if (strcmp(what, "workers") == 0)
        return workers_document(core, false);
    if (strcmp(what, "servers") == 0)
        return servers_document(core);
    if (strcmp(what, "shards") == 0)
        return shards_document(core);
    if (strcmp(what, "stats") == 0)
        return stats_document(core, query, error);
    bool known = false;
    for (size_t i = 0; kinds[i]; i++)
        known = known || strcmp(what, kinds[i]) == 0;
    if (!known) {
        lg_fail(
            error, LG_UNSUPPORTED,
            "\"%.40s\" cannot be asked for; status, jobs, job, workers, servers, shards, stats, logs and history can",
            what);
        return NULL;
    }
    const struct job *job = job_named(core, query->job, error);
    if (!job)
        return NULL;
    if (strcmp(what, "job") == 0)
        return query_job(core, job);
    bool log = strcmp(what, "logs") == 0;
    return query_lines(log ? &job->log : &job->history, log, query->since, query->limit, next);
}

char *coordinator_query(struct coordinator *core, const struct wire_query *query, uint64_t *next,
                        struct lg_error *error) {
    struct lg_error reason = {0};
    json_t *document = document_of(core, query, next, &reason);
    char *text = document ? json_dumps(document, JSON_COMPACT) : NULL;
    json_decref(document);
    if (!text && reason.status == LG_OK)
        lg_fail(&reason, LG_NO_MEMORY, "no memory for the answer");
    if (!text && error)
        *error = reason;
    return text;
}
