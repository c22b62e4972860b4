/* Units of dense tensors: blocks of up to 65,536 elements, numbered through the job's tensor table in order.
 *
 * Placement, versions, records, ledgers and (later) migration are written over unit numbers. */
#ifndef LAGOON_COMMON_BLOCK_H
#define LAGOON_COMMON_BLOCK_H

#include "common/tensor.h"

enum { BLOCK_ELEMENTS = 65536 };

struct block {
    uint32_t tensor;   /* index into the tensor table */
    uint32_t elements; /* 1 .. BLOCK_ELEMENTS */
    uint64_t offset;   /* first element within the job's flat parameter array */
};

struct block_table {
    struct block *blocks;
    uint32_t count;
    uint32_t *first_of_tensor; /* [tensor count + 1]: blocks of tensor t are [first[t], first[t+1]) */
};

/* Cuts a checked tensor table into blocks; deinit frees. */
LG_MUST_CHECK enum lg_status block_table_init(struct block_table *table, const struct tensor_spec *specs, size_t count,
                                              struct lg_error *error);
void block_table_deinit(struct block_table *table);

/* Versions: (epoch, counter) in one u64 that compares lexicographically. The epoch rises when a shard's history is cut
 * (restore, failover), the counter with every applied push. */
#define VERSION_COUNTER_BITS 48
static inline uint64_t version_make(uint64_t epoch, uint64_t counter) {
    return (epoch << VERSION_COUNTER_BITS) | (counter & ((UINT64_C(1) << VERSION_COUNTER_BITS) - 1));
}
static inline uint64_t version_epoch(uint64_t version) {
    return version >> VERSION_COUNTER_BITS;
}
static inline uint64_t version_counter(uint64_t version) {
    return version & ((UINT64_C(1) << VERSION_COUNTER_BITS) - 1);
}

#endif
