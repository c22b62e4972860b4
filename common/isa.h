/* Instruction sets that kernels (updaters, codecs) are compiled for, and the one picked at start.
 *
 * Every common/updaters/NAME.c, server/compensations/NAME.c and common/codecs/NAME.c is compiled once per set with
 * LG_ISA=base|avx2|avx512. Results are bit-identical over sets and compilers: kernels use + - * / sqrt, compares and
 * integers only (docs/decisions/). */
#ifndef LAGOON_COMMON_ISA_H
#define LAGOON_COMMON_ISA_H

#include <stdbool.h>

#include "common/status.h"

enum isa { ISA_BASE, ISA_AVX2, ISA_AVX512, ISA_COUNT };

/* The widest set that this CPU and this build have. */
enum isa isa_detect(void);
/* "auto", "base", "avx2" or "avx512"; fails where the CPU or the build lacks it. */
LG_MUST_CHECK enum lg_status isa_parse(const char *text, enum isa *isa, struct lg_error *error);
const char *isa_name(enum isa isa);

#define ISA_JOIN_(name, set) name##_##set
#define ISA_JOIN(name, set) ISA_JOIN_(name, set)
/* The name of a kernel in the object being compiled: ISA_NAME(sgd_apply) is sgd_apply_avx2. */
#define ISA_NAME(name) ISA_JOIN(name, LG_ISA)

#endif
