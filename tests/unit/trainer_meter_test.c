#include "worker/trainer_meter.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static struct lg_progress last;
static unsigned reports;

/* In place of the library's. */
void lg_report_progress(struct lg_client *client, const struct lg_progress *progress) {
    (void)client;
    last = *progress;
    reports++;
}

static int agent_fd, trainer_fd;
static struct meter meter;

static void setup(void) {
    int pair[2];
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    agent_fd = pair[0];
    trainer_fd = pair[1];
    meter_init(&meter, trainer_fd);
}

static void teardown(void) {
    close(agent_fd);
    close(trainer_fd);
}

static const char *told(void) {
    static char text[4096];
    ssize_t count = recv(agent_fd, text, sizeof text - 1, MSG_DONTWAIT);
    text[count > 0 ? count : 0] = '\0';
    return text;
}

START_TEST(averages_begin_with_the_first_step_and_follow) {
    meter_add_step(&meter, 32, 32, 64, 16, 1000);
    ck_assert_double_eq_tol(meter.numbers.loss, 2, 1e-12);
    ck_assert_double_eq_tol(meter.numbers.accuracy, 0.5, 1e-12);
    meter_add_step(&meter, 32, 32, 0, 32, 1000);
    ck_assert_double_eq_tol(meter.numbers.loss, 1, 1e-12); /* a plain mean at first */
    for (int i = 0; i < 500; i++)
        meter_add_step(&meter, 32, 32, 16, 8, 1000);
    ck_assert_double_eq_tol(meter.numbers.loss, 0.5, 1e-3);
    ck_assert_double_eq_tol(meter.numbers.accuracy, 0.25, 1e-3);
    ck_assert_uint_eq(meter.numbers.steps, 502);
    ck_assert_uint_eq(meter.numbers.samples, UINT64_C(502) * 32);
    meter_add_step(&meter, 1, 0, 0, 0, 1000); /* a step that failed */
    ck_assert_double_eq_tol(meter.numbers.loss, 0.5, 1e-3);
}
END_TEST

START_TEST(times_have_parts_and_language_models_tokens) {
    struct device *device;
    ck_assert_int_eq(device_open("cpu", 1, &device, NULL), LG_OK);
    device->flops_peak = 1e12;
    meter_describe(&meter, true, 6e6, device);
    for (int i = 0; i < 10; i++) {
        meter_add_read(&meter, 10);
        meter.numbers.compute_ns += 100; /* in which copies took 20 */
        meter_add_copies(&meter, 20, 4096);
        meter_add_wait(&meter, 30);
        meter_add_step(&meter, 8, 800, 1, 1, 100000000);
    }
    meter_flush(&meter, (struct lg_client *)&meter);
    ck_assert_uint_eq(last.compute_ns, 1100);
    ck_assert_uint_eq(last.read_ns, 100);
    ck_assert_uint_eq(last.copy_ns, 200);
    ck_assert_uint_eq(last.copy_bytes, 40960);
    ck_assert_uint_eq(last.wait_ns, 300);
    ck_assert_uint_eq(last.communication_ns, 300);
    ck_assert_double_eq_tol(last.samples_per_second, 80, 0.1);
    ck_assert_double_eq_tol(last.tokens_per_second, 8000, 1);
    ck_assert_double_eq_tol(last.flops_per_second, 4.8e10, 1e7);
    ck_assert_double_eq_tol(last.flops_peak, 1e12, 1);
    ck_assert_ptr_nonnull(strstr(told(), " tokens_rate=8000 "));
    ck_assert_uint_gt(last.memory_used_bytes, 1 << 20);
    device_close(device);
    meter_describe(&meter, false, 0, NULL); /* predictions are samples, of unknown cost */
    meter_flush(&meter, (struct lg_client *)&meter);
    ck_assert_double_eq(last.tokens_per_second, 0);
    ck_assert_double_eq(last.flops_per_second, 0);
}
END_TEST

