/* Pulls: every shard is asked for its units in parts; replies are copied straight into the caller's buffer. */
#include "client/session_internal.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

/* ---- life */

enum lg_status session_pull_init(struct session *session, struct lg_error *error) {
    struct pull *pull = &session->pull;
    bool complete = true;
    pull->slots = calloc(session->config.shard_count, sizeof *pull->slots);
    for (uint32_t i = 0; pull->slots && i < session->config.shard_count; i++) {
        uint32_t count = session->parts.slots[i].pull_count;
        pull->slots[i].parts = calloc(count ? count : 1, sizeof *pull->slots[i].parts);
        complete = complete && pull->slots[i].parts;
    }
    if (!complete || !pull->slots)
        return lg_fail(error, LG_NO_MEMORY, "no memory for the pulls of a session");
    return LG_OK;
}

void session_pull_deinit(struct session *session) {
    for (uint32_t i = 0; session->pull.slots && i < session->config.shard_count; i++)
        free(session->pull.slots[i].parts);
    free(session->pull.slots);
    session_places_deinit(session);
}

void session_pull_forget(struct session *session) {
    assert(session->pull.state != PULL_ACTIVE && session->pull.state != PULL_PLACED);
    for (size_t i = 0; i < SESSION_BUFFERS; i++)
        session_held_forget(session, &session->held[i]);
}

/* ---- asking */

static bool part_ask(struct session *session, uint32_t slot_index, uint32_t index, int64_t now_ns) {
    const struct parts_slot *plan = &session->parts.slots[slot_index];
    const struct part *part = &plan->pull[index];
    struct pull_part *state = &session->pull.slots[slot_index].parts[index];
    state->tag = SESSION_TAG_BIT | (++session->serial << SESSION_TAG_PART_BITS) | index;
    struct wire_message message = {.kind = WIRE_PULL,
                                   .request = state->tag,
                                   .pull = {.session = session->config.session,
                                            .incarnation = session->config.incarnation,
                                            .job = session->config.job,
                                            .map_version = session->config.map_version,
                                            .tag = state->tag,
                                            .dtype = (enum wire_dtype)session->config.pull_codec->dtype,
                                            .codec = session->config.pull_codec->number,
                                            .delta = session->config.pull_delta},
                                   .units = session_held_table(session, session->pull.held, slot_index, part),
                                   .unit_count = part->unit_count};
    return session_send(session, slot_index, &message, now_ns);
}

static void pull_settle(struct session *session, uint32_t slot_index, struct pull_part *part, uint64_t version);

/* Copied out, or only looked at where the caller copies. */
static bool part_read(struct session *session, uint32_t slot_index, const struct part *part) {
    struct pull *pull = &session->pull;
    if (pull->to_places)
        return session_places_find(session, slot_index, part);
    return session_values_read(session, pull->held, pull->target, slot_index, part);
}

/* In place where that is possible: true when no more is to be asked for now. A pull brings what earlier pushes did, so
 * those on their way are waited for; messages would queue up behind them by themselves. */
static bool parts_read(struct session *session, uint32_t slot_index) {
    const struct parts_slot *plan = &session->parts.slots[slot_index];
    struct pull_slot *state = &session->pull.slots[slot_index];
    uint64_t version;
    if (!session_values_local(session, slot_index, NULL))
        return false;
    if (session->slots[slot_index].pushes_flying > 0)
        return true;
    for (; session->pull.state == PULL_ACTIVE && state->next < plan->pull_count; state->next++) {
        struct pull_part *part = &state->parts[state->next];
        if (part->state != PULL_PART_NEW)
            continue;
        if (part->unread || !session_values_local(session, slot_index, &version) ||
            !part_read(session, slot_index, &plan->pull[state->next]))
            return false;
        session_settled(session, slot_index);
        pull_settle(session, slot_index, part, version);
    }
    return true;
}

void session_pull_pump(struct session *session, uint32_t slot_index, int64_t now_ns) {
    const struct parts_slot *plan = &session->parts.slots[slot_index];
    struct pull_slot *state = &session->pull.slots[slot_index];
    if (session->pull.state != PULL_ACTIVE || parts_read(session, slot_index))
        return;
    for (; session->pull.state == PULL_ACTIVE && state->next < plan->pull_count; state->next++) {
        struct pull_part *part = &state->parts[state->next];
        uint32_t bytes = plan->pull[state->next].bytes;
        if (part->state != PULL_PART_NEW)
            continue;
        if (!session_credit_allows(&session->slots[slot_index], bytes) ||
            !part_ask(session, slot_index, state->next, now_ns))
            return;
        part->state = PULL_PART_SENT;
        session->slots[slot_index].flight_bytes += bytes;
    }
}

