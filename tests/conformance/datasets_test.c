/* Every dataset of the registry keeps the same promises. A new entry needs a case in `examples`, nothing else. */
#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/datasets.h"

static const unsigned char images[] = {0, 0, 8, 3, 0, 0, 0, 3, 0, 0, 0, 1, 0, 0, 0, 2, 0, 1, 2, 3, 4, 5};
static const unsigned char labels[] = {0, 0, 8, 1, 0, 0, 0, 3, 0, 1, 2};

/* Opens a small example of `kind`. `variant` 1 has other content of the same size. */
static struct dataset *open_example(const struct dataset_kind *kind, int variant) {
    if (strcmp(kind->name, "glyphs") == 0)
        return open_fine(
            PAIRS("kind", "glyphs", "train_samples", "12", "test_samples", "4", "seed", variant ? "2" : "1"));
    if (strcmp(kind->name, "idx") == 0) {
        unsigned char changed[sizeof images];
        memcpy(changed, images, sizeof images);
        changed[sizeof images - 1] = (unsigned char)(changed[sizeof images - 1] + variant);
        const char *i = scratch_write("i", changed, sizeof changed), *l = scratch_write("l", labels, sizeof labels);
        return open_fine(
            PAIRS("kind", "idx", "train_images", i, "train_labels", l, "test_images", i, "test_labels", l));
    }
    if (strcmp(kind->name, "libsvm") == 0)
        return open_fine(PAIRS("kind", "libsvm", "train",
                               scratch_text("a", variant ? "0 1:2\n1 3:1\n" : "0 1:1\n1 3:1\n"), "test",
                               scratch_text("b", "1 2:1\n")));
    if (strcmp(kind->name, "mixture") == 0)
        return open_fine(PAIRS("kind", "mixture", "train_samples", "50", "test_samples", "20", "features", "8", "seed",
                               variant ? "2" : "1"));
    if (strcmp(kind->name, "csv") == 0)
        return open_fine(PAIRS("kind", "csv", "train",
                               scratch_text("a", variant ? "1,2,x\n3,5,y\n2,2,x\n" : "1,2,x\n3,4,y\n2,2,x\n"), "test",
                               scratch_text("b", "0,0,y\n")));
    if (strcmp(kind->name, "text") == 0)
        return open_fine(PAIRS("kind", "text", "path",
                               scratch_text("t", variant ? "to be or not to bE, that is the question"
                                                         : "to be or not to be, that is the question"),
                               "context", "3", "validation", "0.25"));
    if (strcmp(kind->name, "tokens") == 0) {
        static unsigned char ids[2 * 40];
        for (size_t i = 0; i < 40; i++)
            ids[2 * i] = (unsigned char)(i * 7 % 19);
        ids[0] = (unsigned char)(ids[0] + variant);
        return open_fine(PAIRS("kind", "tokens", "train", scratch_write("t", ids, sizeof ids), "vocabulary", "20",
                               "context", "3", "validation", "0.25"));
    }
    if (strcmp(kind->name, "drawn-tokens") == 0)
        return open_fine(PAIRS("kind", "drawn-tokens", "train_samples", "12", "test_samples", "4", "context", "9",
                               "vocabulary", "50", "seed", variant ? "2" : "1"));
    ck_abort_msg("dataset \"%s\" has no example in this test", kind->name);
}

static const struct dataset_kind *kind_at(int index) {
    size_t count;
    const struct dataset_kind *const *kinds = dataset_kinds(&count);
    return kinds[index];
}

START_TEST(describes_itself) {
    const struct dataset_kind *kind = kind_at(_i);
    ck_assert(kind->name && kind->summary && kind->open && kind->read && kind->close && kind->options);
    ck_assert_uint_gt(kind->options->count, 0);
    for (size_t i = 0; i < kind->options->count; i++) {
        ck_assert_str_ne(kind->options->options[i].key, "kind"); /* taken by the registry */
        ck_assert_uint_gt(strlen(kind->options->options[i].help), 0);
    }
    const struct dataset_kind *found;
    ck_assert_int_eq(dataset_kind_find(kind->name, &found, NULL), LG_OK);
    ck_assert_ptr_eq(found, kind);
}
END_TEST

START_TEST(info_is_sound) {
    struct dataset *dataset = open_example(kind_at(_i), 0);
    const struct dataset_info *info = &dataset->info;
    ck_assert_ptr_eq(dataset->kind, kind_at(_i));
    ck_assert_uint_gt(info->train_samples, 0);
    ck_assert_uint_gt(info->test_samples, 0);
    ck_assert_uint_ge(info->classes, 2);
    ck_assert_uint_ne(info->fingerprint, 0);
    if (info->form == DATASET_TOKENS)
        ck_assert_uint_gt(info->context, 0);
    else
        ck_assert_uint_gt(info->width, 0);
    if (info->channels > 0)
        ck_assert_uint_eq(info->channels * info->height * info->image_width, info->width);
    dataset_close(dataset);
}
END_TEST

START_TEST(fingerprint_follows_the_content) {
    struct dataset *one = open_example(kind_at(_i), 0), *two = open_example(kind_at(_i), 0);
    struct dataset *other = open_example(kind_at(_i), 1);
    ck_assert_uint_eq(one->info.fingerprint, two->info.fingerprint);
    ck_assert_uint_ne(one->info.fingerprint, other->info.fingerprint);
    dataset_close(one);
    dataset_close(two);
    dataset_close(other);
}
END_TEST

