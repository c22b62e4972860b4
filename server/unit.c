#include "server/unit.h"

#include <string.h>

_Static_assert((int)UPDATER_CHUNK == (int)CODEC_CHUNK, "codecs decode what updaters consume");

static const float *negated(const float *from, size_t n, float *scratch) {
    for (size_t i = 0; i < n; i++)
        scratch[i] = -from[i];
    return scratch;
}

static void average(float *restrict w, const float *restrict from, size_t n, float rate) {
    for (size_t i = 0; i < n; i++)
        w[i] += rate * (from[i] - w[i]);
}

static void update(struct unit *unit, const struct unit_change *change, size_t first, size_t n, const float *gradient) {
    float *states[UPDATER_STATES_MAX];
    for (int i = 0; i < UPDATER_STATES_MAX; i++)
        states[i] = unit->states[i] ? unit->states[i] + first : NULL;
    change->apply(unit->values + first, states, gradient, n, change->scalars);
}

/* The gradient as the policy has it, then the update, then what the policy learns from it. */
static void compensated_update(struct unit *unit, const struct unit_change *change, size_t first, size_t n,
                               const float *gradient) {
    _Alignas(64) float changed[UPDATER_CHUNK], before[UPDATER_CHUNK];
    const struct unit_compensation *how = change->compensation;
    const struct compensate_place place = {.gradient = gradient,
                                           .values = unit->values + first,
                                           .held = how->held ? how->held + first : unit->values + first,
                                           .mine = how->mine ? how->mine + first : NULL,
                                           .drift = unit->drift ? unit->drift + first : NULL};
    if (how->held)
        how->compensate(&place, n, how->scalars, changed);
    if (how->learn)
        memcpy(before, unit->values + first, n * sizeof *before);
    update(unit, change, first, n, how->held ? changed : gradient);
    if (how->learn)
        how->learn(unit->drift + first, before, unit->values + first, n, how->scalars);
}

void unit_apply(struct unit *unit, const struct unit_change *change, const uint8_t *payload) {
    _Alignas(64) float scratch[UPDATER_CHUNK];
    local_unit_begin(unit->shared);
    for (size_t first = 0; first < unit->elements; first += UPDATER_CHUNK) {
        size_t n = unit->elements - first < UPDATER_CHUNK ? unit->elements - first : UPDATER_CHUNK;
        const float *values = change->codec->decode(payload, unit->elements, first, n, scratch);
        switch (change->kind) {
        case UNIT_CHANGE_UPDATE:
            if (change->negate)
                values = negated(values, n, scratch);
            if (change->compensation)
                compensated_update(unit, change, first, n, values);
            else
                update(unit, change, first, n, values);
            break;
        case UNIT_CHANGE_ASSIGN:
            memcpy(unit->values + first, values, n * sizeof *values);
            break;
        case UNIT_CHANGE_AVERAGE:
            average(unit->values + first, values, n, change->rate);
            break;
        }
    }
}

void unit_touch(struct unit *unit, uint64_t at_least) {
    unit->version = unit->version + 1 > at_least ? unit->version + 1 : at_least;
    local_unit_end(unit->shared, unit->version);
    unit_forget_snapshot(unit);
}

void unit_forget_snapshot(struct unit *unit) {
    if (unit->snapshot)
        snapshot_release(unit->snapshot);
    if (unit->encoded)
        snapshot_release(unit->encoded);
    unit->snapshot = unit->encoded = NULL;
}
