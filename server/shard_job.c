/* Jobs on a shard: opened, asked about and closed by the coordinator. */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/shard_state.h"

uint64_t job_version(const struct shard_job *job) {
    return version_make(job->epoch, job->counter);
}

void job_publish(struct shard_job *job) {
    struct local_segment *head = job->segment.head;
    atomic_store_explicit(&head->job_version, job_version(job), memory_order_release);
    bool readable = job_initialised(job) && !job->policy->compensation; /* else the shard must see who reads what */
    atomic_store_explicit(&head->readable, readable, memory_order_release);
}

bool job_initialised(const struct shard_job *job) {
    return job->units_initialised == job->unit_count;
}

/* ---- opening */

static bool job_has_drift(const struct shard_job *job) {
    return job->policy->compensation && job->policy->compensation->drift;
}

/* Arrays of the parameters' size beside them. */
static uint32_t job_state_count(const struct shard_job *job) {
    return job->updater->state_count + job_has_drift(job);
}

/* Copies the tensor table and finds the units placed on this slot. */
static enum lg_status job_take_units(struct shard_job *job, const struct wire_message *message,
                                     struct lg_error *error) {
    enum lg_status status = tensor_table_check(message->tensors, message->tensor_count, error);
    if (status != LG_OK)
        return status;
    job->tensor_count = message->tensor_count;
    job->tensors = calloc(job->tensor_count ? job->tensor_count : 1, sizeof *job->tensors);
    if (!job->tensors)
        return lg_fail(error, LG_NO_MEMORY, "no memory for the tensor table of \"%s\"", job->name);
    memcpy(job->tensors, message->tensors, job->tensor_count * sizeof *job->tensors);
    status = block_table_init(&job->blocks, job->tensors, job->tensor_count, error);
    if (status != LG_OK)
        return status;
    if (message->placement_count != job->blocks.count)
        return lg_fail(error, LG_INVALID, "the placement of \"%s\" names %zu units, its tensors have %u", job->name,
                       message->placement_count, job->blocks.count);
    job->local = calloc(job->blocks.count ? job->blocks.count : 1, sizeof *job->local);
    for (uint32_t i = 0; i < job->blocks.count; i++)
        job->unit_count += message->placement[i] == job->slot;
    job->units = calloc(job->unit_count ? job->unit_count : 1, sizeof *job->units);
    if (!job->local || !job->units)
        return lg_fail(error, LG_NO_MEMORY, "no memory for %u units of \"%s\"", job->unit_count, job->name);
    uint32_t next = 0;
    for (uint32_t i = 0; i < job->blocks.count; i++) {
        if (message->placement[i] != job->slot)
            continue;
        const struct block *block = &job->blocks.blocks[i];
        job->units[next++] =
            (struct unit){.number = i, .elements = block->elements, .tensor = &job->tensors[block->tensor]};
        job->local[i] = next;
        job->parameter_bytes += block->elements * sizeof(float);
    }
    bool gathers = consistency_has(job->config.consistency, CONSISTENCY_GATHERS);
    job->state_bytes = job->parameter_bytes * (job_state_count(job) + gathers);
    return LG_OK;
}

/* Values in the segment; each kind of state in one stretch of `elements`, in the same order. */
static void job_lay_out_units(struct shard_job *job, size_t elements) {
    size_t offset = 0;
    for (uint32_t i = 0; i < job->unit_count; i++) {
        struct unit *unit = &job->units[i];
        unit->values = job->segment.data + offset;
        unit->shared = &job->segment.head->units[i];
        for (uint32_t k = 0; k < job->updater->state_count; k++)
            unit->states[k] = job->states + k * elements + offset;
        if (job_has_drift(job))
            unit->drift = job->states + job->updater->state_count * elements + offset;
        offset += (size_t)local_unit_bytes(unit->elements) / sizeof(float);
    }
}

static enum lg_status job_take_memory(const struct shard *shard, struct shard_job *job, struct lg_error *error) {
    uint64_t used = shard_memory_bytes(shard), needed = job->parameter_bytes + job->state_bytes;
    uint64_t limit = shard->config.memory_bytes;
    if (limit > 0 && (used > limit || needed > limit - used))
        return lg_fail(error, LG_NO_MEMORY, "\"%s\" needs %llu bytes on shard %u, %llu of %llu are free", job->name,
                       (unsigned long long)needed, shard->config.index,
                       (unsigned long long)(used < limit ? limit - used : 0), (unsigned long long)limit);
    uint64_t data_bytes = 0;
    for (uint32_t i = 0; i < job->unit_count; i++)
        data_bytes += local_unit_bytes(job->units[i].elements);
    enum lg_status status = segment_init(&job->segment, "lagoon-parameters", job->unit_count, data_bytes, error);
    if (status != LG_OK)
        return status;
    size_t state_bytes = (size_t)data_bytes * job_state_count(job);
    if (state_bytes > 0) {
        job->states = aligned_alloc(LOCAL_ALIGN_BYTES, state_bytes);
        if (!job->states)
            return lg_fail(error, LG_NO_MEMORY, "no memory for %zu bytes of optimizer state", state_bytes);
        memset(job->states, 0, state_bytes);
    }
    size_t elements = (size_t)data_bytes / sizeof(float);
    job_lay_out_units(job, elements);
    if (consistency_has(job->config.consistency, CONSISTENCY_GATHERS)) {
        status = gather_init(&job->gather, job->units, job->unit_count, job->segment.data, elements, error);
        if (status != LG_OK)
            return status;
    }
    atomic_store(&job->segment.head->job_version, job_version(job));
    return LG_OK;
}

