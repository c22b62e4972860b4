/* A worker of the simulated world: a session, its connections, and a training loop as a state machine. */
#include <stdlib.h>
#include <string.h>

#include "tests/support/sim_world_state.h"

enum { REPLY_TIMEOUT_MS = 400, TICK_MS = 10 };

static uint64_t tag_of(const struct worker *worker, uint32_t slot) {
    return ((uint64_t)worker->index << 8) | slot;
}

/* ---- transport */

static bool worker_send(void *context, uint32_t slot, const struct wire_message *message) {
    struct worker *worker = context;
    struct sim_net *net = &worker->world->net;
    if (!worker->connected[slot])
        return false;
    if (sim_chance(net, 10)) {
        sim_later(net, sim_delay(net, 1000, 5 * WORLD_MS), WORLD_WRITABLE, worker->index, slot);
        return false;
    }
    worker->world->summary->pulls += message->kind == WIRE_PULL;
    sim_send(net, worker->connection[slot], true, message);
    return true;
}

static void connect_later(struct worker *worker, uint32_t slot) {
    struct sim_net *net = &worker->world->net;
    sim_later(net, sim_delay(net, WORLD_MS / 10, 30 * WORLD_MS), WORLD_CONNECT, worker->index, slot);
}

static void worker_reopen(void *context, uint32_t slot, const char *why) {
    struct worker *worker = context;
    (void)why;
    worker->world->summary->reopened++;
    if (worker->connected[slot])
        sim_close(&worker->world->net, worker->connection[slot]);
    worker->connected[slot] = false;
    connect_later(worker, slot);
}

static void worker_connect(struct worker *worker, uint32_t slot) {
    if (worker->connected[slot])
        return;
    worker->connection[slot] = sim_connect(&worker->world->net, tag_of(worker, slot));
    worker->connected[slot] = true;
    session_connected(worker->session, slot, worker->world->net.now_ns);
}

void worker_broken(struct worker *worker, uint32_t slot) {
    if (!worker->alive)
        return;
    worker->connected[slot] = false;
    session_disconnected(worker->session, slot, worker->world->net.now_ns);
    connect_later(worker, slot);
}

/* ---- life */

static void open_on_shards(struct world *world, const struct worker *worker) {
    for (uint32_t slot = 0; slot < world->shard_count; slot++) {
        struct wire_message open = {.kind = WIRE_SESSION_OPEN,
                                    .session_open = {.job = WORLD_JOB,
                                                     .shard = slot,
                                                     .session = 100 + worker->index,
                                                     .incarnation = 1,
                                                     .token = 7 + worker->index,
                                                     .may_push = true,
                                                     .may_initialise = worker->index == 0}};
        world->answering = slot;
        shard_receive(world->shards[slot], &(struct shard_input){.route = SHARD_ROUTE_CONTROL, .message = &open});
        if (world->control.ack.status != LG_OK)
            world_fail(world, "shard %u refused to open a session: %s", slot, world->control.ack.reason);
    }
}

void worker_spawn(struct world *world) {
    if (world->worker_count == WORLD_WORKERS)
        return;
    struct worker *worker = &world->workers[world->worker_count];
    *worker = (struct worker){.world = world,
                              .index = world->worker_count++,
                              .alive = true,
                              .phase = WORKER_IDLE,
                              .draws_last = sim_chance(&world->net, 500)};
    open_on_shards(world, worker);
    struct session_config config = {.session = 100 + worker->index,
                                    .token = 7 + worker->index,
                                    .job = WORLD_JOB,
                                    .map_version = WORLD_MAP,
                                    .incarnation = 1,
                                    .tensors = world->tensors,
                                    .tensor_count = world->unit_count,
                                    .placement = world->placement,
                                    .placement_count = world->unit_count,
                                    .shard_count = world->shard_count,
                                    .window = world->window,
                                    .part_bytes = world->part_bytes,
                                    .mode = world->mode,
                                    .push_codec = world->push_codec,
                                    .pull_codec = world->pull_codec,
                                    .pull_delta = world->pull_delta,
                                    .topk = 1,
                                    .reply_timeout_ms = REPLY_TIMEOUT_MS};
    struct session_sink sink = {.context = worker, .send = worker_send, .reopen = worker_reopen};
    struct lg_error error = {0};
    if (session_new(&config, &sink, &worker->session, &error) != LG_OK) {
        world_fail(world, "no session: %s", error.message);
        worker->alive = false;
        return;
    }
    if (worker->index == 0)
        worker->phase = WORKER_SETTING;
    for (uint32_t slot = 0; slot < world->shard_count; slot++)
        connect_later(worker, slot);
    sim_later(&world->net, TICK_MS * WORLD_MS, WORLD_TICK, worker->index, 0);
}

