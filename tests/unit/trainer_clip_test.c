#include "worker/trainer_clip.h"

#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

START_TEST(names) {
    ck_assert_int_eq(clip_parse("none"), CLIP_NONE);
    ck_assert_int_eq(clip_parse("tensor"), CLIP_TENSOR);
    ck_assert_int_eq(clip_parse("global"), CLIP_GLOBAL);
}
END_TEST

START_TEST(norms_of_every_length) {
    float x[40];
    for (size_t n = 0; n <= 40; n++) {
        double sum = 0;
        for (size_t i = 0; i < n; i++) {
            x[i] = (float)i - 7.5F;
            sum += (double)x[i] * (double)x[i];
        }
        ck_assert_double_eq_tol(clip_norm_of(x, n), sqrt(sum), 1e-9);
    }
    float huge[2] = {3e38F, 3e38F}; /* their squares overflow f32 */
    ck_assert_double_eq_tol(clip_norm_of(huge, 2), 3e38 * sqrt(2), 1e31);
}
END_TEST

START_TEST(long_gradients_are_shortened_and_keep_their_direction) {
    float x[3] = {3, 0, -4};
    ck_assert_double_eq_tol(clip_to_norm(x, 3, 1), 5, 1e-12);
    ck_assert_float_eq_tol(x[0], 0.6F, 1e-6F);
    ck_assert_float_eq(x[1], 0);
    ck_assert_float_eq_tol(x[2], -0.8F, 1e-6F);
}
END_TEST

START_TEST(short_and_empty_gradients_stay) {
    float x[2] = {0.3F, 0.4F}, zero[2] = {0, 0};
    ck_assert_double_eq_tol(clip_to_norm(x, 2, 1), 0.5, 1e-6);
    ck_assert_float_eq(x[0], 0.3F);
    ck_assert_double_eq(clip_to_norm(zero, 2, 1), 0);
    ck_assert_float_eq(zero[0], 0);
    ck_assert_double_eq(clip_to_norm(NULL, 0, 1), 0);
}
END_TEST

START_TEST(what_is_not_finite_stays_to_be_seen) {
    float x[3] = {1, NAN, 100}, y[2] = {INFINITY, 5};
    ck_assert(isnan(clip_to_norm(x, 3, 1)));
    ck_assert_float_eq(x[2], 100);
    ck_assert(isinf(clip_to_norm(y, 2, 1)));
    ck_assert_float_eq(y[1], 5);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("trainer_clip");
    TCase *tests = tcase_create("trainer_clip");
    tcase_add_test(tests, names);
    tcase_add_test(tests, norms_of_every_length);
    tcase_add_test(tests, long_gradients_are_shortened_and_keep_their_direction);
    tcase_add_test(tests, short_and_empty_gradients_stay);
    tcase_add_test(tests, what_is_not_finite_stays_to_be_seen);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
