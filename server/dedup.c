#include "server/dedup.h"

#include <assert.h>
#include <stdlib.h>

bool dedup_init(struct dedup *dedup) {
    *dedup = (struct dedup){.floor = 1, .capacity = DEDUP_RECORDS_FIRST};
    dedup->slots = calloc(DEDUP_SLOTS, sizeof *dedup->slots);
    dedup->ring = calloc(DEDUP_RECORDS_FIRST, sizeof *dedup->ring);
    if (dedup->slots && dedup->ring)
        return true;
    dedup_deinit(dedup);
    return false;
}

void dedup_deinit(struct dedup *dedup) {
    free(dedup->slots);
    free(dedup->ring);
    *dedup = (struct dedup){0};
}

void dedup_raise_floor(struct dedup *dedup, uint64_t floor) {
    if (floor > dedup->floor)
        dedup->floor = floor;
}

static struct dedup_slot *slot_of(const struct dedup *dedup, uint64_t seq) {
    return &dedup->slots[seq & (DEDUP_SLOTS - 1)];
}

enum dedup_answer dedup_find(const struct dedup *dedup, uint64_t seq, const struct dedup_slot **slot) {
    const struct dedup_slot *found = slot_of(dedup, seq);
    if (seq < dedup->floor || (dedup->highest >= DEDUP_SLOTS && seq <= dedup->highest - DEDUP_SLOTS))
        return DEDUP_STALE;
    if (found->seq != seq)
        return DEDUP_NEW;
    *slot = found;
    return DEDUP_KNOWN;
}

const struct dedup_record *dedup_record(const struct dedup *dedup, const struct dedup_slot *slot, uint32_t i) {
    assert(i < slot->count);
    return &dedup->ring[(slot->start + i) & (dedup->capacity - 1)];
}

/* The oldest record is no longer needed: its seq is settled, or its slot went to a higher seq. */
static bool oldest_is_dead(const struct dedup *dedup) {
    uint64_t seq = dedup->ring[dedup->tail & (dedup->capacity - 1)].seq;
    return seq < dedup->floor || slot_of(dedup, seq)->seq != seq;
}

static bool ring_grow(struct dedup *dedup) {
    uint64_t capacity = dedup->capacity * 2;
    struct dedup_record *ring = malloc(capacity * sizeof *ring);
    if (!ring)
        return false;
    for (uint64_t i = dedup->tail; i < dedup->head; i++)
        ring[i & (capacity - 1)] = dedup->ring[i & (dedup->capacity - 1)];
    free(dedup->ring);
    dedup->ring = ring;
    dedup->capacity = capacity;
    return true;
}

bool dedup_reserve(struct dedup *dedup, uint32_t count) {
    assert(count <= DEDUP_RECORDS_MAX);
    while (dedup->capacity - (dedup->head - dedup->tail) < count) {
        if (dedup->tail < dedup->head && oldest_is_dead(dedup)) {
            dedup->tail++;
        } else if (dedup->capacity < DEDUP_RECORDS_MAX) {
            if (!ring_grow(dedup))
                return false;
        } else {
            assert(dedup->tail < dedup->head); /* the ring is not empty: it has room for `count` when it is */
            dedup_raise_floor(dedup, dedup->ring[dedup->tail & (dedup->capacity - 1)].seq + 1);
        }
    }
    return true;
}

void dedup_add(struct dedup *dedup, const struct dedup_record *record) {
    assert(dedup->head - dedup->tail < dedup->capacity && record->seq > 0);
    struct dedup_slot *slot = slot_of(dedup, record->seq);
    if (slot->seq != record->seq)
        *slot = (struct dedup_slot){.seq = record->seq, .start = dedup->head};
    assert(slot->start + slot->count == dedup->head);
    dedup->ring[dedup->head++ & (dedup->capacity - 1)] = *record;
    slot->count++;
    if (record->seq > dedup->highest)
        dedup->highest = record->seq;
}
