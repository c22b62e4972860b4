/* Pulls whose values the caller copies itself, out of memory that shards go on changing. */
#include "client/lagoon.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "tests/support/fake_client.h"

static struct fake_cluster *cluster;
static struct lg_client *client, *other;
static float *buffer, *copy, *gradients;

static float *array(void) {
    float *values = calloc(FAKE_ELEMENTS, sizeof *values);
    ck_assert_ptr_nonnull(values);
    return values;
}

static void setup(void) {
    cluster = fake_cluster_start_over(FAKE_LOCAL, NULL);
    client = other = NULL;
    buffer = array();
    copy = array();
    gradients = array();
    for (size_t i = 0; i < FAKE_ELEMENTS; i++)
        gradients[i] = 1;
}

static void teardown(void) {
    lg_client_close(&client, "the test is over");
    lg_client_close(&other, "the test is over");
    fake_cluster_stop(cluster);
    free(buffer);
    free(copy);
    free(gradients);
}

static struct lg_client *open_client(bool no_shared_memory) {
    struct lg_client_options options = fake_client_options(cluster);
    options.no_shared_memory = no_shared_memory;
    return fake_client_open(&options);
}

static void set_all(struct lg_client *with, float value) {
    struct lg_error error = {0};
    float *values = array();
    for (size_t i = 0; i < FAKE_ELEMENTS; i++)
        values[i] = value;
    must(lg_push(with, &(struct lg_push){.initial = true}, values, NULL, &error), &error);
    free(values);
}

/* With all values 100. */
static void open_both(void) {
    struct lg_error error = {0};
    struct lg_lease lease;
    client = open_client(false);
    other = open_client(true);
    must(lg_lease_next(client, &lease, &error), &error);
    ck_assert_int_eq(lease.kind, LG_LEASE_INITIALISE);
    set_all(client, 100);
    must(lg_lease_done(client, &lease, &error), &error);
    fake_client_await_transport(client, "shm");
}

/* The learning rate is 1: takes one off everything. */
static uint64_t push_of(struct lg_client *with, const float *computed_from) {
    struct lg_error error = {0};
    struct lg_push_result result;
    const struct lg_push push = {.samples = 1, .local_steps = 1, .computed_from = computed_from};
    must(lg_push(with, &push, gradients, &result, &error), &error);
    return result.staleness_max;
}

static void check_all(const float *values, float value) {
    size_t i = 0;
    while (i < FAKE_ELEMENTS && values[i] == value)
        i++;
    if (i < FAKE_ELEMENTS)
        ck_abort_msg("element %zu is %g, not %g", i, (double)values[i], (double)value);
}

static void start(void) {
    struct lg_error error = {0};
    must(lg_pull_start_places(client, buffer, &error), &error);
}

static struct lg_place *places_of(size_t *count) {
    struct lg_error error = {0};
    struct lg_place *places;
    must(lg_pull_places(client, true, &places, count, &error), &error);
    return places;
}

static void copy_one(struct lg_place *place) {
    memcpy(copy + place->offset, place->values, place->elements * sizeof *copy);
}

/* Copies what is told until nothing is; returns how much it was. */
static size_t copy_told(void) {
    size_t count, all = 0;
    for (struct lg_place *places = places_of(&count); count > 0; places = places_of(&count)) {
        for (size_t i = 0; i < count; i++) {
            if (lg_place_begin(&places[i]))
                copy_one(&places[i]);
            (void)lg_place_end(&places[i]);
        }
        all += count;
    }
    return all;
}

/* ---- */

START_TEST(places_lie_in_the_shards_memory_and_lead_everywhere) {
    bool seen[FAKE_ELEMENTS / 10 + 1] = {false};
    size_t count, elements = 0;
    open_both();
    start();
    struct lg_place *places = places_of(&count);
    ck_assert_uint_eq(count, FAKE_UNITS);
    for (size_t i = 0; i < count; i++) {
        size_t bytes;
        ck_assert_ptr_nonnull(places[i].mapping);
        const char *memory = lg_mapping_memory(places[i].mapping, &bytes), *at = (const char *)places[i].values;
        ck_assert(at > memory && at + places[i].elements * sizeof(float) <= memory + bytes);
        ck_assert_uint_eq((uintptr_t)memory % 4096, 0);
        ck_assert_uint_eq((uintptr_t)at % 64, 0);
        ck_assert(!lg_mapping_gone(places[i].mapping));
        ck_assert(!seen[places[i].offset / 10]);
        seen[places[i].offset / 10] = true;
        elements += places[i].elements;
        ck_assert(!lg_place_end(&places[i])); /* nothing was begun */
    }
    ck_assert_uint_eq(elements, FAKE_ELEMENTS);
    ck_assert_uint_eq(copy_told(), FAKE_UNITS);
    check_all(copy, 100);
    check_all(buffer, 0); /* no copy on the host */
}
END_TEST

