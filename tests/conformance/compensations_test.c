/* Policies that change each element of a gradient by how far its parameter has moved since the worker read it: the
 * formulas of the papers, the same bits on every instruction set, and a shard that knows what each worker read. */
#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/block.h"
#include "common/random.h"
#include "server/policy.h"
#include "tests/support/shard_bench.h"

enum { N = 1003 };

struct chunk {
    float gradient[N], values[N], held[N], mine[N], drift[N], out[N];
};

static void fill(struct chunk *chunk, uint64_t seed) {
    struct random random;
    random_init(&random, seed);
    for (size_t i = 0; i < N; i++) {
        chunk->gradient[i] = random_float(&random) - 0.5f;
        chunk->values[i] = random_float(&random) - 0.5f;
        chunk->held[i] = i % 10 == 0 ? chunk->values[i] : random_float(&random) - 0.5f;
        chunk->mine[i] = i % 7 == 0 ? 0 : random_float(&random);
        chunk->drift[i] = i % 5 == 0 ? 0 : random_float(&random);
    }
}

static const struct policy *policy_named(const char *name, double *values) {
    const struct policy *policy = NULL;
    struct lg_error error;
    ck_assert_int_eq(policy_find(name, &policy, &error), LG_OK);
    ck_assert_ptr_nonnull(policy->compensation);
    for (size_t i = 0; i < policy->param_count; i++)
        values[i] = policy->params[i].fallback;
    return policy;
}

static void run(const struct policy *policy, const double *values, const struct compensation_moment *moment,
                enum isa isa, struct chunk *chunk) {
    float scalars[COMPENSATION_SCALARS_MAX];
    ck_assert_uint_le(policy->compensation->scalar_count, COMPENSATION_SCALARS_MAX);
    policy->compensation->decide(values, moment, scalars);
    const struct compensate_place place = {chunk->gradient, chunk->values, chunk->held, chunk->mine, chunk->drift};
    policy->compensation->compensate[isa](&place, N, scalars, chunk->out);
    if (policy->compensation->learn)
        policy->compensation->learn[isa](chunk->drift, chunk->held, chunk->values, N, scalars);
}

/* What the papers say, in double. */
static double expected(const char *name, const struct chunk *chunk, size_t i, float rate, uint64_t step) {
    const double g = (double)chunk->gradient[i], gap = (double)chunk->values[i] - (double)chunk->held[i];
    if (strcmp(name, "dc-asgd") == 0)
        return g + 0.04 * g * g * gap;
    if (strcmp(name, "dc-asgd-adaptive") == 0)
        return g + 2 / sqrt(0.95 * (double)chunk->mine[i] + 0.05 * g * g + 1e-7) * g * g * gap;
    ck_assert_str_eq(name, "gap-aware");
    if (step == 1)
        return g;
    const double average = (double)chunk->drift[i] / (1 - pow(0.999, (double)step - 1));
    return g / (1 + fabs(gap) / ((double)rate * (sqrt(average) + 1e-8)));
}

static const char *const names[] = {"dc-asgd", "dc-asgd-adaptive", "gap-aware"};

START_TEST(formulas_are_those_of_the_papers) {
    static struct chunk before, after;
    double values[POLICY_PARAMS_MAX];
    const struct policy *policy = policy_named(names[_i], values);
    for (uint64_t step = 1; step < 2000; step = step * 3 + 1) {
        const struct compensation_moment moment = {.learning_rate = 0.125f, .step = step};
        fill(&before, step);
        after = before;
        run(policy, values, &moment, ISA_BASE, &after);
        for (size_t i = 0; i < N; i++) {
            const double wanted = expected(names[_i], &before, i, 0.125f, step), g = (double)before.gradient[i];
            ck_assert_msg(fabs((double)after.out[i] - wanted) <= 1e-6 * (fabs(wanted) + fabs(wanted - g)),
                          "%s at %zu: %g, not %g", names[_i], i, (double)after.out[i], wanted);
        }
    }
}
END_TEST

