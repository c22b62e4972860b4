/* Decisions and their application: replays give the same bits, and stale gradients do what the theory says. */
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/block.h"
#include "common/random.h"
#include "tests/support/shard_bench.h"

static struct shard_bench bench;

static void setup(void) {
    shard_bench_init(&bench);
}

static void teardown(void) {
    shard_bench_stop(&bench);
}

/* ---- replay */

enum { SESSIONS = 3, STEPS = 120, ELEMENTS = 90010 };

static const char *const kinds[] = {"sgd",  "momentum", "nesterov", "delayed-nesterov", "adagrad", "rmsprop",
                                    "adam", "adamw",    "lion"};
enum { KIND_COUNT = sizeof kinds / sizeof *kinds };

static void configure(struct shard_bench *target, const char *kind, bool gathers) {
    shard_bench_init(target);
    shard_bench_option(target, "consistency.mode", gathers ? "buffered" : "async");
    if (gathers)
        shard_bench_option(target, "consistency.pushes", "3");
    shard_bench_option(target, "updater.kind", kind);
    shard_bench_option(target, "weight_decay", strcmp(kind, "adam") == 0 ? "0" : "0.01");
    shard_bench_option(target, "lr.base", "0.01");
    shard_bench_option(target, "lr.schedule", "cosine");
    shard_bench_option(target, "lr.total_samples", "2000");
    shard_bench_option(target, "lr.warmup_samples", "100");
    shard_bench_option(target, "staleness.policy", "hinge");
    target->tensors[1].update = TENSOR_UPDATE_AVERAGE;
}

/* Three sessions push parts in random order from random bases; some samples come twice, some pushes never end, and one
 * session is killed in mid-push. */
static void train(uint64_t seed) {
    static float values[ELEMENTS];
    static const uint32_t units[] = {0, 1, 2};
    struct random random;
    random_init(&random, seed);
    for (uint64_t id = 1; id <= SESSIONS; id++)
        shard_bench_join(&bench, id);
    for (size_t i = 0; i < ELEMENTS; i++)
        values[i] = random_float(&random) - 0.5f;
    shard_bench_push(&bench, &(struct bench_push){.session = 1, .kind = WIRE_PUSH_KIND_INITIAL, .values = values});
    uint64_t version = shard_bench_version(0);
    for (int step = 0; step < STEPS; step++) {
        uint64_t session = 1 + random_below(&random, step < STEPS / 2 ? SESSIONS : SESSIONS - 1);
        uint64_t behind = random_below(&random, 9), first = random_below(&random, 30) * 30;
        uint64_t now = version_counter(version);
        for (int i = 0; i < 2000; i++)
            values[random_below(&random, ELEMENTS)] = random_float(&random) - 0.5f;
        struct bench_push push = {.session = session,
                                  .clock = 1000 + (uint64_t)step,
                                  .base = shard_bench_version(now > behind ? now - behind : 0),
                                  .part_count = 2,
                                  .samples = 1 + random_below(&random, 32),
                                  .lease = random_below(&random, 3),
                                  .epoch = random_below(&random, 2),
                                  .first = first,
                                  .end = first + 30,
                                  .sign = random_below(&random, 2) ? WIRE_SIGN_ADD : WIRE_SIGN_DESCEND,
                                  .values = values,
                                  .units = units,
                                  .unit_count = 2};
        version = shard_bench_push(&bench, &push)->message.push_reply.version;
        if (random_below(&random, 10) > 0) {
            push.part = 1;
            push.units = units + 2;
            push.unit_count = 1;
            version = shard_bench_push(&bench, &push)->message.push_reply.version;
        }
        ck_assert_uint_eq(bench.reply.status, LG_OK);
        if (step == STEPS / 2) {
            push.session = SESSIONS;
            push.clock++;
            push.part = 0;
            shard_bench_push(&bench, &push);
            shard_bench_close_session(&bench, SESSIONS, 1, "killed");
        }
    }
}

static void compare(const struct shard_bench *copy) {
    for (uint32_t unit = 0; unit < BENCH_UNITS; unit++) {
        uint32_t elements, copied_elements;
        uint64_t version, copied_version;
        const float *values = shard_unit_data(bench.shard, BENCH_JOB, unit, &elements, &version);
        const float *copied = shard_unit_data(copy->shard, BENCH_JOB, unit, &copied_elements, &copied_version);
        ck_assert_uint_eq(copied_elements, elements);
        ck_assert_uint_eq(copied_version, version);
        ck_assert_int_eq(memcmp(values, copied, elements * sizeof *values), 0);
    }
}

static enum lg_status replay(struct shard_bench *copy, size_t i, struct lg_error *error) {
    struct bench_record *record = &bench.records[i];
    record->push.units = record->units;
    record->push.payload = &record->payload;
    record->push.payload_count = 1;
    return shard_replay(copy->shard, &record->decision, record->has_push ? &record->push : NULL, error);
}

