/* The session against scripted shards: what it sends is kept in a list, what it hears is made by hand. */
#include "client/session.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SENT_MAX = 512, SLOTS_MAX = 4, MS = 1000000 };

/* A message as it was sent; the payload is not copied. */
struct sent {
    uint32_t slot;
    struct wire_message message;
    struct wire_unit *units;
    struct wire_bytes *payload;
    struct wire_cover covers[4];
};

struct bench {
    struct session *session;
    struct sent sent[SENT_MAX];
    size_t count, seen;
    unsigned reopened[SLOTS_MAX];
    bool refuse_sends;
    uint64_t credit, version;
    uint32_t window;
    int64_t now;
    /* memory shared with the shards */
    uint64_t local_version; /* 0: none */
    bool local_busy;
    uint32_t local_busy_index;
    unsigned local_reads;
    const float *local_data;
};

static void *copy_of(const void *data, size_t bytes) {
    void *copy = malloc(bytes ? bytes : 1);
    ck_assert_ptr_nonnull(copy);
    if (bytes)
        memcpy(copy, data, bytes);
    return copy;
}

static bool bench_send(void *context, uint32_t slot, const struct wire_message *message) {
    struct bench *bench = context;
    if (bench->refuse_sends)
        return false;
    ck_assert_uint_lt(bench->count, SENT_MAX);
    struct sent *sent = &bench->sent[bench->count++];
    *sent = (struct sent){.slot = slot, .message = *message};
    sent->units = copy_of(message->units, message->unit_count * sizeof *message->units);
    sent->payload = copy_of(message->payload, message->payload_count * sizeof *message->payload);
    sent->message.units = sent->units;
    sent->message.payload = sent->payload;
    if (message->kind == WIRE_PUSH) {
        ck_assert_uint_le(message->push.cover_count, 4);
        memcpy(sent->covers, message->push.covers, message->push.cover_count * sizeof *sent->covers);
        sent->message.push.covers = sent->covers;
    }
    return true;
}

static void bench_reopen(void *context, uint32_t slot, const char *why) {
    struct bench *bench = context;
    ck_assert_ptr_nonnull(why);
    bench->reopened[slot]++;
}

/* ---- memory shared with the shards */

static bool bench_local_version(void *context, uint32_t slot, uint64_t *version) {
    struct bench *bench = context;
    *version = bench->local_version + slot;
    return bench->local_version != 0;
}

/* Every unit holds its index, at version 100 + index. */
static enum local_read bench_local_read(void *context, uint32_t slot, uint32_t index, float *into, uint64_t *version) {
    struct bench *bench = context;
    (void)slot;
    bench->local_reads++;
    if (bench->local_busy && index == bench->local_busy_index)
        return LOCAL_READ_BUSY;
    if (*version == 100 + index)
        return LOCAL_READ_UNCHANGED;
    into[0] = (float)index;
    *version = 100 + index;
    return LOCAL_READ_DONE;
}

static bool bench_local_gradients(void *context, uint32_t slot, const float *data) {
    struct bench *bench = context;
    (void)slot;
    return bench->local_version != 0 && data == bench->local_data;
}

static struct tensor_spec tensor_of(const char *name, uint64_t elements) {
    struct tensor_spec spec = {.rank = 1, .shape = {elements}, .lr_factor = 1};
    snprintf(spec.name, sizeof spec.name, "%s", name);
    return spec;
}

static void bench_start(struct bench *bench, const struct tensor_spec *tensors, size_t tensor_count,
                        const uint16_t *placement, size_t units, uint32_t shards) {
    *bench = (struct bench){.credit = 8 << 20, .window = 64, .version = version_make(1, 5), .now = 1000 * (int64_t)MS};
    struct session_config config = {.session = 77,
                                    .token = 5,
                                    .job = 3,
                                    .map_version = 2,
                                    .incarnation = 1,
                                    .tensors = tensors,
                                    .tensor_count = tensor_count,
                                    .placement = placement,
                                    .placement_count = units,
                                    .shard_count = shards,
                                    .window = 64,
                                    .reply_timeout_ms = 2000};
    struct session_sink sink = {.context = bench,
                                .send = bench_send,
                                .reopen = bench_reopen,
                                .local_version = bench_local_version,
                                .local_read = bench_local_read,
                                .local_gradients = bench_local_gradients};
    struct lg_error error = {0};
    ck_assert_msg(session_new(&config, &sink, &bench->session, &error) == LG_OK, "%s", error.message);
}

static void bench_stop(struct bench *bench) {
    session_free(bench->session);
    for (size_t i = 0; i < bench->count; i++) {
        free(bench->sent[i].units);
        free(bench->sent[i].payload);
    }
}

/* The next message that was sent; it must be there and of this kind. */
static const struct wire_message *next_sent(struct bench *bench, uint32_t slot, enum wire_kind kind) {
    ck_assert_msg(bench->seen < bench->count, "nothing more was sent");
    struct sent *sent = &bench->sent[bench->seen++];
    ck_assert_int_eq(sent->message.kind, kind);
    ck_assert_uint_eq(sent->slot, slot);
    return &sent->message;
}

static void hear(struct bench *bench, uint32_t slot, struct wire_message message) {
    session_receive(bench->session, slot, &message, bench->now);
}

static void greet(struct bench *bench, uint32_t slot) {
    session_connected(bench->session, slot, bench->now);
    const struct wire_message *hello = next_sent(bench, slot, WIRE_HELLO);
    ck_assert_uint_eq(hello->hello.session, 77);
    ck_assert_uint_eq(hello->hello.token, 5);
    ck_assert_uint_eq(hello->hello.job, 3);
    ck_assert_uint_ne(hello->request, 0);
    hear(bench, slot,
         (struct wire_message){
             .kind = WIRE_HELLO_REPLY,
             .request = hello->request,
             .hello_reply = {
                 .shard = slot, .window = bench->window, .credit_bytes = bench->credit, .version = bench->version}});
}

static void acknowledge(struct bench *bench, uint32_t slot, uint64_t seq, uint32_t status) {
    hear(bench, slot,
         (struct wire_message){.kind = WIRE_PUSH_REPLY,
                               .request = seq,
                               .push_reply = {.seq = seq, .status = status, .weight = 1, .reason = "because"}});
}

/* Answers a pull with every unit at `version`, values `value`. */
static void serve_pull(struct bench *bench, uint32_t slot, const struct wire_message *pull, uint64_t version,
                       float value) {
    size_t elements = 0;
    struct wire_unit *units = copy_of(pull->units, pull->unit_count * sizeof *units);
    for (size_t i = 0; i < pull->unit_count; i++) {
        elements += units[i].elements;
        units[i].version = version;
    }
    float *values = malloc(elements * sizeof *values);
    for (size_t i = 0; i < elements; i++)
        values[i] = value;
    struct wire_bytes payload = {values, elements * sizeof *values};
    hear(bench, slot,
         (struct wire_message){.kind = WIRE_PULL_REPLY,
                               .request = pull->request,
                               .pull_reply = {.tag = pull->pull.tag, .version = version},
                               .units = units,
                               .unit_count = pull->unit_count,
                               .payload = &payload,
                               .payload_count = 1});
    free(values);
    free(units);
}

