/* How fast updaters apply: the kernel alone, and a push part through the whole shard, per updater and instruction set.
 *
 *   build/release/bench/apply [--seconds S]
 *
 * Prints a Markdown table in millions of elements per second, the best of several rounds: other work on the machine
 * only ever makes a round slower. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "bench/clock.h"
#include "common/block.h"
#include "server/shard.h"
#include "common/updater.h"

enum {
    PART_UNITS = 4, /* 1 MiB */
    PARTS = 16,
    PART_ELEMENTS = PART_UNITS * BLOCK_ELEMENTS,
    ELEMENTS = PARTS * PART_ELEMENTS, /* 16 MiB: values, states and gradients do not fit a core's cache together */
    UNITS = PARTS * PART_UNITS,
    ROUNDS = 5,
    JOB = 1,
    SESSION = 1,
    ROUTE = 1
};

static float *floats_new(size_t count, float value) {
    float *data = aligned_alloc(64, count * sizeof *data);
    if (!data) {
        fputs("apply: no memory\n", stderr);
        exit(EXIT_FAILURE);
    }
    for (size_t i = 0; i < count; i++)
        data[i] = value * (float)(1 + i % 7);
    return data;
}

/* ---- the kernel alone, in the shard's chunks */

static double kernel_rate(const struct updater *updater, enum isa isa, double seconds) {
    float *w = floats_new(ELEMENTS, 0.1f), *g = floats_new(ELEMENTS, 1e-3f);
    float *states[UPDATER_STATES_MAX] = {floats_new(ELEMENTS, 0), floats_new(ELEMENTS, 0)};
    double values[UPDATER_PARAMS_MAX] = {0}, best = 0;
    float scalars[UPDATER_SCALARS_MAX];
    for (size_t i = 0; i < updater->param_count; i++)
        values[i] = updater->params[i].fallback;
    for (int round = 0; round < ROUNDS; round++) {
        double start = clock_seconds(), spent = 0;
        uint64_t applied = 0, step = 0;
        while (spent < seconds / ROUNDS) {
            step++;
            const struct updater_moment moment = {1e-4f, 0.7f, 0, step};
            updater->decide(values, &moment, scalars);
            for (size_t at = 0; at < ELEMENTS; at += UPDATER_CHUNK)
                updater->apply[isa](w + at, (float *[]){states[0] + at, states[1] + at}, g + at, UPDATER_CHUNK,
                                    scalars);
            applied += ELEMENTS;
            spent = clock_seconds() - start;
        }
        best = (double)applied / spent > best ? (double)applied / spent : best;
    }
    free(w);
    free(g);
    free(states[0]);
    free(states[1]);
    return best;
}

/* ---- through the shard */

static enum wire_kind heard;

static void hear(void *context, uint64_t route, const struct wire_message *message, struct snapshot *const *snapshots,
                 size_t snapshot_count) {
    (void)context;
    (void)route;
    (void)snapshots;
    (void)snapshot_count;
    heard = message->kind;
    uint32_t status = message->kind == WIRE_ACK          ? message->ack.status
                      : message->kind == WIRE_PUSH_REPLY ? message->push_reply.status
                                                         : LG_OK;
    if (status != LG_OK || message->kind == WIRE_ERROR) {
        fprintf(stderr, "apply: the shard answered %s\n", lg_status_name((enum lg_status)status));
        exit(EXIT_FAILURE);
    }
}

static void tell(struct shard *shard, uint64_t route, const struct wire_message *message) {
    shard_receive(shard, &(struct shard_input){.route = route, .message = message});
}

