/* Servers and workers that come, fall silent, come back, or come back as somebody else. */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "common/log.h"
#include "tests/support/world.h"

static struct world *training(const char *epochs) {
    struct world *world = world_new(1);
    world_populate(world);
    world_submit(world, "name=a;train.epochs=%s", epochs);
    world_until(world, "a", "running", 10000);
    world_advance(world, 500);
    return world;
}

static void finish(struct world *world, uint64_t epochs) {
    world_until(world, "a", "finished", 300000);
    world_expect_exact(world, 1, epochs);
    world_free(world);
}

static struct wire_message registration(const char *name, uint64_t instance, const char *const *endpoint) {
    struct wire_message message = {.kind = WIRE_REGISTER, .request = 1};
    message.register_ = (struct wire_register){.kind = WIRE_MEMBER_SERVER,
                                               .name = name,
                                               .instance = instance,
                                               .endpoints = endpoint,
                                               .endpoint_count = 1,
                                               .memory_bytes = 1 << 20};
    return message;
}

START_TEST(registering_twice_gives_the_same_numbers) {
    struct world *world = world_new(1);
    const char *first[] = {"tcp://h:1"}, *second[] = {"tcp://h:2"};
    struct wire_message message = registration("host", 7, first);
    uint32_t shards[3];
    uint64_t members[3];
    for (int i = 0; i < 3; i++) {
        if (i == 2) /* another server of the same host, with the host's name */
            message = registration("host", 8, second);
        world_say(world, ROUTE_CLI, &message);
        ck_assert_int_eq(world->reply.kind, WIRE_REGISTER_REPLY);
        ck_assert_uint_eq(world->reply.register_reply.status, LG_OK);
        shards[i] = world->reply.register_reply.shards[0];
        members[i] = world->reply.register_reply.member;
    }
    ck_assert_uint_eq(shards[0], shards[1]);
    ck_assert_uint_ne(shards[0], shards[2]);
    ck_assert_uint_eq(members[0], members[1]);
    json_t *servers = world_ask(world, "servers", "");
    ck_assert_uint_eq(json_array_size(servers), 2);
    ck_assert_str_eq(json_string_value(json_object_get(json_array_get(servers, 1), "name")), "host-2");
    json_decref(servers);
    world_free(world);
}
END_TEST

START_TEST(senseless_registrations_are_refused) {
    struct world *world = world_new(1);
    const char *endpoint[] = {"tcp://h:1"};
    struct wire_message message = registration("host", 0, endpoint);
    world_say(world, ROUTE_CLI, &message);
    ck_assert_uint_eq(world->reply.register_reply.status, LG_INVALID);
    message = registration("host", 5, endpoint);
    message.register_.endpoint_count = 0;
    world_say(world, ROUTE_CLI, &message);
    ck_assert_uint_eq(world->reply.register_reply.status, LG_INVALID);
    message = registration("host", 5, endpoint);
    message.register_.member = 3; /* numbered by another database */
    world_say(world, ROUTE_CLI, &message);
    ck_assert_uint_eq(world->reply.register_reply.status, LG_DENIED);
    ck_assert_ptr_nonnull(strstr(world->reply_text, "restart the server"));
    json_t *servers = world_ask(world, "servers", "");
    ck_assert_uint_eq(json_array_size(servers), 0);
    json_decref(servers);
    world_free(world);
}
END_TEST

static size_t trainers_on(struct world *world, const char *device) {
    size_t count = 0;
    for (size_t n = 0; n < world_trainer_count(world); n++)
        count += strcmp(world_trainer_at(world, n)->device, device) == 0;
    return count;
}

/* Two devices and three slots; trainers call their device otherwise than their agent does. */
START_TEST(trainers_get_devices_of_their_own) {
    struct world *world = world_new(1);
    world_add_server(world, 0, "server-0", 2, 1 << 30);
    world_add_agent(world, 0, "worker-0", 2);
    world->agents[0].devices[0] = "cuda:0/bf16";
    world->agents[0].devices[1] = "cuda:1";
    world->agents[0].device_count = 2;
    world->step_time_ms = 1000; /* so that nothing comes to its end meanwhile */
    world_advance(world, 200);
    world_submit(world, "name=a;train.batch=16;train.epochs=6;workers=1");
    world_until(world, "a", "running", 5000);
    world_advance(world, 1000); /* the first has joined long before the second starts */
    ck_assert_str_eq(world_trainer_at(world, 0)->device, "cuda:0/bf16");
    world_submit(world, "name=b;train.batch=16;train.epochs=6;workers=1");
    world_until(world, "b", "running", 5000);
    ck_assert_uint_eq(world_trainer_count(world), 2);
    ck_assert_uint_eq(trainers_on(world, "cuda:1"), 1);
    for (int round = 0; round < 4; round++) { /* whichever ends, its device is given out again */
        char ended[64];
        struct world_trainer *trainer = world_trainer_at(world, (size_t)round % 2);
        snprintf(ended, sizeof ended, "%s", trainer->device);
        world_kill_trainer(world, trainer, 0, 9, "killed");
        world_advance(world, 15000);
        ck_assert_uint_eq(world_trainer_count(world), 2);
        ck_assert_msg(trainers_on(world, ended) == 1, "%s is idle after its trainer died", ended);
    }
    world_free(world);
}
END_TEST

