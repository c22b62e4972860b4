/* Trainer processes: given to free slots in the order of submission, started and stopped through their agents, counted
 * on their slot until the agent reports their end. A trainer's number is never used again. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/log.h"
#include "server/coordinator/core.h"
#include "server/coordinator/queries.h"

enum {
    EXIT_CONFIGURATION = 3, /* a trainer's exit code: its configuration is wrong, starting it again would not help */
    FIRST_DELAY_MS = 250,   /* before the second restart of a job; doubles */
    LONGEST_DELAY_MS = 10000,
    LINGER_MS = 30000, /* that a trainer may take to leave a finished job */
};

struct trainer *trainer_find(const struct coordinator *core, uint64_t number) {
    for (size_t i = 0; number != 0 && i < core->trainers.count; i++) {
        struct trainer *trainer = core->trainers.items[i];
        if (trainer->number == number && !trainer->gone)
            return trainer;
    }
    return NULL;
}

void trainer_put(struct coordinator *core, const struct trainer *trainer) {
    core_put(core, STORE_TABLE_TRAINER,
             &(struct store_trainer){trainer->number, trainer->job, trainer->agent, trainer->token, trainer->device,
                                     trainer->attempt, trainer->state, (uint64_t)trainer->started_ms, trainer->reason});
}

size_t trainers_of(const struct coordinator *core, uint64_t job) {
    size_t count = 0;
    for (size_t i = 0; i < core->trainers.count; i++) {
        const struct trainer *trainer = core->trainers.items[i];
        count += trainer->job == job && !trainer->gone && trainer->state != TRAINER_STATE_STOPPING;
    }
    return count;
}

struct trainer *trainer_new(struct coordinator *core, struct job *job, uint64_t agent, const char *device) {
    struct trainer *trainer = calloc(1, sizeof *trainer);
    if (!trainer || !list_add(&core->trainers, trainer)) {
        free(trainer);
        return NULL;
    }
    trainer->number = core->next_trainer++;
    core->counters_changed = true;
    trainer->token = core_random(core);
    trainer->job = job->id;
    trainer->agent = agent;
    trainer->attempt = job->next_attempt ? job->next_attempt : 1;
    job->next_attempt = 0;
    trainer->started_ms = core->now.wall_ms;
    core_copy(trainer->device, sizeof trainer->device, device);
    trainer->changed = true;
    return trainer;
}

/* ---- commands to agents */

static void send_start(struct coordinator *core, const struct member *agent, struct trainer *trainer) {
    const struct job *job = job_find(core, trainer->job);
    struct lg_error error;
    size_t pairs = 0;
    if (wire_pairs_from_config(job->spec, core->pairs, WIRE_PAIRS_MAX, &pairs, &error) != LG_OK)
        return;
    struct wire_message message = {.kind = WIRE_TRAINER_START, .request = CORE_TRAINER_REQUEST | trainer->number << 1};
    message.trainer_start = (struct wire_trainer_start){.trainer = trainer->number,
                                                        .token = trainer->token,
                                                        .job = job->id,
                                                        .job_name = job->name,
                                                        .attempt = trainer->attempt,
                                                        .device = trainer->device,
                                                        .spec = core->pairs,
                                                        .spec_count = pairs};
    core_send(core, agent->route, &message);
}

static void send_stop(struct coordinator *core, const struct member *agent, uint64_t number, const char *reason) {
    struct wire_message message = {.kind = WIRE_TRAINER_STOP, .request = CORE_TRAINER_REQUEST | number << 1 | 1};
    message.trainer_stop = (struct wire_trainer_stop){number, CORE_STOP_GRACE_MS, reason};
    core_send(core, agent->route, &message);
}

/* What the trainer's agent should know and has not acknowledged. */
static void command(struct coordinator *core, struct trainer *trainer) {
    const struct member *agent = member_find(core, trainer->agent);
    bool due = trainer->sent_ns == 0 || core_since_ms(core, trainer->sent_ns) >= CORE_RESEND_MS;
    if (!agent || !member_is_alive(agent) || agent->route == 0 || trainer->acknowledged || !due)
        return;
    trainer->sent_ns = core->now.now_ns;
    if (trainer->state == TRAINER_STATE_STARTING)
        send_start(core, agent, trainer);
    else if (trainer->state == TRAINER_STATE_STOPPING)
        send_stop(core, agent, trainer->number, trainer->reason);
}

void trainers_answer(struct coordinator *core, const struct coordinator_input *input) {
    uint64_t code = input->message->request & ~CORE_TRAINER_REQUEST;
    struct trainer *trainer = trainer_find(core, code >> 1);
    const struct member *agent = trainer ? member_find(core, trainer->agent) : NULL;
    bool stop = code & 1;
    if (!agent || agent->route != input->route || stop != (trainer->state == TRAINER_STATE_STOPPING))
        return;
    if (input->message->kind == WIRE_ACK && input->message->ack.status != LG_OK && !stop) {
        trainer_gone(core, trainer, true, input->message->ack.reason);
        return;
    }
    trainer->acknowledged = true;
}

