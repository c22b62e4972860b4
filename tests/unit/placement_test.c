#include "server/coordinator/placement.h"

#include <check.h>
#include <stdlib.h>

enum { UNITS = 40, SHARDS = 3 };

static void fill(struct block *blocks, size_t count) {
    for (size_t i = 0; i < count; i++)
        blocks[i] = (struct block){.elements = (uint32_t)(1 + (i * 7919) % BLOCK_ELEMENTS)};
}

static void shards_of(struct placement_shard *shards, size_t count, uint64_t free_bytes) {
    for (size_t i = 0; i < count; i++)
        shards[i] = (struct placement_shard){.shard = (uint32_t)i, .free_bytes = free_bytes};
}

START_TEST(units_spread_evenly_by_bytes) {
    struct block blocks[UNITS];
    struct placement_shard shards[SHARDS];
    uint16_t placement[UNITS], again[UNITS];
    uint64_t loads[SHARDS] = {0}, total = 0;
    fill(blocks, UNITS);
    shards_of(shards, SHARDS, UINT64_MAX);
    ck_assert_int_eq(placement_place(blocks, UNITS, 8, shards, SHARDS, placement, NULL), LG_OK);
    ck_assert_int_eq(placement_place(blocks, UNITS, 8, shards, SHARDS, again, NULL), LG_OK);
    for (size_t i = 0; i < UNITS; i++) {
        ck_assert_uint_eq(placement[i], again[i]);
        ck_assert_uint_lt(placement[i], SHARDS);
        loads[placement[i]] += blocks[i].elements;
        total += blocks[i].elements;
    }
    for (size_t i = 0; i < SHARDS; i++) {
        /* largest first: no shard is further from the mean than one small unit */
        ck_assert_uint_lt(loads[i], total / SHARDS + total / UNITS);
        ck_assert_uint_gt(loads[i], total / SHARDS - total / UNITS);
    }
}
END_TEST

START_TEST(room_limits_a_shard) {
    struct block blocks[4] = {{.elements = 100}, {.elements = 100}, {.elements = 100}, {.elements = 100}};
    struct placement_shard shards[2] = {{.shard = 5, .free_bytes = 400}, {.shard = 6, .free_bytes = 1200}};
    uint16_t placement[4];
    size_t on_first = 0;
    ck_assert_int_eq(placement_place(blocks, 4, 4, shards, 2, placement, NULL), LG_OK);
    for (size_t i = 0; i < 4; i++)
        on_first += placement[i] == 0;
    ck_assert_uint_eq(on_first, 1);
    shards[1].free_bytes = 1199;
    struct lg_error error;
    ck_assert_int_eq(placement_place(blocks, 4, 4, shards, 2, placement, &error), LG_NO_MEMORY);
    ck_assert_int_eq(placement_place(blocks, 4, 4, shards, 0, placement, &error), LG_NO_MEMORY);
}
END_TEST

START_TEST(small_jobs_spread) {
    struct block block = {.elements = 10};
    struct placement_shard shards[2] = {{.free_bytes = 1000, .used_bytes = 40}, {.free_bytes = 1000}};
    uint16_t placement;
    ck_assert_int_eq(placement_place(&block, 1, 4, shards, 2, &placement, NULL), LG_OK);
    ck_assert_uint_eq(placement, 1);
}
END_TEST

START_TEST(empty_shards_are_dropped) {
    uint16_t placement[5] = {3, 1, 3, 3, 1}, order[5];
    ck_assert_uint_eq(placement_compact(placement, 5, 5, order), 2);
    ck_assert_uint_eq(order[0], 1);
    ck_assert_uint_eq(order[1], 3);
    const uint16_t expected[5] = {1, 0, 1, 1, 0};
    for (int i = 0; i < 5; i++)
        ck_assert_uint_eq(placement[i], expected[i]);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("placement");
    TCase *tests = tcase_create("placement");
    tcase_add_test(tests, units_spread_evenly_by_bytes);
    tcase_add_test(tests, room_limits_a_shard);
    tcase_add_test(tests, small_jobs_spread);
    tcase_add_test(tests, empty_shards_are_dropped);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
