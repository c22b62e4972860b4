/* The network: every message takes its time. A worker's link and a shard's link each carry one message at a time each
 * way; then the worker's delay passes. Connections keep the order of messages. */
#include "sim/simulation_state.h"

static const struct sim_class *class_of(const struct virtual_worker *worker) {
    return &worker->simulation->classes.classes[worker->class];
}

static int64_t carry_ns(size_t bytes, double bandwidth) {
    return bandwidth > 0 ? (int64_t)((double)bytes / bandwidth * SIM_NS_PER_S) : 0;
}

/* When a link that is free at *free_ns has carried it, if it gets there at `at_ns`. */
static int64_t through(int64_t at_ns, int64_t *free_ns, size_t bytes, double bandwidth) {
    int64_t begin_ns = at_ns > *free_ns ? at_ns : *free_ns;
    *free_ns = begin_ns + carry_ns(bytes, bandwidth);
    return *free_ns;
}

static int64_t delay_ns(const struct virtual_worker *worker) {
    return (int64_t)(class_of(worker)->delay_s * SIM_NS_PER_S);
}

static struct letter *letter_or_fail(struct simulation *simulation, const struct wire_message *message,
                                     struct snapshot *const *snapshots, size_t snapshot_count) {
    struct letter *letter = letter_new(message, snapshots, snapshot_count);
    if (!letter)
        simulation_fail(simulation, LG_NO_MEMORY, "a %s cannot be encoded, or there is no memory for it",
                        wire_kind_name(message->kind));
    return letter;
}

static struct virtual_worker *worker_of(struct simulation *simulation, uint64_t route, uint32_t *life) {
    *life = (uint32_t)((route & ~SIM_ROUTE_WORKER) >> 32);
    uint32_t index = (uint32_t)route;
    return index < simulation->worker_count ? &simulation->workers[index] : NULL;
}

static uint64_t route_of(const struct virtual_worker *worker) {
    return SIM_ROUTE_WORKER | (uint64_t)worker->life << 32 | worker->index;
}

void network_to_shard(struct virtual_worker *worker, uint32_t shard, const struct wire_message *message) {
    struct simulation *simulation = worker->simulation;
    struct letter *letter = letter_or_fail(simulation, message, NULL, 0);
    if (!letter)
        return;
    letter->route = route_of(worker);
    int64_t at_ns = through(simulation->now_ns, &worker->up_free_ns, letter->bytes, class_of(worker)->bandwidth);
    at_ns = through(at_ns + delay_ns(worker), &simulation->shards[shard].in_free_ns, letter->bytes,
                    simulation->options.server_bandwidth);
    simulation_at(simulation, at_ns,
                  (struct event){.kind = EVENT_TO_SHARD,
                                 .slot = (uint16_t)shard,
                                 .worker = worker->index,
                                 .life = worker->life,
                                 .letter = letter});
}

void network_to_worker(struct virtual_shard *shard, uint64_t route, const struct wire_message *message,
                       struct snapshot *const *snapshots, size_t snapshot_count) {
    struct simulation *simulation = shard->simulation;
    uint32_t life = 0;
    struct virtual_worker *worker = worker_of(simulation, route, &life);
    if (!worker || worker->life != life)
        return;
    uint16_t slot = 0;
    while (slot < worker->slot_count && worker->slots[slot] != shard->index)
        slot++;
    struct letter *letter = letter_or_fail(simulation, message, snapshots, snapshot_count);
    if (!letter)
        return;
    int64_t at_ns =
        through(simulation->now_ns, &shard->out_free_ns, letter->bytes, simulation->options.server_bandwidth);
    at_ns = through(at_ns, &worker->down_free_ns, letter->bytes, class_of(worker)->bandwidth) + delay_ns(worker);
    simulation_at(
        simulation, at_ns,
        (struct event){.kind = EVENT_TO_WORKER, .slot = slot, .worker = worker->index, .life = life, .letter = letter});
}

/* ---- the coordinator: small messages, which only take the delay */

void network_to_core(struct virtual_worker *worker, struct wire_message *message) {
    struct simulation *simulation = worker->simulation;
    struct letter *letter = letter_or_fail(simulation, message, NULL, 0);
    if (!letter)
        return;
    letter->route = route_of(worker);
    worker->said_ns = simulation->now_ns;
    simulation_at(simulation, simulation->now_ns + delay_ns(worker),
                  (struct event){.kind = EVENT_TO_CORE, .letter = letter});
}

void network_from_core(struct simulation *simulation, uint64_t route, const struct wire_message *message) {
    uint32_t life = 0;
    const struct virtual_worker *worker = worker_of(simulation, route, &life);
    if (!worker || worker->life != life)
        return;
    struct letter *letter = letter_or_fail(simulation, message, NULL, 0);
    if (letter)
        simulation_at(simulation, simulation->now_ns + delay_ns(worker),
                      (struct event){.kind = EVENT_FROM_CORE, .worker = worker->index, .life = life, .letter = letter});
}

void network_command(struct simulation *simulation, uint32_t shard, const struct wire_message *message) {
    struct letter *letter = letter_or_fail(simulation, message, NULL, 0);
    if (letter)
        simulation_at(simulation, simulation->now_ns,
                      (struct event){.kind = EVENT_COMMAND, .slot = (uint16_t)shard, .letter = letter});
}

void network_reply(struct simulation *simulation, const struct wire_message *message) {
    struct letter *letter = letter_or_fail(simulation, message, NULL, 0);
    if (!letter)
        return;
    letter->route = SIM_ROUTE_SERVER;
    simulation_at(simulation, simulation->now_ns, (struct event){.kind = EVENT_TO_CORE, .letter = letter});
}
