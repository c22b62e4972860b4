/* Numbers of devices, with a management library that the tests bring (tests/gpu/fake_nvml.c). */
#include "worker/agent_devices.h"

#include <check.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static char library[PATH_MAX + 64];

/* build/X/tests/unit/this -> build/X/tests/gpu/emulated/driver/libnvidia-ml.so.1 */
static void setup(void) {
    char path[PATH_MAX];
    ssize_t bytes = readlink("/proc/self/exe", path, sizeof path - 1);
    ck_assert_int_gt(bytes, 0);
    path[bytes] = '\0';
    for (int up = 0; up < 2; up++)
        *strrchr(path, '/') = '\0';
    snprintf(library, sizeof library, "%s/gpu/emulated/driver/libnvidia-ml.so.1", path);
}

/* Which card is which is not what one would guess from the numbers. */
static bool fake_bus_id(unsigned number, char bus_id[NVML_BUS_ID_BYTES]) {
    snprintf(bus_id, NVML_BUS_ID_BYTES, "0000:%02x:00.0", 0x11 - number);
    return number < 4;
}

static struct nvml *opened(void) {
    struct nvml *nvml = NULL;
    struct lg_error error = {0};
    enum lg_status status = nvml_open(library, &nvml, &error);
    ck_assert_msg(status == LG_OK, "%s", error.message);
    return nvml;
}

START_TEST(a_card_is_found_by_its_address) {
    struct nvml_numbers numbers;
    struct nvml *nvml = opened();
    ck_assert(nvml_read(nvml, "0000:12:00.0", &numbers));
    ck_assert_str_eq(numbers.name, "fake card 12");
    ck_assert(numbers.memory_known && numbers.utilisation_known && numbers.temperature_known && numbers.power_known);
    ck_assert_uint_eq(numbers.memory_bytes, UINT64_C(80) << 30);
    ck_assert_uint_eq(numbers.memory_used_bytes, UINT64_C(3) << 30);
    ck_assert_uint_eq(numbers.utilisation_percent, 0x12);
    ck_assert_uint_eq(numbers.temperature_c, 40 + 0x12);
    ck_assert_uint_eq(numbers.power_mw, 1000 * 0x12);
    ck_assert(nvml_read(nvml, "0000:0f:00.0", &numbers)); /* it does not say everything */
    ck_assert(numbers.memory_known);
    ck_assert(!numbers.utilisation_known && !numbers.temperature_known && !numbers.power_known);
    ck_assert(!nvml_read(nvml, "0000:05:00.0", &numbers));
    ck_assert(!nvml_read(nvml, "nonsense", &numbers));
    nvml_close(nvml);
    nvml_close(NULL);
}
END_TEST

START_TEST(a_library_that_is_not_there_or_is_another_says_so) {
    struct nvml *nvml = NULL;
    struct lg_error error = {0};
    ck_assert_int_eq(nvml_open("/nowhere/libnvidia-ml.so.1", &nvml, &error), LG_UNSUPPORTED);
    ck_assert_ptr_nonnull(strstr(error.message, "/nowhere/libnvidia-ml.so.1"));
    ck_assert_int_eq(nvml_open("libc.so.6", &nvml, &error), LG_UNSUPPORTED);
    ck_assert_ptr_nonnull(strstr(error.message, "nvmlInit_v2"));
    ck_assert_ptr_null(nvml);
}
END_TEST

START_TEST(the_kernel_is_read) {
    static char memory[] = "MemTotal:       1000 kB\nMemFree:         100 kB\nMemAvailable:    300 kB\n";
    static char times[] = "cpu  10 20 30 400 50 1 2 3 0 0\ncpu0 1 2 3 4 5 6 7 8 0 0\n";
    static char little[] = "intr 5\n";
    uint64_t a, b;
    FILE *file = fmemopen(memory, sizeof memory - 1, "r");
    ck_assert(host_read_memory(file, &a, &b));
    fclose(file);
    ck_assert_uint_eq(a, 1000 * 1024);
    ck_assert_uint_eq(b, 700 * 1024);
    file = fmemopen(times, sizeof times - 1, "r");
    ck_assert(host_read_ticks(file, &a, &b));
    fclose(file);
    ck_assert_uint_eq(a, 66);
    ck_assert_uint_eq(b, 516);
    file = fmemopen(little, sizeof little - 1, "r");
    ck_assert(!host_read_ticks(file, &a, &b));
    rewind(file);
    ck_assert(!host_read_memory(file, &a, &b));
    fclose(file);
    ck_assert_uint_eq(host_busy_percent(33, 100), 33);
    ck_assert_uint_eq(host_busy_percent(800, 800), 100);
    ck_assert_uint_eq(host_busy_percent(800, 790), 100); /* idle ticks have gone back */
}
END_TEST

