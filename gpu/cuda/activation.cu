/* ReLU and GELU, alone and with the bias before them. */
#include "gpu/cuda/map.cuh"

namespace {

struct nothing {
    enum { inputs = 1, keeps = 0 };
    __device__ float operator()(float x, float) const {
        return x;
    }
};

struct relu {
    enum { inputs = 1, keeps = 0 };
    __device__ float operator()(float x, float) const {
        return x > 0 ? x : 0;
    }
};

struct relu_gradient {
    enum { inputs = 2 };
    __device__ float operator()(float y, float dy) const {
        return y > 0 ? dy : 0;
    }
};

/* 1 / (1 + e^-2u) with u = sqrt(2/pi) (x + 0.044715 x^3), so that GELU(x) = x * gate(x): tanh u = 2 sigmoid(2u) - 1. */
CUDA_INLINE float gate(float x) {
    return 1.0f / (1.0f + expf(-1.59576912f * (x + 0.044715f * x * x * x)));
}

struct gelu {
    enum { inputs = 1, keeps = 1 }; /* backward needs what it was given */
    __device__ float operator()(float x, float) const {
        return x * gate(x);
    }
};

/* d(x s)/dx = s + x s (1 - s) 2u' with 2u' = 2 sqrt(2/pi) (1 + 3 * 0.044715 x^2). */
struct gelu_gradient {
    enum { inputs = 2 };
    __device__ float operator()(float x, float dy) const {
        float s = gate(x);
        return dy * (s + x * s * (1.0f - s) * (1.59576912f * (1.0f + 0.134145f * x * x)));
    }
};

/* Blocks of 32 packs of columns x CUDA_TILE_ROWS rows; each thread keeps its part of the bias. y = f(x + bias); the sum
 * goes back to x too where F keeps it. */
template <class T, int Q, class F>
__global__ void bias_kernel(size_t rows, size_t columns, const float *bias, T *x, T *y, F f) {
    size_t column = ((size_t)blockIdx.x * CUDA_WARP + threadIdx.x) * Q;
    if (column >= columns)
        return;
    pack<Q> b = pack_load<Q>(bias + column);
    size_t step = (size_t)gridDim.y * CUDA_TILE_ROWS;
    for (size_t r = (size_t)blockIdx.y * CUDA_TILE_ROWS + threadIdx.y; r < rows; r += step) {
        pack<Q> p = pack_load<Q>(x + r * columns + column), out;
#pragma unroll
        for (int l = 0; l < Q; l++) {
            p.v[l] += b.v[l];
            out.v[l] = f(p.v[l], 0);
        }
        if (F::keeps)
            pack_store<Q>(x + r * columns + column, p);
        pack_store<Q>(y + r * columns + column, out);
    }
}

/* dx = f(x, dy), and the sums of dx over the rows of each chunk: partial [gridDim.y][columns]. */
template <class T, int Q, class F>
__global__ void gradient_sums_kernel(size_t rows, size_t columns, size_t rows_each, const T *x, const T *dy, T *dx,
                                     float *partial, F f) {
    chunk c = chunk_of_block<Q>(rows, rows_each);
    pack<Q> total = {};
    if (c.column < columns) {
        for (size_t r = c.first; r < c.last; r += CUDA_TILE_ROWS) {
            size_t at = r * columns + c.column;
            pack<Q> p = pack_load<Q>(x + at), d = pack_load<Q>(dy + at);
#pragma unroll
            for (int l = 0; l < Q; l++) {
                d.v[l] = f(p.v[l], d.v[l]);
                total.v[l] += d.v[l];
            }
            pack_store<Q>(dx + at, d);
        }
    }
    total = block_column_sum<Q>(total);
    if (threadIdx.y == 0 && c.column < columns)
        pack_store<Q>(partial + blockIdx.y * columns + c.column, total);
}

template <class F, class T, int Q>
void bias_launch(struct cuda_stream *s, size_t rows, size_t columns, const float *bias, T *x, T *y, F f) {
    dim3 grid(cuda_ceil(columns, Q * CUDA_WARP)), block(CUDA_WARP, CUDA_TILE_ROWS);
    unsigned tall = cuda_spread(s, rows, CUDA_TILE_ROWS) / grid.x;
    grid.y = tall < 1 ? 1 : tall;
    CUDA_LAUNCH(s, (bias_kernel<T, Q, F>), grid, block, 0, rows, columns, bias, x, y, f);
}

template <class F>
void with_bias(struct device_stream *base, uint32_t rows, uint32_t columns, const float *bias, struct activation *x,
               struct activation *y, F f) {
    if (rows == 0 || columns == 0)
        return;
    struct cuda_stream *s = cuda_enter(base);
    CUDA_BY_TYPE(s, {
        constexpr int Q = cuda_pack_of<T>::COUNT;
        if (columns % Q == 0 && cuda_aligned(bias, x, y))
            bias_launch<F, T, Q>(s, rows, columns, bias, cuda_of<T>(x), cuda_of<T>(y), f);
        else
            bias_launch<F, T, 1>(s, rows, columns, bias, cuda_of<T>(x), cuda_of<T>(y), f);
    });
}

template <class F, class T, int Q>
void gradient_sums_launch(struct cuda_stream *s, size_t rows, size_t columns, const T *x, const T *dy, T *dx,
                          float *sums, F f) {
    dim3 grid(cuda_ceil(columns, Q * CUDA_WARP)), block(CUDA_WARP, CUDA_TILE_ROWS);
    unsigned chunks = grid.y = cuda_chunks(s, rows, grid.x);
    float *partial = sums;
    if (chunks > 1)
        partial = (float *)cuda_scratch(s, CUDA_ROOM_OP, "backward_sums", chunks * columns * sizeof *partial);
    if (!partial)
        return;
    CUDA_LAUNCH(s, (gradient_sums_kernel<T, Q, F>), grid, block, 0, rows, columns, (rows + chunks - 1) / chunks, x, dy,
                dx, partial, f);
    if (chunks > 1)
        cuda_sum_chunks(s, chunks, columns, columns, partial, sums, NULL);
}

template <class F>
void gradient_sums(struct device_stream *base, uint32_t rows, uint32_t columns, const struct activation *x,
                   const struct activation *dy, struct activation *dx, float *sums, F f) {
    if (columns == 0)
        return;
    struct cuda_stream *s = cuda_enter(base);
    CUDA_BY_TYPE(s, {
        constexpr int Q = cuda_pack_of<T>::COUNT;
        if (columns % Q == 0 && cuda_aligned(x, dy, dx, sums))
            gradient_sums_launch<F, T, Q>(s, rows, columns, cuda_of<T>(x), cuda_of<T>(dy), cuda_of<T>(dx), sums, f);
        else
            gradient_sums_launch<F, T, 1>(s, rows, columns, cuda_of<T>(x), cuda_of<T>(dy), cuda_of<T>(dx), sums, f);
    });
}

template <class F>
void each(struct device_stream *base, size_t n, const struct activation *a, const struct activation *b,
          struct activation *y, F f) {
    struct cuda_stream *s = cuda_enter(base);
    CUDA_BY_TYPE(s, map(base, n, cuda_of<T>(a), cuda_of<T>(b), cuda_of<T>(y), f));
}

} // namespace

