/* The simulated world: shards, the coordinator's part in it, and the run. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/sim_world_state.h"

#define LIMIT_NS                                                                                                       \
    (INT64_C(600) * 1000 * WORLD_MS) /* of virtual time: a world that is not done by then never will be                \
                                      */

void world_fail(struct world *world, const char *format, ...) {
    va_list args;
    if (world_failed(world))
        return;
    va_start(args, format);
    vsnprintf(world->summary->failure, sizeof world->summary->failure, format, args);
    va_end(args);
}

/* ---- shards */

/* Credit on a real shard is at least a megabyte, far above what a world sends, so the client is told of less. */
static void shard_says(void *context, uint64_t route, const struct wire_message *message,
                       struct snapshot *const *snapshots, size_t snapshot_count) {
    struct world *world = context;
    struct wire_message copy = *message;
    (void)snapshots;
    (void)snapshot_count;
    if (route == SHARD_ROUTE_CONTROL) {
        world->control = *message;
        if (message->kind == WIRE_MARKS_REPLY && message->marks_reply.mark_count > 0)
            memcpy(world->marks, message->marks_reply.marks, message->marks_reply.mark_count * sizeof *world->marks);
        return;
    }
    if (copy.kind == WIRE_HELLO_REPLY)
        copy.hello_reply.credit_bytes = world->small_credit;
    if (copy.kind == WIRE_PUSH_REPLY && copy.unit_count > 0 && sim_chance(&world->net, 50)) { /* short of memory */
        copy.unit_count = copy.payload_count = 0;
        copy.push_reply.values_version = 0;
    }
    if (copy.kind == WIRE_PUSH_REPLY && world->real_seq)
        copy.push_reply.seq = world->real_seq;
    sim_send(&world->net, (uint32_t)route - 1, false, &copy);
}

static void shard_decides(void *context, const struct shard_decision *decision, const struct wire_message *push) {
    oracle_decide(context, decision, push);
}

static void shard_start(struct world *world, uint32_t slot) {
    char number[24], most[24];
    struct wire_pair spec[9] = {{"name", "world"},
                                {"updater.kind", "sgd"},
                                {"lr.base", "1"},
                                {"staleness.policy", "constant"},
                                {"consistency.mode", world->mode->name},
                                {"pull.codec", world->pull_codec->name},
                                {"pull.delta", world->pull_delta ? "true" : "false"}};
    size_t spec_count = 7;
    snprintf(number, sizeof number, "%llu",
             (unsigned long long)(world_has(world, CONSISTENCY_TAKES_BOUND) ? world->gate_bound : world->gate_pushes));
    snprintf(most, sizeof most, "%llu", (unsigned long long)(2 * world->gate_bound));
    if (world_has(world, CONSISTENCY_TAKES_BOUND))
        spec[spec_count++] = (struct wire_pair){"consistency.bound", number};
    if (world_has(world, CONSISTENCY_TAKES_BOUND_MOST))
        spec[spec_count++] = (struct wire_pair){"consistency.bound_most", most};
    if (world_has(world, CONSISTENCY_TAKES_PUSHES))
        spec[spec_count++] = (struct wire_pair){"consistency.pushes", number};
    struct shard_config config = {.index = slot,
                                  .credit_bytes = 64 << 20,
                                  .session_credit_bytes = 1 << 20,
                                  .window = 1 + (uint32_t)random_below(&world->net.random, 12),
                                  .sessions_max = WORLD_WORKERS,
                                  .reject_nonfinite = true,
                                  .isa = ISA_BASE};
    struct shard_sink sink = {.context = world, .send = shard_says, .decide = shard_decides};
    struct lg_error error = {0};
    struct wire_message open = {.kind = WIRE_JOB_OPEN,
                                .job_open = {.job = WORLD_JOB,
                                             .name = "world",
                                             .shard = slot,
                                             .slot = slot,
                                             .epoch = WORLD_EPOCH,
                                             .map_version = WORLD_MAP,
                                             .train_samples = world->leased ? world->samples : 0,
                                             .spec = spec,
                                             .spec_count = spec_count},
                                .tensors = world->tensors,
                                .tensor_count = world->unit_count,
                                .placement = world->placement,
                                .placement_count = world->unit_count};
    if (shard_new(&config, &sink, &world->shards[slot], &error) != LG_OK) {
        world_fail(world, "no shard: %s", error.message);
        return;
    }
    world->answering = slot;
    shard_receive(world->shards[slot], &(struct shard_input){.route = SHARD_ROUTE_CONTROL, .message = &open});
    if (world->control.ack.status != LG_OK)
        world_fail(world, "the shard refused the job: %s", world->control.ack.reason);
}

