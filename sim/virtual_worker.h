/* Inside a virtual worker: shared by virtual_worker.c (life, leases, what it hears), virtual_step.c (what it does with
 * a lease) and turns.c. */
#ifndef LAGOON_SIM_VIRTUAL_WORKER_H
#define LAGOON_SIM_VIRTUAL_WORKER_H

#include "sim/simulation_state.h"

/* ---- virtual_worker.c */

/* An event for the worker, unless it is lost before. */
void worker_later(const struct virtual_worker *worker, int64_t delay_ns, enum event_kind kind);
/* enum consistency_flags of the job's mode. */
bool worker_mode_has(const struct virtual_worker *worker, unsigned flags);
/* So that nobody waits for pushes of a worker that has nothing to train on. `applied`: until all shards have applied
 * what it pushed, it is not at rest. */
void worker_rest(struct virtual_worker *worker, bool applied);
/* Its session is over: it comes back as a new trainer. */
void worker_rejoin(struct virtual_worker *worker);
/* Takes up the lease that was asked for ahead; false: there is none. */
bool worker_begin_lease(struct virtual_worker *worker);
/* The lease at hand is done. */
void worker_report_lease(struct virtual_worker *worker);

/* ---- virtual_step.c */

/* Pushes initial values; false where the simulation cannot go on. */
bool worker_initialise(struct virtual_worker *worker);

/* ---- turns.c; where workers do not take turns they always have it */

/* False: it is queued, and driven when its turn comes. */
bool turn_take(struct virtual_worker *worker);
void turn_pass(struct virtual_worker *worker);
/* Also out of the queue. */
void turn_leave(struct virtual_worker *worker);

#endif
