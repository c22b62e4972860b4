#include "proto/wire_internal.h"

#include <stdlib.h>

/* ---- the arena */

enum { ARENA_ALIGN = 16 };

struct wire_arena *wire_arena_new(size_t limit_bytes) {
    struct wire_arena *arena = malloc(sizeof *arena);
    unsigned char *memory = malloc(limit_bytes > 0 ? limit_bytes : 1); /* pages are touched only when they are used */
    if (!arena || !memory) {
        free(arena);
        free(memory);
        return NULL;
    }
    *arena = (struct wire_arena){memory, 0, limit_bytes};
    return arena;
}

void wire_arena_free(struct wire_arena *arena) {
    if (!arena)
        return;
    free(arena->memory);
    free(arena);
}

void *wire_arena_take(struct wire_arena *arena, size_t bytes) {
    size_t at = (arena->used + (ARENA_ALIGN - 1)) & ~(size_t)(ARENA_ALIGN - 1);
    if (at > arena->limit || bytes > arena->limit - at)
        return NULL;
    arena->used = at + bytes;
    return arena->memory + at;
}

void *wire_arena_take_array(struct wire_arena *arena, size_t count, size_t item_bytes) {
    if (item_bytes > 0 && count > SIZE_MAX / item_bytes)
        return NULL;
    return wire_arena_take(arena, count * item_bytes);
}

enum lg_status wire_arena_full(const struct wire_arena *arena, const char *what, struct lg_error *error) {
    return lg_fail(error, LG_MALFORMED, "%s of a message does not fit into the %zu bytes kept for decoding", what,
                   arena->limit);
}

/* ---- decoding */

enum lg_status wire_decode(const struct wire_bytes *frames, size_t count, struct wire_arena *arena,
                           struct wire_message *out, struct lg_error *error) {
    *out = (struct wire_message){0};
    arena->used = 0;
    if (count == 0)
        return lg_fail(error, LG_MALFORMED, "a message without frames");
    enum lg_status status = wire_header_read(frames[0], arena, out, error);
    if (!status)
        status = wire_body_check(out, error);
    if (!status)
        status = wire_raw_read(frames + 1, count - 1, arena, out, error);
    return status;
}

/* ---- names */

const char *wire_kind_name(enum wire_kind kind) {
    switch (kind) {
#define BODY(KIND, name, Type, member)                                                                                 \
    case WIRE_##KIND:                                                                                                  \
        return #KIND;
#include "proto/wire_fields.def"
    }
    return "UNKNOWN";
}

uint32_t wire_command_shard(const struct wire_message *message) {
    switch (message->kind) {
    case WIRE_JOB_OPEN:
        return message->job_open.shard;
    case WIRE_JOB_CLOSE:
        return message->job_close.shard;
    case WIRE_SESSION_OPEN:
        return message->session_open.shard;
    case WIRE_SESSION_CLOSE:
        return message->session_close.shard;
    case WIRE_MARKS_QUERY:
        return message->marks_query.shard;
    case WIRE_LEDGER_QUERY:
        return message->ledger_query.shard;
    default:
        return UINT32_MAX;
    }
}
