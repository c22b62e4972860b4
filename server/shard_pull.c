/* A pull: checked, then answered with the values of the units that the asker does not hold. */
#include "server/shard_state.h"

enum lg_status shard_find_units(struct shard *shard, const struct shard_job *job, const struct wire_message *message,
                                struct unit **units, struct lg_error *error) {
    for (size_t i = 0; i < message->unit_count; i++) {
        const struct wire_unit *asked = &message->units[i];
        if (asked->unit >= job->blocks.count || job->local[asked->unit] == 0)
            return lg_fail(error, LG_INVALID, "unit %u of \"%s\" is not on shard %u", asked->unit, job->name,
                           shard->config.index);
        struct unit *unit = &job->units[job->local[asked->unit] - 1];
        if (unit->elements != asked->elements)
            return lg_fail(error, LG_INVALID, "unit %u of \"%s\" has %u elements, not %u", asked->unit, job->name,
                           unit->elements, asked->elements);
        if (unit->seen == shard->serial)
            return lg_fail(error, LG_INVALID, "unit %u is named twice in one message", asked->unit);
        unit->seen = shard->serial;
        units[i] = unit;
    }
    return LG_OK;
}

static enum lg_status pull_answer(struct shard *shard, const struct shard_input *input, struct lg_error *error) {
    const struct wire_message *message = input->message;
    const struct wire_pull *pull = &message->pull;
    struct wire_message reply = {.kind = WIRE_PULL_REPLY};
    struct unit **units = shard->part.units; /* no push is being handled */
    struct shard_session *session;
    struct shard_form form;
    struct shard_job *job;
    enum lg_status status = shard_need_job(shard, pull->job, &job, error);
    if (status == LG_OK)
        status = shard_need_session(job, input, pull->session, pull->incarnation, pull->map_version, &session, error);
    if (status == LG_OK && (message->unit_count == 0 || message->unit_count > WIRE_UNITS_MAX))
        status = lg_fail(error, LG_INVALID, "a pull names %zu units: 1 to %d are possible", message->unit_count,
                         WIRE_UNITS_MAX);
    if (status == LG_OK)
        status = shard_find_units(shard, job, message, units, error);
    if (status == LG_OK)
        status = shard_check_pull(job, session, message, &form, error);
    if (status == LG_OK && !job_initialised(job))
        status = lg_fail(error, LG_UNAVAILABLE, "\"%s\" has no initial values yet: %u of %u units are set", job->name,
                         job->units_initialised, job->unit_count);
    if (status != LG_OK)
        return status;
    reply.pull_reply = (struct wire_pull_reply){.tag = pull->tag, .version = job_version(job)};
    status =
        shard_add_values(shard, job, session, message, units, &form, &reply, &reply.pull_reply.units_unchanged, error);
    if (status != LG_OK)
        return status;
    metric_add(job->cells.pulls, 1);
    shard_send(shard, input, &reply);
    shard_release_values(shard, reply.payload_count);
    return LG_OK;
}

void shard_handle_pull(struct shard *shard, const struct shard_input *input) {
    struct lg_error error = {0};
    if (pull_answer(shard, input, &error) != LG_OK)
        shard_send_error(shard, input, input->message->pull.tag, &error);
}
