#include "common/registry.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "common/option.h"

enum { NUMBER_BYTES = 32, KEY_BYTES = 64, PLACE_BYTES = 200 };

static enum lg_status refuse_unknown(const struct config *job, const char *prefix, const char *kind_key,
                                     const char *owner, const char *const *names, struct lg_error *error) {
    for (size_t i = 0; i < job->count; i++) {
        const struct config_entry *entry = &job->entries[i];
        if (strncmp(entry->key, prefix, strlen(prefix)) != 0 || strcmp(entry->key, kind_key) == 0)
            continue;
        const char *name = entry->key + strlen(prefix);
        bool known = false;
        for (size_t k = 0; names[k]; k++)
            known = known || strcmp(names[k], name) == 0;
        if (known)
            continue;
        char place[PLACE_BYTES];
        config_place(entry, place, sizeof place);
        const char *nearest = option_nearest(name, names);
        if (nearest)
            return lg_fail(error, LG_INVALID, "%s: %s has no parameter \"%.60s\"; did you mean \"%s%s\"?", place, owner,
                           entry->key, prefix, nearest);
        return lg_fail(error, LG_INVALID, "%s: %s has no parameter \"%.60s\": leave it out", place, owner, entry->key);
    }
    return LG_OK;
}

enum lg_status registry_read_params(struct config *job, const char *prefix, const char *kind_key, const char *owner,
                                    const struct registry_param *params, size_t count, double *values,
                                    struct lg_error *error) {
    struct option options[REGISTRY_PARAMS_MAX];
    char fallbacks[REGISTRY_PARAMS_MAX][NUMBER_BYTES];
    double read[REGISTRY_PARAMS_MAX];
    const char *names[REGISTRY_PARAMS_MAX + 1] = {NULL};
    assert(count <= REGISTRY_PARAMS_MAX);
    for (size_t i = 0; i < count; i++) {
        snprintf(fallbacks[i], sizeof fallbacks[i], "%.17g", params[i].fallback);
        options[i] = (struct option){.key = params[i].name,
                                     .type = OPTION_FLOAT,
                                     .offset = i * sizeof *read,
                                     .fallback = fallbacks[i],
                                     .least = params[i].least,
                                     .most = params[i].most,
                                     .help = params[i].help};
        names[i] = params[i].name;
    }
    enum lg_status status = refuse_unknown(job, prefix, kind_key, owner, names, error);
    if (status != LG_OK || count == 0)
        return status;
    const struct option_table table = {owner, "", options, count, count * sizeof *read};
    status = option_apply(&table, prefix, job, read, error);
    if (status == LG_OK)
        memcpy(values, read, count * sizeof *read);
    return status;
}

enum lg_status registry_unknown(const char *what, const char *name, const char *const *names, struct lg_error *error) {
    char list[320] = "", guess[120] = "";
    for (size_t i = 0; names[i]; i++) {
        size_t used = strlen(list);
        snprintf(list + used, sizeof list - used, "%s%s", i > 0 ? ", " : "", names[i]);
    }
    const char *nearest = option_nearest(name, names);
    if (nearest)
        snprintf(guess, sizeof guess, "; did you mean \"%s\"?", nearest);
    return lg_fail(error, LG_INVALID, "unknown %s \"%.60s\"%s (there are: %s)", what, name, guess, list);
}
