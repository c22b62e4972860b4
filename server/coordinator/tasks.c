/* Commands to shards. A task is one command to every shard of a job; it is sent again each second to every shard that
 * has not answered, which is safe because a shard does each command once however often it comes. When all have
 * answered, what waited for it goes on. */
#include <stdlib.h>
#include <string.h>

#include "common/log.h"
#include "server/coordinator/core.h"

enum { SLOT_BITS = 10 }; /* of a request number: WIRE_SHARDS_MAX shards */

static const char *const kind_names[] = {"JOB_OPEN",      "JOB_CLOSE",   "SESSION_OPEN",
                                         "SESSION_CLOSE", "MARKS_QUERY", "LEDGER_QUERY"};

void task_free(struct task *task) {
    free(task->shards);
    free(task->marks);
    free(task);
}

/* ---- sending */

static void build_open(struct coordinator *core, const struct job *job, size_t slot, struct wire_message *message) {
    size_t pairs = 0;
    struct lg_error error;
    if (wire_pairs_from_config(job->spec, core->pairs, WIRE_PAIRS_MAX, &pairs, &error) != LG_OK)
        pairs = 0; /* cannot be: it came over the wire */
    message->kind = WIRE_JOB_OPEN;
    message->job_open = (struct wire_job_open){.job = job->id,
                                               .name = job->name,
                                               .shard = job->shards[slot],
                                               .slot = (uint32_t)slot,
                                               .epoch = job->epoch,
                                               .map_version = job->map_version,
                                               .train_samples = job->train_samples,
                                               .spec = core->pairs,
                                               .spec_count = pairs};
    message->tensors = job->tensors;
    message->tensor_count = job->tensor_count;
    message->placement = job->placement;
    message->placement_count = job->blocks.count;
}

static bool build(struct coordinator *core, const struct task *task, const struct job *job, size_t slot,
                  struct wire_message *message) {
    const struct session *session = session_find(core, task->session);
    uint32_t shard = job->shards[slot];
    switch (task->kind) {
    case TASK_KIND_JOB_OPEN:
        build_open(core, job, slot, message);
        return true;
    case TASK_KIND_JOB_CLOSE:
        message->kind = WIRE_JOB_CLOSE;
        message->job_close = (struct wire_job_close){job->id, shard};
        return true;
    case TASK_KIND_SESSION_OPEN:
        if (!session)
            return false;
        message->kind = WIRE_SESSION_OPEN;
        message->session_open = (struct wire_session_open){job->id,
                                                           shard,
                                                           session->id,
                                                           session->incarnation,
                                                           session->token,
                                                           session_may_push(session),
                                                           session->may_initialise};
        return true;
    case TASK_KIND_SESSION_CLOSE:
        if (!session)
            return false;
        message->kind = WIRE_SESSION_CLOSE;
        message->session_close =
            (struct wire_session_close){job->id, shard, session->id, session->incarnation, session->reason};
        return true;
    case TASK_KIND_MARKS:
        message->kind = WIRE_MARKS_QUERY;
        message->marks_query = (struct wire_marks_query){job->id, shard, task->epoch, task->first, task->end};
        return true;
    case TASK_KIND_LEDGER:
        message->kind = WIRE_LEDGER_QUERY;
        message->ledger_query = (struct wire_ledger_query){job->id, shard};
        return true;
    }
    return false;
}

static void send_due(struct coordinator *core, struct task *task) {
    const struct job *job = job_find(core, task->job);
    for (size_t slot = 0; job && slot < task->shard_count; slot++) {
        struct task_shard *shard = &task->shards[slot];
        const struct member *server = member_of_shard(core, job->shards[slot], NULL);
        if (shard->answered || !server || !member_is_alive(server) || server->route == 0)
            continue;
        if (shard->sent_ns != 0 && core_since_ms(core, shard->sent_ns) < CORE_RESEND_MS)
            continue;
        struct wire_message message = {.request = task->number << SLOT_BITS | slot};
        if (!build(core, task, job, slot, &message))
            continue;
        shard->sent_ns = core->now.now_ns;
        core_send(core, server->route, &message);
    }
}

