/* Batches in pieces against the same batches at once: the gradients, loss and counts of models on all three forms of
 * dataset, pieces that come out even and ragged ones, where the host reads the device's memory and where not. */
#include "worker/trainer_micro.h"

#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/random.h"

enum { BATCH = 13, WIDTH = 17, CLASSES = 5, CONTEXT = 6, ENTRIES = 4 };

static const struct {
    const char *kind;
    struct dataset_info info;
} cases[] = {
    {"softmax", {.form = DATASET_DENSE, .width = WIDTH, .classes = CLASSES}},
    {"mlp", {.form = DATASET_DENSE, .width = WIDTH, .classes = CLASSES}},
    {"softmax", {.form = DATASET_SPARSE, .width = WIDTH, .classes = CLASSES}},
    {"gpt", {.form = DATASET_TOKENS, .classes = CLASSES, .context = CONTEXT}},
};
enum { CASES = sizeof cases / sizeof *cases };

static struct filled {
    float features[BATCH * WIDTH], values[BATCH * ENTRIES];
    uint32_t row_starts[BATCH + 1], columns[BATCH * ENTRIES];
    int32_t tokens[BATCH * CONTEXT], labels[BATCH * CONTEXT];
} filled;

static struct batch draw(uint32_t count) {
    struct random random;
    random_init(&random, 7);
    for (size_t i = 0; i < sizeof filled.features / sizeof *filled.features; i++)
        filled.features[i] = random_normal(&random);
    for (uint32_t i = 0; i < BATCH * ENTRIES; i++) {
        filled.columns[i] = (uint32_t)random_below(&random, WIDTH);
        filled.values[i] = random_normal(&random);
    }
    for (uint32_t r = 0; r < BATCH; r++) /* rows of 0 to ENTRIES entries */
        filled.row_starts[r + 1] = filled.row_starts[r] + r % (ENTRIES + 1);
    for (size_t i = 0; i < BATCH * CONTEXT; i++) {
        filled.tokens[i] = (int32_t)random_below(&random, CLASSES);
        filled.labels[i] = (int32_t)random_below(&random, CLASSES);
    }
    return (struct batch){.count = count,
                          .features = filled.features,
                          .row_starts = filled.row_starts,
                          .columns = filled.columns,
                          .values = filled.values,
                          .tokens = filled.tokens,
                          .labels = filled.labels};
}

static struct model *create(struct device *device, int number, uint32_t batch_max) {
    struct config *config = config_new();
    struct model *model = NULL;
    struct lg_error error = {0};
    ck_assert_int_eq(config_set(config, "model.kind", cases[number].kind, "test", NULL), LG_OK);
    if (strcmp(cases[number].kind, "gpt") == 0) {
        ck_assert_int_eq(config_set(config, "model.layers", "2", "test", NULL), LG_OK);
        ck_assert_int_eq(config_set(config, "model.width", "8", "test", NULL), LG_OK);
        ck_assert_int_eq(config_set(config, "model.heads", "2", "test", NULL), LG_OK);
    }
    ck_assert_msg(model_create(config, &cases[number].info, device, batch_max, &model, &error) == LG_OK, "%s",
                  error.message);
    config_free(config);
    struct random random;
    random_init(&random, 3);
    for (uint64_t i = 0; i < model->elements; i++)
        model->parameters[i] = 0.3f * random_normal(&random);
    return model;
}

struct announced {
    const struct trainer_micro *micro;
    uint64_t next;
};

static void on_gradients(void *context, size_t first, size_t count) {
    struct announced *a = context;
    const struct model *model = a->micro->model;
    const uint64_t from = tensor_total_elements(model->tensors, first);
    ck_assert_uint_eq(tensor_total_elements(model->tensors, first + count), a->next);
    trainer_micro_fold(a->micro, from, a->next);
    a->next = from;
}

