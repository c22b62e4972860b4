/* Layer normalisation: a warp takes a row. */
#include "gpu/cuda/cuda.cuh"

namespace {

/* Row and lane of this thread, in blocks of CUDA_TILE_ROWS warps. */
CUDA_INLINE size_t row_of_warp(void) {
    return (size_t)blockIdx.x * CUDA_TILE_ROWS + threadIdx.y;
}

template <class T, int Q>
__global__ void norm_kernel(size_t rows, size_t n, float epsilon, const T *x, const float *gain, const float *bias,
                            T *y, float *mean_out, float *rstd_out) {
    size_t row = row_of_warp(), first = threadIdx.x * Q, step = CUDA_WARP * Q;
    if (row >= rows) /* the whole warp */
        return;
    x += row * n;
    y += row * n;
    float sum = 0, squares = 0;
    for (size_t i = first; i < n; i += step) {
        pack<Q> p = pack_load<Q>(x + i);
#pragma unroll
        for (int l = 0; l < Q; l++)
            sum += p.v[l];
    }
    float mean = warp_sum(sum) / (float)n;
    for (size_t i = first; i < n; i += step) {
        pack<Q> p = pack_load<Q>(x + i);
#pragma unroll
        for (int l = 0; l < Q; l++)
            squares += (p.v[l] - mean) * (p.v[l] - mean);
    }
    float rstd = 1.0f / sqrtf(warp_sum(squares) / (float)n + epsilon);
    for (size_t i = first; i < n; i += step) {
        pack<Q> p = pack_load<Q>(x + i), g = pack_load<Q>(gain + i), b = pack_load<Q>(bias + i);
#pragma unroll
        for (int l = 0; l < Q; l++)
            p.v[l] = (p.v[l] - mean) * rstd * g.v[l] + b.v[l];
        pack_store<Q>(y + i, p);
    }
    if (threadIdx.x == 0) {
        mean_out[row] = mean;
        rstd_out[row] = rstd;
    }
}

/* With h = (x - mean) rstd and g = gain dy: dx += rstd (g - mean(g) - h mean(g h)). */
template <class T, int Q>
__global__ void norm_gradient_kernel(size_t rows, size_t n, const T *x, const float *gain, const float *means,
                                     const float *rstds, const T *dy, T *dx) {
    size_t row = row_of_warp(), first = threadIdx.x * Q, step = CUDA_WARP * Q;
    if (row >= rows)
        return;
    x += row * n;
    dy += row * n;
    dx += row * n;
    float mean = means[row], rstd = rstds[row], g_sum = 0, gh_sum = 0;
    for (size_t i = first; i < n; i += step) {
        pack<Q> p = pack_load<Q>(x + i), g = pack_load<Q>(gain + i), d = pack_load<Q>(dy + i);
#pragma unroll
        for (int l = 0; l < Q; l++) {
            g_sum += g.v[l] * d.v[l];
            gh_sum += g.v[l] * d.v[l] * (p.v[l] - mean) * rstd;
        }
    }
    float g_mean = warp_sum(g_sum) / (float)n, gh_mean = warp_sum(gh_sum) / (float)n;
    for (size_t i = first; i < n; i += step) {
        pack<Q> p = pack_load<Q>(x + i), g = pack_load<Q>(gain + i), d = pack_load<Q>(dy + i);
        pack<Q> out = pack_load<Q>(dx + i);
#pragma unroll
        for (int l = 0; l < Q; l++)
            out.v[l] += rstd * (g.v[l] * d.v[l] - g_mean - (p.v[l] - mean) * rstd * gh_mean);
        pack_store<Q>(dx + i, out);
    }
}

/* All of backward in one pass, for rows that fit a warp's registers: K packs of Q a lane. A block takes the rows of a
 * chunk, a warp one in CUDA_TILE_ROWS. partial [gridDim.x][2][n]: as norm_columns_kernel's. */
template <class T, int Q, int K>
__global__ void __launch_bounds__(CUDA_BLOCK, Q *K <= 24 ? 2 : 1)
    norm_backward_kernel(size_t rows, size_t n, size_t rows_each, const T *x, const float *gain, const float *means,
                         const float *rstds, const T *dy, T *dx, float *partial) {
    size_t first = blockIdx.x * rows_each, last = first + rows_each < rows ? first + rows_each : rows;
    pack<Q> gains[K] = {}, biases[K] = {};
    for (size_t row = first + threadIdx.y; row < last; row += CUDA_TILE_ROWS) {
        float mean = means[row], rstd = rstds[row], g_sum = 0, gh_sum = 0;
        pack<Q> h[K], g[K];
#pragma unroll
        for (int k = 0; k < K; k++) {
            size_t column = (k * CUDA_WARP + threadIdx.x) * (size_t)Q;
            if (column >= n)
                continue;
            pack<Q> d = pack_load<Q>(dy + row * n + column);
            h[k] = pack_load<Q>(x + row * n + column);
            g[k] = pack_load<Q>(gain + column);
#pragma unroll
            for (int l = 0; l < Q; l++) {
                h[k].v[l] = (h[k].v[l] - mean) * rstd;
                gains[k].v[l] += d.v[l] * h[k].v[l];
                biases[k].v[l] += d.v[l];
                g[k].v[l] *= d.v[l];
                g_sum += g[k].v[l];
                gh_sum += g[k].v[l] * h[k].v[l];
            }
        }
        float g_mean = warp_sum(g_sum) / (float)n, gh_mean = warp_sum(gh_sum) / (float)n;
#pragma unroll
        for (int k = 0; k < K; k++) {
            size_t column = (k * CUDA_WARP + threadIdx.x) * (size_t)Q;
            if (column >= n)
                continue;
            pack<Q> out = pack_load<Q>(dx + row * n + column);
#pragma unroll
            for (int l = 0; l < Q; l++)
                out.v[l] += rstd * (g[k].v[l] - g_mean - h[k].v[l] * gh_mean);
            pack_store<Q>(dx + row * n + column, out);
        }
    }
#pragma unroll
    for (int k = 0; k < K; k++) {
        size_t column = (k * CUDA_WARP + threadIdx.x) * (size_t)Q;
        pack<Q> gain_sum = block_column_sum<Q>(gains[k]), bias_sum = block_column_sum<Q>(biases[k]);
        if (threadIdx.y > 0 || column >= n)
            continue;
        pack_store<Q>(partial + blockIdx.x * 2 * n + column, gain_sum);
        pack_store<Q>(partial + (blockIdx.x * 2 + 1) * n + column, bias_sum);
    }
}

/* Sums over the rows of each chunk: of dy h, and of dy. partial [gridDim.y][2][n]. */
template <class T, int Q>
__global__ void norm_columns_kernel(size_t rows, size_t n, size_t rows_each, const T *x, const float *means,
                                    const float *rstds, const T *dy, float *partial) {
    chunk c = chunk_of_block<Q>(rows, rows_each);
    pack<Q> gain = {}, bias = {};
    if (c.column < n) {
#pragma unroll 2
        for (size_t r = c.first; r < c.last; r += CUDA_TILE_ROWS) {
            pack<Q> p = pack_load<Q>(x + r * n + c.column), d = pack_load<Q>(dy + r * n + c.column);
            float mean = means[r], rstd = rstds[r];
#pragma unroll
            for (int l = 0; l < Q; l++) {
                gain.v[l] += d.v[l] * ((p.v[l] - mean) * rstd);
                bias.v[l] += d.v[l];
            }
        }
    }
    gain = block_column_sum<Q>(gain);
    bias = block_column_sum<Q>(bias);
    if (threadIdx.y > 0 || c.column >= n)
        return;
    pack_store<Q>(partial + blockIdx.y * 2 * n + c.column, gain);
    pack_store<Q>(partial + (blockIdx.y * 2 + 1) * n + c.column, bias);
}

template <class T, int Q>
void column_gradients(struct cuda_stream *s, size_t rows, size_t n, const T *x, const float *mean, const float *rstd,
                      const T *dy, float *dgain, float *dbias) {
    dim3 grid(cuda_ceil(n, Q * CUDA_WARP)), block(CUDA_WARP, CUDA_TILE_ROWS);
    unsigned chunks = grid.y = cuda_chunks(s, rows, grid.x);
    float *partial = (float *)cuda_scratch(s, CUDA_ROOM_OP, "norm_backward", 2 * chunks * n * sizeof *partial);
    if (!partial)
        return;
    CUDA_LAUNCH(s, (norm_columns_kernel<T, Q>), grid, block, 0, rows, n, (rows + chunks - 1) / chunks, x, mean, rstd,
                dy, partial);
    cuda_sum_chunks(s, chunks, 2 * n, n, partial, dgain, dbias);
}

/* A lane's columns, of which norm_backward_kernel takes at most this many. */
constexpr size_t LANE_COLUMNS = 8, LANE_COLUMNS_MAX = 32;

template <class T, int K>
void backward_launch(struct cuda_stream *s, size_t rows, size_t n, const T *x, const float *gain, const float *mean,
                     const float *rstd, const T *dy, T *dx, float *dgain, float *dbias) {
    constexpr int Q = cuda_pack_of<T>::COUNT;
    size_t each = cuda_ceil(rows, cuda_device_of(s)->multiprocessors * 2);
    each = each < CUDA_TILE_ROWS ? (size_t)CUDA_TILE_ROWS : each;
    unsigned chunks = cuda_ceil(rows, each);
    float *partial = (float *)cuda_scratch(s, CUDA_ROOM_OP, "norm_backward", 2 * chunks * n * sizeof *partial);
    if (!partial)
        return;
    CUDA_LAUNCH(s, (norm_backward_kernel<T, Q, K>), chunks, dim3(CUDA_WARP, CUDA_TILE_ROWS), 0, rows, n, each, x, gain,
                mean, rstd, dy, dx, partial);
    cuda_sum_chunks(s, chunks, 2 * n, n, partial, dgain, dbias);
}

/* False where rows are too long, or cannot be taken in packs. */
template <class T>
bool backward_at_once(struct cuda_stream *s, size_t rows, size_t n, const T *x, const float *gain, const float *mean,
                      const float *rstd, const T *dy, T *dx, float *dgain, float *dbias) {
    constexpr int Q = cuda_pack_of<T>::COUNT, K = (int)LANE_COLUMNS / Q;
    if (rows == 0 || n % Q != 0 || !cuda_aligned(x, gain, dy, dx) || n > (size_t)CUDA_WARP * LANE_COLUMNS_MAX)
        return false;
    switch (cuda_ceil(n, CUDA_WARP * LANE_COLUMNS)) {
    case 1:
        backward_launch<T, K>(s, rows, n, x, gain, mean, rstd, dy, dx, dgain, dbias);
        return true;
    case 2:
        backward_launch<T, 2 * K>(s, rows, n, x, gain, mean, rstd, dy, dx, dgain, dbias);
        return true;
    case 3:
        backward_launch<T, 3 * K>(s, rows, n, x, gain, mean, rstd, dy, dx, dgain, dbias);
        return true;
    default:
        backward_launch<T, 4 * K>(s, rows, n, x, gain, mean, rstd, dy, dx, dgain, dbias);
        return true;
    }
}

} // namespace

