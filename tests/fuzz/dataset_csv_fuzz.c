/* The CSV reader on any bytes; what it accepts is a full table of finite numbers. */
#include <assert.h>
#include <math.h>
#include <stdint.h>
#include <string.h>

#include "worker/datasets/readers.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

static void check_rows(const struct csv_rows *rows) {
    assert(rows->rows > 0 && rows->columns >= 2 && rows->width == rows->columns - 1 &&
           rows->label_column < rows->columns);
    for (size_t i = 0; i < rows->rows * rows->width; i++)
        assert(isfinite(rows->features[i]));
    for (size_t i = 0; i < rows->rows; i++) {
        assert(rows->label_starts[i] < rows->label_bytes);
        assert(rows->label_text[rows->label_starts[i]] != '\0');
    }
    assert(rows->label_text[rows->label_bytes - 1] == '\0');
}

/* The first byte picks the format, the rest is the file. */
int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
    static const char *const label[] = {"last", "0", "1", "y"};
    struct lg_error error = {0};
    struct csv_rows rows = {0};
    struct input input;
    if (size == 0)
        return 0;
    struct csv_format format = {.separator = bytes[0] & 16 ? ';' : ',',
                                .header = (enum csv_header)((bytes[0] >> 2 & 3) % 3),
                                .label = label[bytes[0] & 3]};
    input_open_memory(&input, "fuzz", bytes + 1, size - 1);
    enum lg_status status = csv_parse(&input, &format, &rows, &error);
    if (status == LG_OK)
        check_rows(&rows);
    else
        assert(rows.rows == 0 && error.status == status && error.message[0]);
    csv_free(&rows);
    input_close(&input);
    return 0;
}
