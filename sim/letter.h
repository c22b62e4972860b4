/* A message on its way: encoded as on a real wire, and decoded where it arrives. Large payload is not copied: what a
 * shard sends is held by its snapshots, and gradients stay where they are until the push is settled. */
#ifndef LAGOON_SIM_LETTER_H
#define LAGOON_SIM_LETTER_H

#include "proto/wire.h"
#include "server/snapshot.h"

struct letter {
    uint64_t route; /* return address, for the coordinator */
    size_t bytes;   /* that travel */
    size_t frame_count, snapshot_count;
    struct wire_bytes *frames;
    struct snapshot **snapshots;
};

/* NULL when there is no memory, or the message breaks a limit of the wire. */
struct letter *letter_new(const struct wire_message *message, struct snapshot *const *snapshots, size_t snapshot_count);
void letter_free(struct letter *letter); /* NULL is fine */
LG_MUST_CHECK enum lg_status letter_read(const struct letter *letter, struct wire_arena *arena,
                                         struct wire_message *message, struct lg_error *error);

#endif
