/* Every registered model, on every form of dataset that it accepts: its tensor table, its initial values, the order in
 * which it announces gradients, and the gradients themselves against central differences. A new model is tested
 * without a line here; options named in `small` are made small. */
#include "worker/model.h"

#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/random.h"

static const struct {
    const char *key, *value;
} small[] = {{"hidden", "6"}, {"filters", "3,4"}, {"kernel", "3"}, {"layers", "2"}, {"width", "8"}, {"heads", "2"}};

static const struct dataset_info infos[] = {
    {.form = DATASET_DENSE, .width = 200, .channels = 2, .height = 10, .image_width = 10, .classes = 4},
    {.form = DATASET_DENSE, .width = 11, .classes = 3},
    {.form = DATASET_SPARSE, .width = 23, .classes = 5},
    {.form = DATASET_TOKENS, .width = 0, .classes = 13, .context = 7},
};
enum { INFOS = sizeof infos / sizeof *infos, BATCH = 5 };

/* A batch in fixed arrays, with room for BATCH samples. */
struct filled {
    struct batch batch;
    float features[BATCH * 200];
    uint32_t row_starts[BATCH + 1], columns[BATCH * 9];
    float values[BATCH * 9];
    int32_t tokens[BATCH * 7], labels[BATCH * 7];
};

static void fill(struct filled *f, const struct dataset_info *info, uint32_t count, uint64_t seed) {
    struct random random;
    random_init(&random, seed);
    for (size_t i = 0; i < sizeof f->features / sizeof *f->features; i++)
        f->features[i] = random_normal(&random);
    uint32_t entries = 0;
    f->row_starts[0] = 0;
    for (uint32_t r = 0; r < BATCH; r++) {
        for (uint64_t n = random_below(&random, 9); n > 0; n--) {
            f->columns[entries] = (uint32_t)random_below(&random, info->width + 1u) % (info->width + !info->width);
            f->values[entries++] = random_normal(&random);
        }
        f->row_starts[r + 1] = entries;
    }
    for (size_t i = 0; i < sizeof f->labels / sizeof *f->labels; i++) {
        f->labels[i] = (int32_t)random_below(&random, info->classes);
        f->tokens[i] = (int32_t)random_below(&random, info->classes);
    }
    f->batch = (struct batch){.count = count,
                              .features = f->features,
                              .row_starts = f->row_starts,
                              .columns = f->columns,
                              .values = f->values,
                              .tokens = f->tokens,
                              .labels = f->labels};
}

static struct device *device;

/* NULL where the model does not take this form. */
static struct model *create(const struct model_kind *kind, const struct dataset_info *info) {
    struct config *config = config_new();
    struct model *model = NULL;
    struct lg_error error = {0};
    if (!device)
        ck_assert_int_eq(device_open("cpu", 1, &device, NULL), LG_OK);
    ck_assert_int_eq(config_set(config, "model.kind", kind->name, "test", NULL), LG_OK);
    for (size_t i = 0; i < sizeof small / sizeof *small; i++)
        for (size_t o = 0; o < kind->options->count; o++)
            if (strcmp(kind->options->options[o].key, small[i].key) == 0) {
                char key[64];
                snprintf(key, sizeof key, "model.%s", small[i].key);
                ck_assert_int_eq(config_set(config, key, small[i].value, "test", NULL), LG_OK);
            }
    enum lg_status status = model_create(config, info, device, BATCH, &model, &error);
    if (status != LG_OK) {
        ck_assert_int_eq(status, LG_INVALID);
        ck_assert_msg(strstr(error.message, kind->name) != NULL, "the refusal does not name the model: %s",
                      error.message);
    }
    config_free(config);
    return status == LG_OK ? model : NULL;
}

/* The quadratic has nothing to predict: its loss is its own value, and it starts where it is told. */
static bool predicts(const struct model *model) {
    return strcmp(model->kind->name, "quadratic") != 0;
}

typedef void model_test_fn(struct model *model, const struct dataset_info *info);

