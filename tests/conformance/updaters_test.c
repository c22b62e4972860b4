/* Every updater in the registry: against its formula in double, over instruction sets bit for bit, and against fixed
 * hashes, so that every compiler and machine that runs this test agrees with the others. */
#include "common/updater.h"

#include <check.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "common/random.h"

enum { ELEMENTS_MAX = 65536, STEPS = 4 };

static const size_t sizes[] = {0, 1, 31, 33, 1023, 4096, ELEMENTS_MAX};
enum { SIZE_COUNT = sizeof sizes / sizeof *sizes };

static const struct updater_moment moment = {.learning_rate = 0.01f, .weight = 0.7f, .weight_decay = 0.02f};

/* ---- the formulas, once more and in double */

struct place {
    double w, a, b; /* value and states */
    double scale;   /* magnitudes added up so far: rounding errors are a share of it */
};

static double decay_of(const struct updater_moment *now, double w) {
    return (double)now->learning_rate * (double)now->weight_decay * (double)now->weight * w;
}

/* One step of one element by the published rule; false for an updater without a reference here. */
static bool reference(const char *name, const double *p, const struct updater_moment *now, double g, struct place *x) {
    double eta = (double)now->learning_rate, s = (double)now->weight, shrink = decay_of(now, x->w);
    double t = (double)now->step;
    if (strcmp(name, "sgd") == 0) {
        x->w = x->w - eta * s * g - shrink;
    } else if (strcmp(name, "momentum") == 0) {
        x->a = p[0] * x->a + s * g;
        x->w = x->w - eta * x->a - shrink;
    } else if (strcmp(name, "nesterov") == 0) {
        x->a = p[0] * x->a + s * g;
        x->w = x->w - eta * (s * g + p[0] * x->a) - shrink;
    } else if (strcmp(name, "delayed-nesterov") == 0) {
        double n = p[1], c = p[2], shared = c;
        x->b += s * g;
        if (fmod(t, n) == 0) {
            x->a = p[0] * x->a + x->b / n;
            x->b = 0;
            shared = 1 - c * n + c;
        }
        x->w = x->w - eta * (shared * p[0] * x->a + s * g / n) - shrink;
    } else if (strcmp(name, "adagrad") == 0) {
        x->a += g * g;
        x->w = x->w - eta * s * g / (sqrt(x->a) + p[0]) - shrink;
    } else if (strcmp(name, "rmsprop") == 0) {
        x->a = p[0] * x->a + (1 - p[0]) * g * g;
        x->w = x->w - eta * s * g / (sqrt(x->a) + p[1]) - shrink;
    } else if (strcmp(name, "adam") == 0 || strcmp(name, "adamw") == 0) {
        x->a = p[0] * x->a + (1 - p[0]) * s * g;
        x->b = p[1] * x->b + (1 - p[1]) * g * g;
        double m = x->a / (1 - pow(p[0], t)), v = x->b / (1 - pow(p[1], t));
        x->w = x->w - eta * m / (sqrt(v) + p[2]) - shrink;
    } else if (strcmp(name, "lion") == 0) {
        double direction = p[0] * x->a + (1 - p[0]) * g;
        x->w = x->w - eta * s * (direction > 0 ? 1 : direction < 0 ? -1 : 0) - shrink;
        x->a = p[1] * x->a + (1 - p[1]) * g;
    } else {
        return false;
    }
    return true;
}

/* ---- data */

struct data {
    size_t n;
    float *w, *g, *states[UPDATER_STATES_MAX];
};

/* Exact in every environment: integers and powers of two only. */
static float number(struct random *random) {
    static const float scales[] = {1, 0x1p-3f, 0x1p-10f, 0x1p-20f, 0x1p5f};
    uint64_t kind = random_below(random, 40);
    float x = random_float(random) - 0.5f;
    if (kind == 0)
        return 0;
    if (kind == 1)
        return -0.0f;
    if (kind == 2)
        return x * 0x1p-130f; /* subnormal */
    return x * scales[random_below(random, 5)];
}

static float *floats(size_t n) {
    float *out = calloc(n + 1, sizeof *out);
    ck_assert_ptr_nonnull(out);
    return out;
}

static void data_init(struct data *data, size_t n) {
    *data = (struct data){.n = n, .w = floats(n), .g = floats(n)};
    for (int i = 0; i < UPDATER_STATES_MAX; i++)
        data->states[i] = floats(n);
    struct random random;
    random_init(&random, n + 1);
    for (size_t i = 0; i < n; i++)
        data->w[i] = number(&random);
}

static void data_deinit(struct data *data) {
    free(data->w);
    free(data->g);
    for (int i = 0; i < UPDATER_STATES_MAX; i++)
        free(data->states[i]);
}

static void next_gradient(struct data *data, uint64_t step) {
    struct random random;
    random_init_stream(&random, data->n, step);
    for (size_t i = 0; i < data->n; i++)
        data->g[i] = number(&random);
}

static void defaults_of(const struct updater *updater, double *values) {
    for (size_t i = 0; i < updater->param_count; i++)
        values[i] = updater->params[i].fallback;
}

