/* Gradient payload as it lies in received frames, and the codecs that turn it into f32 chunks.
 *
 * A codec decodes a chunk of at most UPDATER_CHUNK elements to scratch, or, for raw f32, hands out the received bytes
 * themselves; updaters only ever see chunks of f32, so codecs and updaters combine freely. */
#ifndef LAGOON_SERVER_PAYLOAD_H
#define LAGOON_SERVER_PAYLOAD_H

#include <stdbool.h>

#include "proto/wire.h"

struct payload_codec {
    const char *name;
    uint64_t (*bytes)(uint64_t elements); /* of one unit's payload */
    /* Elements [first, first + n) of a unit's payload; returns `scratch` or a pointer into `data`. */
    const float *(*decode)(const uint8_t *data, size_t first, size_t n, float *scratch);
    /* False when any of the unit's elements is NaN or infinite. */
    bool (*finite)(const uint8_t *data, size_t elements);
};

/* The codec of a push header; LG_UNSUPPORTED for what this version does not have. */
LG_MUST_CHECK enum lg_status payload_codec_find(enum wire_dtype dtype, uint32_t codec, const struct payload_codec **out,
                                                struct lg_error *error);

/* Where each unit's payload begins: data[message->unit_count]. LG_INVALID unless frames hold whole units in table order
 * and nothing else. */
LG_MUST_CHECK enum lg_status payload_locate(const struct wire_message *message, const struct payload_codec *codec,
                                            const uint8_t **data, uint64_t *bytes, struct lg_error *error);

#endif
