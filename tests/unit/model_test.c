#include "worker/model.h"

#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/random.h"

static const struct dataset_info images = {
    .form = DATASET_DENSE, .width = 784, .channels = 1, .height = 28, .image_width = 28, .classes = 10};
static const struct dataset_info rows = {.form = DATASET_SPARSE, .width = 6, .classes = 3};
static const struct dataset_info text = {.form = DATASET_TOKENS, .classes = 256, .context = 16};

static struct device *device;

static void setup(void) {
    ck_assert_int_eq(device_open("cpu", 1, &device, NULL), LG_OK);
}

static void teardown(void) {
    device_close(device);
}

/* `keys` is "model.kind=mlp model.hidden=8,4". */
static enum lg_status create(const char *keys, const struct dataset_info *info, uint32_t batch_max,
                             struct model **model, struct lg_error *error) {
    struct config *config = config_new();
    char text_copy[256], *rest = NULL;
    snprintf(text_copy, sizeof text_copy, "%s", keys);
    for (char *word = strtok_r(text_copy, " ", &rest); word; word = strtok_r(NULL, " ", &rest)) {
        char *equals = strchr(word, '=');
        *equals = '\0';
        ck_assert_int_eq(config_set(config, word, equals + 1, "flag --x", NULL), LG_OK);
    }
    *model = NULL;
    enum lg_status status = model_create(config, info, device, batch_max, model, error);
    config_free(config);
    return status;
}

static struct model *created(const char *keys, const struct dataset_info *info, uint32_t batch_max) {
    struct model *model;
    struct lg_error error = {0};
    ck_assert_msg(create(keys, info, batch_max, &model, &error) == LG_OK, "%s", error.message);
    return model;
}