/* ---- faults on purpose */

/* Acknowledges a part in the shard's place. */
static void acknowledge_falsely(struct world *world, uint64_t route, const struct wire_message *push) {
    struct wire_message reply = {.kind = WIRE_PUSH_REPLY,
                                 .request = push->request,
                                 .push_reply = {.seq = push->push.seq, .status = LG_OK, .weight = 1}};
    shard_says(world, route, &reply, NULL, 0);
}

/* Says that the client holds the first unit as it is now, whenever it holds any state of it. */
static void lie_about_first(struct world *world, struct wire_message *pull, struct wire_unit *units) {
    memcpy(units, pull->units, pull->unit_count * sizeof *units);
    if (units[0].version != 0)
        shard_unit_data(world->shards[world->answering], WORLD_JOB, units[0].unit, NULL, &units[0].version);
    pull->units = units;
}

/* Answers in the shard's place that the round asked for has begun. */
static void let_read(struct world *world, uint64_t route, const struct wire_message *gate) {
    struct wire_message reply = {.kind = WIRE_GATE_REPLY,
                                 .request = gate->request,
                                 .gate_reply = {.tag = gate->gate.tag, .round = gate->gate.round}};
    shard_says(world, route, &reply, NULL, 0);
}

static void shard_takes(struct world *world, uint64_t route, struct wire_message *message) {
    struct wire_unit units[WIRE_PAYLOAD_FRAMES_MAX];
    struct wire_cover covers[4];
    world->real_seq = 0;
    if (world->bug == WORLD_BUG_FALSE_ACK && message->kind == WIRE_PUSH && !message->push.pull &&
        sim_chance(&world->net, 20)) {
        acknowledge_falsely(world, route, message);
        return;
    }
    if (world->bug == WORLD_BUG_NO_DEDUP && message->kind == WIRE_PUSH) {
        world->real_seq = message->push.seq;
        message->push.seq = ++world->fresh_seq;
        message->push.seq_floor = 0;
        memcpy(covers, message->push.covers, message->push.cover_count * sizeof *covers);
        covers[0].seq = message->push.seq;
        message->push.covers = covers;
    }
    if (world->bug == WORLD_BUG_HASTY_READ && message->kind == WIRE_GATE && sim_chance(&world->net, 100)) {
        let_read(world, route, message);
        return;
    }
    if (world->bug == WORLD_BUG_STALE_PULL && message->kind == WIRE_PULL)
        lie_about_first(world, message, units);
    shard_receive(world->shards[world->answering],
                  &(struct shard_input){.now_ns = world->net.now_ns, .route = route, .message = message});
    world->real_seq = 0;
}

/* ---- the coordinator */

bool world_take_slice(struct world *world, struct worker *worker) {
    if (world->queue_count == 0 || worker->evicted)
        return false;
    worker->slice = world->queue[--world->queue_count];
    worker->slice.lease = ++world->leases;
    worker->has_slice = true;
    world->out++;
    return true;
}

void world_slice_done(struct world *world, struct worker *worker) {
    worker->has_slice = false;
    if (worker->evicted)
        return;
    world->out--;
    world->done = world->queue_count == 0 && world->out == 0 && world->evicting == 0;
}

