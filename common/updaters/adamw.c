/* AdamW (Loshchilov, Hutter 2019): Adam with decoupled weight decay; the rule is in adam_rule.h. */
#include "common/updaters/adam_rule.h"

void ISA_NAME(adamw_apply)(float *values, float *const *states, const float *gradient, size_t n, const float *scalars) {
    adam_rule(values, states, gradient, n, scalars);
}

#ifdef LG_ISA_IS_base
static const struct updater_param params_of[] = {ADAM_PARAMS};
static updater_apply_fn *const kernels[ISA_COUNT] = UPDATER_KERNELS(adamw);

const struct updater updater_adamw = {
    .name = "adamw",
    .summary = "adam with decoupled weight decay",
    .formula = "as adam, and w -= eta*s*lambda*w",
    .params = params_of,
    .param_count = sizeof params_of / sizeof *params_of,
    .state_count = 2,
    .scalar_count = ADAM_SCALARS,
    .decide = adam_rule_decide,
    .apply = kernels,
};
#endif