void worker_free(struct worker *worker) {
    for (uint32_t slot = 0; slot < WORLD_SHARDS; slot++)
        if (worker->connected[slot])
            sim_close(&worker->world->net, worker->connection[slot]);
    session_free(worker->session);
    worker->session = NULL;
    worker->alive = false;
}

/* ---- pushes */

static void split(struct worker *worker, struct range range, const uint64_t *cuts, size_t cut_count) {
    for (size_t i = cut_count; i-- > 0;) { /* the stack's top is the first piece */
        if (cuts[i] <= range.first || cuts[i] >= range.end)
            continue;
        worker->pieces[worker->piece_count++] = (struct range){cuts[i], range.end};
        range.end = cuts[i];
    }
    worker->pieces[worker->piece_count++] = range;
}

/* One that nothing is being filled into. */
static unsigned free_buffer(struct worker *worker) {
    unsigned buffer;
    do
        buffer = (unsigned)random_below(&worker->world->net.random, WORLD_BUFFERS);
    while ((worker->flying[0].used && worker->flying[0].brings && worker->flying[0].buffer == buffer) ||
           (worker->flying[1].used && worker->flying[1].brings && worker->flying[1].buffer == buffer));
    return buffer;
}

static bool open_push(struct worker *worker, struct flying *flying, enum wire_push_kind kind) {
    struct world *world = worker->world;
    struct range range = flying->range;
    struct wire_cover cover = {.lease = worker->slice.lease,
                               .fence = 1,
                               .epoch = 0,
                               .first = range.first,
                               .end = range.end,
                               .samples = range.end - range.first};
    struct session_push push = {.clock = ++worker->clock,
                                .kind = kind,
                                .samples = range.end - range.first,
                                .local_steps = 1,
                                .covers = &cover,
                                .cover_count = kind == WIRE_PUSH_KIND_GRADIENT && world->leased,
                                .gradients = flying->gradients};
    if (kind == WIRE_PUSH_KIND_GRADIENT) {
        flying->buffer = free_buffer(worker);
        flying->brings = sim_chance(&world->net, 500) && !world_has(world, CONSISTENCY_READS);
        push.computed_from = worker->parameters[worker->buffer];
        push.parameters = flying->brings ? worker->parameters[flying->buffer] : NULL;
        memcpy(flying->seen, world->oracle.state_count, sizeof flying->seen);
    }
    struct lg_error error = {0};
    enum lg_status status = session_push_open(worker->session, &push, world->net.now_ns, &flying->ticket, &error);
    flying->used = status == LG_OK;
    worker->marking = flying;
    worker->marked = 0;
    if (status != LG_OK && status != LG_FENCED)
        world_fail(world, "worker %u cannot open a push: %s", worker->index, error.message);
    return flying->used;
}

static struct flying *free_flying(struct worker *worker) {
    return !worker->flying[0].used ? &worker->flying[0] : !worker->flying[1].used ? &worker->flying[1] : NULL;
}

static bool anything_flies(const struct worker *worker) {
    return worker->flying[0].used || worker->flying[1].used;
}

/* What a tensor's gradient is before it is marked and after its push is settled: nobody may read it then. */
static void spoil(struct flying *flying) {
    for (size_t i = 0; i < WORLD_ELEMENTS; i++)
        flying->gradients[i] = 1e6f;
}

static void fill(struct worker *worker, uint32_t unit) {
    struct world *world = worker->world;
    struct flying *flying = worker->marking;
    for (uint64_t e = 0; e < world->offset[unit + 1] - world->offset[unit]; e++) {
        float sum = worker->phase == WORKER_SETTING ? oracle_initial(unit, (uint32_t)e) : 0;
        for (uint64_t sample = flying->range.first; sample < flying->range.end; sample++)
            sum += oracle_gradient(world, sample, unit, (uint32_t)e);
        flying->gradients[world->offset[unit] + e] = sum;
    }
}

