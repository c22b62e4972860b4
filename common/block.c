#include "common/block.h"

#include <stdlib.h>

enum lg_status block_table_init(struct block_table *table, const struct tensor_spec *specs, size_t count,
                                struct lg_error *error) {
    *table = (struct block_table){0};
    uint64_t total = 0;
    for (size_t i = 0; i < count; i++)
        total += (tensor_elements(&specs[i]) + BLOCK_ELEMENTS - 1) / BLOCK_ELEMENTS;
    if (total > UINT32_MAX / 2)
        return lg_fail(error, LG_INVALID, "%llu units are more than a job may have", (unsigned long long)total);
    table->blocks = calloc(total ? total : 1, sizeof *table->blocks);
    table->first_of_tensor = calloc(count + 1, sizeof *table->first_of_tensor);
    if (!table->blocks || !table->first_of_tensor) {
        block_table_deinit(table);
        return lg_fail(error, LG_NO_MEMORY, "no memory for a table of %llu units", (unsigned long long)total);
    }
    uint64_t offset = 0;
    for (size_t i = 0; i < count; i++) {
        uint64_t left = tensor_elements(&specs[i]);
        table->first_of_tensor[i] = table->count;
        while (left > 0) {
            uint32_t elements = left < BLOCK_ELEMENTS ? (uint32_t)left : BLOCK_ELEMENTS;
            table->blocks[table->count++] = (struct block){(uint32_t)i, elements, offset};
            offset += elements;
            left -= elements;
        }
    }
    table->first_of_tensor[count] = table->count;
    return LG_OK;
}

void block_table_deinit(struct block_table *table) {
    free(table->blocks);
    free(table->first_of_tensor);
    *table = (struct block_table){0};
}
