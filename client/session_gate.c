/* Gates: what a session asks before it pulls and pushes, in consistency modes in which somebody may have to wait.
 *
 * READ goes to every shard with units before a pull, once the session's pushes are answered there, so that a shard
 * knows what the session has done when it decides. In modes with rounds the shards may answer with different rounds:
 * those behind are asked again for the greatest, until all agree; the next push is for that round. REST says that the
 * session has nothing to train on. A TICKET is asked of one shard when a push's gradients are there; without one the
 * push is sent as skipped.
 *
 * Questions keep their tag over lost connections, and are asked again when an answer takes long: it may have been lost,
 * and the shard's "still parked" shows that it lives. */
#include "client/session_internal.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

static bool has(const struct session *session, unsigned flags) {
    return consistency_has(session->gate.mode, flags);
}

/* ---- life */

enum lg_status session_gate_init(struct session *session, const struct session_config *config, struct lg_error *error) {
    struct session_gate *gate = &session->gate;
    gate->mode = config->mode ? config->mode : consistency_find("async");
    gate->lead = config->placement_count > 0 ? config->placement[0] : 0;
    gate->slots = calloc(config->shard_count, sizeof *gate->slots);
    return gate->slots ? LG_OK : lg_fail(error, LG_NO_MEMORY, "no memory for the gates of a session");
}

void session_gate_deinit(struct session *session) {
    free(session->gate.slots);
}

/* ---- questions */

/* No answer is awaited any more. */
static void question_over(struct session *session, struct slot_gate *question, uint32_t slot_index) {
    if (question->probing) {
        assert(session->slots[slot_index].waiting > 0);
        session->slots[slot_index].waiting--;
    }
    question->probing = false;
    question->state = SLOT_GATE_IDLE;
}

static void question_want(struct session *session, struct slot_gate *question, uint32_t slot_index,
                          enum wire_gate_kind kind, uint64_t round) {
    question_over(session, question, slot_index);
    question->state = SLOT_GATE_WANTED;
    question->kind = kind;
    question->round = round;
    question->tag = 0;
}

/* A first question is not waited for: it may be parked for long. */
static void question_send(struct session *session, struct slot_gate *question, uint32_t slot_index, bool probe,
                          int64_t now_ns) {
    struct slot *slot = &session->slots[slot_index];
    if (question->tag == 0) /* tags rise in the order in which the shard sees them */
        question->tag = SESSION_TAG_BIT | (++session->serial << SESSION_TAG_PART_BITS);
    struct wire_message message = {.kind = WIRE_GATE,
                                   .request = question->tag,
                                   .gate = {.session = session->config.session,
                                            .incarnation = session->config.incarnation,
                                            .job = session->config.job,
                                            .map_version = session->config.map_version,
                                            .tag = question->tag,
                                            .kind = question->kind,
                                            .round = question->round}};
    if (!session_send(session, slot_index, &message, now_ns))
        return;
    slot->waiting -= !probe;
    question->probing = probe;
    if (question->state == SLOT_GATE_WANTED)
        question->sent_ns = now_ns;
    question->state = SLOT_GATE_SENT;
    question->again_ns = now_ns + session->config.reply_timeout_ms * SESSION_NS_PER_MS;
}

static bool pushes_settled(const struct session *session, uint32_t slot_index) {
    for (size_t i = 0; i < SESSION_PUSHES; i++) {
        const struct push *push = &session->pushes[i];
        for (uint32_t at = 0; push->used && at < session->parts.slots[slot_index].push_count; at++)
            if (push->slots[slot_index].parts[at].state != PUSH_PART_SETTLED)
                return false;
    }
    return true;
}

bool session_gate_pump(struct session *session, uint32_t slot_index, int64_t now_ns) {
    struct slot_gate *question = &session->gate.slots[slot_index].question;
    if (!session->gate.closed)
        return true;
    if (question->state == SLOT_GATE_WANTED && pushes_settled(session, slot_index))
        question_send(session, question, slot_index, false, now_ns);
    return false;
}

void session_ticket_pump(struct session *session, uint32_t slot_index, int64_t now_ns) {
    struct session_gate *gate = &session->gate;
    if (gate->ticket.state == SLOT_GATE_WANTED && slot_index == gate->lead)
        question_send(session, &gate->ticket, slot_index, false, now_ns);
}

