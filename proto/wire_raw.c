/* Raw frames: unit tables, payload, placement, documents. Counts and lengths are checked against each other before
 * anything is handed out. */
#include "proto/wire_internal.h"

#include <stdlib.h>
#include <string.h>

#include "common/block.h"
#include "common/codec.h"

enum { PAYLOAD_ALIGN = 4, DTYPE_COUNT = 3 };

_Static_assert((int)WIRE_DTYPE_F16 == (int)CODEC_DTYPE_F16 && (int)WIRE_DTYPE_BF16 == (int)CODEC_DTYPE_BF16 &&
                   (int)BLOCK_ELEMENTS == (int)CODEC_ELEMENTS_MAX,
               "codecs number element types as the wire does, and encode whole units");

static const size_t dtype_bytes[DTYPE_COUNT] = {
    [WIRE_DTYPE_F32] = 4,
    [WIRE_DTYPE_F16] = 2,
    [WIRE_DTYPE_BF16] = 2,
};

static enum lg_status frame_count_check(const char *kind, size_t count, size_t least, size_t most,
                                        struct lg_error *error) {
    if (count >= least && count <= most)
        return LG_OK;
    return lg_fail(error, LG_MALFORMED, "a %s came with %zu raw frames, but %zu to %zu belong to it", kind, count,
                   least, most);
}

/* ---- unit tables and payload */

/* Copies the table, which may lie unaligned, and checks every entry. */
static enum lg_status units_read(struct wire_bytes frame, struct wire_arena *arena, struct wire_message *message,
                                 struct lg_error *error) {
    size_t count = frame.bytes / sizeof(struct wire_unit);
    if (frame.bytes % sizeof(struct wire_unit) != 0 || count > WIRE_UNITS_MAX)
        return lg_fail(error, LG_MALFORMED, "a unit table has %zu bytes; it needs 16 for each of at most %d units",
                       frame.bytes, WIRE_UNITS_MAX);
    struct wire_unit *units = wire_arena_take_array(arena, count, sizeof *units);
    if (!units)
        return wire_arena_full(arena, "the unit table", error);
    if (count > 0)
        memcpy(units, frame.data, frame.bytes);
    for (size_t i = 0; i < count; i++)
        if (units[i].elements == 0 || units[i].elements > BLOCK_ELEMENTS)
            return lg_fail(error, LG_MALFORMED, "unit %u claims %u elements; a unit has 1 to %d", units[i].unit,
                           units[i].elements, BLOCK_ELEMENTS);
    message->units = units;
    message->unit_count = count;
    return LG_OK;
}

/* Raw payload: each frame holds whole units in table order, and together they hold all of them. */
static enum lg_status payload_fits(const struct wire_message *message, const struct wire_bytes *frames, size_t count,
                                   size_t element_bytes, struct lg_error *error) {
    size_t unit = 0;
    for (size_t i = 0; i < count; i++) {
        size_t left = frames[i].bytes;
        while (left > 0 && unit < message->unit_count) {
            size_t needed = message->units[unit].elements * element_bytes;
            if (needed > left)
                return lg_fail(error, LG_MALFORMED,
                               "payload frame %zu ends inside unit %u: %zu of its %zu bytes are there", i,
                               message->units[unit].unit, left, needed);
            left -= needed;
            unit++;
        }
        if (left > 0)
            return lg_fail(error, LG_MALFORMED, "payload frame %zu has %zu bytes more than the unit table names", i,
                           left);
    }
    if (unit < message->unit_count)
        return lg_fail(error, LG_MALFORMED, "the payload ends before unit %u, entry %zu of %zu in the unit table",
                       message->units[unit].unit, unit, message->unit_count);
    return LG_OK;
}

/* Borrows the frames; one that does not start at a multiple of PAYLOAD_ALIGN (ZeroMQ leaves small messages in its
 * receive buffer) is copied, so that elements can be read in place. */
