/* Pushes in a codec: what a session sends, keeps back, takes back and sends again. A shard is played by hand. */
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/session.h"
#include "common/random.h"

enum { BIG = 3000, SMALL = 40, MEAN = 7, ELEMENTS = BIG + SMALL + MEAN, UNITS = 3, PARTS_MAX = 4, NS_PER_MS = 1000000 };

/* The last push that was sent, part by part. */
struct part_sent {
    uint64_t seq;
    uint32_t units[UNITS], unit_count;
    const struct codec *codec;
    const struct session_encoded *encoded;
    uint8_t payload[ELEMENTS * sizeof(float)];
    size_t bytes;
};

static struct bench {
    struct session *session;
    const struct codec *codec;
    struct part_sent parts[PARTS_MAX];
    size_t count;
    uint64_t hello, clock;
    float decoded[ELEMENTS]; /* what the shard sees */
    struct session_encoded *lent;
} bench;

static const uint64_t offsets[] = {0, BIG, BIG + SMALL, ELEMENTS};
static float gradients[ELEMENTS];

/* The caller, where it encodes its gradients itself. */
static struct caller {
    bool encodes, apart; /* apart: units do not lie one behind the other */
    float residual[ELEMENTS], rates[UNITS];
    struct lg_encoded_unit units[UNITS];
    uint8_t bytes[2 * ELEMENTS * sizeof(float)];
} caller;

static void take_push(const struct wire_message *message) {
    struct part_sent *part = &bench.parts[bench.count++];
    *part = (struct part_sent){.seq = message->push.seq,
                               .unit_count = (uint32_t)message->unit_count,
                               .encoded = session_encoded(bench.session)};
    ck_assert_uint_le(bench.count, PARTS_MAX);
    ck_assert_int_eq(codec_of_wire(message->push.dtype, message->push.codec, &part->codec, NULL), LG_OK);
    for (size_t i = 0; i < message->payload_count; i++) {
        memcpy(part->payload + part->bytes, message->payload[i].data, message->payload[i].bytes);
        part->bytes += message->payload[i].bytes;
    }
    for (size_t i = 0, at = 0, bytes; message->payload_count > 0 && i < message->unit_count; i++, at += bytes) {
        const uint32_t unit = part->units[i] = message->units[i].unit, n = message->units[i].elements;
        ck_assert_int_eq(part->codec->measure(part->payload + at, part->bytes - at, n, &bytes, NULL), LG_OK);
        memset(bench.decoded + offsets[unit], 0, n * sizeof(float));
        codec_add(part->codec, ISA_BASE, part->payload + at, n, bench.decoded + offsets[unit]);
    }
}

static bool on_send(void *context, uint32_t slot, const struct wire_message *message) {
    (void)context;
    ck_assert_uint_eq(slot, 0);
    if (message->kind == WIRE_HELLO)
        bench.hello = message->request;
    if (message->kind == WIRE_PUSH)
        take_push(message);
    return true;
}

static void on_reopen(void *context, uint32_t slot, const char *why) {
    (void)context;
    (void)slot;
    ck_abort_msg("reopened: %s", why);
}

static void hear(struct wire_message message) {
    session_receive(bench.session, 0, &message, NS_PER_MS);
}

static void connect(void) {
    session_connected(bench.session, 0, NS_PER_MS);
    hear((struct wire_message){.kind = WIRE_HELLO_REPLY,
                               .request = bench.hello,
                               .hello_reply = {.window = 64, .credit_bytes = 1 << 20, .version = version_make(1, 1)}});
}

