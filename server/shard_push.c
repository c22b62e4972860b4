/* A push part: admitted, answered from its record if it came before, else decided, applied, recorded, answered. */
#include <assert.h>
#include <stdio.h>

#include "server/schedule.h"
#include "server/shard_state.h"

static bool push_is_skipped(const struct push_part *part) {
    return part->message->push.kind == WIRE_PUSH_KIND_SKIPPED;
}

/* ---- is it in order? */

static enum lg_status check_rights(const struct push_part *part, struct lg_error *error) {
    const struct wire_push *push = &part->message->push;
    if (!part->session->may_push)
        return lg_fail(error, LG_DENIED, "an observer's session may not push");
    if (push->kind == WIRE_PUSH_KIND_INITIAL && !part->session->may_initialise)
        return lg_fail(error, LG_DENIED, "the session may not set initial values: it does not hold that lease");
    for (size_t i = 0; i < push->cover_count; i++)
        if (push->covers[i].session != push->session || push->covers[i].incarnation != push->incarnation)
            return lg_fail(error, LG_UNSUPPORTED, "a push for other sessions is not offered");
    if (push->kind == WIRE_PUSH_KIND_SKIPPED && !consistency_has(part->job->gate.mode, CONSISTENCY_TICKETS))
        return lg_fail(error, LG_INVALID, "pushes are not skipped in consistency.mode \"%s\"",
                       part->job->gate.mode->name);
    return LG_OK;
}

static enum lg_status check_size(struct push_part *part, struct lg_error *error) {
    const struct wire_message *message = part->message;
    if (part->bytes > part->session->credit_bytes)
        return lg_fail(error, LG_NO_CREDIT, "a part of %llu bytes is larger than the credit of %llu: split it",
                       (unsigned long long)part->bytes, (unsigned long long)part->session->credit_bytes);
    if (message->push.part_count == 0 || message->push.part >= message->push.part_count || message->push.seq == 0 ||
        message->push.seq > SHARD_SEQ_MAX)
        return lg_fail(error, LG_INVALID, "a push part needs a seq (1 to 2^62) and a number below its count");
    return message->push.pull ? shard_check_pull(part->job, part->session, message, &part->form, error) : LG_OK;
}

/* Who sends, and what: everything that has to hold for repeated parts too. */
static enum lg_status part_admit(struct shard *shard, const struct shard_input *input, struct push_part *part,
                                 struct lg_error *error) {
    const struct wire_push *push = &input->message->push;
    part->message = input->message;
    enum lg_status status = shard_need_job(shard, push->job, &part->job, error);
    if (status == LG_OK)
        status = shard_need_session(part->job, input, push->session, push->incarnation, push->map_version,
                                    &part->session, error);
    if (status == LG_OK)
        status = check_rights(part, error);
    if (status == LG_OK)
        status = part_resolve(shard, part, error);
    if (status == LG_OK)
        status = check_size(part, error);
    if (status == LG_OK)
        status = ledger_check(&part->job->ledger, push->covers, push->cover_count, error);
    return status;
}

static enum lg_status check_base(const struct push_part *part, struct lg_error *error) {
    uint64_t base = part->message->push.base, now = job_version(part->job);
    if (base <= now)
        return LG_OK;
    return lg_fail(error, LG_INVALID, "the push was computed from version %llu.%llu, but this is only %llu.%llu",
                   (unsigned long long)version_epoch(base), (unsigned long long)version_counter(base),
                   (unsigned long long)version_epoch(now), (unsigned long long)version_counter(now));
}

static enum lg_status check_finite(const struct shard *shard, const struct push_part *part, struct lg_error *error) {
    for (size_t i = 0; i < part->message->unit_count && !push_is_skipped(part); i++)
        if (!part->codec->kernels[shard->config.isa]->finite(part->payload[i], part->units[i]->elements))
            return lg_fail(error, LG_NONFINITE,
                           "the push has NaN or infinite values for \"%s\" (unit %u): lower the learning rate or clip "
                           "gradients",
                           part->units[i]->tensor->name, part->units[i]->number);
    return LG_OK;
}

