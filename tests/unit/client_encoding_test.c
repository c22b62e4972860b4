/* Callers that encode their gradients themselves, over real ZeroMQ, against real shard cores: what they are told, what
 * is refused, and what comes of connections that are lost. Bits over all transports:
 * tests/conformance/transports_test.c. */
#include "client/lagoon.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "common/random.h"
#include "tests/support/fake_client.h"

static struct fake_cluster *cluster;
static struct lg_client *client;
static struct lg_encoding how;
static float gradients[FAKE_ELEMENTS], parameters[FAKE_ELEMENTS];
static struct lg_encoded_unit units[FAKE_UNITS];
static uint8_t bytes[FAKE_ELEMENTS * sizeof(float)];

/* A trainer of a job with this codec, whose parameters are all 0. */
static void start(const char *codec, const char *policy) {
    const struct wire_pair spec[] = {{"push.codec", codec},
                                     {"codec.topk", "0.05"},
                                     {"staleness.policy", policy},
                                     {policy[0] == 'i' ? "staleness.shift" : NULL, "1"},
                                     {NULL, NULL}};
    cluster = fake_cluster_start_over(FAKE_TCP, spec);
    const struct lg_client_options options = fake_client_options(cluster);
    struct lg_error error = {0};
    struct lg_lease lease;
    client = fake_client_open(&options);
    must(lg_lease_next(client, &lease, &error), &error);
    must(lg_push(client, &(struct lg_push){.initial = true}, gradients, NULL, &error), &error);
    must(lg_lease_done(client, &lease, &error), &error);
}

static void stop(void) {
    lg_client_close(&client, "the test is over");
    fake_cluster_stop(cluster);
}

static void encode(uint64_t seed) {
    struct random random;
    size_t at = 0;
    random_init(&random, seed);
    for (size_t i = 0; i < FAKE_ELEMENTS; i++)
        gradients[i] = random_float(&random) - 0.5f;
    ck_assert(lg_client_encoding(client, &how));
    for (uint32_t i = 0; i < FAKE_UNITS; i++) {
        static float residual[CODEC_ELEMENTS_MAX];
        const struct block *unit = &how.units->blocks[i];
        struct codec_options options = how.options;
        options.key = lg_push_key(client, i);
        memset(residual, 0, sizeof residual);
        units[i] = (struct lg_encoded_unit){.data = bytes + at, .weight = -1, .rate = -1};
        units[i].bytes = how.codec->kernels[ISA_BASE]->encode(gradients + unit->offset, residual, unit->elements,
                                                              &options, bytes + at);
        at += units[i].bytes;
    }
}

static uint64_t pushes(void) {
    struct wire_shard_job_stats stats[FAKE_SHARDS];
    for (unsigned i = 0; i < FAKE_SHARDS; i++)
        fake_stats(cluster, i, &stats[i]);
    return stats[0].pushes > stats[1].pushes ? stats[0].pushes : stats[1].pushes;
}

static const struct lg_push push = {.samples = 1, .local_steps = 1, .encoded = units};

START_TEST(callers_are_told_how) {
    start("topk", "constant");
    ck_assert(lg_client_encoding(client, &how));
    ck_assert_str_eq(how.codec->name, "topk");
    ck_assert(how.options.keep == 0.05);
    ck_assert_uint_eq(how.units->count, FAKE_UNITS);
    ck_assert_uint_eq(how.units->blocks[3].offset, FAKE_ELEMENTS - 30);
    for (size_t i = 0; i < 3; i++)
        ck_assert(!how.plain[i]);
    ck_assert_uint_ne(lg_push_key(client, 0), lg_push_key(client, 1));
    stop();
}
END_TEST

START_TEST(weights_and_rates_come_back) {
    struct lg_error error = {0};
    start("bf16", "inverse");
    must(lg_pull(client, parameters, &error), &error);
    for (uint64_t step = 0; step < 3; step++) { /* of a staleness of 0, 1, 2 */
        encode(step);
        must(lg_push(client, &push, NULL, NULL, &error), &error);
        for (size_t i = 0; i < FAKE_UNITS; i++) {
            ck_assert_float_eq_tol(units[i].weight, 1.0f / (1.0f + (float)step), 1e-6f);
            ck_assert(units[i].rate == 1);
        }
    }
    stop();
}
END_TEST

START_TEST(what_cannot_be_encoded_is_refused) {
    struct lg_error error = {0};
    struct lg_push initial = push;
    initial.initial = true;
    start(_i ? "f32" : "int8", "constant");
    if (_i) {
        ck_assert(!lg_client_encoding(client, &how));
        ck_assert_int_eq(lg_push_start(client, &push, gradients, &error), LG_INVALID);
        ck_assert_ptr_nonnull(strstr(error.message, "push.codec of the job is f32"));
    } else {
        ck_assert_int_eq(lg_push(client, &initial, gradients, NULL, &error), LG_INVALID);
        ck_assert_ptr_nonnull(strstr(error.message, "initial values"));
    }
    must(lg_push(client, &(struct lg_push){.samples = 1, .local_steps = 1}, gradients, NULL, &error), &error);
    stop();
}
END_TEST

