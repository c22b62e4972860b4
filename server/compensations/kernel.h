/* What every compensation's file needs: prototypes of its kernels and their table over instruction sets. Kernels use
 * + - * / sqrt and compares on floats only, so that bits agree over sets and compilers. */
#ifndef LAGOON_SERVER_COMPENSATIONS_KERNEL_H
#define LAGOON_SERVER_COMPENSATIONS_KERNEL_H

#include <math.h>

#include "common/math/power.h"
#include "server/policies/policies.h"

#define COMPENSATION_PROTOTYPES(symbol)                                                                                \
    compensate_fn symbol##_compensate_base, symbol##_compensate_avx2, symbol##_compensate_avx512;                      \
    compensation_learn_fn symbol##_learn_base, symbol##_learn_avx2, symbol##_learn_avx512

COMPENSATION_PROTOTYPES(dc_asgd);
COMPENSATION_PROTOTYPES(dc_asgd_adaptive);
COMPENSATION_PROTOTYPES(gap_aware);

#if defined(__x86_64__)
#define COMPENSATION_KERNELS(name)                                                                                     \
    { [ISA_BASE] = name##_base, [ISA_AVX2] = name##_avx2, [ISA_AVX512] = name##_avx512 }
#else
#define COMPENSATION_KERNELS(name)                                                                                     \
    { [ISA_BASE] = name##_base }
#endif

/* The weight of policies that act on each element alone. */
static inline float compensation_weight(const double *values, const struct policy_moment *moment) {
    (void)values, (void)moment;
    return 1;
}

#endif
