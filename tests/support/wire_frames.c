#include "tests/support/wire_frames.h"

#include <stdlib.h>
#include <string.h>

/* ---- frames */

void wire_frames_free(struct wire_frames *frames) {
    for (size_t i = 0; i < frames->count; i++)
        free((void *)frames->frames[i].data);
    frames->count = 0;
}

void wire_frames_add(struct wire_frames *frames, const void *data, size_t bytes) {
    void *copy = malloc(bytes > 0 ? bytes : 1);
    if (!copy || frames->count == WIRE_FRAMES_MAX)
        abort();
    if (bytes > 0)
        memcpy(copy, data, bytes);
    frames->frames[frames->count++] = (struct wire_bytes){copy, bytes};
}

bool wire_frames_encode(const struct wire_message *message, struct wire_frames *out) {
    struct wire_bytes raw[WIRE_FRAMES_MAX];
    size_t raw_count, bytes = wire_header_bytes(message);
    void *scratch;
    out->count = 0;
    if (bytes == 0 || wire_raw_frames(message, raw, WIRE_FRAMES_MAX - 1, &raw_count, &scratch))
        return false;
    unsigned char *header = malloc(bytes);
    if (!header)
        abort();
    wire_header_write(message, header);
    wire_frames_add(out, header, bytes);
    for (size_t i = 0; i < raw_count; i++)
        wire_frames_add(out, raw[i].data, raw[i].bytes);
    free(header);
    free(scratch);
    return true;
}

void wire_frames_parse(const unsigned char *data, size_t bytes, struct wire_frames *out) {
    out->count = 0;
    while (bytes >= 4 && out->count < WIRE_FRAMES_MAX) {
        size_t length = data[0] | (size_t)data[1] << 8 | (size_t)data[2] << 16 | (size_t)data[3] << 24;
        data += 4;
        bytes -= 4;
        if (length > bytes)
            length = bytes;
        wire_frames_add(out, data, length);
        data += length;
        bytes -= length;
    }
}

bool wire_frames_write(const struct wire_frames *frames, FILE *file) {
    for (size_t i = 0; i < frames->count; i++) {
        size_t bytes = frames->frames[i].bytes;
        for (unsigned shift = 0; shift < 32; shift += 8)
            fputc((int)(bytes >> shift & 0xFF), file);
        fwrite(frames->frames[i].data, 1, bytes, file);
    }
    return fflush(file) == 0 && !ferror(file);
}

bool wire_frames_equal(const struct wire_frames *a, const struct wire_frames *b) {
    if (a->count != b->count)
        return false;
    for (size_t i = 0; i < a->count; i++) {
        const struct wire_bytes *x = &a->frames[i], *y = &b->frames[i];
        if (x->bytes != y->bytes || (x->bytes > 0 && memcmp(x->data, y->data, x->bytes) != 0))
            return false;
    }
    return true;
}

/* ---- differences between bodies, made from the table that makes the codec */

static bool same_text(const char *a, const char *b) {
    return strcmp(a ? a : "", b ? b : "") == 0;
}

#define DIFFERENCE(name)                                                                                               \
    static const char *difference_##name(const struct wire_##name *a, const struct wire_##name *b) {                   \
        const char *where = NULL;
#define PART(name, proto, Type) DIFFERENCE(name)
#define BODY(KIND, name, Type, member) DIFFERENCE(name)
#define END                                                                                                            \
    return where;                                                                                                      \
    }
#define NUMBER(field)                                                                                                  \
    if (a->field != b->field)                                                                                          \
        where = where ? where : #field;
#define RENAMED(field, proto_field) NUMBER(field)
#define FLAG(field) NUMBER(field)
#define REAL(field) NUMBER(field)
#define BITS(field, proto_field) NUMBER(field)
#define ENUM(field, plain, Type, last) NUMBER(field)
#define TEXT(field)                                                                                                    \
    if (!same_text(a->field, b->field))                                                                                \
        where = where ? where : #field;
#define EACH(list, count, different)                                                                                   \
    if (a->count != b->count)                                                                                          \
        where = where ? where : #count;                                                                                \
    for (size_t i = 0; i < a->count && i < b->count; i++)                                                              \
        if (different)                                                                                                 \
            where = where ? where : #list;
#define NUMBERS(list, count, type, max) EACH(list, count, a->list[i] != b->list[i])
#define TEXTS(list, count, max) EACH(list, count, !same_text(a->list[i], b->list[i]))
#define PARTS(list, count, name, Type, max) EACH(list, count, difference_##name(&a->list[i], &b->list[i]))
#include "proto/wire_fields.def"

/* ---- differences between raw frames */

static bool same_tensor(const struct tensor_spec *a, const struct tensor_spec *b) {
    if (a->rank != b->rank || a->rank > TENSOR_RANK_MAX || strcmp(a->name, b->name) != 0)
        return false;
    for (uint32_t i = 0; i < a->rank; i++)
        if (a->shape[i] != b->shape[i])
            return false;
    return a->update == b->update && a->frozen == b->frozen && a->no_weight_decay == b->no_weight_decay &&
           a->lr_factor == b->lr_factor;
}

static const char *difference_tables(const struct wire_message *a, const struct wire_message *b) {
    if (a->unit_count != b->unit_count)
        return "unit_count";
    for (size_t i = 0; i < a->unit_count; i++)
        if (a->units[i].unit != b->units[i].unit || a->units[i].elements != b->units[i].elements ||
            a->units[i].version != b->units[i].version)
            return "units";
    if (a->tensor_count != b->tensor_count)
        return "tensor_count";
    for (size_t i = 0; i < a->tensor_count; i++)
        if (!same_tensor(&a->tensors[i], &b->tensors[i]))
            return "tensors";
    if (a->placement_count != b->placement_count)
        return "placement_count";
    for (size_t i = 0; i < a->placement_count; i++)
        if (a->placement[i] != b->placement[i])
            return "placement";
    return NULL;
}

/* Byte `at` of all payload frames together; -1 at the end. */
static int payload_byte(const struct wire_message *message, size_t at) {
    for (size_t i = 0; i < message->payload_count; i++) {
        if (at < message->payload[i].bytes)
            return ((const unsigned char *)message->payload[i].data)[at];
        at -= message->payload[i].bytes;
    }
    return -1;
}

static const char *difference_bytes(const struct wire_message *a, const struct wire_message *b) {
    for (size_t at = 0; payload_byte(a, at) >= 0 || payload_byte(b, at) >= 0; at++)
        if (payload_byte(a, at) != payload_byte(b, at))
            return "payload";
    if (a->range_count != b->range_count ||
        (a->range_count > 0 && memcmp(a->ranges, b->ranges, a->range_count * sizeof *a->ranges) != 0))
        return "ranges";
    if (a->document.bytes != b->document.bytes ||
        (a->document.bytes > 0 && memcmp(a->document.data, b->document.data, a->document.bytes) != 0))
        return "document";
    return NULL;
}

const char *wire_difference(const struct wire_message *a, const struct wire_message *b) {
    if (a->kind != b->kind)
        return "kind";
    if (a->request != b->request)
        return "request";
    const char *where = NULL;
    switch (a->kind) {
#define BODY(KIND, name, Type, member)                                                                                 \
    case WIRE_##KIND:                                                                                                  \
        where = difference_##name(&a->member, &b->member);                                                             \
        break;
#include "proto/wire_fields.def"
    }
    where = where ? where : difference_tables(a, b);
    return where ? where : difference_bytes(a, b);
}
