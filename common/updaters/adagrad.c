/* G += g^2; w -= eta*s*g/(sqrt(G) + epsilon)
 *
 * G takes the unscaled gradient: were it scaled too, the weight would cancel out of the step. */
#include <math.h>

#include "common/updaters/kernel.h"

enum { RATE, EPSILON, DECAY, SCALARS };

void ISA_NAME(adagrad_apply)(float *values, float *const *states, const float *gradient, size_t n,
                             const float *scalars) {
    float *restrict w = values;
    float *restrict sum = states[0];
    const float *restrict g = gradient;
    const float rate = scalars[RATE], epsilon = scalars[EPSILON], decay = scalars[DECAY];
    for (size_t i = 0; i < n; i++) {
        float squares = sum[i] + g[i] * g[i];
        sum[i] = squares;
        w[i] -= rate * g[i] / (sqrtf(squares) + epsilon) + decay * w[i];
    }
}

#ifdef LG_ISA_IS_base
static void adagrad_decide(const double *params, const struct updater_moment *moment, float *scalars) {
    scalars[RATE] = kernel_scaled_rate(moment);
    scalars[EPSILON] = (float)params[0];
    scalars[DECAY] = kernel_decay(moment);
}

static const struct updater_param params_of[] = {
    {"epsilon", 1e-10, 1e-30, 1, "keeps the step finite where all gradients were zero"}};
static updater_apply_fn *const kernels[ISA_COUNT] = UPDATER_KERNELS(adagrad);

const struct updater updater_adagrad = {
    .name = "adagrad",
    .summary = "per-element rates from the sum of squared gradients",
    .formula = "G += g^2; w -= eta*s*g/(sqrt(G) + epsilon)",
    .params = params_of,
    .param_count = sizeof params_of / sizeof *params_of,
    .state_count = 1,
    .scalar_count = SCALARS,
    .decide = adagrad_decide,
    .apply = kernels,
};
#endif
