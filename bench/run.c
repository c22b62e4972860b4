/* Which groups a run measures. */
#include <stdlib.h>
#include <string.h>

#include "bench/bench.h"
#include "bench/bench_shard.h"
#include "bench/training.h"
#include "common/codec.h"
#include "common/units.h"

enum { MANY = 1000, MANY_BYTES = 4096, SMALL_ROUND_TRIPS = 1000 };

#define KIB UINT64_C(1024)
#define MIB (1024 * KIB)

static const char *size_text(uint64_t bytes, char text[UNITS_TEXT_BYTES]) {
    return units_bytes_exact(bytes, text, UNITS_TEXT_BYTES);
}

static struct bench_setup setup_of(enum bench_transport transport, unsigned shards, unsigned workers, uint64_t bytes) {
    return (struct bench_setup){
        .transport = transport, .shards = shards, .workers = workers, .tensors = 1, .tensor_bytes = bytes};
}

/* ---- the groups that bars are about */

static const char *const operations[] = {[BENCH_PUSH] = "push", [BENCH_PULL] = "pull", [BENCH_PUSHPULL] = "pushpull"};

static struct group *tensor_group(uint64_t bytes) {
    char size[UNITS_TEXT_BYTES];
    size_text(bytes, size);
    struct group *group = group_new("a tensor of %s", size);
    group->fresh = true;
    group_probe(group, group_limit(group, STATION_MEMORY, bytes), 0, "limit.memcpy.%s", size);
    group_probe(group, group_limit(group, STATION_UPDATE, bytes), 0, "limit.sgd.%s", size);
    group_probe(group, group_limit(group, STATION_TCP, bytes), 0, "limit.tcp.%s", size);
    size_t zmq = group_limit(group, STATION_ZMQ, bytes);
    group_probe(group, zmq, LIMIT_ZMQ_PUSH, "limit.zmq.push.%s", size);
    group_probe(group, zmq, LIMIT_ZMQ_PUSHPULL, "limit.zmq.pushpull.%s", size);
    for (int transport = 0; transport < BENCH_TRANSPORTS; transport++) {
        const struct bench_setup one = setup_of((enum bench_transport)transport, 1, 1, bytes);
        size_t cluster = group_cluster(group, &one);
        for (uint32_t what = BENCH_PUSH; what <= BENCH_PUSHPULL; what++)
            group_probe(group, cluster, what, "%s.%s.%s", bench_transport_name(one.transport), operations[what], size);
    }
    const struct bench_setup workers = setup_of(BENCH_SHM, 1, 2, bytes), shards = setup_of(BENCH_SHM, 2, 1, bytes);
    group_probe(group, group_cluster(group, &workers), BENCH_PUSHPULL, "shm.pushpull.%s.2workers", size);
    size_t cluster = group_cluster(group, &shards);
    group_probe(group, cluster, BENCH_PUSH, "shm.push.%s.2shards", size);
    group_probe(group, cluster, BENCH_PUSHPULL, "shm.pushpull.%s.2shards", size);
    return group;
}

/* Left to the scheduler, two processes that wake each other sit on one core or on two, for as long as they live, and
 * one of the two is twice as fast: what is compared shares a core, and figures without that stand beside it. */
static struct group *small_group(bool one_core) {
    const char *where = one_core ? "" : ".anywhere";
    struct group *group =
        group_new("round trips of %d bytes, %s", LIMIT_SMALL_BYTES, one_core ? "on one core" : "on any core");
    group->one_core = one_core;
    size_t zmq = group_limit(group, STATION_ZMQ, LIMIT_SMALL_BYTES);
    group_probe(group, zmq, LIMIT_ZMQ_SMALL, "limit.zmq.roundtrip%s", where)->least = SMALL_ROUND_TRIPS;
    for (int transport = 0; transport < BENCH_TRANSPORTS; transport++) {
        const struct bench_setup setup = setup_of((enum bench_transport)transport, 1, 1, LIMIT_SMALL_BYTES);
        size_t cluster = group_cluster(group, &setup);
        group_probe(group, cluster, BENCH_SMALL, "%s.roundtrip%s", bench_transport_name(setup.transport), where)
            ->least = SMALL_ROUND_TRIPS;
    }
    return group;
}