void session_gate_lost(struct session *session, uint32_t slot_index) {
    struct session_gate *gate = &session->gate;
    struct slot_gate *questions[] = {&gate->slots[slot_index].question, &gate->ticket};
    for (size_t i = 0; i < 2; i++) {
        if (questions[i]->state != SLOT_GATE_SENT || (i == 1 && slot_index != gate->lead))
            continue;
        questions[i]->state = SLOT_GATE_WANTED; /* with its tag; what was waited for on the slot is forgotten there */
        questions[i]->probing = false;
    }
}

/* ---- reads and rests */

/* Asks every shard with units; pulls wait until all have answered. */
static void gate_ask(struct session *session, enum wire_gate_kind kind, uint64_t round) {
    struct session_gate *gate = &session->gate;
    gate->unanswered = 0;
    for (uint32_t i = 0; i < session->config.shard_count; i++) {
        if (session->parts.slots[i].unit_count == 0)
            continue;
        question_want(session, &gate->slots[i].question, i, kind, round);
        gate->unanswered++;
    }
    gate->closed = gate->unanswered > 0;
    gate->agreed = gate->agreed && kind != WIRE_GATE_KIND_READ;
}

void session_gate_pull(struct session *session) {
    if (has(session, CONSISTENCY_READS) && !session->gate.resting)
        gate_ask(session, WIRE_GATE_KIND_READ, session->gate.next_round);
}

void session_rest(struct session *session, bool applied, int64_t now_ns) {
    struct session_gate *gate = &session->gate;
    if (!has(session, CONSISTENCY_RESTS) || session->end.status != LG_OK || (gate->resting && !applied))
        return;
    gate->resting = true;
    gate_ask(session, WIRE_GATE_KIND_REST, applied ? gate->next_round : 0);
    session_pump_all(session, now_ns);
}

void session_work(struct session *session) {
    session->gate.resting = false;
}

bool session_at_rest(const struct session *session) {
    return !session->gate.closed;
}

/* All have answered; those behind the greatest round are asked again. */
static void gate_answered(struct session *session, enum wire_gate_kind kind) {
    struct session_gate *gate = &session->gate;
    uint64_t greatest = 0;
    bool rounds = kind == WIRE_GATE_KIND_READ && has(session, CONSISTENCY_ROUNDS);
    for (uint32_t i = 0; i < session->config.shard_count; i++)
        if (session->parts.slots[i].unit_count > 0 && gate->slots[i].round > greatest)
            greatest = gate->slots[i].round;
    for (uint32_t i = 0; rounds && i < session->config.shard_count; i++) {
        if (session->parts.slots[i].unit_count == 0 || gate->slots[i].round == greatest)
            continue;
        question_want(session, &gate->slots[i].question, i, WIRE_GATE_KIND_READ, greatest);
        gate->unanswered++;
    }
    if (gate->unanswered > 0)
        return;
    gate->closed = false;
    if (rounds) {
        gate->agreed = true;
        gate->round = greatest;
    }
}

/* ---- pushes */

enum lg_status session_gate_push(struct session *session, struct push *push, const struct session_push *spec,
                                 struct lg_error *error) {
    struct session_gate *gate = &session->gate;
    push->round = 0;
    push->ticket_wanted = false;
    if (gate->mode->flags == 0 || spec->kind == WIRE_PUSH_KIND_INITIAL)
        return LG_OK;
    if (spec->parameters && has(session, CONSISTENCY_READS))
        return lg_fail(error, LG_INVALID, "a push brings no parameters in consistency.mode \"%s\": pull them",
                       gate->mode->name);
    if (!has(session, CONSISTENCY_ROUNDS))
        return LG_OK;
    if (!gate->agreed)
        return lg_fail(error, LG_INVALID, "in consistency.mode \"%s\" every push needs a pull before it",
                       gate->mode->name);
    gate->agreed = false;
    push->round = gate->round;
    gate->next_round = gate->round + !has(session, CONSISTENCY_REPEATS);
    push->ticket_wanted = has(session, CONSISTENCY_TICKETS);
    return LG_OK;
}

void session_gate_push_ready(struct session *session, const struct push *push) {
    struct session_gate *gate = &session->gate;
    if (push->ticket_wanted)
        question_want(session, &gate->ticket, gate->lead, WIRE_GATE_KIND_TICKET, push->round);
}

static void ticket_answered(struct session *session, bool granted) {
    struct session_gate *gate = &session->gate;
    for (size_t i = 0; i < SESSION_PUSHES; i++) {
        struct push *push = &session->pushes[i];
        if (!push->used || !push->ticket_wanted)
            continue;
        push->ticket_wanted = false;
        if (granted)
            continue;
        push->spec.kind = WIRE_PUSH_KIND_SKIPPED;
        push->result.skipped = true;
        gate->next_round = push->round + 1;
    }
}