void cuda_relu_forward(struct device_stream *s, size_t n, const struct activation *x, struct activation *y) {
    each(s, n, x, NULL, y, relu());
}

void cuda_relu_backward(struct device_stream *s, size_t n, const struct activation *y, const struct activation *dy,
                        struct activation *dx) {
    each(s, n, y, dy, dx, relu_gradient());
}

void cuda_gelu_forward(struct device_stream *s, size_t n, const struct activation *x, struct activation *y) {
    each(s, n, x, NULL, y, gelu());
}

void cuda_gelu_backward(struct device_stream *s, size_t n, const struct activation *x, const struct activation *dy,
                        struct activation *dx) {
    each(s, n, x, dy, dx, gelu_gradient());
}

void cuda_bias_add(struct device_stream *s, uint32_t rows, uint32_t columns, const float *bias, struct activation *x) {
    with_bias(s, rows, columns, bias, x, x, nothing());
}

void cuda_bias_relu(struct device_stream *s, uint32_t rows, uint32_t columns, const float *bias,
                    const struct activation *x, struct activation *y) {
    with_bias(s, rows, columns, bias, (struct activation *)(uintptr_t)x, y, relu());
}

void cuda_bias_gelu(struct device_stream *s, uint32_t rows, uint32_t columns, const float *bias, struct activation *x,
                    struct activation *y) {
    with_bias(s, rows, columns, bias, x, y, gelu());
}

void cuda_relu_backward_sums(struct device_stream *s, uint32_t rows, uint32_t columns, const struct activation *y,
                             const struct activation *dy, struct activation *dx, float *sums) {
    gradient_sums(s, rows, columns, y, dy, dx, sums, relu_gradient());
}

void cuda_gelu_backward_sums(struct device_stream *s, uint32_t rows, uint32_t columns, const struct activation *x,
                             const struct activation *dy, struct activation *dx, float *sums) {
    gradient_sums(s, rows, columns, x, dy, dx, sums, gelu_gradient());
}
