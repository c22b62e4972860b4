/* Adam (Kingma, Ba 2015); the rule is in adam_rule.h. Jobs that ask for weight decay are sent to adamw. */
#include "common/updaters/adam_rule.h"

void ISA_NAME(adam_apply)(float *values, float *const *states, const float *gradient, size_t n, const float *scalars) {
    adam_rule(values, states, gradient, n, scalars);
}

#ifdef LG_ISA_IS_base
static const struct updater_param params_of[] = {ADAM_PARAMS};
static updater_apply_fn *const kernels[ISA_COUNT] = UPDATER_KERNELS(adam);

const struct updater updater_adam = {
    .name = "adam",
    .summary = "adaptive moments, bias-corrected per unit; for weight decay use adamw",
    .formula = "m = beta1*m + (1-beta1)*s*g; v = beta2*v + (1-beta2)*g^2; w -= eta*mhat/(sqrt(vhat) + epsilon)",
    .params = params_of,
    .param_count = sizeof params_of / sizeof *params_of,
    .state_count = 2,
    .scalar_count = ADAM_SCALARS,
    .no_weight_decay = true,
    .decide = adam_rule_decide,
    .apply = kernels,
};
#endif
