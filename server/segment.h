/* A job's parameter memory: one sealed memfd per JOB_OPEN, laid out as proto/local.h says, so that clients on the same
 * host can map it and read. */
#ifndef LAGOON_SERVER_SEGMENT_H
#define LAGOON_SERVER_SEGMENT_H

#include <stddef.h>

#include "common/status.h"
#include "proto/local.h"

struct segment {
    int fd; /* -1: none */
    size_t bytes;
    struct local_segment *head;
    float *data; /* the first unit's values */
};

/* Zeroed memory for `unit_count` units with `data_bytes` of values in all, sealed against shrinking, growing and new
 * writable mappings. Pages are reserved here, so that running out is an error now and not a SIGBUS in mid-push. */
LG_MUST_CHECK enum lg_status segment_init(struct segment *segment, const char *name, uint32_t unit_count,
                                          uint64_t data_bytes, struct lg_error *error);
/* Readers that still have it mapped are told by `readable`; their mapping lives on. */
void segment_deinit(struct segment *segment);

#endif
