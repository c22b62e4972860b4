/* Values in codecs: what readers share, differences to what a session holds, and when they come whole instead. */
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/codec.h"
#include "common/random.h"
#include "tests/support/shard_bench.h"

static struct shard_bench bench;

static void setup(void) {
    shard_bench_init(&bench);
}

static void teardown(void) {
    shard_bench_stop(&bench);
}

static void start(const char *delta_codec) {
    if (delta_codec) {
        shard_bench_option(&bench, "pull.delta", "true");
        shard_bench_option(&bench, "pull.codec", delta_codec);
    }
    shard_bench_start(&bench);
    shard_bench_join(&bench, 1);
    shard_bench_join(&bench, 2);
    shard_bench_initialise(&bench, 1, 1);
}

enum { ELEMENTS = 90010 };
static const uint32_t offsets[BENCH_UNITS] = {0, 65536, 90000};

/* Random gradients of all units. */
static void train(uint64_t seed) {
    static float values[ELEMENTS];
    struct random random;
    random_init(&random, seed);
    for (size_t i = 0; i < ELEMENTS; i++)
        values[i] = random_float(&random) - 0.5f;
    struct bench_reply *reply =
        shard_bench_push(&bench, &(struct bench_push){.session = 2, .base = shard_bench_version(0), .values = values});
    ck_assert_msg(reply->status == LG_OK, "%s", reply->reason);
}

/* What a client does with answers. */
struct holder {
    float values[ELEMENTS];
    uint64_t versions[BENCH_UNITS];
};
static struct holder holder;

static void take(struct holder *to, const struct bench_reply *reply, bool delta) {
    for (size_t i = 0; i < reply->message.unit_count; i++) {
        const struct wire_unit *unit = &reply->units[i];
        float *values = to->values + offsets[unit->unit];
        for (uint32_t at = 0; at < unit->elements; at++)
            values[at] = delta ? values[at] + reply->values[i][at] : reply->values[i][at];
        to->versions[unit->unit] = unit->version;
    }
}

/* Pulls into the holder; true when differences came. */
static bool pull(const char *codec) {
    struct bench_reply *reply = shard_bench_pull_as(&bench, 1, holder.versions, codec, true);
    ck_assert_msg(reply->kind == WIRE_PULL_REPLY, "%s", reply->reason);
    bool delta = reply->message.pull_reply.delta;
    ck_assert(delta || (reply->message.pull_reply.codec == 0 && reply->message.pull_reply.dtype == WIRE_DTYPE_F32));
    take(&holder, reply, delta);
    return delta;
}

/* The greatest distance between what is held and what is there. */
static double distance(void) {
    double most = 0;
    for (uint32_t unit = 0; unit < BENCH_UNITS; unit++) {
        uint32_t elements;
        const float *values = shard_unit_data(bench.shard, BENCH_JOB, unit, &elements, NULL);
        for (uint32_t i = 0; i < elements; i++)
            most = fmax(most, fabs((double)values[i] - (double)holder.values[offsets[unit] + i]));
    }
    return most;
}

static uint64_t state_bytes(void) {
    struct wire_shard_job_stats stats;
    ck_assert_uint_eq(shard_stats(bench.shard, &stats, 1), 1);
    return stats.state_bytes;
}

START_TEST(readers_share_what_was_encoded_once) {
    start(NULL);
    train(1);
    struct snapshot *first = shard_bench_pull_as(&bench, 1, NULL, "int8", false)->snapshots[0];
    snapshot_retain(first);
    ck_assert_uint_eq(first->bytes, 65536 + 4 * 128);
    ck_assert_ptr_eq(shard_bench_pull_as(&bench, 2, NULL, "int8", false)->snapshots[0], first);
    struct snapshot *plain = shard_bench_pull(&bench, 2, NULL)->snapshots[0];
    ck_assert_ptr_ne(plain, first);
    ck_assert_ptr_eq(shard_bench_pull_as(&bench, 1, NULL, "int8", false)->snapshots[0], first);
    ck_assert_ptr_ne(shard_bench_pull_as(&bench, 1, NULL, "bf16", false)->snapshots[0], first);
    train(2);
    ck_assert_ptr_ne(shard_bench_pull_as(&bench, 1, NULL, "int8", false)->snapshots[0], first);
    snapshot_release(first);
}
END_TEST

