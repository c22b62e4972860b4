/* Inside of the CUDA backend: its device and streams, how kernels are launched, and what several of them share.
 *
 * An op queues kernels on its stream and returns at once. What goes wrong is kept in the device (cuda_failed) until the
 * next synchronize; nothing here ends the process or computes elsewhere. Results of reductions have a fixed shape, so
 * they are the same in every run; the ops that add with atomics say so (embedding.cu, sparse.cu,
 * attention_tensor_backward.cu).
 *
 * These files also compile for the host, with tests/gpu/emulate.h in the place of CUDA's headers. */
#ifndef LAGOON_GPU_CUDA_CUDA_CUH
#define LAGOON_GPU_CUDA_CUDA_CUH

#ifndef CUDA_EMULATED
#include <cublas_v2.h>
#include <cuda_bf16.h>
#include <cuda_runtime.h>
#include <mma.h>
#endif

#include <float.h>
#include <stdint.h>

extern "C" {
#include "gpu/cuda/backend.h"
}

enum {
    CUDA_WARP = 32,
    CUDA_BLOCK = 256,     /* threads of a block where nothing speaks for another number */
    CUDA_BLOCKS_EACH = 8, /* blocks per multiprocessor that a loop over elements is spread over */
    CUDA_TILE_ROWS = 8,   /* blocks of 32 x 8 threads walk matrices by columns */
};

static const size_t cuda_grid_y_max = 65535;

/* How matrix products are computed; sums are f32 in any case. */
enum cuda_math {
    CUDA_MATH_F32,
    CUDA_MATH_TF32, /* inputs lose 13 of 23 bits of their fraction */
    CUDA_MATH_BF16, /* activations are bf16: 7 bits of fraction */
};

/* A room of a stream's scratch memory. */
enum cuda_room_of { CUDA_ROOM_OP, CUDA_ROOMS };

struct cuda_room {
    void *memory; /* of the device; grows */
    size_t bytes;
};

/* Memory that was allocated through a device. */
struct cuda_block {
    struct cuda_block *next;
    void *memory;
    size_t bytes;
};

struct cuda_device {
    struct device base;
    int number;
    enum cuda_math math;
    unsigned multiprocessors;
    size_t shared_bytes_max;   /* of one block */
    bool register_read_only;   /* read-only host memory can be registered */
    struct cuda_block *blocks; /* few: models carve theirs themselves */
    uint64_t allocated_bytes;  /* scratch included */
    enum lg_status failure;    /* the first since the last synchronize */
    char failure_text[256];
};

struct cuda_stream {
    struct device_stream base;
    cudaStream_t stream;
    cublasHandle_t blas; /* NULL until the first product */
    struct cuda_room rooms[CUDA_ROOMS];
};

struct cuda_event {
    struct device_event base;
    cudaEvent_t event;
};

static inline struct cuda_device *cuda_device_of(struct cuda_stream *s) {
    return (struct cuda_device *)(void *)s->base.device;
}

/* The stream of an op, with its device made the thread's current one. */
struct cuda_stream *cuda_enter(struct device_stream *s);
/* Keeps a failure of `what`; only the first counts. */
void cuda_fail(struct cuda_device *device, enum lg_status status, const char *what, const char *why);
/* False, and the failure kept, unless `code` is success. */
bool cuda_check(struct cuda_device *device, const char *what, cudaError_t code);
/* `bytes` of the stream's own for the op at hand, or NULL with the failure kept. The next call for the same room takes
 * them back: an op asks once. Aligned to 256 bytes. */
void *cuda_scratch(struct cuda_stream *s, enum cuda_room_of room, const char *what, size_t bytes);
/* Allows `kernel` `bytes` of dynamic shared memory, more than the 48 KiB that need no permission. */
#define CUDA_ALLOW_SHARED(s, kernel, bytes)                                                                            \
    cuda_check(                                                                                                        \
        cuda_device_of(s), #kernel,                                                                                    \
        cudaFuncSetAttribute((const void *)(kernel), cudaFuncAttributeMaxDynamicSharedMemorySize, (int)(bytes)))

