/* Pulls into a device's own memory, from shards that go on working. */
#include "worker/trainer_pull.h"

#include <check.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "client/mapping.h"
#include "server/segment.h"
#include "tests/support/devices.h"
#include "tests/support/fake_client.h"
#include "tests/support/sanitizer.h"

enum { ALL_BYTES = FAKE_ELEMENTS * sizeof(float) };

static struct fake_cluster *cluster;
static struct lg_client *client, *other;
static struct test_apart apart;
static struct device *device;
static struct trainer_pull pull;
static float *buffer, *memory, *gradients;

static struct lg_client *open_client(bool no_shared_memory) {
    struct lg_client_options options = fake_client_options(cluster);
    options.no_shared_memory = no_shared_memory;
    return fake_client_open(&options);
}

static void set_all(float *values, float value) {
    for (size_t i = 0; i < FAKE_ELEMENTS; i++)
        values[i] = value;
}

/* All values are 100; the learning rate is 1. */
static void setup(void) {
    struct lg_error error = {0};
    struct lg_lease lease;
    cluster = fake_cluster_start_over(FAKE_LOCAL, NULL);
    client = open_client(false);
    other = open_client(true);
    apart = (struct test_apart){.keeps = true, .keeps_read_only = true};
    device = test_apart_open(&apart);
    test_apart_lazy(true);
    must(trainer_pull_init(&pull, device, &error), &error);
    buffer = calloc(1, ALL_BYTES);
    gradients = calloc(1, ALL_BYTES);
    memory = device->ops->alloc(device, ALL_BYTES);
    ck_assert(buffer && gradients && memory);
    set_all(memory, -1);
    set_all(gradients, 100);
    must(lg_lease_next(client, &lease, &error), &error);
    must(lg_push(client, &(struct lg_push){.initial = true}, gradients, NULL, &error), &error);
    must(lg_lease_done(client, &lease, &error), &error);
    set_all(gradients, 1);
    fake_client_await_transport(client, "shm");
}

static void teardown(void) {
    trainer_pull_deinit(&pull);
    ck_assert_uint_eq(apart.kept, 0);
    lg_client_close(&client, NULL);
    lg_client_close(&other, NULL);
    fake_cluster_stop(cluster);
    device->ops->free(device, memory);
    device_close(device);
    free(buffer);
    free(gradients);
}

static void push(struct lg_client *with) {
    struct lg_error error = {0};
    must(lg_push(with, &(struct lg_push){.samples = 1, .local_steps = 1}, gradients, NULL, &error), &error);
}

static void start(void) {
    struct lg_error error = {0};
    must(trainer_pull_start(&pull, client, buffer, memory, &error), &error);
}

static void go_on(bool wait) {
    struct lg_error error = {0};
    must(trainer_pull_go_on(&pull, client, wait, &error), &error);
}

static void pull_all(void) {
    start();
    go_on(true);
    ck_assert(!pull.under_way);
}

static void check_all(const float *values, float value) {
    size_t i = 0;
    while (i < FAKE_ELEMENTS && values[i] == value)
        i++;
    if (i < FAKE_ELEMENTS)
        ck_abort_msg("element %zu is %g, not %g", i, (double)values[i], (double)value);
}

/* ---- */

START_TEST(shards_memory_is_registered_once_and_read_in_place) {
    pull_all();
    check_all(memory, 100);
    check_all(buffer, 0); /* the host has no copy */
    ck_assert_uint_eq(apart.kept, FAKE_SHARDS);
    ck_assert_uint_eq(pull.told, TRAINER_PULL_IN_PLACE);
    push(other);
    pull_all();
    check_all(memory, 99);
    check_all(buffer, 0);
    ck_assert_uint_eq(apart.kept, FAKE_SHARDS);
    ck_assert_uint_eq(pull.copied_bytes, 2 * (uint64_t)ALL_BYTES);
    pull_all(); /* nothing has changed */
    ck_assert_uint_eq(pull.copied_bytes, 2 * (uint64_t)ALL_BYTES);
    trainer_pull_leave(&pull);
    ck_assert_uint_eq(apart.kept, 0);
}
END_TEST

START_TEST(what_cannot_be_registered_is_staged) {
    apart.keeps_read_only = false;
    pull_all();
    check_all(memory, 100);
    check_all(buffer, 100);
    ck_assert_uint_eq(pull.told, TRAINER_PULL_STAGED);
    push(other);
    pull_all();
    check_all(memory, 99);
    check_all(buffer, 99);
    ck_assert_uint_eq(pull.copied_bytes, 2 * (uint64_t)ALL_BYTES);
    pull_all();
    ck_assert_uint_eq(pull.copied_bytes, 2 * (uint64_t)ALL_BYTES);
    ck_assert_uint_eq(pull.told, TRAINER_PULL_STAGED);
    ck_assert_uint_eq(apart.kept, 0);
}
END_TEST

