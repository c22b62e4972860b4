/* A job's life: phases, waiting for servers, the end and its ledgers, cancelling, letting go of memory. */
#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "common/log.h"
#include "common/units.h"
#include "server/coordinator/core.h"

enum { PLACE_AGAIN_MS = 500, LEDGER_ROWS_FULL = WIRE_ROWS_MAX / 2 };

struct job *job_find(const struct coordinator *core, uint64_t id) {
    for (size_t i = 0; i < core->jobs.count; i++) {
        struct job *job = core->jobs.items[i];
        if (job->id == id)
            return job;
    }
    return NULL;
}

struct job *job_named(const struct coordinator *core, const char *name, struct lg_error *error) {
    for (size_t i = core->jobs.count; i-- > 0;) {
        struct job *job = core->jobs.items[i];
        if (strcmp(job->name, name) == 0)
            return job;
    }
    char *end;
    uint64_t id = strtoull(name, &end, 10);
    struct job *job = *name >= '0' && *name <= '9' && *end == '\0' ? job_find(core, id) : NULL;
    if (!job)
        lg_fail(error, LG_NOT_FOUND, "there is no job \"%.100s\"; `lagoon jobs` lists them", name);
    return job;
}

void job_free(struct job *job) {
    if (!job)
        return;
    config_free(job->spec);
    block_table_deinit(&job->blocks);
    if (job->placed)
        leases_deinit(&job->leases);
    free(job->tensors);
    free(job->placement);
    free(job->shards);
    free(job->slot_bytes);
    free(job->slot_units);
    free(job->stats);
    free(job->work);
    free(job->unsuited);
    free(job->evaluations);
    free(job->ledger);
    line_ring_free(&job->history);
    line_ring_free(&job->log);
    free(job);
}

void job_put(struct coordinator *core, const struct job *job) {
    json_t *spec = json_object();
    for (size_t i = 0; i < job->spec->count; i++)
        json_object_set_new(spec, job->spec->entries[i].key, json_string(job->spec->entries[i].value));
    char *text = json_dumps(spec, JSON_COMPACT | JSON_PRESERVE_ORDER);
    core_put(core, STORE_TABLE_JOB,
             &(struct store_job){job->id, job->name, text ? text : "{}", job->external_init, job->phase, job->reason,
                                 job->memory, (uint64_t)job->submitted_ms, (uint64_t)job->started_ms,
                                 (uint64_t)job->finished_ms, job->restarts, job->init_holder, job->init_fence,
                                 job->loss});
    free(text);
    json_decref(spec);
}

/* ---- what a job is */

bool job_is_live(const struct job *job) {
    return job->phase < JOB_PHASE_FINISHED;
}

bool job_has_values(const struct job *job) {
    bool past = job->phase >= JOB_PHASE_RUNNING && job->phase != JOB_PHASE_CANCELLED;
    return past && job->memory == JOB_MEMORY_HELD && job->started_ms != 0;
}

const char *job_state_name(const struct job *job) {
    static const char *const names[JOB_PHASE_COUNT] = {"queued",     "defining", "initialising", "running",
                                                       "evaluating", "finished", "failed",       "cancelled"};
    if (job_is_live(job) && job->waiting_ns != 0)
        return "waiting";
    if (job->phase == JOB_PHASE_RUNNING && job->placed && leases_trained(&job->leases))
        return "evaluating";
    return names[job->phase];
}

size_t job_slot_of(const struct job *job, uint32_t shard) {
    for (size_t i = 0; job->placed && i < job->shard_count; i++)
        if (job->shards[i] == shard)
            return i;
    return SIZE_MAX;
}

static const struct member *silent_server(const struct coordinator *core, const struct job *job) {
    for (size_t i = 0; job->placed && i < job->shard_count; i++) {
        const struct member *server = member_of_shard(core, job->shards[i], NULL);
        if (server && !member_is_alive(server))
            return server;
    }
    return NULL;
}

bool job_servers_alive(const struct coordinator *core, const struct job *job) {
    return !silent_server(core, job);
}

/* ---- phases */

void job_set_phase(struct coordinator *core, struct job *job, enum job_phase phase) {
    job->phase = phase;
    job->reason[0] = '\0';
    job->changed = true;
    if (phase == JOB_PHASE_RUNNING && job->started_ms == 0) {
        job->started_ms = core->now.wall_ms;
        job->started_ns = core->now.now_ns;
    }
    if (phase >= JOB_PHASE_FINISHED)
        job->finished_ms = core->now.wall_ms;
}

