/* A job's parameter memory: one sealed memfd per JOB_OPEN, so that same-host readers can map it later. */
#ifndef LAGOON_SERVER_SEGMENT_H
#define LAGOON_SERVER_SEGMENT_H

#include <stddef.h>

#include "common/status.h"

struct segment {
    int fd; /* -1: none */
    size_t bytes;
    float *data;
};

/* Zeroed memory of `bytes` (0 is fine), sealed against shrinking and growing. Pages are reserved here, so that running
 * out is an error now and not a SIGBUS in mid-push. */
LG_MUST_CHECK enum lg_status segment_init(struct segment *segment, const char *name, size_t bytes,
                                          struct lg_error *error);
void segment_deinit(struct segment *segment);

#endif
