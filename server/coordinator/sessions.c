/* Sessions: joins, beats, leaves. A session is opened on every shard of its job before its owner hears of it, and the
 * coordinator alone opens and ends sessions. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/log.h"
#include "server/coordinator/core.h"

struct session *session_find(const struct coordinator *core, uint64_t id) {
    for (size_t i = 0; id != 0 && i < core->sessions.count; i++) {
        struct session *session = core->sessions.items[i];
        if (session->id == id)
            return session;
    }
    return NULL;
}

bool session_may_push(const struct session *session) {
    return session->role != WIRE_ROLE_OBSERVER;
}

void session_put(struct coordinator *core, const struct session *session) {
    const struct store_session row = {session->id,    session->job,   session->trainer, session->incarnation,
                                      session->token, session->role,  session->state,   session->may_initialise,
                                      session->batch, session->reason};
    if (session->state == SESSION_STATE_ENDED)
        core_remove(core, STORE_TABLE_SESSION, &row);
    else
        core_put(core, STORE_TABLE_SESSION, &row);
}

struct session *session_speaking(struct coordinator *core, uint64_t id, uint32_t incarnation, struct lg_error *error) {
    struct session *session = session_find(core, id);
    if (!session || session->incarnation != incarnation) {
        lg_fail(error, LG_FENCED, "session %016" PRIx64 " is not known: it has ended", id);
        return NULL;
    }
    if (session->state == SESSION_STATE_CLOSING || session->state == SESSION_STATE_ENDED) {
        lg_fail(error, session->end_status, "%s", session->reason);
        return NULL;
    }
    session->heard_ns = core->now.now_ns;
    return session;
}

/* ---- joining */

static void send_join(struct coordinator *core, uint64_t route, uint64_t request, enum lg_status status,
                      uint64_t retry_ms, const char *reason) {
    struct wire_message reply = {.kind = WIRE_JOIN_REPLY, .request = request};
    reply.join_reply = (struct wire_join_reply){.status = (uint32_t)status, .reason = reason, .retry_ms = retry_ms};
    core_send(core, route, &reply);
}

/* All the session's owner needs to start. */
static void send_welcome(struct coordinator *core, const struct session *session) {
    const struct job *job = job_find(core, session->job);
    struct wire_message reply = {.kind = WIRE_JOIN_REPLY, .request = session->join_request};
    struct lg_error error;
    size_t pairs = 0;
    struct wire_shard_address *addresses = calloc(job->shard_count, sizeof *addresses);
    if (!addresses || wire_pairs_from_config(job->spec, core->pairs, WIRE_PAIRS_MAX, &pairs, &error) != LG_OK) {
        free(addresses);
        send_join(core, session->route, session->join_request, LG_NO_MEMORY, 0, "no memory for an answer");
        return;
    }
    for (size_t slot = 0; slot < job->shard_count; slot++) {
        size_t at = 0;
        const struct member *server = member_of_shard(core, job->shards[slot], &at);
        addresses[slot] = (struct wire_shard_address){job->shards[slot], server ? server->endpoints[at] : ""};
    }
    reply.join_reply = (struct wire_join_reply){.job = job->id,
                                                .session = session->id,
                                                .incarnation = session->incarnation,
                                                .token = session->token,
                                                .map_version = job->map_version,
                                                .shards = addresses,
                                                .shard_count = job->shard_count,
                                                .spec = core->pairs,
                                                .spec_count = pairs};
    reply.tensors = job->tensors;
    reply.tensor_count = job->tensor_count;
    reply.placement = job->placement;
    reply.placement_count = job->blocks.count;
    core_send(core, session->route, &reply);
    free(addresses);
}

struct joining {
    struct coordinator *core;
    const struct coordinator_input *input;
    const struct wire_join *join;
    struct job *job;
    struct trainer *trainer;
};

static void answer(const struct joining *joining, enum lg_status status, uint64_t retry_ms, const char *format, ...)
    LG_PRINTF(4, 5);
static void answer(const struct joining *joining, enum lg_status status, uint64_t retry_ms, const char *format, ...) {
    char reason[CORE_REASON_BYTES];
    va_list args;
    va_start(args, format);
    vsnprintf(reason, sizeof reason, format, args);
    va_end(args);
    if (status != LG_UNAVAILABLE)
        log_warn("join-refused", "refused to let trainer %" PRIu64 " join job \"%.100s\": %s", joining->join->trainer,
                 joining->join->job, reason);
    send_join(joining->core, joining->input->route, joining->input->message->request, status, retry_ms, reason);
}

