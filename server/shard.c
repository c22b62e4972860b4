/* The shard's life, its one switch, and what it tells about itself. */
#include "server/shard.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <xxhash.h>

#include "server/shard_state.h"

/* ---- life */

static struct metric_cell *shard_cell(const struct shard *shard, enum metric metric) {
    return metrics_cell(shard->config.metrics, metric, (const char *const[]){shard->number});
}

enum lg_status shard_new(const struct shard_config *config, const struct shard_sink *sink, struct shard **out,
                         struct lg_error *error) {
    *out = NULL;
    if (config->credit_bytes < SHARD_CREDIT_LEAST)
        return lg_fail(error, LG_INVALID, "a credit pool of %llu bytes serves no session: give it %d or more",
                       (unsigned long long)config->credit_bytes, SHARD_CREDIT_LEAST);
    if (config->window < 1 || config->sessions_max < 1 || (unsigned)config->isa >= ISA_COUNT)
        return lg_fail(error, LG_INVALID, "a shard needs a window and room for sessions of at least 1");
    struct shard *shard = calloc(1, sizeof *shard);
    if (!shard)
        return lg_fail(error, LG_NO_MEMORY, "no memory for a shard");
    shard->config = *config;
    shard->sink = *sink;
    if (shard->config.session_credit_bytes < SHARD_CREDIT_LEAST)
        shard->config.session_credit_bytes = SHARD_CREDIT_LEAST;
    if (shard->config.window > DEDUP_SLOTS)
        shard->config.window = DEDUP_SLOTS;
    shard->pool = snapshot_pool_new(SHARD_SNAPSHOT_SPARE_BYTES);
    if (!shard->pool) {
        free(shard);
        return lg_fail(error, LG_NO_MEMORY, "no memory for a shard's snapshots");
    }
    snprintf(shard->number, sizeof shard->number, "%u", config->index);
    shard->credit_cell = shard_cell(shard, METRIC_CREDIT_GRANTED);
    shard->pool_cell = shard_cell(shard, METRIC_CREDIT_POOL);
    shard->parameter_cell = shard_cell(shard, METRIC_PARAMETER_BYTES);
    shard->state_cell = shard_cell(shard, METRIC_STATE_BYTES);
    shard->session_cell = shard_cell(shard, METRIC_SESSIONS);
    metric_set(shard->pool_cell, (int64_t)config->credit_bytes);
    *out = shard;
    return LG_OK;
}

void shard_free(struct shard *shard) {
    if (!shard)
        return;
    shard->sink.decide = NULL; /* pushes that end here are nobody's business any more */
    while (shard->job_count > 0)
        shard_job_free(shard, shard->jobs[--shard->job_count]);
    free(shard->jobs);
    snapshot_pool_free(shard->pool);
    free(shard);
}

/* ---- answers */

void shard_send(struct shard *shard, const struct shard_input *input, struct wire_message *reply) {
    reply->request = input->message->request;
    shard->sink.send(shard->sink.context, input->route, reply, shard->reply_snapshots, reply->payload_count);
}

void shard_count_refusal(struct shard *shard, enum lg_status status) {
    unsigned index = (unsigned)status < SHARD_STATUS_COUNT ? (unsigned)status : LG_INTERNAL;
    if (!shard->refused[index])
        shard->refused[index] = metrics_cell(shard->config.metrics, METRIC_REFUSED,
                                             (const char *const[]){shard->number, lg_status_name(status)});
    metric_add(shard->refused[index], 1);
}

void shard_send_error(struct shard *shard, const struct shard_input *input, uint64_t about,
                      const struct lg_error *error) {
    struct wire_message reply = {.kind = WIRE_ERROR};
    reply.error = (struct wire_error){.status = error->status, .reason = error->message, .seq = about};
    shard_count_refusal(shard, error->status);
    shard_send(shard, input, &reply);
}

void shard_send_ack(struct shard *shard, const struct shard_input *input, enum lg_status status,
                    const struct lg_error *error) {
    struct wire_message reply = {.kind = WIRE_ACK};
    reply.ack = (struct wire_ack){.status = status, .reason = status == LG_OK ? "" : error->message};
    if (status != LG_OK)
        shard_count_refusal(shard, status);
    shard_send(shard, input, &reply);
}

void shard_refuse(struct shard *shard, uint64_t route, uint64_t request, uint64_t about, const struct lg_error *error) {
    const struct wire_message asked = {.request = request};
    shard_send_error(shard, &(struct shard_input){.route = route, .message = &asked}, about, error);
}

/* ---- dispatch */

static bool is_command(enum wire_kind kind) {
    return kind == WIRE_JOB_OPEN || kind == WIRE_JOB_CLOSE || kind == WIRE_SESSION_OPEN || kind == WIRE_SESSION_CLOSE ||
           kind == WIRE_MARKS_QUERY || kind == WIRE_LEDGER_QUERY;
}

/* Commands come over the control route and nothing else does. */
static enum lg_status check_route(const struct shard_input *input, struct lg_error *error) {
    enum wire_kind kind = input->message->kind;
    if (is_command(kind) && input->route != SHARD_ROUTE_CONTROL)
        return lg_fail(error, LG_DENIED, "%s comes from the coordinator only", wire_kind_name(kind));
    if (!is_command(kind) && input->route == SHARD_ROUTE_CONTROL)
        return lg_fail(error, LG_INVALID, "%s is not a command for a shard", wire_kind_name(kind));
    return LG_OK;
}