static struct updater_moment moment_of(const struct updater *updater, uint64_t step) {
    struct updater_moment now = moment;
    now.step = step;
    if (updater->no_weight_decay)
        now.weight_decay = 0;
    return now;
}

static void run(const struct updater *updater, enum isa isa, struct data *data) {
    double values[UPDATER_PARAMS_MAX];
    float scalars[UPDATER_SCALARS_MAX];
    defaults_of(updater, values);
    for (uint64_t step = 1; step <= STEPS; step++) {
        const struct updater_moment now = moment_of(updater, step);
        next_gradient(data, step);
        updater->decide(values, &now, scalars);
        updater->apply[isa](data->w, data->states, data->g, data->n, scalars);
    }
}

/* ---- tests */

static const struct updater *updater_at(int index) {
    size_t count;
    const struct updater *const *table = updaters(&count);
    ck_assert_uint_lt((size_t)index, count);
    return table[index];
}

START_TEST(descriptors_are_complete) {
    const struct updater *updater = updater_at(_i), *found = NULL;
    ck_assert_int_eq(updater_find(updater->name, &found, NULL), LG_OK);
    ck_assert_ptr_eq(found, updater);
    ck_assert(updater->summary[0] && updater->formula[0]);
    ck_assert_uint_le(updater->state_count, UPDATER_STATES_MAX);
    ck_assert_uint_le(updater->scalar_count, UPDATER_SCALARS_MAX);
    ck_assert_uint_le(updater->param_count, UPDATER_PARAMS_MAX);
    for (int isa = 0; isa <= (int)isa_detect(); isa++)
        ck_assert(updater->apply[isa] != NULL);
    for (size_t i = 0; i < updater->param_count; i++) {
        const struct updater_param *param = &updater->params[i];
        ck_assert(param->least <= param->fallback && param->fallback <= param->most && param->help[0]);
    }
}
END_TEST

START_TEST(follows_its_formula) {
    const struct updater *updater = updater_at(_i);
    double values[UPDATER_PARAMS_MAX];
    float scalars[UPDATER_SCALARS_MAX];
    struct data data;
    defaults_of(updater, values);
    data_init(&data, 4096);
    struct place *places = calloc(data.n, sizeof *places);
    ck_assert_ptr_nonnull(places);
    for (size_t i = 0; i < data.n; i++)
        places[i].w = (double)data.w[i];
    for (uint64_t step = 1; step <= STEPS; step++) {
        const struct updater_moment now = moment_of(updater, step);
        next_gradient(&data, step);
        updater->decide(values, &now, scalars);
        updater->apply[ISA_BASE](data.w, data.states, data.g, data.n, scalars);
        for (size_t i = 0; i < data.n; i++) {
            double before = places[i].w;
            ck_assert_msg(reference(updater->name, values, &now, (double)data.g[i], &places[i]),
                          "write down the formula of \"%s\" in this test", updater->name);
            double after = places[i].w;
            places[i].scale += fabs(before) + fabs(after - before);
            double bound = 1e-6 * places[i].scale + 1e-12;
            if (data.g[i] != 0 && fabsf(data.g[i]) < 0x1p-126f)
                bound += (double)now.learning_rate; /* products with subnormals may round to nothing */
            ck_assert_msg(fabs((double)data.w[i] - after) <= bound, "%s, step %" PRIu64 ", element %zu: %.9g, not %.9g",
                          updater->name, step, i, (double)data.w[i], after);
        }
    }
    free(places);
    data_deinit(&data);
}
END_TEST

START_TEST(zero_gradient_and_no_decay_leave_fresh_values) {
    const struct updater *updater = updater_at(_i);
    double values[UPDATER_PARAMS_MAX];
    float scalars[UPDATER_SCALARS_MAX];
    struct data data;
    const struct updater_moment now = {.learning_rate = 0.01f, .weight = 1, .step = 1};
    data_init(&data, 1023);
    float *before = floats(data.n);
    memcpy(before, data.w, data.n * sizeof *before);
    defaults_of(updater, values);
    updater->decide(values, &now, scalars);
    updater->apply[ISA_BASE](data.w, data.states, data.g, data.n, scalars);
    for (size_t i = 0; i < data.n; i++)
        ck_assert(data.w[i] == before[i]);
    free(before);
    data_deinit(&data);
}
END_TEST

START_TEST(all_instruction_sets_give_the_same_bits) {
    const struct updater *updater = updater_at(_i);
    for (size_t size = 0; size < SIZE_COUNT; size++) {
        struct data expected;
        data_init(&expected, sizes[size]);
        run(updater, ISA_BASE, &expected);
        size_t bytes = expected.n * sizeof(float);
        for (int isa = ISA_BASE + 1; isa <= (int)isa_detect(); isa++) {
            struct data got;
            data_init(&got, sizes[size]);
            run(updater, (enum isa)isa, &got);
            ck_assert_msg(memcmp(got.w, expected.w, bytes) == 0, "%s differs on %s, %zu elements", updater->name,
                          isa_name((enum isa)isa), sizes[size]);
            for (int i = 0; i < UPDATER_STATES_MAX; i++)
                ck_assert(memcmp(got.states[i], expected.states[i], bytes) == 0);
            ck_assert(got.w[got.n] == 0); /* nothing beyond the end */
            data_deinit(&got);
        }
        data_deinit(&expected);
    }
}
END_TEST

