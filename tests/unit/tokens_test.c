#include <check.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/support/datasets.h"

enum { TOKENS = 100, CONTEXT = 8 };

/* Ids 500, 503, .. of two bytes each. */
static const char *write_ids(const char *name, int count) {
    static unsigned char bytes[2 * 1000];
    for (int i = 0; i < count; i++) {
        bytes[2 * i] = (unsigned char)(500 + 3 * i);
        bytes[2 * i + 1] = (unsigned char)((500 + 3 * i) >> 8);
    }
    return scratch_write(name, bytes, (size_t)count * 2);
}

#define OPEN(...) open_fine(PAIRS("kind", "tokens", "context", "8", "vocabulary", "1000", __VA_ARGS__))

START_TEST(splits_off_the_end) {
    struct dataset *dataset = OPEN("train", write_ids("ids", TOKENS), "validation", "0.2");
    struct batch batch = {0};
    ck_assert_int_eq(dataset->info.form, DATASET_TOKENS);
    ck_assert_uint_eq(dataset->info.context, CONTEXT);
    ck_assert_uint_eq(dataset->info.classes, 1000);
    ck_assert_uint_eq(dataset->info.train_samples, 9); /* 80 tokens: 10 windows less one for the shift */
    ck_assert_uint_eq(dataset->info.test_samples, 2);  /* 20 tokens: 2 * 8 + 1 fit */
    ck_assert_int_eq(dataset_read(dataset, DATASET_TEST, 3, (uint64_t[]){1}, 1, &batch, NULL), LG_OK);
    for (int i = 0; i < CONTEXT; i++) {
        ck_assert_int_eq(batch.tokens[i], 500 + 3 * (88 + i));
        ck_assert_int_eq(batch.labels[i], 500 + 3 * (89 + i));
    }
    batch_deinit(&batch);
    dataset_close(dataset);
}
END_TEST

START_TEST(two_files) {
    struct dataset *dataset = OPEN("train", write_ids("ids", TOKENS), "test", write_ids("more", 25));
    struct batch batch = {0};
    ck_assert_uint_eq(dataset->info.train_samples, 11); /* validation does not count */
    ck_assert_uint_eq(dataset->info.test_samples, 3);
    ck_assert_int_eq(dataset_read(dataset, DATASET_TEST, 0, (uint64_t[]){2}, 1, &batch, NULL), LG_OK);
    ck_assert_int_eq(batch.tokens[0], 500 + 3 * 16);
    ck_assert_int_eq(batch.labels[CONTEXT - 1], 500 + 3 * 24);
    batch_deinit(&batch);
    dataset_close(dataset);
}
END_TEST

/* Every window is in the training part, the next follows at stride context, and over the epochs every shift occurs. */
START_TEST(shifts_by_epoch) {
    struct dataset *dataset = OPEN("train", write_ids("ids", TOKENS), "validation", "0.2");
    struct batch batch = {0};
    uint64_t all[9];
    unsigned shifts = 0;
    for (uint64_t i = 0; i < 9; i++)
        all[i] = i;
    for (uint64_t epoch = 0; epoch < 200; epoch++) {
        ck_assert_int_eq(dataset_read(dataset, DATASET_TRAIN, epoch, all, 9, &batch, NULL), LG_OK);
        int first = (batch.tokens[0] - 500) / 3;
        ck_assert_int_lt(first, CONTEXT);
        shifts |= 1u << first;
        for (int i = 0; i < 9 * CONTEXT; i++) {
            ck_assert_int_eq(batch.tokens[i], 500 + 3 * (first + i));
            ck_assert_int_eq(batch.labels[i], 500 + 3 * (first + i + 1));
        }
        ck_assert_int_lt(batch.labels[9 * CONTEXT - 1], 500 + 3 * 80);
    }
    ck_assert_uint_eq(shifts, (1u << CONTEXT) - 1);
    batch_deinit(&batch);
    dataset_close(dataset);
}
END_TEST

START_TEST(ids_beyond_the_vocabulary_are_named_with_their_place) {
    const char *path = write_ids("ids", TOKENS);
    expect_refused(
        PAIRS("kind", "tokens", "context", "8", "train", path, "vocabulary", "700"), LG_MALFORMED,
        PAIRS("/ids\" has token id 701 at byte 134 (token 67): expected 0 to 699", "set \"dataset.vocabulary\""));
    expect_refused(
        PAIRS("kind", "tokens", "context", "8", "train", write_ids("low", 40), "test", path, "vocabulary", "700"),
        LG_MALFORMED, PAIRS("/ids\" has token id 701"));
}
END_TEST

