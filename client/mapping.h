/* A shard's segment in this process's memory: counted, since callers that copy from it keep it longer than the
 * connection to the shard lasts. What it looks like outside is in lagoon.h. */
#ifndef LAGOON_CLIENT_MAPPING_H
#define LAGOON_CLIENT_MAPPING_H

#include "client/lagoon.h"
#include "proto/local.h"
#include "proto/wire.h"

struct lg_mapping {
    const struct local_segment *head;
    uint64_t bytes;
    const struct wire_unit *units; /* of the shard, ascending; borrowed, for whoever made it */
    uint32_t unit_count;
    uint64_t *offsets; /* [unit_count] of the units' values */
    atomic_uint holds;
    atomic_bool gone;
};

/* Maps the segment of these units that `fd` (stays the caller's) is to hold, whose shard says that it has `bytes`.
 * NULL: it does not, or no memory. Held once. */
struct lg_mapping *mapping_new(const struct wire_unit *units, uint32_t unit_count, uint64_t bytes, int fd);
/* Unit `index` of the list. */
const struct local_unit *mapping_unit(const struct lg_mapping *mapping, uint32_t index);
const float *mapping_values(const struct lg_mapping *mapping, uint32_t index);
/* Nothing is read from it for new pulls: told to those that hold it too. NULL is fine. */
void mapping_leave(struct lg_mapping *mapping);

#endif
