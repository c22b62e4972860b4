/* Codecs on the GPU: which kernels a codec has, and scaling. A codec is known here by its identity on the wire, as this
 * library holds no registry of its own. */
#include "gpu/cuda/codec.cuh"

namespace {

struct kernels {
    uint32_t dtype, number;
    void (*encode)(struct cuda_stream *s, size_t count, const struct cuda_encoding &work);
    void (*take_back)(struct cuda_stream *s, size_t count, const struct cuda_taking_back &work);
};

const struct kernels table[] = {
    {CODEC_DTYPE_F32, 0, cuda_encode_f32, cuda_take_back_f32},
    {CODEC_DTYPE_F16, 0, cuda_encode_f16, cuda_take_back_f16},
    {CODEC_DTYPE_BF16, 0, cuda_encode_bf16, cuda_take_back_bf16},
    {CODEC_DTYPE_F32, 1, cuda_encode_int8, cuda_take_back_int8},
    {CODEC_DTYPE_F32, 2, cuda_encode_onebit, cuda_take_back_onebit},
    {CODEC_DTYPE_F32, 3, cuda_encode_topk, cuda_take_back_topk},
};

/* NULL, and the failure kept, for a codec without kernels. */
const struct kernels *kernels_of(struct cuda_stream *s, const struct codec *codec) {
    for (const struct kernels &one : table)
        if (one.dtype == (uint32_t)codec->dtype && one.number == codec->number)
            return &one;
    cuda_fail(cuda_device_of(s), LG_UNSUPPORTED, codec->name, "this codec has no kernels for GPUs");
    return NULL;
}

__global__ void scale_units_kernel(const struct device_unit *units, const float *factors, float *x) {
    const codec_slice slice = codec_slice_of_block(units);
    const float factor = slice.n ? factors[slice.number] : 1;
    float *at = x + slice.unit.first + slice.first;
    for (unsigned i = threadIdx.x; i < slice.n; i += blockDim.x)
        at[i] *= factor;
}

} // namespace

void cuda_encode(struct device_stream *base, const struct codec *codec, const struct codec_options *options,
                 size_t count, const struct device_unit *units, const float *values, float *residual, uint8_t *out,
                 uint32_t *bytes) {
    struct cuda_stream *s = cuda_enter(base);
    const struct kernels *kernels = kernels_of(s, codec);
    if (kernels && count > 0)
        kernels->encode(s, count, {units, values, residual, out, bytes, options->nearest, options->keep});
}

void cuda_take_back(struct device_stream *base, const struct codec *codec, size_t count,
                    const struct device_unit *units, const float *shares, const uint8_t *encoded, const float *values,
                    float *residual) {
    struct cuda_stream *s = cuda_enter(base);
    const struct kernels *kernels = kernels_of(s, codec);
    if (kernels && count > 0)
        kernels->take_back(s, count, {units, shares, encoded, values, residual});
}

void cuda_scale_units(struct device_stream *base, size_t count, const struct device_unit *units, const float *factors,
                      float *x) {
    struct cuda_stream *s = cuda_enter(base);
    if (count > 0)
        CUDA_LAUNCH(s, scale_units_kernel, (unsigned)count * codec_slices, CUDA_BLOCK, 0, units, factors, x);
}
