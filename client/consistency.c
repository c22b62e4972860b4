#include "client/consistency.h"

#include <stdio.h>
#include <string.h>

#include "client/job.h"

#define X(name, gates, summary, rule, source) {#name, gates, summary, rule, source},
static const struct consistency table[] = {
#include "client/consistency.def"
};
#undef X

enum { COUNT = sizeof table / sizeof *table };

const struct consistency *consistencies(size_t *count) {
    *count = COUNT;
    return table;
}

const struct consistency *consistency_find(const char *name) {
    for (size_t i = 0; i < COUNT; i++)
        if (strcmp(table[i].name, name) == 0)
            return &table[i];
    return NULL;
}

/* ---- what goes together */

/* A key's place in the file, or the key alone where it has its default. */
static enum lg_status refuse(const struct config *config, const char *key, struct lg_error *error, const char *format,
                             ...) LG_PRINTF(4, 5);
static enum lg_status refuse(const struct config *config, const char *key, struct lg_error *error, const char *format,
                             ...) {
    char place[OPTION_TEXT_BYTES], reason[400];
    const struct config_entry *entry = config_find(config, key);
    va_list args;
    va_start(args, format);
    vsnprintf(reason, sizeof reason, format, args);
    va_end(args);
    snprintf(place, sizeof place, "%s", key);
    if (entry)
        config_place(entry, place, sizeof place);
    return lg_fail(error, LG_INVALID, "%s: %s", place, reason);
}

/* Options of other modes would be ignored without a word. */
static enum lg_status check_options(const struct config *config, const struct consistency *mode,
                                    struct lg_error *error) {
    static const struct {
        const char *key;
        unsigned flag;
    } options[] = {{"consistency.bound", CONSISTENCY_TAKES_BOUND},
                   {"consistency.bound_most", CONSISTENCY_TAKES_BOUND_MOST},
                   {"consistency.pushes", CONSISTENCY_TAKES_PUSHES}};
    for (size_t i = 0; i < sizeof options / sizeof *options; i++) {
        char modes[160] = "";
        if ((mode->flags & options[i].flag) || option_is_default(&job_table, config, options[i].key))
            continue;
        for (size_t m = 0; m < COUNT; m++) {
            size_t used = strlen(modes);
            if (table[m].flags & options[i].flag)
                snprintf(modes + used, sizeof modes - used, "%s%s", used ? ", " : "", table[m].name);
        }
        return refuse(config, options[i].key, error, "%s says nothing in consistency.mode \"%s\", it is for %s",
                      options[i].key, mode->name, modes);
    }
    return LG_OK;
}

static enum lg_status check_pushes(const struct config *config, const struct job_config *job,
                                   const struct consistency *mode, struct lg_error *error) {
    if (!consistency_has(mode, CONSISTENCY_TAKES_PUSHES))
        return LG_OK;
    if (job->gate_pushes == 0)
        return refuse(config, "consistency.mode", error,
                      "consistency.mode \"%s\" needs consistency.pushes: how many pushes make a step", mode->name);
    if (consistency_has(mode, CONSISTENCY_TICKETS) && !consistency_has(mode, CONSISTENCY_REPEATS) && job->workers > 0 &&
        job->gate_pushes > job->workers)
        return refuse(config, "consistency.pushes", error,
                      "a round of %lld pushes never fills with %lld workers, each of whom pushes once: lower "
                      "consistency.pushes, or take bsp",
                      (long long)job->gate_pushes, (long long)job->workers);
    return LG_OK;
}

enum lg_status consistency_check(const struct config *config, const struct job_config *job, struct lg_error *error) {
    const struct consistency *mode = job->consistency;
    enum lg_status status = check_options(config, mode, error);
    if (status == LG_OK)
        status = check_pushes(config, job, mode, error);
    if (status != LG_OK)
        return status;
    if (consistency_has(mode, CONSISTENCY_TAKES_BOUND_MOST) && job->gate_bound_most < job->gate_bound)
        return refuse(config, "consistency.bound_most", error,
                      "consistency.bound_most %lld is below consistency.bound %lld: it is the greater one",
                      (long long)job->gate_bound_most, (long long)job->gate_bound);
    if (consistency_has(mode, CONSISTENCY_ROUNDS) && config_find(config, "staleness.policy") &&
        strcmp(job->staleness, "constant") != 0)
        return refuse(config, "staleness.policy", error,
                      "staleness.policy \"%s\" has nothing to weigh in consistency.mode \"%s\": no push is stale "
                      "there; leave it out",
                      job->staleness, mode->name);
    if (consistency_has(mode, CONSISTENCY_READS) && job->pipeline > 1)
        return refuse(config, "train.pipeline", error,
                      "train.pipeline %lld reads ahead of its own pushes, which consistency.mode \"%s\" is there to "
                      "prevent: set train.pipeline 1",
                      (long long)job->pipeline, mode->name);
    if (consistency_has(mode, CONSISTENCY_READS) && strcmp(job->push_pull, "yes") == 0)
        return refuse(
            config, "train.push_pull", error,
            "train.push_pull \"yes\" brings parameters back before consistency.mode \"%s\" lets them be read: "
            "leave it out",
            mode->name);
    return LG_OK;
}
