/* Declares every policy's descriptor, for its own file and for the table. */
#ifndef LAGOON_SERVER_POLICIES_POLICIES_H
#define LAGOON_SERVER_POLICIES_POLICIES_H

#include "server/policy.h"

#define X(symbol) extern const struct policy policy_##symbol;
#include "server/policy.def"
#undef X

#define POLICY_PARAMS(table) .params = table, .param_count = sizeof table / sizeof *table

#endif
