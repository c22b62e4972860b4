/* m = beta*m + s*g; w -= eta*(s*g + beta*m) */
#include "common/updaters/kernel.h"

enum { BETA, WEIGHT, RATE, DECAY, SCALARS };

void ISA_NAME(nesterov_apply)(float *values, float *const *states, const float *gradient, size_t n,
                              const float *scalars) {
    float *restrict w = values;
    float *restrict m = states[0];
    const float *restrict g = gradient;
    const float beta = scalars[BETA], weight = scalars[WEIGHT], rate = scalars[RATE], decay = scalars[DECAY];
    for (size_t i = 0; i < n; i++) {
        float scaled = weight * g[i];
        float momentum = beta * m[i] + scaled;
        m[i] = momentum;
        w[i] -= rate * (scaled + beta * momentum) + decay * w[i];
    }
}

#ifdef LG_ISA_IS_base
static void nesterov_decide(const double *params, const struct updater_moment *moment, float *scalars) {
    scalars[BETA] = (float)params[0];
    scalars[WEIGHT] = moment->weight;
    scalars[RATE] = moment->learning_rate;
    scalars[DECAY] = kernel_decay(moment);
}

static const struct updater_param params_of[] = {{"beta", 0.9, 0, 0.999999, "share of the momentum kept"}};
static updater_apply_fn *const kernels[ISA_COUNT] = UPDATER_KERNELS(nesterov);

const struct updater updater_nesterov = {
    .name = "nesterov",
    .summary = "gradient descent with Nesterov's momentum",
    .formula = "m = beta*m + s*g; w -= eta*(s*g + beta*m)",
    .params = params_of,
    .param_count = sizeof params_of / sizeof *params_of,
    .state_count = 1,
    .scalar_count = SCALARS,
    .decide = nesterov_decide,
    .apply = kernels,
};
#endif
