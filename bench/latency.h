/* Percentiles of many short times. */
#ifndef LAGOON_BENCH_LATENCY_H
#define LAGOON_BENCH_LATENCY_H

#include <stddef.h>

enum { LATENCY_SAMPLES_MAX = 20000 };

struct latency {
    float us[LATENCY_SAMPLES_MAX];
    size_t count;
};

void latency_begin(struct latency *latency);
/* Past LATENCY_SAMPLES_MAX: dropped. */
void latency_add(struct latency *latency, double seconds);
/* In microseconds; 0 where nothing was added. Sorts. */
void latency_end(struct latency *latency, double *p50, double *p99);

#endif
