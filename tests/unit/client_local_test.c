/* liblagoon with shards that share memory with it, and with some that do not any more. */
#include "client/client_internal.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "tests/support/fake_client.h"

static struct fake_cluster *cluster;
static struct lg_client *client;
static float *parameters;

static void setup(void) {
    cluster = fake_cluster_start_over(FAKE_LOCAL, NULL);
    client = NULL;
    parameters = calloc(FAKE_ELEMENTS, sizeof *parameters);
    ck_assert_ptr_nonnull(parameters);
}

static void teardown(void) {
    lg_client_close(&client, "the test is over");
    fake_cluster_stop(cluster);
    free(parameters);
}

static void open_client(bool no_shared_memory) {
    struct lg_client_options options = fake_client_options(cluster);
    options.no_shared_memory = no_shared_memory;
    client = fake_client_open(&options);
}

static void fill(float *values, float value) {
    for (size_t i = 0; i < FAKE_ELEMENTS; i++)
        values[i] = value;
}

static void check_all(const float *values, float value) {
    size_t i = 0;
    while (i < FAKE_ELEMENTS && values[i] == value)
        i++;
    if (i < FAKE_ELEMENTS)
        ck_abort_msg("element %zu is %g, not %g", i, (double)values[i], (double)value);
}

static void initialise(float value) {
    struct lg_error error = {0};
    struct lg_lease lease;
    float *gradients = lg_gradient_buffer(client, 0);
    ck_assert_ptr_nonnull(gradients);
    must(lg_lease_next(client, &lease, &error), &error);
    ck_assert_int_eq(lease.kind, LG_LEASE_INITIALISE);
    fill(gradients, value);
    must(lg_push(client, &(struct lg_push){.initial = true}, gradients, NULL, &error), &error);
    must(lg_lease_done(client, &lease, &error), &error);
}

static void push(const float *gradients) {
    struct lg_error error = {0};
    struct lg_push_result result;
    must(lg_push(client, &(struct lg_push){.samples = 1, .local_steps = 1}, gradients, &result, &error), &error);
    ck_assert_uint_eq(result.staleness_max, 0);
}

static void pull(float expected) {
    struct lg_error error = {0};
    must(lg_pull(client, parameters, &error), &error);
    check_all(parameters, expected);
}

/* ---- */

START_TEST(it_is_negotiated_by_itself) {
    open_client(false);
    initialise(100);
    fake_client_await_transport(client, "shm");
    pull(100);
}
END_TEST

/* What lies in the client's memory is named instead of sent, but for codecs whose units say how long they are. */
START_TEST(encoded_gradients_are_read_in_place_too) {
    struct wire_range ranges[WIRE_PAYLOAD_FRAMES_MAX];
    struct wire_message named;
    size_t count;
    const struct codec *const *all = codecs(&count);
    open_client(false);
    initialise(1);
    fake_client_await_transport(client, "shm");
    const char *memory = (const char *)lg_gradient_buffer(client, 1);
    pthread_mutex_lock(&client->drive);
    for (size_t i = 0; i < count; i++) {
        struct wire_bytes frame = {memory + 6, 100};
        const struct wire_message message = {.kind = WIRE_PUSH,
                                             .push = {.dtype = (enum wire_dtype)all[i]->dtype, .codec = all[i]->number},
                                             .payload = &frame,
                                             .payload_count = 1};
        ck_assert_int_eq(client_local_names(client, 0, &message, &named, ranges), all[i]->fixed);
        ck_assert(!all[i]->fixed || (named.push.ring && named.range_count == 1 && ranges[0].bytes == 100));
        frame.data = parameters;
        ck_assert(!client_local_names(client, 0, &message, &named, ranges));
    }
    pthread_mutex_unlock(&client->drive);
}
END_TEST

START_TEST(it_can_be_declined) {
    open_client(true);
    initialise(100);
    pull(100);
    ck_assert_str_eq(lg_client_transport(client), "tcp");
}
END_TEST

