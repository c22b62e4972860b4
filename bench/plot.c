/* An SVG of a run: rate over tensor size for every transport, and the ratios against their bars. Readable on light and
 * on dark pages: nothing is painted behind it. */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "bench/bench.h"

enum { WIDTH = 960, PANEL = 300, PANEL_HEIGHT = 230, TOP = 72, LEFT = 44, ROW = 22, SIZES = 9, NAME_WIDTH = 590 };

#define RATE_LEAST 0.01
#define RATE_MOST 100.0

static const char *const sizes[SIZES] = {"4KiB", "16KiB", "64KiB", "256KiB", "1MiB",
                                         "4MiB", "16MiB", "64MiB", "256MiB"};
static const char *const operations[] = {"push", "pull", "pushpull"};
static const struct {
    const char *label, *style;
    bool limit; /* memcpy, the same for every operation */
} series[] = {{"shm", "shm", false}, {"ipc", "ipc", false}, {"tcp", "tcp", false}, {"memcpy", "limit", true}};

static void begin(FILE *out, int height) {
    fprintf(out,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %d\" width=\"%d\" height=\"%d\">\n"
            "<style>\n"
            "text { font: 12px system-ui, sans-serif; fill: #444 } .title { font-weight: 600; font-size: 14px }\n"
            ".end { text-anchor: end } .middle { text-anchor: middle } .small { font-size: 10px }\n"
            ".grid { stroke: #999; stroke-opacity: .35; stroke-width: 1 } .one { stroke: #777; stroke-width: 1.5 }\n"
            ".line { fill: none; stroke-width: 2 } .shm { stroke: #0b84c4 } .ipc { stroke: #d9822b }\n"
            ".tcp { stroke: #2f9e6e } .limit { stroke: #888; stroke-dasharray: 4 3 }\n"
            ".met { fill: #2f9e6e } .missed { fill: #c4533a }\n"
            "@media (prefers-color-scheme: dark) { text { fill: #ccc } }\n"
            "</style>\n",
            WIDTH, height, WIDTH, height);
}

/* ---- rate over size */

static double x_of(int panel, int size) {
    return LEFT + panel * (PANEL + 8) + (double)size * (PANEL - 60) / (SIZES - 1);
}

static double y_of(double rate) {
    double share = (log10(rate) - log10(RATE_LEAST)) / (log10(RATE_MOST) - log10(RATE_LEAST));
    return TOP + PANEL_HEIGHT * (1 - (share < 0 ? 0 : share > 1 ? 1 : share));
}

/* The median of a series at a size; 0 where it was not measured. */
static double rate_at(const struct figures *figures, size_t which, int operation, int size) {
    char name[FIGURE_NAME_BYTES];
    if (series[which].limit)
        snprintf(name, sizeof name, "limit.memcpy.%s", sizes[size]);
    else
        snprintf(name, sizeof name, "%s.%s.%s", series[which].label, operations[operation], sizes[size]);
    const struct figure *figure = figures_find(figures, name);
    return figure ? spread_of(figure->values, figure->count).median : 0;
}

static void draw_line(const struct figures *figures, size_t which, int operation, FILE *out) {
    int last = -1;
    for (int size = 0; size < SIZES; size++) {
        double rate = rate_at(figures, which, operation, size);
        if (rate <= 0)
            continue;
        if (last < 0)
            fprintf(out, "<polyline class=\"line %s\" points=\"", series[which].style);
        fprintf(out, "%.1f,%.1f ", x_of(operation, size), y_of(rate));
        last = size;
    }
    if (last >= 0)
        fputs("\"/>\n", out);
}

static void draw_legend(FILE *out) {
    int x = LEFT;
    for (size_t which = 0; which < sizeof series / sizeof *series; which++, x += 90)
        fprintf(out,
                "<line class=\"line %s\" x1=\"%d\" x2=\"%d\" y1=\"34\" y2=\"34\"/>\n"
                "<text x=\"%d\" y=\"38\">%s</text>\n",
                series[which].style, x, x + 24, x + 30, series[which].label);
}

