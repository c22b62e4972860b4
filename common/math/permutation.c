#include "common/math/permutation.h"

#include <assert.h>

#include "common/random.h"

void permutation_init(struct permutation *permutation, uint64_t n, uint64_t seed, uint64_t stream) {
    struct random random;
    unsigned bits = 0;
    assert(n >= 1);
    while (bits < 64 && (UINT64_C(1) << bits) < n)
        bits++;
    unsigned high_bits = bits / 2, low_bits = bits - high_bits;
    *permutation = (struct permutation){
        .n = n,
        .low_bits = low_bits,
        .low_mask = (UINT64_C(1) << low_bits) - 1,
        .high_mask = (UINT64_C(1) << high_bits) - 1,
    };
    random_init_stream(&random, seed, stream);
    for (int i = 0; i < PERMUTATION_ROUNDS; i++)
        permutation->keys[i] = random_u64(&random);
}

/* One pass: the halves are changed in turn, each by a function of the other, so every round can be undone. */
static uint64_t pass(const struct permutation *permutation, uint64_t value) {
    uint64_t low = value & permutation->low_mask, high = value >> permutation->low_bits;
    for (int i = 0; i < PERMUTATION_ROUNDS; i += 2) {
        low ^= random_mix(permutation->keys[i], high) & permutation->low_mask;
        high ^= random_mix(permutation->keys[i + 1], low) & permutation->high_mask;
    }
    return (high << permutation->low_bits) | low;
}

uint64_t permutation_at(const struct permutation *permutation, uint64_t index) {
    assert(index < permutation->n);
    uint64_t value = index;
    do
        value = pass(permutation, value);
    while (value >= permutation->n);
    return value;
}
