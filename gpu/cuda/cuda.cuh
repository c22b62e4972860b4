/* Inside of the CUDA backend: its device and streams, how kernels are launched, and what several of them share.
 *
 * An op queues kernels on its stream and returns at once. What goes wrong is kept in the device (cuda_failed) until the
 * next synchronize; nothing here ends the process or computes elsewhere. Results of reductions have a fixed shape, so
 * they are the same in every run; the two ops that add with atomics say so (embedding.cu, sparse.cu).
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

/* How matrix products are computed; inputs and results are f32 in any case, and so are sums. */
enum cuda_math {
    CUDA_MATH_F32,
    CUDA_MATH_TF32, /* inputs lose 13 of 23 bits of their fraction */
    CUDA_MATH_BF16, /* 16 of 23 */
};

/* A room of a stream's scratch memory. A product casts its inputs beside what the op around it holds. */
enum cuda_room_of { CUDA_ROOM_OP, CUDA_ROOM_PRODUCT, CUDA_ROOMS };

struct cuda_room {
    void *memory; /* of the device; grows */
    size_t bytes;
};

struct cuda_device {
    struct device base;
    int number;
    enum cuda_math math;
    unsigned multiprocessors;
    size_t shared_bytes_max; /* of one block */
    bool register_read_only; /* read-only host memory can be registered */
    enum lg_status failure;  /* the first since the last synchronize */
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

/* Whether the device may read and write these in packs of four floats, if there is a whole number of them. NULL is
 * fine. */
static inline bool cuda_quads(size_t n, const void *a, const void *b = NULL, const void *c = NULL, const void *d = NULL,
                              const void *e = NULL) {
    return n % 4 == 0 && (((uintptr_t)a | (uintptr_t)b | (uintptr_t)c | (uintptr_t)d | (uintptr_t)e) & 15) == 0;
}

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

/* Q floats that are read and written in one go; Q is 1 or 4. */
template <int Q> struct alignas(4 * Q) pack { float v[Q]; };

template <int Q> CUDA_INLINE pack<Q> pack_load(const float *x) {
    return *(const pack<Q> *)(const void *)x;
}

template <int Q> CUDA_INLINE void pack_store(float *x, const pack<Q> &value) {
    *(pack<Q> *)(void *)x = value;
}

/* ---- vector.cu: reductions over rows. A first kernel, in blocks of 32 columns x CUDA_TILE_ROWS, cuts the rows into
 * cuda_chunks() chunks and leaves one row of partial sums for each; cuda_sum_chunks adds those up in their order. */
unsigned cuda_chunks(struct cuda_stream *s, size_t rows, size_t columns);
/* partial [chunks][columns] -> sums [columns] */
void cuda_sum_chunks(struct cuda_stream *s, unsigned chunks, size_t columns, const float *partial, float *sums);
/* cuda_column_sums, for any number of columns. */
void cuda_column_sums_of(struct cuda_stream *s, size_t rows, size_t columns, const float *x, float *sums);

/* ---- the ops, one file each; contracts in gpu/device.h. */

void cuda_gemm(struct device_stream *s, bool transpose_a, bool transpose_b, uint32_t m, uint32_t n, uint32_t k,
               float alpha, const float *a, const float *b, float beta, float *c);
void cuda_fill(struct device_stream *s, size_t n, float value, float *x);
void cuda_scale(struct device_stream *s, size_t n, float a, float *x);
void cuda_axpy(struct device_stream *s, size_t n, float a, const float *x, float *y);
void cuda_add(struct device_stream *s, size_t n, const float *a, const float *b, float *y);
void cuda_bias_add(struct device_stream *s, uint32_t rows, uint32_t columns, const float *bias, float *x);
void cuda_column_sums(struct device_stream *s, uint32_t rows, uint32_t columns, const float *x, float *sums);
void cuda_relu_forward(struct device_stream *s, size_t n, const float *x, float *y);
void cuda_relu_backward(struct device_stream *s, size_t n, const float *y, const float *dy, float *dx);
void cuda_gelu_forward(struct device_stream *s, size_t n, const float *x, float *y);
void cuda_gelu_backward(struct device_stream *s, size_t n, const float *x, const float *dy, float *dx);
void cuda_softmax_cross_entropy(struct device_stream *s, uint32_t rows, uint32_t classes, const float *logits,
                                const int32_t *labels, float scale, float *gradient, struct device_sums *sums);
void cuda_norm_forward(struct device_stream *s, uint32_t rows, uint32_t columns, float epsilon, const float *x,
                       const float *gain, const float *bias, float *y, float *mean, float *rstd);
void cuda_norm_backward(struct device_stream *s, uint32_t rows, uint32_t columns, const float *x, const float *gain,
                        const float *mean, const float *rstd, const float *dy, float *dx, float *dgain, float *dbias);
size_t cuda_attention_saved(const struct device_attention *shape);
void cuda_attention_forward(struct device_stream *s, const struct device_attention *shape, const float *qkv, float *out,
                            float *saved);
void cuda_attention_backward(struct device_stream *s, const struct device_attention *shape, const float *qkv,
                             const float *out, const float *saved, const float *dout, float *dqkv);
void cuda_embedding_forward(struct device_stream *s, uint32_t batch, uint32_t time, uint32_t width,
                            const int32_t *tokens, const float *table, const float *positions, float *out);
void cuda_embedding_backward(struct device_stream *s, uint32_t batch, uint32_t time, uint32_t width,
                             const int32_t *tokens, const float *dout, float *dtable, float *dpositions);
void cuda_conv_forward(struct device_stream *s, const struct device_conv *shape, const float *x, const float *weight,
                       const float *bias, float *y);
void cuda_conv_backward(struct device_stream *s, const struct device_conv *shape, const float *x, const float *weight,
                        const float *dy, float *dx, float *dweight, float *dbias);
void cuda_pool_forward(struct device_stream *s, const struct device_pool *shape, const float *x, float *y,
                       uint8_t *which);
void cuda_pool_backward(struct device_stream *s, const struct device_pool *shape, const uint8_t *which, const float *dy,
                        float *dx);
void cuda_sparse_forward(struct device_stream *s, const struct device_sparse *x, uint32_t outputs, const float *weight,
                         float *y);
void cuda_sparse_backward(struct device_stream *s, const struct device_sparse *x, uint32_t outputs, const float *dy,
                          float *dweight);
void cuda_encode(struct device_stream *s, const struct codec *codec, const struct codec_options *options, size_t count,
                 const struct device_unit *units, const float *values, float *residual, uint8_t *out, uint32_t *bytes);
void cuda_take_back(struct device_stream *s, const struct codec *codec, size_t count, const struct device_unit *units,
                    const float *shares, const uint8_t *encoded, const float *values, float *residual);
void cuda_scale_units(struct device_stream *s, size_t count, const struct device_unit *units, const float *factors,
                      float *x);

#endif