/* Made by gcc 12 with -O3; clang 14 and the sanitizer builds must agree. A change of a kernel's arithmetic changes its
 * hash: every replica and every recording then has to be of the same version. */
static const struct {
    const char *name;
    uint64_t hash;
} golden[] = {
    {"sgd", 0x1ce3653024a2f2b3},
    {"momentum", 0x99e21277e241368d},
    {"nesterov", 0xacddbef5c272f11c},
    {"adagrad", 0x5120137dca2c8e67},
    {"rmsprop", 0x6044e30bdc013c68},
    {"adam", 0x32c21ddecac9273f},
    {"delayed-nesterov", 0x7381910ffbdcfc15},
    {"adamw", 0x99d1ac1a771cd2d4},
    {"lion", 0xab937a7226f0d527},
};

START_TEST(bits_are_the_golden_ones) {
    const struct updater *updater = updater_at(_i);
    struct data data;
    data_init(&data, 4096);
    run(updater, isa_detect(), &data);
    uint64_t hash = XXH3_64bits(data.w, data.n * sizeof(float));
    for (uint32_t i = 0; i < updater->state_count; i++)
        hash ^= XXH3_64bits_withSeed(data.states[i], data.n * sizeof(float), i + 1);
    data_deinit(&data);
    for (size_t i = 0; i < sizeof golden / sizeof *golden; i++)
        if (strcmp(golden[i].name, updater->name) == 0) {
            ck_assert_msg(golden[i].hash == hash, "%s gives 0x%016" PRIx64, updater->name, hash);
            return;
        }
    ck_abort_msg("no golden hash for \"%s\": it is 0x%016" PRIx64, updater->name, hash);
}
END_TEST

START_TEST(configuration_is_checked) {
    const struct updater *updater = updater_at(_i), *found = NULL;
    double values[UPDATER_PARAMS_MAX];
    struct lg_error error = {0};
    struct config *config = config_new();
    ck_assert_int_eq(config_set(config, "updater.kind", updater->name, "job.yaml", NULL), LG_OK);
    ck_assert_int_eq(updater_configure(config, &found, values, &error), LG_OK);
    ck_assert_ptr_eq(found, updater);
    for (size_t i = 0; i < updater->param_count; i++)
        ck_assert(values[i] == updater->params[i].fallback);
    ck_assert_int_eq(config_set(config, "updater.zzzzzz", "1", "job.yaml", NULL), LG_OK);
    ck_assert_int_eq(updater_configure(config, &found, values, &error), LG_INVALID);
    ck_assert_ptr_nonnull(strstr(error.message, "job.yaml"));
    ck_assert_ptr_nonnull(strstr(error.message, "updater.zzzzzz"));
    config_free(config);
    for (size_t i = 0; i < updater->param_count; i++) {
        char key[64], wrong[80], value[64];
        config = config_new();
        snprintf(key, sizeof key, "updater.%s", updater->params[i].name);
        snprintf(wrong, sizeof wrong, "%sx", key);
        snprintf(value, sizeof value, "%.17g", updater->params[i].most * 2);
        ck_assert_int_eq(config_set(config, "updater.kind", updater->name, "job.yaml", NULL), LG_OK);
        ck_assert_int_eq(config_set(config, key, value, "job.yaml", NULL), LG_OK);
        ck_assert_int_eq(updater_configure(config, &found, values, &error), LG_INVALID);
        ck_assert_ptr_nonnull(strstr(error.message, key));
        snprintf(value, sizeof value, "%.17g", (updater->params[i].least + updater->params[i].most) / 2);
        ck_assert_int_eq(config_set(config, key, value, "job.yaml", NULL), LG_OK);
        ck_assert_int_eq(updater_configure(config, &found, values, &error), LG_OK);
        ck_assert(values[i] == (updater->params[i].least + updater->params[i].most) / 2);
        ck_assert_int_eq(config_set(config, wrong, "0.5", "job.yaml", NULL), LG_OK);
        ck_assert_int_eq(updater_configure(config, &found, values, &error), LG_INVALID);
        ck_assert_msg(strstr(error.message, "did you mean") && strstr(error.message, key), "%s", error.message);
        config_free(config);
    }
}
END_TEST

int main(void) {
    Suite *suite = suite_create("updaters");
    TCase *tests = tcase_create("updaters");
    size_t count;
    updaters(&count);
    int last = (int)count;
    tcase_add_loop_test(tests, descriptors_are_complete, 0, last);
    tcase_add_loop_test(tests, follows_its_formula, 0, last);
    tcase_add_loop_test(tests, zero_gradient_and_no_decay_leave_fresh_values, 0, last);
    tcase_add_loop_test(tests, all_instruction_sets_give_the_same_bits, 0, last);
    tcase_add_loop_test(tests, bits_are_the_golden_ones, 0, last);
    tcase_add_loop_test(tests, configuration_is_checked, 0, last);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
