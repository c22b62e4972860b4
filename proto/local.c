#include "proto/local.h"

#include <string.h>

enum { SPINS = 2000 }; /* looks at an odd sequence per try: some 50 us, longer than a shard needs for one unit */

static uint64_t round_up(uint64_t bytes, uint64_t to) {
    return (bytes + to - 1) / to * to;
}

uint64_t local_unit_bytes(uint32_t elements) {
    return round_up(elements * sizeof(float), LOCAL_ALIGN_BYTES);
}

uint64_t local_data_offset(uint32_t unit_count) {
    return round_up(sizeof(struct local_segment) + (uint64_t)unit_count * sizeof(struct local_unit), LOCAL_PAGE_BYTES);
}

void local_segment_init(struct local_segment *segment, uint32_t unit_count, uint64_t bytes) {
    segment->magic = LOCAL_MAGIC;
    segment->layout = LOCAL_LAYOUT;
    segment->unit_count = unit_count;
    segment->bytes = bytes;
}

bool local_segment_fits(const struct local_segment *segment, uint32_t unit_count, uint64_t bytes) {
    const volatile struct local_segment *head = segment;
    return head->magic == LOCAL_MAGIC && head->layout == LOCAL_LAYOUT && head->unit_count == unit_count &&
           head->bytes == bytes;
}

/* Odd also where a writer died before. The fence keeps the values' stores behind the odd sequence; the release store
 * keeps them before the even one. */
void local_unit_begin(struct local_unit *unit) {
    if (!unit)
        return;
    uint64_t sequence = atomic_load_explicit(&unit->sequence, memory_order_relaxed);
    atomic_store_explicit(&unit->sequence, (sequence + 1) | 1, memory_order_relaxed);
    atomic_thread_fence(memory_order_release);
}

void local_unit_end(struct local_unit *unit, uint64_t version) {
    if (!unit)
        return;
    uint64_t sequence = atomic_load_explicit(&unit->sequence, memory_order_relaxed);
    atomic_store_explicit(&unit->version, version, memory_order_relaxed);
    atomic_store_explicit(&unit->sequence, (sequence | 1) + 1, memory_order_release);
}

static void pause_a_little(void) {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#endif
}

/* An even sequence, or an odd one where it stays odd for too long. */
static uint64_t sequence_settled(const struct local_unit *unit) {
    uint64_t sequence = atomic_load_explicit(&unit->sequence, memory_order_acquire);
    for (int i = 0; (sequence & 1) && i < SPINS; i++) {
        pause_a_little();
        sequence = atomic_load_explicit(&unit->sequence, memory_order_acquire);
    }
    return sequence;
}

bool local_unit_copy_begin(const struct local_unit *unit, uint64_t *sequence, uint64_t *version) {
    *sequence = sequence_settled(unit);
    *version = atomic_load_explicit(&unit->version, memory_order_relaxed);
    return (*sequence & 1) == 0;
}

bool local_unit_copy_same(const struct local_unit *unit, uint64_t sequence) {
    atomic_thread_fence(memory_order_acquire);
    return atomic_load_explicit(&unit->sequence, memory_order_relaxed) == sequence;
}

bool local_unit_is_at(const struct local_unit *unit, uint64_t version) {
    uint64_t sequence = atomic_load_explicit(&unit->sequence, memory_order_acquire);
    uint64_t found = atomic_load_explicit(&unit->version, memory_order_relaxed);
    return (sequence & 1) == 0 && found == version && found != 0 && local_unit_copy_same(unit, sequence);
}

enum local_read local_unit_read(const struct local_unit *unit, const float *data, uint32_t elements, float *into,
                                uint64_t *version) {
    for (int i = 0; i < LOCAL_TRIES; i++) {
        uint64_t before, found;
        if (!local_unit_copy_begin(unit, &before, &found))
            return LOCAL_READ_BUSY;
        bool copy = found == 0 || found != *version;
        if (copy)
            memcpy(into, data, elements * sizeof *into);
        if (!local_unit_copy_same(unit, before))
            continue;
        *version = found;
        return copy ? LOCAL_READ_DONE : LOCAL_READ_UNCHANGED;
    }
    return LOCAL_READ_BUSY;
}