/* The session that this join, or an earlier copy of it, has made already. */
static struct session *find_joined(const struct joining *joining) {
    const struct coordinator *core = joining->core;
    if (joining->trainer && joining->trainer->session)
        return session_find(core, joining->trainer->session);
    for (size_t i = 0; !joining->join->trainer && i < core->sessions.count; i++) {
        struct session *session = core->sessions.items[i];
        if (session->job == joining->job->id && session->route == joining->input->route &&
            session->join_request == joining->input->message->request && session->join_request != 0)
            return session;
    }
    return NULL;
}

static size_t sessions_of(const struct coordinator *core, uint64_t job) {
    size_t count = 0;
    for (size_t i = 0; i < core->sessions.count; i++) {
        const struct session *session = core->sessions.items[i];
        count += session->job == job && session->state != SESSION_STATE_ENDED;
    }
    return count;
}

/* Is there room for one more? Says when to ask again where not: sessions end all the time. */
static bool has_room(const struct joining *joining) {
    size_t most = joining->core->config.sessions_per_job_max;
    if (sessions_of(joining->core, joining->job->id) < most)
        return true;
    answer(joining, LG_UNAVAILABLE, CORE_RETRY_LONG_MS, "job \"%s\" has %zu sessions, the most there may be",
           joining->job->name, most);
    return false;
}

static struct session *session_new(const struct joining *joining) {
    struct coordinator *core = joining->core;
    struct session *session = calloc(1, sizeof *session);
    if (!session || !list_add(&core->sessions, session)) {
        free(session);
        return NULL;
    }
    do
        session->id = core_random(core) >> 1;
    while (session->id == 0 || session_find(core, session->id) != session);
    session->token = core_random(core);
    session->incarnation = 1;
    session->job = joining->job->id;
    session->role = joining->join->role;
    session->batch = joining->join->batch;
    session->route = joining->input->route;
    session->join_request = joining->input->message->request;
    session->heard_ns = session->step_ns = core->now.now_ns;
    core_copy(session->device, sizeof session->device, joining->join->device);
    core_copy(session->doing, sizeof session->doing, "joining");
    session->changed = true;
    return session;
}

static void open_session(const struct joining *joining) {
    struct coordinator *core = joining->core;
    struct job *job = joining->job;
    struct session *session = session_new(joining);
    if (!session) {
        answer(joining, LG_NO_MEMORY, 0, "no memory for one more session");
        return;
    }
    bool from_trainers = session->role == WIRE_ROLE_TRAINER && !job->external_init;
    session->may_initialise = job->phase == JOB_PHASE_INITIALISING &&
                              (from_trainers || (session->role == WIRE_ROLE_INITIALISER && job->external_init));
    if (joining->trainer) {
        session->trainer = joining->trainer->number;
        joining->trainer->session = session->id;
        joining->trainer->acknowledged = true;
        joining->trainer->changed = true;
        if (joining->trainer->state == TRAINER_STATE_STARTING)
            joining->trainer->state = TRAINER_STATE_RUNNING;
    }
    task_start(core, TASK_KIND_SESSION_OPEN, job, session, NULL);
}

/* A trainer's number and token are those of its start. One that came by itself (number 0) gets a number. */
static bool identify(struct joining *joining) {
    const struct wire_join *join = joining->join;
    if (join->role != WIRE_ROLE_TRAINER || join->trainer == 0)
        return true;
    struct trainer *trainer = trainer_find(joining->core, join->trainer);
    if (!trainer || trainer->job != joining->job->id || trainer->token != join->token) {
        answer(joining, LG_DENIED, 0, "trainer %" PRIu64 " is not one of job \"%s\" now: it was given up or stopped",
               join->trainer, joining->job->name);
        return false;
    }
    if (trainer->state == TRAINER_STATE_STOPPING) {
        answer(joining, LG_CANCELLED, 0, "trainer %" PRIu64 " is to stop: %s", trainer->number, trainer->reason);
        return false;
    }
    joining->trainer = trainer;
    return true;
}

static void refuse_trainer(const struct joining *joining, const struct lg_error *error) {
    struct coordinator *core = joining->core;
    if (joining->trainer) {
        const struct member *agent = member_find(core, joining->trainer->agent);
        joining->trainer->refused = true;
        history_add(core, joining->job, "trainer %" PRIu64 " on \"%s\" may not join: %s", joining->trainer->number,
                    agent ? agent->title : "?", error->message);
    }
    answer(joining, error->status, 0, "%s", error->message);
}

