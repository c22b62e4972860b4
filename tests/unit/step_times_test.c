#include "sim/step_times.h"

#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { DRAWS = 200000 };

struct moments {
    double mean, deviation, least;
};

static struct moments draw(const struct step_times *times) {
    struct random random;
    size_t place = 0;
    double sum = 0, squares = 0, least = INFINITY;
    random_init(&random, 3);
    for (int i = 0; i < DRAWS; i++) {
        double x = step_times_draw(times, &random, &place);
        sum += x;
        squares += x * x;
        least = fmin(least, x);
    }
    double mean = sum / DRAWS;
    return (struct moments){mean, sqrt(squares / DRAWS - mean * mean), least};
}

static struct moments draw_kind(const char *kind, double sigma, double shape) {
    struct sim_options options = {.step_time = 0.5, .step_sigma = sigma, .step_shape = shape};
    struct sim_class class = {.count = 1, .slowness = 4};
    struct step_times times;
    snprintf(options.distribution, sizeof options.distribution, "%s", kind);
    ck_assert_int_eq(step_times_init(&times, &options, &class, NULL), LG_OK);
    struct moments moments = draw(&times);
    step_times_deinit(&times);
    ck_assert_double_gt(moments.least, 0);
    return moments;
}

/* Bounds are five deviations of the estimates. */
static void expect(struct moments moments, double deviation) {
    ck_assert_double_lt(fabs(moments.mean - 2), 5 * deviation / sqrt(DRAWS) + 1e-9);
    ck_assert_double_lt(fabs(moments.deviation - deviation), 0.05 * deviation + 1e-6);
}

START_TEST(means_and_deviations_are_those_of_the_distributions) {
    expect(draw_kind("constant", 0, 1), 0);
    expect(draw_kind("exponential", 0, 1), 2);
    expect(draw_kind("lognormal", 0.5, 1), 2 * sqrt(exp(0.25) - 1));
    expect(draw_kind("gamma", 0, 4), 2 / sqrt(4));
    expect(draw_kind("gamma", 0, 0.5), 2 / sqrt(0.5));
}
END_TEST

static enum lg_status read_trace(const char *text, struct step_times *times, struct lg_error *error) {
    struct sim_options options = {.step_time = 1, .distribution = "trace"};
    struct sim_class class = {.count = 1, .slowness = 2};
    snprintf(class.trace, sizeof class.trace, "/tmp/lagoon-trace-%d", (int)getpid());
    FILE *file = fopen(class.trace, "w");
    ck_assert_ptr_nonnull(file);
    fputs(text, file);
    fclose(file);
    enum lg_status status = step_times_init(times, &options, &class, error);
    unlink(class.trace);
    return status;
}

START_TEST(traces_are_replayed_in_a_circle) {
    struct step_times times;
    struct random random;
    size_t place = 1;
    random_init(&random, 1);
    ck_assert_int_eq(read_trace("# measured\n0.1\n0.2\n\n0.6\n", &times, NULL), LG_OK);
    ck_assert_double_eq_tol(times.mean_s, 0.6, 1e-12);
    ck_assert_double_eq_tol(step_times_draw(&times, &random, &place), 1.2, 1e-12);
    ck_assert_double_eq_tol(step_times_draw(&times, &random, &place), 0.2, 1e-12);
    ck_assert_double_eq_tol(step_times_draw(&times, &random, &place), 0.4, 1e-12);
    step_times_deinit(&times);
}
END_TEST

START_TEST(bad_traces_are_refused_with_the_line) {
    static const char *const bad[] = {"0.1\nfast\n", "0.1\n-1\n", "0.1\n0.2 0.3\n", "0.1\nnan\n"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct step_times times;
        struct lg_error error = {0};
        ck_assert_int_eq(read_trace(bad[i], &times, &error), LG_INVALID);
        ck_assert_ptr_nonnull(strstr(error.message, ":2: "));
        step_times_deinit(&times);
    }
    struct step_times times;
    ck_assert_int_eq(read_trace("# nothing\n", &times, NULL), LG_INVALID);
    step_times_deinit(&times);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("step_times");
    TCase *tests = tcase_create("step_times");
    tcase_add_test(tests, means_and_deviations_are_those_of_the_distributions);
    tcase_add_test(tests, traces_are_replayed_in_a_circle);
    tcase_add_test(tests, bad_traces_are_refused_with_the_line);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
