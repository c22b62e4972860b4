/* `submit --init FILE`: the command line itself pushes a job's initial values. */
#ifndef LAGOON_CLI_INITIAL_H
#define LAGOON_CLI_INITIAL_H

#include "cli/cli.h"

/* Waits until the job is defined, takes its initialise lease, pushes the tensors of `path`. When the file does not fit
 * the job is cancelled with the reason. Returns an exit code. */
int initial_push(const struct cli *cli, const char *job, const char *path);

/* Cancels a job; prints nothing. */
LG_MUST_CHECK enum lg_status cancel_job(const struct cli *cli, const char *job, const char *reason,
                                        struct lg_error *error);

#endif
