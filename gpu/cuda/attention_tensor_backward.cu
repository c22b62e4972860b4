/* Attention's backward pass on tensor cores: five products (after Dao 2023, FlashAttention-2).
 *
 * A block takes a tile of KEYS keys and values of one head and walks down the tiles of ROWS rows, from the diagonal on,
 * one tile ahead of itself with its copies of q and dout. Each warp has 16 M keys for itself and keeps the gradients of
 * k and v in registers. It makes scores transposed, [key][row], CHUNK rows at a time: probabilities and the scores'
 * gradients are then, as they lie in registers, the first factor of dv += p^T dout and dk += ds^T q.
 * For dq += ds k, a sum over all warps' keys, ds goes through shared memory.
 *
 * Blocks of other keys add to the same dq. It is summed up by atomics, in f32 and in the order in which registers hold
 * it, so that the 32 numbers of an addition are 128 bytes in a row; a last kernel scales, rounds and stores it where it
 * belongs. Why atomics: docs/decisions/0013-attention-on-tensor-cores.md. */
#include "gpu/cuda/attention_tensor.cuh"

namespace {

constexpr int ROWS = 64, CHUNK = 32;

/* A row's log(sum of e^score) * log2(e), and its sum of dout * out. */
struct alignas(8) row_of_backward {
    float log2_sum, inner;
};
struct alignas(16) two_rows {
    row_of_backward row[2];
};

/* Heads of W, `W_` warps of 16 M keys each; dq's tile of ROWS x W is cut into parts of 16 DQ_M x 8 DQ_N, one for each
 * warp. */
template <int W, int W_, int M> struct backward_tiles {
    enum {
        WARPS = W_,
        THREADS = WARPS * CUDA_WARP,
        KEYS = WARPS * 16 * M,
        TILE = ROWS * W,
        DQ_N = W >= 64 ? 4 : 2,
        ACROSS = W / (8 * DQ_N),
        DOWN = WARPS / ACROSS,
        DQ_M = ROWS / (16 * DOWN),
        DQ_SUMS = DQ_M * DQ_N * 4,
        /* k and v; q and dout twice; ds; what is known of rows twice */
        BYTES = (2 * KEYS * W + 4 * TILE + KEYS * ROWS) * (int)sizeof(__nv_bfloat16) +
                2 * ROWS * (int)sizeof(row_of_backward)
    };
    static_assert(DQ_SUMS * THREADS == TILE, "warps share the tile");
    static_assert(BYTES <= (W > ATTENTION_TENSOR_NARROW ? (int)ATTENTION_TENSOR_SHARED_BYTES : 99 << 10), "it fits");
};

/* rows [items][padded]: eight lanes a row, in the order of memory; those from time on are zero. */
__global__ void rows_kernel(attention_tensor a, unsigned padded, bool whole, const __nv_bfloat16 *out,
                            const __nv_bfloat16 *dout, const float *saved, row_of_backward *rows) {
    size_t count = (size_t)a.items * padded, row = cuda_thread() / ATTENTION_EIGHT; /* [batch][padded][heads] */
    unsigned time = (unsigned)(row / a.heads % padded), lane = threadIdx.x % ATTENTION_EIGHT;
    size_t batch = row / a.heads / padded, item = batch * a.heads + row % a.heads;
    size_t at = ((batch * a.time + time) * a.heads + row % a.heads) * a.width;
    bool inside = row < count && time < a.time;
    float sum = 0;
    for (unsigned d = lane * ATTENTION_EIGHT; inside && d < a.width; d += ATTENTION_EIGHT * ATTENTION_EIGHT) {
        bf16_eight x = eight_of_head(out + at, d, a.width, whole), y = eight_of_head(dout + at, d, a.width, whole);
#pragma unroll
        for (int l = 0; l < ATTENTION_EIGHT / 2; l++) {
            sum += bf16_low(x.pairs[l]) * bf16_low(y.pairs[l]);
            sum += bf16_high(x.pairs[l]) * bf16_high(y.pairs[l]);
        }
    }
    sum = quad_sum(sum);
    sum += __shfl_xor_sync(0xffffffffu, sum, 4);
    if (row < count && lane == 0)
        rows[item * padded + time] = {inside ? saved[item * a.time + time] * 1.44269504f : 0.0f, sum};
}

/* Scores [key][row] of keys beyond their row are no more. key, row: the first of this lane. */
template <int M> CUDA_INLINE void mask(float (&scores)[M][CHUNK / 8][4], unsigned key, unsigned row) {
#pragma unroll
    for (int m = 0; m < M; m++)
#pragma unroll
        for (int n = 0; n < CHUNK / 8; n++)
#pragma unroll
            for (int i = 0; i < 4; i++)
                if (key + 16 * m + i / 2 * 8 > row + 8 * n + i % 2)
                    scores[m][n][i] = -INFINITY;
}

/* Scores become probabilities, dp the gradient of q k^T without its scale. rows: this lane's first two. */
template <int M>
CUDA_INLINE void score_gradients(float scale_log2, const row_of_backward *rows, float (&scores)[M][CHUNK / 8][4],
                                 float (&dp)[M][CHUNK / 8][4]) {
#pragma unroll
    for (int n = 0; n < CHUNK / 8; n++) {
        two_rows two = *(const two_rows *)(const void *)(rows + 8 * n);
#pragma unroll
        for (int m = 0; m < M; m++)
#pragma unroll
            for (int i = 0; i < 4; i++) {
                const row_of_backward &r = two.row[i % 2];
                float p = exp2_fast(fmaf(scores[m][n][i], scale_log2, -r.log2_sum));
                scores[m][n][i] = p;
                dp[m][n][i] = p * (dp[m][n][i] - r.inner);
            }
    }
}

/* ds [KEYS][ROWS], a tile like the others; at: this lane's first key, chunk: of rows. */
template <int M>
CUDA_INLINE void gradients_store(const float (&dp)[M][CHUNK / 8][4], unsigned key, unsigned chunk, __nv_bfloat16 *ds) {
#pragma unroll
    for (int m = 0; m < M; m++)
#pragma unroll
        for (int h = 0; h < 2; h++)
#pragma unroll
            for (int n = 0; n < CHUNK / 8; n++) {
                __nv_bfloat16 *to = ds + tile_at<ROWS>(key + 16 * m + 8 * h, chunk * (CHUNK / 8) + n);
                *(uint32_t *)(void *)(to + threadIdx.x % 4 * 2) = bf16_pair(dp[m][n][2 * h], dp[m][n][2 * h + 1]);
            }
}

/* This warp's part of ds^T k is added to dq, in the order of registers. */
template <class t, int W>
CUDA_INLINE void queries_add(const __nv_bfloat16 *ds, const __nv_bfloat16 *k, unsigned place_a, float *dq) {
    unsigned lane = threadIdx.x % CUDA_WARP, warp = threadIdx.x / CUDA_WARP, place = tile_place_b<ROWS>(lane);
    unsigned down = warp / t::ACROSS * 16 * t::DQ_M, across = warp % t::ACROSS * 8 * t::DQ_N;
    float sums[t::DQ_M][t::DQ_N][4] = {};
#pragma unroll
    for (int key = 0; key < t::KEYS; key += 16) {
        uint32_t x[t::DQ_M][4];
#pragma unroll
        for (int m = 0; m < t::DQ_M; m++)
            ldmatrix_x4_trans(x[m], ds + key * ROWS + (place ^ (down + 16 * m)));
#pragma unroll
        for (int n = 0; n < t::DQ_N; n += 2) {
            uint32_t y[4];
            ldmatrix_x4_trans(y, k + key * W + (place_a ^ (across + 8 * n)));
#pragma unroll
            for (int m = 0; m < t::DQ_M; m++) {
                mma_bf16_16x8x16(sums[m][n], x[m], y[0], y[1]);
                mma_bf16_16x8x16(sums[m][n + 1], x[m], y[2], y[3]);
            }
        }
    }
    dq += warp * t::DQ_SUMS * CUDA_WARP + lane;
#pragma unroll
    for (int m = 0; m < t::DQ_M; m++)
#pragma unroll
        for (int n = 0; n < t::DQ_N; n++)
#pragma unroll
            for (int i = 0; i < 4; i++)
                atomicAdd(dq + ((m * t::DQ_N + n) * 4 + i) * CUDA_WARP, sums[m][n][i]);
}

/* What a block reads and adds to. padded: rows, a multiple of ROWS. */
struct backward_input {
    attention_bf16 qkv, dout;
    const row_of_backward *rows; /* [items][padded] */
    float *dq;                   /* [items][padded / ROWS][ROWS * W], in the order of registers */
    unsigned padded;
};

/* Block x takes head x % items and its (x / items)th tile of keys; the first has most rows below it. */
template <int W, int W_, int M>
__global__ void __launch_bounds__(W_ *CUDA_WARP, W <= 64 ? 2 : 1)
    backward_kernel(attention_tensor a, backward_input in, __nv_bfloat16 *dqkv) {
    typedef backward_tiles<W, W_, M> t;
    CUDA_SHARED(__nv_bfloat16, k);
    __nv_bfloat16 *v = k + t::KEYS * W, *stages = v + t::KEYS * W, *ds = stages + 4 * t::TILE;
    row_of_backward *known = (row_of_backward *)(void *)(ds + t::KEYS * ROWS);
    unsigned item = blockIdx.x % a.items, first = blockIdx.x / a.items * t::KEYS;
    unsigned lane = threadIdx.x % CUDA_WARP, warp = threadIdx.x / CUDA_WARP, mine = warp * 16 * M, key = first + mine;
    unsigned place_a = tile_place_a<W>(lane), place_b = tile_place_b<W>(lane), head = item % a.heads;
    size_t start = (size_t)(item / a.heads) * a.time;
    const __nv_bfloat16 *qkv = in.qkv.at + start * in.qkv.step.row + head * in.qkv.step.head;
    const __nv_bfloat16 *dout = in.dout.at + start * in.dout.step.row + head * in.dout.step.head;
    const row_of_backward *rows = in.rows + (size_t)item * in.padded;
    float *dq = in.dq + (size_t)item * in.padded * W;
    float dk[M][W / 8][4] = {}, dv[M][W / 8][4] = {};

    auto copy_rows = [&](unsigned row, unsigned stage) {
        unsigned two = threadIdx.x * 2;
        __nv_bfloat16 *q = stages + stage * 2 * t::TILE;
        tile_copy<W, ROWS, t::THREADS>(a.time, row, qkv, in.qkv.step.row, in.qkv.width, q);
        tile_copy<W, ROWS, t::THREADS>(a.time, row, dout, in.dout.step.row, in.dout.width, q + t::TILE);
        if (two < ROWS)
            async_copy_16(known + stage * ROWS + two, rows + row + two);
        async_commit();
    };
    tile_copy<W, t::KEYS, t::THREADS>(a.time, first, qkv + in.qkv.part, in.qkv.step.row, in.qkv.width, k);
    tile_copy<W, t::KEYS, t::THREADS>(a.time, first, qkv + 2 * in.qkv.part, in.qkv.step.row, in.qkv.width, v);
    copy_rows(first, 0);
    for (unsigned row = first, stage = 0; row < a.time; row += ROWS, stage ^= 1) {
        async_wait<0>();
        __syncthreads(); /* this tile is there for all, and nobody reads the last one and its ds any more */
        if (row + ROWS < a.time)
            copy_rows(row + ROWS, stage ^ 1);
        const __nv_bfloat16 *q = stages + stage * 2 * t::TILE, *d = q + t::TILE;
#pragma unroll
        for (unsigned c = 0; c < ROWS / CHUNK; c++, q += CHUNK * W, d += CHUNK * W) {
            unsigned top = row + c * CHUNK;
            float scores[M][CHUNK / 8][4] = {}, dp[M][CHUNK / 8][4] = {};
            if (key < top + CHUNK) { /* not beyond the diagonal for the whole warp */
                product_of_rows<W>(scores, k + mine * W, place_a, q, place_b);
                product_of_rows<W>(dp, v + mine * W, place_a, d, place_b);
                if (key + 16 * M - 1 > top)
                    mask(scores, key + lane / 4, top + lane % 4 * 2);
                score_gradients(a.scale_log2, known + stage * ROWS + c * CHUNK + lane % 4 * 2, scores, dp);
                product_with_tile<W, M, CHUNK>(dv, scores, d, place_a);
                product_with_tile<W, M, CHUNK>(dk, dp, q, place_a);
            }
            gradients_store(dp, mine + lane / 4, c, ds);
        }
        __syncthreads(); /* all of ds is there */
        queries_add<t, W>(ds, k, place_a, dq + (size_t)row * W);
    }
    size_t all = (size_t)a.heads * a.width;
    __nv_bfloat16 *to = dqkv + start * 3 * all + head * a.width;
    sums_store(a, key, 0, dk, a.scale, to + all, 3 * all);
    sums_store(a, key, 0, dv, 1, to + 2 * all, 3 * all);
}

/* Block x stores tile x / items of dq of head x % items. */
template <int W, int W_, int M>
__global__ void __launch_bounds__(W_ *CUDA_WARP)
    queries_kernel(attention_tensor a, backward_input in, __nv_bfloat16 *dqkv) {
    typedef backward_tiles<W, W_, M> t;
    unsigned item = blockIdx.x % a.items, row = blockIdx.x / a.items * ROWS, warp = threadIdx.x / CUDA_WARP;
    const float *dq = in.dq + (size_t)item * in.padded * W + (size_t)row * W;
    float sums[t::DQ_M][t::DQ_N][4];
    dq += warp * t::DQ_SUMS * CUDA_WARP + threadIdx.x % CUDA_WARP;
#pragma unroll
    for (int m = 0; m < t::DQ_M; m++)
#pragma unroll
        for (int n = 0; n < t::DQ_N; n++)
#pragma unroll
            for (int i = 0; i < 4; i++)
                sums[m][n][i] = dq[((m * t::DQ_N + n) * 4 + i) * CUDA_WARP];
    size_t all = (size_t)a.heads * a.width;
    sums_store(a, row + warp / t::ACROSS * 16 * t::DQ_M, warp % t::ACROSS * 8 * t::DQ_N, sums, a.scale,
               dqkv + (size_t)(item / a.heads) * a.time * 3 * all + item % a.heads * a.width, 3 * all);
}

/* ---- on the host */

template <int W, int W_, int M>
void backward(struct cuda_stream *s, const attention_tensor &a, const backward_input &in, __nv_bfloat16 *dqkv) {
    typedef backward_tiles<W, W_, M> t;
    auto keys = backward_kernel<W, W_, M>, queries = queries_kernel<W, W_, M>;
    if (!CUDA_ALLOW_SHARED(s, keys, t::BYTES))
        return;
    CUDA_LAUNCH(s, keys, cuda_ceil(a.time, t::KEYS) * a.items, t::THREADS, (unsigned)t::BYTES, a, in, dqkv);
    CUDA_LAUNCH(s, queries, cuda_ceil(a.time, ROWS) * a.items, t::THREADS, 0, a, in, dqkv);
}

size_t up(size_t bytes) {
    return (bytes + 255) / 256 * 256;
}

} // namespace