START_TEST(a_replay_gives_the_same_bits_on_every_instruction_set) {
    shard_bench_stop(&bench);
    configure(&bench, kinds[_i / 2], _i % 2);
    bench.record = true;
    bench.config.isa = isa_detect();
    shard_bench_start(&bench);
    train(42 + (uint64_t)_i);
    unsigned without_push = 0;
    for (int isa = 0; isa <= (int)isa_detect(); isa++) {
        struct shard_bench copy;
        configure(&copy, kinds[_i / 2], _i % 2);
        copy.config.isa = (enum isa)isa;
        shard_bench_start(&copy);
        for (size_t i = 0; i < bench.record_count; i++) {
            struct lg_error error = {0};
            ck_assert_uint_eq(bench.records[i].decision.order, i);
            ck_assert_msg(replay(&copy, i, &error) == LG_OK, "%s", error.message);
            without_push += !bench.records[i].has_push;
        }
        compare(&copy);
        shard_bench_stop(&copy);
    }
    ck_assert_uint_gt(without_push, 0);
}
END_TEST

START_TEST(a_replay_out_of_order_is_refused) {
    shard_bench_stop(&bench);
    configure(&bench, "sgd", false);
    bench.record = true;
    shard_bench_start(&bench);
    train(7);
    struct shard_bench copy;
    struct lg_error error = {0};
    configure(&copy, "sgd", false);
    shard_bench_start(&copy);
    ck_assert_int_eq(replay(&copy, 1, &error), LG_INVALID);
    ck_assert_int_eq(replay(&copy, 0, &error), LG_OK);
    ck_assert_int_eq(replay(&copy, 0, &error), LG_INVALID);
    bench.records[1].steps[0]++; /* a decision that was made somewhere else */
    ck_assert_int_eq(replay(&copy, 1, &error), LG_INVALID);
    bench.records[1].steps[0]--;
    ck_assert_int_eq(replay(&copy, 1, &error), LG_OK);
    shard_bench_stop(&copy);
}
END_TEST

/* A replay must notice when the arithmetic differs: the decisions alone do not carry the values. */
START_TEST(a_replay_with_another_payload_gives_other_bits) {
    shard_bench_stop(&bench);
    configure(&bench, "sgd", false);
    bench.record = true;
    shard_bench_start(&bench);
    train(8);
    struct shard_bench copy;
    configure(&copy, "sgd", false);
    shard_bench_start(&copy);
    ((float *)bench.records[0].payload.data)[3] += 1;
    for (size_t i = 0; i < bench.record_count; i++)
        ck_assert_int_eq(replay(&copy, i, NULL), LG_OK);
    const float *values = shard_unit_data(bench.shard, BENCH_JOB, 0, NULL, NULL);
    ck_assert(values[3] != shard_unit_data(copy.shard, BENCH_JOB, 0, NULL, NULL)[3]);
    ck_assert(values[4] == shard_unit_data(copy.shard, BENCH_JOB, 0, NULL, NULL)[4]);
    shard_bench_stop(&copy);
}
END_TEST

/* ---- x(t+1) = x(t) - a x(t-tau) is stable iff 0 < a < 2 sin(pi / (2 (2 tau + 1))) */

enum { DELAYED_STEPS = 6000 };

/* |x| after the run, relative to the start. */
static double delayed_descent(uint64_t delay, double rate) {
    struct shard_bench one;
    char text[32];
    float history[32]; /* the last values; delay < 32 */
    snprintf(text, sizeof text, "%.17g", rate);
    shard_bench_init(&one);
    shard_bench_option(&one, "lr.base", text);
    one.tensors[0] = (struct tensor_spec){.name = "x", .rank = 1, .shape = {1}, .lr_factor = 1};
    one.tensor_count = one.placement_count = 1;
    shard_bench_start(&one);
    shard_bench_join(&one, 1);
    shard_bench_initialise(&one, 1, 1);
    for (int i = 0; i < 32; i++)
        history[i] = 1;
    double greatest = 0;
    for (uint64_t t = 0; t < DELAYED_STEPS && greatest < 1e6; t++) {
        history[t % 32] = shard_bench_value(&one, 0);
        struct bench_reply *reply =
            shard_bench_push(&one, &(struct bench_push){.session = 1,
                                                        .seq_floor = t + 1,
                                                        .value = t >= delay ? history[(t - delay) % 32] : 1,
                                                        .base = shard_bench_version(t >= delay ? t - delay : 0)});
        ck_assert_uint_eq(reply->status, LG_OK);
        ck_assert_uint_eq(reply->message.push_reply.staleness, t >= delay ? delay : t);
        double size = fabs((double)shard_bench_value(&one, 0));
        greatest = t + 4 * delay + 8 > DELAYED_STEPS || size > 1e6 ? fmax(greatest, size) : greatest;
    }
    shard_bench_stop(&one);
    return greatest;
}

START_TEST(stale_descent_is_stable_up_to_the_known_rate) {
    const double pi = 3.14159265358979323846;
    uint64_t delay = (uint64_t)_i;
    double limit = 2 * sin(pi / (2 * (2 * (double)delay + 1)));
    ck_assert_msg(delayed_descent(delay, 0.95 * limit) < 0.1, "delay %d", _i);
    ck_assert_msg(delayed_descent(delay, 1.05 * limit) > 10, "delay %d", _i);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("shard_apply");
    TCase *tests = tcase_create("shard_apply");
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_set_timeout(tests, 60);
    tcase_add_loop_test(tests, a_replay_gives_the_same_bits_on_every_instruction_set, 0, 2 * KIND_COUNT);
    tcase_add_test(tests, a_replay_out_of_order_is_refused);
    tcase_add_test(tests, a_replay_with_another_payload_gives_other_bits);
    tcase_add_loop_test(tests, stale_descent_is_stable_up_to_the_known_rate, 0, 30);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
