#include "common/isa.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

START_TEST(auto_is_what_is_detected_and_base_is_always_there) {
    enum isa isa = ISA_COUNT;
    ck_assert_int_eq(isa_parse("auto", &isa, NULL), LG_OK);
    ck_assert_int_eq(isa, isa_detect());
    ck_assert_int_eq(isa_parse("base", &isa, NULL), LG_OK);
    ck_assert_int_eq(isa, ISA_BASE);
}
END_TEST

START_TEST(names_are_read_back_or_refused_with_a_reason) {
    for (int i = 0; i < ISA_COUNT; i++) {
        enum isa isa = ISA_COUNT;
        struct lg_error error = {0};
        enum lg_status status = isa_parse(isa_name((enum isa)i), &isa, &error);
        if (i <= (int)isa_detect()) {
            ck_assert_int_eq(status, LG_OK);
            ck_assert_int_eq(isa, (enum isa)i);
        } else if (status != LG_OK) {
            ck_assert_ptr_nonnull(strstr(error.message, isa_name((enum isa)i)));
        }
    }
}
END_TEST

START_TEST(unknown_sets_are_refused) {
    enum isa isa;
    struct lg_error error = {0};
    ck_assert_int_eq(isa_parse("neon", &isa, &error), LG_INVALID);
    ck_assert_ptr_nonnull(strstr(error.message, "avx2"));
}
END_TEST

int main(void) {
    Suite *suite = suite_create("isa");
    TCase *tests = tcase_create("isa");
    tcase_add_test(tests, auto_is_what_is_detected_and_base_is_always_there);
    tcase_add_test(tests, names_are_read_back_or_refused_with_a_reason);
    tcase_add_test(tests, unknown_sets_are_refused);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
