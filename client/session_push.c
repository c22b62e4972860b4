/* Pushes: parts go out in order as their tensors become ready, and again after a lost connection, until answered. */
#include "client/session_internal.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

/* ---- life */

static bool push_alloc(struct session *session, struct push *push) {
    push->covers = calloc(WIRE_COVERS_MAX, sizeof *push->covers);
    push->ready = calloc(session->parts.tensor_count, sizeof *push->ready);
    push->slots = calloc(session->config.shard_count, sizeof *push->slots);
    push->cuts = calloc(SESSION_CUTS_MAX, sizeof *push->cuts);
    if (!push->covers || !push->ready || !push->slots || !push->cuts)
        return false;
    for (uint32_t i = 0; i < session->config.shard_count; i++) {
        uint32_t count = session->parts.slots[i].push_count;
        push->slots[i].parts = calloc(count ? count : 1, sizeof *push->slots[i].parts);
        if (!push->slots[i].parts)
            return false;
    }
    return true;
}

enum lg_status session_push_init(struct session *session, struct lg_error *error) {
    for (size_t i = 0; i < SESSION_PUSHES; i++)
        if (!push_alloc(session, &session->pushes[i]))
            return lg_fail(error, LG_NO_MEMORY, "no memory for the pushes of a session");
    return LG_OK;
}

void session_push_deinit(struct session *session) {
    for (size_t i = 0; i < SESSION_PUSHES; i++) {
        struct push *push = &session->pushes[i];
        for (uint32_t slot = 0; push->slots && slot < session->config.shard_count; slot++)
            free(push->slots[slot].parts);
        free(push->covers);
        free(push->ready);
        free(push->slots);
        free(push->cuts);
    }
}

/* ---- seqs */

/* Every outstanding seq lies within the least window that any shard granted, so no shard forgets a record too early. */
static bool seq_take(struct session *session, uint32_t push, uint32_t slot, uint32_t part, uint64_t *seq) {
    uint64_t window = session->config.window;
    for (uint32_t i = 0; i < session->config.shard_count; i++)
        if (session->slots[i].window > 0 && session->slots[i].window < window)
            window = session->slots[i].window;
    if (session->seq_next - session->seq_floor >= window) {
        session->window_full = true;
        return false;
    }
    *seq = session->seq_next++;
    session->ring[*seq % session->config.window] = (struct flight){*seq, push, slot, part, false};
    return true;
}

static void seq_settle(struct session *session, uint64_t seq) {
    session->ring[seq % session->config.window].settled = true;
    while (session->seq_floor < session->seq_next && session->ring[session->seq_floor % session->config.window].settled)
        session->seq_floor++;
}

/* ---- sending */

/* True when every tensor with a unit in the part is ready. Backward finishes the last tensors first, so units are
 * looked at from the end, and those seen ready are not looked at again. */
static bool part_ready(const struct session *session, const struct push *push, struct push_slot *state,
                       uint32_t slot_index, const struct part *part) {
    if (push->unready == 0)
        return true;
    const struct wire_unit *units = &session->parts.slots[slot_index].units[part->first_unit];
    for (; state->checked < part->unit_count; state->checked++) {
        uint32_t unit = units[part->unit_count - 1 - state->checked].unit;
        if (!push->ready[session->parts.blocks.blocks[unit].tensor])
            return false;
    }
    return true;
}

static void covers_fill(struct session *session, const struct push *push, uint64_t seq) {
    for (size_t i = 0; i < push->spec.cover_count; i++) {
        session->covers[i] = push->covers[i];
        session->covers[i].session = session->config.session;
        session->covers[i].incarnation = session->config.incarnation;
        session->covers[i].seq = seq;
    }
}

/* The part's payload: of its codec, encoded here or by the caller, or stretches of the caller's array. */
static size_t frames_fill(struct session *session, const struct push *push, uint32_t slot_index, uint32_t index) {
    const struct part *part = &session->parts.slots[slot_index].push[index];
    const struct session_encoded *encoded = push->slots[slot_index].parts[index].encoded;
    if (encoded) {
        session->frames[0] = (struct wire_bytes){encoded->data, encoded->bytes};
        return 1;
    }
    if (push->spec.encoded && !session_codec_of(push, part)->exact)
        return session_caller_frames(session, push, slot_index, index);
    const struct part_run *runs = &session->parts.slots[slot_index].runs[part->first_run];
    for (uint32_t i = 0; i < part->run_count; i++)
        session->frames[i] =
            (struct wire_bytes){push->spec.gradients + runs[i].offset, runs[i].elements * sizeof(float)};
    return part->run_count;
}

