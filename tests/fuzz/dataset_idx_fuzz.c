/* The IDX reader on any bytes: it reads what is there, or says why not. */
#include <assert.h>
#include <stdint.h>

#include "worker/datasets/readers.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
    for (uint32_t rank = 1; rank <= 3; rank += 2) {
        struct lg_error error = {0};
        struct idx_array array = {0};
        struct input input;
        input_open_memory(&input, "fuzz", bytes, size);
        enum lg_status status = idx_parse(&input, rank, rank == 1 ? 1 : 4, "images", &array, &error);
        if (status == LG_OK)
            assert(array.data && array.items * array.item_bytes + 4 + 4 * array.rank == size);
        else
            assert(!array.data && error.status == status && error.message[0]);
        idx_free(&array);
        input_close(&input);
    }
    return 0;
}
