/* Who may read and push: clocks, rounds, tickets, and that nobody waits for who is not there. */
#include "server/gate.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

enum { MEMBERS = 4 };

static struct gate gate;
static struct gate_member members[MEMBERS];
static struct gate_member *passed[16];
static size_t passed_count;
static int commits;

static void note(void *context, struct gate_member *member) {
    (void)context;
    passed[passed_count++] = member;
}

/* What a shard does after everything that happens. */
static void settle(void) {
    for (int i = 0; gate_due(&gate); i++) {
        ck_assert_int_lt(i, 100);
        commits += gate.gathered;
        gate_advance(&gate);
    }
    gate_release(&gate, note, NULL);
}

static bool passes(int i) {
    for (size_t k = 0; k < passed_count; k++)
        if (passed[k] == &members[i])
            return true;
    return false;
}

static void start(const char *mode, uint64_t bound, uint64_t bound_most, uint64_t pushes) {
    gate_init(&gate, consistency_find(mode), bound, bound_most, pushes);
    passed_count = 0;
    commits = 0;
    for (int i = 0; i < MEMBERS; i++)
        gate_open(&gate, &members[i]);
}

/* True: at once. */
static bool reads(int i, uint64_t round) {
    bool at_once = gate_read(&gate, &members[i], round) == GATE_PASS;
    settle();
    return at_once;
}

static bool rests(int i, uint64_t round) {
    bool at_once = gate_rest(&gate, &members[i], round) == GATE_PASS;
    settle();
    return at_once;
}

static void pushes_at(int i, uint64_t round, int64_t now_ns) {
    if (gate_takes(&gate, round) == GATE_PUSH_TAKEN)
        gate.gathered = consistency_has(gate.mode, CONSISTENCY_GATHERS);
    gate_pushed(&gate, &members[i], round, false, now_ns);
    settle();
}

static void pushes(int i, uint64_t round) {
    pushes_at(i, round, 0);
}

static void closes(int i) {
    gate_close(&gate, &members[i]);
    settle();
}

/* ---- bsp */

START_TEST(a_round_ends_when_all_who_read_have_pushed) {
    start("bsp", 0, 0, 0);
    for (int i = 0; i < 3; i++)
        ck_assert(reads(i, 0));
    pushes(0, 0);
    ck_assert(!reads(0, 1));
    pushes(1, 0);
    ck_assert(!reads(1, 1));
    ck_assert_int_eq(commits, 0);
    pushes(2, 0);
    ck_assert_int_eq(commits, 1);
    ck_assert_uint_eq(gate.round, 1);
    ck_assert(passes(0) && passes(1) && !passes(3));
    ck_assert(reads(2, 1));
}
END_TEST

START_TEST(nobody_waits_for_a_session_that_never_read) {
    start("bsp", 0, 0, 0);
    ck_assert(reads(0, 0));
    pushes(0, 0);
    ck_assert_int_eq(commits, 1);
}
END_TEST

START_TEST(who_ends_or_rests_is_not_waited_for) {
    start("bsp", 0, 0, 0);
    for (int i = 0; i < 3; i++)
        ck_assert(reads(i, 0));
    pushes(0, 0);
    ck_assert(!reads(0, 1));
    closes(1);
    ck_assert_int_eq(commits, 0);
    ck_assert(rests(2, 0));
    ck_assert_int_eq(commits, 1);
    ck_assert(passes(0));
    gate_close(&gate, &members[1]); /* once more changes nothing */
    pushes(0, 1);
    ck_assert_uint_eq(gate.round, 2);
}
END_TEST

START_TEST(who_comes_in_the_middle_joins_the_round_that_is_on) {
    start("bsp", 0, 0, 0);
    ck_assert(reads(0, 0) && reads(1, 0));
    pushes(0, 0);
    ck_assert(reads(2, 0)); /* reads what the others read, and is waited for */
    pushes(1, 0);
    ck_assert_int_eq(commits, 0);
    pushes(2, 0);
    ck_assert_int_eq(commits, 1);
    ck_assert(!reads(3, 2)); /* that one knows of a later round elsewhere: nobody waits for it in this one */
    for (int i = 0; i < 3; i++) {
        ck_assert_uint_eq(gate.round, 1);
        ck_assert(reads(i, 1));
        pushes(i, 1);
    }
    ck_assert_uint_eq(gate.round, 2);
    ck_assert(passes(3));
}
END_TEST