/* The learning rate is 1: every push of ones takes one off. From both buffers, and from memory that is not shared. */
START_TEST(a_pull_brings_what_the_push_before_it_did) {
    open_client(false);
    initialise(100);
    fake_client_await_transport(client, "shm");
    float *shared[] = {lg_gradient_buffer(client, 0), lg_gradient_buffer(client, 1)};
    float *own = calloc(FAKE_ELEMENTS, sizeof *own);
    ck_assert(shared[0] && shared[1] && own);
    ck_assert_ptr_ne(shared[0], shared[1]);
    ck_assert_ptr_eq(shared[0], lg_gradient_buffer(client, 0));
    ck_assert_ptr_null(lg_gradient_buffer(client, LG_GRADIENT_BUFFERS));
    fill(own, 1);
    for (int i = 0; i < 60; i++) {
        float *buffer = i % 3 == 2 ? own : shared[i % 3];
        fill(buffer, 1);
        push(buffer);
        pull((float)(99 - i));
        if (i % 3 != 2)
            fill(buffer, 1e6F); /* after the push was waited for it is the caller's again */
    }
    ck_assert(fake_value(cluster, 1) == 40);
    free(own);
}
END_TEST

/* Started together: the pull waits for the push although it could read at once. */
START_TEST(a_pull_started_behind_a_push_waits_for_it) {
    struct lg_error error = {0};
    open_client(false);
    initialise(100);
    fake_client_await_transport(client, "shm");
    float *gradients = lg_gradient_buffer(client, 0);
    fill(gradients, 1);
    for (int i = 0; i < 50; i++) {
        const struct lg_push spec = {.samples = 1, .local_steps = 1};
        must(lg_push_start(client, &spec, gradients, &error), &error);
        lg_push_ready(client, 0, 3);
        must(lg_pull_start(client, parameters, &error), &error);
        must(lg_push_wait(client, NULL, &error), &error);
        must(lg_pull_wait(client, &error), &error);
        check_all(parameters, (float)(99 - i));
    }
}
END_TEST

START_TEST(a_lost_connection_is_shared_again) {
    open_client(false);
    initialise(100);
    fake_client_await_transport(client, "shm");
    float *gradients = lg_gradient_buffer(client, 0);
    fill(gradients, 1);
    for (int i = 0; i < 4; i++) {
        fake_cut_shard(cluster, (unsigned)i % FAKE_SHARDS);
        push(gradients);
        pull((float)(99 - i));
        fake_client_await_transport(client, "shm");
    }
}
END_TEST

/* A shard that is killed in the middle of a change leaves its unit in that state: it is asked for by message then. */
START_TEST(a_unit_left_in_change_is_asked_for) {
    open_client(false);
    initialise(100);
    fake_client_await_transport(client, "shm");
    fake_break_off(cluster, 1);
    pull(100);
    ck_assert_str_eq(lg_client_transport(client), "shm");
}
END_TEST

START_TEST(shards_without_a_door_get_messages) {
    fake_cluster_stop(cluster);
    cluster = fake_cluster_start();
    open_client(false);
    initialise(100);
    fill(lg_gradient_buffer(client, 0), 1);
    push(lg_gradient_buffer(client, 0));
    pull(99);
    ck_assert_str_eq(lg_client_transport(client), "tcp");
}
END_TEST

int main(void) {
    Suite *suite = suite_create("client_local");
    TCase *tests = tcase_create("client_local");
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_set_timeout(tests, 60);
    tcase_add_test(tests, it_is_negotiated_by_itself);
    tcase_add_test(tests, encoded_gradients_are_read_in_place_too);
    tcase_add_test(tests, it_can_be_declined);
    tcase_add_test(tests, a_pull_brings_what_the_push_before_it_did);
    tcase_add_test(tests, a_pull_started_behind_a_push_waits_for_it);
    tcase_add_test(tests, a_lost_connection_is_shared_again);
    tcase_add_test(tests, a_unit_left_in_change_is_asked_for);
    tcase_add_test(tests, shards_without_a_door_get_messages);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
