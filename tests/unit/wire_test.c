#include "proto/wire.h"

#include <check.h>
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/random.h"
#include "tests/support/wire_frames.h"

/* ---- every body filled and compared field by field, from the same table that makes the codec */

enum { LIST_MAX = 5, POOL_BYTES = 1 << 16 };

struct filler {
    struct random random;
    size_t used;
    _Alignas(16) unsigned char pool[POOL_BYTES];
};

static void *pool_take(struct filler *filler, size_t bytes) {
    filler->used = (filler->used + 15) & ~(size_t)15;
    ck_assert_uint_le(filler->used + bytes, sizeof filler->pool);
    void *at = filler->pool + filler->used;
    filler->used += bytes;
    return at;
}

static void fill_bytes(struct filler *filler, void *out, size_t bytes) {
    uint64_t word = random_u64(&filler->random) >> random_below(&filler->random, 64);
    memcpy(out, &word, bytes < sizeof word ? bytes : sizeof word);
}

static const char *fill_text(struct filler *filler) {
    static const char *const texts[] = {"", "a", "two words", "naïve – ünïcødé 😀", "updater.beta1"};
    size_t length = random_below(&filler->random, 200);
    if (length < 5)
        return texts[length];
    char *text = pool_take(filler, length + 1);
    memset(text, 'a' + (char)(length % 26), length);
    text[length] = '\0';
    return text;
}

