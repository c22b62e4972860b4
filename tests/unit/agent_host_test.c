#include "worker/agent_host.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

START_TEST(configured_names_are_taken_as_they_are) {
    char name[OPTION_TEXT_BYTES];
    int lock = 0;
    host_take_name("box", name, &lock);
    ck_assert_str_eq(name, "box");
    ck_assert_int_eq(lock, -1);
}
END_TEST

START_TEST(default_names_differ_and_come_back) {
    char first[OPTION_TEXT_BYTES], second[OPTION_TEXT_BYTES], again[OPTION_TEXT_BYTES];
    int locks[3];
    host_take_name("", first, &locks[0]);
    host_take_name("", second, &locks[1]);
    ck_assert_int_ge(locks[0], 0);
    ck_assert_int_ge(locks[1], 0);
    ck_assert_str_ne(first, second);
    ck_assert_ptr_null(strchr(first, '.'));
    host_release(locks[0]);
    host_take_name("", again, &locks[2]);
    ck_assert_str_eq(again, first);
    host_release(locks[1]);
    host_release(locks[2]);
}
END_TEST

START_TEST(gpus_are_listed_where_there_are_any) {
    char list[HOST_DEVICES_MAX][HOST_DEVICE_BYTES];
    ck_assert_uint_eq(host_devices("auto", 0, list), 1);
    ck_assert_str_eq(list[0], "cpu");
    ck_assert_uint_eq(host_devices("auto", 3, list), 3);
    ck_assert_str_eq(list[0], "cuda:0");
    ck_assert_str_eq(list[2], "cuda:2");
    ck_assert_uint_eq(host_devices("cuda:1/bf16", 3, list), 1);
    ck_assert_str_eq(list[0], "cuda:1/bf16");
    ck_assert_uint_eq(host_devices("auto", 1000, list), HOST_DEVICES_MAX);
    ck_assert_uint_eq(host_devices("auto/bf16", 2, list), 2);
    ck_assert_str_eq(list[1], "cuda:1/bf16");
    ck_assert_uint_eq(host_devices("auto/bf16", 0, list), 1);
    ck_assert_str_eq(list[0], "cpu");
    ck_assert_uint_eq(host_devices("cuda:3,cpu,cuda:0/tf32", 1, list), 3); /* what is not there is said when opened */
    ck_assert_str_eq(list[0], "cuda:3");
    ck_assert_str_eq(list[1], "cpu");
    ck_assert_str_eq(list[2], "cuda:0/tf32");
}
END_TEST

static int64_t count(const char *text) {
    FILE *file = fmemopen((void *)(uintptr_t)text, strlen(text), "r");
    ck_assert_ptr_nonnull(file);
    int64_t slots = host_count_slots(file);
    fclose(file);
    return slots;
}

START_TEST(slots_are_added_up) {
    ck_assert_int_eq(count("Num       RefCount Protocol Flags    Type St Inode Path\n"
                           "0000000000000000: 00000002 00000000 00000000 0001 01 123 @lagoon-worker-slots/2/100\n"
                           "0000000000000000: 00000002 00000000 00000000 0001 01 124 @lagoon-worker/box\n"
                           "0000000000000000: 00000002 00000000 00000000 0001 01 125 @lagoon-worker-slots/3/101\n"
                           "0000000000000000: 00000002 00000000 00000000 0001 01 126 @lagoon-worker-slots/x/1\n"
                           "0000000000000000: 00000002 00000000 00000000 0001 01 127 @lagoon-worker-slots/99999/1\n"
                           "0000000000000000: 00000002 00000000 00000000 0001 01 128 @lagoon-worker-slots/7"),
                     5);
}
END_TEST

START_TEST(workers_here_share_the_cores) {
    struct worker_config config = {0};
    int64_t cores = host_cores();
    int locks[2];
    ck_assert_int_ge(cores, 1);
    host_show_slots(200, &locks[0]); /* more than there are cores: one thread each is the least */
    ck_assert_int_ge(locks[0], 0);
    ck_assert_int_eq(host_threads(&config, 1), cores > 200 ? cores / 200 : 1);
    host_show_slots(200, &locks[1]);
    ck_assert_int_eq(locks[1], -1); /* once is enough */
    host_release(locks[0]);
    config.threads = 5;
    ck_assert_int_eq(host_threads(&config, 1), 5);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("agent_host");
    TCase *tests = tcase_create("agent_host");
    tcase_add_test(tests, configured_names_are_taken_as_they_are);
    tcase_add_test(tests, default_names_differ_and_come_back);
    tcase_add_test(tests, gpus_are_listed_where_there_are_any);
    tcase_add_test(tests, slots_are_added_up);
    tcase_add_test(tests, workers_here_share_the_cores);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
