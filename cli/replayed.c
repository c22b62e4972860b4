#include "cli/replayed.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/safetensors.h"

static struct replayed_job *find(const struct replayed *replayed, uint64_t id) {
    for (size_t i = 0; i < replayed->count; i++)
        if (replayed->jobs[i].id == id)
            return (struct replayed_job *)&replayed->jobs[i];
    return NULL;
}

enum lg_status replayed_open(struct replayed *replayed, const struct wire_message *job_open, struct lg_error *error) {
    if (find(replayed, job_open->job_open.job))
        return LG_OK;
    if (replayed->count == REPLAYED_JOBS_MAX)
        return lg_fail(error, LG_INVALID, "more than %d jobs are recorded", REPLAYED_JOBS_MAX);
    struct replayed_job *job = &replayed->jobs[replayed->count];
    enum lg_status status = block_table_init(&job->blocks, job_open->tensors, job_open->tensor_count, error);
    if (status != LG_OK)
        return status;
    replayed->count++;
    job->id = job_open->job_open.job;
    snprintf(job->name, sizeof job->name, "%s", job_open->job_open.name);
    job->tensor_count = job_open->tensor_count;
    job->tensors = calloc(job->tensor_count, sizeof *job->tensors);
    job->values = calloc(tensor_total_elements(job_open->tensors, job->tensor_count), sizeof *job->values);
    job->there = calloc(job->blocks.count, sizeof *job->there);
    if (!job->tensors || !job->values || !job->there)
        return lg_fail(error, LG_NO_MEMORY, "no memory for the parameters of job \"%s\"", job->name);
    memcpy(job->tensors, job_open->tensors, job->tensor_count * sizeof *job->tensors);
    return LG_OK;
}

const char *replayed_name(const struct replayed *replayed, uint64_t id) {
    const struct replayed_job *job = find(replayed, id);
    return job ? job->name : "";
}

static void collect_job(struct replayed_job *job, const struct shard *shard) {
    for (uint32_t unit = 0; job->there && unit < job->blocks.count; unit++) {
        const float *values = shard_unit_data(shard, job->id, unit, NULL, NULL);
        if (!values)
            continue;
        const struct block *block = &job->blocks.blocks[unit];
        memcpy(job->values + block->offset, values, block->elements * sizeof *values);
        job->there[unit] = true;
    }
}

void replayed_collect(struct replayed *replayed, const struct shard *shard) {
    for (size_t i = 0; i < replayed->count; i++)
        collect_job(&replayed->jobs[i], shard);
}

enum lg_status replayed_write(const struct replayed *replayed, const char *path, struct lg_error *error) {
    const struct replayed_job *job = &replayed->jobs[0];
    if (replayed->count != 1)
        return lg_fail(error, LG_INVALID, "the recordings hold %zu jobs, and a file of parameters holds one",
                       replayed->count);
    for (uint32_t unit = 0; unit < job->blocks.count; unit++)
        if (!job->there[unit])
            return lg_fail(error, LG_INVALID,
                           "a part of \"%s\" was on another shard: give its recording too (lagoon replay FILE.0 "
                           "FILE.1 ...)",
                           job->tensors[job->blocks.blocks[unit].tensor].name);
    const struct safetensors_note notes[] = {{"format", "pt"}, {"job", job->name}, {"lagoon", LAGOON_VERSION}};
    return safetensors_write(path, job->tensors, job->tensor_count, job->values, notes, 3, error);
}

void replayed_deinit(struct replayed *replayed) {
    for (size_t i = 0; i < replayed->count; i++) {
        struct replayed_job *job = &replayed->jobs[i];
        block_table_deinit(&job->blocks);
        free(job->tensors);
        free(job->values);
        free(job->there);
    }
    *replayed = (struct replayed){0};
}
