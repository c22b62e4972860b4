/* What copies cost, on a device that makes them when somebody waits. */
#include "worker/trainer_copies.h"

#include <check.h>
#include <stdlib.h>

#include "tests/support/devices.h"

static struct test_apart apart;
static struct device *device;
static struct device_stream *computing, *copying;
static struct device_event *event;
static struct trainer_copies copies;

static void setup(void) {
    device = test_apart_open(&apart);
    computing = device->ops->stream_open(device);
    copying = device->ops->stream_open(device);
    event = device->ops->event_open(device);
    ck_assert_int_eq(trainer_copies_init(&copies, device, NULL), LG_OK);
}

static void teardown(void) {
    trainer_copies_deinit(&copies);
    device->ops->event_close(event);
    device->ops->stream_close(computing);
    device->ops->stream_close(copying);
    device_close(device);
}

static uint64_t taken(uint64_t expected_bytes) {
    uint64_t ns = 99, bytes = 99;
    ck_assert_int_eq(trainer_copies_take(&copies, &ns, &bytes, NULL), LG_OK);
    ck_assert_uint_eq(bytes, expected_bytes);
    return ns;
}

START_TEST(only_what_a_step_had_is_counted) {
    ck_assert_uint_eq(taken(0), 0);
    device->ops->event_record(copying, event);
    trainer_copies_await(&copies, computing, event);
    copies.bytes += 40;
    ck_assert_uint_eq(taken(40), TEST_APART_ELAPSED_NS);
    ck_assert_uint_eq(taken(0), 0);
    trainer_copies_end_of_step(&copies, computing, copying);
    ck_assert_uint_eq(taken(0), TEST_APART_ELAPSED_NS);
    trainer_copies_await(&copies, computing, event);
    trainer_copies_end_of_step(&copies, computing, copying);
    ck_assert_uint_eq(taken(0), 2 * TEST_APART_ELAPSED_NS);
}
END_TEST

START_TEST(without_a_device_nothing_is_counted) {
    struct trainer_copies none = {0};
    uint64_t ns = 99, bytes = 99;
    ck_assert_int_eq(trainer_copies_take(&none, &ns, &bytes, NULL), LG_OK);
    ck_assert(ns == 0 && bytes == 0);
    trainer_copies_deinit(&none);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("trainer_copies");
    TCase *tests = tcase_create("trainer_copies");
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, only_what_a_step_had_is_counted);
    tcase_add_test(tests, without_a_device_nothing_is_counted);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
