/* The same-host side channel: how a shard's parameters lie in memory that its clients map, and the two records that
 * are exchanged over a Unix socket to get there. docs/protocol.md, section 7.
 *
 * A job's segment on a shard is one sealed memfd: a head, one local_unit for each of the shard's units in ascending
 * order, and from local_data_offset on the units' values, each at a multiple of LOCAL_ALIGN_BYTES. The shard writes,
 * clients hold a mapping that can never be made writable. A unit is guarded by a sequence lock: its sequence is odd
 * while the shard changes it. Readers copy values out and keep them only if the sequence was even and the same before
 * and after; a shard that dies in mid-update leaves it odd for ever, so readers try a few times and then ask by
 * message.
 *
 * Nothing here makes a system call. */
#ifndef LAGOON_PROTO_LOCAL_H
#define LAGOON_PROTO_LOCAL_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    LOCAL_LAYOUT = 1,
    LOCAL_ALIGN_BYTES = 64,
    LOCAL_PAGE_BYTES = 4096,
    LOCAL_NAME_BYTES = 64, /* of an abstract Unix socket, with the NUL that C wants behind it */
    LOCAL_REASON_BYTES = 160,
};
#define LOCAL_MAGIC UINT64_C(0x316c636f6c676c01)

struct local_unit {
    _Atomic uint64_t sequence, version;
};

struct local_segment {
    uint64_t magic;
    uint32_t layout, unit_count;
    uint64_t bytes;               /* of the whole segment */
    _Atomic uint64_t job_version; /* (epoch, counter): read before values, it is a base for pushes computed from them */
    _Atomic uint32_t readable;    /* 0: no initial values yet, or the job has ended here */
    uint32_t reserved[7];
    struct local_unit units[];
};
_Static_assert(sizeof(struct local_segment) == 64, "the head is one cache line");

/* Bytes a unit of `elements` takes, and where the values of a segment of `unit_count` units begin. */
uint64_t local_unit_bytes(uint32_t elements);
uint64_t local_data_offset(uint32_t unit_count);

/* ---- the shard's side */

void local_segment_init(struct local_segment *segment, uint32_t unit_count, uint64_t bytes);
/* Around every change of a unit's values; `end` publishes the new version. NULL: the unit is in no segment. */
void local_unit_begin(struct local_unit *unit);
void local_unit_end(struct local_unit *unit, uint64_t version);

/* ---- a client's side */

/* The numbers in the head are copied before they are looked at: false unless they describe exactly this. */
bool local_segment_fits(const struct local_segment *segment, uint32_t unit_count, uint64_t bytes);

enum local_read {
    LOCAL_READ_DONE,      /* `into` and *version hold the unit */
    LOCAL_READ_UNCHANGED, /* it still has the version that *version came with; `into` was not touched */
    LOCAL_READ_BUSY       /* it was being changed all the time; `into` holds anything */
};
/* Copies a unit's `elements` values from `data` out to `into`: at most LOCAL_TRIES tries. *version: what `into` holds
 * (0: nothing). */
enum { LOCAL_TRIES = 3 };
enum local_read local_unit_read(const struct local_unit *unit, const float *data, uint32_t elements, float *into,
                                uint64_t *version);

/* The same for callers that copy by other means, a GPU's DMA for one. `begin` waits a moment where the unit is being
 * changed, as a read does; false: it still is. Values copied after that are *version's if `same` says so once the copy
 * is done.
 *
 * Why this is right where not this processor but a device reads the values. Before: the acquire load of the sequence
 * comes before every later store of this thread, so before the one that tells the device to begin; and what the shard
 * wrote before it published that sequence is in the coherent memory that the device reads (its reads of host memory
 * look into the caches, as CUDA's of page-locked memory do). After: a device reports the end of a copy when all it
 * asked for has come, and the host sees that report before it calls `same`. Where any value copied was of a later
 * change, the odd sequence of that change was visible before the value was (local_unit_begin), so the load in `same`
 * finds it, or a later one; the fence keeps that load from being done ahead of the look at the report. So nothing may
 * use the values before `same`: a kernel that does is queued after it. */
bool local_unit_copy_begin(const struct local_unit *unit, uint64_t *sequence, uint64_t *version);
bool local_unit_copy_same(const struct local_unit *unit, uint64_t sequence);
/* The unit is at `version` now and is not being changed: there is nothing to copy for who holds that. 0: never. */
bool local_unit_is_at(const struct local_unit *unit, uint64_t version);

/* ---- the handover: one packet each way over a SOCK_SEQPACKET socket in the abstract namespace */

/* Comes with one file descriptor: the session's gradient memory, a memfd sealed against shrinking. */
struct local_hello {
    uint64_t magic;
    uint32_t layout, incarnation;
    uint64_t job, session, token;
    uint64_t ring_bytes;
};

/* With status 0 comes the segment's descriptor. */
struct local_welcome {
    uint64_t magic;
    uint32_t layout, status; /* enum lg_status */
    uint32_t unit_count, reserved;
    uint64_t bytes;
    char reason[LOCAL_REASON_BYTES];
};

#endif