struct task *task_start(struct coordinator *core, enum task_kind kind, struct job *job, struct session *session,
                        const struct slice *slice) {
    struct task *task = calloc(1, sizeof *task);
    if (task)
        task->shards = calloc(job->shard_count ? job->shard_count : 1, sizeof *task->shards);
    if (!task || !task->shards || !list_add(&core->tasks, task)) {
        if (task)
            task_free(task);
        log_error("no-memory", "no memory to tell the shards of job \"%s\" about it", job->name);
        return NULL;
    }
    task->number = core->next_task++ & ((UINT64_C(1) << 50) - 1);
    task->kind = kind;
    task->job = job->id;
    task->session = session ? session->id : slice ? slice->holder : 0;
    task->shard_count = job->shard_count;
    if (slice) {
        task->lease = slice->lease;
        task->epoch = slice->epoch;
        task->first = slice->first;
        task->end = task->resume = slice->end;
    }
    send_due(core, task);
    return task;
}

bool task_is_running(const struct coordinator *core, enum task_kind kind, uint64_t job, uint64_t session,
                     uint64_t lease) {
    for (size_t i = 0; i < core->tasks.count; i++) {
        const struct task *task = core->tasks.items[i];
        if (!task->over && task->kind == kind && task->job == job && task->session == session && task->lease == lease)
            return true;
    }
    return false;
}

/* ---- answers */

static void complete(struct coordinator *core, struct task *task) {
    struct job *job = job_find(core, task->job);
    struct session *session = session_find(core, task->session);
    task->over = true;
    if (!job)
        return;
    switch (task->kind) {
    case TASK_KIND_JOB_OPEN:
        define_opened(core, job);
        break;
    case TASK_KIND_JOB_CLOSE:
        job_released(job);
        break;
    case TASK_KIND_SESSION_OPEN:
        if (session)
            session_opened(core, session);
        break;
    case TASK_KIND_SESSION_CLOSE:
        if (session)
            session_fenced(core, session);
        break;
    case TASK_KIND_MARKS:
        session_marks_read(core, task);
        break;
    case TASK_KIND_LEDGER:
        job_ledgers_read(core, job);
        break;
    }
}

static void answered(struct coordinator *core, struct task *task, size_t slot) {
    if (task->shards[slot].answered)
        return;
    task->shards[slot].answered = true;
    task->answered++;
    if (task->answered == task->shard_count)
        complete(core, task);
}

/* A shard says no. What closes something is done all the same; for the rest the job cannot go on. */
static void refused(struct coordinator *core, struct task *task, size_t slot, enum lg_status status,
                    const char *reason) {
    struct job *job = job_find(core, task->job);
    struct session *session = session_find(core, task->session);
    if (task->kind == TASK_KIND_SESSION_OPEN && session && session->state != SESSION_STATE_OPENING) {
        task->over = true; /* nobody wants it open any more */
        return;
    }
    if (status == LG_UNAVAILABLE && task->kind == TASK_KIND_SESSION_OPEN && session) {
        task->over = !session_waits(core, session, reason);
        return;
    }
    if (status == LG_UNAVAILABLE || (status == LG_NOT_FOUND && task->kind == TASK_KIND_JOB_OPEN))
        return; /* asked again soon: not ready, or its server has not read yet which numbers its shards have */
    if (task->kind == TASK_KIND_JOB_CLOSE || task->kind == TASK_KIND_SESSION_CLOSE) {
        answered(core, task, slot);
        return;
    }
    log_warn("shard-refused", "shard %u refuses %s of job \"%s\": %s (%s)", job ? job->shards[slot] : 0,
             kind_names[task->kind], job ? job->name : "?", reason[0] ? reason : "no reason given",
             lg_status_name(status));
    task->over = true;
    if (!job)
        return;
    if (task->kind == TASK_KIND_SESSION_OPEN && session && status != LG_NOT_FOUND)
        session_refused(core, session, status, reason);
    else if (status == LG_NOT_FOUND)
        job_fail(core, job, "shard %u does not know the job any more: its memory was lost; submit the job again",
                 job->shards[slot]);
    else
        job_fail(core, job, "shard %u refused the job: %s", job->shards[slot],
                 reason[0] ? reason : lg_status_text(status));
}

static int compare_marks(const void *left, const void *right) {
    const uint64_t *a = left, *b = right;
    return *a < *b ? -1 : *a > *b;
}

/* Least resume, union of marks. */
static bool take_marks(struct task *task, const struct wire_marks_reply *reply) {
    uint64_t *marks = realloc(task->marks, (task->mark_count + reply->mark_count + 1) * sizeof *marks);
    if (!marks)
        return false;
    task->marks = marks;
    if (reply->mark_count > 0)
        memcpy(marks + task->mark_count, reply->marks, reply->mark_count * sizeof *marks);
    size_t count = task->mark_count + reply->mark_count, kept = 0;
    qsort(marks, count, sizeof *marks, compare_marks);
    for (size_t i = 0; i < count; i++)
        if (kept == 0 || marks[i] != marks[kept - 1])
            marks[kept++] = marks[i];
    task->mark_count = kept;
    if (reply->resume < task->resume)
        task->resume = reply->resume;
    return true;
}

