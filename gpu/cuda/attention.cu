/* Causal self-attention in f32 (of bf16 in heads of up to 128: attention_tensor.cu) that never holds time x time scores
 * (after Dao et al. 2022, FlashAttention): a block takes a tile of TILE rows of one head and walks over the tiles of
 * columns up to the diagonal, with a running maximum and sum per row. saved is [batch][heads][time], log(sum of
 * e^score) of each row; from it backward makes the probabilities again.
 *
 * Backward has one kernel for keys and values, whose blocks walk down the rows, and one for queries, whose blocks walk
 * along the columns. Each makes scores and their gradients anew (two products more than with one kernel), but nothing
 * is added by two blocks, so the result is the same in every run.
 *
 * 256 threads, as 16 x 16, hold a tile between them: thread (ty, tx) has rows ty + 16 i and columns tx + 16 j. Tiles of
 * rows of up to 16 J floats lie in shared memory with a stride of 16 J + 1, odd, so that neither reading along rows nor
 * along columns meets one bank twice; what is beyond the head's width or the sequence's end is zero. */
#include "gpu/cuda/attention_tensor.cuh"

namespace {

enum { SIDE = 16, THREADS = SIDE * SIDE, WIDTH_MAX = 256, WIDE_SHARED_BYTES = 135 << 10 };

/* Tiles of 16 I rows, heads of up to 16 J floats. */
template <int I, int J> struct tiling {
    enum { TILE = SIDE * I, WIDTH = SIDE * J, STRIDE = WIDTH + 1, ROWS = TILE * STRIDE, SQUARE = TILE * (TILE + 1) };
};

struct attention {
    unsigned time, heads, width, tiles; /* tiles: of rows, ceil(time / TILE) */
    float scale;
};

/* Which head a block works on, and where its rows are: row r of query, key, value at qkv[(r * 3 + {0, 1, 2}) * all], of
 * out and dout at [r * all]. */
struct head {
    size_t qkv, out, row, all; /* row: of saved, one float each */
};

CUDA_INLINE head head_of(const attention &a, unsigned item) {
    size_t all = (size_t)a.heads * a.width, batch = item / a.heads, offset = (size_t)(item % a.heads) * a.width;
    return {batch * a.time * 3 * all + offset, batch * a.time * all + offset, (size_t)item * a.time, all};
}

/* sum[i][j] += over k of a(row, k) b(k, column), with a(row, k) at a[row * a_row + k * a_k] and so on. */
template <int I, int J>
CUDA_INLINE void product(float (&sum)[I][J], unsigned count, const float *a, unsigned a_row, unsigned a_k,
                         const float *b, unsigned b_k, unsigned b_column) {
    unsigned tx = threadIdx.x % SIDE, ty = threadIdx.x / SIDE;
    for (unsigned k = 0; k < count; k++) {
        float x[I], y[J];
#pragma unroll
        for (int i = 0; i < I; i++)
            x[i] = a[(ty + SIDE * i) * a_row + k * a_k];
#pragma unroll
        for (int j = 0; j < J; j++)
            y[j] = b[k * b_k + (tx + SIDE * j) * b_column];
#pragma unroll
        for (int i = 0; i < I; i++)
#pragma unroll
            for (int j = 0; j < J; j++)
                sum[i][j] += x[i] * y[j];
    }
}

/* Rows [first, first + TILE) of `from`, which are `stride` floats apart, into a tile. */
template <int I, int J, class T>
CUDA_INLINE void tile_load(const attention &a, unsigned first, const T *from, size_t stride, float *tile) {
    typedef tiling<I, J> t;
    for (unsigned at = threadIdx.x; at < t::TILE * t::WIDTH; at += THREADS) {
        unsigned row = at / t::WIDTH, d = at % t::WIDTH;
        bool inside = first + row < a.time && d < a.width;
        tile[row * t::STRIDE + d] = inside ? widened(from[(first + row) * stride + d]) : 0.0f;
    }
}

/* This thread's part of a tile of results, to rows `stride` floats apart. */
template <int I, int J, class T>
CUDA_INLINE void tile_store(const attention &a, unsigned first, const float (&values)[I][J], T *to, size_t stride) {
    unsigned tx = threadIdx.x % SIDE, ty = threadIdx.x / SIDE;
#pragma unroll
    for (int i = 0; i < I; i++) {
        unsigned row = first + ty + SIDE * i;
#pragma unroll
        for (int j = 0; j < J; j++) {
            unsigned d = tx + SIDE * j;
            if (row < a.time && d < a.width)
                narrowed(values[i][j], &to[row * stride + d]);
        }
    }
}

/* Over the 16 threads that share rows. */
CUDA_INLINE float row_sum(float x) {
    for (int lane = SIDE / 2; lane > 0; lane /= 2)
        x += __shfl_xor_sync(0xffffffffu, x, lane);
    return x;
}

CUDA_INLINE float row_max(float x) {
    for (int lane = SIDE / 2; lane > 0; lane /= 2)
        x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, lane));
    return x;
}