void job_wait_reason(struct job *job, const char *format, ...) {
    char reason[CORE_REASON_BYTES];
    va_list args;
    va_start(args, format);
    vsnprintf(reason, sizeof reason, format, args);
    va_end(args);
    if (strcmp(reason, job->reason) == 0)
        return;
    core_copy(job->reason, sizeof job->reason, reason);
    job->changed = true;
}

static void end_sessions(struct coordinator *core, struct job *job, enum lg_status status, const char *reason) {
    for (size_t i = 0; i < core->sessions.count; i++) {
        struct session *session = core->sessions.items[i];
        if (session->job == job->id)
            session_lose(core, session, status, "%s", reason);
    }
}

void job_fail(struct coordinator *core, struct job *job, const char *format, ...) {
    char reason[CORE_REASON_BYTES - 80], told[CORE_REASON_BYTES + CORE_NAME_BYTES];
    va_list args;
    va_start(args, format);
    vsnprintf(reason, sizeof reason, format, args);
    va_end(args);
    if (!job_is_live(job))
        return;
    tasks_end_job(core, job->id);
    job_set_phase(core, job, JOB_PHASE_FAILED);
    job->waiting_ns = 0;
    core_copy(job->reason, sizeof job->reason, reason);
    history_add(core, job, "failed: %s", reason);
    snprintf(told, sizeof told, "job \"%s\" failed: %s", job->name, reason);
    trainers_stop_job(core, job, told);
    end_sessions(core, job, LG_CANCELLED, told);
    if (!job_has_values(job))
        job_release(core, job);
}

/* ---- memory */

void job_release(struct coordinator *core, struct job *job) {
    if (job->memory != JOB_MEMORY_HELD)
        return;
    tasks_end_job(core, job->id);
    job->memory = JOB_MEMORY_DROPPING;
    job->changed = true;
    end_sessions(core, job, LG_CANCELLED, "the job's values are gone from the shards");
    task_start(core, TASK_KIND_JOB_CLOSE, job, NULL, NULL);
}

void job_released(struct job *job) {
    job->memory = JOB_MEMORY_NONE;
    job->changed = true;
}

void jobs_lose_server(struct coordinator *core, const struct member *server, const char *why) {
    for (size_t i = 0; i < core->jobs.count; i++) {
        struct job *job = core->jobs.items[i];
        bool there = false;
        for (size_t s = 0; s < server->shard_count; s++)
            there = there || job_slot_of(job, server->shards[s]) != SIZE_MAX;
        if (!there || job->memory != JOB_MEMORY_HELD)
            continue;
        if (job_is_live(job))
            job_fail(core, job, "server \"%s\" %s; durability \"%s\" keeps no copy", server->title, why,
                     job->config.durability);
        else
            history_add(core, job, "the values are lost: server \"%s\" %s", server->title, why);
        job_release(core, job);
    }
}

/* ---- the end */

void job_advance(struct coordinator *core, struct job *job) {
    if (job->phase != JOB_PHASE_RUNNING || !leases_finished(&job->leases))
        return;
    job_set_phase(core, job, JOB_PHASE_CLOSING);
    task_start(core, TASK_KIND_LEDGER, job, NULL, NULL);
}

static int compare_ledger(const void *left, const void *right) {
    const struct ledger_row *a = left, *b = right;
    if (a->shard != b->shard)
        return a->shard < b->shard ? -1 : 1;
    return a->row.epoch < b->row.epoch ? -1 : a->row.epoch > b->row.epoch;
}

void job_take_ledger(struct coordinator *core, struct job *job, uint32_t shard, const struct wire_ledger_row *rows,
                     size_t count) {
    struct ledger_row *ledger = realloc(job->ledger, (job->ledger_count + count + 1) * sizeof *ledger);
    if (!ledger)
        return;
    job->ledger = ledger;
    for (size_t i = 0; i < count; i++) {
        size_t at = 0;
        while (at < job->ledger_count && (ledger[at].shard != shard || ledger[at].row.epoch != rows[i].epoch))
            at++;
        ledger[at] = (struct ledger_row){shard, rows[i]};
        job->ledger_count += at == job->ledger_count;
        core_put(core, STORE_TABLE_LEDGER,
                 &(struct store_ledger){job->id, shard, rows[i].epoch, rows[i].samples_least, rows[i].samples_most,
                                        rows[i].dropped});
    }
    qsort(ledger, job->ledger_count, sizeof *ledger, compare_ledger);
}

