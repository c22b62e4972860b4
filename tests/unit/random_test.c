#include "common/random.h"

#include <check.h>
#include <math.h>
#include <stdlib.h>

/* xoshiro256** seeded through splitmix64; the words were worked out apart from this code, with Python integers. */
START_TEST(bits_are_those_of_the_published_generator) {
    static const struct {
        uint64_t seed, words[3];
    } cases[] = {
        {0, {UINT64_C(0x99ec5f36cb75f2b4), UINT64_C(0xbf6e1f784956452a), UINT64_C(0x1a5f849d4933e6e0)}},
        {42, {UINT64_C(0x15780b2e0c2ec716), UINT64_C(0x6104d9866d113a7e), UINT64_C(0xae17533239e499a1)}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct random random;
        random_init(&random, cases[i].seed);
        for (int j = 0; j < 3; j++)
            ck_assert_uint_eq(random_u64(&random), cases[i].words[j]);
    }
}
END_TEST

START_TEST(streams_differ) {
    struct random a, b, c;
    random_init_stream(&a, 7, 0);
    random_init_stream(&b, 7, 1);
    random_init_stream(&c, 8, 0);
    int same = 0;
    for (int i = 0; i < 1000; i++) {
        uint64_t x = random_u64(&a), y = random_u64(&b), z = random_u64(&c);
        same += (x == y) + (x == z) + (y == z);
    }
    ck_assert_int_eq(same, 0);
    ck_assert_uint_ne(random_mix(1, 2), random_mix(2, 1));
    ck_assert_uint_eq(random_mix(1, 2), random_mix(1, 2));
}
END_TEST

START_TEST(below_is_even_and_below) {
    struct random random;
    enum { BOUND = 7, DRAWS = 70000 };
    int counts[BOUND] = {0};
    random_init(&random, 1);
    for (int i = 0; i < DRAWS; i++) {
        uint64_t x = random_below(&random, BOUND);
        ck_assert_uint_lt(x, BOUND);
        counts[x]++;
    }
    /* Binomial: 10,000 expected, standard deviation 93. */
    for (int i = 0; i < BOUND; i++)
        ck_assert_int_lt(abs(counts[i] - DRAWS / BOUND), 500);
    ck_assert_uint_eq(random_below(&random, 1), 0);
    for (int i = 0; i < 100; i++)
        ck_assert_uint_lt(random_below(&random, UINT64_MAX), UINT64_MAX);
}
END_TEST

START_TEST(uniforms_fill_the_unit_interval) {
    struct random random;
    double sum = 0, sum_of_floats = 0;
    enum { DRAWS = 100000 };
    random_init(&random, 2);
    for (int i = 0; i < DRAWS; i++) {
        double x = random_double(&random);
        float y = random_float(&random);
        ck_assert(x >= 0 && x < 1 && y >= 0 && y < 1);
        sum += x;
        sum_of_floats += (double)y;
    }
    /* Standard deviation of the mean: 0.00091. */
    ck_assert_double_lt(fabs(sum / DRAWS - 0.5), 0.005);
    ck_assert_double_lt(fabs(sum_of_floats / DRAWS - 0.5), 0.005);
}
END_TEST

START_TEST(normals_have_mean_0_and_variance_1) {
    struct random random;
    double sum = 0, squares = 0;
    int beyond_two = 0;
    enum { DRAWS = 100000 };
    random_init(&random, 3);
    for (int i = 0; i < DRAWS; i++) {
        double x = (double)random_normal(&random);
        ck_assert(isfinite(x));
        sum += x;
        squares += x * x;
        beyond_two += fabs(x) > 2;
    }
    ck_assert_double_lt(fabs(sum / DRAWS), 0.016);
    ck_assert_double_lt(fabs(squares / DRAWS - 1), 0.023);
    ck_assert_double_lt(fabs((double)beyond_two / DRAWS - 0.0455), 0.0033);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("random");
    TCase *tests = tcase_create("random");
    tcase_add_test(tests, bits_are_those_of_the_published_generator);
    tcase_add_test(tests, streams_differ);
    tcase_add_test(tests, below_is_even_and_below);
    tcase_add_test(tests, uniforms_fill_the_unit_interval);
    tcase_add_test(tests, normals_have_mean_0_and_variance_1);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
