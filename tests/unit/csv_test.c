#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/datasets.h"
#include "worker/datasets/readers.h"

static const char flowers[] = "\xef\xbb\xbflength,width,kind\r\n"
                              "1.5, 2 ,rose\r\n"
                              "-3,4e1,\"lily, white\"\r\n"
                              "0,0,aster\r\n"
                              "\r\n";

static struct dataset *open_csv(const char *train, const char *test, const char *key, const char *value) {
    return open_fine(PAIRS("kind", "csv", "train", scratch_text("train", train), "test", scratch_text("test", test),
                           "normalise", "no", key, value));
}

static void refuse(const char *text, const char *label, enum lg_status status, const char *const *parts) {
    const char *path = scratch_text("bad", text);
    expect_refused(PAIRS("kind", "csv", "train", path, "test", path, "label", label), status, parts);
}

START_TEST(reads_names_quotes_and_sorted_labels) {
    struct dataset *dataset = open_csv(flowers, flowers, "label", "kind");
    struct batch batch = {0};
    ck_assert_int_eq(dataset->info.form, DATASET_DENSE);
    ck_assert_uint_eq(dataset->info.train_samples, 3);
    ck_assert_uint_eq(dataset->info.width, 2);
    ck_assert_uint_eq(dataset->info.classes, 3);
    ck_assert_int_eq(dataset_read(dataset, DATASET_TEST, 0, (uint64_t[]){0, 1, 2}, 3, &batch, NULL), LG_OK);
    const int32_t labels[] = {2, 1, 0};
    const float features[] = {1.5f, 2, -3, 40, 0, 0};
    ck_assert_int_eq(memcmp(batch.labels, labels, sizeof labels), 0);
    ck_assert(same_floats(batch.features, features, 6));
    batch_deinit(&batch);
    dataset_close(dataset);
}
END_TEST

static void expect_labels(struct dataset *dataset, uint32_t width, const int32_t labels[2]) {
    struct batch batch = {0};
    ck_assert_uint_eq(dataset->info.train_samples, 2);
    ck_assert_uint_eq(dataset->info.width, width);
    ck_assert_int_eq(dataset_read(dataset, DATASET_TRAIN, 0, (uint64_t[]){0, 1}, 2, &batch, NULL), LG_OK);
    ck_assert_int_eq(memcmp(batch.labels, labels, 2 * sizeof *labels), 0);
    batch_deinit(&batch);
    dataset_close(dataset);
}

START_TEST(finds_label_and_header) {
    expect_labels(open_csv("1,5,0\n0,6,1\n", "1,5,0\n", "label", "last"), 2, (const int32_t[]){0, 1});
    expect_labels(open_csv("1,5,0\n0,6,1\n", "1,5,0\n", "label", "0"), 2, (const int32_t[]){1, 0});
    expect_labels(open_csv("x,y\n0,a\n1,b\n", "x,y\n0,a\n", "header", "auto"), 1, (const int32_t[]){0, 1});
    expect_labels(open_csv("0,a\n1,b\n", "0,a\n", "header", "auto"), 1, (const int32_t[]){0, 1});
    expect_labels(open_csv("2019,y\n0,a\n1,b\n", "2019,y\n0,a\n", "header", "yes"), 1, (const int32_t[]){0, 1});
    expect_labels(open_csv("1;5;0\n0;6;1\n", "1;5;0\n", "separator", "semicolon"), 2, (const int32_t[]){0, 1});
    expect_labels(open_csv("1\t5\t0\n0\t6\t1\n", "1\t5\t0\n", "separator", "tab"), 2, (const int32_t[]){0, 1});
    expect_labels(open_csv("1,\"say \"\"a\"\"\"\n0,b\n", "1,b\n", "label", "last"), 1, (const int32_t[]){1, 0});
    expect_labels(open_csv("1,2\n0,10\n", "1,2\n", "label", "last"), 1, (const int32_t[]){0, 1}); /* by value */
}
END_TEST

START_TEST(normalises_by_the_training_rows) {
    struct dataset *dataset = open_fine(PAIRS("kind", "csv", "train", scratch_text("train", "1,7,0\n3,7,1\n"), "test",
                                              scratch_text("test", "5,8,1\n")));
    struct batch batch = {0};
    ck_assert_int_eq(dataset_read(dataset, DATASET_TRAIN, 0, (uint64_t[]){0, 1}, 2, &batch, NULL), LG_OK);
    const float train[] = {-1, 0, 1, 0}, test[] = {3, 1}; /* a constant column is only shifted */
    ck_assert(same_floats(batch.features, train, 4));
    ck_assert_int_eq(dataset_read(dataset, DATASET_TEST, 0, (uint64_t[]){0}, 1, &batch, NULL), LG_OK);
    ck_assert(same_floats(batch.features, test, 2));
    batch_deinit(&batch);
    dataset_close(dataset);
}
END_TEST

