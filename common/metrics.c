#include "common/metrics.h"

#include <assert.h>
#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

/* The short type names of metrics.def. */
#define TYPE_COUNTER METRIC_TYPE_COUNTER
#define TYPE_GAUGE METRIC_TYPE_GAUGE
#define TYPE_HISTOGRAM_SECONDS METRIC_TYPE_HISTOGRAM_SECONDS
#define TYPE_HISTOGRAM_STALENESS METRIC_TYPE_HISTOGRAM_STALENESS
#define TYPE_HISTOGRAM_WEIGHT METRIC_TYPE_HISTOGRAM_WEIGHT

static const struct metric_info infos[METRIC_COUNT] = {
#define X(symbol, type_, name_, unit_, labels_, help_)                                                                 \
    [METRIC_##symbol] = {.name = name_, .unit = unit_, .labels = labels_, .help = help_, .type = TYPE_##type_},
#include "common/metrics.def"
#undef X
};

const struct metric_info *metric_info(enum metric metric) {
    return &infos[metric];
}

/* ---- buckets: upper bounds, inclusive; one more bucket takes the rest */

static const double second_bounds[] = {1e-6, 3e-6, 1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 0.1, 0.3, 1, 3, 10};
static const double staleness_bounds[] = {0, 1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 256, 512, 1024};
static const double weight_bounds[] = {0,    0.05, 0.1,  0.15, 0.2,  0.25, 0.3,  0.35, 0.4,  0.45, 0.5,
                                       0.55, 0.6,  0.65, 0.7,  0.75, 0.8,  0.85, 0.9,  0.95, 1};

static const double *bucket_bounds(enum metric_type type, size_t *count) {
    switch (type) {
    case METRIC_TYPE_HISTOGRAM_SECONDS:
        *count = sizeof second_bounds / sizeof second_bounds[0];
        return second_bounds;
    case METRIC_TYPE_HISTOGRAM_STALENESS:
        *count = sizeof staleness_bounds / sizeof staleness_bounds[0];
        return staleness_bounds;
    case METRIC_TYPE_HISTOGRAM_WEIGHT:
        *count = sizeof weight_bounds / sizeof weight_bounds[0];
        return weight_bounds;
    case METRIC_TYPE_COUNTER:
    case METRIC_TYPE_GAUGE:
        break;
    }
    *count = 0;
    return NULL;
}

_Static_assert(sizeof weight_bounds / sizeof weight_bounds[0] < METRIC_BUCKETS_MAX, "a bucket for the rest");
_Static_assert(sizeof staleness_bounds / sizeof staleness_bounds[0] < METRIC_BUCKETS_MAX, "a bucket for the rest");
_Static_assert(sizeof second_bounds / sizeof second_bounds[0] < METRIC_BUCKETS_MAX, "a bucket for the rest");

static bool is_histogram(enum metric_type type) {
    return type != METRIC_TYPE_COUNTER && type != METRIC_TYPE_GAUGE;
}

static bool in_seconds(const struct metric_info *info) {
    return strcmp(info->unit, "seconds") == 0;
}

/* ---- cells */

struct metric_cell {
    const struct metric_info *info;
    struct metric_cell *next;
    char labels[METRIC_LABELS_MAX][METRIC_LABEL_BYTES]; /* values */
    _Atomic uint64_t value;                             /* counter, nanoseconds, or a gauge's i64 */
    _Atomic uint64_t sum, max;                          /* histograms: bits of doubles */
    _Atomic uint64_t buckets[METRIC_BUCKETS_MAX];
};

struct metrics {
    pthread_mutex_t mutex; /* guards the lists, not the values */
    struct metric_cell *cells[METRIC_COUNT];
};

struct metrics *metrics_new(void) {
    struct metrics *metrics = calloc(1, sizeof *metrics);
    if (metrics)
        pthread_mutex_init(&metrics->mutex, NULL);
    return metrics;
}

void metrics_free(struct metrics *metrics) {
    if (!metrics)
        return;
    for (size_t i = 0; i < METRIC_COUNT; i++) {
        while (metrics->cells[i]) {
            struct metric_cell *cell = metrics->cells[i];
            metrics->cells[i] = cell->next;
            free(cell);
        }
    }
    pthread_mutex_destroy(&metrics->mutex);
    free(metrics);
}

/* How many names "job,shard" has. */
static size_t label_count(const char *names) {
    size_t count = *names != '\0';
    for (; *names; names++)
        count += *names == ',';
    return count;
}

/* The name at `index` in "job,shard". */
static const char *label_name(const char *names, size_t index, size_t *length) {
    while (index > 0) {
        names += strcspn(names, ",") + 1;
        index--;
    }
    *length = strcspn(names, ",");
    return names;
}

static void copy_label(char to[METRIC_LABEL_BYTES], const char *from) {
    size_t length = strnlen(from, METRIC_LABEL_BYTES - 1);
    memcpy(to, from, length);
    to[length] = '\0';
}

struct metric_cell *metrics_cell(struct metrics *metrics, enum metric metric, const char *const *label_values) {
    char labels[METRIC_LABELS_MAX][METRIC_LABEL_BYTES] = {{0}};
    if (!metrics)
        return NULL;
    size_t count = label_count(infos[metric].labels);
    assert(count <= METRIC_LABELS_MAX && (count == 0 || label_values));
    for (size_t i = 0; i < count; i++)
        copy_label(labels[i], label_values[i]);
    pthread_mutex_lock(&metrics->mutex);
    struct metric_cell **slot = &metrics->cells[metric];
    while (*slot && memcmp((*slot)->labels, labels, sizeof labels) != 0)
        slot = &(*slot)->next;
    if (!*slot && (*slot = calloc(1, sizeof **slot))) {
        (*slot)->info = &infos[metric];
        memcpy((*slot)->labels, labels, sizeof labels);
    }
    struct metric_cell *cell = *slot;
    pthread_mutex_unlock(&metrics->mutex);
    return cell;
}

/* Whether all `pairs` (name, value, .., NULL) are among the cell's labels. */
static bool matches(const struct metric_cell *cell, const char *const *pairs) {
    size_t count = label_count(cell->info->labels);
    for (; pairs && *pairs; pairs += 2) {
        bool found = false;
        for (size_t i = 0; i < count && !found; i++) {
            size_t length;
            const char *name = label_name(cell->info->labels, i, &length);
            found = strlen(pairs[0]) == length && memcmp(name, pairs[0], length) == 0 &&
                    strncmp(cell->labels[i], pairs[1], METRIC_LABEL_BYTES - 1) == 0;
        }
        if (!found)
            return false;
    }
    return true;
}

size_t metrics_remove(struct metrics *metrics, const char *const *pairs) {
    size_t removed = 0;
    if (!metrics)
        return 0;
    pthread_mutex_lock(&metrics->mutex);
    for (size_t i = 0; i < METRIC_COUNT; i++) {
        for (struct metric_cell **slot = &metrics->cells[i]; *slot;) {
            struct metric_cell *cell = *slot;
            if (!matches(cell, pairs)) {
                slot = &cell->next;
                continue;
            }
            *slot = cell->next;
            free(cell);
            removed++;
        }
    }
    pthread_mutex_unlock(&metrics->mutex);
    return removed;
}

/* ---- updates */

static double as_double(uint64_t bits) {
    double value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static uint64_t as_bits(double value) {
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

void metric_add(struct metric_cell *cell, uint64_t amount) {
    if (cell)
        atomic_fetch_add_explicit(&cell->value, amount, memory_order_relaxed);
}

void metric_add_seconds(struct metric_cell *cell, double seconds) {
    if (cell && seconds > 0 && seconds < 1e9)
        atomic_fetch_add_explicit(&cell->value, (uint64_t)(seconds * 1e9), memory_order_relaxed);
}

void metric_set(struct metric_cell *cell, int64_t value) {
    if (cell)
        atomic_store_explicit(&cell->value, (uint64_t)value, memory_order_relaxed);
}

void metric_move(struct metric_cell *cell, int64_t change) {
    if (cell)
        atomic_fetch_add_explicit(&cell->value, (uint64_t)change, memory_order_relaxed);
}

void metric_observe(struct metric_cell *cell, double value) {
    size_t count, at = 0;
    if (!cell || isnan(value))
        return;
    const double *bounds = bucket_bounds(cell->info->type, &count);
    while (at < count && value > bounds[at])
        at++;
    uint64_t sum = atomic_load_explicit(&cell->sum, memory_order_relaxed);
    while (!atomic_compare_exchange_weak_explicit(&cell->sum, &sum, as_bits(as_double(sum) + value),
                                                  memory_order_relaxed, memory_order_relaxed))
        continue;
    uint64_t max = atomic_load_explicit(&cell->max, memory_order_relaxed); /* starts at 0: nothing here is below */
    while (value > as_double(max) && !atomic_compare_exchange_weak_explicit(&cell->max, &max, as_bits(value),
                                                                            memory_order_relaxed, memory_order_relaxed))
        continue;
    atomic_fetch_add_explicit(&cell->buckets[at], 1, memory_order_relaxed);
}

/* ---- reading */

double metric_value(const struct metric_cell *cell) {
    if (!cell)
        return 0;
    uint64_t value = atomic_load_explicit(&cell->value, memory_order_relaxed);
    if (cell->info->type == METRIC_TYPE_GAUGE)
        return (double)(int64_t)value;
    if (cell->info->type == METRIC_TYPE_COUNTER)
        return in_seconds(cell->info) ? (double)value * 1e-9 : (double)value;
    uint64_t count = 0;
    for (size_t i = 0; i < METRIC_BUCKETS_MAX; i++)
        count += atomic_load_explicit(&cell->buckets[i], memory_order_relaxed);
    return (double)count;
}

double metrics_total(struct metrics *metrics, enum metric metric, const char *const *pairs) {
    double total = 0;
    if (!metrics)
        return 0;
    pthread_mutex_lock(&metrics->mutex);
    for (struct metric_cell *cell = metrics->cells[metric]; cell; cell = cell->next) {
        if (matches(cell, pairs))
            total += metric_value(cell);
    }
    pthread_mutex_unlock(&metrics->mutex);
    return total;
}

/* The value below which the fraction `q` of `counts` lies: linear within its bucket. Staleness is whole, so its
 * buckets begin one above the bound before, which makes the narrow ones exact. */
static double quantile(enum metric_type type, const uint64_t counts[METRIC_BUCKETS_MAX], uint64_t total, double max,
                       double q) {
    size_t bounds_count;
    const double *bounds = bucket_bounds(type, &bounds_count);
    double rank = q * (double)total, below = 0;
    for (size_t i = 0; i <= bounds_count; i++) {
        double here = (double)counts[i];
        if (here > 0 && below + here >= rank) {
            double step = type == METRIC_TYPE_HISTOGRAM_STALENESS ? 1 : 0;
            double low = i > 0 ? bounds[i - 1] + step : 0;
            double high = i < bounds_count ? bounds[i] : max;
            double estimate = low + (high - low) * (rank - below) / here;
            estimate = estimate > max ? max : estimate;
            return estimate;
        }
        below += here;
    }
    return max;
}

static void summarise(enum metric_type type, const uint64_t counts[METRIC_BUCKETS_MAX],
                      struct metric_summary *summary) {
    summary->count = 0;
    for (size_t i = 0; i < METRIC_BUCKETS_MAX; i++)
        summary->count += counts[i];
    if (summary->count == 0)
        return;
    summary->mean = summary->sum / (double)summary->count;
    summary->p50 = quantile(type, counts, summary->count, summary->max, 0.50);
    summary->p99 = quantile(type, counts, summary->count, summary->max, 0.99);
}

static void gather(const struct metric_cell *cell, uint64_t counts[METRIC_BUCKETS_MAX],
                   struct metric_summary *summary) {
    double max = as_double(atomic_load_explicit(&cell->max, memory_order_relaxed));
    summary->max = max > summary->max ? max : summary->max;
    summary->sum += as_double(atomic_load_explicit(&cell->sum, memory_order_relaxed));
    for (size_t i = 0; i < METRIC_BUCKETS_MAX; i++)
        counts[i] += atomic_load_explicit(&cell->buckets[i], memory_order_relaxed);
}

void metrics_summary(struct metrics *metrics, enum metric metric, const char *const *pairs,
                     struct metric_summary *summary) {
    uint64_t counts[METRIC_BUCKETS_MAX] = {0};
    *summary = (struct metric_summary){0};
    if (!metrics)
        return;
    pthread_mutex_lock(&metrics->mutex);
    for (struct metric_cell *cell = metrics->cells[metric]; cell; cell = cell->next) {
        if (matches(cell, pairs))
            gather(cell, counts, summary);
    }
    pthread_mutex_unlock(&metrics->mutex);
    summarise(infos[metric].type, counts, summary);
}

/* ---- rendering */

/* Label values and help texts escape backslash, quote and newline. */
static void render_escaped(struct buf *out, const char *text) {
    for (; *text; text++) {
        if (*text == '\n')
            buf_text(out, "\\n");
        else if (*text == '"' || *text == '\\')
            buf_printf(out, "\\%c", *text);
        else
            buf_char(out, *text);
    }
}

/* {job="a",shard="0",le="1.0"}, or nothing when there is neither a label nor an `le`. */
static void render_labels(struct buf *out, const struct metric_cell *cell, const char *le) {
    size_t count = label_count(cell->info->labels);
    if (count == 0 && !le)
        return;
    buf_char(out, '{');
    for (size_t i = 0; i < count; i++) {
        size_t length;
        const char *name = label_name(cell->info->labels, i, &length);
        buf_printf(out, "%s%.*s=\"", i ? "," : "", (int)length, name);
        render_escaped(out, cell->labels[i]);
        buf_char(out, '"');
    }
    if (le)
        buf_printf(out, "%sle=\"%s\"", count ? "," : "", le);
    buf_char(out, '}');
}

static void render_sample(struct buf *out, const struct metric_cell *cell, const char *suffix, const char *le,
                          double value) {
    buf_printf(out, "%s%s", cell->info->name, suffix);
    render_labels(out, cell, le);
    buf_char(out, ' ');
    buf_json_number(out, value);
    buf_char(out, '\n');
}

static void render_histogram(struct buf *out, const struct metric_cell *cell) {
    uint64_t counts[METRIC_BUCKETS_MAX] = {0}, below = 0;
    struct metric_summary summary = {0};
    size_t bounds_count;
    const double *bounds = bucket_bounds(cell->info->type, &bounds_count);
    gather(cell, counts, &summary);
    for (size_t i = 0; i <= bounds_count; i++) {
        char le[32] = "+Inf";
        if (i < bounds_count) /* OpenMetrics wants numbers here to look like floats */
            snprintf(le, sizeof le, bounds[i] == floor(bounds[i]) ? "%.1f" : "%g", bounds[i]);
        below += counts[i];
        render_sample(out, cell, "_bucket", le, (double)below);
    }
    render_sample(out, cell, "_count", NULL, (double)below);
    render_sample(out, cell, "_sum", NULL, summary.sum);
}

static const char *type_name(enum metric_type type) {
    return type == METRIC_TYPE_COUNTER ? "counter" : type == METRIC_TYPE_GAUGE ? "gauge" : "histogram";
}

static void render_family(struct buf *out, const struct metric_info *info, const struct metric_cell *cells) {
    buf_printf(out, "# TYPE %s %s\n", info->name, type_name(info->type));
    if (info->unit[0])
        buf_printf(out, "# UNIT %s %s\n", info->name, info->unit);
    buf_printf(out, "# HELP %s ", info->name);
    render_escaped(out, info->help);
    buf_char(out, '\n');
    for (const struct metric_cell *cell = cells; cell; cell = cell->next) {
        if (is_histogram(info->type))
            render_histogram(out, cell);
        else
            render_sample(out, cell, info->type == METRIC_TYPE_COUNTER ? "_total" : "", NULL, metric_value(cell));
    }
}

void metrics_render(struct metrics *metrics, struct buf *out) {
    if (metrics) {
        pthread_mutex_lock(&metrics->mutex);
        for (size_t i = 0; i < METRIC_COUNT; i++) {
            if (metrics->cells[i])
                render_family(out, &infos[i], metrics->cells[i]);
        }
        pthread_mutex_unlock(&metrics->mutex);
    }
    buf_text(out, "# EOF\n");
}

static void render_json_field(struct buf *out, const char *name, double value) {
    buf_printf(out, ",\"%s\":", name);
    buf_json_number(out, value);
}

static void render_json_cell(struct buf *out, const struct metric_cell *cell) {
    size_t count = label_count(cell->info->labels);
    buf_text(out, "{\"labels\":{");
    for (size_t i = 0; i < count; i++) {
        size_t length;
        const char *name = label_name(cell->info->labels, i, &length);
        buf_printf(out, "%s\"%.*s\":", i ? "," : "", (int)length, name);
        buf_json_text(out, cell->labels[i]);
    }
    buf_char(out, '}');
    if (is_histogram(cell->info->type)) {
        uint64_t counts[METRIC_BUCKETS_MAX] = {0};
        struct metric_summary summary = {0};
        gather(cell, counts, &summary);
        summarise(cell->info->type, counts, &summary);
        render_json_field(out, "count", (double)summary.count);
        render_json_field(out, "sum", summary.sum);
        render_json_field(out, "mean", summary.mean);
        render_json_field(out, "p50", summary.p50);
        render_json_field(out, "p99", summary.p99);
        render_json_field(out, "max", summary.max);
    } else {
        render_json_field(out, "value", metric_value(cell));
    }
    buf_char(out, '}');
}

void metrics_render_json(struct metrics *metrics, struct buf *out) {
    bool first = true;
    buf_char(out, '{');
    if (metrics)
        pthread_mutex_lock(&metrics->mutex);
    for (size_t i = 0; metrics && i < METRIC_COUNT; i++) {
        const struct metric_cell *cell = metrics->cells[i];
        if (!cell)
            continue;
        buf_printf(out, "%s\"%s\":[", first ? "" : ",", infos[i].name);
        first = false;
        for (; cell; cell = cell->next) {
            render_json_cell(out, cell);
            if (cell->next)
                buf_char(out, ',');
        }
        buf_char(out, ']');
    }
    if (metrics)
        pthread_mutex_unlock(&metrics->mutex);
    buf_char(out, '}');
}

void metrics_print_markdown(FILE *out) {
    fprintf(out, "| metric | type | unit | labels | meaning |\n|---|---|---|---|---|\n");
    for (size_t i = 0; i < METRIC_COUNT; i++) {
        const struct metric_info *info = &infos[i];
        fprintf(out, "| `%s%s` | %s | %s | %s | %s |\n", info->name, info->type == METRIC_TYPE_COUNTER ? "_total" : "",
                type_name(info->type), info->unit, info->labels, info->help);
    }
}