static void join_trainer(struct joining *joining) {
    struct coordinator *core = joining->core;
    struct job *job = joining->job;
    struct lg_error error = {0};
    if (define_check(core, job, joining->input->message, &error) != LG_OK) {
        refuse_trainer(joining, &error);
        return;
    }
    if (job->phase == JOB_PHASE_QUEUED)
        define_place(core, job);
    if (!job_is_live(job)) {
        answer(joining, LG_CANCELLED, 0, "job \"%s\" is %s", job->name, job_state_name(job));
        return;
    }
    if (job->phase <= JOB_PHASE_DEFINING) {
        uint64_t retry_ms = job->phase == JOB_PHASE_QUEUED ? CORE_RETRY_LONG_MS : CORE_RETRY_MS;
        answer(joining, LG_UNAVAILABLE, retry_ms, "job \"%s\" is %s%s%s", job->name, job_state_name(job),
               job->reason[0] ? ": " : "", job->reason);
        return;
    }
    if (!has_room(joining))
        return;
    if (!joining->trainer)
        joining->trainer = trainer_new(core, job, 0, joining->join->device);
    if (joining->trainer)
        open_session(joining);
    else
        answer(joining, LG_NO_MEMORY, 0, "no memory for one more trainer");
}

static void join_observer(struct joining *joining) {
    const struct job *job = joining->job;
    if (!job_has_values(job) && job_is_live(job))
        answer(joining, LG_UNAVAILABLE, CORE_RETRY_MS, "job \"%s\" has no values yet: it is %s%s%s", job->name,
               job_state_name(job), job->reason[0] ? ": " : "", job->reason);
    else if (!job_has_values(job))
        answer(joining, LG_NOT_FOUND, 0, "the values of job \"%s\" are gone: it is %s%s", job->name,
               job_state_name(job),
               job->started_ms ? " and its memory on the shards was dropped" : " and never had any");
    else if (has_room(joining))
        open_session(joining);
}

static void join_initialiser(struct joining *joining) {
    const struct job *job = joining->job;
    if (!job->external_init)
        answer(joining, LG_DENIED, 0, "job \"%s\" was submitted without initial values: its trainers make them",
               job->name);
    else if (job->phase < JOB_PHASE_INITIALISING)
        answer(joining, LG_UNAVAILABLE, CORE_RETRY_MS, "job \"%s\" is %s%s%s", job->name, job_state_name(job),
               job->reason[0] ? ": " : "", job->reason);
    else if (job->phase > JOB_PHASE_INITIALISING)
        answer(joining, LG_EXISTS, 0, "job \"%s\" has its initial values already: it is %s", job->name,
               job_state_name(job));
    else if (has_room(joining))
        open_session(joining);
}

void sessions_join(struct coordinator *core, const struct coordinator_input *input) {
    struct joining joining = {.core = core, .input = input, .join = &input->message->join};
    struct lg_error error = {0};
    joining.job = job_named(core, joining.join->job, &error);
    if (!joining.job) {
        answer(&joining, LG_NOT_FOUND, 0, "%s", error.message);
        return;
    }
    if (!identify(&joining))
        return;
    struct session *session = find_joined(&joining);
    if (session && session->state <= SESSION_STATE_OPEN) { /* a repeat: the answer was lost, or is still to come */
        session->route = input->route;
        session->join_request = input->message->request;
        session->heard_ns = core->now.now_ns;
        if (session->state == SESSION_STATE_OPEN)
            send_welcome(core, session);
        return;
    }
    if (session) {
        answer(&joining, session->end_status, session->end_status == LG_UNAVAILABLE ? CORE_RETRY_LONG_MS : 0, "%s",
               session->reason);
        return;
    }
    if (joining.job->waiting_ns != 0) {
        answer(&joining, LG_UNAVAILABLE, CORE_RETRY_LONG_MS, "job \"%s\" is waiting: %s", joining.job->name,
               joining.job->reason);
        return;
    }
    if (joining.join->role == WIRE_ROLE_OBSERVER)
        join_observer(&joining);
    else if (!job_is_live(joining.job))
        answer(&joining, LG_CANCELLED, 0, "job \"%s\" is %s%s%s", joining.job->name, job_state_name(joining.job),
               joining.job->reason[0] ? ": " : "", joining.job->reason);
    else if (joining.join->role == WIRE_ROLE_TRAINER)
        join_trainer(&joining);
    else
        join_initialiser(&joining);
}

