/* A pull: of large units one copy per (unit, version), shared by everyone who asks for it. */
#include <assert.h>
#include <string.h>

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

/* ---- a reply's values
 *
 * A large unit is a frame of its own, which all readers share. Small ones that follow each other are copied into one
 * frame, since frames cost more than their bytes. Of the WIRE_PAYLOAD_BYTES_MAX that a reply holds at most, large units
 * take more than 32 KiB each: they are 127 at most, so with the gathered frames between them, before and after it
 * stays within WIRE_PAYLOAD_FRAMES_MAX. */
_Static_assert(2 * (WIRE_PAYLOAD_BYTES_MAX / (SHARD_GATHER_ELEMENTS * sizeof(float))) <= WIRE_PAYLOAD_FRAMES_MAX,
               "large units and the gathered ones between them fit into a message");
_Static_assert(8 * SHARD_GATHER_ELEMENTS <= BLOCK_ELEMENTS, "a gathered frame that is full stands for several");

/* A reply while it is made: of asked unit `next` and those after it, nothing is in it yet. */
struct reply_maker {
    struct shard *shard;
    const struct wire_message *asked;
    struct unit *const *units;
    size_t next;
    size_t unit_count, frame_count;
};

static bool is_held(const struct reply_maker *maker, size_t at) {
    const struct unit *unit = maker->units[at];
    return unit->version != 0 && maker->asked->units[at].version == unit->version;
}

/* The elements of the small units from `next` on that go into one frame, and their number. */
static uint32_t gather_plan(const struct reply_maker *maker, size_t *count) {
    uint32_t elements = 0;
    *count = 0;
    for (size_t i = maker->next; i < maker->asked->unit_count; i++) {
        if (is_held(maker, i))
            continue;
        uint32_t more = maker->units[i]->elements;
        if (more > SHARD_GATHER_ELEMENTS || elements + more > BLOCK_ELEMENTS)
            break;
        elements += more;
        ++*count;
    }
    return elements;
}

static void list_unit(struct reply_maker *maker, const struct unit *unit) {
    maker->shard->reply_units[maker->unit_count++] = (struct wire_unit){unit->number, unit->elements, unit->version};
}

static bool add_frame(struct reply_maker *maker, struct snapshot *snapshot) {
    struct shard *shard = maker->shard;
    if (!snapshot)
        return false;
    assert(maker->frame_count < WIRE_PAYLOAD_FRAMES_MAX);
    shard->reply_payload[maker->frame_count] =
        (struct wire_bytes){snapshot->data, snapshot->elements * sizeof *snapshot->data};
    shard->reply_snapshots[maker->frame_count++] = snapshot;
    return true;
}

static bool add_gathered(struct reply_maker *maker, size_t count, uint32_t elements) {
    struct snapshot *snapshot = snapshot_reserve(maker->shard->pool, elements, 0);
    if (!add_frame(maker, snapshot))
        return false;
    for (float *to = snapshot->data; count > 0; maker->next++) {
        const struct unit *unit = maker->units[maker->next];
        if (is_held(maker, maker->next))
            continue;
        memcpy(to, unit->values, unit->elements * sizeof *to);
        to += unit->elements;
        list_unit(maker, unit);
        count--;
    }
    return true;
}

static bool add_next(struct reply_maker *maker) {
    struct unit *unit = maker->units[maker->next];
    size_t count;
    if (is_held(maker, maker->next)) {
        maker->next++;
        return true;
    }
    uint32_t elements = gather_plan(maker, &count);
    if (count > 1)
        return add_gathered(maker, count, elements);
    maker->next++;
    list_unit(maker, unit);
    return add_frame(maker, take_snapshot(maker->shard, unit));
}

enum lg_status shard_add_values(struct shard *shard, struct shard_job *job, const struct wire_message *asked,
                                struct unit *const *units, struct wire_message *reply, uint32_t *unchanged,
                                struct lg_error *error) {
    struct reply_maker maker = {.shard = shard, .asked = asked, .units = units};
    uint64_t bytes = 0;
    while (maker.next < asked->unit_count) {
        if (add_next(&maker))
            continue;
        shard_release_values(shard, maker.frame_count);
        return lg_fail(error, LG_UNAVAILABLE, "no memory for a copy of the parameters: try again");
    }
    for (size_t i = 0; i < maker.frame_count; i++)
        bytes += shard->reply_payload[i].bytes;
    job->tally.pull_bytes += bytes;
    metric_add(job->cells.pull_bytes, bytes);
    if (unchanged)
        *unchanged = (uint32_t)(asked->unit_count - maker.unit_count);
    reply->units = shard->reply_units;
    reply->unit_count = maker.unit_count;
    reply->payload = shard->reply_payload;
    reply->payload_count = maker.frame_count;
    return LG_OK;
}

enum lg_status shard_check_pull(const struct wire_message *asked, uint64_t credit_bytes, struct lg_error *error) {
    uint64_t bytes = 0;
    for (size_t i = 0; i < asked->unit_count; i++)
        bytes += asked->units[i].elements * sizeof(float);
    if (bytes > WIRE_PAYLOAD_BYTES_MAX || bytes > credit_bytes)
        return lg_fail(error, LG_NO_CREDIT, "a pull of %llu bytes is larger than the credit of %llu: split it",
                       (unsigned long long)bytes, (unsigned long long)credit_bytes);
    return LG_OK;
}

static enum lg_status pull_answer(struct shard *shard, const struct shard_input *input, struct lg_error *error) {
    const struct wire_message *message = input->message;
    const struct wire_pull *pull = &message->pull;
    struct wire_message reply = {.kind = WIRE_PULL_REPLY};
    struct unit **units = shard->part.units; /* no push is being handled */
    struct shard_session *session;
    struct shard_job *job;
    enum lg_status status = shard_need_job(shard, pull->job, &job, error);
    if (status == LG_OK)
        status = shard_need_session(job, input, pull->session, pull->incarnation, pull->map_version, &session, error);
    if (status == LG_OK && (message->unit_count == 0 || message->unit_count > WIRE_UNITS_MAX))
        status = lg_fail(error, LG_INVALID, "a pull names %zu units: 1 to %d are possible", message->unit_count,
                         WIRE_UNITS_MAX);
    if (status == LG_OK)
        status = shard_find_units(shard, job, message, units, error);
    if (status == LG_OK)
        status = shard_check_pull(message, session->credit_bytes, error);
    if (status == LG_OK && !job_initialised(job))
        status = lg_fail(error, LG_UNAVAILABLE, "\"%s\" has no initial values yet: %u of %u units are set", job->name,
                         job->units_initialised, job->unit_count);
    if (status != LG_OK)
        return status;
    reply.pull_reply = (struct wire_pull_reply){.tag = pull->tag, .version = job_version(job)};
    status = shard_add_values(shard, job, message, units, &reply, &reply.pull_reply.units_unchanged, error);
    if (status != LG_OK)
        return status;
    metric_add(job->cells.pulls, 1);
    shard_send(shard, input, &reply);
    shard_release_values(shard, reply.payload_count);
    return LG_OK;
}

void shard_handle_pull(struct shard *shard, const struct shard_input *input) {
    struct lg_error error = {0};
    if (pull_answer(shard, input, &error) != LG_OK)
        shard_send_error(shard, input, input->message->pull.tag, &error);
}
