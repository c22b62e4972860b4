#include "tests/support/shard_bench.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/block.h"
#include "common/codec.h"

static void *copy_of(const void *data, size_t bytes) {
    void *copy = malloc(bytes ? bytes : 1);
    ck_assert_ptr_nonnull(copy);
    if (bytes)
        memcpy(copy, data, bytes);
    return copy;
}

static void copy_into(void *to, const void *from, size_t bytes) {
    if (bytes)
        memcpy(to, from, bytes);
}

/* ---- what the shard says */

static void reply_clear(struct bench_reply *reply) {
    for (size_t i = 0; i < 256; i++) {
        free(reply->values[i]);
        if (reply->snapshots[i])
            snapshot_release(reply->snapshots[i]);
    }
    memset(reply, 0, sizeof *reply);
}

static void take_text(struct bench_reply *reply, uint32_t status, const char *reason) {
    reply->status = status;
    snprintf(reply->reason, sizeof reply->reason, "%s", reason ? reason : "");
}

static void take_body(struct bench_reply *reply, const struct wire_message *message) {
    struct wire_message *copy = &reply->message;
    switch (message->kind) {
    case WIRE_PUSH_REPLY:
        take_text(reply, message->push_reply.status, message->push_reply.reason);
        copy_into(reply->positions, message->push_reply.cuts, message->push_reply.cut_count * sizeof(uint64_t));
        copy->push_reply.cuts = reply->positions;
        break;
    case WIRE_ERROR:
        take_text(reply, message->error.status, message->error.reason);
        break;
    case WIRE_ACK:
        take_text(reply, message->ack.status, message->ack.reason);
        break;
    case WIRE_MARKS_REPLY:
        take_text(reply, message->marks_reply.status, "");
        copy_into(reply->positions, message->marks_reply.marks, message->marks_reply.mark_count * sizeof(uint64_t));
        copy->marks_reply.marks = reply->positions;
        break;
    case WIRE_LEDGER_REPLY:
        take_text(reply, message->ledger_reply.status, "");
        copy_into(reply->rows, message->ledger_reply.rows, message->ledger_reply.row_count * sizeof *reply->rows);
        copy->ledger_reply.rows = reply->rows;
        break;
    default:
        break;
    }
}

static const struct codec *codec_of_reply(const struct wire_message *message) {
    const struct codec *codec = NULL;
    bool push = message->kind == WIRE_PUSH_REPLY;
    ck_assert_int_eq(codec_of_wire((uint32_t)(push ? message->push_reply.dtype : message->pull_reply.dtype),
                                   push ? message->push_reply.codec : message->pull_reply.codec, &codec, NULL),
                     LG_OK);
    return codec;
}

/* What a unit decodes to, malloc'ed. */
static float *decoded(const struct codec *codec, const void *data, uint32_t elements) {
    float *values = calloc(elements, sizeof *values);
    ck_assert_ptr_nonnull(values);
    codec_add(codec, isa_detect(), data, elements, values);
    return values;
}

static void bench_hear(void *context, uint64_t route, const struct wire_message *message,
                       struct snapshot *const *snapshots, size_t snapshot_count) {
    struct shard_bench *bench = context;
    struct bench_reply *reply = &bench->reply;
    if (message->kind == WIRE_GATE_REPLY) {
        const struct wire_gate_reply *answer = &message->gate_reply;
        ck_assert_uint_eq(message->request, answer->tag);
        bench->gates[bench->gate_count++ % 64] = (struct bench_gate){route, answer->tag, answer->round, answer->status};
        return;
    }
    bench->replies++;
    reply_clear(reply);
    reply->kind = message->kind;
    reply->route = route;
    reply->request = message->request;
    reply->message = *message;
    take_body(reply, message);
    ck_assert_uint_le(message->unit_count, 256);
    ck_assert_uint_eq(message->payload_count, snapshot_count);
    for (size_t i = 0, unit = 0; i < snapshot_count; i++) {
        ck_assert_ptr_eq(message->payload[i].data, snapshots[i]->data);
        for (size_t at = 0; at < message->payload[i].bytes; unit++) {
            const struct codec *codec = codec_of_reply(message);
            const uint8_t *data = (const uint8_t *)message->payload[i].data + at;
            uint32_t elements = message->units[unit].elements;
            size_t bytes;
            ck_assert_int_eq(codec->measure(data, message->payload[i].bytes - at, elements, &bytes, NULL), LG_OK);
            reply->units[unit] = message->units[unit];
            reply->values[unit] = codec->exact ? copy_of(data, bytes) : decoded(codec, data, elements);
            at += bytes;
        }
        reply->snapshots[i] = snapshots[i];
        snapshot_retain(snapshots[i]);
    }
}

