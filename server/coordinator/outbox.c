#include "server/coordinator/outbox.h"

#include <stdlib.h>

/* Only the frames that are there: a net_message is 17 KiB. */
struct held {
    struct held *next;
    uint64_t batch; /* once it is marked */
    size_t count;
    zmq_msg_t frames[];
};

enum lg_status outbox_encode(uint64_t route, const struct wire_message *message, struct net_message *out) {
    uint8_t id[8];
    size_t bytes = wire_route_unpack(route, id);
    out->count = 0;
    enum lg_status status = net_message_add(out, id, bytes);
    if (status == LG_OK)
        status = wire_net_add(message, out);
    if (status != LG_OK)
        net_message_clear(out);
    return status;
}

enum lg_status outbox_add(struct outbox *outbox, uint64_t route, const struct wire_message *message) {
    struct net_message frames;
    enum lg_status status = outbox_encode(route, message, &frames);
    struct held *held = status == LG_OK ? malloc(sizeof *held + frames.count * sizeof *held->frames) : NULL;
    if (!held) {
        net_message_clear(&frames);
        return status == LG_OK ? LG_NO_MEMORY : status;
    }
    *held = (struct held){.count = frames.count};
    for (size_t i = 0; i < frames.count; i++) {
        zmq_msg_init(&held->frames[i]);
        zmq_msg_move(&held->frames[i], &frames.frames[i]);
    }
    net_message_clear(&frames);
    if (outbox->last)
        outbox->last->next = held;
    else
        outbox->first = held;
    outbox->last = held;
    if (!outbox->unmarked)
        outbox->unmarked = held;
    outbox->count++;
    return LG_OK;
}

void outbox_mark(struct outbox *outbox, uint64_t batch) {
    for (struct held *held = outbox->unmarked; held; held = held->next)
        held->batch = batch;
    outbox->unmarked = NULL;
}

static void remove_first(struct outbox *outbox) {
    struct held *held = outbox->first;
    outbox->first = held->next;
    if (outbox->unmarked == held)
        outbox->unmarked = held->next;
    if (!outbox->first)
        outbox->last = NULL;
    outbox->count--;
    for (size_t i = 0; i < held->count; i++)
        zmq_msg_close(&held->frames[i]);
    free(held);
}

size_t outbox_send(struct outbox *outbox, void *socket, uint64_t durable) {
    struct net_message out;
    size_t lost = 0;
    out.count = 0;
    while (outbox->first && outbox->first != outbox->unmarked && outbox->first->batch <= durable) {
        struct held *held = outbox->first;
        enum lg_status status = LG_OK;
        for (size_t i = 0; status == LG_OK && i < held->count; i++)
            status = net_message_add_move(&out, &held->frames[i]);
        if (status == LG_OK)
            status = net_send(socket, &out);
        net_message_clear(&out);
        lost += status != LG_OK;
        remove_first(outbox);
    }
    return lost;
}

void outbox_clear(struct outbox *outbox) {
    while (outbox->first)
        remove_first(outbox);
}
