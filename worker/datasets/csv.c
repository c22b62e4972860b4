/* CSV files: numeric columns and one label column.
 *
 * Fields may be quoted ("" inside quotes is a quote); a quoted field ends on its line. Labels are whole numbers from 0
 * without gaps, or else any distinct texts, sorted. */
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "worker/dataset.h"
#include "worker/datasets/readers.h"

/* ---- the format */

enum { CSV_COLUMNS_MAX = 1 << 20, CSV_CLASSES_MAX = 4096 };

struct fields {
    char **at;
    size_t count, capacity;
};

/* Unquotes the field that starts at `from` in place; returns what follows its closing quote, or NULL. */
static char *unquote(char *from) {
    char *to = from, *at = from + 1;
    for (;;) {
        if (*at == '\0')
            return NULL;
        if (*at == '"') {
            if (at[1] != '"')
                break;
            at++;
        }
        *to++ = *at++;
    }
    *to = '\0';
    return at + 1;
}

static char *trim(char *field) {
    field += strspn(field, " \t");
    size_t length = strlen(field);
    while (length > 0 && (field[length - 1] == ' ' || field[length - 1] == '\t'))
        length--;
    field[length] = '\0';
    return field;
}

/* Cuts `line` into fields in place. */
static enum lg_status split(const struct input *input, char *line, char separator, struct fields *fields,
                            struct lg_error *error) {
    char *at = line;
    fields->count = 0;
    while (at) {
        char *field = at;
        if (!input_grow(&fields->at, &fields->capacity, fields->count + 1, sizeof *fields->at))
            return input_fail(input, LG_NO_MEMORY, error, "no memory for %zu fields", fields->count + 1);
        if (fields->count == CSV_COLUMNS_MAX)
            return input_fail(input, LG_MALFORMED, error, "more than %d fields; is the separator right?",
                              CSV_COLUMNS_MAX);
        if (*field == '"') {
            at = unquote(field);
            if (!at || (*at != '\0' && *at != separator))
                return input_fail(input, LG_MALFORMED, error,
                                  "field %zu: expected a closing quote and then \"%c\" or the end", fields->count + 1,
                                  separator == '\t' ? ' ' : separator);
            at = *at ? at + 1 : NULL;
        } else {
            at = strchr(field, separator);
            if (at)
                *at++ = '\0';
            field = trim(field);
        }
        fields->at[fields->count++] = field;
    }
    return LG_OK;
}

/* Finds the label column from a name, a number or "last" given the first line's fields. *named: found by its name. */
static enum lg_status find_label(const struct input *input, const char *label, const struct fields *first,
                                 uint32_t *column, bool *named, struct lg_error *error) {
    char *end = NULL;
    *named = false;
    *column = (uint32_t)first->count - 1;
    if (strcmp(label, "last") == 0)
        return LG_OK;
    unsigned long number = strtoul(label, &end, 10);
    if (*label >= '0' && *label <= '9' && *end == '\0') {
        if (number >= first->count)
            return input_fail(input, LG_INVALID, error,
                              "has %zu columns: expected \"dataset.label\" to be at most %zu, not %s", first->count,
                              first->count - 1, label);
        *column = (uint32_t)number;
        return LG_OK;
    }
    for (size_t i = 0; i < first->count; i++) {
        if (strcmp(first->at[i], label) == 0) {
            *column = (uint32_t)i;
            *named = true;
            return LG_OK;
        }
    }
    return input_fail(input, LG_INVALID, error,
                      "no column is called \"%.60s\": expected a header with it; set \"dataset.label\" to a column's "
                      "name or number, or to \"last\"",
                      label);
}

/* Without being told, the first line is a header when none of its feature fields is a number. */
static bool is_header(enum csv_header header, bool named, uint32_t label_column, const struct fields *first) {
    float number;
    if (named || header != CSV_HEADER_AUTO)
        return named || header == CSV_HEADER_YES;
    for (size_t i = 0; i < first->count; i++) {
        if (i != label_column && (first->at[i][0] == '\0' || input_number(first->at[i], &number) != LG_MALFORMED))
            return false;
    }
    return true;
}

