#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "bench/bench.h"

static void add(struct figures *figures, const char *name, double value) {
    ck_assert_int_eq(figures_add(figures, name, "GB/s", value, NULL), LG_OK);
}

START_TEST(median_and_quartiles) {
    const double values[] = {5, 1, 4, 2, 3};
    struct spread spread = spread_of(values, 5);
    ck_assert_double_eq(spread.median, 3);
    ck_assert_double_eq(spread.low, 2);
    ck_assert_double_eq(spread.high, 4);
    ck_assert_double_eq(spread.least, 1);
    ck_assert_double_eq(spread.most, 5);
    ck_assert_double_eq(spread_of(values, 2).median, 3);
    ck_assert_double_eq(spread_of(values, 1).low, 5);
    ck_assert_uint_eq(spread_of(values, 0).count, 0);
}
END_TEST

START_TEST(series_keep_their_order_and_bound) {
    struct figures figures = {0};
    char name[32];
    for (int i = 0; i < 200; i++) {
        snprintf(name, sizeof name, "figure%d", i);
        add(&figures, name, i);
    }
    for (int i = 0; i < 2 * FIGURE_ROUNDS_MAX; i++)
        add(&figures, "figure7", i);
    ck_assert_uint_eq(figures.count, 200);
    ck_assert_uint_eq(figures_find(&figures, "figure7")->count, FIGURE_ROUNDS_MAX);
    ck_assert_str_eq(figures.list[199].name, "figure199");
    ck_assert_ptr_null(figures_find(&figures, "figure200"));
    figures_deinit(&figures);
}
END_TEST

START_TEST(filters) {
    ck_assert(filter_names("", "tcp.push.64MiB"));
    ck_assert(filter_names("push", "tcp.push.64MiB"));
    ck_assert(filter_names("shm,tcp", "tcp.push.64MiB"));
    ck_assert(!filter_names("shm,ipc", "tcp.push.64MiB"));
    ck_assert(!filter_names("tcp.push.64MiBs", "tcp.push.64MiB"));
}
END_TEST

static const struct ratio *named(const struct ratio *ratios, size_t count, const char *name) {
    for (size_t i = 0; i < count; i++)
        if (strcmp(ratios[i].name, name) == 0)
            return &ratios[i];
    ck_abort_msg("no ratio \"%s\"", name);
    return NULL;
}

/* The ratio of a round is of that round's values; the median is over rounds, not of medians. */
START_TEST(ratios_are_of_rounds) {
    const struct bench_options options = {.filter = "", .tensor_bytes = 64 << 20};
    struct bench_result result = {.options = &options};
    static struct ratio ratios[RATIOS_MAX];
    const double pushes[] = {8, 4, 9}, copies[] = {10, 4, 18};
    for (int i = 0; i < 3; i++) {
        add(&result.figures, "shm.push.64MiB", pushes[i]);
        add(&result.figures, "limit.memcpy.64MiB", copies[i]);
        add(&result.figures, "tcp.roundtrip.p50", 13);
        add(&result.figures, "limit.zmq.roundtrip.p50", 10);
    }
    size_t count = bench_ratios(&result, ratios);
    const struct ratio *push = named(ratios, count, "shm.push.64MiB over memcpy");
    ck_assert_double_eq(push->spread.median, 0.8);
    ck_assert_double_eq(push->spread.least, 0.5);
    ck_assert(ratio_met(push));
    const struct ratio *trip =
        named(ratios, count, "round trip of a 64-byte push over the bare ZeroMQ round trip, p50");
    ck_assert(trip->at_most && !ratio_met(trip));
    ck_assert_uint_eq(named(ratios, count, "shm.pushpull.64MiB over memcpy")->spread.count, 0);
    ck_assert(!bench_all_met(&result));
    bench_result_deinit(&result);
}
END_TEST

START_TEST(warns_of_slow_limits) {
    const struct bench_options options = {.filter = "", .tensor_bytes = 64 << 20};
    struct bench_result result = {.options = &options};
    char texts[4][160];
    add(&result.figures, "limit.memcpy.64MiB", 3);
    add(&result.figures, "limit.kernel.sgd", 2.5);
    ck_assert_uint_eq(bench_warnings(&result, texts, 4), 1);
    ck_assert_ptr_nonnull(strstr(texts[0], "memcpy"));
    ck_assert_uint_eq(bench_warnings(&result, texts, 0), 0);
    bench_result_deinit(&result);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("figures");
    TCase *tests = tcase_create("figures");
    tcase_add_test(tests, median_and_quartiles);
    tcase_add_test(tests, series_keep_their_order_and_bound);
    tcase_add_test(tests, filters);
    tcase_add_test(tests, ratios_are_of_rounds);
    tcase_add_test(tests, warns_of_slow_limits);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
