#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/datasets.h"

enum { PIXELS = 784 };

static void read_one(struct dataset *dataset, enum dataset_split split, uint64_t epoch, uint64_t index,
                     float image[PIXELS]) {
    struct batch batch = {0};
    ck_assert_int_eq(dataset_read(dataset, split, epoch, &index, 1, &batch, NULL), LG_OK);
    ck_assert_int_eq(batch.labels[0], (int)(index % 10));
    memcpy(image, batch.features, PIXELS * sizeof *image);
    batch_deinit(&batch);
}

static bool same(const float *a, const float *b) {
    return same_floats(a, b, PIXELS);
}

START_TEST(needs_no_options) {
    struct dataset *dataset = open_fine((const char *const[]){NULL});
    ck_assert_str_eq(dataset->kind->name, "glyphs");
    ck_assert_uint_eq(dataset->info.train_samples, 20000);
    ck_assert_uint_eq(dataset->info.test_samples, 2000);
    ck_assert_uint_eq(dataset->info.width, PIXELS);
    ck_assert_uint_eq(dataset->info.classes, 10);
    dataset_close(dataset);
}
END_TEST

START_TEST(draws_the_same_for_the_same_place) {
    struct dataset *one = open_fine(PAIRS("kind", "glyphs")), *two = open_fine(PAIRS("kind", "glyphs"));
    struct dataset *other = open_fine(PAIRS("kind", "glyphs", "seed", "2"));
    float a[PIXELS], b[PIXELS];
    read_one(one, DATASET_TRAIN, 3, 17, a);
    read_one(two, DATASET_TRAIN, 3, 17, b);
    ck_assert(same(a, b));
    read_one(two, DATASET_TRAIN, 4, 17, b);
    ck_assert(!same(a, b));
    read_one(two, DATASET_TRAIN, 3, 27, b);
    ck_assert(!same(a, b));
    read_one(two, DATASET_TEST, 3, 17, b);
    ck_assert(!same(a, b));
    read_one(other, DATASET_TRAIN, 3, 17, b);
    ck_assert(!same(a, b));
    ck_assert_uint_ne(one->info.fingerprint, other->info.fingerprint);
    read_one(one, DATASET_TEST, 0, 17, a); /* the test split is one set for all epochs */
    read_one(two, DATASET_TEST, 9, 17, b);
    ck_assert(same(a, b));
    dataset_close(one);
    dataset_close(two);
    dataset_close(other);
}
END_TEST

START_TEST(keeps_its_drawings_when_told) {
    struct dataset *dataset = open_fine(PAIRS("kind", "glyphs", "fresh", "no"));
    float a[PIXELS], b[PIXELS];
    read_one(dataset, DATASET_TRAIN, 0, 5, a);
    read_one(dataset, DATASET_TRAIN, 8, 5, b);
    ck_assert(same(a, b));
    dataset_close(dataset);
}
END_TEST

START_TEST(features_are_about_standard) {
    struct dataset *dataset = open_fine(PAIRS("kind", "glyphs"));
    double sum = 0, squares = 0;
    float image[PIXELS];
    enum { IMAGES = 500 };
    for (uint64_t i = 0; i < IMAGES; i++) {
        read_one(dataset, DATASET_TRAIN, 0, i, image);
        for (int j = 0; j < PIXELS; j++) {
            ck_assert(isfinite(image[j]));
            sum += image[j];
            squares += image[j] * image[j];
        }
    }
    double mean = sum / (IMAGES * PIXELS), deviation = sqrt(squares / (IMAGES * PIXELS) - mean * mean);
    ck_assert_double_eq_tol(mean, 0, 0.1);
    ck_assert_double_eq_tol(deviation, 1, 0.15);
    dataset_close(dataset);
}
END_TEST

/* The mean image of a digit is nearer to the digit's own drawings than other digits' means: labels mean something.
 * Chance would be 10 %; this crude rule gets about two thirds. */
START_TEST(digits_look_alike) {
    struct dataset *dataset = open_fine(PAIRS("kind", "glyphs", "noise", "0.05"));
    static float mean[10][PIXELS], image[PIXELS];
    int right = 0;
    for (uint64_t i = 0; i < 2000; i++) {
        read_one(dataset, DATASET_TRAIN, 0, i, image);
        for (int j = 0; j < PIXELS; j++)
            mean[i % 10][j] += image[j] / 200;
    }
    for (uint64_t i = 0; i < 1000; i++) {
        int best = 0;
        float least = INFINITY;
        read_one(dataset, DATASET_TEST, 0, i, image);
        for (int digit = 0; digit < 10; digit++) {
            float distance = 0;
            for (int j = 0; j < PIXELS; j++)
                distance += (image[j] - mean[digit][j]) * (image[j] - mean[digit][j]);
            best = distance < least ? digit : best;
            least = distance < least ? distance : least;
        }
        right += best == (int)(i % 10);
    }
    ck_assert_int_gt(right, 500);
    dataset_close(dataset);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("glyphs");
    TCase *tests = tcase_create("glyphs");
    tcase_set_timeout(tests, 60);
    tcase_add_test(tests, needs_no_options);
    tcase_add_test(tests, draws_the_same_for_the_same_place);
    tcase_add_test(tests, keeps_its_drawings_when_told);
    tcase_add_test(tests, features_are_about_standard);
    tcase_add_test(tests, digits_look_alike);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
