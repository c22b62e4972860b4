#include "bench/bench_shard.h"

#include <stdlib.h>

#include "common/block.h"
#include "server/shard.h"

enum { KINDS = 3, JOB = 1, SESSION = 1, ROUTE = 1, PART_UNITS = WIRE_PART_BYTES / sizeof(float) / BLOCK_ELEMENTS };

struct kernel_shard {
    struct shard *shard;
    uint64_t seq, clock;
};

struct shards {
    struct kernel_shard plain[KINDS], validated[KINDS];
    float *gradients;
    uint32_t elements, units;
    uint16_t *placement;
};

/* ---- the shard's other side */

static uint32_t refused; /* statuses of answers that were not LG_OK, joined */

static void hear(void *context, uint64_t route, const struct wire_message *message, struct snapshot *const *snapshots,
                 size_t snapshot_count) {
    (void)context, (void)route, (void)snapshots, (void)snapshot_count;
    refused |= message->kind == WIRE_ACK          ? message->ack.status
               : message->kind == WIRE_PUSH_REPLY ? message->push_reply.status
               : message->kind == WIRE_ERROR      ? message->error.status
                                                  : LG_OK;
}

static void tell(struct shard *shard, uint64_t route, const struct wire_message *message) {
    shard_receive(shard, &(struct shard_input){.route = route, .message = message});
}

static void open_job(const struct shards *shards, struct shard *shard, const char *updater) {
    const struct tensor_spec tensor = {.name = "w", .rank = 1, .shape = {shards->elements}, .lr_factor = 1};
    const struct wire_pair spec[] = {{"updater.kind", updater}, {"lr.base", "0.000001"}};
    struct wire_message message = {.kind = WIRE_JOB_OPEN,
                                   .job_open = {.job = JOB, .name = "bench", .spec = spec, .spec_count = 2},
                                   .tensors = &tensor,
                                   .tensor_count = 1,
                                   .placement = shards->placement,
                                   .placement_count = shards->units};
    tell(shard, SHARD_ROUTE_CONTROL, &message);
    message = (struct wire_message){.kind = WIRE_SESSION_OPEN};
    message.session_open =
        (struct wire_session_open){.job = JOB, .session = SESSION, .may_push = true, .may_initialise = true};
    tell(shard, SHARD_ROUTE_CONTROL, &message);
    message = (struct wire_message){.kind = WIRE_HELLO};
    message.hello = (struct wire_hello){.session = SESSION, .job = JOB, .window = 8};
    tell(shard, ROUTE, &message);
}

static void push_part(const struct shards *shards, struct kernel_shard *at, uint32_t part, uint32_t part_count,
                      enum wire_push_kind kind) {
    const struct wire_cover cover = {.session = SESSION};
    struct wire_unit units[PART_UNITS];
    uint32_t first = part * PART_UNITS, count = 0, elements = 0;
    for (; count < PART_UNITS && first + count < shards->units; count++) {
        uint32_t left = shards->elements - (first + count) * BLOCK_ELEMENTS;
        units[count] = (struct wire_unit){first + count, left < BLOCK_ELEMENTS ? left : BLOCK_ELEMENTS, 0};
        elements += units[count].elements;
    }
    const struct wire_bytes payload = {shards->gradients + (size_t)first * BLOCK_ELEMENTS, elements * sizeof(float)};
    struct wire_message message = {
        .kind = WIRE_PUSH, .units = units, .unit_count = count, .payload = &payload, .payload_count = 1};
    message.push = (struct wire_push){.session = SESSION,
                                      .seq_floor = at->seq,
                                      .job = JOB,
                                      .clock = at->clock,
                                      .part = part,
                                      .part_count = part_count,
                                      .kind = kind,
                                      .samples = 1,
                                      .covers = &cover,
                                      .cover_count = 1};
    message.push.seq = ++at->seq;
    tell(at->shard, ROUTE, &message);
}

static void push_all(const struct shards *shards, struct kernel_shard *at, enum wire_push_kind kind) {
    uint32_t parts = (shards->units + PART_UNITS - 1) / PART_UNITS;
    at->clock++;
    for (uint32_t part = 0; part < parts; part++)
        push_part(shards, at, part, parts, kind);
}

/* ---- the process */

static enum lg_status open_shards(const struct shards *shards, bool validated, struct kernel_shard list[KINDS],
                                  struct lg_error *error) {
    const struct shard_config config = {.credit_bytes = 64 << 20,
                                        .session_credit_bytes = 8 << 20,
                                        .window = 8,
                                        .sessions_max = 4,
                                        .reject_nonfinite = validated,
                                        .isa = isa_detect()};
    for (size_t i = 0; i < KINDS; i++) {
        enum lg_status status = shard_new(&config, &(struct shard_sink){.send = hear}, &list[i].shard, error);
        if (status != LG_OK)
            return status;
        open_job(shards, list[i].shard, limit_kernel_names[i]);
        push_all(shards, &list[i], WIRE_PUSH_KIND_INITIAL);
    }
    return refused == LG_OK ? LG_OK : lg_fail(error, LG_INTERNAL, "a shard refused what the benchmark asked of it");
}

static struct kernel_shard *shard_of(struct shards *shards, uint32_t what) {
    struct kernel_shard *list = what < BENCH_SHARD_VALIDATED ? shards->plain : shards->validated;
    return &list[what % BENCH_SHARD_VALIDATED];
}

static enum lg_status open_all(struct shards *shards, uint64_t bytes, struct lg_error *error) {
    shards->elements = (uint32_t)(bytes / sizeof(float));
    shards->units = (shards->elements + BLOCK_ELEMENTS - 1) / BLOCK_ELEMENTS;
    shards->placement = calloc(shards->units, sizeof *shards->placement);
    shards->gradients = aligned_alloc(64, bytes);
    if (!shards->placement || !shards->gradients)
        return lg_fail(error, LG_NO_MEMORY, "no memory for gradients");
    for (uint32_t i = 0; i < shards->elements; i++)
        shards->gradients[i] = 1e-3f * (float)(1 + i % 7);
    enum lg_status status = open_shards(shards, false, shards->plain, error);
    return status == LG_OK ? open_shards(shards, true, shards->validated, error) : status;
}

static int run(int fd, const void *context) {
    const struct limit *limit = context;
    static struct shards shards;
    struct process_report report = {0};
    struct process_order order;
    struct lg_error error;
    if (open_all(&shards, limit->bytes, &error) != LG_OK) {
        (void)process_say_error(fd, &error);
        return EXIT_FAILURE;
    }
    (void)process_say(fd, &report);
    while (process_next(fd, &order)) {
        report.began_s = process_now_s();
        for (uint32_t i = 0; i < order.count; i++)
            push_all(&shards, shard_of(&shards, order.what), WIRE_PUSH_KIND_GRADIENT);
        report.ended_s = process_now_s();
        report.status = refused;
        if (!process_say(fd, &report))
            break;
    }
    return EXIT_SUCCESS;
}

enum lg_status bench_shard_open(struct limit *limit, uint64_t bytes, struct lg_error *error) {
    struct process_report report;
    *limit = (struct limit){.bytes = bytes};
    return process_start(&limit->processes[0], "bench-shard", run, limit, &report, error);
}

enum lg_status bench_shard_run(struct probe *probe, struct figures *figures, struct lg_error *error) {
    return limit_kernel_run(probe, figures, error); /* the same order and the same figure */
}
