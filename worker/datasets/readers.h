/* The parsers of the file formats, apart from the datasets built on them, so that tests and fuzzers reach them. */
#ifndef LAGOON_WORKER_DATASETS_READERS_H
#define LAGOON_WORKER_DATASETS_READERS_H

#include "worker/datasets/input.h"

/* ---- IDX: big-endian magic (0, 0, type, rank), u32 sizes, then the elements */

enum { IDX_RANK_MAX = 4 };
struct idx_array {
    uint32_t rank, shape[IDX_RANK_MAX];
    uint64_t items, item_bytes; /* shape[0] and the product of the others */
    uint8_t *data;              /* items * item_bytes */
};
/* Unsigned bytes of rank `least_rank`..`most_rank`; `what` ("images") is for messages. Free with idx_free. */
LG_MUST_CHECK enum lg_status idx_parse(struct input *input, uint32_t least_rank, uint32_t most_rank, const char *what,
                                       struct idx_array *out, struct lg_error *error);
void idx_free(struct idx_array *array);

/* ---- libsvm: "label index:value index:value ... # comment" lines */

struct libsvm_rows {
    size_t rows, entries;
    double *labels;    /* [rows], as written */
    size_t *starts;    /* [rows + 1] into columns and values */
    uint32_t *columns; /* from 0, ascending within a row */
    float *values;
    uint64_t *lines; /* [rows] line numbers, for messages about labels */
    uint32_t width;  /* largest column + 1 */
    size_t capacity_labels, capacity_starts, capacity_columns, capacity_values, capacity_lines;
};
/* `base`: the first index, 0 or 1. `width`: columns must be below it; 0: no limit but LIBSVM_WIDTH_MAX. */
enum { LIBSVM_WIDTH_MAX = 1 << 30 };
LG_MUST_CHECK enum lg_status libsvm_parse(struct input *input, uint32_t base, uint32_t width, struct libsvm_rows *out,
                                          struct lg_error *error);
void libsvm_free(struct libsvm_rows *rows);

/* ---- CSV: a table of numbers with one label column */

enum csv_header { CSV_HEADER_AUTO, CSV_HEADER_YES, CSV_HEADER_NO };
struct csv_format {
    char separator;
    enum csv_header header;
    const char *label; /* a column name, a number from 0, or "last" */
};
struct csv_rows {
    size_t rows;
    uint32_t columns; /* of the file, the label included */
    uint32_t label_column;
    uint32_t width;       /* columns - 1 */
    float *features;      /* [rows][width] */
    char *label_text;     /* the labels, NUL-separated ... */
    size_t *label_starts; /* ... where each begins: [rows] */
    uint64_t *lines;      /* [rows] */
    char *header;         /* the header line, fields NUL-separated; NULL where there is none */
    size_t header_bytes, label_bytes;
    size_t capacity_features, capacity_text, capacity_starts, capacity_lines;
};
LG_MUST_CHECK enum lg_status csv_parse(struct input *input, const struct csv_format *format, struct csv_rows *out,
                                       struct lg_error *error);
void csv_free(struct csv_rows *rows);

#endif