/* Values come back in the answer, where they cannot be read in place. */
static bool part_asks(const struct session *session, const struct push *push, uint32_t slot_index,
                      const struct push_part *part) {
    return push->held && (part->unread || !session_values_local(session, slot_index, NULL));
}

/* Without a ticket only its samples are told. */
static bool is_skipped(const struct push *push) {
    return push->spec.kind == WIRE_PUSH_KIND_SKIPPED;
}

/* What a part takes of the credit: its gradients, and the values that come back. */
static uint32_t flight_bytes(const struct session *session, const struct push *push, uint32_t slot_index,
                             uint32_t index) {
    const struct session_sink *sink = &session->sink;
    const struct part *shape = &session->parts.slots[slot_index].push[index];
    bool in_place = session_codec_of(push, shape)->exact && sink->local_gradients &&
                    sink->local_gradients(sink->context, slot_index, push->spec.gradients);
    uint32_t payload = in_place || is_skipped(push) ? 0 : session_codec_bytes(session, push, slot_index, index);
    return payload + (part_asks(session, push, slot_index, &push->slots[slot_index].parts[index]) ? shape->bytes : 0);
}

/* A base is fixed when the push is opened; a session that never pulled counts from where it greeted the shard. */
static uint64_t base_of(const struct session *session, struct push_slot *state, uint32_t slot_index) {
    if (!state->base_known) {
        state->base = session->slots[slot_index].hello_version;
        state->base_known = true;
    }
    return state->base;
}

static bool part_send(struct session *session, struct push *push, uint32_t slot_index, uint32_t index, int64_t now_ns) {
    const struct parts_slot *plan = &session->parts.slots[slot_index];
    const struct part *part = &plan->push[index];
    struct push_slot *state = &push->slots[slot_index];
    const struct codec *codec = session_codec_of(push, part), *pull = session->config.pull_codec;
    uint64_t seq = state->parts[index].seq;
    if (!codec->exact && !session_encode(session, push, slot_index, index)) {
        session_back_off(session, slot_index, "no memory to encode gradients", now_ns);
        return false;
    }
    bool asks = part_asks(session, push, slot_index, &state->parts[index]);
    state->parts[index].asks = asks;
    covers_fill(session, push, seq);
    struct wire_message message = {
        .kind = WIRE_PUSH,
        .request = seq,
        .push = {.session = session->config.session,
                 .incarnation = session->config.incarnation,
                 .seq = seq,
                 .seq_floor = session->seq_floor,
                 .job = session->config.job,
                 .map_version = session->config.map_version,
                 .clock = push->spec.clock,
                 .part = index,
                 .part_count = plan->push_count,
                 .kind = push->spec.kind,
                 .sign = push->spec.kind == WIRE_PUSH_KIND_DELTA ? WIRE_SIGN_ADD : WIRE_SIGN_DESCEND,
                 .dtype = (enum wire_dtype)codec->dtype,
                 .codec = codec->number,
                 .samples = push->spec.samples,
                 .local_steps = push->spec.local_steps,
                 .base = base_of(session, state, slot_index),
                 .round = push->round,
                 .pull = asks,
                 .pull_dtype = asks ? (enum wire_dtype)pull->dtype : WIRE_DTYPE_F32,
                 .pull_codec = asks ? pull->number : 0,
                 .pull_delta = asks && session->config.pull_delta,
                 .read_bytes = session->slots[slot_index].read_bytes,
                 .covers = session->covers,
                 .cover_count = push->spec.cover_count},
        .units = asks ? session_held_table(session, push->held, slot_index, part) : &plan->units[part->first_unit],
        .unit_count = part->unit_count,
        .payload = session->frames,
        .payload_count = is_skipped(push) ? 0 : frames_fill(session, push, slot_index, index),
    };
    session->encoder.sending = state->parts[index].encoded;
    bool sent = session_send(session, slot_index, &message, now_ns);
    session->encoder.sending = NULL;
    if (!sent)
        return false;
    session->slots[slot_index].read_bytes = 0;
    return true;
}

