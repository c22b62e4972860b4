/* Trainers and workers that die, stand still or fall silent: their slices are taken over exactly where they stopped. */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "common/log.h"
#include "server/coordinator/core.h"
#include "tests/support/world.h"

static struct world *training(uint64_t seed, const char *epochs) {
    struct world *world = world_new(seed);
    world_populate(world);
    world_submit(world, "name=a;train.epochs=%s", epochs);
    world_until(world, "a", "running", 10000);
    return world;
}

/* A trainer in the middle of a slice. */
static struct world_trainer *mid_slice(struct world *world) {
    for (int i = 0; i < 200; i++) {
        for (size_t n = 0; n < world_trainer_count(world); n++) {
            struct world_trainer *trainer = world_trainer_at(world, n);
            if (trainer->state == WORLD_TRAINER_WORKING && trainer->lease_kind == WIRE_LEASE_TRAIN &&
                trainer->at > trainer->first && trainer->at < trainer->end)
                return trainer;
        }
        world_advance(world, 50);
    }
    ck_abort_msg("nobody is in the middle of a slice");
    return NULL;
}

static void finish(struct world *world, uint64_t epochs) {
    world_until(world, "a", "finished", 300000);
    world_expect_exact(world, 1, epochs);
    ck_assert(world_history_has(world, "a", "applied exactly once"));
    world_advance(world, 3000);
    ck_assert_uint_eq(world_sessions(world, 1), 0);
    ck_assert_uint_eq(world_trainer_count(world), 0);
    world_free(world);
}

START_TEST(a_trainer_killed_in_mid_slice) {
    struct world *world = training(1, "3");
    struct world_trainer *victim = mid_slice(world);
    uint64_t left = victim->end - victim->at, session = victim->session;
    char text[96];
    world_kill_trainer(world, victim, 0, 9, "killed by signal 9 (Killed)");
    world_advance(world, 1000);
    snprintf(text, sizeof text, "taken back from trainer %llu (killed by signal 9 (Killed)): %llu samples remain",
             (unsigned long long)victim->number, (unsigned long long)left);
    ck_assert_msg(world_history_has(world, "a", text), "%s", text);
    ck_assert_int_eq(world_number(world, "a", "slices_taken_over"), 1);
    ck_assert_int_eq(world_number(world, "a", "restarts"), 1);
    world_advance(world, 1000);
    ck_assert_uint_eq(world_trainer_count(world), 3);
    ck_assert(victim->session == session);
    finish(world, 3);
}
END_TEST

/* As without memory: the task that the session's end waits for is dropped. */
START_TEST(a_dropped_step_of_a_loss_is_taken_again) {
    struct world *world = training(1, "3");
    size_t dropped = 0;
    world_kill_trainer(world, mid_slice(world), 0, 9, "killed by signal 9 (Killed)");
    world->servers[0].stopped = world->servers[1].stopped = true; /* it is not answered at once */
    world_advance(world, 300);
    for (size_t i = 0; i < world->core->tasks.count; i++) {
        struct task *task = world->core->tasks.items[i];
        if (task->kind == TASK_KIND_SESSION_CLOSE) {
            task->over = true;
            dropped++;
        }
    }
    ck_assert_uint_eq(dropped, 1);
    world->servers[0].stopped = world->servers[1].stopped = false;
    world_advance(world, 2000);
    ck_assert_int_eq(world_number(world, "a", "slices_taken_over"), 1);
    finish(world, 3);
}
END_TEST

START_TEST(a_trainer_killed_between_its_pushes_to_two_shards) {
    struct world *world = training(1, "3");
    struct world_trainer *victim = mid_slice(world);
    victim->stuck_after_half = true;
    for (int i = 0; i < 100 && victim->there; i++)
        world_advance(world, 50);
    ck_assert(!victim->there);
    world_until(world, "a", "finished", 300000);
    ck_assert_uint_eq(world->torn, 0);
    ck_assert_uint_ge(world->repeats, 1); /* the shard that had the batch passed it over */
    finish(world, 3);
}
END_TEST