START_TEST(every_push_is_told_once) {
    for (uint64_t i = 0; i < 20; i++)
        meter_add_push(&meter, i % 5, i == 7 ? 0 : 0.5);
    ck_assert_uint_eq(meter.numbers.pushes, 20);
    ck_assert_uint_eq(meter.numbers.dropped, 1);
    ck_assert_uint_eq(meter.numbers.staleness_max, 4);
    ck_assert_double_eq_tol(meter.numbers.staleness_mean, 2, 1e-9);
    ck_assert_double_eq_tol(meter.numbers.weight_mean, 9.5 / 20, 1e-9);
    ck_assert_str_eq(told(), "pushes 0:0.5 1:0.5 2:0.5 3:0.5 4:0.5 0:0.5 1:0.5 2:0 3:0.5 4:0.5 0:0.5 1:0.5 2:0.5 "
                             "3:0.5\n");
    meter_flush(&meter, NULL);
    const char *rest = told();
    ck_assert_ptr_eq(strstr(rest, "pushes 4:0.5 0:0.5 1:0.5 2:0.5 3:0.5 4:0.5\n"), rest);
    ck_assert_ptr_nonnull(strstr(rest, "staleness_mean=2 "));
    meter_flush(&meter, NULL);
    ck_assert_ptr_null(strstr(told(), "pushes 4"));
}
END_TEST

/* Lets the meter believe that its last report was `ms` ago. */
static void later(uint64_t ms) {
    meter.reported_ns = meter_clock_ns() - ms * 1000000;
    meter.point_ns = meter.reported_ns;
    meter_tick(&meter, (struct lg_client *)&meter);
}

START_TEST(the_rate_is_of_the_last_seconds_of_work) {
    for (int second = 0; second < 20; second++) { /* 100 samples a second, then 300 */
        for (int i = 0; i < 10; i++)
            meter_add_step(&meter, second < 10 ? 10 : 30, 1, 1, 1, 100000000);
        later(1000);
        ck_assert_double_ge(last.samples_per_second, 99);
        if (second < 10)
            ck_assert_double_eq_tol(last.samples_per_second, 100, 1);
    }
    ck_assert_double_eq_tol(last.samples_per_second, 300, 1);
    ck_assert_uint_eq(reports, 20);
}
END_TEST

START_TEST(reports_come_every_second_and_sooner_at_first) {
    meter_add_step(&meter, 10, 1, 1, 1, 1000);
    later(100);
    ck_assert_uint_eq(reports, 0);
    later(250);
    ck_assert_uint_eq(reports, 1);
    meter_add_step(&meter, 10, 1, 1, 1, UINT64_C(2000000000));
    later(900);
    ck_assert_uint_eq(reports, 1);
    later(1100);
    ck_assert_uint_eq(reports, 2);
    meter_tick(&meter, NULL);
    ck_assert_uint_eq(reports, 2);
}
END_TEST

START_TEST(the_agent_is_told) {
    meter_set_state(&meter, "joining");
    ck_assert_ptr_nonnull(strstr(told(), "numbers state=joining steps=0"));
    meter_say_reason(&meter, "it broke");
    ck_assert_str_eq(told(), "reason it broke\n");
    for (int i = 0; i < 100000; i++) /* an agent that does not read does not hold us up */
        meter_set_state(&meter, "training");
    close(agent_fd);
    meter_set_state(&meter, "training"); /* nor one that is gone */
    agent_fd = dup(trainer_fd);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("trainer_meter");
    TCase *tests = tcase_create("trainer_meter");
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, averages_begin_with_the_first_step_and_follow);
    tcase_add_test(tests, times_have_parts_and_language_models_tokens);
    tcase_add_test(tests, every_push_is_told_once);
    tcase_add_test(tests, the_rate_is_of_the_last_seconds_of_work);
    tcase_add_test(tests, reports_come_every_second_and_sooner_at_first);
    tcase_add_test(tests, the_agent_is_told);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