static uint64_t open_push(struct bench *bench, const float *gradients) {
    struct wire_cover cover = {.lease = 9, .fence = 2, .epoch = 1, .first = 10, .end = 14, .samples = 4};
    struct session_push push = {.clock = 1,
                                .kind = WIRE_PUSH_KIND_GRADIENT,
                                .samples = 4,
                                .local_steps = 1,
                                .covers = &cover,
                                .cover_count = 1,
                                .gradients = gradients};
    uint64_t ticket = 0;
    struct lg_error error = {0};
    ck_assert_msg(session_push_open(bench->session, &push, bench->now, &ticket, &error) == LG_OK, "%s", error.message);
    return ticket;
}

/* Three tensors: 5 units of 2^16, then two small ones in units 5 and 6; units 0..3 and 6 on slot 0, 4 and 5 on 1. */
static const uint16_t placement[] = {0, 0, 0, 0, 1, 1, 0};
enum { BIG = 5 * BLOCK_ELEMENTS, ELEMENTS = BIG + 30, UNITS = 7, TENSORS = 3 };
static float gradients[ELEMENTS], parameters[ELEMENTS];

static void bench_start_usual(struct bench *bench) {
    struct tensor_spec tensors[] = {tensor_of("big", BIG), tensor_of("small", 10), tensor_of("last", 20)};
    bench_start(bench, tensors, TENSORS, placement, UNITS, 2);
}

START_TEST(parts_go_out_last_tensors_first) {
    struct bench bench;
    bench_start_usual(&bench);
    greet(&bench, 0);
    greet(&bench, 1);
    uint64_t ticket = open_push(&bench, gradients);
    session_push_ready(bench.session, 2, 1, bench.now);
    ck_assert_uint_eq(bench.seen, bench.count); /* "last" shares its part with units of "big" */
    session_push_ready(bench.session, 1, 1, bench.now);
    ck_assert_uint_eq(bench.seen, bench.count);
    session_push_ready(bench.session, 0, 1, bench.now);

    const struct wire_message *first = next_sent(&bench, 0, WIRE_PUSH);
    ck_assert_uint_eq(first->push.part, 0);
    ck_assert_uint_eq(first->push.part_count, 2);
    ck_assert_uint_eq(first->unit_count, 4); /* 1, 2, 3, 6: 3/4 MiB and 80 bytes */
    ck_assert_uint_eq(first->units[0].unit, 1);
    ck_assert_uint_eq(first->units[3].unit, 6);
    ck_assert_uint_eq(first->units[3].elements, 20);
    ck_assert_uint_eq(first->payload_count, 2); /* 1..3 lie together */
    ck_assert_ptr_eq(first->payload[0].data, gradients + BLOCK_ELEMENTS);
    ck_assert_uint_eq(first->payload[0].bytes, 3 * BLOCK_ELEMENTS * sizeof(float));
    ck_assert_ptr_eq(first->payload[1].data, gradients + BIG + 10);
    ck_assert_uint_eq(first->payload[1].bytes, 20 * sizeof(float));
    ck_assert_uint_eq(first->push.covers[0].session, 77);
    ck_assert_uint_eq(first->push.covers[0].incarnation, 1);
    ck_assert_uint_eq(first->push.covers[0].seq, first->push.seq);
    ck_assert_uint_eq(first->push.covers[0].lease, 9);
    ck_assert_uint_eq(first->push.covers[0].end, 14);
    ck_assert_uint_eq(first->push.base, bench.version); /* never pulled: from the greeting */

    const struct wire_message *second = next_sent(&bench, 0, WIRE_PUSH);
    ck_assert_uint_eq(second->push.part, 1);
    ck_assert_uint_eq(second->unit_count, 1);
    const struct wire_message *other = next_sent(&bench, 1, WIRE_PUSH);
    ck_assert_uint_eq(other->push.part_count, 1);
    ck_assert_uint_eq(other->payload_count, 1); /* units 4 and 5 touch, over the border of the tensors */
    ck_assert_uint_ne(first->push.seq, second->push.seq);
    ck_assert_uint_ne(second->push.seq, other->push.seq);

    struct session_push_result result;
    acknowledge(&bench, 0, first->push.seq, LG_OK);
    acknowledge(&bench, 1, other->push.seq, LG_OK);
    ck_assert_int_eq(session_push_poll(bench.session, ticket, &result, NULL), LG_UNAVAILABLE);
    acknowledge(&bench, 0, second->push.seq, LG_OK);
    ck_assert_int_eq(session_push_poll(bench.session, ticket, &result, NULL), LG_OK);
    ck_assert(result.weight_min == 1.0f);
    bench_stop(&bench);
}
END_TEST

START_TEST(an_early_tensor_goes_before_the_rest_is_ready) {
    struct bench bench;
    struct tensor_spec tensors[] = {tensor_of("a", 4 * BLOCK_ELEMENTS), tensor_of("b", 4 * BLOCK_ELEMENTS)};
    static const uint16_t one[8] = {0};
    static float big[8 * BLOCK_ELEMENTS];
    bench_start(&bench, tensors, 2, one, 8, 1);
    greet(&bench, 0);
    (void)open_push(&bench, big);
    session_push_ready(bench.session, 1, 1, bench.now);
    const struct wire_message *part = next_sent(&bench, 0, WIRE_PUSH);
    ck_assert_uint_eq(part->units[0].unit, 4);
    ck_assert_uint_eq(part->payload_count, 1);
    ck_assert_uint_eq(part->payload[0].bytes, WIRE_PART_BYTES);
    ck_assert_uint_eq(bench.seen, bench.count);
    session_push_ready(bench.session, 0, 1, bench.now);
    ck_assert_uint_eq(next_sent(&bench, 0, WIRE_PUSH)->units[0].unit, 0);
    bench_stop(&bench);
}
END_TEST

START_TEST(many_small_tensors_stay_within_the_limits_of_a_message) {
    enum { COUNT = 1200 };
    static struct tensor_spec tensors[COUNT];
    static uint16_t spread[COUNT];
    static float values[COUNT * 8];
    for (size_t i = 0; i < COUNT; i++) {
        char name[16];
        snprintf(name, sizeof name, "t%zu", i);
        tensors[i] = tensor_of(name, 8);
        spread[i] = (uint16_t)(i % 2); /* no two neighbours on one shard: a frame for every unit */
    }
    struct bench bench;
    bench_start(&bench, tensors, COUNT, spread, COUNT, 2);
    greet(&bench, 0);
    greet(&bench, 1);
    (void)open_push(&bench, values);
    session_push_ready(bench.session, 0, COUNT, bench.now);
    size_t units = 0, parts = 0;
    for (; bench.seen < bench.count; bench.seen++, parts++) {
        const struct wire_message *part = &bench.sent[bench.seen].message;
        ck_assert_uint_le(part->payload_count, WIRE_PAYLOAD_FRAMES_MAX);
        ck_assert_uint_eq(part->payload_count, part->unit_count);
        units += part->unit_count;
    }
    ck_assert_uint_eq(units, COUNT);
    ck_assert_uint_eq(parts, 6); /* 600 units a shard, 256 frames a message */
    ck_assert_int_eq(session_pull_open(bench.session, values, bench.now, NULL), LG_OK);
    for (units = 0; bench.seen < bench.count; bench.seen++) {
        ck_assert_int_eq(bench.sent[bench.seen].message.kind, WIRE_PULL);
        ck_assert_uint_le(bench.sent[bench.seen].message.unit_count, WIRE_UNITS_MAX);
        units += bench.sent[bench.seen].message.unit_count;
    }
    ck_assert_uint_eq(units, COUNT);
    bench_stop(&bench);
}
END_TEST

