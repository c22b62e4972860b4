/* Pushes that are averaged before they are applied: per unit the sum of s * samples * payload, and the sums that it is
 * divided by. What a worker pushed before it died counts with its samples where it arrived, and biases nothing. */
#ifndef LAGOON_SERVER_GATHER_H
#define LAGOON_SERVER_GATHER_H

#include <stdbool.h>

#include "common/codec.h"
#include "server/unit.h"

struct gather_unit {
    float *sum;      /* [elements] of s * samples * payload; of the current group where samples > 0 */
    double samples;  /* sum of samples */
    double weighted; /* sum of s * samples */
};

struct gather {
    float *memory;             /* of all sums; NULL: the job applies pushes as they come */
    struct gather_unit *units; /* [unit count of the job on the shard] */
    uint64_t samples;          /* of the pushes that are whole, for the learning rate */
};

/* `elements`: of all units as they lie in the segment; sums lie likewise. */
LG_MUST_CHECK enum lg_status gather_init(struct gather *gather, const struct unit *units, uint32_t unit_count,
                                         const float *segment, size_t elements, struct lg_error *error);
void gather_deinit(struct gather *gather);

/* Adds weight * samples * payload, or its negative. */
void gather_add(struct gather_unit *into, const struct codec_kernels *codec, const uint8_t *payload, uint32_t elements,
                float weight, uint64_t samples, bool negate);
/* The mean, in `sum`: of gradients divided by the samples, so that weights below one make the step smaller; of values
 * (`whole`) divided by the weights too. The group is over: what comes next starts anew. */
const float *gather_take(struct gather_unit *from, uint32_t elements, bool whole);

#endif
