/* The ratios that have bars. Figures of one ratio are of one group, so that each round gives a ratio of its own. */
#include <stdio.h>
#include <string.h>

#include "bench/bench.h"
#include "common/units.h"

/* SIZE in a figure's name stands for the tensor's size, 64MiB unless the run was told otherwise. A bar of 0: none, the
 * ratio is there to explain the others. */
static const struct {
    const char *name, *above, *below;
    bool at_most;
    double bar;
} bars[] = {
    {"shm.push.64MiB over memcpy", "shm.push.SIZE", "limit.memcpy.SIZE", false, 0.75},
    {"shm.pushpull.64MiB over memcpy", "shm.pushpull.SIZE", "limit.memcpy.SIZE", false, 0.4},
    {"shm.pushpull.64MiB over memcpy, 2 workers", "shm.pushpull.SIZE.2workers", "limit.memcpy.SIZE", false, 0.35},
    {"shm.pushpull.64MiB over tcp.pushpull.64MiB", "shm.pushpull.SIZE", "tcp.pushpull.SIZE", false, 1.5},
    {"tcp.push.64MiB over the bare ZeroMQ loop", "tcp.push.SIZE", "limit.zmq.push.SIZE", false, 0.85},
    {"tcp.pushpull.64MiB over the bare ZeroMQ loop", "tcp.pushpull.SIZE", "limit.zmq.pushpull.SIZE", false, 0.85},
    {"tcp.push.64MiB over raw TCP at its best message size", "tcp.push.SIZE", "limit.tcp.SIZE", false, 0.5},
    {"1,000 tensors of 4 KiB in one step over the same bytes as one tensor (tcp push-pull)", "tcp.pushpull.1000x4KiB",
     "tcp.pushpull.1x4000KiB", false, 0.6},
    {"update kernel sgd in a shard over the same loop alone", "shard.sgd", "limit.kernel.sgd", false, 0.9},
    {"update kernel momentum in a shard over the same loop alone", "shard.momentum", "limit.kernel.momentum", false,
     0.9},
    {"update kernel adam in a shard over the same loop alone", "shard.adam", "limit.kernel.adam", false, 0.9},
    {"update kernel sgd in a shard that looks for NaN and infinity too", "shard.sgd.validated", "limit.kernel.sgd",
     false, 0},
    {"update kernel momentum in a shard that looks for NaN and infinity too", "shard.momentum.validated",
     "limit.kernel.momentum", false, 0},
    {"update kernel adam in a shard that looks for NaN and infinity too", "shard.adam.validated", "limit.kernel.adam",
     false, 0},
    {"round trip of a 64-byte push over the bare ZeroMQ round trip, p50", "tcp.roundtrip.p50",
     "limit.zmq.roundtrip.p50", true, 1.2},
    {"int8 push of 64 MiB on tcp: effective GB/s over f32", "tcp.push.SIZE.int8", "tcp.push.SIZE.f32", false, 1.8},
    {"server CPU seconds per GB pushed over the bare loop's", "tcp.push.SIZE.cpu", "limit.zmq.push.SIZE.cpu", true,
     1.2},
    {"communication share of the step on shm, 2 workers, MLP of 10 M parameters, batch 32",
     "training.shm.pipeline1.share", "", true, 0.15},
    {"communication share of the step on shm with train.pipeline 2", "training.shm.pipeline2.share", "", true, 0},
};

enum { BARS = sizeof bars / sizeof *bars };
_Static_assert((int)BARS <= (int)RATIOS_MAX, "room for every ratio");

static void name_figure(const char *pattern, uint64_t bytes, char name[FIGURE_NAME_BYTES]) {
    char size[UNITS_TEXT_BYTES];
    const char *at = strstr(pattern, "SIZE");
    if (!at) {
        snprintf(name, FIGURE_NAME_BYTES, "%s", pattern);
        return;
    }
    snprintf(name, FIGURE_NAME_BYTES, "%.*s%s%s", (int)(at - pattern), pattern,
             units_bytes_exact(bytes, size, sizeof size), at + strlen("SIZE"));
}

size_t bench_ratios(const struct bench_result *result, struct ratio ratios[RATIOS_MAX]) {
    for (size_t i = 0; i < BARS; i++) {
        struct ratio *ratio = &ratios[i];
        *ratio = (struct ratio){.name = bars[i].name, .at_most = bars[i].at_most, .bar = bars[i].bar};
        name_figure(bars[i].above, result->options->tensor_bytes, ratio->above);
        name_figure(bars[i].below, result->options->tensor_bytes, ratio->below);
        const struct figure *above = figures_find(&result->figures, ratio->above);
        const struct figure *below = figures_find(&result->figures, ratio->below);
        size_t count = 0;
        if (above && !ratio->below[0]) {
            count = above->count;
            memcpy(ratio->values, above->values, count * sizeof *above->values);
        } else if (above && below) {
            count = figures_divide(above, below, ratio->values);
        }
        ratio->spread = spread_of(ratio->values, count);
    }
    return BARS;
}

bool ratio_met(const struct ratio *ratio) {
    double value = ratio->spread.median;
    return ratio->spread.count > 0 && (ratio->at_most ? value <= ratio->bar : value >= ratio->bar);
}

bool bench_all_met(const struct bench_result *result) {
    struct ratio ratios[RATIOS_MAX];
    size_t count = bench_ratios(result, ratios);
    bool met = true;
    for (size_t i = 0; i < count; i++)
        met = met && (ratios[i].bar == 0 || ratio_met(&ratios[i]));
    return met;
}
