/* s = exp(-a*tau) */
#include <math.h>

#include "server/policies/policies.h"

static float weight(const double *values, const struct policy_moment *moment) {
    return (float)exp(-values[0] * (double)moment->staleness);
}

static const struct policy_param params[] = {
    {"a", 0.1, 0, 100, "how fast the weight falls; very stale pushes vanish and are dropped"}};

const struct policy policy_exponential = {
    .name = "exponential",
    .summary = "weight falls exponentially and vanishes for very stale pushes",
    .formula = "s = exp(-a*tau)",
    .source = "common in asynchronous SGD",
    POLICY_PARAMS(params),
    .weight = weight,
};