static void bench_decide(void *context, const struct shard_decision *decision, const struct wire_message *push) {
    struct shard_bench *bench = context;
    if (!bench->record)
        return;
    if (bench->record_count == bench->record_capacity) {
        bench->record_capacity = bench->record_capacity ? 2 * bench->record_capacity : 64;
        bench->records = realloc(bench->records, bench->record_capacity * sizeof *bench->records);
        ck_assert_ptr_nonnull(bench->records);
    }
    struct bench_record *record = &bench->records[bench->record_count++];
    *record = (struct bench_record){.decision = *decision, .has_push = push != NULL};
    if (!push)
        return;
    size_t units = push->unit_count, bytes = 0;
    record->steps = copy_of(decision->unit_steps, units * sizeof *record->steps);
    record->applied = copy_of(decision->unit_applied, units);
    record->decision.unit_steps = record->steps;
    record->decision.unit_applied = record->applied;
    record->push = *push;
    record->units = copy_of(push->units, units * sizeof *record->units);
    record->covers = copy_of(push->push.covers, push->push.cover_count * sizeof *record->covers);
    for (size_t i = 0; i < push->payload_count; i++)
        bytes += push->payload[i].bytes;
    char *data = malloc(bytes);
    ck_assert_ptr_nonnull(data);
    record->payload = (struct wire_bytes){data, bytes};
    for (size_t i = 0; i < push->payload_count; i++) {
        memcpy(data, push->payload[i].data, push->payload[i].bytes);
        data += push->payload[i].bytes;
    }
    record->push.push.covers = record->covers;
}

/* ---- life */

void shard_bench_init(struct shard_bench *bench) {
    *bench = (struct shard_bench){.next_seq = 1, .next_clock = 1};
    bench->config = (struct shard_config){.index = BENCH_INDEX,
                                          .credit_bytes = 64 << 20,
                                          .session_credit_bytes = 4 << 20,
                                          .window = 8,
                                          .sessions_max = 64,
                                          .reject_nonfinite = true,
                                          .isa = ISA_BASE};
    bench->tensors[0] = (struct tensor_spec){.name = "weight", .rank = 2, .shape = {300, 300}, .lr_factor = 1};
    bench->tensors[1] =
        (struct tensor_spec){.name = "bias", .rank = 1, .shape = {10}, .lr_factor = 1, .no_weight_decay = true};
    bench->tensor_count = 2;
    bench->placement_count = BENCH_UNITS;
    shard_bench_option(bench, "updater.kind", "sgd");
    shard_bench_option(bench, "lr.base", "0.5");
    shard_bench_option(bench, "staleness.policy", "constant");
}

void shard_bench_option(struct shard_bench *bench, const char *key, const char *value) {
    size_t at = 0;
    while (at < bench->spec_count && strcmp(bench->spec[at].key, key) != 0)
        at++;
    ck_assert_uint_lt(at, 32);
    bench->spec[at] = (struct wire_pair){key, value};
    if (at == bench->spec_count)
        bench->spec_count++;
}

struct bench_reply *shard_bench_open_job(struct shard_bench *bench) {
    struct wire_message message = {.kind = WIRE_JOB_OPEN,
                                   .request = 1,
                                   .tensors = bench->tensors,
                                   .tensor_count = bench->tensor_count,
                                   .placement = bench->placement,
                                   .placement_count = bench->placement_count};
    message.job_open = (struct wire_job_open){.job = BENCH_JOB,
                                              .name = "bench",
                                              .shard = bench->config.index,
                                              .epoch = BENCH_EPOCH,
                                              .map_version = BENCH_MAP,
                                              .train_samples = BENCH_SAMPLES,
                                              .spec = bench->spec,
                                              .spec_count = bench->spec_count};
    return shard_bench_send(bench, SHARD_ROUTE_CONTROL, &message);
}

void shard_bench_start(struct shard_bench *bench) {
    struct lg_error error = {0};
    const struct shard_sink sink = {.context = bench, .send = bench_hear, .decide = bench_decide};
    ck_assert_msg(shard_new(&bench->config, &sink, &bench->shard, &error) == LG_OK, "%s", error.message);
    struct bench_reply *reply = shard_bench_open_job(bench);
    ck_assert_int_eq(reply->kind, WIRE_ACK);
    ck_assert_msg(reply->status == LG_OK, "%s", reply->reason);
}

void shard_bench_stop(struct shard_bench *bench) {
    shard_free(bench->shard);
    reply_clear(&bench->reply);
    for (size_t i = 0; i < bench->record_count; i++) {
        struct bench_record *record = &bench->records[i];
        free(record->steps);
        free(record->applied);
        free(record->units);
        free((void *)record->payload.data);
        free(record->covers);
    }
    free(bench->records);
    free(bench->scratch);
}

/* ---- what the shard is told */

