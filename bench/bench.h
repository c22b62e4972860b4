/* `lagoon bench`: the limits of this machine and Lagoon beside them, in one run. */
#ifndef LAGOON_BENCH_BENCH_H
#define LAGOON_BENCH_BENCH_H

#include <jansson.h>
#include <stdio.h>

#include "bench/figures.h"
#include "bench/group.h"

struct bench_options {
    bool quick;            /* only what the bars need */
    const char *filter;    /* "" : everything */
    unsigned rounds;       /* of every group */
    double seconds;        /* that one measurement should last */
    uint64_t tensor_bytes; /* the bars are about 64 MiB; other sizes are for trying things */
    FILE *table;           /* for people; NULL: none */
    const volatile sig_atomic_t *interrupted;
    bool live; /* `stderr` is a terminal: progress is overwritten there */
};

struct bench_result {
    struct figures figures;
    struct omissions omissions;
    const struct bench_options *options;
    double seconds; /* that the run took */
};

/* Measures and prints as it goes. The process must have one thread. */
LG_MUST_CHECK enum lg_status bench_run(const struct bench_options *options, struct bench_result *result,
                                       struct lg_error *error);
void bench_result_deinit(struct bench_result *result);

/* ---- ratios */

struct ratio {
    const char *name;                                        /* as docs/performance.md has it */
    char above[FIGURE_NAME_BYTES], below[FIGURE_NAME_BYTES]; /* figures; below "" : the figure itself */
    bool at_most;                                            /* else the bar is at least */
    double bar;                                              /* 0: none */
    double values[FIGURE_ROUNDS_MAX];
    struct spread spread; /* count 0: not measured */
};

enum { RATIOS_MAX = 32 };

/* Every ratio, computed where its figures are there. Returns how many. */
size_t bench_ratios(const struct bench_result *result, struct ratio ratios[RATIOS_MAX]);
bool ratio_met(const struct ratio *ratio);
/* True when every ratio that has a bar was measured and met it. */
bool bench_all_met(const struct bench_result *result);

/* ---- reports */

void bench_print_figures(const struct figures *figures, size_t first, FILE *out);
/* A row of the table over sizes: `name` is the size, "" prints the heading; `ending` as in "tcp.push.64MiB.2shards". */
void bench_print_size(const struct figures *figures, const char *name, const char *ending, FILE *out);
void bench_print_end(const struct bench_result *result, FILE *out);
/* The whole run as a document; NULL: no memory. */
json_t *bench_document(const struct bench_result *result);
/* Limits that came out lower than they should, one sentence each; returns how many. */
size_t bench_warnings(const struct bench_result *result, char (*texts)[160], size_t capacity);
/* Rate over tensor size for every transport, and the ratios against their bars. */
LG_MUST_CHECK enum lg_status bench_plot(const struct bench_result *result, const char *path, struct lg_error *error);

#endif
