#include "server/tally.h"

static uint32_t bucket_of(uint64_t staleness) {
    if (staleness < TALLY_EXACT)
        return (uint32_t)staleness;
    uint32_t power = 63 - (uint32_t)__builtin_clzll(staleness); /* 6 .. 63 */
    uint32_t quarter = (uint32_t)(staleness >> (power - 2)) & 3;
    return TALLY_EXACT + 4 * (power - 6) + quarter;
}

/* The greatest value in the bucket. */
static uint64_t bucket_most(uint32_t bucket) {
    if (bucket < TALLY_EXACT)
        return bucket;
    uint32_t power = 6 + (bucket - TALLY_EXACT) / 4, quarter = (bucket - TALLY_EXACT) % 4;
    return ((uint64_t)(4 + quarter) << (power - 2)) + ((UINT64_C(1) << (power - 2)) - 1);
}

void tally_observe(struct tally *tally, uint64_t staleness, float weight) {
    tally->weighed++;
    tally->staleness_sum += (double)staleness;
    tally->weight_sum += (double)weight;
    if (staleness > tally->staleness_max)
        tally->staleness_max = staleness;
    tally->buckets[bucket_of(staleness)]++;
}

double tally_staleness_mean(const struct tally *tally) {
    return tally->weighed ? tally->staleness_sum / (double)tally->weighed : 0;
}

double tally_weight_mean(const struct tally *tally) {
    return tally->weighed ? tally->weight_sum / (double)tally->weighed : 0;
}

uint64_t tally_staleness_p99(const struct tally *tally) {
    uint64_t rank = (tally->weighed * 99 + 99) / 100, seen = 0;
    for (uint32_t i = 0; i < TALLY_BUCKETS && tally->weighed > 0; i++) {
        seen += tally->buckets[i];
        if (seen >= rank)
            return bucket_most(i) < tally->staleness_max ? bucket_most(i) : tally->staleness_max;
    }
    return 0;
}
