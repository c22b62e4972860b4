/* What every updater file needs: prototypes of all kernels, the table over instruction sets, and the arithmetic that
 * decides scalars. Kernels use + - * / sqrt and compares on floats only, so that bits agree over sets and compilers;
 * so does deciding, which replays run again. */
#ifndef LAGOON_COMMON_UPDATERS_KERNEL_H
#define LAGOON_COMMON_UPDATERS_KERNEL_H

#include "common/math/power.h"
#include "common/updater.h"

/* One kernel per updater and set: sgd_apply_base, sgd_apply_avx2, ... */
#define X(symbol) updater_apply_fn symbol##_apply_base, symbol##_apply_avx2, symbol##_apply_avx512;
#include "common/updater.def"
#undef X

#if defined(__x86_64__)
#define UPDATER_KERNELS(symbol)                                                                                        \
    { [ISA_BASE] = symbol##_apply_base, [ISA_AVX2] = symbol##_apply_avx2, [ISA_AVX512] = symbol##_apply_avx512 }
#else
#define UPDATER_KERNELS(symbol)                                                                                        \
    { [ISA_BASE] = symbol##_apply_base }
#endif

#define X(symbol) extern const struct updater updater_##symbol;
#include "common/updater.def"
#undef X

/* Decoupled weight decay, once per applied update, scaled like the push: w loses this share of itself. */
static inline float kernel_decay(const struct updater_moment *moment) {
    return (float)((double)moment->learning_rate * (double)moment->weight_decay * (double)moment->weight);
}

/* Learning rate times staleness weight, for rules where scaling the gradient would cancel out or not be meant. */
static inline float kernel_scaled_rate(const struct updater_moment *moment) {
    return (float)((double)moment->learning_rate * (double)moment->weight);
}

#endif
