/* How long steps take: draws of one worker, from its own stream of random numbers. */
#ifndef LAGOON_SIM_STEP_TIMES_H
#define LAGOON_SIM_STEP_TIMES_H

#include "common/random.h"
#include "sim/sim_options.h"

enum step_distribution { STEP_CONSTANT, STEP_LOGNORMAL, STEP_EXPONENTIAL, STEP_GAMMA, STEP_TRACE };

/* Of one class of workers; shared by them. */
struct step_times {
    enum step_distribution distribution;
    double mean_s, sigma, shape;
    double *trace_s; /* [trace_count], times the slowness; owned */
    size_t trace_count;
};

/* Reads the class's trace file where it has one; errors name file and line. */
LG_MUST_CHECK enum lg_status step_times_init(struct step_times *times, const struct sim_options *options,
                                             const struct sim_class *class, struct lg_error *error);
void step_times_deinit(struct step_times *times);

/* One step, in seconds. `place` is the worker's place in a trace, and moves; it starts at step_times_place. */
double step_times_draw(const struct step_times *times, struct random *random, size_t *place);
size_t step_times_place(const struct step_times *times, struct random *random);

/* Exponential with this mean. */
double step_times_exponential(struct random *random, double mean_s);

#endif
