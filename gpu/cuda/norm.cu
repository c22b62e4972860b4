/* Layer normalisation: a warp takes a row. */
#include "gpu/cuda/cuda.cuh"

namespace {

/* Row and lane of this thread, in blocks of CUDA_TILE_ROWS warps. */
CUDA_INLINE size_t row_of_warp(void) {
    return (size_t)blockIdx.x * CUDA_TILE_ROWS + threadIdx.y;
}

template <int Q>
__global__ void norm_kernel(size_t rows, size_t n, float epsilon, const float *x, const float *gain, const float *bias,
                            float *y, float *mean_out, float *rstd_out) {
    size_t row = row_of_warp(), first = threadIdx.x * Q, step = CUDA_WARP * Q;
    if (row >= rows) /* the whole warp */
        return;
    x += row * n;
    y += row * n;
    float sum = 0, squares = 0;
    for (size_t i = first; i < n; i += step) {
        pack<Q> p = pack_load<Q>(x + i);
        for (int l = 0; l < Q; l++)
            sum += p.v[l];
    }
    float mean = warp_sum(sum) / (float)n;
    for (size_t i = first; i < n; i += step) {
        pack<Q> p = pack_load<Q>(x + i);
        for (int l = 0; l < Q; l++)
            squares += (p.v[l] - mean) * (p.v[l] - mean);
    }
    float rstd = 1.0f / sqrtf(warp_sum(squares) / (float)n + epsilon);
    for (size_t i = first; i < n; i += step) {
        pack<Q> p = pack_load<Q>(x + i), g = pack_load<Q>(gain + i), b = pack_load<Q>(bias + i);
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
template <int Q>
__global__ void norm_gradient_kernel(size_t rows, size_t n, const float *x, const float *gain, const float *means,
                                     const float *rstds, const float *dy, float *dx) {
    size_t row = row_of_warp(), first = threadIdx.x * Q, step = CUDA_WARP * Q;
    if (row >= rows)
        return;
    x += row * n;
    dy += row * n;
    dx += row * n;
    float mean = means[row], rstd = rstds[row], g_sum = 0, gh_sum = 0;
    for (size_t i = first; i < n; i += step) {
        pack<Q> p = pack_load<Q>(x + i), g = pack_load<Q>(gain + i), d = pack_load<Q>(dy + i);
        for (int l = 0; l < Q; l++) {
            g_sum += g.v[l] * d.v[l];
            gh_sum += g.v[l] * d.v[l] * (p.v[l] - mean) * rstd;
        }
    }
    float g_mean = warp_sum(g_sum) / (float)n, gh_mean = warp_sum(gh_sum) / (float)n;
    for (size_t i = first; i < n; i += step) {
        pack<Q> p = pack_load<Q>(x + i), g = pack_load<Q>(gain + i), d = pack_load<Q>(dy + i);
        pack<Q> out = pack_load<Q>(dx + i);
        for (int l = 0; l < Q; l++)
            out.v[l] += rstd * (g.v[l] * d.v[l] - g_mean - (p.v[l] - mean) * rstd * gh_mean);
        pack_store<Q>(dx + i, out);
    }
}

/* Sums over the rows of each chunk: of dy h, and of dy. dgain, dbias [gridDim.y][n]. Blocks as in vector.cu. */
__global__ void norm_columns_kernel(size_t rows, size_t n, size_t rows_each, const float *x, const float *means,
                                    const float *rstds, const float *dy, float *dgain, float *dbias) {
    __shared__ float gains[CUDA_TILE_ROWS][CUDA_WARP], biases[CUDA_TILE_ROWS][CUDA_WARP];
    size_t column = (size_t)blockIdx.x * CUDA_WARP + threadIdx.x;
    size_t first = blockIdx.y * rows_each, last = first + rows_each < rows ? first + rows_each : rows;
    float gain = 0, bias = 0;
    if (column < n) {
        for (size_t r = first + threadIdx.y; r < last; r += CUDA_TILE_ROWS) {
            float d = dy[r * n + column];
            gain += d * ((x[r * n + column] - means[r]) * rstds[r]);
            bias += d;
        }
    }
    gains[threadIdx.y][threadIdx.x] = gain;
    biases[threadIdx.y][threadIdx.x] = bias;
    __syncthreads();
    if (threadIdx.y > 0 || column >= n)
        return;
    for (int l = 1; l < CUDA_TILE_ROWS; l++) {
        gain += gains[l][threadIdx.x];
        bias += biases[l][threadIdx.x];
    }
    dgain[blockIdx.y * n + column] = gain;
    dbias[blockIdx.y * n + column] = bias;
}

void column_gradients(struct cuda_stream *s, size_t rows, size_t n, const float *x, const float *mean,
                      const float *rstd, const float *dy, float *dgain, float *dbias) {
    unsigned chunks = cuda_chunks(s, rows, n);
    float *gains = dgain, *biases = dbias;
    if (chunks > 1) {
        gains = (float *)cuda_scratch(s, CUDA_ROOM_OP, "norm_backward", 2 * chunks * n * sizeof *gains);
        if (!gains)
            return;
        biases = gains + chunks * n;
    }
    dim3 grid(cuda_ceil(n, CUDA_WARP), chunks), block(CUDA_WARP, CUDA_TILE_ROWS);
    CUDA_LAUNCH(s, norm_columns_kernel, grid, block, 0, rows, n, (rows + chunks - 1) / chunks, x, mean, rstd, dy, gains,
                biases);
    if (chunks > 1) {
        cuda_sum_chunks(s, chunks, n, gains, dgain);
        cuda_sum_chunks(s, chunks, n, biases, dbias);
    }
}

} // namespace

void cuda_norm_forward(struct device_stream *base, uint32_t rows, uint32_t columns, float epsilon, const float *x,
                       const float *gain, const float *bias, float *y, float *mean, float *rstd) {
    if (rows == 0 || columns == 0)
        return;
    struct cuda_stream *s = cuda_enter(base);
    dim3 block(CUDA_WARP, CUDA_TILE_ROWS);
    unsigned grid = cuda_ceil(rows, CUDA_TILE_ROWS);
    if (cuda_quads(columns, x, gain, bias, y))
        CUDA_LAUNCH(s, norm_kernel<4>, grid, block, 0, rows, columns, epsilon, x, gain, bias, y, mean, rstd);
    else
        CUDA_LAUNCH(s, norm_kernel<1>, grid, block, 0, rows, columns, epsilon, x, gain, bias, y, mean, rstd);
}

void cuda_norm_backward(struct device_stream *base, uint32_t rows, uint32_t columns, const float *x, const float *gain,
                        const float *mean, const float *rstd, const float *dy, float *dx, float *dgain, float *dbias) {
    if (columns == 0)
        return;
    struct cuda_stream *s = cuda_enter(base);
    dim3 block(CUDA_WARP, CUDA_TILE_ROWS);
    unsigned grid = cuda_ceil(rows, CUDA_TILE_ROWS);
    column_gradients(s, rows, columns, x, mean, rstd, dy, dgain, dbias);
    if (rows == 0)
        return;
    if (cuda_quads(columns, x, gain, dy, dx))
        CUDA_LAUNCH(s, norm_gradient_kernel<4>, grid, block, 0, rows, columns, x, gain, mean, rstd, dy, dx);
    else
        CUDA_LAUNCH(s, norm_gradient_kernel<1>, grid, block, 0, rows, columns, x, gain, mean, rstd, dy, dx);
}