static void each_form(int number, model_test_fn *test) {
    size_t count;
    const struct model_kind *kind = model_kinds(&count)[number];
    int accepted = 0;
    for (int i = 0; i < INFOS; i++) {
        struct model *model = create(kind, &infos[i]);
        if (!model)
            continue;
        accepted++;
        test(model, &infos[i]);
        model_destroy(model);
    }
    ck_assert_msg(accepted > 0, "model \"%s\" takes no dataset at all", kind->name);
    device_close(device);
}

static double loss_of(struct model *model, const struct batch *batch) {
    struct model_result result;
    struct lg_error error = {0};
    ck_assert_msg(model_forward(model, batch, &result, &error) == LG_OK, "%s", error.message);
    return result.loss_sum / (double)result.predictions;
}

static void check_table(struct model *model, const struct dataset_info *info) {
    struct lg_error error = {0};
    (void)info;
    ck_assert_msg(tensor_table_check(model->tensors, model->tensor_count, &error) == LG_OK, "%s", error.message);
    ck_assert_uint_eq(tensor_total_elements(model->tensors, model->tensor_count), model->elements);
    for (size_t i = 0; i < model->tensor_count; i++)
        ck_assert_msg(model->tensors[i].no_weight_decay == (model->tensors[i].rank == 1), "%s", model->tensors[i].name);
}

START_TEST(the_tensor_table_is_sound) {
    each_form(_i, check_table);
}
END_TEST

static void check_initial(struct model *model, const struct dataset_info *info) {
    size_t bytes = model->elements * sizeof(float);
    float *first = malloc(bytes), *second = malloc(bytes), *other = malloc(bytes);
    ck_assert(first && second && other);
    memset(first, 0xff, bytes); /* NaN: whatever is not written shows */
    memset(second, 0xff, bytes);
    model_initialise(model, 1, first);
    model_initialise(model, 1, second);
    model_initialise(model, 2, other);
    for (uint64_t i = 0; i < model->elements; i++)
        ck_assert_msg(isfinite(first[i]) && fabsf(first[i]) < 4, "element %llu is %g", (unsigned long long)i,
                      (double)first[i]);
    ck_assert(memcmp(first, second, bytes) == 0);
    if (strcmp(model->kind->name, "softmax") != 0 && predicts(model)) /* starts at zero */
        ck_assert(memcmp(first, other, bytes) != 0);
    memcpy(model->parameters, first, bytes);
    struct filled f;
    fill(&f, info, BATCH, 3);
    for (size_t i = 0; i < BATCH * 200; i++)
        f.features[i] = 0;
    if (predicts(model))
        ck_assert_double_eq_tol(loss_of(model, &f.batch), log(info->classes), 0.02);
    free(first), free(second), free(other);
}

START_TEST(initial_values_are_seeded_and_the_first_loss_is_ln_classes) {
    each_form(_i, check_initial);
}
END_TEST

struct announced {
    size_t next; /* everything from here on has been announced */
    const struct model *model;
};

static void announce(void *context, size_t first, size_t count) {
    struct announced *a = context;
    ck_assert_uint_gt(count, 0);
    ck_assert_uint_eq(first + count, a->next);
    a->next = first;
    uint64_t offset = tensor_total_elements(a->model->tensors, first);
    uint64_t end = tensor_total_elements(a->model->tensors, first + count);
    for (uint64_t i = offset; i < end; i++)
        ck_assert_msg(isfinite(a->model->gradients[i]), "a gradient is announced before it is written");
}

static void randomise(struct model *model, uint64_t seed) {
    struct random random;
    random_init(&random, seed);
    for (uint64_t i = 0; i < model->elements; i++)
        model->parameters[i] = 0.3f * random_normal(&random);
}

static void check_announcements(struct model *model, const struct dataset_info *info) {
    struct filled f;
    struct lg_error error = {0};
    fill(&f, info, BATCH, 4);
    randomise(model, 5);
    for (int repeat = 0; repeat < 2; repeat++) {
        struct announced a = {model->tensor_count, model};
        for (uint64_t i = 0; i < model->elements; i++)
            model->gradients[i] = NAN;
        loss_of(model, &f.batch);
        memset(f.features, 0x7f, sizeof f.features); /* backward must not look at the batch again */
        ck_assert_msg(model_backward(model, announce, &a, &error) == LG_OK, "%s", error.message);
        ck_assert_uint_eq(a.next, 0);
        fill(&f, info, BATCH, 4);
    }
}

