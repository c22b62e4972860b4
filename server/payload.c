#include "server/payload.h"

#include <string.h>

/* ---- raw f32 */

static uint64_t raw_bytes(uint64_t elements) {
    return elements * sizeof(float);
}

static const float *raw_decode(const uint8_t *data, size_t first, size_t n, float *scratch) {
    const uint8_t *at = data + first * sizeof(float);
    if ((uintptr_t)at % _Alignof(float) == 0)
        return (const float *)(const void *)at;
    memcpy(scratch, at, n * sizeof(float));
    return scratch;
}

/* All exponent bits set means NaN or infinity; an integer test vectorises, and does not trip on signalling NaNs. */
static bool raw_finite(const uint8_t *data, size_t elements) {
    const uint32_t exponent = 0x7f800000u;
    uint32_t bad = 0;
    for (size_t i = 0; i < elements; i++) {
        uint32_t bits;
        memcpy(&bits, data + i * sizeof bits, sizeof bits);
        bad |= (bits & exponent) == exponent;
    }
    return bad == 0;
}

static const struct payload_codec raw = {"raw", raw_bytes, raw_decode, raw_finite};

/* ---- any codec */

enum lg_status payload_codec_find(enum wire_dtype dtype, uint32_t codec, const struct payload_codec **out,
                                  struct lg_error *error) {
    if (codec != 0)
        return lg_fail(error, LG_UNSUPPORTED, "codec %u is not known here: send raw values (codec 0)", codec);
    if (dtype != WIRE_DTYPE_F32)
        return lg_fail(error, LG_UNSUPPORTED, "element type %d is not offered: send f32 (type 0)", (int)dtype);
    *out = &raw;
    return LG_OK;
}

enum lg_status payload_locate(const struct wire_message *message, const struct payload_codec *codec,
                              const uint8_t **data, uint64_t *bytes, struct lg_error *error) {
    size_t frame = 0, offset = 0;
    *bytes = 0;
    for (size_t i = 0; i < message->unit_count; i++) {
        uint64_t needed = codec->bytes(message->units[i].elements);
        while (frame < message->payload_count && offset == message->payload[frame].bytes) {
            frame++;
            offset = 0;
        }
        if (frame == message->payload_count || message->payload[frame].bytes - offset < needed)
            return lg_fail(error, LG_INVALID, "the payload of unit %u is not whole within one frame",
                           message->units[i].unit);
        data[i] = (const uint8_t *)message->payload[frame].data + offset;
        offset += (size_t)needed;
        *bytes += needed;
    }
    if (message->payload_count > 0 && (frame + 1 < message->payload_count ||
                                       (frame < message->payload_count && offset != message->payload[frame].bytes)))
        return lg_fail(error, LG_INVALID, "there is more payload than the unit table names");
    return LG_OK;
}