START_TEST(two_trainers_killed_one_after_the_other_in_the_same_slice) {
    struct world *world = training(2, "3");
    for (int i = 0; i < 4; i++) {
        struct world_trainer *victim = mid_slice(world);
        victim->stuck_after_half = true;
        world_advance(world, 700);
    }
    finish(world, 3);
}
END_TEST

START_TEST(the_holder_of_the_initial_values_is_killed) {
    struct world *world = world_new(1);
    world_populate(world);
    world_submit(world, "name=a");
    for (int i = 0; i < 100 && !world_holder(world, WIRE_LEASE_INITIALISE); i++)
        world_advance(world, 50);
    struct world_trainer *victim = world_holder(world, WIRE_LEASE_INITIALISE);
    ck_assert_ptr_nonnull(victim);
    world_kill_trainer(world, victim, 1, 0, "it broke");
    world_until(world, "a", "running", 10000);
    ck_assert(world_history_has(world, "a", "the next one makes them anew"));
    finish(world, 1);
}
END_TEST

START_TEST(the_evaluator_is_killed) {
    struct world *world = training(1, "1");
    for (int i = 0; i < 1000 && !world_holder(world, WIRE_LEASE_EVALUATE); i++)
        world_advance(world, 50);
    struct world_trainer *victim = world_holder(world, WIRE_LEASE_EVALUATE);
    ck_assert_ptr_nonnull(victim);
    ck_assert_str_eq(world_text(world, "a", "state"), "evaluating");
    world_kill_trainer(world, victim, 0, 11, "killed by signal 11");
    finish(world, 1);
}
END_TEST

START_TEST(the_evaluator_beats_but_never_reports) {
    struct world *world = training(1, "1");
    for (int i = 0; i < 1000 && !world_holder(world, WIRE_LEASE_EVALUATE); i++)
        world_advance(world, 50);
    struct world_trainer *victim = world_holder(world, WIRE_LEASE_EVALUATE);
    ck_assert_ptr_nonnull(victim);
    victim->frozen = true;
    world_advance(world, 1700000);
    ck_assert(victim->there);
    world_advance(world, 200000);
    ck_assert(!victim->there);
    finish(world, 1);
}
END_TEST

START_TEST(the_holder_of_the_initial_values_beats_but_never_reports) {
    struct world *world = world_new(1);
    world_populate(world);
    world_submit(world, _i ? "init=file;name=a" : "name=a");
    if (_i) {
        world_until(world, "a", "initialising", 10000);
        world_join(world, "a", WIRE_ROLE_INITIALISER);
    }
    for (int i = 0; i < 100 && !world_holder(world, WIRE_LEASE_INITIALISE); i++)
        world_advance(world, 50);
    struct world_trainer *victim = world_holder(world, WIRE_LEASE_INITIALISE);
    ck_assert_ptr_nonnull(victim);
    victim->frozen = true;
    world_advance(world, 1700000);
    ck_assert(victim->there);
    world_advance(world, 200000);
    ck_assert(!victim->there);
    ck_assert(world_history_has(world, "a", "the next one makes them anew"));
    if (_i)
        world_join(world, "a", WIRE_ROLE_INITIALISER);
    finish(world, 1);
}
END_TEST

START_TEST(everybody_is_killed_again_and_again) {
    struct world *world = world_new(5);
    world_populate(world);
    world_submit(world, "name=a;train.epochs=2;restart.max=100");
    for (int i = 0; i < 20; i++) {
        world_advance(world, 700);
        while (world_trainer_count(world) > 0)
            world_kill_trainer(world, world_trainer_at(world, 0), 0, 9, "killed by signal 9");
        world_advance(world, 12000); /* restarts are slowed down */
    }
    finish(world, 2);
}
END_TEST

START_TEST(a_worker_dies_with_its_trainers) {
    struct world *world = training(1, "4");
    struct world_trainer *victim = mid_slice(world);
    int agent = victim->agent;
    world_kill_agent(world, agent);
    world_advance(world, 4000);
    ck_assert_int_eq(world_number(world, "a", "slices_taken_over"), 0); /* not before it is given up */
    world_advance(world, 3000);
    ck_assert_int_eq(world_number(world, "a", "slices_taken_over"), 1);
    ck_assert_int_eq(world_number(world, "a", "restarts"), 0); /* not the job's fault */
    ck_assert(world_history_has(world, "a", "is silent"));
    json_t *workers = world_ask(world, "workers", "");
    ck_assert_str_eq(json_string_value(json_object_get(json_array_get(workers, (size_t)agent), "state")), "silent");
    json_decref(workers);
    finish(world, 4);
}
END_TEST

