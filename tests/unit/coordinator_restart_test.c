/* The coordinator is killed at every possible moment and started again from its database: nothing is lost, nothing is
 * done twice, and what was under way goes on. */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "common/log.h"
#include "tests/support/world.h"

static struct world *submitted(uint64_t seed, const char *epochs) {
    struct world *world = world_new(seed);
    world_populate(world);
    world_submit(world, "name=a;train.epochs=%s", epochs);
    return world;
}

static void finish(struct world *world, uint64_t epochs) {
    world_until(world, "a", "finished", 600000);
    world_expect_exact(world, 1, epochs);
    ck_assert(world_history_has(world, "a", "applied exactly once"));
    world_advance(world, 15000);
    ck_assert_uint_eq(world_sessions(world, 1), 0);
    ck_assert_uint_eq(world_trainer_count(world), 0);
    world_free(world);
}

START_TEST(restart_in_each_state) {
    static const char *const states[] = {"queued", "defining", "initialising", "running", "evaluating", "finished"};
    struct world *world = world_new(1);
    world_populate(world);
    world->keep_trainers_from_joining = true;
    world_submit(world, "name=a;train.epochs=2");
    if (_i > 0)
        world->keep_trainers_from_joining = false;
    if (_i == 1) /* servers do not answer JOB_OPEN */
        world->servers[0].stopped = world->servers[1].stopped = true;
    world_until(world, "a", states[_i], 60000);
    world_restart(world);
    ck_assert_str_eq(world_text(world, "a", "state"), states[_i]);
    world->servers[0].stopped = world->servers[1].stopped = false;
    world->keep_trainers_from_joining = false;
    world_advance(world, 300);
    ck_assert_int_eq(world_number(world, "a", "restarts"), 0);
    finish(world, 2);
}
END_TEST

/* Everything the operator saw is there again. */
START_TEST(a_finished_job_is_remembered_whole) {
    struct world *world = submitted(1, "2");
    world_until(world, "a", "finished", 60000);
    world_advance(world, 3000);
    json_t *before = world_ask(world, "job", "a");
    world_restart(world);
    json_t *after = world_ask(world, "job", "a");
    static const char *const keys[] = {"id",
                                       "name",
                                       "state",
                                       "reason",
                                       "epoch",
                                       "epochs",
                                       "accuracy",
                                       "loss",
                                       "spec",
                                       "tensors",
                                       "parameters",
                                       "bytes",
                                       "evaluations",
                                       "staleness",
                                       "weight_mean",
                                       "restarts",
                                       "ledger",
                                       "leases",
                                       "history",
                                       "shards",
                                       "samples_applied",
                                       "samples_total",
                                       "submitted_at",
                                       "started_at",
                                       "finished_at"};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        ck_assert_msg(json_equal(json_object_get(before, keys[i]), json_object_get(after, keys[i])),
                      "\"%s\" differs: %s, then %s", keys[i],
                      json_dumps(json_object_get(before, keys[i]), JSON_ENCODE_ANY),
                      json_dumps(json_object_get(after, keys[i]), JSON_ENCODE_ANY));
    json_decref(before);
    json_decref(after);
    world_submit(world, "name=b");
    ck_assert_uint_eq(world->reply.submit_reply.job, 2); /* numbers go on */
    world_until(world, "b", "finished", 60000);
    world_expect_exact(world, 2, 1);
    world_free(world);
}
END_TEST

START_TEST(members_have_time_to_come_back) {
    struct world *world = submitted(1, "4");
    world_until(world, "a", "running", 10000);
    world_advance(world, 500);
    uint64_t trainer = world_trainer_at(world, 0)->number;
    world_restart(world);
    world_advance(world, 4000);
    ck_assert_str_eq(world_text(world, "a", "state"), "running");
    ck_assert_uint_eq(world_trainer_at(world, 0)->number, trainer); /* it carried on */
    ck_assert_int_eq(world_number(world, "a", "slices_taken_over"), 0);
    json_t *servers = world_ask(world, "servers", "");
    ck_assert_str_eq(json_string_value(json_object_get(json_array_get(servers, 0), "state")), "alive");
    json_decref(servers);
    finish(world, 4);
}
END_TEST

START_TEST(a_worker_died_while_the_coordinator_was_away) {
    struct world *world = submitted(1, "6");
    world_until(world, "a", "running", 10000);
    world_advance(world, 1000);
    world_restart(world);
    world_kill_agent(world, 1);
    world_advance(world, 8000);
    ck_assert(world_history_has(world, "a", "is silent"));
    ck_assert_uint_eq(world_trainer_count(world), 2);
    finish(world, 6);
}
END_TEST

START_TEST(a_server_lost_its_memory_while_the_coordinator_was_away) {
    struct world *world = submitted(1, "6");
    world_until(world, "a", "running", 10000);
    world_restart_server(world, 0);
    world_restart(world);
    world_until(world, "a", "failed", 5000);
    ck_assert_ptr_nonnull(strstr(world_text(world, "a", "reason"), "memory was lost"));
    world_free(world);
}
END_TEST

/* Writes the definition that it is given back, with higher numbers. */
static enum lg_status raise_numbers(void *context, enum store_table table, const void *row, struct lg_error *error) {
    if (table != STORE_TABLE_DEFINITION)
        return LG_OK;
    struct store_definition *definition = store_row_copy(table, row);
    ck_assert_uint_eq(definition->epoch, 1);
    ck_assert_uint_eq(definition->map_version, 1);
    definition->epoch = 5;
    definition->map_version = 7;
    *(struct store_change *)context = (struct store_change){table, false, definition};
    return error->status;
}

