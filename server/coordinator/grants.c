/* Leases as sessions see them: the initial values, slices of the data, evaluations. Every answer can be lost and every
 * request repeated: a repeat (the same request number) gets the same grant again. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "server/coordinator/core.h"

struct asking {
    struct coordinator *core;
    const struct coordinator_input *input;
    struct session *session;
    struct job *job;
};

static void send_grant(const struct asking *asking, const struct wire_lease_grant *grant) {
    struct wire_message reply = {.kind = WIRE_LEASE_GRANT, .request = asking->input->message->request};
    reply.lease_grant = *grant;
    core_send(asking->core, asking->input->route, &reply);
}

static void send_wait(const struct asking *asking, const char *reason) {
    send_grant(asking,
               &(struct wire_lease_grant){.kind = WIRE_LEASE_WAIT, .retry_ms = CORE_RETRY_MS, .reason = reason});
}

static void send_slice(const struct asking *asking, const struct slice *slice) {
    size_t cuts = slice->cut_count < WIRE_MARKS_MAX ? slice->cut_count : WIRE_MARKS_MAX;
    send_grant(asking, &(struct wire_lease_grant){.kind = WIRE_LEASE_TRAIN,
                                                  .lease = slice->lease,
                                                  .fence = slice->fence,
                                                  .epoch = slice->epoch,
                                                  .first = slice->first,
                                                  .end = slice->end,
                                                  .cuts = slice->cuts,
                                                  .cut_count = cuts});
}

static void send_evaluation(const struct asking *asking) {
    const struct leases_position *position = &asking->job->leases.position;
    send_grant(asking, &(struct wire_lease_grant){.kind = WIRE_LEASE_EVALUATE,
                                                  .lease = position->evaluate_lease,
                                                  .fence = position->evaluate_fence,
                                                  .epoch = position->evaluating});
}

/* A request that was granted something before gets the same again, or nothing where that is done: the owner counts its
 * requests up, so it has the answer. */
static bool repeat(const struct asking *asking) {
    uint64_t request = asking->input->message->request;
    struct session *session = asking->session;
    const struct leases_position *position = &asking->job->leases.position;
    const struct slice *slice = leases_granted(&asking->job->leases, session->id, request);
    if (slice)
        send_slice(asking, slice);
    else if (request && position->evaluating && position->evaluate_holder == session->id &&
             position->evaluate_request == request)
        send_evaluation(asking);
    else
        return request != 0 && request <= session->grant_request;
    return true;
}

/* ---- initial values */

static void ask_initial(const struct asking *asking) {
    struct job *job = asking->job;
    struct session *session = asking->session;
    if (!session->may_initialise || (job->init_holder && job->init_holder != session->id)) {
        send_wait(asking, "the initial values are being made");
        return;
    }
    if (!job->init_holder) {
        job->init_holder = session->id;
        job->init_fence++;
        job->changed = true;
        session->step_ns = asking->core->now.now_ns;
    }
    send_grant(asking, &(struct wire_lease_grant){
                           .kind = WIRE_LEASE_INITIALISE, .lease = CORE_INITIAL_LEASE, .fence = job->init_fence});
}

static enum lg_status done_initial(const struct asking *asking, uint32_t fence) {
    struct coordinator *core = asking->core;
    struct job *job = asking->job;
    if (job->init_holder != asking->session->id || fence != job->init_fence)
        return LG_FENCED;
    if (job->phase != JOB_PHASE_INITIALISING)
        return LG_OK;
    job_set_phase(core, job, JOB_PHASE_RUNNING);
    if (job->external_init)
        history_add(core, job, "the initial values are in place; training starts");
    else
        history_add(core, job, "trainer %" PRIu64 " has put the initial values in place; training starts",
                    asking->session->trainer);
    return LG_OK;
}

/* ---- training and evaluation */