/* In place, and in messages. */
START_TEST(only_what_has_changed_is_told) {
    open_both();
    if (_i == 1) {
        lg_client_close(&client, NULL);
        client = open_client(true);
    }
    for (int round = 0; round < 5; round++) {
        start();
        ck_assert_uint_eq(copy_told(), FAKE_UNITS);
        check_all(copy, (float)(100 - round));
        check_all(buffer, _i == 0 ? 0 : (float)(100 - round));
        start();
        ck_assert_uint_eq(copy_told(), 0);
        push_of(round % 2 ? other : client, NULL);
    }
    lg_pull_forget(client);
    start();
    ck_assert_uint_eq(copy_told(), FAKE_UNITS);
}
END_TEST

START_TEST(what_changes_while_it_is_copied_is_told_again) {
    size_t count;
    open_both();
    start();
    struct lg_place *places = places_of(&count);
    for (size_t i = 0; i < count; i++) {
        ck_assert(lg_place_begin(&places[i]));
        copy_one(&places[i]);
        ck_assert(i % 2 || lg_place_end(&places[i]));
    }
    push_of(other, NULL);
    for (size_t i = 1; i < count; i += 2)
        ck_assert(!lg_place_end(&places[i]));
    places = places_of(&count);
    ck_assert_uint_eq(count, FAKE_UNITS / 2);
    for (size_t i = 0; i < count; i++) {
        ck_assert(places[i].mapping && !places[i].whole);
        ck_assert(lg_place_begin(&places[i]));
        copy_one(&places[i]);
        ck_assert(lg_place_end(&places[i]));
        ck_assert(copy[places[i].offset] == 99);
    }
    (void)places_of(&count);
    ck_assert_uint_eq(count, 0);
    start(); /* those that were whole before the push have changed since */
    ck_assert_uint_eq(copy_told(), FAKE_UNITS / 2);
    check_all(copy, 99);
}
END_TEST

/* A caller that never gets a whole copy is sent one. */
START_TEST(after_a_few_copies_in_vain_a_message_brings_it) {
    size_t count;
    open_both();
    start();
    struct lg_place *places = places_of(&count);
    unsigned in_place = 0;
    for (; count > 0 && places[0].mapping; places = places_of(&count), in_place++) {
        for (size_t i = 0; i < count; i++)
            ck_assert(lg_place_begin(&places[i]));
        push_of(other, NULL);
        for (size_t i = 0; i < count; i++)
            ck_assert(!lg_place_end(&places[i]));
    }
    ck_assert_uint_eq(in_place, LOCAL_TRIES);
    ck_assert_uint_eq(count, FAKE_UNITS);
    for (size_t i = 0; i < count; i++) {
        ck_assert_ptr_null(places[i].mapping);
        ck_assert_ptr_eq(places[i].values, buffer + places[i].offset);
        ck_assert(lg_place_begin(&places[i]));
        copy_one(&places[i]);
        ck_assert(lg_place_end(&places[i]));
    }
    (void)places_of(&count);
    ck_assert_uint_eq(count, 0);
    check_all(copy, 100 - LOCAL_TRIES);
    start();
    ck_assert_uint_eq(copy_told(), 0); /* and is remembered */
}
END_TEST

START_TEST(a_unit_left_in_change_is_asked_for) {
    open_both();
    fake_break_off(cluster, 1);
    start();
    ck_assert_uint_ge(copy_told(), FAKE_UNITS);
    check_all(copy, 100);
    ck_assert(buffer[65536] == 100 && buffer[0] == 0); /* unit 1 alone came in a message */
}
END_TEST

/* What happens to a push's staleness, pulled either way. */
START_TEST(pushes_have_the_base_that_a_pull_would_give) {
    struct lg_error error = {0};
    uint64_t staleness[2][4];
    open_both();
    for (int places = 0; places < 2; places++)
        for (int behind = 0; behind < 4; behind++) {
            if (places) {
                start();
                (void)copy_told();
            } else
                must(lg_pull(client, buffer, &error), &error);
            for (int i = 0; i < behind; i++)
                push_of(other, NULL);
            staleness[places][behind] = push_of(client, behind % 2 ? buffer : NULL);
            ck_assert_uint_eq(staleness[places][behind], (uint64_t)behind);
        }
    ck_assert_mem_eq(staleness[0], staleness[1], sizeof staleness[0]);
}
END_TEST