struct bench_reply *shard_bench_send(struct shard_bench *bench, uint64_t route, const struct wire_message *message) {
    unsigned before = bench->replies;
    shard_receive(bench->shard, &(struct shard_input){.now_ns = 1, .route = route, .message = message});
    ck_assert_uint_eq(bench->replies, before + 1);
    ck_assert_uint_eq(bench->reply.request, message->request);
    ck_assert_uint_eq(bench->reply.route, route);
    return &bench->reply;
}

struct bench_reply *shard_bench_open_session(struct shard_bench *bench, uint64_t session, uint32_t incarnation) {
    struct wire_message message = {.kind = WIRE_SESSION_OPEN, .request = 2};
    message.session_open = (struct wire_session_open){.job = BENCH_JOB,
                                                      .shard = bench->config.index,
                                                      .session = session,
                                                      .incarnation = incarnation,
                                                      .token = session * 3,
                                                      .may_push = true,
                                                      .may_initialise = true};
    return shard_bench_send(bench, SHARD_ROUTE_CONTROL, &message);
}

struct bench_reply *shard_bench_close_session(struct shard_bench *bench, uint64_t session, uint32_t incarnation,
                                              const char *reason) {
    struct wire_message message = {.kind = WIRE_SESSION_CLOSE, .request = 3};
    message.session_close = (struct wire_session_close){.job = BENCH_JOB,
                                                        .shard = bench->config.index,
                                                        .session = session,
                                                        .incarnation = incarnation,
                                                        .reason = reason};
    return shard_bench_send(bench, SHARD_ROUTE_CONTROL, &message);
}

struct bench_reply *shard_bench_hello(struct shard_bench *bench, uint64_t session, uint64_t route) {
    struct wire_message message = {.kind = WIRE_HELLO, .request = ++bench->next_request};
    message.hello = (struct wire_hello){
        .session = session, .incarnation = 1, .token = session * 3, .job = BENCH_JOB, .window = 64, .seq_floor = 1};
    return shard_bench_send(bench, route, &message);
}

void shard_bench_join(struct shard_bench *bench, uint64_t session) {
    ck_assert_uint_eq(shard_bench_open_session(bench, session, 1)->status, LG_OK);
    ck_assert_int_eq(shard_bench_hello(bench, session, session)->kind, WIRE_HELLO_REPLY);
}

uint32_t shard_bench_elements(const struct shard_bench *bench, uint32_t unit) {
    struct block_table table;
    ck_assert_int_eq(block_table_init(&table, bench->tensors, bench->tensor_count, NULL), LG_OK);
    uint32_t elements = unit < table.count ? table.blocks[unit].elements : 1;
    block_table_deinit(&table);
    return elements;
}

static const struct codec *named(const char *name) {
    const struct codec *codec = codec_plain();
    if (name)
        ck_assert_int_eq(codec_find(name, &codec, NULL), LG_OK);
    return codec;
}

/* The push's values, encoded unit by unit into bench->scratch; the bytes. */
static size_t push_encode(struct shard_bench *bench, const struct bench_push *push, const struct wire_unit *units,
                          size_t count) {
    const struct codec *codec = named(push->codec);
    const struct codec_options options = {.key = push->key, .keep = 0.1};
    size_t total = 0, room = 0, used = 0;
    for (size_t i = 0; i < count; i++) {
        total += units[i].elements;
        room += codec->bytes_max(units[i].elements, &options);
    }
    float *values = malloc(total * sizeof *values);
    free(bench->scratch);
    bench->scratch = malloc(room);
    ck_assert(values && bench->scratch);
    for (size_t i = 0; i < total; i++)
        values[i] = push->values ? push->values[i] : push->value;
    total = 0;
    for (size_t i = 0; i < count; total += units[i++].elements)
        used += codec->kernels[isa_detect()]->encode(values + total, NULL, units[i].elements, &options,
                                                     (uint8_t *)bench->scratch + used);
    free(values);
    return used;
}

