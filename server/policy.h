/* Staleness policies: s(tau), the weight that a push gets. One file under server/policies/ and one line in policy.def
 * add one. A policy is a pure function of a table of parameters. */
#ifndef LAGOON_SERVER_POLICY_H
#define LAGOON_SERVER_POLICY_H

#include <stddef.h>
#include <stdint.h>

#include "common/config.h"
#include "common/status.h"

enum { POLICY_PARAMS_MAX = 4 };

struct policy_param {
    const char *name;
    double fallback, least, most;
    const char *help;
};

struct policy_moment {
    uint64_t staleness;   /* tau: updates applied since the push's base */
    uint32_t concurrency; /* sessions that may push to the job now, at least 1 */
};

struct policy {
    const char *name;
    const char *summary;
    const char *formula;
    const char *source; /* paper */
    const struct policy_param *params;
    size_t param_count;
    /* s in [0, 1]; 0 drops the push, which the reply says. Finite for every tau. */
    float (*weight)(const double *values, const struct policy_moment *moment);
};

const struct policy *const *policies(size_t *count);
LG_MUST_CHECK enum lg_status policy_find(const char *name, const struct policy **out, struct lg_error *error);
/* Reads "staleness.policy" and "staleness.*" of a job. */
LG_MUST_CHECK enum lg_status policy_configure(struct config *job, const struct policy **policy,
                                              double values[POLICY_PARAMS_MAX], struct lg_error *error);

#endif
