/* Token and position embeddings: rows gathered forward, scattered and added backward. The sums of dtable are made with
 * atomics, so their order, and with it their last bits, differ from run to run; those of dpositions do not. */
#include "gpu/cuda/cuda.cuh"

namespace {

/* A warp takes a row. */
template <class T, int Q>
__global__ void gather_kernel(size_t rows, size_t time, size_t width, const int32_t *tokens, const float *table,
                              const float *positions, T *out) {
    size_t row = (size_t)blockIdx.x * CUDA_TILE_ROWS + threadIdx.y;
    if (row >= rows)
        return;
    const float *from = table + (size_t)tokens[row] * width, *place = positions + row % time * width;
    for (size_t i = threadIdx.x * Q; i < width; i += CUDA_WARP * Q) {
        pack<Q> p = pack_load<Q>(from + i);
        if (positions) {
            pack<Q> add = pack_load<Q>(place + i);
#pragma unroll
            for (int l = 0; l < Q; l++)
                p.v[l] += add.v[l];
        }
        pack_store<Q>(out + row * width + i, p);
    }
}

template <class T>
__global__ void scatter_kernel(size_t rows, size_t width, const int32_t *tokens, const T *dout, float *dtable) {
    size_t row = (size_t)blockIdx.x * CUDA_TILE_ROWS + threadIdx.y;
    if (row >= rows)
        return;
    float *to = dtable + (size_t)tokens[row] * width;
    for (size_t i = threadIdx.x; i < width; i += CUDA_WARP)
        atomicAdd(to + i, widened(dout[row * width + i]));
}

} // namespace

void cuda_embedding_forward(struct device_stream *base, uint32_t batch, uint32_t time, uint32_t width,
                            const int32_t *tokens, const float *table, const float *positions, struct activation *out) {
    size_t rows = (size_t)batch * time;
    if (rows == 0 || width == 0)
        return;
    struct cuda_stream *s = cuda_enter(base);
    dim3 block(CUDA_WARP, CUDA_TILE_ROWS);
    CUDA_BY_TYPE(s,
                 CUDA_LAUNCH_PACKED(s, gather_kernel, width, (table, positions, out), cuda_ceil(rows, CUDA_TILE_ROWS),
                                    block, rows, time, width, tokens, table, positions, cuda_of<T>(out)));
}

void cuda_embedding_backward(struct device_stream *base, uint32_t batch, uint32_t time, uint32_t width,
                             const int32_t *tokens, const struct activation *dout, float *dtable, float *dpositions) {
    struct cuda_stream *s = cuda_enter(base);
    size_t rows = (size_t)batch * time;
    dim3 block(CUDA_WARP, CUDA_TILE_ROWS);
    if (rows > 0 && width > 0)
        CUDA_BY_TYPE(s, CUDA_LAUNCH(s, (scatter_kernel<T>), cuda_ceil(rows, CUDA_TILE_ROWS), block, 0, rows, width,
                                    tokens, cuda_of<T>(dout), dtable));
    if (dpositions)
        cuda_column_sums_of(s, batch, (size_t)time * width, dout, dpositions);
}