START_TEST(what_was_read_now_is_left_as_it_is) {
    static struct chunk chunk;
    double values[POLICY_PARAMS_MAX];
    const struct policy *policy = policy_named(names[_i], values);
    const struct compensation_moment moment = {.learning_rate = 0.1f, .step = 9};
    fill(&chunk, 3);
    memcpy(chunk.held, chunk.values, sizeof chunk.held);
    run(policy, values, &moment, ISA_BASE, &chunk);
    ck_assert_mem_eq(chunk.out, chunk.gradient, sizeof chunk.out);
}
END_TEST

START_TEST(a_rate_of_zero_divides_by_nothing) {
    static struct chunk chunk;
    double values[POLICY_PARAMS_MAX];
    const struct policy *policy = policy_named(names[_i], values);
    const struct compensation_moment moment = {.learning_rate = 0, .step = 9};
    fill(&chunk, 3);
    run(policy, values, &moment, ISA_BASE, &chunk);
    for (size_t i = 0; i < N; i++)
        ck_assert(isfinite(chunk.out[i]) && isfinite(chunk.drift[i]) && isfinite(chunk.mine[i]));
}
END_TEST

START_TEST(bits_are_equal_on_every_set) {
    static struct chunk base, other;
    double values[POLICY_PARAMS_MAX];
    const struct policy *policy = policy_named(names[_i], values);
    for (int isa = ISA_AVX2; isa <= (int)isa_detect(); isa++) {
        for (uint64_t step = 1; step < 20; step++) {
            const struct compensation_moment moment = {.learning_rate = 0.125f, .step = step};
            fill(&base, step);
            other = base;
            run(policy, values, &moment, ISA_BASE, &base);
            run(policy, values, &moment, (enum isa)isa, &other);
            ck_assert_mem_eq(&base, &other, sizeof base);
        }
    }
}
END_TEST

/* ---- on a shard */

static void start(struct shard_bench *bench, const char *policy) {
    shard_bench_init(bench);
    shard_bench_option(bench, "updater.kind", "sgd");
    shard_bench_option(bench, "lr.base", "0.5");
    shard_bench_option(bench, "staleness.policy", policy);
    shard_bench_start(bench);
    shard_bench_join(bench, 1);
    shard_bench_join(bench, 2);
    shard_bench_initialise(bench, 1, 1);
}

static void push(struct shard_bench *bench, uint64_t session, uint64_t base, float value) {
    struct bench_reply *reply = shard_bench_push(
        bench, &(struct bench_push){.session = session, .base = shard_bench_version(base), .value = value});
    ck_assert_msg(reply->status == LG_OK, "%s", reply->reason);
    ck_assert(reply->message.push_reply.weight == 1);
}

/* Worker 1 reads, worker 2 moves the parameters, worker 1 pushes what it computed from its reading. */
START_TEST(a_shard_knows_what_each_worker_read) {
    struct shard_bench bench;
    start(&bench, "dc-asgd");
    shard_bench_pull(&bench, 1, NULL);
    shard_bench_pull(&bench, 2, NULL);
    push(&bench, 2, 0, 0.25f);
    ck_assert(shard_bench_value(&bench, 0) == 0.875f); /* nothing had moved when it was computed */
    push(&bench, 1, 0, 0.5f);
    const float changed = 0.5f + 0.04f * 0.5f * 0.5f * (0.875f - 1);
    ck_assert(shard_bench_value(&bench, 0) == 0.875f - 0.5f * changed);
    /* what it reads now is what counts from now on */
    const float now = shard_bench_value(&bench, 0);
    shard_bench_pull(&bench, 1, NULL);
    push(&bench, 1, 2, 0.5f);
    ck_assert(shard_bench_value(&bench, 0) == now - 0.25f);
    shard_bench_stop(&bench);
}
END_TEST

