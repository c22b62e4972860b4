/* One bit an element; layout and formulas are in onebit.h. */
#include "common/codecs/onebit.h"

#include "common/codecs/kernel.h"

/* The pairwise end of a sum. */
static inline float lanes_sum(float *lanes) {
    for (size_t width = ONEBIT_LANES / 2; width > 0; width /= 2)
        for (size_t i = 0; i < width; i++)
            lanes[i] += lanes[i + width];
    return lanes[0];
}

/* sums[0] of the elements without the sign bit, sums[1] of those with it; `n` is a multiple of ONEBIT_LANES. Returns
 * the largest magnitude's bits. */
static inline uint32_t signed_sums(const float *restrict input, size_t n, float *sums) {
    float plus[ONEBIT_LANES] = {0}, minus[ONEBIT_LANES] = {0};
    uint32_t most[ONEBIT_LANES] = {0}, all = 0;
    for (size_t at = 0; at < n; at += ONEBIT_LANES)
        for (size_t i = 0; i < ONEBIT_LANES; i++) {
            const uint32_t bits = kernel_bits(input[at + i]), negative = 0u - (bits >> 31);
            const uint32_t magnitude = bits & ~KERNEL_SIGN;
            plus[i] += kernel_float(bits & ~negative);
            minus[i] += kernel_float(bits & negative);
            most[i] = magnitude > most[i] ? magnitude : most[i];
        }
    for (size_t i = 0; i < ONEBIT_LANES; i++)
        all = most[i] > all ? most[i] : all;
    sums[0] = lanes_sum(plus);
    sums[1] = lanes_sum(minus);
    return all;
}

static inline void signs_pack(const float *restrict input, size_t words, size_t n, uint32_t *restrict packed) {
    for (size_t i = 0; i < words; i++)
        packed[i] = 0;
    for (unsigned bit = 0; bit * words < n; bit++) {
        const float *restrict row = input + bit * words;
        const size_t count = n - bit * words < words ? n - bit * words : words;
        for (size_t i = 0; i < count; i++)
            packed[i] |= kernel_bits(row[i]) >> 31 << bit;
    }
}

static inline void signs_unpack(const uint32_t *restrict packed, size_t words, size_t n, uint32_t plus, uint32_t minus,
                                float *restrict out) {
    for (unsigned bit = 0; bit * words < n; bit++) {
        float *restrict row = out + bit * words;
        const size_t count = n - bit * words < words ? n - bit * words : words;
        for (size_t i = 0; i < count; i++) {
            const uint32_t negative = 0u - (packed[i] >> bit & 1u);
            row[i] = kernel_float((plus & ~negative) | (minus & negative));
        }
    }
}

/* One block; `words` is given by the caller so that it is a constant for whole blocks. */
static inline size_t block_encode(const float *restrict values, float *restrict residual, size_t n, size_t words,
                                  uint8_t *restrict out) {
    _Alignas(64) float input[ONEBIT_BLOCK];
    uint32_t packed[ONEBIT_WORDS];
    float sums[ONEBIT_MEANS], means[ONEBIT_MEANS];
    size_t negatives = 0;
    if (residual)
        for (size_t i = 0; i < n; i++)
            input[i] = values[i] + residual[i];
    else
        memcpy(input, values, n * sizeof *input);
    for (size_t i = n; i % ONEBIT_LANES != 0; i++)
        input[i] = 0;
    const bool finite = signed_sums(input, words * ONEBIT_WORD_BITS, sums) < KERNEL_INFINITY;
    signs_pack(input, words, n, packed);
    for (size_t i = 0; i < words; i++)
        negatives += (size_t)__builtin_popcount(packed[i]);
    means[0] = finite ? onebit_mean(sums[0], n - negatives) : kernel_float(KERNEL_NAN);
    means[1] = finite ? onebit_mean(sums[1], negatives) : means[0];
    memcpy(out, means, sizeof means);
    memcpy(out + sizeof means, packed, words * sizeof *packed);
    if (residual && finite) {
        _Alignas(64) float sent[ONEBIT_BLOCK];
        signs_unpack(packed, words, n, kernel_bits(means[0]), kernel_bits(means[1]), sent);
        for (size_t i = 0; i < n; i++)
            residual[i] = input[i] - sent[i];
    }
    return sizeof means + words * sizeof *packed;
}

static size_t onebit_encode(const float *values, float *residual, uint32_t elements,
                            const struct codec_options *options, uint8_t *out) {
    (void)options;
    size_t used = 0, first = 0;
    for (; elements - first >= ONEBIT_BLOCK; first += ONEBIT_BLOCK)
        used +=
            block_encode(values + first, residual ? residual + first : NULL, ONEBIT_BLOCK, ONEBIT_WORDS, out + used);
    if (first < elements)
        used += block_encode(values + first, residual ? residual + first : NULL, elements - first,
                             onebit_words(elements - first), out + used);
    return used;
}

static inline void block_decode(const uint8_t *data, size_t n, size_t words, float *out) {
    uint32_t packed[ONEBIT_WORDS];
    memcpy(packed, data + ONEBIT_MEANS * sizeof(float), words * sizeof *packed);
    signs_unpack(packed, words, n, kernel_load32(data), kernel_load32(data + sizeof(float)), out);
}

static const float *onebit_decode(const uint8_t *data, uint32_t elements, size_t first, size_t n, float *scratch) {
    (void)elements;
    data += first / ONEBIT_BLOCK * ONEBIT_BLOCK_BYTES;
    size_t at = 0;
    for (; n - at >= ONEBIT_BLOCK; at += ONEBIT_BLOCK, data += ONEBIT_BLOCK_BYTES)
        block_decode(data, ONEBIT_BLOCK, ONEBIT_WORDS, scratch + at);
    if (at < n)
        block_decode(data, n - at, onebit_words(n - at), scratch + at);
    return scratch;
}

static bool onebit_finite(const uint8_t *data, uint32_t elements) {
    for (size_t first = 0; first < elements; first += ONEBIT_BLOCK, data += ONEBIT_BLOCK_BYTES)
        if (!kernel_all_finite(data, ONEBIT_MEANS))
            return false;
    return true;
}

const struct codec_kernels ISA_NAME(codec_onebit) = {onebit_encode, onebit_decode, onebit_finite};

#ifdef LG_ISA_IS_base
_Static_assert(CODEC_CHUNK % ONEBIT_BLOCK == 0, "a chunk begins with a block");

static size_t onebit_bytes_max(uint32_t elements, const struct codec_options *options) {
    (void)options;
    return onebit_bytes(elements);
}

static enum lg_status onebit_measure(const uint8_t *data, size_t available, uint32_t elements, size_t *bytes,
                                     struct lg_error *error) {
    (void)data;
    return kernel_measure(onebit_bytes(elements), available, bytes, error);
}

const struct codec codec_onebit = {
    .name = "onebit",
    .summary = "1 bit an element and two means for every 1,024, with error feedback",
    .dtype = CODEC_DTYPE_F32,
    .number = 2,
    .feedback = true,
    .changes_only = true,
    .fixed = true,
    .bytes_max = onebit_bytes_max,
    .measure = onebit_measure,
    .kernels = CODEC_KERNELS(onebit),
};
#endif
