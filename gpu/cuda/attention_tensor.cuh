/* Attention on tensor cores, for activations in bf16: what its kernels share. They compute in W (16, 32, 64 or 128)
 * columns; a narrower head is filled up with zeros. Heads that are multiples of 8 wide are read where they lie, others
 * are packed first (attention_pack), since what copies take is aligned to 16 bytes.
 *
 * A tile is some rows of a head in shared memory, W bf16 each, without gaps. The 16 bytes of row r at column 8 c lie at
 * chunk c ^ x(r) of the row: 8 rows' same chunk, which ldmatrix reads at once, as well as 8 chunks that lie side by
 * side, which copies write, are then in different banks. x takes r's lowest three bits where a row has 128 bytes or
 * more; where 2 or 4 rows have them, bits above the first or second. */
#ifndef LAGOON_GPU_CUDA_ATTENTION_TENSOR_CUH
#define LAGOON_GPU_CUDA_ATTENTION_TENSOR_CUH

#include "gpu/cuda/tensor.cuh"

/* What attention.cu calls: heads at most this wide; saved as without tensor cores. */
enum {
    ATTENTION_TENSOR_WIDTH_MAX = 128,
    ATTENTION_TENSOR_NARROW = 64,             /* up to here a block's shared memory is enough everywhere */
    ATTENTION_TENSOR_SHARED_BYTES = 145 << 10 /* of a block, for heads that are wider */
};
void attention_tensor_forward(struct cuda_stream *s, const struct device_attention *shape, const __nv_bfloat16 *qkv,
                              __nv_bfloat16 *out, float *saved);
void attention_tensor_backward(struct cuda_stream *s, const struct device_attention *shape, const __nv_bfloat16 *qkv,
                               const __nv_bfloat16 *out, const float *saved, const __nv_bfloat16 *dout,
                               __nv_bfloat16 *dqkv);

/* ---- inside */

/* Rows of heads in memory: element d of a row is at [(batch * time + row) * row + head * head + d]. */
struct attention_rows {
    size_t row, head;
};

struct attention_tensor {
    unsigned time, heads, width, items; /* items: batch * heads */
    float scale, scale_log2;            /* of scores, 1 / sqrt(width); the same times log2(e) */
};

static inline struct attention_tensor attention_tensor_of(const struct device_attention *shape) {
    float scale = 1.0f / sqrtf((float)shape->width);
    return {shape->time, shape->heads, shape->width, shape->batch * shape->heads, scale, scale * 1.44269504f};
}

/* bf16 of `parts` heads x [width] per row as the kernels read them, in place or packed; where q, k, v are at
 * `part` from each other. */
struct attention_bf16 {
    const __nv_bfloat16 *at;
    struct attention_rows step;
    size_t part;
    unsigned width; /* columns that are there */
};

/* The smallest W that a head fits. */
static inline unsigned attention_tensor_columns(unsigned width) {
    return width <= 16 ? 16 : width <= 32 ? 32 : width <= 64 ? 64 : 128;
}

/* Whether heads are whole eights of 16 bytes, as they lie. */
static inline bool attention_eights(unsigned width, const void *x, const void *y = NULL) {
    return width % 8 == 0 && (((uintptr_t)x | (uintptr_t)y) & 15) == 0;
}

/* Bytes of scratch that packing rows x heads of this takes; 0 where it stays in place. */
static inline size_t attention_pack_bytes(const __nv_bfloat16 *x, size_t rows, unsigned heads, unsigned width) {
    return attention_eights(width, x) ? 0 : rows * heads * attention_tensor_columns(width) * sizeof *x;
}
/* x [rows][parts * heads][width], packed to `room` if need be. */
struct attention_bf16 attention_pack(struct cuda_stream *s, const struct attention_tensor &a, const __nv_bfloat16 *x,
                                     unsigned parts, void *room);

/* ---- on the device */

constexpr int ATTENTION_EIGHT = 8;

struct alignas(16) bf16_eight {
    uint32_t pairs[ATTENTION_EIGHT / 2];
};

/* Numbers d to d + 8 of a head, zeros beyond its width; `whole`: attention_eights() of it. */
CUDA_INLINE bf16_eight eight_of_head(const __nv_bfloat16 *x, unsigned d, unsigned width, bool whole) {
    if (whole && d < width)
        return *(const bf16_eight *)(const void *)(x + d);
    bf16_eight eight;
#pragma unroll
    for (unsigned l = 0; l < ATTENTION_EIGHT; l += 2)
        eight.pairs[l / 2] = bf16_pair(d + l < width ? __bfloat162float(x[d + l]) : 0.0f,
                                       d + l + 1 < width ? __bfloat162float(x[d + l + 1]) : 0.0f);
    return eight;
}

template <int W> CUDA_INLINE unsigned tile_at(unsigned row, unsigned chunk) {
    constexpr unsigned chunks = W / 8, rows = chunks < 8 ? 8 / chunks : 1, mask = (chunks < 8 ? chunks : 8) - 1;
    return row * W + ((chunk ^ (row / rows & mask)) * 8);
}

/* Queues the copy of ROWS rows of a head into a tile by THREADS threads. Beyond the sequence's end and the head's
 * width they are zero. `from` is the head's. */
