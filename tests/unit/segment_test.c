#include "server/segment.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

START_TEST(memory_is_zeroed_and_writable) {
    struct segment segment;
    ck_assert_int_eq(segment_init(&segment, "test", 3, 12345 * sizeof(float), NULL), LG_OK);
    for (size_t i = 0; i < 12345; i++)
        ck_assert(segment.data[i] == 0);
    segment.data[12344] = 7;
    segment_deinit(&segment);
    ck_assert_int_eq(segment.fd, -1);
}
END_TEST

START_TEST(its_size_is_sealed) {
    struct segment segment;
    ck_assert_int_eq(segment_init(&segment, "test", 1, 4096, NULL), LG_OK);
    ck_assert_int_eq(ftruncate(segment.fd, 100), -1);
    ck_assert_int_eq(errno, EPERM);
    ck_assert_int_eq(ftruncate(segment.fd, 1 << 20), -1);
    ck_assert_int_eq(errno, EPERM);
    ck_assert_int_eq(fcntl(segment.fd, F_ADD_SEALS, F_SEAL_WRITE), -1);
    segment_deinit(&segment);
}
END_TEST

START_TEST(nobody_else_can_write_to_it) {
    struct segment segment;
    char path[64];
    ck_assert_int_eq(segment_init(&segment, "test", 1, 4096, NULL), LG_OK);
    snprintf(path, sizeof path, "/proc/self/fd/%d", segment.fd);
    int again = open(path, O_RDWR | O_CLOEXEC);
    ck_assert_int_ge(again, 0);
    void *writable = mmap(NULL, segment.bytes, PROT_READ | PROT_WRITE, MAP_SHARED, again, 0);
    ck_assert_ptr_eq(writable, MAP_FAILED);
    ck_assert_int_eq(write(again, "x", 1), -1);
    const struct local_segment *head = mmap(NULL, segment.bytes, PROT_READ, MAP_SHARED, again, 0);
    ck_assert_ptr_ne(head, MAP_FAILED);
    ck_assert(local_segment_fits(head, 1, segment.bytes));
    segment.data[5] = 2.5F;
    ck_assert(((const float *)(const void *)((const char *)head + local_data_offset(1)))[5] == 2.5F);
    close(again);
    segment_deinit(&segment);
    ck_assert_uint_eq(atomic_load(&head->readable), 0);
}
END_TEST

START_TEST(no_units_need_the_head_only) {
    struct segment segment;
    ck_assert_int_eq(segment_init(&segment, "test", 0, 0, NULL), LG_OK);
    ck_assert_uint_eq(segment.bytes, local_data_offset(0));
    segment_deinit(&segment);
}
END_TEST

START_TEST(too_much_is_an_error_and_not_a_crash) {
    struct segment segment;
    struct lg_error error = {0};
    ck_assert_int_eq(segment_init(&segment, "test", 1, (uint64_t)1 << 62, &error), LG_NO_MEMORY);
    ck_assert_int_eq(segment.fd, -1);
    ck_assert(error.message[0]);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("segment");
    TCase *tests = tcase_create("segment");
    tcase_add_test(tests, memory_is_zeroed_and_writable);
    tcase_add_test(tests, nobody_else_can_write_to_it);
    tcase_add_test(tests, its_size_is_sealed);
    tcase_add_test(tests, no_units_need_the_head_only);
    tcase_add_test(tests, too_much_is_an_error_and_not_a_crash);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
