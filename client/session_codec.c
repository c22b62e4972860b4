/* Pushes in the job's codec. A part is encoded when it may be sent, so that encoding and sending overlap, and keeps its
 * bytes until it is settled: a part that goes again is the same part. Buffers come from a pool that grows to what is in
 * flight at once. Where the caller has encoded, its units are sent as they lie; only parts of very many small ones are
 * copied together.
 *
 * Codecs with feedback leave what they did not send in the residual and send it later. The residual is a gradient: when
 * the shard's learning rate changes, it is scaled so that rate x residual stays. */
#include "client/session_internal.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "common/random.h"

enum { ALIGNMENT = 64 };

/* ---- life */

static struct codec_options options_of(const struct session *session) {
    return (struct codec_options){.keep = session->config.topk};
}

/* Of a part's units, encoded, at most. */
static uint32_t part_bytes_max(const struct session *session, uint32_t slot, const struct part *part) {
    const struct codec_options options = options_of(session);
    const struct wire_unit *units = &session->parts.slots[slot].units[part->first_unit];
    size_t bytes = 0;
    for (uint32_t i = 0; i < part->unit_count; i++)
        bytes += session->config.push_codec->bytes_max(units[i].elements, &options);
    return (uint32_t)bytes;
}

static bool slot_init(struct session *session, uint32_t slot) {
    const struct parts_slot *plan = &session->parts.slots[slot];
    struct encoder *encoder = &session->encoder;
    const size_t count = plan->push_count ? plan->push_count : 1;
    encoder->rates[slot] = calloc(count, sizeof **encoder->rates);
    encoder->bytes_max[slot] = calloc(count, sizeof **encoder->bytes_max);
    if (!encoder->rates[slot] || !encoder->bytes_max[slot])
        return false;
    for (uint32_t i = 0; i < plan->push_count; i++) {
        encoder->bytes_max[slot][i] = part_bytes_max(session, slot, &plan->push[i]);
        if (encoder->bytes_max[slot][i] > encoder->room)
            encoder->room = encoder->bytes_max[slot][i];
    }
    encoder->room = (encoder->room + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    return true;
}

enum lg_status session_codec_init(struct session *session, struct lg_error *error) {
    struct encoder *encoder = &session->encoder;
    const struct codec *codec = session->config.push_codec;
    if (codec->exact)
        return LG_OK;
    bool complete = true;
    encoder->rates = calloc(session->config.shard_count, sizeof *encoder->rates);
    encoder->bytes_max = calloc(session->config.shard_count, sizeof *encoder->bytes_max);
    for (uint32_t i = 0; encoder->rates && encoder->bytes_max && complete && i < session->config.shard_count; i++)
        complete = slot_init(session, i);
    if (codec->feedback)
        encoder->residual = calloc(session->parts.elements, sizeof *encoder->residual);
    if (!complete || !encoder->rates || !encoder->bytes_max || (codec->feedback && !encoder->residual))
        return lg_fail(error, LG_NO_MEMORY, "no memory to encode gradients as %s", codec->name);
    return LG_OK;
}

void session_codec_deinit(struct session *session) {
    struct encoder *encoder = &session->encoder;
    for (struct session_encoded *at = encoder->all, *next; at; at = next) {
        assert(atomic_load(&at->loans) == 0);
        next = at->made;
        free(at->data);
        free(at);
    }
    for (uint32_t i = 0; i < session->config.shard_count; i++) {
        if (encoder->rates)
            free(encoder->rates[i]);
        if (encoder->bytes_max)
            free(encoder->bytes_max[i]);
    }
    free(encoder->rates);
    free(encoder->bytes_max);
    free(encoder->residual);
}

float *session_residual(struct session *session, uint64_t *elements) {
    *elements = session->encoder.residual ? session->parts.elements : 0;
    return session->encoder.residual;
}

/* ---- buffers */

static struct session_encoded *buffer_new(struct encoder *encoder) {
    struct session_encoded *buffer = calloc(1, sizeof *buffer);
    if (!buffer)
        return NULL;
    buffer->data = aligned_alloc(ALIGNMENT, encoder->room);
    if (!buffer->data) {
        free(buffer);
        return NULL;
    }
    buffer->made = encoder->all;
    encoder->all = buffer;
    return buffer;
}

static struct session_encoded *buffer_take(struct encoder *encoder) {
    for (struct session_encoded **at = &encoder->unused; *at; at = &(*at)->next) {
        struct session_encoded *buffer = *at;
        if (atomic_load_explicit(&buffer->loans, memory_order_acquire) > 0)
            continue; /* an old connection has not let go of it */
        *at = buffer->next;
        return buffer;
    }
    return buffer_new(encoder);
}

static void buffer_give_back(struct encoder *encoder, struct session_encoded *buffer) {
    buffer->next = encoder->unused;
    encoder->unused = buffer;
}

struct session_encoded *session_encoded(const struct session *session) {
    return session->encoder.sending;
}

/* ---- parts */

const struct codec *session_codec_of(const struct push *push, const struct part *part) {
    const bool plain = push->spec.kind == WIRE_PUSH_KIND_INITIAL || push->spec.kind == WIRE_PUSH_KIND_SKIPPED ||
                       (push->codec->changes_only && part->takes_values);
    return plain ? codec_plain() : push->codec;
}

static uint32_t caller_bytes(const struct session *session, const struct push *push, uint32_t slot, uint32_t part) {
    const struct part *shape = &session->parts.slots[slot].push[part];
    const struct wire_unit *units = &session->parts.slots[slot].units[shape->first_unit];
    size_t bytes = 0;
    for (uint32_t i = 0; i < shape->unit_count; i++)
        bytes += push->spec.encoded[units[i].unit].bytes;
    return (uint32_t)bytes;
}

uint32_t session_codec_bytes(const struct session *session, const struct push *push, uint32_t slot, uint32_t part) {
    const struct part *shape = &session->parts.slots[slot].push[part];
    const struct push_part *state = &push->slots[slot].parts[part];
    if (state->encoded)
        return (uint32_t)state->encoded->bytes;
    if (push->spec.encoded && !session_codec_of(push, shape)->exact)
        return caller_bytes(session, push, slot, part);
    return session_codec_of(push, shape)->exact ? shape->bytes : session->encoder.bytes_max[slot][part];
}

static void scale(float *values, size_t count, float factor) {
    for (size_t i = 0; i < count; i++)
        values[i] *= factor;
}

/* The residual of the part, brought to the learning rate of now. */
static void residual_follow(struct session *session, uint32_t slot, uint32_t part) {
    const struct parts_slot *plan = &session->parts.slots[slot];
    const struct part *shape = &plan->push[part];
    const float factor = codec_follow_rate(&session->encoder.rates[slot][part], session->slots[slot].rate);
    if (factor != 1)
        for (uint32_t i = shape->first_run; i < shape->first_run + shape->run_count; i++)
            scale(session->encoder.residual + plan->runs[i].offset, plan->runs[i].elements, factor);
}

uint64_t session_codec_key(uint64_t session, uint64_t clock, uint32_t unit) {
    return random_mix(random_mix(session, clock), unit);
}

size_t session_caller_frames(struct session *session, const struct push *push, uint32_t slot, uint32_t part) {
    const struct part *shape = &session->parts.slots[slot].push[part];
    const struct wire_unit *units = &session->parts.slots[slot].units[shape->first_unit];
    const char *end = NULL;
    size_t count = 0;
    for (uint32_t i = 0; push->spec.encoded && i < shape->unit_count; i++) {
        const struct lg_encoded_unit *unit = &push->spec.encoded[units[i].unit];
        if (unit->data != end && count == WIRE_PAYLOAD_FRAMES_MAX)
            return 0;
        if (unit->data != end)
            session->frames[count++] = (struct wire_bytes){unit->data, 0};
        session->frames[count - 1].bytes += unit->bytes;
        end = (const char *)unit->data + unit->bytes;
    }
    return count;
}

/* Writes one unit to `out`; the bytes that it takes. */
static size_t unit_put(struct session *session, const struct push *push, const struct wire_unit *unit, uint8_t *out) {
    float *residual = session->encoder.residual;
    const uint64_t offset = session->parts.blocks.blocks[unit->unit].offset;
    struct codec_options options = options_of(session);
    if (push->spec.encoded) {
        const struct lg_encoded_unit *given = &push->spec.encoded[unit->unit];
        assert(given->bytes <= push->codec->bytes_max(unit->elements, &options));
        memcpy(out, given->data, given->bytes);
        return given->bytes;
    }
    options.key = session_codec_key(session->config.session, push->spec.clock, unit->unit);
    return push->codec->kernels[session->config.isa]->encode(
        push->spec.gradients + offset, residual ? residual + offset : NULL, unit->elements, &options, out);
}

bool session_encode(struct session *session, struct push *push, uint32_t slot, uint32_t part) {
    struct encoder *encoder = &session->encoder;
    struct push_part *state = &push->slots[slot].parts[part];
    const struct part *shape = &session->parts.slots[slot].push[part];
    const struct wire_unit *units = &session->parts.slots[slot].units[shape->first_unit];
    if (state->encoded || session_caller_frames(session, push, slot, part) > 0)
        return true;
    struct session_encoded *out = buffer_take(encoder);
    if (!out)
        return false;
    if (encoder->residual && !push->spec.encoded)
        residual_follow(session, slot, part);
    out->bytes = 0;
    for (uint32_t i = 0; i < shape->unit_count; i++)
        out->bytes += unit_put(session, push, &units[i], out->data + out->bytes);
    assert(out->bytes <= encoder->room);
    state->encoded = out;
    return true;
}

/* Of what was sent, only the share `weight` came to anything. */
static void residual_take_back(struct session *session, const struct push *push, uint32_t slot, uint32_t part,
                               float weight) {
    const struct session_encoded *encoded = push->slots[slot].parts[part].encoded;
    const struct part *shape = &session->parts.slots[slot].push[part];
    const struct wire_unit *units = &session->parts.slots[slot].units[shape->first_unit];
    size_t at = 0, bytes = 0;
    for (uint32_t i = 0; i < shape->unit_count; i++, at += bytes) {
        const uint64_t offset = session->parts.blocks.blocks[units[i].unit].offset;
        if (push->codec->measure(encoded->data + at, encoded->bytes - at, units[i].elements, &bytes, NULL) != LG_OK)
            return; /* encode wrote it: it is whole */
        codec_take_back(push->codec, session->config.isa, encoded->data + at, units[i].elements, 1 - weight,
                        push->spec.gradients + offset, session->encoder.residual + offset);
    }
}

/* The caller keeps what its own codec keeps back. */
static void tell_weight(struct session *session, struct push *push, uint32_t slot, uint32_t part, float weight) {
    const struct part *shape = &session->parts.slots[slot].push[part];
    const struct wire_unit *units = &session->parts.slots[slot].units[shape->first_unit];
    for (uint32_t i = 0; i < shape->unit_count; i++)
        push->spec.encoded[units[i].unit].weight = weight;
}

void session_tell_rates(struct session *session, struct push *push) {
    for (uint32_t slot = 0; slot < session->config.shard_count; slot++) {
        const struct parts_slot *plan = &session->parts.slots[slot];
        for (uint32_t i = 0; i < plan->unit_count; i++)
            push->spec.encoded[plan->units[i].unit].rate = session->slots[slot].rate;
    }
}

void session_encoded_settle(struct session *session, struct push *push, uint32_t slot, uint32_t part, float weight) {
    struct push_part *state = &push->slots[slot].parts[part];
    if (push->spec.encoded)
        tell_weight(session, push, slot, part, push->spec.kind == WIRE_PUSH_KIND_SKIPPED ? 0 : weight);
    if (!state->encoded)
        return;
    if (session->encoder.residual && weight != 1 && !push->spec.encoded)
        residual_take_back(session, push, slot, part, weight);
    buffer_give_back(&session->encoder, state->encoded);
    state->encoded = NULL;
}