START_TEST(a_lost_connection_resends_in_order_with_the_same_seqs) {
    struct bench bench;
    bench_start_usual(&bench);
    greet(&bench, 0);
    greet(&bench, 1);
    uint64_t ticket = open_push(&bench, gradients);
    session_push_ready(bench.session, 0, TENSORS, bench.now);
    uint64_t first = next_sent(&bench, 0, WIRE_PUSH)->push.seq, second = next_sent(&bench, 0, WIRE_PUSH)->push.seq;
    uint64_t other = next_sent(&bench, 1, WIRE_PUSH)->push.seq;
    ck_assert_int_eq(session_pull_open(bench.session, parameters, bench.now, NULL), LG_OK);
    next_sent(&bench, 0, WIRE_PULL);
    next_sent(&bench, 0, WIRE_PULL);
    const struct wire_message *pull = next_sent(&bench, 1, WIRE_PULL);
    serve_pull(&bench, 1, pull, version_make(1, 6), 1);
    acknowledge(&bench, 1, other, LG_OK);

    session_disconnected(bench.session, 0, bench.now);
    acknowledge(&bench, 0, first, LG_OK); /* nothing is heard on a lost connection */
    greet(&bench, 0);
    ck_assert_uint_eq(next_sent(&bench, 0, WIRE_PUSH)->push.seq, first);
    ck_assert_uint_eq(next_sent(&bench, 0, WIRE_PUSH)->push.seq, second);
    const struct wire_message *again[2] = {next_sent(&bench, 0, WIRE_PULL), next_sent(&bench, 0, WIRE_PULL)};
    acknowledge(&bench, 0, first, LG_DUPLICATE);
    acknowledge(&bench, 0, first, LG_DUPLICATE); /* twice: the second changes nothing */
    ck_assert_int_eq(session_push_poll(bench.session, ticket, NULL, NULL), LG_UNAVAILABLE);
    acknowledge(&bench, 0, second, LG_OK);
    ck_assert_int_eq(session_push_poll(bench.session, ticket, NULL, NULL), LG_OK);
    ck_assert_int_eq(session_pull_poll(bench.session, NULL), LG_UNAVAILABLE);
    for (int i = 0; i < 2; i++)
        serve_pull(&bench, 0, again[i], version_make(1, 7), 2);
    ck_assert_int_eq(session_pull_poll(bench.session, NULL), LG_OK);
    ck_assert(parameters[0] == 2.0f && parameters[BIG] == 1.0f && parameters[ELEMENTS - 1] == 2.0f);
    bench_stop(&bench);
}
END_TEST

START_TEST(the_base_is_the_least_version_of_the_last_completed_pull) {
    struct bench bench;
    bench_start_usual(&bench);
    greet(&bench, 0);
    greet(&bench, 1);
    ck_assert_int_eq(session_pull_open(bench.session, parameters, bench.now, NULL), LG_OK);
    const struct wire_message *pulls[] = {next_sent(&bench, 0, WIRE_PULL), next_sent(&bench, 0, WIRE_PULL),
                                          next_sent(&bench, 1, WIRE_PULL)};
    serve_pull(&bench, 0, pulls[1], version_make(1, 8), 1);
    serve_pull(&bench, 0, pulls[0], version_make(1, 9), 1);
    serve_pull(&bench, 1, pulls[2], version_make(1, 20), 1);
    ck_assert_int_eq(session_pull_poll(bench.session, NULL), LG_OK);
    (void)open_push(&bench, gradients);
    /* a pull that starts now must not move the base of the push that is open */
    ck_assert_int_eq(session_pull_open(bench.session, parameters, bench.now, NULL), LG_OK);
    for (int i = 0; i < 2; i++)
        serve_pull(&bench, 0, next_sent(&bench, 0, WIRE_PULL), version_make(1, 30), 1);
    serve_pull(&bench, 1, next_sent(&bench, 1, WIRE_PULL), version_make(1, 31), 1);
    ck_assert_int_eq(session_pull_poll(bench.session, NULL), LG_OK);
    session_push_ready(bench.session, 0, TENSORS, bench.now);
    ck_assert_uint_eq(next_sent(&bench, 0, WIRE_PUSH)->push.base, version_make(1, 8));
    ck_assert_uint_eq(next_sent(&bench, 0, WIRE_PUSH)->push.base, version_make(1, 8));
    ck_assert_uint_eq(next_sent(&bench, 1, WIRE_PUSH)->push.base, version_make(1, 20));
    bench_stop(&bench);
}
END_TEST

START_TEST(unchanged_units_are_left_out_for_the_same_buffer_only) {
    struct bench bench;
    static float second[ELEMENTS];
    bench_start_usual(&bench);
    greet(&bench, 0);
    greet(&bench, 1);
    for (int round = 0; round < 2; round++) {
        float *buffer = round == 0 ? parameters : second;
        ck_assert_int_eq(session_pull_open(bench.session, buffer, bench.now, NULL), LG_OK);
        for (int i = 0; i < 3; i++) {
            const struct wire_message *pull = next_sent(&bench, i < 2 ? 0 : 1, WIRE_PULL);
            for (size_t u = 0; u < pull->unit_count; u++)
                ck_assert_uint_eq(pull->units[u].version, 0);
            serve_pull(&bench, i < 2 ? 0 : 1, pull, version_make(1, 8), 3);
        }
    }
    parameters[7] = 99; /* must stay: nothing is sent for it */
    ck_assert_int_eq(session_pull_open(bench.session, parameters, bench.now, NULL), LG_OK);
    for (int i = 0; i < 3; i++) {
        const struct wire_message *pull = next_sent(&bench, i < 2 ? 0 : 1, WIRE_PULL);
        for (size_t u = 0; u < pull->unit_count; u++)
            ck_assert_uint_eq(pull->units[u].version, version_make(1, 8));
        hear(&bench, i < 2 ? 0 : 1,
             (struct wire_message){.kind = WIRE_PULL_REPLY,
                                   .pull_reply = {.tag = pull->pull.tag,
                                                  .version = version_make(1, 8),
                                                  .units_unchanged = (uint32_t)pull->unit_count}});
    }
    ck_assert_int_eq(session_pull_poll(bench.session, NULL), LG_OK);
    ck_assert(parameters[7] == 99.0f);
    session_pull_forget(bench.session);
    ck_assert_int_eq(session_pull_open(bench.session, parameters, bench.now, NULL), LG_OK);
    ck_assert_uint_eq(next_sent(&bench, 0, WIRE_PULL)->units[0].version, 0);
    bench_stop(&bench);
}
END_TEST

