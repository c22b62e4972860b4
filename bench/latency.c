#include "bench/latency.h"

#include <stdlib.h>

void latency_begin(struct latency *latency) {
    latency->count = 0;
}

void latency_add(struct latency *latency, double seconds) {
    if (latency->count < LATENCY_SAMPLES_MAX)
        latency->us[latency->count++] = (float)(seconds * 1e6);
}

static int compare(const void *left, const void *right) {
    const float *a = left, *b = right;
    return (*a > *b) - (*a < *b);
}

void latency_end(struct latency *latency, double *p50, double *p99) {
    *p50 = *p99 = 0;
    if (latency->count == 0)
        return;
    qsort(latency->us, latency->count, sizeof *latency->us, compare);
    *p50 = (double)latency->us[latency->count / 2];
    *p99 = (double)latency->us[latency->count * 99 / 100];
}
