/* Codecs on the GPU. */
#include "gpu/cuda/cuda.cuh"

void cuda_encode(struct device_stream *base, const struct codec *, const struct codec_options *, size_t,
                 const struct device_unit *, const float *, float *, uint8_t *, uint32_t *) {
    cuda_fail(cuda_device_of(cuda_enter(base)), LG_UNSUPPORTED, "encode", "the codecs have no kernels");
}

void cuda_take_back(struct device_stream *base, const struct codec *, size_t, const struct device_unit *, const float *,
                    const uint8_t *, const float *, float *) {
    cuda_fail(cuda_device_of(cuda_enter(base)), LG_UNSUPPORTED, "take_back", "the codecs have no kernels");
}

void cuda_scale_units(struct device_stream *base, size_t, const struct device_unit *, const float *, float *) {
    cuda_fail(cuda_device_of(cuda_enter(base)), LG_UNSUPPORTED, "scale_units", "the codecs have no kernels");
}
