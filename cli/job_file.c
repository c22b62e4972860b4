#include "cli/job_file.h"

#include <stdlib.h>
#include <string.h>

#include "server/policy.h"
#include "common/updater.h"
#include "worker/dataset.h"
#include "worker/model.h"

/* Applies a registry entry's own options, to have them checked; the values are not needed here. */
static enum lg_status check_section(const struct option_table *table, const char *prefix, struct config *config,
                                    struct lg_error *error) {
    void *scratch = calloc(1, table->config_bytes ? table->config_bytes : 1);
    if (!scratch)
        return lg_fail(error, LG_NO_MEMORY, "no memory for the options of %s", table->name);
    enum lg_status status = option_apply(table, prefix, config, scratch, error);
    free(scratch);
    return status;
}

/* Puts where a registry name was written before the error that it is not one. */
static enum lg_status place_kind(const struct config *config, const char *key, enum lg_status status,
                                 struct lg_error *error) {
    const struct config_entry *entry = config_find(config, key);
    char place[OPTION_TEXT_BYTES] = "";
    if (status == LG_OK || !entry)
        return status;
    config_place(entry, place, sizeof place);
    return lg_fail_prefix(error, LG_INVALID, "%s: %s", place, key);
}

enum lg_status job_file_check(struct config *config, struct job_config *job, struct lg_error *error) {
    const struct model_kind *model = NULL;
    const struct dataset_kind *dataset = NULL;
    const struct updater *updater;
    const struct policy *policy;
    double values[UPDATER_PARAMS_MAX];
    enum lg_status status = job_configure(config, job, error);
    if (status == LG_OK)
        status = place_kind(config, "model.kind", model_kind_find(job->model, &model, error), error);
    if (status == LG_OK)
        status = place_kind(config, "dataset.kind", dataset_kind_find(job->dataset, &dataset, error), error);
    if (status == LG_OK)
        status = place_kind(config, "updater.kind", updater_find(job->updater, &updater, error), error);
    if (status == LG_OK)
        status = place_kind(config, "staleness.policy", policy_find(job->staleness, &policy, error), error);
    if (status == LG_OK)
        status = check_section(model->options, "model.", config, error);
    if (status == LG_OK)
        status = check_section(dataset->options, "dataset.", config, error);
    if (status == LG_OK)
        status = updater_configure_local(config, &updater, values, error);
    if (status == LG_OK)
        status = updater_configure(config, &updater, values, error);
    if (status == LG_OK)
        status = policy_configure(config, &policy, values, error);
    if (status == LG_OK)
        status = policy_check(policy, config, job->pipeline, error);
    if (status != LG_OK)
        return status;
    const struct option_table *tables[] = {&job_table, model->options, dataset->options};
    return option_check_unused(config, tables, (const char *const[]){"", "model.", "dataset."}, 3, error);
}

static enum lg_status override(struct config *config, const char *argument, struct lg_error *error) {
    const char *equals = strchr(argument, '=');
    char key[OPTION_TEXT_BYTES];
    if (!equals || equals == argument || (size_t)(equals - argument) >= sizeof key)
        return lg_fail(error, LG_INVALID, "\"%s\" should be KEY=VALUE, such as train.epochs=3", argument);
    snprintf(key, sizeof key, "%.*s", (int)(equals - argument), argument);
    return config_set(config, key, equals + 1, "argument", error);
}

enum lg_status job_file_load(const char *path, const char *const *overrides, int override_count, struct config **config,
                             struct job_config *job, struct lg_error *error) {
    enum lg_status status = LG_OK;
    *config = NULL;
    if (path)
        status = config_read_file(path, config, error);
    else if (!(*config = config_new()))
        status = lg_fail(error, LG_NO_MEMORY, "no memory for the job");
    for (int i = 0; status == LG_OK && i < override_count; i++)
        status = override(*config, overrides[i], error);
    if (status == LG_OK)
        status = job_file_check(*config, job, error);
    return status;
}
