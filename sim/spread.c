#include "sim/spread.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

void spread_deinit(struct spread *spread) {
    free(spread->counts);
    *spread = (struct spread){0};
}

static bool reserve(struct spread *spread, size_t needed) {
    size_t capacity = spread->capacity ? spread->capacity : 64;
    while (capacity < needed)
        capacity *= 2;
    if (capacity == spread->capacity)
        return true;
    uint64_t *counts = realloc(spread->counts, capacity * sizeof *counts);
    if (!counts)
        return false;
    memset(counts + spread->capacity, 0, (capacity - spread->capacity) * sizeof *counts);
    spread->counts = counts;
    spread->capacity = capacity;
    return true;
}

static size_t bin_of(double weight) {
    if (!(weight > 0))
        return 0;
    return weight >= 1 ? SPREAD_WEIGHT_BINS - 1 : (size_t)ceil(weight * (SPREAD_WEIGHT_BINS - 1));
}

bool spread_add(struct spread *spread, uint64_t staleness, double weight, uint64_t samples) {
    size_t at = staleness < SPREAD_EXACT_MAX ? (size_t)staleness : SPREAD_EXACT_MAX;
    if (!reserve(spread, at + 1))
        return false;
    if (spread->pushes == 0 || weight < spread->weight_least)
        spread->weight_least = weight;
    if (staleness > spread->staleness_max)
        spread->staleness_max = staleness;
    spread->pushes++;
    spread->counts[at]++;
    spread->weight_bins[bin_of(weight)]++;
    spread->staleness_sum += (double)staleness;
    spread->weight_sum += weight;
    spread->weighted_samples += weight * (double)samples;
    return true;
}

double spread_staleness_mean(const struct spread *spread) {
    return spread->pushes ? spread->staleness_sum / (double)spread->pushes : 0;
}

double spread_weight_mean(const struct spread *spread) {
    return spread->pushes ? spread->weight_sum / (double)spread->pushes : 1;
}

uint64_t spread_quantile(const struct spread *spread, double share) {
    uint64_t seen = 0, rank = (uint64_t)ceil(share * (double)spread->pushes);
    for (size_t i = 0; i < spread->capacity; i++) {
        seen += spread->counts[i];
        if (seen >= rank && seen > 0)
            return i < spread->staleness_max ? i : spread->staleness_max;
    }
    return spread->staleness_max;
}
