#include "common/random.h"

#include <math.h>

static uint64_t splitmix(uint64_t *state) {
    uint64_t z = (*state += 0x9E3779B97F4A7C15u);
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
}

uint64_t random_mix(uint64_t a, uint64_t b) {
    uint64_t state = a;
    state = splitmix(&state) ^ b;
    return splitmix(&state);
}

void random_init(struct random *random, uint64_t seed) {
    for (int i = 0; i < 4; i++)
        random->state[i] = splitmix(&seed);
}

void random_init_stream(struct random *random, uint64_t seed, uint64_t stream) {
    random_init(random, random_mix(seed, stream));
}

static uint64_t rotate_left(uint64_t x, int bits) {
    return (x << bits) | (x >> (64 - bits));
}

uint64_t random_u64(struct random *random) {
    uint64_t *s = random->state;
    uint64_t result = rotate_left(s[1] * 5, 7) * 9;
    uint64_t t = s[1] << 17;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = rotate_left(s[3], 45);
    return result;
}

uint64_t random_below(struct random *random, uint64_t bound) {
    uint64_t limit = UINT64_MAX - UINT64_MAX % bound;
    for (;;) {
        uint64_t x = random_u64(random);
        if (x < limit)
            return x % bound;
    }
}

float random_float(struct random *random) {
    return (float)(random_u64(random) >> 40) * 0x1p-24f;
}

double random_double(struct random *random) {
    return (double)(random_u64(random) >> 11) * 0x1p-53;
}

float random_normal(struct random *random) {
    for (;;) {
        double u = 2 * random_double(random) - 1, v = 2 * random_double(random) - 1;
        double s = u * u + v * v;
        if (s > 0 && s < 1)
            return (float)(u * sqrt(-2 * log(s) / s));
    }
}
