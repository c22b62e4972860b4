#include "server/intervals.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/random.h"

static void add(struct intervals *set, uint64_t first, uint64_t end) {
    ck_assert(intervals_reserve(set, 1));
    intervals_add(set, first, end);
}

START_TEST(an_empty_set_overlaps_nothing) {
    struct intervals set = {0};
    ck_assert_int_eq(intervals_overlap(&set, 0, UINT64_MAX), INTERVALS_NONE);
    ck_assert_uint_eq(intervals_gap(&set, 5, 9), 5);
    ck_assert_uint_eq(intervals_gap(&set, 5, 5), 5);
    intervals_deinit(&set);
}
END_TEST

START_TEST(neighbours_merge) {
    struct intervals set = {0};
    add(&set, 10, 20);
    add(&set, 30, 40);
    ck_assert_uint_eq(set.count, 2);
    ck_assert_int_eq(intervals_overlap(&set, 20, 30), INTERVALS_NONE);
    ck_assert_int_eq(intervals_overlap(&set, 10, 20), INTERVALS_ALL);
    ck_assert_int_eq(intervals_overlap(&set, 12, 18), INTERVALS_ALL);
    ck_assert_int_eq(intervals_overlap(&set, 15, 35), INTERVALS_PARTLY);
    ck_assert_int_eq(intervals_overlap(&set, 5, 11), INTERVALS_PARTLY);
    add(&set, 20, 30);
    ck_assert_uint_eq(set.count, 1);
    ck_assert_uint_eq(set.items[0].first, 10);
    ck_assert_uint_eq(set.items[0].end, 40);
    add(&set, 5, 10);
    add(&set, 40, 41);
    ck_assert_uint_eq(set.count, 1);
    ck_assert_uint_eq(intervals_gap(&set, 5, 100), 41);
    ck_assert_uint_eq(intervals_gap(&set, 0, 100), 0);
    ck_assert_uint_eq(intervals_gap(&set, 6, 30), 30);
    intervals_deinit(&set);
}
END_TEST

enum { SPACE = 200 };

START_TEST(random_sets_agree_with_a_bitmap) {
    for (uint64_t seed = 0; seed < 200; seed++) {
        struct random random;
        struct intervals set = {0};
        bool bits[SPACE] = {false};
        random_init(&random, seed);
        for (int round = 0; round < 60; round++) {
            uint64_t first = random_below(&random, SPACE - 1);
            uint64_t end = first + 1 + random_below(&random, round % 2 ? 8 : SPACE - first);
            end = end > SPACE ? SPACE : end;
            uint64_t covered = 0, gap = end;
            for (uint64_t i = end; i-- > first;) {
                covered += bits[i];
                gap = bits[i] ? gap : i;
            }
            enum intervals_overlap wanted = covered == 0             ? INTERVALS_NONE
                                            : covered == end - first ? INTERVALS_ALL
                                                                     : INTERVALS_PARTLY;
            ck_assert_msg(intervals_overlap(&set, first, end) == wanted, "seed %llu", (unsigned long long)seed);
            ck_assert_uint_eq(intervals_gap(&set, first, end), gap);
            if (wanted == INTERVALS_NONE) {
                add(&set, first, end);
                memset(bits + first, true, end - first);
            }
        }
        for (uint32_t i = 1; i < set.count; i++)
            ck_assert(set.items[i - 1].end < set.items[i].first); /* sorted and merged */
        intervals_deinit(&set);
    }
}
END_TEST

int main(void) {
    Suite *suite = suite_create("intervals");
    TCase *tests = tcase_create("intervals");
    tcase_add_test(tests, an_empty_set_overlaps_nothing);
    tcase_add_test(tests, neighbours_merge);
    tcase_add_test(tests, random_sets_agree_with_a_bitmap);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
