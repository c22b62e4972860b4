/* libsvm (svmlight) files: sparse rows with a class each. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "worker/dataset.h"
#include "worker/datasets/readers.h"

/* ---- the format */

static bool rows_reserve(struct libsvm_rows *rows, size_t row_count, size_t entries) {
    return input_grow(&rows->labels, &rows->capacity_labels, row_count, sizeof *rows->labels) &&
           input_grow(&rows->lines, &rows->capacity_lines, row_count, sizeof *rows->lines) &&
           input_grow(&rows->starts, &rows->capacity_starts, row_count + 1, sizeof *rows->starts) &&
           input_grow(&rows->columns, &rows->capacity_columns, entries, sizeof *rows->columns) &&
           input_grow(&rows->values, &rows->capacity_values, entries, sizeof *rows->values);
}

/* Cuts the next word off *rest; NULL at the end of the line. */
static char *next_word(char **rest) {
    char *word = *rest + strspn(*rest, " \t");
    if (*word == '\0')
        return NULL;
    char *end = word + strcspn(word, " \t");
    *rest = *end ? end + 1 : end;
    *end = '\0';
    return word;
}

static enum lg_status parse_index(const struct input *input, const char *text, uint32_t base, uint32_t width,
                                  uint32_t *column, struct lg_error *error) {
    uint64_t index = 0;
    for (const char *at = text; *at; at++) {
        if (*at < '0' || *at > '9' || index > LIBSVM_WIDTH_MAX)
            return input_fail(input, LG_MALFORMED, error, "index \"%.40s\": expected a whole number from %u to %d",
                              text, base, LIBSVM_WIDTH_MAX - 1);
        index = index * 10 + (uint64_t)(*at - '0');
    }
    if (*text == '\0' || index >= LIBSVM_WIDTH_MAX)
        return input_fail(input, LG_MALFORMED, error, "index \"%.40s\": expected a whole number from %u to %d", text,
                          base, LIBSVM_WIDTH_MAX - 1);
    if (index < base)
        return input_fail(input, LG_MALFORMED, error,
                          "index 0: expected indices from 1; set \"dataset.index_base\" to 0 if they start there");
    if (width > 0 && index - base >= width)
        return input_fail(input, LG_MALFORMED, error,
                          "index %llu: expected at most %llu; raise \"dataset.width\" (now %u)",
                          (unsigned long long)index, (unsigned long long)width - 1 + base, width);
    *column = (uint32_t)(index - base);
    return LG_OK;
}

/* "index:value" as the next entry of the row that began at entry `row_start`. */
static enum lg_status parse_entry(const struct input *input, char *word, uint32_t base, uint32_t width,
                                  size_t row_start, struct libsvm_rows *rows, struct lg_error *error) {
    char *colon = strchr(word, ':');
    uint32_t column = 0;
    float value;
    if (!colon)
        return input_fail(input, LG_MALFORMED, error, "\"%.40s\": expected \"index:value\"", word);
    *colon = '\0';
    enum lg_status status = parse_index(input, word, base, width, &column, error);
    if (status != LG_OK)
        return status;
    if (rows->entries > row_start && column <= rows->columns[rows->entries - 1])
        return input_fail(input, LG_MALFORMED, error, "index %s after %u: expected ascending indices", word,
                          rows->columns[rows->entries - 1] + base);
    status = input_number(colon + 1, &value);
    if (status != LG_OK)
        return input_fail(input, status, error, "value \"%.40s\" of index %s: expected a finite number", colon + 1,
                          word);
    if (!rows_reserve(rows, rows->rows + 1, rows->entries + 1))
        return input_fail(input, LG_NO_MEMORY, error, "no memory for more than %zu entries", rows->entries);
    rows->columns[rows->entries] = column;
    rows->values[rows->entries++] = value;
    rows->width = column >= rows->width ? column + 1 : rows->width;
    return LG_OK;
}

static enum lg_status parse_row(const struct input *input, char *line, uint32_t base, uint32_t width,
                                struct libsvm_rows *rows, struct lg_error *error) {
    char *rest = line, *word;
    float label;
    size_t row_start = rows->entries;
    line[strcspn(line, "#")] = '\0';
    word = next_word(&rest);
    if (!word)
        return LG_OK; /* blank, or only a comment */
    enum lg_status status = input_number(word, &label);
    if (status != LG_OK)
        return input_fail(input, status, error, "label \"%.40s\": expected a number at the start of the line", word);
    if (!rows_reserve(rows, rows->rows + 1, rows->entries))
        return input_fail(input, LG_NO_MEMORY, error, "no memory for more than %zu rows", rows->rows);
    while ((word = next_word(&rest))) {
        if (strncmp(word, "qid:", 4) == 0)
            continue; /* query groups mean nothing to a classifier */
        status = parse_entry(input, word, base, width, row_start, rows, error);
        if (status != LG_OK)
            return status;
    }
    rows->labels[rows->rows] = (double)label;
    rows->lines[rows->rows] = input->line;
    rows->starts[rows->rows++] = row_start;
    rows->starts[rows->rows] = rows->entries;
    return LG_OK;
}

