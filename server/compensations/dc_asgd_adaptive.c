/* As dc_asgd, but lambda falls with the running mean square of the worker's gradients:
 *
 *   M = m*M + (1-m)*g*g; out = g + lambda0 / sqrt(M + 1e-7) * g*g * (w - held)
 *
 * Zheng et al., ICML 2017, equation 12 (DC-ASGD-a). M is the worker's own. */
#include "server/compensations/kernel.h"

enum { LAMBDA, KEEP, ADD, SCALARS };

void ISA_NAME(dc_asgd_adaptive_compensate)(const struct compensate_place *place, size_t n, const float *scalars,
                                           float *restrict out) {
    const float *restrict g = place->gradient;
    const float *restrict w = place->values;
    const float *restrict held = place->held;
    float *restrict mean_square = place->mine;
    const float lambda = scalars[LAMBDA], keep = scalars[KEEP], add = scalars[ADD];
    for (size_t i = 0; i < n; i++) {
        float square = g[i] * g[i], mean = keep * mean_square[i] + add * square;
        mean_square[i] = mean;
        out[i] = g[i] + lambda / sqrtf(mean + 1e-7f) * square * (w[i] - held[i]);
    }
}

#ifdef LG_ISA_IS_base
static void decide(const double *values, const struct compensation_moment *moment, float *scalars) {
    (void)moment;
    scalars[LAMBDA] = (float)values[0];
    scalars[KEEP] = (float)values[1];
    scalars[ADD] = (float)(1 - values[1]);
}

static const struct policy_param params[] = {
    {"lambda", 2, 0, 1e6, "strength of the compensation; 0: none"},
    {"decay", 0.95, 0, 0.999999, "share of the mean square kept with every push of the worker"},
};
static compensate_fn *const kernels[ISA_COUNT] = COMPENSATION_KERNELS(dc_asgd_adaptive_compensate);
static const struct compensation compensation = {
    .session_arrays = 1, .scalar_count = SCALARS, .decide = decide, .compensate = kernels};

const struct policy policy_dc_asgd_adaptive = {
    .name = "dc-asgd-adaptive",
    .summary = "delay compensation whose strength follows the size of the worker's gradients",
    .formula = "M_i = m*M_i + (1-m)*g*g; g += lambda/sqrt(M_i + 1e-7) * g*g * (w - w_i); s = 1",
    .source = "Zheng et al., ICML 2017",
    POLICY_PARAMS(params),
    .weight = compensation_weight,
    .compensation = &compensation,
};
#endif
