/* What has to hold in the simulated world. */
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "tests/support/sim_world_state.h"

/* -3 .. 3: sums over a few hundred samples are exact in f32. */
float oracle_gradient(const struct world *world, uint64_t sample, uint32_t unit, uint32_t element) {
    uint64_t mixed = random_mix(world->seed ^ (sample << 16), ((uint64_t)unit << 32) | element);
    return (float)(mixed % 7) - 3;
}

float oracle_initial(uint32_t unit, uint32_t element) {
    return (float)(unit * 100 + element);
}

void oracle_deinit(struct oracle *oracle) {
    for (size_t i = 0; i < WORLD_UNITS; i++)
        free(oracle->states[i]);
}

static size_t unit_bytes(const struct world *world, uint32_t unit) {
    return (world->offset[unit + 1] - world->offset[unit]) * sizeof(float);
}

static void remember_state(struct world *world, uint32_t unit) {
    struct oracle *oracle = &world->oracle;
    if (oracle->state_count[unit] == oracle->state_capacity[unit]) {
        oracle->state_capacity[unit] = oracle->state_capacity[unit] ? 2 * oracle->state_capacity[unit] : 32;
        oracle->states[unit] = realloc(oracle->states[unit], oracle->state_capacity[unit] * sizeof(uint64_t));
        if (!oracle->states[unit])
            abort();
    }
    oracle->states[unit][oracle->state_count[unit]++] =
        XXH3_64bits(&oracle->values[world->offset[unit]], unit_bytes(world, unit));
}

/* The mean of what was gathered for each unit of the shard is applied. */
static void commit(struct world *world) {
    struct oracle *oracle = &world->oracle;
    world->summary->commits++;
    for (uint32_t unit = 0; unit < world->unit_count; unit++) {
        if (world->placement[unit] != world->answering || oracle->samples[unit] == 0)
            continue;
        float scale = (float)(1 / oracle->samples[unit]);
        for (uint64_t e = world->offset[unit]; e < world->offset[unit + 1]; e++)
            oracle->values[e] -= oracle->sums[e] * scale;
        oracle->samples[unit] = 0;
        remember_state(world, unit);
    }
}

static void gather(struct world *world, uint32_t unit, const float *payload, const struct wire_push *push) {
    struct oracle *oracle = &world->oracle;
    uint64_t first = world->offset[unit];
    for (uint64_t e = first; e < world->offset[unit + 1]; e++) {
        float part = (float)push->samples * payload[e - first];
        oracle->sums[e] = oracle->samples[unit] > 0 ? oracle->sums[e] + part : part;
    }
    oracle->samples[unit] += (double)push->samples;
    for (uint64_t sample = push->covers[0].first; sample < push->covers[0].end; sample++)
        if (++oracle->taken[unit][sample] > 1)
            world_fail(world, "sample %llu went into unit %u twice", (unsigned long long)sample, unit);
}

/* Every shard must take the same pushes into a round. */
static void note_round(struct world *world, const struct shard_decision *decision, const struct wire_push *push) {
    if (push->part != 0 || decision->weight == 0 || !world_has(world, CONSISTENCY_ROUNDS))
        return;
    if (push->round >= WORLD_ROUNDS)
        world_fail(world, "round %llu", (unsigned long long)push->round);
    else
        world->oracle.pushes[world->answering][push->round] += random_mix(decision->session, push->clock);
}