/* A unit that the worker has already is not sent again; it counts as read. A push that brings values back reads too. */
START_TEST(what_need_not_be_sent_is_read_all_the_same) {
    struct shard_bench bench;
    start(&bench, "dc-asgd");
    struct bench_reply *reply = shard_bench_pull(&bench, 1, NULL);
    uint64_t held[BENCH_UNITS];
    for (int i = 0; i < BENCH_UNITS; i++)
        held[i] = reply->units[i].version;
    reply = shard_bench_pull(&bench, 2, held);
    ck_assert_uint_eq(reply->message.unit_count, 0); /* all unchanged */
    shard_bench_pull(&bench, 1, NULL);
    push(&bench, 1, 0, 0.25f);
    push(&bench, 2, 0, 0.5f);
    ck_assert(shard_bench_value(&bench, 0) == 0.875f - 0.5f * (0.5f + 0.04f * 0.5f * 0.5f * (0.875f - 1)));
    const float before = shard_bench_value(&bench, 0);
    const struct bench_push both = {.session = 2, .base = shard_bench_version(2), .value = 0, .pull = true};
    ck_assert_int_eq(shard_bench_push(&bench, &both)->status, LG_OK);
    push(&bench, 2, 3, 0.5f);
    ck_assert(shard_bench_value(&bench, 0) == before - 0.25f);
    shard_bench_stop(&bench);
}
END_TEST

START_TEST(copies_are_counted_and_go_with_their_session) {
    static const struct {
        const char *policy;
        unsigned drift, copies; /* times the parameters */
    } cases[] = {{"constant", 0, 0}, {"dc-asgd", 0, 1}, {"dc-asgd-adaptive", 0, 2}, {"gap-aware", 1, 1}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct shard_bench bench;
        const uint64_t parameters = (300 * 300 + 10) * sizeof(float);
        start(&bench, cases[i].policy);
        const uint64_t before = shard_memory_bytes(bench.shard);
        ck_assert_uint_eq(before, (1 + cases[i].drift) * parameters);
        shard_bench_pull(&bench, 1, NULL);
        const uint64_t with = shard_memory_bytes(bench.shard) - before;
        ck_assert_uint_ge(with, cases[i].copies * parameters);
        ck_assert_uint_le(with, cases[i].copies * (parameters + 4096));
        shard_bench_close_session(&bench, 1, 1, "done");
        ck_assert_uint_eq(shard_memory_bytes(bench.shard), before);
        shard_bench_stop(&bench);
    }
}
END_TEST

START_TEST(no_room_for_a_copy_is_said) {
    struct shard_bench bench;
    shard_bench_init(&bench);
    bench.config.memory_bytes = 500000; /* parameters take 360,040 */
    shard_bench_option(&bench, "staleness.policy", "dc-asgd");
    shard_bench_start(&bench);
    shard_bench_join(&bench, 1);
    shard_bench_initialise(&bench, 1, 1);
    struct bench_reply *reply = shard_bench_pull(&bench, 1, NULL);
    ck_assert_int_eq(reply->kind, WIRE_ERROR);
    ck_assert_int_eq(reply->status, LG_NO_MEMORY);
    ck_assert_ptr_nonnull(strstr(reply->reason, "dc-asgd"));
    shard_bench_stop(&bench);
}
END_TEST

START_TEST(reading_ahead_is_refused) {
    double values[POLICY_PARAMS_MAX];
    struct lg_error error = {0};
    struct config *config = config_new();
    ck_assert_int_eq(config_set(config, "train.pipeline", "2", "job.yaml", &error), LG_OK);
    const struct policy *policy = policy_named(names[_i], values);
    ck_assert_int_eq(policy_check(policy, config, 1, &error), LG_OK);
    ck_assert_int_eq(policy_check(policy, config, 2, &error), LG_INVALID);
    ck_assert_ptr_nonnull(strstr(error.message, "job.yaml"));
    config_free(config);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("compensations");
    TCase *tests = tcase_create("compensations");
    tcase_add_loop_test(tests, formulas_are_those_of_the_papers, 0, 3);
    tcase_add_loop_test(tests, what_was_read_now_is_left_as_it_is, 0, 3);
    tcase_add_loop_test(tests, a_rate_of_zero_divides_by_nothing, 0, 3);
    tcase_add_loop_test(tests, bits_are_equal_on_every_set, 0, 3);
    tcase_add_loop_test(tests, reading_ahead_is_refused, 0, 3);
    tcase_add_test(tests, a_shard_knows_what_each_worker_read);
    tcase_add_test(tests, what_need_not_be_sent_is_read_all_the_same);
    tcase_add_test(tests, copies_are_counted_and_go_with_their_session);
    tcase_add_test(tests, no_room_for_a_copy_is_said);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