/* ---- answers */

static struct slot_gate *question_of(struct session *session, uint32_t slot_index, uint64_t tag) {
    struct session_gate *gate = &session->gate;
    struct slot_gate *questions[] = {&gate->slots[slot_index].question, &gate->ticket};
    for (size_t i = 0; i < 2; i++)
        if (questions[i]->state == SLOT_GATE_SENT && questions[i]->tag == tag && (i == 0 || slot_index == gate->lead))
            return questions[i];
    return NULL;
}

void session_gate_answer(struct session *session, uint32_t slot_index, const struct wire_gate_reply *reply,
                         int64_t now_ns) {
    struct session_gate *gate = &session->gate;
    struct slot_gate *question = question_of(session, slot_index, reply->tag);
    if (!question)
        return; /* answered before, or no longer asked */
    question_over(session, question, slot_index);
    session_settled(session, slot_index);
    if (reply->status == LG_UNAVAILABLE) {
        question->state = SLOT_GATE_SENT;
        question->again_ns = now_ns + session->config.reply_timeout_ms * SESSION_NS_PER_MS;
        return;
    }
    if (question == &gate->ticket) {
        ticket_answered(session, reply->status == LG_OK);
        session_pump_all(session, now_ns);
        return;
    }
    gate->slots[slot_index].round = reply->round;
    if (--gate->unanswered > 0)
        return;
    gate_answered(session, question->kind);
    session_pump_all(session, now_ns);
}

bool session_gate_refused(struct session *session, uint32_t slot_index, const struct wire_error *refusal,
                          int64_t now_ns) {
    struct slot_gate *question = question_of(session, slot_index, refusal->seq);
    if (!question)
        return false;
    if (refusal->status == LG_DENIED && session_greets_again(session, slot_index, refusal->reason, now_ns))
        return true;
    uint64_t tag = question->tag;
    question_over(session, question, slot_index);
    if (refusal->status == LG_UNAVAILABLE || refusal->status == LG_NO_CREDIT || refusal->status == LG_STALE) {
        question->state = SLOT_GATE_WANTED;
        question->tag = refusal->status == LG_STALE ? 0 : tag;
        session_back_off(session, slot_index, refusal->reason, now_ns);
    } else
        session_end(session, (enum lg_status)refusal->status, refusal->reason);
    return true;
}

/* ---- time */

int64_t session_gate_due_ns(const struct session *session, uint32_t slot_index) {
    const struct session_gate *gate = &session->gate;
    const struct slot_gate *question = &gate->slots[slot_index].question;
    int64_t due_ns = INT64_MAX;
    if (question->state == SLOT_GATE_SENT && !question->probing)
        due_ns = question->again_ns;
    if (slot_index == gate->lead && gate->ticket.state == SLOT_GATE_SENT && !gate->ticket.probing &&
        gate->ticket.again_ns < due_ns)
        due_ns = gate->ticket.again_ns;
    return due_ns;
}

void session_gate_tick(struct session *session, uint32_t slot_index, int64_t now_ns) {
    struct session_gate *gate = &session->gate;
    struct slot_gate *questions[] = {&gate->slots[slot_index].question, &gate->ticket};
    for (size_t i = 0; i < 2; i++)
        if (questions[i]->state == SLOT_GATE_SENT && !questions[i]->probing && now_ns >= questions[i]->again_ns &&
            (i == 0 || slot_index == gate->lead) && !session->slots[slot_index].blocked)
            question_send(session, questions[i], slot_index, true, now_ns);
}

bool session_parked(const struct session *session) {
    bool asked = session->gate.closed && session->pull.state == PULL_ACTIVE;
    for (uint32_t i = 0; asked && i < session->config.shard_count; i++)
        if (session->gate.slots[i].question.state == SLOT_GATE_SENT)
            return true;
    return false;
}

bool session_gate_describe(const struct session *session, uint32_t slot_index, int64_t now_ns, char *text,
                           size_t bytes) {
    const struct slot_gate *question = &session->gate.slots[slot_index].question;
    double waited = (double)(now_ns - question->sent_ns) / 1e9;
    if (question->state != SLOT_GATE_SENT || waited < 1)
        return false;
    snprintf(text, bytes, "shard %u: waiting for other workers for %.1f s (consistency.mode %s)", slot_index, waited,
             session->gate.mode->name);
    return true;
}
