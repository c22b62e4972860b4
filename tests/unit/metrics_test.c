#include <check.h>
#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "common/metrics.h"

static const char *const labels[] = {"mnist", "0"};
static const char *const other[] = {"text", "1"};

static struct metrics *metrics;
static struct buf out;

static void setup(void) {
    metrics = metrics_new();
}

static void teardown(void) {
    metrics_free(metrics);
    buf_deinit(&out);
}

static void expect_line(const char *line) {
    struct buf wanted = {0};
    buf_printf(&wanted, "\n%s\n", line);
    buf_clear(&out);
    buf_char(&out, '\n');
    metrics_render(metrics, &out);
    ck_assert_msg(strstr(buf_string(&out), buf_string(&wanted)) != NULL, "\"%s\" is not in:%s", line, buf_string(&out));
    buf_deinit(&wanted);
}

START_TEST(table_is_well_formed) {
    for (int i = 0; i < METRIC_COUNT; i++) {
        const struct metric_info *info = metric_info((enum metric)i);
        size_t commas = 0, length = strlen(info->name), unit = strlen(info->unit);
        for (const char *at = info->labels; *at; at++)
            commas += *at == ',';
        ck_assert_uint_lt(commas, METRIC_LABELS_MAX);
        ck_assert_msg(strncmp(info->name, "lagoon_", 7) == 0, "%s", info->name);
        ck_assert_msg(!strstr(info->name, "_total"), "%s: the suffix is added when rendering", info->name);
        ck_assert_msg(unit == 0 || (length > unit && strcmp(info->name + length - unit, info->unit) == 0),
                      "%s must end with its unit", info->name);
        ck_assert_uint_gt(strlen(info->help), 0);
        for (int j = 0; j < i; j++)
            ck_assert_str_ne(info->name, metric_info((enum metric)j)->name);
    }
}
END_TEST

START_TEST(same_labels_same_cell) {
    struct metric_cell *a = metrics_cell(metrics, METRIC_PULLS, labels);
    ck_assert_ptr_eq(a, metrics_cell(metrics, METRIC_PULLS, labels));
    ck_assert_ptr_ne(a, metrics_cell(metrics, METRIC_PULLS, other));
    ck_assert_ptr_ne(a, metrics_cell(metrics, METRIC_PUSH_PARTS, labels));
    ck_assert_ptr_nonnull(metrics_cell(metrics, METRIC_TRAINERS, NULL));
}
END_TEST

START_TEST(null_is_accepted_everywhere) {
    struct metric_summary summary;
    metric_add(NULL, 1);
    metric_add_seconds(NULL, 1);
    metric_set(NULL, 1);
    metric_move(NULL, 1);
    metric_observe(NULL, 1);
    ck_assert_ptr_null(metrics_cell(NULL, METRIC_PULLS, labels));
    metrics_summary(NULL, METRIC_STALENESS, NULL, &summary);
    ck_assert_uint_eq(summary.count, 0);
    ck_assert_uint_eq(metrics_remove(NULL, NULL), 0);
    metrics_render(NULL, &out);
    ck_assert_str_eq(buf_string(&out), "# EOF\n");
    metrics_free(NULL);
}
END_TEST

START_TEST(renders_counters_and_gauges) {
    metric_add(metrics_cell(metrics, METRIC_PUSH_BYTES, labels), 4096);
    metric_add_seconds(metrics_cell(metrics, METRIC_WORKER_COMPUTE_SECONDS, labels), 1.5);
    metric_set(metrics_cell(metrics, METRIC_TRAINERS, NULL), 5);
    metric_move(metrics_cell(metrics, METRIC_TRAINERS, NULL), -7);
    expect_line("# TYPE lagoon_push_bytes counter");
    expect_line("# UNIT lagoon_push_bytes bytes");
    expect_line("lagoon_push_bytes_total{job=\"mnist\",shard=\"0\"} 4096");
    expect_line("lagoon_worker_compute_seconds_total{job=\"mnist\",trainer=\"0\"} 1.5");
    expect_line("# TYPE lagoon_trainers gauge");
    expect_line("lagoon_trainers -2");
    size_t size = out.size;
    ck_assert_str_eq(out.data + size - 6, "# EOF\n");
    ck_assert_ptr_null(strstr(buf_string(&out), "lagoon_pulls")); /* families without instances are left out */
}
END_TEST

