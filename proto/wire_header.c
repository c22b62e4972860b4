/* Header frames. Every function here is made from wire_fields.def, which lists each message's fields once. */
#include "proto/wire_internal.h"

#include <float.h>
#include <math.h>
#include <string.h>

#include "proto/lagoon.pb-c.h"

#define BODY(KIND, name, Type, member)                                                                                 \
    _Static_assert((int)WIRE_##KIND == (int)LAGOON__PROTO__HEADER__BODY_##KIND, "kinds are the body's field numbers");
#include "proto/wire_fields.def"

/* ---- encoding: plain structs to generated ones, which borrow every text and number array */

/* The message with most parts is a JOIN_REPLY: 1024 x (ShardAddress + pointer) + 512 x (KeyValue + pointer), 72 KiB.
 * The rest is for texts that need mending, which make up less than a header. */
enum { SCRATCH_BYTES = 72 * 1024 + WIRE_HEADER_BYTES_MAX };

/* `in` as it may travel: NULL is "", bytes that are no UTF-8 (an error message cut in mid-character, a trainer's log)
 * become '?'. False when it is too long. The packer only reads *out. */
static bool put_text(const char *in, char **out, struct wire_arena *scratch) {
    *out = (char *)(in ? in : "");
    size_t bytes = strlen(*out);
    if (bytes > WIRE_TEXT_BYTES_MAX)
        return false;
    size_t sound = wire_text_sound(*out, bytes);
    if (sound == bytes)
        return true;
    char *copy = wire_arena_take(scratch, bytes + 1);
    if (!copy)
        return false;
    *out = memcpy(copy, *out, bytes + 1);
    for (; sound < bytes; sound += wire_text_sound(copy + sound, bytes - sound))
        copy[sound++] = '?';
    return true;
}

static char **put_texts(const char *const *in, size_t count, struct wire_arena *scratch) {
    char **out = wire_arena_take_array(scratch, count, sizeof *out);
    for (size_t i = 0; out && i < count; i++)
        if (!put_text(in[i], &out[i], scratch))
            return NULL;
    return out;
}

/* Receivers take finite numbers only; a loss that has diverged must not cost the message. */
static double finite_or_most(double value) {
    return isfinite(value) ? value : value < 0 ? -DBL_MAX : DBL_MAX;
}

static uint32_t float_bits(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

static float float_from_bits(uint32_t bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* put_<name>: false when the message breaks a limit. */
#define PUT(name, proto, Type)                                                                                         \
    static bool put_##name(const struct wire_##name *in, Lagoon__Proto__##Type *out, struct wire_arena *scratch) {     \
        (void)scratch;                                                                                                 \
        lagoon__proto__##proto##__init(out);
#define PART(name, proto, Type) PUT(name, proto, Type)
#define BODY(KIND, name, Type, member) PUT(name, name, Type)
#define END                                                                                                            \
    return true;                                                                                                       \
    }
#define NUMBER(field) out->field = in->field;
#define RENAMED(field, proto_field) out->proto_field = in->field;
#define FLAG(field) out->field = in->field;
#define REAL(field) out->field = finite_or_most(in->field);
#define BITS(field, proto_field) out->proto_field = float_bits(in->field);
#define TEXT(field)                                                                                                    \
    if (!put_text(in->field, &out->field, scratch))                                                                    \
        return false;
#define ENUM(field, plain, Type, last) out->field = (Lagoon__Proto__##Type)in->field;
#define NUMBERS(list, count, type, max)                                                                                \
    if (in->count > (max))                                                                                             \
        return false;                                                                                                  \
    out->n_##list = in->count;                                                                                         \
    out->list = (type *)in->list;
#define TEXTS(list, count, max)                                                                                        \
    if (in->count > (max) || !(out->list = put_texts(in->list, in->count, scratch)))                                   \
        return false;                                                                                                  \
    out->n_##list = in->count;
#define PARTS(list, count, name, Type, max)                                                                            \
    if (in->count > 0) {                                                                                               \
        Lagoon__Proto__##Type *parts = NULL;                                                                           \
        if (in->count > (max) || !(parts = wire_arena_take_array(scratch, in->count, sizeof *parts)) ||                \
            !(out->list = wire_arena_take_array(scratch, in->count, sizeof *out->list)))                               \
            return false;                                                                                              \
        out->n_##list = in->count;                                                                                     \
        for (size_t i = 0; i < in->count; i++) {                                                                       \
            out->list[i] = &parts[i];                                                                                  \
            if (!put_##name(&in->list[i], &parts[i], scratch))                                                         \
                return false;                                                                                          \
        }                                                                                                              \
    }
#include "proto/wire_fields.def"
#undef PUT

/* Room for the generated struct of any body. */
union any_body {
#define BODY(KIND, name, Type, member) Lagoon__Proto__##Type member;
#include "proto/wire_fields.def"
};

static bool put_message(const struct wire_message *in, Lagoon__Proto__Header *header, union any_body *body,
                        struct wire_arena *scratch) {
    lagoon__proto__header__init(header);
    header->protocol = WIRE_PROTOCOL;
    header->request = in->request;
    header->body_case = (Lagoon__Proto__Header__BodyCase)in->kind;
    switch (in->kind) {
#define BODY(KIND, name, Type, member)                                                                                 \
    case WIRE_##KIND:                                                                                                  \
        header->member = &body->member;                                                                                \
        return put_##name(&in->member, &body->member, scratch);
#include "proto/wire_fields.def"
    }
    return false;
}

/* The kinds of the data path that have no texts: nothing to walk, and never too large within their limits. */
static bool has_texts(enum wire_kind kind) {
    return kind != WIRE_HELLO && kind != WIRE_HELLO_REPLY && kind != WIRE_PUSH && kind != WIRE_PULL &&
           kind != WIRE_PULL_REPLY && kind != WIRE_GATE && kind != WIRE_GATE_REPLY;
}

static size_t packed_bytes(const Lagoon__Proto__Header *header) {
    size_t bytes = protobuf_c_message_get_packed_size(&header->base);
    return bytes <= WIRE_HEADER_BYTES_MAX ? bytes : 0;
}

size_t wire_header_bytes(const struct wire_message *message) {
    _Alignas(16) unsigned char memory[SCRATCH_BYTES];
    struct wire_arena scratch = {memory, 0, sizeof memory};
    Lagoon__Proto__Header header;
    union any_body body;
    return put_message(message, &header, &body, &scratch) ? packed_bytes(&header) : 0;
}

size_t wire_header_encode(const struct wire_message *message, void *out) {
    _Alignas(16) unsigned char memory[SCRATCH_BYTES];
    struct wire_arena scratch = {memory, 0, sizeof memory};
    Lagoon__Proto__Header header;
    union any_body body;
    if (!put_message(message, &header, &body, &scratch) || (has_texts(message->kind) && packed_bytes(&header) == 0))
        return 0;
    return protobuf_c_message_pack(&header.base, out);
}

void wire_header_write(const struct wire_message *message, void *out) {
    (void)wire_header_encode(message, out);
}

/* ---- decoding: texts and number arrays stay where the unpacker put them, in the arena */

static enum lg_status not_finite(const char *type, const char *field, struct lg_error *error) {
    return lg_fail(error, LG_MALFORMED, "\"%s.%s\" is not a finite number", type, field);
}

static enum lg_status not_in_enum(const char *type, const char *field, int value, int last, struct lg_error *error) {
    return lg_fail(error, LG_MALFORMED, "\"%s.%s\" is %d, but 0 to %d are defined", type, field, value, last);
}

static enum lg_status too_many(const char *type, const char *field, size_t count, size_t max, struct lg_error *error) {
    return lg_fail(error, LG_MALFORMED, "\"%s.%s\" has %zu entries, the limit is %zu", type, field, count, max);
}

#define GET(name, Type)                                                                                                \
    static enum lg_status get_##name(const Lagoon__Proto__##Type *in, struct wire_##name *out,                         \
                                     struct wire_arena *arena, struct lg_error *error) {                               \
        const char *const type = #Type;                                                                                \
        (void)type;                                                                                                    \
        (void)arena;                                                                                                   \
        (void)error;
#define PART(name, proto, Type) GET(name, Type)
#define BODY(KIND, name, Type, member) GET(name, Type)
#define END                                                                                                            \
    return LG_OK;                                                                                                      \
    }
#define NUMBER(field) out->field = in->field;
#define RENAMED(field, proto_field) out->field = in->proto_field;
#define FLAG(field) out->field = in->field != 0;
#define REAL(field)                                                                                                    \
    if (!isfinite(in->field))                                                                                          \
        return not_finite(type, #field, error);                                                                        \
    out->field = in->field;
#define BITS(field, proto_field)                                                                                       \
    out->field = float_from_bits(in->proto_field);                                                                     \
    if (!isfinite(out->field))                                                                                         \
        return not_finite(type, #proto_field, error);
#define TEXT(field) out->field = in->field;
#define ENUM(field, plain, Type, last)                                                                                 \
    if ((int)in->field < 0 || (int)in->field > (int)(last))                                                            \
        return not_in_enum(type, #field, (int)in->field, (int)(last), error);                                          \
    out->field = (enum wire_##plain)in->field;
#define LIMIT(list, max)                                                                                               \
    if (in->n_##list > (max))                                                                                          \
        return too_many(type, #list, in->n_##list, (max), error);
#define NUMBERS(list, count, type, max)                                                                                \
    LIMIT(list, max)                                                                                                   \
    out->list = in->list;                                                                                              \
    out->count = in->n_##list;
#define TEXTS(list, count, max)                                                                                        \
    LIMIT(list, max)                                                                                                   \
    out->list = (const char *const *)in->list;                                                                         \
    out->count = in->n_##list;
#define PARTS(list, count, name, Type, max)                                                                            \
    LIMIT(list, max)                                                                                                   \
    if (in->n_##list > 0) {                                                                                            \
        struct wire_##name *parts = wire_arena_take_array(arena, in->n_##list, sizeof *parts);                         \
        if (!parts)                                                                                                    \
            return wire_arena_full(arena, #list, error);                                                               \
        for (size_t i = 0; i < in->n_##list; i++) {                                                                    \
            enum lg_status status = get_##name(in->list[i], &parts[i], arena, error);                                  \
            if (status)                                                                                                \
                return status;                                                                                         \
        }                                                                                                              \
        out->list = parts;                                                                                             \
        out->count = in->n_##list;                                                                                     \
    }
#include "proto/wire_fields.def"
#undef GET
#undef LIMIT

/* ---- texts: the unpacker stops at a NUL and does not look at UTF-8, so texts are checked where they lie */

static enum lg_status text_check(const char *type, const char *field, const unsigned char *text, size_t bytes,
                                 struct lg_error *error) {
    if (bytes > WIRE_TEXT_BYTES_MAX)
        return lg_fail(error, LG_MALFORMED, "\"%s.%s\" has %zu bytes, the limit is %d", type, field, bytes,
                       WIRE_TEXT_BYTES_MAX);
    if (bytes > 0 && memchr(text, 0, bytes))
        return lg_fail(error, LG_MALFORMED, "\"%s.%s\" contains a NUL byte", type, field);
    size_t sound = wire_text_sound(text, bytes);
    if (sound < bytes)
        return lg_fail(error, LG_MALFORMED, "\"%s.%s\" is not UTF-8 at byte %zu", type, field, sound);
    return LG_OK;
}

/* A base-128 number at *at; false past the end or after ten bytes. */
static bool varint_read(const unsigned char **at, const unsigned char *end, uint64_t *value) {
    *value = 0;
    for (unsigned shift = 0; shift < 70; shift += 7) {
        if (*at == end)
            return false;
        unsigned char byte = *(*at)++;
        if (shift < 64)
            *value |= (uint64_t)(byte & 0x7F) << shift;
        if (byte < 0x80)
            return true;
    }
    return false;
}

/* Walks one encoded message and the ones inside it; `depth` is bounded by the schema, which has no recursive type. */
static enum lg_status texts_check(const ProtobufCMessageDescriptor *type, const unsigned char *at, size_t bytes,
                                  struct lg_error *error) {
    const unsigned char *end = at + bytes;
    while (at < end) {
        uint64_t tag, value = 0;
        if (!varint_read(&at, end, &tag))
            return lg_fail(error, LG_MALFORMED, "\"%s\" ends inside a field", type->short_name);
        unsigned wire_type = (unsigned)(tag & 7);
        bool ok = wire_type == 0 || wire_type == 2 ? varint_read(&at, end, &value) : wire_type == 1 || wire_type == 5;
        size_t skip = wire_type == 1 ? 8 : wire_type == 5 ? 4 : wire_type == 2 ? (size_t)value : 0;
        if (!ok || skip > (size_t)(end - at) || tag >> 3 > UINT32_MAX)
            return lg_fail(error, LG_MALFORMED, "\"%s\" ends inside a field", type->short_name);
        const ProtobufCFieldDescriptor *field =
            wire_type == 2 ? protobuf_c_message_descriptor_get_field(type, (unsigned)(tag >> 3)) : NULL;
        enum lg_status status = LG_OK;
        if (field && field->type == PROTOBUF_C_TYPE_STRING)
            status = text_check(type->short_name, field->name, at, skip, error);
        else if (field && field->type == PROTOBUF_C_TYPE_MESSAGE)
            status = texts_check(field->descriptor, at, skip, error);
        if (status)
            return status;
        at += skip;
    }
    return LG_OK;
}

/* ---- the header frame */

static void *arena_alloc(void *data, size_t bytes) {
    return wire_arena_take(data, bytes);
}

static void arena_release(void *data, void *pointer) {
    (void)data;
    (void)pointer; /* the arena is reset as a whole */
}

static enum lg_status get_message(const Lagoon__Proto__Header *in, struct wire_message *out, struct wire_arena *arena,
                                  struct lg_error *error) {
    switch ((enum wire_kind)in->body_case) {
#define BODY(KIND, name, Type, member)                                                                                 \
    case WIRE_##KIND:                                                                                                  \
        return get_##name(in->member, &out->member, arena, error);
#include "proto/wire_fields.def"
    }
    return lg_fail(error, LG_UNSUPPORTED, "the header has no body that protocol %d knows", WIRE_PROTOCOL);
}

enum lg_status wire_header_read(struct wire_bytes frame, struct wire_arena *arena, struct wire_message *out,
                                struct lg_error *error) {
    if (frame.bytes == 0 || frame.bytes > WIRE_HEADER_BYTES_MAX)
        return lg_fail(error, LG_MALFORMED, "the header frame has %zu bytes, but 1 to %d are allowed", frame.bytes,
                       WIRE_HEADER_BYTES_MAX);
    ProtobufCAllocator allocator = {arena_alloc, arena_release, arena};
    const Lagoon__Proto__Header *header = lagoon__proto__header__unpack(&allocator, frame.bytes, frame.data);
    if (!header)
        return lg_fail(error, LG_MALFORMED, "the header frame of %zu bytes is no lagoon header", frame.bytes);
    out->request = header->request;
    if (header->protocol != WIRE_PROTOCOL)
        return lg_fail(error, LG_UNSUPPORTED,
                       "the peer speaks protocol %u, this program speaks %d: use matching versions",
                       (unsigned)header->protocol, WIRE_PROTOCOL);
    enum lg_status status = get_message(header, out, arena, error);
    enum wire_kind kind = (enum wire_kind)header->body_case;
    if (!status && has_texts(kind))
        status = texts_check(&lagoon__proto__header__descriptor, frame.data, frame.bytes, error);
    if (!status)
        out->kind = kind;
    return status;
}