/* Does this kind of message answer this kind of task? */
static bool fits(const struct task *task, enum wire_kind kind) {
    if (kind == WIRE_ERROR)
        return true;
    if (task->kind == TASK_KIND_MARKS)
        return kind == WIRE_MARKS_REPLY || kind == WIRE_ACK;
    if (task->kind == TASK_KIND_LEDGER)
        return kind == WIRE_LEDGER_REPLY || kind == WIRE_ACK;
    return kind == WIRE_ACK;
}

static enum lg_status status_of(const struct wire_message *message, const char **reason) {
    *reason = "";
    switch (message->kind) {
    case WIRE_ACK:
        *reason = message->ack.reason;
        return (enum lg_status)message->ack.status;
    case WIRE_ERROR:
        *reason = message->error.reason;
        return message->error.status ? (enum lg_status)message->error.status : LG_INTERNAL;
    case WIRE_MARKS_REPLY:
        return (enum lg_status)message->marks_reply.status;
    default:
        return (enum lg_status)message->ledger_reply.status;
    }
}

/* Only the server that hosts the shard may answer for it. */
static bool from_its_server(const struct coordinator *core, const struct job *job, size_t slot, uint64_t route) {
    const struct member *server = member_of_shard(core, job->shards[slot], NULL);
    return server && server->route == route;
}

void tasks_answer(struct coordinator *core, const struct coordinator_input *input) {
    const struct wire_message *message = input->message;
    size_t slot = message->request & ((1u << SLOT_BITS) - 1);
    const char *reason;
    for (size_t i = 0; i < core->tasks.count; i++) {
        struct task *task = core->tasks.items[i];
        if (task->number != message->request >> SLOT_BITS || task->over || slot >= task->shard_count)
            continue;
        struct job *job = job_find(core, task->job);
        if (!job || !from_its_server(core, job, slot, input->route) || !fits(task, message->kind))
            return;
        enum lg_status status = status_of(message, &reason);
        bool empty = message->kind == WIRE_ACK && (task->kind == TASK_KIND_MARKS || task->kind == TASK_KIND_LEDGER);
        if (status == LG_OK && (empty || task->shards[slot].answered))
            return;
        if (status == LG_OK && message->kind == WIRE_MARKS_REPLY && !take_marks(task, &message->marks_reply))
            return; /* no memory: asked again */
        if (status == LG_OK && message->kind == WIRE_LEDGER_REPLY)
            job_take_ledger(core, job, job->shards[slot], message->ledger_reply.rows, message->ledger_reply.row_count);
        if (status == LG_OK)
            answered(core, task, slot);
        else
            refused(core, task, slot, status, reason);
        return;
    }
}

/* ---- time, ends */

void tasks_tick(struct coordinator *core) {
    for (size_t i = 0; i < core->tasks.count; i++) {
        struct task *task = core->tasks.items[i];
        if (!task->over)
            send_due(core, task);
    }
}

void tasks_end_job(struct coordinator *core, uint64_t job) {
    for (size_t i = 0; i < core->tasks.count; i++) {
        struct task *task = core->tasks.items[i];
        if (task->job == job)
            task->over = true;
    }
}

void tasks_lose_shard(struct coordinator *core, uint32_t shard) {
    for (size_t i = 0; i < core->tasks.count; i++) {
        struct task *task = core->tasks.items[i];
        const struct job *job = job_find(core, task->job);
        size_t slot = job ? job_slot_of(job, shard) : SIZE_MAX;
        bool closes = task->kind == TASK_KIND_JOB_CLOSE || task->kind == TASK_KIND_SESSION_CLOSE;
        if (!task->over && closes && slot < task->shard_count)
            answered(core, task, slot);
    }
}

/* Tasks end while others look at the list; they leave it here. */
void tasks_sweep(struct coordinator *core) {
    size_t kept = 0;
    for (size_t i = 0; i < core->tasks.count; i++) {
        struct task *task = core->tasks.items[i];
        if (task->over)
            task_free(task);
        else
            core->tasks.items[kept++] = task;
    }
    core->tasks.count = kept;
}