/* Adds a tile of scores [TILE][TILE] to the running softmax: they become probabilities relative to `most`, in shared
 * memory too, and what was summed up so far is scaled down where the maximum has grown. */
template <int I, int J>
CUDA_INLINE void softmax_step(const attention &a, unsigned row, unsigned column, float (&scores)[I][I],
                              float (&most)[I], float (&total)[I], float (&out)[I][J], float *probabilities) {
    typedef tiling<I, J> t;
    unsigned tx = threadIdx.x % SIDE, ty = threadIdx.x / SIDE;
#pragma unroll
    for (int i = 0; i < I; i++) {
        unsigned r = row + ty + SIDE * i;
        float top = -FLT_MAX, sum = 0;
#pragma unroll
        for (int j = 0; j < I; j++) {
            scores[i][j] *= a.scale;
            if (column + tx + SIDE * j <= r)
                top = fmaxf(top, scores[i][j]);
        }
        top = fmaxf(most[i], row_max(top));
        float factor = expf(most[i] - top);
#pragma unroll
        for (int j = 0; j < I; j++) {
            float p = column + tx + SIDE * j <= r ? expf(scores[i][j] - top) : 0.0f;
            probabilities[(ty + SIDE * i) * (t::TILE + 1) + tx + SIDE * j] = p;
            sum += p;
        }
        most[i] = top;
        total[i] = total[i] * factor + row_sum(sum);
#pragma unroll
        for (int j = 0; j < J; j++)
            out[i][j] *= factor;
    }
}

/* A block takes tile `tiles - 1 - blockIdx.x % tiles` of rows (those with most work first) of head blockIdx.x / tiles.
 */
template <class T, int I, int J>
__global__ void __launch_bounds__(THREADS) forward_kernel(attention a, const T *qkv, T *out, float *saved) {
    typedef tiling<I, J> t;
    CUDA_SHARED(float, q);
    float *k = q + t::ROWS, *v = k + t::ROWS, *p = v + t::ROWS;
    unsigned tx = threadIdx.x % SIDE, ty = threadIdx.x / SIDE, row = (a.tiles - 1 - blockIdx.x % a.tiles) * t::TILE;
    head h = head_of(a, blockIdx.x / a.tiles);
    float sums[I][J] = {}, most[I], total[I] = {};
#pragma unroll
    for (int i = 0; i < I; i++)
        most[i] = -FLT_MAX;
    tile_load<I, J>(a, row, qkv + h.qkv, 3 * h.all, q);
    for (unsigned column = 0; column <= row; column += t::TILE) {
        float scores[I][I] = {};
        __syncthreads(); /* nobody reads the last k, v and p any more */
        tile_load<I, J>(a, column, qkv + h.qkv + h.all, 3 * h.all, k);
        tile_load<I, J>(a, column, qkv + h.qkv + 2 * h.all, 3 * h.all, v);
        __syncthreads();
        product(scores, a.width, q, t::STRIDE, 1, k, 1, t::STRIDE);
        softmax_step<I, J>(a, row, column, scores, most, total, sums, p);
        __syncthreads();
        product(sums, t::TILE, p, t::TILE + 1, 1, v, t::STRIDE, 1);
    }
#pragma unroll
    for (int i = 0; i < I; i++) {
        unsigned r = row + ty + SIDE * i;
#pragma unroll
        for (int j = 0; j < J; j++)
            sums[i][j] /= total[i];
        if (tx == 0 && r < a.time)
            saved[h.row + r] = most[i] + logf(total[i]);
    }
    tile_store<I, J>(a, row, sums, out + h.out, h.all);
}