void trainer_stop(struct coordinator *core, struct trainer *trainer, const char *reason) {
    if (trainer->state == TRAINER_STATE_STOPPING || trainer->gone)
        return;
    if (trainer->agent == 0) { /* it came by itself; its session's end is all there is to tell it */
        if (!trainer->session)
            trainer_gone(core, trainer, false, reason);
        return;
    }
    trainer->state = TRAINER_STATE_STOPPING;
    trainer->acknowledged = false;
    trainer->sent_ns = 0;
    trainer->changed = true;
    core_copy(trainer->reason, sizeof trainer->reason, reason);
    command(core, trainer);
}

void trainers_stop_job(struct coordinator *core, struct job *job, const char *reason) {
    for (size_t i = 0; i < core->trainers.count; i++) {
        struct trainer *trainer = core->trainers.items[i];
        if (trainer->job == job->id)
            trainer_stop(core, trainer, reason);
    }
}

/* ---- ends */

static void remember(struct coordinator *core, struct job *job, const struct trainer *trainer, const char *state) {
    const struct member *agent = member_find(core, trainer->agent);
    const struct session *session = session_find(core, trainer->session);
    if (job->ended_count == CORE_ENDED_TRAINERS_MAX) {
        memmove(job->ended, job->ended + 1, (CORE_ENDED_TRAINERS_MAX - 1) * sizeof *job->ended);
        job->ended_count--;
    }
    struct ended_trainer *ended = &job->ended[job->ended_count++];
    *ended = (struct ended_trainer){.trainer = trainer->number, .attempt = trainer->attempt};
    core_copy(ended->agent, sizeof ended->agent, agent ? agent->title : "");
    core_copy(ended->device, sizeof ended->device, query_trainer_device(trainer, session));
    core_copy(ended->state, sizeof ended->state, state);
    if (!session)
        return;
    ended->steps = session->steps;
    ended->samples = session->samples;
    ended->loss = session->loss;
    ended->times = session->times;
}

/* One restart more; too many fail the job. */
static void count_restart(struct coordinator *core, struct job *job, const struct trainer *trainer,
                          const char *reason) {
    int64_t delay_ms = 0;
    if (job->restarts >= (uint64_t)job->config.restarts) {
        job_fail(core, job,
                 "trainer %" PRIu64 " ended (%.300s) and its %" PRIu64 " restarts are used up; see `lagoon logs`",
                 trainer->number, reason, job->restarts);
        return;
    }
    if (job->restarts > 0)
        delay_ms = job->restarts < 7 ? FIRST_DELAY_MS << (job->restarts - 1) : LONGEST_DELAY_MS;
    if (delay_ms > LONGEST_DELAY_MS)
        delay_ms = LONGEST_DELAY_MS;
    job->restarts++;
    job->changed = true;
    job->next_attempt = trainer->attempt + 1;
    job->start_after_ns = core->now.now_ns + delay_ms * 1000000;
    history_add(core, job, "trainer %" PRIu64 " ended: %s; restart %" PRIu64 " of %" PRId64 "%s", trainer->number,
                reason, job->restarts, job->config.restarts, delay_ms ? " follows shortly" : "");
}

void trainer_gone(struct coordinator *core, struct trainer *trainer, bool crashed, const char *reason) {
    struct job *job = job_find(core, trainer->job);
    struct session *session = session_find(core, trainer->session);
    static const char *const kind = "trainer";
    if (trainer->gone)
        return;
    trainer->gone = true;
    trainer->changed = false;
    if (job)
        remember(core, job, trainer, reason);
    core_remove(core, STORE_TABLE_TRAINER, &(struct store_trainer){.trainer = trainer->number});
    if (crashed && core->config.metrics)
        metric_add(metrics_cell(core->config.metrics, METRIC_EVICTIONS, &kind), 1);
    if (job && crashed && job_is_live(job))
        count_restart(core, job, trainer, reason);
    if (session)
        session_lose(core, session, LG_FENCED, "%s", reason);
}

/* Trainers end while others look at the list; they leave it here. */
void trainers_sweep(struct coordinator *core) {
    size_t kept = 0;
    for (size_t i = 0; i < core->trainers.count; i++) {
        struct trainer *trainer = core->trainers.items[i];
        if (trainer->gone)
            free(trainer);
        else
            core->trainers.items[kept++] = trainer;
    }
    core->trainers.count = kept;
}

