#include "server/schedule.h"

#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct job_config job_of(const char *schedule) {
    struct job_config job = {
        .learning_rate = 0.2, .final_factor = 0.1, .step_factor = 0.5, .step_samples = 100, .epochs = 4};
    snprintf(job.schedule, sizeof job.schedule, "%s", schedule);
    return job;
}

static void expect(const struct job_config *job, uint64_t samples, double rate) {
    ck_assert_double_eq_tol((double)schedule_rate(job, 250, samples), rate, 1e-7);
}

START_TEST(constant_stays) {
    const struct job_config job = job_of("constant");
    expect(&job, 1, 0.2);
    expect(&job, 1000000, 0.2);
}
END_TEST

START_TEST(warm_up_is_linear_and_precedes_every_schedule) {
    const char *const schedules[] = {"constant", "cosine", "step", "inverse-sqrt"};
    for (int i = 0; i < 4; i++) {
        struct job_config job = job_of(schedules[i]);
        job.warmup_samples = 80;
        expect(&job, 0, 0);
        expect(&job, 20, 0.05);
        expect(&job, 40, 0.1);
        expect(&job, 80, 0.2);
    }
}
END_TEST

START_TEST(cosine_falls_to_its_end_and_stays_there) {
    struct job_config job = job_of("cosine"); /* 4 epochs of 250 samples */
    expect(&job, 0, 0.2);
    expect(&job, 500, 0.11); /* half way between 0.2 and 0.02 */
    expect(&job, 250, 0.2 * (0.1 + 0.9 * (1 + sqrt(0.5)) / 2));
    expect(&job, 1000, 0.02);
    expect(&job, 5000, 0.02);
    job.total_samples = 200;
    expect(&job, 100, 0.11);
    job.warmup_samples = 100;
    expect(&job, 150, 0.11);
    job.warmup_samples = 300; /* longer than the job */
    expect(&job, 300, 0.02);
}
END_TEST

START_TEST(steps_multiply) {
    const struct job_config job = job_of("step");
    expect(&job, 99, 0.2);
    expect(&job, 100, 0.1);
    expect(&job, 350, 0.025);
}
END_TEST

START_TEST(inverse_sqrt_starts_at_the_warm_up) {
    struct job_config job = job_of("inverse-sqrt");
    job.warmup_samples = 50;
    expect(&job, 50, 0.2);
    expect(&job, 200, 0.1);
    expect(&job, 5000, 0.02);
    job.warmup_samples = 0; /* then at a hundredth of the 1000 samples */
    expect(&job, 10, 0.2);
    expect(&job, 40, 0.1);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("schedule");
    TCase *tests = tcase_create("schedule");
    tcase_add_test(tests, constant_stays);
    tcase_add_test(tests, warm_up_is_linear_and_precedes_every_schedule);
    tcase_add_test(tests, cosine_falls_to_its_end_and_stays_there);
    tcase_add_test(tests, steps_multiply);
    tcase_add_test(tests, inverse_sqrt_starts_at_the_warm_up);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
