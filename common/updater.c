#include "common/updater.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "common/registry.h"
#include "common/updaters/kernel.h"

#define X(symbol) &updater_##symbol,
static const struct updater *const table[] = {
#include "common/updater.def"
};
#undef X

enum { COUNT = sizeof table / sizeof *table };

const struct updater *const *updaters(size_t *count) {
    *count = COUNT;
    return table;
}

enum lg_status updater_find(const char *name, const struct updater **out, struct lg_error *error) {
    const char *names[COUNT + 1] = {NULL};
    for (size_t i = 0; i < COUNT; i++) {
        names[i] = table[i]->name;
        if (strcmp(table[i]->name, name) == 0) {
            *out = table[i];
            return LG_OK;
        }
    }
    return registry_unknown("updater", name, names, error);
}

static enum lg_status check_decay(const struct config *job, const char *key, const struct updater *updater,
                                  struct lg_error *error) {
    const struct config_entry *entry = config_find(job, key);
    double decay = 0;
    if (!updater->no_weight_decay || !entry || sscanf(entry->value, "%lf", &decay) != 1 || decay == 0)
        return LG_OK;
    char place[200];
    config_place(entry, place, sizeof place);
    return lg_fail(error, LG_INVALID, "%s: updater \"%s\" has no weight decay: use \"%sw\" or leave %s 0", place,
                   updater->name, updater->name, key);
}

/* Where an updater's keys are. */
struct place {
    const char *prefix, *kind, *weight_decay;
};

static enum lg_status configure(struct config *job, const struct place *place, const struct updater **updater,
                                double values[UPDATER_PARAMS_MAX], struct lg_error *error) {
    const struct updater *found = NULL;
    enum lg_status status = updater_find(config_take_text(job, place->kind, "sgd"), &found, error);
    if (status != LG_OK)
        return status;
    struct registry_param params[UPDATER_PARAMS_MAX];
    assert(found->param_count <= UPDATER_PARAMS_MAX && (int)UPDATER_PARAMS_MAX <= (int)REGISTRY_PARAMS_MAX);
    for (size_t i = 0; i < found->param_count; i++) {
        const struct updater_param *param = &found->params[i];
        params[i] = (struct registry_param){param->name, param->fallback, param->least, param->most, param->help};
    }
    char owner[64];
    snprintf(owner, sizeof owner, "updater \"%s\"", found->name);
    status = registry_read_params(job, place->prefix, place->kind, owner, params, found->param_count, values, error);
    if (status == LG_OK)
        status = check_decay(job, place->weight_decay, found, error);
    if (status == LG_OK)
        *updater = found;
    return status;
}

enum lg_status updater_configure(struct config *job, const struct updater **updater, double values[UPDATER_PARAMS_MAX],
                                 struct lg_error *error) {
    return configure(job, &(struct place){"updater.", "updater.kind", "weight_decay"}, updater, values, error);
}

enum lg_status updater_configure_local(struct config *job, const struct updater **updater,
                                       double values[UPDATER_PARAMS_MAX], struct lg_error *error) {
    return configure(job, &(struct place){"local.updater.", "local.updater.kind", "local.weight_decay"}, updater,
                     values, error);
}