/* Sends what may go of one push; false when a part that could go by its tensors has to wait. */
static bool push_pump(struct session *session, struct push *push, uint32_t slot_index, int64_t now_ns) {
    const struct parts_slot *plan = &session->parts.slots[slot_index];
    struct push_slot *state = &push->slots[slot_index];
    if (push->ticket_wanted)
        return false;
    for (; state->next < plan->push_count; state->next++, state->checked = 0) {
        struct push_part *part = &state->parts[state->next];
        const struct part *shape = &plan->push[state->next];
        if (part->state == PUSH_PART_SENT || part->state == PUSH_PART_SETTLED)
            continue;
        if (!part_ready(session, push, state, slot_index, shape))
            return true;
        part->flight_bytes = flight_bytes(session, push, slot_index, state->next);
        if (!session_credit_allows(&session->slots[slot_index], part->flight_bytes))
            return false;
        if (part->seq == 0 &&
            !seq_take(session, (uint32_t)(push - session->pushes), slot_index, state->next, &part->seq))
            return false;
        if (!part_send(session, push, slot_index, state->next, now_ns))
            return false;
        part->state = PUSH_PART_SENT;
        session->slots[slot_index].pushes_flying++;
        session->slots[slot_index].flight_bytes += part->flight_bytes;
    }
    return true;
}

bool session_push_pump(struct session *session, uint32_t slot_index, int64_t now_ns) {
    size_t oldest =
        session->pushes[0].used && session->pushes[1].used && session->pushes[1].ticket < session->pushes[0].ticket;
    for (size_t i = 0; i < SESSION_PUSHES; i++) {
        struct push *push = &session->pushes[(oldest + i) % SESSION_PUSHES];
        if (push->used && !push_pump(session, push, slot_index, now_ns))
            return false;
    }
    return true;
}

void session_push_lost(struct session *session, uint32_t slot_index) {
    for (size_t i = 0; i < SESSION_PUSHES; i++) {
        struct push *push = &session->pushes[i];
        uint32_t first = session->parts.slots[slot_index].push_count;
        for (uint32_t at = first; push->used && at-- > 0;) {
            struct push_part *part = &push->slots[slot_index].parts[at];
            if (part->state == PUSH_PART_SENT)
                part->state = PUSH_PART_AGAIN;
            if (part->state == PUSH_PART_AGAIN)
                first = at;
        }
        if (push->used && first < push->slots[slot_index].next) {
            push->slots[slot_index].next = first;
            push->slots[slot_index].checked = 0;
        }
    }
}

/* ---- answers */

static void cuts_add(struct push *push, uint64_t cut) {
    size_t at = push->result.cut_count;
    while (at > 0 && push->cuts[at - 1] > cut)
        at--;
    if ((at > 0 && push->cuts[at - 1] == cut) || push->result.cut_count == SESSION_CUTS_MAX)
        return;
    memmove(&push->cuts[at + 1], &push->cuts[at], (push->result.cut_count - at) * sizeof *push->cuts);
    push->cuts[at] = cut;
    push->result.cut_count++;
}

static void result_add(struct push *push, const struct wire_push_reply *reply) {
    struct session_push_result *result = &push->result;
    if (reply->staleness > result->staleness_max)
        result->staleness_max = reply->staleness;
    if (reply->weight < result->weight_min)
        result->weight_min = reply->weight;
    result->units_applied += reply->units_applied;
    result->units_repeated += reply->units_repeated;
    result->dropped = result->dropped || reply->status == LG_DROPPED;
    for (size_t i = 0; i < reply->cut_count; i++)
        cuts_add(push, reply->cuts[i]);
}

static bool may_pass(uint32_t status) {
    return status == LG_UNAVAILABLE || status == LG_NO_CREDIT;
}

static void part_resend(struct push *push, const struct flight *flight) {
    struct push_slot *state = &push->slots[flight->slot];
    state->parts[flight->part].state = PUSH_PART_AGAIN;
    if (flight->part < state->next)
        state->next = flight->part;
    state->checked = 0;
}

/* The part goes again after a while. */
static void part_again(struct session *session, struct push *push, const struct flight *flight, const char *reason,
                       int64_t now_ns) {
    part_resend(push, flight);
    session_back_off(session, flight->slot, reason, now_ns);
}

