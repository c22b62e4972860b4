/* Every model, trained for some steps on each GPU and on the CPU from the same initial values and batches: the losses
 * must be the same within what rounding makes of them. Each device updates in its own memory. */
#include "worker/model.h"

#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/random.h"
#include "tests/support/devices.h"

/* tests/gpu/emulated_curves_test.c names emulated devices in their place, and fewer steps. */
#ifndef DEVICES_TESTED
#define DEVICES_TESTED                                                                                                 \
    {"cpu", 3}, {"cuda:0", 1}, {                                                                                       \
        "cuda:0/bf16", 1                                                                                               \
    }
enum { STEPS = 100 };
#endif
static const struct test_device devices[] = {DEVICES_TESTED};
enum { DEVICES = sizeof devices / sizeof *devices };

static const struct {
    const char *key, *value;
} small[] = {{"hidden", "24"}, {"filters", "4,6"}, {"kernel", "3"}, {"layers", "2"}, {"width", "24"}, {"heads", "3"}};

static const struct dataset_info infos[] = {
    {.form = DATASET_DENSE, .width = 200, .channels = 2, .height = 10, .image_width = 10, .classes = 4},
    {.form = DATASET_SPARSE, .width = 23, .classes = 5},
    {.form = DATASET_TOKENS, .classes = 13, .context = 19},
};
enum { INFOS = sizeof infos / sizeof *infos, BATCH = 9 };
static const float rate = 0.05f;
/* The paths part slowly: f32's 6e-8 a step, bf16's 4e-3 in every activation, magnified by the descent. Measured as
 * relative to the first loss. */
static const double f32_bound = 2e-3, bf16_bound = 3e-2;

/* One batch, in arrays large enough for all forms. */
struct filled {
    struct batch batch;
    float features[BATCH * 200], values[BATCH * 8];
    uint32_t row_starts[BATCH + 1], columns[BATCH * 8];
    int32_t tokens[BATCH * 19], labels[BATCH * 19];
};

static void fill(struct filled *f, const struct dataset_info *info, uint64_t step) {
    struct random random;
    random_init_stream(&random, 20260101, step);
    for (size_t i = 0; i < BATCH * 200; i++)
        f->features[i] = random_normal(&random);
    uint32_t entries = 0;
    for (uint32_t r = 0; r < BATCH; r++) {
        f->row_starts[r] = entries;
        for (uint64_t n = random_below(&random, 8); info->form == DATASET_SPARSE && n > 0; n--) {
            f->columns[entries] = (uint32_t)random_below(&random, info->width);
            f->values[entries++] = random_normal(&random);
        }
    }
    f->row_starts[BATCH] = entries;
    for (size_t i = 0; i < BATCH * 19; i++) { /* labels that can be learnt: the token, or a feature's range */
        f->tokens[i] = (int32_t)random_below(&random, info->classes);
        f->labels[i] = f->tokens[i];
    }
    for (size_t r = 0; info->form != DATASET_TOKENS && r < BATCH; r++)
        f->labels[r] = f->features[r * info->width] > 0 ? 1 : 0;
    f->batch = (struct batch){.count = BATCH,
                              .features = f->features,
                              .row_starts = f->row_starts,
                              .columns = f->columns,
                              .values = f->values,
                              .tokens = f->tokens,
                              .labels = f->labels};
}

/* NULL where the model does not take this form. */
static struct model *create(const struct model_kind *kind, const struct dataset_info *info, struct device *device) {
    struct config *config = config_new();
    struct model *model = NULL;
    char key[64];
    ck_assert_int_eq(config_set(config, "model.kind", kind->name, "test", NULL), LG_OK);
    for (size_t i = 0; i < sizeof small / sizeof *small; i++)
        for (size_t o = 0; o < kind->options->count; o++)
            if (strcmp(kind->options->options[o].key, small[i].key) == 0) {
                snprintf(key, sizeof key, "model.%s", small[i].key);
                ck_assert_int_eq(config_set(config, key, small[i].value, "test", NULL), LG_OK);
            }
    if (model_create(config, info, device, BATCH, &model, NULL) != LG_OK)
        model = NULL;
    config_free(config);
    return model;
}

static void count_announcement(void *context, size_t first, size_t count) {
    (void)first;
    *(size_t *)context += count;
}

/* losses [STEPS]; false where the model does not take this form. */
static bool train(const struct test_device *on, const struct model_kind *kind, const struct dataset_info *info,
                  double *losses) {
    struct device *device;
    struct lg_error error = {0};
    struct filled f;
    ck_assert_msg(device_open(on->spec, on->threads, &device, &error) == LG_OK, "%s", error.message);
    struct model *model = create(kind, info, device);
    if (!model) {
        device_close(device);
        return false;
    }
    const struct device_ops *ops = device->ops;
    float *initial = malloc(model->elements * sizeof *initial);
    ck_assert_ptr_nonnull(initial);
    model_initialise(model, 7, initial);
    ops->upload(model->stream, model->elements * sizeof *initial, initial, model->parameters);
    for (uint64_t step = 0; step < STEPS; step++) {
        struct model_result result;
        size_t announced = 0;
        fill(&f, info, step);
        ck_assert_msg(model_forward(model, &f.batch, &result, &error) == LG_OK, "%s", error.message);
        losses[step] = result.loss_sum / (double)result.predictions;
        if (step % 8 == 7) { /* forward again, from the copy of the parameters that is there */
            model_same_parameters(model);
            ck_assert_int_eq(model_forward(model, &f.batch, &result, &error), LG_OK);
            ck_assert(result.loss_sum / (double)result.predictions == losses[step]);
        }
        ck_assert_int_eq(model_backward(model, count_announcement, &announced, &error), LG_OK);
        ck_assert_uint_eq(announced, model->tensor_count);
        ops->axpy(model->stream, model->elements, -rate, model->gradients, model->parameters);
        ck_assert_msg(ops->synchronize(model->stream, &error) == LG_OK, "%s", error.message);
    }
    free(initial);
    model_destroy(model);
    device_close(device);
    return true;
}

START_TEST(losses_equal_the_cpus) {
    static const struct test_device cpu = {"cpu", 1};
    size_t count;
    const struct model_kind *const *kinds = model_kinds(&count), *kind = kinds[_i % (int)count];
    const struct test_device *gpu = &devices[_i / (int)count];
    const double bound = strstr(gpu->spec, "/bf16") ? bf16_bound : f32_bound;
    double expected[STEPS], losses[STEPS];
    int taken = 0;
    for (int i = 0; i < INFOS; i++) {
        if (!train(&cpu, kind, &infos[i], expected))
            continue;
        ck_assert(train(gpu, kind, &infos[i], losses));
        taken++;
        for (int step = 0; step < STEPS; step++)
            ck_assert_msg(fabs(losses[step] - expected[step]) <= bound * expected[0],
                          "model %s, form %d, step %d: loss %.6f on %s, %.6f on the CPU", kind->name, i, step,
                          losses[step], gpu->spec, expected[step]);
        ck_assert_msg(expected[0] != expected[STEPS - 1], "model %s learns nothing", kind->name);
    }
    ck_assert_int_gt(taken, 0);
}
END_TEST

int main(void) {
    size_t count;
    model_kinds(&count);
    Suite *suite = suite_create("loss curves");
    TCase *tests = tcase_create("every model");
    tcase_set_timeout(tests, 300);
    for (int d = 0; d < DEVICES; d++)
        if (test_device_is_there(&devices[d]))
            tcase_add_loop_test(tests, losses_equal_the_cpus, d * (int)count, (d + 1) * (int)count);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