/* Gradients of a batch of `count` samples in pieces of `most`; the caller frees. */
static float *gradients_of(int number, bool apart, uint32_t count, uint32_t most, struct model_result *result) {
    struct device *device;
    struct trainer_micro micro;
    const struct batch batch = draw(count);
    ck_assert_int_eq(device_open("cpu", 1, &device, NULL), LG_OK);
    device->host_memory = !apart;
    struct model *model = create(device, number, most);
    ck_assert_int_eq(trainer_micro_init(&micro, model, count, NULL), LG_OK);
    ck_assert_int_eq(micro.sum == NULL, most >= count);
    const float *before = model->gradients;
    for (int round = 0; round < 2; round++) { /* nothing of the round before is left in the sum */
        struct announced a = {&micro, model->elements};
        ck_assert_int_eq(trainer_micro_forward(&micro, &batch, result, NULL), LG_OK);
        ck_assert_ptr_eq(model->gradients, before);
        ck_assert_int_eq(model_backward(model, on_gradients, &a, NULL), LG_OK);
        ck_assert_uint_eq(a.next, 0);
    }
    float *gradients = malloc((model->elements + 1) * sizeof *gradients);
    ck_assert_ptr_nonnull(gradients);
    memcpy(gradients, model->gradients, model->elements * sizeof *gradients);
    gradients[model->elements] = NAN; /* the end */
    trainer_micro_deinit(&micro);
    model_destroy(model);
    device_close(device);
    return gradients;
}

START_TEST(pieces_give_what_the_batch_gives) {
    static const uint32_t sizes[] = {1, 2, 5, 6, 12, 13, 40};
    struct model_result whole = {0}, pieces = {0};
    float *expected = gradients_of(_i, false, BATCH, BATCH, &whole);
    double largest = 0;
    for (size_t i = 0; !isnan(expected[i]); i++)
        largest = fmax(largest, fabs((double)expected[i]));
    ck_assert_double_gt(largest, 1e-3);
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++)
        for (int apart = 0; apart < 2; apart++) {
            float *got = gradients_of(_i, apart == 1, BATCH, sizes[s], &pieces);
            for (size_t i = 0; !isnan(expected[i]); i++)
                ck_assert_double_eq_tol((double)got[i], (double)expected[i], 1e-6 * largest);
            ck_assert_double_eq_tol(pieces.loss_sum, whole.loss_sum, 1e-6 * whole.loss_sum);
            ck_assert_uint_eq(pieces.predictions, whole.predictions);
            ck_assert_uint_eq(pieces.correct, whole.correct);
            free(got);
        }
    free(expected);
}
END_TEST

/* Batches at the end of an epoch are smaller: one piece may be all there is. */
START_TEST(small_batches_are_one_piece) {
    struct device *device;
    struct trainer_micro micro;
    struct model_result result;
    ck_assert_int_eq(device_open("cpu", 1, &device, NULL), LG_OK);
    struct model *model = create(device, 0, 4);
    ck_assert_int_eq(trainer_micro_init(&micro, model, BATCH, NULL), LG_OK);
    for (uint32_t count = 1; count <= 5; count++) {
        const struct batch batch = draw(count);
        ck_assert_int_eq(trainer_micro_forward(&micro, &batch, &result, NULL), LG_OK);
        ck_assert_uint_eq(result.predictions, count);
        ck_assert_int_eq(micro.weight == 1, count <= 4);
    }
    trainer_micro_deinit(&micro);
    model_destroy(model);
    device_close(device);
}
END_TEST

static void *no_memory(struct device *device, size_t bytes) {
    (void)device;
    (void)bytes;
    return NULL;
}

START_TEST(no_memory_is_said) {
    struct device *device;
    struct trainer_micro micro;
    struct lg_error error = {0};
    ck_assert_int_eq(device_open("cpu", 1, &device, NULL), LG_OK);
    struct model *model = create(device, 0, 4);
    const struct device_ops *ops = device->ops;
    struct device_ops without = *ops;
    without.alloc = no_memory;
    device->ops = &without;
    ck_assert_int_eq(trainer_micro_init(&micro, model, BATCH, &error), LG_NO_MEMORY);
    ck_assert_msg(strstr(error.message, "train.micro_batch") != NULL, "%s", error.message);
    device->ops = ops;
    trainer_micro_deinit(&micro);
    model_destroy(model);
    device_close(device);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("trainer_micro");
    TCase *tests = tcase_create("trainer_micro");
    tcase_add_loop_test(tests, pieces_give_what_the_batch_gives, 0, CASES);
    tcase_add_test(tests, small_batches_are_one_piece);
    tcase_add_test(tests, no_memory_is_said);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