START_TEST(escapes_and_cuts_label_values) {
    char longest[400];
    memset(longest, 'x', sizeof longest);
    longest[399] = '\0';
    metric_add(metrics_cell(metrics, METRIC_PULLS, (const char *const[]){"a\"b\\c\nd", "0"}), 1);
    expect_line("lagoon_pulls_total{job=\"a\\\"b\\\\c\\nd\",shard=\"0\"} 1");
    struct metric_cell *cell = metrics_cell(metrics, METRIC_PULLS, (const char *const[]){longest, "0"});
    ck_assert_ptr_eq(cell, metrics_cell(metrics, METRIC_PULLS, (const char *const[]){longest, "0"}));
}
END_TEST

START_TEST(renders_histograms) {
    struct metric_cell *cell = metrics_cell(metrics, METRIC_STALENESS, labels);
    metric_observe(cell, 0);
    metric_observe(cell, 1);
    metric_observe(cell, 5);
    metric_observe(cell, 5000);
    metric_observe(cell, (double)NAN);
    expect_line("# TYPE lagoon_staleness histogram");
    expect_line("lagoon_staleness_bucket{job=\"mnist\",shard=\"0\",le=\"0.0\"} 1");
    expect_line("lagoon_staleness_bucket{job=\"mnist\",shard=\"0\",le=\"4.0\"} 2");
    expect_line("lagoon_staleness_bucket{job=\"mnist\",shard=\"0\",le=\"6.0\"} 3");
    expect_line("lagoon_staleness_bucket{job=\"mnist\",shard=\"0\",le=\"1024.0\"} 3");
    expect_line("lagoon_staleness_bucket{job=\"mnist\",shard=\"0\",le=\"+Inf\"} 4");
    expect_line("lagoon_staleness_count{job=\"mnist\",shard=\"0\"} 4");
    expect_line("lagoon_staleness_sum{job=\"mnist\",shard=\"0\"} 5006");
}
END_TEST

START_TEST(summaries_are_exact_where_they_say_so) {
    struct metric_summary summary;
    struct metric_cell *a = metrics_cell(metrics, METRIC_STALENESS, labels);
    struct metric_cell *b = metrics_cell(metrics, METRIC_STALENESS, other);
    for (int i = 0; i < 98; i++)
        metric_observe(a, 2);
    metric_observe(b, 70);
    metric_observe(b, 700);
    metrics_summary(metrics, METRIC_STALENESS, NULL, &summary);
    ck_assert_uint_eq(summary.count, 100);
    ck_assert_double_eq_tol(summary.mean, (98 * 2 + 770) / 100.0, 1e-12);
    ck_assert_double_eq(summary.max, 700);
    ck_assert_double_eq(summary.p50, 2); /* a bucket of one value is exact */
    ck_assert_double_ge(summary.p99, 65);
    ck_assert_double_le(summary.p99, 96);
    metrics_summary(metrics, METRIC_STALENESS, (const char *const[]){"job", "mnist", NULL}, &summary);
    ck_assert_uint_eq(summary.count, 98);
    ck_assert_double_eq(summary.p99, 2);
    metrics_summary(metrics, METRIC_STALENESS, (const char *const[]){"job", "none", NULL}, &summary);
    ck_assert_uint_eq(summary.count, 0);
    ck_assert_double_eq(summary.p99, 0);
}
END_TEST

START_TEST(quantiles_never_pass_the_maximum) {
    struct metric_summary summary;
    struct metric_cell *cell = metrics_cell(metrics, METRIC_APPLY_SECONDS, labels);
    for (int i = 0; i < 1000; i++)
        metric_observe(cell, 0.0004);
    metrics_summary(metrics, METRIC_APPLY_SECONDS, NULL, &summary);
    ck_assert_double_eq(summary.max, 0.0004);
    ck_assert_double_le(summary.p99, 0.0004);
    ck_assert_double_gt(summary.p50, 0.0003);
    metric_observe(cell, 1e6); /* beyond the last bound */
    metrics_summary(metrics, METRIC_APPLY_SECONDS, NULL, &summary);
    ck_assert_double_eq(summary.max, 1e6);
}
END_TEST

