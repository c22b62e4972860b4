/* Tensor table frames: one fixed little-endian record per tensor, so that a client in any language reads the frame as
 * an array of structs.
 *
 *   offset  bytes  field
 *        0     96  name, NUL-padded, at least one NUL
 *       96     32  shape, 4 x u64; entries from rank on are 0
 *      128      4  rank, u32
 *      132      4  lr_factor, f32
 *      136      1  update (enum tensor_update)
 *      137      1  flags: 1 frozen, 2 no weight decay
 *      138      6  zero */
#include "proto/wire_internal.h"

#include <string.h>

#include "common/block.h"

enum {
    AT_NAME = 0,
    AT_SHAPE = 96,
    AT_RANK = 128,
    AT_LR_FACTOR = 132,
    AT_UPDATE = 136,
    AT_FLAGS = 137,
    AT_ZERO = 138,
    FLAG_FROZEN = 1,
    FLAG_NO_WEIGHT_DECAY = 2,
};
_Static_assert((int)TENSOR_NAME_BYTES == AT_SHAPE && TENSOR_RANK_MAX * 8 == AT_RANK - AT_SHAPE, "the record's layout");
_Static_assert((long)WIRE_TENSORS_MAX <= (long)TENSOR_COUNT_MAX, "a frame holds no more than a job may have");

void wire_tensors_write(const struct tensor_spec *tensors, size_t count, unsigned char *frame) {
    memset(frame, 0, count * WIRE_TENSOR_RECORD_BYTES);
    for (size_t i = 0; i < count; i++) {
        const struct tensor_spec *tensor = &tensors[i];
        unsigned char *record = frame + i * WIRE_TENSOR_RECORD_BYTES;
        memcpy(record + AT_NAME, tensor->name, strnlen(tensor->name, TENSOR_NAME_BYTES - 1));
        size_t rank = tensor->rank < TENSOR_RANK_MAX ? tensor->rank : TENSOR_RANK_MAX;
        memcpy(record + AT_SHAPE, tensor->shape, rank * sizeof tensor->shape[0]);
        memcpy(record + AT_RANK, &tensor->rank, sizeof tensor->rank);
        memcpy(record + AT_LR_FACTOR, &tensor->lr_factor, sizeof tensor->lr_factor);
        record[AT_UPDATE] = (unsigned char)tensor->update;
        record[AT_FLAGS] =
            (unsigned char)((tensor->frozen ? FLAG_FROZEN : 0) | (tensor->no_weight_decay ? FLAG_NO_WEIGHT_DECAY : 0));
    }
}

static bool all_zero(const unsigned char *bytes, size_t count) {
    for (size_t i = 0; i < count; i++)
        if (bytes[i] != 0)
            return false;
    return true;
}

/* Everything tensor_table_check does not see: what the record can say and the struct cannot. */
static enum lg_status record_read(const unsigned char *record, size_t at, struct tensor_spec *tensor,
                                  struct lg_error *error) {
    memset(tensor, 0, sizeof *tensor);
    memcpy(tensor->name, record + AT_NAME, sizeof tensor->name);
    memcpy(tensor->shape, record + AT_SHAPE, sizeof tensor->shape);
    memcpy(&tensor->rank, record + AT_RANK, sizeof tensor->rank);
    memcpy(&tensor->lr_factor, record + AT_LR_FACTOR, sizeof tensor->lr_factor);
    size_t length = strnlen(tensor->name, sizeof tensor->name);
    if (length == sizeof tensor->name || !all_zero(record + AT_NAME + length, sizeof tensor->name - length))
        return lg_fail(error, LG_MALFORMED, "the name of tensor %zu is not padded with NUL bytes", at);
    if (tensor->rank > TENSOR_RANK_MAX)
        return lg_fail(error, LG_MALFORMED, "tensor %zu has rank %u, the limit is %d", at, tensor->rank,
                       TENSOR_RANK_MAX);
    size_t shape_bytes = tensor->rank * sizeof tensor->shape[0];
    if (record[AT_UPDATE] > TENSOR_UPDATE_AVERAGE || record[AT_FLAGS] > (FLAG_FROZEN | FLAG_NO_WEIGHT_DECAY) ||
        !all_zero(record + AT_SHAPE + shape_bytes, sizeof tensor->shape - shape_bytes) ||
        !all_zero(record + AT_ZERO, WIRE_TENSOR_RECORD_BYTES - AT_ZERO))
        return lg_fail(error, LG_MALFORMED, "the record of tensor %zu sets bits that protocol %d does not define", at,
                       WIRE_PROTOCOL);
    tensor->update = (enum tensor_update)record[AT_UPDATE];
    tensor->frozen = record[AT_FLAGS] & FLAG_FROZEN;
    tensor->no_weight_decay = record[AT_FLAGS] & FLAG_NO_WEIGHT_DECAY;
    return LG_OK;
}

uint64_t wire_tensors_units(const struct tensor_spec *tensors, size_t count) {
    uint64_t units = 0;
    for (size_t i = 0; i < count; i++)
        units += (tensor_elements(&tensors[i]) + BLOCK_ELEMENTS - 1) / BLOCK_ELEMENTS;
    return units;
}

enum lg_status wire_tensors_read(struct wire_bytes frame, struct wire_arena *arena, struct wire_message *message,
                                 struct lg_error *error) {
    size_t count = frame.bytes / WIRE_TENSOR_RECORD_BYTES;
    if (count == 0 || count > WIRE_TENSORS_MAX || frame.bytes % WIRE_TENSOR_RECORD_BYTES != 0)
        return lg_fail(error, LG_MALFORMED, "a tensor table has %zu bytes; it needs %d for each of 1 to %d tensors",
                       frame.bytes, WIRE_TENSOR_RECORD_BYTES, WIRE_TENSORS_MAX);
    struct tensor_spec *tensors = wire_arena_take_array(arena, count, sizeof *tensors);
    if (!tensors)
        return wire_arena_full(arena, "the tensor table", error);
    for (size_t i = 0; i < count; i++) {
        enum lg_status status =
            record_read((const unsigned char *)frame.data + i * WIRE_TENSOR_RECORD_BYTES, i, &tensors[i], error);
        if (status)
            return status;
    }
    enum lg_status status = tensor_table_check(tensors, count, error);
    if (status)
        return lg_fail_prefix(error, LG_MALFORMED, "the tensor table");
    uint64_t units = wire_tensors_units(tensors, count);
    if (units > WIRE_PLACEMENT_MAX)
        return lg_fail(error, LG_MALFORMED, "the tensors make %llu units of %d elements; a job has at most %d",
                       (unsigned long long)units, BLOCK_ELEMENTS, WIRE_PLACEMENT_MAX);
    message->tensors = tensors;
    message->tensor_count = count;
    return LG_OK;
}
