/* The session: connections to the shards, what they answer, and time. Pushes and pulls are next door. */
#include "client/session_internal.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BACKOFF_LEAST_MS = 100, BACKOFF_MOST_MS = 1000, SILENCE_TOLD_MS = 1000, DENIALS_MAX = 3 };

/* ---- life */

enum lg_status session_new(const struct session_config *config, const struct session_sink *sink, struct session **out,
                           struct lg_error *error) {
    *out = NULL;
    enum lg_status status = tensor_table_check(config->tensors, config->tensor_count, error);
    if (status != LG_OK)
        return status;
    if (config->window < 1 || config->window > SESSION_WINDOW_MAX)
        return lg_fail(error, LG_INVALID, "a window of %u parts is not within 1 to %d", config->window,
                       SESSION_WINDOW_MAX);
    if (config->part_bytes > WIRE_PAYLOAD_BYTES_MAX)
        return lg_fail(error, LG_INVALID, "parts of %u bytes are more than the %d that a shard takes",
                       config->part_bytes, WIRE_PAYLOAD_BYTES_MAX);
    struct session *session = calloc(1, sizeof *session);
    if (!session)
        return lg_fail(error, LG_NO_MEMORY, "no memory for a session");
    session->config = *config;
    session->config.tensors = NULL;
    session->config.placement = NULL;
    session->sink = *sink;
    session->seq_floor = session->seq_next = 1;
    if (!session->config.push_codec)
        session->config.push_codec = codec_plain();
    if (!session->config.pull_codec)
        session->config.pull_codec = codec_plain();
    const struct parts_plan plan = {.tensors = config->tensors,
                                    .tensor_count = config->tensor_count,
                                    .placement = config->placement,
                                    .placement_count = config->placement_count,
                                    .slot_count = config->shard_count,
                                    .part_bytes = config->part_bytes,
                                    .values_apart = session->config.push_codec->changes_only};
    status = parts_init(&session->parts, &plan, error);
    if (status == LG_OK) {
        session->slots = calloc(config->shard_count, sizeof *session->slots);
        session->ring = calloc(config->window, sizeof *session->ring);
        if (!session->slots || !session->ring)
            status = lg_fail(error, LG_NO_MEMORY, "no memory for a session of %u shards", config->shard_count);
    }
    if (status == LG_OK)
        status = session_values_init(session, error);
    if (status == LG_OK)
        status = session_codec_init(session, error);
    if (status == LG_OK)
        status = session_push_init(session, error);
    if (status == LG_OK)
        status = session_gate_init(session, config, error);
    if (status == LG_OK)
        status = session_pull_init(session, error);
    for (uint32_t i = 0; status == LG_OK && i < config->shard_count; i++)
        session->slots[i].backoff_ms = BACKOFF_LEAST_MS;
    if (status == LG_OK)
        *out = session;
    else
        session_free(session);
    return status;
}

void session_free(struct session *session) {
    if (!session)
        return;
    session_codec_deinit(session);
    session_push_deinit(session);
    session_pull_deinit(session);
    session_gate_deinit(session);
    session_values_deinit(session);
    free(session->slots);
    free(session->ring);
    parts_deinit(&session->parts);
    free(session);
}

enum lg_status session_status(const struct session *session, struct lg_error *error) {
    if (session->end.status != LG_OK && error)
        *error = session->end;
    return session->end.status;
}

void session_end(struct session *session, enum lg_status status, const char *reason) {
    assert(status != LG_OK && status != LG_UNAVAILABLE);
    if (session->end.status == LG_OK)
        lg_fail(&session->end, status, "%s", reason && reason[0] ? reason : lg_status_text(status));
    session_pull_cancel(session);
}

const struct wire_unit *session_units(const struct session *session, uint32_t slot, uint32_t *count) {
    *count = session->parts.slots[slot].unit_count;
    return session->parts.slots[slot].units;
}

uint64_t session_progress(const struct session *session) {
    return session->progress;
}

