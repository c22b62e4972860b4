/* What is left to do of a lease: sample ranges, taken a batch at a time, in order. A batch that turns out to straddle a
 * shard's mark comes back and is taken again in pieces. */
#ifndef LAGOON_WORKER_TRAINER_RANGES_H
#define LAGOON_WORKER_TRAINER_RANGES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/status.h"

struct sample_range {
    uint64_t first, end;
};

/* A stack, the next range on top. Zeroed is empty. */
struct range_queue {
    struct sample_range *ranges;
    size_t count, capacity;
};

void range_queue_deinit(struct range_queue *queue);
/* Puts [first, end) in front, cut at those of `cuts` (any order) that lie inside. An empty range adds nothing. */
LG_MUST_CHECK enum lg_status range_queue_put(struct range_queue *queue, uint64_t first, uint64_t end,
                                             const uint64_t *cuts, size_t cut_count, struct lg_error *error);
/* Takes at most `batch` samples off the front; false when nothing is left. */
bool range_queue_take(struct range_queue *queue, uint64_t batch, struct sample_range *out);

#endif