static void check_batch(const struct dataset_info *info, const struct batch *batch) {
    size_t label_count = info->form == DATASET_TOKENS ? (size_t)batch->count * info->context : batch->count;
    for (size_t i = 0; i < label_count; i++)
        ck_assert(batch->labels[i] >= 0 && (uint32_t)batch->labels[i] < info->classes);
    for (size_t i = 0; info->form == DATASET_DENSE && i < (size_t)batch->count * info->width; i++)
        ck_assert(isfinite(batch->features[i]));
    for (size_t i = 0; info->form == DATASET_TOKENS && i < label_count; i++)
        ck_assert(batch->tokens[i] >= 0 && (uint32_t)batch->tokens[i] < info->classes);
    if (info->form != DATASET_SPARSE)
        return;
    ck_assert_uint_eq(batch->row_starts[0], 0);
    for (uint32_t row = 0; row < batch->count; row++) {
        ck_assert_uint_le(batch->row_starts[row], batch->row_starts[row + 1]);
        for (uint32_t i = batch->row_starts[row]; i < batch->row_starts[row + 1]; i++) {
            ck_assert_uint_lt(batch->columns[i], info->width);
            ck_assert(isfinite(batch->values[i]));
            ck_assert(i == batch->row_starts[row] || batch->columns[i - 1] < batch->columns[i]);
        }
    }
}

static void check_same(const struct dataset_info *info, const struct batch *a, const struct batch *b) {
    size_t labels_each = info->form == DATASET_TOKENS ? info->context : 1;
    ck_assert_uint_eq(a->count, b->count);
    ck_assert_int_eq(memcmp(a->labels, b->labels, a->count * labels_each * sizeof(int32_t)), 0);
    if (info->form == DATASET_DENSE)
        ck_assert_int_eq(memcmp(a->features, b->features, (size_t)a->count * info->width * sizeof(float)), 0);
    if (info->form == DATASET_TOKENS)
        ck_assert_int_eq(memcmp(a->tokens, b->tokens, (size_t)a->count * info->context * sizeof(int32_t)), 0);
    if (info->form != DATASET_SPARSE)
        return;
    ck_assert_int_eq(memcmp(a->row_starts, b->row_starts, (a->count + 1) * sizeof(uint32_t)), 0);
    ck_assert_int_eq(memcmp(a->columns, b->columns, a->row_starts[a->count] * sizeof(uint32_t)), 0);
    ck_assert_int_eq(memcmp(a->values, b->values, a->row_starts[a->count] * sizeof(float)), 0);
}

/* Every sample of both splits, in several epochs: within bounds, and the same from another instance. */
START_TEST(samples_are_sound_and_repeatable) {
    struct dataset *one = open_example(kind_at(_i), 0), *two = open_example(kind_at(_i), 0);
    struct batch a = {0}, b = {0};
    for (int s = 0; s < 2; s++) {
        enum dataset_split split = s == 0 ? DATASET_TRAIN : DATASET_TEST;
        uint64_t count = s == 0 ? one->info.train_samples : one->info.test_samples, indices[64];
        ck_assert_uint_le(count, 64);
        for (uint64_t i = 0; i < count; i++)
            indices[i] = count - 1 - i;
        for (uint64_t epoch = 0; epoch < 5; epoch++) {
            ck_assert_int_eq(dataset_read(one, split, epoch, indices, (uint32_t)count, &a, NULL), LG_OK);
            ck_assert_int_eq(dataset_read(two, split, epoch, indices, (uint32_t)count, &b, NULL), LG_OK);
            check_batch(&one->info, &a);
            check_same(&one->info, &a, &b);
        }
        ck_assert_int_eq(dataset_read(one, split, 0, &count, 1, &a, NULL), LG_INVALID);
    }
    batch_deinit(&a);
    batch_deinit(&b);
    dataset_close(one);
    dataset_close(two);
}
END_TEST

/* A batch is the same as its samples read one by one. */
START_TEST(batches_are_their_samples) {
    struct dataset *dataset = open_example(kind_at(_i), 0);
    const struct dataset_info *info = &dataset->info;
    struct batch whole = {0}, one = {0};
    const uint64_t indices[] = {1, 0, 1};
    size_t each = info->form == DATASET_TOKENS ? info->context : 1;
    ck_assert_int_eq(dataset_read(dataset, DATASET_TRAIN, 2, indices, 3, &whole, NULL), LG_OK);
    for (size_t i = 0; i < 3; i++) {
        ck_assert_int_eq(dataset_read(dataset, DATASET_TRAIN, 2, &indices[i], 1, &one, NULL), LG_OK);
        ck_assert_int_eq(memcmp(whole.labels + i * each, one.labels, each * sizeof(int32_t)), 0);
        if (info->form == DATASET_DENSE)
            ck_assert_int_eq(memcmp(whole.features + i * info->width, one.features, info->width * sizeof(float)), 0);
        if (info->form == DATASET_TOKENS)
            ck_assert_int_eq(memcmp(whole.tokens + i * each, one.tokens, each * sizeof(int32_t)), 0);
        if (info->form == DATASET_SPARSE)
            ck_assert_int_eq(
                memcmp(whole.columns + whole.row_starts[i], one.columns, one.row_starts[1] * sizeof(uint32_t)), 0);
    }
    batch_deinit(&whole);
    batch_deinit(&one);
    dataset_close(dataset);
}
END_TEST

int main(void) {
    size_t count;
    dataset_kinds(&count);
    Suite *suite = suite_create("datasets");
    TCase *tests = tcase_create("datasets");
    tcase_add_checked_fixture(tests, scratch_setup, scratch_teardown);
    tcase_add_loop_test(tests, describes_itself, 0, (int)count);
    tcase_add_loop_test(tests, info_is_sound, 0, (int)count);
    tcase_add_loop_test(tests, fingerprint_follows_the_content, 0, (int)count);
    tcase_add_loop_test(tests, samples_are_sound_and_repeatable, 0, (int)count);
    tcase_add_loop_test(tests, batches_are_their_samples, 0, (int)count);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