enum lg_status libsvm_parse(struct input *input, uint32_t base, uint32_t width, struct libsvm_rows *out,
                            struct lg_error *error) {
    struct libsvm_rows rows = {0};
    char *line = NULL;
    enum lg_status status;
    do {
        status = input_next_line(input, &line, error);
        if (status == LG_OK && line)
            status = parse_row(input, line, base, width, &rows, error);
    } while (status == LG_OK && line);
    if (status == LG_OK && rows.rows == 0)
        status =
            lg_fail(error, LG_MALFORMED, "\"%s\" has no rows: expected \"label index:value ..\" lines", input->name);
    if (status != LG_OK) {
        libsvm_free(&rows);
        return status;
    }
    *out = rows;
    return LG_OK;
}

void libsvm_free(struct libsvm_rows *rows) {
    free(rows->labels);
    free(rows->lines);
    free(rows->starts);
    free(rows->columns);
    free(rows->values);
    *rows = (struct libsvm_rows){0};
}

/* ---- the dataset */

struct libsvm_options {
    char path[2][OPTION_TEXT_BYTES]; /* by split */
    int64_t width, index_base, classes;
};

#define ENTRY(key_, type_, field_, ...)                                                                                \
    { .key = key_, .type = type_, .offset = offsetof(struct libsvm_options, field_), __VA_ARGS__ }
static const struct option options[] = {
    ENTRY("train", OPTION_STRING, path[0], .fallback = NULL, .help = "rows to train on, plain or .gz"),
    ENTRY("test", OPTION_STRING, path[1], .fallback = NULL, .help = "rows to evaluate on, plain or .gz"),
    ENTRY("width", OPTION_INT, width, .fallback = "0", .least = 0, .most = LIBSVM_WIDTH_MAX, .unit = "features",
          .help = "number of features; 0 takes the largest index of both files"),
    ENTRY("index_base", OPTION_INT, index_base, .fallback = "1", .least = 0, .most = 1,
          .help = "the first index: 0 or 1"),
    ENTRY("classes", OPTION_INT, classes, .fallback = "0", .least = 0, .most = 65536,
          .help = "number of classes; 0 takes it from the training labels"),
};
#undef ENTRY

static const struct option_table option_table = {
    .name = "dataset libsvm",
    .summary = "sparse rows in libsvm format; labels are {-1, 1}, or whole numbers from 0 or from 1",
    .options = options,
    .count = sizeof options / sizeof options[0],
    .config_bytes = sizeof(struct libsvm_options),
};

struct libsvm_dataset {
    struct dataset base;
    struct libsvm_rows rows[2]; /* by split */
};

/* How written labels become 0..classes-1. */
struct label_map {
    bool signs;   /* -1 and 1 become 0 and 1 */
    double first; /* else: what class 0 is written as, 0 or 1 */
    double classes;
};

static bool whole(double number) {
    return number >= -1 && number <= 65536 && number == (double)(int64_t)number;
}

static enum lg_status label_fail(const char *path, const struct libsvm_rows *rows, size_t row, const char *expected,
                                 struct lg_error *error) {
    return lg_fail(error, LG_MALFORMED, "\"%s\" line %llu: label %g: expected %s", path,
                   (unsigned long long)rows->lines[row], rows->labels[row], expected);
}

/* Which of the three ways to number classes the training labels follow. */
static enum lg_status derive_labels(const char *path, const struct libsvm_rows *rows, struct label_map *map,
                                    struct lg_error *error) {
    double least = rows->labels[0], most = least;
    for (size_t i = 0; i < rows->rows; i++) {
        if (!whole(rows->labels[i]))
            return label_fail(path, rows, i, "-1 or 1, or a class number from 0 to 65535", error);
        least = rows->labels[i] < least ? rows->labels[i] : least;
        most = rows->labels[i] > most ? rows->labels[i] : most;
    }
    map->signs = least < 0;
    map->first = least > 0 ? 1 : 0;
    map->classes = map->signs ? 2 : most - map->first + 1;
    for (size_t i = 0; map->signs && i < rows->rows; i++) {
        if (rows->labels[i] != -1 && rows->labels[i] != 1)
            return label_fail(path, rows, i, "-1 or 1, as there is a -1 elsewhere", error);
    }
    if (map->classes < 2)
        return lg_fail(error, LG_MALFORMED, "\"%s\" has only the label %g: expected at least two classes", path, least);
    return LG_OK;
}

/* Rewrites the labels of one split to 0..classes-1. */
static enum lg_status map_labels(const char *path, const struct label_map *map, struct libsvm_rows *rows,
                                 struct lg_error *error) {
    char expected[96];
    for (size_t i = 0; i < rows->rows; i++) {
        double label = rows->labels[i];
        double mapped = map->signs ? (label + 1) / 2 : label - map->first;
        if (!whole(mapped) || mapped < 0 || mapped >= map->classes) {
            if (map->signs)
                snprintf(expected, sizeof expected, "-1 or 1, as in the training file");
            else
                snprintf(expected, sizeof expected, "%g to %g; set \"dataset.classes\" if there are more", map->first,
                         map->first + map->classes - 1);
            return label_fail(path, rows, i, expected, error);
        }
        rows->labels[i] = mapped;
    }
    return LG_OK;
}

