#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/datasets.h"

enum { BYTES = 100, CONTEXT = 8 };

static struct dataset *open_bytes(const char *validation) {
    unsigned char bytes[BYTES];
    for (int i = 0; i < BYTES; i++)
        bytes[i] = (unsigned char)(i * 2);
    return open_fine(
        PAIRS("kind", "text", "path", scratch_write("text", bytes, BYTES), "context", "8", "validation", validation));
}

START_TEST(splits_off_the_end) {
    struct dataset *dataset = open_bytes("0.2");
    struct batch batch = {0};
    ck_assert_int_eq(dataset->info.form, DATASET_TOKENS);
    ck_assert_uint_eq(dataset->info.context, CONTEXT);
    ck_assert_uint_eq(dataset->info.classes, 256);
    ck_assert_uint_eq(dataset->info.train_samples, 9); /* 80 bytes: 10 windows less one for the shift */
    ck_assert_uint_eq(dataset->info.test_samples, 2);  /* 20 bytes: 2 * 8 + 1 fit */
    ck_assert_int_eq(dataset_read(dataset, DATASET_TEST, 3, (uint64_t[]){1}, 1, &batch, NULL), LG_OK);
    for (int i = 0; i < CONTEXT; i++) {
        ck_assert_int_eq(batch.tokens[i], 2 * (88 + i));
        ck_assert_int_eq(batch.labels[i], 2 * (89 + i));
    }
    batch_deinit(&batch);
    dataset_close(dataset);
}
END_TEST

/* Every window is in the training part, the next follows at stride context, and over the epochs every shift occurs. */
START_TEST(shifts_by_epoch) {
    struct dataset *dataset = open_bytes("0.2");
    struct batch batch = {0};
    uint64_t all[9];
    unsigned shifts = 0;
    for (uint64_t i = 0; i < 9; i++)
        all[i] = i;
    for (uint64_t epoch = 0; epoch < 200; epoch++) {
        ck_assert_int_eq(dataset_read(dataset, DATASET_TRAIN, epoch, all, 9, &batch, NULL), LG_OK);
        int first = batch.tokens[0] / 2;
        ck_assert_int_lt(first, CONTEXT);
        shifts |= 1u << first;
        for (int i = 0; i < 9 * CONTEXT; i++) {
            ck_assert_int_eq(batch.tokens[i], 2 * (first + i));
            ck_assert_int_eq(batch.labels[i], 2 * (first + i + 1));
        }
        ck_assert_int_lt(batch.labels[9 * CONTEXT - 1], 160);
    }
    ck_assert_uint_eq(shifts, (1u << CONTEXT) - 1);
    batch_deinit(&batch);
    dataset_close(dataset);
}
END_TEST

START_TEST(trains_on_everything_when_told) {
    struct dataset *dataset = open_bytes("0");
    ck_assert_uint_eq(dataset->info.test_samples, 0);
    ck_assert_uint_eq(dataset->info.train_samples, 11);
    dataset_close(dataset);
}
END_TEST

START_TEST(refuses_too_short_a_file) {
    expect_refused(PAIRS("kind", "text", "path", scratch_text("short", "hello"), "context", "8"), LG_INVALID,
                   PAIRS("/short\" has 5 bytes", "lower \"dataset.context\""));
    expect_refused(PAIRS("kind", "text", "path", scratch_text("empty", ""), "context", "1"), LG_INVALID,
                   PAIRS("has 0 bytes"));
    expect_refused(PAIRS("kind", "text", "path", "/nonexistent"), LG_NOT_FOUND, PAIRS("\"dataset.path\""));
    expect_refused(PAIRS("kind", "text"), LG_INVALID, PAIRS("path"));
}
END_TEST

START_TEST(reads_tinyshakespeare) {
    const char *path = shared_data("text/tinyshakespeare.txt");
    if (!path)
        return;
    struct dataset *dataset = open_fine(PAIRS("kind", "text", "path", path));
    struct batch batch = {0};
    ck_assert_uint_eq(dataset->info.train_samples, (1115394 - 111539) / 128 - 1);
    ck_assert_uint_eq(dataset->info.test_samples, (111539 - 1) / 128);
    uint64_t last = dataset->info.train_samples - 1;
    ck_assert_int_eq(dataset_read(dataset, DATASET_TRAIN, 5, &last, 1, &batch, NULL), LG_OK);
    for (int i = 0; i < 128; i++)
        ck_assert_int_lt(batch.tokens[i], 128); /* plain ASCII */
    batch_deinit(&batch);
    dataset_close(dataset);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("text");
    TCase *tests = tcase_create("text");
    tcase_set_timeout(tests, 60);
    tcase_add_checked_fixture(tests, scratch_setup, scratch_teardown);
    tcase_add_test(tests, splits_off_the_end);
    tcase_add_test(tests, shifts_by_epoch);
    tcase_add_test(tests, trains_on_everything_when_told);
    tcase_add_test(tests, refuses_too_short_a_file);
    tcase_add_test(tests, reads_tinyshakespeare);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