static enum lg_status check_initialised(const struct push_part *part, struct lg_error *error) {
    if (part->message->push.kind == WIRE_PUSH_KIND_INITIAL || job_initialised(part->job))
        return LG_OK;
    return lg_fail(error, LG_UNAVAILABLE, "\"%s\" has no initial values yet: %u of %u units are set", part->job->name,
                   part->job->units_initialised, part->job->unit_count);
}

/* A round that is over takes nothing more; none is pushed for that has not begun. */
static enum lg_status check_round(struct push_part *part, struct lg_error *error) {
    const struct wire_push *push = &part->message->push;
    part->taken = GATE_PUSH_TAKEN;
    if (!part->job->gated || push->kind == WIRE_PUSH_KIND_INITIAL)
        return LG_OK;
    part->taken = gate_takes(&part->job->gate, push->round);
    if (part->taken != GATE_PUSH_EARLY)
        return LG_OK;
    return lg_fail(error, LG_INVALID, "the push is for round %llu, but this is only round %llu: read first",
                   (unsigned long long)push->round, (unsigned long long)part->job->gate.round);
}

/* What only new parts are asked. */
static enum lg_status part_check(const struct shard *shard, struct push_part *part, struct lg_error *error) {
    enum lg_status status = check_initialised(part, error);
    if (status == LG_OK)
        status = check_base(part, error);
    if (status == LG_OK)
        status = check_round(part, error);
    if (status == LG_OK && shard->config.reject_nonfinite)
        status = check_finite(shard, part, error);
    return status;
}

/* ---- pushes in progress */

void shard_finish_push(struct shard *shard, struct shard_job *job, struct open_push *push, bool announce) {
    if (!push->used)
        return;
    push->used = false;
    if (!push->applied) {
        job->tally.dropped += push->dropped ? push->samples : 0;
        metric_add(job->cells.dropped, push->dropped ? push->samples : 0);
        return;
    }
    if (job_gathers(job)) {
        job->gather.samples += push->samples;
    } else if (announce) {
        const struct shard_decision decision = {.order = shard->order++,
                                                .job = job->id,
                                                .clock = push->clock,
                                                .version_after = version_make(job->epoch, job->counter + 1),
                                                .samples_after = job->samples + push->samples};
        if (shard->sink.decide)
            shard->sink.decide(shard->sink.context, &decision, NULL);
        job->counter++;
        job->samples = decision.samples_after;
        job_publish(job);
    }
    job->tally.pushes++;
    job->tally.samples += push->samples;
    metric_add(job->cells.pushes, 1);
    metric_add(job->cells.applied, push->samples);
}

/* Staleness, weight and learning rate of a push, at its first part. A base of an earlier epoch of the shard counts
 * from the present epoch's beginning. */
static struct open_push push_decide(const struct shard *shard, const struct push_part *part) {
    const struct wire_push *push = &part->message->push;
    const struct shard_job *job = part->job;
    bool old_base = version_epoch(push->base) < job->epoch;
    struct open_push open = {.used = true,
                             .clock = push->clock,
                             .opened = shard->serial,
                             .part_count = push->part_count,
                             .samples = push->samples,
                             .old_base = old_base,
                             .staleness = job->counter - (old_base ? 0 : version_counter(push->base))};
    const struct policy_moment moment = {open.staleness, job_concurrency(job)};
    open.weight =
        push_is_skipped(part) || part->taken == GATE_PUSH_LATE ? 0 : job->policy->weight(job->policy_values, &moment);
    open.learning_rate = schedule_rate(&job->config, job->train_samples, job->samples + push->samples);
    return open;
}

