/* Sets of half-open sample ranges [first, end), kept sorted, disjoint and merged: a handful per unit in practice. */
#ifndef LAGOON_SERVER_INTERVALS_H
#define LAGOON_SERVER_INTERVALS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct interval {
    uint64_t first, end;
};

struct intervals {
    struct interval *items; /* NULL while empty */
    uint32_t count, capacity;
};

enum intervals_overlap { INTERVALS_NONE, INTERVALS_PARTLY, INTERVALS_ALL };

void intervals_deinit(struct intervals *set);
/* How much of [first, end) is in the set; first < end. */
enum intervals_overlap intervals_overlap(const struct intervals *set, uint64_t first, uint64_t end);
/* Room for `more` further intervals_add without an allocation; false when there is no memory. */
bool intervals_reserve(struct intervals *set, uint32_t more);
/* Adds [first, end), which overlaps nothing in the set; needs reserved room. */
void intervals_add(struct intervals *set, uint64_t first, uint64_t end);
/* The least position of [first, end] that is not in the set, `end` when all of [first, end) is. */
uint64_t intervals_gap(const struct intervals *set, uint64_t first, uint64_t end);

#endif
