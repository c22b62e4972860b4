#include "common/units.h"

#include <check.h>
#include <stdlib.h>

#include "common/option.h"

typedef char *unsigned_fn(uint64_t value, char *text, size_t size);

static void expect(unsigned_fn *format, uint64_t value, const char *expected) {
    char text[UNITS_TEXT_BYTES];
    ck_assert_str_eq(format(value, text, sizeof text), expected);
}

START_TEST(bytes_have_binary_units) {
    expect(units_bytes, 0, "0 B");
    expect(units_bytes, 1023, "1023 B");
    expect(units_bytes, 1024, "1 KiB");
    expect(units_bytes, 1536, "1.5 KiB");
    expect(units_bytes, 12345678, "11.8 MiB");
    expect(units_bytes, (UINT64_C(1) << 30) - 1, "1 GiB");
    expect(units_bytes, UINT64_MAX, "16 EiB");
    expect(units_bytes_exact, 0, "0");
    expect(units_bytes_exact, 4097, "4097");
    expect(units_bytes_exact, 64 << 20, "64MiB");
}
END_TEST

START_TEST(counts_are_grouped) {
    expect(units_count, 0, "0");
    expect(units_count, 999, "999");
    expect(units_count, 1000, "1,000");
    expect(units_count, 1234567, "1,234,567");
    expect(units_count, UINT64_MAX, "18,446,744,073,709,551,615");
}
END_TEST

START_TEST(durations_have_two_parts_at_most) {
    static const struct {
        int64_t ms;
        const char *text;
    } cases[] = {
        {0, "0 ms"},
        {350, "350 ms"},
        {999, "999 ms"},
        {1000, "1.0 s"},
        {2345, "2.3 s"},
        {59949, "59.9 s"},
        {59960, "1 min 0 s"},
        {245000, "4 min 5 s"},
        {3600000, "1 h 0 min"},
        {12000000, "3 h 20 min"},
        {183600000, "2 d 3 h"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char text[UNITS_TEXT_BYTES];
        ck_assert_str_eq(units_duration(cases[i].ms, text, sizeof text), cases[i].text);
    }
}
END_TEST

START_TEST(rates_have_three_digits) {
    static const struct {
        double value;
        const char *text;
    } cases[] = {{0, "0"},      {9.994, "9.99"},  {9.996, "10"},    {950, "950"},
                 {999.6, "1k"}, {12345, "12.3k"}, {4.56e6, "4.56M"}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char text[UNITS_TEXT_BYTES];
        ck_assert_str_eq(units_rate(cases[i].value, text, sizeof text), cases[i].text);
    }
}
END_TEST

START_TEST(exact_forms_are_read_back) {
    static const int64_t values[] = {0,     1,     999,     1000,     1024,     1500,
                                     60000, 90000, 3600000, 86400000, 86400001, INT64_MAX / 2};
    for (size_t i = 0; i < sizeof values / sizeof values[0]; i++) {
        char text[UNITS_TEXT_BYTES];
        int64_t ms = -1;
        uint64_t bytes = 1;
        ck_assert_int_eq(option_parse_duration(units_duration_exact(values[i], text, sizeof text), &ms), LG_OK);
        ck_assert_int_eq(ms, values[i]);
        units_bytes_exact((uint64_t)values[i], text, sizeof text);
        ck_assert_int_eq(option_parse_bytes(text, &bytes), LG_OK);
        ck_assert_uint_eq(bytes, (uint64_t)values[i]);
    }
}
END_TEST

START_TEST(short_buffers_are_kept) {
    char text[4] = "xxx";
    ck_assert_str_eq(units_count(1234567, text, sizeof text), "1,2");
    ck_assert_str_eq(units_bytes(12345678, text, sizeof text), "11.");
}
END_TEST

int main(void) {
    Suite *suite = suite_create("units");
    TCase *tests = tcase_create("units");
    tcase_add_test(tests, bytes_have_binary_units);
    tcase_add_test(tests, counts_are_grouped);
    tcase_add_test(tests, durations_have_two_parts_at_most);
    tcase_add_test(tests, rates_have_three_digits);
    tcase_add_test(tests, exact_forms_are_read_back);
    tcase_add_test(tests, short_buffers_are_kept);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