void session_opened(struct coordinator *core, struct session *session) {
    struct job *job = job_find(core, session->job);
    if (session->state != SESSION_STATE_OPENING)
        return;
    session->state = SESSION_STATE_OPEN;
    session->heard_ns = session->step_ns = core->now.now_ns;
    core_copy(session->doing, sizeof session->doing, "joined");
    session->changed = true;
    const struct trainer *trainer = trainer_find(core, session->trainer);
    const struct member *agent = trainer ? member_find(core, trainer->agent) : NULL;
    if (session->role == WIRE_ROLE_TRAINER)
        history_add(core, job, "trainer %" PRIu64 " joined%s%s%s%s%s%s", session->trainer, agent ? " on \"" : "",
                    agent ? agent->title : "", agent ? "\"" : "", session->device[0] ? " (" : "", session->device,
                    session->device[0] ? ")" : "");
    if (session->role == WIRE_ROLE_INITIALISER)
        history_add(core, job, "initial values are on their way");
    if (session->join_request != 0)
        send_welcome(core, session);
}

/* A shard has no place for the session: its owner is told, the others are told to forget it. */
void session_refused(struct coordinator *core, struct session *session, enum lg_status status, const char *reason) {
    char text[CORE_REASON_BYTES];
    snprintf(text, sizeof text, "a shard refused the session: %.400s", reason[0] ? reason : lg_status_text(status));
    send_join(core, session->route, session->join_request, status, 0, text);
    session_lose(core, session, status, "%s", text);
}

/* A trainer of an agent keeps its session, found again by its number when it asks again. Whoever came by itself is not
 * found again, so its session ends and it asks for another one. */
bool session_waits(struct coordinator *core, struct session *session, const char *reason) {
    static const char *const waiting = "waiting for room on a shard";
    const struct trainer *trainer = trainer_find(core, session->trainer);
    char text[CORE_REASON_BYTES];
    snprintf(text, sizeof text, "a shard has no room for the session: %.400s",
             reason[0] ? reason : lg_status_text(LG_UNAVAILABLE));
    if (session->join_request != 0)
        send_join(core, session->route, session->join_request, LG_UNAVAILABLE, CORE_RETRY_LONG_MS, text);
    if (!trainer || trainer->agent == 0) {
        session_lose(core, session, LG_UNAVAILABLE, "%s", text);
        return false;
    }
    session->join_request = 0; /* answered */
    if (strcmp(session->doing, waiting) != 0) {
        core_copy(session->doing, sizeof session->doing, waiting);
        history_add(core, job_find(core, session->job), "trainer %" PRIu64 " waits to join: %s", session->trainer,
                    text);
    }
    return true;
}

/* ---- leaving, beating */

void sessions_leave(struct coordinator *core, const struct coordinator_input *input) {
    const struct wire_leave *leave = &input->message->leave;
    struct lg_error error;
    struct session *session = session_speaking(core, leave->session, leave->incarnation, &error);
    if (session)
        session_lose(core, session, LG_FENCED, "left%s%.300s", leave->reason[0] ? ": " : "", leave->reason);
    core_ack(core, input, LG_OK, "%s", ""); /* also to a repeat: it is gone, which is all it wants */
}

static int compare_times(const void *left, const void *right) {
    const int64_t *a = left, *b = right;
    return *a < *b ? -1 : *a > *b;
}

static int64_t median_step_ns(const struct session *session) {
    int64_t times[CORE_STEPS_MAX];
    size_t count = session->step_time_count < CORE_STEPS_MAX ? session->step_time_count : CORE_STEPS_MAX;
    if (count == 0)
        return 0;
    memcpy(times, session->step_times, count * sizeof *times);
    qsort(times, count, sizeof *times, compare_times);
    return times[count / 2];
}

static void take_steps(struct coordinator *core, struct session *session, uint64_t steps) {
    if (steps <= session->steps)
        return;
    int64_t took_ns = (core->now.now_ns - session->step_ns) / (int64_t)(steps - session->steps);
    if (session->steps > 0)
        session->step_times[session->step_time_count++ % CORE_STEPS_MAX] = took_ns;
    session->steps = steps;
    session->step_ns = core->now.now_ns;
}

