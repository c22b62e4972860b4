#include <check.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/support/datasets.h"
#include "worker/datasets/readers.h"

/* Three images of 2x2 with labels 0, 1, 9. */
static const unsigned char images[] = {0, 0, 8, 3, 0, 0, 0, 3, 0, 0, 0, 2, 0,  0,
                                       0, 2, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11};
static const unsigned char labels[] = {0, 0, 8, 1, 0, 0, 0, 3, 0, 1, 9};

static const char *keys[] = {"kind", "idx",         "train_images", NULL, "train_labels", NULL, "test_images",
                             NULL,   "test_labels", NULL,           NULL};
enum { TRAIN_IMAGES = 3, TRAIN_LABELS = 5, TEST_IMAGES = 7, TEST_LABELS = 9 };

static void setup(void) {
    scratch_setup();
    keys[TRAIN_IMAGES] = keys[TEST_IMAGES] = scratch_write("images", images, sizeof images);
    keys[TRAIN_LABELS] = keys[TEST_LABELS] = scratch_write("labels", labels, sizeof labels);
}

static const char *const *with(int at, const void *bytes, size_t count) {
    keys[at] = scratch_write("changed", bytes, count);
    return keys;
}

START_TEST(reads_images_and_labels) {
    struct dataset *dataset = open_fine(keys);
    struct batch batch = {0};
    ck_assert_int_eq(dataset->info.form, DATASET_DENSE);
    ck_assert_uint_eq(dataset->info.train_samples, 3);
    ck_assert_uint_eq(dataset->info.width, 4);
    ck_assert_uint_eq(dataset->info.channels, 1);
    ck_assert_uint_eq(dataset->info.height, 2);
    ck_assert_uint_eq(dataset->info.image_width, 2);
    ck_assert_uint_eq(dataset->info.classes, 10);
    ck_assert_int_eq(dataset_read(dataset, DATASET_TRAIN, 0, (uint64_t[]){2, 0}, 2, &batch, NULL), LG_OK);
    ck_assert_int_eq(batch.labels[0], 9);
    ck_assert_int_eq(batch.labels[1], 0);
    ck_assert_float_eq_tol(batch.features[3], (float)((11 / 255.0 - 0.1307) / 0.3081), 1e-6f);
    ck_assert_float_eq_tol(batch.features[4], (float)(-0.1307 / 0.3081), 1e-6f);
    batch_deinit(&batch);
    dataset_close(dataset);
}
END_TEST

START_TEST(scales_as_told) {
    struct dataset *dataset = open_fine(PAIRS("kind", "idx", "train_images", keys[3], "train_labels", keys[5],
                                              "test_images", keys[3], "test_labels", keys[5], "mean", "0", "std", "1"));
    struct batch batch = {0};
    ck_assert_int_eq(dataset_read(dataset, DATASET_TEST, 0, (uint64_t[]){2}, 1, &batch, NULL), LG_OK);
    ck_assert_float_eq(batch.features[0], (float)(8 / 255.0));
    batch_deinit(&batch);
    dataset_close(dataset);
}
END_TEST

START_TEST(finds_the_usual_names_in_a_folder) {
    scratch_write("train-images-idx3-ubyte.gz", images, sizeof images);
    scratch_write("train-labels-idx1-ubyte", labels, sizeof labels);
    scratch_write("t10k-images-idx3-ubyte", images, sizeof images);
    scratch_write("t10k-labels-idx1-ubyte.gz", labels, sizeof labels);
    struct dataset *packed = open_fine(PAIRS("kind", "idx", "path", scratch_folder()));
    struct dataset *plain = open_fine(keys);
    ck_assert_uint_eq(packed->info.fingerprint, plain->info.fingerprint); /* packing does not matter */
    dataset_close(packed);
    dataset_close(plain);
}
END_TEST

START_TEST(says_which_file_is_missing) {
    expect_refused(PAIRS("kind", "idx"), LG_INVALID, PAIRS("\"dataset.path\"", "\"dataset.train_images\""));
    expect_refused(PAIRS("kind", "idx", "path", "/nonexistent"), LG_NOT_FOUND,
                   PAIRS("\"/nonexistent/train-images-idx3-ubyte\"", "No such file", "\"dataset.train_images\""));
    keys[TEST_LABELS] = "/nonexistent/labels";
    expect_refused(keys, LG_NOT_FOUND, PAIRS("\"/nonexistent/labels\"", "\"dataset.test_labels\""));
    keys[TEST_LABELS] = "/tmp";
    expect_refused(keys, LG_INVALID, PAIRS("not a regular file"));
}
END_TEST

START_TEST(refuses_truncation_at_every_byte) {
    for (size_t bytes = 0; bytes < sizeof images; bytes++) {
        struct input input;
        struct idx_array array;
        struct lg_error error = {0};
        input_open_memory(&input, "short", images, bytes);
        ck_assert_int_eq(idx_parse(&input, 3, 4, "images", &array, &error), LG_MALFORMED);
        ck_assert_msg(strstr(error.message, "truncated") != NULL, "%s", error.message);
        input_close(&input);
    }
    expect_refused(with(TRAIN_IMAGES, images, 20), LG_MALFORMED,
                   PAIRS("/changed\" is truncated", "promises 3 images of 4 bytes = 12 bytes", "has 4"));
}
END_TEST

