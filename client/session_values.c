/* What the caller's buffers contain: versions per unit, so that shards leave out what is held, and the base for pushes
 * computed from them. Filled by pulls and by pushes that bring values back. */
#include "client/session_internal.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

/* ---- life */

enum lg_status session_values_init(struct session *session, struct lg_error *error) {
    uint32_t units = session->parts.blocks.count;
    for (size_t i = 0; i < SESSION_BUFFERS; i++) {
        struct held *held = &session->held[i];
        held->versions = calloc(units ? units : 1, sizeof *held->versions);
        held->bases = calloc(session->config.shard_count, sizeof *held->bases);
        if (!held->versions || !held->bases)
            return lg_fail(error, LG_NO_MEMORY, "no memory for the versions of %u units", units);
    }
    return LG_OK;
}

void session_values_deinit(struct session *session) {
    for (size_t i = 0; i < SESSION_BUFFERS; i++) {
        free(session->held[i].versions);
        free(session->held[i].bases);
    }
}

/* ---- buffers */

const struct held *session_held_find(const struct session *session, const float *buffer) {
    for (size_t i = 0; buffer && i < SESSION_BUFFERS; i++)
        if (session->held[i].buffer == buffer)
            return &session->held[i];
    return NULL;
}

void session_held_forget(const struct session *session, struct held *held) {
    memset(held->versions, 0, session->parts.blocks.count * sizeof *held->versions);
}

/* The entry of `buffer`, or the one longest unused, emptied: one pull and SESSION_PUSHES pushes never use all. */
static struct held *held_of(struct session *session, const float *buffer) {
    struct held *oldest = NULL;
    for (size_t i = 0; i < SESSION_BUFFERS; i++) {
        struct held *held = &session->held[i];
        if (held->buffer == buffer)
            return held;
        if (held->fills == 0 && (!oldest || held->used < oldest->used))
            oldest = held;
    }
    assert(oldest);
    session_held_forget(session, oldest);
    memset(oldest->bases, 0, session->config.shard_count * sizeof *oldest->bases);
    oldest->buffer = buffer;
    return oldest;
}
_Static_assert(SESSION_BUFFERS > SESSION_PUSHES + 1, "one is left that nobody fills");

struct held *session_held_begin(struct session *session, const float *buffer) {
    struct held *held = held_of(session, buffer);
    held->used = ++session->serial;
    held->fills++;
    return held;
}

void session_held_end(struct held *held) {
    assert(held->fills > 0);
    held->fills--;
}

void session_held_settle(struct session *session, struct held *held, uint32_t slot, uint64_t least_version) {
    held->bases[slot] = least_version;
    session->slots[slot].pulled_version = least_version;
    session->slots[slot].pulled = true;
}

const struct wire_unit *session_held_table(struct session *session, const struct held *held, uint32_t slot,
                                           const struct part *part) {
    const struct wire_unit *units = &session->parts.slots[slot].units[part->first_unit];
    assert(part->unit_count <= WIRE_UNITS_MAX);
    for (uint32_t i = 0; i < part->unit_count; i++) {
        session->table[i] = units[i];
        session->table[i].version = held->versions[units[i].unit];
    }
    return session->table;
}

/* ---- replies */

/* Where in the payload the next unit begins; units never straddle frames. */
struct payload_cursor {
    const struct wire_message *message;
    size_t frame, at;
};

static const void *payload_take(struct payload_cursor *cursor, size_t bytes) {
    while (cursor->frame < cursor->message->payload_count &&
           cursor->at == cursor->message->payload[cursor->frame].bytes) {
        cursor->frame++;
        cursor->at = 0;
    }
    if (cursor->frame == cursor->message->payload_count ||
        cursor->message->payload[cursor->frame].bytes - cursor->at < bytes)
        return NULL;
    const void *data = (const char *)cursor->message->payload[cursor->frame].data + cursor->at;
    cursor->at += bytes;
    return data;
}

static bool values_copy(const struct session *session, struct held *held, float *target, const struct wire_unit *units,
                        uint32_t count, const struct wire_message *message) {
    struct payload_cursor cursor = {message, 0, 0};
    size_t given = 0;
    for (uint32_t i = 0; i < count; i++) {
        const struct wire_unit *asked = &units[i];
        if (given == message->unit_count || message->units[given].unit != asked->unit) {
            if (held->versions[asked->unit] == 0)
                return false;
            continue;
        }
        size_t bytes = asked->elements * sizeof(float);
        const void *data = message->units[given].elements == asked->elements ? payload_take(&cursor, bytes) : NULL;
        if (!data)
            return false;
        memcpy(target + session->parts.blocks.blocks[asked->unit].offset, data, bytes);
        held->versions[asked->unit] = message->units[given++].version;
    }
    return given == message->unit_count;
}

bool session_values_take(struct session *session, struct held *held, float *target, uint32_t slot,
                         const struct part *part, const struct wire_message *message) {
    const struct wire_unit *units = &session->parts.slots[slot].units[part->first_unit];
    if (values_copy(session, held, target, units, part->unit_count, message))
        return true;
    for (uint32_t i = 0; i < part->unit_count; i++)
        held->versions[units[i].unit] = 0;
    return false;
}

/* ---- in place */

bool session_values_local(const struct session *session, uint32_t slot, uint64_t *version) {
    uint64_t found;
    const struct session_sink *sink = &session->sink;
    return sink->local_version && sink->local_version(sink->context, slot, version ? version : &found);
}

bool session_values_read(struct session *session, struct held *held, float *target, uint32_t slot,
                         const struct part *part) {
    const struct session_sink *sink = &session->sink;
    for (uint32_t i = part->first_unit; i < part->first_unit + part->unit_count; i++) {
        uint32_t unit = session->parts.slots[slot].units[i].unit;
        float *into = target + session->parts.blocks.blocks[unit].offset;
        enum local_read read = sink->local_read(sink->context, slot, i, into, &held->versions[unit]);
        if (read == LOCAL_READ_BUSY) {
            held->versions[unit] = 0; /* `into` may hold some of it */
            return false;
        }
        if (read == LOCAL_READ_DONE)
            session->slots[slot].read_bytes += session->parts.slots[slot].units[i].elements * sizeof(float);
    }
    return true;
}
