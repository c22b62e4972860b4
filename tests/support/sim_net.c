#include "tests/support/sim_net.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void *need(void *memory) {
    if (!memory) {
        fprintf(stderr, "the simulation is out of memory\n");
        abort();
    }
    return memory;
}

void sim_net_init(struct sim_net *net, uint64_t seed, const struct sim_weather *weather) {
    *net = (struct sim_net){.weather = *weather};
    random_init(&net->random, seed);
    net->arena = need(wire_arena_new(1 << 20));
}

void sim_net_deinit(struct sim_net *net) {
    while (net->count > 0)
        sim_done(&net->heap[--net->count]);
    free(net->heap);
    free(net->connections);
    wire_arena_free(net->arena);
}

bool sim_chance(struct sim_net *net, unsigned of_1000) {
    return random_below(&net->random, 1000) < of_1000;
}

int64_t sim_delay(struct sim_net *net, int64_t least_ns, int64_t most_ns) {
    return least_ns + (int64_t)random_below(&net->random, (uint64_t)(most_ns - least_ns) + 1);
}

/* ---- the queue: a binary heap by (time, order) */

static bool before(const struct sim_event *a, const struct sim_event *b) {
    return a->at_ns != b->at_ns ? a->at_ns < b->at_ns : a->order < b->order;
}

static void heap_push(struct sim_net *net, struct sim_event event) {
    if (net->count == net->capacity) {
        net->capacity = net->capacity ? 2 * net->capacity : 64;
        net->heap = need(realloc(net->heap, net->capacity * sizeof *net->heap));
    }
    event.order = ++net->orders;
    size_t at = net->count++;
    for (; at > 0 && before(&event, &net->heap[(at - 1) / 2]); at = (at - 1) / 2)
        net->heap[at] = net->heap[(at - 1) / 2];
    net->heap[at] = event;
}

bool sim_next(struct sim_net *net, struct sim_event *event) {
    if (net->count == 0)
        return false;
    *event = net->heap[0];
    struct sim_event last = net->heap[--net->count];
    size_t at = 0;
    for (size_t child = 1; child < net->count; child = 2 * at + 1) {
        if (child + 1 < net->count && before(&net->heap[child + 1], &net->heap[child]))
            child++;
        if (!before(&net->heap[child], &last))
            break;
        net->heap[at] = net->heap[child];
        at = child;
    }
    net->heap[at] = last;
    net->now_ns = event->at_ns;
    return true;
}

void sim_done(struct sim_event *event) {
    free(event->memory);
    event->memory = NULL;
}

void sim_later(struct sim_net *net, int64_t delay_ns, int what, uint64_t a, uint64_t b) {
    heap_push(net, (struct sim_event){.at_ns = net->now_ns + delay_ns, .kind = SIM_USER, .what = what, .a = a, .b = b});
}

/* ---- connections */

uint32_t sim_connect(struct sim_net *net, uint64_t tag) {
    if (net->connection_count == net->connection_capacity) {
        net->connection_capacity = net->connection_capacity ? 2 * net->connection_capacity : 16;
        net->connections = need(realloc(net->connections, net->connection_capacity * sizeof *net->connections));
    }
    net->connections[net->connection_count] =
        (struct sim_connection){.client_open = true, .server_open = true, .tag = tag};
    return net->connection_count++;
}

void sim_close(struct sim_net *net, uint32_t connection) {
    net->connections[connection].client_open = false;
}

/* One block: frame list, then the bytes of header and raw frames. */
static void encode(const struct wire_message *message, struct sim_event *event) {
    struct wire_bytes raw[WIRE_PAYLOAD_FRAMES_MAX + 2];
    size_t count = 0, header = wire_header_bytes(message), bytes = header;
    void *scratch = NULL;
    if (header == 0 || wire_raw_frames(message, raw, WIRE_PAYLOAD_FRAMES_MAX + 2, &count, &scratch) != LG_OK) {
        fprintf(stderr, "a message could not be encoded\n");
        abort();
    }
    for (size_t i = 0; i < count; i++)
        bytes += raw[i].bytes;
    event->memory = need(malloc((count + 1) * sizeof *event->frames + bytes));
    event->frames = event->memory;
    event->frame_count = count + 1;
    char *at = (char *)(event->frames + count + 1);
    wire_header_write(message, at);
    event->frames[0] = (struct wire_bytes){at, header};
    at += header;
    for (size_t i = 0; i < count; i++) {
        memcpy(at, raw[i].data, raw[i].bytes);
        event->frames[i + 1] = (struct wire_bytes){at, raw[i].bytes};
        at += raw[i].bytes;
    }
    free(scratch);
}

/* Both ends are gone: the client soon hears of it, the server never does. What is under way to the server may still
 * come. */
static void cut(struct sim_net *net, uint32_t connection) {
    struct sim_connection *c = &net->connections[connection];
    if (!c->client_open)
        return;
    net->cuts++;
    c->client_open = false;
    heap_push(net, (struct sim_event){.at_ns = net->now_ns + sim_delay(net, 1000, net->weather.delay_most_ns),
                                      .kind = SIM_BROKEN,
                                      .connection = connection});
}

static void queue_message(struct sim_net *net, uint32_t connection, bool to_server,
                          const struct wire_message *message) {
    struct sim_connection *c = &net->connections[connection];
    int64_t *last_ns = to_server ? &c->server_ns : &c->client_ns;
    int64_t at_ns = net->now_ns + sim_delay(net, net->weather.delay_least_ns, net->weather.delay_most_ns);
    struct sim_event event = {.kind = to_server ? SIM_TO_SERVER : SIM_TO_CLIENT, .connection = connection};
    *last_ns = at_ns > *last_ns ? at_ns : *last_ns;
    event.at_ns = *last_ns;
    encode(message, &event);
    heap_push(net, event);
}

void sim_send(struct sim_net *net, uint32_t connection, bool to_server, const struct wire_message *message) {
    if (!net->connections[connection].client_open)
        return;
    if (sim_chance(net, net->weather.cut)) {
        if (sim_chance(net, 500))
            queue_message(net, connection, to_server, message);
        cut(net, connection);
        return;
    }
    if (sim_chance(net, net->weather.lose)) {
        net->lost++;
        return;
    }
    queue_message(net, connection, to_server, message);
    if (sim_chance(net, net->weather.repeat)) {
        net->repeated++;
        queue_message(net, connection, to_server, message);
    }
}

bool sim_message(struct sim_net *net, const struct sim_event *event, struct wire_message *message,
                 struct lg_error *error) {
    const struct sim_connection *c = &net->connections[event->connection];
    if (event->kind == SIM_TO_CLIENT ? !c->client_open : !c->server_open)
        return false;
    net->delivered++;
    return wire_decode(event->frames, event->frame_count, net->arena, message, error) == LG_OK;
}
