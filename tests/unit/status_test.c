#include "common/status.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

START_TEST(every_status_has_a_name_and_a_text) {
    static const enum lg_status all[] = {
#define X(symbol, number, name, text) LG_##symbol,
#include "common/status.def"
#undef X
    };
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        ck_assert_str_ne(lg_status_name(all[i]), "unknown");
        ck_assert_str_ne(lg_status_text(all[i]), "");
        for (size_t j = 0; j < i; j++) {
            ck_assert_int_ne(all[i], all[j]);
            ck_assert_str_ne(lg_status_name(all[i]), lg_status_name(all[j]));
        }
    }
}
END_TEST

/* Peers of other versions know these numbers. */
START_TEST(numbers_stay) {
    ck_assert_int_eq(LG_OK, 0);
    ck_assert_int_eq(LG_INVALID, 1);
    ck_assert_int_eq(LG_FENCED, 8);
    ck_assert_int_eq(LG_DUPLICATE, 17);
    ck_assert_int_eq(LG_INTERNAL, 18);
}
END_TEST

START_TEST(unknown_numbers_are_answered) {
    ck_assert_str_eq(lg_status_name((enum lg_status)9999), "unknown");
    ck_assert_str_eq(lg_status_text((enum lg_status) - 1), "a status that this version does not know");
}
END_TEST

START_TEST(fail_fills_and_returns) {
    struct lg_error error = {0};
    ck_assert_int_eq(lg_fail(&error, LG_NOT_FOUND, "no job \"%s\"", "x"), LG_NOT_FOUND);
    ck_assert_int_eq(error.status, LG_NOT_FOUND);
    ck_assert_str_eq(error.message, "no job \"x\"");
    ck_assert_int_eq(lg_fail_prefix(&error, LG_IO, "line %d", 3), LG_IO);
    ck_assert_int_eq(error.status, LG_IO);
    ck_assert_str_eq(error.message, "line 3: no job \"x\"");
    ck_assert_int_eq(lg_fail(NULL, LG_IO, "nobody reads this"), LG_IO);
    ck_assert_int_eq(lg_fail_prefix(NULL, LG_IO, "nor this"), LG_IO);
}
END_TEST

START_TEST(long_messages_are_cut) {
    struct lg_error error;
    char text[2000];
    memset(text, 'x', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    memset(&error, 0x7f, sizeof error);
    ck_assert_int_eq(lg_fail(&error, LG_INVALID, "%s", text), LG_INVALID);
    ck_assert_uint_eq(strlen(error.message), sizeof error.message - 1);
    ck_assert_int_eq(lg_fail_prefix(&error, LG_INVALID, "%s", text), LG_INVALID);
    ck_assert_uint_eq(strlen(error.message), sizeof error.message - 1);
    ck_assert_int_eq(lg_fail(&error, LG_INVALID, "end"), LG_INVALID);
    ck_assert_int_eq(lg_fail_prefix(&error, LG_INVALID, "start"), LG_INVALID);
    ck_assert_str_eq(error.message, "start: end");
}
END_TEST

int main(void) {
    Suite *suite = suite_create("status");
    TCase *tests = tcase_create("status");
    tcase_add_test(tests, every_status_has_a_name_and_a_text);
    tcase_add_test(tests, numbers_stay);
    tcase_add_test(tests, unknown_numbers_are_answered);
    tcase_add_test(tests, fail_fills_and_returns);
    tcase_add_test(tests, long_messages_are_cut);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
