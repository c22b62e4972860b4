/* The codecs of single words: f32, f16, bf16. */
#include "gpu/cuda/codec.cuh"

extern "C" {
#include "common/codecs/bf16.h"
#include "common/codecs/f16.h"
}

namespace {

struct to_f32 {
    typedef uint32_t word;
    static __device__ word narrow(float x) {
        return kernel_bits(x);
    }
};

struct to_f16 {
    typedef uint16_t word;
    static __device__ word narrow(float x) {
        return f16_narrow(x);
    }
};

struct to_bf16 {
    typedef uint16_t word;
    static __device__ word narrow(float x) {
        return bf16_narrow(x);
    }
};

/* Four words that are written in one go. */
template <class W> struct alignas(4 * sizeof(W)) words { W v[4]; };

template <class F> __global__ void words_kernel(const struct cuda_encoding work) {
    typedef typename F::word word;
    const codec_slice slice = codec_slice_of_block(work.units);
    const float *x = work.values + slice.unit.first + slice.first;
    word *y = (word *)(void *)(work.out + slice.unit.at) + slice.first;
    const bool packs = (((uintptr_t)x % sizeof(pack<4>)) | ((uintptr_t)y % sizeof(words<word>))) == 0;
    const unsigned whole = packs ? slice.n / 4 * 4 : 0;
    for (unsigned i = 4 * threadIdx.x; i < whole; i += 4 * blockDim.x) {
        const pack<4> p = pack_load<4>(x + i);
        words<word> q;
        for (int l = 0; l < 4; l++)
            q.v[l] = F::narrow(p.v[l]);
        *(words<word> *)(void *)(y + i) = q;
    }
    for (unsigned i = whole + threadIdx.x; i < slice.n; i += blockDim.x)
        y[i] = F::narrow(x[i]);
    if (slice.first == 0 && threadIdx.x == 0)
        work.bytes[slice.number] = slice.unit.elements * (uint32_t)sizeof(word);
}

} // namespace

void cuda_encode_f32(struct cuda_stream *s, size_t count, const struct cuda_encoding &work) {
    CUDA_LAUNCH(s, words_kernel<to_f32>, (unsigned)count * codec_slices, CUDA_BLOCK, 0, work);
}

void cuda_encode_f16(struct cuda_stream *s, size_t count, const struct cuda_encoding &work) {
    CUDA_LAUNCH(s, words_kernel<to_f16>, (unsigned)count * codec_slices, CUDA_BLOCK, 0, work);
}

void cuda_encode_bf16(struct cuda_stream *s, size_t count, const struct cuda_encoding &work) {
    CUDA_LAUNCH(s, words_kernel<to_bf16>, (unsigned)count * codec_slices, CUDA_BLOCK, 0, work);
}
