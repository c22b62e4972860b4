/* What is not in the conformance test of the registry: defaults, names, weight decay. */
#include "common/updater.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "common/updaters/kernel.h"

static enum lg_status configure(const char *kind, const char *key, const char *value, struct lg_error *error) {
    const struct updater *updater = NULL;
    double values[UPDATER_PARAMS_MAX];
    struct config *config = config_new();
    if (kind)
        ck_assert_int_eq(config_set(config, "updater.kind", kind, "job.yaml", NULL), LG_OK);
    if (key)
        ck_assert_int_eq(config_set(config, key, value, "job.yaml", NULL), LG_OK);
    enum lg_status status = updater_configure(config, &updater, values, error);
    if (status == LG_OK)
        ck_assert_str_eq(updater->name, kind ? kind : "sgd");
    config_free(config);
    return status;
}

START_TEST(sgd_is_the_default) {
    ck_assert_int_eq(configure(NULL, NULL, NULL, NULL), LG_OK);
}
END_TEST

START_TEST(unknown_names_are_refused_with_the_nearest) {
    struct lg_error error = {0};
    ck_assert_int_eq(configure("adamv", NULL, NULL, &error), LG_INVALID);
    ck_assert_ptr_nonnull(strstr(error.message, "did you mean \"adam"));
    ck_assert_ptr_nonnull(strstr(error.message, "rmsprop"));
}
END_TEST

START_TEST(adam_sends_weight_decay_to_adamw) {
    struct lg_error error = {0};
    ck_assert_int_eq(configure("adam", "weight_decay", "0.01", &error), LG_INVALID);
    ck_assert_ptr_nonnull(strstr(error.message, "adamw"));
    ck_assert_int_eq(configure("adam", "weight_decay", "0", &error), LG_OK);
    ck_assert_int_eq(configure("adamw", "weight_decay", "0.01", &error), LG_OK);
    ck_assert_int_eq(configure("sgd", "weight_decay", "0.01", &error), LG_OK);
}
END_TEST

START_TEST(powers_are_exact_where_they_can_be) {
    ck_assert(power(0.5, 0) == 1);
    ck_assert(power(0.5, 1) == 0.5);
    ck_assert(power(0.5, 60) == 0x1p-60);
    ck_assert(power(3, 20) == 3486784401.0);
    ck_assert(power(0.9, UINT64_MAX) == 0);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("updater");
    TCase *tests = tcase_create("updater");
    tcase_add_test(tests, sgd_is_the_default);
    tcase_add_test(tests, unknown_names_are_refused_with_the_nearest);
    tcase_add_test(tests, adam_sends_weight_decay_to_adamw);
    tcase_add_test(tests, powers_are_exact_where_they_can_be);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