void shard_receive(struct shard *shard, const struct shard_input *input) {
    struct lg_error error = {0};
    shard->serial++;
    shard->now_ns = input->now_ns;
    if (check_route(input, &error) != LG_OK) {
        shard_send_error(shard, input, 0, &error);
        return;
    }
    switch (input->message->kind) {
    case WIRE_PUSH:
        shard_handle_push(shard, input);
        break;
    case WIRE_PULL:
        shard_handle_pull(shard, input);
        break;
    case WIRE_GATE:
        shard_handle_gate(shard, input);
        break;
    case WIRE_HELLO:
        shard_handle_hello(shard, input);
        break;
    case WIRE_JOB_OPEN:
        shard_handle_job_open(shard, input);
        break;
    case WIRE_JOB_CLOSE:
        shard_handle_job_close(shard, input);
        break;
    case WIRE_SESSION_OPEN:
        shard_handle_session_open(shard, input);
        break;
    case WIRE_SESSION_CLOSE:
        shard_handle_session_close(shard, input);
        break;
    case WIRE_MARKS_QUERY:
        shard_handle_marks_query(shard, input);
        break;
    case WIRE_LEDGER_QUERY:
        shard_handle_ledger_query(shard, input);
        break;
    default:
        (void)lg_fail(&error, LG_UNSUPPORTED, "a shard has no answer to %s", wire_kind_name(input->message->kind));
        shard_send_error(shard, input, 0, &error);
        break;
    }
}

/* ---- lookups and statistics */

struct shard_job *shard_find_job(const struct shard *shard, uint64_t id) {
    for (uint32_t i = 0; i < shard->job_count; i++)
        if (shard->jobs[i]->id == id)
            return shard->jobs[i];
    return NULL;
}

enum lg_status shard_need_job(const struct shard *shard, uint64_t id, struct shard_job **out, struct lg_error *error) {
    *out = shard_find_job(shard, id);
    if (*out)
        return LG_OK;
    return lg_fail(error, LG_NOT_FOUND, "job %llu is not on shard %u: it has ended, or the server was restarted",
                   (unsigned long long)id, shard->config.index);
}

enum lg_status shard_need_here(const struct shard *shard, uint32_t asked, struct lg_error *error) {
    if (asked == shard->config.index)
        return LG_OK;
    return lg_fail(error, LG_INVALID, "a command for shard %u came to shard %u", asked, shard->config.index);
}

static void memory_sums(const struct shard *shard, uint64_t *parameters, uint64_t *states) {
    *parameters = *states = 0;
    for (uint32_t i = 0; i < shard->job_count; i++) {
        *parameters += shard->jobs[i]->parameter_bytes;
        *states += shard->jobs[i]->state_bytes;
    }
}

uint64_t shard_memory_bytes(const struct shard *shard) {
    uint64_t parameters, states;
    memory_sums(shard, &parameters, &states);
    return parameters + states;
}

void shard_show_memory(struct shard *shard) {
    uint64_t parameters, states;
    memory_sums(shard, &parameters, &states);
    metric_set(shard->parameter_cell, (int64_t)parameters);
    metric_set(shard->state_cell, (int64_t)states);
}

size_t shard_stats(const struct shard *shard, struct wire_shard_job_stats *stats, size_t capacity) {
    size_t count = shard->job_count < capacity ? shard->job_count : capacity;
    for (size_t i = 0; i < count; i++) {
        const struct shard_job *job = shard->jobs[shard->job_count - 1 - i];
        const struct tally *tally = &job->tally;
        stats[i] = (struct wire_shard_job_stats){
            .job = job->id,
            .shard = shard->config.index,
            .pushes = tally->pushes,
            .samples = tally->samples,
            .dropped = tally->dropped,
            .duplicates = tally->duplicates,
            .staleness_mean = tally_staleness_mean(tally),
            .staleness_p99 = tally_staleness_p99(tally),
            .staleness_max = tally->staleness_max,
            .weight_mean = tally_weight_mean(tally),
            .push_bytes = tally->push_bytes,
            .pull_bytes = tally->pull_bytes,
            .parameter_bytes = job->parameter_bytes,
            .state_bytes = job->state_bytes,
            .initialised = job_initialised(job),
            .pulls = tally->pulls,
            .version = job_version(job),
        };
    }
    return count;
}

const float *shard_unit_data(const struct shard *shard, uint64_t job_id, uint32_t number, uint32_t *elements,
                             uint64_t *version) {
    const struct shard_job *job = shard_find_job(shard, job_id);
    if (!job || number >= job->blocks.count || job->local[number] == 0)
        return NULL;
    const struct unit *unit = &job->units[job->local[number] - 1];
    if (elements)
        *elements = unit->elements;
    if (version)
        *version = unit->version;
    return unit->values;
}

uint64_t shard_digest(const struct shard *shard, uint64_t job_id) {
    const struct shard_job *job = shard_find_job(shard, job_id);
    if (!job)
        return 0;
    uint64_t digest = XXH3_64bits(&job->id, sizeof job->id);
    for (uint32_t i = 0; i < job->unit_count; i++) {
        const uint64_t about[2] = {job->units[i].number, job->units[i].version};
        digest = XXH3_64bits_withSeed(about, sizeof about, digest);
        digest = XXH3_64bits_withSeed(job->units[i].values, job->units[i].elements * sizeof(float), digest);
    }
    return digest;
}