void trainer_evict(struct coordinator *core, struct trainer *trainer, const char *reason) {
    struct job *job = job_find(core, trainer->job);
    struct session *session = session_find(core, trainer->session);
    static const char *const kind = "trainer";
    log_warn("trainer-evicted", "trainer %" PRIu64 " of job \"%s\" is given up: %s", trainer->number,
             job ? job->name : "?", reason);
    if (session)
        session_lose(core, session, LG_FENCED, "%s", reason);
    if (core->config.metrics)
        metric_add(metrics_cell(core->config.metrics, METRIC_EVICTIONS, &kind), 1);
    if (trainer->agent == 0 || trainer->state == TRAINER_STATE_STOPPING)
        return; /* gone with its session, or counted already */
    trainer_stop(core, trainer, reason);
    if (job && job_is_live(job))
        count_restart(core, job, trainer, reason);
}

void trainers_lose_agent(struct coordinator *core, const struct member *agent, const char *why) {
    char reason[CORE_REASON_BYTES];
    snprintf(reason, sizeof reason, "worker \"%s\" %s", agent->title, why);
    for (size_t i = 0; i < core->trainers.count; i++) {
        struct trainer *trainer = core->trainers.items[i];
        struct job *job = job_find(core, trainer->job);
        if (trainer->agent != agent->number || trainer->gone)
            continue;
        if (job && job_is_live(job))
            history_add(core, job, "trainer %" PRIu64 " is lost: %s", trainer->number, reason);
        trainer_gone(core, trainer, false, reason);
    }
}

static bool is_named(uint64_t number, const uint64_t *numbers, size_t count) {
    for (size_t i = 0; i < count; i++)
        if (numbers[i] == number)
            return true;
    return false;
}

/* What an agent says it runs, against what it should. */
void trainers_seen(struct coordinator *core, const struct member *agent, const uint64_t *numbers, size_t count) {
    for (size_t i = 0; i < core->trainers.count; i++) {
        struct trainer *trainer = core->trainers.items[i];
        bool told = trainer->state != TRAINER_STATE_STARTING || trainer->acknowledged;
        if (trainer->agent != agent->number || trainer->gone)
            continue;
        if (is_named(trainer->number, numbers, count))
            trainer->missing = 0;
        else if (told && ++trainer->missing >= CORE_MISSING_BEATS)
            trainer_gone(core, trainer, trainer->state != TRAINER_STATE_STOPPING,
                         "its worker does not run it any more");
    }
    for (size_t i = 0; i < count; i++) {
        const struct trainer *trainer = trainer_find(core, numbers[i]);
        if (!trainer || trainer->agent != agent->number)
            send_stop(core, agent, numbers[i], "it was given up while its worker was silent");
    }
}

/* The worker does not suit this job: it is not asked again. */
static void exclude(struct coordinator *core, struct job *job, const struct trainer *trainer) {
    const struct member *agent = member_find(core, trainer->agent);
    uint64_t *unsuited = realloc(job->unsuited, (job->unsuited_count + 1) * sizeof *unsuited);
    if (!unsuited)
        return;
    job->unsuited = unsuited;
    unsuited[job->unsuited_count++] = trainer->agent;
    history_add(core, job, "worker \"%s\" is left out of this job", agent ? agent->title : "?");
}

static bool work_is_left(const struct job *job) {
    return job->phase < JOB_PHASE_RUNNING || (job->phase == JOB_PHASE_RUNNING && !leases_finished(&job->leases));
}

static void describe_exit(const struct wire_trainer_exit *exit, char *text, size_t bytes) {
    if (exit->reason[0])
        core_copy(text, bytes, exit->reason);
    else if (exit->signal)
        snprintf(text, bytes, "killed by signal %d", exit->signal);
    else
        snprintf(text, bytes, "exit code %d", exit->code);
}

void trainers_exit(struct coordinator *core, const struct coordinator_input *input) {
    const struct wire_trainer_exit *exit = &input->message->trainer_exit;
    struct trainer *trainer = trainer_find(core, exit->trainer);
    struct job *job = trainer ? job_find(core, trainer->job) : NULL;
    char reason[CORE_REASON_BYTES - 80];
    core_ack(core, input, LG_OK, "%s", "");
    if (!job)
        return; /* a repeat */
    const struct member *agent = member_find(core, trainer->agent);
    bool withdrawn = agent && agent->slots == 0; /* its worker is being shut down */
    bool clean = exit->code == 0 && exit->signal == 0;
    describe_exit(exit, reason, sizeof reason);
    if (trainer->state == TRAINER_STATE_STOPPING || !job_is_live(job)) {
        trainer_gone(core, trainer, false, reason);
    } else if (trainer->refused) {
        exclude(core, job, trainer);
        trainer_gone(core, trainer, false, reason);
    } else if (exit->code == EXIT_CONFIGURATION && exit->signal == 0) {
        job_fail(core, job, "trainer %" PRIu64 ": %s", trainer->number, reason);
        trainer_gone(core, trainer, false, reason);
    } else if (withdrawn) {
        history_add(core, job, "trainer %" PRIu64 " ended: worker \"%s\" is shutting down", trainer->number,
                    agent->title);
        trainer_gone(core, trainer, false, reason);
    } else {
        trainer_gone(core, trainer, !clean || work_is_left(job), reason);
    }
}

