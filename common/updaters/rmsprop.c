/* v = rho*v + (1-rho)*g^2; w -= eta*s*g/(sqrt(v) + epsilon)
 *
 * v takes the unscaled gradient: were it scaled too, the weight would cancel out of the step. */
#include <math.h>

#include "common/updaters/kernel.h"

enum { RHO, ONE_MINUS_RHO, RATE, EPSILON, DECAY, SCALARS };

void ISA_NAME(rmsprop_apply)(float *values, float *const *states, const float *gradient, size_t n,
                             const float *scalars) {
    float *restrict w = values;
    float *restrict v = states[0];
    const float *restrict g = gradient;
    const float rho = scalars[RHO], fresh = scalars[ONE_MINUS_RHO], rate = scalars[RATE], epsilon = scalars[EPSILON],
                decay = scalars[DECAY];
    for (size_t i = 0; i < n; i++) {
        float second = rho * v[i] + fresh * (g[i] * g[i]);
        v[i] = second;
        w[i] -= rate * g[i] / (sqrtf(second) + epsilon) + decay * w[i];
    }
}

#ifdef LG_ISA_IS_base
static void rmsprop_decide(const double *params, const struct updater_moment *moment, float *scalars) {
    scalars[RHO] = (float)params[0];
    scalars[ONE_MINUS_RHO] = (float)(1 - params[0]);
    scalars[RATE] = kernel_scaled_rate(moment);
    scalars[EPSILON] = (float)params[1];
    scalars[DECAY] = kernel_decay(moment);
}

static const struct updater_param params_of[] = {
    {"rho", 0.99, 0, 0.999999, "share of the mean square kept"},
    {"epsilon", 1e-8, 1e-30, 1, "keeps the step finite where gradients are zero"},
};
static updater_apply_fn *const kernels[ISA_COUNT] = UPDATER_KERNELS(rmsprop);

const struct updater updater_rmsprop = {
    .name = "rmsprop",
    .summary = "per-element rates from a moving mean of squared gradients",
    .formula = "v = rho*v + (1-rho)*g^2; w -= eta*s*g/(sqrt(v) + epsilon)",
    .params = params_of,
    .param_count = sizeof params_of / sizeof *params_of,
    .state_count = 1,
    .scalar_count = SCALARS,
    .decide = rmsprop_decide,
    .apply = kernels,
};
#endif
