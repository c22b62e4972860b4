/* Rows back in. A row that does not fit what came before it is an error that names the row: a database written by this
 * program has none, so something else has been at it. */
#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "server/coordinator/core.h"

static enum lg_status no_memory(struct lg_error *error) {
    return lg_fail(error, LG_NO_MEMORY, "no memory to load the database");
}

static enum lg_status restore_counter(struct coordinator *core, const struct store_counter *row) {
    uint64_t *const counters[] = {&core->next_job, &core->next_member, &core->next_shard, &core->next_trainer};
    static const char *const names[] = {"job", "member", "shard", "trainer"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(row->name, names[i]) == 0)
            *counters[i] = row->value;
    return LG_OK;
}

/* The texts of a comma-joined list; NULL without memory. */
static char **split(const char *list, size_t *count) {
    size_t items = *list != '\0';
    for (const char *c = list; *c; c++)
        items += *c == ',';
    char **texts = calloc(items ? items : 1, sizeof *texts);
    *count = 0;
    while (texts && *count < items) {
        const char *end = strchrnul(list, ',');
        texts[*count] = strndup(list, (size_t)(end - list));
        if (!texts[*count])
            break;
        (*count)++;
        list = *end ? end + 1 : end;
    }
    if (texts && *count == items)
        return texts;
    for (size_t i = 0; texts && i < *count; i++)
        free(texts[i]);
    free(texts);
    *count = 0;
    return NULL;
}

/* The numbers of a comma-joined list, at most `capacity`. */
static size_t read_numbers(const char *list, uint32_t *numbers, size_t capacity) {
    size_t count = 0;
    while (*list && count < capacity) {
        char *end;
        numbers[count++] = (uint32_t)strtoul(list, &end, 10);
        list = *end == ',' ? end + 1 : "";
    }
    return count;
}

static enum lg_status restore_member(struct coordinator *core, const struct store_member *row, struct lg_error *error) {
    struct member *member = calloc(1, sizeof *member);
    size_t endpoints = 0;
    if (!member || !list_add(&core->members, member)) {
        free(member);
        return no_memory(error);
    }
    member->number = row->member;
    member->kind = row->kind == WIRE_MEMBER_AGENT ? WIRE_MEMBER_AGENT : WIRE_MEMBER_SERVER;
    member->instance = row->instance;
    member->endpoints = split(row->endpoints, &endpoints);
    member->shard_count = endpoints;
    member->devices = split(row->devices, &member->device_count);
    member->shards = calloc(endpoints + 1, sizeof *member->shards);
    if (!member->endpoints || !member->devices || !member->shards)
        return no_memory(error);
    size_t shards = read_numbers(row->shards, member->shards, endpoints);
    if (shards != endpoints)
        return lg_fail(error, LG_INVALID, "member %" PRIu64 " has %zu endpoints for %zu shards", row->member, endpoints,
                       shards);
    core_copy(member->name, sizeof member->name, row->name);
    core_copy(member->http, sizeof member->http, row->http);
    core_copy(member->version, sizeof member->version, row->version);
    member->memory_bytes = row->memory_bytes;
    member->slots = (uint32_t)row->slots;
    member->pid = row->pid;
    member->cores = row->cores;
    member_entitle(core, member);
    return LG_OK;
}

static enum lg_status read_spec(const struct store_job *row, struct config **out, struct lg_error *error) {
    json_t *json = json_loads(row->spec, 0, NULL), *value;
    struct config *spec = config_new();
    const char *key;
    enum lg_status status = LG_OK;
    if (!json || !spec)
        status = lg_fail(error, LG_INVALID, "its specification cannot be read");
    json_object_foreach(json, key, value) if (status == LG_OK) status =
        config_set(spec, key, json_string_value(value) ? json_string_value(value) : "", "database", error);
    json_decref(json);
    if (status == LG_OK)
        *out = spec;
    else
        config_free(spec);
    return status;
}

static enum lg_status restore_job(struct coordinator *core, const struct store_job *row, struct lg_error *error) {
    struct config *spec = NULL;
    struct job *job = NULL;
    enum lg_status status = read_spec(row, &spec, error);
    if (status == LG_OK)
        status = job_new(spec, &job, error);
    if (status == LG_OK && row->phase >= JOB_PHASE_COUNT)
        status = lg_fail(error, LG_INVALID, "it is in phase %" PRIu64, row->phase);
    if (status != LG_OK || !list_add(&core->jobs, job)) {
        job_free(job);
        return status == LG_OK ? no_memory(error) : lg_fail_prefix(error, status, "job %" PRIu64, row->job);
    }
    job->id = row->job;
    job->external_init = row->external_init != 0;
    job->phase = (enum job_phase)row->phase;
    core_copy(job->reason, sizeof job->reason, row->reason);
    job->memory = (enum job_memory)row->memory;
    job->submitted_ms = (int64_t)row->submitted_ms;
    job->started_ms = (int64_t)row->started_ms;
    job->finished_ms = (int64_t)row->finished_ms;
    job->restarts = row->restarts;
    job->init_holder = row->init_holder;
    job->init_fence = (uint32_t)row->init_fence;
    job->loss = row->loss;
    return LG_OK;
}

