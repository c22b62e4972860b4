/* Plain floats: 4 bytes an element, every bit kept. */
#include "common/codecs/kernel.h"

static size_t f32_encode(const float *values, float *residual, uint32_t elements, const struct codec_options *options,
                         uint8_t *out) {
    (void)residual;
    (void)options;
    memcpy(out, values, elements * sizeof *values);
    return elements * sizeof *values;
}

static const float *f32_decode(const uint8_t *data, uint32_t elements, size_t first, size_t n, float *scratch) {
    (void)elements;
    const uint8_t *at = data + first * sizeof(float);
    if ((uintptr_t)at % _Alignof(float) == 0)
        return (const float *)(const void *)at;
    memcpy(scratch, at, n * sizeof(float));
    return scratch;
}

static bool f32_finite(const uint8_t *data, uint32_t elements) {
    return kernel_all_finite(data, elements);
}

const struct codec_kernels ISA_NAME(codec_f32) = {f32_encode, f32_decode, f32_finite};

#ifdef LG_ISA_IS_base
static size_t f32_bytes_max(uint32_t elements, const struct codec_options *options) {
    (void)options;
    return elements * sizeof(float);
}

static enum lg_status f32_measure(const uint8_t *data, size_t available, uint32_t elements, size_t *bytes,
                                  struct lg_error *error) {
    (void)data;
    return kernel_measure(elements * sizeof(float), available, bytes, error);
}

const struct codec codec_f32 = {
    .name = "f32",
    .summary = "4 bytes an element, exact",
    .dtype = CODEC_DTYPE_F32,
    .exact = true,
    .fixed = true,
    .bytes_max = f32_bytes_max,
    .measure = f32_measure,
    .kernels = CODEC_KERNELS(f32),
};
#endif