void cuda_norm_forward(struct device_stream *base, uint32_t rows, uint32_t columns, float epsilon,
                       const struct activation *x, const float *gain, const float *bias, struct activation *y,
                       float *mean, float *rstd) {
    if (rows == 0 || columns == 0)
        return;
    struct cuda_stream *s = cuda_enter(base);
    dim3 block(CUDA_WARP, CUDA_TILE_ROWS);
    CUDA_BY_TYPE(s,
                 CUDA_LAUNCH_PACKED(s, norm_kernel, columns, (x, gain, bias, y), cuda_ceil(rows, CUDA_TILE_ROWS), block,
                                    rows, columns, epsilon, cuda_of<T>(x), gain, bias, cuda_of<T>(y), mean, rstd));
}

void cuda_norm_backward(struct device_stream *base, uint32_t rows, uint32_t columns, const struct activation *x,
                        const float *gain, const float *mean, const float *rstd, const struct activation *dy,
                        struct activation *dx, float *dgain, float *dbias) {
    if (columns == 0)
        return;
    struct cuda_stream *s = cuda_enter(base);
    dim3 block(CUDA_WARP, CUDA_TILE_ROWS);
    CUDA_BY_TYPE(s, if (backward_at_once(s, rows, columns, cuda_of<T>(x), gain, mean, rstd, cuda_of<T>(dy),
                                         cuda_of<T>(dx), dgain, dbias)) return );
    CUDA_BY_TYPE(s, {
        constexpr int Q = cuda_pack_of<T>::COUNT;
        const T *in = cuda_of<T>(x), *d = cuda_of<T>(dy);
        if (columns % Q == 0 && cuda_aligned(x, dy))
            column_gradients<T, Q>(s, rows, columns, in, mean, rstd, d, dgain, dbias);
        else
            column_gradients<T, 1>(s, rows, columns, in, mean, rstd, d, dgain, dbias);
    });
    if (rows == 0)
        return;
    CUDA_BY_TYPE(s, CUDA_LAUNCH_PACKED(s, norm_gradient_kernel, columns, (x, gain, dy, dx),
                                       cuda_ceil(rows, CUDA_TILE_ROWS), block, rows, columns, cuda_of<T>(x), gain, mean,
                                       rstd, cuda_of<T>(dy), cuda_of<T>(dx)));
}