START_TEST(removes_by_label) {
    metric_add(metrics_cell(metrics, METRIC_PULLS, labels), 3);
    metric_add(metrics_cell(metrics, METRIC_PULLS, other), 4);
    metric_observe(metrics_cell(metrics, METRIC_STALENESS, labels), 1);
    metric_set(metrics_cell(metrics, METRIC_SESSIONS, (const char *const[]){"0"}), 1);
    ck_assert_double_eq(metrics_total(metrics, METRIC_PULLS, NULL), 7);
    ck_assert_uint_eq(metrics_remove(metrics, (const char *const[]){"job", "mnist", "shard", "1", NULL}), 0);
    ck_assert_uint_eq(metrics_remove(metrics, (const char *const[]){"job", "mnist", NULL}), 2);
    ck_assert_double_eq(metrics_total(metrics, METRIC_PULLS, NULL), 4);
    ck_assert_double_eq(metrics_total(metrics, METRIC_SESSIONS, (const char *const[]){"shard", "0", NULL}), 1);
    ck_assert_double_eq(metric_value(metrics_cell(metrics, METRIC_PULLS, labels)), 0); /* starts anew */
}
END_TEST

START_TEST(renders_json) {
    metrics_render_json(metrics, &out);
    ck_assert_str_eq(buf_string(&out), "{}");
    buf_clear(&out);
    metric_add(metrics_cell(metrics, METRIC_PULLS, labels), 3);
    metric_add(metrics_cell(metrics, METRIC_PULLS, other), 4);
    metric_observe(metrics_cell(metrics, METRIC_WEIGHT, labels), 0.5);
    metrics_render_json(metrics, &out);
    ck_assert_ptr_nonnull(strstr(buf_string(&out),
                                 "\"lagoon_pulls\":[{\"labels\":{\"job\":\"mnist\",\"shard\":\"0\"},\"value\":3},"
                                 "{\"labels\":{\"job\":\"text\",\"shard\":\"1\"},\"value\":4}],"));
    ck_assert_ptr_nonnull(strstr(buf_string(&out), "\"count\":1,\"sum\":0.5,\"mean\":0.5,\"p50\":"));
}
END_TEST

enum { THREADS = 4, ROUNDS = 20000 };

static void *update(void *arg) {
    for (int i = 0; i < ROUNDS; i++) {
        metric_add(metrics_cell(metrics, METRIC_PULLS, labels), 1);
        metric_observe(arg, 3);
    }
    return NULL;
}

START_TEST(threads_lose_nothing) {
    pthread_t threads[THREADS];
    struct metric_summary summary;
    struct metric_cell *cell = metrics_cell(metrics, METRIC_STALENESS, labels);
    for (int i = 0; i < THREADS; i++)
        ck_assert_int_eq(pthread_create(&threads[i], NULL, update, cell), 0);
    for (int i = 0; i < 10; i++) { /* readers do not disturb */
        buf_clear(&out);
        metrics_render(metrics, &out);
    }
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    ck_assert_double_eq(metrics_total(metrics, METRIC_PULLS, NULL), THREADS * ROUNDS);
    metrics_summary(metrics, METRIC_STALENESS, NULL, &summary);
    ck_assert_double_eq(summary.sum, 3.0 * THREADS * ROUNDS);
    ck_assert_uint_eq(summary.count, THREADS * ROUNDS);
}
END_TEST

START_TEST(markdown_lists_every_metric) {
    char *text = NULL;
    size_t bytes = 0;
    FILE *file = open_memstream(&text, &bytes);
    metrics_print_markdown(file);
    fclose(file);
    for (int i = 0; i < METRIC_COUNT; i++)
        ck_assert_ptr_nonnull(strstr(text, metric_info((enum metric)i)->name));
    ck_assert_ptr_nonnull(strstr(text, "`lagoon_pulls_total` | counter"));
    free(text);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("metrics");
    TCase *tests = tcase_create("metrics");
    tcase_set_timeout(tests, 30);
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, table_is_well_formed);
    tcase_add_test(tests, same_labels_same_cell);
    tcase_add_test(tests, null_is_accepted_everywhere);
    tcase_add_test(tests, renders_counters_and_gauges);
    tcase_add_test(tests, escapes_and_cuts_label_values);
    tcase_add_test(tests, renders_histograms);
    tcase_add_test(tests, summaries_are_exact_where_they_say_so);
    tcase_add_test(tests, quantiles_never_pass_the_maximum);
    tcase_add_test(tests, removes_by_label);
    tcase_add_test(tests, renders_json);
    tcase_add_test(tests, threads_lose_nothing);
    tcase_add_test(tests, markdown_lists_every_metric);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
