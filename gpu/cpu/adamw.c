/* AdamW: the updater that shards apply (common/updaters/adamw.c), on all threads. */
#include "gpu/cpu/cpu.h"

#include "common/updaters/kernel.h"

enum { GRAIN = 16384 /* elements */ };

struct adamw {
    updater_apply_fn *apply;
    float scalars[UPDATER_SCALARS_MAX];
    const float *gradients;
    float *parameters, *m, *v;
};

static void adamw_range(void *context, size_t first, size_t last, unsigned thread) {
    struct adamw *a = context;
    (void)thread;
    for (size_t at = first; at < last; at += UPDATER_CHUNK) {
        size_t n = last - at < UPDATER_CHUNK ? last - at : UPDATER_CHUNK;
        a->apply(a->parameters + at, (float *const[]){a->m + at, a->v + at}, a->gradients + at, n, a->scalars);
    }
}

void cpu_adamw(struct device_stream *s, size_t n, const struct device_adamw *rule, const float *gradients,
               float *parameters, float *m, float *v) {
    const double values[] = {rule->beta1, rule->beta2, rule->epsilon};
    const struct updater_moment moment = {
        .learning_rate = rule->rate, .weight = 1, .weight_decay = rule->weight_decay, .step = rule->step};
    struct adamw a = {
        .apply = updater_adamw.apply[isa_detect()], .gradients = gradients, .parameters = parameters, .m = m, .v = v};
    updater_adamw.decide(values, &moment, a.scalars);
    cpu_split(cpu_of(s), n, GRAIN, 16, adamw_range, &a);
}
