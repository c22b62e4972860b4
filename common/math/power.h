/* base^exponent by repeated squaring: the same bits everywhere, unlike libm's pow. Replays rely on it. */
#ifndef LAGOON_COMMON_MATH_POWER_H
#define LAGOON_COMMON_MATH_POWER_H

#include <stdint.h>

static inline double power(double base, uint64_t exponent) {
    double result = 1;
    for (; exponent > 0; exponent >>= 1) {
        if (exponent & 1)
            result *= base;
        base *= base;
    }
    return result;
}

#endif
