#include "worker/local_steps.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

static const struct tensor_spec tensors[] = {
    {.name = "weight", .rank = 2, .shape = {100, 60}, .lr_factor = 1},
    {.name = "bias", .rank = 1, .shape = {5}, .lr_factor = 0.5f, .no_weight_decay = true},
    {.name = "fixed", .rank = 1, .shape = {3}, .lr_factor = 1, .frozen = true},
    {.name = "mean", .rank = 1, .shape = {2}, .lr_factor = 1, .update = TENSOR_UPDATE_AVERAGE},
};
enum { WEIGHT = 6000, BIAS = 5, FIXED = 3, MEAN = 2, ALL = WEIGHT + BIAS + FIXED + MEAN };

static struct local_steps steps;
static float pulled[ALL], gradients[ALL], result[ALL];

static void start(const char *updater, double rate, double decay) {
    struct lg_error error = {0};
    struct config *spec = config_new();
    const struct job_config job = {.local_rate = rate, .local_weight_decay = decay};
    ck_assert_int_eq(config_set(spec, "local.updater.kind", updater, "test", &error), LG_OK);
    ck_assert_msg(local_steps_init(&steps, spec, &job, tensors, 4, &error) == LG_OK, "%s", error.message);
    config_free(spec);
    for (size_t i = 0; i < ALL; i++) {
        pulled[i] = 1;
        gradients[i] = 2;
    }
}

START_TEST(steps_are_the_updaters) {
    start("sgd", 0.25, 0.5);
    local_steps_begin(&steps, pulled);
    local_steps_take(&steps, gradients);
    local_steps_take(&steps, gradients);
    local_steps_result(&steps, pulled, result);
    const float once = 1 - (0.25f * 2 + 0.125f * 1), twice = once - (0.25f * 2 + 0.125f * once);
    for (size_t i = 0; i < WEIGHT; i++)
        ck_assert(result[i] == twice - 1);
    for (size_t i = WEIGHT; i < WEIGHT + BIAS; i++)
        ck_assert(result[i] == -0.5f); /* half the rate, no decay */
    for (size_t i = WEIGHT + BIAS; i < WEIGHT + BIAS + FIXED; i++)
        ck_assert(result[i] == 0);
    for (size_t i = WEIGHT + BIAS + FIXED; i < ALL; i++)
        ck_assert(result[i] == 2); /* the value itself */
    local_steps_deinit(&steps);
}
END_TEST

START_TEST(a_round_starts_from_what_was_pulled_with_the_state_of_the_last) {
    start("momentum", 1, 0);
    local_steps_begin(&steps, pulled);
    local_steps_take(&steps, gradients);
    local_steps_result(&steps, pulled, result);
    ck_assert(result[0] == -2);
    local_steps_begin(&steps, pulled);
    local_steps_take(&steps, gradients);
    local_steps_result(&steps, pulled, result);
    ck_assert_double_eq_tol((double)result[0], -(2 * 0.9 + 2), 1e-6);
    ck_assert_uint_eq(steps.taken, 2);
    local_steps_deinit(&steps);
}
END_TEST

START_TEST(unknown_updaters_are_refused) {
    struct lg_error error = {0};
    struct config *spec = config_new();
    const struct job_config job = {.local_rate = 1};
    ck_assert_int_eq(config_set(spec, "local.updater.kind", "adamm", "job.yaml", &error), LG_OK);
    ck_assert_int_eq(local_steps_init(&steps, spec, &job, tensors, 4, &error), LG_INVALID);
    ck_assert_ptr_nonnull(strstr(error.message, "\"adam\""));
    local_steps_deinit(&steps);
    config_free(spec);
    spec = config_new();
    ck_assert_int_eq(config_set(spec, "local.updater.beta9", "1", "job.yaml", &error), LG_OK);
    ck_assert_int_eq(local_steps_init(&steps, spec, &job, tensors, 4, &error), LG_INVALID);
    ck_assert_ptr_nonnull(strstr(error.message, "job.yaml"));
    local_steps_deinit(&steps);
    config_free(spec);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("local_steps");
    TCase *tests = tcase_create("local_steps");
    tcase_add_test(tests, steps_are_the_updaters);
    tcase_add_test(tests, a_round_starts_from_what_was_pulled_with_the_state_of_the_last);
    tcase_add_test(tests, unknown_updaters_are_refused);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
