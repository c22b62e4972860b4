#include "cli/registries.h"

#include <string.h>

#include "client/consistency.h"
#include "common/wrap.h"
#include "server/policy.h"
#include "common/updater.h"
#include "worker/dataset.h"
#include "worker/model.h"

const char *const registries_topics[] = {"models", "datasets", "updaters", "policies", "modes", NULL};

static void print_entry(const char *name, const char *summary, const char *formula, enum registries_form form,
                        FILE *out) {
    if (form == REGISTRIES_HELP)
        fprintf(out, "\n%s: %s%s%s\n", name, summary, formula ? "\n  " : "", formula ? formula : "");
    else if (form == REGISTRIES_MARKDOWN)
        fprintf(out, "\n#### `%s`\n\n%s%s%s%s\n\n", name, summary, formula ? ": `" : "", formula ? formula : "",
                formula ? "`" : "");
    else
        fprintf(out, ".SS %s\n%s\n%s%s%s", name, summary, formula ? ".br\n" : "", formula ? formula : "",
                formula ? "\n" : "");
}

static void print_options(const struct option_table *table, const char *prefix, enum registries_form form, FILE *out) {
    if (table->count == 0)
        return;
    if (form == REGISTRIES_HELP)
        option_print_keys(table, prefix, out);
    else if (form == REGISTRIES_MARKDOWN)
        option_print_markdown(table, prefix, out);
    else
        option_print_man_keys(table, prefix, out);
}

static void param_heading(size_t count, enum registries_form form, FILE *out) {
    if (form == REGISTRIES_MARKDOWN && count > 0)
        fprintf(out, "| key | default | range | meaning |\n|---|---|---|---|\n");
}

struct param {
    const char *prefix, *name, *help;
    double fallback, least, most;
};

static void print_param(const struct param *param, enum registries_form form, FILE *out) {
    enum { COLUMN = 34 };
    char text[512];
    snprintf(text, sizeof text, "%s (default %g, %g to %g)", param->help, param->fallback, param->least, param->most);
    if (form == REGISTRIES_HELP) {
        int width = fprintf(out, "  %s%s NUMBER", param->prefix, param->name);
        fprintf(out, "%*s", width < COLUMN ? COLUMN - width : 1, "");
        wrap_words(text, width < COLUMN ? COLUMN : width + 1, COLUMN, out);
    } else if (form == REGISTRIES_MARKDOWN) {
        fprintf(out, "| `%s%s` | `%g` | %g … %g | %s |\n", param->prefix, param->name, param->fallback, param->least,
                param->most, param->help);
    } else {
        fprintf(out, ".TP\n\\fB%s%s\\fR \\fINUMBER\\fR\n%s\n", param->prefix, param->name, text);
    }
}

static void print_models(enum registries_form form, FILE *out) {
    size_t count;
    const struct model_kind *const *kinds = model_kinds(&count);
    for (size_t i = 0; i < count; i++) {
        print_entry(kinds[i]->name, kinds[i]->summary, NULL, form, out);
        print_options(kinds[i]->options, "model.", form, out);
    }
}

static void print_datasets(enum registries_form form, FILE *out) {
    size_t count;
    const struct dataset_kind *const *kinds = dataset_kinds(&count);
    for (size_t i = 0; i < count; i++) {
        print_entry(kinds[i]->name, kinds[i]->summary, NULL, form, out);
        print_options(kinds[i]->options, "dataset.", form, out);
    }
}

static void print_updaters(enum registries_form form, FILE *out) {
    size_t count;
    const struct updater *const *all = updaters(&count);
    for (size_t i = 0; i < count; i++) {
        print_entry(all[i]->name, all[i]->summary, all[i]->formula, form, out);
        param_heading(all[i]->param_count, form, out);
        for (size_t j = 0; j < all[i]->param_count; j++) {
            const struct updater_param *param = &all[i]->params[j];
            print_param(
                &(struct param){"updater.", param->name, param->help, param->fallback, param->least, param->most}, form,
                out);
        }
    }
}

static void print_policies(enum registries_form form, FILE *out) {
    size_t count;
    const struct policy *const *all = policies(&count);
    for (size_t i = 0; i < count; i++) {
        print_entry(all[i]->name, all[i]->summary, all[i]->formula, form, out);
        param_heading(all[i]->param_count, form, out);
        for (size_t j = 0; j < all[i]->param_count; j++) {
            const struct policy_param *param = &all[i]->params[j];
            print_param(
                &(struct param){"staleness.", param->name, param->help, param->fallback, param->least, param->most},
                form, out);
        }
    }
}

static void print_modes(enum registries_form form, FILE *out) {
    size_t count;
    const struct consistency *all = consistencies(&count);
    for (size_t i = 0; i < count; i++)
        print_entry(all[i].name, all[i].summary, all[i].rule, form, out);
}

bool registries_print(const char *topic, enum registries_form form, FILE *out) {
    static void (*const printers[])(enum registries_form, FILE *) = {print_models, print_datasets, print_updaters,
                                                                     print_policies, print_modes};
    for (size_t i = 0; registries_topics[i]; i++) {
        if (strcmp(topic, registries_topics[i]) == 0) {
            printers[i](form, out);
            return true;
        }
    }
    return false;
}
