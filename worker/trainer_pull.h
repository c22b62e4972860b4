/* Pulls into a device's own memory, beside its other work: out of the memory of shards on this host, without a copy on
 * the host, where the device reads that in place; else out of the host's buffer that the pull goes by, where values
 * that came in messages lie, and others are copied to first (trainer_stage.h). Only what has changed is copied, and
 * nothing computes from it before its shards' sequences say that it is whole. One thread.
 *
 * What is told is copied in chunks, of which a few are on their way at once: a unit's sequence is looked at right
 * before its chunk is queued and right after the chunk's event, so that few copies are in vain where shards go on
 * working. */
#ifndef LAGOON_WORKER_TRAINER_PULL_H
#define LAGOON_WORKER_TRAINER_PULL_H

#include "client/lagoon.h"
#include "gpu/device.h"
#include "worker/trainer_stage.h"

enum { TRAINER_PULL_CHUNKS = 4, TRAINER_PULL_CHUNK_BYTES = 4 << 20 };

struct trainer_pull_chunk {
    size_t first, count; /* places */
    struct device_event *event;
};

/* A shard's memory that was met; held. */
struct trainer_pull_mapping {
    struct lg_mapping *mapping;
    bool registered;
};

/* How parameters come: what was logged already. */
enum trainer_pull_way { TRAINER_PULL_IN_PLACE = 1, TRAINER_PULL_STAGED = 2, TRAINER_PULL_MESSAGES = 4 };

struct trainer_pull {
    struct device *device;
    struct device_stream *stream; /* of uploads */
    struct device_event *unused;  /* what was to compute from the memory that is filled next is done; the owner's */
    struct trainer_pull_chunk chunks[TRAINER_PULL_CHUNKS];
    struct trainer_pull_mapping *mappings;
    size_t mapping_count, mapping_room;
    float *target; /* device memory [elements] */
    float *buffer; /* of the host [elements], that stands for it */
    bool under_way;
    bool staged; /* the device does not read shards' memory */
    struct trainer_stage stage;
    unsigned told;                    /* enum trainer_pull_way */
    uint64_t copied_bytes, copied_ns; /* so far: uploaded, and time that the caller spent on it */
};

/* Zeroed is empty. */
LG_MUST_CHECK enum lg_status trainer_pull_init(struct trainer_pull *pull, struct device *device,
                                               struct lg_error *error);
/* Lets go of all shards' memory, once nothing is on its way. */
void trainer_pull_leave(struct trainer_pull *pull);
void trainer_pull_deinit(struct trainer_pull *pull);

/* `buffer` [elements] stands for `target`, device memory, in the client's eyes. Both are the pull's until it is done.
 */
LG_MUST_CHECK enum lg_status trainer_pull_start(struct trainer_pull *pull, struct lg_client *client, float *buffer,
                                                float *target, struct lg_error *error);
/* Goes on with it, where there is one: copies what is known to have changed and returns when it is there. With `wait`
 * until all is, and the pull is no longer under way. */
LG_MUST_CHECK enum lg_status trainer_pull_go_on(struct trainer_pull *pull, struct lg_client *client, bool wait,
                                                struct lg_error *error);
/* Takes note of shards' memory before something is copied out of it, once: registers it where the device can. */
void trainer_pull_meet(struct trainer_pull *pull, struct lg_mapping *mapping);
/* Places told by lg_pull_places: copies them once; those that were changed meanwhile are not `whole` after it. */
LG_MUST_CHECK enum lg_status trainer_pull_copy(struct trainer_pull *pull, struct lg_place *places, size_t count,
                                               struct lg_error *error);

#endif
