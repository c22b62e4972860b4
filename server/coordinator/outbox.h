/* Messages held back until the rows of the input that made them are durable.
 *
 * Encoded when they are made, sent in order. Documents, and answers to beats that end nothing, promise nothing and may
 * pass: the caller sends those itself. */
#ifndef LAGOON_SERVER_COORDINATOR_OUTBOX_H
#define LAGOON_SERVER_COORDINATOR_OUTBOX_H

#include "proto/wire_net.h"

struct held;

struct outbox {
    struct held *first, *last, *unmarked; /* unmarked: the first of those added since the last mark */
    size_t count;
};

/* Encodes `message` for `route` behind what is there. */
LG_MUST_CHECK enum lg_status outbox_add(struct outbox *outbox, uint64_t route, const struct wire_message *message);
/* Marks everything added since the last mark as waiting for `batch`. */
void outbox_mark(struct outbox *outbox, uint64_t batch);
/* Sends what waits for batches up to `durable` on the ROUTER; returns how many peers were gone. */
size_t outbox_send(struct outbox *outbox, void *socket, uint64_t durable);
void outbox_clear(struct outbox *outbox);

/* A message as frames for a ROUTER, routing id first. On failure `out` is empty. */
LG_MUST_CHECK enum lg_status outbox_encode(uint64_t route, const struct wire_message *message, struct net_message *out);

#endif
