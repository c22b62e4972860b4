/* The servers' side: shards, and the coordinator that opens jobs and sessions on them and leases the data. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sim/simulation_state.h"

/* ---- shards */

static void shard_says(void *context, uint64_t route, const struct wire_message *message,
                       struct snapshot *const *snapshots, size_t snapshot_count) {
    struct virtual_shard *shard = context;
    if (route == SHARD_ROUTE_CONTROL)
        network_reply(shard->simulation, message);
    else
        network_to_worker(shard, route, message, snapshots, snapshot_count);
}

static void shard_decides(void *context, const struct shard_decision *decision, const struct wire_message *push) {
    struct virtual_shard *shard = context;
    (void)push;
    shard->samples = decision->samples_after;
    shard->updates = version_counter(decision->version_after);
}

static enum lg_status open_shard(struct simulation *simulation, uint32_t index, uint32_t number,
                                 struct lg_error *error) {
    struct virtual_shard *shard = &simulation->shards[index];
    *shard = (struct virtual_shard){.simulation = simulation, .index = index, .number = number};
    const struct shard_config config = {.index = number,
                                        .credit_bytes = UINT64_MAX / 2, /* a pretended server is as large as needed */
                                        .session_credit_bytes = 64 << 20,
                                        .window = 256,
                                        .sessions_max = 4 * SIM_WORKERS_MAX,
                                        .reject_nonfinite = true,
                                        .isa = isa_detect()};
    const struct shard_sink sink = {.context = shard, .send = shard_says, .decide = shard_decides};
    return shard_new(&config, &sink, &shard->shard, error);
}

uint32_t cluster_shard(const struct simulation *simulation, uint32_t number) {
    for (uint32_t i = 0; i < simulation->shard_count; i++)
        if (simulation->shards[i].number == number)
            return i;
    return UINT32_MAX;
}

void cluster_shard_receive(struct simulation *simulation, const struct event *event) {
    struct wire_message message;
    struct lg_error error = {0};
    if (event->kind == EVENT_TO_SHARD && simulation->workers[event->worker].life != event->life)
        return;
    if (letter_read(event->letter, simulation->arena, &message, &error) != LG_OK) {
        simulation_fail(simulation, error.status, "a shard cannot read a message: %s", error.message);
        return;
    }
    shard_receive(
        simulation->shards[event->slot].shard,
        &(struct shard_input){.now_ns = simulation->now_ns,
                              .route = event->kind == EVENT_COMMAND ? SHARD_ROUTE_CONTROL : event->letter->route,
                              .message = &message});
}

/* ---- the coordinator */

static struct coordinator_moment moment(const struct simulation *simulation) {
    return (struct coordinator_moment){simulation->now_ns,
                                       INT64_C(1700000000000) + simulation->now_ns / INT64_C(1000000)};
}

static void take_registration(struct simulation *simulation, const struct wire_register_reply *reply) {
    struct lg_error error = {0};
    enum lg_status status = (enum lg_status)reply->status;
    simulation->server_member = reply->member;
    for (size_t i = 0; status == LG_OK && i < reply->shard_count && i < SIM_SHARDS_MAX; i++) {
        status = open_shard(simulation, (uint32_t)i, reply->shards[i], &error);
        simulation->shard_count += status == LG_OK;
    }
    if (status != LG_OK)
        simulation_fail(simulation, status, "no shards: %s", error.message[0] ? error.message : reply->reason);
}

static void to_server(struct simulation *simulation, const struct wire_message *message) {
    if (message->kind == WIRE_REGISTER_REPLY) {
        take_registration(simulation, &message->register_reply);
        return;
    }
    uint32_t shard = cluster_shard(simulation, wire_command_shard(message));
    if (shard != UINT32_MAX)
        network_command(simulation, shard, message);
}

static void core_says(void *context, uint64_t route, const struct wire_message *message) {
    struct simulation *simulation = context;
    if (route == SIM_ROUTE_SERVER)
        to_server(simulation, message);
    else if (route != SIM_ROUTE_CLI)
        network_from_core(simulation, route, message);
    else if (message->kind == WIRE_SUBMIT_REPLY && message->submit_reply.status != LG_OK)
        simulation_fail(simulation, (enum lg_status)message->submit_reply.status, "%s", message->submit_reply.reason);
    else if (message->kind == WIRE_SUBMIT_REPLY)
        simulation->job_id = message->submit_reply.job;
}

