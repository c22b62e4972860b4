#include "proto/local.h"

#include <check.h>
#include <stdlib.h>

enum { ELEMENTS = 1000 };

static struct local_unit unit;
static float data[ELEMENTS], into[ELEMENTS];

static void write_unit(float value, uint64_t version) {
    local_unit_begin(&unit);
    for (size_t i = 0; i < ELEMENTS; i++)
        data[i] = value;
    local_unit_end(&unit, version);
}

START_TEST(values_and_version_come_together) {
    uint64_t version = 0;
    write_unit(3, 7);
    ck_assert_int_eq(local_unit_read(&unit, data, ELEMENTS, into, &version), LOCAL_READ_DONE);
    ck_assert_uint_eq(version, 7);
    ck_assert_mem_eq(into, data, sizeof data);
}
END_TEST

START_TEST(what_is_held_is_not_copied) {
    uint64_t version = 7;
    write_unit(3, 7);
    ck_assert_int_eq(local_unit_read(&unit, data, ELEMENTS, into, &version), LOCAL_READ_UNCHANGED);
    ck_assert(into[0] == 0);
    write_unit(4, 8);
    ck_assert_int_eq(local_unit_read(&unit, data, ELEMENTS, into, &version), LOCAL_READ_DONE);
    ck_assert(into[ELEMENTS - 1] == 4);
}
END_TEST

/* Version 0 is never that of a value that is held. */
START_TEST(version_zero_is_always_copied) {
    uint64_t version = 0;
    data[1] = 5;
    ck_assert_int_eq(local_unit_read(&unit, data, ELEMENTS, into, &version), LOCAL_READ_DONE);
    ck_assert(into[1] == 5);
}
END_TEST

START_TEST(a_unit_that_stays_in_change_is_given_up) {
    uint64_t version = 3;
    local_unit_begin(&unit);
    ck_assert_int_eq(local_unit_read(&unit, data, ELEMENTS, into, &version), LOCAL_READ_BUSY);
    ck_assert_uint_eq(version, 3);
    local_unit_end(&unit, 4);
    ck_assert_int_eq(local_unit_read(&unit, data, ELEMENTS, into, &version), LOCAL_READ_DONE);
}
END_TEST

START_TEST(a_copy_made_elsewhere_is_whole_where_nothing_changed) {
    uint64_t sequence, version;
    write_unit(3, 7);
    ck_assert(local_unit_copy_begin(&unit, &sequence, &version));
    ck_assert_uint_eq(version, 7);
    ck_assert(local_unit_copy_same(&unit, sequence));
    local_unit_begin(&unit);
    ck_assert(!local_unit_copy_same(&unit, sequence));
    ck_assert(!local_unit_copy_begin(&unit, &sequence, &version));
    local_unit_end(&unit, 8);
    ck_assert(!local_unit_copy_same(&unit, sequence));
}
END_TEST

START_TEST(what_is_at_a_version_need_not_be_copied) {
    write_unit(3, 7);
    ck_assert(local_unit_is_at(&unit, 7));
    ck_assert(!local_unit_is_at(&unit, 6));
    local_unit_begin(&unit);
    ck_assert(!local_unit_is_at(&unit, 7)); /* not for long */
    local_unit_end(&unit, 0);
    ck_assert(!local_unit_is_at(&unit, 0));
}
END_TEST

START_TEST(an_end_without_a_beginning_leaves_it_readable) {
    uint64_t version = 0;
    local_unit_end(&unit, 4);
    ck_assert_int_eq(local_unit_read(&unit, data, ELEMENTS, into, &version), LOCAL_READ_DONE);
    ck_assert_uint_eq(version, 4);
}
END_TEST

START_TEST(the_layout_is_what_the_protocol_says) {
    ck_assert_uint_eq(sizeof(struct local_segment), 64);
    ck_assert_uint_eq(sizeof(struct local_unit), 16);
    ck_assert_uint_eq(sizeof(struct local_hello), 48);
    ck_assert_uint_eq(sizeof(struct local_welcome), 192);
    ck_assert_uint_eq(offsetof(struct local_segment, job_version), 24);
    ck_assert_uint_eq(offsetof(struct local_segment, readable), 32);
    ck_assert_uint_eq(local_data_offset(0), 4096);
    ck_assert_uint_eq(local_data_offset(252), 4096);
    ck_assert_uint_eq(local_data_offset(253), 8192);
    ck_assert_uint_eq(local_unit_bytes(1), 64);
    ck_assert_uint_eq(local_unit_bytes(16), 64);
    ck_assert_uint_eq(local_unit_bytes(17), 128);
}
END_TEST

START_TEST(a_head_must_describe_what_is_expected) {
    static _Alignas(64) unsigned char memory[64 + 2 * 16];
    struct local_segment *segment = (struct local_segment *)(void *)memory;
    local_segment_init(segment, 2, 9000);
    ck_assert(local_segment_fits(segment, 2, 9000));
    ck_assert(!local_segment_fits(segment, 3, 9000));
    ck_assert(!local_segment_fits(segment, 2, 9001));
    segment->layout++;
    ck_assert(!local_segment_fits(segment, 2, 9000));
    segment->layout--;
    segment->magic++;
    ck_assert(!local_segment_fits(segment, 2, 9000));
}
END_TEST

int main(void) {
    Suite *suite = suite_create("local");
    TCase *tests = tcase_create("local");
    tcase_add_test(tests, values_and_version_come_together);
    tcase_add_test(tests, what_is_held_is_not_copied);
    tcase_add_test(tests, version_zero_is_always_copied);
    tcase_add_test(tests, a_unit_that_stays_in_change_is_given_up);
    tcase_add_test(tests, a_copy_made_elsewhere_is_whole_where_nothing_changed);
    tcase_add_test(tests, what_is_at_a_version_need_not_be_copied);
    tcase_add_test(tests, an_end_without_a_beginning_leaves_it_readable);
    tcase_add_test(tests, the_layout_is_what_the_protocol_says);
    tcase_add_test(tests, a_head_must_describe_what_is_expected);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
