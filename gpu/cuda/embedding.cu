/* Token and position embeddings: rows gathered forward, scattered and added backward. The sums of dtable are made with
 * atomics, so their order, and with it their last bits, differ from run to run; those of dpositions do not. */
#include "gpu/cuda/cuda.cuh"

namespace {

/* A warp takes a row. */
template <int Q>
__global__ void gather_kernel(size_t rows, size_t time, size_t width, const int32_t *tokens, const float *table,
                              const float *positions, float *out) {
    size_t row = (size_t)blockIdx.x * CUDA_TILE_ROWS + threadIdx.y;
    if (row >= rows)
        return;
    const float *from = table + (size_t)tokens[row] * width, *place = positions + row % time * width;
    for (size_t i = threadIdx.x * Q; i < width; i += CUDA_WARP * Q) {
        pack<Q> p = pack_load<Q>(from + i);
        if (positions) {
            pack<Q> add = pack_load<Q>(place + i);
            for (int l = 0; l < Q; l++)
                p.v[l] += add.v[l];
        }
        pack_store<Q>(out + row * width + i, p);
    }
}

__global__ void scatter_kernel(size_t rows, size_t width, const int32_t *tokens, const float *dout, float *dtable) {
    size_t row = (size_t)blockIdx.x * CUDA_TILE_ROWS + threadIdx.y;
    if (row >= rows)
        return;
    float *to = dtable + (size_t)tokens[row] * width;
    for (size_t i = threadIdx.x; i < width; i += CUDA_WARP)
        atomicAdd(to + i, dout[row * width + i]);
}

} // namespace

void cuda_embedding_forward(struct device_stream *base, uint32_t batch, uint32_t time, uint32_t width,
                            const int32_t *tokens, const float *table, const float *positions, float *out) {
    size_t rows = (size_t)batch * time;
    if (rows == 0 || width == 0)
        return;
    struct cuda_stream *s = cuda_enter(base);
    dim3 block(CUDA_WARP, CUDA_TILE_ROWS);
    unsigned grid = cuda_ceil(rows, CUDA_TILE_ROWS);
    if (cuda_quads(width, table, positions, out))
        CUDA_LAUNCH(s, gather_kernel<4>, grid, block, 0, rows, time, width, tokens, table, positions, out);
    else
        CUDA_LAUNCH(s, gather_kernel<1>, grid, block, 0, rows, time, width, tokens, table, positions, out);
}

void cuda_embedding_backward(struct device_stream *base, uint32_t batch, uint32_t time, uint32_t width,
                             const int32_t *tokens, const float *dout, float *dtable, float *dpositions) {
    struct cuda_stream *s = cuda_enter(base);
    size_t rows = (size_t)batch * time;
    dim3 block(CUDA_WARP, CUDA_TILE_ROWS);
    if (rows > 0 && width > 0)
        CUDA_LAUNCH(s, scatter_kernel, cuda_ceil(rows, CUDA_TILE_ROWS), block, 0, rows, width, tokens, dout, dtable);
    if (dpositions)
        cuda_column_sums_of(s, batch, (size_t)time * width, dout, dpositions);
}
