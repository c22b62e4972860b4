/* What the files behind wire.h share: the arena, and one function per layer of a message.
 *
 *   wire.c          wire_decode and what the rest of the program calls
 *   wire_header.c   header frame <-> plain structs, made from wire_fields.def; the only user of generated code
 *   wire_text.c     UTF-8
 *   wire_check.c    rules between the fields of one body
 *   wire_raw.c      unit table, payload, placement, document frames
 *   wire_tensor.c   tensor table frames */
#ifndef LAGOON_PROTO_WIRE_INTERNAL_H
#define LAGOON_PROTO_WIRE_INTERNAL_H

#include "proto/wire.h"

#define WIRE_LITTLE_ENDIAN (__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__)
_Static_assert(WIRE_LITTLE_ENDIAN, "raw frames are little-endian and used in place");
_Static_assert(sizeof(struct wire_unit) == 16, "a unit table entry is 16 bytes");

/* A bump allocator over one region: from wire_arena_new for decoding, on the stack for encoding. */
struct wire_arena {
    unsigned char *memory; /* aligned for any type */
    size_t used, limit;
};

/* `bytes` aligned to 16, uninitialised; NULL when the arena is full. */
void *wire_arena_take(struct wire_arena *arena, size_t bytes);
/* The same for an array of `count` items. */
void *wire_arena_take_array(struct wire_arena *arena, size_t count, size_t item_bytes);
/* LG_MALFORMED: what `what` needs does not fit into the arena. */
enum lg_status wire_arena_full(const struct wire_arena *arena, const char *what, struct lg_error *error);

/* The bytes of `text` before the first that is not UTF-8; `bytes` when all are. */
size_t wire_text_sound(const void *text, size_t bytes);

/* Everything of the header frame that a field says by itself. Fills kind, request and the body; on failure `request`
 * where it could be read, and kind 0. */
LG_MUST_CHECK enum lg_status wire_header_read(struct wire_bytes header, struct wire_arena *arena,
                                              struct wire_message *out, struct lg_error *error);
/* Rules between the fields of the body. */
LG_MUST_CHECK enum lg_status wire_body_check(const struct wire_message *message, struct lg_error *error);
/* The raw frames that the kind and body allow, all of them checked. `message` has its header already. */
LG_MUST_CHECK enum lg_status wire_raw_read(const struct wire_bytes *frames, size_t count, struct wire_arena *arena,
                                           struct wire_message *message, struct lg_error *error);

/* Tensor table frames: WIRE_TENSOR_RECORD_BYTES per tensor. The table read has passed tensor_table_check. */
LG_MUST_CHECK enum lg_status wire_tensors_read(struct wire_bytes frame, struct wire_arena *arena,
                                               struct wire_message *message, struct lg_error *error);
/* Units (blocks) that a checked table is cut into. */
uint64_t wire_tensors_units(const struct tensor_spec *tensors, size_t count);
void wire_tensors_write(const struct tensor_spec *tensors, size_t count, unsigned char *frame);

#endif