/* Slices are taken from the end of the queue: the first samples go last in. */
static void cut_slices(struct world *world) {
    for (uint64_t end = world->samples; end > 0;) {
        uint64_t first = end > world->slice_samples ? end - world->slice_samples : 0;
        world->queue[world->queue_count++] = (struct slice){.range = {first, end}};
        end = first;
    }
}

static void evict(struct world *world, struct worker *worker, bool dead) {
    if (!worker->alive || worker->evicted || !world->initialised || world->done)
        return;
    worker->evicted = true;
    worker->owed = worker->has_slice;
    worker->closes_left = world->shard_count;
    world->evicting++;
    world->summary->evictions++;
    for (uint32_t slot = 0; slot < world->shard_count; slot++)
        sim_later(&world->net, sim_delay(&world->net, 1000, 50 * WORLD_MS), WORLD_CLOSE, worker->index, slot);
    if (world->hasty && worker->owed) {
        world->queue[world->queue_count++] = (struct slice){.range = worker->slice.range};
        world->summary->taken_over++;
        world->out--;
        worker->owed = false;
    }
    if (dead)
        worker_free(worker);
}

static void add_cut(struct slice *slice, uint64_t cut) {
    for (size_t i = 0; i < slice->cut_count; i++)
        if (slice->cuts[i] == cut)
            return;
    size_t at = slice->cut_count;
    if (cut <= slice->range.first || cut >= slice->range.end || at == WORLD_CUTS)
        return;
    for (; at > 0 && slice->cuts[at - 1] > cut; at--)
        slice->cuts[at] = slice->cuts[at - 1];
    slice->cuts[at] = cut;
    slice->cut_count++;
}

/* What every shard has applied of the slice is done; where they differ, batches are cut. */
static void take_over(struct world *world, struct worker *worker) {
    struct slice slice = {.range = worker->slice.range};
    bool greatest = world->bug == WORLD_BUG_GREATEST_MARK;
    uint64_t resume = greatest ? slice.range.first : slice.range.end;
    uint64_t marks[WORLD_SHARDS * 64];
    size_t mark_count = 0;
    for (uint32_t slot = 0; slot < world->shard_count; slot++) {
        struct wire_message query = {
            .kind = WIRE_MARKS_QUERY,
            .marks_query = {.job = WORLD_JOB, .shard = slot, .first = slice.range.first, .end = slice.range.end}};
        world->answering = slot;
        shard_receive(world->shards[slot], &(struct shard_input){.route = SHARD_ROUTE_CONTROL, .message = &query});
        const struct wire_marks_reply *reply = &world->control.marks_reply;
        if (greatest ? reply->resume > resume : reply->resume < resume)
            resume = reply->resume;
        for (size_t i = 0; i < reply->mark_count && mark_count < sizeof marks / sizeof *marks; i++)
            marks[mark_count++] = world->marks[i];
    }
    slice.range.first = resume;
    for (size_t i = 0; i < mark_count; i++)
        add_cut(&slice, marks[i]);
    if (resume < slice.range.end) {
        world->queue[world->queue_count++] = slice;
        world->summary->taken_over++;
    }
}

static void end_session(struct world *world, const struct worker *worker, uint32_t slot) {
    struct wire_message close = {
        .kind = WIRE_SESSION_CLOSE,
        .session_close = {
            .job = WORLD_JOB, .shard = slot, .session = 100 + worker->index, .incarnation = 1, .reason = "evicted"}};
    world->answering = slot;
    shard_receive(world->shards[slot], &(struct shard_input){.route = SHARD_ROUTE_CONTROL, .message = &close});
}

static void close_session(struct world *world, struct worker *worker, uint32_t slot) {
    end_session(world, worker, slot);
    if (--worker->closes_left > 0)
        return;
    world->evicting--;
    if (worker->owed) {
        world->out--;
        take_over(world, worker);
    }
    world->done = world->queue_count == 0 && world->out == 0 && world->evicting == 0;
    sim_later(&world->net, sim_delay(&world->net, 1000, 20 * WORLD_MS), WORLD_SPAWN, 0, 0);
}

