/* Codecs x updaters x policies through the shard: whatever the three are, pushing encoded gradients does to the
 * parameters, bit for bit, what pushing the decoded ones as f32 does. */
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/codec.h"
#include "common/random.h"
#include "server/policy.h"
#include "common/updater.h"
#include "tests/support/shard_bench.h"

enum { ROWS = 71, COLUMNS = 73, BIAS = 10, ELEMENTS = ROWS * COLUMNS + BIAS, UNITS = 2, PUSHES = 4 };
static const uint32_t unit_elements[UNITS] = {ROWS * COLUMNS, BIAS};

static void start(struct shard_bench *bench, const char *updater, const char *policy, enum isa isa) {
    shard_bench_init(bench);
    bench->config.isa = isa;
    bench->tensors[0].shape[0] = ROWS;
    bench->tensors[0].shape[1] = COLUMNS;
    bench->placement_count = UNITS;
    shard_bench_option(bench, "updater.kind", updater);
    shard_bench_option(bench, "staleness.policy", policy);
    shard_bench_option(bench, "lr.base", "0.01");
    shard_bench_start(bench);
    shard_bench_join(bench, 1);
    shard_bench_initialise(bench, 1, 0.5f);
}

/* What the shard will see of `values`. */
static void through(const struct codec *codec, const float *values, uint64_t key, float *out) {
    static uint8_t data[8 * ELEMENTS];
    const struct codec_options options = {.key = key, .keep = 0.1};
    memset(out, 0, ELEMENTS * sizeof *out);
    for (size_t i = 0, at = 0; i < UNITS; at += unit_elements[i++]) {
        codec->kernels[ISA_BASE]->encode(values + at, NULL, unit_elements[i], &options, data);
        codec_add(codec, ISA_BASE, data, unit_elements[i], out + at);
    }
}

static void compare(const struct shard_bench *a, const struct shard_bench *b, const char *names) {
    for (uint32_t unit = 0; unit < UNITS; unit++) {
        uint32_t elements;
        uint64_t version, other;
        const float *values = shard_unit_data(a->shard, BENCH_JOB, unit, &elements, &version);
        const float *plain = shard_unit_data(b->shard, BENCH_JOB, unit, NULL, &other);
        ck_assert_uint_eq(version, other);
        ck_assert_msg(memcmp(values, plain, elements * sizeof *values) == 0, "%s: unit %u differs", names, unit);
        uint32_t changed = 0;
        for (uint32_t i = 0; i < elements; i++)
            changed += values[i] != 0.5f;
        ck_assert_msg(changed > 0, "%s: nothing was applied", names);
    }
}

static void combination(const struct codec *codec, const char *updater, const char *policy) {
    static float values[ELEMENTS], decoded[ELEMENTS];
    struct shard_bench encoded, plain;
    struct random random;
    char names[120];
    snprintf(names, sizeof names, "%s, %s, %s", codec->name, updater, policy);
    random_init(&random, 1);
    start(&encoded, updater, policy, isa_detect());
    start(&plain, updater, policy, ISA_BASE);
    for (uint64_t step = 0; step < PUSHES; step++) {
        for (size_t i = 0; i < ELEMENTS; i++)
            values[i] = random_float(&random) - 0.5f;
        struct bench_push push = {.session = 1,
                                  .base = shard_bench_version(step / 2),
                                  .sign = step % 2 ? WIRE_SIGN_ADD : WIRE_SIGN_DESCEND,
                                  .codec = codec->name,
                                  .key = 100 + step,
                                  .values = values};
        struct bench_reply *reply = shard_bench_push(&encoded, &push);
        ck_assert_msg(reply->status == LG_OK, "%s: %s", names, reply->reason);
        through(codec, values, push.key, decoded);
        push.codec = NULL;
        push.values = decoded;
        ck_assert_int_eq(shard_bench_push(&plain, &push)->status, LG_OK);
    }
    compare(&encoded, &plain, names);
    shard_bench_stop(&encoded);
    shard_bench_stop(&plain);
}

START_TEST(every_updater_and_policy_takes_it) {
    size_t updater_count, policy_count, codec_count;
    const struct updater *const *all_updaters = updaters(&updater_count);
    const struct policy *const *all_policies = policies(&policy_count);
    const struct codec *codec = codecs(&codec_count)[_i];
    for (size_t u = 0; u < updater_count; u++)
        for (size_t p = 0; p < policy_count; p++)
            combination(codec, all_updaters[u]->name, all_policies[p]->name);
}
END_TEST

START_TEST(what_is_not_a_number_is_refused_in_every_codec) {
    static float values[ELEMENTS];
    size_t count;
    struct shard_bench bench;
    start(&bench, "sgd", "constant", isa_detect());
    for (size_t at = 0; at < ELEMENTS; at += 1300) {
        memset(values, 0, sizeof values);
        values[at] = at % 2600 ? (float)INFINITY : (float)NAN;
        struct bench_reply *reply = shard_bench_push(&bench, &(struct bench_push){.session = 1,
                                                                                  .base = shard_bench_version(0),
                                                                                  .codec = codecs(&count)[_i]->name,
                                                                                  .values = values});
        ck_assert_int_eq(reply->status, LG_NONFINITE);
    }
    ck_assert(shard_bench_value(&bench, 0) == 0.5f);
    shard_bench_stop(&bench);
}
END_TEST

/* Tensors that take values, and initial values: what a codec for changes would make of them is nothing to keep. */
START_TEST(values_are_not_taken_from_codecs_for_changes) {
    size_t count;
    const struct codec *codec = codecs(&count)[_i];
    struct shard_bench bench;
    shard_bench_init(&bench);
    bench.tensors[1].update = TENSOR_UPDATE_ASSIGN;
    shard_bench_start(&bench);
    shard_bench_join(&bench, 1);
    const struct bench_push initial = {.session = 1, .kind = WIRE_PUSH_KIND_INITIAL, .value = 1, .codec = codec->name};
    ck_assert_int_eq(shard_bench_push(&bench, &initial)->status, codec->exact ? LG_OK : LG_INVALID);
    shard_bench_initialise(&bench, 1, 1);
    const struct bench_push push = {.session = 1, .base = shard_bench_version(0), .value = 2, .codec = codec->name};
    struct bench_reply *reply = shard_bench_push(&bench, &push);
    ck_assert_int_eq(reply->status, codec->changes_only ? LG_INVALID : LG_OK);
    ck_assert(!codec->changes_only || strstr(reply->reason, "bias"));
    ck_assert(shard_bench_value(&bench, 2) == (codec->changes_only ? 1 : 2));
    shard_bench_stop(&bench);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("codec_updaters");
    TCase *tests = tcase_create("codec_updaters");
    size_t count;
    codecs(&count);
    tcase_set_timeout(tests, 120);
    tcase_add_loop_test(tests, every_updater_and_policy_takes_it, 0, (int)count);
    tcase_add_loop_test(tests, what_is_not_a_number_is_refused_in_every_codec, 0, (int)count);
    tcase_add_loop_test(tests, values_are_not_taken_from_codecs_for_changes, 0, (int)count);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
