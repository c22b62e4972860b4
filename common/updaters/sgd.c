/* w -= eta * s * g */
#include "common/updaters/kernel.h"

enum { RATE, DECAY, SCALARS };

void ISA_NAME(sgd_apply)(float *values, float *const *states, const float *gradient, size_t n, const float *scalars) {
    (void)states;
    float *restrict w = values;
    const float *restrict g = gradient;
    const float rate = scalars[RATE], decay = scalars[DECAY];
    for (size_t i = 0; i < n; i++)
        w[i] -= rate * g[i] + decay * w[i];
}

#ifdef LG_ISA_IS_base
static void sgd_decide(const double *params, const struct updater_moment *moment, float *scalars) {
    (void)params;
    scalars[RATE] = kernel_scaled_rate(moment);
    scalars[DECAY] = kernel_decay(moment);
}

static updater_apply_fn *const kernels[ISA_COUNT] = UPDATER_KERNELS(sgd);

const struct updater updater_sgd = {
    .name = "sgd",
    .summary = "plain stochastic gradient descent",
    .formula = "w -= eta*s*g",
    .scalar_count = SCALARS,
    .decide = sgd_decide,
    .apply = kernels,
};
#endif
