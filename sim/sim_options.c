#include "sim/sim_options.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define AT(field) offsetof(struct sim_options, field)

static const struct option options[] = {
    {"workers", OPTION_STRING, AT(workers), "4", 0, 0, NULL, NULL,
     "classes of workers, COUNT or COUNTxSLOWNESS, joined with ',' or '+': \"4x1, 26x8\" are 4 workers and 26 that "
     "take 8 times as long"},
    {"seeds", OPTION_INTS, AT(seeds), "1", 0, 9e15, NULL, NULL,
     "each cell runs once with each of these: initial values, order of the samples, step times"},
    {"shards", OPTION_INT, AT(shards), "1", 1, SIM_SHARDS_MAX, NULL, "shards", "shards that the parameters lie on"},
    {"start.order", OPTION_CHOICE, AT(start), "spread", 0, 0, "spread|together", NULL,
     "whether workers of a class start at even distances within one step, or all at once"},
    {"start.at", OPTION_STRING, AT(start_at), "0", 0, 0, NULL, "s",
     "when workers join, for all or one per class: \"0, 600\""},
    {"step.time", OPTION_FLOAT, AT(step_time), "1", 1e-6, 1e6, NULL, "s",
     "mean time of a step of a worker with slowness 1, without the network"},
    {"step.distribution", OPTION_CHOICE, AT(distribution), "constant", 0, 0,
     "constant|lognormal|exponential|gamma|trace", NULL, "how step times vary"},
    {"step.sigma", OPTION_FLOAT, AT(step_sigma), "0.5", 0, 5, NULL, NULL,
     "lognormal: deviation of the logarithm; the mean stays"},
    {"step.shape", OPTION_FLOAT, AT(step_shape), "4", 0.05, 1e6, NULL, NULL,
     "gamma: shape (Erlang where it is a whole number); the mean stays"},
    {"step.trace", OPTION_STRING, AT(trace), "", 0, 0, NULL, NULL,
     "trace: file with one step time in seconds on each line, for all or one per class, replayed in a circle from a "
     "place of each worker's own; multiplied by the slowness"},
    {"network.delay", OPTION_STRING, AT(delay), "0", 0, 0, NULL, "s",
     "one-way delay between a worker and the servers, for all or one per class"},
    {"network.bandwidth", OPTION_STRING, AT(bandwidth), "0", 0, 0, NULL, "bytes/s",
     "of a worker's link, each way, for all or one per class; 0: no limit"},
    {"network.server_bandwidth", OPTION_FLOAT, AT(server_bandwidth), "0", 0, 1e15, NULL, "bytes/s",
     "of each shard's link, each way, shared by all workers; 0: no limit"},
    {"loss.every", OPTION_STRING, AT(loss_every), "0", 0, 0, NULL, "s",
     "mean time until a worker is lost (exponential), for all or one per class; 0: never"},
    {"loss.away", OPTION_FLOAT, AT(loss_away), "60", 1e-3, 1e9, NULL, "s",
     "mean time until a lost worker is back (exponential)"},
    {"loss.notice", OPTION_DURATION, AT(notice_ms), "5s", 1000, 3600000, NULL, "ms",
     "silence after which the coordinator gives a worker up"},
    {"sequential", OPTION_BOOL, AT(sequential), "no", 0, 0, NULL, NULL,
     "control: workers take turns, so that no push is stale"},
    {"control", OPTION_CHOICE, AT(control), "none", 0, 0, "none|mean_weight", NULL,
     "mean_weight: run the cell, then report it anew with policy constant and lr.base times the mean weight that was "
     "measured"},
    {"stop.samples", OPTION_INT, AT(stop_samples), "0", 0, 9e15, NULL, "samples",
     "stop once so many samples are applied; 0: after train.epochs"},
    {"stop.updates", OPTION_INT, AT(stop_updates), "0", 0, 9e15, NULL, "updates", "stop after so many updates; 0: no"},
    {"stop.time", OPTION_FLOAT, AT(stop_time), "0", 0, 1e12, NULL, "s", "stop after so much simulated time; 0: no"},
    {"stop.accuracy", OPTION_FLOAT, AT(stop_accuracy), "0", 0, 1, NULL, NULL,
     "stop at an evaluation with this accuracy; 0: no"},
    {"target", OPTION_FLOAT, AT(target), "0", 0, 1, NULL, NULL,
     "accuracy to which the time is reported; 0: that of stop.accuracy, if any"},
    {"evaluate.every", OPTION_INT, AT(evaluate_every), "0", 0, 9e15, NULL, "samples",
     "evaluate on the test split after every so many samples, which takes no simulated time; 0: after each epoch"},
};

const struct option_table sim_table = {"sim", "keys below `sim.` of an experiment for `lagoon sim`", options,
                                       sizeof options / sizeof *options, sizeof(struct sim_options)};

/* ---- places of errors */

static enum lg_status refuse(const struct config *config, const char *key, struct lg_error *error, const char *format,
                             ...) LG_PRINTF(4, 5);
static enum lg_status refuse(const struct config *config, const char *key, struct lg_error *error, const char *format,
                             ...) {
    char text[320], place[OPTION_TEXT_BYTES];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    const struct config_entry *entry = config_find(config, key);
    if (!entry)
        return lg_fail(error, LG_INVALID, "%s: %s", key, text);
    config_place(entry, place, sizeof place);
    return lg_fail(error, LG_INVALID, "%s: %s: %s", place, key, text);
}

