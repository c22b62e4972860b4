/* An SVG of an experiment: loss and accuracy over samples and over simulated time, and how staleness and weights were
 * distributed. One colour for each cell; means over the seeds. Readable on light and on dark pages. */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "sim/experiment.h"
#include "sim/outcome.h"

enum { WIDTH = 1000, PANEL = 420, HEIGHT = 240, GAP_X = 70, GAP_Y = 64, LEFT = 60, TOP = 40, ROW = 18, DRAWN_MAX = 40 };

/* A point of a curve document: [samples, updates, time, loss, accuracy]. */
enum field { SAMPLES = 0, TIME = 2, LOSS = 3, ACCURACY = 4 };

struct range {
    double least, most;
};

struct panel {
    const char *title, *x_title;
    double left, top;
    struct range x, y;
};

static const char *const colours[] = {"#0b84c4", "#d9822b", "#2f9e6e", "#c4533a", "#8a5fc7",
                                      "#8c6a4f", "#d4679f", "#7d8590", "#b0a11d", "#17a2a8"};

static const char *colour_of(size_t cell) {
    return colours[cell % (sizeof colours / sizeof *colours)];
}

static const char *dashes_of(size_t cell) {
    static const char *const dashes[] = {"none", "6 3", "2 3", "8 3 2 3"};
    return dashes[cell / (sizeof colours / sizeof *colours) % 4];
}

static void put_text(const char *text, FILE *out) {
    for (; *text; text++)
        if (*text == '<' || *text == '&' || *text == '>')
            fprintf(out, "&#%d;", *text);
        else
            fputc(*text, out);
}

/* ---- panels */

static double place(double value, struct range range) {
    double span = range.most - range.least;
    double share = span > 0 ? (value - range.least) / span : 0;
    return share < 0 ? 0 : share > 1 ? 1 : share;
}

static double x_of(const struct panel *panel, double value) {
    return panel->left + PANEL * place(value, panel->x);
}

static double y_of(const struct panel *panel, double value) {
    return panel->top + HEIGHT * (1 - place(value, panel->y));
}

/* The largest of 1, 2 or 5 times a power of ten that cuts the range into at least four pieces. */
static double step_of(struct range range) {
    double span = range.most - range.least, power = pow(10, floor(log10(span > 0 ? span : 1)));
    static const double factors[] = {1, 0.5, 0.2, 0.1};
    for (size_t i = 0; i < 4; i++)
        if (span / (power * factors[i]) >= 4)
            return power * factors[i];
    return power / 10;
}

static void draw_frame(const struct panel *panel, FILE *out) {
    double x_step = step_of(panel->x), y_step = step_of(panel->y);
    fprintf(out, "<text class=\"title\" x=\"%.1f\" y=\"%.1f\">%s</text>\n", panel->left, panel->top - 8, panel->title);
    for (long i = lround(ceil(panel->y.least / y_step)); (double)i * y_step <= panel->y.most + y_step / 1000; i++) {
        double y = (double)i * y_step;
        fprintf(out, "<line class=\"grid\" x1=\"%.1f\" x2=\"%.1f\" y1=\"%.1f\" y2=\"%.1f\"/>\n", panel->left,
                panel->left + PANEL, y_of(panel, y), y_of(panel, y));
        fprintf(out, "<text class=\"small end\" x=\"%.1f\" y=\"%.1f\">%g</text>\n", panel->left - 5, y_of(panel, y) + 3,
                y);
    }
    for (long i = lround(ceil(panel->x.least / x_step)); (double)i * x_step <= panel->x.most + x_step / 1000; i++)
        fprintf(out, "<text class=\"small middle\" x=\"%.1f\" y=\"%.1f\">%g</text>\n", x_of(panel, (double)i * x_step),
                panel->top + HEIGHT + 14, (double)i * x_step);
    fprintf(out, "<text class=\"small end\" x=\"%.1f\" y=\"%.1f\">%s</text>\n", panel->left + PANEL,
            panel->top + HEIGHT + 28, panel->x_title);
}

/* ---- curves */

