/* What a run says: tables for people, a document for programs. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "bench/bench.h"
#include "common/isa.h"
#include "common/units.h"

enum { WARNINGS_MAX = 16, WARNING_BYTES = 160, FEW_FAULTS = 1000 };

size_t bench_warnings(const struct bench_result *result, char (*texts)[WARNING_BYTES], size_t capacity) {
    size_t count = 0;
    for (const struct limit_reference *row = limit_references; row->figure && count < capacity; row++) {
        const struct figure *figure = figures_find(&result->figures, row->figure);
        double median = figure ? spread_of(figure->values, figure->count).median : row->value;
        if (median < LIMIT_FLOOR * row->value)
            snprintf(texts[count++], WARNING_BYTES,
                     "%s: %.2f, less than %.1f times the %.2f of the reference machine: is something else running?",
                     row->what, median, LIMIT_FLOOR, row->value);
    }
    return count;
}

/* ---- for people */

void bench_print_figures(const struct figures *figures, size_t first, FILE *out) {
    for (size_t i = first; i < figures->count; i++) {
        const struct figure *figure = &figures->list[i];
        struct spread spread = spread_of(figure->values, figure->count);
        if (strcmp(figure->unit, "1/GB") == 0 && spread.median < FEW_FAULTS)
            continue; /* as it should be */
        fprintf(out, "  %-36s %9.3f %-9s  %9.3f .. %-9.3f\n", figure->name, spread.median, figure->unit, spread.low,
                spread.high);
    }
    fflush(out);
}

void bench_print_size(const struct figures *figures, const char *name, const char *ending, FILE *out) {
    static const char *const transports[] = {"tcp", "ipc", "shm"}, *const operations[] = {"push", "pull", "pushpull"};
    if (!name[0])
        fprintf(out, "  %-28s%24s%24s%24s\n  %-28s", "GB/s", "tcp", "ipc", "shm", "");
    else
        fprintf(out, "  %-8s%-20s", name, ending);
    for (size_t i = 0; i < 3; i++)
        for (size_t k = 0; k < 3; k++) {
            char text[FIGURE_NAME_BYTES];
            snprintf(text, sizeof text, "%s.%s.%s%s", transports[i], operations[k], name, ending);
            const struct figure *figure = figures_find(figures, text);
            if (!name[0])
                fprintf(out, "%8s", k == 2 ? "both" : operations[k]);
            else if (figure)
                fprintf(out, "%8.3f", spread_of(figure->values, figure->count).median);
            else
                fprintf(out, "%8s", "--");
        }
    fputc('\n', out);
    fflush(out);
}

static void print_ratios(const struct bench_result *result, FILE *out) {
    struct ratio ratios[RATIOS_MAX];
    size_t count = bench_ratios(result, ratios);
    fprintf(out, "\nratios within this run (median, quartiles, bar)\n");
    for (size_t i = 0; i < count; i++) {
        const struct ratio *ratio = &ratios[i];
        if (ratio->spread.count == 0 && ratio->bar <= 0)
            continue;
        if (ratio->spread.count == 0) {
            fprintf(out, "  --      not measured                  %s\n", ratio->name);
            continue;
        }
        char bar[16] = "";
        if (ratio->bar > 0)
            snprintf(bar, sizeof bar, "%s %.2f", ratio->at_most ? "<=" : ">=", ratio->bar);
        fprintf(out, "  %-6s %6.2f  %5.2f .. %-5.2f  %-8s  %s\n",
                ratio->bar <= 0    ? ""
                : ratio_met(ratio) ? "met"
                                   : "MISSED",
                ratio->spread.median, ratio->spread.low, ratio->spread.high, bar, ratio->name);
    }
}

