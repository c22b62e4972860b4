/* Text written by a job's language model: pulls the parameters, runs the model here. */
#ifndef LAGOON_CLI_SAMPLE_H
#define LAGOON_CLI_SAMPLE_H

#include "cli/cli.h"

struct sample_request {
    const char *job;
    uint64_t bytes, seed;
    double temperature; /* 0: always the likeliest byte */
    const char *prompt;
};

/* Writes the sample to `out`; returns an exit code. */
int sample_text(const struct cli *cli, const struct sample_request *request, FILE *out);

#endif