START_TEST(rounds_that_nobody_is_in_are_passed_over) {
    start("bsp", 0, 0, 0);
    ck_assert(!reads(0, 7));
    ck_assert_uint_eq(gate.round, 7);
    ck_assert(passes(0));
    ck_assert_int_eq(commits, 0);
    pushes(0, 7);
    ck_assert(!gate_due(&gate));
    ck_assert_uint_eq(gate.round, 8);
}
END_TEST

START_TEST(a_rest_can_wait_for_its_own_push) {
    start("bsp", 0, 0, 0);
    ck_assert(reads(0, 0) && reads(1, 0));
    pushes(0, 0);
    ck_assert(!rests(0, 1));
    pushes(1, 0);
    ck_assert(passes(0));
    ck_assert_int_eq(commits, 1);
    ck_assert(reads(1, 1));
    pushes(1, 1); /* the one at rest is not waited for */
    ck_assert_int_eq(commits, 2);
}
END_TEST

START_TEST(what_the_dead_left_is_applied_with_the_round) {
    start("bsp", 0, 0, 0);
    ck_assert(reads(0, 0));
    gate.gathered = true; /* a part of a push */
    closes(0);
    ck_assert_int_eq(commits, 1);
    ck_assert_uint_eq(gate.round, 1);
    ck_assert(!gate_due(&gate));
}
END_TEST

START_TEST(pushes_of_other_rounds_are_late_or_early) {
    start("bsp", 0, 0, 0);
    ck_assert(reads(0, 3) || gate.round == 3);
    ck_assert_int_eq(gate_takes(&gate, 2), GATE_PUSH_LATE);
    ck_assert_int_eq(gate_takes(&gate, 3), GATE_PUSH_TAKEN);
    ck_assert_int_eq(gate_takes(&gate, 4), GATE_PUSH_EARLY);
    gate_pushed(&gate, &members[0], 2, false, 0);
    ck_assert(!gate_due(&gate)); /* it still owes one for round 3 */
}
END_TEST

/* ---- backup, rennala */

static bool ticket(int i, uint64_t tag, uint64_t round) {
    return gate_ticket(&gate, &members[i], tag, round) == GATE_PASS;
}

START_TEST(the_first_so_many_get_tickets) {
    start("backup", 0, 0, 2);
    for (int i = 0; i < 3; i++)
        ck_assert(reads(i, 0));
    ck_assert(ticket(2, 1, 0));
    ck_assert(ticket(2, 1, 0)); /* the same question again takes no second one */
    ck_assert(ticket(0, 1, 0));
    ck_assert(!ticket(1, 1, 0));
    pushes(2, 0);
    ck_assert_int_eq(commits, 0);
    pushes(0, 0);
    ck_assert_int_eq(commits, 1);
    ck_assert(!ticket(1, 1, 0));
    gate_pushed(&gate, &members[1], 0, true, 0); /* skipped */
    settle();
    ck_assert(reads(1, 1)); /* reads on with the others */
    ck_assert_uint_eq(members[1].next_round, 1);
}
END_TEST

START_TEST(tickets_of_the_dead_come_back) {
    start("backup", 0, 0, 2);
    for (int i = 0; i < 4; i++)
        ck_assert(reads(i, 0));
    ck_assert(ticket(0, 1, 0) && ticket(1, 1, 0) && !ticket(2, 1, 0));
    closes(0);
    ck_assert(ticket(3, 1, 0));
    pushes(1, 0);
    pushes(3, 0);
    ck_assert_int_eq(commits, 1);
    ck_assert(reads(1, 1));
    ck_assert(ticket(1, 2, 1));
    ck_assert(rests(1, 0)); /* gives it back too */
    ck_assert_uint_eq(gate.tickets, 0);
}
END_TEST

START_TEST(a_round_with_too_few_left_ends_with_what_there_is) {
    start("backup", 0, 0, 3);
    for (int i = 0; i < 3; i++)
        ck_assert(reads(i, 0));
    for (int i = 0; i < 3; i++)
        ck_assert(ticket(i, 1, 0));
    pushes(0, 0);
    pushes(1, 0);
    closes(2);
    ck_assert_int_eq(commits, 1);
    ck_assert_uint_eq(gate.round, 1);
}
END_TEST

START_TEST(in_rennala_one_may_push_twice) {
    start("rennala", 0, 0, 3);
    ck_assert(reads(0, 0) && reads(1, 0));
    for (uint64_t tag = 1; tag <= 2; tag++) {
        ck_assert(ticket(0, tag, 0));
        pushes(0, 0);
        ck_assert(reads(0, 0)); /* the same parameters again */
    }
    ck_assert(ticket(0, 3, 0));
    ck_assert(!ticket(1, 1, 0));
    ck_assert(!reads(1, 1));
    pushes(0, 0);
    ck_assert_int_eq(commits, 1);
    ck_assert(passes(1));
}
END_TEST

