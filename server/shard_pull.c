/* A pull: one copy per (unit, version), shared by everyone who asks for it. */
#include <assert.h>

#include "server/shard_state.h"

enum lg_status shard_find_units(struct shard *shard, const struct shard_job *job, const struct wire_message *message,
                                struct unit **units, struct lg_error *error) {
    for (size_t i = 0; i < message->unit_count; i++) {
        const struct wire_unit *asked = &message->units[i];
        if (asked->unit >= job->blocks.count || job->local[asked->unit] == 0)
            return lg_fail(error, LG_INVALID, "unit %u of \"%s\" is not on shard %u", asked->unit, job->name,
                           shard->config.index);
        struct unit *unit = &job->units[job->local[asked->unit] - 1];
        if (unit->elements != asked->elements)
            return lg_fail(error, LG_INVALID, "unit %u of \"%s\" has %u elements, not %u", asked->unit, job->name,
                           unit->elements, asked->elements);
        if (unit->seen == shard->serial)
            return lg_fail(error, LG_INVALID, "unit %u is named twice in one message", asked->unit);
        unit->seen = shard->serial;
        units[i] = unit;
    }
    return LG_OK;
}

/* Keeps the last few snapshots, so that readers who come soon share them. */
static void cache_snapshot(struct shard *shard, struct unit *unit) {
    struct unit **oldest = &shard->cached[shard->cached_next++ % SHARD_SNAPSHOTS_CACHED];
    if (*oldest && *oldest != unit)
        unit_forget_snapshot(*oldest);
    *oldest = unit;
}

/* Held once for the caller. */
static struct snapshot *take_snapshot(struct shard *shard, struct unit *unit) {
    if (!unit->snapshot) {
        unit->snapshot = snapshot_take(shard->pool, unit->values, unit->elements, unit->version);
        if (!unit->snapshot)
            return NULL;
        for (uint32_t i = 0; i < SHARD_SNAPSHOTS_CACHED; i++)
            if (shard->cached[i] == unit)
                shard->cached[i] = NULL; /* it goes to the young end */
        cache_snapshot(shard, unit);
    }
    snapshot_retain(unit->snapshot);
    return unit->snapshot;
}

void shard_release_values(struct shard *shard, size_t count) {
    for (size_t i = 0; i < count; i++)
        snapshot_release(shard->reply_snapshots[i]);
}

enum lg_status shard_add_values(struct shard *shard, const struct wire_message *asked, struct unit *const *units,
                                struct wire_message *reply, uint32_t *unchanged, struct lg_error *error) {
    size_t count = 0;
    for (size_t i = 0; i < asked->unit_count; i++) {
        struct unit *unit = units[i];
        if (unit->version != 0 && asked->units[i].version == unit->version) {
            if (unchanged)
                ++*unchanged;
            continue;
        }
        assert(count < WIRE_PAYLOAD_FRAMES_MAX);
        struct snapshot *snapshot = take_snapshot(shard, unit);
        if (!snapshot) {
            shard_release_values(shard, count);
            return lg_fail(error, LG_UNAVAILABLE, "no memory for a copy of the parameters: try again");
        }
        shard->reply_units[count] = (struct wire_unit){unit->number, unit->elements, snapshot->version};
        shard->reply_payload[count] = (struct wire_bytes){snapshot->data, unit->elements * sizeof(float)};
        shard->reply_snapshots[count++] = snapshot;
    }
    reply->units = shard->reply_units;
    reply->unit_count = count;
    reply->payload = shard->reply_payload;
    reply->payload_count = count;
    return LG_OK;
}

static enum lg_status check_size(const struct shard_session *session, const struct wire_message *message,
                                 struct lg_error *error) {
    uint64_t bytes = 0;
    for (size_t i = 0; i < message->unit_count; i++)
        bytes += message->units[i].elements * sizeof(float);
    if (bytes > WIRE_PAYLOAD_BYTES_MAX || bytes > session->credit_bytes)
        return lg_fail(error, LG_NO_CREDIT, "a pull of %llu bytes is larger than the credit of %llu: split it",
                       (unsigned long long)bytes, (unsigned long long)session->credit_bytes);
    return LG_OK;
}

static enum lg_status pull_answer(struct shard *shard, const struct shard_input *input, struct lg_error *error) {
    const struct wire_message *message = input->message;
    const struct wire_pull *pull = &message->pull;
    struct wire_message reply = {.kind = WIRE_PULL_REPLY};
    struct unit *units[WIRE_PAYLOAD_FRAMES_MAX];
    struct shard_session *session;
    struct shard_job *job;
    enum lg_status status = shard_need_job(shard, pull->job, &job, error);
    if (status == LG_OK)
        status = shard_need_session(job, input, pull->session, pull->incarnation, pull->map_version, &session, error);
    if (status == LG_OK && (message->unit_count == 0 || message->unit_count > WIRE_PAYLOAD_FRAMES_MAX))
        status = lg_fail(error, LG_INVALID, "a pull names %zu units: 1 to %d are possible", message->unit_count,
                         WIRE_PAYLOAD_FRAMES_MAX);
    if (status == LG_OK)
        status = shard_find_units(shard, job, message, units, error);
    if (status == LG_OK)
        status = check_size(session, message, error);
    if (status == LG_OK && !job_initialised(job))
        status = lg_fail(error, LG_UNAVAILABLE, "\"%s\" has no initial values yet: %u of %u units are set", job->name,
                         job->units_initialised, job->unit_count);
    if (status != LG_OK)
        return status;
    reply.pull_reply = (struct wire_pull_reply){.tag = pull->tag, .version = job_version(job)};
    status = shard_add_values(shard, message, units, &reply, &reply.pull_reply.units_unchanged, error);
    if (status != LG_OK)
        return status;
    uint64_t bytes = 0;
    for (size_t i = 0; i < reply.payload_count; i++)
        bytes += reply.payload[i].bytes;
    job->tally.pull_bytes += bytes;
    metric_add(job->cells.pulls, 1);
    metric_add(job->cells.pull_bytes, bytes);
    shard_send(shard, input, &reply);
    shard_release_values(shard, reply.payload_count);
    return LG_OK;
}

void shard_handle_pull(struct shard *shard, const struct shard_input *input) {
    struct lg_error error = {0};
    if (pull_answer(shard, input, &error) != LG_OK)
        shard_send_error(shard, input, input->message->pull.tag, &error);
}