START_TEST(refuses_too_much) {
    unsigned char longer[sizeof labels + 1] = {0};
    memcpy(longer, labels, sizeof labels);
    expect_refused(with(TEST_LABELS, longer, sizeof longer), LG_MALFORMED, PAIRS("too long", "promises 3 labels"));
}
END_TEST

START_TEST(refuses_other_magic) {
    expect_refused(with(TRAIN_IMAGES, labels, sizeof labels), LG_MALFORMED,
                   PAIRS("magic 0x00000801", "expected 0x00000803", "images and labels swapped"));
    expect_refused(with(TRAIN_IMAGES, "\x89PNG....", 8), LG_MALFORMED, PAIRS("magic 0x89504e47"));
}
END_TEST

START_TEST(refuses_counts_that_differ) {
    static const unsigned char two[] = {0, 0, 8, 1, 0, 0, 0, 2, 0, 1};
    expect_refused(with(TRAIN_LABELS, two, sizeof two), LG_MALFORMED, PAIRS("2 labels", "3 images", "/changed"));
}
END_TEST

START_TEST(refuses_labels_out_of_range) {
    static const unsigned char bad[] = {0, 0, 8, 1, 0, 0, 0, 3, 0, 10, 1};
    expect_refused(with(TRAIN_LABELS, bad, sizeof bad), LG_MALFORMED,
                   PAIRS("label 10 at byte 9", "expected 0 to 9", "dataset.classes"));
}
END_TEST

/* Sizes that promise terabytes cost what the file has, nothing more. */
START_TEST(does_not_believe_headers) {
    static const unsigned char huge[] = {0, 0, 8, 3, 0xff, 0xff, 0xff, 0xff, 0, 0, 0x10, 0, 0, 0, 0x10, 0, 1, 2, 3};
    expect_refused(with(TRAIN_IMAGES, huge, sizeof huge), LG_MALFORMED, PAIRS("truncated", "has 3"));
    static const unsigned char huger[] = {0, 0, 8, 3, 0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
    expect_refused(with(TRAIN_IMAGES, huger, sizeof huger), LG_MALFORMED, PAIRS("claims items of over"));
    static const unsigned char zero[] = {0, 0, 8, 3, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1};
    expect_refused(with(TRAIN_IMAGES, zero, sizeof zero), LG_MALFORMED, PAIRS("size 0 at byte 8"));
}
END_TEST

START_TEST(refuses_damaged_gzip) {
    keys[TRAIN_IMAGES] = scratch_write("images.gz", images, sizeof images);
    FILE *file = fopen(keys[TRAIN_IMAGES], "r+b");
    fseek(file, 0, SEEK_END);
    ck_assert_int_eq(ftruncate(fileno(file), ftell(file) - 9), 0);
    fclose(file);
    expect_refused(keys, LG_MALFORMED, PAIRS("images.gz\" cannot be read beyond byte", "damaged or cut short"));
}
END_TEST

START_TEST(wants_one_shape_in_both_splits) {
    static const unsigned char wide[] = {0, 0, 8, 3, 0, 0, 0, 3, 0, 0, 0, 1, 0, 0,
                                         0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0};
    expect_refused(with(TEST_IMAGES, wide, sizeof wide), LG_MALFORMED, PAIRS("expected the same"));
}
END_TEST

START_TEST(reads_mnist) {
    const char *path = shared_data("mnist");
    if (!path)
        return;
    struct dataset *dataset = open_fine(PAIRS("kind", "idx", "path", path));
    struct batch batch = {0};
    ck_assert_uint_eq(dataset->info.train_samples, 60000);
    ck_assert_uint_eq(dataset->info.test_samples, 10000);
    ck_assert_uint_eq(dataset->info.width, 784);
    ck_assert_int_eq(dataset_read(dataset, DATASET_TRAIN, 0, (uint64_t[]){0, 1, 2, 3, 4}, 5, &batch, NULL), LG_OK);
    const int32_t first[] = {5, 0, 4, 1, 9}; /* as everyone knows them */
    ck_assert_int_eq(memcmp(batch.labels, first, sizeof first), 0);
    batch_deinit(&batch);
    dataset_close(dataset);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("idx");
    TCase *tests = tcase_create("idx");
    tcase_set_timeout(tests, 60);
    tcase_add_checked_fixture(tests, setup, scratch_teardown);
    tcase_add_test(tests, reads_images_and_labels);
    tcase_add_test(tests, scales_as_told);
    tcase_add_test(tests, finds_the_usual_names_in_a_folder);
    tcase_add_test(tests, says_which_file_is_missing);
    tcase_add_test(tests, refuses_truncation_at_every_byte);
    tcase_add_test(tests, refuses_too_much);
    tcase_add_test(tests, refuses_other_magic);
    tcase_add_test(tests, refuses_counts_that_differ);
    tcase_add_test(tests, refuses_labels_out_of_range);
    tcase_add_test(tests, does_not_believe_headers);
    tcase_add_test(tests, refuses_damaged_gzip);
    tcase_add_test(tests, wants_one_shape_in_both_splits);
    tcase_add_test(tests, reads_mnist);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