#define FILL(name) static void fill_##name(struct wire_##name *out, struct filler *filler) {
#define PART(name, proto, Type) FILL(name)
#define BODY(KIND, name, Type, member) FILL(name)
#define END }
#define NUMBER(field) fill_bytes(filler, &out->field, sizeof out->field);
#define RENAMED(field, proto_field) NUMBER(field)
#define FLAG(field) out->field = random_below(&filler->random, 2) == 1;
#define REAL(field) out->field = random_double(&filler->random) - 0.5;
#define BITS(field, proto_field) out->field = random_float(&filler->random);
#define TEXT(field) out->field = fill_text(filler);
#define ENUM(field, plain, Type, last)                                                                                 \
    out->field = (enum wire_##plain)random_below(&filler->random, (uint64_t)(last) + 1);
#define NUMBERS(list, count, type, max)                                                                                \
    {                                                                                                                  \
        out->count = random_below(&filler->random, LIST_MAX + 1);                                                      \
        type *items = pool_take(filler, out->count * sizeof *items);                                                   \
        for (size_t i = 0; i < out->count; i++)                                                                        \
            items[i] = (type)(1000 * i + random_below(&filler->random, 1000));                                         \
        out->list = items;                                                                                             \
    }
#define TEXTS(list, count, max)                                                                                        \
    {                                                                                                                  \
        out->count = random_below(&filler->random, LIST_MAX + 1);                                                      \
        const char **items = pool_take(filler, out->count * sizeof *items);                                            \
        for (size_t i = 0; i < out->count; i++)                                                                        \
            items[i] = fill_text(filler);                                                                              \
        out->list = items;                                                                                             \
    }
#define PARTS(list, count, name, Type, max)                                                                            \
    {                                                                                                                  \
        out->count = random_below(&filler->random, LIST_MAX + 1);                                                      \
        struct wire_##name *items = pool_take(filler, out->count * sizeof *items);                                     \
        for (size_t i = 0; i < out->count; i++)                                                                        \
            fill_##name(&items[i], filler);                                                                            \
        out->list = items;                                                                                             \
    }
#include "proto/wire_fields.def"

static void fill_message(struct wire_message *out, enum wire_kind kind, struct filler *filler) {
    *out = (struct wire_message){.kind = kind};
    fill_bytes(filler, &out->request, sizeof out->request);
    switch (kind) {
#define BODY(KIND, name, Type, member)                                                                                 \
    case WIRE_##KIND:                                                                                                  \
        fill_##name(&out->member, filler);                                                                             \
        break;
#include "proto/wire_fields.def"
    }
}

static const enum wire_kind kinds[] = {
#define BODY(KIND, name, Type, member) WIRE_##KIND,
#include "proto/wire_fields.def"
};
enum { KIND_COUNT = sizeof kinds / sizeof *kinds };

/* ---- raw frames for the kinds that have them */

static const struct tensor_spec tensors[] = {
    {.name = "layer1.weight", .rank = 2, .shape = {300, 500}, .lr_factor = 1},
    {.name = "layer1.bias", .rank = 1, .shape = {500}, .lr_factor = 2, .no_weight_decay = true},
    {.name = "scale", .rank = 0, .lr_factor = 0.5F, .frozen = true, .update = TENSOR_UPDATE_AVERAGE},
};
static const uint16_t placement[] = {0, 1, 0, 1, 0}; /* 3 blocks, 1 and 1 */
static const struct wire_unit units[] = {{0, 3, 7}, {5, 1, 0}, {9, 2, UINT64_MAX}};
static const float values[] = {1, 2, 3, 4, 5, 6};
static const struct wire_bytes payload[] = {{values, 16}, {values + 4, 8}};

static void set_values(struct wire_message *message) {
    message->units = units;
    message->unit_count = 3;
    message->payload = payload;
    message->payload_count = 2;
}

static void set_tensors(struct wire_message *message) {
    message->tensors = tensors;
    message->tensor_count = 3;
    message->placement = placement;
    message->placement_count = 5;
}

static struct wire_cover one_cover = {.session = 3, .seq = 4, .first = 10, .end = 20, .samples = 10};
static const struct wire_shard_address two_shards[] = {{4, "tcp://127.0.0.1:5000"}, {5, "tcp://127.0.0.1:5001"}};

/* Makes a filled message valid: the rules between fields, and raw frames. */
static void complete(struct wire_message *message) {
    switch (message->kind) {
    case WIRE_PUSH:
        message->push.part = 2;
        message->push.part_count = 3;
        message->push.dtype = WIRE_DTYPE_F32;
        message->push.codec = 0;
        message->push.ring = false;
        if (message->push.kind == WIRE_PUSH_KIND_SKIPPED)
            message->push.kind = WIRE_PUSH_KIND_GRADIENT; /* tested apart: it has no payload */
        message->push.covers = &one_cover;
        message->push.cover_count = 1;
        set_values(message);
        break;
    case WIRE_PULL_REPLY:
        message->pull_reply.dtype = WIRE_DTYPE_F32;
        message->pull_reply.codec = 0;
        set_values(message);
        break;
    case WIRE_PUSH_REPLY:
        message->push_reply.dtype = WIRE_DTYPE_F32;
        message->push_reply.codec = 0;
        set_values(message);
        break;
    case WIRE_PULL:
        message->units = units;
        message->unit_count = 3;
        break;
    case WIRE_MARKS_QUERY:
        message->marks_query.end = message->marks_query.first;
        break;
    case WIRE_LEASE_GRANT:
        message->lease_grant.first = 0;
        message->lease_grant.end = 1 << 20;
        if (message->lease_grant.cut_count > 0 && message->lease_grant.cuts[0] == 0)
            message->lease_grant.cut_count = 0;
        break;
    case WIRE_JOIN:
        message->join.role = WIRE_ROLE_TRAINER;
        message->tensors = tensors;
        message->tensor_count = 3;
        break;
    case WIRE_JOIN_REPLY:
        message->join_reply.shards = two_shards;
        message->join_reply.shard_count = 2;
        set_tensors(message);
        break;
    case WIRE_JOB_OPEN:
        set_tensors(message);
        break;
    case WIRE_QUERY_REPLY:
        message->document = (struct wire_bytes){"{\"jobs\":[]}", 11};
        break;
    default:
        break;
    }
}

static struct wire_arena *arena;

static void arena_setup(void) {
    arena = wire_arena_new(1 << 20);
    ck_assert_ptr_nonnull(arena);
}

static void arena_teardown(void) {
    wire_arena_free(arena);
}

static struct filler filler;

/* A valid message of `kind`, other each time; valid until the next call. */
static void make(struct wire_message *out, enum wire_kind kind) {
    filler.used = 0;
    fill_message(out, kind, &filler);
    complete(out);
}

static enum lg_status decode(const struct wire_frames *frames, struct wire_message *out, struct lg_error *error) {
    *error = (struct lg_error){0};
    enum lg_status status = wire_decode(frames->frames, frames->count, arena, out, error);
    ck_assert_msg((status == LG_OK) == (error->message[0] == '\0'), "status %d with \"%s\"", (int)status,
                  error->message);
    return status;
}

/* Encodes `message`, which must be refused with `status` and a text that contains `words`. */
static void refused(const struct wire_message *message, enum lg_status status, const char *words) {
    struct wire_frames frames;
    struct wire_message out;
    struct lg_error error;
    ck_assert(wire_frames_encode(message, &frames));
    ck_assert_int_eq(decode(&frames, &out, &error), status);
    ck_assert_msg(strstr(error.message, words), "\"%s\" does not contain \"%s\"", error.message, words);
    ck_assert_uint_eq(out.request, message->request);
    wire_frames_free(&frames);
}

/* The same for frames at hand, which are freed. */
static void frames_refused(struct wire_frames *frames, const char *words) {
    struct wire_message out;
    struct lg_error error;
    ck_assert_int_eq(decode(frames, &out, &error), LG_MALFORMED);
    ck_assert_msg(strstr(error.message, words), "\"%s\" does not contain \"%s\"", error.message, words);
    wire_frames_free(frames);
}

static void frame_replace(struct wire_frames *frames, size_t at, const void *data, size_t bytes) {
    struct wire_frames changed = {0};
    for (size_t i = 0; i < frames->count; i++)
        if (i == at)
            wire_frames_add(&changed, data, bytes);
        else
            wire_frames_add(&changed, frames->frames[i].data, frames->frames[i].bytes);
    wire_frames_free(frames);
    *frames = changed;
}

/* ---- what goes in comes out */

START_TEST(every_kind_round_trips) {
    random_init(&filler.random, (uint64_t)_i);
    for (int round = 0; round < 50; round++) {
        struct wire_message message, back;
        struct wire_frames frames;
        struct lg_error error;
        make(&message, kinds[_i]);
        ck_assert(wire_frames_encode(&message, &frames));
        ck_assert_msg(decode(&frames, &back, &error) == LG_OK, "%s: %s", wire_kind_name(kinds[_i]), error.message);
        const char *difference = wire_difference(&message, &back);
        ck_assert_msg(!difference, "%s: %s differs", wire_kind_name(kinds[_i]), difference);
        wire_frames_free(&frames);
    }
}
END_TEST

START_TEST(names_are_the_kinds) {
    ck_assert_str_eq(wire_kind_name(WIRE_PUSH), "PUSH");
    ck_assert_str_eq(wire_kind_name(WIRE_JOIN_REPLY), "JOIN_REPLY");
    ck_assert_str_eq(wire_kind_name((enum wire_kind)9), "UNKNOWN");
    ck_assert_int_eq(KIND_COUNT, 40);
}
END_TEST

START_TEST(commands_name_their_shard) {
    const struct wire_message commands[] = {
        {.kind = WIRE_JOB_OPEN, .job_open.shard = 1},         {.kind = WIRE_JOB_CLOSE, .job_close.shard = 2},
        {.kind = WIRE_SESSION_OPEN, .session_open.shard = 3}, {.kind = WIRE_SESSION_CLOSE, .session_close.shard = 4},
        {.kind = WIRE_MARKS_QUERY, .marks_query.shard = 5},   {.kind = WIRE_LEDGER_QUERY, .ledger_query.shard = 6},
    };
    for (uint32_t i = 0; i < sizeof commands / sizeof *commands; i++)
        ck_assert_uint_eq(wire_command_shard(&commands[i]), i + 1);
    ck_assert_uint_eq(wire_command_shard(&(struct wire_message){.kind = WIRE_PUSH}), UINT32_MAX);
}
END_TEST

START_TEST(raw_frames_may_be_absent_where_nothing_is_there_to_say) {
    struct wire_message out, reply = {.kind = WIRE_PULL_REPLY, .pull_reply = {.units_unchanged = 4}};
    struct wire_frames frames;
    struct lg_error error;
    ck_assert(wire_frames_encode(&reply, &frames));
    ck_assert_uint_eq(frames.count, 2); /* an empty unit table */
    ck_assert_int_eq(decode(&frames, &out, &error), LG_OK);
    ck_assert_uint_eq(out.unit_count + out.payload_count, 0);
    wire_frames_free(&frames);
    static const enum wire_kind bare[] = {WIRE_PUSH_REPLY, WIRE_JOIN_REPLY, WIRE_QUERY_REPLY};
    for (size_t i = 0; i < sizeof bare / sizeof *bare; i++) {
        ck_assert(wire_frames_encode(&(struct wire_message){.kind = bare[i]}, &frames));
        ck_assert_uint_eq(frames.count, 1);
        ck_assert_int_eq(decode(&frames, &out, &error), LG_OK);
        wire_frames_free(&frames);
    }
}
END_TEST

START_TEST(a_push_that_is_skipped_has_a_unit_table_alone) {
    struct wire_message message, out;
    struct wire_frames frames;
    struct lg_error error;
    make(&message, WIRE_PUSH);
    message.push.kind = WIRE_PUSH_KIND_SKIPPED;
    refused(&message, LG_MALFORMED, "a PUSH that is skipped came with 3 raw frames");
    message.payload_count = 0;
    ck_assert(wire_frames_encode(&message, &frames));
    ck_assert_int_eq(decode(&frames, &out, &error), LG_OK);
    ck_assert_ptr_null(wire_difference(&message, &out));
    ck_assert_uint_eq(out.unit_count, 3);
    wire_frames_free(&frames);
    message.push.ring = true;
    refused(&message, LG_MALFORMED, "a push that is skipped has no payload");
    message.push.ring = false;
    message.unit_count = 0;
    refused(&message, LG_MALFORMED, "the unit table of a PUSH that is skipped is empty");
}
END_TEST

START_TEST(unaligned_frames_are_handed_out_aligned) {
    struct wire_message message, out;
    struct wire_frames frames;
    struct lg_error error;
    make(&message, WIRE_PULL_REPLY);
    ck_assert(wire_frames_encode(&message, &frames));
    for (size_t shift = 0; shift < 8; shift++) {
        _Alignas(8) unsigned char memory[4][64];
        struct wire_bytes shifted[4];
        ck_assert_uint_eq(frames.count, 4);
        for (size_t i = 0; i < 4; i++) {
            shifted[i] = (struct wire_bytes){memory[i] + shift, frames.frames[i].bytes};
            memcpy(memory[i] + shift, frames.frames[i].data, frames.frames[i].bytes);
        }
        ck_assert_int_eq(wire_decode(shifted, 4, arena, &out, &error), LG_OK);
        ck_assert_ptr_null(wire_difference(&message, &out));
        for (size_t i = 0; i < 2; i++) {
            ck_assert_uint_eq((uintptr_t)out.payload[i].data % 4, 0);
            ck_assert(shift % 4 != 0 || out.payload[i].data == shifted[2 + i].data); /* aligned ones are not copied */
        }
    }
    wire_frames_free(&frames);
}
END_TEST

START_TEST(texts_and_numbers_are_mended_before_they_leave) {
    struct wire_message out, message = {.kind = WIRE_ERROR, .error = {.reason = "caf\xC3"}};
    struct wire_frames frames;
    struct lg_error error;
    ck_assert(wire_frames_encode(&message, &frames));
    ck_assert_int_eq(decode(&frames, &out, &error), LG_OK);
    ck_assert_str_eq(out.error.reason, "caf?");
    wire_frames_free(&frames);
    const char *lines[] = {"\xFF\xFE", NULL, "sound \xE2\x82\xAC \xE2\x82 \xED\xA0\x80."};
    message = (struct wire_message){.kind = WIRE_LOG, .log = {.lines = lines, .line_count = 3}};
    ck_assert(wire_frames_encode(&message, &frames));
    ck_assert_int_eq(decode(&frames, &out, &error), LG_OK);
    ck_assert_str_eq(out.log.lines[0], "??");
    ck_assert_str_eq(out.log.lines[1], "");
    ck_assert_str_eq(out.log.lines[2], "sound \xE2\x82\xAC ?? ???.");
    wire_frames_free(&frames);
    message = (struct wire_message){.kind = WIRE_TRAINER_BEAT, .trainer_beat = {.loss = NAN, .accuracy = -INFINITY}};
    ck_assert(wire_frames_encode(&message, &frames));
    ck_assert_int_eq(decode(&frames, &out, &error), LG_OK);
    ck_assert(out.trainer_beat.loss == DBL_MAX && out.trainer_beat.accuracy == -DBL_MAX);
    wire_frames_free(&frames);
}
END_TEST

/* ---- what must not come in */

START_TEST(every_truncation_is_refused) {
    random_init(&filler.random, 1000 + (uint64_t)_i);
    struct wire_message message, out;
    struct wire_frames frames;
    struct lg_error error;
    make(&message, kinds[_i]);
    message.request |= 1;
    ck_assert(wire_frames_encode(&message, &frames));
    size_t checked = message.kind == WIRE_QUERY_REPLY ? 1 : frames.count; /* any bytes are a document */
    size_t entry =
        message.kind == WIRE_PULL ? sizeof *units : WIRE_TENSOR_RECORD_BYTES; /* fewer whole ones are sound */
    bool lone_table = message.kind == WIRE_PULL || message.kind == WIRE_JOIN;
    for (size_t i = 0; i < checked; i++) {
        struct wire_bytes whole = frames.frames[i];
        for (size_t bytes = 0; bytes < whole.bytes; bytes++) {
            if (i == 1 && lone_table && bytes > 0 && bytes % entry == 0)
                continue;
            unsigned char *cut = malloc(bytes + 1);
            ck_assert_ptr_nonnull(cut);
            memcpy(cut + 1, whole.data, bytes); /* ends where the allocation ends */
            frames.frames[i] = (struct wire_bytes){cut + 1, bytes};
            ck_assert_msg(decode(&frames, &out, &error) == LG_MALFORMED || (i == 0 && out.kind == 0),
                          "%s: frame %zu cut to %zu of %zu bytes was taken", wire_kind_name(message.kind), i, bytes,
                          whole.bytes);
            free(cut);
        }
        frames.frames[i] = whole;
    }
    wire_frames_free(&frames);
}
END_TEST

START_TEST(every_flipped_bit_is_survived) {
    random_init(&filler.random, 2000 + (uint64_t)_i);
    struct wire_message message, out;
    struct wire_frames frames;
    struct lg_error error;
    make(&message, kinds[_i]);
    ck_assert(wire_frames_encode(&message, &frames));
    for (size_t i = 0; i < frames.count; i++)
        for (size_t bit = 0; bit < 8 * frames.frames[i].bytes; bit++) {
            unsigned char *byte = (unsigned char *)frames.frames[i].data + bit / 8;
            *byte ^= (unsigned char)(1 << bit % 8);
            enum lg_status status = decode(&frames, &out, &error);
            ck_assert(status == LG_OK || status == LG_MALFORMED || status == LG_UNSUPPORTED);
            ck_assert(i == 0 || out.kind == message.kind);
            *byte ^= (unsigned char)(1 << bit % 8);
        }
    ck_assert_int_eq(decode(&frames, &out, &error), LG_OK);
    ck_assert_ptr_null(wire_difference(&message, &out));
    wire_frames_free(&frames);
}
END_TEST

START_TEST(frames_beyond_the_kind_are_refused) {
    random_init(&filler.random, 3000 + (uint64_t)_i);
    struct wire_message message;
    struct wire_frames frames;
    make(&message, kinds[_i]);
    ck_assert(wire_frames_encode(&message, &frames));
    wire_frames_add(&frames, "more", 4);
    frames_refused(&frames, "");
}
END_TEST

START_TEST(a_header_says_its_version) {
    struct wire_frames frames = {0};
    struct wire_message out;
    struct lg_error error;
    wire_frames_add(&frames, "\x08\x07\x10\x2A\xE2\x01\x00", 7); /* protocol 7, request 42, an empty ACK */
    ck_assert_int_eq(decode(&frames, &out, &error), LG_UNSUPPORTED);
    ck_assert_ptr_nonnull(strstr(error.message, "protocol 7"));
    ck_assert_ptr_nonnull(strstr(error.message, "speaks 1"));
    ck_assert_uint_eq(out.request, 42);
    frame_replace(&frames, 0, "\x08\x01\x10\x2A\xE2\x01\x00", 7);
    ck_assert_int_eq(decode(&frames, &out, &error), LG_OK);
    ck_assert_int_eq(out.kind, WIRE_ACK);
    frame_replace(&frames, 0, "\x08\x01\x10\x2A\xEA\x06\x00", 7); /* body 109 */
    ck_assert_int_eq(decode(&frames, &out, &error), LG_UNSUPPORTED);
    ck_assert_uint_eq(out.request, 42);
    ck_assert_int_eq(out.kind, 0);
    wire_frames_free(&frames);
    ck_assert_int_eq(wire_decode(NULL, 0, arena, &out, &error), LG_MALFORMED);
}
END_TEST

START_TEST(a_header_frame_is_at_most_64_kib) {
    unsigned char *header = calloc(1, WIRE_HEADER_BYTES_MAX + 1);
    ck_assert_ptr_nonnull(header);
    struct wire_frames frames = {0};
    wire_frames_add(&frames, header, WIRE_HEADER_BYTES_MAX + 1);
    frames_refused(&frames, "65537 bytes");
    wire_frames_add(&frames, header, 0);
    frames_refused(&frames, "0 bytes");
    /* a body that claims 8 GiB */
    wire_frames_add(&frames, "\x08\x01\x62\x80\x80\x80\x80\x20", 8);
    frames_refused(&frames, "no lagoon header");
    free(header);
}
END_TEST

/* A number of up to three bytes, as protobuf writes it; returns the bytes. */
static size_t varint_write(unsigned char *out, size_t value) {
    size_t bytes = 0;
    for (; value > 0x7F; value >>= 7)
        out[bytes++] = (unsigned char)((value & 0x7F) | 0x80);
    out[bytes++] = (unsigned char)value;
    return bytes;
}

/* 32,000 empty pairs in 64 KiB would need 20 times as much once decoded. */
START_TEST(a_header_cannot_outgrow_the_arena) {
    enum { PAIRS = 32000 };
    static unsigned char whole[16 + 2 * PAIRS] = {0x08, 0x01, 0x82, 0x05}; /* SUBMIT: field 80 */
    size_t at = 4 + varint_write(whole + 4, 2 * PAIRS);
    for (size_t i = 0; i < PAIRS; i++) {
        whole[at++] = 0x0A;
        whole[at++] = 0x00;
    }
    struct wire_frames frames = {0};
    wire_frames_add(&frames, whole, at);
    frames_refused(&frames, "no lagoon header");
    struct wire_arena *large = wire_arena_new(16 << 20);
    struct wire_message out;
    struct lg_error error;
    wire_frames_add(&frames, whole, at);
    ck_assert_int_eq(wire_decode(frames.frames, 1, large, &out, &error), LG_MALFORMED);
    ck_assert_ptr_nonnull(strstr(error.message, "limit is 512"));
    wire_frames_free(&frames);
    wire_arena_free(large);
}
END_TEST

/* A body's fields twice over are the same body with every list doubled: a way to lists that the encoder refuses. */
static void doubled_refused(const struct wire_message *message, const char *words) {
    struct wire_frames frames;
    ck_assert(wire_frames_encode(message, &frames));
    const unsigned char *header = frames.frames[0].data;
    size_t bytes = frames.frames[0].bytes, at = 2; /* behind the protocol's number; there is no request */
    unsigned char *twice = malloc(2 * bytes + 8);
    ck_assert_ptr_nonnull(twice);
    do
        ck_assert_uint_lt(at, bytes);
    while (header[at++] > 0x7F); /* the tag */
    memcpy(twice, header, at);
    size_t written = at;
    do
        ck_assert_uint_lt(at, bytes);
    while (header[at++] > 0x7F); /* the length */
    written += varint_write(twice + written, 2 * (bytes - at));
    for (int i = 0; i < 2; i++, written += bytes - at)
        memcpy(twice + written, header + at, bytes - at);
    frame_replace(&frames, 0, twice, written);
    free(twice);
    frames_refused(&frames, words);
}

START_TEST(long_lists_are_refused) {
    static struct wire_cover covers[WIRE_COVERS_MAX + 1];
    static struct wire_pair pairs[WIRE_PAIRS_MAX + 1];
    static struct wire_ledger_row rows[WIRE_ROWS_MAX + 1];
    static uint64_t numbers[WIRE_MARKS_MAX + 1];
    static const char *lines[WIRE_LINES_MAX + 1];
    for (size_t i = 0; i <= WIRE_MARKS_MAX; i++)
        numbers[i] = i;
    struct wire_message push = {.kind = WIRE_PUSH, .push = {.part_count = 1, .covers = covers, .cover_count = 256}};
    set_values(&push);
    doubled_refused(&push, "limit is 256");
    struct wire_message messages[] = {
        {.kind = WIRE_SUBMIT, .submit = {.spec = pairs, .spec_count = WIRE_PAIRS_MAX}},
        {.kind = WIRE_LEDGER_REPLY, .ledger_reply = {.rows = rows, .row_count = WIRE_ROWS_MAX}},
        {.kind = WIRE_MARKS_REPLY, .marks_reply = {.marks = numbers, .mark_count = WIRE_MARKS_MAX}},
        {.kind = WIRE_LOG, .log = {.lines = lines, .line_count = WIRE_LINES_MAX}},
        {.kind = WIRE_BEAT, .beat = {.trainers = numbers, .trainer_count = WIRE_ROWS_MAX}},
    };
    for (size_t i = 0; i < sizeof messages / sizeof *messages; i++)
        doubled_refused(&messages[i], "limit is");
    push.push.cover_count++;
    messages[0].submit.spec_count++;
    messages[1].ledger_reply.row_count++;
    messages[2].marks_reply.mark_count++;
    messages[3].log.line_count++;
    messages[4].beat.trainer_count++;
    ck_assert_uint_eq(wire_header_bytes(&push), 0);
    for (size_t i = 0; i < sizeof messages / sizeof *messages; i++)
        ck_assert_uint_eq(wire_header_bytes(&messages[i]), 0);
}
END_TEST

START_TEST(a_message_that_is_too_large_is_not_written) {
    char text[WIRE_TEXT_BYTES_MAX + 2] = "";
    memset(text, 'x', sizeof text - 1);
    struct wire_message message = {.kind = WIRE_CANCEL, .cancel = {.reason = text}};
    ck_assert_uint_eq(wire_header_bytes(&message), 0);
    text[WIRE_TEXT_BYTES_MAX] = '\0';
    ck_assert_uint_gt(wire_header_bytes(&message), WIRE_TEXT_BYTES_MAX);
    const char *lines[17];
    for (size_t i = 0; i < 17; i++)
        lines[i] = text;
    message = (struct wire_message){.kind = WIRE_LOG, .log = {.lines = lines, .line_count = 15}};
    unsigned char header[WIRE_HEADER_BYTES_MAX];
    size_t bytes = wire_header_bytes(&message);
    ck_assert_uint_gt(bytes, 0);
    ck_assert_uint_eq(wire_header_encode(&message, header), bytes);
    message.log.line_count = 17;
    ck_assert_uint_eq(wire_header_bytes(&message), 0);
    ck_assert_uint_eq(wire_header_encode(&message, header), 0);
    wire_header_write(&message, text); /* writes nothing, like the size said */
    ck_assert_uint_eq(strspn(text, "x"), WIRE_TEXT_BYTES_MAX);
    ck_assert_uint_eq(wire_header_bytes(&(struct wire_message){.kind = (enum wire_kind)9}), 0);
}
END_TEST

/* {request 1, CANCEL {reason: `text`}}, without the encoder's care. */
static void reason_refused(const char *text, size_t bytes, const char *words) {
    unsigned char header[4200] = {0x08, 0x01, 0x92, 0x05}; /* CANCEL: field 82 */
    size_t at = 4, body = bytes + 3;
    header[at++] = (unsigned char)((body & 0x7F) | 0x80);
    header[at++] = (unsigned char)(body >> 7);
    header[at++] = 0x12;
    header[at++] = (unsigned char)((bytes & 0x7F) | 0x80);
    header[at++] = (unsigned char)(bytes >> 7);
    memcpy(header + at, text, bytes);
    struct wire_frames frames = {0};
    wire_frames_add(&frames, header, at + bytes);
    frames_refused(&frames, words);
}

START_TEST(bad_texts_are_refused) {
    static char text[WIRE_TEXT_BYTES_MAX + 1];
    memset(text, 'x', sizeof text);
    reason_refused(text, sizeof text, "\"Cancel.reason\" has 4097 bytes");
    reason_refused("a\0b", 3, "contains a NUL");
    reason_refused("ab\xC0\x80", 4, "not UTF-8 at byte 2");       /* overlong */
    reason_refused("\xED\xA0\x80", 3, "not UTF-8 at byte 0");     /* surrogate */
    reason_refused("\xF4\x90\x80\x80", 4, "not UTF-8");           /* above U+10FFFF */
    reason_refused("caf\xC3", 4, "not UTF-8 at byte 3");          /* cut */
    reason_refused("\xE2\x82\xAC\x80", 4, "not UTF-8 at byte 3"); /* a lone continuation */
    /* inside an inner message: SUBMIT {spec {key: "k\0"}} */
    struct wire_frames frames = {0};
    wire_frames_add(&frames, "\x08\x01\x82\x05\x06\x0A\x04\x0A\x02k\0", 11);
    frames_refused(&frames, "\"KeyValue.key\" contains a NUL");
}
END_TEST

START_TEST(undefined_enum_values_are_refused) {
    struct wire_message message;
    random_init(&filler.random, 1);
    make(&message, WIRE_PUSH);
    message.push.kind = (enum wire_push_kind)4;
    refused(&message, LG_MALFORMED, "\"Push.kind\" is 4");
    make(&message, WIRE_PUSH);
    message.push.dtype = (enum wire_dtype) - 1;
    refused(&message, LG_MALFORMED, "\"Push.dtype\" is -1");
    make(&message, WIRE_JOIN);
    message.join.role = (enum wire_role)9;
    refused(&message, LG_MALFORMED, "\"Join.role\" is 9");
}
END_TEST

START_TEST(numbers_that_are_not_finite_are_refused) {
    struct wire_message message = {.kind = WIRE_PUSH_REPLY, .push_reply = {.weight = INFINITY}};
    refused(&message, LG_MALFORMED, "\"PushReply.weight_bits\" is not a finite number");
    struct wire_frames frames = {0};
    /* LEASE_REQUEST {samples_per_second: NaN} */
    wire_frames_add(&frames, "\x08\x01\xF2\x03\x09\x19\0\0\0\0\0\0\xF8\x7F", 14);
    frames_refused(&frames, "\"LeaseRequest.samples_per_second\" is not a finite number");
}
END_TEST

START_TEST(pushes_that_contradict_themselves_are_refused) {
    struct wire_message message;
    random_init(&filler.random, 2);
    make(&message, WIRE_PUSH);
    message.push.part = 3;
    refused(&message, LG_MALFORMED, "part 3 of 3");
    make(&message, WIRE_PUSH);
    message.push.part_count = 65537;
    refused(&message, LG_MALFORMED, "of 65537");
    make(&message, WIRE_PUSH);
    message.push.cover_count = 0;
    refused(&message, LG_MALFORMED, "covers no samples");
    make(&message, WIRE_PUSH);
    struct wire_cover covers[2] = {one_cover, {.first = 9, .end = 8}};
    message.push.covers = covers;
    message.push.cover_count = 2;
    refused(&message, LG_MALFORMED, "ends at 8, before its first sample 9");
}
END_TEST

START_TEST(positions_out_of_order_are_refused) {
    uint64_t positions[] = {5, 9, 9};
    struct wire_message grant = {.kind = WIRE_LEASE_GRANT,
                                 .lease_grant = {.first = 4, .end = 10, .cuts = positions, .cut_count = 3}};
    refused(&grant, LG_MALFORMED, "9 follows 9");
    positions[2] = 10;
    refused(&grant, LG_MALFORMED, "10 is not inside (4, 10)");
    grant.lease_grant.first = 11;
    refused(&grant, LG_MALFORMED, "ends at 10");
    positions[0] = 10;
    struct wire_message marks = {.kind = WIRE_MARKS_REPLY, .marks_reply = {.marks = positions, .mark_count = 2}};
    refused(&marks, LG_MALFORMED, "9 follows 10");
    struct wire_message cuts = {.kind = WIRE_PUSH_REPLY, .push_reply = {.cuts = positions, .cut_count = 2}};
    refused(&cuts, LG_MALFORMED, "9 follows 10");
    struct wire_message query = {.kind = WIRE_MARKS_QUERY, .marks_query = {.first = 2, .end = 1}};
    refused(&query, LG_MALFORMED, "ends at 1");
}
END_TEST

/* ---- unit tables and payload */

START_TEST(unit_tables_are_checked) {
    struct wire_message message;
    random_init(&filler.random, 3);
    struct wire_unit bad[] = {{1, 4, 0}, {2, 65537, 0}};
    make(&message, WIRE_PULL);
    message.units = bad;
    message.unit_count = 2;
    refused(&message, LG_MALFORMED, "unit 2 claims 65537 elements");
    bad[1].elements = 0x80000000; /* 8 GiB of f32 */
    refused(&message, LG_MALFORMED, "unit 2 claims 2147483648 elements");
    bad[1].elements = 0;
    refused(&message, LG_MALFORMED, "unit 2 claims 0 elements");
    message.unit_count = 0;
    refused(&message, LG_MALFORMED, "the unit table of a PULL is empty");
    static struct wire_unit many[WIRE_UNITS_MAX + 1];
    for (size_t i = 0; i <= WIRE_UNITS_MAX; i++)
        many[i] = (struct wire_unit){(uint32_t)i, 65536, 0};
    message.units = many;
    message.unit_count = WIRE_UNITS_MAX + 1;
    refused(&message, LG_MALFORMED, "a unit table has 65552 bytes");
    /* 1 GiB by the table, four bytes in the payload */
    make(&message, WIRE_PUSH);
    message.units = many;
    message.unit_count = WIRE_UNITS_MAX;
    message.payload_count = 1;
    refused(&message, LG_MALFORMED, "payload frame 0 ends inside unit 0: 16 of its 262144 bytes are there");
    make(&message, WIRE_PUSH);
    message.unit_count = 0;
    refused(&message, LG_MALFORMED, "the unit table of a PUSH is empty");
}
END_TEST

/* Units of 3, 1 and 2 elements against payload frames of these many floats. */
static void payload_refused(enum wire_kind kind, const size_t *floats, size_t count, const char *words) {
    static const float zeros[64];
    struct wire_bytes frames[8];
    struct wire_message message;
    make(&message, kind);
    for (size_t i = 0; i < count; i++)
        frames[i] = (struct wire_bytes){zeros, floats[i] * sizeof(float)};
    message.payload = frames;
    message.payload_count = count;
    refused(&message, LG_MALFORMED, words);
}

START_TEST(payloads_are_whole_units) {
    static const enum wire_kind with_values[] = {WIRE_PUSH, WIRE_PULL_REPLY, WIRE_PUSH_REPLY};
    random_init(&filler.random, 4);
    for (size_t i = 0; i < 3; i++) {
        enum wire_kind kind = with_values[i];
        payload_refused(kind, (size_t[]){3, 2, 1}, 3, "payload frame 1 ends inside unit 9: 4 of its 8 bytes");
        payload_refused(kind, (size_t[]){2, 4}, 2, "payload frame 0 ends inside unit 0: 8 of its 12 bytes");
        payload_refused(kind, (size_t[]){6, 1}, 2, "payload frame 1 has 4 bytes more");
        payload_refused(kind, (size_t[]){7}, 1, "payload frame 0 has 4 bytes more");
        payload_refused(kind, (size_t[]){3, 1}, 2, "ends before unit 9, entry 2 of 3");
        payload_refused(kind, (size_t[]){3, 0, 3}, 3, "payload frame 1 is empty");
    }
    payload_refused(WIRE_PULL_REPLY, NULL, 0, "0 payload frames came with a unit table of 3 entries");
    payload_refused(WIRE_PUSH, NULL, 0, "a PUSH came with 1 raw frames, but 2 to 257 belong to it");
}
END_TEST

START_TEST(half_precision_has_two_bytes) {
    struct wire_message message, out;
    struct wire_frames frames;
    struct lg_error error;
    random_init(&filler.random, 5);
    make(&message, WIRE_PUSH);
    message.push.dtype = WIRE_DTYPE_BF16;
    refused(&message, LG_MALFORMED, "bytes more than the unit table names");
    struct wire_bytes half = {values, 12};
    message.payload = &half;
    message.payload_count = 1;
    ck_assert(wire_frames_encode(&message, &frames));
    ck_assert_int_eq(decode(&frames, &out, &error), LG_OK);
    ck_assert_ptr_null(wire_difference(&message, &out));
    wire_frames_free(&frames);
}
END_TEST

/* The push with a ring frame of so many bytes. */
static void refused_ring(const struct wire_message *message, size_t bytes) {
    static const char zeros[16 * (WIRE_PAYLOAD_FRAMES_MAX + 1)];
    struct wire_message named = *message;
    struct wire_bytes frame = {zeros, bytes};
    struct wire_frames frames;
    named.push.ring = true;
    named.payload = &frame;
    named.payload_count = 1;
    ck_assert(wire_frames_encode(&named, &frames));
    frames_refused(&frames, "ring frame");
}

START_TEST(a_ring_frame_takes_the_place_of_payload) {
    static const struct wire_range ranges[] = {{4096, 12}, {UINT64_MAX, UINT64_MAX}};
    struct wire_message message, out;
    struct wire_frames frames;
    struct lg_error error;
    random_init(&filler.random, 8);
    make(&message, WIRE_PUSH);
    refused_ring(&message, 0);
    refused_ring(&message, 15);
    refused_ring(&message, 16 * (WIRE_PAYLOAD_FRAMES_MAX + 1));
    message.push.ring = true;
    message.push.codec = 3; /* topk: bytes that change could lead anywhere */
    message.push.dtype = WIRE_DTYPE_F32;
    message.ranges = ranges;
    message.range_count = 2;
    ck_assert(wire_frames_encode(&message, &frames));
    frames_refused(&frames, "a push of topk is not read from shared memory");
    message.push.codec = (uint32_t)_i;
    ck_assert(wire_frames_encode(&message, &frames));
    ck_assert_uint_eq(frames.count, 3);
    ck_assert_int_eq(decode(&frames, &out, &error), LG_OK);
    ck_assert_uint_eq(out.range_count, 2);
    ck_assert_uint_eq(out.payload_count, 0);
    ck_assert_mem_eq(out.ranges, ranges, sizeof ranges); /* only whoever knows the memory can judge them */
    wire_frames_add(&frames, ranges, sizeof ranges);
    frames_refused(&frames, "3 raw frames, but");
}
END_TEST

START_TEST(payloads_are_bounded) {
    static char bytes[WIRE_PAYLOAD_BYTES_MAX + 1];
    struct wire_message message, out;
    struct wire_frames frames;
    struct lg_error error;
    random_init(&filler.random, 6);
    make(&message, WIRE_PUSH);
    message.push.codec = 7; /* only bounded: the codec knows its lengths */
    struct wire_bytes one = {bytes, WIRE_PAYLOAD_BYTES_MAX};
    message.payload = &one;
    message.payload_count = 1;
    ck_assert(wire_frames_encode(&message, &frames));
    ck_assert_int_eq(decode(&frames, &out, &error), LG_OK);
    wire_frames_free(&frames);
    one.bytes++;
    refused(&message, LG_MALFORMED, "larger than 4194304 bytes");
    struct wire_bytes many[WIRE_PAYLOAD_FRAMES_MAX + 1];
    for (size_t i = 0; i <= WIRE_PAYLOAD_FRAMES_MAX; i++)
        many[i] = (struct wire_bytes){bytes, 4};
    message.payload = many;
    message.payload_count = WIRE_PAYLOAD_FRAMES_MAX + 1;
    refused(&message, LG_MALFORMED, "a PUSH came with 258 raw frames, but 2 to 257 belong to it");
}
END_TEST

START_TEST(raw_frames_need_room) {
    struct wire_message message;
    struct wire_bytes frames[3];
    size_t count = 9;
    void *scratch;
    random_init(&filler.random, 7);
    make(&message, WIRE_PUSH);
    ck_assert_int_eq(wire_raw_frames(&message, frames, 3, &count, &scratch), LG_OK);
    ck_assert_uint_eq(count, 3);
    ck_assert_ptr_eq(frames[0].data, units);
    ck_assert_ptr_eq(frames[1].data, values);
    ck_assert_int_eq(wire_raw_frames(&message, frames, 2, &count, &scratch), LG_INVALID);
    ck_assert_uint_eq(count, 0);
    make(&message, WIRE_JOB_OPEN);
    ck_assert_int_eq(wire_raw_frames(&message, frames, 1, &count, &scratch), LG_INVALID);
    ck_assert_ptr_null(scratch);
    message.tensor_count = WIRE_TENSORS_MAX + 1;
    ck_assert_int_eq(wire_raw_frames(&message, frames, 3, &count, &scratch), LG_INVALID);
}
END_TEST

/* ---- tensor tables and placement */

/* The frames of a JOB_OPEN with byte `at` of the tensor table set. */
static void tensor_byte_refused(size_t at, unsigned char byte, const char *words) {
    struct wire_message message;
    struct wire_frames frames;
    make(&message, WIRE_JOB_OPEN);
    ck_assert(wire_frames_encode(&message, &frames));
    ck_assert_uint_eq(frames.frames[1].bytes, 3 * WIRE_TENSOR_RECORD_BYTES);
    ((unsigned char *)frames.frames[1].data)[at] = byte;
    frames_refused(&frames, words);
}

START_TEST(tensor_records_are_checked) {
    random_init(&filler.random, 8);
    tensor_byte_refused(0, 0, "the name of tensor 0 is not padded");
    tensor_byte_refused(50, 'x', "the name of tensor 0 is not padded");
    tensor_byte_refused(112, 1, "sets bits"); /* a third dimension of a matrix */
    tensor_byte_refused(128, 5, "rank 5");
    tensor_byte_refused(136, 3, "sets bits");             /* update */
    tensor_byte_refused(137, 4, "sets bits");             /* flags */
    tensor_byte_refused(143, 1, "sets bits");             /* padding */
    tensor_byte_refused(135, 0xFF, "the tensor table: "); /* lr_factor -1.7e38 */
    tensor_byte_refused(103, 0xFF, "the tensor table: "); /* 2^63 rows */
}
END_TEST

START_TEST(placement_matches_the_tensors) {
    struct wire_message message;
    random_init(&filler.random, 9);
    make(&message, WIRE_JOB_OPEN);
    message.placement_count = 4;
    refused(&message, LG_MALFORMED, "the placement has 8 bytes, but the tensors have 5 units");
    uint16_t far[5] = {0, 1, 2, 0, 0};
    make(&message, WIRE_JOIN_REPLY);
    message.placement = far;
    refused(&message, LG_MALFORMED, "unit 2 is placed on shard 2 of 2");
    make(&message, WIRE_JOB_OPEN);
    message.placement = far;
    far[2] = WIRE_SHARDS_MAX;
    refused(&message, LG_MALFORMED, "unit 2 is placed on shard 1024 of 1024");
}
END_TEST

START_TEST(roles_decide_about_tensors) {
    struct wire_message message, out;
    struct wire_frames frames;
    struct lg_error error;
    random_init(&filler.random, 10);
    make(&message, WIRE_JOIN);
    message.join.role = WIRE_ROLE_OBSERVER;
    refused(&message, LG_MALFORMED, "JOIN in this role came with 1 raw frames");
    message.join.role = WIRE_ROLE_TRAINER;
    message.tensor_count = 0;
    refused(&message, LG_MALFORMED, "JOIN in this role came with 0 raw frames");
    message.join.role = WIRE_ROLE_INITIALISER;
    for (message.tensor_count = 0; message.tensor_count <= 3; message.tensor_count += 3) {
        ck_assert(wire_frames_encode(&message, &frames));
        ck_assert_int_eq(decode(&frames, &out, &error), LG_OK);
        ck_assert_uint_eq(out.tensor_count, message.tensor_count);
        wire_frames_free(&frames);
    }
}
END_TEST

START_TEST(jobs_beyond_a_placement_frame_are_refused) {
    const struct tensor_spec huge = {.name = "huge", .rank = 2, .shape = {1 << 20, 1 << 19}, .lr_factor = 1};
    struct wire_message message = {.kind = WIRE_JOIN, .join = {.job = "j"}, .tensors = &huge, .tensor_count = 1};
    refused(&message, LG_MALFORMED, "the tensors make 8388608 units of 65536 elements; a job has at most 4194304");
}
END_TEST

START_TEST(large_tables_need_a_large_arena) {
    enum { COUNT = 20000 };
    struct tensor_spec *specs = calloc(COUNT, sizeof *specs);
    uint16_t *slots = calloc(COUNT, sizeof *slots);
    ck_assert(specs && slots);
    for (size_t i = 0; i < COUNT; i++) {
        specs[i] = (struct tensor_spec){.rank = 1, .shape = {8}, .lr_factor = 1};
        snprintf(specs[i].name, sizeof specs[i].name, "t%zu", i);
    }
    struct wire_message out, message = {.kind = WIRE_JOB_OPEN,
                                        .request = 5,
                                        .tensors = specs,
                                        .tensor_count = COUNT,
                                        .placement = slots,
                                        .placement_count = COUNT};
    struct wire_frames frames;
    struct lg_error error;
    refused(&message, LG_MALFORMED, "does not fit into the 1048576 bytes kept for decoding");
    struct wire_arena *large = wire_arena_new(16 << 20);
    ck_assert(wire_frames_encode(&message, &frames));
    ck_assert_int_eq(wire_decode(frames.frames, frames.count, large, &out, &error), LG_OK);
    ck_assert_ptr_null(wire_difference(&message, &out));
    wire_frames_free(&frames);
    wire_arena_free(large);
    free(specs);
    free(slots);
}
END_TEST

/* ---- specs */

START_TEST(specs_become_configs_and_back) {
    struct lg_error error;
    struct wire_pair pairs[] = {{"model", "cnn"}, {"updater.kind", "adam"}, {"name", "naïve"}}, back[3];
    struct config *config = NULL;
    size_t count = 0;
    ck_assert_int_eq(wire_pairs_to_config(pairs, 3, &config, &error), LG_OK);
    ck_assert_str_eq(config_text(config, "updater.kind", ""), "adam");
    ck_assert_str_eq(config_find(config, "model")->origin, "wire");
    ck_assert_int_eq(wire_pairs_from_config(config, back, 3, &count, &error), LG_OK);
    ck_assert_uint_eq(count, 3);
    for (size_t i = 0; i < 3; i++) {
        ck_assert_str_eq(back[i].key, pairs[i].key);
        ck_assert_str_eq(back[i].value, pairs[i].value);
    }
    ck_assert_int_eq(wire_pairs_from_config(config, back, 2, &count, &error), LG_INVALID);
    ck_assert_int_eq(config_set(config, "note", "caf\xC3", "flag --note", &error), LG_OK);
    struct wire_pair four[4];
    ck_assert_int_eq(wire_pairs_from_config(config, four, 4, &count, &error), LG_INVALID);
    ck_assert_str_eq(error.message, "flag --note: the value of \"note\" is not UTF-8");
    config_free(config);
    pairs[2].key = "model";
    ck_assert_int_eq(wire_pairs_to_config(pairs, 3, &config, &error), LG_INVALID);
    ck_assert_str_eq(error.message, "the spec has the key \"model\" twice");
    pairs[2].key = "";
    ck_assert_int_eq(wire_pairs_to_config(pairs, 3, &config, &error), LG_INVALID);
}
END_TEST

static TCase *case_add(Suite *suite, const char *name) {
    TCase *tcase = tcase_create(name);
    tcase_add_checked_fixture(tcase, arena_setup, arena_teardown);
    tcase_set_timeout(tcase, 60);
    suite_add_tcase(suite, tcase);
    return tcase;
}

static Suite *wire_suite(void) {
    Suite *suite = suite_create("wire");
    TCase *sound = case_add(suite, "sound");
    tcase_add_loop_test(sound, every_kind_round_trips, 0, KIND_COUNT);
    tcase_add_test(sound, names_are_the_kinds);
    tcase_add_test(sound, commands_name_their_shard);
    tcase_add_test(sound, raw_frames_may_be_absent_where_nothing_is_there_to_say);
    tcase_add_test(sound, a_push_that_is_skipped_has_a_unit_table_alone);
    tcase_add_test(sound, unaligned_frames_are_handed_out_aligned);
    tcase_add_test(sound, texts_and_numbers_are_mended_before_they_leave);
    TCase *headers = case_add(suite, "headers");
    tcase_add_loop_test(headers, every_truncation_is_refused, 0, KIND_COUNT);
    tcase_add_loop_test(headers, every_flipped_bit_is_survived, 0, KIND_COUNT);
    tcase_add_loop_test(headers, frames_beyond_the_kind_are_refused, 0, KIND_COUNT);
    tcase_add_test(headers, a_header_says_its_version);
    tcase_add_test(headers, a_header_frame_is_at_most_64_kib);
    tcase_add_test(headers, a_header_cannot_outgrow_the_arena);
    tcase_add_test(headers, long_lists_are_refused);
    tcase_add_test(headers, a_message_that_is_too_large_is_not_written);
    tcase_add_test(headers, bad_texts_are_refused);
    tcase_add_test(headers, undefined_enum_values_are_refused);
    tcase_add_test(headers, numbers_that_are_not_finite_are_refused);
    tcase_add_test(headers, pushes_that_contradict_themselves_are_refused);
    tcase_add_test(headers, positions_out_of_order_are_refused);
    TCase *raw = case_add(suite, "raw frames");
    tcase_add_test(raw, unit_tables_are_checked);
    tcase_add_test(raw, payloads_are_whole_units);
    tcase_add_test(raw, half_precision_has_two_bytes);
    tcase_add_loop_test(raw, a_ring_frame_takes_the_place_of_payload, 0, 3);
    tcase_add_test(raw, payloads_are_bounded);
    tcase_add_test(raw, raw_frames_need_room);
    tcase_add_test(raw, tensor_records_are_checked);
    tcase_add_test(raw, placement_matches_the_tensors);
    tcase_add_test(raw, roles_decide_about_tensors);
    tcase_add_test(raw, jobs_beyond_a_placement_frame_are_refused);
    tcase_add_test(raw, large_tables_need_a_large_arena);
    tcase_add_test(raw, specs_become_configs_and_back);
    return suite;
}

int main(void) {
    SRunner *runner = srunner_create(wire_suite());
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