/* "mean" takes values, the others gradients. */
static void start(const char *codec, double keep) {
    static const uint16_t placement[UNITS] = {0};
    struct tensor_spec tensors[UNITS] = {{.rank = 1, .shape = {BIG}, .lr_factor = 1},
                                         {.rank = 1, .shape = {SMALL}, .lr_factor = 1},
                                         {.rank = 1, .shape = {MEAN}, .update = TENSOR_UPDATE_AVERAGE}};
    for (size_t i = 0; i < UNITS; i++)
        snprintf(tensors[i].name, sizeof tensors[i].name, "t%zu", i);
    bench = (struct bench){0};
    ck_assert_int_eq(codec_find(codec, &bench.codec, NULL), LG_OK);
    struct session_config config = {.session = 5,
                                    .tensors = tensors,
                                    .tensor_count = UNITS,
                                    .placement = placement,
                                    .placement_count = UNITS,
                                    .shard_count = 1,
                                    .window = 16,
                                    .reply_timeout_ms = 1000,
                                    .push_codec = bench.codec,
                                    .topk = keep};
    const struct session_sink sink = {.send = on_send, .reopen = on_reopen};
    struct lg_error error = {0};
    ck_assert_msg(session_new(&config, &sink, &bench.session, &error) == LG_OK, "%s", error.message);
    connect();
}

static void stop(void) {
    session_free(bench.session);
}

static void draw(uint64_t seed) {
    struct random random;
    random_init(&random, seed);
    for (size_t i = 0; i < ELEMENTS; i++)
        gradients[i] = random_float(&random) - 0.5f;
}

/* The push before it is settled. */
static uint64_t push(enum wire_push_kind kind) {
    static uint64_t ticket;
    bench.count = 0;
    if (bench.clock > 0)
        ck_assert_int_ne(session_push_poll(bench.session, ticket, NULL, NULL), LG_UNAVAILABLE);
    const struct session_push spec = {.clock = ++bench.clock,
                                      .kind = kind,
                                      .samples = 1,
                                      .local_steps = 1,
                                      .gradients = gradients,
                                      .encoded = caller.encodes ? caller.units : NULL};
    ck_assert_int_eq(session_push_open(bench.session, &spec, 0, &ticket, NULL), LG_OK);
    session_push_ready(bench.session, 0, UNITS, 0);
    return ticket;
}

static void answer(uint32_t status, float weight, float rate, uint32_t repeated) {
    for (size_t i = 0; i < bench.count; i++)
        hear((struct wire_message){.kind = WIRE_PUSH_REPLY,
                                   .push_reply = {.seq = bench.parts[i].seq,
                                                  .status = status,
                                                  .weight = weight,
                                                  .rate = rate,
                                                  .units_applied = bench.parts[i].unit_count - repeated,
                                                  .units_repeated = repeated}});
}

static float *residual(void) {
    uint64_t elements;
    float *values = session_residual(bench.session, &elements);
    ck_assert(values && elements == ELEMENTS);
    return values;
}

/* A codec for changes leaves tensors that take values out; every other takes them along. */
START_TEST(gradients_go_in_the_codec_and_values_where_it_is_for_values) {
    size_t count;
    const struct codec *codec = codecs(&count)[_i];
    start(codec->name, 0.1);
    draw(1);
    push(WIRE_PUSH_KIND_GRADIENT);
    ck_assert_uint_eq(bench.count, codec->changes_only ? 2 : 1);
    for (size_t i = 0; i < bench.count; i++) {
        bool values = codec->changes_only && bench.parts[i].units[0] == 2;
        ck_assert_ptr_eq(bench.parts[i].codec, values ? codec_plain() : codec);
        ck_assert((bench.parts[i].encoded == NULL) == (values || codec->exact));
    }
    if (codec->changes_only)
        ck_assert_mem_eq(bench.decoded + BIG + SMALL, gradients + BIG + SMALL, MEAN * sizeof(float));
    answer(LG_OK, 1, 0.1f, 0);
    push(WIRE_PUSH_KIND_INITIAL);
    for (size_t i = 0; i < bench.count; i++)
        ck_assert_ptr_eq(bench.parts[i].codec, codec_plain());
    ck_assert_mem_eq(bench.decoded, gradients, sizeof gradients);
    stop();
}
END_TEST

START_TEST(only_codecs_with_feedback_keep_something_back) {
    size_t count;
    const struct codec *codec = codecs(&count)[_i];
    uint64_t elements = 1;
    start(codec->name, 0.1);
    ck_assert((session_residual(bench.session, &elements) != NULL) == codec->feedback);
    ck_assert_uint_eq(elements, codec->feedback ? ELEMENTS : 0);
    stop();
}
END_TEST

