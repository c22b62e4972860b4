#include "server/intervals.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

enum { FIRST_CAPACITY = 4 };

void intervals_deinit(struct intervals *set) {
    free(set->items);
    *set = (struct intervals){0};
}

/* The index of the first interval that ends after `position`. */
static uint32_t intervals_after(const struct intervals *set, uint64_t position) {
    uint32_t low = 0, high = set->count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (set->items[middle].end > position)
            high = middle;
        else
            low = middle + 1;
    }
    return low;
}

enum intervals_overlap intervals_overlap(const struct intervals *set, uint64_t first, uint64_t end) {
    assert(first < end);
    uint32_t at = intervals_after(set, first);
    if (at == set->count || set->items[at].first >= end)
        return INTERVALS_NONE;
    return set->items[at].first <= first && set->items[at].end >= end ? INTERVALS_ALL : INTERVALS_PARTLY;
}

bool intervals_reserve(struct intervals *set, uint32_t more) {
    uint32_t needed = set->count + more, capacity = set->capacity ? set->capacity : FIRST_CAPACITY;
    if (needed <= set->capacity)
        return true;
    while (capacity < needed)
        capacity *= 2;
    struct interval *items = realloc(set->items, capacity * sizeof *items);
    if (!items)
        return false;
    set->items = items;
    set->capacity = capacity;
    return true;
}

void intervals_add(struct intervals *set, uint64_t first, uint64_t end) {
    uint32_t at = intervals_after(set, first);
    bool joins_before = at > 0 && set->items[at - 1].end == first;
    bool joins_after = at < set->count && set->items[at].first == end;
    assert(first < end && (at == set->count || set->items[at].first >= end));
    if (joins_before && joins_after) {
        set->items[at - 1].end = set->items[at].end;
        memmove(&set->items[at], &set->items[at + 1], (set->count - at - 1) * sizeof *set->items);
        set->count--;
    } else if (joins_before) {
        set->items[at - 1].end = end;
    } else if (joins_after) {
        set->items[at].first = first;
    } else {
        assert(set->count < set->capacity);
        memmove(&set->items[at + 1], &set->items[at], (set->count - at) * sizeof *set->items);
        set->items[at] = (struct interval){first, end};
        set->count++;
    }
}

uint64_t intervals_gap(const struct intervals *set, uint64_t first, uint64_t end) {
    uint32_t at = intervals_after(set, first);
    if (first >= end || at == set->count || set->items[at].first > first)
        return first < end ? first : end;
    return set->items[at].end < end ? set->items[at].end : end;
}