START_TEST(devices_are_shared_where_there_are_too_few) {
    struct world *world = world_new(1);
    world_add_server(world, 0, "server-0", 2, 1 << 30);
    world_add_agent(world, 0, "worker-0", 4);
    world->agents[0].devices[0] = "cuda:0";
    world->agents[0].devices[1] = "cuda:1";
    world->agents[0].device_count = 2;
    world->step_time_ms = 1000; /* so that nothing comes to its end meanwhile */
    world_advance(world, 200);
    world_submit(world, "name=a;train.batch=16;train.epochs=6");
    world_until(world, "a", "running", 5000);
    world_advance(world, 1000);
    ck_assert_uint_eq(world_trainer_count(world), 4);
    ck_assert_uint_eq(trainers_on(world, "cuda:0"), 2);
    ck_assert_uint_eq(trainers_on(world, "cuda:1"), 2);
    world_free(world);
}
END_TEST

START_TEST(a_beat_of_a_stranger_is_told_to_register) {
    struct world *world = world_new(1);
    struct wire_message message = {.kind = WIRE_BEAT, .request = 4, .beat = {.member = 3, .instance = 4}};
    world_say(world, ROUTE_CLI, &message);
    ck_assert_int_eq(world->reply.kind, WIRE_BEAT_REPLY);
    ck_assert(world->reply.beat_reply.register_again);
    world_free(world);
}
END_TEST

START_TEST(a_server_is_stopped_for_a_moment) {
    struct world *world = training("3");
    world->servers[0].stopped = true;
    world_advance(world, 3000);
    ck_assert_str_eq(world_text(world, "a", "state"), "running");
    world->servers[0].stopped = false;
    ck_assert_int_eq(world_number(world, "a", "restarts"), 0);
    finish(world, 3);
}
END_TEST

START_TEST(a_server_is_silent_and_comes_back) {
    struct world *world = training("3");
    world->servers[0].stopped = true;
    world_advance(world, 7000);
    ck_assert_str_eq(world_text(world, "a", "state"), "waiting");
    ck_assert_ptr_nonnull(strstr(world_text(world, "a", "reason"), "server-0"));
    world_advance(world, 40000); /* longer than any stall: nobody is given up meanwhile */
    ck_assert_uint_eq(world_trainer_count(world), 3);
    world->servers[0].stopped = false;
    world_advance(world, 2000);
    ck_assert_str_eq(world_text(world, "a", "state"), "running");
    ck_assert(world_history_has(world, "a", "all servers answer again"));
    ck_assert_int_eq(world_number(world, "a", "restarts"), 0);
    finish(world, 3);
}
END_TEST

START_TEST(the_coordinator_itself_is_stopped) {
    struct world *world = training("3");
    world_stop_coordinator(world, 30000);
    world_advance(world, 1000);
    ck_assert_str_eq(world_text(world, "a", "state"), "running");
    ck_assert(!world_history_has(world, "a", "is lost"));
    ck_assert(!world_history_has(world, "a", "waiting for server"));
    finish(world, 3);
}
END_TEST

START_TEST(old_jobs_are_forgotten) {
    struct world *world = world_new(1);
    world_populate(world);
    for (int i = 0; i < 205; i++) {
        world_submit(world, "name=job-%d", i);
        char name[16];
        snprintf(name, sizeof name, "job-%d", i);
        world_cancel(world, name);
    }
    world_advance(world, 1000);
    json_t *jobs = world_ask(world, "jobs", "");
    ck_assert_uint_eq(json_array_size(jobs), 200);
    ck_assert_str_eq(json_string_value(json_object_get(json_array_get(jobs, 0), "name")), "job-5");
    json_decref(jobs);
    world_restart(world); /* from the database too */
    jobs = world_ask(world, "jobs", "");
    ck_assert_uint_eq(json_array_size(jobs), 200);
    json_decref(jobs);
    world_submit(world, "name=new");
    world_until(world, "new", "finished", 100000);
    world_free(world);
}
END_TEST