static double best_rate(const struct asking *asking) {
    double best = 0;
    for (size_t i = 0; i < asking->core->sessions.count; i++) {
        const struct session *session = asking->core->sessions.items[i];
        if (session->job == asking->job->id && session->state == SESSION_STATE_OPEN &&
            session->role == WIRE_ROLE_TRAINER && session->samples_per_second > best)
            best = session->samples_per_second;
    }
    return best;
}

/* An evaluation holds up the end of the job, so a trainer much slower than the fastest lets the others go first for a
 * moment. */
static bool should_leave_evaluation(const struct asking *asking) {
    struct job *job = asking->job;
    if (job->evaluation_due_ns == 0)
        job->evaluation_due_ns = asking->core->now.now_ns;
    return asking->session->samples_per_second < best_rate(asking) / 2 &&
           core_since_ms(asking->core, job->evaluation_due_ns) < CORE_EVALUATE_PATIENCE_MS;
}

static bool ask_evaluation(const struct asking *asking) {
    struct job *job = asking->job;
    if (!leases_evaluation_due(&job->leases)) {
        job->evaluation_due_ns = 0;
        return false;
    }
    if (should_leave_evaluation(asking))
        return false;
    leases_evaluation_take(&job->leases, asking->session->id, asking->input->message->request);
    job->evaluation_due_ns = 0;
    asking->session->grant_request = asking->input->message->request;
    asking->session->step_ns = asking->core->now.now_ns;
    send_evaluation(asking);
    return true;
}

static void ask_work(const struct asking *asking) {
    struct coordinator *core = asking->core;
    struct job *job = asking->job;
    struct session *session = asking->session;
    if (session->role == WIRE_ROLE_INITIALISER) {
        send_grant(asking, &(struct wire_lease_grant){.kind = WIRE_LEASE_FINISHED});
        return;
    }
    double rate = asking->input->message->lease_request.samples_per_second;
    if (rate > 0)
        session->samples_per_second = rate;
    if (ask_evaluation(asking))
        return;
    uint64_t batch = session->batch ? session->batch : (uint64_t)job->config.batch;
    batch *= (uint64_t)job->config.local_steps; /* what a push is about, however long it takes */
    uint64_t samples =
        leases_slice_samples(&job->leases, rate, job->config.lease_ms, batch, trainers_of(core, job->id));
    size_t held = leases_held(&job->leases, session->id);
    if (held >= CORE_SLICES_HELD_MAX) {
        send_wait(asking, "finish what you have first");
        return;
    }
    const struct slice *slice =
        leases_take(&job->leases, session->id, asking->input->message->request, samples, batch, core->now.wall_ms);
    if (!slice) {
        send_wait(asking, "the last slices are being worked on");
        return;
    }
    session->grant_request = asking->input->message->request;
    if (held == 0)
        session->step_ns = core->now.now_ns;
    metric_add(job->leases_granted, 1);
    send_slice(asking, slice);
}

void grants_request(struct coordinator *core, const struct coordinator_input *input) {
    const struct wire_lease_request *request = &input->message->lease_request;
    struct asking asking = {.core = core, .input = input};
    struct lg_error error = {0};
    asking.session = session_speaking(core, request->session, request->incarnation, &error);
    asking.job = asking.session ? job_find(core, asking.session->job) : NULL;
    if (asking.job && !session_may_push(asking.session))
        lg_fail(&error, LG_DENIED, "an observer takes no leases");
    else if (asking.job && asking.job->phase > JOB_PHASE_FINISHED)
        lg_fail(&error, LG_CANCELLED, "job \"%s\" is %s", asking.job->name, job_state_name(asking.job));
    if (!asking.job || error.status != LG_OK) {
        send_grant(&asking, &(struct wire_lease_grant){.status = (uint32_t)error.status, .reason = error.message});
        return;
    }
    if (asking.job->phase == JOB_PHASE_FINISHED)
        send_grant(&asking, &(struct wire_lease_grant){.kind = WIRE_LEASE_FINISHED});
    else if (asking.job->phase == JOB_PHASE_INITIALISING)
        ask_initial(&asking);
    else if (asking.job->phase != JOB_PHASE_RUNNING)
        send_wait(&asking, "the job is ending");
    else if (!repeat(&asking))
        ask_work(&asking);
}