/* Mean over the seeds of field `field` at point `at` of the cell's curves, as far as all have one; NaN else. */
static double mean_at(const struct experiment *experiment, const struct experiment_cell *cell, size_t at,
                      enum field field) {
    double sum = 0;
    size_t count = 0;
    for (size_t i = 0; i < experiment->seed_count; i++) {
        const json_t *detail = json_object_get(cell->runs[i], "detail");
        const json_t *point = json_array_get(json_object_get(detail, "curve"), at);
        const json_t *value = json_array_get(point, (size_t)field);
        if (!json_is_number(value))
            continue;
        sum += json_number_value(value);
        count++;
    }
    return count > 0 ? sum / (double)count : NAN;
}

static void widen(struct range *range, double value) {
    if (!isfinite(value))
        return;
    range->least = fmin(range->least, value);
    range->most = fmax(range->most, value);
}

static size_t drawn_cells(const struct experiment *experiment) {
    return experiment->cell_count < DRAWN_MAX ? experiment->cell_count : DRAWN_MAX;
}

/* Losses far above the first are cut off: a run that blew up would flatten all others. */
static void fit(const struct experiment *experiment, struct panel *panel, enum field x, enum field y) {
    panel->x = panel->y = (struct range){INFINITY, -INFINITY};
    double first = NAN;
    for (size_t c = 0; c < drawn_cells(experiment); c++)
        for (size_t at = 0;; at++) {
            double across = mean_at(experiment, &experiment->cells[c], at, x);
            double up = mean_at(experiment, &experiment->cells[c], at, y);
            if (!isfinite(across))
                break;
            if (at == 0 && !(first > up))
                first = up;
            widen(&panel->x, across);
            widen(&panel->y, y == LOSS && up > 1.5 * first ? 1.5 * first : up);
        }
    if (!(panel->x.most > panel->x.least))
        panel->x = (struct range){0, 1};
    if (!(panel->y.most > panel->y.least))
        panel->y = (struct range){0, 1};
    if (y == LOSS)
        panel->y.least = fmin(0, panel->y.least);
}

static void draw_curves(const struct experiment *experiment, struct panel *panel, enum field x, enum field y,
                        FILE *out) {
    fit(experiment, panel, x, y);
    draw_frame(panel, out);
    for (size_t c = 0; c < drawn_cells(experiment); c++) {
        fprintf(out, "<polyline class=\"line\" stroke=\"%s\" stroke-dasharray=\"%s\" points=\"", colour_of(c),
                dashes_of(c));
        for (size_t at = 0;; at++) {
            double across = mean_at(experiment, &experiment->cells[c], at, x);
            double up = mean_at(experiment, &experiment->cells[c], at, y);
            if (!isfinite(across))
                break;
            if (isfinite(up))
                fprintf(out, "%.1f,%.1f ", x_of(panel, across), y_of(panel, up));
        }
        fputs("\"/>\n", out);
    }
}

/* ---- distributions, as steps: the share of pushes at or below a value */

static const json_t *bins_of(const struct experiment_cell *cell, size_t run, const char *of) {
    return json_object_get(json_object_get(cell->runs[run], of), "histogram");
}

static double number_at(const json_t *array, size_t at) {
    return json_number_value(json_array_get(array, at));
}

/* Bin `at` of a run, as a share of its pushes; false behind the last one. *centre is where it lies. */
static bool bin_at(const json_t *bins, bool weight, size_t at, double pushes, double *centre, double *share) {
    if (at >= json_array_size(bins))
        return false;
    const json_t *bin = json_array_get(bins, at);
    double width = weight ? 1 : number_at(bin, 1) - number_at(bin, 0) + 1;
    *centre = weight ? (double)at * 0.05 : (number_at(bin, 0) + number_at(bin, 1)) / 2;
    *share = pushes > 0 ? (weight ? json_number_value(bin) : number_at(bin, 2)) / pushes / width : 0;
    return true;
}

