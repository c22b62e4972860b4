/* Max-pooling: a thread takes one result, and backward one element of the image. */
#include "gpu/cuda/cuda.cuh"

namespace {

struct pool {
    size_t width, height, window, out_width, out_height; /* out of the result */
};

struct pool pool_of(const struct device_pool *shape) {
    return {shape->width, shape->height, shape->window, shape->width / shape->window, shape->height / shape->window};
}

template <class T> __global__ void pool_kernel(size_t n, struct pool p, const T *x, T *y, uint8_t *which) {
    for (size_t i = cuda_thread(); i < n; i += cuda_threads()) {
        size_t column = i % p.out_width, line = i / p.out_width, row = line % p.out_height, plane = line / p.out_height;
        const T *corner = x + (plane * p.height + row * p.window) * p.width + column * p.window;
        float most = widened(corner[0]);
        unsigned at = 0, k = 0;
        for (size_t r = 0; r < p.window; r++) {
            for (size_t c = 0; c < p.window; c++, k++) {
                float value = widened(corner[r * p.width + c]);
                if (value > most) {
                    most = value;
                    at = k;
                }
            }
        }
        narrowed(most, &y[i]);
        which[i] = (uint8_t)at;
    }
}

template <class T>
__global__ void pool_gradient_kernel(size_t n, struct pool p, const uint8_t *which, const T *dy, T *dx) {
    for (size_t i = cuda_thread(); i < n; i += cuda_threads()) {
        size_t column = i % p.width, line = i / p.width, row = line % p.height, plane = line / p.height;
        size_t out_column = column / p.window, out_row = row / p.window;
        float gradient = 0;
        if (out_column < p.out_width && out_row < p.out_height) {
            size_t out = (plane * p.out_height + out_row) * p.out_width + out_column;
            if (which[out] == row % p.window * p.window + column % p.window)
                gradient = widened(dy[out]);
        }
        narrowed(gradient, &dx[i]);
    }
}

} // namespace

void cuda_pool_forward(struct device_stream *base, const struct device_pool *shape, const struct activation *x,
                       struct activation *y, uint8_t *which) {
    struct cuda_stream *s = cuda_enter(base);
    struct pool p = pool_of(shape);
    size_t n = shape->planes * p.out_height * p.out_width;
    if (n > 0)
        CUDA_BY_TYPE(s, CUDA_LAUNCH(s, pool_kernel<T>, cuda_spread(s, n, CUDA_BLOCK), CUDA_BLOCK, 0, n, p,
                                    cuda_of<T>(x), cuda_of<T>(y), which));
}

void cuda_pool_backward(struct device_stream *base, const struct device_pool *shape, const uint8_t *which,
                        const struct activation *dy, struct activation *dx) {
    struct cuda_stream *s = cuda_enter(base);
    struct pool p = pool_of(shape);
    size_t n = shape->planes * p.height * p.width;
    if (n > 0)
        CUDA_BY_TYPE(s, CUDA_LAUNCH(s, pool_gradient_kernel<T>, cuda_spread(s, n, CUDA_BLOCK), CUDA_BLOCK, 0, n, p,
                                    which, cuda_of<T>(dy), cuda_of<T>(dx)));
}
