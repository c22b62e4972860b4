#include "common/isa.h"

#include <string.h>

static const char *const names[ISA_COUNT] = {[ISA_BASE] = "base", [ISA_AVX2] = "avx2", [ISA_AVX512] = "avx512"};

static bool isa_available(enum isa isa) {
#if defined(__x86_64__)
    switch (isa) {
    case ISA_BASE:
        return true;
    case ISA_AVX2:
        return __builtin_cpu_supports("avx2");
    case ISA_AVX512: /* what the kernels are compiled with */
        return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
               __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq");
    case ISA_COUNT:
        break;
    }
    return false;
#else
    return isa == ISA_BASE;
#endif
}

enum isa isa_detect(void) {
    enum isa widest = ISA_BASE;
    for (int i = 0; i < ISA_COUNT; i++)
        if (isa_available((enum isa)i))
            widest = (enum isa)i;
    return widest;
}

enum lg_status isa_parse(const char *text, enum isa *isa, struct lg_error *error) {
    if (strcmp(text, "auto") == 0) {
        *isa = isa_detect();
        return LG_OK;
    }
    for (int i = 0; i < ISA_COUNT; i++) {
        if (strcmp(text, names[i]) != 0)
            continue;
        if (!isa_available((enum isa)i))
            return lg_fail(error, LG_UNSUPPORTED, "this machine has no \"%s\" instructions: use \"auto\"", text);
        *isa = (enum isa)i;
        return LG_OK;
    }
    return lg_fail(error, LG_INVALID, "unknown instruction set \"%s\": must be auto, base, avx2 or avx512", text);
}

const char *isa_name(enum isa isa) {
    return (unsigned)isa < ISA_COUNT ? names[isa] : "unknown";
}
