/* Lion (Chen et al. 2023): w -= eta*s*sign(beta1*m + (1-beta1)*g); m = beta2*m + (1-beta2)*g
 *
 * The sign forgets the gradient's size, so the weight scales the rate. */
#include "common/updaters/kernel.h"

enum { BETA1, ONE_MINUS_BETA1, BETA2, ONE_MINUS_BETA2, RATE, DECAY, SCALARS };

void ISA_NAME(lion_apply)(float *values, float *const *states, const float *gradient, size_t n, const float *scalars) {
    float *restrict w = values;
    float *restrict m = states[0];
    const float *restrict g = gradient;
    const float beta1 = scalars[BETA1], fresh1 = scalars[ONE_MINUS_BETA1], beta2 = scalars[BETA2],
                fresh2 = scalars[ONE_MINUS_BETA2], rate = scalars[RATE], decay = scalars[DECAY];
    for (size_t i = 0; i < n; i++) {
        float direction = beta1 * m[i] + fresh1 * g[i];
        float step = direction > 0 ? rate : 0.0f;
        step = direction < 0 ? -rate : step;
        m[i] = beta2 * m[i] + fresh2 * g[i];
        w[i] -= step + decay * w[i];
    }
}

#ifdef LG_ISA_IS_base
static void lion_decide(const double *params, const struct updater_moment *moment, float *scalars) {
    scalars[BETA1] = (float)params[0];
    scalars[ONE_MINUS_BETA1] = (float)(1 - params[0]);
    scalars[BETA2] = (float)params[1];
    scalars[ONE_MINUS_BETA2] = (float)(1 - params[1]);
    scalars[RATE] = kernel_scaled_rate(moment);
    scalars[DECAY] = kernel_decay(moment);
}

static const struct updater_param params_of[] = {
    {"beta1", 0.9, 0, 0.999999, "weight of the momentum in the direction"},
    {"beta2", 0.99, 0, 0.999999, "share of the momentum kept"},
};
static updater_apply_fn *const kernels[ISA_COUNT] = UPDATER_KERNELS(lion);

const struct updater updater_lion = {
    .name = "lion",
    .summary = "sign of an interpolated momentum; wants about a tenth of adam's rate",
    .formula = "w -= eta*s*sign(beta1*m + (1-beta1)*g); m = beta2*m + (1-beta2)*g",
    .params = params_of,
    .param_count = sizeof params_of / sizeof *params_of,
    .state_count = 1,
    .scalar_count = SCALARS,
    .decide = lion_decide,
    .apply = kernels,
};
#endif
