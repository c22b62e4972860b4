/* From a decision to changed parameters: what a live push and a replay share. */
#include <assert.h>

#include "server/shard_state.h"

static bool is_initial(const struct push_part *part) {
    return part->message->push.kind == WIRE_PUSH_KIND_INITIAL;
}

/* ---- before the decision */

/* Codecs lose some of what they are given: initial values are given whole, and a codec that is for changes has none of
 * the tensors that take values. */
static enum lg_status check_codec(const struct push_part *part, struct lg_error *error) {
    if (is_initial(part) && !part->codec->exact)
        return lg_fail(error, LG_INVALID, "initial values are not sent as %s: send f32", part->codec->name);
    for (size_t i = 0; part->codec->changes_only && i < part->message->unit_count; i++)
        if (part->units[i]->tensor->update != TENSOR_UPDATE_GRADIENT)
            return lg_fail(error, LG_INVALID, "\"%s\" takes values, and they are not sent as %s: send f32",
                           part->units[i]->tensor->name, part->codec->name);
    return LG_OK;
}

enum lg_status part_resolve(struct shard *shard, struct push_part *part, struct lg_error *error) {
    const struct wire_message *message = part->message;
    if (message->unit_count == 0 || message->unit_count > WIRE_UNITS_MAX)
        return lg_fail(error, LG_INVALID, "a push part has %zu units: 1 to %d are possible", message->unit_count,
                       WIRE_UNITS_MAX);
    enum lg_status status = codec_of_wire(message->push.dtype, message->push.codec, &part->codec, error);
    if (status == LG_OK)
        status = shard_find_units(shard, part->job, message, part->units, error);
    if (status == LG_OK)
        status = check_codec(part, error);
    if (message->push.kind == WIRE_PUSH_KIND_SKIPPED)
        part->bytes = 0;
    else if (status == LG_OK)
        status = payload_locate(message, part->codec, part->payload, &part->bytes, error);
    return status;
}

/* Initial values overwrite until the first gradient was applied, so that a second initialiser may finish what a first
 * one began; afterwards they change nothing. */
static enum dedup_outcome initial_outcome(const struct shard_job *job) {
    return job->trained ? DEDUP_REPEATED : DEDUP_APPLIED;
}

static enum dedup_outcome gradient_outcome(const struct push_part *part, size_t i, float weight) {
    const struct wire_push *push = &part->message->push;
    uint32_t local = (uint32_t)(part->units[i] - part->job->units);
    switch (ledger_overlap(&part->job->ledger, local, push->covers, push->cover_count)) {
    case INTERVALS_ALL:
        return DEDUP_REPEATED;
    case INTERVALS_PARTLY:
        return DEDUP_CUT;
    case INTERVALS_NONE:
        break;
    }
    return weight == 0 ? DEDUP_DROPPED : part->units[i]->tensor->frozen ? DEDUP_SKIPPED : DEDUP_APPLIED;
}

static bool consumes(uint16_t outcome) {
    return outcome == DEDUP_APPLIED || outcome == DEDUP_SKIPPED || outcome == DEDUP_DROPPED;
}

enum lg_status part_plan(struct push_part *part, float weight, struct lg_error *error) {
    const struct wire_push *push = &part->message->push;
    for (size_t i = 0; i < part->message->unit_count; i++) {
        struct unit *unit = part->units[i];
        enum dedup_outcome outcome = is_initial(part) ? initial_outcome(part->job) : gradient_outcome(part, i, weight);
        part->outcomes[i] = (uint16_t)outcome;
        part->applied[i] = outcome == DEDUP_APPLIED;
        part->steps[i] = part->applied[i] && !is_initial(part) && !job_gathers(part->job) ? unit->steps + 1 : 0;
        if (is_initial(part) || !consumes(part->outcomes[i]))
            continue;
        enum lg_status status = ledger_reserve(&part->job->ledger, (uint32_t)(unit - part->job->units), push->covers,
                                               push->cover_count, error);
        if (status != LG_OK)
            return status;
    }
    return LG_OK;
}