static enum lg_status keep_header(const struct input *input, const struct fields *fields, struct csv_rows *rows,
                                  struct lg_error *error) {
    size_t bytes = 0;
    for (size_t i = 0; i < fields->count; i++)
        bytes += strlen(fields->at[i]) + 1;
    rows->header = malloc(bytes);
    if (!rows->header)
        return input_fail(input, LG_NO_MEMORY, error, "no memory for the header");
    rows->header_bytes = bytes;
    char *to = rows->header;
    for (size_t i = 0; i < fields->count; i++) {
        size_t length = strlen(fields->at[i]) + 1;
        memcpy(to, fields->at[i], length);
        to += length;
    }
    return LG_OK;
}

static bool rows_reserve(struct csv_rows *rows, size_t label_bytes) {
    return input_grow(&rows->features, &rows->capacity_features, (rows->rows + 1) * rows->width, sizeof(float)) &&
           input_grow(&rows->label_starts, &rows->capacity_starts, rows->rows + 1, sizeof(size_t)) &&
           input_grow(&rows->lines, &rows->capacity_lines, rows->rows + 1, sizeof(uint64_t)) &&
           input_grow(&rows->label_text, &rows->capacity_text, rows->label_bytes + label_bytes, 1);
}

static enum lg_status add_row(const struct input *input, const struct fields *fields, struct csv_rows *rows,
                              struct lg_error *error) {
    if (fields->count != rows->columns)
        return input_fail(input, LG_MALFORMED, error, "%zu fields: expected %u, as in the first line", fields->count,
                          rows->columns);
    const char *label = fields->at[rows->label_column];
    size_t label_bytes = strlen(label) + 1;
    if (label_bytes == 1)
        return input_fail(input, LG_MALFORMED, error, "column %u is empty: expected a label", rows->label_column);
    if (!rows_reserve(rows, label_bytes))
        return input_fail(input, LG_NO_MEMORY, error, "no memory for more than %zu rows", rows->rows);
    float *to = rows->features + rows->rows * rows->width;
    for (uint32_t i = 0; i < rows->columns; i++) {
        if (i == rows->label_column)
            continue;
        enum lg_status status = input_number(fields->at[i], to);
        if (status == LG_NONFINITE)
            return input_fail(input, status, error, "column %u is \"%.40s\": expected a finite number", i,
                              fields->at[i]);
        if (status != LG_OK)
            return input_fail(input, status, error, "column %u is \"%.40s\": expected a number%s", i, fields->at[i],
                              rows->rows == 0 && !rows->header ? "; set \"dataset.header\" to yes if this is a header"
                                                               : "");
        to++;
    }
    memcpy(rows->label_text + rows->label_bytes, label, label_bytes);
    rows->label_starts[rows->rows] = rows->label_bytes;
    rows->label_bytes += label_bytes;
    rows->lines[rows->rows++] = input->line;
    return LG_OK;
}

/* The first line settles columns, label and header. */
static enum lg_status first_line(const struct input *input, const struct csv_format *format,
                                 const struct fields *fields, struct csv_rows *rows, struct lg_error *error) {
    bool named;
    if (fields->count < 2)
        return input_fail(input, LG_MALFORMED, error,
                          "has one column: expected features and a label; is the separator right?");
    rows->columns = (uint32_t)fields->count;
    rows->width = rows->columns - 1;
    enum lg_status status = find_label(input, format->label, fields, &rows->label_column, &named, error);
    if (status != LG_OK)
        return status;
    if (is_header(format->header, named, rows->label_column, fields))
        return keep_header(input, fields, rows, error);
    return add_row(input, fields, rows, error);
}

static enum lg_status parse_line(struct input *input, const struct csv_format *format, char *line,
                                 struct fields *fields, struct csv_rows *rows, struct lg_error *error) {
    enum lg_status status = split(input, line, format->separator, fields, error);
    if (status != LG_OK)
        return status;
    return rows->columns == 0 ? first_line(input, format, fields, rows, error) : add_row(input, fields, rows, error);
}

