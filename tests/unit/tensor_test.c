#include "common/tensor.h"

#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static struct tensor_spec spec_of(const char *name, uint32_t rank, uint64_t a, uint64_t b) {
    struct tensor_spec spec = {.rank = rank, .shape = {a, b}, .lr_factor = 1};
    strncat(spec.name, name, sizeof spec.name - 1);
    return spec;
}

static void expect_invalid(const struct tensor_spec *specs, size_t count, const char *message) {
    struct lg_error error = {0};
    ck_assert_int_eq(tensor_table_check(specs, count, &error), LG_INVALID);
    ck_assert_msg(strstr(error.message, message) != NULL, "expected %s\ngot %s", message, error.message);
}

START_TEST(elements_are_the_product) {
    struct tensor_spec specs[] = {spec_of("a", 2, 3, 4), spec_of("b", 1, 5, 0), spec_of("c", 0, 0, 0)};
    ck_assert_uint_eq(tensor_elements(&specs[0]), 12);
    ck_assert_uint_eq(tensor_elements(&specs[1]), 5);
    ck_assert_uint_eq(tensor_elements(&specs[2]), 1);
    ck_assert_uint_eq(tensor_total_elements(specs, 3), 18);
    ck_assert_uint_eq(tensor_total_elements(NULL, 0), 0);
    ck_assert_int_eq(tensor_table_check(specs, 3, NULL), LG_OK);
}
END_TEST

START_TEST(bad_tables_are_refused) {
    struct tensor_spec good = spec_of("a", 2, 3, 4), bad = good;
    expect_invalid(&good, 0, "0 tensors; a job has 1 to 65536");
    expect_invalid(&good, TENSOR_COUNT_MAX + 1, "65537 tensors");
    bad.name[0] = '\0';
    expect_invalid(&bad, 1, "the name of tensor 0");
    bad = spec_of("a b", 1, 1, 0);
    expect_invalid(&bad, 1, "visible ASCII");
    bad = spec_of("a\x80", 1, 1, 0);
    expect_invalid(&bad, 1, "visible ASCII");
    memset(bad.name, 'x', sizeof bad.name);
    expect_invalid(&bad, 1, "1 to 95");
    bad = good;
    bad.rank = TENSOR_RANK_MAX + 1;
    expect_invalid(&bad, 1, "has rank 5");
    bad = spec_of("a", 2, 3, 0);
    expect_invalid(&bad, 1, "size 0 in dimension 1");
    bad = spec_of("a", 2, UINT64_C(1) << 32, UINT64_C(1) << 32);
    expect_invalid(&bad, 1, "2^40 elements");
    bad = spec_of("a", 1, UINT64_C(1) << 40, 0);
    expect_invalid(&bad, 1, "2^40 elements");
    bad.shape[0]--;
    ck_assert_int_eq(tensor_table_check(&bad, 1, NULL), LG_OK);
    const float factors[] = {-1, NAN, INFINITY};
    for (int i = 0; i < 3; i++) {
        bad = good;
        bad.lr_factor = factors[i];
        expect_invalid(&bad, 1, "learning-rate factor");
    }
    bad = good;
    bad.update = (enum tensor_update)3;
    expect_invalid(&bad, 1, "unknown update kind 3");
    struct tensor_spec twice[] = {good, spec_of("b", 1, 1, 0), good};
    expect_invalid(twice, 3, "two tensors are named \"a\"");
}
END_TEST

START_TEST(fingerprint_sees_every_field) {
    struct tensor_spec base[] = {spec_of("a", 2, 3, 4), spec_of("b", 1, 5, 0)};
    uint64_t print = tensor_table_fingerprint(base, 2);
    ck_assert_uint_eq(print, tensor_table_fingerprint(base, 2));
    for (int change = 0; change < 9; change++) {
        struct tensor_spec specs[] = {base[0], base[1]};
        size_t count = 2;
        switch (change) {
        case 0:
            specs[1].name[0] = 'c';
            break;
        case 1:
            specs[0].rank = 1;
            break;
        case 2:
            specs[0].shape[1] = 5;
            break;
        case 3:
            specs[1].update = TENSOR_UPDATE_ASSIGN;
            break;
        case 4:
            specs[1].frozen = true;
            break;
        case 5:
            specs[0].no_weight_decay = true;
            break;
        case 6:
            specs[0].lr_factor = 2;
            break;
        case 7:
            count = 1;
            break;
        case 8:
            specs[0] = base[1];
            specs[1] = base[0];
            break;
        }
        ck_assert_msg(tensor_table_fingerprint(specs, count) != print, "change %d is not seen", change);
    }
}
END_TEST

START_TEST(fingerprint_ignores_what_is_not_used) {
    struct tensor_spec a = spec_of("a", 1, 3, 0), b = a;
    b.shape[1] = 7;
    b.name[50] = 'x';
    ck_assert_uint_eq(tensor_table_fingerprint(&a, 1), tensor_table_fingerprint(&b, 1));
}
END_TEST

/* The number itself is part of the protocol: trainers built from different sources must agree. */
START_TEST(fingerprint_is_fixed) {
    struct tensor_spec specs[] = {spec_of("a", 2, 3, 4), spec_of("b", 1, 5, 0)};
    ck_assert_uint_eq(tensor_table_fingerprint(specs, 2), UINT64_C(0x21728bc9bcf407d));
}
END_TEST

int main(void) {
    Suite *suite = suite_create("tensor");
    TCase *tests = tcase_create("tensor");
    tcase_add_test(tests, elements_are_the_product);
    tcase_add_test(tests, bad_tables_are_refused);
    tcase_add_test(tests, fingerprint_sees_every_field);
    tcase_add_test(tests, fingerprint_ignores_what_is_not_used);
    tcase_add_test(tests, fingerprint_is_fixed);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
