#include "server/coordinator/placement.h"

#include <stdlib.h>
#include <string.h>

struct candidate {
    uint32_t unit, elements;
};

/* Larger units first, then by number. */
static int compare(const void *left, const void *right) {
    const struct candidate *a = left, *b = right;
    if (a->elements != b->elements)
        return a->elements < b->elements ? 1 : -1;
    return a->unit < b->unit ? -1 : a->unit > b->unit;
}

static size_t least_loaded(const struct placement_shard *shards, const uint64_t *loads, size_t count, uint64_t bytes) {
    size_t best = SIZE_MAX;
    for (size_t i = 0; i < count; i++) {
        if (shards[i].free_bytes < loads[i] || shards[i].free_bytes - loads[i] < bytes)
            continue;
        if (best == SIZE_MAX || loads[i] < loads[best] ||
            (loads[i] == loads[best] && shards[i].used_bytes < shards[best].used_bytes))
            best = i;
    }
    return best;
}

enum lg_status placement_place(const struct block *blocks, size_t count, uint64_t element_bytes,
                               const struct placement_shard *shards, size_t shard_count, uint16_t *placement,
                               struct lg_error *error) {
    struct candidate *order = calloc(count ? count : 1, sizeof *order);
    uint64_t *loads = calloc(shard_count ? shard_count : 1, sizeof *loads);
    enum lg_status status = LG_OK;
    if (!order || !loads) {
        status = lg_fail(error, LG_NO_MEMORY, "no memory to place %zu units", count);
        goto out;
    }
    for (size_t i = 0; i < count; i++)
        order[i] = (struct candidate){(uint32_t)i, blocks[i].elements};
    qsort(order, count, sizeof *order, compare);
    for (size_t i = 0; i < count; i++) {
        uint64_t bytes = order[i].elements * element_bytes;
        size_t shard = least_loaded(shards, loads, shard_count, bytes);
        if (shard == SIZE_MAX) {
            status = lg_fail(error, LG_NO_MEMORY, "no shard has room for unit %u of %llu bytes", order[i].unit,
                             (unsigned long long)bytes);
            goto out;
        }
        loads[shard] += bytes;
        placement[order[i].unit] = (uint16_t)shard;
    }
out:
    free(order);
    free(loads);
    return status;
}

size_t placement_compact(uint16_t *placement, size_t count, size_t shard_count, uint16_t *order) {
    size_t used = 0;
    for (size_t shard = 0; shard < shard_count; shard++) {
        bool found = false;
        for (size_t i = 0; i < count && !found; i++)
            found = placement[i] == shard;
        if (found)
            order[used++] = (uint16_t)shard;
    }
    for (size_t i = 0; i < count; i++)
        for (size_t at = 0; at < used; at++)
            if (order[at] == placement[i]) {
                placement[i] = (uint16_t)at;
                break;
            }
    return used;
}
