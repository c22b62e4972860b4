#include "common/registry.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

static const struct registry_param params[] = {
    {"alpha", 0.25, 0, 1, "a number"},
    {"beta_two", 1e-8, 1e-12, 1, "another one"},
};
static struct config *config;
static struct lg_error error;
static double values[2];

static void setup(void) {
    config = config_new();
    ck_assert_ptr_nonnull(config);
}

static void teardown(void) {
    config_free(config);
}

static void set(const char *key, const char *value) {
    ck_assert_int_eq(config_set(config, key, value, "job.yaml", NULL), LG_OK);
}

static enum lg_status read_params(size_t count) {
    return registry_read_params(config, "thing.", "thing.kind", "thing \"x\"", params, count, values, &error);
}

START_TEST(defaults_are_exact) {
    set("thing.kind", "x");
    set("other.alpha", "7"); /* not ours */
    ck_assert_int_eq(read_params(2), LG_OK);
    ck_assert(values[0] == 0.25 && values[1] == 1e-8);
}
END_TEST

START_TEST(values_are_read_and_marked_as_used) {
    set("thing.beta_two", "0.5");
    ck_assert_int_eq(read_params(2), LG_OK);
    ck_assert(values[0] == 0.25 && values[1] == 0.5);
    ck_assert(config_find(config, "thing.beta_two")->used);
}
END_TEST

START_TEST(what_is_not_a_parameter_is_refused_with_place_and_nearest) {
    set("thing.beta_tow", "0.5");
    ck_assert_int_eq(read_params(2), LG_INVALID);
    ck_assert_ptr_nonnull(strstr(error.message, "job.yaml"));
    ck_assert_ptr_nonnull(strstr(error.message, "thing \"x\""));
    ck_assert_ptr_nonnull(strstr(error.message, "did you mean \"thing.beta_two\"?"));
}
END_TEST

START_TEST(without_parameters_everything_is_refused) {
    set("thing.kind", "x");
    ck_assert_int_eq(read_params(0), LG_OK);
    set("thing.alpha", "0.5");
    ck_assert_int_eq(read_params(0), LG_INVALID);
}
END_TEST

START_TEST(numbers_out_of_range_or_no_numbers_are_refused) {
    set("thing.alpha", "1.5");
    ck_assert_int_eq(read_params(2), LG_INVALID);
    ck_assert_ptr_nonnull(strstr(error.message, "thing.alpha"));
    set("thing.alpha", "nan");
    ck_assert_int_eq(read_params(2), LG_INVALID);
    set("thing.alpha", "many");
    ck_assert_int_eq(read_params(2), LG_INVALID);
    set("thing.alpha", "1");
    ck_assert_int_eq(read_params(2), LG_OK);
}
END_TEST

START_TEST(unknown_names_list_all) {
    const char *const names[] = {"first", "second", NULL};
    ck_assert_int_eq(registry_unknown("thing", "secnd", names, &error), LG_INVALID);
    ck_assert_str_eq(error.message, "unknown thing \"secnd\"; did you mean \"second\"? (there are: first, second)");
    ck_assert_int_eq(registry_unknown("thing", "zzzzzzzz", names, &error), LG_INVALID);
    ck_assert_str_eq(error.message, "unknown thing \"zzzzzzzz\" (there are: first, second)");
}
END_TEST

int main(void) {
    Suite *suite = suite_create("registry");
    TCase *tests = tcase_create("registry");
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, defaults_are_exact);
    tcase_add_test(tests, values_are_read_and_marked_as_used);
    tcase_add_test(tests, what_is_not_a_parameter_is_refused_with_place_and_nearest);
    tcase_add_test(tests, without_parameters_everything_is_refused);
    tcase_add_test(tests, numbers_out_of_range_or_no_numbers_are_refused);
    tcase_add_test(tests, unknown_names_list_all);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
