/* A probe: one thing that is measured, again in every round. Stations (processes that stand ready between measurements)
 * are opened first, then the probes of a group are run in rounds, one behind the other, so that what disturbs the
 * machine disturbs all of them. */
#ifndef LAGOON_BENCH_PROBE_H
#define LAGOON_BENCH_PROBE_H

#include <signal.h>

#include "bench/figures.h"
#include "bench/process.h"

struct probe {
    char name[FIGURE_NAME_BYTES]; /* of its main figure; others append to it: NAME.cpu, NAME.p50 */
    void *station;
    /* Does the work `count` times and adds the round's values to `figures`, or to nothing where that is NULL (warming
     * up). Sets spent_s. */
    enum lg_status (*measure)(struct probe *probe, struct figures *figures, struct lg_error *error);
    uint32_t what;  /* the station's */
    uint32_t least; /* count is never below this; 0: 1 */
    uint32_t count;
    uint64_t bytes; /* of one time, for rates; 0: all of the station's */
    double spent_s; /* by the last measurement */
};

struct probe_plan {
    unsigned begin, rounds;                        /* number of the first round, and of the one that is not run */
    double seconds;                                /* that one measurement should last */
    void (*tell)(void *context, const char *what); /* progress; may be NULL */
    void *context;
    const volatile sig_atomic_t *interrupted; /* once it is not 0, the run ends with LG_CANCELLED; may be NULL */
};

/* Warms every probe up, fits its count to the plan, then runs the rounds. */
LG_MUST_CHECK enum lg_status probes_run(struct probe *probes, size_t count, const struct probe_plan *plan,
                                        struct figures *figures, struct lg_error *error);

/* LG_CANCELLED once the run was interrupted. */
LG_MUST_CHECK enum lg_status probe_plan_check(const struct probe_plan *plan, struct lg_error *error);

/* Adds probe->name + ending ("" or ".cpu"); does nothing where `figures` is NULL. */
LG_MUST_CHECK enum lg_status probe_add(const struct probe *probe, struct figures *figures, const char *ending,
                                       const char *unit, double value, struct lg_error *error);
/* NAME.p50 and NAME.p99 in microseconds, from values[0] and values[1] of the report. */
LG_MUST_CHECK enum lg_status probe_add_latency(const struct probe *probe, struct figures *figures,
                                               const struct process_report *report, struct lg_error *error);

#endif