/* Follows the decisions: what was applied changes the values, nothing else does. */
void oracle_decide(struct world *world, const struct shard_decision *decision, const struct wire_message *push) {
    struct oracle *oracle = &world->oracle;
    uint64_t counter = version_counter(decision->version_after);
    if (counter < oracle->counter[world->answering] || counter > oracle->counter[world->answering] + 1)
        world_fail(world, "shard %u's counter went from %llu to %llu", world->answering,
                   (unsigned long long)oracle->counter[world->answering], (unsigned long long)counter);
    oracle->counter[world->answering] = counter;
    if (decision->kind == SHARD_DECISION_COMMIT)
        commit(world);
    if (decision->kind == SHARD_DECISION_GATHER)
        note_round(world, decision, &push->push);
    const struct codec *codec = NULL;
    if (push && codec_of_wire(push->push.dtype, push->push.codec, &codec, NULL) != LG_OK)
        abort();
    size_t frame = 0, at = 0, bytes = 0;
    for (size_t i = 0; push && push->payload_count > 0 && i < push->unit_count; i++, at += bytes) {
        float payload[WORLD_UNIT_ELEMENTS] = {0};
        uint32_t unit = push->units[i].unit, elements = push->units[i].elements;
        if (at == push->payload[frame].bytes) {
            frame++;
            at = 0;
        }
        const uint8_t *data = (const uint8_t *)push->payload[frame].data + at;
        if (codec->measure(data, push->payload[frame].bytes - at, elements, &bytes, NULL) != LG_OK)
            abort();
        codec_add(codec, ISA_BASE, data, elements, payload);
        if (!decision->unit_applied[i])
            continue;
        if (decision->kind == SHARD_DECISION_GATHER) {
            gather(world, unit, payload, &push->push);
            continue;
        }
        for (uint32_t e = 0; e < elements; e++) {
            float *value = &oracle->values[world->offset[unit] + e];
            *value = push->push.kind == WIRE_PUSH_KIND_INITIAL ? payload[e] : *value - payload[e];
        }
        remember_state(world, unit);
    }
}

void oracle_check_pull(struct world *world, const struct worker *worker, unsigned buffer, const size_t *seen,
                       bool moved) {
    const struct oracle *oracle = &world->oracle;
    for (uint32_t unit = 0; unit < world->unit_count; unit++) {
        const float *values = &worker->parameters[buffer][world->offset[unit]];
        uint64_t hash = XXH3_64bits(values, unit_bytes(world, unit));
        size_t at = oracle->state_count[unit];
        while (at > 0 && oracle->states[unit][at - 1] != hash)
            at--;
        if (at == 0)
            world_fail(world, "worker %u pulled values of unit %u that it never had", worker->index, unit);
        else if (at < seen[unit] + moved)
            world_fail(world, "worker %u pulled state %zu of unit %u, which was in state %zu before the %s",
                       worker->index, at, unit, seen[unit], moved ? "push" : "pull");
    }
}

static void check_values(struct world *world, uint32_t unit) {
    uint32_t elements = 0;
    const float *held = shard_unit_data(world->shards[world->placement[unit]], WORLD_JOB, unit, &elements, NULL);
    for (uint32_t e = 0; e < elements && !world_failed(world); e++) {
        float expected = oracle_initial(unit, e);
        for (uint64_t sample = 0; sample < world->samples; sample++)
            expected -= oracle_gradient(world, sample, unit, e);
        if (held[e] != world->oracle.values[world->offset[unit] + e])
            world_fail(world, "unit %u differs from what was decided", unit);
        else if (held[e] != expected && !world_has(world, CONSISTENCY_GATHERS))
            world_fail(world, "element %u of unit %u is %g, but every sample once gives %g", e, unit, (double)held[e],
                       (double)expected);
    }
}

static void check_ledger(struct world *world, uint32_t slot) {
    struct wire_message query = {.kind = WIRE_LEDGER_QUERY, .ledger_query = {.job = WORLD_JOB, .shard = slot}};
    world->answering = slot;
    shard_receive(world->shards[slot], &(struct shard_input){.route = SHARD_ROUTE_CONTROL, .message = &query});
    const struct wire_ledger_reply *reply = &world->control.ledger_reply;
    if (reply->row_count != 1 || reply->rows[0].samples_least != world->samples ||
        reply->rows[0].samples_most != world->samples || reply->rows[0].dropped != 0)
        world_fail(world, "the ledger of shard %u has %zu rows and %llu to %llu samples instead of %llu", slot,
                   reply->row_count, (unsigned long long)(reply->row_count ? reply->rows[0].samples_least : 0),
                   (unsigned long long)(reply->row_count ? reply->rows[0].samples_most : 0),
                   (unsigned long long)world->samples);
}