static void draw_histograms(const struct experiment *experiment, struct panel *panel, bool weight, FILE *out) {
    const char *of = weight ? "weight" : "staleness";
    double centre = 0, share = 0;
    panel->x = (struct range){0, 1};
    panel->y = (struct range){0, 0.01};
    for (size_t c = 0; c < drawn_cells(experiment); c++)
        for (size_t at = 0; bin_at(bins_of(&experiment->cells[c], 0, of), weight, at,
                                   outcome_number(experiment->cells[c].runs[0], "pushes"), &centre, &share);
             at++) {
            widen(&panel->x, centre);
            widen(&panel->y, share);
        }
    draw_frame(panel, out);
    for (size_t c = 0; c < drawn_cells(experiment); c++) {
        fprintf(out, "<polyline class=\"line\" stroke=\"%s\" stroke-dasharray=\"%s\" points=\"", colour_of(c),
                dashes_of(c));
        for (size_t at = 0; bin_at(bins_of(&experiment->cells[c], 0, of), weight, at,
                                   outcome_number(experiment->cells[c].runs[0], "pushes"), &centre, &share);
             at++)
            fprintf(out, "%.1f,%.1f ", x_of(panel, centre), y_of(panel, share));
        fputs("\"/>\n", out);
    }
}

/* ---- the page */

static void begin(FILE *out, int height) {
    fprintf(out,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %d\" width=\"%d\" height=\"%d\">\n"
            "<style>\n"
            "text { font: 12px system-ui, sans-serif; fill: #444 } .title { font-weight: 600; font-size: 13px }\n"
            ".end { text-anchor: end } .middle { text-anchor: middle } .small { font-size: 10px }\n"
            ".grid { stroke: #999; stroke-opacity: .35; stroke-width: 1 } .line { fill: none; stroke-width: 1.7 }\n"
            "@media (prefers-color-scheme: dark) { text { fill: #ccc } }\n"
            "</style>\n",
            WIDTH, height, WIDTH, height);
}

static void draw_legend(const struct experiment *experiment, double top, FILE *out) {
    size_t count = drawn_cells(experiment);
    for (size_t c = 0; c < count; c++) {
        double left = LEFT + (double)(c % 2) * (PANEL + GAP_X), y = top + (double)(c / 2) * ROW;
        fprintf(out,
                "<line x1=\"%.1f\" x2=\"%.1f\" y1=\"%.1f\" y2=\"%.1f\" stroke=\"%s\" stroke-dasharray=\"%s\" "
                "stroke-width=\"2\"/><text x=\"%.1f\" y=\"%.1f\">",
                left, left + 26, y - 4, y - 4, colour_of(c), dashes_of(c), left + 32, y);
        put_text(experiment->cells[c].label[0] ? experiment->cells[c].label : "run", out);
        fputs("</text>\n", out);
    }
}

enum lg_status experiment_plot(const struct experiment *experiment, const char *path, struct lg_error *error) {
    static const struct {
        const char *title, *x_title;
        enum field x, y;
    } curves[] = {{"test loss over samples", "samples applied", SAMPLES, LOSS},
                  {"test loss over simulated time", "seconds", TIME, LOSS},
                  {"test accuracy over samples", "samples applied", SAMPLES, ACCURACY},
                  {"test accuracy over simulated time", "seconds", TIME, ACCURACY}};
    size_t rows = (drawn_cells(experiment) + 1) / 2;
    int height = TOP + 3 * (HEIGHT + GAP_Y) + (int)rows * ROW + 20;
    FILE *out = fopen(path, "w");
    if (!out)
        return lg_fail(error, LG_IO, "cannot write \"%s\": %s", path, strerror(errno));
    begin(out, height);
    for (size_t i = 0; i < 6; i++) {
        struct panel panel = {.left = LEFT + (double)(i % 2) * (PANEL + GAP_X),
                              .top = TOP + (double)(i / 2) * (HEIGHT + GAP_Y)};
        if (i < 4) {
            panel.title = curves[i].title;
            panel.x_title = curves[i].x_title;
            draw_curves(experiment, &panel, curves[i].x, curves[i].y, out);
        } else {
            panel.title = i == 4 ? "staleness: share of pushes" : "weight: share of pushes";
            panel.x_title = i == 4 ? "staleness" : "weight";
            draw_histograms(experiment, &panel, i == 5, out);
        }
    }
    draw_legend(experiment, TOP + 3 * (HEIGHT + GAP_Y) + 8, out);
    fputs("</svg>\n", out);
    if (ferror(out) | fclose(out))
        return lg_fail(error, LG_IO, "cannot write \"%s\": %s", path, strerror(errno));
    return LG_OK;
}