static void open_job(struct shard *shard, const char *updater) {
    const struct tensor_spec tensor = {.name = "w", .rank = 1, .shape = {ELEMENTS}, .lr_factor = 1};
    const uint16_t placement[UNITS] = {0};
    const struct wire_pair spec[] = {{"updater.kind", updater}, {"lr.base", "0.0001"}};
    struct wire_message message = {
        .kind = WIRE_JOB_OPEN, .tensors = &tensor, .tensor_count = 1, .placement = placement, .placement_count = UNITS};
    message.job_open = (struct wire_job_open){.job = JOB, .name = "bench", .spec = spec, .spec_count = 2};
    tell(shard, SHARD_ROUTE_CONTROL, &message);
    message = (struct wire_message){.kind = WIRE_SESSION_OPEN};
    message.session_open =
        (struct wire_session_open){.job = JOB, .session = SESSION, .may_push = true, .may_initialise = true};
    tell(shard, SHARD_ROUTE_CONTROL, &message);
    message = (struct wire_message){.kind = WIRE_HELLO};
    message.hello = (struct wire_hello){.session = SESSION, .job = JOB, .window = 8};
    tell(shard, ROUTE, &message);
}

static void push_all(struct shard *shard, const float *g, enum wire_push_kind kind) {
    static uint64_t seq, clock;
    const struct wire_cover cover = {.session = SESSION};
    clock++;
    for (uint32_t part = 0; part < PARTS; part++) {
        const struct wire_bytes payload = {g + (size_t)part * PART_ELEMENTS, PART_ELEMENTS * sizeof *g};
        struct wire_unit units[PART_UNITS];
        for (uint32_t i = 0; i < PART_UNITS; i++)
            units[i] = (struct wire_unit){.unit = part * PART_UNITS + i, .elements = BLOCK_ELEMENTS};
        struct wire_message message = {
            .kind = WIRE_PUSH, .units = units, .unit_count = PART_UNITS, .payload = &payload, .payload_count = 1};
        message.push = (struct wire_push){.session = SESSION,
                                          .seq_floor = seq,
                                          .job = JOB,
                                          .clock = clock,
                                          .part = part,
                                          .part_count = PARTS,
                                          .kind = kind,
                                          .samples = 1,
                                          .covers = &cover,
                                          .cover_count = 1};
        message.push.seq = ++seq;
        tell(shard, ROUTE, &message);
    }
}

static double shard_rate(const struct updater *updater, enum isa isa, double seconds) {
    const struct shard_config config = {.credit_bytes = 64 << 20,
                                        .session_credit_bytes = 8 << 20,
                                        .window = 8,
                                        .sessions_max = 4,
                                        .reject_nonfinite = true,
                                        .isa = isa};
    struct shard *shard;
    if (shard_new(&config, &(struct shard_sink){.send = hear}, &shard, NULL) != LG_OK)
        exit(EXIT_FAILURE);
    open_job(shard, updater->name);
    float *g = floats_new(ELEMENTS, 1e-3f);
    double best = 0;
    push_all(shard, g, WIRE_PUSH_KIND_INITIAL);
    for (int round = 0; round < ROUNDS; round++) {
        double start = clock_seconds(), spent = 0;
        uint64_t applied = 0;
        while (spent < seconds / ROUNDS) {
            push_all(shard, g, WIRE_PUSH_KIND_GRADIENT);
            applied += ELEMENTS;
            spent = clock_seconds() - start;
        }
        best = (double)applied / spent > best ? (double)applied / spent : best;
    }
    shard_free(shard);
    free(g);
    return best;
}

int main(int argc, char **argv) {
    double seconds = argc == 3 && strcmp(argv[1], "--seconds") == 0 ? strtod(argv[2], NULL) : 0.5;
    enum isa widest = isa_detect();
    size_t count;
    const struct updater *const *table = updaters(&count);
    printf("Millions of elements per second on one thread, %d elements (%d MiB), messages of 1 MiB.\n\n", ELEMENTS,
           ELEMENTS / (1 << 18));
    printf("| updater | isa | kernel alone | through the shard |\n|---|---|---:|---:|\n");
    for (size_t i = 0; i < count; i++)
        for (int isa = 0; isa <= (int)widest; isa++)
            printf("| %s | %s | %.0f | %.0f |\n", table[i]->name, isa_name((enum isa)isa),
                   kernel_rate(table[i], (enum isa)isa, seconds) / 1e6,
                   shard_rate(table[i], (enum isa)isa, seconds) / 1e6);
    return EXIT_SUCCESS;
}
