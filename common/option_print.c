/* Help, Markdown, man and YAML from an option table. */
#include <string.h>

#include "common/option_value.h"
#include "common/wrap.h"

static const char *or_empty(const char *prefix) {
    return prefix ? prefix : "";
}

/* What stands for the value in `--key VALUE`. */
static const char *value_word(const struct option *option) {
    switch (option->type) {
    case OPTION_BOOL:
        return "";
    case OPTION_INT:
        return "INT";
    case OPTION_FLOAT:
        return "NUMBER";
    case OPTION_BYTES:
        return "SIZE";
    case OPTION_DURATION:
        return "TIME";
    case OPTION_STRING:
        return "TEXT";
    case OPTION_CHOICE:
        return option->choices;
    case OPTION_INTS:
        return "INT,...";
    }
    return "";
}

/* The lower-case type name of the docs. */
static const char *type_name(enum option_type type) {
    static const char *const names[] = {
        [OPTION_BOOL] = "boolean",  [OPTION_INT] = "integer", [OPTION_FLOAT] = "number",  [OPTION_BYTES] = "size",
        [OPTION_DURATION] = "time", [OPTION_STRING] = "text", [OPTION_CHOICE] = "choice", [OPTION_INTS] = "integers",
    };
    return names[type];
}

/* True when the unit says more than the type does. */
static bool unit_matters(const struct option *option) {
    return option->unit && option->type != OPTION_BYTES && option->type != OPTION_DURATION;
}

enum { HELP_BYTES = 1024 };

/* The help of an option, then " (default 8080)" or " (required)"; nothing more for a switch that is off. */
static void help_text(const struct option *option, char text[HELP_BYTES]) {
    const char *unit = unit_matters(option) ? option->unit : "";
    if (!option->fallback)
        snprintf(text, HELP_BYTES, "%s (required)", option->help);
    else if (option->fallback[0] && !(option->type == OPTION_BOOL && strcmp(option->fallback, "false") == 0))
        snprintf(text, HELP_BYTES, "%s (default %s%s%s)", option->help, option->fallback, unit[0] ? " " : "", unit);
    else
        snprintf(text, HELP_BYTES, "%s", option->help);
}

/* Names in the left column, with `dashes` before them; help in the right one. */
static void print_list(const struct option_table *table, const char *dashes, const char *prefix, FILE *out) {
    enum { COLUMN = 34 };
    for (size_t i = 0; i < table->count; i++) {
        const struct option *option = &table->options[i];
        const char *word = value_word(option);
        char text[HELP_BYTES];
        int width = fprintf(out, "  %s%s%s%s%s", dashes, or_empty(prefix), option->key, word[0] ? " " : "", word);
        if (width < COLUMN)
            fprintf(out, "%*s", COLUMN - width, "");
        else
            fprintf(out, "\n%*s", COLUMN, "");
        help_text(option, text);
        wrap_words(text, COLUMN, COLUMN, out);
    }
}

void option_print_help(const struct option_table *table, const char *prefix, FILE *out) {
    print_list(table, "--", prefix, out);
}

void option_print_keys(const struct option_table *table, const char *prefix, FILE *out) {
    print_list(table, "", prefix, out);
}

/* Writes `text` with '|' escaped, as a Markdown table cell needs. */
static void print_cell(const char *text, FILE *out) {
    for (; *text; text++) {
        if (*text == '|')
            fputc('\\', out);
        fputc(*text, out);
    }
}

static void print_code_cell(const char *text, FILE *out) {
    fputc('`', out);
    print_cell(text, out);
    fputc('`', out);
}

static void print_choices(const char *choices, FILE *out) {
    for (const char *at = choices; *at;) {
        size_t length = strcspn(at, "|");
        fprintf(out, "%s`%.*s`", at == choices ? "" : ", ", (int)length, at);
        at += length + (at[length] == '|');
    }
}

static void print_range(const struct option *option, FILE *out) {
    char range[100];
    option_value_range(option, range, sizeof range);
    if (option->type == OPTION_CHOICE)
        print_choices(option->choices, out);
    else
        fprintf(out, "%s", range);
    if (unit_matters(option))
        fprintf(out, "%s%s", range[0] ? " " : "", option->unit);
}

void option_print_markdown(const struct option_table *table, const char *prefix, FILE *out) {
    fprintf(out, "| key | type | default | range | meaning |\n|---|---|---|---|---|\n");
    for (size_t i = 0; i < table->count; i++) {
        const struct option *option = &table->options[i];
        fprintf(out, "| `%s%s` | %s | ", or_empty(prefix), option->key, type_name(option->type));
        if (!option->fallback)
            fprintf(out, "required");
        else if (option->fallback[0])
            print_code_cell(option->fallback, out);
        else
            fprintf(out, "empty");
        fprintf(out, " | ");
        print_range(option, out);
        fprintf(out, " | ");
        print_cell(option->help, out);
        fprintf(out, " |\n");
    }
}

