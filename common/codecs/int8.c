/* 8-bit integers with a scale per block of 512; layout and formulas are in int8.h. */
#include "common/codecs/int8.h"

#include "common/codecs/kernel.h"

static inline float largest(const float *values, size_t n) {
    uint32_t most = 0;
    for (size_t i = 0; i < n; i++) {
        uint32_t magnitude = kernel_magnitude(values[i]);
        most = magnitude > most ? magnitude : most;
    }
    return kernel_float(most);
}

static inline void quantise(const float *restrict values, const uint32_t *restrict noise, unsigned shift, size_t n,
                            float inverse, uint8_t *restrict out) {
    for (size_t i = 0; i < n; i++)
        out[i] = int8_quantise(values[i], inverse, noise[i] >> shift & (INT8_FRACTION - 1));
}

static inline void noise_fill(uint32_t *noise, size_t block, const struct codec_options *options) {
    const uint32_t low = (uint32_t)options->key, high = (uint32_t)(options->key >> 32);
    for (uint32_t i = 0; i < INT8_HALF; i++)
        noise[i] = int8_noise((uint32_t)block * INT8_HALF + i, low, high);
}

static size_t int8_encode(const float *values, float *residual, uint32_t elements, const struct codec_options *options,
                          uint8_t *out) {
    (void)residual;
    _Alignas(64) uint32_t noise[INT8_HALF];
    const size_t blocks = int8_blocks(elements);
    uint8_t *bytes = out + blocks * sizeof(float);
    for (uint32_t i = 0; i < INT8_HALF; i++)
        noise[i] = INT8_NEAREST;
    for (size_t block = 0; block < blocks; block++) {
        const size_t first = block * INT8_BLOCK, n = elements - first < INT8_BLOCK ? elements - first : INT8_BLOCK;
        const float most = largest(values + first, n);
        const float scale = int8_scale(most), inverse = int8_inverse(most);
        memcpy(out + block * sizeof scale, &scale, sizeof scale);
        if (inverse == 0) {
            memset(bytes + first, 0, n);
            continue;
        }
        if (!options->nearest)
            noise_fill(noise, block, options);
        const size_t low = n < INT8_HALF ? n : INT8_HALF;
        quantise(values + first, noise, 0, low, inverse, bytes + first);
        quantise(values + first + low, noise, INT8_HIGH_SHIFT, n - low, inverse, bytes + first + low);
    }
    const size_t filled = int8_filled(elements);
    memset(bytes + elements, 0, filled - elements);
    return blocks * sizeof(float) + filled;
}

static const float *int8_decode(const uint8_t *data, uint32_t elements, size_t first, size_t n, float *scratch) {
    const int8_t *bytes = (const int8_t *)(data + int8_blocks(elements) * sizeof(float));
    for (size_t at = 0; at < n; at += INT8_BLOCK) {
        const size_t count = n - at < INT8_BLOCK ? n - at : INT8_BLOCK;
        const float scale = kernel_load_float(data + (first + at) / INT8_BLOCK * sizeof scale);
        const int8_t *restrict from = bytes + first + at;
        float *restrict to = scratch + at;
        for (size_t i = 0; i < count; i++)
            to[i] = (float)from[i] * scale;
    }
    return scratch;
}

static bool int8_finite(const uint8_t *data, uint32_t elements) {
    const uint32_t most = kernel_bits(INT8_SCALE_LARGEST);
    bool finite = true;
    for (size_t i = 0; i < int8_blocks(elements); i++)
        finite = finite && (kernel_load32(data + i * sizeof(float)) & ~KERNEL_SIGN) <= most;
    return finite;
}

const struct codec_kernels ISA_NAME(codec_int8) = {int8_encode, int8_decode, int8_finite};

#ifdef LG_ISA_IS_base
_Static_assert(CODEC_CHUNK % INT8_BLOCK == 0, "a chunk begins with a block");

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
    .fixed = true,
    .bytes_max = int8_bytes_max,
    .measure = int8_measure,
    .kernels = CODEC_KERNELS(int8),
};
#endif
