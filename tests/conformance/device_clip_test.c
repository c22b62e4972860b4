/* Clipping by norm, on every device, against sums in double. */
#include "gpu/device.h"

#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/random.h"
#include "tests/support/devices.h"

/* GPUs are tested where there are any. tests/gpu/emulated_clip_test.c names emulated ones in their place. */
#ifndef DEVICES_TESTED
#define DEVICES_TESTED                                                                                                 \
    {"cpu", 1}, {"cpu", 3}, {                                                                                          \
        "cuda:0", 1                                                                                                    \
    }
#endif
static const struct test_device devices[] = {DEVICES_TESTED};
enum { DEVICES = sizeof devices / sizeof *devices };

static struct device *device;
static struct device_stream *stream;

static void open_device(int number) {
    struct lg_error error = {0};
    ck_assert_msg(device_open(devices[number].spec, devices[number].threads, &device, &error) == LG_OK, "%s",
                  error.message);
    stream = device->ops->stream_open(device);
    ck_assert_ptr_nonnull(stream);
}

static void close_device(void) {
    device->ops->stream_close(stream);
    device_close(device);
}

/* x [n] becomes what the device makes of it. */
static void clip(size_t n, double most, float *x) {
    float *memory = device->ops->alloc(device, n * sizeof *x);
    ck_assert_ptr_nonnull(memory);
    device->ops->upload(stream, n * sizeof *x, x, memory);
    device->ops->clip(stream, n, most, memory);
    device->ops->download(stream, n * sizeof *x, memory, x);
    ck_assert_int_eq(device->ops->synchronize(stream, NULL), LG_OK);
    device->ops->free(device, memory);
}

START_TEST(long_gradients_are_shortened_and_short_ones_stay) {
    static const size_t sizes[] = {0, 1, 31, 33, 1023, 65537, (1u << 20) + 1};
    struct random random;
    random_init(&random, 3);
    open_device(_i);
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
        const size_t n = sizes[s];
        float *x = calloc(n + 1, sizeof *x), *y = calloc(n + 1, sizeof *y);
        double sum = 0;
        ck_assert(x && y);
        for (size_t i = 0; i < n; i++) {
            x[i] = random_normal(&random);
            sum += (double)x[i] * (double)x[i];
        }
        memcpy(y, x, n * sizeof *x);
        clip(n, 1.001 * sqrt(sum), y);
        ck_assert_int_eq(memcmp(x, y, n * sizeof *x), 0);
        clip(n, 0.25 * sqrt(sum), y);
        for (size_t i = 0; i < n; i++)
            if (!(fabsf(y[i] - 0.25f * x[i]) <= 1e-6f * fabsf(x[i])))
                ck_abort_msg("element %zu of %zu: %g of %g", i, n, (double)y[i], (double)x[i]);
        free(x), free(y);
    }
    close_device();
}
END_TEST

START_TEST(squares_may_overflow_single_precision) {
    float x[2] = {3e38f, -3e38f};
    open_device(_i);
    clip(2, sqrt(2), x);
    ck_assert_float_eq_tol(x[0], 1, 1e-6f);
    ck_assert_float_eq_tol(x[1], -1, 1e-6f);
    close_device();
}
END_TEST

START_TEST(what_is_not_finite_stays_to_be_seen) {
    float x[3] = {1, NAN, 100}, y[2] = {INFINITY, 5}, zero[2] = {0};
    open_device(_i);
    clip(3, 1, x);
    ck_assert(x[0] == 1 && isnan(x[1]) && x[2] == 100);
    clip(2, 1, y);
    ck_assert(isinf(y[0]) && y[1] == 5);
    clip(2, 1, zero);
    ck_assert(zero[0] == 0 && zero[1] == 0);
    close_device();
}
END_TEST

int main(void) {
    Suite *suite = suite_create("device clip");
    TCase *tests = tcase_create("every device");
    tcase_set_timeout(tests, 120);
    for (int d = 0; d < DEVICES; d++) {
        if (!test_device_is_there(&devices[d]))
            continue;
        tcase_add_loop_test(tests, long_gradients_are_shortened_and_short_ones_stay, d, d + 1);
        tcase_add_loop_test(tests, squares_may_overflow_single_precision, d, d + 1);
        tcase_add_loop_test(tests, what_is_not_finite_stays_to_be_seen, d, d + 1);
    }
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