START_TEST(a_worker_comes_back_as_another_process) {
    struct world *world = training(1, "6");
    world_kill_agent(world, 0);
    world_add_agent(world, 0, "worker-0", 1);
    world_advance(world, 2000);
    ck_assert(world->agents[0].refused); /* its name is taken until the old one is given up */
    world_advance(world, 5000);
    ck_assert(world->agents[0].registered);
    ck_assert_uint_eq(world_trainer_count(world), 3);
    finish(world, 6);
}
END_TEST

START_TEST(a_trainer_falls_silent) {
    struct world *world = training(1, "6");
    struct world_trainer *victim = mid_slice(world);
    victim->silent = victim->frozen = true;
    world_advance(world, 7000);
    ck_assert(world_history_has(world, "a", "silent for 5"));
    ck_assert(!victim->there); /* its worker was told to stop it */
    ck_assert_int_eq(world_number(world, "a", "slices_taken_over"), 1);
    ck_assert_int_eq(world_number(world, "a", "restarts"), 1);
    finish(world, 6);
}
END_TEST

/* In consistency modes whoever waits for a hanging trainer makes no step either. */
START_TEST(a_trainer_that_waits_for_others_does_not_hang) {
    struct world *world = training(1, "6");
    world_advance(world, 3000);
    struct world_trainer *waiting = mid_slice(world);
    waiting->frozen = waiting->parked = true;
    world_advance(world, 100000);
    ck_assert(waiting->there);
    waiting->parked = false;
    world_advance(world, 25000);
    ck_assert(waiting->there); /* its time counts from now */
    world_advance(world, 8000);
    ck_assert(!waiting->there);
    ck_assert(world_history_has(world, "a", "no step for"));
    finish(world, 6);
}
END_TEST

START_TEST(a_trainer_beats_but_does_not_step) {
    struct world *world = training(1, "6");
    world_advance(world, 3000);
    struct world_trainer *victim = mid_slice(world);
    victim->frozen = true;
    world_advance(world, 25000);
    ck_assert(victim->there);
    world_advance(world, 8000);
    ck_assert(!victim->there);
    ck_assert(world_history_has(world, "a", "no step for"));
    finish(world, 6);
}
END_TEST

START_TEST(a_trainer_that_was_given_up_is_fenced) {
    struct world *world = training(1, "6");
    struct world_trainer *victim = mid_slice(world);
    victim->silent = victim->frozen = true;
    victim->agent = WORLD_AGENTS - 1; /* not one that is there: nobody stops it */
    world_advance(world, 7000);
    ck_assert(victim->there);
    victim->silent = victim->frozen = false;
    world_advance(world, 2000);
    ck_assert(!victim->there);
    ck_assert_int_eq(victim->refused, LG_FENCED);
    finish(world, 6);
}
END_TEST

START_TEST(restarts_run_out) {
    struct world *world = world_new(1);
    world_populate(world);
    world->fast_exit = 1;
    world_submit(world, "name=a;restart.max=4");
    world_until(world, "a", "failed", 60000);
    ck_assert_ptr_nonnull(strstr(world_text(world, "a", "reason"), "4 restarts are used up"));
    ck_assert_ptr_nonnull(strstr(world_text(world, "a", "reason"), "it cannot be"));
    world_free(world);
}
END_TEST

START_TEST(a_wrong_configuration_fails_at_once) {
    struct world *world = world_new(1);
    world_populate(world);
    world->fast_exit = 3;
    world_submit(world, "name=a");
    world_until(world, "a", "failed", 2000);
    ck_assert_ptr_nonnull(strstr(world_text(world, "a", "reason"), "it cannot be"));
    ck_assert_int_eq(world_number(world, "a", "restarts"), 0);
    world->fast_exit = 0;
    world_submit(world, "name=b"); /* the slots are free again */
    world_until(world, "b", "finished", 60000);
    world_free(world);
}
END_TEST

