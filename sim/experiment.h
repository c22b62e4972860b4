/* An experiment: a job, pretended machines, and what is varied. Every combination is a cell, and each cell runs once
 * with every seed.
 *
 *   grid.KEY: [A, B]          one axis: KEY takes each value
 *   variants.NAME.KEY: VALUE  one axis: each NAME sets its keys
 */
#ifndef LAGOON_SIM_EXPERIMENT_H
#define LAGOON_SIM_EXPERIMENT_H

#include <jansson.h>
#include <signal.h>
#include <stdio.h>

#include "common/config.h"

enum { EXPERIMENT_CELLS_MAX = 4096, EXPERIMENT_AXES_MAX = 16, EXPERIMENT_LABEL_BYTES = 256 };

struct experiment_cell {
    char label[EXPERIMENT_LABEL_BYTES]; /* what is varied: "inverse, lr.base 0.1"; "" where nothing is */
    struct config *config;              /* the job's keys and sim.* */
    json_t *varied;                     /* {key: value} */
    json_t **runs;                      /* [seed_count] documents; NULL: not run */
};

struct experiment {
    const char *path; /* borrowed */
    struct config *base;
    struct experiment_cell *cells;
    size_t cell_count, seed_count;
    int64_t seeds[32];
};

struct experiment_options {
    unsigned jobs; /* processes at once */
    bool live;     /* a line that changes, else a line for each run */
    FILE *progress;
    const volatile sig_atomic_t *interrupted;
};

/* Checks the job's keys of one cell; the caller knows them all. */
typedef enum lg_status experiment_check_fn(struct config *job, struct lg_error *error);

/* Reads the file and `overrides` ("key=value"); everything wrong is found before anything runs. */
LG_MUST_CHECK enum lg_status experiment_load(const char *path, const char *const *overrides, size_t override_count,
                                             experiment_check_fn *check, struct experiment *out,
                                             struct lg_error *error);
void experiment_free(struct experiment *experiment);
/* Runs every cell with every seed. What was done is kept also after an interruption (LG_CANCELLED) or a failed run. */
LG_MUST_CHECK enum lg_status experiment_run(struct experiment *experiment, const struct experiment_options *options,
                                            struct lg_error *error);

/* ---- report.c, plot.c */

/* Mean and half of the 95 % interval (Student's t) over `count` values. */
struct estimate {
    double mean, interval; /* interval NaN for less than two values */
    size_t count;
};
struct estimate estimate_of(const double *values, size_t count);

void experiment_print(const struct experiment *experiment, FILE *out);
json_t *experiment_document(const struct experiment *experiment); /* NULL: no memory */
LG_MUST_CHECK enum lg_status experiment_plot(const struct experiment *experiment, const char *path,
                                             struct lg_error *error);

#endif