void sessions_beat(struct coordinator *core, const struct coordinator_input *input) {
    const struct wire_trainer_beat *beat = &input->message->trainer_beat;
    struct lg_error error = {0};
    struct session *session = session_speaking(core, beat->session, beat->incarnation, &error);
    struct job *job = session ? job_find(core, session->job) : NULL;
    struct wire_message reply = {.kind = WIRE_TRAINER_BEAT_REPLY, .request = input->message->request};
    if (!session) {
        reply.trainer_beat_reply = (struct wire_trainer_beat_reply){(uint32_t)error.status, error.message};
        core_send(core, input->route, &reply);
        return;
    }
    take_steps(core, session, beat->steps);
    if (beat->parked) /* that it makes no step is not its own standstill */
        session->step_ns = core->now.now_ns;
    session->samples = beat->samples;
    session->loss = beat->loss;
    if (beat->steps > 0 && job)
        job->loss = beat->loss;
    session->accuracy = beat->accuracy;
    numbers_take_times(core, session, beat);
    session->samples_per_second = beat->samples_per_second;
    session->staleness_mean = beat->staleness_mean;
    session->staleness_max = beat->staleness_max;
    session->weight_mean = beat->weight_mean;
    session->pushes_dropped = beat->pushes_dropped;
    core_copy(session->doing, sizeof session->doing, beat->state);
    core_copy(session->transport, sizeof session->transport, beat->transport);
    core_send(core, input->route, &reply);
}

/* ---- silence and standstill */

/* The initial values or an evaluation: what only one may hold, and everybody may have to wait for. */
static bool holds_single(const struct job *job, const struct session *session) {
    return (job->phase == JOB_PHASE_INITIALISING && job->init_holder == session->id) ||
           (job->placed && job->leases.position.evaluating && job->leases.position.evaluate_holder == session->id);
}

static void watch_worker(struct coordinator *core, const struct job *job, struct session *session) {
    struct trainer *trainer = trainer_find(core, session->trainer);
    int64_t silent_ms = core_since_ms(core, session->heard_ns), still_ms = core_since_ms(core, session->step_ns);
    int64_t median_ms = median_step_ns(session) / 1000000, limit_ms = CORE_STALL_UNKNOWN_MS;
    char reason[160];
    if (session->step_time_count > 0)
        limit_ms = CORE_STALL_STEPS * median_ms > CORE_STALL_MS ? CORE_STALL_STEPS * median_ms : CORE_STALL_MS;
    if (silent_ms > core->config.dead_after_ms)
        snprintf(reason, sizeof reason, "silent for %.1f s", (double)silent_ms / 1000);
    else if (leases_held(&job->leases, session->id) > 0 && still_ms > limit_ms && job->waiting_ns == 0)
        snprintf(reason, sizeof reason, "no step for %.1f s while a step takes %.2f s", (double)still_ms / 1000,
                 (double)median_ms / 1000);
    else if (holds_single(job, session) && still_ms > CORE_STALL_SINGLE_MS && job->waiting_ns == 0)
        snprintf(reason, sizeof reason, "no result for %.0f min", (double)still_ms / 60000);
    else
        return;
    if (trainer)
        trainer_evict(core, trainer, reason);
    else
        session_lose(core, session, LG_FENCED, "%s", reason);
}

static void watch(struct coordinator *core, struct session *session) {
    const struct job *job = job_find(core, session->job);
    int64_t silent_ms = core_since_ms(core, session->heard_ns);
    if (session->state == SESSION_STATE_OPENING) {
        if (silent_ms > CORE_OBSERVER_MS)
            session_lose(core, session, LG_FENCED, "nobody asked for it any more");
        return;
    }
    if (session_may_push(session) && job)
        watch_worker(core, job, session);
    else if (silent_ms > CORE_OBSERVER_MS)
        session_lose(core, session, LG_FENCED, "silent for %.0f s", (double)silent_ms / 1000);
}

void sessions_tick(struct coordinator *core) {
    for (size_t i = core->sessions.count; i-- > 0;) {
        struct session *session = core->sessions.items[i];
        if (session->state == SESSION_STATE_ENDED) {
            if (core_since_ms(core, session->ended_ns) > CORE_ENDED_SESSION_MS) {
                list_remove(&core->sessions, session);
                free(session);
            }
        } else if (session->state == SESSION_STATE_CLOSING) {
            losses_resume(core, session);
        } else {
            watch(core, session);
        }
    }
}
