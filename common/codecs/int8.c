/* 8-bit integers with a scale per block of 512: x is sent as q = floor(127 x / max + u) with u uniform in [0, 1), so
 * that its expectation is x; or rounded to nearest, u = 1/2.
 *
 * A unit: one float per block (max / 127), then one signed byte per element, filled up to a multiple of 4. The scale of
 * a block with a NaN or an infinity in it is NaN. Blocks whose largest magnitude is below 2^-100 are sent as zeros. */
#include "common/codecs/kernel.h"

enum {
    BLOCK = 512,
    HALF = BLOCK / 2,
    LEVELS = 127,
    FRACTION_BITS = 15,
    FRACTION = 1 << FRACTION_BITS, /* x is scaled to +-LEVELS * FRACTION: below 2^22, so that rounding to integer by
                                    * adding 1.5 * 2^23 is exact; the random number is FRACTION_BITS wide */
};
#define ROUNDER 12582912.0f /* 1.5 * 2^23 */
#define LEAST 0x1p-100f
#define SCALE_LARGEST (KERNEL_LARGEST / 128) /* times any byte it is still finite */

static inline size_t blocks_of(uint32_t elements) {
    return (elements + BLOCK - 1) / BLOCK;
}

/* 32 well-mixed bits of a counter (constants of a public-domain search for low bias, C. Wellons 2018). */
static inline uint32_t mixed(uint32_t counter, uint32_t key_low, uint32_t key_high) {
    uint32_t x = counter * 0x9e3779b1u ^ key_low;
    x = (x ^ x >> 16) * 0x7feb352du;
    x = (x ^ x >> 15) ^ key_high;
    x *= 0x846ca68bu;
    return x ^ x >> 16;
}

static inline float largest(const float *values, size_t n) {
    uint32_t most = 0;
    for (size_t i = 0; i < n; i++) {
        uint32_t magnitude = kernel_magnitude(values[i]);
        most = magnitude > most ? magnitude : most;
    }
    return kernel_float(most);
}

/* One random word serves two elements: its low bits one in the first half of the block, its high bits one in the
 * second. */
static inline void quantise(const float *restrict values, const uint32_t *restrict noise, unsigned shift, size_t n,
                            float inverse, uint8_t *restrict out) {
    for (size_t i = 0; i < n; i++) {
        uint32_t scaled = kernel_bits(values[i] * inverse + ROUNDER) - 0x4b400000u;
        uint32_t raised = scaled + (noise[i] >> shift & (FRACTION - 1));
        out[i] = (uint8_t)((int32_t)raised >> FRACTION_BITS);
    }
}

static inline void noise_fill(uint32_t *noise, size_t block, const struct codec_options *options) {
    const uint32_t low = (uint32_t)options->key, high = (uint32_t)(options->key >> 32);
    for (uint32_t i = 0; i < HALF; i++)
        noise[i] = mixed((uint32_t)block * HALF + i, low, high);
}

static size_t int8_encode(const float *values, float *residual, uint32_t elements, const struct codec_options *options,
                          uint8_t *out) {
    (void)residual;
    _Alignas(64) uint32_t noise[HALF];
    const size_t blocks = blocks_of(elements);
    uint8_t *bytes = out + blocks * sizeof(float);
    for (uint32_t i = 0; i < HALF; i++)
        noise[i] = FRACTION / 2 * 0x20001u; /* 1/2 in both places */
    for (size_t block = 0; block < blocks; block++) {
        const size_t first = block * BLOCK, n = elements - first < BLOCK ? elements - first : BLOCK;
        const float most = largest(values + first, n);
        const bool finite = kernel_bits(most) < KERNEL_INFINITY, zero = most < LEAST;
        float scale = most / LEVELS;
        scale = scale < SCALE_LARGEST ? scale : SCALE_LARGEST;
        scale = finite ? zero ? 0 : scale : kernel_float(KERNEL_INFINITY | 0x400000u);
        const float inverse = !finite || zero ? 0 : (float)(LEVELS * FRACTION) / most;
        memcpy(out + block * sizeof scale, &scale, sizeof scale);
        if (inverse == 0) { /* also keeps NaN out of the conversions */
            memset(bytes + first, 0, n);
            continue;
        }
        if (!options->nearest)
            noise_fill(noise, block, options);
        const size_t low = n < HALF ? n : HALF;
        quantise(values + first, noise, 0, low, inverse, bytes + first);
        quantise(values + first + low, noise, 32 - FRACTION_BITS, n - low, inverse, bytes + first + low);
    }
    const size_t filled = (elements + 3u) & ~(size_t)3;
    memset(bytes + elements, 0, filled - elements);
    return blocks * sizeof(float) + filled;
}

static const float *int8_decode(const uint8_t *data, uint32_t elements, size_t first, size_t n, float *scratch) {
    const int8_t *bytes = (const int8_t *)(data + blocks_of(elements) * sizeof(float));
    for (size_t at = 0; at < n; at += BLOCK) {
        const size_t count = n - at < BLOCK ? n - at : BLOCK;
        const float scale = kernel_load_float(data + (first + at) / BLOCK * sizeof scale);
        const int8_t *restrict from = bytes + first + at;
        float *restrict to = scratch + at;
        for (size_t i = 0; i < count; i++)
            to[i] = (float)from[i] * scale;
    }
    return scratch;
}

static bool int8_finite(const uint8_t *data, uint32_t elements) {
    const uint32_t most = kernel_bits(SCALE_LARGEST);
    bool finite = true;
    for (size_t i = 0; i < blocks_of(elements); i++)
        finite = finite && (kernel_load32(data + i * sizeof(float)) & ~KERNEL_SIGN) <= most;
    return finite;
}

const struct codec_kernels ISA_NAME(codec_int8) = {int8_encode, int8_decode, int8_finite};

#ifdef LG_ISA_IS_base
_Static_assert(CODEC_CHUNK % BLOCK == 0, "a chunk begins with a block");

static size_t int8_bytes(uint32_t elements) {
    return blocks_of(elements) * sizeof(float) + ((elements + 3u) & ~(size_t)3);
}

static size_t int8_bytes_max(uint32_t elements, const struct codec_options *options) {
    (void)options;
    return int8_bytes(elements);
}

static enum lg_status int8_measure(const uint8_t *data, size_t available, uint32_t elements, size_t *bytes,
                                   struct lg_error *error) {
    (void)data;
    return kernel_measure(int8_bytes(elements), available, bytes, error);
}

const struct codec codec_int8 = {
    .name = "int8",
    .summary = "1 byte an element and a scale for every 512, rounded at random so that the mean is right",
    .dtype = CODEC_DTYPE_F32,
    .number = 1,
    .random = true,
    .bytes_max = int8_bytes_max,
    .measure = int8_measure,
    .kernels = CODEC_KERNELS(int8),
};
#endif
