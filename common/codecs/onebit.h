/* onebit's layout and formulas: one bit an element, its sign. A block of 1,024 carries two means, of its elements with
 * and without the sign bit, which is the closest that two values come; what that leaves out goes to the residual.
 *
 * A block of n elements: the two means (floats, positive first), then ceil(n/32) words. Element i is bit i / words of
 * word i % words, so that neighbours lie in neighbouring words and loops over words vectorise. The means of a block
 * with a NaN or an infinity in it are NaN, and its residual stays as it was. Sums are taken in LANES lanes (element i
 * in lane i % LANES, in order) and then pairwise, a lane with the one half the lanes further on: one order for all. */
#ifndef LAGOON_COMMON_CODECS_ONEBIT_H
#define LAGOON_COMMON_CODECS_ONEBIT_H

#include "common/codecs/bits.h"

enum {
    ONEBIT_BLOCK = 1024,
    ONEBIT_WORD_BITS = 32,
    ONEBIT_WORDS = ONEBIT_BLOCK / ONEBIT_WORD_BITS,
    ONEBIT_MEANS = 2,
    ONEBIT_LANES = 32,
    ONEBIT_BLOCK_BYTES = 4 * (ONEBIT_MEANS + ONEBIT_WORDS)
};

/* Of the last block of a unit, n elements long. */
KERNEL_BOTH size_t onebit_words(size_t n) {
    return (n + ONEBIT_WORD_BITS - 1) / ONEBIT_WORD_BITS;
}

KERNEL_BOTH size_t onebit_bytes(uint32_t elements) {
    const size_t whole = elements / ONEBIT_BLOCK, rest = elements % ONEBIT_BLOCK;
    return whole * ONEBIT_BLOCK_BYTES + (rest ? sizeof(uint32_t) * (ONEBIT_MEANS + onebit_words(rest)) : 0);
}

KERNEL_BOTH float onebit_mean(float sum, size_t count) {
    float mean = count > 0 ? sum / (float)count : 0;
    mean = mean > KERNEL_LARGEST ? KERNEL_LARGEST : mean;
    return mean < -KERNEL_LARGEST ? -KERNEL_LARGEST : mean;
}

#endif