/* Writes `text` as roff text: hyphens that are typed, and backslashes, are escaped. */
static void print_roff(const char *text, FILE *out) {
    for (; *text; text++) {
        if (*text == '\\')
            fprintf(out, "\\e");
        else if (*text == '-')
            fprintf(out, "\\-");
        else
            fputc(*text, out);
    }
}

static void print_man(const struct option_table *table, const char *dashes, const char *prefix, FILE *out) {
    for (size_t i = 0; i < table->count; i++) {
        const struct option *option = &table->options[i];
        char text[HELP_BYTES];
        fprintf(out, ".TP\n\\fB");
        print_roff(dashes, out);
        print_roff(or_empty(prefix), out);
        print_roff(option->key, out);
        fprintf(out, "\\fR");
        if (value_word(option)[0]) {
            fprintf(out, " \\fI");
            print_roff(value_word(option), out);
            fprintf(out, "\\fR");
        }
        fprintf(out, "\n\\&");
        help_text(option, text);
        print_roff(text, out);
        fprintf(out, ".\n");
    }
}

void option_print_man(const struct option_table *table, const char *prefix, FILE *out) {
    print_man(table, "--", prefix, out);
}

void option_print_man_keys(const struct option_table *table, const char *prefix, FILE *out) {
    print_man(table, "", prefix, out);
}

/* ---- YAML */

/* The length of the section part of a key: "http.port" has 4, "port" has 0. */
static size_t section_length(const char *key) {
    const char *dot = strrchr(key, '.');
    return dot ? (size_t)(dot - key) : 0;
}

static bool same_section(const char *a, const char *b) {
    size_t length = section_length(a);
    return length == section_length(b) && memcmp(a, b, length) == 0;
}

static void print_yaml_value(const struct option *option, FILE *out) {
    const char *text = option->fallback;
    if (option->type == OPTION_INTS) {
        fprintf(out, "[%s]", text);
        return;
    }
    bool plain = text[0] && text[0] != '-';
    for (const char *at = text; *at; at++)
        plain = plain && strchr("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_./+-", *at);
    if (plain) {
        fprintf(out, "%s", text);
        return;
    }
    fputc('\'', out);
    for (; *text; text++) {
        if (*text == '\'')
            fputc('\'', out);
        fputc(*text, out);
    }
    fputc('\'', out);
}

static void print_yaml_option(const struct option *option, int indent, FILE *out) {
    char expected[300];
    const char *dot = strrchr(option->key, '.');
    option_value_expected(option, expected, sizeof expected);
    fprintf(out, "%*s# %s: %s%s%s\n%*s", indent, "", option->help, expected, unit_matters(option) ? ", in " : "",
            unit_matters(option) ? option->unit : "", indent, "");
    if (!option->fallback) {
        fprintf(out, "# %s: (required)\n", dot ? dot + 1 : option->key);
        return;
    }
    fprintf(out, "%s: ", dot ? dot + 1 : option->key);
    print_yaml_value(option, out);
    fputc('\n', out);
}

/* Prints the section that option `first` belongs to, with all its options; nothing when an earlier option has it. */
static void print_yaml_section(const struct option_table *table, const char *prefix, size_t first, FILE *out) {
    const char *key = table->options[first].key;
    size_t prefix_bytes = strlen(prefix), length = section_length(key);
    int indent = prefix_bytes + length > 0 ? 2 : 0;
    bool any = false;
    for (size_t i = 0; i < first; i++)
        if (same_section(table->options[i].key, key))
            return;
    for (size_t i = first; i < table->count; i++)
        any = any || (same_section(table->options[i].key, key) && table->options[i].fallback);
    if (indent) { /* a section with nothing but required keys would be a key without a value */
        if (length == 0)
            prefix_bytes--; /* its dot */
        fprintf(out, "%s%.*s%.*s:\n", any ? "" : "# ", (int)prefix_bytes, prefix, (int)length, key);
    }
    for (size_t i = first; i < table->count; i++)
        if (same_section(table->options[i].key, key))
            print_yaml_option(&table->options[i], indent, out);
}

void option_print_yaml(const struct option_table *table, const char *prefix, FILE *out) {
    for (size_t i = 0; i < table->count; i++) /* keys of no section first: after one they would belong to it */
        if (section_length(table->options[i].key) == 0) {
            print_yaml_section(table, or_empty(prefix), i, out);
            break;
        }
    for (size_t i = 0; i < table->count; i++)
        if (section_length(table->options[i].key) > 0)
            print_yaml_section(table, or_empty(prefix), i, out);
}
