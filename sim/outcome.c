#include "sim/outcome.h"

#include <math.h>
#include <string.h>

enum { EXACT = 64 };

static json_t *number(double value) {
    return isfinite(value) ? json_real(value) : json_null();
}

static json_t *integer(uint64_t value) {
    return json_integer((json_int_t)value);
}

/* [first, last, pushes]: one for each staleness below 64, then four for each doubling. */
static json_t *staleness_bins(const struct spread *spread) {
    json_t *bins = json_array();
    for (uint64_t first = 0; first <= spread->staleness_max && first < spread->capacity;) {
        uint64_t width = 1, count = 0;
        while (first >= EXACT && width * 8 <= first)
            width *= 2;
        for (uint64_t i = first; i < first + width && i < spread->capacity; i++)
            count += spread->counts[i];
        if (count > 0)
            json_array_append_new(bins,
                                  json_pack("[o,o,o]", integer(first), integer(first + width - 1), integer(count)));
        first += width;
    }
    return bins;
}

static json_t *weight_bins(const struct spread *spread) {
    json_t *bins = json_array();
    for (size_t i = 0; i < SPREAD_WEIGHT_BINS; i++)
        json_array_append_new(bins, integer(spread->weight_bins[i]));
    return bins;
}

static json_t *curve(const struct sim_outcome *outcome) {
    json_t *points = json_array();
    for (size_t i = 0; i < outcome->curve_count; i++) {
        const struct sim_point *point = &outcome->curve[i];
        json_array_append_new(points, json_pack("[o,o,o,o,o]", integer(point->samples), integer(point->updates),
                                                number(point->time_s), number(point->loss), number(point->accuracy)));
    }
    return points;
}

static json_t *shards(const struct sim_outcome *outcome) {
    json_t *list = json_array();
    for (uint32_t i = 0; i < outcome->shard_count; i++) {
        const struct wire_shard_job_stats *stats = &outcome->shards[i];
        json_array_append_new(list, json_pack("{s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "shard",
                                              integer(stats->shard), "pushes", integer(stats->pushes), "samples",
                                              integer(stats->samples), "samples_dropped", integer(stats->dropped),
                                              "staleness_mean", number(stats->staleness_mean), "staleness_p99",
                                              integer(stats->staleness_p99), "staleness_max",
                                              integer(stats->staleness_max), "weight_mean", number(stats->weight_mean),
                                              "memory_bytes", integer(stats->parameter_bytes + stats->state_bytes)));
    }
    return list;
}

/* Best over the evaluations; NaN without any. */
static double best(const struct sim_outcome *outcome, bool accuracy) {
    double found = NAN;
    for (size_t i = 0; i < outcome->curve_count; i++) {
        double value = accuracy ? outcome->curve[i].accuracy : outcome->curve[i].loss;
        found = accuracy ? fmax(found, value) : fmin(found, value);
    }
    return found;
}

static const struct sim_point *last(const struct sim_outcome *outcome) {
    static const struct sim_point none = {.loss = NAN, .accuracy = NAN};
    return outcome->curve_count > 0 ? &outcome->curve[outcome->curve_count - 1] : &none;
}

json_t *outcome_document(const struct sim_outcome *o, uint64_t seed, enum lg_status status,
                         const struct lg_error *error) {
    const struct spread *spread = &o->spread;
    json_t *staleness = json_pack("{s:o, s:o, s:o, s:o, s:o}", "mean", number(spread_staleness_mean(spread)), "p50",
                                  integer(spread_quantile(spread, 0.5)), "p99", integer(spread_quantile(spread, 0.99)),
                                  "max", integer(spread->staleness_max), "histogram", staleness_bins(spread));
    json_t *weight = json_pack("{s:o, s:o, s:o, s:o}", "mean", number(spread_weight_mean(spread)), "least",
                               number(spread->weight_least), "samples", number(spread->weighted_samples), "histogram",
                               weight_bins(spread));
    return json_pack(
        "{s:o, s:s, s:s, s:s, s:b, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, "
        "s:o, s:o, s:o}",
        "seed", integer(seed), "status", lg_status_name(status), "error", status == LG_OK ? "" : error->message, "end",
        o->end, "diverged", o->diverged, "loss", number(last(o)->loss), "accuracy", number(last(o)->accuracy),
        "best_loss", number(best(o, false)), "best_accuracy", number(best(o, true)), "samples", integer(o->samples),
        "updates", integer(o->updates), "pushes", integer(spread->pushes), "pushes_dropped", integer(o->dropped),
        "losses", integer(o->losses), "joins", integer(o->joins), "time_s", number(o->time_s), "updates_per_s",
        number(o->time_s > 0 ? (double)o->updates / o->time_s : NAN), "target_s", number(o->target_s), "target_samples",
        number(o->target_samples), "learning_rate", number(o->learning_rate), "mean_weight_before",
        number(o->mean_weight_before), "staleness", staleness, "weight", weight, "detail",
        json_pack("{s:o, s:o, s:o, s:o}", "shards", shards(o), "curve", curve(o), "events", integer(o->events),
                  "wall_s", number(o->wall_s)));
}

double outcome_number(const json_t *document, const char *path) {
    char key[64];
    while (document && *path) {
        size_t length = strcspn(path, ".");
        if (length >= sizeof key)
            return NAN;
        memcpy(key, path, length);
        key[length] = '\0';
        document = json_object_get(document, key);
        path += length + (path[length] == '.');
    }
    return json_is_number(document) ? json_number_value(document) : NAN;
}