/* Polls until `count` devices have numbers. */
static size_t samples_of(struct agent_devices *sampler, size_t count, struct device_sample *samples) {
    size_t found = 0;
    for (int i = 0; i < 10000 && (found = agent_devices_take(sampler, samples)) < count; i++)
        nanosleep(&(struct timespec){0, 1000000}, NULL);
    return found;
}

START_TEST(an_agent_knows_its_devices) {
    static const char offered[][HOST_DEVICE_BYTES] = {"cuda:0/bf16", "cpu", "cuda:1", "cuda:9", "cuda:2"};
    static struct device_sample samples[HOST_DEVICES_MAX];
    struct agent_devices *sampler = agent_devices_start(&(struct agent_devices_options){
        .devices = offered, .device_count = 5, .library = library, .bus_id = fake_bus_id});
    ck_assert_ptr_nonnull(sampler);
    ck_assert_uint_eq(samples_of(sampler, 4, samples), 4); /* cuda:9 is left out */
    ck_assert_str_eq(samples[0].stats.device, "cuda:0/bf16");
    ck_assert_str_eq(samples[0].stats.name, "fake card 11");
    ck_assert_uint_eq(samples[0].stats.utilisation_percent, 0x11);
    ck_assert_str_eq(samples[1].stats.device, "cpu");
    ck_assert_uint_gt(samples[1].stats.memory_bytes, samples[1].stats.memory_used_bytes);
    ck_assert_str_eq(samples[2].stats.name, "fake card 10");
    ck_assert_str_eq(samples[3].stats.name, "fake card f");
    ck_assert(!samples[3].stats.utilisation_known);
    ck_assert_uint_eq(samples[3].stats.power_mw, 0);
    for (int i = 0; i < 10000 && !samples[1].stats.utilisation_known; i++) { /* from the second sample on */
        nanosleep(&(struct timespec){0, 1000000}, NULL);
        agent_devices_take(sampler, samples);
    }
    ck_assert(samples[1].stats.utilisation_known);
    ck_assert_uint_le(samples[1].stats.utilisation_percent, 100);
    agent_devices_stop(sampler);
    agent_devices_stop(NULL);
    ck_assert_uint_eq(agent_devices_take(NULL, samples), 0);
}
END_TEST

START_TEST(without_the_library_only_the_cpu_is_known) {
    static const char offered[][HOST_DEVICE_BYTES] = {"cuda:0", "auto"};
    static struct device_sample samples[HOST_DEVICES_MAX];
    struct agent_devices *sampler = agent_devices_start(&(struct agent_devices_options){
        .devices = offered, .device_count = 2, .library = "/nowhere/x.so", .bus_id = fake_bus_id});
    ck_assert_uint_eq(samples_of(sampler, 1, samples), 1);
    ck_assert_str_eq(samples[0].stats.device, "auto");
    agent_devices_stop(sampler);
}
END_TEST

static bool hanging_bus_id(unsigned number, char bus_id[NVML_BUS_ID_BYTES]) {
    snprintf(bus_id, NVML_BUS_ID_BYTES, "0000:%02x:00.0", 0x0e + number);
    return true;
}

static double seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

START_TEST(a_card_that_does_not_answer_holds_nobody_up) {
    static const char offered[][HOST_DEVICE_BYTES] = {"cpu", "cuda:0"};
    static struct device_sample samples[HOST_DEVICES_MAX];
    struct agent_devices *sampler = agent_devices_start(&(struct agent_devices_options){
        .devices = offered, .device_count = 2, .library = library, .bus_id = hanging_bus_id});
    ck_assert_uint_eq(samples_of(sampler, 1, samples), 1);
    double began = seconds();
    agent_devices_take(sampler, samples);
    ck_assert_double_lt(seconds() - began, 1);
    agent_devices_stop(sampler);
    ck_assert_double_lt(seconds() - began, 3.5); /* the card takes 4 */
}
END_TEST

int main(void) {
    Suite *suite = suite_create("agent_devices");
    TCase *tests = tcase_create("agent_devices");
    tcase_add_checked_fixture(tests, setup, NULL);
    tcase_set_timeout(tests, 60);
    tcase_add_test(tests, a_card_is_found_by_its_address);
    tcase_add_test(tests, a_library_that_is_not_there_or_is_another_says_so);
    tcase_add_test(tests, the_kernel_is_read);
    tcase_add_test(tests, an_agent_knows_its_devices);
    tcase_add_test(tests, without_the_library_only_the_cpu_is_known);
    tcase_add_test(tests, a_card_that_does_not_answer_holds_nobody_up);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
