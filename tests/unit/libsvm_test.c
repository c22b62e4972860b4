#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/datasets.h"
#include "worker/datasets/readers.h"

static const char plain[] = "1 1:0.5 3:-2 # a comment\n"
                            "\n"
                            "0 qid:7 2:1e-3\r\n"
                            "# only a comment\n"
                            "2";

static struct dataset *open_text(const char *train, const char *test, const char *base) {
    return open_fine(PAIRS("kind", "libsvm", "train", scratch_text("train", train), "test", scratch_text("test", test),
                           "index_base", base));
}

static void refuse(const char *text, enum lg_status status, const char *const *parts) {
    expect_refused(PAIRS("kind", "libsvm", "train", scratch_text("bad", text), "test", scratch_text("good", "1 1:1\n")),
                   status, parts);
}

START_TEST(reads_rows) {
    struct dataset *dataset = open_text(plain, "0 5:1\n", "1");
    struct batch batch = {0};
    ck_assert_int_eq(dataset->info.form, DATASET_SPARSE);
    ck_assert_uint_eq(dataset->info.train_samples, 3);
    ck_assert_uint_eq(dataset->info.test_samples, 1);
    ck_assert_uint_eq(dataset->info.width, 5); /* the widest of both files */
    ck_assert_uint_eq(dataset->info.classes, 3);
    ck_assert_int_eq(dataset_read(dataset, DATASET_TRAIN, 0, (uint64_t[]){2, 0, 1}, 3, &batch, NULL), LG_OK);
    const uint32_t starts[] = {0, 0, 2, 3}, columns[] = {0, 2, 1};
    const float values[] = {0.5f, -2, 1e-3f};
    const int32_t labels[] = {2, 1, 0};
    ck_assert_int_eq(memcmp(batch.row_starts, starts, sizeof starts), 0);
    ck_assert_int_eq(memcmp(batch.columns, columns, sizeof columns), 0);
    ck_assert(same_floats(batch.values, values, 3));
    ck_assert_int_eq(memcmp(batch.labels, labels, sizeof labels), 0);
    batch_deinit(&batch);
    dataset_close(dataset);
}
END_TEST

static void expect_labels(const char *text, uint32_t classes, const int32_t labels[3]) {
    struct dataset *dataset = open_text(text, text, "0");
    struct batch batch = {0};
    ck_assert_uint_eq(dataset->info.classes, classes);
    ck_assert_int_eq(dataset_read(dataset, DATASET_TEST, 0, (uint64_t[]){0, 1, 2}, 3, &batch, NULL), LG_OK);
    ck_assert_int_eq(memcmp(batch.labels, labels, 3 * sizeof *labels), 0);
    batch_deinit(&batch);
    dataset_close(dataset);
}

START_TEST(maps_labels) {
    expect_labels("-1 0:1\n+1 0:1\n-1\n", 2, (const int32_t[]){0, 1, 0});
    expect_labels("0\n1\n0\n", 2, (const int32_t[]){0, 1, 0});
    expect_labels("1\n2\n3\n", 3, (const int32_t[]){0, 1, 2});
    expect_labels("0\n7.0\n3\n", 8, (const int32_t[]){0, 7, 3});
}
END_TEST

START_TEST(keeps_the_base_apart) {
    struct dataset *zero = open_text("0 0:1\n1 2:1\n", "0 1:1\n", "0");
    struct dataset *one = open_text("0 1:1\n1 3:1\n", "0 2:1\n", "1");
    ck_assert_uint_eq(zero->info.width, 3);
    ck_assert_uint_eq(one->info.fingerprint, zero->info.fingerprint); /* the same rows, written differently */
    dataset_close(zero);
    dataset_close(one);
    refuse("0 0:1\n1 2:1\n", LG_MALFORMED, PAIRS("line 1", "expected indices from 1", "\"dataset.index_base\""));
}
END_TEST

START_TEST(names_line_and_expectation) {
    refuse("0 1:1\n1 2;1\n", LG_MALFORMED, PAIRS("/bad\" line 2", "\"2;1\"", "expected \"index:value\""));
    refuse("0 1:1\nx 2:1\n", LG_MALFORMED, PAIRS("line 2", "label \"x\"", "expected a number"));
    refuse("0 1:1\n1 2:x\n", LG_MALFORMED, PAIRS("line 2", "value \"x\" of index 2", "finite number"));
    refuse("0 1:1\n1 2:nan\n", LG_NONFINITE, PAIRS("line 2", "\"nan\""));
    refuse("0 1:1\n1 2:1e39\n", LG_NONFINITE, PAIRS("line 2"));
    refuse("0 1:1\ninf 2:1\n", LG_NONFINITE, PAIRS("line 2"));
    refuse("0 1:1\n1 2:1 2:1\n", LG_MALFORMED, PAIRS("line 2", "index 2 after 2", "ascending"));
    refuse("0 1:1\n1 3:1 2:1\n", LG_MALFORMED, PAIRS("index 2 after 3"));
    refuse("0 1:1\n1 -2:1\n", LG_MALFORMED, PAIRS("index \"-2\"", "whole number"));
    refuse("0 1:1\n1 99999999999999999999:1\n", LG_MALFORMED, PAIRS("whole number from 1"));
}
END_TEST

