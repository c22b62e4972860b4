/* Sums and means of gathered pushes. */
#include "server/gather.h"

#include <check.h>
#include <stdlib.h>

enum { ELEMENTS = 5000 };

static float first[ELEMENTS], second[ELEMENTS], segment[2 * ELEMENTS];
static struct gather gather;

static const struct codec_kernels *plain(void) {
    return codec_plain()->kernels[ISA_BASE];
}

static void setup(void) {
    const struct unit units[] = {{.values = segment}, {.values = segment + ELEMENTS}};
    for (int i = 0; i < ELEMENTS; i++) {
        first[i] = (float)i;
        second[i] = (float)(3 * i);
    }
    ck_assert_int_eq(gather_init(&gather, units, 2, segment, 2 * ELEMENTS, NULL), LG_OK);
    ck_assert_ptr_eq(gather.units[1].sum, gather.memory + ELEMENTS);
}

static void teardown(void) {
    gather_deinit(&gather);
}

static void adds(const float *values, float weight, uint64_t samples, bool negate) {
    gather_add(&gather.units[0], plain(), (const uint8_t *)values, ELEMENTS, weight, samples, negate);
}

START_TEST(gradients_are_averaged_over_samples) {
    adds(first, 1, 2, false);
    adds(second, 1, 6, false); /* (2 i + 6 * 3 i) / 8 = 2.5 i */
    const float *mean = gather_take(&gather.units[0], ELEMENTS, false);
    for (int i = 0; i < ELEMENTS; i++)
        ck_assert(mean[i] == 2.5f * (float)i);
}
END_TEST

START_TEST(weights_make_steps_smaller_and_leave_values_whole) {
    for (int whole = 0; whole < 2; whole++) {
        adds(first, 0.5f, 4, false);
        adds(second, 0.25f, 4, false); /* 2 i + 3 i = 5 i, over 8 samples or over weights of 3 */
        ck_assert(gather.units[0].samples == 8 && gather.units[0].weighted == 3);
        const float *mean = gather_take(&gather.units[0], ELEMENTS, whole);
        for (int i = 0; i < ELEMENTS; i++)
            ck_assert_float_eq_tol(mean[i], 5 * (float)i / (whole ? 3 : 8), 1e-3f);
    }
}
END_TEST

START_TEST(a_group_starts_anew) {
    adds(second, 1, 8, false);
    (void)gather_take(&gather.units[0], ELEMENTS, false);
    ck_assert(gather.units[0].samples == 0);
    adds(first, 1, 4, true);
    const float *mean = gather_take(&gather.units[0], ELEMENTS, false);
    for (int i = 0; i < ELEMENTS; i++)
        ck_assert(mean[i] == -(float)i);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("gather");
    TCase *tests = tcase_create("sums");
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, gradients_are_averaged_over_samples);
    tcase_add_test(tests, weights_make_steps_smaller_and_leave_values_whole);
    tcase_add_test(tests, a_group_starts_anew);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
