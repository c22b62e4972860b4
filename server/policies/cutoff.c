/* s = 1 below tau = R and 0 from there on: too stale a push is dropped, and its sender is told. */
#include "server/policies/policies.h"

static float weight(const double *values, const struct policy_moment *moment) {
    double bound = values[0] >= 1 ? values[0] : values[1] * (double)moment->concurrency;
    return (double)moment->staleness < (bound > 1 ? bound : 1) ? 1 : 0;
}

static const struct policy_param params[] = {
    {"bound", 0, 0, 1e9, "R; 0: `factor` times the sessions that may push to the job at the moment"},
    {"factor", 4, 0, 1e6, "staleness allowed per session where no bound is given"},
};

const struct policy policy_cutoff = {
    .name = "cutoff",
    .summary = "pushes beyond a bound are dropped, all others count fully",
    .formula = "s = 1 if tau < R, else 0",
    .source = "Maranjyan, Tyurin, Richtarik, Ringmaster ASGD 2025",
    POLICY_PARAMS(params),
    .weight = weight,
};