/* Unit 1 with something wrong. */
static void spoil(int way) {
    switch (way) {
    case 0:
        units[1].data = NULL;
        break;
    case 1:
        units[1].bytes--;
        break;
    case 2:
        units[1].bytes++;
        break;
    case 3:
        units[1].bytes = 0;
        break;
    case 4: /* whole, but of far more than 5 % of the elements */
        how.options.keep = 0.5;
        static uint8_t large[2 * CODEC_ELEMENTS_MAX * sizeof(float)];
        static float residual[CODEC_ELEMENTS_MAX];
        units[1].data = large;
        units[1].bytes =
            how.codec->kernels[ISA_BASE]->encode(gradients, residual, CODEC_ELEMENTS_MAX, &how.options, large);
        break;
    }
}

/* All at once nothing was sent when it shows, and the session goes on. */
START_TEST(malformed_units_are_an_error_before_anything_is_sent) {
    struct lg_error error = {0};
    start(_i == 4 ? "topk" : "int8", "constant");
    encode(1);
    spoil(_i);
    ck_assert_int_eq(lg_push(client, &push, NULL, NULL, &error), LG_INVALID);
    ck_assert_msg(strstr(error.message, "unit 1, of tensor \"matrix\", is not well encoded") != NULL, "%s",
                  error.message);
    ck_assert_uint_eq(pushes(), 0);
    encode(1);
    must(lg_push(client, &push, NULL, NULL, &error), &error);
    ck_assert_uint_eq(pushes(), 1);
    stop();
}
END_TEST

/* Tensor by tensor some may have been: the push cannot be taken back. */
START_TEST(malformed_units_end_a_session_in_the_middle_of_a_push) {
    struct lg_error error = {0};
    start("int8", "constant");
    encode(1);
    spoil(2);
    must(lg_push_start(client, &push, NULL, &error), &error);
    lg_push_ready(client, 2, 1);
    lg_push_ready(client, 0, 1);
    lg_push_ready(client, 1, 1); /* nothing more goes out */
    ck_assert_int_eq(lg_push_wait(client, NULL, &error), LG_INVALID);
    ck_assert_msg(strstr(error.message, "unit 1, of tensor \"matrix\"") != NULL, "%s", error.message);
    ck_assert_int_ne(lg_pull(client, parameters, &error), LG_OK);
    ck_assert_ptr_nonnull(strstr(error.message, "unit 1, of tensor \"matrix\""));
    stop();
}
END_TEST

/* Every push arrives once, though shards lose their connections: with lr 1 and a policy that does not weigh, parameters
 * are minus the sum of what was decoded. */
START_TEST(lost_connections_send_the_same_bytes_again) {
    static float sum[FAKE_ELEMENTS], decoded[FAKE_ELEMENTS];
    struct lg_error error = {0};
    start("int8", "constant");
    for (size_t i = 0; i < FAKE_ELEMENTS; i++) /* where the initial push has put them */
        sum[i] = gradients[i];
    for (unsigned step = 0; step < 8; step++) {
        encode(step);
        must(lg_push_start(client, &push, NULL, &error), &error);
        lg_push_ready(client, 0, 3);
        fake_cut_shard(cluster, step % 2);
        must(lg_push_wait(client, NULL, &error), &error);
        memset(decoded, 0, sizeof decoded);
        for (uint32_t i = 0; i < FAKE_UNITS; i++)
            codec_add(how.codec, ISA_BASE, units[i].data, how.units->blocks[i].elements,
                      decoded + how.units->blocks[i].offset);
        for (size_t i = 0; i < FAKE_ELEMENTS; i++)
            sum[i] -= decoded[i];
    }
    must(lg_pull(client, parameters, &error), &error);
    ck_assert_mem_eq(parameters, sum, sizeof sum);
    ck_assert_uint_eq(pushes(), 8);
    stop();
}
END_TEST

int main(void) {
    Suite *suite = suite_create("client_encoding");
    TCase *tests = tcase_create("client_encoding");
    tcase_set_timeout(tests, 60);
    tcase_add_test(tests, callers_are_told_how);
    tcase_add_test(tests, weights_and_rates_come_back);
    tcase_add_loop_test(tests, what_cannot_be_encoded_is_refused, 0, 2);
    tcase_add_loop_test(tests, malformed_units_are_an_error_before_anything_is_sent, 0, 5);
    tcase_add_test(tests, malformed_units_end_a_session_in_the_middle_of_a_push);
    tcase_add_test(tests, lost_connections_send_the_same_bytes_again);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