/* ---- the run */

static void choose_weather(struct sim_weather *weather, struct random *random) {
    static const struct sim_weather kinds[] = {{0, 0, 0, 0, 0}, {0, 0, 5, 0, 0}, {3, 3, 5, 0, 0}, {20, 20, 20, 0, 0}};
    *weather = kinds[random_below(random, sizeof kinds / sizeof *kinds)];
    weather->delay_least_ns = WORLD_MS / 20;
    weather->delay_most_ns = WORLD_MS / 10 + (int64_t)random_below(random, 20 * (uint64_t)WORLD_MS);
}

/* Apart from the rest, so that a seed means the same job in every mode. */
static void choose_mode(struct world *world) {
    struct random random;
    random_init_stream(&random, world->seed, 2);
    world->gate_bound = random_below(&random, 4);
    world->gate_pushes = 1 + random_below(&random, 4);
    if (world_has(world, CONSISTENCY_GATHERS)) {
        world->leased = true;
        world->evictions_left = (uint32_t)random_below(&random, 4);
    }
}

/* Unleased worlds have nothing but the records to keep a push from counting twice, so nobody is evicted there. */
static void choose_job(struct world *world) {
    struct random *random = &world->net.random;
    world->shard_count = 1 + (uint32_t)random_below(random, WORLD_SHARDS);
    world->first_workers = 1 + (uint32_t)random_below(random, 4);
    world->unit_count = 1 + (uint32_t)random_below(random, WORLD_UNITS);
    world->leased = random_below(random, 4) > 0;
    world->samples = 8 + random_below(random, 60);
    world->batch = world->leased ? 1 + random_below(random, 6) : 1;
    world->slice_samples = world->batch * (1 + random_below(random, 5));
    world->small_credit = random_below(random, 2) ? 1 << 20 : 16 + random_below(random, 400);
    world->window = 1 + (uint32_t)random_below(random, 16);
    world->part_bytes = 16 + (uint32_t)random_below(random, 300);
    world->hasty = random_below(random, 3) == 0;
    world->evictions_left = world->leased ? (uint32_t)random_below(random, 4) : 0;
    for (uint32_t i = 0; i < world->unit_count; i++) {
        struct tensor_spec *tensor = &world->tensors[i];
        *tensor = (struct tensor_spec){.rank = 1, .lr_factor = 1};
        snprintf(tensor->name, sizeof tensor->name, "t%u", i);
        tensor->shape[0] = 1 + random_below(random, WORLD_UNIT_ELEMENTS);
        world->offset[i + 1] = world->offset[i] + tensor->shape[0];
        world->placement[i] = (uint16_t)random_below(random, world->shard_count);
    }
}

/* Codecs that give every whole number below 2,048 back, so that the same final parameters are known: half the worlds
 * have none. What the codec keeps back is nothing here, whatever becomes of a push. */
static void choose_codecs(struct world *world) {
    static const char *const pushed[] = {"f32", "f32", "f16", "topk"};
    uint64_t draw = random_mix(world->seed, 3);
    bool whole = !world_has(world, CONSISTENCY_GATHERS); /* means of gathered pushes are not */
    if (codec_find(pushed[draw % 4], &world->push_codec, NULL) != LG_OK ||
        codec_find(whole && draw >> 8 & 1 ? "f16" : "f32", &world->pull_codec, NULL) != LG_OK)
        abort();
    world->pull_delta = whole && (draw >> 8 & 3) == 3;
}

static void world_event(struct world *world, const struct sim_event *event) {
    switch ((enum world_event)event->what) {
    case WORLD_EVICT:
        evict(world, &world->workers[event->a], event->b != 0);
        break;
    case WORLD_CLOSE:
        close_session(world, &world->workers[event->a], (uint32_t)event->b);
        break;
    case WORLD_SPAWN:
        worker_spawn(world);
        break;
    default:
        worker_event(&world->workers[event->a], event);
        break;
    }
}

