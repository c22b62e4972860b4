/* Attention's forward pass on tensor cores (after Dao 2023, FlashAttention-2), and packing for both passes.
 *
 * A block of 4 warps takes a tile of rows of one head and walks over the tiles of C columns from the first to the
 * diagonal, one tile ahead of itself with its copies of k and v. Each warp has 16 M rows for itself: scores,
 * probabilities and results stay in its registers, with a running maximum and sum per row; so warps meet only where a
 * tile arrives, once per tile. The first column belongs to every row, so no row is ever without a maximum.
 *
 * Blocks start in the order of their work, the last rows of all heads first, so that short ones fill the end. */
#include "gpu/cuda/attention_tensor.cuh"

namespace {

enum { WARPS = 4, THREADS = WARPS * CUDA_WARP };

/* ---- packing */

/* x [heads][width] -> packed [heads][columns], 8 numbers a thread, zeros beyond width. */
__global__ void pack_kernel(size_t heads, unsigned width, unsigned columns, const __nv_bfloat16 *x,
                            __nv_bfloat16 *packed) {
    unsigned chunks = columns / ATTENTION_EIGHT;
    for (size_t i = cuda_thread(); i < heads * chunks; i += cuda_threads())
        *(bf16_eight *)(void *)(packed + i * ATTENTION_EIGHT) =
            eight_of_head(x + i / chunks * width, (unsigned)(i % chunks) * ATTENTION_EIGHT, width, false);
}

/* ---- forward */

/* What a warp knows of its rows: 16 m + 8 h + g in [m][h]. */
template <int M> struct softmax {
    float most[M][2];  /* of the scores so far */
    float total[M][2]; /* sum of e^(scale (score - most)), this lane's columns only */
};

/* Scores of columns beyond their row are no more. row, column: the first of this lane. */
template <int M, int C> CUDA_INLINE void mask(float (&scores)[M][C / 8][4], unsigned row, unsigned column) {
#pragma unroll
    for (int m = 0; m < M; m++)
#pragma unroll
        for (int n = 0; n < C / 8; n++)
#pragma unroll
            for (int i = 0; i < 4; i++)
                if (column + 8 * n + i % 2 > row + 16 * m + i / 2 * 8)
                    scores[m][n][i] = -INFINITY;
}

/* Scores become probabilities relative to the maximum so far; what was summed up before shrinks as the maximum grows.
 */
template <int W, int M, int C>
CUDA_INLINE void softmax_step(float scale_log2, float (&scores)[M][C / 8][4], softmax<M> &state,
                              float (&sums)[M][W / 8][4]) {
#pragma unroll
    for (int m = 0; m < M; m++)
#pragma unroll
        for (int h = 0; h < 2; h++) {
            float top = state.most[m][h];
#pragma unroll
            for (int n = 0; n < C / 8; n++)
                top = fmaxf(top, fmaxf(scores[m][n][2 * h], scores[m][n][2 * h + 1]));
            top = quad_max(top);
            float factor = exp2_fast((state.most[m][h] - top) * scale_log2), offset = top * scale_log2, total = 0;
#pragma unroll
            for (int n = 0; n < C / 8; n++)
#pragma unroll
                for (int e = 0; e < 2; e++) {
                    float &score = scores[m][n][2 * h + e];
                    score = exp2_fast(fmaf(score, scale_log2, -offset));
                    total += score;
                }
            state.most[m][h] = top;
            state.total[m][h] = state.total[m][h] * factor + total;
#pragma unroll
            for (int n = 0; n < W / 8; n++) {
                sums[m][n][2 * h] *= factor;
                sums[m][n][2 * h + 1] *= factor;
            }
        }
}

/* Results become averages; saved gets log(sum of e^score) of each row. row: the first of this lane. */
template <int W, int M>
CUDA_INLINE void softmax_end(const attention_tensor &a, const softmax<M> &state, unsigned row,
                             float (&sums)[M][W / 8][4], float *saved) {
#pragma unroll
    for (int m = 0; m < M; m++)
#pragma unroll
        for (int h = 0; h < 2; h++) {
            float total = quad_sum(state.total[m][h]), inverse = 1.0f / total;
            unsigned r = row + 16 * m + 8 * h;
            if (threadIdx.x % 4 == 0 && r < a.time)
                saved[r] = state.most[m][h] * a.scale + logf(total);
#pragma unroll
            for (int n = 0; n < W / 8; n++) {
                sums[m][n][2 * h] *= inverse;
                sums[m][n][2 * h + 1] *= inverse;
            }
        }
}

/* Tiles of 64 M rows and C columns, heads of W. */
template <int W, int M, int C> struct forward_tiles {
    enum {
        ROWS = WARPS * 16 * M,
        TILE = C * W,
        /* q, and k and v twice */
        BYTES = (ROWS * W + 4 * TILE) * (int)sizeof(__nv_bfloat16)
    };
};

/* Block x takes head x % items and, of its tiles of rows, the (x / items)th from the end. */
template <int W, int M, int C>
__global__ void __launch_bounds__(THREADS, 2)
    forward_kernel(attention_tensor a, attention_bf16 qkv, unsigned tiles, __nv_bfloat16 *out, float *saved) {
    typedef forward_tiles<W, M, C> t;
    CUDA_SHARED(__nv_bfloat16, q);
    __nv_bfloat16 *stages = q + t::ROWS * W;
    unsigned item = blockIdx.x % a.items, first = (tiles - 1 - blockIdx.x / a.items) * t::ROWS;
    unsigned lane = threadIdx.x % CUDA_WARP, warp = threadIdx.x / CUDA_WARP, row = first + warp * 16 * M;
    unsigned place_a = tile_place_a<W>(lane), place_b = tile_place_b<W>(lane);
    size_t start = (size_t)(item / a.heads) * a.time;
    const __nv_bfloat16 *from = qkv.at + start * qkv.step.row + item % a.heads * qkv.step.head;
    float sums[M][W / 8][4] = {};
    softmax<M> state = {};
#pragma unroll
    for (int m = 0; m < M; m++)
        state.most[m][0] = state.most[m][1] = -INFINITY;

    auto copy_columns = [&](unsigned column) {
        __nv_bfloat16 *k = stages + column / C % 2 * 2 * t::TILE;
        tile_copy<W, C, THREADS>(a.time, column, from + qkv.part, qkv.step.row, qkv.width, k);
        tile_copy<W, C, THREADS>(a.time, column, from + 2 * qkv.part, qkv.step.row, qkv.width, k + t::TILE);
        async_commit();
    };
    tile_copy<W, t::ROWS, THREADS>(a.time, first, from, qkv.step.row, qkv.width, q);
    copy_columns(0);
    unsigned end = first + t::ROWS < a.time ? first + t::ROWS : a.time;
    for (unsigned column = 0; column < end; column += C) {
        async_wait<0>();
        __syncthreads(); /* this tile is there for all, and nobody reads the last one any more */
        if (column + C < end)
            copy_columns(column + C);
        if (column > row + 16 * M - 1)
            continue; /* beyond the diagonal for the whole warp */
        const __nv_bfloat16 *k = stages + column / C % 2 * 2 * t::TILE;
        float scores[M][C / 8][4] = {};
        product_of_rows<W>(scores, q + warp * 16 * M * W, place_a, k, place_b);
        if (column + C - 1 > row)
            mask<M, C>(scores, row + lane / 4, column + lane % 4 * 2);
        softmax_step<W, M, C>(a.scale_log2, scores, state, sums);
        product_with_tile<W, M, C>(sums, scores, k + t::TILE, place_a);
    }
    softmax_end<W>(a, state, row + lane / 4, sums, saved + (size_t)item * a.time);
    size_t all = (size_t)a.heads * a.width;
    sums_store(a, row, 0, sums, 1, out + start * all + item % a.heads * a.width, all);
}

/* ---- on the host */

template <int W, int M, int C>
void forward(struct cuda_stream *s, const attention_tensor &a, const attention_bf16 &qkv, __nv_bfloat16 *out,
             float *saved) {
    typedef forward_tiles<W, M, C> t;
    unsigned tiles = cuda_ceil(a.time, t::ROWS);
    auto kernel = forward_kernel<W, M, C>;
    if (CUDA_ALLOW_SHARED(s, kernel, t::BYTES))
        CUDA_LAUNCH(s, kernel, tiles * a.items, THREADS, t::BYTES, a, qkv, tiles, out, saved);
}

} // namespace