START_TEST(messages_go_through_the_hosts_buffer) {
    lg_client_close(&client, NULL);
    client = open_client(true);
    pull_all();
    check_all(memory, 100);
    check_all(buffer, 100);
    pull_all();
    ck_assert_uint_eq(pull.copied_bytes, (uint64_t)ALL_BYTES);
    ck_assert_uint_eq(pull.told, TRAINER_PULL_MESSAGES);
}
END_TEST

START_TEST(what_is_told_early_is_copied_early) {
    start();
    for (int i = 0; i < 20000 && pull.under_way; i++) {
        go_on(false);
        nanosleep(&(struct timespec){.tv_nsec = 100000}, NULL);
    }
    ck_assert(!pull.under_way);
    check_all(memory, 100);
    go_on(true); /* there is nothing left */
    check_all(memory, 100);
}
END_TEST

/* Another trainer's pushes arrive in the middle of copies. */
struct disturbance {
    unsigned left, done;
};

static void disturb(void *context, const void *host, size_t bytes) {
    struct disturbance *disturbance = context;
    (void)host;
    (void)bytes;
    if (disturbance->left == 0)
        return;
    disturbance->left--;
    disturbance->done++;
    push(other);
}

/* Every unit is the same throughout, since every push takes one off all of it; unit 0 never goes back. */
static void check_units(float most) {
    const size_t bounds[] = {0, 65536, 2 * 65536, 2 * 65536 + 100, FAKE_ELEMENTS};
    ck_assert(memory[0] <= most);
    for (size_t unit = 0; unit < FAKE_UNITS; unit++)
        for (size_t i = bounds[unit]; i < bounds[unit + 1]; i++)
            if (memory[i] != memory[bounds[unit]])
                ck_abort_msg("unit %zu is torn at %zu: %g after %g", unit, i, (double)memory[i],
                             (double)memory[bounds[unit]]);
}

START_TEST(no_torn_values_are_taken) {
    struct disturbance disturbance = {.left = (unsigned)_i};
    apart.on_upload = disturb;
    apart.context = &disturbance;
    pull_all();
    ck_assert_uint_le(disturbance.done, (unsigned)_i);
    ck_assert(disturbance.done > 0 || _i == 0);
    check_units(100);
    apart.on_upload = NULL;
    pull_all();
    check_all(memory, 100 - (float)disturbance.done);
}
END_TEST

/* As fast as it can; the shards' thread changes units while they are copied. */
static void *push_all_the_time(void *stop) {
    while (!atomic_load((atomic_bool *)stop))
        push(other);
    return NULL;
}

START_TEST(no_torn_values_are_taken_while_another_trainer_pushes) {
    pthread_t thread;
    atomic_bool stop = false;
    float before = 101;
    if (THREADS_ARE_WATCHED) {
        puts("SKIP: ThreadSanitizer sees the race that sequences make harmless");
        return;
    }
    ck_assert_int_eq(pthread_create(&thread, NULL, push_all_the_time, &stop), 0);
    for (int round = 0; round < 200; round++) {
        apart.keeps_read_only = round >= 100;
        if (round == 100) { /* the first half staged */
            trainer_pull_leave(&pull);
            pull.staged = false;
        }
        pull_all();
        check_units(before);
        before = memory[0];
    }
    atomic_store(&stop, true);
    pthread_join(thread, NULL);
    float last = fake_value(cluster, 0);
    ck_assert(last < 100);
    pull_all();
    check_all(memory, last);
}
END_TEST

START_TEST(memory_of_a_lost_shard_is_let_go_of) {
    pull_all();
    for (int round = 1; round < 4; round++) {
        ck_assert_uint_eq(apart.kept, FAKE_SHARDS);
        fake_cut_shard(cluster, (unsigned)round % FAKE_SHARDS);
        push(client);
        fake_client_await_transport(client, "shm");
        pull_all();
        check_all(memory, (float)(100 - round));
    }
    ck_assert_uint_eq(apart.kept, FAKE_SHARDS);
}
END_TEST

START_TEST(a_shard_that_is_lost_in_the_middle_does_no_harm) {
    start();
    fake_cut_shard(cluster, 0);
    go_on(true);
    check_all(memory, 100);
    push(other);
    start();
    fake_reopen(cluster, 0);
    fake_reopen(cluster, 1);
    set_all(gradients, 7);
    struct lg_error error = {0};
    must(lg_push(other, &(struct lg_push){.initial = true}, gradients, NULL, &error), &error);
    go_on(true);
    for (size_t i = 0; i < FAKE_ELEMENTS; i++)
        ck_assert(memory[i] == 99 || memory[i] == 7);
    pull_all();
    check_all(memory, 7);
}
END_TEST

