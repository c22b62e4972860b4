/* Each element of the gradient is divided by its gap: how many usual steps the parameter has gone since the worker read
 * it. Barkai, Hakimi, Schuster, ICLR 2020.
 *
 *   G = 1 + |w - held| / (eta * (sqrt(A / (1 - d^t)) + e)); out = g / G
 *   A = d*A + (1-d) * (step / eta)^2, after every update; t: updates that A has seen
 *
 * Before the first update there is nothing to compare with: G = 1. */
#include "server/compensations/kernel.h"

enum { RATE, CORRECTION, LEAST, KEEP, ADD, SCALARS };

void ISA_NAME(gap_aware_compensate)(const struct compensate_place *place, size_t n, const float *scalars,
                                    float *restrict out) {
    const float *restrict g = place->gradient;
    const float *restrict w = place->values;
    const float *restrict held = place->held;
    const float *restrict average = place->drift;
    const float rate = scalars[RATE], correction = scalars[CORRECTION], least = scalars[LEAST];
    if (!(rate > 0) || !(correction > 0)) {
        for (size_t i = 0; i < n; i++)
            out[i] = g[i];
        return;
    }
    for (size_t i = 0; i < n; i++) {
        float gap = w[i] - held[i];
        gap = gap < 0 ? -gap : gap;
        out[i] = g[i] / (1 + gap / (rate * (sqrtf(average[i] * correction) + least)));
    }
}

void ISA_NAME(gap_aware_learn)(float *restrict drift, const float *restrict before, const float *restrict after,
                               size_t n, const float *scalars) {
    const float rate = scalars[RATE], keep = scalars[KEEP], add = scalars[ADD];
    if (!(rate > 0))
        return;
    for (size_t i = 0; i < n; i++) {
        float step = (after[i] - before[i]) / rate;
        drift[i] = keep * drift[i] + add * step * step;
    }
}

#ifdef LG_ISA_IS_base
static void decide(const double *values, const struct compensation_moment *moment, float *scalars) {
    const double decay = values[0];
    scalars[RATE] = moment->learning_rate;
    scalars[CORRECTION] = moment->step > 1 ? (float)(1 / (1 - power(decay, moment->step - 1))) : 0;
    scalars[LEAST] = (float)values[1];
    scalars[KEEP] = (float)decay;
    scalars[ADD] = (float)(1 - decay);
}

static const struct policy_param params[] = {
    {"decay", 0.999, 0, 0.999999, "share of the mean square step kept with every update"},
    {"epsilon", 1e-8, 1e-30, 1, "added to the root mean square step"},
};
static compensate_fn *const kernels[ISA_COUNT] = COMPENSATION_KERNELS(gap_aware_compensate);
static compensation_learn_fn *const learners[ISA_COUNT] = COMPENSATION_KERNELS(gap_aware_learn);
static const struct compensation compensation = {
    .drift = true, .scalar_count = SCALARS, .decide = decide, .compensate = kernels, .learn = learners};

const struct policy policy_gap_aware = {
    .name = "gap-aware",
    .summary = "each element is divided by how far its parameter has moved since the worker read it",
    .formula = "G = 1 + |w - w_i| / (eta*(sqrt(A) + e)); g /= G; A: mean square of the steps / eta; s = 1",
    .source = "Barkai, Hakimi, Schuster, ICLR 2020",
    POLICY_PARAMS(params),
    .weight = compensation_weight,
    .compensation = &compensation,
};
#endif
