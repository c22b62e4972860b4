#include "client/mapping.h"

#include <assert.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>

/* ---- life */

/* Where every unit's values are to be; returns where the last ends. */
static uint64_t lay_out(struct lg_mapping *mapping) {
    uint64_t end = local_data_offset(mapping->unit_count);
    for (uint32_t i = 0; i < mapping->unit_count; i++) {
        mapping->offsets[i] = end;
        end += local_unit_bytes(mapping->units[i].elements);
    }
    return end;
}

/* The segment must be as large as it says, or reading it would be a SIGBUS; a sealed memfd stays so. */
static bool map(struct lg_mapping *mapping, uint64_t bytes, int fd) {
    struct stat about;
    mapping->bytes = lay_out(mapping);
    if (bytes != mapping->bytes || fstat(fd, &about) != 0 || (uint64_t)about.st_size < bytes)
        return false;
    void *memory = mmap(NULL, (size_t)bytes, PROT_READ, MAP_SHARED | MAP_POPULATE, fd, 0);
    if (memory == MAP_FAILED)
        return false;
    mapping->head = memory;
    return local_segment_fits(mapping->head, mapping->unit_count, bytes);
}

struct lg_mapping *mapping_new(const struct wire_unit *units, uint32_t unit_count, uint64_t bytes, int fd) {
    struct lg_mapping *mapping = calloc(1, sizeof *mapping);
    if (!mapping)
        return NULL;
    mapping->units = units;
    mapping->unit_count = unit_count;
    mapping->offsets = calloc(unit_count ? unit_count : 1, sizeof *mapping->offsets);
    atomic_init(&mapping->holds, 1);
    atomic_init(&mapping->gone, false);
    if (mapping->offsets && map(mapping, bytes, fd))
        return mapping;
    lg_mapping_release(mapping);
    return NULL;
}

void lg_mapping_hold(struct lg_mapping *mapping) {
    unsigned before = atomic_fetch_add_explicit(&mapping->holds, 1, memory_order_relaxed);
    assert(before > 0);
    (void)before;
}

/* Release and acquire: whoever unmaps does so after what every other holder read. */
void lg_mapping_release(struct lg_mapping *mapping) {
    unsigned before = atomic_fetch_sub_explicit(&mapping->holds, 1, memory_order_acq_rel);
    assert(before > 0);
    if (before > 1)
        return;
    if (mapping->head)
        munmap((void *)(uintptr_t)mapping->head, (size_t)mapping->bytes);
    free(mapping->offsets);
    free(mapping);
}

void mapping_leave(struct lg_mapping *mapping) {
    if (!mapping)
        return;
    atomic_store_explicit(&mapping->gone, true, memory_order_release);
    lg_mapping_release(mapping);
}

bool lg_mapping_gone(const struct lg_mapping *mapping) {
    return atomic_load_explicit(&mapping->gone, memory_order_acquire);
}

/* ---- what lies in it */

const void *lg_mapping_memory(const struct lg_mapping *mapping, size_t *bytes) {
    *bytes = (size_t)mapping->bytes;
    return mapping->head;
}

const struct local_unit *mapping_unit(const struct lg_mapping *mapping, uint32_t index) {
    return &mapping->head->units[index];
}

const float *mapping_values(const struct lg_mapping *mapping, uint32_t index) {
    return (const float *)(const void *)((const char *)mapping->head + mapping->offsets[index]);
}

bool lg_place_begin(struct lg_place *place) {
    place->whole = false;
    return !place->mapping || local_unit_copy_begin(place->guard, &place->sequence, &place->version);
}

bool lg_place_end(struct lg_place *place) {
    place->whole =
        !place->mapping || ((place->sequence & 1) == 0 && local_unit_copy_same(place->guard, place->sequence));
    return place->whole;
}