/* ---- the type of activations: float or __nv_bfloat16. Kernels that read or write them are templates over it. */

/* Runs statements with T as the type of the stream's activations. */
#define CUDA_BY_TYPE(s, ...)                                                                                           \
    do {                                                                                                               \
        if (cuda_device_of(s)->math == CUDA_MATH_BF16) {                                                               \
            typedef __nv_bfloat16 T;                                                                                   \
            __VA_ARGS__;                                                                                               \
        } else {                                                                                                       \
            typedef float T;                                                                                           \
            __VA_ARGS__;                                                                                               \
        }                                                                                                              \
    } while (0)

template <class T> static inline const T *cuda_of(const struct activation *x) {
    return (const T *)(const void *)x;
}

template <class T> static inline T *cuda_of(struct activation *x) {
    return (T *)(void *)x;
}

/* Numbers that a thread reads or writes in one go of 16 bytes. */
template <class T> struct cuda_pack_of {
    enum { COUNT = 16 / sizeof(T) };
};

/* Queues `kernel`; the arguments follow. */
#ifndef CUDA_EMULATED
#define CUDA_LAUNCH(s, kernel, grid, block, shared_bytes, ...)                                                         \
    do {                                                                                                               \
        kernel<<<(grid), (block), (shared_bytes), (s)->stream>>>(__VA_ARGS__);                                         \
        cuda_check(cuda_device_of(s), #kernel, cudaGetLastError());                                                    \
    } while (0)
/* Dynamic shared memory, aligned to 16 bytes. */
#define CUDA_SHARED(type, name)                                                                                        \
    extern __shared__ uint4 cuda_shared_memory[];                                                                      \
    type *name = (type *)(void *)cuda_shared_memory
#endif

static inline unsigned cuda_ceil(size_t n, size_t each) {
    return (unsigned)((n + each - 1) / each);
}

/* Blocks for a grid-stride loop over n items, `each` of them a block at a time: at least 1. */
unsigned cuda_spread(struct cuda_stream *s, size_t n, size_t each);

/* Whether the device may read and write these in goes of 16 bytes. NULL is fine. */
static inline bool cuda_aligned(const void *a, const void *b = NULL, const void *c = NULL, const void *d = NULL,
                                const void *e = NULL) {
    return (((uintptr_t)a | (uintptr_t)b | (uintptr_t)c | (uintptr_t)d | (uintptr_t)e) & 15) == 0;
}

/* Whether n floats, or several times n, may be taken in packs of four. */
static inline bool cuda_quads(size_t n, const void *a, const void *b = NULL, const void *c = NULL, const void *d = NULL,
                              const void *e = NULL) {
    return n % 4 == 0 && cuda_aligned(a, b, c, d, e);
}

/* Launches kernel<T, Q> with packs of Q numbers of T where n is a whole number of them and the pointers named in
 * `aligned` (in brackets) allow it, else with single ones. `grid` may use Q. */
#define CUDA_LAUNCH_PACKED(s, kernel, n, aligned, grid, block, ...)                                                    \
    do {                                                                                                               \
        if ((n) % cuda_pack_of<T>::COUNT == 0 && cuda_aligned aligned) {                                               \
            constexpr int Q = cuda_pack_of<T>::COUNT;                                                                  \
            CUDA_LAUNCH(s, (kernel<T, Q>), grid, block, 0, __VA_ARGS__);                                               \
        } else {                                                                                                       \
            constexpr int Q = 1;                                                                                       \
            CUDA_LAUNCH(s, (kernel<T, Q>), grid, block, 0, __VA_ARGS__);                                               \
        }                                                                                                              \
    } while (0)

/* ---- on the device */

#define CUDA_INLINE static __device__ __forceinline__

CUDA_INLINE size_t cuda_thread(void) {
    return (size_t)blockIdx.x * blockDim.x + threadIdx.x;
}

CUDA_INLINE size_t cuda_threads(void) {
    return (size_t)gridDim.x * blockDim.x;
}

/* The sum over the warp; all lanes get it. Every lane must take part. */
CUDA_INLINE float warp_sum(float x) {
    for (int lane = CUDA_WARP / 2; lane > 0; lane /= 2)
        x += __shfl_xor_sync(0xffffffffu, x, lane);
    return x;
}

CUDA_INLINE float widened(float x) {
    return x;
}

CUDA_INLINE float widened(__nv_bfloat16 x) {
    return __bfloat162float(x);
}

CUDA_INLINE void narrowed(float x, float *y) {
    *y = x;
}

CUDA_INLINE void narrowed(float x, __nv_bfloat16 *y) {
    *y = __float2bfloat16_rn(x);
}

/* Two bf16 in a word, rounded to the nearest, ties to even, `low` in the lower half; and back. */
CUDA_INLINE uint32_t bf16_pair(float low, float high) {
#ifdef CUDA_EMULATED
    return __float2bfloat16_rn(low).bits | (uint32_t)__float2bfloat16_rn(high).bits << 16;
#else
    uint32_t pair;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
    return pair;
#endif
}

CUDA_INLINE float bf16_low(uint32_t pair) {
    return __uint_as_float(pair << 16);
}

CUDA_INLINE float bf16_high(uint32_t pair) {
    return __uint_as_float(pair & 0xffff0000u);
}

/* Words in goes of 16 bytes, which their address is a multiple of. Stores by an intrinsic, as the compiler takes others
 * apart into one for each word; so it is global memory. */
template <int N> CUDA_INLINE void quads_of_words_load(const void *from, uint32_t (&words)[N]) {
    static_assert(N % 4 == 0, "whole goes");
#pragma unroll
    for (int i = 0; i < N; i += 4) {
        uint4 four = ((const uint4 *)from)[i / 4];
        words[i] = four.x;
        words[i + 1] = four.y;
        words[i + 2] = four.z;
        words[i + 3] = four.w;
    }
}

template <int N> CUDA_INLINE void quads_of_words_store(void *to, const uint32_t (&words)[N]) {
    static_assert(N % 4 == 0, "whole goes");
#pragma unroll
    for (int i = 0; i < N; i += 4) {
        uint4 four = {words[i], words[i + 1], words[i + 2], words[i + 3]};
        __stwb((uint4 *)to + i / 4, four);
    }
}

/* Q numbers as f32: 1, or as many as take 16 bytes, or several times that. */
template <int Q> struct pack { float v[Q]; };

template <int Q> CUDA_INLINE pack<Q> pack_load(const float *x) {
    pack<Q> value;
    if constexpr (Q == 1) {
        value.v[0] = *x;
    } else {
        uint32_t words[Q];
        quads_of_words_load(x, words);
#pragma unroll
        for (int l = 0; l < Q; l++)
            value.v[l] = __uint_as_float(words[l]);
    }
    return value;
}

template <int Q> CUDA_INLINE pack<Q> pack_load(const __nv_bfloat16 *x) {
    pack<Q> value;
    if constexpr (Q == 1) {
        value.v[0] = widened(*x);
    } else {
        uint32_t words[Q / 2];
        quads_of_words_load(x, words);
#pragma unroll
        for (int l = 0; l < Q; l++)
            value.v[l] = l % 2 ? bf16_high(words[l / 2]) : bf16_low(words[l / 2]);
    }
    return value;
}

template <int Q> CUDA_INLINE void pack_store(float *x, const pack<Q> &value) {
    if constexpr (Q == 1) {
        *x = value.v[0];
    } else {
        uint32_t words[Q];
#pragma unroll
        for (int l = 0; l < Q; l++)
            words[l] = __float_as_uint(value.v[l]);
        quads_of_words_store(x, words);
    }
}

template <int Q> CUDA_INLINE void pack_store(__nv_bfloat16 *x, const pack<Q> &value) {
    if constexpr (Q == 1) {
        narrowed(value.v[0], x);
    } else {
        uint32_t words[Q / 2];
#pragma unroll
        for (int l = 0; l < Q; l += 2)
            words[l / 2] = bf16_pair(value.v[l], value.v[l + 1]);
        quads_of_words_store(x, words);
    }
}

/* ---- vector.cu: reductions over rows. A first kernel, in blocks of 32 packs of columns x CUDA_TILE_ROWS, cuts the
 * rows into cuda_chunks() chunks and leaves one row of partial sums for each; cuda_sum_chunks adds those up in an order
 * of their own. */

/* `wide`: blocks side by side. */
unsigned cuda_chunks(struct cuda_stream *s, size_t rows, unsigned wide);
/* partial [chunks][columns] -> the first `split` columns to first, the others to second */
void cuda_sum_chunks(struct cuda_stream *s, unsigned chunks, size_t columns, size_t split, const float *partial,
                     float *first, float *second);
/* cuda_column_sums, for any number of columns. */
void cuda_column_sums_of(struct cuda_stream *s, size_t rows, size_t columns, const struct activation *x, float *sums);

/* Adds up, over the CUDA_TILE_ROWS rows of a block, the packs that its threads hold, in a fixed order; threads of row 0
 * get the sum. For all threads of the block. */
template <int Q> CUDA_INLINE pack<Q> block_column_sum(pack<Q> part) {
    __shared__ float sums[CUDA_TILE_ROWS][Q][CUDA_WARP];
    __syncthreads(); /* nobody reads what a call before left */
#pragma unroll
    for (int l = 0; l < Q; l++)
        sums[threadIdx.y][l][threadIdx.x] = part.v[l];
    __syncthreads();
    if (threadIdx.y == 0)
        for (int row = 1; row < CUDA_TILE_ROWS; row++)
#pragma unroll
            for (int l = 0; l < Q; l++)
                part.v[l] += sums[row][l][threadIdx.x];
    return part;
}

/* The rows that a block of a kernel over chunks takes: [first, last), one in CUDA_TILE_ROWS for each thread, and the
 * thread's columns from `column` on. */
struct chunk {
    size_t first, last, column;
};

template <int Q> CUDA_INLINE chunk chunk_of_block(size_t rows, size_t rows_each) {
    size_t first = blockIdx.y * rows_each, last = first + rows_each < rows ? first + rows_each : rows;
    return {first + threadIdx.y, last, ((size_t)blockIdx.x * CUDA_WARP + threadIdx.x) * Q};
}

/* ---- the ops, one file each; contracts in gpu/device.h. */

void cuda_gemm(struct device_stream *s, bool transpose_a, bool transpose_b, uint32_t m, uint32_t n, uint32_t k,
               float alpha, const struct activation *a, const struct activation *b, float beta, struct activation *c);
void cuda_gemm_gradient(struct device_stream *s, bool transpose_a, bool transpose_b, uint32_t m, uint32_t n, uint32_t k,
                        float alpha, const struct activation *a, const struct activation *b, float beta, float *c);
void cuda_zero(struct device_stream *s, size_t bytes, void *memory);
void cuda_narrow(struct device_stream *s, size_t n, const float *x, struct activation *y);
void cuda_widen(struct device_stream *s, size_t n, const struct activation *x, float *y);
void cuda_fill(struct device_stream *s, size_t n, float value, float *x);
void cuda_scale(struct device_stream *s, size_t n, float a, float *x);
void cuda_axpy(struct device_stream *s, size_t n, float a, const float *x, float *y);
void cuda_add(struct device_stream *s, size_t n, const struct activation *a, const struct activation *b,
              struct activation *y);
void cuda_bias_add(struct device_stream *s, uint32_t rows, uint32_t columns, const float *bias, struct activation *x);
void cuda_bias_residual(struct device_stream *s, uint32_t rows, uint32_t columns, const float *bias,
                        const struct activation *x, const struct activation *residual, struct activation *y);
void cuda_column_sums(struct device_stream *s, uint32_t rows, uint32_t columns, const struct activation *x,
                      float *sums);
void cuda_relu_forward(struct device_stream *s, size_t n, const struct activation *x, struct activation *y);
void cuda_relu_backward(struct device_stream *s, size_t n, const struct activation *y, const struct activation *dy,
                        struct activation *dx);
void cuda_gelu_forward(struct device_stream *s, size_t n, const struct activation *x, struct activation *y);
void cuda_gelu_backward(struct device_stream *s, size_t n, const struct activation *x, const struct activation *dy,
                        struct activation *dx);
void cuda_bias_relu(struct device_stream *s, uint32_t rows, uint32_t columns, const float *bias,
                    const struct activation *x, struct activation *y);
void cuda_bias_gelu(struct device_stream *s, uint32_t rows, uint32_t columns, const float *bias, struct activation *x,
                    struct activation *y);
void cuda_relu_backward_sums(struct device_stream *s, uint32_t rows, uint32_t columns, const struct activation *y,
                             const struct activation *dy, struct activation *dx, float *sums);
void cuda_gelu_backward_sums(struct device_stream *s, uint32_t rows, uint32_t columns, const struct activation *x,
                             const struct activation *dy, struct activation *dx, float *sums);
void cuda_softmax_cross_entropy(struct device_stream *s, uint32_t rows, uint32_t classes,
                                const struct activation *logits, const int32_t *labels, float scale,
                                struct activation *gradient, struct device_sums *sums);
void cuda_norm_forward(struct device_stream *s, uint32_t rows, uint32_t columns, float epsilon,
                       const struct activation *x, const float *gain, const float *bias, struct activation *y,
                       float *mean, float *rstd);
void cuda_norm_backward(struct device_stream *s, uint32_t rows, uint32_t columns, const struct activation *x,
                        const float *gain, const float *mean, const float *rstd, const struct activation *dy,
                        struct activation *dx, float *dgain, float *dbias);
size_t cuda_attention_saved(const struct device_attention *shape);
void cuda_attention_forward(struct device_stream *s, const struct device_attention *shape, const struct activation *qkv,
                            struct activation *out, float *saved);
void cuda_attention_backward(struct device_stream *s, const struct device_attention *shape,
                             const struct activation *qkv, const struct activation *out, const float *saved,
                             const struct activation *dout, struct activation *dqkv);
void cuda_embedding_forward(struct device_stream *s, uint32_t batch, uint32_t time, uint32_t width,
                            const int32_t *tokens, const float *table, const float *positions, struct activation *out);
void cuda_embedding_backward(struct device_stream *s, uint32_t batch, uint32_t time, uint32_t width,
                             const int32_t *tokens, const struct activation *dout, float *dtable, float *dpositions);
void cuda_conv_forward(struct device_stream *s, const struct device_conv *shape, const struct activation *x,
                       const struct activation *weight, const float *bias, struct activation *y);
void cuda_conv_backward(struct device_stream *s, const struct device_conv *shape, const struct activation *x,
                        const struct activation *weight, const struct activation *dy, struct activation *dx,
                        float *dweight, float *dbias);
void cuda_pool_forward(struct device_stream *s, const struct device_pool *shape, const struct activation *x,
                       struct activation *y, uint8_t *which);
void cuda_pool_backward(struct device_stream *s, const struct device_pool *shape, const uint8_t *which,
                        const struct activation *dy, struct activation *dx);
void cuda_sparse_forward(struct device_stream *s, const struct device_sparse *x, uint32_t outputs, const float *weight,
                         struct activation *y);
void cuda_sparse_backward(struct device_stream *s, const struct device_sparse *x, uint32_t outputs,
                          const struct activation *dy, float *dweight);
void cuda_adamw(struct device_stream *s, size_t n, const struct device_adamw *rule, const float *gradients,
                float *parameters, float *m, float *v);
void cuda_encode(struct device_stream *s, const struct codec *codec, const struct codec_options *options, size_t count,
                 const struct device_unit *units, const float *values, float *residual, uint8_t *out, uint32_t *bytes);
void cuda_take_back(struct device_stream *s, const struct codec *codec, size_t count, const struct device_unit *units,
                    const float *shares, const uint8_t *encoded, const float *values, float *residual);
void cuda_scale_units(struct device_stream *s, size_t count, const struct device_unit *units, const float *factors,
                      float *x);
void cuda_clip(struct device_stream *s, size_t n, double most, float *x);

#endif