/* ---- the decision, applied */

/* What the part does to unit i. Scalars follow from the recorded decision alone. */
static struct unit_change change_of(const struct shard *shard, const struct push_part *part, size_t i,
                                    const struct shard_decision *decision) {
    const struct shard_job *job = part->job;
    const struct tensor_spec *tensor = part->units[i]->tensor;
    struct unit_change change = {.kind = UNIT_CHANGE_UPDATE, .codec = part->codec->kernels[shard->config.isa]};
    if (is_initial(part) || tensor->update == TENSOR_UPDATE_ASSIGN) {
        change.kind = UNIT_CHANGE_ASSIGN;
    } else if (tensor->update == TENSOR_UPDATE_AVERAGE) {
        change.kind = UNIT_CHANGE_AVERAGE;
        change.rate = decision->weight * (tensor->lr_factor < 1 ? tensor->lr_factor : 1);
    } else {
        const struct updater_moment moment = {
            .learning_rate = decision->learning_rate * tensor->lr_factor,
            .weight = decision->weight,
            .weight_decay = tensor->no_weight_decay ? 0 : (float)job->config.weight_decay,
            .step = decision->unit_steps[i],
        };
        change.negate = part->message->push.sign == WIRE_SIGN_ADD;
        change.apply = job->updater->apply[shard->config.isa];
        job->updater->decide(job->updater_values, &moment, change.scalars);
    }
    return change;
}

/* What the policy does to the gradient before the updater gets it; NULL: nothing. */
static const struct unit_compensation *compensation_of(const struct shard *shard, const struct push_part *part,
                                                       size_t i, const struct shard_decision *decision,
                                                       struct unit_compensation *out) {
    const struct compensation *compensation = part->job->policy->compensation;
    const struct shadow *shadow = part->session ? part->session->shadow : NULL;
    const struct unit *unit = part->units[i];
    if (!compensation)
        return NULL;
    *out = (struct unit_compensation){
        .compensate = compensation->compensate[shard->config.isa],
        .learn = compensation->learn ? compensation->learn[shard->config.isa] : NULL,
    };
    if (shadow && shadow_version(shadow, unit) != 0) {
        out->held = shadow_values(shadow, unit);
        out->mine = shadow_extra(shadow, unit);
    }
    const struct compensation_moment moment = {.learning_rate = decision->learning_rate * unit->tensor->lr_factor,
                                               .step = decision->unit_steps[i]};
    compensation->decide(part->job->policy_values, &moment, out->scalars);
    return out;
}

static void apply_unit(const struct shard *shard, struct push_part *part, size_t i,
                       const struct shard_decision *decision) {
    struct unit *unit = part->units[i];
    struct unit_compensation compensation;
    struct unit_change change = change_of(shard, part, i, decision);
    if (change.kind == UNIT_CHANGE_UPDATE)
        change.compensation = compensation_of(shard, part, i, decision, &compensation);
    unit_apply(unit, &change, part->payload[i]);
    /* The version that the job will have when this push is done; initial values are no update. */
    unit_touch(unit, version_make(part->job->epoch, part->job->counter + !is_initial(part)));
    if (is_initial(part)) {
        part->job->units_initialised += !unit->initialised;
        unit->initialised = true;
    } else {
        unit->steps = decision->unit_steps[i];
        part->job->trained = true;
    }
}

static void gather_unit_part(const struct shard *shard, struct push_part *part, size_t i,
                             const struct shard_decision *decision) {
    struct shard_job *job = part->job;
    struct unit *unit = part->units[i];
    const struct wire_push *push = &part->message->push;
    bool negate = push->sign == WIRE_SIGN_ADD && unit->tensor->update == TENSOR_UPDATE_GRADIENT;
    gather_add(&job->gather.units[unit - job->units], part->codec->kernels[shard->config.isa], part->payload[i],
               unit->elements, decision->weight, push->samples, negate);
    job->gate.gathered = job->trained = true;
}