/* What a broken shard may answer; each must close the connection and leave the pull waiting. */
START_TEST(a_pull_reply_that_does_not_fit_is_refused) {
    struct bench bench;
    bench_start_usual(&bench);
    greet(&bench, 0);
    greet(&bench, 1);
    ck_assert_int_eq(session_pull_open(bench.session, parameters, bench.now, NULL), LG_OK);
    const struct wire_message *pull = next_sent(&bench, 0, WIRE_PULL);
    struct wire_unit units[4];
    memcpy(units, pull->units, sizeof units);
    static float values[4 * BLOCK_ELEMENTS];
    struct wire_bytes payload = {values, sizeof values};
    struct wire_message reply = {.kind = WIRE_PULL_REPLY,
                                 .pull_reply = {.tag = pull->pull.tag, .version = 1},
                                 .units = units,
                                 .unit_count = 4,
                                 .payload = &payload,
                                 .payload_count = 1};
    switch (_i) {
    case 0:
        payload.bytes -= 4;
        break;
    case 1:
        units[3].unit = 6;
        break;
    case 2:
        units[1].elements = 7;
        break;
    case 3:
        reply.unit_count = 3; /* left out, though nothing was held */
        break;
    case 4:
        reply.pull_reply.codec = 4;
        break;
    case 5:
        reply.payload_count = 0;
        break;
    }
    hear(&bench, 0, reply);
    ck_assert_uint_eq(bench.reopened[0], 1);
    ck_assert_int_eq(session_pull_poll(bench.session, NULL), LG_UNAVAILABLE);
    bench_stop(&bench);
}
END_TEST

START_TEST(credit_bounds_what_is_in_flight_but_one_message_always_goes) {
    struct bench bench;
    bench_start_usual(&bench);
    bench.credit = 1000;
    greet(&bench, 0);
    greet(&bench, 1);
    (void)open_push(&bench, gradients);
    session_push_ready(bench.session, 0, TENSORS, bench.now);
    ck_assert_int_eq(session_pull_open(bench.session, parameters, bench.now, NULL), LG_OK);
    uint64_t first = next_sent(&bench, 0, WIRE_PUSH)->push.seq;
    next_sent(&bench, 1, WIRE_PUSH);
    ck_assert_uint_eq(bench.seen, bench.count);
    acknowledge(&bench, 0, first, LG_OK);
    uint64_t second = next_sent(&bench, 0, WIRE_PUSH)->push.seq;
    ck_assert_uint_eq(bench.seen, bench.count); /* the pull waits behind the push */
    acknowledge(&bench, 0, second, LG_OK);
    const struct wire_message *pull = next_sent(&bench, 0, WIRE_PULL);
    ck_assert_uint_eq(bench.seen, bench.count);
    serve_pull(&bench, 0, pull, version_make(1, 6), 0);
    next_sent(&bench, 0, WIRE_PULL);
    bench_stop(&bench);
}
END_TEST

START_TEST(seqs_stay_within_the_least_window_granted) {
    struct bench bench;
    bench_start_usual(&bench);
    bench.window = 2;
    greet(&bench, 0);
    bench.window = 50;
    greet(&bench, 1);
    (void)open_push(&bench, gradients);
    session_push_ready(bench.session, 0, TENSORS, bench.now);
    uint64_t first = next_sent(&bench, 0, WIRE_PUSH)->push.seq, second = next_sent(&bench, 0, WIRE_PUSH)->push.seq;
    ck_assert_uint_eq(bench.seen, bench.count);
    acknowledge(&bench, 0, second, LG_OK); /* the floor stands at the first */
    ck_assert_uint_eq(bench.seen, bench.count);
    acknowledge(&bench, 0, first, LG_OK);
    const struct wire_message *third = next_sent(&bench, 1, WIRE_PUSH);
    ck_assert_uint_eq(third->push.seq_floor, third->push.seq);
    bench_stop(&bench);
}
END_TEST

START_TEST(unavailable_is_tried_again_with_growing_patience) {
    struct bench bench;
    bench_start_usual(&bench);
    greet(&bench, 0);
    greet(&bench, 1);
    ck_assert_int_eq(session_pull_open(bench.session, parameters, bench.now, NULL), LG_OK);
    for (int i = 0; i < 2; i++)
        serve_pull(&bench, 0, next_sent(&bench, 0, WIRE_PULL), version_make(1, 6), 1);
    uint64_t tag = next_sent(&bench, 1, WIRE_PULL)->pull.tag;
    int64_t waits[] = {100, 200, 400, 800, 1000, 1000};
    for (size_t i = 0; i < sizeof waits / sizeof *waits; i++) {
        hear(&bench, 1, (struct wire_message){.kind = WIRE_ERROR, .error = {LG_UNAVAILABLE, "no values yet", tag}});
        char text[128];
        session_describe(bench.session, bench.now, text, sizeof text);
        ck_assert_str_eq(text, "shard 1: no values yet");
        ck_assert_int_le(session_next_tick_ns(bench.session, bench.now), waits[i] * MS);
        bench.now += waits[i] * MS - 1;
        session_tick(bench.session, bench.now);
        ck_assert_uint_eq(bench.seen, bench.count);
        bench.now += 1;
        session_tick(bench.session, bench.now);
        tag = next_sent(&bench, 1, WIRE_PULL)->pull.tag;
    }
    bench_stop(&bench);
}
END_TEST

START_TEST(silence_reopens_the_connection) {
    struct bench bench;
    bench_start_usual(&bench);
    greet(&bench, 0);
    greet(&bench, 1);
    ck_assert_int_eq(session_next_tick_ns(bench.session, bench.now), -1);
    ck_assert_int_eq(session_pull_open(bench.session, parameters, bench.now, NULL), LG_OK);
    bench.now += 1500 * (int64_t)MS;
    char text[128];
    session_describe(bench.session, bench.now, text, sizeof text);
    ck_assert_str_eq(text, "shard 0: no answer for 1.5 s");
    session_tick(bench.session, bench.now);
    ck_assert_uint_eq(bench.reopened[0], 0);
    ck_assert_int_eq(session_next_tick_ns(bench.session, bench.now), 500 * (int64_t)MS);
    bench.now += 500 * (int64_t)MS;
    session_tick(bench.session, bench.now);
    ck_assert_uint_eq(bench.reopened[0], 1);
    ck_assert_uint_eq(bench.reopened[1], 1);
    session_tick(bench.session, bench.now + 5000 * (int64_t)MS);
    ck_assert_uint_eq(bench.reopened[0], 1);
    /* an unanswered hello counts as silence too */
    session_connected(bench.session, 0, bench.now);
    session_tick(bench.session, bench.now + 2000 * (int64_t)MS);
    ck_assert_uint_eq(bench.reopened[0], 2);
    bench_stop(&bench);
}
END_TEST

