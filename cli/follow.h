/* Watching a job until it ends: a progress line on a terminal, plain lines in a pipe. */
#ifndef LAGOON_CLI_FOLLOW_H
#define LAGOON_CLI_FOLLOW_H

#include <stdbool.h>
#include <stdio.h>

#include "cli/link.h"

struct follow {
    const char *job;
    FILE *out;
    bool quiet;         /* only wait */
    bool history;       /* print the job's history as it happens */
    int64_t timeout_ms; /* 0: for ever */
    /* Called after every look at the job (about twice a second) with its document; false stops. May be NULL. */
    bool (*look)(void *context, const json_t *job);
    void *context;
};

/* Returns the exit code that tells how the job ended. *last (may be NULL) is the job's last document, the caller's. */
int follow_job(struct link *link, const struct follow *follow, json_t **last);

#endif