struct bench_reply *shard_bench_push(struct shard_bench *bench, const struct bench_push *push) {
    struct wire_unit units[256];
    size_t count = 0;
    for (uint32_t i = 0; !push->units && i < bench->placement_count; i++)
        if (bench->placement[i] == 0)
            units[count++] = (struct wire_unit){.unit = i, .elements = shard_bench_elements(bench, i)};
    for (; push->units && count < push->unit_count; count++)
        units[count] =
            (struct wire_unit){.unit = push->units[count], .elements = shard_bench_elements(bench, push->units[count])};
    const size_t bytes = push_encode(bench, push, units, count);
    const struct wire_bytes payload = {bench->scratch, bytes};
    const struct codec *codec = named(push->codec), *pull_codec = named(push->pull_codec);
    uint64_t seq = push->seq ? push->seq : bench->next_seq++;
    struct wire_cover cover = {.session = push->session,
                               .incarnation = push->incarnation ? push->incarnation : 1,
                               .seq = seq,
                               .lease = push->lease,
                               .epoch = push->epoch,
                               .first = push->first,
                               .end = push->end,
                               .samples = push->samples};
    struct wire_message message = {.kind = WIRE_PUSH,
                                   .request = seq,
                                   .units = units,
                                   .unit_count = count,
                                   .payload = &payload,
                                   .payload_count = push->kind != WIRE_PUSH_KIND_SKIPPED};
    message.push = (struct wire_push){.session = push->session,
                                      .incarnation = cover.incarnation,
                                      .seq = seq,
                                      .seq_floor = push->seq_floor,
                                      .job = BENCH_JOB,
                                      .map_version = BENCH_MAP,
                                      .clock = push->clock ? push->clock : bench->next_clock++,
                                      .part = push->part,
                                      .part_count = push->part_count ? push->part_count : 1,
                                      .kind = push->kind,
                                      .sign = push->sign,
                                      .samples = push->samples ? push->samples : 1,
                                      .local_steps = 1,
                                      .base = push->base,
                                      .round = push->round,
                                      .dtype = (enum wire_dtype)codec->dtype,
                                      .codec = codec->number,
                                      .pull = push->pull,
                                      .pull_dtype = (enum wire_dtype)pull_codec->dtype,
                                      .pull_codec = pull_codec->number,
                                      .pull_delta = push->pull_delta,
                                      .covers = &cover,
                                      .cover_count = 1};
    struct bench_reply *reply = shard_bench_send(bench, push->route ? push->route : push->session, &message);
    ck_assert_int_eq(reply->kind, WIRE_PUSH_REPLY);
    ck_assert_uint_eq(reply->message.push_reply.seq, seq);
    return reply;
}

const struct bench_gate *shard_bench_answer(const struct shard_bench *bench, uint64_t session) {
    for (size_t i = bench->gate_count; i > 0 && i + 64 > bench->gate_count; i--)
        if (bench->gates[(i - 1) % 64].session == session)
            return &bench->gates[(i - 1) % 64];
    return NULL;
}

uint32_t shard_bench_gate(struct shard_bench *bench, uint64_t session, enum wire_gate_kind kind, uint64_t round) {
    uint64_t tag = ++bench->next_tag;
    struct wire_message message = {.kind = WIRE_GATE,
                                   .request = tag,
                                   .gate = {.session = session,
                                            .incarnation = 1,
                                            .job = BENCH_JOB,
                                            .map_version = BENCH_MAP,
                                            .tag = tag,
                                            .kind = kind,
                                            .round = round}};
    shard_receive(bench->shard, &(struct shard_input){.route = session, .message = &message});
    const struct bench_gate *answer = shard_bench_answer(bench, session);
    return answer && answer->tag == tag ? answer->status : UINT32_MAX;
}

void shard_bench_initialise(struct shard_bench *bench, uint64_t session, float value) {
    struct bench_reply *reply = shard_bench_push(
        bench, &(struct bench_push){.session = session, .kind = WIRE_PUSH_KIND_INITIAL, .value = value});
    ck_assert_msg(reply->status == LG_OK, "%s", reply->reason);
}

struct bench_reply *shard_bench_pull(struct shard_bench *bench, uint64_t session, const uint64_t *held) {
    return shard_bench_pull_as(bench, session, held, NULL, false);
}

struct bench_reply *shard_bench_pull_as(struct shard_bench *bench, uint64_t session, const uint64_t *held,
                                        const char *codec, bool delta) {
    struct wire_unit units[256];
    size_t count = 0;
    for (uint32_t i = 0; i < bench->placement_count; i++)
        if (bench->placement[i] == 0)
            units[count++] = (struct wire_unit){
                .unit = i, .elements = shard_bench_elements(bench, i), .version = held ? held[i] : 0};
    struct wire_message message = {.kind = WIRE_PULL, .request = 99, .units = units, .unit_count = count};
    message.pull =
        (struct wire_pull){.session = session, .incarnation = 1, .job = BENCH_JOB, .map_version = BENCH_MAP, .tag = 99};
    message.pull.dtype = (enum wire_dtype)named(codec)->dtype;
    message.pull.codec = named(codec)->number;
    message.pull.delta = delta;
    return shard_bench_send(bench, session, &message);
}

uint64_t shard_bench_version(uint64_t counter) {
    return version_make(BENCH_EPOCH, counter);
}

float shard_bench_value(const struct shard_bench *bench, uint32_t unit) {
    uint32_t elements = 0;
    const float *values = shard_unit_data(bench->shard, BENCH_JOB, unit, &elements, NULL);
    ck_assert_ptr_nonnull(values);
    for (uint32_t i = 1; i < elements; i++)
        ck_assert(values[i] == values[0]);
    return values[0];
}
