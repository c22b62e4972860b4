/* s = N/max(N, tau) with N the concurrency */
#include "server/policies/policies.h"

static float weight(const double *values, const struct policy_moment *moment) {
    double concurrency = values[0] >= 1 ? values[0] : (double)moment->concurrency;
    double age = (double)moment->staleness;
    return (float)(concurrency / (age > concurrency ? age : concurrency));
}

static const struct policy_param params[] = {
    {"concurrency", 0, 0, 1e6, "N; 0: the sessions that may push to the job at the moment"}};

const struct policy policy_delay_adaptive = {
    .name = "delay-adaptive",
    .summary = "full weight up to the number of workers, then one over the staleness",
    .formula = "s = N/max(N, tau)",
    .source = "Mishchenko et al. 2022; Koloskova, Stich, Jaggi 2022",
    POLICY_PARAMS(params),
    .weight = weight,
};
