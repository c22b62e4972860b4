/* A job's current parameters, pulled as an observer. */
#ifndef LAGOON_CLI_PULLED_H
#define LAGOON_CLI_PULLED_H

#include "cli/cli.h"
#include "client/lagoon.h"

struct pulled {
    struct lg_client *client; /* open: its tensor table and spec are borrowed from it */
    const struct tensor_spec *specs;
    size_t count;
    float *values; /* flat */
};

LG_MUST_CHECK enum lg_status pulled_open(struct pulled *pulled, const struct cli *cli, const char *job,
                                         struct lg_error *error);
void pulled_close(struct pulled *pulled);

#endif
