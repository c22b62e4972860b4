/* IEEE half precision; the formulas are in f16.h. */
#include "common/codecs/f16.h"

#include "common/codecs/half.h"

static size_t f16_encode(const float *values, float *residual, uint32_t elements, const struct codec_options *options,
                         uint8_t *out) {
    (void)residual;
    (void)options;
    return half_encode(values, elements, out, f16_narrow);
}

static const float *f16_decode(const uint8_t *data, uint32_t elements, size_t first, size_t n, float *scratch) {
    (void)elements;
    return half_decode(data, first, n, scratch, f16_widen);
}

static bool f16_finite(const uint8_t *data, uint32_t elements) {
    return half_finite(data, elements, F16_EXPONENT);
}

const struct codec_kernels ISA_NAME(codec_f16) = {f16_encode, f16_decode, f16_finite};

#ifdef LG_ISA_IS_base
const struct codec codec_f16 = {
    .name = "f16",
    .summary = "2 bytes an element: 11 bits of precision, magnitudes up to 65,504",
    .dtype = CODEC_DTYPE_F16,
    .fixed = true,
    .bytes_max = half_bytes_max,
    .measure = half_measure,
    .kernels = CODEC_KERNELS(f16),
};
#endif