START_TEST(gradients_are_announced_once_last_tensor_first) {
    each_form(_i, check_announcements);
}
END_TEST

/* A caller's buffers take the place of the model's own, which then are neither read nor written. */
static void check_lent_buffers(struct model *model, const struct dataset_info *info) {
    struct filled f;
    size_t bytes = (model->elements * sizeof(float) + 63) / 64 * 64;
    float *own_parameters = model->parameters, *own_gradients = model->gradients;
    float *parameters = aligned_alloc(64, bytes), *gradients = aligned_alloc(64, bytes), *expected = malloc(bytes);
    ck_assert(parameters && gradients && expected);
    fill(&f, info, BATCH, 13);
    randomise(model, 14);
    double loss = loss_of(model, &f.batch);
    ck_assert_int_eq(model_backward(model, NULL, NULL, NULL), LG_OK);
    memcpy(parameters, own_parameters, model->elements * sizeof(float));
    memcpy(expected, own_gradients, model->elements * sizeof(float));
    memset(own_parameters, 0xff, model->elements * sizeof(float)); /* NaN */
    memset(own_gradients, 0, model->elements * sizeof(float));
    memset(gradients, 0xff, bytes);
    model_use_parameters(model, parameters);
    ck_assert(loss_of(model, &f.batch) == loss);
    model_use_gradients(model, gradients); /* as late as between the passes */
    ck_assert_int_eq(model_backward(model, NULL, NULL, NULL), LG_OK);
    ck_assert(memcmp(gradients, expected, model->elements * sizeof(float)) == 0);
    for (uint64_t i = 0; i < model->elements; i++)
        ck_assert(own_gradients[i] == 0);
    free(parameters), free(gradients), free(expected);
}

START_TEST(buffers_may_be_the_callers) {
    each_form(_i, check_lent_buffers);
}
END_TEST

/* (L(w + h) - L(w - h)) / 2h in element i. */
static double slope(struct model *model, const struct batch *batch, uint64_t i, float h) {
    float kept = model->parameters[i];
    volatile float above = kept + h, below = kept - h;
    model->parameters[i] = above;
    double up = loss_of(model, batch);
    model->parameters[i] = below;
    double down = loss_of(model, batch);
    model->parameters[i] = kept;
    return (up - down) / ((double)above - (double)below);
}

/* A step across the kink of a ReLU or a maximum spoils a difference, so a smaller one decides then; f32 losses have
 * noise of about 3e-7, hence the bounds. */
static void check_gradient(struct model *model, const struct dataset_info *info, uint32_t count, uint64_t seed) {
    struct filled f;
    struct lg_error error = {0};
    fill(&f, info, count, seed);
    randomise(model, seed + 1);
    loss_of(model, &f.batch);
    ck_assert_msg(model_backward(model, NULL, NULL, &error) == LG_OK, "%s", error.message);
    float *gradients = malloc(model->elements * sizeof *gradients);
    ck_assert_ptr_nonnull(gradients);
    memcpy(gradients, model->gradients, model->elements * sizeof *gradients);
    uint64_t offset = 0, seen = 0, end = 0;
    for (size_t t = 0; t < model->tensor_count; t++) {
        end += tensor_elements(&model->tensors[t]);
        for (; offset < end; offset++) {
            double g = (double)gradients[offset], wide = slope(model, &f.batch, offset, 4e-3f);
            seen += fabs(g) > 1e-3;
            if (fabs(wide - g) <= 5e-4 + 0.01 * fabs(g))
                continue;
            double narrow = slope(model, &f.batch, offset, 4e-4f);
            ck_assert_msg(fabs(narrow - g) <= 3e-3 + 0.01 * fabs(g), "%s: element %llu of %s: %g, differences %g, %g",
                          model->kind->name, (unsigned long long)offset, model->tensors[t].name, g, wide, narrow);
        }
    }
    ck_assert_msg(seen > model->elements / 8, "only %llu gradients are not tiny", (unsigned long long)seen);
    free(gradients);
}