START_TEST(a_fence_ends_the_session) {
    struct bench bench;
    bench_start_usual(&bench);
    greet(&bench, 0);
    greet(&bench, 1);
    uint64_t ticket = open_push(&bench, gradients);
    session_push_ready(bench.session, 0, TENSORS, bench.now);
    ck_assert_int_eq(session_pull_open(bench.session, parameters, bench.now, NULL), LG_OK);
    uint64_t seq = next_sent(&bench, 0, WIRE_PUSH)->push.seq;
    if (_i == 0)
        acknowledge(&bench, 0, seq, LG_FENCED);
    else
        hear(&bench, 0, (struct wire_message){.kind = WIRE_ERROR, .error = {LG_FENCED, "because", 0}});
    struct lg_error error = {0};
    ck_assert_int_eq(session_status(bench.session, &error), LG_FENCED);
    ck_assert_str_eq(error.message, "because");
    ck_assert_int_eq(session_push_poll(bench.session, ticket, NULL, &error), LG_FENCED);
    ck_assert_int_eq(session_pull_poll(bench.session, &error), LG_FENCED);
    ck_assert_int_eq(session_pull_open(bench.session, parameters, bench.now, &error), LG_FENCED);
    size_t count = bench.count;
    session_connected(bench.session, 0, bench.now);
    session_tick(bench.session, bench.now + 100000 * (int64_t)MS);
    ck_assert_uint_eq(bench.count, count);
    bench_stop(&bench);
}
END_TEST

START_TEST(a_refused_push_fails_once_every_part_is_answered) {
    struct bench bench;
    bench_start_usual(&bench);
    greet(&bench, 0);
    greet(&bench, 1);
    uint64_t ticket = open_push(&bench, gradients);
    session_push_ready(bench.session, 0, TENSORS, bench.now);
    uint64_t seqs[3];
    for (int i = 0; i < 3; i++)
        seqs[i] = next_sent(&bench, i < 2 ? 0 : 1, WIRE_PUSH)->push.seq;
    struct lg_error error = {0};
    acknowledge(&bench, 0, seqs[0], LG_NONFINITE);
    acknowledge(&bench, 0, seqs[1], LG_OK);
    ck_assert_int_eq(session_push_poll(bench.session, ticket, NULL, &error), LG_UNAVAILABLE);
    acknowledge(&bench, 1, seqs[2], LG_OK);
    ck_assert_int_eq(session_push_poll(bench.session, ticket, NULL, &error), LG_NONFINITE);
    ck_assert_str_eq(error.message, "shard 0 refused the push: because");
    ck_assert_int_eq(session_status(bench.session, NULL), LG_OK);
    ck_assert_int_eq(session_push_poll(bench.session, ticket, NULL, &error), LG_INVALID);
    bench_stop(&bench);
}
END_TEST

START_TEST(results_are_gathered_over_shards) {
    struct bench bench;
    bench_start_usual(&bench);
    greet(&bench, 0);
    greet(&bench, 1);
    uint64_t ticket = open_push(&bench, gradients);
    session_push_ready(bench.session, 0, TENSORS, bench.now);
    static const uint64_t cuts[3][2] = {{12, 13}, {13, 15}, {11, 12}};
    for (int i = 0; i < 3; i++) {
        uint64_t seq = next_sent(&bench, i < 2 ? 0 : 1, WIRE_PUSH)->push.seq;
        hear(&bench, i < 2 ? 0 : 1,
             (struct wire_message){.kind = WIRE_PUSH_REPLY,
                                   .push_reply = {.seq = seq,
                                                  .status = i == 1 ? LG_DROPPED : LG_OK,
                                                  .staleness = (uint64_t)(i == 2 ? 3 : 1),
                                                  .weight = i == 1 ? 0.0f : 0.5f,
                                                  .units_applied = 1,
                                                  .units_repeated = 2,
                                                  .cuts = cuts[i],
                                                  .cut_count = 2}});
    }
    struct session_push_result result;
    ck_assert_int_eq(session_push_poll(bench.session, ticket, &result, NULL), LG_OK);
    ck_assert_uint_eq(result.staleness_max, 3);
    ck_assert(result.weight_min == 0.0f);
    ck_assert(result.dropped);
    ck_assert_uint_eq(result.units_applied, 3);
    ck_assert_uint_eq(result.units_repeated, 6);
    ck_assert_uint_eq(result.cut_count, 4);
    for (size_t i = 0; i < 4; i++)
        ck_assert_uint_eq(result.cuts[i], ((uint64_t[]){11, 12, 13, 15})[i]);
    bench_stop(&bench);
}
END_TEST

/* ---- pushes that bring values back */

static uint64_t open_push_pull(struct bench *bench, float *target) {
    struct session_push push = {.clock = 2,
                                .kind = WIRE_PUSH_KIND_GRADIENT,
                                .samples = 4,
                                .local_steps = 1,
                                .gradients = gradients,
                                .parameters = target};
    uint64_t ticket = 0;
    struct lg_error error = {0};
    ck_assert_msg(session_push_open(bench->session, &push, bench->now, &ticket, &error) == LG_OK, "%s", error.message);
    session_push_ready(bench->session, 0, TENSORS, bench->now);
    return ticket;
}

/* Answers a push part with its units at `version`, all values `value`, but for the first `left_out` units. */
static void serve_push(struct bench *bench, uint32_t slot, const struct wire_message *push, uint64_t version,
                       float value, size_t left_out) {
    size_t count = push->unit_count - left_out, elements = 0;
    struct wire_unit *units = copy_of(push->units + left_out, count * sizeof *units);
    for (size_t i = 0; i < count; i++) {
        elements += units[i].elements;
        units[i].version = version;
    }
    float *values = malloc((elements + 1) * sizeof *values);
    for (size_t i = 0; i < elements; i++)
        values[i] = value;
    struct wire_bytes payload = {values, elements * sizeof *values};
    hear(bench, slot,
         (struct wire_message){.kind = WIRE_PUSH_REPLY,
                               .request = push->request,
                               .push_reply = {.seq = push->push.seq, .weight = 1, .values_version = version},
                               .units = units,
                               .unit_count = count,
                               .payload = &payload,
                               .payload_count = count > 0});
    free(values);
    free(units);
}

START_TEST(parameters_are_read_in_place) {
    struct bench bench;
    static float target[ELEMENTS];
    bench_start_usual(&bench);
    greet(&bench, 0);
    greet(&bench, 1);
    bench.local_version = version_make(1, 40);
    ck_assert_int_eq(session_pull_open(bench.session, target, bench.now, NULL), LG_OK);
    ck_assert_int_eq(session_pull_poll(bench.session, NULL), LG_OK);
    ck_assert_uint_eq(bench.count, bench.seen); /* without a message */
    ck_assert_uint_eq(bench.local_reads, UNITS);
    ck_assert(target[BLOCK_ELEMENTS] == 1);
    (void)open_push(&bench, gradients);
    session_push_ready(bench.session, 0, TENSORS, bench.now);
    const struct wire_message *push = next_sent(&bench, 0, WIRE_PUSH);
    ck_assert_uint_eq(push->push.base, version_make(1, 40));
    ck_assert_uint_eq(push->push.read_bytes, (4 * BLOCK_ELEMENTS + 20) * sizeof(float)); /* told once */
    ck_assert_uint_eq(next_sent(&bench, 0, WIRE_PUSH)->push.read_bytes, 0);
    ck_assert_uint_eq(next_sent(&bench, 1, WIRE_PUSH)->push.base, version_make(1, 41));
    bench_stop(&bench);
}
END_TEST

