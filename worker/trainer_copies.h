/* How long copies between host and device hold a trainer up. The device itself tells, by events that know the time: the
 * host queues and goes on, and what overlaps with computing costs nothing and is not counted. One thread. */
#ifndef LAGOON_WORKER_TRAINER_COPIES_H
#define LAGOON_WORKER_TRAINER_COPIES_H

#include "gpu/device.h"

/* Two moments, on one stream or on two. */
struct trainer_copies_span {
    struct device_event *from, *to;
    bool used; /* since the last take */
};

struct trainer_copies {
    struct device *device; /* NULL: nothing is copied */
    struct trainer_copies_span upload, download;
    uint64_t bytes; /* since the last take; whoever copies adds them */
};

/* Zeroed is empty. */
LG_MUST_CHECK enum lg_status trainer_copies_init(struct trainer_copies *copies, struct device *device,
                                                 struct lg_error *error);
void trainer_copies_deinit(struct trainer_copies *copies);

/* `computing` waits for an event of a stream that uploads; its idle time is counted. */
void trainer_copies_await(struct trainer_copies *copies, struct device_stream *computing, struct device_event *event);
/* Both streams have been given all that belongs to the step: from the end of what `computing` does to the last download
 * is counted. */
void trainer_copies_end_of_step(struct trainer_copies *copies, struct device_stream *computing,
                                struct device_stream *downloads);
/* Since the last take: time and bytes. Waits for what was counted: call it when the step is over. */
LG_MUST_CHECK enum lg_status trainer_copies_take(struct trainer_copies *copies, uint64_t *ns, uint64_t *bytes,
                                                 struct lg_error *error);

#endif