void grants_done(struct coordinator *core, const struct coordinator_input *input) {
    const struct wire_lease_done *done = &input->message->lease_done;
    struct asking asking = {.core = core, .input = input};
    struct lg_error error = {0};
    asking.session = session_speaking(core, done->session, done->incarnation, &error);
    asking.job = asking.session ? job_find(core, asking.session->job) : NULL;
    if (!asking.job) {
        core_ack(core, input, error.status, "%s", error.message);
        return;
    }
    enum lg_status status = LG_NOT_FOUND;
    if (done->lease == CORE_INITIAL_LEASE)
        status = done_initial(&asking, done->fence);
    else if (asking.job->placed)
        status = leases_done(&asking.job->leases, done->lease, done->fence, asking.session->id);
    if (status == LG_OK)
        core_ack(core, input, LG_OK, "%s", "");
    else
        core_ack(core, input, status, "lease %" PRIu64 " is not this session's: %s", done->lease,
                 lg_status_text(status));
    job_advance(core, asking.job);
}

/* ---- results of evaluations */

static void record_evaluation(struct coordinator *core, struct job *job, const struct wire_eval_report *report,
                              uint64_t epoch) {
    struct evaluation *all = realloc(job->evaluations, (job->evaluation_count + 1) * sizeof *all);
    if (!all)
        return;
    job->evaluations = all;
    if (job->evaluation_count == CORE_EVALUATIONS_MAX) {
        core_remove(core, STORE_TABLE_EVALUATION, &(struct store_evaluation){.job = job->id, .epoch = all[0].epoch});
        memmove(all, all + 1, (job->evaluation_count - 1) * sizeof *all);
        job->evaluation_count--;
    }
    all[job->evaluation_count++] = (struct evaluation){.epoch = epoch,
                                                       .predictions = report->predictions,
                                                       .loss = report->loss,
                                                       .accuracy = report->accuracy,
                                                       .at_ms = core->now.wall_ms};
    core_put(core, STORE_TABLE_EVALUATION,
             &(struct store_evaluation){job->id, epoch, report->loss, report->accuracy, report->predictions,
                                        (uint64_t)core->now.wall_ms});
    history_add(core, job, "after %" PRIu64 " of %" PRId64 " epochs: test accuracy %.2f %%, loss %.4f", epoch,
                job->config.epochs, 100 * report->accuracy, report->loss);
}

void grants_evaluation(struct coordinator *core, const struct coordinator_input *input) {
    const struct wire_eval_report *report = &input->message->eval_report;
    struct lg_error error = {0};
    struct session *session = session_speaking(core, report->session, report->incarnation, &error);
    struct job *job = session ? job_find(core, session->job) : NULL;
    if (!job || !job->placed) {
        core_ack(core, input, job ? LG_NOT_FOUND : error.status, "%s",
                 job ? "no evaluation was asked for" : error.message);
        return;
    }
    uint64_t epoch = job->leases.position.evaluating;
    enum lg_status status = leases_evaluation_done(&job->leases, report->lease, session->id);
    if (status == LG_OK)
        record_evaluation(core, job, report, epoch);
    if (status == LG_OK || status == LG_EXISTS)
        core_ack(core, input, LG_OK, "%s", "");
    else /* a late repeat, no reason to end the session: another evaluation has been given out since */
        core_ack(core, input, LG_NOT_FOUND, "evaluation %" PRIu64 " is not this session's, or is over", report->lease);
    session->step_ns = core->now.now_ns;
    job_advance(core, job);
}