void session_pull_lost(struct session *session, uint32_t slot_index) {
    struct pull_slot *state = &session->pull.slots[slot_index];
    if (session->pull.state != PULL_ACTIVE)
        return;
    for (uint32_t i = 0; i < session->parts.slots[slot_index].pull_count; i++)
        if (state->parts[i].state == PULL_PART_SENT)
            state->parts[i].state = PULL_PART_NEW;
    state->next = 0;
}

/* ---- answers */

/* The part that a tag was given to and that still waits, or NULL: an answer nobody waits for any more. */
static struct pull_part *part_of_tag(struct session *session, uint32_t slot_index, uint64_t tag) {
    uint64_t index = tag & ((UINT64_C(1) << SESSION_TAG_PART_BITS) - 1);
    if (session->pull.state != PULL_ACTIVE || index >= session->parts.slots[slot_index].pull_count)
        return NULL;
    struct pull_part *part = &session->pull.slots[slot_index].parts[index];
    return part->state == PULL_PART_SENT && part->tag == tag ? part : NULL;
}

static void pull_finish(struct session *session) {
    for (uint32_t i = 0; i < session->config.shard_count; i++) {
        if (session->parts.slots[i].pull_count > 0)
            session_held_settle(session, session->pull.held, i, session->pull.slots[i].least_version);
    }
    session_held_end(session->pull.held);
    session_places_close(session);
    session->pull.state = PULL_DONE;
}

/* Nothing more is to come for now. */
static void pull_collected(struct session *session) {
    if (session->pull.to_places && session_places_tell(session) > 0)
        session->pull.state = PULL_PLACED;
    else
        pull_finish(session);
}

static void pull_settle(struct session *session, uint32_t slot_index, struct pull_part *part, uint64_t version) {
    struct pull_slot *slot = &session->pull.slots[slot_index];
    part->state = PULL_PART_SETTLED;
    if (version < slot->least_version)
        slot->least_version = version;
    if (--session->pull.unsettled == 0)
        pull_collected(session);
}

void session_pull_answer(struct session *session, uint32_t slot_index, const struct wire_message *message,
                         int64_t now_ns) {
    const struct wire_pull_reply *reply = &message->pull_reply;
    struct pull_slot *slot = &session->pull.slots[slot_index];
    struct pull_part *state = part_of_tag(session, slot_index, reply->tag);
    if (!state)
        return;
    const struct parts_slot *plan = &session->parts.slots[slot_index];
    const struct part *part = &plan->pull[state - slot->parts];
    if (!session_values_take(session, session->pull.held, session->pull.target, slot_index, part, message)) {
        session_drop(session, slot_index, "sent a pull reply that does not fit the request", now_ns);
        return;
    }
    session_answered(session, slot_index, part->bytes);
    session_settled(session, slot_index);
    pull_settle(session, slot_index, state, reply->version);
}

/* No answer is awaited any more, and mappings stay until the next pull: the caller may be copying. Replies that still
 * come find no part that waits for them. */
static void pull_give_up(struct session *session) {
    for (uint32_t i = 0; i < session->config.shard_count; i++)
        for (uint32_t at = 0; at < session->parts.slots[i].pull_count; at++)
            if (session->pull.slots[i].parts[at].state == PULL_PART_SENT)
                session_answered(session, i, session->parts.slots[i].pull[at].bytes);
    session_held_forget(session, session->pull.held);
    session_held_end(session->pull.held);
    session->pull.state = PULL_FAILED;
}

