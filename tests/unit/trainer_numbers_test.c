#include "worker/trainer_numbers.h"

#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

START_TEST(what_is_written_is_read) {
    const struct trainer_numbers sample = {.state = "training",
                                           .steps = UINT64_MAX,
                                           .samples = 3840,
                                           .loss = 0.412,
                                           .accuracy = 0.875,
                                           .compute_ns = UINT64_MAX,
                                           .communication_ns = 17,
                                           .samples_per_second = 5321.5,
                                           .pushes = UINT64_MAX,
                                           .dropped = 4,
                                           .staleness_max = 29,
                                           .staleness_mean = 3.5,
                                           .weight_mean = 0.25,
                                           .read_ns = 1,
                                           .copy_ns = 2,
                                           .copy_bytes = UINT64_MAX,
                                           .wait_ns = 4,
                                           .tokens_per_second = 125000,
                                           .flops_per_second = 1.5e14,
                                           .flops_peak = 9.89e14,
                                           .memory_used_bytes = 6000000000};
    struct trainer_numbers read = {0};
    char line[TRAINER_LINE_BYTES_MAX];
    size_t length = trainer_numbers_write(&sample, line);
    ck_assert_uint_eq(length, strlen(line));
    ck_assert_int_eq(line[length - 1], '\n');
    line[length - 1] = '\0';
    ck_assert(trainer_numbers_read(line, &read));
    ck_assert_str_eq(read.state, "training");
    ck_assert_uint_eq(read.steps, UINT64_MAX);
    ck_assert_uint_eq(read.samples, 3840);
    ck_assert_uint_eq(read.compute_ns, UINT64_MAX);
    ck_assert_uint_eq(read.communication_ns, 17);
    ck_assert_double_eq_tol(read.loss, 0.412, 1e-6);
    ck_assert_double_eq_tol(read.accuracy, 0.875, 1e-6);
    ck_assert_double_eq_tol(read.samples_per_second, 5321.5, 0.01);
    ck_assert_uint_eq(read.pushes, UINT64_MAX);
    ck_assert_uint_eq(read.dropped, 4);
    ck_assert_uint_eq(read.staleness_max, 29);
    ck_assert_double_eq_tol(read.staleness_mean, 3.5, 1e-6);
    ck_assert_double_eq_tol(read.weight_mean, 0.25, 1e-6);
    ck_assert_uint_eq(read.read_ns, 1);
    ck_assert_uint_eq(read.copy_ns, 2);
    ck_assert_uint_eq(read.copy_bytes, UINT64_MAX);
    ck_assert_uint_eq(read.wait_ns, 4);
    ck_assert_double_eq_tol(read.tokens_per_second, 125000, 1e-6);
    ck_assert_double_eq_tol(read.flops_per_second, 1.5e14, 1e6);
    ck_assert_double_eq_tol(read.flops_peak, 9.89e14, 1e6);
    ck_assert_uint_eq(read.memory_used_bytes, 6000000000);
}
END_TEST

START_TEST(the_longest_line_fits) {
    struct trainer_numbers longest = {.state = "initialising_so_slowly", .loss = -1.23456e-300};
    longest.steps = longest.samples = longest.compute_ns = longest.communication_ns = UINT64_MAX;
    longest.pushes = longest.dropped = longest.staleness_max = longest.read_ns = longest.copy_ns = UINT64_MAX;
    longest.copy_bytes = longest.wait_ns = longest.memory_used_bytes = UINT64_MAX;
    longest.accuracy = longest.samples_per_second = longest.staleness_mean = longest.weight_mean = longest.loss;
    longest.tokens_per_second = longest.flops_per_second = longest.flops_peak = longest.loss;
    char line[TRAINER_LINE_BYTES_MAX];
    size_t length = trainer_numbers_write(&longest, line);
    ck_assert_uint_lt(length, TRAINER_LINE_BYTES_MAX - 100);
    ck_assert_uint_eq(length, strlen(line));
    ck_assert_int_eq(line[length - 1], '\n');
}
END_TEST

START_TEST(pushes_that_are_written_are_read) {
    struct trainer_push pushes[TRAINER_PUSHES_MAX], read[TRAINER_PUSHES_MAX];
    char line[TRAINER_LINE_BYTES_MAX];
    for (size_t i = 0; i < TRAINER_PUSHES_MAX; i++)
        pushes[i] = (struct trainer_push){UINT64_MAX - i, 0.012345 * (double)i};
    size_t length = trainer_pushes_write(pushes, TRAINER_PUSHES_MAX, line);
    ck_assert_uint_eq(length, strlen(line));
    ck_assert_int_eq(line[length - 1], '\n');
    line[length - 1] = '\0';
    ck_assert_uint_eq(trainer_pushes_read(line, read), TRAINER_PUSHES_MAX);
    for (size_t i = 0; i < TRAINER_PUSHES_MAX; i++) {
        ck_assert_uint_eq(read[i].staleness, UINT64_MAX - i);
        ck_assert_double_eq_tol(read[i].weight, pushes[i].weight, 1e-5);
    }
    static const char *const bad[] = {"pushes",     "pushes ",        "pushes 3",      "pushes 3:",
                                      "pushes x:1", "pushes 3:0.5 4", "pushes -3:0.5", "numbers steps=1"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        ck_assert_msg(trainer_pushes_read(bad[i], read) == 0, "%s", bad[i]);
    static const char many[] = "pushes 1:1 1:1 1:1 1:1 1:1 1:1 1:1 1:1 1:1 1:1 1:1 1:1 1:1 1:1 1:1";
    _Static_assert(sizeof many == 6 + 4 * (TRAINER_PUSHES_MAX + 1) + 1, "one more than a line has room for");
    ck_assert_uint_eq(trainer_pushes_read(many, read), 0);
}
END_TEST

START_TEST(bad_lines_change_nothing) {
    static const char *const lines[] = {
        "",
        "numbers",
        "numbersteps=1",
        "steps=1",
        "numbers steps",
        "numbers steps=",
        "numbers steps=-1",
        "numbers steps=99999999999999999999",
        "numbers samples=9 steps=1x",
        "numbers samples=9 loss=abc",
        "numbers samples=9 state=much_too_long_for_a_state_word",
    };
    struct trainer_numbers read = {.samples = 5, .state = "before"};
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
        ck_assert_msg(!trainer_numbers_read(lines[i], &read), "%s", lines[i]);
        ck_assert_uint_eq(read.samples, 5);
        ck_assert_str_eq(read.state, "before");
    }
    static char huge[4000] = "numbers ";
    memset(huge + 8, 'x', sizeof huge - 9);
    ck_assert(!trainer_numbers_read(huge, &read));
}
END_TEST

START_TEST(unknown_words_and_odd_numbers_are_taken_calmly) {
    struct trainer_numbers read = {.loss = 1};
    ck_assert(trainer_numbers_read("numbers colour=red loss=nan accuracy=-inf steps=2", &read));
    ck_assert_uint_eq(read.steps, 2);
    ck_assert_double_eq(read.loss, 0);
    ck_assert_double_eq(read.accuracy, 0);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("trainer_numbers");
    TCase *tests = tcase_create("trainer_numbers");
    tcase_add_test(tests, what_is_written_is_read);
    tcase_add_test(tests, the_longest_line_fits);
    tcase_add_test(tests, pushes_that_are_written_are_read);
    tcase_add_test(tests, bad_lines_change_nothing);
    tcase_add_test(tests, unknown_words_and_odd_numbers_are_taken_calmly);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