static void world_step(struct world *world, const struct sim_event *event) {
    struct wire_message message;
    struct lg_error error = {0};
    const struct sim_connection *connection =
        event->kind == SIM_USER ? NULL : &world->net.connections[event->connection];
    struct worker *worker = connection ? &world->workers[connection->tag >> 8] : NULL;
    uint32_t slot = connection ? (uint32_t)(connection->tag & 0xff) : 0;
    switch (event->kind) {
    case SIM_USER:
        world_event(world, event);
        return;
    case SIM_BROKEN:
        if (worker->alive && worker->connected[slot] && worker->connection[slot] == event->connection)
            worker_broken(worker, slot);
        return;
    case SIM_TO_CLIENT:
        if (sim_message(&world->net, event, &message, &error))
            worker_hear(worker, slot, &message);
        break;
    case SIM_TO_SERVER:
        world->answering = slot;
        if (sim_message(&world->net, event, &message, &error))
            shard_takes(world, (uint64_t)event->connection + 1, &message);
        break;
    }
    if (error.message[0])
        world_fail(world, "a message cannot be read: %s", error.message);
}

static void plan_evictions(struct world *world) {
    struct random *random = &world->net.random;
    for (uint32_t i = 0; i < world->evictions_left; i++)
        sim_later(&world->net, sim_delay(&world->net, 50 * WORLD_MS, 600 * WORLD_MS), WORLD_EVICT,
                  random_below(random, world->first_workers), random_below(random, 2));
}

static void world_start(struct world *world) {
    cut_slices(world);
    for (uint32_t slot = 0; slot < world->shard_count && !world_failed(world); slot++)
        shard_start(world, slot);
    for (uint32_t i = 0; i < world->first_workers && !world_failed(world); i++)
        worker_spawn(world);
    plan_evictions(world);
}

/* Everything that is still under way to a shard arrives before the end is looked at. */
static void world_finish(struct world *world) {
    struct sim_event event;
    while (sim_next(&world->net, &event)) {
        if (event.kind == SIM_TO_SERVER)
            world_step(world, &event);
        sim_done(&event);
    }
    for (uint32_t i = 0; i < world->worker_count; i++)
        for (uint32_t slot = 0; slot < world->shard_count; slot++)
            end_session(world, &world->workers[i], slot);
    if (!world_failed(world))
        oracle_check_end(world);
}

bool world_run(uint64_t seed, const struct consistency *mode, enum world_bug bug, struct world_summary *summary) {
    struct world *world = calloc(1, sizeof *world);
    struct sim_weather weather;
    struct random random;
    struct sim_event event;
    if (!world)
        abort();
    *summary = (struct world_summary){0};
    random_init_stream(&random, seed, 1);
    choose_weather(&weather, &random);
    world->bug = bug;
    world->mode = mode;
    world->seed = seed;
    world->summary = summary;
    sim_net_init(&world->net, seed, &weather);
    choose_job(world);
    choose_mode(world);
    choose_codecs(world);
    world_start(world);
    while (!world_failed(world) && !world->done && sim_next(&world->net, &event)) {
        if (world->net.now_ns > LIMIT_NS)
            world_fail(world, "not done after %lld virtual seconds", (long long)(LIMIT_NS / 1000 / WORLD_MS));
        else
            world_step(world, &event);
        sim_done(&event);
    }
    summary->virtual_ns = world->net.now_ns;
    if (!world_failed(world) && !world->done)
        world_fail(world, "nothing happens any more, and it is not done");
    if (!world_failed(world))
        world_finish(world);
    summary->messages = world->net.delivered;
    summary->lost = world->net.lost;
    summary->repeated = world->net.repeated;
    summary->connections_cut = world->net.cuts;
    for (uint32_t i = 0; i < world->worker_count; i++)
        worker_free(&world->workers[i]);
    for (uint32_t slot = 0; slot < world->shard_count; slot++)
        shard_free(world->shards[slot]);
    oracle_deinit(&world->oracle);
    sim_net_deinit(&world->net);
    free(world);
    return summary->failure[0] == '\0';
}
