#include "bench/bench_codec.h"

#include <stdlib.h>

#include "common/codec.h"

#define TOPK_KEEP 0.01

struct coded {
    const struct codec *codec;
    uint8_t *data; /* units one behind the other, bytes_max apart */
    size_t apart;
};

struct work {
    uint32_t units; /* of CODEC_ELEMENTS_MAX elements */
    float *values, *residual, *scratch;
    struct coded *coded;
    size_t codec_count;
    enum isa isa;
    uint64_t key;
};

static struct codec_options options_of(const struct work *work) {
    return (struct codec_options){.key = work->key, .keep = TOPK_KEEP};
}

static void encode(struct work *work, const struct coded *coded) {
    const struct codec_kernels *kernels = coded->codec->kernels[work->isa];
    for (uint32_t unit = 0; unit < work->units; unit++) {
        size_t first = (size_t)unit * CODEC_ELEMENTS_MAX;
        work->key++;
        const struct codec_options options = options_of(work);
        kernels->encode(work->values + first, work->residual + first, CODEC_ELEMENTS_MAX, &options,
                        coded->data + unit * coded->apart);
    }
}

static float decode(const struct work *work, const struct coded *coded) {
    const struct codec_kernels *kernels = coded->codec->kernels[work->isa];
    float seen = 0;
    for (uint32_t unit = 0; unit < work->units; unit++)
        for (size_t first = 0; first < CODEC_ELEMENTS_MAX; first += CODEC_CHUNK)
            seen += *kernels->decode(coded->data + unit * coded->apart, CODEC_ELEMENTS_MAX, first, CODEC_CHUNK,
                                     work->scratch);
    return seen;
}

/* ---- the process */

/* Values of gradients' sizes and both signs, as a linear congruential generator makes them. */
static void values_fill(float *values, size_t count) {
    uint32_t state = 1;
    for (size_t i = 0; i < count; i++) {
        state = state * 1664525u + 1013904223u;
        values[i] = ((float)(state >> 8) / (float)(1u << 23) - 1) * 1e-3f;
    }
}

static enum lg_status coded_init(struct work *work, struct coded *coded, const struct codec *codec,
                                 struct lg_error *error) {
    const struct codec_options options = options_of(work);
    *coded = (struct coded){.codec = codec, .apart = codec->bytes_max(CODEC_ELEMENTS_MAX, &options)};
    coded->data = malloc(work->units * coded->apart);
    if (!coded->data)
        return lg_fail(error, LG_NO_MEMORY, "no memory for encoded values");
    encode(work, coded);
    return LG_OK;
}

static enum lg_status work_init(struct work *work, uint64_t bytes, struct lg_error *error) {
    const struct codec *const *all = codecs(&work->codec_count);
    work->units = (uint32_t)(bytes / sizeof(float) / CODEC_ELEMENTS_MAX);
    work->units += work->units == 0;
    work->isa = isa_detect();
    size_t elements = (size_t)work->units * CODEC_ELEMENTS_MAX;
    work->values = aligned_alloc(64, elements * sizeof(float));
    work->residual = calloc(elements, sizeof(float));
    work->scratch = aligned_alloc(64, CODEC_CHUNK * sizeof(float));
    work->coded = calloc(work->codec_count, sizeof *work->coded);
    if (!work->values || !work->residual || !work->scratch || !work->coded)
        return lg_fail(error, LG_NO_MEMORY, "no memory for values to encode");
    values_fill(work->values, elements);
    enum lg_status status = LG_OK;
    for (size_t i = 0; status == LG_OK && i < work->codec_count; i++)
        status = coded_init(work, &work->coded[i], all[i], error);
    return status;
}

static int run(int fd, const void *context) {
    const struct limit *limit = context;
    struct process_report report = {0};
    struct process_order order;
    struct lg_error error;
    struct work work = {0};
    if (work_init(&work, limit->bytes, &error) != LG_OK) {
        (void)process_say_error(fd, &error);
        return EXIT_FAILURE;
    }
    (void)process_say(fd, &report);
    while (process_next(fd, &order)) {
        const struct coded *coded = &work.coded[order.what / 2];
        report.values[0] = 0;
        report.began_s = process_now_s();
        for (uint32_t i = 0; i < order.count; i++)
            if (order.what % 2 == 0)
                encode(&work, coded);
            else
                report.values[0] += (double)decode(&work, coded);
        report.ended_s = process_now_s();
        report.values[1] = (double)work.units * CODEC_ELEMENTS_MAX * sizeof(float);
        if (!process_say(fd, &report))
            break;
    }
    return EXIT_SUCCESS;
}

/* ---- the station */

enum lg_status bench_codec_open(struct limit *limit, uint64_t bytes, struct lg_error *error) {
    struct process_report report;
    *limit = (struct limit){.bytes = bytes};
    return process_start(&limit->processes[0], "bench-codec", run, limit, &report, error);
}

enum lg_status bench_codec_run(struct probe *probe, struct figures *figures, struct lg_error *error) {
    struct limit *limit = probe->station;
    struct process_report report;
    const struct process_order order = {.what = probe->what, .count = probe->count};
    enum lg_status status = process_ask(&limit->processes[0], &order, &report, error);
    if (status != LG_OK)
        return status;
    probe->spent_s = report.ended_s - report.began_s;
    return probe_add(probe, figures, "", "GB/s", report.values[1] * probe->count / probe->spent_s / 1e9, error);
}