/* Some more tensors become ready, from the last one on; the rest later. */
static void mark_some(struct worker *worker) {
    struct world *world = worker->world;
    size_t left = world->unit_count - worker->marked;
    size_t count = 1 + (size_t)random_below(&world->net.random, left);
    for (size_t i = 0; i < count; i++)
        fill(worker, (uint32_t)(world->unit_count - ++worker->marked));
    session_push_ready(worker->session, world->unit_count - worker->marked, count, world->net.now_ns);
    if (worker->marked < world->unit_count)
        sim_later(&world->net, sim_delay(&world->net, 1000, 4 * WORLD_MS), WORLD_READY, worker->index, 0);
    else if (worker->phase == WORKER_MARKING)
        worker->phase = WORKER_IDLE;
}

static void compute(struct worker *worker) {
    struct flying *flying = free_flying(worker);
    struct range *piece = &worker->pieces[worker->piece_count - 1];
    uint64_t batch = 1 + random_below(&worker->world->net.random, worker->world->batch); /* others cut elsewhere */
    flying->range = *piece;
    if (flying->range.end - flying->range.first > batch)
        flying->range.end = flying->range.first + batch;
    piece->first = flying->range.end;
    worker->piece_count -= piece->first == piece->end;
    spoil(flying);
    worker->phase = WORKER_MARKING;
    if (open_push(worker, flying, WIRE_PUSH_KIND_GRADIENT))
        mark_some(worker);
}

static void set_values(struct worker *worker) {
    struct flying *flying = &worker->flying[0];
    flying->range = (struct range){0, 0};
    spoil(flying);
    if (open_push(worker, flying, WIRE_PUSH_KIND_INITIAL))
        mark_some(worker);
}

static void compute_later(struct worker *worker) {
    struct sim_net *net = &worker->world->net;
    worker->phase = WORKER_COMPUTING;
    sim_later(net, sim_delay(net, WORLD_MS / 10, 10 * WORLD_MS), WORLD_COMPUTED, worker->index, 0);
}

/* A settled push has brought values: the next batch is computed from them, or from what a pull brings all the same. */
static void take_values(struct worker *worker, const struct flying *flying, bool moved) {
    oracle_check_pull(worker->world, worker, flying->buffer, flying->seen, moved);
    if (worker->phase != WORKER_IDLE || worker->piece_count == 0 || sim_chance(&worker->world->net, 300))
        return;
    worker->buffer = flying->buffer;
    compute_later(worker);
}

static void settle(struct worker *worker, struct flying *flying) {
    struct world *world = worker->world;
    struct session_push_result result = {0};
    struct lg_error error = {0};
    enum lg_status status = session_push_poll(worker->session, flying->ticket, &result, &error);
    if (status == LG_UNAVAILABLE || status == LG_FENCED)
        return;
    flying->used = false;
    spoil(flying);
    if (status != LG_OK) {
        world_fail(world, "a push of worker %u failed: %s", worker->index, error.message);
        return;
    }
    world->summary->pushes++;
    if (worker->phase == WORKER_SETTING) {
        world->initialised = true;
        worker->phase = WORKER_IDLE;
        return;
    }
    worker->settled++;
    world->summary->skipped += result.skipped;
    if (world_has(world, CONSISTENCY_ROUNDS) && result.staleness_max > 0 && !result.dropped &&
        result.units_repeated == 0 && result.cut_count == 0)
        world_fail(world, "a push of worker %u is %llu behind its round", worker->index,
                   (unsigned long long)result.staleness_max);
    if (result.dropped && !world_has(world, CONSISTENCY_TICKETS))
        world_fail(world, "a push of worker %u was dropped", worker->index);
    if (result.cut_count > 0)
        world->summary->cuts++;
    if (result.cut_count > 0 && world->bug != WORLD_BUG_CUTS_IGNORED)
        split(worker, flying->range, result.cuts, result.cut_count);
    /* who is alone, and computes from what its last push did, is never behind */
    if (world->first_workers == 1 && world->summary->evictions == 0 && !worker->draws_last &&
        result.staleness_max > 0 &&
        !world_has(world, CONSISTENCY_GATHERS)) /* there a group may end with a push whose first parts brought values */
        world_fail(world, "the only worker's push is %llu behind", (unsigned long long)result.staleness_max);
    if (flying->brings)
        take_values(worker, flying,
                    result.cut_count == 0 && result.units_repeated == 0 && !world_has(world, CONSISTENCY_GATHERS));
}

