/* The server process of a benchmark: shard threads as in lagoon-server, and a coordinator that answers joins, sends
 * every client away when it asks for work, and keeps nothing. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/bench_cluster.h"
#include "common/block.h"
#include "proto/wire_net.h"
#include "server/coordinator/placement.h"
#include "server/server_config.h"
#include "server/shard_thread.h"

enum { JOB = 1, EPOCH = 1, MAP = 1, ARENA_BYTES = 32 << 20, RETRY_MS = 60000, SPEC_MAX = 8 };

struct server {
    const struct bench_cluster *cluster;
    void *zmq, *coordinator;
    struct shard_thread *shards[BENCH_SHARDS_MAX];
    struct wire_shard_address addresses[BENCH_SHARDS_MAX];
    unsigned shard_count;
    struct tensor_spec *tensors;
    uint16_t *placement;
    size_t units;
    struct wire_pair spec[SPEC_MAX];
    size_t spec_count;
    uint64_t sessions;
    struct wire_arena *arena, *ack_arena;
    struct net_message in, out;
};

/* ---- shards */

/* The settings of a server that was started with none. */
static enum lg_status open_shard(struct server *server, unsigned index, struct lg_error *error) {
    struct server_config defaults;
    char endpoint[NET_ENDPOINT_BYTES] = "tcp://127.0.0.1:0";
    enum lg_status status = option_apply(&server_table, "", NULL, &defaults, error);
    if (status != LG_OK)
        return status;
    if (server->cluster->setup.transport == BENCH_IPC)
        snprintf(endpoint, sizeof endpoint, "ipc://%s/shard%u", server->cluster->dir, index);
    const struct shard_thread_options options = {
        .zmq = server->zmq,
        .endpoint = endpoint,
        .local = defaults.local,
        .shard = {.credit_bytes = defaults.credit_bytes,
                  .session_credit_bytes = defaults.session_credit_bytes,
                  .window = (uint32_t)defaults.window,
                  .sessions_max = (uint32_t)defaults.sessions_max,
                  .reject_nonfinite = defaults.reject_nonfinite,
                  .isa = isa_detect()},
    };
    status = shard_thread_open(&options, &server->shards[index], error);
    if (status == LG_OK)
        status = shard_thread_start(server->shards[index], index, error);
    if (status == LG_OK)
        server->addresses[index] = (struct wire_shard_address){index, shard_thread_endpoint(server->shards[index])};
    return status;
}

/* Waits for the answer; statistics that come in between are passed over. */
static enum lg_status command(struct server *server, unsigned shard, const struct wire_message *message,
                              struct lg_error *error) {
    void *control = shard_thread_control(server->shards[shard]);
    struct wire_message answer = {0};
    enum lg_status status = wire_net_add(message, &server->out);
    if (status == LG_OK)
        status = net_send(control, &server->out);
    while (status == LG_OK && answer.kind != WIRE_ACK) {
        zmq_pollitem_t item = {.socket = control, .events = ZMQ_POLLIN};
        if (zmq_poll(&item, 1, -1) < 0)
            status = LG_IO;
        else if (net_receive(control, &server->in) == LG_OK)
            status = wire_net_decode(&server->in, 0, server->ack_arena, &answer, error);
    }
    if (status != LG_OK)
        return lg_fail(error, status, "cannot command a shard: %s", lg_status_text(status));
    if (answer.ack.status != LG_OK)
        return lg_fail(error, (enum lg_status)answer.ack.status, "a shard refused: %s", answer.ack.reason);
    return LG_OK;
}

static enum lg_status open_job(struct server *server, unsigned shard, struct lg_error *error) {
    struct wire_message open = {.kind = WIRE_JOB_OPEN,
                                .request = 1,
                                .job_open = {.job = JOB,
                                             .name = "bench",
                                             .shard = shard,
                                             .slot = shard,
                                             .epoch = EPOCH,
                                             .map_version = MAP,
                                             .train_samples = 1000,
                                             .spec = server->spec,
                                             .spec_count = server->spec_count},
                                .tensors = server->tensors,
                                .tensor_count = server->cluster->setup.tensors,
                                .placement = server->placement,
                                .placement_count = server->units};
    return command(server, shard, &open, error);
}

static enum lg_status open_session(struct server *server, unsigned shard, uint64_t session, struct lg_error *error) {
    struct wire_message open = {.kind = WIRE_SESSION_OPEN,
                                .request = 1,
                                .session_open = {.job = JOB,
                                                 .shard = shard,
                                                 .session = session,
                                                 .incarnation = 1,
                                                 .token = session,
                                                 .may_push = true,
                                                 .may_initialise = true}};
    return command(server, shard, &open, error);
}

/* Placed as the coordinator places; shards that get nothing are left out. */
static enum lg_status place(struct server *server, struct lg_error *error) {
    const struct bench_setup *setup = &server->cluster->setup;
    struct placement_shard shards[BENCH_SHARDS_MAX];
    struct block_table blocks;
    uint16_t order[BENCH_SHARDS_MAX];
    for (unsigned i = 0; i < setup->shards; i++)
        shards[i] = (struct placement_shard){.shard = i, .free_bytes = UINT64_MAX};
    server->tensors = bench_tensors(setup);
    if (!server->tensors)
        return lg_fail(error, LG_NO_MEMORY, "no memory for %llu tensors", (unsigned long long)setup->tensors);
    enum lg_status status = block_table_init(&blocks, server->tensors, setup->tensors, error);
    if (status != LG_OK)
        return status;
    server->units = blocks.count;
    server->placement = calloc(blocks.count, sizeof *server->placement);
    status = server->placement ? placement_place(blocks.blocks, blocks.count, sizeof(float), shards, setup->shards,
                                                 server->placement, error)
                               : lg_fail(error, LG_NO_MEMORY, "no memory for a placement");
    if (status == LG_OK)
        server->shard_count = (unsigned)placement_compact(server->placement, server->units, setup->shards, order);
    block_table_deinit(&blocks);
    return status;
}