/* Pushes that come between the telling and the copy make the values newer, not the base. */
START_TEST(the_base_is_that_of_the_telling) {
    size_t count;
    open_both();
    start();
    (void)places_of(&count);
    push_of(other, NULL);
    (void)copy_told();
    check_all(copy, 99);
    ck_assert_uint_eq(push_of(client, buffer), 1);
}
END_TEST

START_TEST(a_pull_behind_a_push_has_it) {
    struct lg_error error = {0};
    open_both();
    for (int i = 0; i < 30; i++) {
        const struct lg_push spec = {.samples = 1, .local_steps = 1};
        must(lg_push_start(client, &spec, gradients, &error), &error);
        lg_push_ready(client, 0, 3);
        start();
        must(lg_push_wait(client, NULL, &error), &error);
        ck_assert_uint_eq(copy_told(), FAKE_UNITS);
        check_all(copy, (float)(99 - i));
    }
}
END_TEST

/* The two leave different values in the buffer. */
START_TEST(the_buffer_and_the_copy_are_told_apart) {
    struct lg_error error = {0};
    open_both();
    start();
    (void)copy_told();
    check_all(buffer, 0);
    must(lg_pull(client, buffer, &error), &error);
    check_all(buffer, 100);
    memset(copy, 0, FAKE_ELEMENTS * sizeof *copy);
    start();
    ck_assert_uint_eq(copy_told(), FAKE_UNITS);
    check_all(copy, 100);
    const struct lg_push push = {.samples = 1, .local_steps = 1, .parameters = buffer};
    must(lg_push(client, &push, gradients, NULL, &error), &error);
    check_all(buffer, 99);
    start();
    ck_assert_uint_eq(copy_told(), FAKE_UNITS);
    check_all(copy, 99);
}
END_TEST

START_TEST(a_wait_that_does_not_wait_says_so) {
    struct lg_error error = {0};
    struct lg_place *places;
    size_t count;
    open_both();
    ck_assert_int_eq(lg_pull_places(client, true, &places, &count, &error), LG_INVALID);
    fake_lock(cluster)->shards_mute = true;
    fake_unlock(cluster);
    const struct lg_push push = {.samples = 1, .local_steps = 1};
    must(lg_push_start(client, &push, gradients, &error), &error);
    lg_push_ready(client, 0, 3);
    start();
    ck_assert_int_eq(lg_pull_places(client, false, &places, &count, &error), LG_UNAVAILABLE);
    ck_assert_int_eq(lg_pull_wait(client, &error), LG_INVALID);
    ck_assert_int_eq(lg_pull_start(client, buffer, &error), LG_INVALID);
    fake_lock(cluster)->shards_mute = false;
    fake_unlock(cluster);
    fake_cut_shard(cluster, 0);
    fake_cut_shard(cluster, 1);
    must(lg_push_wait(client, NULL, &error), &error);
    enum lg_status status;
    while ((status = lg_pull_places(client, false, &places, &count, &error)) == LG_UNAVAILABLE)
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    must(status, &error);
    ck_assert_uint_eq(count, FAKE_UNITS);
    (void)copy_told();
    check_all(copy, 99);
}
END_TEST

/* A held mapping can be read when its shard is gone, and what was told in it is still right. */
START_TEST(a_lost_shards_memory_stays_until_it_is_released) {
    size_t count, bytes;
    open_both();
    start();
    struct lg_place *places = places_of(&count);
    struct lg_mapping *held[FAKE_UNITS];
    for (size_t i = 0; i < count; i++)
        lg_mapping_hold(held[i] = places[i].mapping);
    fake_cut_shard(cluster, 0);
    fake_cut_shard(cluster, 1);
    for (int i = 0; i < 20000 && !(lg_mapping_gone(held[0]) && lg_mapping_gone(held[count - 1])); i++)
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    for (size_t i = 0; i < count; i++) {
        ck_assert(lg_mapping_gone(held[i]));
        ck_assert(lg_place_begin(&places[i]));
        copy_one(&places[i]);
        ck_assert(lg_place_end(&places[i]));
    }
    (void)places_of(&count);
    ck_assert_uint_eq(count, 0);
    check_all(copy, 100);
    fake_client_await_transport(client, "shm");
    push_of(other, NULL);
    start();
    places = places_of(&count);
    ck_assert_uint_eq(count, FAKE_UNITS);
    for (size_t i = 0; i < count; i++)
        for (size_t k = 0; k < count; k++)
            ck_assert_ptr_ne(places[i].mapping, held[k]);
    (void)copy_told();
    check_all(copy, 99);
    lg_client_close(&client, NULL);
    for (size_t i = 0; i < FAKE_UNITS; i++) {
        const volatile char *memory = lg_mapping_memory(held[i], &bytes);
        (void)memory[bytes - 1]; /* a SIGSEGV where it is unmapped */
        lg_mapping_release(held[i]);
    }
}
END_TEST