void shard_apply(struct shard *shard, struct push_part *part, const struct shard_decision *decision) {
    const struct wire_push *push = &part->message->push;
    struct shard_job *job = part->job;
    for (size_t i = 0; i < part->message->unit_count; i++) {
        if (decision->unit_applied[i] && decision->kind == SHARD_DECISION_GATHER)
            gather_unit_part(shard, part, i, decision);
        else if (decision->unit_applied[i])
            apply_unit(shard, part, i, decision);
        if (!is_initial(part) && consumes(part->outcomes[i]))
            ledger_mark(&job->ledger, (uint32_t)(part->units[i] - job->units), push->covers, push->cover_count,
                        part->outcomes[i] == DEDUP_DROPPED);
    }
    if (!is_initial(part))
        ledger_fold(&job->ledger);
    job->counter = version_counter(decision->version_after);
    job->samples = decision->samples_after;
    job_publish(job);
}

/* ---- replay */

static enum lg_status check_decision(const struct shard *shard, const struct shard_job *job,
                                     const struct shard_decision *decision, struct lg_error *error) {
    if (decision->order != shard->order)
        return lg_fail(error, LG_INVALID, "decision %llu was expected, this is %llu", (unsigned long long)shard->order,
                       (unsigned long long)decision->order);
    if (version_epoch(decision->version_after) != job->epoch || version_counter(decision->version_after) < job->counter)
        return lg_fail(error, LG_INVALID, "decision %llu leads to a version that does not follow from this shard's",
                       (unsigned long long)decision->order);
    return LG_OK;
}

/* A replay starts from the same state, so every unit must come out as it did. */
static enum lg_status check_outcomes(const struct push_part *part, const struct shard_decision *decision,
                                     struct lg_error *error) {
    for (size_t i = 0; i < part->message->unit_count; i++)
        if (part->applied[i] != decision->unit_applied[i] || part->steps[i] != decision->unit_steps[i])
            return lg_fail(error, LG_INVALID, "decision %llu does not fit unit %u as it is on this shard",
                           (unsigned long long)decision->order, part->units[i]->number);
    return LG_OK;
}

enum lg_status shard_replay(struct shard *shard, const struct shard_decision *decision, const struct wire_message *push,
                            struct lg_error *error) {
    struct push_part *part = &shard->part;
    struct shard_job *job;
    shard->serial++;
    enum lg_status status = shard_need_job(shard, decision->job, &job, error);
    if (status == LG_OK && job->policy->compensation)
        status = lg_fail(error, LG_UNSUPPORTED,
                         "\"%s\" changes gradients by what their senders had read: decisions alone do not say that",
                         job->policy->name);
    if (status == LG_OK)
        status = check_decision(shard, job, decision, error);
    if (status == LG_OK && !push && decision->kind == SHARD_DECISION_COMMIT && job_gathers(job)) {
        shard_commit(shard, job, decision);
        job->gate.gathered = false;
        shard->order++;
        return LG_OK;
    }
    if (status == LG_OK && !push) {
        job->counter = version_counter(decision->version_after);
        job->samples = decision->samples_after;
        job_publish(job);
        shard->order++;
        return LG_OK;
    }
    if (status != LG_OK)
        return status;
    part->job = job;
    part->session = NULL;
    part->message = push;
    status = part_resolve(shard, part, error);
    if (status == LG_OK)
        status = ledger_check(&job->ledger, push->push.covers, push->push.cover_count, error);
    if (status == LG_OK)
        status = part_plan(part, decision->weight, error);
    if (status == LG_OK)
        status = check_outcomes(part, decision, error);
    if (status != LG_OK)
        return status;
    shard_apply(shard, part, decision);
    shard->order++;
    return LG_OK;
}