START_TEST(values_come_as_close_as_the_codec_is) {
    static const struct {
        const char *codec;
        double most;
    } expected[] = {{"f32", 0}, {"bf16", 0.004}, {"f16", 0.0005}, {"int8", 1.26 / 127 * 0.51}};
    start(NULL);
    train(1);
    for (size_t i = 0; i < 4; i++) {
        struct bench_reply *reply = shard_bench_pull_as(&bench, 1, NULL, expected[i].codec, false);
        ck_assert_int_eq(reply->kind, WIRE_PULL_REPLY);
        ck_assert_uint_eq(reply->message.unit_count, BENCH_UNITS);
        take(&holder, reply, false);
        ck_assert_msg(distance() <= expected[i].most, "%s: off by %g", expected[i].codec, distance());
        ck_assert(expected[i].most == 0 || distance() > 0);
    }
}
END_TEST

START_TEST(small_units_share_a_frame_in_every_codec) {
    static const char *const names[] = {"bf16", "f16", "int8"};
    bench.tensor_count = 60;
    for (size_t i = 0; i < bench.tensor_count; i++) {
        bench.tensors[i] = (struct tensor_spec){.rank = 1, .shape = {1 + i}, .lr_factor = 1};
        snprintf(bench.tensors[i].name, sizeof bench.tensors[i].name, "t%zu", i);
    }
    bench.placement_count = 60;
    start(NULL);
    for (size_t k = 0; k < 3; k++) {
        struct bench_reply *reply = shard_bench_pull_as(&bench, 1, NULL, names[k], false);
        ck_assert_uint_eq(reply->message.unit_count, 60);
        ck_assert_uint_eq(reply->message.payload_count, 1);
        for (size_t i = 0; i < 60; i++)
            ck_assert(fabsf(reply->values[i][i] - 1) < 1e-6f);
    }
}
END_TEST

START_TEST(differences_add_up_to_what_is_there) {
    static const char *const names[] = {"bf16", "f16", "int8", "onebit", "topk"};
    const char *codec = names[_i];
    start(codec);
    ck_assert(!pull(codec)); /* the first one comes whole */
    ck_assert(distance() <= 0);
    double worst = 0;
    for (uint64_t step = 0; step < 30; step++) {
        train(step);
        ck_assert(pull(codec));
        worst = fmax(worst, distance());
    }
    ck_assert_msg(worst < 3, "%s strays by %g", codec, worst); /* steps of 0.25 at most */
    ck_assert(shard_bench_pull_as(&bench, 1, holder.versions, codec, true)->message.unit_count == 0);
    struct bench_reply *exact = shard_bench_pull(&bench, 1, NULL); /* asks for what is there, as it is */
    take(&holder, exact, exact->message.pull_reply.delta);
    ck_assert(distance() <= 0);
}
END_TEST

START_TEST(without_a_change_a_codec_catches_up) {
    start("int8");
    pull("int8");
    train(1);
    pull("int8");
    double off = distance();
    const uint32_t none[1] = {0};
    for (int i = 0; i < 3; i++) { /* versions move, values do not */
        static float zeros[65536];
        shard_bench_push(
            &bench, &(struct bench_push){
                        .session = 2, .base = shard_bench_version(0), .values = zeros, .units = none, .unit_count = 1});
        ck_assert(pull("int8"));
    }
    const float *values = shard_unit_data(bench.shard, BENCH_JOB, 0, NULL, NULL);
    ck_assert(off > 1e-5);
    for (uint32_t i = 0; i < 65536; i++)
        ck_assert_msg(fabsf(values[i] - holder.values[i]) < 1e-6f, "element %u", i);
}
END_TEST

START_TEST(whoever_holds_something_else_gets_all) {
    start("onebit");
    pull("onebit");
    train(1);
    uint64_t before[BENCH_UNITS];
    memcpy(before, holder.versions, sizeof before);
    ck_assert(pull("onebit"));
    train(2);
    memcpy(holder.versions, before, sizeof before); /* as if the answer had been lost */
    ck_assert(!pull("onebit"));
    ck_assert(distance() <= 0);
    train(3);
    holder.versions[1] += 100; /* never sent */
    ck_assert(!pull("onebit"));
    memset(holder.versions, 0, sizeof holder.versions);
    ck_assert(!pull("onebit"));
    ck_assert(distance() <= 0);
}
END_TEST