void attention_tensor_backward(struct cuda_stream *s, const struct device_attention *shape, const __nv_bfloat16 *qkv,
                               const __nv_bfloat16 *out, const float *saved, const __nv_bfloat16 *dout,
                               __nv_bfloat16 *dqkv) {
    struct attention_tensor a = attention_tensor_of(shape);
    size_t rows = (size_t)shape->batch * shape->time, padded = cuda_ceil(shape->time, ROWS) * (size_t)ROWS;
    unsigned columns = attention_tensor_columns(shape->width);
    size_t qkv_bytes = up(attention_pack_bytes(qkv, rows, 3 * shape->heads, shape->width));
    size_t dout_bytes = up(attention_pack_bytes(dout, rows, shape->heads, shape->width));
    size_t known = a.items * padded, known_bytes = up(known * sizeof(row_of_backward)), sums = known * columns;
    char *room = (char *)cuda_scratch(s, CUDA_ROOM_OP, "attention_backward",
                                      qkv_bytes + dout_bytes + known_bytes + sums * sizeof(float));
    if (!room)
        return;
    struct attention_bf16 packed = attention_pack(s, a, qkv, 3, room);
    struct attention_bf16 packed_dout = attention_pack(s, a, dout, 1, room + qkv_bytes);
    row_of_backward *known_rows = (row_of_backward *)(void *)(room + qkv_bytes + dout_bytes);
    float *dq = (float *)(void *)(room + qkv_bytes + dout_bytes + known_bytes);
    backward_input in = {packed, packed_dout, known_rows, dq, (unsigned)padded};
    CUDA_LAUNCH(s, rows_kernel, cuda_ceil(known, CUDA_BLOCK / ATTENTION_EIGHT), CUDA_BLOCK, 0, a, in.padded,
                attention_eights(shape->width, out, dout), out, dout, saved, known_rows);
    cuda_zero(&s->base, sums * sizeof *dq, dq);
    switch (columns) {
    case 16:
        return backward<16, 4, 2>(s, a, in, dqkv);
    case 32:
        return backward<32, 4, 2>(s, a, in, dqkv);
    case 64:
        return backward<64, 4, 2>(s, a, in, dqkv);
    default:
        return backward<128, 8, 1>(s, a, in, dqkv);
    }
}
