/* g + lambda * g*g * (w - held): the gradient where the parameters are now, to first order, with the outer product of
 * the gradient's diagonal for the Hessian's. Zheng et al., ICML 2017, equation 10. */
#include "server/compensations/kernel.h"

enum { LAMBDA, SCALARS };

void ISA_NAME(dc_asgd_compensate)(const struct compensate_place *place, size_t n, const float *scalars,
                                  float *restrict out) {
    const float *restrict g = place->gradient;
    const float *restrict w = place->values;
    const float *restrict held = place->held;
    const float lambda = scalars[LAMBDA];
    for (size_t i = 0; i < n; i++)
        out[i] = g[i] + lambda * g[i] * g[i] * (w[i] - held[i]);
}

#ifdef LG_ISA_IS_base
static void decide(const double *values, const struct compensation_moment *moment, float *scalars) {
    (void)moment;
    scalars[LAMBDA] = (float)values[0];
}

static const struct policy_param params[] = {{"lambda", 0.04, 0, 1e6, "strength of the compensation; 0: none"}};
static compensate_fn *const kernels[ISA_COUNT] = COMPENSATION_KERNELS(dc_asgd_compensate);
static const struct compensation compensation = {.scalar_count = SCALARS, .decide = decide, .compensate = kernels};

const struct policy policy_dc_asgd = {
    .name = "dc-asgd",
    .summary = "delay compensation: the gradient is moved to where the parameters are now",
    .formula = "g += lambda * g*g * (w - w_i), w_i as the worker pulled it; s = 1",
    .source = "Zheng et al., ICML 2017",
    POLICY_PARAMS(params),
    .weight = compensation_weight,
    .compensation = &compensation,
};
#endif