/* All parts are settled: a buffer that was filled by all of them has a new base. */
static void push_finish(struct session *session, struct push *push) {
    if (push->spec.encoded)
        session_tell_rates(session, push);
    if (!push->held)
        return;
    for (uint32_t i = 0; push->failure.status == LG_OK && i < session->config.shard_count; i++)
        if (session->parts.slots[i].push_count > 0)
            session_held_settle(session, push->held, i, push->slots[i].least_version);
    session_held_end(push->held);
    push->held = NULL;
}

static bool is_success(uint32_t status) {
    return status == LG_OK || status == LG_DUPLICATE || status == LG_DROPPED;
}

/* What became of the gradients in a part. Where samples had been applied before to some of its units only, or only some
 * straddle marks, the answer does not tell which: then the part counts as applied, and what those units would have
 * taken of the residual is lost to it. */
static float applied_weight(const struct wire_push_reply *reply) {
    if (!is_success(reply->status) || reply->status == LG_DROPPED)
        return 0;
    return reply->units_applied > 0 ? reply->weight : 0;
}

static void part_settle(struct session *session, struct push *push, const struct flight *flight,
                        const struct wire_push_reply *reply) {
    if (reply->rate > 0)
        session->slots[flight->slot].rate = reply->rate;
    session_encoded_settle(session, push, flight->slot, flight->part, applied_weight(reply));
    push->slots[flight->slot].parts[flight->part].state = PUSH_PART_SETTLED;
    push->unsettled--;
    seq_settle(session, reply->seq);
    session_settled(session, flight->slot);
    if (is_success(reply->status))
        result_add(push, reply);
    else if (push->failure.status == LG_OK)
        lg_fail(&push->failure, (enum lg_status)reply->status, "shard %u refused the push: %s", flight->slot,
                reply->reason && reply->reason[0] ? reply->reason : lg_status_text((enum lg_status)reply->status));
    if (push->unsettled == 0)
        push_finish(session, push);
}

/* The values that a successful answer brought go into the buffer, or are read in place. Where the shard had no memory
 * for them, or did not stop changing them, the part goes again: it is answered from its record, with the values. False:
 * the part is not settled yet. */
static bool part_values(struct session *session, struct push *push, const struct flight *flight,
                        const struct wire_message *message, int64_t now_ns) {
    const struct wire_push_reply *reply = &message->push_reply;
    const struct part *part = &session->parts.slots[flight->slot].push[flight->part];
    struct push_slot *state = &push->slots[flight->slot];
    if (reply->values_version == 0) {
        part_again(session, push, flight, reply->reason, now_ns);
        return false;
    }
    struct push_part *sent = &state->parts[flight->part];
    if (!sent->asks && (!session_values_local(session, flight->slot, NULL) ||
                        !session_values_read(session, push->held, push->spec.parameters, flight->slot, part))) {
        sent->unread = true;
        part_resend(push, flight);
        return false;
    }
    if (sent->asks && !session_values_take(session, push->held, push->spec.parameters, flight->slot, part, message)) {
        session_drop(session, flight->slot, "sent a push reply whose values do not fit the push", now_ns);
        return false;
    }
    if (reply->values_version < state->least_version)
        state->least_version = reply->values_version;
    return true;
}

void session_push_answer(struct session *session, uint32_t slot_index, const struct wire_message *message,
                         int64_t now_ns) {
    const struct wire_push_reply *reply = &message->push_reply;
    const struct flight flight = session->ring[reply->seq % session->config.window];
    if (flight.seq != reply->seq || reply->seq < session->seq_floor || flight.settled || flight.slot != slot_index)
        return; /* answered before */
    struct push *push = &session->pushes[flight.push];
    struct push_part *part = &push->slots[slot_index].parts[flight.part];
    if (reply->status == LG_DENIED && session_greets_again(session, slot_index, reply->reason, now_ns))
        return;
    if (part->state == PUSH_PART_SENT) {
        session->slots[slot_index].pushes_flying--;
        session_answered(session, slot_index, part->flight_bytes);
    }
    if (may_pass(reply->status))
        part_again(session, push, &flight, reply->reason, now_ns);
    else if (!push->held || !is_success(reply->status) || part_values(session, push, &flight, message, now_ns))
        part_settle(session, push, &flight, reply);
}