static enum lg_status placed_job(const struct coordinator *core, uint64_t id, struct job **job,
                                 struct lg_error *error) {
    *job = job_find(core, id);
    if (*job && (*job)->placed)
        return LG_OK;
    return lg_fail(error, LG_INVALID, "a row belongs to job %" PRIu64 ", which is %s", id,
                   *job ? "not placed" : "not there");
}

static enum lg_status restore_position(struct coordinator *core, const struct store_position *row,
                                       struct lg_error *error) {
    struct job *job;
    enum lg_status status = placed_job(core, row->job, &job, error);
    struct leases_position position = {row->epoch,
                                       row->first,
                                       row->next_lease,
                                       row->evaluated,
                                       row->evaluating,
                                       row->evaluate_lease,
                                       (uint32_t)row->evaluate_fence,
                                       row->evaluate_holder,
                                       row->evaluate_request,
                                       row->taken_over};
    return status == LG_OK ? leases_restore_position(&job->leases, &position, error) : status;
}

static enum lg_status restore_slice(struct coordinator *core, const struct store_slice *row, struct lg_error *error) {
    struct job *job;
    enum lg_status status = placed_job(core, row->job, &job, error);
    size_t count = row->cuts.bytes / sizeof(uint64_t);
    uint64_t *cuts = malloc(row->cuts.bytes + 1);
    if (status == LG_OK && !cuts)
        status = no_memory(error);
    if (status == LG_OK) {
        memcpy(cuts, row->cuts.data, count * sizeof *cuts);
        struct slice slice = {.lease = row->lease,
                              .fence = (uint32_t)row->fence,
                              .epoch = row->epoch,
                              .first = row->first,
                              .end = row->end,
                              .state = (enum slice_state)row->state,
                              .holder = row->holder,
                              .request = row->request,
                              .granted_ms = (int64_t)row->granted_ms,
                              .cuts = cuts,
                              .cut_count = count};
        status = leases_restore_slice(&job->leases, &slice, error);
    }
    free(cuts);
    return status;
}

static enum lg_status restore_trainer(struct coordinator *core, const struct store_trainer *row,
                                      struct lg_error *error) {
    struct trainer *trainer = calloc(1, sizeof *trainer);
    if (!trainer || !list_add(&core->trainers, trainer)) {
        free(trainer);
        return no_memory(error);
    }
    trainer->number = row->trainer;
    trainer->job = row->job;
    trainer->agent = row->agent;
    trainer->token = row->token;
    trainer->attempt = (uint32_t)row->attempt;
    trainer->state = row->state <= TRAINER_STATE_STOPPING ? (enum trainer_state)row->state : TRAINER_STATE_STOPPING;
    trainer->started_ms = (int64_t)row->started_ms;
    core_copy(trainer->device, sizeof trainer->device, row->device);
    core_copy(trainer->reason, sizeof trainer->reason, row->reason);
    return LG_OK;
}

static enum lg_status restore_session(struct coordinator *core, const struct store_session *row,
                                      struct lg_error *error) {
    struct session *session = calloc(1, sizeof *session);
    if (!session || !list_add(&core->sessions, session)) {
        free(session);
        return no_memory(error);
    }
    struct trainer *trainer = trainer_find(core, row->trainer);
    session->id = row->session;
    session->job = row->job;
    session->trainer = row->trainer;
    session->incarnation = (uint32_t)row->incarnation;
    session->token = row->token;
    session->role = row->role <= WIRE_ROLE_INITIALISER ? (enum wire_role)row->role : WIRE_ROLE_OBSERVER;
    session->state = row->state <= SESSION_STATE_CLOSING ? (enum session_state)row->state : SESSION_STATE_CLOSING;
    session->may_initialise = row->may_initialise != 0;
    session->batch = (uint32_t)row->batch;
    session->end_status = LG_FENCED;
    core_copy(session->reason, sizeof session->reason, row->reason);
    if (trainer) {
        trainer->session = session->id;
        core_copy(session->device, sizeof session->device, trainer->device);
    }
    return LG_OK;
}

static enum lg_status restore_evaluation(struct coordinator *core, const struct store_evaluation *row,
                                         struct lg_error *error) {
    struct job *job;
    enum lg_status status = placed_job(core, row->job, &job, error);
    if (status != LG_OK)
        return status;
    struct evaluation *all = realloc(job->evaluations, (job->evaluation_count + 1) * sizeof *all);
    if (!all)
        return no_memory(error);
    job->evaluations = all;
    all[job->evaluation_count++] = (struct evaluation){.epoch = row->epoch,
                                                       .predictions = row->predictions,
                                                       .loss = row->loss,
                                                       .accuracy = row->accuracy,
                                                       .at_ms = (int64_t)row->at_ms};
    return LG_OK;
}