static enum lg_status payload_read(const struct wire_bytes *frames, size_t count, struct wire_arena *arena,
                                   struct wire_message *message, struct lg_error *error) {
    struct wire_bytes *payload = wire_arena_take_array(arena, count, sizeof *payload);
    if (!payload)
        return wire_arena_full(arena, "the payload", error);
    for (size_t i = 0; i < count; i++) {
        payload[i] = frames[i];
        if ((uintptr_t)frames[i].data % PAYLOAD_ALIGN == 0)
            continue;
        void *copy = wire_arena_take(arena, frames[i].bytes);
        if (!copy)
            return wire_arena_full(arena, "an unaligned payload frame", error);
        payload[i].data = memcpy(copy, frames[i].data, frames[i].bytes);
    }
    message->payload = payload;
    message->payload_count = count;
    return LG_OK;
}

static enum lg_status payload_check(const struct wire_message *message, const struct wire_bytes *frames, size_t count,
                                    enum wire_dtype dtype, uint32_t codec, struct lg_error *error) {
    size_t total = 0;
    for (size_t i = 0; i < count; i++) {
        if (frames[i].bytes == 0)
            return lg_fail(error, LG_MALFORMED, "payload frame %zu is empty", i);
        total += frames[i].bytes;
        if (frames[i].bytes > WIRE_PAYLOAD_BYTES_MAX || total > WIRE_PAYLOAD_BYTES_MAX)
            return lg_fail(error, LG_MALFORMED, "the payload is larger than %d bytes: split it into more parts",
                           WIRE_PAYLOAD_BYTES_MAX);
    }
    if ((count == 0) != (message->unit_count == 0))
        return lg_fail(error, LG_MALFORMED, "%zu payload frames came with a unit table of %zu entries", count,
                       message->unit_count);
    if (codec != 0)
        return LG_OK; /* the codec knows what its bytes mean */
    return payload_fits(message, frames, count, dtype_bytes[dtype], error);
}

/* frames: unit table, then payload. */
static enum lg_status values_read(const struct wire_bytes *frames, size_t count, size_t least_units,
                                  enum wire_dtype dtype, uint32_t codec, struct wire_arena *arena,
                                  struct wire_message *message, struct lg_error *error) {
    enum lg_status status =
        frame_count_check(wire_kind_name(message->kind), count, 1 + least_units, 1 + WIRE_PAYLOAD_FRAMES_MAX, error);
    if (!status)
        status = units_read(frames[0], arena, message, error);
    if (!status && message->unit_count < least_units)
        status = lg_fail(error, LG_MALFORMED, "the unit table of a %s is empty", wire_kind_name(message->kind));
    if (!status)
        status = payload_check(message, frames + 1, count - 1, dtype, codec, error);
    if (!status)
        status = payload_read(frames + 1, count - 1, arena, message, error);
    return status;
}

/* frames: unit table, then one frame of ranges in place of the payload. */
static enum lg_status named_read(const struct wire_bytes *frames, size_t count, struct wire_arena *arena,
                                 struct wire_message *message, struct lg_error *error) {
    const struct codec *codec = NULL;
    enum lg_status status = frame_count_check("PUSH from shared memory", count, 2, 2, error);
    if (!status)
        status = codec_of_wire(message->push.dtype, message->push.codec, &codec, error);
    if (!status && !codec->fixed) /* its bytes may change */
        status = lg_fail(error, LG_MALFORMED, "a push of %s is not read from shared memory", codec->name);
    if (!status)
        status = units_read(frames[0], arena, message, error);
    if (status)
        return status;
    size_t ranges = frames[1].bytes / sizeof(struct wire_range);
    if (frames[1].bytes % sizeof(struct wire_range) != 0 || ranges == 0 || ranges > WIRE_PAYLOAD_FRAMES_MAX ||
        message->unit_count == 0)
        return lg_fail(error, LG_MALFORMED,
                       "%zu units came with a ring frame of %zu bytes; it needs 16 for each of 1 to %d ranges",
                       message->unit_count, frames[1].bytes, WIRE_PAYLOAD_FRAMES_MAX);
    struct wire_range *copy = wire_arena_take_array(arena, ranges, sizeof *copy);
    if (!copy)
        return wire_arena_full(arena, "the ring frame", error);
    message->ranges = memcpy(copy, frames[1].data, frames[1].bytes);
    message->range_count = ranges;
    return LG_OK;
}

