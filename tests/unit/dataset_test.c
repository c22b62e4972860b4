#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/datasets.h"

START_TEST(finds_kinds_and_suggests) {
    const struct dataset_kind *kind = NULL;
    struct lg_error error;
    ck_assert_int_eq(dataset_kind_find("libsvm", &kind, &error), LG_OK);
    ck_assert_str_eq(kind->name, "libsvm");
    ck_assert_int_eq(dataset_kind_find("glyph", &kind, &error), LG_NOT_FOUND);
    ck_assert_ptr_nonnull(
        strstr(error.message, "valid kinds: glyphs, mixture, idx, libsvm, csv, text, tokens, drawn-tokens"));
    ck_assert_ptr_nonnull(strstr(error.message, "did you mean \"glyphs\"?"));
    expect_refused(PAIRS("kind", "mnist"), LG_NOT_FOUND, PAIRS("unknown dataset kind \"mnist\""));
}
END_TEST

START_TEST(marks_its_options_used) {
    struct config *config = config_new();
    struct dataset *dataset;
    ck_assert_int_eq(config_set(config, "dataset.kind", "glyphs", "job.yaml", NULL), LG_OK);
    ck_assert_int_eq(config_set(config, "dataset.seed", "4", "job.yaml", NULL), LG_OK);
    ck_assert_int_eq(config_set(config, "dataset.sed", "4", "job.yaml", NULL), LG_OK);
    ck_assert_int_eq(dataset_open(config, &dataset, NULL), LG_OK);
    ck_assert(config_find(config, "dataset.kind")->used);
    ck_assert(config_find(config, "dataset.seed")->used);
    ck_assert(!config_find(config, "dataset.sed")->used);
    dataset_close(dataset);
    config_free(config);
}
END_TEST

START_TEST(refuses_bad_option_values) {
    expect_refused(PAIRS("kind", "glyphs", "train_samples", "many"), LG_INVALID,
                   PAIRS("dataset.train_samples", "many"));
    expect_refused(PAIRS("kind", "glyphs", "train_samples", "0"), LG_INVALID, PAIRS("dataset.train_samples"));
}
END_TEST

START_TEST(refuses_indices_beyond_the_end) {
    struct dataset *dataset = open_fine(PAIRS("kind", "glyphs", "train_samples", "10", "test_samples", "5"));
    struct batch batch = {0};
    struct lg_error error;
    ck_assert_int_eq(dataset_read(dataset, DATASET_TRAIN, 0, (uint64_t[]){9, 10}, 2, &batch, &error), LG_INVALID);
    ck_assert_ptr_nonnull(
        strstr(error.message, "sample 10 is out of range: the train split of dataset \"glyphs\" has 10"));
    ck_assert_int_eq(dataset_read(dataset, DATASET_TEST, 0, (uint64_t[]){5}, 1, &batch, &error), LG_INVALID);
    ck_assert_int_eq(dataset_read(dataset, DATASET_TEST, 0, NULL, 0, &batch, &error), LG_OK);
    ck_assert_uint_eq(batch.count, 0);
    batch_deinit(&batch);
    dataset_close(dataset);
    dataset_close(NULL);
}
END_TEST

START_TEST(batches_grow_and_are_reused) {
    struct dataset *dataset = open_fine(PAIRS("kind", "glyphs"));
    struct batch batch = {0};
    uint64_t indices[64] = {0};
    ck_assert_int_eq(dataset_read(dataset, DATASET_TRAIN, 0, indices, 64, &batch, NULL), LG_OK);
    float *features = batch.features;
    ck_assert_int_eq(dataset_read(dataset, DATASET_TRAIN, 0, indices, 3, &batch, NULL), LG_OK);
    ck_assert_ptr_eq(batch.features, features);
    ck_assert_uint_eq(batch.count, 3);
    batch_deinit(&batch);
    ck_assert_ptr_null(batch.features);
    batch_deinit(&batch);
    dataset_close(dataset);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("dataset");
    TCase *tests = tcase_create("dataset");
    tcase_add_test(tests, finds_kinds_and_suggests);
    tcase_add_test(tests, marks_its_options_used);
    tcase_add_test(tests, refuses_bad_option_values);
    tcase_add_test(tests, refuses_indices_beyond_the_end);
    tcase_add_test(tests, batches_grow_and_are_reused);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