START_TEST(a_device_that_fails_ends_the_pull) {
    struct lg_error error = {0};
    pull_all();
    push(other);
    start();
    apart.fails_after = 1;
    ck_assert_int_eq(trainer_pull_go_on(&pull, client, true, &error), LG_IO);
    ck_assert_str_eq(error.message, "the device fails as the test wants it");
    ck_assert(!pull.under_way);
    trainer_pull_leave(&pull);
    ck_assert_uint_eq(apart.kept, 0);
}
END_TEST

/* ---- many units, in a segment that nobody changes but the test, in place and staged */

enum { UNITS = 90, RAGGED = 6 };

/* The last are ragged: behind them is a gap in the segment, not in the flat array. */
static uint32_t elements_of(uint32_t unit) {
    return unit < UNITS - RAGGED ? 65536 : 1 + 15 * (unit % RAGGED);
}

START_TEST(what_follows_each_other_goes_in_one_copy_a_chunk) {
    struct wire_unit units[UNITS];
    struct lg_place places[UNITS];
    struct segment segment;
    struct lg_error error = {0};
    uint64_t elements = 0, bytes = 0, wrong = 0;
    for (uint32_t i = 0; i < UNITS; i++) {
        units[i] = (struct wire_unit){.unit = i, .elements = elements_of(i)};
        bytes += local_unit_bytes(units[i].elements);
    }
    must(segment_init(&segment, "test", UNITS, bytes, &error), &error);
    struct lg_mapping *mapping = mapping_new(units, UNITS, segment.bytes, segment.fd);
    ck_assert_ptr_nonnull(mapping);
    for (uint32_t i = 0; i < UNITS; i++) {
        float *values = segment.data + (mapping_values(mapping, i) - mapping_values(mapping, 0));
        for (uint32_t k = 0; k < units[i].elements; k++)
            values[k] = (float)(i + 1);
        places[i] = (struct lg_place){.values = mapping_values(mapping, i),
                                      .offset = elements,
                                      .elements = units[i].elements,
                                      .mapping = mapping,
                                      .guard = mapping_unit(mapping, i)};
        elements += units[i].elements;
    }
    apart = (struct test_apart){.keeps_read_only = _i == 0};
    device = test_apart_open(&apart);
    test_apart_lazy(true);
    must(trainer_pull_init(&pull, device, &error), &error);
    trainer_pull_meet(&pull, mapping);
    trainer_pull_meet(&pull, mapping);
    ck_assert_uint_eq(apart.kept, _i == 0);
    pull.target = device->ops->alloc(device, elements * sizeof(float));
    pull.buffer = calloc(elements, sizeof(float));
    ck_assert(pull.target && pull.buffer);
    local_unit_begin(&segment.head->units[40]); /* and stays in change */
    must(trainer_pull_copy(&pull, places, UNITS, &error), &error);
    for (uint32_t i = 0; i < UNITS; i++) {
        ck_assert_int_eq(places[i].whole, i != 40);
        for (uint32_t k = 0; k < units[i].elements; k++)
            wrong += places[i].whole && pull.target[places[i].offset + k] != (float)(i + 1);
    }
    ck_assert_uint_eq(wrong, 0);
    /* whole units in chunks of 16, six in all; at most one copy more for each ragged one */
    ck_assert_uint_ge(apart.uploads, 6);
    ck_assert_uint_le(apart.uploads, _i == 0 ? 6 + RAGGED : 6);
    ck_assert_uint_eq(apart.uploaded, elements * sizeof(float));
    device->ops->free(device, pull.target);
    free(pull.buffer);
    trainer_pull_deinit(&pull);
    ck_assert_uint_eq(apart.kept, 0);
    device_close(device);
    lg_mapping_release(mapping);
    segment_deinit(&segment);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("trainer_pull");
    TCase *tests = tcase_create("trainer_pull");
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_set_timeout(tests, 60);
    tcase_add_test(tests, shards_memory_is_registered_once_and_read_in_place);
    tcase_add_test(tests, what_cannot_be_registered_is_staged);
    tcase_add_test(tests, messages_go_through_the_hosts_buffer);
    tcase_add_test(tests, what_is_told_early_is_copied_early);
    tcase_add_loop_test(tests, no_torn_values_are_taken, 0, 12);
    tcase_add_test(tests, no_torn_values_are_taken_while_another_trainer_pushes);
    tcase_add_test(tests, memory_of_a_lost_shard_is_let_go_of);
    tcase_add_test(tests, a_shard_that_is_lost_in_the_middle_does_no_harm);
    tcase_add_test(tests, a_device_that_fails_ends_the_pull);
    suite_add_tcase(suite, tests);
    TCase *alone = tcase_create("without a cluster");
    tcase_add_loop_test(alone, what_follows_each_other_goes_in_one_copy_a_chunk, 0, 2);
    suite_add_tcase(suite, alone);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