START_TEST(an_unused_ticket_does_not_stop_a_round) {
    start("rennala", 0, 0, 2);
    ck_assert(reads(0, 0) && reads(1, 0));
    ck_assert(ticket(0, 1, 0) && ticket(1, 1, 0));
    pushes(1, 0);
    ck_assert(reads(0, 0)); /* its push was refused */
    ck_assert(ticket(0, 2, 0));
    pushes(0, 0);
    ck_assert_int_eq(commits, 1);
}
END_TEST

/* ---- buffered */

START_TEST(groups_are_due_by_number_or_when_all_rest) {
    start("buffered", 0, 0, 2);
    pushes(0, 0);
    ck_assert_int_eq(commits, 0);
    pushes(0, 0);
    ck_assert_int_eq(commits, 1);
    pushes(1, 0);
    for (int i = 0; i < 3; i++)
        ck_assert(rests(i, 9));
    ck_assert_int_eq(commits, 1);
    closes(3);
    ck_assert_int_eq(commits, 2);
    ck_assert(!gate_due(&gate));
    pushes(2, 0); /* is there again */
    ck_assert_int_eq(commits, 2);
    rests(2, 0);
    ck_assert_int_eq(commits, 3);
}
END_TEST

/* ---- ssp, dssp */

START_TEST(nobody_reads_further_ahead_than_the_bound) {
    start("ssp", 2, 0, 0);
    ck_assert(reads(0, 0) && reads(1, 0));
    for (int step = 0; step < 2; step++) {
        pushes(0, 0);
        ck_assert(reads(0, 0));
    }
    pushes(0, 0);
    ck_assert(!reads(0, 0)); /* 3 ahead */
    ck_assert(!passes(0));
    pushes(1, 0);
    ck_assert(passes(0));
}
END_TEST

START_TEST(a_bound_of_zero_is_step_for_step) {
    start("ssp", 0, 0, 0);
    ck_assert(reads(0, 0) && reads(1, 0));
    pushes(0, 0);
    ck_assert(!reads(0, 0));
    pushes(1, 0);
    ck_assert(passes(0) && reads(1, 0));
}
END_TEST

START_TEST(who_comes_or_comes_back_starts_with_the_slowest) {
    start("ssp", 1, 0, 0);
    ck_assert(reads(0, 0) && reads(1, 0));
    for (int step = 0; step < 10; step++) {
        pushes(0, 0);
        pushes(1, 0);
    }
    ck_assert(reads(2, 0));
    ck_assert_uint_eq(members[2].clock, 10);
    ck_assert(rests(1, 0));
    for (int step = 0; step < 5; step++) {
        pushes(0, 0);
        pushes(2, 0);
    }
    ck_assert(reads(0, 0));
    ck_assert(reads(1, 0)); /* not five steps behind the others, who would wait for it */
    ck_assert_uint_eq(members[1].clock, 15);
    ck_assert(rests(0, 0) && rests(2, 0));
    ck_assert(reads(1, 0) && reads(0, 0));
    ck_assert_uint_eq(members[0].clock, 15); /* its own, where that is more than the least */
}
END_TEST

START_TEST(the_slowest_leaving_lets_the_others_go) {
    for (int how = 0; how < 2; how++) {
        start("ssp", 1, 0, 0);
        ck_assert(reads(0, 0) && reads(1, 0) && reads(2, 0));
        for (int step = 0; step < 3; step++) {
            pushes(0, 0);
            pushes(1, 0);
        }
        ck_assert(!reads(0, 0) && !reads(1, 0));
        if (how == 0)
            closes(2);
        else
            ck_assert(rests(2, 0));
        ck_assert(passes(0) && passes(1));
    }
}
END_TEST

START_TEST(steps_are_granted_up_to_where_the_wait_is_least) {
    /* the slow one pushes at 100, 200, ...; the fast one, now at 0, every 30: after 3 steps it waits 10 */
    ck_assert_uint_eq(gate_grant(0, 30, 0, 100, 12), 10); /* 300: no wait at all */
    ck_assert_uint_eq(gate_grant(0, 30, 0, 100, 9), 3);   /* 90: 10; 6 steps: 180, 20 */
    ck_assert_uint_eq(gate_grant(0, 30, 0, 100, 2), 2);
    ck_assert_uint_eq(gate_grant(0, 30, 0, 100, 0), 0);
    ck_assert_uint_eq(gate_grant(95, 30, 0, 100, 3), 0); /* now is best: 5 */
    ck_assert_uint_eq(gate_grant(0, 0, 0, 100, 5), 0);
    ck_assert_uint_eq(gate_grant(0, 30, 0, 0, 5), 0);
    ck_assert_uint_eq(gate_grant(0, 10, 50, 100, 20), 15); /* the slow one's next is at 150 */
}
END_TEST

