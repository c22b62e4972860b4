/* Every staleness policy in the registry: values of the papers, and what the shard relies on for any parameters. */
#include "server/policy.h"

#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const uint64_t ages[] = {0,
                                1,
                                2,
                                3,
                                4,
                                5,
                                7,
                                8,
                                9,
                                16,
                                31,
                                32,
                                100,
                                1000,
                                1000000,
                                UINT64_C(1) << 32,
                                UINT64_C(1) << 53,
                                (UINT64_C(1) << 53) + 1,
                                UINT64_C(1) << 63,
                                UINT64_MAX};
static const uint32_t concurrencies[] = {1, 2, 7, 100, UINT32_MAX};
enum { AGE_COUNT = sizeof ages / sizeof *ages, CONCURRENCY_COUNT = sizeof concurrencies / sizeof *concurrencies };

/* By hand from the formulas, with default parameters. */
static const struct {
    const char *name;
    uint64_t age;
    uint32_t concurrency;
    double weight;
} expected[] = {
    {"constant", 0, 4, 1},
    {"constant", 12345, 4, 1},
    {"inverse", 1, 4, 1},
    {"inverse", 2, 4, 0.5},
    {"inverse", 10, 4, 0.1},
    {"polynomial", 3, 4, 0.5},
    {"polynomial", 8, 4, 1.0 / 3},
    {"polynomial", 99, 4, 0.1},
    {"hinge", 4, 4, 1},
    {"hinge", 5, 4, 1.0 / 11},
    {"hinge", 14, 4, 1.0 / 101},
    {"exponential", 10, 4, 0.36787944117144233},
    {"exponential", 20, 4, 0.1353352832366127},
    {"delay-adaptive", 4, 4, 1},
    {"delay-adaptive", 8, 4, 0.5},
    {"delay-adaptive", 40, 4, 0.1},
    {"cutoff", 15, 4, 1},
    {"cutoff", 16, 4, 0},
    /* these act on each element instead, see compensations_test.c */
    {"dc-asgd", 0, 4, 1},
    {"dc-asgd", 50, 4, 1},
    {"dc-asgd-adaptive", 0, 4, 1},
    {"dc-asgd-adaptive", 50, 4, 1},
    {"gap-aware", 0, 4, 1},
    {"gap-aware", 50, 4, 1},
};

static const struct policy *policy_at(int index) {
    size_t count;
    const struct policy *const *table = policies(&count);
    ck_assert_uint_lt((size_t)index, count);
    return table[index];
}

static void defaults_of(const struct policy *policy, double *values) {
    for (size_t i = 0; i < policy->param_count; i++)
        values[i] = policy->params[i].fallback;
}

START_TEST(values_are_those_of_the_papers) {
    const struct policy *policy = policy_at(_i);
    double values[POLICY_PARAMS_MAX];
    unsigned checked = 0;
    defaults_of(policy, values);
    for (size_t i = 0; i < sizeof expected / sizeof *expected; i++) {
        if (strcmp(expected[i].name, policy->name) != 0)
            continue;
        const struct policy_moment moment = {expected[i].age, expected[i].concurrency};
        ck_assert_double_eq_tol((double)policy->weight(values, &moment), expected[i].weight, 1e-7);
        checked++;
    }
    ck_assert_msg(checked >= 2, "write down values of \"%s\" in this test", policy->name);
}
END_TEST

static void check_shape(const struct policy *policy, const double *values, uint32_t concurrency) {
    float before = 2;
    for (size_t i = 0; i < AGE_COUNT; i++) {
        const struct policy_moment moment = {ages[i], concurrency};
        float weight = policy->weight(values, &moment);
        ck_assert_msg(isfinite(weight) && weight >= 0 && weight <= 1, "%s gives %g", policy->name, (double)weight);
        ck_assert_msg(weight <= before, "%s rises at %llu", policy->name, (unsigned long long)ages[i]);
        before = weight;
    }
}

