/* What beats say of speed, and what the documents make of it. */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "server/coordinator/core.h"
#include "tests/support/world.h"

#define SECOND_NS INT64_C(1000000000)

static struct coordinator core; /* only its clock is looked at */

static void advance(double seconds) {
    core.now.now_ns += (int64_t)(seconds * 1e9);
}

START_TEST(recent_times_are_of_the_last_windows) {
    struct session session = {0};
    struct wire_trainer_beat beat = {0};
    core.now.now_ns = 100 * SECOND_NS;
    for (int second = 0; second < 60; second++) { /* for half a minute it waits, then it computes */
        beat.compute_ns += second < 30 ? 100000000 : 900000000;
        beat.communication_ns += second < 30 ? 900000000 : 100000000;
        beat.wait_ns = beat.communication_ns / 2;
        beat.copy_bytes += 1000;
        numbers_take_times(&core, &session, &beat);
        struct trainer_times recent = numbers_recent_times(&session);
        double share = (double)recent.compute_ns / (double)(recent.compute_ns + recent.communication_ns);
        if (second < 30)
            ck_assert_double_eq_tol(share, 0.1, 1e-9);
        if (second >= 42)
            ck_assert_double_eq_tol(share, 0.9, 1e-9);
        ck_assert_uint_le(recent.compute_ns + recent.communication_ns, UINT64_C(11) * (uint64_t)SECOND_NS);
        ck_assert_double_eq_tol((double)recent.wait_ns, (double)recent.communication_ns / 2, 1e8);
        advance(1);
    }
    ck_assert_uint_eq(session.copy_bytes, 60000);
    beat = (struct wire_trainer_beat){0}; /* an older trainer, or one that talks nonsense */
    numbers_take_times(&core, &session, &beat);
    ck_assert_uint_eq(numbers_recent_times(&session).compute_ns, 0);
}
END_TEST

START_TEST(rates_are_over_seconds_and_begin_anew_with_the_counts) {
    struct wire_shard_job_stats stats = {0};
    struct shard_work work[1][3] = {0};
    struct job job = {.stats = &stats, .work = work, .shard_count = 1};
    double pushes, pulls, bytes;
    core.now.now_ns = 100 * SECOND_NS;
    ck_assert(!numbers_rates(&job, 0, &pushes, &pulls, &bytes));
    for (int second = 0; second <= 40; second++) {
        numbers_take_work(&core, &job, 0);
        bool known = numbers_rates(&job, 0, &pushes, &pulls, &bytes);
        ck_assert_int_eq(known, second > 0);
        if (second > 0 && second <= 20)
            ck_assert_double_eq_tol(pushes, 10, 1e-9);
        if (second > 32)
            ck_assert_double_eq_tol(pushes, 30, 1e-9);
        if (known)
            ck_assert_double_eq_tol(bytes, 3 * 1024, 1e-6);
        stats.pushes += second < 20 ? 10 : 30;
        stats.pulls += 5;
        stats.push_bytes += 1024;
        stats.pull_bytes += 2048;
        advance(1);
    }
    ck_assert_double_eq_tol(pulls, 5, 1e-9);
    stats = (struct wire_shard_job_stats){.pushes = 3, .pulls = 1, .push_bytes = 10}; /* the server came back empty */
    numbers_take_work(&core, &job, 0);
    ck_assert(!numbers_rates(&job, 0, &pushes, &pulls, &bytes));
    advance(1);
    stats.pushes = 10;
    numbers_take_work(&core, &job, 0);
    ck_assert(numbers_rates(&job, 0, &pushes, &pulls, &bytes));
    ck_assert_double_eq_tol(pushes, 7, 1e-9);
}
END_TEST

static json_t *device_of(struct world *world, size_t at) {
    json_t *workers = world_ask(world, "workers", "");
    json_t *devices = json_object_get(json_array_get(workers, 0), "device_stats");
    json_t *device = json_incref(json_array_get(devices, at));
    json_decref(workers);
    return device;
}

