/* Where clients on the same host come to share memory with a shard: a Unix socket in the abstract namespace, named
 * after a random number, so that only who was told the name at hello on this host finds it. A client hands in the
 * memory that its gradients lie in and gets the job's segment to read from (proto/local.h); the connection is closed
 * again at once. After that pushes may name payload in that memory instead of carrying it.
 *
 * Used by the shard's thread only; nothing here blocks. What clients send is not believed: sizes, seals, offsets, token
 * and user are checked, and the shard checks once more that a push comes from the session whose memory it names. */
#ifndef LAGOON_SERVER_LOCAL_DOOR_H
#define LAGOON_SERVER_LOCAL_DOOR_H

#include <poll.h>

#include "server/shard.h"

struct local_door;

enum { LOCAL_DOOR_FDS = 9 };

LG_MUST_CHECK enum lg_status local_door_open(struct local_door **out, struct lg_error *error);
void local_door_close(struct local_door *door); /* NULL is fine */
/* The socket's name, for HELLO_REPLY. */
const char *local_door_name(const struct local_door *door);

/* What to poll for; returns how many of `fds`, at most LOCAL_DOOR_FDS. */
nfds_t local_door_watch(const struct local_door *door, struct pollfd *fds);
/* Answers who has come. */
void local_door_serve(struct local_door *door, const struct shard *shard, int64_t now_ns);
/* Lets go of memory whose session has ended; now and then. */
void local_door_sweep(struct local_door *door, const struct shard *shard);

/* Turns the ranges of a PUSH with `ring` into payload: message->payload points to `payload`. LG_DENIED where that
 * memory was not handed in: the client says hello anew. */
LG_MUST_CHECK enum lg_status local_door_resolve(const struct local_door *door, struct wire_message *message,
                                                struct wire_bytes payload[WIRE_PAYLOAD_FRAMES_MAX],
                                                struct lg_error *error);

#endif