/* Whatever weights the shard gives, applied and kept back together are what the weighted gradients are. */
START_TEST(nothing_of_a_gradient_is_lost) {
    static const float weights[] = {1, 0.5f, 0, 0.25f, 1, 0.125f, 0, 1};
    static double sum[ELEMENTS], applied[ELEMENTS];
    memset(sum, 0, sizeof sum);
    memset(applied, 0, sizeof applied);
    start(_i ? "topk" : "onebit", 0.05);
    for (uint64_t step = 0; step < 40; step++) {
        const float weight = weights[step % 8];
        draw(step);
        uint64_t ticket = push(WIRE_PUSH_KIND_GRADIENT);
        for (size_t i = 0; i < BIG + SMALL; i++) {
            sum[i] += (double)weight * (double)gradients[i];
            applied[i] += (double)weight * (double)bench.decoded[i];
        }
        answer(weight == 0 ? LG_DROPPED : LG_OK, weight, 0.1f, 0);
        ck_assert_int_eq(session_push_poll(bench.session, ticket, NULL, NULL), LG_OK);
    }
    double largest = 0;
    for (size_t i = 0; i < BIG + SMALL; i++) {
        ck_assert_double_eq_tol(applied[i] + (double)residual()[i], sum[i], 1e-4);
        largest = fmax(largest, fabs((double)residual()[i]));
    }
    ck_assert(largest > 0.1); /* or it would show nothing */
    for (size_t i = BIG + SMALL; i < ELEMENTS; i++)
        ck_assert(residual()[i] == 0);
    stop();
}
END_TEST

START_TEST(what_was_refused_or_applied_before_is_taken_back) {
    static float before[ELEMENTS];
    start("topk", 0.05);
    draw(1);
    push(WIRE_PUSH_KIND_GRADIENT);
    answer(LG_OK, 1, 0.1f, 0);
    memcpy(before, residual(), sizeof before);
    draw(2);
    push(WIRE_PUSH_KIND_GRADIENT);
    ck_assert_mem_ne(before, residual(), sizeof before);
    if (_i)
        answer(LG_INVALID, 0, 0, 0);
    else
        for (size_t i = 0; i < bench.count; i++) {
            struct part_sent *part = &bench.parts[i];
            hear((struct wire_message){
                .kind = WIRE_PUSH_REPLY,
                .push_reply = {.seq = part->seq, .weight = 1, .units_repeated = part->unit_count}});
        }
    for (size_t i = 0; i < ELEMENTS; i++)
        ck_assert_float_eq_tol(before[i], residual()[i], 1e-6f);
    stop();
}
END_TEST

/* With half the rate, what was kept back counts twice as a gradient. */
START_TEST(what_is_kept_back_follows_the_learning_rate) {
    static float before[ELEMENTS];
    start("topk", 0.05);
    draw(1);
    push(WIRE_PUSH_KIND_GRADIENT);
    answer(LG_OK, 1, 0.5f, 0);
    memset(gradients, 0, sizeof gradients);
    push(WIRE_PUSH_KIND_GRADIENT); /* encoded at 0.5; what follows is told 0.25 */
    answer(LG_OK, 1, 0.25f, 0);
    memcpy(before, residual(), sizeof before);
    push(WIRE_PUSH_KIND_GRADIENT);
    for (size_t i = 0; i < BIG + SMALL; i++)
        ck_assert(bench.decoded[i] + residual()[i] == 2 * before[i]);
    stop();
}
END_TEST

/* A part that goes again is the same part, though the residual has moved on; and a buffer that a connection still reads
 * from is not written to. */