/* inner [batch][heads][time] = sum over d of dout * out; a warp takes a row. */
template <class T> __global__ void inner_kernel(size_t rows, attention a, const T *out, const T *dout, float *inner) {
    size_t row = (size_t)blockIdx.x * CUDA_TILE_ROWS + threadIdx.y; /* of [batch][time][heads] */
    if (row >= rows)
        return;
    float sum = 0;
    for (unsigned d = threadIdx.x; d < a.width; d += CUDA_WARP)
        sum += widened(out[row * a.width + d]) * widened(dout[row * a.width + d]);
    sum = warp_sum(sum);
    size_t head = row % a.heads, time = row / a.heads % a.time, batch = row / a.heads / a.time;
    if (threadIdx.x == 0)
        inner[(batch * a.heads + head) * a.time + time] = sum;
}

/* scores (of rows q, columns k) become probabilities; dp (of dout, v) becomes the gradient of q k^T. */
template <int I>
CUDA_INLINE void score_gradients(const attention &a, unsigned row, unsigned column, const float *saved,
                                 const float *inner, float (&scores)[I][I], float (&dp)[I][I]) {
    unsigned tx = threadIdx.x % SIDE, ty = threadIdx.x / SIDE;
#pragma unroll
    for (int i = 0; i < I; i++) {
        unsigned r = row + ty + SIDE * i;
        float log_sum = r < a.time ? saved[r] : 0.0f, mean = r < a.time ? inner[r] : 0.0f;
#pragma unroll
        for (int j = 0; j < I; j++) {
            bool inside = r < a.time && column + tx + SIDE * j <= r;
            scores[i][j] = inside ? expf(scores[i][j] * a.scale - log_sum) : 0.0f;
            dp[i][j] = a.scale * scores[i][j] * (dp[i][j] - mean);
        }
    }
}

template <int I> CUDA_INLINE void square_store(const float (&values)[I][I], float *square) {
    unsigned tx = threadIdx.x % SIDE, ty = threadIdx.x / SIDE;
#pragma unroll
    for (int i = 0; i < I; i++)
#pragma unroll
        for (int j = 0; j < I; j++)
            square[(ty + SIDE * i) * (SIDE * I + 1) + tx + SIDE * j] = values[i][j];
}

/* A block takes tile blockIdx.x % tiles of keys and values (the first has most rows below it) of head
 * blockIdx.x / tiles. dk += dscores^T q, dv += p^T dout. */
template <class T, int I, int J>
__global__ void __launch_bounds__(THREADS)
    key_gradient_kernel(attention a, const T *qkv, const float *saved, const float *inner, const T *dout, T *dqkv) {
    typedef tiling<I, J> t;
    CUDA_SHARED(float, q);
    float *k = q + t::ROWS, *v = k + t::ROWS, *d = v + t::ROWS, *square = d + t::ROWS;
    unsigned column = blockIdx.x % a.tiles * t::TILE;
    head h = head_of(a, blockIdx.x / a.tiles);
    float dk[I][J] = {}, dv[I][J] = {};
    tile_load<I, J>(a, column, qkv + h.qkv + h.all, 3 * h.all, k);
    tile_load<I, J>(a, column, qkv + h.qkv + 2 * h.all, 3 * h.all, v);
    for (unsigned row = column; row < a.time; row += t::TILE) {
        float scores[I][I] = {}, dp[I][I] = {};
        __syncthreads(); /* nobody reads the last q, d and square any more */
        tile_load<I, J>(a, row, qkv + h.qkv, 3 * h.all, q);
        tile_load<I, J>(a, row, dout + h.out, h.all, d);
        __syncthreads();
        product(scores, a.width, q, t::STRIDE, 1, k, 1, t::STRIDE);
        product(dp, a.width, d, t::STRIDE, 1, v, 1, t::STRIDE);
        score_gradients<I>(a, row, column, saved + h.row, inner + h.row, scores, dp);
        square_store<I>(scores, square);
        __syncthreads();
        product(dv, t::TILE, square, 1, t::TILE + 1, d, t::STRIDE, 1);
        __syncthreads();
        square_store<I>(dp, square);
        __syncthreads();
        product(dk, t::TILE, square, 1, t::TILE + 1, q, t::STRIDE, 1);
    }
    tile_store<I, J>(a, column, dk, dqkv + h.qkv + h.all, 3 * h.all);
    tile_store<I, J>(a, column, dv, dqkv + h.qkv + 2 * h.all, 3 * h.all);
}