template <int W, int ROWS, int THREADS>
CUDA_INLINE void tile_copy(unsigned time, unsigned first, const __nv_bfloat16 *from, size_t step, unsigned width,
                           __nv_bfloat16 *tile) {
    constexpr unsigned chunks = W / 8, pass = THREADS / chunks; /* rows at a time; x() is the same for all */
    static_assert(ROWS % pass == 0 && pass % 8 == 0, "threads copy equally much");
    unsigned row = threadIdx.x / chunks, chunk = threadIdx.x % chunks;
    const __nv_bfloat16 *at = from + (first + row) * step + chunk * 8;
    tile += tile_at<W>(row, chunk);
    if (first + ROWS <= time && width == W) {
#pragma unroll
        for (unsigned i = 0; i < ROWS; i += pass, at += pass * step)
            async_copy_16(tile + i * W, at);
    } else {
#pragma unroll 1
        for (unsigned i = 0; i < ROWS; i += pass, at += pass * step) {
            bool inside = first + row + i < time && chunk * 8 < width;
            async_copy_16_or_zeros(tile + i * W, inside ? at : from, inside);
        }
    }
}

/* This lane's row for ldmatrix, of the 16 x 16 elements of a tile that start at its first row and column; for others
 * add multiples of 8 rows and xor with multiples of 16 columns.
 * tile_place_a: matrices in the order of an `a`, or, transposed, of two `b` side by side whose k are the tile's rows.
 * tile_place_b: of two `b` side by side whose columns are the tile's rows; transposed, of an `a` whose k are rows. */
template <int W> CUDA_INLINE unsigned tile_place_a(unsigned lane) {
    return tile_at<W>(lane % 16, lane / 16);
}
template <int W> CUDA_INLINE unsigned tile_place_b(unsigned lane) {
    return tile_at<W>(lane % 8 + lane / 16 * 8, lane / 8 % 2);
}

/* sums [M][N] += a b^T over K columns. a: 16 M rows of a tile from `a` on, b: 8 N rows of one. */
template <int W, int M, int N>
CUDA_INLINE void product_of_rows(float (&sums)[M][N][4], const __nv_bfloat16 *a, unsigned place_a,
                                 const __nv_bfloat16 *b, unsigned place_b) {
#pragma unroll
    for (int k = 0; k < W; k += 16) {
        uint32_t x[M][4];
#pragma unroll
        for (int m = 0; m < M; m++)
            ldmatrix_x4(x[m], a + 16 * m * W + (place_a ^ k));
#pragma unroll
        for (int n = 0; n < N; n += 2) {
            uint32_t y[4];
            ldmatrix_x4(y, b + 8 * n * W + (place_b ^ k));
#pragma unroll
            for (int m = 0; m < M; m++) {
                mma_bf16_16x8x16(sums[m][n], x[m], y[0], y[1]);
                mma_bf16_16x8x16(sums[m][n + 1], x[m], y[2], y[3]);
            }
        }
    }
}

/* sums [M][W / 8] += p b, where p are the sums of an earlier product, [M][K / 8], rounded to bf16, and b has K rows of
 * a tile. */
template <int W, int M, int K>
CUDA_INLINE void product_with_tile(float (&sums)[M][W / 8][4], const float (&p)[M][K / 8][4], const __nv_bfloat16 *b,
                                   unsigned place_a) {
#pragma unroll
    for (int k = 0; k < K; k += 16) {
        uint32_t x[M][4];
#pragma unroll
        for (int m = 0; m < M; m++)
#pragma unroll
            for (int i = 0; i < 4; i++) {
                const float(&from)[4] = p[m][k / 8 + i / 2];
                x[m][i] = bf16_pair(from[i % 2 * 2], from[i % 2 * 2 + 1]);
            }
#pragma unroll
        for (int n = 0; n < W / 8; n += 2) {
            uint32_t y[4];
            ldmatrix_x4_trans(y, b + k * W + (place_a ^ (8 * n)));
#pragma unroll
            for (int m = 0; m < M; m++) {
                mma_bf16_16x8x16(sums[m][n], x[m], y[0], y[1]);
                mma_bf16_16x8x16(sums[m][n + 1], x[m], y[2], y[3]);
            }
        }
    }
}

/* factor * sums to rows `first`.. and columns `column`.. of a head at `to`. */
template <int M, int N>
CUDA_INLINE void sums_store(const attention_tensor &a, unsigned first, unsigned column, const float (&sums)[M][N][4],
                            float factor, __nv_bfloat16 *to, size_t step) {
    unsigned g = threadIdx.x % CUDA_WARP / 4, t = threadIdx.x % 4;
    bool pairs = a.width % 2 == 0 && (uintptr_t)to % (2 * sizeof *to) == 0;
#pragma unroll
    for (int m = 0; m < M; m++)
#pragma unroll
        for (int h = 0; h < 2; h++) {
            unsigned row = first + 16 * m + 8 * h + g;
            if (row >= a.time)
                continue;
#pragma unroll
            for (int n = 0; n < N; n++) {
                unsigned d = column + 8 * n + 2 * t;
                float x = factor * sums[m][n][2 * h], y = factor * sums[m][n][2 * h + 1];
                __nv_bfloat16 *at = to + row * step + d;
                if (pairs && d < a.width) {
                    *(uint32_t *)(void *)at = bf16_pair(x, y);
                } else if (d < a.width) {
                    at[0] = __float2bfloat16_rn(x);
                    if (d + 1 < a.width)
                        at[1] = __float2bfloat16_rn(y);
                }
            }
        }
}

/* Over the four lanes that share rows of sums. */
CUDA_INLINE float quad_sum(float x) {
    x += __shfl_xor_sync(0xffffffffu, x, 1);
    return x + __shfl_xor_sync(0xffffffffu, x, 2);
}
CUDA_INLINE float quad_max(float x) {
    x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, 1));
    return fmaxf(x, __shfl_xor_sync(0xffffffffu, x, 2));
}

#endif