/* ---- the loop */

static void begin_pull(struct worker *worker) {
    struct world *world = worker->world;
    struct lg_error error = {0};
    worker->buffer = free_buffer(worker);
    memcpy(worker->seen, world->oracle.state_count, sizeof worker->seen);
    if (session_pull_open(worker->session, worker->parameters[worker->buffer], world->net.now_ns, &error) == LG_OK)
        worker->phase = WORKER_PULLING;
}

static void next_batch(struct worker *worker) {
    struct world *world = worker->world;
    if (worker->piece_count == 0 && worker->has_slice && !anything_flies(worker))
        world_slice_done(world, worker);
    if (!worker->has_slice && world->initialised && world_take_slice(world, worker))
        split(worker, worker->slice.range, worker->slice.cuts, worker->slice.cut_count);
    if (worker->has_slice)
        session_work(worker->session);
    else if (!anything_flies(worker))
        session_rest(worker->session, sim_chance(&world->net, 300), world->net.now_ns);
    if (worker->piece_count > 0 && free_flying(worker) && (worker->draws_last || !anything_flies(worker)))
        begin_pull(worker);
}

static void end_pull(struct worker *worker) {
    struct world *world = worker->world;
    struct lg_error error = {0};
    enum lg_status status = session_pull_poll(worker->session, &error);
    if (status == LG_UNAVAILABLE || status == LG_FENCED)
        return;
    if (status != LG_OK) {
        world_fail(world, "a pull of worker %u failed: %s", worker->index, error.message);
        return;
    }
    oracle_check_pull(world, worker, worker->buffer, worker->seen, false);
    compute_later(worker);
}

void worker_drive(struct worker *worker) {
    struct world *world = worker->world;
    if (!worker->alive || world_failed(world))
        return;
    if (session_status(worker->session, NULL) != LG_OK) {
        if (!worker->evicted)
            world_fail(world, "the session of worker %u ended though nobody evicted it", worker->index);
        worker_free(worker);
        return;
    }
    for (size_t i = 0; i < 2; i++)
        if (worker->flying[i].used && !(worker->marking == &worker->flying[i] && worker->marked < world->unit_count))
            settle(worker, &worker->flying[i]);
    if (worker->phase == WORKER_SETTING && worker->clock == 0)
        set_values(worker);
    if (worker->phase == WORKER_PULLING)
        end_pull(worker);
    if (worker->phase == WORKER_IDLE)
        next_batch(worker);
}

void worker_hear(struct worker *worker, uint32_t slot, const struct wire_message *message) {
    if (!worker->alive)
        return;
    session_receive(worker->session, slot, message, worker->world->net.now_ns);
    worker_drive(worker);
}

void worker_event(struct worker *worker, const struct sim_event *event) {
    int64_t now_ns = worker->world->net.now_ns;
    if (!worker->alive)
        return;
    switch ((enum world_event)event->what) {
    case WORLD_TICK:
        session_tick(worker->session, now_ns);
        sim_later(&worker->world->net, TICK_MS * WORLD_MS, WORLD_TICK, worker->index, 0);
        break;
    case WORLD_CONNECT:
        worker_connect(worker, (uint32_t)event->b);
        break;
    case WORLD_WRITABLE:
        session_writable(worker->session, (uint32_t)event->b, now_ns);
        break;
    case WORLD_COMPUTED:
        if (session_status(worker->session, NULL) == LG_OK)
            compute(worker);
        break;
    case WORLD_READY:
        if (session_status(worker->session, NULL) == LG_OK)
            mark_some(worker);
        break;
    default:
        break;
    }
    worker_drive(worker);
}
