#include <check.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "common/buf.h"

START_TEST(appends_text_and_bytes) {
    struct buf buf = {0};
    ck_assert_str_eq(buf_string(&buf), "");
    buf_text(&buf, "one ");
    buf_char(&buf, '2');
    buf_printf(&buf, " %s %d", "three", 4);
    buf_append(&buf, "\0x", 2);
    ck_assert_uint_eq(buf.size, 15);
    ck_assert_int_eq(memcmp(buf.data, "one 2 three 4\0x", 16), 0);
    buf_clear(&buf);
    ck_assert_uint_eq(buf.size, 0);
    ck_assert_str_eq(buf_string(&buf), "");
    buf_deinit(&buf);
}
END_TEST

START_TEST(grows_over_many_appends) {
    struct buf buf = {0};
    for (int i = 0; i < 10000; i++)
        buf_printf(&buf, "%04d", i);
    ck_assert_uint_eq(buf.size, 40000);
    ck_assert_int_eq(memcmp(buf.data + 4 * 9999, "9999", 5), 0);
    ck_assert_int_eq(buf_check(&buf, NULL), LG_OK);
    buf_deinit(&buf);
}
END_TEST

START_TEST(failure_sticks) {
    struct buf buf = {0};
    struct lg_error error;
    buf_text(&buf, "kept");
    ck_assert(!buf_reserve(&buf, BUF_BYTES_MAX));
    buf_text(&buf, "lost");
    ck_assert_str_eq(buf_string(&buf), "kept");
    ck_assert_int_eq(buf_check(&buf, &error), LG_NO_MEMORY);
    ck_assert_ptr_null(buf_take(&buf));
    ck_assert(!buf.failed); /* taken or not, it is empty and usable again */
    ck_assert(!buf_reserve(&buf, SIZE_MAX));
    buf_deinit(&buf);
}
END_TEST

START_TEST(take_hands_over) {
    struct buf buf = {0};
    buf_text(&buf, "x");
    char *text = buf_take(&buf);
    ck_assert_str_eq(text, "x");
    ck_assert_ptr_null(buf.data);
    free(text);
    text = buf_take(&buf);
    ck_assert_str_eq(text, "");
    free(text);
}
END_TEST

static void check_json(const char *text, const char *expected) {
    struct buf buf = {0};
    buf_json_text(&buf, text);
    ck_assert_str_eq(buf_string(&buf), expected);
    buf_deinit(&buf);
}

START_TEST(json_text_escapes) {
    check_json("plain", "\"plain\"");
    check_json(NULL, "null");
    check_json("a\"b\\c\n\x01\x7f", "\"a\\\"b\\\\c\\u000a\\u0001\\u007f\"");
    check_json("\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80", "\"\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\"");
    /* overlong, surrogate, beyond U+10FFFF, cut short, lone continuation */
    check_json("\xc0\xaf", "\"\xef\xbf\xbd\xef\xbf\xbd\"");
    check_json("\xed\xa0\x80", "\"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\"");
    check_json("\xf4\x90\x80\x80", "\"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\"");
    check_json("\xe2\x82", "\"\xef\xbf\xbd\xef\xbf\xbd\"");
    check_json("\x80", "\"\xef\xbf\xbd\"");
}
END_TEST

START_TEST(json_numbers_read_back_equal) {
    const double numbers[] = {0, 1, -1.5, 0.1, 1.0 / 3, 1e300, 12345678901234.0};
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        struct buf buf = {0};
        buf_json_number(&buf, numbers[i]);
        ck_assert_double_eq(strtod(buf_string(&buf), NULL), numbers[i]);
        buf_deinit(&buf);
    }
    struct buf buf = {0};
    buf_json_number(&buf, (double)NAN);
    buf_json_number(&buf, (double)INFINITY);
    buf_json_number(&buf, 0.1);
    ck_assert_str_eq(buf_string(&buf), "nullnull0.1");
    buf_deinit(&buf);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("buf");
    TCase *tests = tcase_create("buf");
    tcase_add_test(tests, appends_text_and_bytes);
    tcase_add_test(tests, grows_over_many_appends);
    tcase_add_test(tests, failure_sticks);
    tcase_add_test(tests, take_hands_over);
    tcase_add_test(tests, json_text_escapes);
    tcase_add_test(tests, json_numbers_read_back_equal);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
