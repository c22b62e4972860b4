/* What came out: a table for people, a document for programs. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "sim/experiment.h"
#include "sim/outcome.h"

/* 97.5 % quantiles of Student's t with 1, 2, .. degrees of freedom. */
static const double t_quantiles[] = {12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201,
                                     2.179,  2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074,
                                     2.069,  2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042, 2.040};

struct estimate estimate_of(const double *values, size_t count) {
    struct estimate estimate = {.mean = NAN, .interval = NAN, .count = count};
    double sum = 0, squares = 0;
    if (count == 0)
        return estimate;
    for (size_t i = 0; i < count; i++)
        sum += values[i];
    estimate.mean = sum / (double)count;
    for (size_t i = 0; i < count; i++)
        squares += (values[i] - estimate.mean) * (values[i] - estimate.mean);
    size_t freedom = count - 1, known = sizeof t_quantiles / sizeof *t_quantiles;
    if (freedom > 0)
        estimate.interval =
            (freedom <= known ? t_quantiles[freedom - 1] : 1.96) * sqrt(squares / (double)freedom / (double)count);
    return estimate;
}

static bool is_whole(const json_t *run) {
    const char *status = json_string_value(json_object_get(run, "status"));
    return status && strcmp(status, "ok") == 0;
}

/* Over the runs of a cell that ended and have the number. */
static struct estimate estimate_cell(const struct experiment *experiment, const struct experiment_cell *cell,
                                     const char *path) {
    double values[sizeof experiment->seeds / sizeof *experiment->seeds];
    size_t count = 0;
    for (size_t i = 0; i < experiment->seed_count; i++) {
        double value = is_whole(cell->runs[i]) ? outcome_number(cell->runs[i], path) : NAN;
        if (isfinite(value))
            values[count++] = value;
    }
    return estimate_of(values, count);
}

static size_t count_runs(const struct experiment *experiment, const struct experiment_cell *cell, const char *flag) {
    size_t count = 0;
    for (size_t i = 0; i < experiment->seed_count; i++)
        count += is_whole(cell->runs[i]) && (!flag || json_is_true(json_object_get(cell->runs[i], flag)));
    return count;
}

/* ---- the table */

struct column {
    const char *title, *path;
    double scale;
    int decimals;
    bool interval;
};

static const struct column columns[] = {
    {"accuracy %", "accuracy", 100, 2, true},
    {"best %", "best_accuracy", 100, 2, true},
    {"loss", "loss", 1, 4, true},
    {"stale mean", "staleness.mean", 1, 2, false},
    {"p50", "staleness.p50", 1, 0, false},
    {"p99", "staleness.p99", 1, 0, false},
    {"max", "staleness.max", 1, 0, false},
    {"weight", "weight.mean", 1, 4, false},
    {"sum s*b", "weight.samples", 1, 0, false},
    {"time s", "time_s", 1, 1, false},
    {"updates/s", "updates_per_s", 1, 1, false},
    {"to target s", "target_s", 1, 1, true},
};
enum { COLUMNS = sizeof columns / sizeof *columns, CELL_BYTES = 48 };

static void format_cell(const struct experiment *experiment, const struct experiment_cell *cell,
                        const struct column *column, char *text) {
    struct estimate estimate = estimate_cell(experiment, cell, column->path);
    size_t runs = count_runs(experiment, cell, NULL);
    int length;
    if (estimate.count == 0) {
        snprintf(text, CELL_BYTES, "--");
        return;
    }
    length = snprintf(text, CELL_BYTES, "%.*f", column->decimals, column->scale * estimate.mean);
    if (column->interval && estimate.count > 1)
        length += snprintf(text + length, CELL_BYTES - (size_t)length, " ±%.*f", column->decimals,
                           column->scale * estimate.interval);
    if (estimate.count < runs)
        snprintf(text + length, CELL_BYTES - (size_t)length, " (%zu of %zu)", estimate.count, runs);
}

/* Columns that people see: "±" is one. */
static int width_of(const char *text) {
    int width = 0;
    for (; *text; text++)
        width += ((unsigned char)*text & 0xC0) != 0x80;
    return width;
}

static void put(const char *text, int width, bool right, FILE *out) {
    int space = width - width_of(text);
    fprintf(out, "%*s%s%*s", right && space > 0 ? space : 0, "", text, !right && space > 0 ? space : 0, "");
}

static bool has_target(const struct experiment *experiment) {
    for (size_t i = 0; i < experiment->cell_count; i++) {
        double target = strtod(config_text(experiment->cells[i].config, "sim.target", "0"), NULL);
        if (target > 0 || strtod(config_text(experiment->cells[i].config, "sim.stop.accuracy", "0"), NULL) > 0)
            return true;
    }
    return false;
}

