/* What the caller's buffers contain: versions per unit, so that shards leave out what is held, and the base for pushes
 * computed from them. Filled by pulls and by pushes that bring values back.
 *
 * Differences are to what the shard has sent the session last, in whichever buffer that is: so the session keeps it in
 * a mirror, adds them there, and copies units to the buffer that is being filled. What a shard sends a session for a
 * version of a unit never changes, and differences come only for the version that was sent last: so the mirror is right
 * also when answers are lost or come too late. */
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
    if (!session->config.pull_delta)
        return LG_OK;
    session->mirror = malloc((session->parts.elements ? session->parts.elements : 1) * sizeof *session->mirror);
    session->mirror_versions = calloc(units ? units : 1, sizeof *session->mirror_versions);
    if (!session->mirror || !session->mirror_versions)
        return lg_fail(error, LG_NO_MEMORY, "no memory for a copy of %llu parameters",
                       (unsigned long long)session->parts.elements);
    return LG_OK;
}

void session_values_deinit(struct session *session) {
    for (size_t i = 0; i < SESSION_BUFFERS; i++) {
        free(session->held[i].versions);
        free(session->held[i].bases);
    }
    free(session->mirror);
    free(session->mirror_versions);
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

/* A copy elsewhere and the buffer itself do not have the same values. */
struct held *session_held_begin(struct session *session, const float *buffer, bool places) {
    struct held *held = held_of(session, buffer);
    if (held->places != places)
        session_held_forget(session, held);
    held->places = places;
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
    const uint64_t *versions = session->mirror ? session->mirror_versions : held->versions;
    assert(part->unit_count <= WIRE_UNITS_MAX);
    for (uint32_t i = 0; i < part->unit_count; i++) {
        session->table[i] = units[i];
        session->table[i].version = versions[units[i].unit];
    }
    return session->table;
}

/* ---- replies */

/* Where in the payload the next unit begins; units never straddle frames. */
struct payload_cursor {
    const struct wire_message *message;
    size_t frame, at;
};

/* The next unit in the payload; NULL where it is not whole. */
static const uint8_t *payload_take(struct payload_cursor *cursor, const struct codec *codec, uint32_t elements) {
    size_t bytes;
    while (cursor->frame < cursor->message->payload_count &&
           cursor->at == cursor->message->payload[cursor->frame].bytes) {
        cursor->frame++;
        cursor->at = 0;
    }
    if (cursor->frame == cursor->message->payload_count)
        return NULL;
    const struct wire_bytes *frame = &cursor->message->payload[cursor->frame];
    const uint8_t *data = (const uint8_t *)frame->data + cursor->at;
    if (codec->measure(data, frame->bytes - cursor->at, elements, &bytes, NULL) != LG_OK)
        return NULL;
    cursor->at += bytes;
    return data;
}

/* How a reply's values are written: as asked for, or plain. */
struct values_form {
    const struct codec *codec;
    bool delta;
};

static bool form_of(const struct session *session, const struct wire_message *message, struct values_form *form) {
    const bool push = message->kind == WIRE_PUSH_REPLY;
    const enum wire_dtype dtype = push ? message->push_reply.dtype : message->pull_reply.dtype;
    const uint32_t number = push ? message->push_reply.codec : message->pull_reply.codec;
    form->delta = push ? message->push_reply.delta : message->pull_reply.delta;
    if (codec_of_wire((uint32_t)dtype, number, &form->codec, NULL) != LG_OK || (form->delta && !session->mirror))
        return false;
    return form->codec == session->config.pull_codec || form->codec->exact;
}

static void values_decode(const struct session *session, const struct values_form *form, const uint8_t *data,
                          uint32_t elements, float *target) {
    const enum isa isa = session->config.isa;
    if (form->codec->exact && !form->delta) {
        memcpy(target, data, elements * sizeof *target);
        return;
    }
    if (form->delta) {
        codec_add(form->codec, isa, data, elements, target);
        return;
    }
    for (size_t first = 0; first < elements; first += CODEC_CHUNK) {
        const size_t n = elements - first < CODEC_CHUNK ? elements - first : CODEC_CHUNK;
        const float *decoded = form->codec->kernels[isa]->decode(data, elements, first, n, target + first);
        if (decoded != target + first)
            memcpy(target + first, decoded, n * sizeof *target);
    }
}

/* Into `values`, whose versions are `versions`. */
static bool values_copy(const struct session *session, float *values, uint64_t *versions, const struct wire_unit *units,
                        uint32_t count, const struct wire_message *message) {
    struct payload_cursor cursor = {message, 0, 0};
    struct values_form form;
    size_t given = 0;
    if (!form_of(session, message, &form))
        return false;
    for (uint32_t i = 0; i < count; i++) {
        const struct wire_unit *asked = &units[i];
        if (given == message->unit_count || message->units[given].unit != asked->unit) {
            if (versions[asked->unit] == 0)
                return false;
            continue;
        }
        if (message->units[given].elements != asked->elements || (form.delta && versions[asked->unit] == 0))
            return false;
        const uint8_t *data = payload_take(&cursor, form.codec, asked->elements);
        if (!data)
            return false;
        values_decode(session, &form, data, asked->elements, values + session->parts.blocks.blocks[asked->unit].offset);
        versions[asked->unit] = message->units[given++].version;
    }
    return given == message->unit_count;
}

/* Units of the mirror that the buffer does not hold. */
static void mirror_copy(struct session *session, struct held *held, float *target, const struct wire_unit *units,
                        uint32_t count) {
    for (uint32_t i = 0; i < count; i++) {
        const uint32_t unit = units[i].unit;
        const uint64_t offset = session->parts.blocks.blocks[unit].offset;
        if (held->versions[unit] == session->mirror_versions[unit])
            continue;
        memcpy(target + offset, session->mirror + offset, units[i].elements * sizeof *target);
        held->versions[unit] = session->mirror_versions[unit];
        session_places_came(session, held, unit);
    }
}

bool session_values_take(struct session *session, struct held *held, float *target, uint32_t slot,
                         const struct part *part, const struct wire_message *message) {
    const struct wire_unit *units = &session->parts.slots[slot].units[part->first_unit];
    float *values = session->mirror ? session->mirror : target;
    uint64_t *versions = session->mirror ? session->mirror_versions : held->versions;
    const bool whole = values_copy(session, values, versions, units, part->unit_count, message);
    for (uint32_t i = 0; !whole && i < part->unit_count; i++)
        versions[units[i].unit] = 0;
    if (whole && session->mirror)
        mirror_copy(session, held, target, units, part->unit_count);
    for (size_t i = 0; whole && !session->mirror && i < message->unit_count; i++)
        session_places_came(session, held, message->units[i].unit);
    return whole;
}

/* ---- in place */

bool session_values_local(const struct session *session, uint32_t slot, uint64_t *version) {
    uint64_t found;
    const struct session_sink *sink = &session->sink;
    return session->config.pull_codec->exact && !session->mirror && sink->local_version &&
           sink->local_version(sink->context, slot, version ? version : &found);
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
