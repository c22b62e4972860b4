/* s = 1: staleness is ignored; the control row of every experiment. */
#include "server/policies/policies.h"

static float weight(const double *values, const struct policy_moment *moment) {
    (void)values;
    (void)moment;
    return 1;
}

const struct policy policy_constant = {
    .name = "constant",
    .summary = "every push counts fully, however stale",
    .formula = "s = 1",
    .source = "the control for the others",
    .weight = weight,
};