/* A block takes a tile of rows, as forward does. dq += dscores k. */
template <class T, int I, int J>
__global__ void __launch_bounds__(THREADS)
    query_gradient_kernel(attention a, const T *qkv, const float *saved, const float *inner, const T *dout, T *dqkv) {
    typedef tiling<I, J> t;
    CUDA_SHARED(float, q);
    float *k = q + t::ROWS, *v = k + t::ROWS, *d = v + t::ROWS, *square = d + t::ROWS;
    unsigned row = (a.tiles - 1 - blockIdx.x % a.tiles) * t::TILE;
    head h = head_of(a, blockIdx.x / a.tiles);
    float dq[I][J] = {};
    tile_load<I, J>(a, row, qkv + h.qkv, 3 * h.all, q);
    tile_load<I, J>(a, row, dout + h.out, h.all, d);
    for (unsigned column = 0; column <= row; column += t::TILE) {
        float scores[I][I] = {}, dp[I][I] = {};
        __syncthreads(); /* nobody reads the last k, v and square any more */
        tile_load<I, J>(a, column, qkv + h.qkv + h.all, 3 * h.all, k);
        tile_load<I, J>(a, column, qkv + h.qkv + 2 * h.all, 3 * h.all, v);
        __syncthreads();
        product(scores, a.width, q, t::STRIDE, 1, k, 1, t::STRIDE);
        product(dp, a.width, d, t::STRIDE, 1, v, 1, t::STRIDE);
        score_gradients<I>(a, row, column, saved + h.row, inner + h.row, scores, dp);
        square_store<I>(dp, square);
        __syncthreads();
        product(dq, t::TILE, square, t::TILE + 1, 1, k, t::STRIDE, 1);
    }
    tile_store<I, J>(a, row, dq, dqkv + h.qkv, 3 * h.all);
}

/* ---- on the host */

struct call {
    struct cuda_stream *s;
    const struct device_attention *shape;
    const struct activation *qkv, *out, *dout;
    const float *saved;
    struct activation *y, *dqkv;
    float *saved_out, *inner;
};

template <int I> attention attention_of(const struct device_attention *shape) {
    return {shape->time, shape->heads, shape->width, cuda_ceil(shape->time, SIDE * I),
            1.0f / sqrtf((float)shape->width)};
}

template <class T, int I, int J> void forward(const call &c) {
    typedef tiling<I, J> t;
    attention a = attention_of<I>(c.shape);
    unsigned grid = a.tiles * c.shape->batch * c.shape->heads, bytes = (3 * t::ROWS + t::SQUARE) * sizeof(float);
    auto kernel = forward_kernel<T, I, J>;
    if (CUDA_ALLOW_SHARED(c.s, kernel, bytes))
        CUDA_LAUNCH(c.s, kernel, grid, THREADS, bytes, a, cuda_of<T>(c.qkv), cuda_of<T>(c.y), c.saved_out);
}

template <class T, int I, int J> void backward(const call &c) {
    typedef tiling<I, J> t;
    attention a = attention_of<I>(c.shape);
    size_t rows = (size_t)c.shape->batch * a.time * a.heads;
    unsigned grid = a.tiles * c.shape->batch * c.shape->heads, bytes = (4 * t::ROWS + t::SQUARE) * sizeof(float);
    auto keys = key_gradient_kernel<T, I, J>, queries = query_gradient_kernel<T, I, J>;
    if (!CUDA_ALLOW_SHARED(c.s, keys, bytes) || !CUDA_ALLOW_SHARED(c.s, queries, bytes))
        return;
    CUDA_LAUNCH(c.s, inner_kernel<T>, cuda_ceil(rows, CUDA_TILE_ROWS), dim3(CUDA_WARP, CUDA_TILE_ROWS), 0, rows, a,
                cuda_of<T>(c.out), cuda_of<T>(c.dout), c.inner);
    CUDA_LAUNCH(c.s, keys, grid, THREADS, bytes, a, cuda_of<T>(c.qkv), c.saved, c.inner, cuda_of<T>(c.dout),
                cuda_of<T>(c.dqkv));
    CUDA_LAUNCH(c.s, queries, grid, THREADS, bytes, a, cuda_of<T>(c.qkv), c.saved, c.inner, cuda_of<T>(c.dout),
                cuda_of<T>(c.dqkv));
}

