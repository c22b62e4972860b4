/* Sessions on a shard: the coordinator opens and closes them, the client greets. */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/units.h"
#include "server/shard_state.h"

/* Where the session is in job->sessions, which is sorted by number, or belongs. */
static uint32_t session_place(const struct shard_job *job, uint64_t id) {
    uint32_t from = 0, to = job->session_count;
    while (from < to) {
        uint32_t middle = from + (to - from) / 2;
        if (job->sessions[middle]->id < id)
            from = middle + 1;
        else
            to = middle;
    }
    return from;
}

static struct shard_session *job_session(const struct shard_job *job, uint64_t id) {
    uint32_t at = session_place(job, id);
    return at < job->session_count && job->sessions[at]->id == id ? job->sessions[at] : NULL;
}

static const struct ended_session *job_ended(const struct shard_job *job, uint64_t id) {
    const struct ended_session *latest = NULL;
    for (uint32_t i = 0; i < SHARD_ENDED_MAX; i++)
        if (job->ended[i].id == id && id != 0 && (!latest || job->ended[i].incarnation > latest->incarnation))
            latest = &job->ended[i];
    return latest;
}

uint32_t job_concurrency(const struct shard_job *job) {
    return job->pushers > 0 ? job->pushers : 1;
}

/* ---- ending */

static void session_return_credit(struct shard *shard, struct shard_session *session) {
    assert(shard->credit_granted >= session->credit_bytes);
    shard->credit_granted -= session->credit_bytes;
    session->credit_bytes = 0;
    metric_set(shard->credit_cell, (int64_t)shard->credit_granted);
}

void shard_session_free(struct shard *shard, struct shard_job *job, struct shard_session *session) {
    for (int i = 0; i < SHARD_PUSHES_OPEN; i++)
        shard_finish_push(shard, job, &session->pushes[i], true);
    gate_close(&job->gate, &session->gate);
    job->pushers -= session->may_push;
    session_return_credit(shard, session);
    metric_move(shard->session_cell, -1);
    dedup_deinit(&session->dedup);
    shard_forget_shadow(shard, job, session);
    free(session);
}

static void session_remember_end(struct shard_job *job, uint64_t id, uint32_t incarnation, const char *reason) {
    struct ended_session *entry = &job->ended[job->ended_next++ % SHARD_ENDED_MAX];
    *entry = (struct ended_session){.id = id, .incarnation = incarnation};
    snprintf(entry->reason, sizeof entry->reason, "%s", reason && reason[0] ? reason : "ended by the coordinator");
}

static void session_end(struct shard *shard, struct shard_job *job, struct shard_session *session) {
    uint32_t at = session_place(job, session->id);
    job->session_count--;
    memmove(&job->sessions[at], &job->sessions[at + 1], (job->session_count - at) * sizeof *job->sessions);
    shard_session_free(shard, job, session);
    shard_gate_settle(shard, job);
}

static enum lg_status session_close(struct shard *shard, const struct wire_session_close *close,
                                    struct lg_error *error) {
    enum lg_status status = shard_need_here(shard, close->shard, error);
    struct shard_job *job = shard_find_job(shard, close->job);
    if (status != LG_OK || !job)
        return status; /* without the job: it went with it */
    struct shard_session *session = job_session(job, close->session);
    const struct ended_session *ended = job_ended(job, close->session);
    if (session && close->incarnation < session->incarnation)
        return LG_OK; /* that incarnation ended when this one came */
    if (!ended || ended->incarnation < close->incarnation)
        session_remember_end(job, close->session, close->incarnation, close->reason);
    if (session)
        session_end(shard, job, session);
    return LG_OK;
}

void shard_handle_session_close(struct shard *shard, const struct shard_input *input) {
    struct lg_error error = {0};
    enum lg_status status = session_close(shard, &input->message->session_close, &error);
    shard_send_ack(shard, input, status, &error);
}

/* ---- opening */

