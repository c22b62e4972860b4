/* Writing a job's parameters to a file. */
#ifndef LAGOON_CLI_EXPORT_H
#define LAGOON_CLI_EXPORT_H

#include "cli/cli.h"

struct export_summary {
    size_t tensors;
    uint64_t parameters;
};

LG_MUST_CHECK enum lg_status export_job(const struct cli *cli, const char *job, const char *path,
                                        struct export_summary *summary, struct lg_error *error);

#endif
