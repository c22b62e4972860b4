/* What one session holds of a job's parameters on this shard, as it was sent to it: so that an answer may bring the
 * differences only, in a codec that need not be exact, and so that a policy can tell how far each parameter has moved
 * since. What a codec leaves out stays in the difference and comes with the next one. One copy of the parameters per
 * session; the shard's thread. */
#ifndef LAGOON_SERVER_SHADOW_H
#define LAGOON_SERVER_SHADOW_H

#include "server/unit.h"

struct shadow {
    uint64_t bytes;
    const struct unit *units; /* the job's; not owned */
    float *values;            /* laid out as the units' own are */
    float *extra;             /* a policy's, laid out likewise, zero at first; NULL: none */
    uint64_t *versions;       /* [unit count] 0: nothing was sent */
};

/* Bytes that one takes, with `extra` or without. `units` lie one behind the other, as a job's do in its segment. */
uint64_t shadow_bytes(const struct unit *units, uint32_t count, bool extra);
/* NULL where there is no memory. Nothing is held at first. */
struct shadow *shadow_new(const struct unit *units, uint32_t count, bool extra);
void shadow_free(struct shadow *shadow);

/* The unit's version that the session holds. */
uint64_t shadow_version(const struct shadow *shadow, const struct unit *unit);
/* The unit's values that the session holds, while shadow_version is not 0; and its part of `extra`, or NULL. */
const float *shadow_values(const struct shadow *shadow, const struct unit *unit);
float *shadow_extra(const struct shadow *shadow, const struct unit *unit);
/* The session is sent the unit as it is. */
void shadow_set(struct shadow *shadow, const struct unit *unit);
/* Writes the difference between the unit and what is held to `out`; it counts as sent. 0: it is not finite, then
 * nothing was written and nothing is held. */
size_t shadow_encode(struct shadow *shadow, const struct unit *unit, const struct codec *codec, enum isa isa,
                     const struct codec_options *options, uint8_t *out);

#endif