static enum lg_status session_add(struct shard *shard, struct shard_job *job, const struct wire_session_open *open,
                                  struct lg_error *error) {
    if (job->session_count >= shard->config.sessions_max)
        return lg_fail(error, LG_UNAVAILABLE,
                       "\"%s\" has %u sessions, the most it may: raise \"shards.sessions\" on the servers", job->name,
                       job->session_count);
    if (job->session_count == job->session_capacity) {
        uint32_t capacity = job->session_capacity ? 2 * job->session_capacity : 8;
        struct shard_session **sessions = realloc(job->sessions, capacity * sizeof *sessions);
        if (!sessions)
            return lg_fail(error, LG_NO_MEMORY, "no memory for another session");
        job->sessions = sessions;
        job->session_capacity = capacity;
    }
    struct shard_session *session = calloc(1, sizeof *session);
    if (!session || !dedup_init(&session->dedup)) {
        free(session);
        return lg_fail(error, LG_NO_MEMORY, "no memory for another session");
    }
    session->id = open->session;
    session->token = open->token;
    session->incarnation = open->incarnation;
    session->may_push = open->may_push;
    session->may_initialise = open->may_initialise;
    uint32_t at = session_place(job, session->id);
    memmove(&job->sessions[at + 1], &job->sessions[at], (job->session_count - at) * sizeof *job->sessions);
    job->sessions[at] = session;
    job->session_count++;
    job->pushers += session->may_push;
    if (open->may_push)
        gate_open(&job->gate, &session->gate);
    metric_move(shard->session_cell, 1);
    return LG_OK;
}

static enum lg_status session_open(struct shard *shard, const struct wire_session_open *open, struct lg_error *error) {
    struct shard_job *job;
    enum lg_status status = shard_need_here(shard, open->shard, error);
    if (status == LG_OK)
        status = shard_need_job(shard, open->job, &job, error);
    if (status != LG_OK)
        return status;
    struct shard_session *session = job_session(job, open->session);
    const struct ended_session *ended = job_ended(job, open->session);
    if ((ended && open->incarnation <= ended->incarnation) || (session && open->incarnation < session->incarnation))
        return lg_fail(error, LG_FENCED, "incarnation %u of the session has ended%s%s", open->incarnation,
                       ended ? ": " : "", ended ? ended->reason : "");
    if (session && open->incarnation == session->incarnation)
        return LG_OK;
    if (session) {
        session_remember_end(job, session->id, session->incarnation, "a newer incarnation took its place");
        session_end(shard, job, session);
    }
    return session_add(shard, job, open, error);
}

void shard_handle_session_open(struct shard *shard, const struct shard_input *input) {
    struct lg_error error = {0};
    enum lg_status status = session_open(shard, &input->message->session_open, &error);
    shard_send_ack(shard, input, status, &error);
}

/* ---- who may send */

static enum lg_status find_session(struct shard_job *job, uint64_t id, uint32_t incarnation, struct shard_session **out,
                                   struct lg_error *error) {
    struct shard_session *session = job_session(job, id);
    if (session && incarnation == session->incarnation) {
        *out = session;
        return LG_OK;
    }
    const struct ended_session *ended = job_ended(job, id);
    if (ended && incarnation <= ended->incarnation)
        return lg_fail(error, LG_FENCED, "the session has ended: %s", ended->reason);
    if (session && incarnation < session->incarnation)
        return lg_fail(error, LG_FENCED, "incarnation %u of the session was replaced by %u", incarnation,
                       session->incarnation);
    return lg_fail(error, LG_DENIED, "the coordinator has opened no such session for \"%s\": join the job first",
                   job->name);
}

enum lg_status shard_need_session(struct shard_job *job, const struct shard_input *input, uint64_t id,
                                  uint32_t incarnation, uint64_t map_version, struct shard_session **out,
                                  struct lg_error *error) {
    enum lg_status status = find_session(job, id, incarnation, out, error);
    if (status != LG_OK)
        return status;
    if (!(*out)->greeted || (*out)->route != input->route || (*out)->principal != input->principal)
        return lg_fail(error, LG_DENIED, "the session has not said hello on this connection");
    if (map_version != job->map_version)
        return lg_fail(error, LG_FENCED, "the placement has version %llu, not %llu: join the job again",
                       (unsigned long long)job->map_version, (unsigned long long)map_version);
    return LG_OK;
}

/* ---- hello */

/* Takes the same time wherever the first difference is. */
static bool tokens_equal(uint64_t a, uint64_t b) {
    volatile uint64_t difference = a ^ b;
    return difference == 0;
}

