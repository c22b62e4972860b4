/* Messages between their plain form (wire.h) and the frames of a socket (common/net.h). */
#ifndef LAGOON_PROTO_WIRE_NET_H
#define LAGOON_PROTO_WIRE_NET_H

#include "common/net.h"
#include "proto/wire.h"

/* Appends header and raw frames of `message` to `out` (after a routing id, say), copying everything. On failure the
 * frames added so far stay in `out`: clear it. LG_INVALID: the message breaks a limit of wire.h. */
LG_MUST_CHECK enum lg_status wire_net_add(const struct wire_message *message, struct net_message *out);
/* The header frame only, for senders that add the raw frames themselves without a copy. */
LG_MUST_CHECK enum lg_status wire_net_add_header(const struct wire_message *message, struct net_message *out);
/* Decodes the frames of `in` from `first` on (1 behind a routing id). Raw frames stay in `in`, the rest in `arena`. */
LG_MUST_CHECK enum lg_status wire_net_decode(const struct net_message *in, size_t first, struct wire_arena *arena,
                                             struct wire_message *out, struct lg_error *error);

/* Routing ids as ZeroMQ chooses them (5 bytes) in one nonzero word and back; ids that do not fit give 0. */
uint64_t wire_route_pack(const void *id, size_t bytes);
size_t wire_route_unpack(uint64_t route, uint8_t id[8]);

#endif
