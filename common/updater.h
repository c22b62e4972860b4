/* Updaters: the optimizers that run on the shard, and in trainers that take local steps. One file under
 * common/updaters/ and one line in updater.def add one.
 *
 * The shard decides scalars once per push and unit (`decide`: a pure function of the recorded decision), then applies
 * them in chunks of up to UPDATER_CHUNK elements with a kernel that uses + - * / sqrt and compares only. Where the
 * staleness weight enters each rule is said in its file. */
#ifndef LAGOON_COMMON_UPDATER_H
#define LAGOON_COMMON_UPDATER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/config.h"
#include "common/isa.h"
#include "common/status.h"

enum { UPDATER_CHUNK = 4096, UPDATER_STATES_MAX = 2, UPDATER_PARAMS_MAX = 8, UPDATER_SCALARS_MAX = 10 };

/* One number an updater can be given: `updater.NAME` in the job. */
struct updater_param {
    const char *name;
    double fallback, least, most;
    const char *help;
};

/* What is known when the scalars are decided. */
struct updater_moment {
    float learning_rate; /* schedule x group factor */
    float weight;        /* staleness weight s > 0 */
    float weight_decay;  /* 0 for tensors without decay */
    uint64_t step;       /* applied updates of this unit, this one included: 1, 2, ... */
};

typedef void updater_apply_fn(float *w, float *const *states, const float *g, size_t n, const float *scalars);

struct updater {
    const char *name;
    const char *summary;
    const char *formula;
    const struct updater_param *params;
    size_t param_count;
    uint32_t state_count; /* f32 arrays of the unit's size, zero at first */
    uint32_t scalar_count;
    bool no_weight_decay; /* jobs that ask for weight decay are refused */
    /* values[param_count] as configured; fills scalars[scalar_count]. Replay decides again from the recorded moment, so
     * the bits must agree everywhere: + - * / and sqrt only, no libm. */
    void (*decide)(const double *values, const struct updater_moment *moment, float *scalars);
    updater_apply_fn *const *apply; /* [ISA_COUNT]; NULL where the build lacks the set */
};

const struct updater *const *updaters(size_t *count);
LG_MUST_CHECK enum lg_status updater_find(const char *name, const struct updater **out, struct lg_error *error);
/* Reads "updater.kind" and "updater.*" of a job; unknown and out-of-range parameters are refused with place. */
LG_MUST_CHECK enum lg_status updater_configure(struct config *job, const struct updater **updater,
                                               double values[UPDATER_PARAMS_MAX], struct lg_error *error);
/* The same for "local.updater.kind" and "local.updater.*": what trainers use that take local steps. */
LG_MUST_CHECK enum lg_status updater_configure_local(struct config *job, const struct updater **updater,
                                                     double values[UPDATER_PARAMS_MAX], struct lg_error *error);

#endif