/* Shards keep the rows of the newest epochs only; what is older was complete. */
static uint64_t oldest_kept(const struct job *job, uint32_t shard) {
    uint64_t oldest = UINT64_MAX, rows = 0;
    for (size_t i = 0; i < job->ledger_count; i++)
        if (job->ledger[i].shard == shard) {
            rows++;
            if (job->ledger[i].row.epoch < oldest)
                oldest = job->ledger[i].row.epoch;
        }
    return rows >= LEDGER_ROWS_FULL ? oldest : 0;
}

static const struct ledger_row *find_ledger(const struct job *job, uint32_t shard, uint64_t epoch) {
    for (size_t i = 0; i < job->ledger_count; i++)
        if (job->ledger[i].shard == shard && job->ledger[i].row.epoch == epoch)
            return &job->ledger[i];
    return NULL;
}

/* What the shards' own books say: every sample of every epoch once, or where not. */
static void audit(struct coordinator *core, struct job *job) {
    uint64_t wanted = job->train_samples, epochs = (uint64_t)job->config.epochs, off = 0;
    char count[UNITS_TEXT_BYTES];
    for (size_t slot = 0; slot < job->shard_count; slot++)
        for (uint64_t epoch = oldest_kept(job, job->shards[slot]); epoch < epochs; epoch++) {
            const struct ledger_row *row = find_ledger(job, job->shards[slot], epoch);
            if (row && row->row.samples_least == wanted && row->row.samples_most == wanted)
                continue;
            if (off++ == 0)
                history_add(core, job,
                            "warning: shard %u counted %" PRIu64 " to %" PRIu64 " of %" PRIu64
                            " samples in epoch %" PRIu64,
                            job->shards[slot], row ? row->row.samples_least : 0, row ? row->row.samples_most : 0,
                            wanted, epoch + 1);
        }
    if (off == 0)
        history_add(core, job, "every one of the %s samples of %s was applied exactly once on %s",
                    units_count(wanted, count, sizeof count), epochs == 1 ? "the epoch" : "each epoch",
                    job->shard_count == 1 ? "the shard" : "all shards");
    else if (off > 1)
        history_add(core, job, "warning: %" PRIu64 " ledgers of shards and epochs differ from %" PRIu64 " samples", off,
                    wanted);
}

static void put_stats(struct coordinator *core, const struct job *job) {
    for (size_t i = 0; i < job->shard_count; i++) {
        const struct wire_shard_job_stats *s = &job->stats[i];
        core_put(core, STORE_TABLE_STATS,
                 &(struct store_stats){job->id, job->shards[i], s->pushes, s->samples, s->dropped, s->duplicates,
                                       s->staleness_mean, s->staleness_p99, s->staleness_max, s->weight_mean,
                                       s->push_bytes, s->pull_bytes, s->parameter_bytes, s->state_bytes});
    }
}

void job_ledgers_read(struct coordinator *core, struct job *job) {
    if (job->phase != JOB_PHASE_CLOSING)
        return;
    char took[UNITS_TEXT_BYTES];
    audit(core, job);
    put_stats(core, job);
    job_set_phase(core, job, JOB_PHASE_FINISHED);
    units_duration(job->finished_ms - job->started_ms, took, sizeof took);
    if (job->evaluation_count > 0) {
        const struct evaluation *last = &job->evaluations[job->evaluation_count - 1];
        history_add(core, job, "finished after %s: test accuracy %.2f %%, loss %.4f", took, 100 * last->accuracy,
                    last->loss);
    } else {
        history_add(core, job, "finished after %s", took);
    }
}

/* ---- cancelling */

void jobs_cancel(struct coordinator *core, const struct coordinator_input *input) {
    const struct wire_cancel *cancel = &input->message->cancel;
    struct lg_error error;
    struct job *job = job_named(core, cancel->job, &error);
    char told[CORE_REASON_BYTES + CORE_NAME_BYTES];
    if (!job) {
        core_ack(core, input, LG_NOT_FOUND, "%s", error.message);
        return;
    }
    if (!job_is_live(job)) {
        if (job->memory == JOB_MEMORY_HELD)
            history_add(core, job, "its values are dropped from the shards: %s",
                        cancel->reason[0] ? cancel->reason : "cancelled after its end");
        job_release(core, job);
        core_ack(core, input, LG_OK, "job \"%s\" is %s", job->name, job_state_name(job));
        return;
    }
    tasks_end_job(core, job->id);
    job_set_phase(core, job, JOB_PHASE_CANCELLED);
    job->waiting_ns = 0;
    core_copy(job->reason, sizeof job->reason, cancel->reason);
    history_add(core, job, "cancelled%s%s", cancel->reason[0] ? ": " : "", cancel->reason);
    snprintf(told, sizeof told, "job \"%s\" was cancelled%s%.300s", job->name, cancel->reason[0] ? ": " : "",
             cancel->reason);
    trainers_stop_job(core, job, told);
    end_sessions(core, job, LG_CANCELLED, told);
    job_release(core, job);
    core_ack(core, input, LG_OK, "%s", "");
}

