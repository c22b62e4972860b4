#include "worker/trainer_ranges.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct range_queue queue;

static void put(uint64_t first, uint64_t end, const uint64_t *cuts, size_t count) {
    ck_assert_int_eq(range_queue_put(&queue, first, end, cuts, count, NULL), LG_OK);
}

/* Takes everything; "0-4 4-8 8-10". */
static const char *take_all(uint64_t batch) {
    static char text[1000];
    struct sample_range range;
    text[0] = '\0';
    while (range_queue_take(&queue, batch, &range)) {
        size_t used = strlen(text);
        snprintf(text + used, sizeof text - used, "%s%lu-%lu", used ? " " : "", (unsigned long)range.first,
                 (unsigned long)range.end);
    }
    return text;
}

static void teardown(void) {
    range_queue_deinit(&queue);
}

START_TEST(batches_end_with_the_lease) {
    put(0, 10, NULL, 0);
    ck_assert_str_eq(take_all(4), "0-4 4-8 8-10");
    put(6, 7, NULL, 0);
    ck_assert_str_eq(take_all(4), "6-7");
    put(5, 5, NULL, 0);
    ck_assert_str_eq(take_all(4), "");
}
END_TEST

START_TEST(batches_do_not_straddle_cuts) {
    const uint64_t cuts[] = {13, 3, 10, 2, 13}; /* in any order; not all inside */
    put(2, 14, cuts, 5);
    ck_assert_str_eq(take_all(4), "2-3 3-7 7-10 10-13 13-14");
}
END_TEST

START_TEST(a_batch_that_comes_back_is_next_and_in_pieces) {
    struct sample_range range;
    const uint64_t cuts[] = {6};
    put(0, 16, NULL, 0);
    ck_assert(range_queue_take(&queue, 4, &range));
    ck_assert(range_queue_take(&queue, 4, &range));
    put(range.first, range.end, cuts, 1);
    ck_assert_str_eq(take_all(4), "4-6 6-8 8-12 12-16");
}
END_TEST

START_TEST(many_cuts) {
    uint64_t cuts[300];
    for (uint64_t i = 0; i < 300; i++)
        cuts[i] = 300 - i;
    put(0, 301, cuts, 300);
    struct sample_range range;
    for (uint64_t i = 0; i < 301; i++) {
        ck_assert(range_queue_take(&queue, 32, &range));
        ck_assert_uint_eq(range.first, i);
        ck_assert_uint_eq(range.end, i + 1);
    }
    ck_assert(!range_queue_take(&queue, 32, &range));
}
END_TEST

int main(void) {
    Suite *suite = suite_create("trainer_ranges");
    TCase *tests = tcase_create("trainer_ranges");
    tcase_add_checked_fixture(tests, NULL, teardown);
    tcase_add_test(tests, batches_end_with_the_lease);
    tcase_add_test(tests, batches_do_not_straddle_cuts);
    tcase_add_test(tests, a_batch_that_comes_back_is_next_and_in_pieces);
    tcase_add_test(tests, many_cuts);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
