/* Messages between their plain form (wire.h) and the frames of a socket (common/net.h). */
#ifndef LAGOON_PROTO_WIRE_NET_H
#define LAGOON_PROTO_WIRE_NET_H

#include "common/net.h"
#include "proto/wire.h"

enum { WIRE_NET_LEND_BYTES = 16 * 1024 }; /* smaller payload is copied: that is cheaper than lending it */

/* Memory that is lent to ZeroMQ until it has sent from it. */
struct wire_net_lender {
    void *context;
    /* Counts one more loan of payload frame `at` and returns the hint for give_back. */
    void *(*lend)(void *context, size_t at);
    /* The loan is over: once for every `lend`, on any thread, also when the message was never sent. */
    void (*give_back)(void *data, void *hint);
};

/* Appends header and raw frames of `message` to `out` (after a routing id, say), copying everything. On failure the
 * frames added so far stay in `out`: clear it. LG_INVALID: the message breaks a limit of wire.h. */
LG_MUST_CHECK enum lg_status wire_net_add(const struct wire_message *message, struct net_message *out);
/* The same, but payload of WIRE_NET_LEND_BYTES and more is lent, and smaller neighbours share one copied frame. */
LG_MUST_CHECK enum lg_status wire_net_add_lent(const struct wire_message *message, const struct wire_net_lender *lender,
                                               struct net_message *out);
/* Decodes the frames of `in` from `first` on (1 behind a routing id). Raw frames stay in `in`, the rest in `arena`. */
LG_MUST_CHECK enum lg_status wire_net_decode(const struct net_message *in, size_t first, struct wire_arena *arena,
                                             struct wire_message *out, struct lg_error *error);

/* Routing ids as ZeroMQ chooses them (5 bytes) in one nonzero word and back; ids that do not fit give 0. */
uint64_t wire_route_pack(const void *id, size_t bytes);
size_t wire_route_unpack(uint64_t route, uint8_t id[8]);

#endif