/* frames: unit table alone. */
static enum lg_status bare_read(const char *what, const struct wire_bytes *frames, size_t count,
                                struct wire_arena *arena, struct wire_message *message, struct lg_error *error) {
    enum lg_status status = frame_count_check(what, count, 1, 1, error);
    if (!status)
        status = units_read(frames[0], arena, message, error);
    if (!status && message->unit_count == 0)
        status = lg_fail(error, LG_MALFORMED, "the unit table of a %s is empty", what);
    return status;
}

/* ---- tensor table and placement */

/* One u16 per unit of the tensor table already read; entries below `shards`. */
static enum lg_status placement_read(struct wire_bytes frame, size_t shards, struct wire_arena *arena,
                                     struct wire_message *message, struct lg_error *error) {
    uint64_t units = wire_tensors_units(message->tensors, message->tensor_count);
    if (frame.bytes / sizeof(uint16_t) != units || frame.bytes % sizeof(uint16_t) != 0)
        return lg_fail(error, LG_MALFORMED,
                       "the placement has %zu bytes, but the tensors have %llu units of 2 bytes each", frame.bytes,
                       (unsigned long long)units);
    uint16_t *placement = wire_arena_take_array(arena, (size_t)units, sizeof *placement);
    if (!placement)
        return wire_arena_full(arena, "the placement", error);
    memcpy(placement, frame.data, frame.bytes);
    for (size_t i = 0; i < (size_t)units; i++)
        if (placement[i] >= shards)
            return lg_fail(error, LG_MALFORMED, "unit %zu is placed on shard %u of %zu", i, placement[i], shards);
    message->placement = placement;
    message->placement_count = (size_t)units;
    return LG_OK;
}

static enum lg_status job_frames_read(const struct wire_bytes *frames, size_t shards, struct wire_arena *arena,
                                      struct wire_message *message, struct lg_error *error) {
    enum lg_status status = wire_tensors_read(frames[0], arena, message, error);
    if (!status)
        status = placement_read(frames[1], shards, arena, message, error);
    return status;
}

static enum lg_status join_read(const struct wire_bytes *frames, size_t count, struct wire_arena *arena,
                                struct wire_message *message, struct lg_error *error) {
    enum wire_role role = message->join.role;
    size_t least = role == WIRE_ROLE_TRAINER, most = role != WIRE_ROLE_OBSERVER;
    enum lg_status status = frame_count_check("JOIN in this role", count, least, most, error);
    if (!status && count == 1)
        status = wire_tensors_read(frames[0], arena, message, error);
    return status;
}

static enum lg_status join_reply_read(const struct wire_bytes *frames, size_t count, struct wire_arena *arena,
                                      struct wire_message *message, struct lg_error *error) {
    if (count == 0)
        return LG_OK;
    enum lg_status status = frame_count_check("JOIN_REPLY with tensors", count, 2, 2, error);
    if (!status)
        status = job_frames_read(frames, message->join_reply.shard_count, arena, message, error);
    return status;
}

/* ---- by kind */

enum lg_status wire_raw_read(const struct wire_bytes *frames, size_t count, struct wire_arena *arena,
                             struct wire_message *message, struct lg_error *error) {
    enum lg_status status;
    switch (message->kind) {
    case WIRE_PUSH:
        if (message->push.kind == WIRE_PUSH_KIND_SKIPPED)
            return bare_read("PUSH that is skipped", frames, count, arena, message, error);
        if (message->push.ring)
            return named_read(frames, count, arena, message, error);
        return values_read(frames, count, 1, message->push.dtype, message->push.codec, arena, message, error);
    case WIRE_PUSH_REPLY:
        return count == 0 ? LG_OK
                          : values_read(frames, count, 1, message->push_reply.dtype, message->push_reply.codec, arena,
                                        message, error);
    case WIRE_PULL:
        return bare_read("PULL", frames, count, arena, message, error);
    case WIRE_PULL_REPLY:
        return values_read(frames, count, 0, message->pull_reply.dtype, message->pull_reply.codec, arena, message,
                           error);
    case WIRE_JOB_OPEN:
        status = frame_count_check("JOB_OPEN", count, 2, 2, error);
        return status ? status : job_frames_read(frames, WIRE_SHARDS_MAX, arena, message, error);
    case WIRE_JOIN:
        return join_read(frames, count, arena, message, error);
    case WIRE_JOIN_REPLY:
        return join_reply_read(frames, count, arena, message, error);
    case WIRE_QUERY_REPLY:
        status = frame_count_check("QUERY_REPLY", count, 0, 1, error);
        if (!status && count == 1)
            message->document = frames[0];
        return status;
    default:
        return frame_count_check(wire_kind_name(message->kind), count, 0, 0, error);
    }
}