/* ---- for the caller */

static void push_begin(struct session *session, struct push *push, const struct session_push *spec) {
    push->used = true;
    push->ticket = ++session->serial;
    push->spec = *spec;
    push->spec.covers = push->covers;
    if (spec->cover_count > 0)
        memcpy(push->covers, spec->covers, spec->cover_count * sizeof *push->covers);
    else
        push->covers[0] = (struct wire_cover){.samples = spec->samples};
    push->spec.cover_count = spec->cover_count > 0 ? spec->cover_count : 1;
    push->codec = session->config.push_codec;
    push->unready = session->parts.tensor_count;
    memset(push->ready, 0, push->unready * sizeof *push->ready);
    push->unsettled = 0;
    push->result = (struct session_push_result){.weight_min = 1, .cuts = push->cuts};
    push->failure.status = LG_OK;
    const struct held *from = session_held_find(session, spec->computed_from);
    for (uint32_t i = 0; i < session->config.shard_count; i++) {
        struct push_slot *slot = &push->slots[i];
        uint32_t count = session->parts.slots[i].push_count;
        memset(slot->parts, 0, count * sizeof *slot->parts);
        slot->next = slot->checked = 0;
        slot->base = from ? from->bases[i] : session->slots[i].pulled_version;
        slot->base_known = from ? slot->base != 0 : session->slots[i].pulled;
        slot->least_version = UINT64_MAX;
        push->unsettled += count;
    }
    push->held = spec->parameters ? session_held_begin(session, spec->parameters, false) : NULL;
}

enum lg_status session_push_open(struct session *session, const struct session_push *spec, int64_t now_ns,
                                 uint64_t *ticket, struct lg_error *error) {
    (void)now_ns; /* nothing goes out before a tensor is ready */
    if (session_status(session, error) != LG_OK)
        return session->end.status;
    if (spec->local_steps < 1 || spec->cover_count > WIRE_COVERS_MAX)
        return lg_fail(error, LG_INVALID, "a push of %u local steps and %zu covers: 1 or more steps, at most %d covers",
                       spec->local_steps, spec->cover_count, WIRE_COVERS_MAX);
    if (session->open)
        return lg_fail(error, LG_INVALID, "a push is open: mark all its tensors ready before the next one");
    for (size_t i = 0; i < SESSION_PUSHES; i++) {
        if (session->pushes[i].used)
            continue;
        enum lg_status status = session_gate_push(session, &session->pushes[i], spec, error);
        if (status != LG_OK)
            return status;
        push_begin(session, &session->pushes[i], spec);
        session->open = &session->pushes[i];
        *ticket = session->pushes[i].ticket;
        return LG_OK;
    }
    return lg_fail(error, LG_INVALID, "%d pushes are unsettled: wait for one of them first", SESSION_PUSHES);
}

void session_push_ready(struct session *session, size_t first, size_t count, int64_t now_ns) {
    struct push *push = session->open;
    assert(first <= session->parts.tensor_count && count <= session->parts.tensor_count - first);
    if (!push)
        return; /* the session ended meanwhile, or all tensors were ready */
    for (size_t i = first; i < first + count; i++) {
        push->unready -= !push->ready[i];
        push->ready[i] = true;
    }
    if (push->unready == 0) {
        session->open = NULL;
        session_gate_push_ready(session, push);
    }
    session_pump_all(session, now_ns);
}

enum lg_status session_push_poll(struct session *session, uint64_t ticket, struct session_push_result *result,
                                 struct lg_error *error) {
    struct push *push = NULL;
    for (size_t i = 0; i < SESSION_PUSHES; i++)
        if (session->pushes[i].used && session->pushes[i].ticket == ticket)
            push = &session->pushes[i];
    if (!push)
        return lg_fail(error, LG_INVALID, "no push has the ticket %llu", (unsigned long long)ticket);
    enum lg_status status = session_status(session, error);
    if (status == LG_OK && push->unsettled > 0)
        return LG_UNAVAILABLE;
    if (status == LG_OK && push->failure.status != LG_OK) {
        status = push->failure.status;
        if (error)
            *error = push->failure;
    }
    if (status == LG_OK && result)
        *result = push->result;
    push->used = false;
    if (session->open == push)
        session->open = NULL;
    return status;
}
