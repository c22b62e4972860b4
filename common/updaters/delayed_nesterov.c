/* Nesterov's momentum for workers that push at their own pace: gradients act at once, momentum with every N-th push,
 * when it holds the mean of all N. Liu et al., Asynchronous Local-SGD Training for Language Modeling, 2024,
 * algorithm 3.
 *
 *   d = d + s*g
 *   every N-th update:  m = beta*m + d/N; d = 0; w -= eta*((1 - c*N + c)*beta*m + s*g/N)
 *   otherwise:          w -= eta*(c*beta*m + s*g/N)
 *
 * Meant for what trainers with local steps push (train.local_steps). */
#include "common/updaters/kernel.h"

enum { KEEP, GATHERED, CLEAR, MOMENTUM, SHARE, WEIGHT, RATE, DECAY, SCALARS };

/* m = KEEP*m + GATHERED*d, d = CLEAR*d: on updates between, KEEP is 1 and GATHERED 0. */
void ISA_NAME(delayed_nesterov_apply)(float *values, float *const *states, const float *gradient, size_t n,
                                      const float *scalars) {
    float *restrict w = values;
    float *restrict m = states[0];
    float *restrict d = states[1];
    const float *restrict g = gradient;
    const float keep = scalars[KEEP], gathered = scalars[GATHERED], clear = scalars[CLEAR],
                momentum_share = scalars[MOMENTUM], share = scalars[SHARE], weight = scalars[WEIGHT],
                rate = scalars[RATE], decay = scalars[DECAY];
    for (size_t i = 0; i < n; i++) {
        float scaled = weight * g[i], sum = d[i] + scaled;
        float momentum = keep * m[i] + gathered * sum;
        m[i] = momentum;
        d[i] = clear * sum;
        w[i] -= rate * (momentum_share * momentum + share * scaled) + decay * w[i];
    }
}

#ifdef LG_ISA_IS_base
static void delayed_nesterov_decide(const double *params, const struct updater_moment *moment, float *scalars) {
    const double beta = params[0], period = (double)(uint64_t)params[1], spread = params[2];
    const bool due = moment->step % (uint64_t)period == 0;
    scalars[KEEP] = due ? (float)beta : 1;
    scalars[GATHERED] = due ? (float)(1 / period) : 0;
    scalars[CLEAR] = due ? 0 : 1;
    scalars[MOMENTUM] = (float)((due ? 1 - spread * period + spread : spread) * beta);
    scalars[SHARE] = (float)(1 / period);
    scalars[WEIGHT] = moment->weight;
    scalars[RATE] = moment->learning_rate;
    scalars[DECAY] = kernel_decay(moment);
}

static const struct updater_param params_of[] = {
    {"beta", 0.9, 0, 0.999999, "share of the momentum kept with every N-th update"},
    {"period", 4, 1, 1e6, "N, a whole number: updates between two of the momentum; the number of workers"},
    {"spread", 0, 0, 1, "c, 0 to 1/N: share of the momentum that acts with every update"},
};
static updater_apply_fn *const kernels[ISA_COUNT] = UPDATER_KERNELS(delayed_nesterov);

const struct updater updater_delayed_nesterov = {
    .name = "delayed-nesterov",
    .summary = "for local steps: gradients act at once, Nesterov's momentum with every N-th push",
    .formula = "d += s*g; every N-th: m = beta*m + d/N, d = 0, w -= eta*((1-cN+c)*beta*m + s*g/N); "
               "else w -= eta*(c*beta*m + s*g/N)",
    .params = params_of,
    .param_count = sizeof params_of / sizeof *params_of,
    .state_count = 2,
    .scalar_count = SCALARS,
    .decide = delayed_nesterov_decide,
    .apply = kernels,
};
#endif
