/* Between queries.c and queries_job.c. Every function returns a new reference, NULL without memory. */
#ifndef LAGOON_SERVER_COORDINATOR_QUERIES_H
#define LAGOON_SERVER_COORDINATOR_QUERIES_H

#include <jansson.h>

#include "server/coordinator/core.h"

json_t *query_time(int64_t wall_ms); /* "2026-03-01T12:00:00.123Z", or null for 0 */
json_t *query_number(uint64_t number);
/* Lines from number `since` on, at most `limit` (0: all); *next is the one to ask for next. */
json_t *query_lines(const struct line_ring *ring, bool log, uint64_t since, uint64_t limit, uint64_t *next);

const char *query_trainer_state(const struct trainer *trainer, const struct session *session);
/* What it computes on: as it says itself once it has joined, until then as its agent lists it. */
const char *query_trainer_device(const struct trainer *trainer, const struct session *session);
json_t *query_running_trainer(const struct coordinator *core, const struct trainer *trainer);
json_t *query_jobs(const struct coordinator *core);
json_t *query_job(const struct coordinator *core, const struct job *job);

#endif
