/* What became of a session's recent push parts, per (seq, unit), so that a part sent again is answered and not applied
 * twice. One per session and incarnation.
 *
 * Seqs are unique over all shards of a session, so a shard sees some of them, in any order. It remembers the last
 * DEDUP_SLOTS numbers below the highest it saw; the client has fewer than its window between its floor (every seq below
 * is settled) and its newest, and windows are at most DEDUP_SLOTS. Older seqs are refused as stale. */
#ifndef LAGOON_SERVER_DEDUP_H
#define LAGOON_SERVER_DEDUP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    DEDUP_SLOTS = 1024,         /* a power of two */
    DEDUP_RECORDS_FIRST = 64,   /* a power of two; the ring doubles as needed */
    DEDUP_RECORDS_MAX = 1 << 17 /* then the oldest go, and their seqs are stale */
};

enum dedup_outcome {
    DEDUP_APPLIED,  /* or stored, for initial values */
    DEDUP_SKIPPED,  /* consumed, but the tensor is frozen */
    DEDUP_DROPPED,  /* weight zero: consumed, not applied */
    DEDUP_REPEATED, /* the samples had been applied before */
    DEDUP_CUT,      /* a part of the samples had been: not applied */
};

struct dedup_record {
    uint64_t seq;
    uint64_t version; /* the job's, after the part */
    uint32_t unit;    /* number within the job */
    uint32_t staleness;
    float weight;
    uint16_t status; /* enum lg_status */
    uint16_t outcome;
};
_Static_assert(sizeof(struct dedup_record) == 32, "records travel with their units: 32 bytes each");

struct dedup_slot {
    uint64_t seq;   /* 0: free */
    uint64_t start; /* position of the first record */
    uint32_t count;
};

struct dedup {
    struct dedup_slot *slots; /* [DEDUP_SLOTS], by seq */
    struct dedup_record *ring;
    uint64_t head, tail; /* positions: records [tail, head) are kept */
    uint64_t capacity;   /* a power of two */
    uint64_t floor, highest;
};

enum dedup_answer { DEDUP_NEW, DEDUP_KNOWN, DEDUP_STALE };

bool dedup_init(struct dedup *dedup);
void dedup_deinit(struct dedup *dedup);

/* Every seq below `floor` is settled; seqs start at 1. */
void dedup_raise_floor(struct dedup *dedup, uint64_t floor);
/* DEDUP_KNOWN: *slot names the records. */
enum dedup_answer dedup_find(const struct dedup *dedup, uint64_t seq, const struct dedup_slot **slot);
/* Record `i` of a slot; borrowed until the next dedup_add. */
const struct dedup_record *dedup_record(const struct dedup *dedup, const struct dedup_slot *slot, uint32_t i);

/* Room for the records of one new part of `count` units; false when there is no memory. */
bool dedup_reserve(struct dedup *dedup, uint32_t count);
/* Adds the part's records one after the other, in table order; room is reserved and the seq is new. */
void dedup_add(struct dedup *dedup, const struct dedup_record *record);

#endif