START_TEST(pushes_bring_differences_too) {
    start("int8");
    pull("int8");
    struct bench_push push = {.session = 1,
                              .base = shard_bench_version(0),
                              .value = 1,
                              .pull = true,
                              .pull_codec = "int8",
                              .pull_delta = true,
                              .codec = "int8"};
    struct bench_reply *reply = shard_bench_push(&bench, &push);
    ck_assert_int_eq(reply->status, LG_OK);
    ck_assert(!reply->message.push_reply.delta); /* it said that it holds nothing */
    take(&holder, reply, false);
    ck_assert(distance() <= 0);
    train(1);
    ck_assert(pull("int8"));
    ck_assert(distance() < 0.002);
}
END_TEST

START_TEST(copies_are_counted_and_go_with_their_session) {
    start("int8");
    uint64_t before = state_bytes();
    pull("int8");
    uint64_t one = state_bytes() - before;
    ck_assert_uint_ge(one, ELEMENTS * sizeof(float));
    pull("int8");
    ck_assert_uint_eq(state_bytes(), before + one);
    shard_bench_pull_as(&bench, 2, NULL, "int8", true);
    ck_assert_uint_eq(state_bytes(), before + 2 * one);
    shard_bench_close_session(&bench, 1, 1, "enough");
    ck_assert_uint_eq(state_bytes(), before + one);
}
END_TEST

START_TEST(without_memory_values_come_whole) {
    bench.config.memory_bytes = ELEMENTS * sizeof(float) * 3 / 2;
    start("int8");
    uint64_t before = state_bytes();
    for (uint64_t i = 0; i < 3; i++) {
        ck_assert(!pull("int8"));
        ck_assert(distance() <= 0);
        train(i);
    }
    ck_assert_uint_eq(state_bytes(), before);
}
END_TEST

START_TEST(parameters_that_are_no_numbers_come_as_they_are) {
    bench.config.reject_nonfinite = false;
    start("int8");
    pull("int8");
    const uint32_t bias = 2;
    float values[10] = {0};
    values[4] = NAN;
    shard_bench_push(
        &bench, &(struct bench_push){
                    .session = 2, .base = shard_bench_version(0), .values = values, .units = &bias, .unit_count = 1});
    ck_assert(!pull("int8"));
    ck_assert(isnan(holder.values[90004]) && holder.values[90003] == 1);
    train(1);
    ck_assert(!pull("int8"));
    ck_assert(isnan(holder.values[90004]));
}
END_TEST

START_TEST(what_is_not_offered_is_refused_with_a_reason) {
    start(NULL);
    struct bench_reply *reply = shard_bench_pull_as(&bench, 1, NULL, "int8", true);
    ck_assert(reply->kind == WIRE_ERROR && reply->status == LG_UNSUPPORTED);
    ck_assert_ptr_nonnull(strstr(reply->reason, "pull.delta"));
    reply = shard_bench_pull_as(&bench, 1, NULL, "topk", false);
    ck_assert(reply->kind == WIRE_ERROR && reply->status == LG_INVALID);
    ck_assert_ptr_nonnull(strstr(reply->reason, "topk"));
    const struct bench_push push = {
        .session = 2, .base = shard_bench_version(0), .value = 1, .pull = true, .pull_codec = "onebit"};
    reply = shard_bench_push(&bench, &push);
    ck_assert_int_eq(reply->status, LG_INVALID);
    ck_assert(shard_bench_value(&bench, 0) == 1); /* refused before it was applied */
}
END_TEST

int main(void) {
    Suite *suite = suite_create("shard_values");
    TCase *tests = tcase_create("shard_values");
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_set_timeout(tests, 30);
    tcase_add_test(tests, readers_share_what_was_encoded_once);
    tcase_add_test(tests, values_come_as_close_as_the_codec_is);
    tcase_add_test(tests, small_units_share_a_frame_in_every_codec);
    tcase_add_loop_test(tests, differences_add_up_to_what_is_there, 0, 5);
    tcase_add_test(tests, without_a_change_a_codec_catches_up);
    tcase_add_test(tests, whoever_holds_something_else_gets_all);
    tcase_add_test(tests, pushes_bring_differences_too);
    tcase_add_test(tests, copies_are_counted_and_go_with_their_session);
    tcase_add_test(tests, without_memory_values_come_whole);
    tcase_add_test(tests, parameters_that_are_no_numbers_come_as_they_are);
    tcase_add_test(tests, what_is_not_offered_is_refused_with_a_reason);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