START_TEST(parts_go_again_as_they_were) {
    size_t count;
    const struct codec *codec = codecs(&count)[_i];
    static struct part_sent first[PARTS_MAX];
    start(codec->name, 0.1);
    draw(1);
    push(WIRE_PUSH_KIND_GRADIENT);
    const size_t parts = bench.count;
    memcpy(first, bench.parts, sizeof first);
    struct session_encoded *lent = (struct session_encoded *)first[0].encoded;
    if (lent)
        atomic_fetch_add(&lent->loans, 1);
    bench.count = 0;
    session_disconnected(bench.session, 0, NS_PER_MS);
    connect();
    ck_assert_uint_eq(bench.count, parts);
    for (size_t i = 0; i < parts; i++) {
        ck_assert_uint_eq(bench.parts[i].seq, first[i].seq);
        ck_assert_uint_eq(bench.parts[i].bytes, first[i].bytes);
        ck_assert_mem_eq(bench.parts[i].payload, first[i].payload, first[i].bytes);
    }
    answer(LG_OK, 1, 0.1f, 0);
    draw(2);
    push(WIRE_PUSH_KIND_GRADIENT);
    for (size_t i = 0; i < bench.count; i++)
        ck_assert(!lent || bench.parts[i].encoded != lent);
    answer(LG_OK, 1, 0.1f, 0);
    if (lent) {
        ck_assert_mem_eq(lent->data, first[0].payload, first[0].bytes);
        atomic_fetch_sub(&lent->loans, 1);
    }
    stop();
}
END_TEST

/* The same step gives the same bytes, another step other random numbers. */
START_TEST(rounding_at_random_depends_on_session_and_step) {
    static struct part_sent first;
    draw(1);
    for (int run = 0; run < 2; run++) {
        start("int8", 0);
        push(WIRE_PUSH_KIND_GRADIENT);
        if (run == 0)
            first = bench.parts[0];
        ck_assert_mem_eq(first.payload, bench.parts[0].payload, first.bytes);
        answer(LG_OK, 1, 0.1f, 0);
        push(WIRE_PUSH_KIND_GRADIENT);
        ck_assert_mem_ne(first.payload, bench.parts[0].payload, first.bytes);
        stop();
    }
}
END_TEST

/* ---- a caller that encodes */

static void caller_encode(double keep) {
    size_t at = 0;
    for (uint32_t unit = 0; unit < UNITS; unit++) {
        float *residual = caller.residual + offsets[unit];
        const uint32_t n = (uint32_t)(offsets[unit + 1] - offsets[unit]);
        const struct codec_options options = {.keep = keep, .key = session_codec_key(5, bench.clock + 1, unit)};
        const float factor = codec_follow_rate(&caller.rates[unit], caller.units[unit].rate);
        for (uint32_t i = 0; i < n; i++)
            residual[i] *= factor;
        if (unit == 2 && bench.codec->changes_only)
            continue;
        struct lg_encoded_unit *out = &caller.units[unit];
        out->data = caller.bytes + at;
        out->bytes =
            bench.codec->kernels[ISA_BASE]->encode(gradients + offsets[unit], residual, n, &options, caller.bytes + at);
        at += out->bytes + (caller.apart ? 64 : 0);
    }
}

static void caller_settle(void) {
    for (uint32_t unit = 0; unit < UNITS && bench.codec->feedback; unit++) {
        const struct lg_encoded_unit *out = &caller.units[unit];
        if (out->data && out->weight != 1)
            codec_take_back(bench.codec, ISA_BASE, out->data, (uint32_t)(offsets[unit + 1] - offsets[unit]),
                            1 - out->weight, gradients + offsets[unit], caller.residual + offsets[unit]);
    }
}

/* What can become of a push. */
static const struct fate {
    uint32_t status;
    float weight, rate;
    bool repeated, lost;
} fates[] = {
    {LG_OK, 1, 0.5f, false, false},      {LG_OK, 0.5f, 0.5f, false, true}, {LG_DROPPED, 0, 0.25f, false, false},
    {LG_OK, 1, 0.25f, true, false},      {LG_OK, 0.125f, 1, false, false}, {LG_INVALID, 0, 0, false, true},
    {LG_DROPPED, 0, 0.125f, true, true}, {LG_OK, 1, 0.125f, false, false}, {LG_OK, 1, 0.125f, false, false},
};
enum { FATES = sizeof fates / sizeof *fates };

