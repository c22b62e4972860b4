/* Gates on a shard: what sessions ask, who is let pass, and the commit of what was gathered. */
#include <stddef.h>

#include "server/schedule.h"
#include "server/shard_state.h"

/* ---- commits */

/* One step of every unit that something was gathered for. */
static void unit_commit(const struct shard *shard, struct shard_job *job, uint32_t index,
                        const struct shard_decision *decision) {
    struct unit *unit = &job->units[index];
    struct gather_unit *gathered = &job->gather.units[index];
    const struct tensor_spec *tensor = unit->tensor;
    struct unit_change change = {.kind = UNIT_CHANGE_UPDATE, .codec = codec_plain()->kernels[shard->config.isa]};
    if (tensor->update == TENSOR_UPDATE_ASSIGN) {
        change.kind = UNIT_CHANGE_ASSIGN;
    } else if (tensor->update == TENSOR_UPDATE_AVERAGE) {
        change.kind = UNIT_CHANGE_AVERAGE;
        change.rate = (float)(gathered->weighted / gathered->samples) * (tensor->lr_factor < 1 ? tensor->lr_factor : 1);
    } else {
        const struct updater_moment moment = {
            .learning_rate = decision->learning_rate * tensor->lr_factor,
            .weight = 1,
            .weight_decay = tensor->no_weight_decay ? 0 : (float)job->config.weight_decay,
            .step = unit->steps + 1,
        };
        change.apply = job->updater->apply[shard->config.isa];
        job->updater->decide(job->updater_values, &moment, change.scalars);
    }
    const float *mean = gather_take(gathered, unit->elements, change.kind != UNIT_CHANGE_UPDATE);
    unit_apply(unit, &change, (const uint8_t *)mean);
    unit_touch(unit, decision->version_after);
    unit->steps++;
}

void shard_commit(struct shard *shard, struct shard_job *job, const struct shard_decision *decision) {
    for (uint32_t i = 0; i < job->unit_count; i++)
        if (job->gather.units[i].samples > 0)
            unit_commit(shard, job, i, decision);
    job->counter = version_counter(decision->version_after);
    job->samples = decision->samples_after;
    job->gather.samples = 0;
    job_publish(job);
}

static void commit(struct shard *shard, struct shard_job *job) {
    uint64_t samples = job->samples + job->gather.samples;
    const struct shard_decision decision = {
        .kind = SHARD_DECISION_COMMIT,
        .order = shard->order++,
        .job = job->id,
        .weight = 1,
        .learning_rate = schedule_rate(&job->config, job->train_samples, samples),
        .version_after = version_make(job->epoch, job->counter + 1),
        .samples_after = samples,
    };
    if (shard->sink.decide)
        shard->sink.decide(shard->sink.context, &decision, NULL);
    shard_commit(shard, job, &decision);
}

/* ---- answers */

static void gate_answer(struct shard *shard, const struct shard_job *job, const struct shard_session *session,
                        enum lg_status status) {
    struct wire_message reply = {.kind = WIRE_GATE_REPLY, .request = session->gate.tag};
    reply.gate_reply =
        (struct wire_gate_reply){.tag = session->gate.tag, .status = (uint32_t)status, .round = job->gate.round};
    shard->sink.send(shard->sink.context, session->route, &reply, NULL, 0);
}

struct passing {
    struct shard *shard;
    const struct shard_job *job;
};

static void pass(void *context, struct gate_member *member) {
    const struct passing *passing = context;
    const void *session = (const char *)member - offsetof(struct shard_session, gate);
    gate_answer(passing->shard, passing->job, session, LG_OK);
}

void shard_gate_settle(struct shard *shard, struct shard_job *job) {
    struct passing passing = {shard, job};
    if (!job->gated)
        return;
    while (gate_due(&job->gate)) {
        if (job->gate.gathered)
            commit(shard, job);
        gate_advance(&job->gate);
    }
    gate_release(&job->gate, pass, &passing);
}

/* ---- GATE */

/* Of the three questions, those that the job's mode has. */
static enum lg_status check_kind(const struct shard_job *job, const struct wire_gate *gate, struct lg_error *error) {
    static const unsigned needs[] = {[WIRE_GATE_KIND_READ] = CONSISTENCY_READS,
                                     [WIRE_GATE_KIND_REST] = CONSISTENCY_RESTS,
                                     [WIRE_GATE_KIND_TICKET] = CONSISTENCY_TICKETS};
    static const char *const names[] = {"READ", "REST", "TICKET"};
    const struct consistency *mode = job->gate.mode;
    if (!consistency_has(mode, needs[gate->kind]))
        return lg_fail(error, LG_INVALID, "consistency.mode \"%s\" of \"%s\" has no %s", mode->name, job->name,
                       names[gate->kind]);
    if (gate->kind == WIRE_GATE_KIND_TICKET && (job->blocks.count == 0 || job->local[0] == 0))
        return lg_fail(error, LG_INVALID, "tickets of \"%s\" are given out by the shard that has unit 0", job->name);
    if (gate->tag == 0)
        return lg_fail(error, LG_INVALID, "a gate needs a tag");
    return LG_OK;
}

static enum lg_status gate_admit(struct shard *shard, const struct shard_input *input, struct shard_job **job,
                                 struct shard_session **session, struct lg_error *error) {
    const struct wire_gate *gate = &input->message->gate;
    enum lg_status status = shard_need_job(shard, gate->job, job, error);
    if (status == LG_OK)
        status = shard_need_session(*job, input, gate->session, gate->incarnation, gate->map_version, session, error);
    if (status == LG_OK && !(*session)->may_push)
        status = lg_fail(error, LG_DENIED, "an observer's session takes no part in who waits for whom");
    if (status == LG_OK)
        status = check_kind(*job, gate, error);
    if (status == LG_OK && gate->tag < (*session)->gate.tag)
        status = lg_fail(error, LG_STALE, "a newer gate of the session took this one's place");
    return status;
}

static enum gate_answer ask(struct shard_job *job, struct shard_session *session, const struct wire_gate *gate) {
    switch (gate->kind) {
    case WIRE_GATE_KIND_READ:
        return gate_read(&job->gate, &session->gate, gate->round);
    case WIRE_GATE_KIND_REST:
        return gate_rest(&job->gate, &session->gate, gate->round);
    case WIRE_GATE_KIND_TICKET:
        break;
    }
    return gate_ticket(&job->gate, &session->gate, gate->tag, gate->round);
}

/* What the answer says holds when it is sent: groups that are due by now are applied before. */
void shard_handle_gate(struct shard *shard, const struct shard_input *input) {
    const struct wire_gate *gate = &input->message->gate;
    struct lg_error error = {0};
    struct shard_job *job;
    struct shard_session *session;
    if (gate_admit(shard, input, &job, &session, &error) != LG_OK) {
        shard_send_error(shard, input, gate->tag, &error);
        return;
    }
    if (gate->tag == session->gate.tag && session->gate.parked != GATE_PARKED_NONE) {
        gate_answer(shard, job, session, LG_UNAVAILABLE);
        return;
    }
    session->gate.tag = gate->tag;
    enum gate_answer answer = ask(job, session, gate);
    shard_gate_settle(shard, job); /* answers a parked one, where that changed something */
    if (answer != GATE_PARK)
        gate_answer(shard, job, session, answer == GATE_PASS ? LG_OK : LG_DROPPED);
}
