#include "gpu/device.h"

#include <check.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

START_TEST(cpu_opens_with_the_threads_asked_for) {
    struct device *device;
    ck_assert_int_eq(device_open("cpu", 2, &device, NULL), LG_OK);
    ck_assert_str_eq(device->ops->kind, "cpu");
    ck_assert_uint_eq(device->threads, 2);
    ck_assert(device->host_memory);
    ck_assert_ptr_nonnull(strstr(device->name, "2 threads"));
    device_close(device);
    device_close(NULL);
}
END_TEST

START_TEST(zero_threads_take_the_cores_there_are) {
    struct device *device;
    ck_assert_int_eq(device_open("cpu", 0, &device, NULL), LG_OK);
    ck_assert_uint_ge(device->threads, 1);
    device_close(device);
}
END_TEST

START_TEST(auto_always_finds_a_device) {
    struct device *device;
    ck_assert_int_eq(device_open("auto", 1, &device, NULL), LG_OK);
    device_ops_check(device->ops);
    device_close(device);
}
END_TEST

START_TEST(what_is_not_there_is_an_error_and_never_another_device) {
    static const struct {
        const char *spec;
        enum lg_status status;
        const char *says;
    } cases[] = {
        {"cuda:999", LG_OK, "\"cuda:999\""},    {"gpu", LG_INVALID, "\"gpu\""},
        {"cuda:", LG_INVALID, "\"cuda:\""},     {"cuda:1x", LG_INVALID, "\"cuda:1x\""},
        {"cuda:-1", LG_INVALID, "\"cuda:-1\""}, {"", LG_INVALID, "\"cpu\""},
        {"cudal", LG_INVALID, "\"cudal\""},     {"cuda:0/f16", LG_INVALID, "\"/bf16\""},
        {"cuda:0/", LG_INVALID, "\"cuda:0/\""}, {"cuda/bf16:0", LG_INVALID, "\"cuda/bf16:0\""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct device *device = (struct device *)&device;
        struct lg_error error = {0};
        enum lg_status status = device_open(cases[i].spec, 1, &device, &error);
        if (cases[i].status == LG_OK) /* which one depends on the machine */
            ck_assert(status == LG_UNSUPPORTED || status == LG_NOT_FOUND);
        else
            ck_assert_int_eq(status, cases[i].status);
        ck_assert_ptr_null(device);
        ck_assert_msg(strstr(error.message, cases[i].says) != NULL, "%s", error.message);
    }
    struct device *device;
    ck_assert_int_eq(device_open("cpu", 100000, &device, NULL), LG_INVALID);
}
END_TEST

START_TEST(specs_of_gpus_are_told_apart) {
    static const struct {
        const char *spec;
        unsigned number;
        const char *math;
    } cases[] = {{"cuda", 0, "f32"}, {"cuda:7", 7, "f32"}, {"cuda/bf16", 0, "bf16"}, {"cuda:12/tf32", 12, "tf32"}};
    unsigned number;
    const char *math;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        ck_assert(device_spec_is_cuda(cases[i].spec, &number, &math));
        ck_assert_uint_eq(number, cases[i].number);
        ck_assert_str_eq(math, cases[i].math);
    }
    ck_assert(!device_spec_is_cuda("cpu", &number, &math));
    ck_assert(!device_spec_is_cuda("cuda:1234", &number, &math));
}
END_TEST

START_TEST(memory_that_is_not_there_is_null) {
    struct device *device;
    ck_assert_int_eq(device_open("cpu", 1, &device, NULL), LG_OK);
    ck_assert_ptr_null(device->ops->alloc(device, SIZE_MAX - 5));
    void *nothing = device->ops->alloc(device, 0);
    ck_assert_ptr_nonnull(nothing);
    device->ops->free(device, nothing);
    device->ops->free(device, NULL);
    device_close(device);
}
END_TEST

START_TEST(a_missing_op_aborts) {
    struct device *device;
    ck_assert_int_eq(device_open("cpu", 1, &device, NULL), LG_OK);
    struct device_ops incomplete = *device->ops;
    incomplete.sparse_backward = NULL;
    device_ops_check(&incomplete);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("device");
    TCase *tests = tcase_create("open");
    tcase_add_test(tests, cpu_opens_with_the_threads_asked_for);
    tcase_add_test(tests, zero_threads_take_the_cores_there_are);
    tcase_add_test(tests, auto_always_finds_a_device);
    tcase_add_test(tests, what_is_not_there_is_an_error_and_never_another_device);
    tcase_add_test(tests, specs_of_gpus_are_told_apart);
    tcase_add_test(tests, memory_that_is_not_there_is_null);
    tcase_add_test_raise_signal(tests, a_missing_op_aborts, SIGABRT);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
