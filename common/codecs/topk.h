/* topk's layout: the largest magnitudes only, exact; what is left out goes to the residual. Of equal magnitudes the
 * first ones are taken. Zeros need not be sent. NaN and infinities are the largest of all, so they are sent; where one
 * was, the residual becomes zero.
 *
 * A unit: one word per chunk of 4,096 elements (how many are sent, and in bit 16 how their places are given), then per
 * chunk the values (floats) and their places within the chunk: ascending 16-bit numbers, filled up to a multiple of 4
 * bytes, or a bitmap of ceil(n/32) words, whichever is shorter. */
#ifndef LAGOON_COMMON_CODECS_TOPK_H
#define LAGOON_COMMON_CODECS_TOPK_H

#include "common/codec.h"
#include "common/codecs/bits.h"

enum {
    TOPK_COUNT_MASK = 0xffff,
    TOPK_BITMAP = 0x10000, /* in a chunk's word */
    TOPK_WORD_BITS = 32,
    TOPK_CHUNKS_MAX = CODEC_ELEMENTS_MAX / CODEC_CHUNK
};

KERNEL_BOTH size_t topk_chunks(uint32_t elements) {
    return (elements + CODEC_CHUNK - 1) / CODEC_CHUNK;
}

KERNEL_BOTH size_t topk_chunk_elements(uint32_t elements, size_t chunk) {
    const size_t rest = elements - chunk * CODEC_CHUNK;
    return rest < CODEC_CHUNK ? rest : (size_t)CODEC_CHUNK;
}

KERNEL_BOTH size_t topk_list_bytes(size_t count) {
    return (count * sizeof(uint16_t) + 3) & ~(size_t)3;
}

KERNEL_BOTH size_t topk_bitmap_bytes(size_t n) {
    return (n + TOPK_WORD_BITS - 1) / TOPK_WORD_BITS * sizeof(uint32_t);
}

/* The word of a chunk of n elements of which `count` are sent. */
KERNEL_BOTH uint32_t topk_word(size_t count, size_t n) {
    return (uint32_t)count | (topk_bitmap_bytes(n) < topk_list_bytes(count) ? (uint32_t)TOPK_BITMAP : 0);
}

/* Bytes of a chunk whose word is `word`. */
KERNEL_BOTH size_t topk_chunk_bytes(uint32_t word, size_t n) {
    const size_t count = word & TOPK_COUNT_MASK;
    return count * sizeof(float) + (word & TOPK_BITMAP ? topk_bitmap_bytes(n) : topk_list_bytes(count));
}

/* Elements to send of a unit: the share `keep` of them, rounded up, at least one. */
KERNEL_BOTH size_t topk_quota(uint32_t elements, double keep) {
    const double wanted = keep * (double)elements;
    size_t count = wanted < (double)elements ? (size_t)wanted : elements;
    count += (double)count < wanted && count < elements;
    return count > 0 ? count : 1;
}

#endif
