/* Running statistics of a job on a shard: counts, and the distribution of staleness. */
#ifndef LAGOON_SERVER_TALLY_H
#define LAGOON_SERVER_TALLY_H

#include <stdint.h>

enum {
    TALLY_EXACT = 64,                           /* staleness below it has a bucket of its own */
    TALLY_BUCKETS = TALLY_EXACT + 4 * (64 - 6), /* then four per doubling */
};

struct tally {
    uint64_t pushes;  /* whole and applied */
    uint64_t samples; /* applied */
    uint64_t dropped; /* samples of pushes with weight zero */
    uint64_t duplicates, push_bytes, pull_bytes;
    uint64_t pulls;     /* answers with values, and parts that told of values read in place */
    uint64_t old_bases; /* pushes whose base was of an earlier epoch of the shard */
    uint64_t weighed;   /* pushes that got a staleness and a weight */
    double staleness_sum, weight_sum;
    uint64_t staleness_max;
    uint64_t buckets[TALLY_BUCKETS];
};

void tally_observe(struct tally *tally, uint64_t staleness, float weight);
double tally_staleness_mean(const struct tally *tally);
double tally_weight_mean(const struct tally *tally);
/* The greatest staleness of the bucket in which the 99th percentile lies, at most the maximum. */
uint64_t tally_staleness_p99(const struct tally *tally);

#endif