enum lg_status csv_parse(struct input *input, const struct csv_format *format, struct csv_rows *out,
                         struct lg_error *error) {
    struct csv_rows rows = {0};
    struct fields fields = {0};
    uint64_t blank = 0;
    enum lg_status status;
    for (;;) {
        char *line = NULL;
        status = input_next_line(input, &line, error);
        if (status != LG_OK || !line)
            break;
        if (input->line == 1 && strncmp(line, "\xef\xbb\xbf", 3) == 0)
            line += 3;
        if (line[strspn(line, " \t")] == '\0') { /* blank lines are fine at the end only */
            blank = blank ? blank : input->line;
            continue;
        }
        input->line = blank ? blank : input->line;
        status = blank ? input_fail(input, LG_MALFORMED, error, "is empty: expected a row")
                       : parse_line(input, format, line, &fields, &rows, error);
        if (status != LG_OK)
            break;
    }
    if (status == LG_OK && rows.rows == 0)
        status =
            lg_fail(error, LG_MALFORMED, "\"%s\" has no rows: expected lines of numbers with a label", input->name);
    free(fields.at);
    if (status != LG_OK) {
        csv_free(&rows);
        return status;
    }
    *out = rows;
    return LG_OK;
}

void csv_free(struct csv_rows *rows) {
    free(rows->features);
    free(rows->label_text);
    free(rows->label_starts);
    free(rows->lines);
    free(rows->header);
    *rows = (struct csv_rows){0};
}

/* ---- classes */

/* The distinct labels of the training file, in class order. */
struct classes {
    const char **names; /* borrowed from the rows */
    size_t count, capacity;
};

static const char *row_label(const struct csv_rows *rows, size_t row) {
    return rows->label_text + rows->label_starts[row];
}

static bool whole_number(const char *text, long *number) {
    char *end;
    if (strspn(text, "0123456789") > 9)
        return false;
    *number = strtol(text, &end, 10);
    return *text >= '0' && *text <= '9' && *end == '\0';
}

/* Whole numbers by value, before all others, which go by bytes. */
static int compare_labels(const void *a, const void *b) {
    const char *left = *(const char *const *)a, *right = *(const char *const *)b;
    long x, y;
    bool left_whole = whole_number(left, &x), right_whole = whole_number(right, &y);
    if (left_whole && right_whole && x != y)
        return x < y ? -1 : 1;
    if (left_whole != right_whole)
        return left_whole ? -1 : 1;
    return strcmp(left, right);
}

/* The class of `label`, or where it would be inserted. */
static size_t class_position(const struct classes *classes, const char *label, bool *found) {
    size_t low = 0, high = classes->count;
    *found = false;
    while (low < high && !*found) {
        size_t middle = low + (high - low) / 2;
        int order = compare_labels(&label, &classes->names[middle]);
        *found = order == 0;
        if (order <= 0)
            high = middle;
        else
            low = middle + 1;
        if (*found)
            return middle;
    }
    return low;
}

static enum lg_status collect_classes(const char *path, const struct csv_rows *rows, struct classes *classes,
                                      struct lg_error *error) {
    for (size_t i = 0; i < rows->rows; i++) {
        bool found;
        size_t at = class_position(classes, row_label(rows, i), &found);
        if (found)
            continue;
        if (classes->count == CSV_CLASSES_MAX)
            return lg_fail(
                error, LG_INVALID,
                "\"%s\" line %llu: more than %d distinct labels; is column %u the label? set \"dataset.label\"", path,
                (unsigned long long)rows->lines[i], CSV_CLASSES_MAX, rows->label_column);
        if (!input_grow(&classes->names, &classes->capacity, classes->count + 1, sizeof *classes->names))
            return lg_fail(error, LG_NO_MEMORY, "no memory for the labels of \"%s\"", path);
        memmove(classes->names + at + 1, classes->names + at, (classes->count - at) * sizeof *classes->names);
        classes->names[at] = row_label(rows, i);
        classes->count++;
    }
    if (classes->count < 2)
        return lg_fail(error, LG_MALFORMED, "\"%s\" has only the label \"%.60s\": expected at least two classes", path,
                       classes->names[0]);
    return LG_OK;
}

