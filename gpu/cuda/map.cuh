/* Element by element: y[i] = f(a[i], b[i]), for the ops that are no more than that. */
#ifndef LAGOON_GPU_CUDA_MAP_CUH
#define LAGOON_GPU_CUDA_MAP_CUH

#include "gpu/cuda/cuda.cuh"

/* F has a call operator of two floats and `inputs`, how many of them it looks at; y may be one of the inputs. The first
 * `whole` elements, a multiple of 4, are taken in packs. */
template <class F>
static __global__ void map_kernel(size_t n, size_t whole, const float *a, const float *b, float *y, F f) {
    for (size_t i = 4 * cuda_thread(); i < whole; i += 4 * cuda_threads()) {
        pack<4> p = {}, q = {};
        if (F::inputs > 0)
            p = pack_load<4>(a + i);
        if (F::inputs > 1)
            q = pack_load<4>(b + i);
        for (int l = 0; l < 4; l++)
            p.v[l] = f(p.v[l], q.v[l]);
        pack_store<4>(y + i, p);
    }
    for (size_t i = whole + cuda_thread(); i < n; i += cuda_threads())
        y[i] = f(F::inputs > 0 ? a[i] : 0, F::inputs > 1 ? b[i] : 0);
}

template <class F>
static inline void map(struct device_stream *base, size_t n, const float *a, const float *b, float *y, F f) {
    if (n == 0)
        return;
    struct cuda_stream *s = cuda_enter(base);
    size_t whole = cuda_quads(0, a, b, y) ? n / 4 * 4 : 0;
    CUDA_LAUNCH(s, map_kernel<F>, cuda_spread(s, n, 4 * CUDA_BLOCK), CUDA_BLOCK, 0, n, whole, a, b, y, f);
}

#endif
