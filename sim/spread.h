/* How staleness and weights of a run's pushes were distributed. */
#ifndef LAGOON_SIM_SPREAD_H
#define LAGOON_SIM_SPREAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { SPREAD_WEIGHT_BINS = 21 }; /* 0; then (0, .05], (.05, .1] .. (.95, 1] */

/* Zeroed is empty. */
struct spread {
    uint64_t pushes;
    double staleness_sum, weight_sum;
    double weighted_samples; /* sum of weight x samples */
    uint64_t staleness_max;
    double weight_least;
    uint64_t *counts; /* [capacity] pushes with this staleness; beyond SPREAD_EXACT_MAX all are counted there */
    size_t capacity;
    uint64_t weight_bins[SPREAD_WEIGHT_BINS];
};

enum { SPREAD_EXACT_MAX = 1 << 20 };

void spread_deinit(struct spread *spread);
/* False when there is no memory; then the push is not counted. */
bool spread_add(struct spread *spread, uint64_t staleness, double weight, uint64_t samples);
double spread_staleness_mean(const struct spread *spread);
double spread_weight_mean(const struct spread *spread);
/* The least staleness that `share` of the pushes do not exceed. */
uint64_t spread_quantile(const struct spread *spread, double share);

#endif