static enum lg_status assign_classes(const char *path, const struct csv_rows *rows, const struct classes *classes,
                                     int32_t **out, struct lg_error *error) {
    int32_t *labels = malloc(rows->rows * sizeof *labels);
    if (!labels)
        return lg_fail(error, LG_NO_MEMORY, "no memory for the labels of \"%s\"", path);
    *out = labels;
    for (size_t i = 0; i < rows->rows; i++) {
        bool found;
        labels[i] = (int32_t)class_position(classes, row_label(rows, i), &found);
        if (!found)
            return lg_fail(
                error, LG_MALFORMED,
                "\"%s\" line %llu: label \"%.60s\" is out of range: expected one of the %zu labels of the training "
                "file (\"%.40s\" to \"%.40s\")",
                path, (unsigned long long)rows->lines[i], row_label(rows, i), classes->count, classes->names[0],
                classes->names[classes->count - 1]);
    }
    return LG_OK;
}

/* ---- the dataset */

struct csv_options {
    char path[2][OPTION_TEXT_BYTES]; /* by split */
    char label[OPTION_TEXT_BYTES], header[OPTION_TEXT_BYTES], separator[OPTION_TEXT_BYTES];
    bool normalise;
};

#define ENTRY(key_, type_, field_, ...)                                                                                \
    { .key = key_, .type = type_, .offset = offsetof(struct csv_options, field_), __VA_ARGS__ }
static const struct option options[] = {
    ENTRY("train", OPTION_STRING, path[0], .fallback = NULL, .help = "rows to train on, plain or .gz"),
    ENTRY("test", OPTION_STRING, path[1], .fallback = NULL, .help = "rows to evaluate on, plain or .gz"),
    ENTRY("label", OPTION_STRING, label, .fallback = "last",
          .help = "the label's column: its name, its number from 0, or last"),
    ENTRY("header", OPTION_CHOICE, header, .fallback = "auto", .choices = "auto|yes|no",
          .help = "whether the first line names the columns; auto looks for numbers in it"),
    ENTRY("separator", OPTION_CHOICE, separator, .fallback = "comma", .choices = "comma|semicolon|tab",
          .help = "what stands between fields"),
    ENTRY("normalise", OPTION_BOOL, normalise, .fallback = "true",
          .help = "shift and scale each column to mean 0 and deviation 1 over the training rows"),
};
#undef ENTRY

static const struct option_table option_table = {
    .name = "dataset csv",
    .summary = "numeric columns with a label column in CSV files",
    .options = options,
    .count = sizeof options / sizeof options[0],
    .config_bytes = sizeof(struct csv_options),
};

struct csv_dataset {
    struct dataset base;
    struct csv_rows rows[2]; /* by split */
    int32_t *labels[2];
};

static void csv_close(struct dataset *dataset) {
    struct csv_dataset *data = (struct csv_dataset *)dataset;
    for (int i = 0; i < 2; i++) {
        csv_free(&data->rows[i]);
        free(data->labels[i]);
    }
    free(data);
}

static enum lg_status load_split(const struct csv_options *config, int index, struct csv_rows *rows,
                                 struct lg_error *error) {
    struct csv_format format = {.label = config->label, .header = CSV_HEADER_AUTO, .separator = ','};
    struct input input;
    if (strcmp(config->header, "auto") != 0)
        format.header = strcmp(config->header, "yes") == 0 ? CSV_HEADER_YES : CSV_HEADER_NO;
    if (strcmp(config->separator, "comma") != 0)
        format.separator = strcmp(config->separator, "tab") == 0 ? '\t' : ';';
    enum lg_status status =
        input_open(&input, config->path[index], index == 0 ? "dataset.train" : "dataset.test", error);
    if (status == LG_OK)
        status = csv_parse(&input, &format, rows, error);
    input_close(&input);
    return status;
}

/* Both files must have the same columns in the same order. */
static enum lg_status check_alike(const struct csv_options *config, const struct csv_rows rows[2],
                                  struct lg_error *error) {
    if (rows[0].columns != rows[1].columns || rows[0].label_column != rows[1].label_column)
        return lg_fail(error, LG_MALFORMED,
                       "\"%.150s\" has %u columns (label %u) and \"%.150s\" has %u (label %u): expected the same",
                       config->path[0], rows[0].columns, rows[0].label_column, config->path[1], rows[1].columns,
                       rows[1].label_column);
    if (rows[0].header && rows[1].header &&
        (rows[0].header_bytes != rows[1].header_bytes ||
         memcmp(rows[0].header, rows[1].header, rows[0].header_bytes) != 0))
        return lg_fail(error, LG_MALFORMED,
                       "\"%.150s\" and \"%.150s\" have different headers: expected the same columns", config->path[0],
                       config->path[1]);
    return LG_OK;
}