START_TEST(what_stays_in_change_is_asked_for) {
    struct bench bench;
    static float target[ELEMENTS];
    bench_start_usual(&bench);
    greet(&bench, 0);
    greet(&bench, 1);
    bench.local_version = version_make(1, 40);
    bench.local_busy = true;
    bench.local_busy_index = 1;
    ck_assert_int_eq(session_pull_open(bench.session, target, bench.now, NULL), LG_OK);
    const struct wire_message *pull = next_sent(&bench, 0, WIRE_PULL);
    ck_assert_uint_eq(pull->units[0].version, 100); /* was read */
    ck_assert_uint_eq(pull->units[1].version, 0);
    ck_assert_int_eq(session_pull_poll(bench.session, NULL), LG_UNAVAILABLE);
    bench_stop(&bench);
}
END_TEST

/* A message would queue up behind the push; memory has no queue. */
START_TEST(reading_in_place_waits_for_pushes_on_their_way) {
    struct bench bench;
    static float target[ELEMENTS];
    bench_start_usual(&bench);
    greet(&bench, 0);
    greet(&bench, 1);
    bench.local_version = version_make(1, 40);
    (void)open_push(&bench, gradients);
    session_push_ready(bench.session, 0, TENSORS, bench.now);
    uint64_t seqs[3];
    for (int i = 0; i < 3; i++)
        seqs[i] = next_sent(&bench, i < 2 ? 0 : 1, WIRE_PUSH)->push.seq;
    ck_assert_int_eq(session_pull_open(bench.session, target, bench.now, NULL), LG_OK);
    ck_assert_uint_eq(bench.local_reads, 0);
    acknowledge(&bench, 0, seqs[0], LG_OK);
    ck_assert_uint_eq(bench.local_reads, 0);
    acknowledge(&bench, 0, seqs[1], LG_OK);
    ck_assert_uint_eq(bench.local_reads, 5);
    acknowledge(&bench, 1, seqs[2], LG_OK);
    ck_assert_int_eq(session_pull_poll(bench.session, NULL), LG_OK);
    ck_assert_uint_eq(bench.count, bench.seen);
    bench_stop(&bench);
}
END_TEST

START_TEST(gradients_in_place_take_no_credit) {
    struct bench bench;
    bench_start_usual(&bench);
    bench.credit = 1;
    greet(&bench, 0);
    greet(&bench, 1);
    bench.local_version = version_make(1, 40);
    bench.local_data = gradients;
    (void)open_push(&bench, gradients);
    session_push_ready(bench.session, 0, TENSORS, bench.now);
    for (int i = 0; i < 3; i++)
        acknowledge(&bench, i < 2 ? 0 : 1, next_sent(&bench, i < 2 ? 0 : 1, WIRE_PUSH)->push.seq, LG_OK);
    bench_stop(&bench);
}
END_TEST

START_TEST(a_push_that_wants_values_reads_them_in_place) {
    struct bench bench;
    static float target[ELEMENTS];
    bench_start_usual(&bench);
    greet(&bench, 0);
    greet(&bench, 1);
    bench.local_version = version_make(1, 40);
    bench.local_busy = true; /* one unit of each shard: its part goes again and asks */
    uint64_t ticket = open_push_pull(&bench, target);
    unsigned again = 0;
    for (int i = 0; i < 3; i++) {
        uint32_t slot = i < 2 ? 0 : 1;
        const struct wire_message *part = next_sent(&bench, slot, WIRE_PUSH);
        ck_assert(!part->push.pull);
        serve_push(&bench, slot, part, version_make(1, 41), 0, part->unit_count);
    }
    while (bench.seen < bench.count) {
        uint32_t slot = bench.sent[bench.seen].slot;
        const struct wire_message *part = next_sent(&bench, slot, WIRE_PUSH);
        ck_assert(part->push.pull);
        serve_push(&bench, slot, part, version_make(1, 42), 5, 0);
        again++;
    }
    ck_assert_uint_eq(again, 2);
    ck_assert_int_eq(session_push_poll(bench.session, ticket, NULL, NULL), LG_OK);
    ck_assert(target[0] == 5);
    bench_stop(&bench);
}
END_TEST

START_TEST(a_push_brings_values_and_their_base_back) {
    struct bench bench;
    static float second[ELEMENTS];
    struct session_push_result result;
    bench_start_usual(&bench);
    greet(&bench, 0);
    greet(&bench, 1);
    uint64_t ticket = open_push_pull(&bench, second);
    const struct wire_message *parts[] = {next_sent(&bench, 0, WIRE_PUSH), next_sent(&bench, 0, WIRE_PUSH),
                                          next_sent(&bench, 1, WIRE_PUSH)};
    ck_assert(parts[0]->push.pull && parts[2]->push.pull);
    ck_assert_uint_eq(parts[0]->units[0].version, 0);
    serve_push(&bench, 0, parts[1], version_make(1, 9), 2, 0);
    serve_push(&bench, 1, parts[2], version_make(1, 30), 3, 0);
    serve_push(&bench, 1, parts[2], version_make(1, 20), 77, 0); /* a second answer changes nothing */
    ck_assert_int_eq(session_push_poll(bench.session, ticket, &result, NULL), LG_UNAVAILABLE);
    serve_push(&bench, 0, parts[0], version_make(1, 8), 4, 0);
    ck_assert_int_eq(session_push_poll(bench.session, ticket, &result, NULL), LG_OK);
    ck_assert(second[0] == 2 && second[BLOCK_ELEMENTS] == 4 && second[BIG - 1] == 3 && second[BIG] == 3);
    ck_assert(second[ELEMENTS - 1] == 4);

    ticket = open_push_pull(&bench, second); /* what is held is told, and may be left out */
    const struct wire_message *again[] = {next_sent(&bench, 0, WIRE_PUSH), next_sent(&bench, 0, WIRE_PUSH),
                                          next_sent(&bench, 1, WIRE_PUSH)};
    ck_assert_uint_eq(again[0]->push.base, version_make(1, 8));
    ck_assert_uint_eq(again[2]->push.base, version_make(1, 30));
    ck_assert_uint_eq(again[1]->units[0].version, version_make(1, 9));
    ck_assert_uint_eq(again[2]->units[1].version, version_make(1, 30));
    serve_push(&bench, 0, again[0], version_make(1, 11), 6, 1);
    serve_push(&bench, 0, again[1], version_make(1, 12), 7, 1);
    serve_push(&bench, 1, again[2], version_make(1, 31), 8, 0);
    ck_assert_int_eq(session_push_poll(bench.session, ticket, &result, NULL), LG_OK);
    ck_assert(second[0] == 2 && second[BLOCK_ELEMENTS] == 4 && second[2 * BLOCK_ELEMENTS] == 6 && second[BIG] == 8);
    ck_assert_int_eq(session_pull_open(bench.session, second, bench.now, NULL), LG_OK);
    const struct wire_message *pull = next_sent(&bench, 0, WIRE_PULL);
    ck_assert_uint_eq(pull->units[0].version, version_make(1, 9));
    ck_assert_uint_eq(pull->units[1].version, version_make(1, 8));
    ck_assert_uint_eq(pull->units[2].version, version_make(1, 11));
    bench_stop(&bench);
}
END_TEST

