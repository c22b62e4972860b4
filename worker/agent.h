/* The agent: the daemon half of lagoon-worker. It registers with the coordinator, starts a trainer process for each
 * piece of work it is given, streams what they print, counts what they do, and reports how they end. Trainers die with
 * it.
 *
 * One thread, one libuv loop, nothing blocks. Files: agent.c (life), agent_link.c (the coordinator), agent_trainer.c
 * (one process), agent_lines.c (text), agent_host.c (its neighbours on this host), agent_stats.c (the stats endpoint).
 */
#ifndef LAGOON_WORKER_AGENT_H
#define LAGOON_WORKER_AGENT_H

#include "common/status.h"
#include "worker/worker_config.h"

/* Runs until SIGTERM or SIGINT, then stops its trainers and returns LG_OK; or fails at start with one clear error.
 * Trainers are started as `program --trainer LABEL`; "/proc/self/exe" is this program itself. */
LG_MUST_CHECK enum lg_status agent_run(const struct worker_config *config, const char *program, struct lg_error *error);

#endif