static void specify(struct server *server) {
    const struct wire_pair pairs[] = {
        {"name", "bench"}, {"updater.kind", "sgd"}, {"lr.base", "0.000001"}, {"staleness.policy", "constant"}};
    memcpy(server->spec, pairs, sizeof pairs);
    server->spec_count = sizeof pairs / sizeof *pairs;
    if (server->cluster->setup.codec)
        server->spec[server->spec_count++] = (struct wire_pair){"push.codec", server->cluster->setup.codec};
}

/* ---- the coordinator */

static enum lg_status answer(struct server *server, uint64_t route, uint64_t request, struct wire_message *message) {
    uint8_t id[8];
    size_t bytes = wire_route_unpack(route, id);
    message->request = request;
    enum lg_status status = net_message_add(&server->out, id, bytes);
    if (status == LG_OK)
        status = wire_net_add(message, &server->out);
    if (status == LG_OK)
        status = net_send(server->coordinator, &server->out);
    net_message_clear(&server->out);
    return status;
}

static enum lg_status take_join(struct server *server, uint64_t route, uint64_t request) {
    struct lg_error error = {0};
    uint64_t session = ++server->sessions;
    struct wire_message reply = {.kind = WIRE_JOIN_REPLY};
    enum lg_status status = LG_OK;
    for (unsigned i = 0; status == LG_OK && i < server->shard_count; i++)
        status = open_session(server, i, session, &error);
    reply.join_reply = (struct wire_join_reply){.status = (uint32_t)status,
                                                .reason = error.message,
                                                .job = JOB,
                                                .session = session,
                                                .incarnation = 1,
                                                .token = session,
                                                .map_version = MAP,
                                                .shards = server->addresses,
                                                .shard_count = server->shard_count,
                                                .spec = server->spec,
                                                .spec_count = server->spec_count};
    reply.tensors = server->tensors;
    reply.tensor_count = server->cluster->setup.tensors;
    reply.placement = server->placement;
    reply.placement_count = server->units;
    return answer(server, route, request, &reply);
}

/* Clients of a benchmark bring their own work. */
static void take(struct server *server, uint64_t route, const struct wire_message *message) {
    struct wire_message reply = {.kind = WIRE_ACK, .ack = {.status = LG_OK}};
    enum lg_status status;
    if (message->kind == WIRE_JOIN) {
        status = take_join(server, route, message->request);
    } else {
        if (message->kind == WIRE_TRAINER_BEAT)
            reply = (struct wire_message){.kind = WIRE_TRAINER_BEAT_REPLY};
        else if (message->kind == WIRE_LEASE_REQUEST)
            reply = (struct wire_message){.kind = WIRE_LEASE_GRANT,
                                          .lease_grant = {.kind = WIRE_LEASE_WAIT, .retry_ms = RETRY_MS}};
        status = answer(server, route, message->request, &reply);
    }
    if (status != LG_OK) /* the client asks again, or has gone */
        fprintf(stderr, "lagoon: the benchmark's coordinator could not answer: %s\n", lg_status_text(status));
}

/* Serves for ever; the shards' statistics are emptied away. */
static void serve(struct server *server) {
    for (;;) {
        zmq_pollitem_t items[1 + BENCH_SHARDS_MAX] = {{.socket = server->coordinator, .events = ZMQ_POLLIN}};
        for (unsigned i = 0; i < server->shard_count; i++)
            items[1 + i] = (zmq_pollitem_t){.socket = shard_thread_control(server->shards[i]), .events = ZMQ_POLLIN};
        if (zmq_poll(items, 1 + (int)server->shard_count, -1) < 0)
            continue;
        for (unsigned i = 0; i < server->shard_count; i++)
            while (net_receive(items[1 + i].socket, &server->in) == LG_OK)
                ;
        while (net_receive(server->coordinator, &server->in) == LG_OK) {
            struct wire_message message;
            uint64_t route = wire_route_pack(net_frame_data(&server->in, 0), net_frame_bytes(&server->in, 0));
            if (wire_net_decode(&server->in, 1, server->arena, &message, NULL) == LG_OK)
                take(server, route, &message);
        }
    }
}

static enum lg_status open_all(struct server *server, char *endpoint, struct lg_error *error) {
    server->zmq = zmq_ctx_new();
    server->arena = wire_arena_new(ARENA_BYTES);
    server->ack_arena = wire_arena_new(ARENA_BYTES);
    if (!server->zmq || !server->arena || !server->ack_arena)
        return lg_fail(error, LG_NO_MEMORY, "no memory for a server");
    specify(server);
    enum lg_status status = place(server, error);
    for (unsigned i = 0; status == LG_OK && i < server->shard_count; i++)
        status = open_shard(server, i, error);
    for (unsigned i = 0; status == LG_OK && i < server->shard_count; i++)
        status = open_job(server, i, error);
    if (status == LG_OK)
        status = net_socket_open(server->zmq, NET_SERVER, NULL, &server->coordinator, error);
    if (status == LG_OK)
        status = net_bind(server->coordinator, "tcp://127.0.0.1:0", endpoint, error);
    return status;
}

int bench_server_run(int fd, const void *context) {
    static struct server server; /* its messages are large */
    struct process_report report = {0};
    struct lg_error error = {0};
    server.cluster = context;
    if (open_all(&server, report.text, &error) != LG_OK) {
        (void)process_say_error(fd, &error);
        return EXIT_FAILURE;
    }
    (void)process_say(fd, &report);
    serve(&server);
    return EXIT_SUCCESS;
}