/* The place of this (session, clock); a new push may end the oldest one that never got its last part. */
static struct open_push *push_slot(struct shard *shard, struct push_part *part) {
    struct open_push *pushes = part->session->pushes, *chosen = NULL;
    for (int i = 0; i < SHARD_PUSHES_OPEN; i++)
        if (pushes[i].used && pushes[i].clock == part->message->push.clock)
            return &pushes[i];
    for (int i = 0; i < SHARD_PUSHES_OPEN; i++)
        if (!chosen || (chosen->used && (!pushes[i].used || pushes[i].opened < chosen->opened)))
            chosen = &pushes[i];
    shard_finish_push(shard, part->job, chosen, true);
    return chosen;
}

/* ---- answering */

static void count_outcome(struct push_part *part, size_t i, uint16_t outcome, struct shard *shard,
                          struct wire_push_reply *reply) {
    const struct wire_push *push = &part->message->push;
    if (outcome == DEDUP_APPLIED || outcome == DEDUP_SKIPPED)
        reply->units_applied++;
    else if (outcome == DEDUP_REPEATED)
        reply->units_repeated++;
    else if (outcome == DEDUP_CUT)
        ledger_cuts(&part->job->ledger, (uint32_t)(part->units[i] - part->job->units), push->covers, push->cover_count,
                    shard->cuts, SHARD_CUTS_MAX, &reply->cut_count);
}

/* The base of pushes that will be computed from values of now: with this push counted as whole, though parts may be to
 * come, since it will be when the next one arrives. A push that has changed nothing, or ended, moves no counter. */
static uint64_t values_version(const struct push_part *part) {
    const struct open_push *pushes = part->session->pushes;
    bool moves = false;
    for (int i = 0; i < SHARD_PUSHES_OPEN; i++)
        moves = moves || (pushes[i].used && pushes[i].clock == part->message->push.clock && pushes[i].applied);
    moves = moves && !job_gathers(part->job);
    return version_make(part->job->epoch, part->job->counter + moves);
}

static const char *why_dropped(const struct push_part *part) {
    if (push_is_skipped(part))
        return "it was skipped";
    if (consistency_has(part->job->gate.mode, CONSISTENCY_ROUNDS))
        return "its round was over";
    return "the staleness policy gave it weight zero";
}

/* The reply's cuts are in shard->cuts. With values where the push asked for them. */
static void push_answer(struct shard *shard, const struct shard_input *input, struct push_part *part,
                        const struct wire_push_reply *answer) {
    struct wire_message reply = {.kind = WIRE_PUSH_REPLY, .push_reply = *answer};
    struct lg_error error = {0};
    reply.push_reply.seq = part->message->push.seq;
    reply.push_reply.cuts = shard->cuts;
    reply.push_reply.reason = answer->status == LG_DROPPED ? why_dropped(part) : "";
    reply.push_reply.values_version = values_version(part);
    if (part->message->push.pull && shard_add_values(shard, part->job, part->session, part->message, part->units,
                                                     &part->form, &reply, NULL, &error) != LG_OK) {
        reply.push_reply.reason = error.message; /* applied all the same: the client asks again */
        reply.push_reply.values_version = 0;
    }
    shard_send(shard, input, &reply);
    shard_release_values(shard, reply.payload_count);
}

static void push_refuse(struct shard *shard, const struct shard_input *input, const struct lg_error *error) {
    struct wire_message reply = {.kind = WIRE_PUSH_REPLY};
    reply.push_reply =
        (struct wire_push_reply){.seq = input->message->push.seq, .status = error->status, .reason = error->message};
    shard_count_refusal(shard, error->status);
    shard_send(shard, input, &reply);
}