/* ---- slots */

static bool is_unsuited(const struct job *job, uint64_t agent) {
    return is_named(agent, job->unsuited, job->unsuited_count);
}

static size_t trainers_on(const struct coordinator *core, uint64_t agent, uint64_t job, const char *device) {
    size_t count = 0;
    for (size_t i = 0; i < core->trainers.count; i++) {
        const struct trainer *trainer = core->trainers.items[i];
        count += trainer->agent == agent && !trainer->gone && (job == 0 || trainer->job == job) &&
                 (!device || strcmp(trainer->device, device) == 0);
    }
    return count;
}

/* Among agents with a free slot the one with fewest trainers of this job, then with most free slots, then the first. */
static const struct member *pick_agent(const struct coordinator *core, const struct job *job) {
    const struct member *best = NULL;
    size_t best_mine = 0, best_free = 0;
    for (size_t i = 0; i < core->members.count; i++) {
        const struct member *agent = core->members.items[i];
        size_t used = member_slots_used(core, agent->number), mine = trainers_on(core, agent->number, job->id, NULL);
        if (agent->kind != WIRE_MEMBER_AGENT || !member_is_alive(agent) || !agent->registered || used >= agent->slots ||
            is_unsuited(job, agent->number))
            continue;
        size_t left = agent->slots - used;
        if (best && (mine > best_mine || (mine == best_mine && left <= best_free)))
            continue;
        best = agent;
        best_mine = mine;
        best_free = left;
    }
    return best;
}

/* The one with fewest trainers, of all jobs; of equal ones the first. */
static const char *pick_device(const struct coordinator *core, const struct member *agent) {
    const char *best = "";
    size_t least = SIZE_MAX;
    for (size_t i = 0; i < agent->device_count; i++) {
        size_t used = trainers_on(core, agent->number, 0, agent->devices[i]);
        if (used < least) {
            least = used;
            best = agent->devices[i];
        }
    }
    return best;
}

static bool wants_trainers(const struct coordinator *core, const struct job *job) {
    if (job->phase > JOB_PHASE_RUNNING || job->waiting_ns != 0 || core->now.now_ns < job->start_after_ns)
        return false;
    size_t there = trainers_of(core, job->id);
    if (job->phase == JOB_PHASE_RUNNING && there > 0 && leases_samples_left(&job->leases) == 0)
        return false;
    size_t wanted = job->config.workers == 0 ? SIZE_MAX : (size_t)job->config.workers;
    return there < wanted && there < core->config.sessions_per_job_max;
}

static bool a_server_is_there(const struct coordinator *core) {
    for (size_t i = 0; i < core->members.count; i++) {
        const struct member *member = core->members.items[i];
        if (member->kind == WIRE_MEMBER_SERVER && member_is_alive(member))
            return true;
    }
    return false;
}

static void schedule(struct coordinator *core) {
    if (!a_server_is_there(core))
        return;
    for (size_t i = 0; i < core->jobs.count; i++) {
        struct job *job = core->jobs.items[i];
        while (wants_trainers(core, job)) {
            const struct member *agent = pick_agent(core, job);
            struct trainer *trainer = agent ? trainer_new(core, job, agent->number, pick_device(core, agent)) : NULL;
            if (!trainer)
                break;
            log_info("trainer", "trainer %" PRIu64 " of job \"%s\" goes to worker \"%s\" (%s), attempt %u",
                     trainer->number, job->name, agent->title, trainer->device[0] ? trainer->device : "any device",
                     trainer->attempt);
            command(core, trainer);
        }
    }
}

/* ---- time */

static void watch(struct coordinator *core, struct trainer *trainer) {
    const struct job *job = job_find(core, trainer->job);
    if (!job || (trainer->agent != 0 && !member_find(core, trainer->agent))) {
        trainer_gone(core, trainer, false, job ? "its worker is not known any more" : "its job is forgotten");
        return;
    }
    bool lingers = !job_is_live(job) && core->now.wall_ms - job->finished_ms > LINGER_MS;
    if (trainer->state != TRAINER_STATE_STOPPING && lingers)
        trainer_stop(core, trainer, "its job has ended");
    else
        command(core, trainer);
}

void trainers_tick(struct coordinator *core) {
    for (size_t i = 0; i < core->trainers.count; i++)
        if (!((const struct trainer *)core->trainers.items[i])->gone)
            watch(core, core->trainers.items[i]);
    schedule(core);
}