bool session_idle(const struct session *session) {
    bool idle = session->pull.state != PULL_ACTIVE && !session->gate.closed;
    for (size_t i = 0; i < SESSION_PUSHES; i++)
        idle = idle && !(session->pushes[i].used && session->pushes[i].unsettled > 0);
    return idle;
}

/* ---- sending */

bool session_credit_allows(const struct slot *slot, uint64_t bytes) {
    return slot->flight_bytes == 0 || slot->flight_bytes + bytes <= slot->credit_bytes;
}

bool session_send(struct session *session, uint32_t slot_index, const struct wire_message *message, int64_t now_ns) {
    struct slot *slot = &session->slots[slot_index];
    if (!session->sink.send(session->sink.context, slot_index, message)) {
        slot->blocked = true;
        return false;
    }
    if (slot->waiting++ == 0)
        slot->heard_ns = now_ns;
    return true;
}

static void send_hello(struct session *session, uint32_t slot_index, int64_t now_ns) {
    struct slot *slot = &session->slots[slot_index];
    uint64_t request = SESSION_HELLO_BIT | ++session->serial;
    struct wire_message message = {.kind = WIRE_HELLO,
                                   .request = request,
                                   .hello = {.session = session->config.session,
                                             .incarnation = session->config.incarnation,
                                             .token = session->config.token,
                                             .job = session->config.job,
                                             .window = session->config.window,
                                             .seq_floor = session->seq_floor}};
    if (!session_send(session, slot_index, &message, now_ns))
        return;
    slot->hello_request = request;
    slot->state = SLOT_GREETING;
}

void session_pump(struct session *session, uint32_t slot_index, int64_t now_ns) {
    struct slot *slot = &session->slots[slot_index];
    if (session->end.status != LG_OK || slot->blocked || now_ns < slot->retry_ns)
        return;
    slot->retry_ns = 0;
    if (slot->state == SLOT_CONNECTED)
        send_hello(session, slot_index, now_ns);
    if (slot->state != SLOT_READY)
        return;
    session_ticket_pump(session, slot_index, now_ns);
    if (session_push_pump(session, slot_index, now_ns) && session_gate_pump(session, slot_index, now_ns))
        session_pull_pump(session, slot_index, now_ns);
}

void session_pump_all(struct session *session, int64_t now_ns) {
    session->window_full = false;
    for (uint32_t i = 0; i < session->config.shard_count; i++)
        session_pump(session, i, now_ns);
}

/* ---- connections */

/* Nothing that was sent on the old connection will be answered any more. */
static void slot_down(struct session *session, uint32_t slot_index) {
    struct slot *slot = &session->slots[slot_index];
    slot->state = SLOT_DOWN;
    slot->blocked = false;
    slot->waiting = 0;
    slot->pushes_flying = 0;
    slot->flight_bytes = 0;
    session_push_lost(session, slot_index);
    session_pull_lost(session, slot_index);
    session_gate_lost(session, slot_index);
}

void session_connected(struct session *session, uint32_t slot_index, int64_t now_ns) {
    assert(slot_index < session->config.shard_count);
    slot_down(session, slot_index);
    session->slots[slot_index].state = SLOT_CONNECTED;
    session_pump(session, slot_index, now_ns);
}

void session_disconnected(struct session *session, uint32_t slot_index, int64_t now_ns) {
    assert(slot_index < session->config.shard_count);
    (void)now_ns;
    slot_down(session, slot_index);
    snprintf(session->slots[slot_index].trouble, sizeof session->slots[slot_index].trouble, "not connected");
}

void session_writable(struct session *session, uint32_t slot_index, int64_t now_ns) {
    assert(slot_index < session->config.shard_count);
    session->slots[slot_index].blocked = false;
    session_pump(session, slot_index, now_ns);
}

void session_drop(struct session *session, uint32_t slot_index, const char *why, int64_t now_ns) {
    session_disconnected(session, slot_index, now_ns);
    snprintf(session->slots[slot_index].trouble, sizeof session->slots[slot_index].trouble, "%s", why);
    session->sink.reopen(session->sink.context, slot_index, why);
}