struct attention_bf16 attention_pack(struct cuda_stream *s, const struct attention_tensor &a, const __nv_bfloat16 *x,
                                     unsigned parts, void *room) {
    if (attention_eights(a.width, x))
        return {x, {(size_t)parts * a.heads * a.width, a.width}, (size_t)a.heads * a.width, a.width};
    unsigned columns = attention_tensor_columns(a.width);
    size_t heads = (size_t)a.items * a.time * parts;
    __nv_bfloat16 *packed = (__nv_bfloat16 *)room;
    CUDA_LAUNCH(s, pack_kernel, cuda_spread(s, heads * columns / ATTENTION_EIGHT, CUDA_BLOCK), CUDA_BLOCK, 0, heads,
                a.width, columns, x, packed);
    return {packed, {(size_t)parts * a.heads * columns, columns}, (size_t)a.heads * columns, columns};
}

void attention_tensor_forward(struct cuda_stream *s, const struct device_attention *shape, const __nv_bfloat16 *qkv,
                              __nv_bfloat16 *out, float *saved) {
    struct attention_tensor a = attention_tensor_of(shape);
    size_t bytes = attention_pack_bytes(qkv, (size_t)shape->batch * shape->time, 3 * shape->heads, shape->width);
    void *room = bytes ? cuda_scratch(s, CUDA_ROOM_OP, "attention_forward", bytes) : NULL;
    if (bytes && !room)
        return;
    struct attention_bf16 packed = attention_pack(s, a, qkv, 3, room);
    switch (attention_tensor_columns(shape->width)) {
    case 16:
        return forward<16, 2, 64>(s, a, packed, out, saved);
    case 32:
        return forward<32, 2, 64>(s, a, packed, out, saved);
    case 64:
        return forward<64, 2, 64>(s, a, packed, out, saved);
    default:
        return forward<128, 2, 32>(s, a, packed, out, saved);
    }
}
