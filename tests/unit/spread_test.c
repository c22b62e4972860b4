#include "sim/spread.h"

#include <check.h>
#include <stdlib.h>

START_TEST(sums_and_quantiles_are_exact) {
    struct spread spread = {0};
    for (uint64_t i = 0; i < 100; i++)
        ck_assert(spread_add(&spread, i, i < 50 ? 1 : 0.5, 32));
    ck_assert_double_eq_tol(spread_staleness_mean(&spread), 49.5, 1e-12);
    ck_assert_double_eq_tol(spread_weight_mean(&spread), 0.75, 1e-12);
    ck_assert_double_eq_tol(spread.weighted_samples, 50 * 32 + 25 * 32, 1e-9);
    ck_assert_uint_eq(spread_quantile(&spread, 0.5), 49);
    ck_assert_uint_eq(spread_quantile(&spread, 0.99), 98);
    ck_assert_uint_eq(spread_quantile(&spread, 1), 99);
    ck_assert_uint_eq(spread.staleness_max, 99);
    ck_assert_uint_eq(spread.weight_bins[SPREAD_WEIGHT_BINS - 1], 50);
    ck_assert_uint_eq(spread.weight_bins[10], 50);
    spread_deinit(&spread);
}
END_TEST

START_TEST(staleness_beyond_every_bound_is_counted) {
    struct spread spread = {0};
    ck_assert(spread_add(&spread, UINT64_MAX / 2, 0, 1));
    ck_assert(spread_add(&spread, 3, 1, 1));
    ck_assert_uint_eq(spread.staleness_max, UINT64_MAX / 2);
    ck_assert_uint_eq(spread_quantile(&spread, 0.5), 3);
    ck_assert_uint_eq(spread.weight_bins[0], 1);
    spread_deinit(&spread);
}
END_TEST

START_TEST(nothing_has_no_staleness_and_full_weight) {
    struct spread spread = {0};
    ck_assert_double_eq(spread_staleness_mean(&spread), 0);
    ck_assert_double_eq(spread_weight_mean(&spread), 1);
    ck_assert_uint_eq(spread_quantile(&spread, 0.99), 0);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("spread");
    TCase *tests = tcase_create("spread");
    tcase_add_test(tests, sums_and_quantiles_are_exact);
    tcase_add_test(tests, staleness_beyond_every_bound_is_counted);
    tcase_add_test(tests, nothing_has_no_staleness_and_full_weight);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
