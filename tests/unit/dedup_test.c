#include "server/dedup.h"

#include <check.h>
#include <stdlib.h>

static struct dedup dedup;

static void setup(void) {
    ck_assert(dedup_init(&dedup));
}

static void teardown(void) {
    dedup_deinit(&dedup);
}

static void add(uint64_t seq, uint32_t units) {
    ck_assert(dedup_reserve(&dedup, units));
    for (uint32_t i = 0; i < units; i++)
        dedup_add(&dedup, &(struct dedup_record){.seq = seq, .unit = i, .version = seq * 10});
}

static enum dedup_answer find(uint64_t seq) {
    const struct dedup_slot *slot;
    return dedup_find(&dedup, seq, &slot);
}

START_TEST(records_come_back_in_order) {
    const struct dedup_slot *slot = NULL;
    add(5, 3);
    add(2, 2); /* out of order */
    ck_assert_int_eq(find(3), DEDUP_NEW);
    ck_assert_int_eq(dedup_find(&dedup, 5, &slot), DEDUP_KNOWN);
    ck_assert_uint_eq(slot->count, 3);
    for (uint32_t i = 0; i < 3; i++) {
        ck_assert_uint_eq(dedup_record(&dedup, slot, i)->unit, i);
        ck_assert_uint_eq(dedup_record(&dedup, slot, i)->version, 50);
    }
    ck_assert_int_eq(dedup_find(&dedup, 2, &slot), DEDUP_KNOWN);
    ck_assert_uint_eq(slot->count, 2);
}
END_TEST

START_TEST(settled_seqs_are_stale) {
    add(1, 1);
    add(2, 1);
    dedup_raise_floor(&dedup, 2);
    ck_assert_int_eq(find(0), DEDUP_STALE);
    ck_assert_int_eq(find(1), DEDUP_STALE);
    ck_assert_int_eq(find(2), DEDUP_KNOWN);
    dedup_raise_floor(&dedup, 1); /* never sinks */
    ck_assert_int_eq(find(1), DEDUP_STALE);
}
END_TEST

START_TEST(seqs_far_below_the_highest_are_stale) {
    add(1, 1);
    add(DEDUP_SLOTS, 1);
    ck_assert_int_eq(find(1), DEDUP_KNOWN);
    add(DEDUP_SLOTS + 1, 1); /* takes the place of 1 */
    ck_assert_int_eq(find(1), DEDUP_STALE);
    ck_assert_int_eq(find(2), DEDUP_NEW);
    ck_assert_int_eq(find(DEDUP_SLOTS), DEDUP_KNOWN);
}
END_TEST

START_TEST(the_ring_does_not_grow_while_the_floor_follows) {
    for (uint64_t seq = 1; seq < 10000; seq++) {
        dedup_raise_floor(&dedup, seq > 4 ? seq - 4 : 1);
        add(seq, 8);
        for (uint64_t old = seq > 4 ? seq - 4 : 1; old <= seq; old++)
            ck_assert_int_eq(find(old), DEDUP_KNOWN);
    }
    ck_assert_uint_le(dedup.capacity, 128);
}
END_TEST

START_TEST(unsettled_records_are_kept_while_the_ring_grows) {
    const struct dedup_slot *slot;
    for (uint64_t seq = 1; seq <= 100; seq++)
        add(seq, 50);
    for (uint64_t seq = 1; seq <= 100; seq++) {
        ck_assert_int_eq(dedup_find(&dedup, seq, &slot), DEDUP_KNOWN);
        ck_assert_uint_eq(slot->count, 50);
        ck_assert_uint_eq(dedup_record(&dedup, slot, 49)->seq, seq);
        ck_assert_uint_eq(dedup_record(&dedup, slot, 49)->unit, 49);
    }
}
END_TEST

START_TEST(memory_is_bounded_and_what_is_forgotten_is_stale) {
    for (uint64_t seq = 1; seq <= 40; seq++)
        add(seq, 4096);
    ck_assert_uint_eq(dedup.capacity, DEDUP_RECORDS_MAX);
    ck_assert_int_eq(find(1), DEDUP_STALE);
    ck_assert_int_eq(find(40), DEDUP_KNOWN);
    unsigned known = 0;
    for (uint64_t seq = 1; seq <= 40; seq++)
        known += find(seq) == DEDUP_KNOWN;
    ck_assert_uint_eq(known, DEDUP_RECORDS_MAX / 4096);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("dedup");
    TCase *tests = tcase_create("dedup");
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, records_come_back_in_order);
    tcase_add_test(tests, settled_seqs_are_stale);
    tcase_add_test(tests, seqs_far_below_the_highest_are_stale);
    tcase_add_test(tests, the_ring_does_not_grow_while_the_floor_follows);
    tcase_add_test(tests, unsettled_records_are_kept_while_the_ring_grows);
    tcase_add_test(tests, memory_is_bounded_and_what_is_forgotten_is_stale);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
