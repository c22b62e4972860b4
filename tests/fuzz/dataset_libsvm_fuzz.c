/* The libsvm reader on any bytes; what it accepts keeps the promises of a row table. */
#include <assert.h>
#include <math.h>
#include <stdint.h>

#include "worker/datasets/readers.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

static void check_rows(const struct libsvm_rows *rows, uint32_t width) {
    assert(rows->rows > 0 && rows->starts[0] == 0 && rows->starts[rows->rows] == rows->entries);
    assert(width == 0 || rows->width <= width);
    for (size_t row = 0; row < rows->rows; row++) {
        assert(rows->starts[row] <= rows->starts[row + 1] && isfinite(rows->labels[row]));
        for (size_t i = rows->starts[row]; i < rows->starts[row + 1]; i++) {
            assert(rows->columns[i] < rows->width && isfinite(rows->values[i]));
            assert(i == rows->starts[row] || rows->columns[i - 1] < rows->columns[i]);
        }
    }
}

/* The first byte picks base and width, the rest is the file. */
int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
    struct lg_error error = {0};
    struct libsvm_rows rows = {0};
    struct input input;
    if (size == 0)
        return 0;
    uint32_t base = bytes[0] & 1, width = bytes[0] & 2 ? 5 : 0;
    input_open_memory(&input, "fuzz", bytes + 1, size - 1);
    enum lg_status status = libsvm_parse(&input, base, width, &rows, &error);
    if (status == LG_OK)
        check_rows(&rows, width);
    else
        assert(rows.rows == 0 && error.status == status && error.message[0]);
    libsvm_free(&rows);
    input_close(&input);
    return 0;
}
