/* How a trainer hears that it should stop. Process-wide, as signals are. */
#ifndef LAGOON_WORKER_TRAINER_STOP_H
#define LAGOON_WORKER_TRAINER_STOP_H

#include <stdbool.h>
#include <stdint.h>

/* From now on SIGTERM asks the trainer to stop; SIGINT is left to the agent, which gets it from the terminal too. */
void trainer_stop_install(void);
bool trainer_stop_asked(void);
/* Between true and false nothing is in flight that a step would have to finish: SIGTERM ends the process at once, with
 * exit code 0. */
void trainer_stop_idle(bool idle);
/* Sleeps, but not beyond being asked to stop. */
void trainer_stop_sleep(uint64_t ns);

#endif