START_TEST(a_part_whose_values_are_missing_goes_again) {
    struct bench bench;
    struct session_push_result result;
    bench_start_usual(&bench);
    greet(&bench, 0);
    greet(&bench, 1);
    uint64_t ticket = open_push_pull(&bench, parameters);
    const struct wire_message *parts[] = {next_sent(&bench, 0, WIRE_PUSH), next_sent(&bench, 0, WIRE_PUSH),
                                          next_sent(&bench, 1, WIRE_PUSH)};
    serve_push(&bench, 0, parts[1], version_make(1, 9), 2, 0);
    serve_push(&bench, 1, parts[2], version_make(1, 30), 3, 0);
    acknowledge(&bench, 0, parts[0]->push.seq, LG_OK); /* applied, but no memory for the values */
    ck_assert_int_eq(session_push_poll(bench.session, ticket, &result, NULL), LG_UNAVAILABLE);
    ck_assert_uint_eq(bench.seen, bench.count);
    bench.now += 100 * (int64_t)MS;
    session_tick(bench.session, bench.now);
    const struct wire_message *again = next_sent(&bench, 0, WIRE_PUSH);
    ck_assert_uint_eq(again->push.seq, parts[0]->push.seq);
    serve_push(&bench, 0, again, version_make(1, 10), 5, 0);
    ck_assert_int_eq(session_push_poll(bench.session, ticket, &result, NULL), LG_OK);
    ck_assert(parameters[BLOCK_ELEMENTS] == 5);
    bench_stop(&bench);
}
END_TEST

START_TEST(values_that_do_not_fit_a_push_are_refused) {
    struct bench bench;
    bench_start_usual(&bench);
    greet(&bench, 0);
    greet(&bench, 1);
    uint64_t ticket = open_push_pull(&bench, parameters);
    const struct wire_message *part = next_sent(&bench, 0, WIRE_PUSH);
    serve_push(&bench, 0, part, version_make(1, 9), 2, 1); /* left out, though nothing was held */
    ck_assert_uint_eq(bench.reopened[0], 1);
    ck_assert_int_eq(session_push_poll(bench.session, ticket, NULL, NULL), LG_UNAVAILABLE);
    bench.seen = bench.count;
    greet(&bench, 0);
    const struct wire_message *again = next_sent(&bench, 0, WIRE_PUSH);
    ck_assert_uint_eq(again->push.seq, part->push.seq);
    ck_assert_uint_eq(again->units[1].version, 0); /* none of it is relied on */
    bench_stop(&bench);
}
END_TEST

START_TEST(a_push_that_failed_gives_no_base) {
    struct bench bench;
    bench_start_usual(&bench);
    greet(&bench, 0);
    greet(&bench, 1);
    uint64_t ticket = open_push_pull(&bench, parameters);
    const struct wire_message *parts[] = {next_sent(&bench, 0, WIRE_PUSH), next_sent(&bench, 0, WIRE_PUSH),
                                          next_sent(&bench, 1, WIRE_PUSH)};
    serve_push(&bench, 0, parts[0], version_make(1, 9), 2, 0); /* counts on parts that will not come */
    serve_push(&bench, 1, parts[2], version_make(1, 9), 2, 0);
    acknowledge(&bench, 0, parts[1]->push.seq, LG_NONFINITE);
    ck_assert_int_eq(session_push_poll(bench.session, ticket, NULL, NULL), LG_NONFINITE);
    (void)open_push(&bench, gradients);
    session_push_ready(bench.session, 0, TENSORS, bench.now);
    ck_assert_uint_eq(next_sent(&bench, 0, WIRE_PUSH)->push.base, bench.version);
    bench_stop(&bench);
}
END_TEST

START_TEST(credit_counts_both_ways_of_a_push_that_pulls) {
    struct bench bench;
    bench_start_usual(&bench);
    bench.credit = 2 << 20; /* two parts one way, one both ways */
    greet(&bench, 0);
    greet(&bench, 1);
    (void)open_push_pull(&bench, parameters);
    const struct wire_message *first = next_sent(&bench, 0, WIRE_PUSH);
    next_sent(&bench, 1, WIRE_PUSH);
    ck_assert_uint_eq(bench.seen, bench.count);
    serve_push(&bench, 0, first, version_make(1, 9), 2, 0);
    next_sent(&bench, 0, WIRE_PUSH);
    bench_stop(&bench);
}
END_TEST

START_TEST(the_base_is_that_of_the_buffer_computed_from) {
    struct bench bench;
    static float second[ELEMENTS];
    bench_start_usual(&bench);
    greet(&bench, 0);
    greet(&bench, 1);
    for (uint64_t round = 0; round < 2; round++) {
        ck_assert_int_eq(session_pull_open(bench.session, round ? second : parameters, bench.now, NULL), LG_OK);
        for (int i = 0; i < 3; i++)
            serve_pull(&bench, i < 2 ? 0 : 1, next_sent(&bench, i < 2 ? 0 : 1, WIRE_PULL), version_make(1, 8 + round),
                       3);
    }
    session_pull_forget(bench.session); /* versions, not bases */
    struct session_push push = {.samples = 1, .local_steps = 1, .gradients = gradients};
    const float *from[] = {parameters, second, NULL};
    for (size_t i = 0; i < 3; i++) {
        uint64_t ticket;
        push.clock = i + 1;
        push.computed_from = from[i];
        ck_assert_int_eq(session_push_open(bench.session, &push, bench.now, &ticket, NULL), LG_OK);
        session_push_ready(bench.session, 0, TENSORS, bench.now);
        for (int k = 0; k < 3; k++) {
            const struct wire_message *part = next_sent(&bench, k < 2 ? 0 : 1, WIRE_PUSH);
            ck_assert_uint_eq(part->push.base, version_make(1, i ? 9 : 8));
            acknowledge(&bench, k < 2 ? 0 : 1, part->push.seq, LG_OK);
        }
        ck_assert_int_eq(session_push_poll(bench.session, ticket, NULL, NULL), LG_OK);
    }
    bench_stop(&bench);
}
END_TEST

