/* What the registries of updaters and policies share: reading a table of numbers from a job's configuration. */
#ifndef LAGOON_COMMON_REGISTRY_H
#define LAGOON_COMMON_REGISTRY_H

#include <stddef.h>

#include "common/config.h"
#include "common/status.h"

enum { REGISTRY_PARAMS_MAX = 8 };

struct registry_param {
    const char *name;
    double fallback, least, most;
    const char *help;
};

/* Fills values[count] with the defaults, then with "PREFIXname" of every parameter; entries below `prefix` that are
 * neither a parameter nor `kind_key` are refused with place and the nearest name. `owner` ("updater \"adam\"") is for
 * messages. count <= REGISTRY_PARAMS_MAX. */
LG_MUST_CHECK enum lg_status registry_read_params(struct config *job, const char *prefix, const char *kind_key,
                                                  const char *owner, const struct registry_param *params, size_t count,
                                                  double *values, struct lg_error *error);

/* LG_INVALID: `unknown WHAT "NAME"; did you mean "NEAREST"? there are: a, b, c`. `names` ends with NULL. */
enum lg_status registry_unknown(const char *what, const char *name, const char *const *names, struct lg_error *error);

#endif
