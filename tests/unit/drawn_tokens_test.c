#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/datasets.h"

enum { CONTEXT = 500, SAMPLES = 40, VOCABULARY = 100 };

static struct dataset *open_with(const char *structure) {
    return open_fine(PAIRS("kind", "drawn-tokens", "vocabulary", "100", "context", "500", "train_samples", "40",
                           "test_samples", "3", "structure", structure));
}

static void read_all(struct dataset *dataset, uint64_t epoch, struct batch *batch) {
    uint64_t all[SAMPLES];
    for (uint64_t i = 0; i < SAMPLES; i++)
        all[i] = i;
    ck_assert_int_eq(dataset_read(dataset, DATASET_TRAIN, epoch, all, SAMPLES, batch, NULL), LG_OK);
}

/* The token that follows `token` most often, and how often it does. */
static int successor(const struct batch *batch, int token, double *share) {
    int counts[VOCABULARY] = {0}, best = 0, seen = 0;
    for (int i = 0; i < SAMPLES * CONTEXT; i++) {
        if (batch->tokens[i] == token) {
            counts[batch->labels[i]]++;
            seen++;
        }
    }
    for (int i = 0; i < VOCABULARY; i++)
        best = counts[i] > counts[best] ? i : best;
    *share = seen ? (double)counts[best] / seen : 0;
    return best;
}

START_TEST(labels_are_one_ahead_and_frequencies_fall) {
    struct dataset *dataset = open_with("0");
    struct batch batch = {0};
    double counts[VOCABULARY] = {0};
    read_all(dataset, 0, &batch);
    for (int i = 0; i < SAMPLES * CONTEXT; i++) {
        counts[batch.tokens[i]] += 1.0 / (SAMPLES * CONTEXT);
        if (i % CONTEXT != CONTEXT - 1)
            ck_assert_int_eq(batch.labels[i], batch.tokens[i + 1]);
    }
    /* Classes of 1, 2, .., 32 and 37 of 64 tokens, what is left of a draw that fails being drawn again. */
    double each = 1 / (6 + 37.0 / 64);
    ck_assert_double_eq_tol(counts[0], each, 0.01);
    ck_assert_double_eq_tol(counts[1] + counts[2], each, 0.01);
    double high = 0;
    for (int i = 31; i < 63; i++)
        high += counts[i];
    ck_assert_double_eq_tol(high, each, 0.01);
    batch_deinit(&batch);
    dataset_close(dataset);
}
END_TEST

/* The same successors in all epochs, which otherwise differ; how often they follow is what was asked for. */
START_TEST(tokens_have_successors) {
    struct dataset *dataset = open_with("0.75");
    struct batch one = {0}, two = {0};
    read_all(dataset, 0, &one);
    read_all(dataset, 1, &two);
    ck_assert_int_ne(memcmp(one.tokens, two.tokens, SAMPLES * CONTEXT * sizeof(int32_t)), 0);
    for (int token = 0; token < 7; token++) {
        double share, again;
        int next = successor(&one, token, &share);
        ck_assert_int_eq(successor(&two, token, &again), next);
        ck_assert_double_ge(share, 0.7); /* and sometimes the free draw is the successor */
        ck_assert_double_le(share, 0.9);
    }
    batch_deinit(&one);
    batch_deinit(&two);
    dataset_close(dataset);
}
END_TEST

START_TEST(everything_follows_at_one) {
    struct dataset *dataset = open_with("1");
    struct batch batch = {0};
    read_all(dataset, 0, &batch);
    for (int token = 0; token < VOCABULARY; token++) {
        double share;
        successor(&batch, token, &share);
        ck_assert(share == 0 || share == 1);
    }
    batch_deinit(&batch);
    dataset_close(dataset);
}
END_TEST

START_TEST(the_smallest_vocabulary_does) {
    struct dataset *dataset = open_fine(PAIRS("kind", "drawn-tokens", "vocabulary", "2", "context", "50"));
    struct batch batch = {0};
    ck_assert_int_eq(dataset_read(dataset, DATASET_TEST, 0, (uint64_t[]){3}, 1, &batch, NULL), LG_OK);
    for (int i = 0; i < 50; i++)
        ck_assert(batch.tokens[i] == 0 || batch.tokens[i] == 1);
    batch_deinit(&batch);
    dataset_close(dataset);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("drawn_tokens");
    TCase *tests = tcase_create("drawn_tokens");
    tcase_add_test(tests, labels_are_one_ahead_and_frequencies_fall);
    tcase_add_test(tests, tokens_have_successors);
    tcase_add_test(tests, everything_follows_at_one);
    tcase_add_test(tests, the_smallest_vocabulary_does);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