/* More than one chunk of the scan; the first bad one is beyond the first chunk. */
START_TEST(large_files_are_checked_to_their_end) {
    size_t count = (3u << 20) / 2 + 11, bad = (2u << 20) / 2 + 5;
    unsigned char *bytes = calloc(count, 2);
    ck_assert_ptr_nonnull(bytes);
    for (size_t i = 0; i < count; i++)
        bytes[2 * i] = (unsigned char)i;
    struct dataset *one = OPEN("train", scratch_write("a", bytes, 2 * count));
    bytes[2 * count - 2]++;
    struct dataset *two = OPEN("train", scratch_write("b", bytes, 2 * count));
    ck_assert_uint_ne(one->info.fingerprint, two->info.fingerprint);
    ck_assert_uint_eq(one->info.train_samples + one->info.test_samples,
                      (count - count / 100) / 8 - 1 + (count / 100 - 1) / 8);
    bytes[2 * bad + 1] = 0xff;
    expect_refused(PAIRS("kind", "tokens", "train", scratch_write("c", bytes, 2 * count)), LG_MALFORMED,
                   PAIRS("(token 1048581)"));
    dataset_close(one);
    dataset_close(two);
    free(bytes);
}
END_TEST

START_TEST(refuses_what_are_no_token_files) {
    expect_refused(PAIRS("kind", "tokens", "train", scratch_text("odd", "abc"), "context", "1"), LG_MALFORMED,
                   PAIRS("/odd\" has 3 bytes: expected an even number"));
    expect_refused(PAIRS("kind", "tokens", "train", scratch_text("empty", ""), "context", "1"), LG_INVALID,
                   PAIRS("there are 0 tokens to train on", "lower \"dataset.context\""));
    expect_refused(
        PAIRS("kind", "tokens", "context", "8", "train", write_ids("ids", TOKENS), "test", write_ids("few", 8)),
        LG_INVALID, PAIRS("and 8 to evaluate on", "/few\"", "at least 16 and 9"));
    expect_refused(PAIRS("kind", "tokens", "train", "/nonexistent"), LG_NOT_FOUND, PAIRS("\"dataset.train\""));
    expect_refused(PAIRS("kind", "tokens", "train", write_ids("ids2", TOKENS), "test", "/nonexistent"), LG_NOT_FOUND,
                   PAIRS("\"dataset.test\""));
    expect_refused(PAIRS("kind", "tokens", "train", "/tmp"), LG_INVALID, PAIRS("not a regular file"));
    expect_refused(PAIRS("kind", "tokens", "train", scratch_text("t.gz", "abcd")), LG_UNSUPPORTED, PAIRS("gunzip"));
    expect_refused(PAIRS("kind", "tokens"), LG_INVALID, PAIRS("train"));
}
END_TEST

/* What happens to the file after it was opened is an error of the read, and no crash. */
START_TEST(files_that_change_are_noticed) {
    const char *path = write_ids("ids", TOKENS);
    struct dataset *dataset = OPEN("train", path, "validation", "0");
    struct batch batch = {0};
    struct lg_error error = {0};
    uint64_t last = dataset->info.train_samples - 1;
    FILE *file = fopen(path, "r+b");
    ck_assert_ptr_nonnull(file);
    ck_assert_uint_eq(fwrite("\xff\xff", 1, 2, file), 2);
    fclose(file);
    enum lg_status status = LG_OK;
    for (uint64_t epoch = 0; epoch < 100 && status == LG_OK; epoch++) /* until a window begins at the first token */
        status = dataset_read(dataset, DATASET_TRAIN, epoch, (uint64_t[]){0}, 1, &batch, &error);
    ck_assert_int_eq(status, LG_MALFORMED);
    ck_assert_ptr_nonnull(strstr(error.message, "token id 65535 at byte 0"));
    ck_assert_int_eq(truncate(path, TOKENS), 0);
    ck_assert_int_eq(dataset_read(dataset, DATASET_TRAIN, 0, &last, 1, &batch, &error), LG_IO);
    ck_assert_ptr_nonnull(strstr(error.message, "shorter than when it was opened"));
    batch_deinit(&batch);
    dataset_close(dataset);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("tokens");
    TCase *tests = tcase_create("tokens");
    tcase_set_timeout(tests, 60);
    tcase_add_checked_fixture(tests, scratch_setup, scratch_teardown);
    tcase_add_test(tests, splits_off_the_end);
    tcase_add_test(tests, two_files);
    tcase_add_test(tests, shifts_by_epoch);
    tcase_add_test(tests, ids_beyond_the_vocabulary_are_named_with_their_place);
    tcase_add_test(tests, large_files_are_checked_to_their_end);
    tcase_add_test(tests, refuses_what_are_no_token_files);
    tcase_add_test(tests, files_that_change_are_noticed);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
