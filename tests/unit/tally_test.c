#include "server/tally.h"

#include <check.h>
#include <stdlib.h>

START_TEST(nothing_seen_gives_zeros) {
    const struct tally tally = {0};
    ck_assert(tally_staleness_mean(&tally) == 0 && tally_weight_mean(&tally) == 0);
    ck_assert_uint_eq(tally_staleness_p99(&tally), 0);
}
END_TEST

START_TEST(means_and_percentiles_are_those_of_the_values) {
    struct tally tally = {0};
    for (uint64_t i = 1; i <= 100; i++)
        tally_observe(&tally, i <= 99 ? i % 10 : 5000, i % 2 ? 1.0f : 0.5f);
    ck_assert_double_eq_tol(tally_weight_mean(&tally), 0.75, 1e-12);
    ck_assert_double_eq_tol(tally_staleness_mean(&tally), (450.0 + 5000) / 100, 1e-9);
    ck_assert_uint_eq(tally_staleness_p99(&tally), 9);
    ck_assert_uint_eq(tally.staleness_max, 5000);
    tally_observe(&tally, 5000, 1);
    tally_observe(&tally, 5000, 1);
    uint64_t p99 = tally_staleness_p99(&tally);
    ck_assert(p99 >= 5000 * 4 / 5 && p99 <= 5000);
}
END_TEST

START_TEST(every_staleness_has_a_bucket) {
    struct tally tally = {0};
    for (int bit = 0; bit < 64; bit++) {
        tally_observe(&tally, UINT64_C(1) << bit, 1);
        tally_observe(&tally, (UINT64_C(1) << bit) - 1, 1);
    }
    tally_observe(&tally, UINT64_MAX, 1);
    /* the last but one of 129 is 2^63: its bucket ends a quarter further */
    ck_assert_uint_eq(tally_staleness_p99(&tally), (UINT64_C(5) << 61) - 1);
    ck_assert_uint_eq(tally.staleness_max, UINT64_MAX);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("tally");
    TCase *tests = tcase_create("tally");
    tcase_add_test(tests, nothing_seen_gives_zeros);
    tcase_add_test(tests, means_and_percentiles_are_those_of_the_values);
    tcase_add_test(tests, every_staleness_has_a_bucket);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
