/* A seeded permutation of [0, n) that can be asked for any single element: the order in which an epoch visits its
 * samples, without an array of it. Same seed, stream and n: same order, on every machine. */
#ifndef LAGOON_COMMON_MATH_PERMUTATION_H
#define LAGOON_COMMON_MATH_PERMUTATION_H

#include <stdint.h>

enum { PERMUTATION_ROUNDS = 8 };

/* A Feistel network over the least 2^b >= n, with cycle walking (Black, Rogaway 2002): a value that falls outside
 * [0, n) is permuted again until it is inside, fewer than 2 times on average. */
struct permutation {
    uint64_t n;
    unsigned low_bits; /* the lower half, b - b/2 bits; the upper half has b/2 */
    uint64_t low_mask, high_mask;
    uint64_t keys[PERMUTATION_ROUNDS];
};

/* n >= 1. Streams of one seed (epochs) are independent for practical purposes. */
void permutation_init(struct permutation *permutation, uint64_t n, uint64_t seed, uint64_t stream);
/* Where position `index` < n goes; in [0, n). */
uint64_t permutation_at(const struct permutation *permutation, uint64_t index);

#endif