START_TEST(dssp_grants_the_fastest_and_nobody_beyond_the_most) {
    start("dssp", 1, 5, 0);
    ck_assert(reads(0, 0) && reads(1, 0));
    pushes_at(1, 0, 100);
    pushes_at(1, 0, 200); /* an interval of 100 */
    for (int step = 0; step < 3; step++)
        pushes_at(0, 0, 130 + 30 * step);
    ck_assert(reads(0, 0)); /* one ahead */
    pushes_at(0, 0, 220);
    /* two ahead at 220, every 30; the slow one is next at 300: 3 steps more (310) make it wait till 400, 2 (280) till
     * 300; 4 are possible (340: 60) */
    ck_assert(reads(0, 0));
    ck_assert_uint_eq(members[0].granted, members[0].clock + 1);
    pushes_at(0, 0, 250);
    ck_assert(reads(0, 0));
    pushes_at(0, 0, 280);
    for (int step = 0; step < 20 && reads(0, 0); step++)
        pushes_at(0, 0, 300 + 30 * step);
    ck_assert_uint_le(members[0].clock - members[1].clock, 6); /* it read at most 5 ahead */
    ck_assert(members[0].parked == GATE_PARKED_READ);
    for (int step = 0; step < 6 && members[0].parked != GATE_PARKED_NONE; step++)
        pushes_at(1, 0, 1000 + 100 * step);
    ck_assert(passes(0));
    ck_assert_uint_eq(members[0].clock - members[1].clock, 1);
}
END_TEST

START_TEST(async_has_nothing_to_wait_for) {
    start("async", 0, 0, 0);
    pushes(0, 0);
    pushes(0, 5);
    ck_assert(!gate_due(&gate));
    ck_assert_uint_eq(passed_count, 0);
    closes(0);
    ck_assert(!gate_due(&gate));
}
END_TEST

int main(void) {
    Suite *suite = suite_create("gate");
    TCase *rounds = tcase_create("rounds");
    tcase_add_test(rounds, a_round_ends_when_all_who_read_have_pushed);
    tcase_add_test(rounds, nobody_waits_for_a_session_that_never_read);
    tcase_add_test(rounds, who_ends_or_rests_is_not_waited_for);
    tcase_add_test(rounds, who_comes_in_the_middle_joins_the_round_that_is_on);
    tcase_add_test(rounds, rounds_that_nobody_is_in_are_passed_over);
    tcase_add_test(rounds, a_rest_can_wait_for_its_own_push);
    tcase_add_test(rounds, what_the_dead_left_is_applied_with_the_round);
    tcase_add_test(rounds, pushes_of_other_rounds_are_late_or_early);
    suite_add_tcase(suite, rounds);
    TCase *tickets = tcase_create("tickets");
    tcase_add_test(tickets, the_first_so_many_get_tickets);
    tcase_add_test(tickets, tickets_of_the_dead_come_back);
    tcase_add_test(tickets, a_round_with_too_few_left_ends_with_what_there_is);
    tcase_add_test(tickets, in_rennala_one_may_push_twice);
    tcase_add_test(tickets, an_unused_ticket_does_not_stop_a_round);
    suite_add_tcase(suite, tickets);
    TCase *clocks = tcase_create("clocks");
    tcase_add_test(clocks, nobody_reads_further_ahead_than_the_bound);
    tcase_add_test(clocks, a_bound_of_zero_is_step_for_step);
    tcase_add_test(clocks, who_comes_or_comes_back_starts_with_the_slowest);
    tcase_add_test(clocks, the_slowest_leaving_lets_the_others_go);
    tcase_add_test(clocks, steps_are_granted_up_to_where_the_wait_is_least);
    tcase_add_test(clocks, dssp_grants_the_fastest_and_nobody_beyond_the_most);
    suite_add_tcase(suite, clocks);
    TCase *others = tcase_create("others");
    tcase_add_test(others, groups_are_due_by_number_or_when_all_rest);
    tcase_add_test(others, async_has_nothing_to_wait_for);
    suite_add_tcase(suite, others);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