void session_answered(struct session *session, uint32_t slot_index, uint32_t bytes) {
    struct slot *slot = &session->slots[slot_index];
    assert(slot->waiting > 0 && slot->flight_bytes >= bytes);
    slot->waiting--;
    slot->flight_bytes -= bytes;
}

void session_settled(struct session *session, uint32_t slot_index) {
    session->slots[slot_index].backoff_ms = BACKOFF_LEAST_MS;
    session->slots[slot_index].denials = 0;
    session->progress++;
}

void session_back_off(struct session *session, uint32_t slot_index, const char *reason, int64_t now_ns) {
    struct slot *slot = &session->slots[slot_index];
    snprintf(slot->trouble, sizeof slot->trouble, "%s", reason && reason[0] ? reason : "not ready");
    if (now_ns < slot->retry_ns)
        return; /* one wish for a burst of refusals */
    slot->retry_ns = now_ns + slot->backoff_ms * SESSION_NS_PER_MS;
    slot->backoff_ms = slot->backoff_ms * 2 < BACKOFF_MOST_MS ? slot->backoff_ms * 2 : BACKOFF_MOST_MS;
}

/* ---- answers */

static bool ends_session(uint32_t status) {
    return status == LG_FENCED || status == LG_CANCELLED;
}

/* A shard that does not know this connection, say because a hello of an older one came late, is greeted anew. False:
 * that has not helped, so it is meant. */
bool session_greets_again(struct session *session, uint32_t slot_index, const char *reason, int64_t now_ns) {
    if (++session->slots[slot_index].denials > DENIALS_MAX)
        return false;
    session_drop(session, slot_index, reason, now_ns);
    return true;
}

static void hello_answer(struct session *session, uint32_t slot_index, const struct wire_message *message) {
    struct slot *slot = &session->slots[slot_index];
    const struct wire_hello_reply *reply = &message->hello_reply;
    if (slot->state != SLOT_GREETING || message->request != slot->hello_request)
        return;
    slot->state = SLOT_READY;
    slot->waiting--;
    slot->backoff_ms = BACKOFF_LEAST_MS;
    slot->window = reply->window > 0 ? reply->window : 1;
    slot->credit_bytes = reply->credit_bytes;
    slot->hello_version = reply->version;
    slot->trouble[0] = '\0';
    session->progress++;
}

/* Without a session on the shard nothing can go on; every other refusal may pass. */
static void hello_refused(struct session *session, uint32_t slot_index, const struct wire_error *refusal,
                          int64_t now_ns) {
    struct slot *slot = &session->slots[slot_index];
    if (slot->state != SLOT_GREETING)
        return;
    slot->state = SLOT_CONNECTED;
    slot->waiting--;
    if (refusal->status == LG_DENIED || refusal->status == LG_NOT_FOUND || refusal->status == LG_INVALID ||
        refusal->status == LG_UNSUPPORTED)
        session_end(session, (enum lg_status)refusal->status, refusal->reason);
    else
        session_back_off(session, slot_index, refusal->reason, now_ns);
}

static void refused(struct session *session, uint32_t slot_index, const struct wire_message *message, int64_t now_ns) {
    const struct wire_error *refusal = &message->error;
    uint64_t about = refusal->seq ? refusal->seq : message->request;
    if (ends_session(refusal->status))
        session_end(session, (enum lg_status)refusal->status, refusal->reason);
    else if (about & SESSION_TAG_BIT) {
        const struct wire_error named = {refusal->status, refusal->reason, about};
        if (!session_gate_refused(session, slot_index, &named, now_ns))
            session_pull_refused(session, slot_index, &named, now_ns);
    } else if (about & SESSION_HELLO_BIT) {
        if (about == session->slots[slot_index].hello_request)
            hello_refused(session, slot_index, refusal, now_ns);
    } else if (about != 0)
        session_push_answer(session, slot_index,
                            &(struct wire_message){
                                .kind = WIRE_PUSH_REPLY,
                                .push_reply = {.seq = about, .status = refusal->status, .reason = refusal->reason},
                            },
                            now_ns);
    else /* about nothing that can be named: whatever it was goes again on a new connection */
        session_drop(session, slot_index, refusal->reason, now_ns);
}