static void check_gradients(struct model *model, const struct dataset_info *info) {
    check_gradient(model, info, BATCH, 6);
    check_gradient(model, info, 2, 8); /* fewer samples than before: nothing may be left over */
}

START_TEST(gradients_equal_central_differences) {
    each_form(_i, check_gradients);
}
END_TEST

/* A batch's loss and correct predictions are the sums over its samples'. */
static void check_sums(struct model *model, const struct dataset_info *info) {
    struct filled f;
    struct model_result whole, one;
    double loss = 0;
    uint64_t predictions = 0, correct = 0;
    fill(&f, info, BATCH, 9);
    randomise(model, 10);
    ck_assert_int_eq(model_forward(model, &f.batch, &whole, NULL), LG_OK);
    for (uint32_t i = 0; i < BATCH; i++) {
        struct batch single = f.batch;
        single.count = 1;
        single.features += (size_t)i * info->width;
        single.row_starts += i;
        single.tokens += (size_t)i * info->context;
        single.labels += (size_t)i * (info->context ? info->context : 1);
        uint32_t starts[2] = {0, f.row_starts[i + 1] - f.row_starts[i]};
        single.row_starts = starts;
        single.columns += f.row_starts[i];
        single.values += f.row_starts[i];
        ck_assert_int_eq(model_forward(model, &single, &one, NULL), LG_OK);
        loss += one.loss_sum;
        predictions += one.predictions;
        correct += one.correct;
    }
    ck_assert_double_eq_tol(whole.loss_sum, loss, 1e-4);
    ck_assert_uint_eq(whole.predictions, predictions);
    ck_assert_uint_eq(whole.predictions, BATCH * (info->context ? info->context : 1));
    ck_assert_uint_eq(whole.correct, correct);
}

START_TEST(a_batch_is_the_sum_of_its_samples) {
    each_form(_i, check_sums);
}
END_TEST

/* Plain descent along the mean gradient learns a handful of samples by heart. */
static void check_descent(struct model *model, const struct dataset_info *info) {
    struct filled f;
    struct model_result result;
    fill(&f, info, BATCH, 11);
    for (uint32_t r = 0; r < BATCH && info->form == DATASET_SPARSE; r++) { /* a column of its own for each row */
        f.row_starts[r + 1] = r + 1;
        f.columns[r] = r;
        f.values[r] = 1;
    }
    model_initialise(model, 12, model->parameters);
    for (int step = 0; step < 3000; step++) {
        loss_of(model, &f.batch);
        ck_assert_int_eq(model_backward(model, NULL, NULL, NULL), LG_OK);
        for (uint64_t i = 0; i < model->elements; i++)
            model->parameters[i] -= 0.1f * model->gradients[i];
    }
    ck_assert_int_eq(model_forward(model, &f.batch, &result, NULL), LG_OK);
    ck_assert_msg(!predicts(model) || result.correct >= result.predictions * 9 / 10, "%s: %llu of %llu correct",
                  model->kind->name, (unsigned long long)result.correct, (unsigned long long)result.predictions);
    ck_assert_double_lt(result.loss_sum / (double)result.predictions, 0.5);
}

START_TEST(descent_learns_a_batch_by_heart) {
    each_form(_i, check_descent);
}
END_TEST

int main(void) {
    size_t count;
    model_kinds(&count);
    Suite *suite = suite_create("models");
    TCase *tests = tcase_create("every model");
    tcase_set_timeout(tests, 120);
    tcase_add_loop_test(tests, the_tensor_table_is_sound, 0, (int)count);
    tcase_add_loop_test(tests, initial_values_are_seeded_and_the_first_loss_is_ln_classes, 0, (int)count);
    tcase_add_loop_test(tests, gradients_are_announced_once_last_tensor_first, 0, (int)count);
    tcase_add_loop_test(tests, buffers_may_be_the_callers, 0, (int)count);
    tcase_add_loop_test(tests, gradients_equal_central_differences, 0, (int)count);
    tcase_add_loop_test(tests, a_batch_is_the_sum_of_its_samples, 0, (int)count);
    tcase_add_loop_test(tests, descent_learns_a_batch_by_heart, 0, (int)count);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
