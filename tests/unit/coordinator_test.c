/* A job's life as the coordinator's core sees it, with nothing going wrong, and what it refuses. */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/world.h"

START_TEST(a_job_runs_from_submission_to_its_ledger) {
    struct world *world = world_new(1);
    world_populate(world);
    uint64_t job = world_submit(world, "name", "first", "train.batch", "16", "train.epochs", "3", NULL);
    ck_assert_uint_eq(job, 1);
    ck_assert_str_eq(world_text(world, "first", "state"), "queued");
    world_until(world, "first", "running", 5000);
    world_advance(world, 1000);
    ck_assert_uint_eq(world_trainer_count(world), 3);
    world_until(world, "first", "finished", 60000);
    world_expect_exact(world, job, 3);
    ck_assert_uint_eq(world->repeats, 0);
    ck_assert_uint_eq(world->evaluations, 3);
    ck_assert_int_eq(world_number(world, "first", "samples_applied"), 3 * WORLD_SAMPLES);
    ck_assert(world_history_has(world, "first", "applied exactly once on all shards"));
    ck_assert(world_history_has(world, "first", "finished after"));
    ck_assert_int_eq(world_number(world, "first", "slices_taken_over"), 0);
    world_advance(world, 2000); /* trainers leave by themselves */
    ck_assert_uint_eq(world_trainer_count(world), 0);
    ck_assert_uint_eq(world_sessions(world, job), 0);
    ck_assert(world_holds(world, job)); /* for export */
    world_free(world);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("coordinator");
    TCase *tests = tcase_create("coordinator");
    tcase_set_timeout(tests, 60);
    tcase_add_test(tests, a_job_runs_from_submission_to_its_ledger);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
