#include "common/block.h"

#include <check.h>
#include <stdlib.h>

static struct block_table table;

static void cut(const struct tensor_spec *specs, size_t count) {
    struct lg_error error = {0};
    ck_assert_msg(block_table_init(&table, specs, count, &error) == LG_OK, "%s", error.message);
}

static void block_is(uint32_t unit, uint32_t tensor, uint32_t elements, uint64_t offset) {
    ck_assert_uint_lt(unit, table.count);
    ck_assert_uint_eq(table.blocks[unit].tensor, tensor);
    ck_assert_uint_eq(table.blocks[unit].elements, elements);
    ck_assert_uint_eq(table.blocks[unit].offset, offset);
}

START_TEST(tensors_are_cut_in_order) {
    const struct tensor_spec specs[] = {
        {.name = "scalar", .rank = 0},
        {.name = "matrix", .rank = 2, .shape = {3, 50000}},
        {.name = "exact", .rank = 1, .shape = {BLOCK_ELEMENTS}},
        {.name = "one_more", .rank = 1, .shape = {BLOCK_ELEMENTS + 1}},
        {.name = "one_less", .rank = 1, .shape = {BLOCK_ELEMENTS - 1}},
    };
    const uint32_t first[] = {0, 1, 4, 5, 7, 8};
    cut(specs, 5);
    ck_assert_uint_eq(table.count, 8);
    block_is(0, 0, 1, 0);
    block_is(1, 1, 65536, 1);
    block_is(2, 1, 65536, 65537);
    block_is(3, 1, 150000 - 131072, 131073);
    block_is(4, 2, 65536, 150001);
    block_is(5, 3, 65536, 215537);
    block_is(6, 3, 1, 281073);
    block_is(7, 4, 65535, 281074);
    for (size_t i = 0; i < 6; i++)
        ck_assert_uint_eq(table.first_of_tensor[i], first[i]);
    block_table_deinit(&table);
}
END_TEST

/* Whatever the shapes, blocks cover the flat array without a gap and never cross a tensor. */
START_TEST(blocks_cover_everything_once) {
    struct tensor_spec specs[40];
    for (uint32_t i = 0; i < 40; i++)
        specs[i] = (struct tensor_spec){.rank = 2, .shape = {1 + i * 37 % 11, 1 + i * i * 997 % 70001}};
    cut(specs, 40);
    uint64_t offset = 0;
    for (uint32_t t = 0; t < 40; t++) {
        uint64_t end = offset + tensor_elements(&specs[t]);
        for (uint32_t u = table.first_of_tensor[t]; u < table.first_of_tensor[t + 1]; u++) {
            ck_assert_uint_eq(table.blocks[u].tensor, t);
            ck_assert_uint_eq(table.blocks[u].offset, offset);
            ck_assert_uint_ge(table.blocks[u].elements, 1);
            ck_assert_uint_le(table.blocks[u].elements, BLOCK_ELEMENTS);
            offset += table.blocks[u].elements;
        }
        ck_assert_uint_eq(offset, end);
    }
    ck_assert_uint_eq(offset, tensor_total_elements(specs, 40));
    ck_assert_uint_eq(table.first_of_tensor[40], table.count);
    block_table_deinit(&table);
}
END_TEST

START_TEST(no_tensors_are_no_blocks) {
    cut(NULL, 0);
    ck_assert_uint_eq(table.count, 0);
    ck_assert_uint_eq(table.first_of_tensor[0], 0);
    block_table_deinit(&table);
    ck_assert_ptr_null(table.blocks);
    block_table_deinit(&table);
}
END_TEST

START_TEST(too_many_units_are_refused) {
    static struct tensor_spec specs[128];
    struct lg_error error = {0};
    for (size_t i = 0; i < 128; i++)
        specs[i] = (struct tensor_spec){.rank = 1, .shape = {UINT64_C(1) << 40}};
    ck_assert_int_eq(block_table_init(&table, specs, 128, &error), LG_INVALID);
    ck_assert_str_eq(error.message, "2147483648 units are more than a job may have");
    ck_assert_ptr_null(table.blocks);
    ck_assert_uint_eq(table.count, 0);
}
END_TEST

START_TEST(versions_compare_epoch_first) {
    uint64_t version = version_make(3, 41);
    ck_assert_uint_eq(version_epoch(version), 3);
    ck_assert_uint_eq(version_counter(version), 41);
    ck_assert_uint_eq(version_make(0, 7), 7);
    ck_assert_uint_lt(version_make(2, (UINT64_C(1) << VERSION_COUNTER_BITS) - 1), version_make(3, 0));
    ck_assert_uint_lt(version_make(3, 0), version_make(3, 1));
    ck_assert_uint_eq(version_epoch(version_make(65535, 5)), 65535);
    ck_assert_uint_eq(version_counter(version_make(1, UINT64_MAX)), (UINT64_C(1) << VERSION_COUNTER_BITS) - 1);
    ck_assert_uint_eq(version_epoch(version_make(1, UINT64_MAX)), 1); /* a counter cannot spill into the epoch */
}
END_TEST

int main(void) {
    Suite *suite = suite_create("block");
    TCase *tcase = tcase_create("block");
    tcase_add_test(tcase, tensors_are_cut_in_order);
    tcase_add_test(tcase, blocks_cover_everything_once);
    tcase_add_test(tcase, no_tensors_are_no_blocks);
    tcase_add_test(tcase, too_many_units_are_refused);
    tcase_add_test(tcase, versions_compare_epoch_first);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