START_TEST(a_trainer_that_ends_early_is_started_again) {
    struct world *world = training(1, "4");
    world_kill_trainer(world, mid_slice(world), 0, 0, "");
    world_advance(world, 1500);
    ck_assert_int_eq(world_number(world, "a", "restarts"), 1);
    ck_assert_uint_eq(world_trainer_count(world), 3);
    finish(world, 4);
}
END_TEST

START_TEST(an_exit_that_was_never_told) {
    struct world *world = training(1, "6");
    struct world_trainer *victim = mid_slice(world);
    victim->there = false; /* no TRAINER_EXIT: its worker just does not name it any more */
    world_advance(world, 4500);
    ck_assert_int_eq(world_number(world, "a", "slices_taken_over"), 1);
    finish(world, 6);
}
END_TEST

START_TEST(a_failed_job_keeps_what_it_learned) {
    struct world *world = world_new(1);
    world_populate(world);
    world_submit(world, "name=a;restart.max=0;train.epochs=5");
    world_until(world, "a", "running", 10000);
    world_kill_trainer(world, mid_slice(world), 1, 0, "out of luck");
    world_until(world, "a", "failed", 2000);
    world_advance(world, 3000);
    ck_assert_uint_eq(world_trainer_count(world), 0);
    ck_assert_uint_eq(world_sessions(world, 1), 0);
    struct world_trainer *observer = world_join(world, "a", WIRE_ROLE_OBSERVER);
    world_advance(world, 500);
    ck_assert_int_eq(observer->state, WORLD_TRAINER_IDLE);
    world_free(world);
}
END_TEST

START_TEST(a_worker_that_withdraws_gets_nothing_more) {
    struct world *world = training(1, "5");
    struct world_trainer *victim = mid_slice(world);
    int agent = victim->agent;
    world->agents[agent].slots = 0;
    world->agents[agent].registered = false; /* registers again, without slots */
    world_advance(world, 500);
    world_kill_trainer(world, victim, 0, 0, "stopped: the worker ends");
    world_advance(world, 2000);
    ck_assert_uint_eq(world_trainer_count(world), 2);
    ck_assert_int_eq(world_number(world, "a", "restarts"), 0);
    ck_assert_int_eq(world_number(world, "a", "slices_taken_over"), 1);
    finish(world, 5);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("coordinator losses");
    TCase *tests = tcase_create("losses");
    log_init("test", LOG_LEVEL_ERROR);
    tcase_set_timeout(tests, 120);
    tcase_add_test(tests, a_trainer_killed_in_mid_slice);
    tcase_add_test(tests, a_dropped_step_of_a_loss_is_taken_again);
    tcase_add_test(tests, a_trainer_killed_between_its_pushes_to_two_shards);
    tcase_add_test(tests, two_trainers_killed_one_after_the_other_in_the_same_slice);
    tcase_add_test(tests, the_holder_of_the_initial_values_is_killed);
    tcase_add_loop_test(tests, the_holder_of_the_initial_values_beats_but_never_reports, 0, 2);
    tcase_add_test(tests, the_evaluator_is_killed);
    tcase_add_test(tests, the_evaluator_beats_but_never_reports);
    tcase_add_test(tests, everybody_is_killed_again_and_again);
    tcase_add_test(tests, a_worker_dies_with_its_trainers);
    tcase_add_test(tests, a_worker_comes_back_as_another_process);
    tcase_add_test(tests, a_trainer_falls_silent);
    tcase_add_test(tests, a_trainer_beats_but_does_not_step);
    tcase_add_test(tests, a_trainer_that_waits_for_others_does_not_hang);
    tcase_add_test(tests, a_trainer_that_was_given_up_is_fenced);
    tcase_add_test(tests, restarts_run_out);
    tcase_add_test(tests, a_wrong_configuration_fails_at_once);
    tcase_add_test(tests, a_trainer_that_ends_early_is_started_again);
    tcase_add_test(tests, an_exit_that_was_never_told);
    tcase_add_test(tests, a_failed_job_keeps_what_it_learned);
    tcase_add_test(tests, a_worker_that_withdraws_gets_nothing_more);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
