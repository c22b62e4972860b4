#include "server/policy.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "common/option.h"
#include "client/consistency.h"
#include "server/policies/policies.h"
#include "common/registry.h"

#define X(symbol) &policy_##symbol,
static const struct policy *const table[] = {
#include "server/policy.def"
};
#undef X

enum { COUNT = sizeof table / sizeof *table };

const struct policy *const *policies(size_t *count) {
    *count = COUNT;
    return table;
}

enum lg_status policy_find(const char *name, const struct policy **out, struct lg_error *error) {
    const char *names[COUNT + 1] = {NULL};
    for (size_t i = 0; i < COUNT; i++) {
        names[i] = table[i]->name;
        if (strcmp(table[i]->name, name) == 0) {
            *out = table[i];
            return LG_OK;
        }
    }
    return registry_unknown("staleness policy", name, names, error);
}

enum lg_status policy_configure(struct config *job, const struct policy **policy, double values[POLICY_PARAMS_MAX],
                                struct lg_error *error) {
    const struct policy *found = NULL;
    enum lg_status status = policy_find(config_take_text(job, "staleness.policy", "polynomial"), &found, error);
    if (status != LG_OK)
        return status;
    struct registry_param params[POLICY_PARAMS_MAX];
    assert(found->param_count <= POLICY_PARAMS_MAX);
    for (size_t i = 0; i < found->param_count; i++) {
        const struct policy_param *param = &found->params[i];
        params[i] = (struct registry_param){param->name, param->fallback, param->least, param->most, param->help};
    }
    char owner[64];
    snprintf(owner, sizeof owner, "staleness policy \"%s\"", found->name);
    status =
        registry_read_params(job, "staleness.", "staleness.policy", owner, params, found->param_count, values, error);
    if (status == LG_OK)
        *policy = found;
    return status;
}

/* Where the file has the key; the key alone where it has its default. */
static void place_of(const struct config *job, const char *key, char place[OPTION_TEXT_BYTES]) {
    const struct config_entry *entry = config_find(job, key);
    snprintf(place, OPTION_TEXT_BYTES, "%s", key);
    if (entry)
        config_place(entry, place, OPTION_TEXT_BYTES);
}

enum lg_status policy_check(const struct policy *policy, const struct config *job, int64_t pipeline,
                            struct lg_error *error) {
    char place[OPTION_TEXT_BYTES];
    if (!policy->compensation)
        return LG_OK;
    const struct consistency *mode = consistency_find(config_text(job, "consistency.mode", "async"));
    if (mode && consistency_has(mode, CONSISTENCY_GATHERS)) {
        place_of(job, "staleness.policy", place);
        return lg_fail(
            error, LG_INVALID,
            "%s: staleness policy \"%s\" compensates each push as it is applied, and consistency.mode \"%s\" "
            "averages pushes first: choose a policy that weighs them",
            place, policy->name, mode->name);
    }
    if (pipeline == 1)
        return LG_OK;
    place_of(job, "train.pipeline", place);
    return lg_fail(error, LG_INVALID,
                   "%s: staleness policy \"%s\" compares with what a worker read last, and with train.pipeline %lld it "
                   "computes from what it read before that: leave the pipeline at 1",
                   place, policy->name, (long long)pipeline);
}