START_TEST(names_line_column_and_expectation) {
    refuse("1,0\nnan,1\n", "last", LG_NONFINITE, PAIRS("/bad\" line 2", "column 0 is \"nan\"", "finite number"));
    refuse("1,0\n-inf,1\n", "last", LG_NONFINITE, PAIRS("line 2", "\"-inf\""));
    refuse("1,0\n1e60,1\n", "last", LG_NONFINITE, PAIRS("line 2"));
    refuse("1,0\n,1\n", "last", LG_MALFORMED, PAIRS("line 2", "column 0 is \"\"", "expected a number"));
    refuse("1,0\n1,\n", "last", LG_MALFORMED, PAIRS("line 2", "column 1 is empty", "expected a label"));
    refuse("1,0\n1,2,0\n", "last", LG_MALFORMED, PAIRS("line 2", "3 fields", "expected 2"));
    refuse("1,0\n1\n", "last", LG_MALFORMED, PAIRS("line 2", "1 fields"));
    refuse("1,0\n\n2,1\n", "last", LG_MALFORMED, PAIRS("line 2", "is empty"));
    refuse("1,0\n0x10,1\n", "last", LG_MALFORMED, PAIRS("line 2", "\"0x10\""));
    refuse("1,0\n1 2,1\n", "last", LG_MALFORMED, PAIRS("line 2", "\"1 2\""));
    refuse("1,0\n\"1,1\n", "last", LG_MALFORMED, PAIRS("line 2", "closing quote"));
    refuse("1,0\n\"1\"x,1\n", "last", LG_MALFORMED, PAIRS("line 2", "closing quote"));
    refuse("a,1,b\n1,2,3\n", "last", LG_MALFORMED, PAIRS("line 1", "\"dataset.header\""));
}
END_TEST

START_TEST(names_bad_columns_and_labels) {
    refuse("a,b\n1,0\n2,1\n", "kind", LG_INVALID, PAIRS("line 1", "\"kind\"", "\"dataset.label\""));
    refuse("1,0\n2,1\n", "2", LG_INVALID, PAIRS("2 columns", "at most 1", "not 2"));
    refuse("1\n2\n", "last", LG_MALFORMED, PAIRS("one column"));
    refuse("", "last", LG_MALFORMED, PAIRS("no rows"));
    refuse("a,b\n", "last", LG_MALFORMED, PAIRS("no rows"));
    refuse("1,0\n2,0\n", "last", LG_MALFORMED, PAIRS("only the label \"0\""));
    expect_refused(
        PAIRS("kind", "csv", "train", scratch_text("a", "1,0\n2,1\n"), "test", scratch_text("b", "1,0\n2,2\n")),
        LG_MALFORMED, PAIRS("/b\" line 2", "label \"2\" is out of range", "\"0\" to \"1\""));
    expect_refused(PAIRS("kind", "csv", "train", scratch_text("a", "1,0\n2,1\n"), "test", scratch_text("b", "1,1,0\n")),
                   LG_MALFORMED, PAIRS("2 columns", "3 (label 2)", "expected the same"));
    expect_refused(
        PAIRS("kind", "csv", "train", scratch_text("a", "x,y\n1,0\n2,1\n"), "test", scratch_text("b", "z,y\n1,0\n")),
        LG_MALFORMED, PAIRS("different headers"));
    expect_refused(PAIRS("kind", "csv", "train", "/nonexistent", "test", "x"), LG_NOT_FOUND,
                   PAIRS("\"/nonexistent\"", "\"dataset.train\""));
}
END_TEST

START_TEST(refuses_a_number_column_as_label) {
    struct buf {
        char *text;
        size_t bytes;
    } buf;
    FILE *file = open_memstream(&buf.text, &buf.bytes);
    for (int i = 0; i < 5000; i++)
        fprintf(file, "1,%d.5\n", i);
    fclose(file);
    refuse(buf.text, "last", LG_INVALID, PAIRS("line 4097", "more than 4096 distinct labels", "\"dataset.label\""));
    free(buf.text);
}
END_TEST

START_TEST(numbers_are_read_exactly) {
    const char *const texts[] = {"0",
                                 "-0",
                                 "1",
                                 "+2.5",
                                 "-3.",
                                 ".5",
                                 "0.1",
                                 "123456789012345",
                                 "1.17549435e-38",
                                 "9999999999999999999",
                                 "0.3333333333333333333",
                                 "1e5",
                                 "3.4028235e38"};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        float number;
        ck_assert_int_eq(input_number(texts[i], &number), LG_OK);
        ck_assert_float_eq(number, (float)strtod(texts[i], NULL));
    }
    const char *const refused[] = {"", "-", ".", "+.", "1x", " 1", "1 ", "0x1", "--1", "1e", "one"};
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++) {
        float number;
        ck_assert_msg(input_number(refused[i], &number) == LG_MALFORMED, "\"%s\"", refused[i]);
    }
}
END_TEST

int main(void) {
    Suite *suite = suite_create("csv");
    TCase *tests = tcase_create("csv");
    tcase_set_timeout(tests, 60);
    tcase_add_checked_fixture(tests, scratch_setup, scratch_teardown);
    tcase_add_test(tests, reads_names_quotes_and_sorted_labels);
    tcase_add_test(tests, finds_label_and_header);
    tcase_add_test(tests, normalises_by_the_training_rows);
    tcase_add_test(tests, names_line_column_and_expectation);
    tcase_add_test(tests, names_bad_columns_and_labels);
    tcase_add_test(tests, refuses_a_number_column_as_label);
    tcase_add_test(tests, numbers_are_read_exactly);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