/* The same answer as before; the pull half is carried out anew. */
static enum lg_status push_repeat(struct shard *shard, const struct shard_input *input, struct push_part *part,
                                  const struct dedup_slot *slot, struct lg_error *error) {
    const struct dedup *dedup = &part->session->dedup;
    const struct wire_message *message = part->message;
    bool same = slot->count == message->unit_count;
    for (uint32_t i = 0; same && i < slot->count; i++)
        same = dedup_record(dedup, slot, i)->unit == message->units[i].unit;
    if (!same)
        return lg_fail(error, LG_INVALID, "seq %llu was used before, for other units",
                       (unsigned long long)message->push.seq);
    const struct dedup_record *first = dedup_record(dedup, slot, 0);
    struct wire_push_reply reply = {
        .status = first->status, .staleness = first->staleness, .weight = first->weight, .version = first->version};
    for (uint32_t i = 0; i < slot->count; i++)
        count_outcome(part, i, dedup_record(dedup, slot, i)->outcome, shard, &reply);
    part->job->tally.duplicates++;
    metric_add(part->job->cells.duplicates, 1);
    push_answer(shard, input, part, &reply);
    return LG_OK;
}

/* ---- applying */

/* The push is whole on this shard: others may have waited for it. */
static void push_whole(struct shard *shard, struct push_part *part) {
    gate_pushed(&part->job->gate, &part->session->gate, part->message->push.round, push_is_skipped(part),
                shard->now_ns);
    shard_gate_settle(shard, part->job);
}

/* Decides, tells the sink, applies; everything that could fail has been done. */
static void part_apply(struct shard *shard, struct push_part *part, struct open_push *open,
                       struct shard_decision *decision) {
    const struct wire_push *push = &part->message->push;
    bool initial = push->kind == WIRE_PUSH_KIND_INITIAL, gathers = !initial && job_gathers(part->job);
    bool last = !initial && open->parts + 1 == open->part_count;
    for (size_t i = 0; i < part->message->unit_count; i++) {
        open->applied = open->applied || part->applied[i];
        open->dropped = open->dropped || part->outcomes[i] == DEDUP_DROPPED;
    }
    bool moves = last && open->applied && !gathers;
    *decision = (struct shard_decision){
        .kind = gathers ? SHARD_DECISION_GATHER : SHARD_DECISION_APPLY,
        .order = shard->order++,
        .job = part->job->id,
        .session = push->session,
        .incarnation = push->incarnation,
        .seq = push->seq,
        .clock = push->clock,
        .staleness = open->staleness,
        .weight = part->taken == GATE_PUSH_LATE ? 0 : open->weight,
        .learning_rate = open->learning_rate,
        .version_after = version_make(part->job->epoch, part->job->counter + moves),
        .samples_after = part->job->samples + (moves ? open->samples : 0),
        .unit_steps = part->steps,
        .unit_applied = part->applied,
    };
    if (shard->sink.decide)
        shard->sink.decide(shard->sink.context, decision, part->message);
    shard_apply(shard, part, decision);
    open->parts++;
    if (last)
        shard_finish_push(shard, part->job, open, false);
    if (last && part->job->gated)
        push_whole(shard, part);
}

/* Records and counts what became of the part, and makes its answer. */
static struct wire_push_reply part_record(struct shard *shard, struct push_part *part,
                                          const struct shard_decision *decision) {
    struct wire_push_reply reply = {.status = LG_OK,
                                    .staleness = decision->staleness,
                                    .weight = decision->weight,
                                    .rate = (float)decision->learning_rate,
                                    .version = job_version(part->job)};
    for (size_t i = 0; i < part->message->unit_count; i++) {
        if (part->outcomes[i] == DEDUP_DROPPED)
            reply.status = LG_DROPPED;
        count_outcome(part, i, part->outcomes[i], shard, &reply);
    }
    for (size_t i = 0; i < part->message->unit_count; i++)
        dedup_add(&part->session->dedup,
                  &(struct dedup_record){.seq = part->message->push.seq,
                                         .version = reply.version,
                                         .unit = part->units[i]->number,
                                         .staleness = decision->staleness < UINT32_MAX ? (uint32_t)decision->staleness
                                                                                       : UINT32_MAX,
                                         .weight = decision->weight,
                                         .status = (uint16_t)reply.status,
                                         .outcome = part->outcomes[i]});
    if (reply.units_repeated == part->message->unit_count) {
        part->job->tally.duplicates++;
        metric_add(part->job->cells.duplicates, 1);
    }
    return reply;
}

