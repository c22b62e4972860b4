/* The rule that adam and adamw share:
 *
 *   m = beta1*m + (1-beta1)*s*g;  v = beta2*v + (1-beta2)*g^2
 *   w -= eta * m/(1-beta1^t) / (sqrt(v/(1-beta2^t)) + epsilon) + eta*lambda*s*w
 *
 * t counts the unit's applied updates. m takes the weighted gradient and v the plain one: weighting both would cancel
 * out of m/sqrt(v). */
#ifndef LAGOON_COMMON_UPDATERS_ADAM_RULE_H
#define LAGOON_COMMON_UPDATERS_ADAM_RULE_H

#include <math.h>

#include "common/updaters/kernel.h"

enum adam_scalar {
    ADAM_BETA1,
    ADAM_GRADIENT, /* (1-beta1)*s */
    ADAM_BETA2,
    ADAM_SQUARE,         /* 1-beta2 */
    ADAM_RATE,           /* eta/(1-beta1^t) */
    ADAM_INVERSE_SECOND, /* 1/(1-beta2^t) */
    ADAM_EPSILON,
    ADAM_DECAY,
    ADAM_SCALARS
};

static inline void adam_rule(float *values, float *const *states, const float *gradient, size_t n,
                             const float *scalars) {
    float *restrict w = values;
    float *restrict m = states[0];
    float *restrict v = states[1];
    const float *restrict g = gradient;
    const float beta1 = scalars[ADAM_BETA1], scale = scalars[ADAM_GRADIENT], beta2 = scalars[ADAM_BETA2],
                square = scalars[ADAM_SQUARE], rate = scalars[ADAM_RATE], inverse = scalars[ADAM_INVERSE_SECOND],
                epsilon = scalars[ADAM_EPSILON], decay = scalars[ADAM_DECAY];
    for (size_t i = 0; i < n; i++) {
        float first = beta1 * m[i] + scale * g[i];
        float second = beta2 * v[i] + square * (g[i] * g[i]);
        m[i] = first;
        v[i] = second;
        w[i] -= rate * first / (sqrtf(second * inverse) + epsilon) + decay * w[i];
    }
}

/* params: beta1, beta2, epsilon. */
static inline void adam_rule_decide(const double *params, const struct updater_moment *moment, float *scalars) {
    double beta1 = params[0], beta2 = params[1];
    scalars[ADAM_BETA1] = (float)beta1;
    scalars[ADAM_GRADIENT] = (float)((1 - beta1) * (double)moment->weight);
    scalars[ADAM_BETA2] = (float)beta2;
    scalars[ADAM_SQUARE] = (float)(1 - beta2);
    scalars[ADAM_RATE] = (float)((double)moment->learning_rate / (1 - power(beta1, moment->step)));
    scalars[ADAM_INVERSE_SECOND] = (float)(1 / (1 - power(beta2, moment->step)));
    scalars[ADAM_EPSILON] = (float)params[2];
    scalars[ADAM_DECAY] = kernel_decay(moment);
}

#define ADAM_PARAMS                                                                                                    \
    {"beta1", 0.9, 0, 0.999999, "share of the mean gradient kept"},                                                    \
        {"beta2", 0.999, 0, 0.99999999, "share of the mean square kept"}, {                                            \
        "epsilon", 1e-8, 1e-30, 1, "keeps the step finite where gradients are zero"                                    \
    }

#endif