static struct group *many_group(void) {
    struct group *group = group_new("1,000 tensors of 4 KiB");
    group->fresh = true;
    for (int transport = 0; transport < BENCH_TRANSPORTS; transport++) {
        const char *name = bench_transport_name((enum bench_transport)transport);
        struct bench_setup one = setup_of((enum bench_transport)transport, 1, 1, MANY * MANY_BYTES), many = one;
        many.tensors = MANY;
        many.tensor_bytes = MANY_BYTES;
        group_probe(group, group_cluster(group, &one), BENCH_PUSHPULL, "%s.pushpull.1x4000KiB", name);
        group_probe(group, group_cluster(group, &many), BENCH_PUSHPULL, "%s.pushpull.1000x4KiB", name);
    }
    return group;
}

static struct group *kernel_group(uint64_t bytes) {
    struct group *group = group_new("update kernels");
    size_t alone = group_limit(group, STATION_KERNELS, bytes), shard = group_limit(group, STATION_SHARD, bytes);
    for (uint32_t i = 0; limit_kernel_names[i]; i++) {
        group_probe(group, alone, i, "limit.kernel.%s", limit_kernel_names[i]);
        group_probe(group, shard, i, "shard.%s", limit_kernel_names[i]);
        group_probe(group, shard, BENCH_SHARD_VALIDATED + i, "shard.%s.validated", limit_kernel_names[i]);
    }
    return group;
}

static struct group *codec_group(uint64_t bytes) {
    static const char *const pushed[] = {"f32", "int8", NULL};
    char size[UNITS_TEXT_BYTES];
    size_text(bytes, size);
    struct group *group = group_new("codecs");
    group->fresh = true;
    for (size_t i = 0; pushed[i]; i++) {
        struct bench_setup setup = setup_of(BENCH_TCP, 1, 1, bytes);
        setup.codec = i == 0 ? NULL : pushed[i];
        group_probe(group, group_cluster(group, &setup), BENCH_PUSH, "tcp.push.%s.%s", size, pushed[i]);
    }
    size_t count, alone = group_limit(group, STATION_CODEC, bytes);
    const struct codec *const *all = codecs(&count);
    for (uint32_t i = 0; i < count; i++) {
        group_probe(group, alone, 2 * i, "codec.%s.encode", all[i]->name);
        if (all[i] != codec_plain()) /* which hands out what was received */
            group_probe(group, alone, 2 * i + 1, "codec.%s.decode", all[i]->name);
    }
    return group;
}

/* ---- the groups that a full run adds */

static struct group *size_group(uint64_t bytes, unsigned shards, unsigned workers) {
    char size[UNITS_TEXT_BYTES];
    size_text(bytes, size);
    struct group *group = group_new("%s over %u shard%s, %u worker%s", size, shards, shards == 1 ? "" : "s", workers,
                                    workers == 1 ? "" : "s");
    if (shards == 1 && workers == 1)
        group_probe(group, group_limit(group, STATION_MEMORY, bytes), 0, "limit.memcpy.%s", size);
    for (int transport = 0; transport < BENCH_TRANSPORTS; transport++) {
        const struct bench_setup setup = setup_of((enum bench_transport)transport, shards, workers, bytes);
        size_t cluster = group_cluster(group, &setup);
        for (uint32_t what = BENCH_PUSH; what <= BENCH_PUSHPULL; what++)
            group_probe(group, cluster, what, "%s.%s.%s%s%s", bench_transport_name(setup.transport), operations[what],
                        size, shards == 2 ? ".2shards" : "", workers == 2 ? ".2workers" : "");
    }
    return group;
}

/* ---- the run */

static void tell(void *context, const char *what) {
    const struct bench_options *options = context;
    if (options->live)
        fprintf(stderr, "\r\033[K%s", what);
}

static struct probe_plan plan_of(const struct bench_options *options) {
    return (struct probe_plan){.rounds = options->rounds,
                               .seconds = options->seconds,
                               .tell = tell,
                               .context = (void *)options,
                               .interrupted = options->interrupted};
}

