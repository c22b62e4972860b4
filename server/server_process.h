/* The shard-hosting role of lagoon-server: shard threads, and a control loop (libuv, this thread) that keeps the
 * coordinator informed, passes its commands to the shards, and serves /metrics. The loop never blocks. */
#ifndef LAGOON_SERVER_SERVER_PROCESS_H
#define LAGOON_SERVER_SERVER_PROCESS_H

#include "common/status.h"
#include "server/server_config.h"

/* Runs until SIGTERM or SIGINT (LG_OK), or fails at start with one clear error. */
LG_MUST_CHECK enum lg_status server_process_run(const struct server_config *config, struct lg_error *error);

#endif