static enum lg_status restore_ledger(struct coordinator *core, const struct store_ledger *row, struct lg_error *error) {
    struct job *job;
    enum lg_status status = placed_job(core, row->job, &job, error);
    if (status != LG_OK)
        return status;
    struct ledger_row *ledger = realloc(job->ledger, (job->ledger_count + 1) * sizeof *ledger);
    if (!ledger)
        return no_memory(error);
    job->ledger = ledger;
    ledger[job->ledger_count++] =
        (struct ledger_row){(uint32_t)row->shard, {row->epoch, row->samples_least, row->samples_most, row->dropped}};
    return LG_OK;
}

static enum lg_status restore_stats(struct coordinator *core, const struct store_stats *row, struct lg_error *error) {
    struct job *job;
    enum lg_status status = placed_job(core, row->job, &job, error);
    size_t slot = status == LG_OK ? job_slot_of(job, (uint32_t)row->shard) : SIZE_MAX;
    if (slot != SIZE_MAX)
        job->stats[slot] = (struct wire_shard_job_stats){.job = row->job,
                                                         .shard = (uint32_t)row->shard,
                                                         .pushes = row->pushes,
                                                         .samples = row->samples,
                                                         .dropped = row->dropped,
                                                         .duplicates = row->duplicates,
                                                         .staleness_mean = row->staleness_mean,
                                                         .staleness_p99 = row->staleness_p99,
                                                         .staleness_max = row->staleness_max,
                                                         .weight_mean = row->weight_mean,
                                                         .push_bytes = row->push_bytes,
                                                         .pull_bytes = row->pull_bytes,
                                                         .parameter_bytes = row->parameter_bytes,
                                                         .state_bytes = row->state_bytes,
                                                         .initialised = true};
    return status;
}

static enum lg_status restore_history(struct coordinator *core, const struct store_history *row,
                                      struct lg_error *error) {
    struct job *job = job_find(core, row->job);
    uint64_t dropped;
    if (!job)
        return lg_fail(error, LG_INVALID, "a line of history belongs to job %" PRIu64 ", which is not there", row->job);
    job->history.next = row->seq;
    return line_ring_add(&job->history, 0, (int64_t)row->at_ms, row->text, &dropped) ? LG_OK : no_memory(error);
}

enum lg_status coordinator_restore(struct coordinator *core, enum store_table table, const void *row,
                                   struct lg_error *error) {
    switch (table) {
    case STORE_TABLE_COUNTER:
        return restore_counter(core, row);
    case STORE_TABLE_MEMBER:
        return restore_member(core, row, error);
    case STORE_TABLE_JOB:
        return restore_job(core, row, error);
    case STORE_TABLE_DEFINITION:
        return define_restore(core, row, error);
    case STORE_TABLE_POSITION:
        return restore_position(core, row, error);
    case STORE_TABLE_SLICE:
        return restore_slice(core, row, error);
    case STORE_TABLE_TRAINER:
        return restore_trainer(core, row, error);
    case STORE_TABLE_SESSION:
        return restore_session(core, row, error);
    case STORE_TABLE_EVALUATION:
        return restore_evaluation(core, row, error);
    case STORE_TABLE_LEDGER:
        return restore_ledger(core, row, error);
    case STORE_TABLE_STATS:
        return restore_stats(core, row, error);
    case STORE_TABLE_HISTORY:
        return restore_history(core, row, error);
    case STORE_TABLE_COUNT:
        break;
    }
    return lg_fail(error, LG_INVALID, "table %d is not known", (int)table);
}

/* ---- going on */

static void resume_job(struct coordinator *core, struct job *job) {
    if (job->init_holder && !session_find(core, job->init_holder))
        job->init_holder = 0;
    if (job->memory == JOB_MEMORY_DROPPING)
        task_start(core, TASK_KIND_JOB_CLOSE, job, NULL, NULL);
    else if (job->phase == JOB_PHASE_DEFINING)
        task_start(core, TASK_KIND_JOB_OPEN, job, NULL, NULL);
    else if (job->phase == JOB_PHASE_CLOSING)
        task_start(core, TASK_KIND_LEDGER, job, NULL, NULL);
}

static void resume_session(struct coordinator *core, struct session *session) {
    struct job *job = job_find(core, session->job);
    session->heard_ns = session->step_ns = core->now.now_ns;
    if (session->state == SESSION_STATE_OPENING && job)
        task_start(core, TASK_KIND_SESSION_OPEN, job, session, NULL);
    else if (session->state == SESSION_STATE_CLOSING)
        losses_resume(core, session);
}

void coordinator_start(struct coordinator *core, struct coordinator_moment now) {
    core->now = now;
    core->started_ns = core->ticked_ns = now.now_ns;
    for (size_t i = 0; i < core->members.count; i++) {
        struct member *member = core->members.items[i];
        member->heard_ns = now.now_ns;
    }
    for (size_t i = 0; i < core->jobs.count; i++)
        resume_job(core, core->jobs.items[i]);
    for (size_t i = 0; i < core->sessions.count; i++)
        resume_session(core, core->sessions.items[i]);
}
