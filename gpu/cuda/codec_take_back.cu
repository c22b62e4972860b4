/* Decoding, for what is taken back: residual += share (decoded - values). */
#include "gpu/cuda/codec.cuh"

extern "C" {
#include "common/codecs/bf16.h"
#include "common/codecs/f16.h"
#include "common/codecs/int8.h"
#include "common/codecs/onebit.h"
#include "common/codecs/topk.h"
}

namespace {

/* Each decodes element i of the unit at `data`. */
struct from_f32 {
    static __device__ float decode(const uint8_t *data, uint32_t, unsigned i) {
        return kernel_float(((const uint32_t *)(const void *)data)[i]);
    }
};

struct from_f16 {
    static __device__ float decode(const uint8_t *data, uint32_t, unsigned i) {
        return f16_widen(((const uint16_t *)(const void *)data)[i]);
    }
};

struct from_bf16 {
    static __device__ float decode(const uint8_t *data, uint32_t, unsigned i) {
        return bf16_widen(((const uint16_t *)(const void *)data)[i]);
    }
};

struct from_int8 {
    static __device__ float decode(const uint8_t *data, uint32_t elements, unsigned i) {
        const float *scales = (const float *)(const void *)data;
        const int8_t *bytes = (const int8_t *)(const void *)(scales + int8_blocks(elements));
        return (float)bytes[i] * scales[i / INT8_BLOCK];
    }
};

struct from_onebit {
    static __device__ float decode(const uint8_t *data, uint32_t elements, unsigned i) {
        const unsigned block = i / ONEBIT_BLOCK, at = i % ONEBIT_BLOCK, rest = elements - block * ONEBIT_BLOCK;
        const unsigned words = (unsigned)onebit_words(codec_smaller(rest, ONEBIT_BLOCK));
        const uint32_t *in = (const uint32_t *)(const void *)(data + (size_t)block * ONEBIT_BLOCK_BYTES);
        return kernel_float(in[in[ONEBIT_MEANS + at % words] >> at / words & 1u]);
    }
};

template <class D> __global__ void take_back_kernel(const struct cuda_taking_back work) {
    const codec_slice slice = codec_slice_of_block(work.units);
    const float share = slice.n ? work.shares[slice.number] : 0;
    if (share == 0)
        return;
    const uint8_t *data = work.encoded + slice.unit.at;
    const size_t first = slice.unit.first + slice.first;
    for (unsigned i = threadIdx.x; i < slice.n; i += blockDim.x) {
        const float decoded = D::decode(data, slice.unit.elements, slice.first + i);
        work.residual[first + i] = kernel_take_back(work.residual[first + i], share, decoded, work.values[first + i]);
    }
}

template <class D> void take_back(struct cuda_stream *s, size_t count, const struct cuda_taking_back &work) {
    CUDA_LAUNCH(s, take_back_kernel<D>, (unsigned)count * codec_slices, CUDA_BLOCK, 0, work);
}

/* ---- topk: a block puts what was sent of its chunk into its place first. */

static_assert(codec_slice_elements == CODEC_CHUNK, "a slice is a chunk");

/* Where chunk number `chunk` begins. */
CUDA_INLINE size_t chunk_begin(const uint32_t *words, uint32_t elements, unsigned chunk) {
    size_t at = topk_chunks(elements) * sizeof *words;
    for (unsigned i = 0; i < chunk; i++)
        at += topk_chunk_bytes(words[i], CODEC_CHUNK);
    return at;
}

/* decoded [CODEC_CHUNK] = the n elements of a chunk. */
CUDA_INLINE void chunk_decode(const uint8_t *data, uint32_t word, unsigned n, float *decoded) {
    const unsigned count = word & TOPK_COUNT_MASK;
    const uint32_t *values = (const uint32_t *)(const void *)data, *bitmap = values + count;
    const uint16_t *list = (const uint16_t *)(const void *)bitmap;
    for (unsigned i = threadIdx.x; i < CODEC_CHUNK; i += blockDim.x)
        decoded[i] = 0;
    __syncthreads();
    for (unsigned i = threadIdx.x; !(word & TOPK_BITMAP) && i < count; i += blockDim.x)
        decoded[list[i]] = kernel_float(values[i]);
    const unsigned words = (word & TOPK_BITMAP) ? (n + TOPK_WORD_BITS - 1) / TOPK_WORD_BITS : 0;
    for (unsigned i = threadIdx.x; i < words; i += blockDim.x) {
        unsigned rank = 0, at = i * TOPK_WORD_BITS;
        for (unsigned before = 0; before < i; before++)
            rank += (unsigned)__popc(bitmap[before]);
        for (uint32_t bits = bitmap[i]; bits != 0; bits >>= 1, at++)
            if (bits & 1u)
                decoded[at] = kernel_float(values[rank++]);
    }
    __syncthreads();
}

__global__ void take_back_topk_kernel(const struct cuda_taking_back work) {
    __shared__ float decoded[CODEC_CHUNK];
    const codec_slice slice = codec_slice_of_block(work.units);
    const float share = slice.n ? work.shares[slice.number] : 0;
    if (share == 0) /* the whole block */
        return;
    const uint8_t *data = work.encoded + slice.unit.at;
    const uint32_t *words = (const uint32_t *)(const void *)data;
    const unsigned chunk = slice.first / CODEC_CHUNK;
    chunk_decode(data + chunk_begin(words, slice.unit.elements, chunk), words[chunk], slice.n, decoded);
    const size_t first = slice.unit.first + slice.first;
    for (unsigned i = threadIdx.x; i < slice.n; i += blockDim.x)
        work.residual[first + i] =
            kernel_take_back(work.residual[first + i], share, decoded[i], work.values[first + i]);
}

} // namespace

void cuda_take_back_f32(struct cuda_stream *s, size_t count, const struct cuda_taking_back &work) {
    take_back<from_f32>(s, count, work);
}

void cuda_take_back_f16(struct cuda_stream *s, size_t count, const struct cuda_taking_back &work) {
    take_back<from_f16>(s, count, work);
}

void cuda_take_back_bf16(struct cuda_stream *s, size_t count, const struct cuda_taking_back &work) {
    take_back<from_bf16>(s, count, work);
}

void cuda_take_back_int8(struct cuda_stream *s, size_t count, const struct cuda_taking_back &work) {
    take_back<from_int8>(s, count, work);
}

void cuda_take_back_onebit(struct cuda_stream *s, size_t count, const struct cuda_taking_back &work) {
    take_back<from_onebit>(s, count, work);
}

void cuda_take_back_topk(struct cuda_stream *s, size_t count, const struct cuda_taking_back &work) {
    CUDA_LAUNCH(s, take_back_topk_kernel, (unsigned)count * codec_slices, CUDA_BLOCK, 0, work);
}
