/* The end of a session, in the order that makes re-leasing safe:
 *
 *   1. every shard closes the session: nothing of it is applied any more
 *   2. every shard says what of each of its slices was applied (marks)
 *   3. each slice goes back to the queue from the least mark on, to be cut at the others
 *
 * A step waits for all shards, so a slice is never handed out while its old holder could still push. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/units.h"
#include "server/coordinator/core.h"

/* Nothing is left to wait for. */
static void finish(struct coordinator *core, struct session *session) {
    struct trainer *trainer = trainer_find(core, session->trainer);
    if (session->state == SESSION_STATE_ENDED)
        return;
    session->state = SESSION_STATE_ENDED;
    session->ended_ns = core->now.now_ns;
    session->changed = true;
    if (trainer && trainer->agent == 0 && trainer->session == session->id)
        trainer_gone(core, trainer, false, session->reason);
}

static void query_marks(struct coordinator *core, struct job *job, const struct session *session) {
    for (const struct slice *slice = leases_lost(&job->leases, 0); slice;
         slice = leases_lost(&job->leases, slice->lease))
        if (slice->holder == session->id && !task_is_running(core, TASK_KIND_MARKS, job->id, session->id, slice->lease))
            task_start(core, TASK_KIND_MARKS, job, NULL, slice);
}

static bool has_lost_slices(const struct job *job, const struct session *session) {
    for (const struct slice *slice = leases_lost(&job->leases, 0); slice;
         slice = leases_lost(&job->leases, slice->lease))
        if (slice->holder == session->id)
            return true;
    return false;
}

static void revoke(struct job *job, const struct session *session) {
    size_t count = job->placed ? leases_revoke(&job->leases, session->id) : 0;
    metric_add(job->leases_revoked, count);
}

/* Closes the session on the shards, unless that is under way or there is nothing to close. */
static void close_on_shards(struct coordinator *core, struct job *job, struct session *session) {
    if (!job || job->memory != JOB_MEMORY_HELD) {
        finish(core, session);
        return;
    }
    bool fencing = task_is_running(core, TASK_KIND_SESSION_CLOSE, job->id, session->id, 0);
    bool reading = has_lost_slices(job, session);
    for (const struct slice *slice = leases_lost(&job->leases, 0); reading && slice;
         slice = leases_lost(&job->leases, slice->lease))
        if (slice->holder == session->id && task_is_running(core, TASK_KIND_MARKS, job->id, session->id, slice->lease))
            fencing = true;
    if (!fencing)
        task_start(core, TASK_KIND_SESSION_CLOSE, job, session, NULL);
}

void session_lose(struct coordinator *core, struct session *session, enum lg_status status, const char *format, ...) {
    struct job *job = job_find(core, session->job);
    va_list args;
    if (session->state == SESSION_STATE_ENDED)
        return;
    if (session->state != SESSION_STATE_CLOSING) {
        va_start(args, format);
        vsnprintf(session->reason, sizeof session->reason, format, args);
        va_end(args);
        session->end_status = status;
        session->state = SESSION_STATE_CLOSING;
        session->changed = true;
        if (job)
            revoke(job, session);
    }
    close_on_shards(core, job, session);
}

/* Also each tick: a step that there was no memory for is taken again, from the first on, which does no harm. */
void losses_resume(struct coordinator *core, struct session *session) {
    close_on_shards(core, job_find(core, session->job), session);
}

void session_fenced(struct coordinator *core, struct session *session) {
    struct job *job = job_find(core, session->job);
    if (session->state != SESSION_STATE_CLOSING || !job)
        return;
    if (job->init_holder == session->id && job->phase == JOB_PHASE_INITIALISING) {
        job->init_holder = 0;
        job->changed = true;
        history_add(core, job, "the holder of the initial values is gone (%s); the next one makes them anew",
                    session->reason);
    }
    if (job_is_live(job) && has_lost_slices(job, session))
        query_marks(core, job, session);
    else
        finish(core, session);
}

static void describe_return(struct coordinator *core, struct job *job, const struct slice *slice, uint64_t from,
                            const struct session *session, uint64_t lease, uint64_t end) {
    char left[UNITS_TEXT_BYTES];
    const char *reason = session ? session->reason : "it is gone";
    uint64_t trainer = session ? session->trainer : 0;
    if (slice)
        history_add(core, job,
                    "slice %" PRIu64 " [%" PRIu64 ", %" PRIu64 ") of epoch %" PRIu64 " taken back from trainer %" PRIu64
                    " (%s): %s samples remain",
                    lease, from, end, slice->epoch + 1, trainer, reason,
                    units_count(slice->end - slice->first, left, sizeof left));
    else
        history_add(core, job, "slice %" PRIu64 " of trainer %" PRIu64 " (%s) was applied to its end", lease, trainer,
                    reason);
}

void session_marks_read(struct coordinator *core, struct task *task) {
    struct job *job = job_find(core, task->job);
    struct session *session = session_find(core, task->session);
    if (leases_give_back(&job->leases, task->lease, task->resume, task->marks, task->mark_count) != LG_OK)
        return; /* no memory: it is still lost, and losses_resume asks again */
    describe_return(core, job, leases_find(&job->leases, task->lease), task->first, session, task->lease, task->end);
    if (session && !has_lost_slices(job, session))
        finish(core, session);
    job_advance(core, job);
}
