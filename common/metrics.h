/* Metrics: what common/metrics.def declares, counted by any thread, rendered as OpenMetrics text.
 *
 * A metric family has one instance ("cell") per combination of label values. Getting a cell takes a mutex, so holders
 * keep the pointer; updating one is a relaxed atomic operation on it, from any thread. Every update accepts a NULL cell
 * and then does nothing, so code that runs without metrics (simulator, tests) needs no branches. */
#ifndef LAGOON_COMMON_METRICS_H
#define LAGOON_COMMON_METRICS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "common/buf.h"

enum metric {
#define X(symbol, type, name, unit, labels, help) METRIC_##symbol,
#include "common/metrics.def"
#undef X
    METRIC_COUNT
};

enum metric_type {
    METRIC_TYPE_COUNTER,             /* u64, or nanoseconds where the unit is seconds */
    METRIC_TYPE_GAUGE,               /* i64 */
    METRIC_TYPE_HISTOGRAM_SECONDS,   /* 1 us .. 10 s */
    METRIC_TYPE_HISTOGRAM_STALENESS, /* 0, 1, 2, 3, 4, 6, 8, 12 .. 1024 */
    METRIC_TYPE_HISTOGRAM_WEIGHT,    /* 0, 0.05, 0.1 .. 1 */
};

enum { METRIC_LABELS_MAX = 4, METRIC_BUCKETS_MAX = 24, METRIC_LABEL_BYTES = 128 };

struct metric_info {
    const char *name, *unit, *labels, *help; /* labels: comma-joined names */
    enum metric_type type;
};
const struct metric_info *metric_info(enum metric metric);

struct metrics;
struct metric_cell;

struct metrics *metrics_new(void); /* NULL when there is no memory; every call below accepts NULL */
void metrics_free(struct metrics *metrics);

/* The cell of `metric` with these label values (as many as the metric has labels, in its order; NULL for a metric
 * without labels), made on first use. Values are cut at METRIC_LABEL_BYTES - 1. NULL when there is no memory. */
struct metric_cell *metrics_cell(struct metrics *metrics, enum metric metric, const char *const *label_values);
/* Frees every cell whose labels match all `pairs` ({"job", "mnist", "shard", "0", NULL}). Nobody may still hold or
 * update such a cell: the last holder calls this, or the owner after its threads have let go. Returns how many went. */
size_t metrics_remove(struct metrics *metrics, const char *const *pairs);

void metric_add(struct metric_cell *cell, uint64_t amount);        /* counters */
void metric_add_seconds(struct metric_cell *cell, double seconds); /* counters whose unit is seconds */
void metric_set(struct metric_cell *cell, int64_t value);          /* gauges */
void metric_move(struct metric_cell *cell, int64_t change);        /* gauges */
void metric_observe(struct metric_cell *cell, double value);       /* histograms; NaN is ignored */

/* The value of a counter (seconds as seconds) or gauge, or a histogram's count. */
double metric_value(const struct metric_cell *cell);

struct metric_summary {
    uint64_t count;
    double sum, mean, max; /* exact */
    double p50, p99;       /* from the buckets, linear within one, never above max */
};
/* Over all instances of a histogram that match `pairs` (NULL: all of them). */
void metrics_summary(struct metrics *metrics, enum metric metric, const char *const *pairs,
                     struct metric_summary *summary);
/* The sum of metric_value over all instances that match `pairs`. */
double metrics_total(struct metrics *metrics, enum metric metric, const char *const *pairs);

/* The OpenMetrics text exposition of everything, "# EOF" included. */
void metrics_render(struct metrics *metrics, struct buf *out);
/* The same as one JSON object: {"lagoon_pulls": [{"labels": {..}, "value": 3}, ..], ..}; histograms give count, sum,
 * mean, p50, p99, max. */
void metrics_render_json(struct metrics *metrics, struct buf *out);
#define METRICS_CONTENT_TYPE "application/openmetrics-text; version=1.0.0; charset=utf-8"

/* A Markdown table of all families for docs/metrics.md. */
void metrics_print_markdown(FILE *out);

#endif
