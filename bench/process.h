/* Processes of a benchmark: forked, told what to do over a socket pair, and gone with the one that forked them. */
#ifndef LAGOON_BENCH_PROCESS_H
#define LAGOON_BENCH_PROCESS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "common/status.h"

enum { PROCESS_TEXT_BYTES = 512, PROCESS_VALUES = 4 };

struct process {
    pid_t pid; /* 0: none */
    int fd;
};

/* What is to be done `count` times; the meaning of the rest is the station's. */
struct process_order {
    uint32_t what, count;
    uint64_t bytes;
};

struct process_report {
    uint32_t status;         /* enum lg_status */
    double began_s, ended_s; /* on the monotonic clock, which all processes share */
    double values[PROCESS_VALUES];
    char text[PROCESS_TEXT_BYTES]; /* the error, or what the order asked for */
};

/* Forks. The child is called `name` in lists and profiles, runs `run`, whose end of the pair is `fd`, and leaves with
 * what it returns; it dies with the parent. The parent must have one thread only. The child first reports
 * (process_say), which is handed back in `report`. */
LG_MUST_CHECK enum lg_status process_start(struct process *process, const char *name,
                                           int (*run)(int fd, const void *context), const void *context,
                                           struct process_report *report, struct lg_error *error);
/* Kills and reaps; a process that was never started is fine. */
void process_stop(struct process *process);

/* Sends an order; hears its report, which may be a failure. An order and its report take PROCESS_TIMEOUT_S at most. */
LG_MUST_CHECK enum lg_status process_tell(struct process *process, const struct process_order *order,
                                          struct lg_error *error);
LG_MUST_CHECK enum lg_status process_hear(struct process *process, struct process_report *report,
                                          struct lg_error *error);
/* Both. */
LG_MUST_CHECK enum lg_status process_ask(struct process *process, const struct process_order *order,
                                         struct process_report *report, struct lg_error *error);
/* Processor time of all its threads so far, in seconds. */
double process_cpu_s(const struct process *process);
/* Page faults of all its threads so far that needed no disk. */
uint64_t process_faults(const struct process *process);

/* ---- in the child */

/* The next order; false when the parent has gone. */
bool process_next(int fd, struct process_order *order);
bool process_say(int fd, const struct process_report *report);
/* A report of a failure. */
bool process_say_error(int fd, const struct lg_error *error);

/* Seconds on the monotonic clock. */
double process_now_s(void);

#endif
