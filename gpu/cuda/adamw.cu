/* AdamW in one pass over memory, with the arithmetic of common/updaters/adam_rule.h in its order: each operation
 * rounded by itself, so that a GPU and a shard make the same bits of the same gradients. */
#include "gpu/cuda/cuda.cuh"

#include "common/math/power.h"

namespace {

struct rule {
    float beta1, gradient, beta2, square, rate, inverse_second, epsilon, decay;
};

struct rule rule_of(const struct device_adamw *a) {
    return {(float)a->beta1,
            (float)(1 - a->beta1),
            (float)a->beta2,
            (float)(1 - a->beta2),
            (float)((double)a->rate / (1 - power(a->beta1, a->step))),
            (float)(1 / (1 - power(a->beta2, a->step))),
            (float)a->epsilon,
            (float)((double)a->rate * (double)a->weight_decay)};
}

/* w -= rate m / (sqrt(v inverse_second) + epsilon) + decay w, with m and v brought up to date first. */
CUDA_INLINE void update(const rule &a, float g, float *w, float *m, float *v) {
    *m = __fadd_rn(__fmul_rn(a.beta1, *m), __fmul_rn(a.gradient, g));
    *v = __fadd_rn(__fmul_rn(a.beta2, *v), __fmul_rn(a.square, __fmul_rn(g, g)));
    float root = __fadd_rn(__fsqrt_rn(__fmul_rn(*v, a.inverse_second)), a.epsilon);
    float step = __fdiv_rn(__fmul_rn(a.rate, *m), root);
    *w = __fadd_rn(*w, -__fadd_rn(step, __fmul_rn(a.decay, *w)));
}

/* Packs of Q elements. */
template <int Q>
__global__ void adamw_kernel(size_t packs, rule a, const float *gradients, float *parameters, float *m, float *v) {
    for (size_t i = cuda_thread(); i < packs; i += cuda_threads()) {
        size_t at = i * Q;
        pack<Q> g = pack_load<Q>(gradients + at), w = pack_load<Q>(parameters + at);
        pack<Q> first = pack_load<Q>(m + at), second = pack_load<Q>(v + at);
#pragma unroll
        for (int l = 0; l < Q; l++)
            update(a, g.v[l], &w.v[l], &first.v[l], &second.v[l]);
        pack_store<Q>(m + at, first);
        pack_store<Q>(v + at, second);
        pack_store<Q>(parameters + at, w);
    }
}

} // namespace

void cuda_adamw(struct device_stream *base, size_t n, const struct device_adamw *rule, const float *gradients,
                float *parameters, float *m, float *v) {
    struct cuda_stream *s = cuda_enter(base);
    size_t packs = cuda_aligned(gradients, parameters, m, v) ? n / 4 : 0, rest = n - 4 * packs, at = 4 * packs;
    struct rule a = rule_of(rule);
    if (packs > 0)
        CUDA_LAUNCH(s, adamw_kernel<4>, cuda_spread(s, packs, CUDA_BLOCK), CUDA_BLOCK, 0, packs, a, gradients,
                    parameters, m, v);
    if (rest > 0)
        CUDA_LAUNCH(s, adamw_kernel<1>, cuda_spread(s, rest, CUDA_BLOCK), CUDA_BLOCK, 0, rest, a, gradients + at,
                    parameters + at, m + at, v + at);
}