void session_receive(struct session *session, uint32_t slot_index, const struct wire_message *message, int64_t now_ns) {
    assert(slot_index < session->config.shard_count);
    struct slot *slot = &session->slots[slot_index];
    if (session->end.status != LG_OK || slot->state == SLOT_DOWN)
        return;
    slot->heard_ns = now_ns;
    switch (message->kind) {
    case WIRE_HELLO_REPLY:
        hello_answer(session, slot_index, message);
        break;
    case WIRE_PUSH_REPLY:
        if (ends_session(message->push_reply.status))
            session_end(session, (enum lg_status)message->push_reply.status, message->push_reply.reason);
        else
            session_push_answer(session, slot_index, message, now_ns);
        break;
    case WIRE_PULL_REPLY:
        session_pull_answer(session, slot_index, message, now_ns);
        break;
    case WIRE_GATE_REPLY:
        session_gate_answer(session, slot_index, &message->gate_reply, now_ns);
        break;
    case WIRE_ERROR:
        refused(session, slot_index, message, now_ns);
        break;
    default:
        session_drop(session, slot_index, "answered with a message that is not for clients", now_ns);
        return;
    }
    if (session->window_full)
        session_pump_all(session, now_ns);
    else
        session_pump(session, slot_index, now_ns);
}

/* ---- time */

static int64_t silence_ends_ns(const struct session *session, const struct slot *slot) {
    return slot->heard_ns + session->config.reply_timeout_ms * SESSION_NS_PER_MS;
}

void session_tick(struct session *session, int64_t now_ns) {
    if (session->end.status != LG_OK)
        return;
    for (uint32_t i = 0; i < session->config.shard_count; i++) {
        struct slot *slot = &session->slots[i];
        if (slot->state != SLOT_DOWN && slot->waiting > 0 && now_ns >= silence_ends_ns(session, slot)) {
            char why[64];
            snprintf(why, sizeof why, "no answer for %.1f s", (double)(now_ns - slot->heard_ns) / 1e9);
            session_drop(session, i, why, now_ns);
        } else if (slot->retry_ns != 0 && now_ns >= slot->retry_ns)
            session_pump(session, i, now_ns);
        else if (slot->state == SLOT_READY)
            session_gate_tick(session, i, now_ns);
    }
}

int64_t session_next_tick_ns(const struct session *session, int64_t now_ns) {
    int64_t next = INT64_MAX;
    for (uint32_t i = 0; session->end.status == LG_OK && i < session->config.shard_count; i++) {
        const struct slot *slot = &session->slots[i];
        if (slot->state == SLOT_DOWN)
            continue;
        if (slot->waiting > 0 && silence_ends_ns(session, slot) < next)
            next = silence_ends_ns(session, slot);
        if (slot->retry_ns != 0 && slot->retry_ns < next)
            next = slot->retry_ns;
        int64_t gate_ns = session_gate_due_ns(session, i);
        next = gate_ns < next ? gate_ns : next;
    }
    if (next == INT64_MAX)
        return -1;
    return next > now_ns ? next - now_ns : 0;
}

void session_describe(const struct session *session, int64_t now_ns, char *text, size_t bytes) {
    if (bytes > 0)
        text[0] = '\0';
    if (session->end.status != LG_OK) {
        snprintf(text, bytes, "the session is over: %s", session->end.message);
        return;
    }
    for (uint32_t i = 0; i < session->config.shard_count; i++) {
        const struct slot *slot = &session->slots[i];
        double silence = (double)(now_ns - slot->heard_ns) / 1e9;
        if (slot->state == SLOT_DOWN || slot->retry_ns != 0)
            snprintf(text, bytes, "shard %u: %s", i, slot->trouble[0] ? slot->trouble : "connecting");
        else if (slot->waiting > 0 && silence * 1e3 >= SILENCE_TOLD_MS)
            snprintf(text, bytes, "shard %u: no answer for %.1f s", i, silence);
        else if (!session_gate_describe(session, i, now_ns, text, bytes))
            continue;
        return;
    }
}