/* What is left of the pool, up to the usual grant; never less than one message. */
static enum lg_status session_grant_credit(struct shard *shard, struct shard_session *session, struct lg_error *error) {
    session_return_credit(shard, session);
    uint64_t left = shard->config.credit_bytes - shard->credit_granted;
    uint64_t grant = left < shard->config.session_credit_bytes ? left : shard->config.session_credit_bytes;
    if (grant < SHARD_CREDIT_LEAST) {
        char pool[UNITS_TEXT_BYTES];
        return lg_fail(
            error, LG_NO_CREDIT,
            "the credit pool of %s is given out to other sessions: raise \"shards.credit\" on the server, or run "
            "fewer workers",
            units_bytes(shard->config.credit_bytes, pool, sizeof pool));
    }
    session->credit_bytes = grant;
    shard->credit_granted += grant;
    metric_set(shard->credit_cell, (int64_t)shard->credit_granted);
    return LG_OK;
}

static enum lg_status session_greet(struct shard *shard, const struct shard_input *input, struct shard_job **job,
                                    struct shard_session **out, struct lg_error *error) {
    const struct wire_hello *hello = &input->message->hello;
    enum lg_status status = shard_need_job(shard, hello->job, job, error);
    if (status == LG_OK)
        status = find_session(*job, hello->session, hello->incarnation, out, error);
    if (status != LG_OK)
        return status;
    struct shard_session *session = *out;
    if (!tokens_equal(session->token, hello->token))
        return lg_fail(error, LG_DENIED, "the session's token is wrong");
    if (input->message->request < session->hello_request)
        return lg_fail(error, LG_STALE, "the session has said hello on a newer connection");
    status = session_grant_credit(shard, session, error);
    if (status != LG_OK)
        return status;
    session->greeted = true;
    session->hello_request = input->message->request;
    session->route = input->route;
    session->principal = input->principal;
    session->window = hello->window < shard->config.window ? hello->window : shard->config.window;
    session->window = session->window > 0 ? session->window : 1;
    dedup_raise_floor(&session->dedup, hello->seq_floor);
    return LG_OK;
}

void shard_handle_hello(struct shard *shard, const struct shard_input *input) {
    struct lg_error error = {0};
    struct shard_job *job;
    struct shard_session *session;
    if (session_greet(shard, input, &job, &session, &error) != LG_OK) {
        shard_send_error(shard, input, 0, &error);
        return;
    }
    struct wire_message reply = {.kind = WIRE_HELLO_REPLY};
    reply.hello_reply = (struct wire_hello_reply){.shard = shard->config.index,
                                                  .window = session->window,
                                                  .credit_bytes = session->credit_bytes,
                                                  .version = job_version(job),
                                                  .local = shard->config.local};
    shard_send(shard, input, &reply);
}

/* ---- clients on the same host */

/* Room for a few gradients of the whole job, so that a stranger's offer cannot fill the address space. */
static uint64_t ring_bytes_max(const struct shard_job *job) {
    uint64_t elements = 0;
    for (size_t i = 0; i < job->tensor_count; i++)
        elements += tensor_elements(&job->tensors[i]);
    return 4 * (elements * sizeof(float) + LOCAL_PAGE_BYTES);
}

enum lg_status shard_attach(const struct shard *shard, const struct local_hello *hello, struct shard_attachment *out,
                            struct lg_error *error) {
    struct shard_job *job;
    struct shard_session *session;
    enum lg_status status = shard_need_job(shard, hello->job, &job, error);
    if (status == LG_OK)
        status = find_session(job, hello->session, hello->incarnation, &session, error);
    if (status != LG_OK)
        return status;
    if (!tokens_equal(session->token, hello->token))
        return lg_fail(error, LG_DENIED, "the session's token is wrong");
    if (hello->ring_bytes > ring_bytes_max(job))
        return lg_fail(error, LG_INVALID, "%llu bytes of gradient memory are more than \"%s\" needs: %llu at most",
                       (unsigned long long)hello->ring_bytes, job->name, (unsigned long long)ring_bytes_max(job));
    *out = (struct shard_attachment){job->segment.fd, job->unit_count, job->segment.bytes};
    return LG_OK;
}

bool shard_has_session(const struct shard *shard, uint64_t job_id, uint64_t id, uint32_t incarnation) {
    const struct shard_job *job = shard_find_job(shard, job_id);
    const struct shard_session *session = job ? job_session(job, id) : NULL;
    return session && session->incarnation == incarnation;
}