static void count_push(struct shard_job *job, const struct open_push *open) {
    tally_observe(&job->tally, open->staleness, open->weight);
    job->tally.old_bases += open->old_base;
    metric_observe(job->cells.staleness, (double)open->staleness);
    metric_observe(job->cells.weight, (double)open->weight);
    metric_add(job->cells.old_bases, open->old_base);
}

static enum lg_status part_take(struct shard *shard, const struct shard_input *input, struct push_part *part,
                                struct lg_error *error) {
    const struct wire_push *push = &part->message->push;
    struct open_push fresh = {.used = true, .part_count = push->part_count, .weight = 1}, *open = &fresh;
    struct open_push *slot = NULL;
    if (push->kind != WIRE_PUSH_KIND_INITIAL) {
        slot = push_slot(shard, part);
        if (slot->used && slot->part_count != push->part_count)
            return lg_fail(error, LG_INVALID, "clock %llu came with %u parts and with %u",
                           (unsigned long long)push->clock, slot->part_count, push->part_count);
        fresh = slot->used ? *slot : push_decide(shard, part);
    }
    enum lg_status status = part_plan(part, part->taken == GATE_PUSH_LATE ? 0 : open->weight, error);
    if (status == LG_OK && !dedup_reserve(&part->session->dedup, (uint32_t)part->message->unit_count))
        status = lg_fail(error, LG_UNAVAILABLE, "no memory for the records of a push");
    if (status != LG_OK)
        return status;
    if (slot) {
        if (!slot->used && !push_is_skipped(part) && part->taken != GATE_PUSH_LATE)
            count_push(part->job, &fresh);
        *slot = fresh;
        open = slot;
    }
    struct shard_decision decision;
    part_apply(shard, part, open, &decision);
    struct wire_push_reply reply = part_record(shard, part, &decision);
    push_answer(shard, input, part, &reply);
    return LG_OK;
}

static int64_t clock_of(const struct shard *shard) {
    return shard->sink.clock_ns ? shard->sink.clock_ns(shard->sink.context) : 0;
}

void shard_handle_push(struct shard *shard, const struct shard_input *input) {
    struct push_part *part = &shard->part;
    const struct dedup_slot *slot = NULL;
    struct lg_error error = {0};
    int64_t started_ns = clock_of(shard);
    enum lg_status status = part_admit(shard, input, part, &error);
    if (status == LG_OK) {
        dedup_raise_floor(&part->session->dedup, input->message->push.seq_floor);
        part->job->tally.push_bytes += part->bytes;
        metric_add(part->job->cells.push_parts, 1);
        metric_add(part->job->cells.push_bytes, part->bytes);
        part->job->tally.pull_bytes += input->message->push.read_bytes;
        part->job->tally.pulls += input->message->push.read_bytes > 0;
        metric_add(part->job->cells.pull_bytes, input->message->push.read_bytes);
        switch (dedup_find(&part->session->dedup, input->message->push.seq, &slot)) {
        case DEDUP_STALE:
            status = lg_fail(&error, LG_STALE, "seq %llu is older than what is remembered: it was settled before",
                             (unsigned long long)input->message->push.seq);
            break;
        case DEDUP_KNOWN:
            status = push_repeat(shard, input, part, slot, &error);
            break;
        case DEDUP_NEW:
            status = part_check(shard, part, &error);
            if (status == LG_OK)
                status = part_take(shard, input, part, &error);
            if (status == LG_OK && shard->sink.clock_ns)
                metric_observe(part->job->cells.apply_seconds, (double)(clock_of(shard) - started_ns) * 1e-9);
            break;
        }
    }
    if (status != LG_OK)
        push_refuse(shard, input, &error);
}
