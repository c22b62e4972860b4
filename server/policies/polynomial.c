/* s = (1+tau)^-a */
#include <math.h>

#include "server/policies/policies.h"

static float weight(const double *values, const struct policy_moment *moment) {
    return (float)pow(1 + (double)moment->staleness, -values[0]);
}

static const struct policy_param params[] = {{"a", 0.5, 0, 10, "exponent: how fast the weight falls"}};

const struct policy policy_polynomial = {
    .name = "polynomial",
    .summary = "weight falls as a power of the staleness",
    .formula = "s = (1+tau)^-a",
    .source = "Xie, Koyejo, Gupta, FedAsync 2019",
    POLICY_PARAMS(params),
    .weight = weight,
};
