/* Training as it is done: daemons, two workers, a model of ten million parameters; what share of a step the trainers
 * spend waiting for pushes and pulls. */
#ifndef LAGOON_BENCH_TRAINING_H
#define LAGOON_BENCH_TRAINING_H

#include "bench/group.h"

/* Adds training.shm.share (of a step), training.shm.rate (samples per second of both workers), and the same of tcp,
 * once per round. Where lagoon-server or lagoon-worker are missing, that is noted and nothing is measured. */
LG_MUST_CHECK enum lg_status training_run(const struct probe_plan *plan, struct figures *figures,
                                          struct omissions *omissions, struct lg_error *error);

#endif