/* Nothing survives a simulation. */
static void core_stores(void *context, const struct store_change *change) {
    (void)context;
    (void)change;
}

static uint64_t core_random_number(void *context) {
    return random_u64(context);
}

void cluster_core_receive(struct simulation *simulation, const struct letter *letter) {
    struct wire_message message;
    struct lg_error error = {0};
    if (letter_read(letter, simulation->arena, &message, &error) != LG_OK) {
        simulation_fail(simulation, error.status, "the coordinator cannot read a message: %s", error.message);
        return;
    }
    coordinator_receive(simulation->core, &(struct coordinator_input){moment(simulation), letter->route, &message});
}

/* Encoded and decoded like every message, but at once. */
static void tell_core(struct simulation *simulation, uint64_t route, struct wire_message *message) {
    message->request = ++simulation->server_requests;
    struct letter *letter = letter_new(message, NULL, 0);
    if (!letter) {
        simulation_fail(simulation, LG_NO_MEMORY, "a %s cannot be encoded", wire_kind_name(message->kind));
        return;
    }
    letter->route = route;
    cluster_core_receive(simulation, letter);
    letter_free(letter);
}

static void register_server(struct simulation *simulation) {
    const char *endpoints[SIM_SHARDS_MAX];
    for (int64_t i = 0; i < simulation->options.shards; i++)
        endpoints[i] = "tcp://simulated:1";
    struct wire_message message = {.kind = WIRE_REGISTER,
                                   .register_ = {.kind = WIRE_MEMBER_SERVER,
                                                 .name = "simulated",
                                                 .instance = 1,
                                                 .endpoints = endpoints,
                                                 .endpoint_count = (size_t)simulation->options.shards}};
    tell_core(simulation, SIM_ROUTE_SERVER, &message);
}

/* What `lagoon submit` would send. */
static void submit(struct simulation *simulation) {
    struct wire_pair pairs[WIRE_PAIRS_MAX];
    struct wire_message message = {.kind = WIRE_SUBMIT};
    struct lg_error error = {0};
    if (wire_pairs_from_config(simulation->config, pairs, WIRE_PAIRS_MAX, &message.submit.spec_count, &error) !=
        LG_OK) {
        simulation_fail(simulation, error.status, "%s", error.message);
        return;
    }
    message.submit.spec = pairs;
    tell_core(simulation, SIM_ROUTE_CLI, &message);
}

enum lg_status cluster_open(struct simulation *simulation, struct lg_error *error) {
    random_init_stream(&simulation->secrets, simulation->setup->seed, 0);
    const struct coordinator_config config = {.instance = 1,
                                              .beat_ms = 1000,
                                              .dead_after_ms = simulation->options.notice_ms,
                                              .server_grace_ms = INT64_C(1) << 40,
                                              .random = core_random_number,
                                              .random_context = &simulation->secrets};
    const struct coordinator_sink sink = {simulation, core_says, core_stores};
    enum lg_status status = coordinator_new(&config, &sink, &simulation->core, error);
    if (status != LG_OK)
        return status;
    coordinator_start(simulation->core, moment(simulation));
    register_server(simulation);
    if (simulation->failure.status == LG_OK)
        submit(simulation);
    return LG_OK;
}

void cluster_close(struct simulation *simulation) {
    coordinator_free(simulation->core);
    for (uint32_t i = 0; i < simulation->shard_count; i++)
        shard_free(simulation->shards[i].shard);
}

/* The server beats; it never falls silent here. */
void cluster_tick(struct simulation *simulation) {
    struct wire_message message = {.kind = WIRE_BEAT, .beat = {.member = simulation->server_member, .instance = 1}};
    tell_core(simulation, SIM_ROUTE_SERVER, &message);
    coordinator_tick(simulation->core, moment(simulation));
}
