/* The trainer: the process that an agent starts for one piece of work. Opens the job's dataset and model, joins, and
 * then does what its leases say, until the job is finished or somebody asks it to stop. */
#ifndef LAGOON_WORKER_TRAINER_H
#define LAGOON_WORKER_TRAINER_H

#include "worker/trainer_handover.h"

enum trainer_exit {
    TRAINER_EXIT_DONE = 0,          /* the job is finished, or the trainer was asked to stop */
    TRAINER_EXIT_FAILED = 1,        /* something that may go well next time: started again, up to a limit */
    TRAINER_EXIT_CONFIGURATION = 3, /* would fail the same way again: the job fails, with the reason */
    TRAINER_EXIT_FENCED = 4,        /* replaced by another trainer */
};

/* What every trainer does first: dies with its agent from here on, reads the handover from standard input. */
LG_MUST_CHECK enum lg_status trainer_begin(struct trainer_handover *out, struct lg_error *error);
/* Everything else; returns the exit code, after saying the reason on standard error and to the agent, which listens
 * on `numbers_fd` (a socket; -1: nobody does). */
int trainer_run(struct trainer_handover *handover, int numbers_fd);
/* Both. */
int trainer_main(void);

#endif
