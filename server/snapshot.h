/* Pooled copies of units for pull replies: one copy per (unit, version), shared by all readers.
 *
 * A snapshot is filled by the shard thread, never changed while anyone holds it, and released on any thread (ZeroMQ's
 * free callback runs on the I/O thread): the count is atomic, the pool takes a buffer back when it falls to zero. */
#ifndef LAGOON_SERVER_SNAPSHOT_H
#define LAGOON_SERVER_SNAPSHOT_H

#include <stddef.h>
#include <stdint.h>

struct snapshot {
    _Atomic uint32_t holders;
    uint32_t elements; /* that there is room for */
    uint64_t version;
    size_t bytes; /* in use: all of it, unless the filler says otherwise */
    float *data;
};

/* Any thread. */
void snapshot_retain(struct snapshot *snapshot);
void snapshot_release(struct snapshot *snapshot);

struct snapshot_pool;

/* Keeps up to `spare_bytes` of returned buffers for the next snapshots. NULL when there is no memory. */
struct snapshot_pool *snapshot_pool_new(size_t spare_bytes);
/* The owner's thread. Snapshots that are still held stay valid; the last release frees the pool. */
void snapshot_pool_free(struct snapshot_pool *pool);

/* The owner's thread: room for `elements` values (at most a block), for the caller to fill, and held once by it; NULL
 * when there is no memory. */
struct snapshot *snapshot_reserve(struct snapshot_pool *pool, uint32_t elements, uint64_t version);
/* The same, filled with a copy of `values`. */
struct snapshot *snapshot_take(struct snapshot_pool *pool, const float *values, uint32_t elements, uint64_t version);

#endif
