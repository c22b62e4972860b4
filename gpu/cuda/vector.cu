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

struct same {
    enum { inputs = 1 };
    __device__ float operator()(float x, float) const {
        return x;
    }
};

/* y = x + bias + residual; blocks as in activation.cu. */
template <class T, int Q>
__global__ void bias_residual_kernel(size_t rows, size_t columns, const float *bias, const T *x, const T *residual,
                                     T *y) {
    size_t column = ((size_t)blockIdx.x * CUDA_WARP + threadIdx.x) * Q;
    if (column >= columns)
        return;
    pack<Q> b = pack_load<Q>(bias + column);
    size_t step = (size_t)gridDim.y * CUDA_TILE_ROWS;
    for (size_t r = (size_t)blockIdx.y * CUDA_TILE_ROWS + threadIdx.y; r < rows; r += step) {
        size_t at = r * columns + column;
        pack<Q> p = pack_load<Q>(x + at), z = pack_load<Q>(residual + at);
#pragma unroll
        for (int l = 0; l < Q; l++)
            p.v[l] = (p.v[l] + b.v[l]) + z.v[l];
        pack_store<Q>(y + at, p);
    }
}

/* partial [gridDim.y][columns]: sums over the rows of each chunk. */
template <class T, int Q>
__global__ void column_sums_kernel(size_t rows, size_t columns, size_t rows_each, const T *x, float *partial) {
    chunk c = chunk_of_block<Q>(rows, rows_each);
    pack<Q> total = {};
    if (c.column < columns) {
#pragma unroll 4
        for (size_t r = c.first; r < c.last; r += CUDA_TILE_ROWS) {
            pack<Q> p = pack_load<Q>(x + r * columns + c.column);
#pragma unroll
            for (int l = 0; l < Q; l++)
                total.v[l] += p.v[l];
        }
    }
    total = block_column_sum<Q>(total);
    if (threadIdx.y == 0 && c.column < columns)
        pack_store<Q>(partial + blockIdx.y * columns + c.column, total);
}

/* Blocks of 32 columns x CUDA_TILE_ROWS, each of which takes one chunk in CUDA_TILE_ROWS. */
__global__ void sum_chunks_kernel(unsigned chunks, size_t columns, size_t split, const float *partial, float *first,
                                  float *second) {
    size_t column = (size_t)blockIdx.x * CUDA_WARP + threadIdx.x;
    pack<1> total = {};
    if (column < columns) {
#pragma unroll 8
        for (size_t c = threadIdx.y; c < chunks; c += CUDA_TILE_ROWS)
            total.v[0] += partial[c * columns + column];
    }
    total = block_column_sum<1>(total);
    if (threadIdx.y == 0 && column < split)
        first[column] = total.v[0];
    else if (threadIdx.y == 0 && column < columns)
        second[column - split] = total.v[0];
}

template <class T, int Q>
void column_sums_launch(struct cuda_stream *s, size_t rows, size_t columns, const T *x, float *sums) {
    dim3 grid(cuda_ceil(columns, Q * CUDA_WARP)), block(CUDA_WARP, CUDA_TILE_ROWS);
    unsigned chunks = grid.y = cuda_chunks(s, rows, grid.x);
    float *partial = sums;
    if (chunks > 1)
        partial = (float *)cuda_scratch(s, CUDA_ROOM_OP, "column_sums", chunks * columns * sizeof *partial);
    if (!partial)
        return;
    CUDA_LAUNCH(s, (column_sums_kernel<T, Q>), grid, block, 0, rows, columns, (rows + chunks - 1) / chunks, x, partial);
    if (chunks > 1)
        cuda_sum_chunks(s, chunks, columns, columns, partial, sums, NULL);
}

} // namespace

void cuda_zero(struct device_stream *base, size_t bytes, void *memory) {
    struct cuda_stream *s = cuda_enter(base);
    if (bytes)
        cuda_check(cuda_device_of(s), "zero", cudaMemsetAsync(memory, 0, bytes, s->stream));
}

