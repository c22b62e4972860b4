/* The simulator itself: what is known without it must come out of it. */
#include "sim/simulation.h"

#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/log.h"

/* Runs "key=value;key=value". */
static void run_with(const char *text, uint64_t seed, struct sim_outcome *outcome) {
    struct config *config = config_new();
    struct lg_error error = {0};
    char copy[2048], *rest = NULL;
    ck_assert_uint_lt(strlen(text), sizeof copy);
    memcpy(copy, text, strlen(text) + 1);
    for (char *pair = strtok_r(copy, ";", &rest); pair; pair = strtok_r(NULL, ";", &rest)) {
        char *equals = strchr(pair, '=');
        ck_assert_ptr_nonnull(equals);
        *equals = '\0';
        ck_assert_int_eq(config_set(config, pair, equals + 1, "test", &error), LG_OK);
    }
    const struct sim_setup setup = {.config = config, .seed = seed};
    enum lg_status status = simulate(&setup, outcome, &error);
    ck_assert_msg(status == LG_OK, "%s: %s", text, error.message);
    config_free(config);
}

#define SMALL                                                                                                          \
    "model.kind=mlp;model.hidden=16;dataset.kind=mixture;dataset.train_samples=1600;dataset.test_samples=200;"         \
    "dataset.features=16;train.batch=16;lr.base=0.05;staleness.policy=constant;"

static void expect_equal(const struct sim_outcome *a, const struct sim_outcome *b) {
    ck_assert_uint_eq(a->curve_count, b->curve_count);
    for (size_t i = 0; i < a->curve_count; i++)
        ck_assert_int_eq(memcmp(&a->curve[i], &b->curve[i], sizeof a->curve[i]), 0);
    ck_assert_uint_eq(a->events, b->events);
    ck_assert_uint_eq(a->updates, b->updates);
    ck_assert_double_eq(a->spread.staleness_sum, b->spread.staleness_sum);
}

START_TEST(a_seed_gives_the_same_bits) {
    static const char text[] = SMALL "train.epochs=3;sim.workers=3x1,2x4;sim.step.distribution=lognormal;"
                                     "sim.network.delay=0.01;sim.network.bandwidth=1e6;sim.loss.every=40;"
                                     "sim.loss.away=5;sim.evaluate.every=400;dataset.spread=1";
    struct sim_outcome first, again, other;
    run_with(text, 5, &first);
    run_with(text, 5, &again);
    run_with(text, 6, &other);
    expect_equal(&first, &again);
    ck_assert_double_ne(first.time_s, other.time_s);
    ck_assert_uint_gt(first.losses, 0);
    ck_assert_uint_gt(first.joins, 5);
    sim_outcome_deinit(&first);
    sim_outcome_deinit(&again);
    sim_outcome_deinit(&other);
}
END_TEST

/* Every other worker pushes once between a worker's pull and its push. */
START_TEST(equal_workers_are_as_stale_as_there_are_others) {
    static const unsigned counts[] = {1, 2, 7, 30};
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
        char text[1024];
        struct sim_outcome outcome;
        snprintf(text, sizeof text, SMALL "sim.workers=%u;sim.stop.updates=1000", counts[i]);
        run_with(text, 1, &outcome);
        ck_assert_uint_eq(outcome.spread.staleness_max, counts[i] - 1);
        ck_assert_uint_ge(outcome.spread.counts[counts[i] - 1], outcome.spread.pushes - 2 * counts[i]);
        sim_outcome_deinit(&outcome);
    }
}
END_TEST

START_TEST(in_turns_nothing_is_stale) {
    struct sim_outcome outcome;
    run_with(SMALL "train.epochs=2;sim.workers=2x1,3x4;sim.sequential=yes;sim.network.delay=0.1", 1, &outcome);
    ck_assert_uint_eq(outcome.spread.staleness_max, 0);
    ck_assert_uint_eq(outcome.samples, 3200);
    sim_outcome_deinit(&outcome);
}
END_TEST

START_TEST(losses_lose_no_samples) {
    struct sim_outcome outcome;
    run_with(SMALL "train.epochs=4;sim.workers=8;sim.loss.every=20;sim.loss.away=10;sim.shards=3;model.hidden=32,32", 2,
             &outcome);
    ck_assert_uint_gt(outcome.losses, 3);
    ck_assert_uint_eq(outcome.samples, 4 * 1600);
    ck_assert_str_eq(outcome.end, "all epochs are done");
    for (uint32_t i = 0; i < outcome.shard_count; i++)
        ck_assert_uint_eq(outcome.shards[i].samples, 4 * 1600);
    sim_outcome_deinit(&outcome);
}
END_TEST

START_TEST(workers_that_come_later_come_later) {
    struct sim_outcome outcome;
    run_with(SMALL "sim.workers=1,3;sim.start.at=0,20;sim.stop.time=40", 1, &outcome);
    ck_assert_uint_eq(outcome.joins, 4);
    ck_assert_uint_ge(outcome.updates, 95); /* 40 steps of one, 20 of three, less what is under way */
    ck_assert_uint_le(outcome.updates, 101);
    sim_outcome_deinit(&outcome);
}
END_TEST