/* What was gathered, unit by unit, is what the ledger says; nothing is left, and nothing dropped where nobody is late.
 */
static void check_gathered(struct world *world, uint32_t slot) {
    const struct oracle *oracle = &world->oracle;
    uint64_t least = UINT64_MAX, most = 0, dropped = 0;
    for (uint32_t unit = 0; unit < world->unit_count; unit++) {
        uint64_t taken = 0;
        for (uint64_t sample = 0; sample < world->samples; sample++)
            taken += oracle->taken[unit][sample];
        if (world->placement[unit] != slot)
            continue;
        least = taken < least ? taken : least;
        most = taken > most ? taken : most;
        dropped = world->samples - taken > dropped ? world->samples - taken : dropped;
        if (oracle->samples[unit] > 0)
            world_fail(world, "%g samples were gathered for unit %u and never applied", oracle->samples[unit], unit);
    }
    struct wire_message query = {.kind = WIRE_LEDGER_QUERY, .ledger_query = {.job = WORLD_JOB, .shard = slot}};
    world->answering = slot;
    shard_receive(world->shards[slot], &(struct shard_input){.route = SHARD_ROUTE_CONTROL, .message = &query});
    const struct wire_ledger_reply *reply = &world->control.ledger_reply;
    if (reply->row_count != 1 || reply->rows[0].samples_least != least || reply->rows[0].samples_most != most ||
        reply->rows[0].dropped != dropped)
        world_fail(world,
                   "shard %u gathered %llu to %llu samples and dropped %llu, its ledger says %llu to %llu and %llu",
                   slot, (unsigned long long)least, (unsigned long long)most, (unsigned long long)dropped,
                   (unsigned long long)reply->rows[0].samples_least, (unsigned long long)reply->rows[0].samples_most,
                   (unsigned long long)reply->rows[0].dropped);
    if (dropped > 0 && !world_has(world, CONSISTENCY_TICKETS))
        world_fail(world, "shard %u dropped %llu samples", slot, (unsigned long long)dropped);
}

/* Without evictions all shards take the same pushes into each round. */
static void check_rounds(struct world *world, uint32_t slot) {
    uint32_t lead = world->placement[0];
    for (size_t round = 0; world->summary->evictions == 0 && round < WORLD_ROUNDS; round++)
        if (world->oracle.pushes[slot][round] != world->oracle.pushes[lead][round])
            world_fail(world, "shards %u and %u took different pushes into round %zu", slot, lead, round);
}

static bool shard_has_units(const struct world *world, uint32_t slot) {
    for (uint32_t unit = 0; unit < world->unit_count; unit++)
        if (world->placement[unit] == slot)
            return true;
    return false;
}

/* Without evictions and cuts every push is whole, so counters can be told beforehand; always, counter and tally agree.
 */
static void check_counters(struct world *world, uint32_t slot) {
    struct wire_shard_job_stats stats = {0};
    uint64_t settled = 0;
    if (shard_stats(world->shards[slot], &stats, 1) != 1 || stats.pushes != world->oracle.counter[slot])
        world_fail(world, "shard %u counts %llu pushes, its decisions lead to %llu", slot,
                   (unsigned long long)stats.pushes, (unsigned long long)world->oracle.counter[slot]);
    for (uint32_t i = 0; i < world->worker_count; i++)
        settled += world->workers[i].settled;
    if (world->summary->evictions == 0 && world->summary->cuts == 0 && stats.pushes != settled)
        world_fail(world, "shard %u counts %llu pushes, %llu were sent", slot, (unsigned long long)stats.pushes,
                   (unsigned long long)settled);
}

void oracle_check_end(struct world *world) {
    for (uint32_t unit = 0; unit < world->unit_count; unit++)
        check_values(world, unit);
    for (uint32_t slot = 0; slot < world->shard_count; slot++) {
        if (!shard_has_units(world, slot))
            continue;
        if (world_has(world, CONSISTENCY_GATHERS)) {
            check_gathered(world, slot);
            check_rounds(world, slot);
            continue;
        }
        if (world->leased)
            check_ledger(world, slot);
        check_counters(world, slot);
    }
}
