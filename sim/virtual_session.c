/* A worker's session: the client's core, with the simulated network as its transport. */
#include <stdlib.h>
#include <string.h>

#include "sim/simulation_state.h"

enum { SESSION_WINDOW = 64 };

/* A parked reply takes as long as it takes, and nothing gets lost here. */
#define REPLY_TIMEOUT_MS (INT64_C(1) << 40)

static bool session_says(void *context, uint32_t slot, const struct wire_message *message) {
    struct virtual_worker *worker = context;
    network_to_shard(worker, worker->slots[slot], message);
    return true;
}

static void session_reopens(void *context, uint32_t slot, const char *why) {
    struct virtual_worker *worker = context;
    simulation_fail(worker->simulation, LG_INTERNAL, "worker %u gave up its connection to shard slot %u: %s",
                    worker->index, slot, why);
}

static bool read_addresses(struct virtual_worker *worker, const struct wire_join_reply *reply) {
    worker->slot_count = 0;
    free(worker->slots);
    worker->slots = calloc(reply->shard_count + 1, sizeof *worker->slots);
    if (!worker->slots)
        return false;
    for (size_t i = 0; i < reply->shard_count; i++)
        worker->slots[i] = (uint16_t)cluster_shard(worker->simulation, reply->shards[i].shard);
    worker->slot_count = (uint32_t)reply->shard_count;
    return true;
}

bool worker_session_open(struct virtual_worker *worker, const struct wire_message *welcome) {
    const struct wire_join_reply *reply = &welcome->join_reply;
    struct simulation *simulation = worker->simulation;
    struct lg_error error = {0};
    if (!read_addresses(worker, reply))
        return false;
    struct job_codecs codecs;
    if (job_codecs(simulation->config, &codecs, &error) != LG_OK) {
        simulation_fail(simulation, error.status, "%s", error.message);
        return false;
    }
    simulation->lead = worker->slots[welcome->placement_count > 0 ? welcome->placement[0] : 0];
    worker->id = reply->session;
    worker->incarnation = reply->incarnation;
    const struct session_config config = {.session = reply->session,
                                          .token = reply->token,
                                          .job = reply->job,
                                          .map_version = reply->map_version,
                                          .incarnation = reply->incarnation,
                                          .tensors = welcome->tensors,
                                          .tensor_count = welcome->tensor_count,
                                          .placement = welcome->placement,
                                          .placement_count = welcome->placement_count,
                                          .shard_count = worker->slot_count,
                                          .window = SESSION_WINDOW,
                                          .mode = simulation->job.consistency,
                                          .push_codec = codecs.push,
                                          .pull_codec = codecs.pull,
                                          .pull_delta = codecs.pull_delta,
                                          .topk = codecs.topk,
                                          .isa = isa_detect(),
                                          .reply_timeout_ms = REPLY_TIMEOUT_MS};
    const struct session_sink sink = {.context = worker, .send = session_says, .reopen = session_reopens};
    if (session_new(&config, &sink, &worker->session, &error) != LG_OK) {
        simulation_fail(simulation, error.status, "worker %u has no session: %s", worker->index, error.message);
        return false;
    }
    for (uint32_t slot = 0; slot < worker->slot_count; slot++)
        session_connected(worker->session, slot, simulation->now_ns);
    return true;
}

void worker_session_close(struct virtual_worker *worker) {
    session_free(worker->session);
    worker->session = NULL;
    for (size_t i = 0; i < worker->flight_count; i++)
        compute_give_buffer(worker->simulation, worker->flights[i].gradients);
    worker->flight_count = 0;
    worker->life++; /* what is under way is for nobody now */
}