START_TEST(a_full_transport_is_offered_the_message_again) {
    struct bench bench;
    bench_start_usual(&bench);
    greet(&bench, 0);
    greet(&bench, 1);
    (void)open_push(&bench, gradients);
    bench.refuse_sends = true;
    session_push_ready(bench.session, 0, TENSORS, bench.now);
    ck_assert_uint_eq(bench.seen, bench.count);
    bench.refuse_sends = false;
    session_tick(bench.session, bench.now);
    ck_assert_uint_eq(bench.seen, bench.count);
    session_writable(bench.session, 0, bench.now);
    ck_assert_uint_eq(next_sent(&bench, 0, WIRE_PUSH)->push.part, 0);
    ck_assert_uint_eq(next_sent(&bench, 0, WIRE_PUSH)->push.part, 1);
    ck_assert_uint_eq(bench.seen, bench.count);
    session_writable(bench.session, 1, bench.now);
    next_sent(&bench, 1, WIRE_PUSH);
    bench_stop(&bench);
}
END_TEST

START_TEST(two_pushes_may_be_unsettled_and_no_more) {
    struct bench bench;
    bench_start_usual(&bench);
    greet(&bench, 0);
    greet(&bench, 1);
    struct session_push push = {.clock = 1, .samples = 1, .local_steps = 1, .gradients = gradients};
    uint64_t tickets[2], third;
    struct lg_error error = {0};
    ck_assert_int_eq(session_push_open(bench.session, &push, bench.now, &tickets[0], &error), LG_OK);
    ck_assert_int_eq(session_push_open(bench.session, &push, bench.now, &tickets[1], &error), LG_INVALID);
    session_push_ready(bench.session, 0, TENSORS, bench.now);
    push.clock = 2;
    ck_assert_int_eq(session_push_open(bench.session, &push, bench.now, &tickets[1], &error), LG_OK);
    session_push_ready(bench.session, 0, TENSORS, bench.now);
    ck_assert_int_eq(session_push_open(bench.session, &push, bench.now, &third, &error), LG_INVALID);
    for (; bench.seen < bench.count; bench.seen++) {
        const struct sent *sent = &bench.sent[bench.seen];
        ck_assert_int_eq(sent->message.kind, WIRE_PUSH);
        ck_assert_uint_eq(sent->message.push.clock, bench.seen < 5 ? 1 : 2);
        ck_assert_uint_eq(sent->message.push.cover_count, 1);
        ck_assert_uint_eq(sent->covers[0].lease, 0);
        acknowledge(&bench, sent->slot, sent->message.push.seq, LG_OK);
    }
    for (int i = 1; i >= 0; i--)
        ck_assert_int_eq(session_push_poll(bench.session, tickets[i], NULL, &error), LG_OK);
    ck_assert_int_eq(session_push_open(bench.session, &push, bench.now, &third, &error), LG_OK);
    bench_stop(&bench);
}
END_TEST

START_TEST(a_cancelled_pull_leaves_its_target_alone) {
    struct bench bench;
    bench_start_usual(&bench);
    greet(&bench, 0);
    greet(&bench, 1);
    memset(parameters, 0, sizeof parameters);
    ck_assert_int_eq(session_pull_open(bench.session, parameters, bench.now, NULL), LG_OK);
    const struct wire_message *pull = next_sent(&bench, 0, WIRE_PULL);
    session_pull_cancel(bench.session);
    ck_assert_int_eq(session_pull_poll(bench.session, NULL), LG_CANCELLED);
    serve_pull(&bench, 0, pull, version_make(1, 6), 4);
    ck_assert(parameters[0] == 0.0f);
    ck_assert_int_eq(session_pull_open(bench.session, parameters, bench.now, NULL), LG_OK);
    serve_pull(&bench, 0, pull, version_make(1, 6), 4); /* an answer to the old question */
    ck_assert(parameters[0] == 0.0f);
    bench_stop(&bench);
}
END_TEST

START_TEST(bad_placements_are_refused) {
    struct tensor_spec tensors[] = {tensor_of("a", 3)};
    uint16_t far[] = {2, 0};
    struct session_config config = {.tensors = tensors,
                                    .tensor_count = 1,
                                    .placement = far,
                                    .placement_count = 1,
                                    .shard_count = 2,
                                    .window = 4,
                                    .reply_timeout_ms = 1000};
    struct session_sink sink = {0};
    struct session *session = NULL;
    struct lg_error error = {0};
    ck_assert_int_eq(session_new(&config, &sink, &session, &error), LG_INVALID);
    ck_assert_str_eq(error.message, "the placement puts unit 0 on shard slot 2, but there are 2");
    far[0] = 0;
    config.placement_count = 2;
    ck_assert_int_eq(session_new(&config, &sink, &session, &error), LG_INVALID);
    config.placement_count = 1;
    config.window = 0;
    ck_assert_int_eq(session_new(&config, &sink, &session, &error), LG_INVALID);
    ck_assert_ptr_null(session);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("session");
    TCase *tests = tcase_create("session");
    tcase_add_test(tests, parts_go_out_last_tensors_first);
    tcase_add_test(tests, an_early_tensor_goes_before_the_rest_is_ready);
    tcase_add_test(tests, many_small_tensors_stay_within_the_limits_of_a_message);
    tcase_add_test(tests, a_lost_connection_resends_in_order_with_the_same_seqs);
    tcase_add_test(tests, the_base_is_the_least_version_of_the_last_completed_pull);
    tcase_add_test(tests, unchanged_units_are_left_out_for_the_same_buffer_only);
    tcase_add_loop_test(tests, a_pull_reply_that_does_not_fit_is_refused, 0, 6);
    tcase_add_test(tests, credit_bounds_what_is_in_flight_but_one_message_always_goes);
    tcase_add_test(tests, seqs_stay_within_the_least_window_granted);
    tcase_add_test(tests, unavailable_is_tried_again_with_growing_patience);
    tcase_add_test(tests, silence_reopens_the_connection);
    tcase_add_loop_test(tests, a_fence_ends_the_session, 0, 2);
    tcase_add_test(tests, a_refused_push_fails_once_every_part_is_answered);
    tcase_add_test(tests, results_are_gathered_over_shards);
    tcase_add_test(tests, a_push_brings_values_and_their_base_back);
    tcase_add_test(tests, a_part_whose_values_are_missing_goes_again);
    tcase_add_test(tests, values_that_do_not_fit_a_push_are_refused);
    tcase_add_test(tests, a_push_that_failed_gives_no_base);
    tcase_add_test(tests, credit_counts_both_ways_of_a_push_that_pulls);
    tcase_add_test(tests, the_base_is_that_of_the_buffer_computed_from);
    tcase_add_test(tests, a_full_transport_is_offered_the_message_again);
    tcase_add_test(tests, two_pushes_may_be_unsettled_and_no_more);
    tcase_add_test(tests, a_cancelled_pull_leaves_its_target_alone);
    tcase_add_test(tests, parameters_are_read_in_place);
    tcase_add_test(tests, what_stays_in_change_is_asked_for);
    tcase_add_test(tests, reading_in_place_waits_for_pushes_on_their_way);
    tcase_add_test(tests, gradients_in_place_take_no_credit);
    tcase_add_test(tests, a_push_that_wants_values_reads_them_in_place);
    tcase_add_test(tests, bad_placements_are_refused);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
