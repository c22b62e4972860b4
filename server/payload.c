#include "server/payload.h"

enum lg_status payload_locate(const struct wire_message *message, const struct codec *codec, const uint8_t **data,
                              uint64_t *bytes, struct lg_error *error) {
    size_t frame = 0, offset = 0;
    *bytes = 0;
    for (size_t i = 0; i < message->unit_count; i++) {
        struct lg_error detail = {0};
        size_t length;
        while (frame < message->payload_count && offset == message->payload[frame].bytes) {
            frame++;
            offset = 0;
        }
        if (frame == message->payload_count)
            return lg_fail(error, LG_INVALID, "there is no payload for unit %u", message->units[i].unit);
        data[i] = (const uint8_t *)message->payload[frame].data + offset;
        if (codec->measure(data[i], message->payload[frame].bytes - offset, message->units[i].elements, &length,
                           &detail) != LG_OK)
            return lg_fail(error, LG_INVALID, "the %s payload of unit %u is not whole within one frame: %s",
                           codec->name, message->units[i].unit, detail.message);
        offset += length;
        *bytes += length;
    }
    if (message->payload_count > 0 && (frame + 1 < message->payload_count ||
                                       (frame < message->payload_count && offset != message->payload[frame].bytes)))
        return lg_fail(error, LG_INVALID, "there is more payload than the unit table names");
    return LG_OK;
}