static void lose_connection(void) {
    static struct part_sent first[PARTS_MAX];
    const size_t parts = bench.count;
    memcpy(first, bench.parts, sizeof first);
    bench.count = 0;
    session_disconnected(bench.session, 0, NS_PER_MS);
    connect();
    ck_assert_uint_eq(bench.count, parts);
    for (size_t i = 0; i < parts; i++) {
        ck_assert_uint_eq(bench.parts[i].bytes, first[i].bytes);
        ck_assert_mem_eq(bench.parts[i].payload, first[i].payload, first[i].bytes);
    }
}

/* One push after the other, each with its fate; what went out is appended to `sent`. */
static size_t live_through(const char *codec, uint8_t *sent, float *kept) {
    const double keep = 0.05;
    size_t bytes = 0;
    uint64_t elements;
    start(codec, keep);
    for (uint64_t step = 0; step < FATES; step++) {
        const struct fate *fate = &fates[step];
        draw(step);
        if (caller.encodes)
            caller_encode(keep);
        push(WIRE_PUSH_KIND_GRADIENT);
        if (fate->lost)
            lose_connection();
        for (size_t i = 0; i < bench.count; i++) {
            ck_assert_int_eq(bench.parts[i].codec == bench.codec,
                             !bench.codec->changes_only || bench.parts[i].units[0] != 2);
            memcpy(sent + bytes, bench.parts[i].payload, bench.parts[i].bytes);
            bytes += bench.parts[i].bytes;
        }
        answer(fate->status, fate->weight, fate->rate, fate->repeated ? bench.parts[0].unit_count : 0);
        if (caller.encodes)
            caller_settle();
    }
    const float *residual = session_residual(bench.session, &elements);
    memcpy(kept, caller.encodes || !residual ? caller.residual : residual, sizeof caller.residual);
    for (uint64_t i = 0; caller.encodes && i < elements; i++)
        ck_assert(residual[i] == 0); /* the session keeps nothing back then */
    stop();
    return bytes;
}

/* Whatever becomes of pushes, the shard is sent the same bytes, and as much is kept back. */
START_TEST(a_caller_that_encodes_sends_what_the_session_would) {
    size_t count;
    const struct codec *codec = codecs(&count)[_i];
    static uint8_t sent[3][FATES * ELEMENTS * sizeof(float)];
    static float kept[3][ELEMENTS];
    size_t bytes[3];
    if (codec->exact)
        return;
    for (int way = 0; way < 3; way++) {
        memset(&caller, 0, sizeof caller);
        caller.encodes = way > 0;
        caller.apart = way == 2;
        bytes[way] = live_through(codec->name, sent[way], kept[way]);
        ck_assert_uint_eq(bytes[way], bytes[0]);
        ck_assert_mem_eq(sent[way], sent[0], bytes[0]);
        ck_assert_mem_eq(kept[way], kept[0], sizeof kept[0]);
    }
}
END_TEST

/* Without a ticket nothing of a push goes out but its samples: what the caller has encoded came to nothing. */
START_TEST(a_push_that_is_skipped_came_to_nothing) {
    memset(&caller, 0, sizeof caller);
    caller.encodes = true;
    start("topk", 0.05);
    draw(1);
    caller_encode(0.05);
    push(WIRE_PUSH_KIND_SKIPPED);
    for (size_t i = 0; i < bench.count; i++)
        ck_assert_uint_eq(bench.parts[i].bytes, 0);
    answer(LG_OK, 1, 0.5f, 0);
    for (uint32_t unit = 0; unit < UNITS; unit++)
        ck_assert(caller.units[unit].weight == 0 && caller.units[unit].rate == 0.5f);
    caller_settle();
    for (size_t i = 0; i < BIG + SMALL; i++)
        ck_assert_float_eq_tol(caller.residual[i], 0, 1e-6f);
    stop();
}
END_TEST

/* Many small units that lie apart are copied together: there is a limit to the frames of a message. */
enum { SPECKS = 600, SPECK = 3, SPECK_ROOM = 16 };
static uint8_t specks[SPECKS * SPECK_ROOM];