static void print_rows(const struct experiment *experiment, char (*texts)[COLUMNS][CELL_BYTES], const int *widths,
                       int label_width, size_t column_count, FILE *out) {
    put("cell", label_width, false, out);
    fprintf(out, "  runs  diverged");
    for (size_t c = 0; c < column_count; c++) {
        fputs("  ", out);
        put(columns[c].title, widths[c], true, out);
    }
    fputc('\n', out);
    for (size_t i = 0; i < experiment->cell_count; i++) {
        const struct experiment_cell *cell = &experiment->cells[i];
        put(cell->label[0] ? cell->label : "run", label_width, false, out);
        fprintf(out, "  %4zu  %8zu", count_runs(experiment, cell, NULL), count_runs(experiment, cell, "diverged"));
        for (size_t c = 0; c < column_count; c++) {
            fputs("  ", out);
            put(texts[i][c], widths[c], true, out);
        }
        fputc('\n', out);
    }
}

void experiment_print(const struct experiment *experiment, FILE *out) {
    int widths[COLUMNS], label_width = 4;
    size_t column_count = COLUMNS - (has_target(experiment) ? 0 : 1);
    char(*texts)[COLUMNS][CELL_BYTES] = calloc(experiment->cell_count, sizeof *texts);
    if (!texts)
        return;
    for (size_t c = 0; c < COLUMNS; c++)
        widths[c] = width_of(columns[c].title);
    for (size_t i = 0; i < experiment->cell_count; i++) {
        int width = width_of(experiment->cells[i].label);
        label_width = width > label_width ? width : label_width;
        for (size_t c = 0; c < COLUMNS; c++) {
            format_cell(experiment, &experiment->cells[i], &columns[c], texts[i][c]);
            width = width_of(texts[i][c]);
            widths[c] = width > widths[c] ? width : widths[c];
        }
    }
    print_rows(experiment, texts, widths, label_width, column_count, out);
    free(texts);
    if (experiment->seed_count > 1)
        fprintf(out, "means over %zu seeds, ± half of the 95 %% interval\n", experiment->seed_count);
}

/* ---- the document */

static json_t *real_or_null(double value) {
    return isfinite(value) ? json_real(value) : json_null();
}

static json_t *summary(const struct experiment *experiment, const struct experiment_cell *cell) {
    static const char *const paths[] = {
        "accuracy",      "best_accuracy", "loss",        "best_loss",      "samples",        "updates",
        "time_s",        "updates_per_s", "target_s",    "target_samples", "staleness.mean", "staleness.p50",
        "staleness.p99", "staleness.max", "weight.mean", "weight.samples", "pushes_dropped", "learning_rate"};
    json_t *document = json_object();
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) {
        struct estimate estimate = estimate_cell(experiment, cell, paths[i]);
        json_object_set_new(document, paths[i],
                            json_pack("{s:o, s:o, s:i}", "mean", real_or_null(estimate.mean), "interval",
                                      real_or_null(estimate.interval), "runs", (int)estimate.count));
    }
    json_object_set_new(document, "runs", json_integer((json_int_t)count_runs(experiment, cell, NULL)));
    json_object_set_new(document, "diverged", json_integer((json_int_t)count_runs(experiment, cell, "diverged")));
    return document;
}

static json_t *config_document(const struct config *config) {
    json_t *document = json_object();
    for (size_t i = 0; i < config->count; i++)
        json_object_set_new(document, config->entries[i].key, json_string(config->entries[i].value));
    return document;
}

static json_t *cell_document(const struct experiment *experiment, const struct experiment_cell *cell) {
    json_t *runs = json_array();
    for (size_t i = 0; i < experiment->seed_count; i++)
        if (cell->runs[i])
            json_array_append(runs, cell->runs[i]);
    return json_pack("{s:s, s:O, s:o, s:o, s:o}", "label", cell->label, "varied", cell->varied, "keys",
                     config_document(cell->config), "summary", summary(experiment, cell), "runs", runs);
}

json_t *experiment_document(const struct experiment *experiment) {
    json_t *cells = json_array(), *seeds = json_array();
    for (size_t i = 0; i < experiment->cell_count; i++)
        json_array_append_new(cells, cell_document(experiment, &experiment->cells[i]));
    for (size_t i = 0; i < experiment->seed_count; i++)
        json_array_append_new(seeds, json_integer(experiment->seeds[i]));
    return json_pack("{s:s, s:s, s:o, s:o}", "version", LAGOON_VERSION, "file", experiment->path, "seeds", seeds,
                     "cells", cells);
}
