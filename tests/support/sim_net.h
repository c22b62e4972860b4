/* A simulated network in virtual time, driven from a seed: connections that delay, lose, repeat and break.
 *
 * A connection is a pair of queues: what is delivered arrives in order, connections overtake each other. Messages are
 * encoded when sent and decoded when delivered, so that the wire's code takes part. Nothing here knows sessions or
 * shards; whoever pops an event handles it. */
#ifndef LAGOON_TESTS_SUPPORT_SIM_NET_H
#define LAGOON_TESTS_SUPPORT_SIM_NET_H

#include "common/random.h"
#include "proto/wire.h"

enum sim_kind {
    SIM_TO_SERVER, /* a message for the server's end of `connection` */
    SIM_TO_CLIENT, /* for the client's end */
    SIM_BROKEN,    /* the client learns that the connection is gone */
    SIM_USER       /* of whoever runs the simulation: see `what`, `a`, `b` */
};

struct sim_event {
    int64_t at_ns;
    uint64_t order; /* breaks ties: first come, first served */
    enum sim_kind kind;
    uint32_t connection;
    int what;
    uint64_t a, b;
    void *memory; /* of a message */
    struct wire_bytes *frames;
    size_t frame_count;
};

struct sim_connection {
    bool client_open, server_open; /* closed ends hear nothing */
    int64_t client_ns, server_ns;  /* when the last message arrives at that end */
    uint64_t tag;                  /* of the user */
};

/* How bad the network is; chances out of 1000 per message. */
struct sim_weather {
    unsigned lose, repeat, cut;
    int64_t delay_least_ns, delay_most_ns;
};

struct sim_net {
    struct random random;
    struct sim_weather weather;
    int64_t now_ns;
    uint64_t orders;
    struct sim_event *heap;
    size_t count, capacity;
    struct sim_connection *connections;
    uint32_t connection_count, connection_capacity;
    struct wire_arena *arena;
    uint64_t lost, repeated, cuts, delivered;
};

void sim_net_init(struct sim_net *net, uint64_t seed, const struct sim_weather *weather);
void sim_net_deinit(struct sim_net *net);

uint32_t sim_connect(struct sim_net *net, uint64_t tag);
/* The client closes its end; what it sent may still arrive. */
void sim_close(struct sim_net *net, uint32_t connection);
/* Messages of a closed end go nowhere. */
void sim_send(struct sim_net *net, uint32_t connection, bool to_server, const struct wire_message *message);
/* SIM_USER after `delay_ns`. */
void sim_later(struct sim_net *net, int64_t delay_ns, int what, uint64_t a, uint64_t b);
int64_t sim_delay(struct sim_net *net, int64_t least_ns, int64_t most_ns);
bool sim_chance(struct sim_net *net, unsigned of_1000);

/* Takes the next event and moves the time; false when nothing is left. Give it back with sim_done. */
bool sim_next(struct sim_net *net, struct sim_event *event);
void sim_done(struct sim_event *event);
/* Whether the message of an event reaches the end it is for, and what it is; valid until the next call. */
bool sim_message(struct sim_net *net, const struct sim_event *event, struct wire_message *message,
                 struct lg_error *error);

#endif
