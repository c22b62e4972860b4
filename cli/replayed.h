/* The parameters of a job, gathered from the shards that recordings were played to. */
#ifndef LAGOON_CLI_REPLAYED_H
#define LAGOON_CLI_REPLAYED_H

#include "common/block.h"
#include "common/option.h"
#include "server/shard.h"

enum { REPLAYED_JOBS_MAX = 64 };

struct replayed_job {
    uint64_t id;
    char name[OPTION_TEXT_BYTES];
    struct tensor_spec *tensors;
    size_t tensor_count;
    struct block_table blocks;
    float *values;
    bool *there; /* per unit */
};

struct replayed { /* zeroed: empty */
    struct replayed_job jobs[REPLAYED_JOBS_MAX];
    size_t count;
};

/* Takes note of a job; once more for another of its shards is fine. */
LG_MUST_CHECK enum lg_status replayed_open(struct replayed *replayed, const struct wire_message *job_open,
                                           struct lg_error *error);
/* "" where it is not known. */
const char *replayed_name(const struct replayed *replayed, uint64_t job);
/* Copies what the shard has. */
void replayed_collect(struct replayed *replayed, const struct shard *shard);
/* Writes the job's parameters; LG_INVALID where there are several jobs, or some units were on a shard that is missing.
 */
LG_MUST_CHECK enum lg_status replayed_write(const struct replayed *replayed, const char *path, struct lg_error *error);
void replayed_deinit(struct replayed *replayed);

#endif