START_TEST(refusals_say_what_is_wrong) {
    static const struct {
        const char *keys;
        const struct dataset_info *info;
        const char *says[3];
    } cases[] = {
        {"model.kind=cn", &images, {"flag --x", "did you mean \"cnn\"", "softmax, mlp, cnn, gpt"}},
        {"model.kind=mlp model.hidden=0", &images, {"model.hidden"}},
        {"model.kind=mlp model.activation=tanh", &images, {"model.activation", "relu"}},
        {"model.kind=mlp", &rows, {"sparse"}},
        {"model.kind=softmax", &text, {"tokens"}},
        {"model.kind=cnn model.filters=3", &images, {"model.filters"}},
        {"model.kind=cnn model.kernel=13", &images, {"28 x 28", "model.kernel"}},
        {"model.kind=cnn", &rows, {"images"}},
        {"model.kind=gpt model.width=128 model.heads=3", &text, {"model.width", "model.heads"}},
        {"model.kind=gpt", &images, {"tokens"}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct model *model;
        struct lg_error error = {0};
        ck_assert_int_ne(create(cases[i].keys, cases[i].info, 4, &model, &error), LG_OK);
        ck_assert_ptr_null(model);
        for (int s = 0; s < 3 && cases[i].says[s]; s++)
            ck_assert_msg(strstr(error.message, cases[i].says[s]) != NULL, "%s: %s", cases[i].keys, error.message);
    }
}
END_TEST

START_TEST(tensors_have_the_names_and_shapes_of_their_layers) {
    static const struct {
        const char *keys;
        const struct dataset_info *info;
        uint64_t elements;
        const char *name;
        uint64_t shape[4];
    } cases[] = {
        {"model.kind=softmax", &images, 7850, "weight", {10, 784}},
        {"model.kind=softmax", &rows, 21, "weight", {6, 3}},
        {"model.kind=mlp", &images, 235146, "layer1.weight", {128, 256}},
        {"model.kind=cnn", &images, 80202, "conv1.weight", {32, 16, 5, 5}},
        {"model.kind=gpt", &text, 860928, "block0.attention.qkv.weight", {384, 128}},
        {"model.kind=gpt", &text, 860928, "block3.mlp.down.bias", {128}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct model *model = created(cases[i].keys, cases[i].info, 2);
        size_t t = 0;
        while (t < model->tensor_count && strcmp(model->tensors[t].name, cases[i].name) != 0)
            t++;
        ck_assert_msg(t < model->tensor_count, "no tensor %s", cases[i].name);
        const struct tensor_spec *found = &model->tensors[t];
        ck_assert_mem_eq(found->shape, cases[i].shape, found->rank * sizeof(uint64_t));
        ck_assert_uint_eq(model->elements, cases[i].elements);
        model_destroy(model);
    }
    model_destroy(NULL);
}
END_TEST

enum { SAMPLES = 64 };

/* Features as pixels are: a fifth of them set, 0..1. */
static void fill_images(struct batch *batch, float *features, int32_t *labels) {
    struct random random;
    random_init(&random, 17);
    for (size_t i = 0; i < SAMPLES * 784; i++)
        features[i] = random_below(&random, 5) == 0 ? random_float(&random) : 0;
    for (size_t i = 0; i < SAMPLES; i++)
        labels[i] = (int32_t)random_below(&random, 10);
    *batch = (struct batch){.count = SAMPLES, .features = features, .labels = labels};
}

START_TEST(first_losses_of_full_size_models_are_near_ln_classes) {
    static const char *const kinds[] = {"model.kind=softmax", "model.kind=mlp", "model.kind=mlp model.activation=gelu",
                                        "model.kind=cnn"};
    float *features = malloc(SAMPLES * 784 * sizeof *features);
    int32_t labels[SAMPLES], tokens[4 * 16];
    struct batch batch;
    struct model_result result;
    ck_assert_ptr_nonnull(features);
    fill_images(&batch, features, labels);
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        struct model *model = created(kinds[i], &images, SAMPLES);
        model_initialise(model, 1, model->parameters);
        ck_assert_int_eq(model_forward(model, &batch, &result, NULL), LG_OK);
        ck_assert_double_eq_tol(result.loss_sum / SAMPLES, log(10), 0.1);
        model_destroy(model);
    }
    struct model *gpt = created("model.kind=gpt", &text, 4);
    for (int i = 0; i < 4 * 16; i++)
        tokens[i] = (i * 37) % 256;
    batch = (struct batch){.count = 4, .tokens = tokens, .labels = tokens};
    model_initialise(gpt, 1, gpt->parameters);
    ck_assert_int_eq(model_forward(gpt, &batch, &result, NULL), LG_OK);
    ck_assert_double_eq_tol(result.loss_sum / 64, log(256), 0.1);
    model_destroy(gpt);
    free(features);
}
END_TEST

/* With the identity as weights, the logits are the features: what is correct can be read off. */
START_TEST(correct_counts_the_rows_whose_largest_logit_is_the_label) {
    static const struct dataset_info info = {.form = DATASET_DENSE, .width = 3, .classes = 3};
    float features[5][3] = {{3, 1, 2}, {0, 5, -1}, {1, 1, 0}, {1, 1, 0}, {-3, -2, -1}};
    int32_t labels[5] = {0, 2, 0, 1, 2}; /* right, wrong, first of a tie, second of a tie, right */
    struct model *model = created("model.kind=softmax", &info, 5);
    struct batch batch = {.count = 5, .features = features[0], .labels = labels};
    struct model_result result;
    for (int i = 0; i < 3; i++)
        model->parameters[i * 3 + i] = 1;
    ck_assert_int_eq(model_forward(model, &batch, &result, NULL), LG_OK);
    ck_assert_uint_eq(result.predictions, 5);
    ck_assert_uint_eq(result.correct, 3);
    model_destroy(model);
}
END_TEST

static void expect_refused(struct model *model, const struct batch *batch, const char *says) {
    struct model_result result;
    struct lg_error error = {0};
    ck_assert_int_eq(model_forward(model, batch, &result, &error), LG_INVALID);
    ck_assert_msg(strstr(error.message, says) != NULL, "%s", error.message);
}

START_TEST(bad_batches_are_refused) {
    float features[2 * 784] = {0};
    int32_t labels[2] = {0, 10};
    struct model *model = created("model.kind=mlp", &images, 2);
    struct batch batch = {.count = 2, .features = features, .labels = labels};
    expect_refused(model, &batch, "label 10");
    labels[1] = -1;
    expect_refused(model, &batch, "label -1");
    batch.count = 3;
    expect_refused(model, &batch, "batch of 3");
    batch.count = 0;
    expect_refused(model, &batch, "batch of 0");
    struct lg_error error = {0};
    ck_assert_int_eq(model_backward(model, NULL, NULL, &error), LG_INVALID);
    model_destroy(model);

    model = created("model.kind=softmax", &rows, 2);
    uint32_t starts[3] = {0, 1, 2}, columns[2] = {5, 6};
    float values[2] = {1, 1};
    labels[1] = 1;
    batch = (struct batch){.count = 2, .row_starts = starts, .columns = columns, .values = values, .labels = labels};
    expect_refused(model, &batch, "column 6");
    columns[1] = 0;
    starts[1] = 3;
    expect_refused(model, &batch, "row 1");
    model_destroy(model);

    model = created("model.kind=gpt", &text, 1);
    int32_t tokens[16] = {0}, targets[16] = {0};
    tokens[15] = 256;
    batch = (struct batch){.count = 1, .tokens = tokens, .labels = targets};
    expect_refused(model, &batch, "token 256");
    model_destroy(model);
}
END_TEST

/* forward's loss of the last position, worked out from next_logits. */
START_TEST(next_logits_are_those_of_forward_and_see_the_past_alone) {
    enum { TIME = 16, COUNT = 7 };
    static float first[256], longer[256];
    int32_t tokens[TIME], labels[TIME] = {0};
    struct model_result all;
    struct model *model = created("model.kind=gpt model.layers=2 model.width=32 model.heads=4", &text, 1);
    model_initialise(model, 3, model->parameters);
    for (int i = 0; i < TIME; i++)
        tokens[i] = (i * 91 + 7) % 256;
    double loss = 0;
    for (uint32_t n = 1; n <= TIME; n++) {
        labels[n - 1] = (int32_t)(n * 5);
        ck_assert_int_eq(model->kind->next_logits(model, tokens, n, longer, NULL), LG_OK);
        double total = 0;
        for (int i = 0; i < 256; i++)
            total += exp((double)longer[i]);
        loss += log(total) - (double)longer[labels[n - 1]];
        if (n == COUNT)
            memcpy(first, longer, sizeof first);
    }
    struct batch batch = {.count = 1, .tokens = tokens, .labels = labels};
    ck_assert_int_eq(model_forward(model, &batch, &all, NULL), LG_OK);
    ck_assert_double_eq_tol(all.loss_sum, loss, 1e-3);
    tokens[0] ^= 1; /* the past matters */
    ck_assert_int_eq(model->kind->next_logits(model, tokens, COUNT, longer, NULL), LG_OK);
    double change = 0;
    for (int i = 0; i < 256; i++)
        change += fabs((double)longer[i] - (double)first[i]);
    ck_assert_double_gt(change, 1e-4);
    ck_assert_int_eq(model_backward(model, NULL, NULL, NULL), LG_INVALID); /* the activations are gone */
    model_destroy(model);
}
END_TEST

START_TEST(threads_do_not_change_the_gradients) {
    float *features = malloc(SAMPLES * 784 * sizeof *features), *kept = NULL;
    int32_t labels[SAMPLES];
    struct batch batch;
    struct model_result result;
    ck_assert_ptr_nonnull(features);
    fill_images(&batch, features, labels);
    for (unsigned threads = 1; threads <= 3; threads += 2) {
        device_close(device);
        ck_assert_int_eq(device_open("cpu", threads, &device, NULL), LG_OK);
        struct model *model = created("model.kind=cnn", &images, SAMPLES);
        model_initialise(model, 1, model->parameters);
        ck_assert_int_eq(model_forward(model, &batch, &result, NULL), LG_OK);
        ck_assert_int_eq(model_backward(model, NULL, NULL, NULL), LG_OK);
        for (uint64_t i = 0; kept && i < model->elements; i++)
            ck_assert_float_eq_tol(model->gradients[i], kept[i], 1e-5f);
        if (!kept) {
            kept = malloc(model->elements * sizeof *kept);
            ck_assert_ptr_nonnull(kept);
            memcpy(kept, model->gradients, model->elements * sizeof *kept);
        }
        model_destroy(model);
    }
    free(kept), free(features);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("model");
    TCase *tests = tcase_create("models");
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_set_timeout(tests, 60);
    tcase_add_test(tests, refusals_say_what_is_wrong);
    tcase_add_test(tests, tensors_have_the_names_and_shapes_of_their_layers);
    tcase_add_test(tests, first_losses_of_full_size_models_are_near_ln_classes);
    tcase_add_test(tests, correct_counts_the_rows_whose_largest_logit_is_the_label);
    tcase_add_test(tests, bad_batches_are_refused);
    tcase_add_test(tests, next_logits_are_those_of_forward_and_see_the_past_alone);
    tcase_add_test(tests, threads_do_not_change_the_gradients);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