static enum lg_status job_read_spec(struct shard_job *job, const struct wire_job_open *open, struct lg_error *error) {
    struct config *config = NULL;
    enum lg_status status = wire_pairs_to_config(open->spec, open->spec_count, &config, error);
    if (status == LG_OK)
        status = job_configure(config, &job->config, error);
    if (status == LG_OK)
        status = updater_configure(config, &job->updater, job->updater_values, error);
    if (status == LG_OK)
        status = policy_configure(config, &job->policy, job->policy_values, error);
    config_free(config);
    if (status != LG_OK)
        return status;
    const struct job_config *read = &job->config;
    job->gated = read->consistency->flags != 0;
    gate_init(&job->gate, read->consistency, (uint64_t)read->gate_bound, (uint64_t)read->gate_bound_most,
              (uint64_t)read->gate_pushes);
    return LG_OK;
}

static void job_take_cells(const struct shard *shard, struct shard_job *job) {
    struct metrics *metrics = shard->config.metrics;
    const char *const labels[] = {job->name, shard->number};
    job->cells = (struct job_cells){
        .push_parts = metrics_cell(metrics, METRIC_PUSH_PARTS, labels),
        .pushes = metrics_cell(metrics, METRIC_PUSHES_APPLIED, labels),
        .pulls = metrics_cell(metrics, METRIC_PULLS, labels),
        .push_bytes = metrics_cell(metrics, METRIC_PUSH_BYTES, labels),
        .pull_bytes = metrics_cell(metrics, METRIC_PULL_BYTES, labels),
        .applied = metrics_cell(metrics, METRIC_SAMPLES_APPLIED, labels),
        .dropped = metrics_cell(metrics, METRIC_SAMPLES_DROPPED, labels),
        .duplicates = metrics_cell(metrics, METRIC_DUPLICATES, labels),
        .staleness = metrics_cell(metrics, METRIC_STALENESS, labels),
        .weight = metrics_cell(metrics, METRIC_WEIGHT, labels),
        .apply_seconds = metrics_cell(metrics, METRIC_APPLY_SECONDS, labels),
        .old_bases = metrics_cell(metrics, METRIC_OLD_BASES, labels),
    };
}

static uint64_t open_fingerprint(const struct wire_message *message) {
    uint64_t placement = 0;
    for (size_t i = 0; i < message->placement_count; i++)
        placement = placement * 0x100000001b3u + message->placement[i] + 1;
    return tensor_table_fingerprint(message->tensors, message->tensor_count) ^ placement;
}

static enum lg_status job_build(struct shard *shard, const struct wire_message *message, struct shard_job *job,
                                struct lg_error *error) {
    const struct wire_job_open *open = &message->job_open;
    *job = (struct shard_job){.id = open->job,
                              .epoch = open->epoch,
                              .map_version = open->map_version,
                              .train_samples = open->train_samples,
                              .slot = open->slot,
                              .fingerprint = open_fingerprint(message),
                              .segment = {.fd = -1}};
    snprintf(job->name, sizeof job->name, "%s", open->name ? open->name : "");
    if (open->epoch >> (64 - VERSION_COUNTER_BITS) != 0)
        return lg_fail(error, LG_INVALID, "epoch %llu is too large", (unsigned long long)open->epoch);
    enum lg_status status = job_read_spec(job, open, error);
    if (status == LG_OK)
        status = job_take_units(job, message, error);
    if (status == LG_OK)
        status = job_take_memory(shard, job, error);
    if (status == LG_OK)
        status = ledger_init(&job->ledger, job->unit_count, job->train_samples, error);
    return status;
}

/* The same command again is fine; another job under the number is not. */
static enum lg_status job_open_again(const struct shard_job *job, const struct wire_message *message,
                                     struct lg_error *error) {
    const struct wire_job_open *open = &message->job_open;
    if (job->map_version == open->map_version && job->epoch == open->epoch && job->slot == open->slot &&
        job->fingerprint == open_fingerprint(message))
        return LG_OK;
    return lg_fail(error, LG_EXISTS, "job %llu is open with map version %llu and other tables: close it first",
                   (unsigned long long)open->job, (unsigned long long)job->map_version);
}