void cuda_narrow(struct device_stream *base, size_t n, const float *x, struct activation *y) {
    struct cuda_stream *s = cuda_enter(base);
    CUDA_BY_TYPE(s, map(base, n, x, (const float *)NULL, cuda_of<T>(y), same()));
}

void cuda_widen(struct device_stream *base, size_t n, const struct activation *x, float *y) {
    struct cuda_stream *s = cuda_enter(base);
    CUDA_BY_TYPE(s, map(base, n, cuda_of<T>(x), (const T *)NULL, y, same()));
}

void cuda_fill(struct device_stream *s, size_t n, float value, float *x) {
    constant f = {value};
    map(s, n, (const float *)NULL, (const float *)NULL, x, f);
}

void cuda_scale(struct device_stream *s, size_t n, float a, float *x) {
    scaled f = {a};
    map(s, n, (const float *)x, (const float *)NULL, x, f);
}

void cuda_axpy(struct device_stream *s, size_t n, float a, const float *x, float *y) {
    axpy f = {a};
    map(s, n, x, (const float *)y, y, f);
}

void cuda_add(struct device_stream *base, size_t n, const struct activation *a, const struct activation *b,
              struct activation *y) {
    struct cuda_stream *s = cuda_enter(base);
    CUDA_BY_TYPE(s, map(base, n, cuda_of<T>(a), cuda_of<T>(b), cuda_of<T>(y), sum()));
}

void cuda_bias_residual(struct device_stream *base, uint32_t rows, uint32_t columns, const float *bias,
                        const struct activation *x, const struct activation *residual, struct activation *y) {
    if (rows == 0 || columns == 0)
        return;
    struct cuda_stream *s = cuda_enter(base);
    dim3 block(CUDA_WARP, CUDA_TILE_ROWS);
    unsigned tall = cuda_spread(s, rows, CUDA_TILE_ROWS);
    CUDA_BY_TYPE(s, CUDA_LAUNCH_PACKED(
                        s, bias_residual_kernel, columns, (bias, x, residual, y),
                        dim3(cuda_ceil(columns, Q * CUDA_WARP), cuda_ceil(tall, cuda_ceil(columns, Q * CUDA_WARP))),
                        block, rows, columns, bias, cuda_of<T>(x), cuda_of<T>(residual), cuda_of<T>(y)));
}

/* About four blocks a multiprocessor, but no chunk of less than 8 rows a thread. */
unsigned cuda_chunks(struct cuda_stream *s, size_t rows, unsigned wide) {
    size_t wanted = (size_t)cuda_device_of(s)->multiprocessors * 4 / wide;
    size_t most = rows / (8 * CUDA_TILE_ROWS);
    size_t chunks = wanted < most ? wanted : most;
    return chunks < 1 ? 1 : (unsigned)chunks;
}

void cuda_sum_chunks(struct cuda_stream *s, unsigned chunks, size_t columns, size_t split, const float *partial,
                     float *first, float *second) {
    dim3 block(CUDA_WARP, CUDA_TILE_ROWS);
    CUDA_LAUNCH(s, sum_chunks_kernel, cuda_ceil(columns, CUDA_WARP), block, 0, chunks, columns, split, partial, first,
                second);
}

void cuda_column_sums_of(struct cuda_stream *s, size_t rows, size_t columns, const struct activation *x, float *sums) {
    if (columns == 0)
        return;
    CUDA_BY_TYPE(s, {
        constexpr int Q = cuda_pack_of<T>::COUNT;
        if (columns % Q == 0 && cuda_aligned(x, sums))
            column_sums_launch<T, Q>(s, rows, columns, cuda_of<T>(x), sums);
        else
            column_sums_launch<T, 1>(s, rows, columns, cuda_of<T>(x), sums);
    });
}

void cuda_column_sums(struct device_stream *s, uint32_t rows, uint32_t columns, const struct activation *x,
                      float *sums) {
    cuda_column_sums_of(cuda_enter(s), rows, columns, x, sums);
}