/* ---- time */

/* A silent server holds the job up; after the grace it fails. */
static void watch_servers(struct coordinator *core, struct job *job) {
    const struct member *silent = job->memory == JOB_MEMORY_HELD ? silent_server(core, job) : NULL;
    char grace[UNITS_TEXT_BYTES];
    if (!silent && job->waiting_ns != 0) {
        history_add(core, job, "all servers answer again after %.1f s",
                    (double)core_since_ms(core, job->waiting_ns) / 1000);
        job->waiting_ns = 0;
        job->reason[0] = '\0';
        job->changed = true;
        for (size_t i = 0; i < core->sessions.count; i++) {
            struct session *session = core->sessions.items[i];
            if (session->job == job->id)
                session->step_ns = core->now.now_ns;
        }
    }
    if (!silent)
        return;
    units_duration(core->config.server_grace_ms, grace, sizeof grace);
    if (job->waiting_ns == 0) {
        job->waiting_ns = core->now.now_ns;
        history_add(core, job, "waiting for server \"%s\", which is silent; for %s at most", silent->title, grace);
    }
    job_wait_reason(job, "waiting for server \"%s\"", silent->title);
    if (core_since_ms(core, silent->heard_ns) > core->config.server_grace_ms)
        job_fail(core, job, "server \"%s\" has been silent for more than %s; restart it and submit the job again",
                 silent->title, grace);
}

static void explain_queue(struct coordinator *core, struct job *job) {
    size_t servers = 0, agents = 0;
    for (size_t i = 0; i < core->members.count; i++) {
        const struct member *member = core->members.items[i];
        servers += member_is_alive(member) && member->kind == WIRE_MEMBER_SERVER;
        agents += member_is_alive(member) && member->kind == WIRE_MEMBER_AGENT && member->slots > 0;
    }
    if (servers == 0)
        job_wait_reason(job, "waiting for a server to register");
    else if (trainers_of(core, job->id) > 0)
        job_wait_reason(job, "its trainers are starting");
    else if (agents == 0)
        job_wait_reason(job, "waiting for a worker to register");
    else
        job_wait_reason(job, "waiting for a free slot");
}

/* The metrics of a name that no job has any more. */
static void forget_metrics(struct coordinator *core, const struct job *job) {
    for (size_t i = 0; i < core->jobs.count; i++) {
        const struct job *other = core->jobs.items[i];
        if (other != job && strcmp(other->name, job->name) == 0)
            return;
    }
    metrics_remove(core->config.metrics, (const char *const[]){"job", job->name, NULL});
}

/* Ended jobs beyond the limit are forgotten, oldest first; one that still holds memory lets go of it first. */
static void forget_ended(struct coordinator *core) {
    size_t ended = 0;
    for (size_t i = core->jobs.count; i-- > 0;) {
        struct job *job = core->jobs.items[i];
        if (!job_is_live(job) && ++ended > CORE_LOGS_ENDED_MAX)
            line_ring_free(&job->log);
    }
    for (size_t i = 0; ended > CORE_JOBS_ENDED_MAX && i < core->jobs.count; i++) {
        struct job *job = core->jobs.items[i];
        if (job_is_live(job))
            continue;
        ended--;
        job_release(core, job);
        if (job->memory != JOB_MEMORY_NONE || trainers_of(core, job->id) > 0)
            continue;
        end_sessions(core, job, LG_NOT_FOUND, "the job is forgotten");
        tasks_end_job(core, job->id);
        core_remove(core, STORE_TABLE_JOB, &(struct store_job){.job = job->id});
        forget_metrics(core, job);
        list_remove(&core->jobs, job);
        job_free(job);
        i--;
    }
}

void jobs_tick(struct coordinator *core) {
    for (size_t i = 0; i < core->jobs.count; i++) {
        struct job *job = core->jobs.items[i];
        if (!job_is_live(job))
            continue;
        watch_servers(core, job);
        if (job->phase == JOB_PHASE_QUEUED && !job->tensors)
            explain_queue(core, job);
        else if (job->phase == JOB_PHASE_QUEUED && core_since_ms(core, job->placed_ns) >= PLACE_AGAIN_MS)
            define_place(core, job);
        if (job_is_live(job))
            job_advance(core, job);
    }
    forget_ended(core);
}
