#include "cli/table.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

void table_init(struct table *table, const char *const *headings) {
    *table = (struct table){0};
    while (headings[table->columns] && table->columns < TABLE_COLUMNS_MAX)
        table->columns++;
    size_t row = table_row(table);
    for (size_t i = 0; i < table->columns; i++)
        table_cell(table, row, i, "%s", headings[i]);
}

size_t table_row(struct table *table) {
    if (table->rows == table->capacity) {
        size_t capacity = table->capacity ? 2 * table->capacity : 16;
        void *cells = realloc(table->cells, capacity * sizeof *table->cells);
        if (!cells) {
            fputs("lagoon: no memory for a table\n", stderr);
            exit(EXIT_FAILURE);
        }
        table->cells = cells;
        table->capacity = capacity;
    }
    memset(table->cells[table->rows], 0, sizeof *table->cells);
    return table->rows++;
}

void table_cell(struct table *table, size_t row, size_t column, const char *format, ...) {
    va_list args;
    va_start(args, format);
    vsnprintf(table->cells[row][column], TABLE_CELL_BYTES, format, args);
    va_end(args);
}

static void print_row(const struct table *table, size_t row, const int *widths, const bool *right, FILE *out) {
    for (size_t c = 0; c < table->columns; c++) {
        const char *text = table->cells[row][c];
        const char *gap = c + 1 < table->columns ? "  " : "";
        if (c + 1 == table->columns && !right[c])
            fprintf(out, "%s", text);
        else
            fprintf(out, "%*s%s", right[c] ? widths[c] : -widths[c], text, gap);
    }
    fputc('\n', out);
}

void table_print(struct table *table, const char *nothing, FILE *out) {
    int widths[TABLE_COLUMNS_MAX] = {0};
    bool right[TABLE_COLUMNS_MAX] = {false};
    for (size_t c = 0; c < table->columns; c++) {
        char *heading = table->cells[0][c];
        right[c] = heading[0] == '>';
        if (right[c])
            memmove(heading, heading + 1, strlen(heading));
        for (size_t r = 0; r < table->rows; r++) {
            int width = (int)strlen(table->cells[r][c]);
            widths[c] = width > widths[c] ? width : widths[c];
        }
    }
    if (table->rows == 1)
        fprintf(out, "%s\n", nothing);
    else
        for (size_t r = 0; r < table->rows; r++)
            print_row(table, r, widths, right, out);
    free(table->cells);
    *table = (struct table){0};
}

const char *field_text(const json_t *object, const char *key, const char *fallback) {
    const char *text = json_string_value(json_object_get(object, key));
    return text ? text : fallback;
}

double field_number(const json_t *object, const char *key, double fallback) {
    const json_t *value = json_object_get(object, key);
    return json_is_number(value) ? json_number_value(value) : fallback;
}

long long field_integer(const json_t *object, const char *key, long long fallback) {
    const json_t *value = json_object_get(object, key);
    return json_is_number(value) ? (long long)json_number_value(value) : fallback;
}

bool field_is_live(const json_t *job) {
    static const char *const ended[] = {"finished", "failed", "cancelled"};
    bool live = true;
    for (size_t i = 0; i < sizeof ended / sizeof *ended; i++)
        live = live && strcmp(field_text(job, "state", ""), ended[i]) != 0;
    return live;
}

long long field_epoch(const json_t *job) {
    long long finished = field_integer(job, "epoch", 0);
    return finished + (field_is_live(job) && finished < field_integer(job, "epochs", 0));
}

void print_json(const json_t *document, FILE *out) {
    json_dumpf(document, out, JSON_INDENT(2) | JSON_PRESERVE_ORDER | JSON_ENCODE_ANY);
    fputc('\n', out);
}

void print_document(json_t *document) {
    print_json(document, stdout);
    json_decref(document);
}