START_TEST(fresh_pushes_count_fully_and_older_ones_never_more) {
    const struct policy *policy = policy_at(_i);
    for (size_t k = 0; k < CONCURRENCY_COUNT; k++) {
        double values[POLICY_PARAMS_MAX];
        const struct policy_moment fresh = {0, concurrencies[k]};
        defaults_of(policy, values);
        ck_assert(policy->weight(values, &fresh) == 1);
        check_shape(policy, values, concurrencies[k]);
        for (size_t i = 0; i < policy->param_count; i++) {
            const struct policy_param *param = &policy->params[i];
            const double tried[] = {param->least, (param->least + param->fallback) / 2, param->most};
            for (int at = 0; at < 3; at++) {
                defaults_of(policy, values);
                values[i] = tried[at];
                ck_assert(policy->weight(values, &fresh) == 1);
                check_shape(policy, values, concurrencies[k]);
            }
        }
    }
}
END_TEST

START_TEST(configuration_is_checked) {
    const struct policy *policy = policy_at(_i), *found = NULL;
    double values[POLICY_PARAMS_MAX];
    struct lg_error error = {0};
    struct config *config = config_new();
    ck_assert(policy->summary[0] && policy->formula[0] && policy->source[0]);
    ck_assert_int_eq(config_set(config, "staleness.policy", policy->name, "job.yaml", NULL), LG_OK);
    ck_assert_int_eq(policy_configure(config, &found, values, &error), LG_OK);
    ck_assert_ptr_eq(found, policy);
    ck_assert_int_eq(config_set(config, "staleness.zzzzzz", "1", "job.yaml", NULL), LG_OK);
    ck_assert_int_eq(policy_configure(config, &found, values, &error), LG_INVALID);
    ck_assert_ptr_nonnull(strstr(error.message, "job.yaml"));
    config_free(config);
    for (size_t i = 0; i < policy->param_count; i++) {
        const struct policy_param *param = &policy->params[i];
        char key[64], value[64];
        config = config_new();
        ck_assert(param->least <= param->fallback && param->fallback <= param->most && param->help[0]);
        snprintf(key, sizeof key, "staleness.%s", param->name);
        snprintf(value, sizeof value, "%.17g", param->most * 2 + 1);
        ck_assert_int_eq(config_set(config, "staleness.policy", policy->name, "job.yaml", NULL), LG_OK);
        ck_assert_int_eq(config_set(config, key, value, "job.yaml", NULL), LG_OK);
        ck_assert_int_eq(policy_configure(config, &found, values, &error), LG_INVALID);
        ck_assert_ptr_nonnull(strstr(error.message, key));
        snprintf(value, sizeof value, "%.17g", param->most);
        ck_assert_int_eq(config_set(config, key, value, "job.yaml", NULL), LG_OK);
        ck_assert_int_eq(policy_configure(config, &found, values, &error), LG_OK);
        ck_assert(values[i] == param->most);
        config_free(config);
    }
}
END_TEST

START_TEST(unknown_names_list_the_valid_ones) {
    const struct policy *found = NULL;
    struct lg_error error = {0};
    ck_assert_int_eq(policy_find("polynomal", &found, &error), LG_INVALID);
    ck_assert_ptr_nonnull(strstr(error.message, "did you mean \"polynomial\""));
    ck_assert_ptr_nonnull(strstr(error.message, "delay-adaptive"));
}
END_TEST

int main(void) {
    Suite *suite = suite_create("policies");
    TCase *tests = tcase_create("policies");
    size_t count;
    policies(&count);
    int last = (int)count;
    tcase_add_loop_test(tests, values_are_those_of_the_papers, 0, last);
    tcase_add_loop_test(tests, fresh_pushes_count_fully_and_older_ones_never_more, 0, last);
    tcase_add_loop_test(tests, configuration_is_checked, 0, last);
    tcase_add_test(tests, unknown_names_list_the_valid_ones);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
