/* Job files: read, overridden by KEY=VALUE arguments, checked against every registry. */
#ifndef LAGOON_CLI_JOB_FILE_H
#define LAGOON_CLI_JOB_FILE_H

#include "client/job.h"

/* `path` may be NULL (defaults only). The config is the caller's. */
LG_MUST_CHECK enum lg_status job_file_load(const char *path, const char *const *overrides, int override_count,
                                           struct config **config, struct job_config *job, struct lg_error *error);

/* The check behind it: shared keys, model, dataset, updater, policy, nothing unknown. */
LG_MUST_CHECK enum lg_status job_file_check(struct config *config, struct job_config *job, struct lg_error *error);

#endif
