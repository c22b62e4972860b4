#include "proto/wire_net.h"

#include <stdlib.h>
#include <string.h>

enum lg_status wire_net_add_header(const struct wire_message *message, struct net_message *out) {
    zmq_msg_t frame;
    size_t bytes = wire_header_bytes(message);
    if (bytes == 0)
        return LG_INVALID;
    if (zmq_msg_init_size(&frame, bytes) != 0)
        return LG_NO_MEMORY;
    wire_header_write(message, zmq_msg_data(&frame));
    enum lg_status status = net_message_add_move(out, &frame);
    zmq_msg_close(&frame);
    return status;
}

enum lg_status wire_net_add(const struct wire_message *message, struct net_message *out) {
    struct wire_bytes frames[WIRE_PAYLOAD_FRAMES_MAX + 2];
    size_t count = 0;
    void *scratch = NULL;
    enum lg_status status = wire_net_add_header(message, out);
    if (status == LG_OK)
        status = wire_raw_frames(message, frames, WIRE_PAYLOAD_FRAMES_MAX + 2, &count, &scratch);
    for (size_t i = 0; status == LG_OK && i < count; i++)
        status = net_message_add(out, frames[i].data, frames[i].bytes);
    free(scratch);
    return status;
}

enum lg_status wire_net_decode(const struct net_message *in, size_t first, struct wire_arena *arena,
                               struct wire_message *out, struct lg_error *error) {
    struct wire_bytes frames[NET_FRAMES_MAX];
    if (in->count <= first)
        return lg_fail(error, LG_MALFORMED, "a message without a header frame");
    for (size_t i = first; i < in->count; i++)
        frames[i - first] = (struct wire_bytes){net_frame_data(in, i), net_frame_bytes(in, i)};
    return wire_decode(frames, in->count - first, arena, out, error);
}

/* The length goes into the top byte, so that ids of different lengths differ and none packs to 0. */
uint64_t wire_route_pack(const void *id, size_t bytes) {
    uint64_t route = 0;
    if (bytes == 0 || bytes > 7)
        return 0;
    memcpy(&route, id, bytes);
    return route | ((uint64_t)bytes << 56);
}

size_t wire_route_unpack(uint64_t route, uint8_t id[8]) {
    memcpy(id, &route, 8);
    return (size_t)(route >> 56);
}