static enum lg_status job_open(struct shard *shard, const struct wire_message *message, struct lg_error *error) {
    enum lg_status status = shard_need_here(shard, message->job_open.shard, error);
    if (status != LG_OK)
        return status;
    const struct shard_job *known = shard_find_job(shard, message->job_open.job);
    if (known)
        return job_open_again(known, message, error);
    if (shard->job_count == shard->job_capacity) {
        uint32_t capacity = shard->job_capacity ? 2 * shard->job_capacity : 8;
        struct shard_job **jobs = realloc(shard->jobs, capacity * sizeof *jobs);
        if (!jobs)
            return lg_fail(error, LG_NO_MEMORY, "no memory for another job");
        shard->jobs = jobs;
        shard->job_capacity = capacity;
    }
    struct shard_job *job = malloc(sizeof *job);
    if (!job)
        return lg_fail(error, LG_NO_MEMORY, "no memory for another job");
    status = job_build(shard, message, job, error);
    if (status != LG_OK) {
        shard_job_free(shard, job);
        return status;
    }
    job_take_cells(shard, job);
    shard->jobs[shard->job_count++] = job;
    shard_show_memory(shard);
    return LG_OK;
}

void shard_handle_job_open(struct shard *shard, const struct shard_input *input) {
    struct lg_error error = {0};
    enum lg_status status = job_open(shard, input->message, &error);
    shard_send_ack(shard, input, status, &error);
}

/* ---- closing */

/* Metrics go by the job's name; a job of the same name that is still here keeps them. */
static void job_remove_metrics(const struct shard *shard, const struct shard_job *job) {
    for (uint32_t i = 0; i < shard->job_count; i++)
        if (strcmp(shard->jobs[i]->name, job->name) == 0)
            return;
    metrics_remove(shard->config.metrics, (const char *const[]){"job", job->name, "shard", shard->number, NULL});
}

void shard_job_free(struct shard *shard, struct shard_job *job) {
    while (job->session_count > 0)
        shard_session_free(shard, job, job->sessions[--job->session_count]);
    for (uint32_t i = 0; i < SHARD_SNAPSHOTS_CACHED; i++)
        if (shard->cached[i] >= job->units && shard->cached[i] < job->units + job->unit_count)
            shard->cached[i] = NULL;
    for (uint32_t i = 0; job->units && i < job->unit_count; i++)
        unit_forget_snapshot(&job->units[i]);
    job_remove_metrics(shard, job);
    ledger_deinit(&job->ledger);
    gather_deinit(&job->gather);
    segment_deinit(&job->segment);
    block_table_deinit(&job->blocks);
    free(job->states);
    free(job->units);
    free(job->local);
    free(job->tensors);
    free(job->sessions);
    free(job);
}

void shard_handle_job_close(struct shard *shard, const struct shard_input *input) {
    const struct wire_job_close *close = &input->message->job_close;
    struct lg_error error = {0};
    enum lg_status status = shard_need_here(shard, close->shard, &error);
    for (uint32_t i = 0; status == LG_OK && i < shard->job_count; i++) {
        if (shard->jobs[i]->id != close->job)
            continue;
        struct shard_job *job = shard->jobs[i];
        shard->job_count--; /* the order stays: by age */
        memmove(&shard->jobs[i], &shard->jobs[i + 1], (shard->job_count - i) * sizeof(struct shard_job *));
        shard_job_free(shard, job);
        shard_show_memory(shard);
        break;
    }
    shard_send_ack(shard, input, status, &error);
}

/* ---- queries */

void shard_handle_marks_query(struct shard *shard, const struct shard_input *input) {
    const struct wire_marks_query *query = &input->message->marks_query;
    struct wire_message reply = {.kind = WIRE_MARKS_REPLY};
    struct lg_error error = {0};
    struct shard_job *job;
    enum lg_status status = shard_need_here(shard, query->shard, &error);
    if (status == LG_OK)
        status = shard_need_job(shard, query->job, &job, &error);
    if (status == LG_OK && query->first > query->end)
        status = lg_fail(&error, LG_INVALID, "a query of marks ends before it begins");
    reply.marks_reply = (struct wire_marks_reply){.status = status, .marks = shard->marks};
    if (status == LG_OK)
        reply.marks_reply.mark_count = ledger_marks(&job->ledger, query->epoch, query->first, query->end, shard->marks,
                                                    WIRE_MARKS_MAX, &reply.marks_reply.resume);
    else
        shard_count_refusal(shard, status);
    shard_send(shard, input, &reply);
}

void shard_handle_ledger_query(struct shard *shard, const struct shard_input *input) {
    const struct wire_ledger_query *query = &input->message->ledger_query;
    struct wire_message reply = {.kind = WIRE_LEDGER_REPLY};
    struct lg_error error = {0};
    struct shard_job *job;
    enum lg_status status = shard_need_here(shard, query->shard, &error);
    if (status == LG_OK)
        status = shard_need_job(shard, query->job, &job, &error);
    reply.ledger_reply = (struct wire_ledger_reply){.status = status, .rows = shard->rows};
    if (status == LG_OK && job->unit_count > 0)
        reply.ledger_reply.row_count = ledger_rows(&job->ledger, shard->rows);
    else if (status != LG_OK)
        shard_count_refusal(shard, status);
    shard_send(shard, input, &reply);
}
