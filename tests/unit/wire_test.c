#include "proto/wire.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "common/block.h"
#include "common/random.h"

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

#define SAME(name) static void same_##name(const struct wire_##name *a, const struct wire_##name *b) {
#define PART(name, proto, Type) SAME(name)
#define BODY(KIND, name, Type, member) SAME(name)
#define END }
#define NUMBER(field) ck_assert_mem_eq(&a->field, &b->field, sizeof a->field);
#define RENAMED(field, proto_field) NUMBER(field)
#define FLAG(field) ck_assert(a->field == b->field);
#define REAL(field) NUMBER(field)
#define BITS(field, proto_field) NUMBER(field)
#define TEXT(field) ck_assert_str_eq(a->field, b->field);
#define ENUM(field, plain, Type, last) ck_assert(a->field == b->field);
#define NUMBERS(list, count, type, max)                                                                                \
    ck_assert_uint_eq(a->count, b->count);                                                                             \
    for (size_t i = 0; i < a->count; i++)                                                                              \
        ck_assert_uint_eq(a->list[i], b->list[i]);
#define TEXTS(list, count, max)                                                                                        \
    ck_assert_uint_eq(a->count, b->count);                                                                             \
    for (size_t i = 0; i < a->count; i++)                                                                              \
        ck_assert_str_eq(a->list[i], b->list[i]);
#define PARTS(list, count, name, Type, max)                                                                            \
    ck_assert_uint_eq(a->count, b->count);                                                                             \
    for (size_t i = 0; i < a->count; i++)                                                                              \
        same_##name(&a->list[i], &b->list[i]);
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

static void same_body(const struct wire_message *a, const struct wire_message *b) {
    ck_assert_int_eq(a->kind, b->kind);
    ck_assert_uint_eq(a->request, b->request);
    switch (a->kind) {
#define BODY(KIND, name, Type, member)                                                                                 \
    case WIRE_##KIND:                                                                                                  \
        same_##name(&a->member, &b->member);                                                                           \
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

/* Makes a filled message valid: the rules between fields, and the raw frames. */
static void complete(struct wire_message *message) {
    switch (message->kind) {
    case WIRE_PUSH:
        message->push.part = 2;
        message->push.part_count = 3;
        message->push.dtype = WIRE_DTYPE_F32;
        message->push.codec = 0;
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

/* ---- encoded messages, every frame in its own allocation so that a sanitizer sees the first byte beyond */

struct encoded {
    size_t count;
    struct wire_bytes frames[WIRE_PAYLOAD_FRAMES_MAX + 3];
};

static void *copy_exact(const void *data, size_t bytes) {
    void *copy = malloc(bytes > 0 ? bytes : 1);
    ck_assert_ptr_nonnull(copy);
    if (bytes > 0)
        memcpy(copy, data, bytes);
    return copy;
}

static void encode(const struct wire_message *message, struct encoded *out) {
    size_t bytes = wire_header_bytes(message);
    ck_assert_uint_gt(bytes, 0);
    unsigned char *header = malloc(bytes);
    ck_assert_ptr_nonnull(header);
    wire_header_write(message, header);
    out->frames[0] = (struct wire_bytes){header, bytes};
    void *scratch;
    size_t raw = 0;
    ck_assert_int_eq(
        wire_raw_frames(message, out->frames + 1, sizeof out->frames / sizeof *out->frames - 1, &raw, &scratch), LG_OK);
    for (size_t i = 1; i <= raw; i++)
        out->frames[i].data = copy_exact(out->frames[i].data, out->frames[i].bytes);
    free(scratch);
    out->count = raw + 1;
}

static void encoded_free(struct encoded *encoded) {
    for (size_t i = 0; i < encoded->count; i++)
        free((void *)encoded->frames[i].data);
}

static void same_raw(const struct wire_message *a, const struct wire_message *b) {
    ck_assert_uint_eq(a->unit_count, b->unit_count);
    ck_assert_uint_eq(a->payload_count, b->payload_count);
    ck_assert_uint_eq(a->tensor_count, b->tensor_count);
    ck_assert_uint_eq(a->placement_count, b->placement_count);
    ck_assert_uint_eq(a->document.bytes, b->document.bytes);
    for (size_t i = 0; i < a->unit_count; i++)
        ck_assert_mem_eq(&a->units[i], &b->units[i], sizeof *a->units);
    for (size_t i = 0; i < a->payload_count; i++) {
        ck_assert_uint_eq(a->payload[i].bytes, b->payload[i].bytes);
        ck_assert_mem_eq(a->payload[i].data, b->payload[i].data, a->payload[i].bytes);
        ck_assert_uint_eq((uintptr_t)b->payload[i].data % 4, 0);
    }
    for (size_t i = 0; i < a->tensor_count; i++) {
        ck_assert_str_eq(a->tensors[i].name, b->tensors[i].name);
        ck_assert_uint_eq(a->tensors[i].rank, b->tensors[i].rank);
        ck_assert_mem_eq(a->tensors[i].shape, b->tensors[i].shape, sizeof a->tensors[i].shape);
        ck_assert_int_eq(a->tensors[i].update, b->tensors[i].update);
        ck_assert(a->tensors[i].frozen == b->tensors[i].frozen);
        ck_assert(a->tensors[i].no_weight_decay == b->tensors[i].no_weight_decay);
        ck_assert(a->tensors[i].lr_factor == b->tensors[i].lr_factor);
    }
    for (size_t i = 0; i < a->placement_count; i++)
        ck_assert_uint_eq(a->placement[i], b->placement[i]);
    if (a->document.bytes > 0)
        ck_assert_mem_eq(a->document.data, b->document.data, a->document.bytes);
}

static struct wire_arena *arena;

static void arena_setup(void) {
    arena = wire_arena_new(1 << 20);
    ck_assert_ptr_nonnull(arena);
}

static void arena_teardown(void) {
    wire_arena_free(arena);
}

START_TEST(every_kind_round_trips) {
    static struct filler filler;
    random_init(&filler.random, (uint64_t)_i);
    for (int round = 0; round < 50; round++) {
        struct wire_message message, back;
        struct encoded encoded;
        struct lg_error error = {0};
        filler.used = 0;
        fill_message(&message, kinds[_i], &filler);
        complete(&message);
        encode(&message, &encoded);
        enum lg_status status = wire_decode(encoded.frames, encoded.count, arena, &back, &error);
        ck_assert_msg(status == LG_OK, "%s: %s", wire_kind_name(kinds[_i]), error.message);
        same_body(&message, &back);
        same_raw(&message, &back);
        encoded_free(&encoded);
    }
}
END_TEST

START_TEST(names_are_the_kinds) {
    ck_assert_str_eq(wire_kind_name(WIRE_PUSH), "PUSH");
    ck_assert_str_eq(wire_kind_name(WIRE_JOIN_REPLY), "JOIN_REPLY");
    ck_assert_str_eq(wire_kind_name((enum wire_kind)9), "UNKNOWN");
    ck_assert_int_eq(KIND_COUNT, 38);
}
END_TEST

static Suite *wire_suite(void) {
    Suite *suite = suite_create("wire");
    TCase *round_trip = tcase_create("round trip");
    tcase_add_checked_fixture(round_trip, arena_setup, arena_teardown);
    tcase_add_loop_test(round_trip, every_kind_round_trips, 0, KIND_COUNT);
    tcase_add_test(round_trip, names_are_the_kinds);
    suite_add_tcase(suite, round_trip);
    return suite;
}

int main(void) {
    SRunner *runner = srunner_create(wire_suite());
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