void bench_print_end(const struct bench_result *result, FILE *out) {
    char warnings[WARNINGS_MAX][WARNING_BYTES], took[UNITS_TEXT_BYTES];
    print_ratios(result, out);
    for (size_t i = 0; i < result->omissions.count; i++)
        fprintf(out, "%s%s: not measured: %s\n", i == 0 ? "\n" : "", result->omissions.list[i].what,
                result->omissions.list[i].reason);
    size_t count = bench_warnings(result, warnings, WARNINGS_MAX);
    for (size_t i = 0; i < count; i++)
        fprintf(out, "%swarning: %s\n", i == 0 ? "\n" : "", warnings[i]);
    fprintf(out, "\n%u rounds, %s\n", result->options->rounds,
            units_duration((int64_t)(result->seconds * 1000), took, sizeof took));
}

/* ---- for programs */

static json_t *spread_document(const struct spread *spread, const double *values, size_t count) {
    json_t *list = json_array();
    for (size_t i = 0; i < count; i++)
        json_array_append_new(list, json_real(values[i]));
    return json_pack("{s:f, s:f, s:f, s:f, s:f, s:o}", "median", spread->median, "low", spread->low, "high",
                     spread->high, "least", spread->least, "most", spread->most, "rounds", list);
}

static json_t *figures_document(const struct figures *figures) {
    json_t *document = json_object();
    for (size_t i = 0; i < figures->count; i++) {
        const struct figure *figure = &figures->list[i];
        struct spread spread = spread_of(figure->values, figure->count);
        json_t *entry = spread_document(&spread, figure->values, figure->count);
        json_object_set_new(entry, "unit", json_string(figure->unit));
        json_object_set_new(document, figure->name, entry);
    }
    return document;
}

static json_t *ratios_document(const struct bench_result *result) {
    struct ratio ratios[RATIOS_MAX];
    size_t count = bench_ratios(result, ratios);
    json_t *document = json_object();
    for (size_t i = 0; i < count; i++) {
        const struct ratio *ratio = &ratios[i];
        bool there = ratio->spread.count > 0;
        json_t *entry = spread_document(&ratio->spread, ratio->values, ratio->spread.count);
        json_object_set_new(entry, "value", there ? json_real(ratio->spread.median) : json_null());
        json_object_set_new(entry, "bar", ratio->bar > 0 ? json_real(ratio->bar) : json_null());
        json_object_set_new(entry, "sense", json_string(ratio->at_most ? "at most" : "at least"));
        json_object_set_new(entry, "met", there && ratio->bar > 0 ? json_boolean(ratio_met(ratio)) : json_null());
        json_object_set_new(entry, "above", json_string(ratio->above));
        json_object_set_new(entry, "below", json_string(ratio->below));
        json_object_set_new(document, ratio->name, entry);
    }
    return document;
}

static json_t *omissions_document(const struct omissions *omissions) {
    json_t *document = json_object();
    for (size_t i = 0; i < omissions->count; i++)
        json_object_set_new(document, omissions->list[i].what, json_string(omissions->list[i].reason));
    return document;
}

json_t *bench_document(const struct bench_result *result) {
    char texts[WARNINGS_MAX][WARNING_BYTES];
    size_t count = bench_warnings(result, texts, WARNINGS_MAX);
    json_t *warnings = json_array();
    for (size_t i = 0; i < count; i++)
        json_array_append_new(warnings, json_string(texts[i]));
    return json_pack("{s:s, s:i, s:s, s:I, s:i, s:f, s:b, s:o, s:o, s:o, s:o}", "version", LAGOON_VERSION, "cores",
                     (int)sysconf(_SC_NPROCESSORS_ONLN), "isa", isa_name(isa_detect()), "tensor_bytes",
                     (json_int_t)result->options->tensor_bytes, "rounds", (int)result->options->rounds, "seconds",
                     result->seconds, "quick", result->options->quick, "figures", figures_document(&result->figures),
                     "ratios", ratios_document(result), "not_measured", omissions_document(&result->omissions),
                     "warnings", warnings);
}