START_TEST(the_network_takes_its_time) {
    struct sim_outcome fast, slow;
    run_with(SMALL "sim.workers=1;sim.stop.updates=50;lease.duration=1h", 1, &fast);
    run_with(SMALL "sim.workers=1;sim.stop.updates=50;lease.duration=1h;sim.network.delay=0.5", 1, &slow);
    ck_assert_double_eq_tol(fast.time_s, 50, 0.5);
    ck_assert_double_eq_tol(slow.time_s, 100, 5); /* a round trip of a second for each step of a second */
    sim_outcome_deinit(&fast);
    sim_outcome_deinit(&slow);
}
END_TEST

START_TEST(every_mode_goes_through_the_data) {
    static const char *const modes[] = {"async",
                                        "ssp;consistency.bound=2",
                                        "dssp;consistency.bound=1;consistency.bound_most=4",
                                        "bsp",
                                        "backup;consistency.pushes=3",
                                        "rennala;consistency.pushes=4",
                                        "buffered;consistency.pushes=3"};
    for (size_t i = 0; i < sizeof modes / sizeof *modes; i++) {
        char text[1024];
        struct sim_outcome outcome;
        snprintf(text, sizeof text,
                 SMALL "train.epochs=2;sim.workers=2x1,2x3;sim.step.distribution=exponential;sim.loss.every=60;"
                       "consistency.mode=%s",
                 modes[i]);
        run_with(text, 3, &outcome);
        ck_assert_msg(strcmp(outcome.end, "all epochs are done") == 0, "%s: %s", modes[i], outcome.end);
        if (strcmp(modes[i], "bsp") == 0)
            ck_assert_uint_eq(outcome.spread.staleness_max, 0);
        sim_outcome_deinit(&outcome);
    }
}
END_TEST

START_TEST(the_mean_weight_becomes_the_rate) {
    struct sim_outcome weighted, control;
    run_with(SMALL "train.epochs=2;sim.workers=5;staleness.policy=inverse", 1, &weighted);
    run_with(SMALL "train.epochs=2;sim.workers=5;staleness.policy=inverse;sim.control=mean_weight", 1, &control);
    ck_assert_double_lt(spread_weight_mean(&weighted.spread), 0.4);
    ck_assert_double_eq(spread_weight_mean(&control.spread), 1);
    ck_assert_double_eq(control.mean_weight_before, spread_weight_mean(&weighted.spread));
    ck_assert_double_eq_tol(control.learning_rate, 0.05 * control.mean_weight_before, 1e-12);
    sim_outcome_deinit(&weighted);
    sim_outcome_deinit(&control);
}
END_TEST

/* x <- x - a x of tau steps before is stable below 2 sin(pi / (2 (2 tau + 1))). After warm-up, tau + 1 equal workers
 * make exactly that of gradient descent on a quadratic. */
static double greatest_loss(const struct sim_outcome *outcome, double from, double to) {
    double greatest = 0;
    for (size_t i = (size_t)(from * (double)outcome->curve_count); i < (size_t)(to * (double)outcome->curve_count); i++)
        greatest = fmax(greatest, outcome->curve[i].loss);
    return greatest;
}

/* The iterates oscillate; stable ones less and less. */
static bool is_stable(unsigned tau, double rate) {
    char text[1024];
    struct sim_outcome outcome;
    snprintf(text, sizeof text,
             "model.kind=quadratic;dataset.kind=mixture;dataset.train_samples=100000;dataset.test_samples=1;"
             "dataset.features=1;train.batch=1;staleness.policy=constant;lr.base=%.17g;sim.workers=%u;"
             "sim.stop.updates=%u;sim.evaluate.every=1;lease.duration=10m",
             rate, tau + 1, 400 * (tau + 1));
    run_with(text, 1, &outcome);
    bool stable = !outcome.diverged && greatest_loss(&outcome, 0.75, 1) < greatest_loss(&outcome, 0.25, 0.5);
    sim_outcome_deinit(&outcome);
    return stable;
}

START_TEST(the_stability_law_holds) {
    for (unsigned tau = 0; tau < 30; tau++) {
        double law = 2 * sin(acos(-1) / (2 * (2 * tau + 1)));
        ck_assert_msg(is_stable(tau, 0.97 * law), "staleness %u: %g should be stable", tau, 0.97 * law);
        ck_assert_msg(!is_stable(tau, 1.03 * law), "staleness %u: %g should not be stable", tau, 1.03 * law);
    }
}
END_TEST

int main(void) {
    log_init("test", LOG_LEVEL_ERROR);
    Suite *suite = suite_create("simulation");
    TCase *tests = tcase_create("simulation");
    tcase_set_timeout(tests, 300);
    tcase_add_test(tests, a_seed_gives_the_same_bits);
    tcase_add_test(tests, equal_workers_are_as_stale_as_there_are_others);
    tcase_add_test(tests, in_turns_nothing_is_stale);
    tcase_add_test(tests, losses_lose_no_samples);
    tcase_add_test(tests, workers_that_come_later_come_later);
    tcase_add_test(tests, the_network_takes_its_time);
    tcase_add_test(tests, every_mode_goes_through_the_data);
    tcase_add_test(tests, the_mean_weight_becomes_the_rate);
    tcase_add_test(tests, the_stability_law_holds);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
