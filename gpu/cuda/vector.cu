/* Element by element: fills, sums, scaling; biases, and sums over rows. */
#include "gpu/cuda/map.cuh"

namespace {

struct constant {
    enum { inputs = 0 };
    float value;
    __device__ float operator()(float, float) const {
        return value;
    }
};

struct scaled {
    enum { inputs = 1 };
    float a;
    __device__ float operator()(float x, float) const {
        return a * x;
    }
};

/* Rounded after the product too, as on the CPU. */
struct axpy {
    enum { inputs = 2 };
    float a;
    __device__ float operator()(float x, float y) const {
        return __fadd_rn(y, __fmul_rn(a, x));
    }
};

struct sum {
    enum { inputs = 2 };
    __device__ float operator()(float x, float y) const {
        return x + y;
    }
};

/* Blocks of 32 packs of columns x CUDA_TILE_ROWS rows; each thread keeps its part of the bias. */
template <int Q> __global__ void bias_kernel(size_t rows, size_t columns, const float *bias, float *x) {
    size_t column = ((size_t)blockIdx.x * CUDA_WARP + threadIdx.x) * Q;
    if (column >= columns)
        return;
    pack<Q> b = pack_load<Q>(bias + column);
    size_t step = (size_t)gridDim.y * CUDA_TILE_ROWS;
    for (size_t r = (size_t)blockIdx.y * CUDA_TILE_ROWS + threadIdx.y; r < rows; r += step) {
        pack<Q> p = pack_load<Q>(x + r * columns + column);
        for (int l = 0; l < Q; l++)
            p.v[l] += b.v[l];
        pack_store<Q>(x + r * columns + column, p);
    }
}

/* partial [gridDim.y][columns]: sums over the rows of each chunk. */
__global__ void column_sums_kernel(size_t rows, size_t columns, size_t rows_each, const float *x, float *partial) {
    __shared__ float sums[CUDA_TILE_ROWS][CUDA_WARP];
    size_t column = (size_t)blockIdx.x * CUDA_WARP + threadIdx.x;
    size_t first = blockIdx.y * rows_each, last = first + rows_each < rows ? first + rows_each : rows;
    float total = 0;
    if (column < columns)
        for (size_t r = first + threadIdx.y; r < last; r += CUDA_TILE_ROWS)
            total += x[r * columns + column];
    sums[threadIdx.y][threadIdx.x] = total;
    __syncthreads();
    if (threadIdx.y > 0 || column >= columns)
        return;
    for (int l = 1; l < CUDA_TILE_ROWS; l++)
        total += sums[l][threadIdx.x];
    partial[blockIdx.y * columns + column] = total;
}

__global__ void sum_chunks_kernel(unsigned chunks, size_t columns, const float *partial, float *sums) {
    for (size_t i = cuda_thread(); i < columns; i += cuda_threads()) {
        float total = 0;
        for (size_t c = 0; c < chunks; c++)
            total += partial[c * columns + i];
        sums[i] = total;
    }
}

} // namespace

void cuda_fill(struct device_stream *s, size_t n, float value, float *x) {
    constant f = {value};
    map(s, n, NULL, NULL, x, f);
}

void cuda_scale(struct device_stream *s, size_t n, float a, float *x) {
    scaled f = {a};
    map(s, n, x, NULL, x, f);
}

void cuda_axpy(struct device_stream *s, size_t n, float a, const float *x, float *y) {
    axpy f = {a};
    map(s, n, x, y, y, f);
}

void cuda_add(struct device_stream *s, size_t n, const float *a, const float *b, float *y) {
    map(s, n, a, b, y, sum());
}

void cuda_bias_add(struct device_stream *base, uint32_t rows, uint32_t columns, const float *bias, float *x) {
    if (rows == 0 || columns == 0)
        return;
    struct cuda_stream *s = cuda_enter(base);
    bool quads = cuda_quads(columns, bias, x);
    dim3 grid(cuda_ceil(columns, quads ? 4 * CUDA_WARP : CUDA_WARP)), block(CUDA_WARP, CUDA_TILE_ROWS);
    unsigned tall = cuda_spread(s, rows, CUDA_TILE_ROWS) / grid.x;
    grid.y = tall < 1 ? 1 : tall;
    if (quads)
        CUDA_LAUNCH(s, bias_kernel<4>, grid, block, 0, rows, columns, bias, x);
    else
        CUDA_LAUNCH(s, bias_kernel<1>, grid, block, 0, rows, columns, bias, x);
}

/* About four blocks a multiprocessor, but no chunk of less than 8 rows a thread. */
unsigned cuda_chunks(struct cuda_stream *s, size_t rows, size_t columns) {
    size_t wanted = (size_t)cuda_device_of(s)->multiprocessors * 4 / (1 + columns / CUDA_WARP);
    size_t most = rows / (8 * CUDA_TILE_ROWS);
    size_t chunks = wanted < most ? wanted : most;
    return chunks < 1 ? 1 : (unsigned)chunks;
}

void cuda_sum_chunks(struct cuda_stream *s, unsigned chunks, size_t columns, const float *partial, float *sums) {
    CUDA_LAUNCH(s, sum_chunks_kernel, cuda_spread(s, columns, CUDA_BLOCK), CUDA_BLOCK, 0, chunks, columns, partial,
                sums);
}

void cuda_column_sums_of(struct cuda_stream *s, size_t rows, size_t columns, const float *x, float *sums) {
    if (columns == 0)
        return;
    unsigned chunks = cuda_chunks(s, rows, columns);
    float *partial = sums;
    if (chunks > 1)
        partial = (float *)cuda_scratch(s, CUDA_ROOM_OP, "column_sums", chunks * columns * sizeof *partial);
    if (!partial)
        return;
    dim3 grid(cuda_ceil(columns, CUDA_WARP), chunks), block(CUDA_WARP, CUDA_TILE_ROWS);
    CUDA_LAUNCH(s, column_sums_kernel, grid, block, 0, rows, columns, (rows + chunks - 1) / chunks, x, partial);
    if (chunks > 1)
        cuda_sum_chunks(s, chunks, columns, partial, sums);
}

void cuda_column_sums(struct device_stream *s, uint32_t rows, uint32_t columns, const float *x, float *sums) {
    cuda_column_sums_of(cuda_enter(s), rows, columns, x, sums);
}