/* False where there is nothing to do, or, with the failure kept, where a head is too wide. */
bool attention_fits(struct cuda_stream *s, const struct device_attention *shape) {
    if (shape->width > WIDTH_MAX)
        cuda_fail(cuda_device_of(s), LG_UNSUPPORTED, "attention", "heads are at most 256 wide on a GPU");
    return shape->width > 0 && shape->width <= WIDTH_MAX && shape->time > 0 && shape->batch > 0 && shape->heads > 0;
}

/* The smallest tiling that a head fits. Up to a width of 64, 3 blocks of forward share a multiprocessor of 228 KiB and
 * 2 of backward; a width of 256 takes 135 KiB, which 163 KiB (compute capability 8.0) hold too, and 66 in tiles half as
 * high. */
#define BY_WIDTH(function, c)                                                                                          \
    do {                                                                                                               \
        if ((c).shape->width <= 16)                                                                                    \
            function<T, 4, 1>(c);                                                                                      \
        else if ((c).shape->width <= 32)                                                                               \
            function<T, 4, 2>(c);                                                                                      \
        else if ((c).shape->width <= 64)                                                                               \
            function<T, 4, 4>(c);                                                                                      \
        else if ((c).shape->width <= 128)                                                                              \
            function<T, 2, 8>(c);                                                                                      \
        else if (cuda_device_of((c).s)->shared_bytes_max >= WIDE_SHARED_BYTES)                                         \
            function<T, 2, 16>(c);                                                                                     \
        else                                                                                                           \
            function<T, 1, 16>(c);                                                                                     \
    } while (0)

/* Tensor cores take bf16. With tf32, attention is in f32: docs/decisions/0013-attention-on-tensor-cores.md. GPUs of
 * compute capability 8.6, 8.9 and 12.0 have 99 KiB of shared memory for a block, those of 8.0 and 9.0 163 and more. */
bool on_tensor_cores(struct cuda_stream *s, const struct device_attention *shape) {
    const struct cuda_device *device = cuda_device_of(s);
    unsigned most = device->shared_bytes_max >= ATTENTION_TENSOR_SHARED_BYTES ? ATTENTION_TENSOR_WIDTH_MAX
                                                                              : ATTENTION_TENSOR_NARROW;
    return device->math == CUDA_MATH_BF16 && shape->width <= most;
}

} // namespace

size_t cuda_attention_saved(const struct device_attention *shape) {
    return (size_t)shape->batch * shape->heads * shape->time;
}

void cuda_attention_forward(struct device_stream *base, const struct device_attention *shape,
                            const struct activation *qkv, struct activation *out, float *saved) {
    call c = {};
    c.s = cuda_enter(base);
    c.shape = shape;
    c.qkv = qkv;
    c.y = out;
    c.saved_out = saved;
    if (!attention_fits(c.s, shape))
        return;
    if (on_tensor_cores(c.s, shape))
        attention_tensor_forward(c.s, shape, cuda_of<__nv_bfloat16>(qkv), cuda_of<__nv_bfloat16>(out), saved);
    else
        CUDA_BY_TYPE(c.s, BY_WIDTH(forward, c));
}

void cuda_attention_backward(struct device_stream *base, const struct device_attention *shape,
                             const struct activation *qkv, const struct activation *out, const float *saved,
                             const struct activation *dout, struct activation *dqkv) {
    call c = {};
    c.s = cuda_enter(base);
    c.shape = shape;
    c.qkv = qkv;
    c.out = out;
    c.saved = saved;
    c.dout = dout;
    c.dqkv = dqkv;
    if (!attention_fits(c.s, shape))
        return;
    if (on_tensor_cores(c.s, shape)) {
        typedef __nv_bfloat16 T;
        attention_tensor_backward(c.s, shape, cuda_of<T>(qkv), cuda_of<T>(out), saved, cuda_of<T>(dout),
                                  cuda_of<T>(dqkv));
        return;
    }
    c.inner =
        (float *)cuda_scratch(c.s, CUDA_ROOM_OP, "attention_backward", cuda_attention_saved(shape) * sizeof *c.inner);
    if (c.inner)
        CUDA_BY_TYPE(c.s, BY_WIDTH(backward, c));
}
