#include "proto/wire_net.h"

#include <stdlib.h>
#include <string.h>

static enum lg_status add_header(const struct wire_message *message, struct net_message *out) {
    unsigned char header[WIRE_HEADER_BYTES_MAX];
    size_t bytes = wire_header_encode(message, header);
    return bytes > 0 ? net_message_add(out, header, bytes) : LG_INVALID;
}

/* Payload frames [first, end) as one copied frame. */
static enum lg_status add_gathered(const struct wire_bytes *payload, size_t first, size_t end,
                                   struct net_message *out) {
    size_t bytes = 0;
    for (size_t i = first; i < end; i++)
        bytes += payload[i].bytes;
    zmq_msg_t frame;
    if (zmq_msg_init_size(&frame, bytes) != 0)
        return LG_NO_MEMORY;
    char *at = zmq_msg_data(&frame);
    for (size_t i = first; i < end; i++) {
        memcpy(at, payload[i].data, payload[i].bytes);
        at += payload[i].bytes;
    }
    enum lg_status status = net_message_add_move(out, &frame);
    zmq_msg_close(&frame);
    return status;
}

static enum lg_status add_loan(const struct wire_bytes *payload, size_t at, const struct wire_net_lender *lender,
                               struct net_message *out) {
    void *data = (void *)payload[at].data, *hint = lender->lend(lender->context, at);
    enum lg_status status = net_message_add_data(out, data, payload[at].bytes, lender->give_back, hint);
    if (status != LG_OK)
        lender->give_back(data, hint);
    return status;
}

static enum lg_status add_payload(const struct wire_bytes *payload, size_t count, const struct wire_net_lender *lender,
                                  struct net_message *out) {
    enum lg_status status = LG_OK;
    for (size_t i = 0, end; status == LG_OK && i < count; i = end) {
        end = i + 1;
        if (payload[i].bytes >= WIRE_NET_LEND_BYTES) {
            status = add_loan(payload, i, lender, out);
        } else {
            while (end < count && payload[end].bytes < WIRE_NET_LEND_BYTES)
                end++;
            status = add_gathered(payload, i, end, out);
        }
    }
    return status;
}

/* `lender` NULL: everything is copied, frame by frame. */
static enum lg_status add_message(const struct wire_message *message, const struct wire_net_lender *lender,
                                  struct net_message *out) {
    struct wire_bytes frames[WIRE_PAYLOAD_FRAMES_MAX + 2];
    size_t count = 0;
    void *scratch = NULL;
    enum lg_status status = add_header(message, out);
    if (status == LG_OK)
        status = wire_raw_frames(message, frames, WIRE_PAYLOAD_FRAMES_MAX + 2, &count, &scratch);
    /* payload comes last, where the kind has any */
    size_t copied = lender && count > message->payload_count ? count - message->payload_count : count;
    for (size_t i = 0; status == LG_OK && i < copied; i++)
        status = net_message_add(out, frames[i].data, frames[i].bytes);
    if (status == LG_OK)
        status = add_payload(&frames[copied], count - copied, lender, out);
    free(scratch);
    return status;
}

enum lg_status wire_net_add(const struct wire_message *message, struct net_message *out) {
    return add_message(message, NULL, out);
}

enum lg_status wire_net_add_lent(const struct wire_message *message, const struct wire_net_lender *lender,
                                 struct net_message *out) {
    return add_message(message, lender, out);
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