void session_pull_refused(struct session *session, uint32_t slot_index, const struct wire_error *refusal,
                          int64_t now_ns) {
    struct pull_slot *slot = &session->pull.slots[slot_index];
    struct pull_part *state = part_of_tag(session, slot_index, refusal->seq);
    if (!state)
        return;
    uint32_t index = (uint32_t)(state - slot->parts);
    if (refusal->status == LG_DENIED && session_greets_again(session, slot_index, refusal->reason, now_ns))
        return;
    if (refusal->status == LG_UNAVAILABLE || refusal->status == LG_NO_CREDIT) {
        session_answered(session, slot_index, session->parts.slots[slot_index].pull[index].bytes);
        state->state = PULL_PART_NEW;
        if (index < slot->next)
            slot->next = index;
        session_back_off(session, slot_index, refusal->reason, now_ns);
        return;
    }
    pull_give_up(session);
    lg_fail(&session->pull.failure, (enum lg_status)refusal->status, "shard %u refused the pull: %s", slot_index,
            refusal->reason && refusal->reason[0] ? refusal->reason : lg_status_text((enum lg_status)refusal->status));
}

/* ---- for the caller */

static enum lg_status pull_check_idle(const struct session *session, struct lg_error *error) {
    if (session_status(session, error) != LG_OK)
        return session->end.status;
    if (session->pull.state == PULL_ACTIVE || session->pull.state == PULL_PLACED)
        return lg_fail(error, LG_INVALID, "a pull is under way: wait for it before the next one");
    return LG_OK;
}

static void pull_begin(struct session *session, float *parameters, int64_t now_ns) {
    struct pull *pull = &session->pull;
    pull->held = session_held_begin(session, parameters, pull->to_places);
    pull->target = parameters;
    pull->unsettled = 0;
    pull->state = PULL_ACTIVE;
    for (uint32_t i = 0; i < session->config.shard_count; i++) {
        uint32_t count = session->parts.slots[i].pull_count;
        memset(pull->slots[i].parts, 0, count * sizeof *pull->slots[i].parts);
        pull->slots[i].next = 0;
        pull->slots[i].least_version = UINT64_MAX;
        pull->unsettled += count;
    }
    session_gate_pull(session);
    session_pump_all(session, now_ns);
}

enum lg_status session_pull_open(struct session *session, float *parameters, int64_t now_ns, struct lg_error *error) {
    enum lg_status status = pull_check_idle(session, error);
    if (status != LG_OK)
        return status;
    session_places_close(session);
    session->pull.to_places = false;
    pull_begin(session, parameters, now_ns);
    return LG_OK;
}

enum lg_status session_pull_open_places(struct session *session, float *parameters, int64_t now_ns,
                                        struct lg_error *error) {
    enum lg_status status = pull_check_idle(session, error);
    if (status == LG_OK)
        status = session_places_open(session, error);
    if (status != LG_OK)
        return status;
    session->pull.to_places = true;
    pull_begin(session, parameters, now_ns);
    return LG_OK;
}

struct lg_place *session_pull_places(struct session *session, uint32_t *count) {
    *count = session->pull.state == PULL_PLACED ? session->pull.places.count : 0;
    return session->pull.places.places;
}

static void part_unread(struct session *session, uint32_t slot_index, uint32_t index) {
    struct pull_slot *slot = &session->pull.slots[slot_index];
    struct pull_part *part = &slot->parts[index];
    session->pull.unsettled += part->state == PULL_PART_SETTLED;
    part->state = PULL_PART_NEW;
    part->unread = true;
    if (index < slot->next)
        slot->next = index;
}

void session_pull_check(struct session *session, int64_t now_ns) {
    struct pull *pull = &session->pull;
    if (pull->state != PULL_PLACED)
        return; /* the session is over */
    session_places_check(session, part_unread);
    pull->state = PULL_ACTIVE;
    if (pull->unsettled == 0)
        pull_collected(session);
    else
        session_pump_all(session, now_ns);
}

enum lg_status session_pull_poll(struct session *session, struct lg_error *error) {
    const struct pull *pull = &session->pull;
    if (session_status(session, error) != LG_OK)
        return session->end.status;
    switch (pull->state) {
    case PULL_ACTIVE:
        return LG_UNAVAILABLE;
    case PULL_PLACED:
    case PULL_DONE:
        return LG_OK;
    case PULL_FAILED:
        if (error)
            *error = pull->failure;
        return pull->failure.status;
    case PULL_NONE:
        break;
    }
    return lg_fail(error, LG_INVALID, "no pull was started");
}

void session_pull_cancel(struct session *session) {
    if (session->pull.state != PULL_ACTIVE && session->pull.state != PULL_PLACED)
        return;
    pull_give_up(session);
    lg_fail(&session->pull.failure, LG_CANCELLED, "the pull was given up");
}