static uint64_t rows_fingerprint(uint64_t print, const struct libsvm_rows *rows) {
    print = fingerprint_bytes(print, rows->labels, rows->rows * sizeof *rows->labels);
    print = fingerprint_bytes(print, rows->starts, (rows->rows + 1) * sizeof *rows->starts);
    print = fingerprint_bytes(print, rows->columns, rows->entries * sizeof *rows->columns);
    return fingerprint_bytes(print, rows->values, rows->entries * sizeof *rows->values);
}

static void libsvm_close(struct dataset *dataset) {
    struct libsvm_dataset *data = (struct libsvm_dataset *)dataset;
    libsvm_free(&data->rows[0]);
    libsvm_free(&data->rows[1]);
    free(data);
}

static enum lg_status load_split(const struct libsvm_options *config, int split, struct libsvm_rows *rows,
                                 struct lg_error *error) {
    struct input input;
    enum lg_status status =
        input_open(&input, config->path[split], split == 0 ? "dataset.train" : "dataset.test", error);
    if (status == LG_OK)
        status = libsvm_parse(&input, (uint32_t)config->index_base, (uint32_t)config->width, rows, error);
    input_close(&input);
    return status;
}

static enum lg_status load_labels(const struct libsvm_options *config, struct libsvm_dataset *data,
                                  struct label_map *map, struct lg_error *error) {
    enum lg_status status = derive_labels(config->path[0], &data->rows[0], map, error);
    if (status == LG_OK && config->classes > 0)
        map->classes = (double)config->classes;
    if (status == LG_OK)
        status = map_labels(config->path[0], map, &data->rows[0], error);
    return status != LG_OK ? status : map_labels(config->path[1], map, &data->rows[1], error);
}

static enum lg_status libsvm_open(const void *option_values, struct dataset **out, struct lg_error *error) {
    const struct libsvm_options *config = option_values;
    struct label_map map = {0};
    struct libsvm_dataset *data = calloc(1, sizeof *data);
    if (!data)
        return lg_fail(error, LG_NO_MEMORY, "no memory for dataset \"libsvm\"");
    data->base.kind = &dataset_libsvm;
    enum lg_status status = load_split(config, 0, &data->rows[0], error);
    if (status == LG_OK)
        status = load_split(config, 1, &data->rows[1], error);
    if (status == LG_OK)
        status = load_labels(config, data, &map, error);
    if (status != LG_OK) {
        libsvm_close(&data->base);
        return status;
    }
    uint32_t widest = data->rows[0].width > data->rows[1].width ? data->rows[0].width : data->rows[1].width;
    uint32_t width = config->width > 0 ? (uint32_t)config->width : widest > 0 ? widest : 1;
    uint64_t print = rows_fingerprint(fingerprint_bytes(0, "libsvm1", 7), &data->rows[0]);
    print = fingerprint_number(rows_fingerprint(print, &data->rows[1]), width);
    data->base.info = (struct dataset_info){
        .form = DATASET_SPARSE,
        .train_samples = data->rows[0].rows,
        .test_samples = data->rows[1].rows,
        .width = width,
        .classes = (uint32_t)map.classes,
        .fingerprint = fingerprint_number(print, map.classes),
    };
    *out = &data->base;
    return LG_OK;
}

static enum lg_status libsvm_read(struct dataset *dataset, enum dataset_split split, uint64_t epoch,
                                  const uint64_t *indices, uint32_t count, struct batch *batch,
                                  struct lg_error *error) {
    const struct libsvm_rows *rows = &((struct libsvm_dataset *)dataset)->rows[split];
    size_t entries = 0;
    (void)epoch;
    for (uint32_t i = 0; i < count; i++)
        entries += rows->starts[indices[i] + 1] - rows->starts[indices[i]];
    if (entries > UINT32_MAX)
        return lg_fail(error, LG_INVALID,
                       "a batch of %u rows has %zu entries: expected below 2^32; lower the batch size", count, entries);
    enum lg_status status = batch_reserve_sparse(batch, count, entries, error);
    if (status != LG_OK)
        return status;
    uint32_t at = 0;
    for (uint32_t i = 0; i < count; i++) {
        size_t from = rows->starts[indices[i]], row_entries = rows->starts[indices[i] + 1] - from;
        batch->row_starts[i] = at;
        batch->labels[i] = (int32_t)rows->labels[indices[i]];
        if (row_entries > 0) {
            memcpy(batch->columns + at, rows->columns + from, row_entries * sizeof(uint32_t));
            memcpy(batch->values + at, rows->values + from, row_entries * sizeof(float));
        }
        at += (uint32_t)row_entries;
    }
    batch->row_starts[count] = at;
    return LG_OK;
}

const struct dataset_kind dataset_libsvm = {
    .name = "libsvm",
    .summary = "sparse rows in libsvm (svmlight) format, plain or gzip",
    .options = &option_table,
    .open = libsvm_open,
    .read = libsvm_read,
    .close = libsvm_close,
};