START_TEST(devices_are_shown_as_far_as_they_are_known) {
    static const struct wire_device_stats stats[] = {
        {.device = "cuda:0",
         .name = "some GPU",
         .memory_bytes = 1000,
         .memory_used_bytes = 0,
         .utilisation_known = true,
         .utilisation_percent = 0,
         .temperature_c = 50,
         .power_mw = 1500},
        {.device = "cuda:1", .name = "another"},
    };
    struct world *world = world_new(1);
    world_populate(world);
    world_advance(world, 2000);
    const struct world_agent *agent = &world->agents[0];
    struct wire_message beat = {.kind = WIRE_BEAT, .request = 5};
    beat.beat = (struct wire_beat){.member = agent->member, .instance = agent->instance, .devices = stats};
    beat.beat.device_count = 2;
    world_say(world, agent->route, &beat);
    json_t *first = device_of(world, 0), *second = device_of(world, 1);
    ck_assert_str_eq(json_string_value(json_object_get(first, "device")), "cuda:0");
    ck_assert_int_eq(json_integer_value(json_object_get(first, "memory_bytes")), 1000);
    ck_assert(json_is_integer(json_object_get(first, "memory_used_bytes"))); /* a zero that is known */
    ck_assert(json_is_number(json_object_get(first, "utilisation")));
    ck_assert_double_eq(json_number_value(json_object_get(first, "power_w")), 1.5);
    ck_assert(json_is_null(json_object_get(second, "memory_used_bytes")));
    ck_assert(json_is_null(json_object_get(second, "utilisation")));
    ck_assert(json_is_null(json_object_get(second, "temperature_c")));
    json_decref(first);
    json_decref(second);
    beat.beat.device_count = 0; /* an agent that knows nothing, or an older one */
    world_say(world, agent->route, &beat);
    ck_assert_ptr_null(device_of(world, 0));
    world_free(world);
}
END_TEST

/* JSON takes no half characters: what is too long is cut between two. */
START_TEST(long_names_are_cut_between_characters) {
    enum { ROOM = 96 };
    struct world *world = world_new(1);
    world_populate(world);
    const struct world_agent *agent = &world->agents[0];
    for (size_t odd = 0; odd < 2; odd++) {
        char name[2 * ROOM + 2] = "x";
        for (size_t i = 0; i < ROOM; i++)
            memcpy(name + odd + 2 * i, "\xc3\xa9", 3);
        const struct wire_device_stats stats = {.device = "cuda:0", .name = name};
        struct wire_message beat = {.kind = WIRE_BEAT, .request = 5};
        beat.beat = (struct wire_beat){
            .member = agent->member, .instance = agent->instance, .devices = &stats, .device_count = 1};
        world_say(world, agent->route, &beat);
        json_t *device = device_of(world, 0);
        ck_assert_ptr_nonnull(device);
        ck_assert_uint_eq(strlen(json_string_value(json_object_get(device, "name"))), ROOM - 2 + odd);
        json_decref(device);
    }
    world_free(world);
}
END_TEST

START_TEST(all_documents_stay_readable_without_the_new_numbers) {
    struct world *world = world_new(1);
    world_populate(world);
    world_submit(world, "name=a;train.epochs=2");
    world_until(world, "a", "running", 10000);
    world_advance(world, 3000);
    json_t *document = world_ask(world, "stats", "");
    const json_t *worker = json_array_get(json_object_get(document, "workers"), 0);
    const json_t *trainer = json_array_get(json_object_get(worker, "trainers"), 0);
    ck_assert_str_eq(json_string_value(json_object_get(trainer, "job")), "a");
    ck_assert(json_is_null(json_object_get(trainer, "tokens_per_second")));
    ck_assert(json_is_null(json_object_get(trainer, "memory_used_bytes")));
    ck_assert(json_is_number(json_object_get(json_object_get(trainer, "recent"), "wait_seconds")));
    const json_t *job = json_array_get(json_object_get(document, "jobs"), 0);
    ck_assert(json_is_number(json_object_get(json_object_get(job, "staleness"), "mean")));
    ck_assert(json_is_null(json_object_get(job, "flops_peak")));
    json_decref(document);
    world_until(world, "a", "finished", 300000);
    world_free(world);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("coordinator_numbers");
    TCase *tests = tcase_create("coordinator_numbers");
    tcase_add_test(tests, recent_times_are_of_the_last_windows);
    tcase_add_test(tests, rates_are_over_seconds_and_begin_anew_with_the_counts);
    tcase_add_test(tests, devices_are_shown_as_far_as_they_are_known);
    tcase_add_test(tests, long_names_are_cut_between_characters);
    tcase_add_test(tests, all_documents_stay_readable_without_the_new_numbers);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
