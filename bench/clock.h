/* The clock of programs that measure. */
#ifndef LAGOON_BENCH_CLOCK_H
#define LAGOON_BENCH_CLOCK_H

#include <time.h>

/* Seconds since some moment; goes on while the process sleeps. */
static inline double clock_seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

#endif
