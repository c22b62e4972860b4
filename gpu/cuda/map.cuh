/* Element by element: y[i] = f(a[i], b[i]), for the ops that are no more than that. */
#ifndef LAGOON_GPU_CUDA_MAP_CUH
#define LAGOON_GPU_CUDA_MAP_CUH

#include "gpu/cuda/cuda.cuh"

/* As many numbers as are 16 bytes of the narrower type. */
template <class T, class U> struct map_pack {
    enum { COUNT = 16 / (sizeof(T) < sizeof(U) ? sizeof(T) : sizeof(U)) };
};

/* F has a call operator of two floats and `inputs`, how many of them it looks at; y may be one of the inputs. The first
 * `whole` elements, a multiple of Q, are taken in packs. */
template <class T, class U, class F>
static __global__ void map_kernel(size_t n, size_t whole, const T *a, const T *b, U *y, F f) {
    constexpr int Q = map_pack<T, U>::COUNT;
    for (size_t i = Q * cuda_thread(); i < whole; i += Q * cuda_threads()) {
        pack<Q> p = {}, q = {};
        if (F::inputs > 0)
            p = pack_load<Q>(a + i);
        if (F::inputs > 1)
            q = pack_load<Q>(b + i);
#pragma unroll
        for (int l = 0; l < Q; l++)
            p.v[l] = f(p.v[l], q.v[l]);
        pack_store<Q>(y + i, p);
    }
    for (size_t i = whole + cuda_thread(); i < n; i += cuda_threads())
        narrowed(f(F::inputs > 0 ? widened(a[i]) : 0, F::inputs > 1 ? widened(b[i]) : 0), &y[i]);
}

/* T: what is read, U: what is written. */
template <class T, class U, class F>
static inline void map(struct device_stream *base, size_t n, const T *a, const T *b, U *y, F f) {
    if (n == 0)
        return;
    constexpr int Q = map_pack<T, U>::COUNT;
    struct cuda_stream *s = cuda_enter(base);
    size_t whole = cuda_aligned(a, b, y) ? n / Q * Q : 0;
    CUDA_LAUNCH(s, (map_kernel<T, U, F>), cuda_spread(s, n, Q * CUDA_BLOCK), CUDA_BLOCK, 0, n, whole, a, b, y, f);
}

#endif
