/* Sparse rows times dense matrices: a thread takes one output of one row. Backward adds with atomics, so the last bits
 * of dweight differ from run to run where several rows have a column. */
#include "gpu/cuda/cuda.cuh"

namespace {

template <class T>
__global__ void sparse_kernel(size_t n, struct device_sparse x, size_t outputs, const float *weight, T *y) {
    for (size_t i = cuda_thread(); i < n; i += cuda_threads()) {
        size_t row = i / outputs, output = i % outputs;
        float sum = 0;
        for (size_t e = x.row_starts[row]; e < x.row_starts[row + 1]; e++)
            sum += x.values[e] * weight[x.columns[e] * outputs + output];
        narrowed(sum, &y[i]);
    }
}

template <class T>
__global__ void sparse_gradient_kernel(size_t n, struct device_sparse x, size_t outputs, const T *dy, float *dweight) {
    for (size_t i = cuda_thread(); i < n; i += cuda_threads()) {
        size_t row = i / outputs, output = i % outputs;
        float d = widened(dy[i]);
        for (size_t e = x.row_starts[row]; e < x.row_starts[row + 1]; e++)
            atomicAdd(&dweight[x.columns[e] * outputs + output], x.values[e] * d);
    }
}

} // namespace

void cuda_sparse_forward(struct device_stream *base, const struct device_sparse *x, uint32_t outputs,
                         const float *weight, struct activation *y) {
    struct cuda_stream *s = cuda_enter(base);
    size_t n = (size_t)x->rows * outputs;
    if (n > 0)
        CUDA_BY_TYPE(s, CUDA_LAUNCH(s, sparse_kernel<T>, cuda_spread(s, n, CUDA_BLOCK), CUDA_BLOCK, 0, n, *x, outputs,
                                    weight, cuda_of<T>(y)));
}

void cuda_sparse_backward(struct device_stream *base, const struct device_sparse *x, uint32_t outputs,
                          const struct activation *dy, float *dweight) {
    struct cuda_stream *s = cuda_enter(base);
    size_t n = (size_t)x->rows * outputs;
    cuda_fill(base, (size_t)x->features * outputs, 0, dweight);
    if (n > 0)
        CUDA_BY_TYPE(s, CUDA_LAUNCH(s, sparse_gradient_kernel<T>, cuda_spread(s, n, CUDA_BLOCK), CUDA_BLOCK, 0, n, *x,
                                    outputs, cuda_of<T>(dy), dweight));
}