/* ---- lists with one entry per class */

/* The next entry of a list joined with ',' or '+', without the spaces around it; false at the end. */
static bool next_entry(const char **at, char *text, size_t bytes) {
    const char *from = *at + strspn(*at, " ,+");
    size_t length = strcspn(from, ",+");
    if (*from == '\0')
        return false;
    *at = from + length;
    while (length > 0 && from[length - 1] == ' ')
        length--;
    snprintf(text, bytes, "%.*s", (int)(length < bytes ? length : bytes - 1), from);
    return true;
}

static bool parse_number(const char *text, double least, double most, double *out) {
    char *end = NULL;
    *out = strtod(text, &end);
    return end != text && *end == '\0' && isfinite(*out) && *out >= least && *out <= most;
}

static enum lg_status parse_class(const struct config *config, const char *text, struct sim_class *class,
                                  struct lg_error *error) {
    char *end = NULL;
    unsigned long count = strtoul(text, &end, 10);
    class->slowness = 1;
    bool fits = end != text && count >= 1 && count <= SIM_WORKERS_MAX;
    if (fits && *end != '\0')
        fits = *end == 'x' && parse_number(end + 1, 1e-3, 1e6, &class->slowness);
    if (!fits)
        return refuse(config, "sim.workers", error,
                      "\"%.40s\" is no class of workers: write COUNT or COUNTxSLOWNESS, such as 26x8", text);
    class->count = (uint32_t)count;
    return LG_OK;
}

static enum lg_status parse_classes(const struct config *config, const char *text, struct sim_classes *out,
                                    struct lg_error *error) {
    char entry[64];
    enum lg_status status = LG_OK;
    *out = (struct sim_classes){0};
    while (status == LG_OK && next_entry(&text, entry, sizeof entry)) {
        if (out->count == SIM_CLASSES_MAX)
            return refuse(config, "sim.workers", error, "more than %d classes", SIM_CLASSES_MAX);
        status = parse_class(config, entry, &out->classes[out->count], error);
        out->workers += out->classes[out->count++].count;
    }
    if (status == LG_OK && (out->workers == 0 || out->workers > SIM_WORKERS_MAX))
        return refuse(config, "sim.workers", error, "%u workers; there may be 1 to %d", out->workers, SIM_WORKERS_MAX);
    return status;
}

/* Fills the double at `offset` of each class from a list of one number, or one per class. */
static enum lg_status parse_numbers(const struct config *config, const char *key, const char *text, size_t offset,
                                    struct sim_classes *classes, struct lg_error *error) {
    char entry[64];
    size_t count = 0;
    double value = 0;
    while (next_entry(&text, entry, sizeof entry)) {
        if (!parse_number(entry, 0, 1e15, &value))
            return refuse(config, key, error, "\"%s\" is no number from 0", entry);
        for (size_t i = count; i < classes->count; i++)
            *(double *)(void *)((char *)&classes->classes[i] + offset) = value;
        count++;
    }
    if (count == 1 || count == classes->count)
        return LG_OK;
    return refuse(config, key, error, "%zu numbers for %zu classes of workers: give one for all, or one each", count,
                  classes->count);
}

static enum lg_status parse_traces(const struct config *config, const struct sim_options *o,
                                   struct sim_classes *classes, struct lg_error *error) {
    char entry[OPTION_TEXT_BYTES];
    const char *text = o->trace;
    size_t count = 0;
    bool traced = strcmp(o->distribution, "trace") == 0;
    while (next_entry(&text, entry, sizeof entry)) {
        for (size_t i = count; i < classes->count; i++)
            memcpy(classes->classes[i].trace, entry, sizeof entry);
        count++;
    }
    if (!traced && count > 0)
        return refuse(config, "sim.step.trace", error, "set sim.step.distribution to trace, or leave it out");
    if (traced && count != 1 && count != classes->count)
        return refuse(config, "sim.step.trace", error,
                      "%zu files for %zu classes of workers: give one for all, or one each", count, classes->count);
    return LG_OK;
}

enum lg_status sim_configure(struct config *config, struct sim_options *o, struct sim_classes *classes,
                             struct lg_error *error) {
    enum lg_status status = option_apply(&sim_table, "sim.", config, o, error);
    if (status == LG_OK)
        status = parse_classes(config, o->workers, classes, error);
    if (status == LG_OK)
        status =
            parse_numbers(config, "sim.start.at", o->start_at, offsetof(struct sim_class, start_s), classes, error);
    if (status == LG_OK)
        status =
            parse_numbers(config, "sim.network.delay", o->delay, offsetof(struct sim_class, delay_s), classes, error);
    if (status == LG_OK)
        status = parse_numbers(config, "sim.network.bandwidth", o->bandwidth, offsetof(struct sim_class, bandwidth),
                               classes, error);
    if (status == LG_OK)
        status = parse_numbers(config, "sim.loss.every", o->loss_every, offsetof(struct sim_class, loss_every_s),
                               classes, error);
    if (status == LG_OK)
        status = parse_traces(config, o, classes, error);
    if (status == LG_OK && o->target == 0)
        o->target = o->stop_accuracy;
    return status;
}

enum lg_status sim_check_mode(const struct sim_options *o, const char *mode, struct lg_error *error) {
    if (!o->sequential || strcmp(mode, "async") == 0)
        return LG_OK;
    return lg_fail(error, LG_INVALID,
                   "sim.sequential lets workers take turns, so it needs consistency.mode async, not %s", mode);
}