static void draw_panel(const struct figures *figures, int operation, FILE *out) {
    double left = x_of(operation, 0), right = x_of(operation, SIZES - 1);
    fprintf(out, "<text class=\"title\" x=\"%.1f\" y=\"%d\">%s, GB/s</text>\n", left, TOP - 14, operations[operation]);
    for (double rate = RATE_LEAST; rate < 1.01 * RATE_MOST; rate *= 10) {
        fprintf(out, "<line class=\"grid\" x1=\"%.1f\" x2=\"%.1f\" y1=\"%.1f\" y2=\"%.1f\"/>\n", left, right,
                y_of(rate), y_of(rate));
        fprintf(out, "<text class=\"small end\" x=\"%.1f\" y=\"%.1f\">%g</text>\n", left - 5, y_of(rate) + 3, rate);
    }
    for (int size = 0; size < SIZES; size += 2)
        fprintf(out, "<text class=\"small middle\" x=\"%.1f\" y=\"%d\">%s</text>\n", x_of(operation, size),
                TOP + PANEL_HEIGHT + 16, sizes[size]);
    for (size_t which = 0; which < sizeof series / sizeof *series; which++)
        draw_line(figures, which, operation, out);
}

/* ---- ratios */

/* How far past its bar a ratio is, 1 being just there. */
static double reach(const struct ratio *ratio, double value) {
    double share = ratio->at_most ? ratio->bar / value : value / ratio->bar;
    return share > 2 ? 2 : share;
}

static void draw_ratio(const struct ratio *ratio, int top, FILE *out) {
    const double scale = (WIDTH - NAME_WIDTH - 80) / 2.0;
    const struct spread *spread = &ratio->spread;
    fprintf(out, "<text class=\"end\" x=\"%d\" y=\"%d\">%s</text>\n", NAME_WIDTH - 8, top + 14, ratio->name);
    if (spread->count == 0) {
        fprintf(out, "<text x=\"%d\" y=\"%d\">not measured</text>\n", NAME_WIDTH + 4, top + 14);
        return;
    }
    fprintf(out, "<rect class=\"%s\" x=\"%d\" y=\"%d\" width=\"%.1f\" height=\"%d\"/>\n",
            ratio_met(ratio) ? "met" : "missed", NAME_WIDTH, top + 4, scale * reach(ratio, spread->median), ROW - 9);
    fprintf(out, "<line class=\"one\" x1=\"%.1f\" x2=\"%.1f\" y1=\"%d\" y2=\"%d\"/>\n",
            NAME_WIDTH + scale * reach(ratio, spread->low), NAME_WIDTH + scale * reach(ratio, spread->high),
            top + ROW / 2, top + ROW / 2);
    fprintf(out, "<text x=\"%d\" y=\"%d\">%.2f</text>\n", WIDTH - 70, top + 14, spread->median);
}

static void draw_ratios(const struct bench_result *result, int top, FILE *out) {
    struct ratio ratios[RATIOS_MAX];
    int count = (int)bench_ratios(result, ratios), row = top + 12;
    double one = NAME_WIDTH + (WIDTH - NAME_WIDTH - 80) / 2.0;
    fprintf(out, "<text class=\"title\" x=\"%d\" y=\"%d\">ratios against their bars (the line)</text>\n", LEFT, top);
    for (int i = 0; i < count; i++)
        if (ratios[i].bar > 0) {
            draw_ratio(&ratios[i], row, out);
            row += ROW;
        }
    fprintf(out, "<line class=\"one\" x1=\"%.1f\" x2=\"%.1f\" y1=\"%d\" y2=\"%d\"/>\n", one, one, top + 10, row);
}

enum lg_status bench_plot(const struct bench_result *result, const char *path, struct lg_error *error) {
    struct ratio ratios[RATIOS_MAX];
    int height = TOP + PANEL_HEIGHT + 90 + (int)bench_ratios(result, ratios) * ROW;
    FILE *out = fopen(path, "w");
    if (!out)
        return lg_fail(error, LG_IO, "cannot write \"%s\": %s", path, strerror(errno));
    begin(out, height);
    fprintf(out, "<text x=\"%d\" y=\"20\">lagoon bench %s: one server, medians of %u rounds</text>\n", LEFT,
            LAGOON_VERSION, result->options->rounds);
    draw_legend(out);
    for (int operation = 0; operation < 3; operation++)
        draw_panel(&result->figures, operation, out);
    draw_ratios(result, TOP + PANEL_HEIGHT + 60, out);
    fputs("</svg>\n", out);
    if (ferror(out) | fclose(out))
        return lg_fail(error, LG_IO, "cannot write \"%s\": %s", path, strerror(errno));
    return LG_OK;
}
