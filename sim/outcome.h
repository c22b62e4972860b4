/* A run's outcome as a JSON document: how it comes out of its process, and into the report. */
#ifndef LAGOON_SIM_OUTCOME_H
#define LAGOON_SIM_OUTCOME_H

#include <jansson.h>

#include "sim/simulation.h"

/* NULL when there is no memory. Numbers that are not finite are null. */
json_t *outcome_document(const struct sim_outcome *outcome, uint64_t seed, enum lg_status status,
                         const struct lg_error *error);
/* A number of a document, by a dotted path: "staleness.mean"; NaN where it is null or not there. */
double outcome_number(const json_t *document, const char *path);

#endif