/* Mean and deviation of each column over the training rows, used for both splits; constant columns become 0. */
static enum lg_status normalise(struct csv_rows rows[2], struct lg_error *error) {
    size_t width = rows[0].width;
    double *mean = calloc(2 * width, sizeof *mean);
    if (!mean)
        return lg_fail(error, LG_NO_MEMORY, "no memory to normalise %zu columns", width);
    double *square = mean + width, count = (double)rows[0].rows;
    for (size_t i = 0; i < rows[0].rows * width; i++)
        mean[i % width] += rows[0].features[i] / count;
    for (size_t i = 0; i < rows[0].rows * width; i++) {
        double distance = rows[0].features[i] - mean[i % width];
        square[i % width] += distance * distance / count;
    }
    for (int s = 0; s < 2; s++) {
        for (size_t i = 0; i < rows[s].rows * width; i++) {
            double deviation = sqrt(square[i % width]);
            double scaled = (rows[s].features[i] - mean[i % width]) / (deviation > 0 ? deviation : 1);
            rows[s].features[i] = (float)scaled;
        }
    }
    free(mean);
    return LG_OK;
}

static enum lg_status load(struct csv_dataset *data, const struct csv_options *config, struct lg_error *error) {
    struct classes classes = {0};
    enum lg_status status = load_split(config, 0, &data->rows[0], error);
    if (status == LG_OK)
        status = load_split(config, 1, &data->rows[1], error);
    if (status == LG_OK)
        status = check_alike(config, data->rows, error);
    if (status == LG_OK)
        status = collect_classes(config->path[0], &data->rows[0], &classes, error);
    for (int i = 0; status == LG_OK && i < 2; i++)
        status = assign_classes(config->path[i], &data->rows[i], &classes, &data->labels[i], error);
    if (status == LG_OK && config->normalise)
        status = normalise(data->rows, error);
    data->base.info.classes = (uint32_t)classes.count;
    free(classes.names);
    return status;
}

static enum lg_status csv_open(const void *option_values, struct dataset **out, struct lg_error *error) {
    const struct csv_options *config = option_values;
    struct csv_dataset *data = calloc(1, sizeof *data);
    if (!data)
        return lg_fail(error, LG_NO_MEMORY, "no memory for dataset \"csv\"");
    data->base.kind = &dataset_csv;
    enum lg_status status = load(data, config, error);
    if (status != LG_OK) {
        csv_close(&data->base);
        return status;
    }
    struct dataset_info *info = &data->base.info;
    info->form = DATASET_DENSE;
    info->width = data->rows[0].width;
    info->train_samples = data->rows[0].rows;
    info->test_samples = data->rows[1].rows;
    uint64_t print = fingerprint_bytes(0, "csv1", 4);
    for (int i = 0; i < 2; i++) {
        const struct csv_rows *rows = &data->rows[i];
        print = fingerprint_bytes(print, rows->features, rows->rows * rows->width * sizeof(float));
        print = fingerprint_bytes(print, data->labels[i], rows->rows * sizeof(int32_t));
    }
    info->fingerprint = fingerprint_number(fingerprint_number(print, info->width), info->classes);
    *out = &data->base;
    return LG_OK;
}

static enum lg_status csv_read(struct dataset *dataset, enum dataset_split which, uint64_t epoch,
                               const uint64_t *indices, uint32_t count, struct batch *batch, struct lg_error *error) {
    struct csv_dataset *data = (struct csv_dataset *)dataset;
    size_t width = dataset->info.width;
    (void)epoch;
    enum lg_status status = batch_reserve_dense(batch, count, dataset->info.width, error);
    if (status != LG_OK)
        return status;
    for (uint32_t i = 0; i < count; i++) {
        memcpy(batch->features + i * width, data->rows[which].features + indices[i] * width, width * sizeof(float));
        batch->labels[i] = data->labels[which][indices[i]];
    }
    return LG_OK;
}

const struct dataset_kind dataset_csv = {
    .name = "csv",
    .summary = "numeric columns with a label column in CSV files, plain or gzip",
    .options = &option_table,
    .open = csv_open,
    .read = csv_read,
    .close = csv_close,
};