START_TEST(a_server_stays_silent) {
    struct world *world = training("3");
    world->servers[1].stopped = true;
    world_advance(world, 55000);
    ck_assert_str_eq(world_text(world, "a", "state"), "waiting");
    world_until(world, "a", "failed", 10000);
    ck_assert_ptr_nonnull(strstr(world_text(world, "a", "reason"), "server-1"));
    world_advance(world, 3000);
    ck_assert_uint_eq(world_trainer_count(world), 0);
    /* another job is placed on what is there */
    world_submit(world, "name=b");
    world_until(world, "b", "finished", 100000);
    ck_assert(world_holds(world, 2));
    world_free(world);
}
END_TEST

START_TEST(a_server_comes_back_without_its_memory) {
    struct world *world = training("3");
    world_restart_server(world, 1);
    world_advance(world, 1000);
    ck_assert_str_eq(world_text(world, "a", "state"), "failed");
    ck_assert_ptr_nonnull(strstr(world_text(world, "a", "reason"), "server \"server-1\" was restarted and its memory "
                                                                   "was lost; durability \"memory\" keeps no copy"));
    world_advance(world, 3000);
    ck_assert(!world_holds(world, 1));
    json_t *servers = world_ask(world, "servers", "");
    ck_assert_uint_eq(json_array_size(servers), 2); /* in its old place */
    json_decref(servers);
    world_submit(world, "name=b");
    world_until(world, "b", "finished", 100000);
    world_expect_exact(world, 2, 1);
    world_free(world);
}
END_TEST

START_TEST(a_server_of_the_same_name_on_other_ports_replaces_a_dead_one) {
    struct world *world = training("3");
    world->servers[1].there = false;
    world_advance(world, 1000);
    world_add_server(world, 2, "server-1", 2, 1 << 30); /* its ports differ */
    world_advance(world, 2000);
    ck_assert_str_eq(world_text(world, "a", "state"), "running"); /* it might be another one */
    world_until(world, "a", "failed", 10000);
    ck_assert_ptr_nonnull(strstr(world_text(world, "a", "reason"), "memory was lost"));
    world_free(world);
}
END_TEST

START_TEST(a_finished_job_may_lose_its_values) {
    struct world *world = training("1");
    world_until(world, "a", "finished", 100000);
    world_restart_server(world, 0);
    world_advance(world, 3000);
    ck_assert_str_eq(world_text(world, "a", "state"), "finished");
    ck_assert(world_history_has(world, "a", "the values are lost"));
    ck_assert(!world_holds(world, 1));
    world_free(world);
}
END_TEST

START_TEST(a_long_silent_member_is_forgotten) {
    struct world *world = world_new(1);
    world_populate(world);
    world->servers[1].there = false;
    world_kill_agent(world, 2);
    world_advance(world, 700000);
    json_t *servers = world_ask(world, "servers", ""), *workers = world_ask(world, "workers", "");
    ck_assert_uint_eq(json_array_size(servers), 1);
    ck_assert_uint_eq(json_array_size(workers), 2);
    json_decref(servers);
    json_decref(workers);
    world_free(world);
}
END_TEST

START_TEST(answers_of_the_wrong_server_do_not_count) {
    struct world *world = world_new(1);
    world_populate(world);
    world->servers[0].stopped = world->servers[1].stopped = true;
    world_submit(world, "name=a");
    world_until(world, "a", "defining", 5000);
    /* someone guesses request numbers */
    for (uint64_t request = 1; request < 4096; request++) {
        struct wire_message message = {.kind = WIRE_ACK, .request = request};
        world_say(world, ROUTE_CLI, &message);
    }
    world_advance(world, 300);
    ck_assert_str_eq(world_text(world, "a", "state"), "defining");
    world_free(world);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("coordinator members");
    TCase *tests = tcase_create("members");
    log_init("test", LOG_LEVEL_ERROR);
    tcase_set_timeout(tests, 120);
    tcase_add_test(tests, registering_twice_gives_the_same_numbers);
    tcase_add_test(tests, senseless_registrations_are_refused);
    tcase_add_test(tests, a_beat_of_a_stranger_is_told_to_register);
    tcase_add_test(tests, trainers_get_devices_of_their_own);
    tcase_add_test(tests, devices_are_shared_where_there_are_too_few);
    tcase_add_test(tests, a_server_is_stopped_for_a_moment);
    tcase_add_test(tests, a_server_is_silent_and_comes_back);
    tcase_add_test(tests, the_coordinator_itself_is_stopped);
    tcase_add_test(tests, old_jobs_are_forgotten);
    tcase_add_test(tests, a_server_stays_silent);
    tcase_add_test(tests, a_server_comes_back_without_its_memory);
    tcase_add_test(tests, a_server_of_the_same_name_on_other_ports_replaces_a_dead_one);
    tcase_add_test(tests, a_finished_job_may_lose_its_values);
    tcase_add_test(tests, a_long_silent_member_is_forgotten);
    tcase_add_test(tests, answers_of_the_wrong_server_do_not_count);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
