/* s = 1/max(1, tau + shift): shift 0 is the paper's rule, shift 1 is 1/(1+tau). */
#include "server/policies/policies.h"

static float weight(const double *values, const struct policy_moment *moment) {
    double age = (double)moment->staleness + values[0];
    return (float)(1 / (age > 1 ? age : 1));
}

static const struct policy_param params[] = {
    {"shift", 0, 0, 1, "added to the staleness: 0 weighs one update late like none, 1 halves it"}};

const struct policy policy_inverse = {
    .name = "inverse",
    .summary = "weight falls as one over the staleness",
    .formula = "s = 1/max(1, tau + shift)",
    .source = "Zhang, Gupta, Lian, Liu, IJCAI 2016",
    POLICY_PARAMS(params),
    .weight = weight,
};