/* The shard dies, so to say, after it was told what lies in it, and in the middle of a change. */
START_TEST(what_cannot_be_copied_of_a_lost_shard_is_asked_for) {
    size_t count;
    open_both();
    start();
    struct lg_place *places = places_of(&count);
    for (size_t i = 0; i < count; i++)
        ck_assert(lg_place_begin(&places[i]));
    fake_break_off(cluster, 2);
    fake_cut_shard(cluster, 1);
    for (size_t i = 0; i < count; i++) {
        copy_one(&places[i]);
        ck_assert_int_eq(lg_place_end(&places[i]), places[i].offset != 2 * 65536);
    }
    ck_assert_uint_ge(copy_told(), 1);
    check_all(copy, 100);
}
END_TEST

START_TEST(a_segment_that_is_replaced_is_let_go_of) {
    struct lg_mapping *held[FAKE_SHARDS] = {NULL};
    size_t count;
    open_both();
    start();
    struct lg_place *places = places_of(&count);
    for (size_t i = 0; i < count; i++) {
        lg_mapping_hold(places[i].mapping);
        if (held[places[i].slot])
            lg_mapping_release(held[places[i].slot]);
        held[places[i].slot] = places[i].mapping;
    }
    (void)copy_told();
    for (unsigned i = 0; i < FAKE_SHARDS; i++)
        fake_reopen(cluster, i);
    set_all(other, 7);
    start();
    ck_assert_uint_ge(copy_told(), FAKE_UNITS);
    check_all(copy, 7);
    for (unsigned i = 0; i < FAKE_SHARDS; i++) {
        ck_assert(lg_mapping_gone(held[i]));
        lg_mapping_release(held[i]);
    }
    fake_client_await_transport(client, "shm");
    push_of(other, NULL);
    start();
    ck_assert_uint_eq(copy_told(), FAKE_UNITS);
    check_all(copy, 6);
}
END_TEST

START_TEST(a_session_that_is_over_says_so_at_the_next_call) {
    struct lg_error error = {0};
    struct lg_place *places;
    size_t count;
    open_both();
    start();
    places = places_of(&count);
    fake_close_sessions(cluster, "evicted");
    ck_assert_int_ne(lg_push(client, &(struct lg_push){.samples = 1}, gradients, NULL, &error), LG_OK);
    for (size_t i = 0; i < count; i++) { /* still there */
        ck_assert(lg_place_begin(&places[i]));
        copy_one(&places[i]);
        ck_assert(lg_place_end(&places[i]));
    }
    check_all(copy, 100);
    ck_assert_int_eq(lg_pull_places(client, true, &places, &count, &error), LG_FENCED);
    ck_assert_uint_eq(count, 0);
    ck_assert_int_eq(lg_pull_places(client, true, &places, &count, &error), LG_INVALID);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("client_places");
    TCase *tests = tcase_create("client_places");
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_set_timeout(tests, 60);
    tcase_add_test(tests, places_lie_in_the_shards_memory_and_lead_everywhere);
    tcase_add_loop_test(tests, only_what_has_changed_is_told, 0, 2);
    tcase_add_test(tests, what_changes_while_it_is_copied_is_told_again);
    tcase_add_test(tests, after_a_few_copies_in_vain_a_message_brings_it);
    tcase_add_test(tests, a_unit_left_in_change_is_asked_for);
    tcase_add_test(tests, pushes_have_the_base_that_a_pull_would_give);
    tcase_add_test(tests, the_base_is_that_of_the_telling);
    tcase_add_test(tests, a_pull_behind_a_push_has_it);
    tcase_add_test(tests, the_buffer_and_the_copy_are_told_apart);
    tcase_add_test(tests, a_wait_that_does_not_wait_says_so);
    tcase_add_test(tests, a_lost_shards_memory_stays_until_it_is_released);
    tcase_add_test(tests, what_cannot_be_copied_of_a_lost_shard_is_asked_for);
    tcase_add_test(tests, a_segment_that_is_replaced_is_let_go_of);
    tcase_add_test(tests, a_session_that_is_over_says_so_at_the_next_call);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
