/* s = 1 up to tau = b, then 1/(a*(tau-b)+1) */
#include "server/policies/policies.h"

static float weight(const double *values, const struct policy_moment *moment) {
    double late = (double)moment->staleness - values[1];
    return (float)(late <= 0 ? 1 : 1 / (values[0] * late + 1));
}

static const struct policy_param params[] = {
    {"a", 10, 0, 1e6, "how fast the weight falls beyond b"},
    {"b", 4, 0, 1e9, "staleness that still counts fully"},
};

const struct policy policy_hinge = {
    .name = "hinge",
    .summary = "full weight up to a bound, then falling fast",
    .formula = "s = 1 if tau <= b, else 1/(a*(tau-b) + 1)",
    .source = "Xie, Koyejo, Gupta, FedAsync 2019",
    POLICY_PARAMS(params),
    .weight = weight,
};
