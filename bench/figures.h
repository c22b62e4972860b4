/* Figures of a run: named series with one value per round, and what is said about them. */
#ifndef LAGOON_BENCH_FIGURES_H
#define LAGOON_BENCH_FIGURES_H

#include <stdbool.h>
#include <stddef.h>

#include "common/status.h"

enum { FIGURE_NAME_BYTES = 64, FIGURE_ROUNDS_MAX = 64 };

struct figure {
    char name[FIGURE_NAME_BYTES]; /* "tcp.push.64MiB" */
    const char *unit;             /* static: "GB/s", "us", "s/GB", "Gparam/s", "" */
    double values[FIGURE_ROUNDS_MAX];
    size_t count;
};

struct figures {
    struct figure *list; /* in the order of the first value */
    size_t count, capacity;
};

/* Appends a value to the series `name`, which it makes when there is none; past FIGURE_ROUNDS_MAX it is dropped. */
LG_MUST_CHECK enum lg_status figures_add(struct figures *figures, const char *name, const char *unit, double value,
                                         struct lg_error *error);
const struct figure *figures_find(const struct figures *figures, const char *name);
void figures_deinit(struct figures *figures);

struct spread {
    double median, low, high; /* low and high: the quartiles */
    double least, most;
    size_t count;
};

/* count 0: all zero. */
struct spread spread_of(const double *values, size_t count);
/* values[i] = above.values[i] / below.values[i]: both were taken in the same round. Returns how many. */
size_t figures_divide(const struct figure *above, const struct figure *below, double values[FIGURE_ROUNDS_MAX]);

#endif