START_TEST(epoch_and_map_version_are_those_of_the_database) {
    struct world *world = world_new(1);
    struct store_change change = {0};
    struct lg_error error = {0};
    world_populate(world);
    world->servers[0].stopped = world->servers[1].stopped = true; /* they do not answer JOB_OPEN */
    world_submit(world, "name=a;train.epochs=2");
    world_until(world, "a", "defining", 5000);
    ck_assert_int_eq(store_load(world->store, raise_numbers, &change, &error), LG_OK);
    ck_assert_int_eq(store_write(world->store, &change, 1, &error), LG_OK);
    free((void *)(uintptr_t)change.row);
    world_restart(world);
    world->servers[0].stopped = world->servers[1].stopped = false;
    world_until(world, "a", "running", 10000);
    size_t shards = 0;
    for (int s = 0; s < 2; s++)
        for (size_t i = 0; i < world->servers[s].shard_count; i++) {
            const struct world_job *job = &world->servers[s].shards[i].jobs[0];
            shards += job->open && job->epoch == 5 && job->map_version == 7;
        }
    ck_assert_uint_ge(shards, 1);
    ck_assert_uint_eq(world_trainer_at(world, 0)->map_version, 7);
    finish(world, 2);
}
END_TEST

/* Killed after the rows are on the disk and before the answers have left, at step _i of a run with a death in it. */
START_TEST(killed_between_the_disk_and_the_network) {
    struct world *world = submitted(1, "2");
    bool killed = false;
    world_advance(world, 50 * (int64_t)_i);
    for (int i = 0; i < 3; i++) {
        world->deaf = true;
        world_advance(world, 50);
        world->deaf = false;
        world_restart(world);
        world_advance(world, 300);
        struct world_trainer *victim = world_trainer_at(world, 0);
        if (!killed && victim && victim->state == WORLD_TRAINER_WORKING) {
            world_kill_trainer(world, victim, 0, 9, "killed by signal 9");
            killed = true;
        }
    }
    world_until(world, "a", "finished", 600000);
    ck_assert_int_eq(world_number(world, "a", "restarts"), killed); /* no grant was forgotten until a stall */
    finish(world, 2);
}
END_TEST

/* ---- everything at once */

static void trouble(struct world *world, struct random *dice) {
    size_t running = world_trainer_count(world);
    struct world_trainer *victim = running ? world_trainer_at(world, random_below(dice, running)) : NULL;
    int agent = (int)random_below(dice, 3);
    switch (random_below(dice, 9)) {
    case 0:
        if (victim)
            world_kill_trainer(world, victim, 0, 9, "killed by signal 9");
        break;
    case 1:
        if (victim && victim->agent >= 0)
            victim->stuck_after_half = true;
        break;
    case 2:
        if (victim)
            victim->frozen = victim->silent = true;
        break;
    case 3:
        world_kill_agent(world, agent);
        break;
    case 4:
        for (int i = 0; i < 3; i++)
            if (!world->agents[i].there) {
                char name[32];
                snprintf(name, sizeof name, "worker-%d", i);
                world_add_agent(world, i, name, 1 + (uint32_t)random_below(dice, 2));
            }
        break;
    case 5:
        world_restart(world);
        break;
    case 6:
        world->deaf = true;
        world_advance(world, 50);
        world->deaf = false;
        world_restart(world);
        break;
    case 7:
        world->servers[random_below(dice, 2)].stopped = true;
        break;
    default:
        world->servers[0].stopped = world->servers[1].stopped = false;
        break;
    }
}

static void expect_sane(struct world *world) {
    json_t *job = world_ask(world, "job", "a"), *leases = json_object_get(job, "leases");
    const char *state = json_string_value(json_object_get(job, "state"));
    ck_assert_msg(strcmp(state, "failed") != 0, "failed: %s", json_string_value(json_object_get(job, "reason")));
    ck_assert_uint_lt(json_array_size(leases), 60);
    ck_assert_uint_eq(world->torn, 0);
    json_decref(job);
}

START_TEST(a_run_full_of_trouble_ends_well) {
    uint64_t seed = 4000 + (uint64_t)_i;
    struct random dice;
    struct world *world = world_new(seed);
    random_init(&dice, seed);
    world->lose_percent = 5;
    world->repeat_percent = 5;
    world_populate(world);
    world_submit(world, "name=a;train.epochs=5;restart.max=1000;lease.duration=1s");
    for (int i = 0; i < 60; i++) {
        world_advance(world, 50 * (1 + (int64_t)random_below(&dice, 40)));
        trouble(world, &dice);
        expect_sane(world);
    }
    world->servers[0].stopped = world->servers[1].stopped = false;
    for (int i = 0; i < 3; i++)
        if (!world->agents[i].there) {
            char name[32];
            snprintf(name, sizeof name, "worker-%d", i);
            world_add_agent(world, i, name, 1);
        }
    finish(world, 5);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("coordinator restart");
    TCase *tests = tcase_create("restart");
    log_init("test", LOG_LEVEL_ERROR);
    tcase_set_timeout(tests, 240);
    tcase_add_loop_test(tests, restart_in_each_state, 0, 6);
    tcase_add_test(tests, a_finished_job_is_remembered_whole);
    tcase_add_test(tests, members_have_time_to_come_back);
    tcase_add_test(tests, a_worker_died_while_the_coordinator_was_away);
    tcase_add_test(tests, a_server_lost_its_memory_while_the_coordinator_was_away);
    tcase_add_test(tests, epoch_and_map_version_are_those_of_the_database);
    tcase_add_loop_test(tests, killed_between_the_disk_and_the_network, 0, 100);
    tcase_add_loop_test(tests, a_run_full_of_trouble_ends_well, 0, 60);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
