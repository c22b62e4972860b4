/* Aligned text tables, and fields of JSON documents as text. */
#ifndef LAGOON_CLI_TABLE_H
#define LAGOON_CLI_TABLE_H

#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>

enum { TABLE_COLUMNS_MAX = 16, TABLE_CELL_BYTES = 96 };

struct table {
    size_t columns, rows, capacity;
    char (*cells)[TABLE_COLUMNS_MAX][TABLE_CELL_BYTES]; /* row 0 is the heading */
};

/* `headings`: NULL-terminated. A heading that begins with '>' (not printed) aligns its column to the right. */
void table_init(struct table *table, const char *const *headings);
/* Adds a row of empty cells and returns its number; table_cell writes one. */
size_t table_row(struct table *table);
void table_cell(struct table *table, size_t row, size_t column, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
/* Prints with two spaces between columns; "nothing" in its place when there is no row. Frees. */
void table_print(struct table *table, const char *nothing, FILE *out);

/* Fields of an object with a default where they are missing or null. */
const char *field_text(const json_t *object, const char *key, const char *fallback);
double field_number(const json_t *object, const char *key, double fallback);
long long field_integer(const json_t *object, const char *key, long long fallback);

/* Whether a job's document is of one that has not ended. */
bool field_is_live(const json_t *job);
/* The epoch that it trains, from 1; of one that has ended, how many it finished, which is what documents count. */
long long field_epoch(const json_t *job);

/* Pretty-prints a document with a final newline. */
void print_json(const json_t *document, FILE *out);
/* The same on standard output, and frees it. */
void print_document(json_t *document);

#endif
