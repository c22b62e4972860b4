#include "server/segment.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

START_TEST(memory_is_zeroed_and_writable) {
    struct segment segment;
    ck_assert_int_eq(segment_init(&segment, "test", 12345 * sizeof(float), NULL), LG_OK);
    for (size_t i = 0; i < 12345; i++)
        ck_assert(segment.data[i] == 0);
    segment.data[12344] = 7;
    segment_deinit(&segment);
    ck_assert_int_eq(segment.fd, -1);
}
END_TEST

START_TEST(its_size_is_sealed) {
    struct segment segment;
    ck_assert_int_eq(segment_init(&segment, "test", 4096, NULL), LG_OK);
    ck_assert_int_eq(ftruncate(segment.fd, 100), -1);
    ck_assert_int_eq(errno, EPERM);
    ck_assert_int_eq(ftruncate(segment.fd, 8192), -1);
    ck_assert_int_eq(errno, EPERM);
    ck_assert_int_eq(fcntl(segment.fd, F_ADD_SEALS, F_SEAL_WRITE), -1);
    segment_deinit(&segment);
}
END_TEST

START_TEST(nothing_needs_no_memory) {
    struct segment segment;
    ck_assert_int_eq(segment_init(&segment, "test", 0, NULL), LG_OK);
    ck_assert_ptr_null(segment.data);
    segment_deinit(&segment);
}
END_TEST

START_TEST(too_much_is_an_error_and_not_a_crash) {
    struct segment segment;
    struct lg_error error = {0};
    ck_assert_int_eq(segment_init(&segment, "test", (size_t)1 << 62, &error), LG_NO_MEMORY);
    ck_assert_int_eq(segment.fd, -1);
    ck_assert(error.message[0]);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("segment");
    TCase *tests = tcase_create("segment");
    tcase_add_test(tests, memory_is_zeroed_and_writable);
    tcase_add_test(tests, its_size_is_sealed);
    tcase_add_test(tests, nothing_needs_no_memory);
    tcase_add_test(tests, too_much_is_an_error_and_not_a_crash);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