static enum lg_status measure(struct group *group, const struct probe_plan *plan, struct bench_result *result,
                              struct lg_error *error) {
    const struct bench_options *options = result->options;
    size_t before = result->figures.count;
    enum lg_status status = LG_OK;
    if (group_filter(group, options->filter)) {
        if (options->table)
            fprintf(options->table, "%s\n", group->name);
        if (options->table)
            fflush(options->table);
        status = group_run(group, plan, &result->figures, &result->omissions, error);
        tell((void *)options, "");
        if (options->table)
            bench_print_figures(&result->figures, before, options->table);
    }
    group_free(group);
    return status;
}

static enum lg_status measure_size(uint64_t bytes, unsigned shards, unsigned workers, const struct probe_plan *plan,
                                   bool *headed, struct bench_result *result, struct lg_error *error) {
    const struct bench_options *options = result->options;
    struct group *group = size_group(bytes, shards, workers);
    char size[UNITS_TEXT_BYTES], ending[FIGURE_NAME_BYTES];
    enum lg_status status = LG_OK;
    if (group_filter(group, options->filter)) {
        if (group_drop_known(group, &result->figures))
            status = group_run(group, plan, &result->figures, &result->omissions, error);
        tell((void *)options, "");
        snprintf(ending, sizeof ending, "%s%s", shards == 2 ? ".2shards" : "", workers == 2 ? ".2workers" : "");
        if (options->table && !*headed)
            bench_print_size(&result->figures, "", "", options->table);
        *headed = true;
        if (options->table)
            bench_print_size(&result->figures, size_text(bytes, size), ending, options->table);
    }
    group_free(group);
    return status;
}

/* Fewer and shorter measurements: there are three hundred of them. */
static enum lg_status measure_sizes(struct bench_result *result, struct lg_error *error) {
    enum { ROUNDS_MOST = 5 };
    struct probe_plan plan = plan_of(result->options);
    enum lg_status status = LG_OK;
    bool headed = false;
    plan.rounds = plan.rounds < ROUNDS_MOST ? plan.rounds : ROUNDS_MOST;
    plan.seconds /= 2;
    for (uint64_t bytes = 4 * KIB; status == LG_OK && bytes <= 256 * MIB; bytes *= 4)
        for (unsigned shards = 1; status == LG_OK && shards <= 2; shards++)
            for (unsigned workers = 1; status == LG_OK && workers <= 2; workers++) {
                bool whole = shards == 2 && bytes < 512 * KIB; /* of one unit: one shard holds all of it */
                if (!whole)
                    status = measure_size(bytes, shards, workers, &plan, &headed, result, error);
            }
    return status;
}

static enum lg_status measure_training(struct bench_result *result, struct lg_error *error) {
    const struct bench_options *options = result->options;
    const struct probe_plan plan = plan_of(options);
    size_t before = result->figures.count;
    if (!filter_names(options->filter, "training"))
        return LG_OK;
    if (options->table)
        fprintf(options->table, "training\n");
    enum lg_status status = training_run(&plan, &result->figures, &result->omissions, error);
    tell((void *)options, "");
    if (options->table)
        bench_print_figures(&result->figures, before, options->table);
    return status;
}

enum lg_status bench_run(const struct bench_options *options, struct bench_result *result, struct lg_error *error) {
    double began_s = process_now_s();
    const struct probe_plan plan = plan_of(options);
    *result = (struct bench_result){.options = options};
    enum lg_status status = measure(tensor_group(options->tensor_bytes), &plan, result, error);
    if (status == LG_OK)
        status = measure(small_group(true), &plan, result, error);
    if (status == LG_OK)
        status = measure(small_group(false), &plan, result, error);
    if (status == LG_OK)
        status = measure(many_group(), &plan, result, error);
    if (status == LG_OK)
        status = measure(kernel_group(options->tensor_bytes), &plan, result, error);
    if (status == LG_OK)
        status = measure(codec_group(options->tensor_bytes), &plan, result, error);
    if (status == LG_OK)
        status = measure_training(result, error);
    if (status == LG_OK && !options->quick)
        status = measure_sizes(result, error);
    result->seconds = process_now_s() - began_s;
    if (status == LG_OK && options->table)
        bench_print_end(result, options->table);
    return status;
}

void bench_result_deinit(struct bench_result *result) {
    figures_deinit(&result->figures);
}
