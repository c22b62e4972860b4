/* The coordinator role of lagoon-server: a ROUTER, the core, the database's thread, the stats endpoint, on one libuv
 * loop. */
#ifndef LAGOON_SERVER_COORDINATOR_COORDINATOR_PROCESS_H
#define LAGOON_SERVER_COORDINATOR_COORDINATOR_PROCESS_H

#include <stdbool.h>
#include <stdint.h>

#include "common/status.h"

struct coordinator_options {
    const char *bind;      /* "127.0.0.1:7710"; port 0 picks one */
    const char *advertise; /* "" or host[:port] that others reach it by */
    bool exposed;          /* security: none, said in so many words: listening off loopback is wanted */
    const char *data_dir;  /* made when missing; its parent must exist */
    int64_t beat_ms, dead_after_ms, server_grace_ms;
    const char *http_bind, *http_token, *http_hosts; /* as http_options; NULL: defaults */
    uint16_t http_port;
    /* Called once everything listens, with "tcp://host:port" and "http://host:port"; a failure ends the process. May be
     * NULL. */
    enum lg_status (*ready)(void *context, const char *endpoint, const char *http, struct lg_error *error);
    void *context;
};

/* Runs until SIGTERM or SIGINT (LG_OK), or fails with one clear error. */
LG_MUST_CHECK enum lg_status coordinator_process_run(const struct coordinator_options *options, struct lg_error *error);

#endif
