/* Staleness policies: s(tau), the weight that a push gets. One file under server/policies/ and one line in policy.def
 * add one. A policy is a pure function of a table of parameters.
 *
 * Some act on each element of the gradient instead, by how far the parameters have moved since the sender read them
 * (server/compensations/): for these the shard keeps a copy of what each worker pulled. */
#ifndef LAGOON_SERVER_POLICY_H
#define LAGOON_SERVER_POLICY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/config.h"
#include "common/isa.h"
#include "common/status.h"

enum { POLICY_PARAMS_MAX = 4, COMPENSATION_SCALARS_MAX = 6 };

struct policy_param {
    const char *name;
    double fallback, least, most;
    const char *help;
};

struct policy_moment {
    uint64_t staleness;   /* tau: updates applied since the push's base */
    uint32_t concurrency; /* sessions that may push to the job now, at least 1 */
};

struct compensation_moment {
    float learning_rate; /* schedule x group factor */
    uint64_t step;       /* applied updates of this unit, this one included */
};

/* A chunk of a unit, [n] each. */
struct compensate_place {
    const float *gradient; /* as pushed */
    const float *values;   /* as they are now */
    const float *held;     /* as the sender read them */
    float *mine;           /* of this session; zero at first. NULL where the compensation has none */
    const float *drift;    /* of the unit; zero at first. NULL likewise */
};
typedef void compensate_fn(const struct compensate_place *place, size_t n, const float *scalars, float *out);
typedef void compensation_learn_fn(float *drift, const float *before, const float *after, size_t n,
                                   const float *scalars);

struct compensation {
    uint32_t session_arrays; /* f32 per parameter and session beside what it holds: 0 or 1 */
    bool drift;              /* one f32 per parameter */
    uint32_t scalar_count;
    /* As updater.decide: + - * / and sqrt only. */
    void (*decide)(const double *values, const struct compensation_moment *moment, float *scalars);
    compensate_fn *const *compensate;    /* [ISA_COUNT] */
    compensation_learn_fn *const *learn; /* [ISA_COUNT], after every update; NULL: there is nothing to learn */
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
    const struct compensation *compensation; /* NULL: the weight is all */
};

const struct policy *const *policies(size_t *count);
LG_MUST_CHECK enum lg_status policy_find(const char *name, const struct policy **out, struct lg_error *error);
/* Reads "staleness.policy" and "staleness.*" of a job. */
LG_MUST_CHECK enum lg_status policy_configure(struct config *job, const struct policy **policy,
                                              double values[POLICY_PARAMS_MAX], struct lg_error *error);
/* Does it fit to how the job's trainers work? `pipeline`: train.pipeline. */
LG_MUST_CHECK enum lg_status policy_check(const struct policy *policy, const struct config *job, int64_t pipeline,
                                          struct lg_error *error);

#endif
