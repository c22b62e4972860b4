#include "common/wrap.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

static char *words(const char *text, int column, int indent) {
    char *printed = NULL;
    size_t bytes;
    FILE *out = open_memstream(&printed, &bytes);
    ck_assert_ptr_nonnull(out);
    wrap_words(text, column, indent, out);
    fclose(out);
    return printed;
}

static void expect_paragraphs(const char *text, const char *expected) {
    char *printed = NULL;
    size_t bytes;
    FILE *out = open_memstream(&printed, &bytes);
    ck_assert_ptr_nonnull(out);
    wrap_paragraphs(text, out);
    fclose(out);
    ck_assert_str_eq(printed, expected);
    free(printed);
}

START_TEST(lines_are_full_but_fit) {
    char *printed = words("1234567890 1234567890 1234567890 x 1234567890", 47, 4);
    ck_assert_str_eq(printed, "1234567890 1234567890 1234567890\n    x 1234567890\n"); /* 79; with the x it were 81 */
    free(printed);
    printed = words("1234567890 1234567890 1234567890 x", 45, 4);
    ck_assert_str_eq(printed, "1234567890 1234567890 1234567890 x\n"); /* 79 */
    free(printed);
    printed = words("1234567890 1234567890 1234567890 x", 46, 4);
    ck_assert_str_eq(printed, "1234567890 1234567890 1234567890 x\n"); /* 80: just fits */
    free(printed);
    printed = words("", 0, 4);
    ck_assert_str_eq(printed, "\n");
    free(printed);
}
END_TEST

START_TEST(long_words_stand_alone) {
    char word[WRAP_WIDTH + 20], text[WRAP_WIDTH + 40], expected[WRAP_WIDTH + 40];
    memset(word, 'w', sizeof word - 1);
    word[sizeof word - 1] = '\0';
    snprintf(text, sizeof text, "a %s b", word);
    snprintf(expected, sizeof expected, "a\n  %s\n  b\n", word);
    char *printed = words(text, 0, 2);
    ck_assert_str_eq(printed, expected);
    free(printed);
}
END_TEST

START_TEST(paragraphs_are_joined_and_examples_stay) {
    expect_paragraphs("one\ntwo\n\nthree", "one two\n\nthree\n");
    expect_paragraphs("one\n\n  code  here\n  more\n\ntwo", "one\n\n  code  here\n  more\n\ntwo\n");
    expect_paragraphs("one\n  code", "one\n  code\n");
    expect_paragraphs("", "");
}
END_TEST

int main(void) {
    Suite *suite = suite_create("wrap");
    TCase *tests = tcase_create("wrap");
    tcase_add_test(tests, lines_are_full_but_fit);
    tcase_add_test(tests, long_words_stand_alone);
    tcase_add_test(tests, paragraphs_are_joined_and_examples_stay);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
