/* Which shard holds which unit of a job: evenly by bytes, and the same for the same input. */
#ifndef LAGOON_SERVER_COORDINATOR_PLACEMENT_H
#define LAGOON_SERVER_COORDINATOR_PLACEMENT_H

#include "common/block.h"

struct placement_shard {
    uint32_t shard;      /* global number, for the caller */
    uint64_t free_bytes; /* room for parameters and state */
    uint64_t used_bytes; /* by other jobs: breaks ties, so that small jobs spread */
};

/* Places units of blocks[0..count) on shards[0..shard_count), largest first onto the shard that has the least of this
 * job and room for it. `element_bytes` is what one element costs: 4 x (1 + updater states). Fills placement[unit] with
 * an index into `shards`. LG_NO_MEMORY: they do not fit. */
LG_MUST_CHECK enum lg_status placement_place(const struct block *blocks, size_t count, uint64_t element_bytes,
                                             const struct placement_shard *shards, size_t shard_count,
                                             uint16_t *placement, struct lg_error *error);

/* Drops shards that got nothing: renumbers `placement` and moves the used ones to the front of `order`, which maps new
 * indices to old ones. Returns how many are used. `order` has room for `shard_count`. */
size_t placement_compact(uint16_t *placement, size_t count, size_t shard_count, uint16_t *order);

#endif