/* ---- encoding */

struct frame_list {
    struct wire_bytes *frames;
    size_t count, capacity;
};

static bool frame_add(struct frame_list *list, const void *data, size_t bytes) {
    if (list->count == list->capacity)
        return false;
    list->frames[list->count++] = (struct wire_bytes){bytes > 0 ? data : "", bytes};
    return true;
}

static bool values_add(struct frame_list *list, const struct wire_message *message) {
    if (!frame_add(list, message->units, message->unit_count * sizeof *message->units))
        return false;
    if (message->range_count > 0)
        return frame_add(list, message->ranges, message->range_count * sizeof *message->ranges);
    for (size_t i = 0; i < message->payload_count; i++)
        if (!frame_add(list, message->payload[i].data, message->payload[i].bytes))
            return false;
    return true;
}

static enum lg_status tensors_add(struct frame_list *list, const struct wire_message *message, void **scratch) {
    size_t bytes = message->tensor_count * WIRE_TENSOR_RECORD_BYTES;
    if (message->tensor_count > WIRE_TENSORS_MAX)
        return LG_INVALID;
    *scratch = malloc(bytes > 0 ? bytes : 1);
    if (!*scratch)
        return LG_NO_MEMORY;
    wire_tensors_write(message->tensors, message->tensor_count, *scratch);
    return frame_add(list, *scratch, bytes) ? LG_OK : LG_INVALID;
}

static enum lg_status job_frames_add(struct frame_list *list, const struct wire_message *message, void **scratch) {
    enum lg_status status = tensors_add(list, message, scratch);
    if (status)
        return status;
    bool added = frame_add(list, message->placement, message->placement_count * sizeof *message->placement);
    return added ? LG_OK : LG_INVALID;
}

static enum lg_status raw_frames_add(struct frame_list *list, const struct wire_message *message, void **scratch) {
    switch (message->kind) {
    case WIRE_PUSH:
    case WIRE_PULL_REPLY:
        return values_add(list, message) ? LG_OK : LG_INVALID;
    case WIRE_PUSH_REPLY:
        return message->unit_count == 0 || values_add(list, message) ? LG_OK : LG_INVALID;
    case WIRE_PULL:
        return frame_add(list, message->units, message->unit_count * sizeof *message->units) ? LG_OK : LG_INVALID;
    case WIRE_JOB_OPEN:
        return job_frames_add(list, message, scratch);
    case WIRE_JOIN:
        return message->tensor_count == 0 ? LG_OK : tensors_add(list, message, scratch);
    case WIRE_JOIN_REPLY:
        return message->tensor_count == 0 ? LG_OK : job_frames_add(list, message, scratch);
    case WIRE_QUERY_REPLY:
        if (message->document.bytes == 0)
            return LG_OK;
        return frame_add(list, message->document.data, message->document.bytes) ? LG_OK : LG_INVALID;
    default:
        return LG_OK;
    }
}

enum lg_status wire_raw_frames(const struct wire_message *message, struct wire_bytes *frames, size_t capacity,
                               size_t *count, void **scratch) {
    struct frame_list list = {frames, 0, capacity};
    *scratch = NULL;
    *count = 0;
    enum lg_status status = raw_frames_add(&list, message, scratch);
    if (status) {
        free(*scratch);
        *scratch = NULL;
        return status;
    }
    *count = list.count;
    return LG_OK;
}