START_TEST(names_bad_labels) {
    refuse("0 1:1\n0.5 2:1\n", LG_MALFORMED, PAIRS("line 2", "label 0.5"));
    refuse("-1 1:1\n2 2:1\n", LG_MALFORMED, PAIRS("line 2", "label 2", "-1 or 1"));
    refuse("-2 1:1\n2 2:1\n", LG_MALFORMED, PAIRS("line 1", "label -2"));
    refuse("1 1:1\n1 2:1\n", LG_MALFORMED, PAIRS("only the label 1", "two classes"));
    expect_refused(PAIRS("kind", "libsvm", "train", scratch_text("a", "0 1:1\n1 1:1\n"), "test",
                         scratch_text("b", "0 1:1\n2 1:1\n")),
                   LG_MALFORMED, PAIRS("/b\" line 2", "label 2", "expected 0 to 1", "dataset.classes"));
}
END_TEST

START_TEST(holds_to_the_width) {
    struct dataset *dataset = open_fine(PAIRS("kind", "libsvm", "train", scratch_text("a", "0 1:1\n1 1:1\n"), "test",
                                              scratch_text("b", "1 2:1\n"), "width", "100", "classes", "5"));
    ck_assert_uint_eq(dataset->info.width, 100);
    ck_assert_uint_eq(dataset->info.classes, 5);
    dataset_close(dataset);
    expect_refused(PAIRS("kind", "libsvm", "train", scratch_text("c", "0 1:1\n1 1:1\n"), "test",
                         scratch_text("d", "1 101:1\n"), "width", "100"),
                   LG_MALFORMED, PAIRS("/d\" line 1", "index 101", "at most 100", "\"dataset.width\""));
}
END_TEST

START_TEST(refuses_what_is_no_text) {
    struct input input;
    struct libsvm_rows rows;
    struct lg_error error;
    input_open_memory(&input, "binary", "1 1:1\n1\0002", 9);
    ck_assert_int_eq(libsvm_parse(&input, 1, 0, &rows, &error), LG_MALFORMED);
    ck_assert_ptr_nonnull(strstr(error.message, "line 2"));
    ck_assert_ptr_nonnull(strstr(error.message, "NUL byte"));
    input_close(&input);
    refuse("", LG_MALFORMED, PAIRS("no rows"));
    refuse("\n\n# nothing\n", LG_MALFORMED, PAIRS("no rows"));
    expect_refused(PAIRS("kind", "libsvm", "train", "/nonexistent", "test", "/nonexistent"), LG_NOT_FOUND,
                   PAIRS("\"/nonexistent\"", "\"dataset.train\""));
}
END_TEST

START_TEST(reads_agaricus) {
    char train[4096];
    const char *path = shared_data("libsvm/agaricus.train");
    snprintf(train, sizeof train, "%s", path ? path : "");
    const char *test = path ? shared_data("libsvm/agaricus.test") : NULL;
    if (!test)
        return;
    struct dataset *dataset = open_fine(PAIRS("kind", "libsvm", "train", train, "test", test));
    ck_assert_uint_eq(dataset->info.train_samples, 6513);
    ck_assert_uint_eq(dataset->info.test_samples, 1611);
    ck_assert_uint_eq(dataset->info.width, 126);
    ck_assert_uint_eq(dataset->info.classes, 2);
    dataset_close(dataset);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("libsvm");
    TCase *tests = tcase_create("libsvm");
    tcase_set_timeout(tests, 60);
    tcase_add_checked_fixture(tests, scratch_setup, scratch_teardown);
    tcase_add_test(tests, reads_rows);
    tcase_add_test(tests, maps_labels);
    tcase_add_test(tests, keeps_the_base_apart);
    tcase_add_test(tests, names_line_and_expectation);
    tcase_add_test(tests, names_bad_labels);
    tcase_add_test(tests, holds_to_the_width);
    tcase_add_test(tests, refuses_what_is_no_text);
    tcase_add_test(tests, reads_agaricus);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