static bool take_specks(void *context, uint32_t slot, const struct wire_message *message) {
    size_t bytes = 0;
    (void)slot;
    if (message->kind == WIRE_HELLO)
        bench.hello = message->request;
    if (message->kind != WIRE_PUSH)
        return true;
    ck_assert_uint_eq(message->unit_count, SPECKS);
    ck_assert_int_eq(session_encoded(bench.session) != NULL, message->payload_count == 1);
    ck_assert_uint_eq(message->payload_count, *(const size_t *)context);
    for (size_t i = 0; i < message->payload_count; i++) {
        const uint8_t *data = message->payload[i].data;
        for (size_t at = 0; at < message->payload[i].bytes; at++, bytes++)
            ck_assert_uint_eq(data[at], (uint8_t)(bytes / (SPECK * 2) + bytes % (SPECK * 2)));
    }
    ck_assert_uint_eq(bytes, SPECKS * SPECK * 2);
    bench.count++;
    return true;
}

START_TEST(very_many_units_are_copied_together) {
    static uint16_t placement[SPECKS];
    static struct tensor_spec tensors[SPECKS];
    static struct lg_encoded_unit units[SPECKS];
    size_t frames = _i == 0 ? 1 : WIRE_PAYLOAD_FRAMES_MAX; /* what is expected */
    uint64_t ticket;
    bench = (struct bench){0};
    ck_assert_int_eq(codec_find("bf16", &bench.codec, NULL), LG_OK);
    for (size_t i = 0, at = 0; i < SPECKS; i++) {
        tensors[i] = (struct tensor_spec){.rank = 1, .shape = {SPECK}, .lr_factor = 1};
        snprintf(tensors[i].name, sizeof tensors[i].name, "t%zu", i);
        units[i] = (struct lg_encoded_unit){.data = specks + at, .bytes = SPECK * 2};
        for (size_t b = 0; b < SPECK * 2; b++)
            specks[at + b] = (uint8_t)(i + b);
        at += SPECK * 2 + (size_t)(i + (size_t)_i < WIRE_PAYLOAD_FRAMES_MAX); /* frames end at gaps */
    }
    struct session_config config = {.session = 5,
                                    .tensors = tensors,
                                    .tensor_count = SPECKS,
                                    .placement = placement,
                                    .placement_count = SPECKS,
                                    .shard_count = 1,
                                    .window = 16,
                                    .reply_timeout_ms = 1000,
                                    .push_codec = bench.codec};
    const struct session_sink sink = {.context = &frames, .send = take_specks, .reopen = on_reopen};
    ck_assert_int_eq(session_new(&config, &sink, &bench.session, NULL), LG_OK);
    connect();
    const struct session_push spec = {
        .clock = 1, .kind = WIRE_PUSH_KIND_GRADIENT, .samples = 1, .local_steps = 1, .encoded = units};
    ck_assert_int_eq(session_push_open(bench.session, &spec, 0, &ticket, NULL), LG_OK);
    session_push_ready(bench.session, 0, SPECKS, 0);
    ck_assert_uint_eq(bench.count, 1);
    stop();
}
END_TEST

int main(void) {
    Suite *suite = suite_create("session_codec");
    TCase *tests = tcase_create("session_codec");
    size_t count;
    codecs(&count);
    tcase_add_loop_test(tests, gradients_go_in_the_codec_and_values_where_it_is_for_values, 0, (int)count);
    tcase_add_loop_test(tests, only_codecs_with_feedback_keep_something_back, 0, (int)count);
    tcase_add_loop_test(tests, nothing_of_a_gradient_is_lost, 0, 2);
    tcase_add_loop_test(tests, what_was_refused_or_applied_before_is_taken_back, 0, 2);
    tcase_add_test(tests, what_is_kept_back_follows_the_learning_rate);
    tcase_add_loop_test(tests, parts_go_again_as_they_were, 0, (int)count);
    tcase_add_loop_test(tests, a_caller_that_encodes_sends_what_the_session_would, 0, (int)count);
    tcase_add_test(tests, a_push_that_is_skipped_came_to_nothing);
    tcase_add_loop_test(tests, very_many_units_are_copied_together, 0, 2);
    tcase_add_test(tests, rounding_at_random_depends_on_session_and_step);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
