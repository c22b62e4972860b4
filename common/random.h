/* Seeded random numbers: the same seed gives the same bits on every machine. Not for secrets. */
#ifndef LAGOON_COMMON_RANDOM_H
#define LAGOON_COMMON_RANDOM_H

#include <stdint.h>

/* xoshiro256** (Blackman, Vigna 2018), seeded through splitmix64. */
struct random {
    uint64_t state[4];
};

void random_init(struct random *random, uint64_t seed);
/* A generator for sub-stream `stream` of `seed`: streams of one seed are independent for practical purposes. */
void random_init_stream(struct random *random, uint64_t seed, uint64_t stream);
uint64_t random_u64(struct random *random);
/* Uniform in [0, bound), without modulo bias; bound > 0. */
uint64_t random_below(struct random *random, uint64_t bound);
/* Uniform in [0, 1) with 24 (float) or 53 (double) random bits. */
float random_float(struct random *random);
double random_double(struct random *random);
/* Standard normal (Marsaglia's polar method; uses log and sqrt of libm, so bits may differ between machines). */
float random_normal(struct random *random);
/* One well-mixed 64-bit word from two, stateless (splitmix64 finaliser): for keys and per-item streams. */
uint64_t random_mix(uint64_t a, uint64_t b);

#endif
