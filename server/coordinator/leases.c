#include "server/coordinator/leases.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { UNKNOWN_RATE_BATCHES = 4 };

enum lg_status leases_init(struct leases *leases, const struct leases_config *config, struct lg_error *error) {
    *leases = (struct leases){.config = *config, .position = {.next_lease = 1}, .position_changed = true};
    if (config->samples == 0)
        return lg_fail(error, LG_INVALID, "the training split has no samples");
    if (config->epochs == 0 || config->samples > UINT64_MAX / 4 / config->epochs)
        return lg_fail(error, LG_INVALID, "%llu epochs of %llu samples cannot be counted",
                       (unsigned long long)config->epochs, (unsigned long long)config->samples);
    return LG_OK;
}

void leases_deinit(struct leases *leases) {
    for (size_t i = 0; i < leases->count; i++)
        free(leases->slices[i].cuts);
    free(leases->slices);
    free(leases->removed);
    *leases = (struct leases){0};
}

/* ---- the table */

static struct slice *find(const struct leases *leases, uint64_t lease) {
    for (size_t i = 0; i < leases->count; i++)
        if (leases->slices[i].lease == lease)
            return &leases->slices[i];
    return NULL;
}

const struct slice *leases_find(const struct leases *leases, uint64_t lease) {
    return find(leases, lease);
}

/* Room for one slice more, and for as many removals as there are slices then: removing never fails. */
static bool reserve(struct leases *leases) {
    if (leases->count == leases->capacity) {
        size_t capacity = leases->capacity ? 2 * leases->capacity : 16;
        struct slice *slices = realloc(leases->slices, capacity * sizeof *slices);
        if (!slices)
            return false;
        leases->slices = slices;
        leases->capacity = capacity;
    }
    if (leases->removed_count + leases->count + 1 > leases->removed_capacity) {
        size_t capacity = 2 * (leases->removed_count + leases->count + 1);
        uint64_t *removed = realloc(leases->removed, capacity * sizeof *removed);
        if (!removed)
            return false;
        leases->removed = removed;
        leases->removed_capacity = capacity;
    }
    return true;
}

static struct slice *append(struct leases *leases, const struct slice *slice) {
    assert(leases->count < leases->capacity);
    leases->slices[leases->count] = *slice;
    leases->slices[leases->count].changed = true;
    return &leases->slices[leases->count++];
}

static void take_out(struct leases *leases, struct slice *slice) {
    assert(leases->removed_count < leases->removed_capacity);
    leases->removed[leases->removed_count++] = slice->lease;
    free(slice->cuts);
    *slice = leases->slices[--leases->count];
}

/* ---- sizes */

uint64_t leases_samples_total(const struct leases *leases) {
    return leases->config.samples * leases->config.epochs;
}

static uint64_t samples_cut(const struct leases *leases) {
    return leases->position.epoch * leases->config.samples + leases->position.first;
}

uint64_t leases_samples_done(const struct leases *leases) {
    uint64_t done = samples_cut(leases);
    for (size_t i = 0; i < leases->count; i++)
        done -= leases->slices[i].end - leases->slices[i].first;
    return done;
}

uint64_t leases_samples_left(const struct leases *leases) {
    uint64_t left = leases_samples_total(leases) - samples_cut(leases);
    for (size_t i = 0; i < leases->count; i++)
        if (leases->slices[i].state == SLICE_STATE_QUEUED)
            left += leases->slices[i].end - leases->slices[i].first;
    return left;
}

uint64_t leases_epochs_complete(const struct leases *leases) {
    uint64_t complete = leases->position.epoch;
    for (size_t i = 0; i < leases->count; i++)
        if (leases->slices[i].epoch < complete)
            complete = leases->slices[i].epoch;
    return complete;
}

bool leases_trained(const struct leases *leases) {
    return leases_epochs_complete(leases) == leases->config.epochs;
}

bool leases_finished(const struct leases *leases) {
    return leases_trained(leases) && (!leases->config.evaluate || leases->position.evaluated == leases->config.epochs);
}

uint64_t leases_slice_samples(const struct leases *leases, double rate, int64_t duration_ms, uint64_t batch,
                              uint64_t trainers) {
    uint64_t wanted = UNKNOWN_RATE_BATCHES * batch,
             share = leases_samples_left(leases) / (2 * (trainers ? trainers : 1));
    if (isfinite(rate) && rate > 0)
        wanted = (uint64_t)fmin(rate * (double)duration_ms / 1000, 1e15);
    if (share < wanted)
        wanted = share;
    wanted -= wanted % batch;
    return wanted < batch ? batch : wanted;
}

/* ---- handing out */

/* The queued slice to give first: lowest epoch, then position. */
static struct slice *first_queued(const struct leases *leases) {
    struct slice *best = NULL;
    for (size_t i = 0; i < leases->count; i++) {
        struct slice *slice = &leases->slices[i];
        if (slice->state != SLICE_STATE_QUEUED)
            continue;
        if (!best || slice->epoch < best->epoch || (slice->epoch == best->epoch && slice->first < best->first))
            best = slice;
    }
    return best;
}

/* Splits a queued slice at `at`: what lies behind becomes a queued slice with a number of its own. Without memory the
 * slice stays whole, which is only a longer slice. */
static void split(struct leases *leases, struct slice *slice, uint64_t at) {
    struct slice rest = {.lease = leases->position.next_lease,
                         .fence = 1,
                         .epoch = slice->epoch,
                         .first = at,
                         .end = slice->end,
                         .state = SLICE_STATE_QUEUED};
    size_t kept = 0, skipped;
    while (kept < slice->cut_count && slice->cuts[kept] < at)
        kept++;
    skipped = kept + (kept < slice->cut_count && slice->cuts[kept] == at);
    rest.cut_count = slice->cut_count - skipped;
    if (rest.cut_count > 0) {
        rest.cuts = malloc(rest.cut_count * sizeof *rest.cuts);
        if (!rest.cuts)
            return;
        memcpy(rest.cuts, slice->cuts + skipped, rest.cut_count * sizeof *rest.cuts);
    }
    slice->end = at;
    slice->cut_count = kept;
    leases->position.next_lease++;
    leases->position_changed = true;
    append(leases, &rest);
}

static struct slice *take_queued(struct leases *leases, uint64_t samples, uint64_t batch) {
    struct slice *slice = first_queued(leases);
    if (!slice)
        return NULL;
    if (slice->end - slice->first >= samples + batch) {
        uint64_t lease = slice->lease;
        split(leases, slice, slice->first + samples);
        slice = find(leases, lease);
    }
    return slice;
}

static struct slice *cut_next(struct leases *leases, uint64_t samples, uint64_t batch) {
    struct leases_position *position = &leases->position;
    if (position->epoch >= leases->config.epochs ||
        position->epoch >= leases_epochs_complete(leases) + LEASES_AHEAD_MAX)
        return NULL;
    uint64_t left = leases->config.samples - position->first;
    uint64_t size = left < samples + batch ? left : samples;
    struct slice *slice = append(leases, &(struct slice){.lease = position->next_lease++,
                                                         .fence = 1,
                                                         .epoch = position->epoch,
                                                         .first = position->first,
                                                         .end = position->first + size});
    position->first += size;
    if (position->first == leases->config.samples) {
        position->first = 0;
        position->epoch++;
    }
    leases->position_changed = true;
    return slice;
}

const struct slice *leases_take(struct leases *leases, uint64_t holder, uint64_t request, uint64_t samples,
                                uint64_t batch, int64_t granted_ms) {
    assert(holder != 0 && samples > 0);
    if (!reserve(leases))
        return NULL;
    struct slice *slice = take_queued(leases, samples, batch);
    if (!slice)
        slice = cut_next(leases, samples, batch);
    if (!slice)
        return NULL;
    slice->state = SLICE_STATE_OUT;
    slice->holder = holder;
    slice->request = request;
    slice->granted_ms = granted_ms;
    slice->changed = true;
    return slice;
}

const struct slice *leases_granted(const struct leases *leases, uint64_t holder, uint64_t request) {
    for (size_t i = 0; request != 0 && i < leases->count; i++) {
        const struct slice *slice = &leases->slices[i];
        if (slice->state == SLICE_STATE_OUT && slice->holder == holder && slice->request == request)
            return slice;
    }
    return NULL;
}

enum lg_status leases_done(struct leases *leases, uint64_t lease, uint32_t fence, uint64_t holder) {
    struct slice *slice = find(leases, lease);
    if (lease == 0 || lease >= leases->position.next_lease)
        return LG_NOT_FOUND;
    if (!slice)
        return LG_OK; /* slices leave the table only when they are done */
    if (slice->state != SLICE_STATE_OUT || slice->fence != fence || slice->holder != holder)
        return LG_FENCED;
    take_out(leases, slice);
    leases->position_changed = true;
    return LG_OK;
}

size_t leases_held(const struct leases *leases, uint64_t holder) {
    size_t held = 0;
    for (size_t i = 0; i < leases->count; i++)
        held += leases->slices[i].state == SLICE_STATE_OUT && leases->slices[i].holder == holder;
    return held;
}

/* ---- taking back */

size_t leases_revoke(struct leases *leases, uint64_t holder) {
    size_t revoked = 0;
    for (size_t i = 0; i < leases->count; i++) {
        struct slice *slice = &leases->slices[i];
        if (slice->state != SLICE_STATE_OUT || slice->holder != holder)
            continue;
        slice->state = SLICE_STATE_LOST;
        slice->fence++;
        slice->changed = true;
        revoked++;
    }
    if (leases->position.evaluating && leases->position.evaluate_holder == holder) {
        leases->position.evaluating = 0;
        leases->position.evaluate_holder = 0;
        leases->position_changed = true;
    }
    return revoked;
}

const struct slice *leases_lost(const struct leases *leases, uint64_t after) {
    const struct slice *best = NULL;
    for (size_t i = 0; i < leases->count; i++) {
        const struct slice *slice = &leases->slices[i];
        if (slice->state == SLICE_STATE_LOST && slice->lease > after && (!best || slice->lease < best->lease))
            best = slice;
    }
    return best;
}

enum lg_status leases_give_back(struct leases *leases, uint64_t lease, uint64_t resume, const uint64_t *cuts,
                                size_t cut_count) {
    struct slice *slice = find(leases, lease);
    if (!slice || slice->state != SLICE_STATE_LOST)
        return LG_NOT_FOUND;
    if (resume >= slice->end) {
        take_out(leases, slice);
        leases->position_changed = true;
        return LG_OK;
    }
    uint64_t *inside = malloc((cut_count + slice->cut_count + 1) * sizeof *inside);
    if (!inside)
        return LG_NO_MEMORY;
    size_t count = 0;
    slice->first = resume > slice->first ? resume : slice->first;
    for (size_t i = 0; i < cut_count; i++)
        if (cuts[i] > slice->first && cuts[i] < slice->end && (count == 0 || cuts[i] > inside[count - 1]))
            inside[count++] = cuts[i];
    free(slice->cuts);
    slice->cuts = inside;
    slice->cut_count = count;
    slice->state = SLICE_STATE_QUEUED;
    slice->holder = slice->request = 0;
    slice->granted_ms = 0;
    slice->changed = true;
    leases->position.taken_over++;
    leases->position_changed = true;
    return LG_OK;
}

/* ---- evaluations */

/* Epochs complete that an evaluation is wanted for now, or 0. One that was overtaken by the next is left out. */
static uint64_t evaluation_wanted(const struct leases *leases) {
    uint64_t complete = leases_epochs_complete(leases), every = leases->config.evaluate_every;
    if (!leases->config.evaluate)
        return 0;
    if (complete == leases->config.epochs)
        return complete;
    return every ? complete - complete % every : 0;
}

bool leases_evaluation_due(const struct leases *leases) {
    return !leases->position.evaluating && evaluation_wanted(leases) > leases->position.evaluated;
}

uint64_t leases_evaluation_take(struct leases *leases, uint64_t holder, uint64_t request) {
    struct leases_position *position = &leases->position;
    uint64_t due = evaluation_wanted(leases);
    if (!leases_evaluation_due(leases))
        return 0;
    position->evaluating = due;
    position->evaluate_lease = position->next_lease++;
    position->evaluate_fence = 1;
    position->evaluate_holder = holder;
    position->evaluate_request = request;
    leases->position_changed = true;
    return due;
}

enum lg_status leases_evaluation_done(struct leases *leases, uint64_t lease, uint64_t holder) {
    struct leases_position *position = &leases->position;
    if (lease != position->evaluate_lease || holder != position->evaluate_holder)
        return LG_FENCED;
    if (!position->evaluating)
        return LG_EXISTS;
    position->evaluated = position->evaluating;
    position->evaluating = 0;
    leases->position_changed = true;
    return LG_OK;
}

/* ---- rows */

void leases_changes(struct leases *leases, const struct leases_visitor *visitor) {
    for (size_t i = 0; i < leases->removed_count; i++)
        visitor->removed(visitor->context, leases->removed[i]);
    for (size_t i = 0; i < leases->count; i++)
        if (leases->slices[i].changed) {
            visitor->slice(visitor->context, &leases->slices[i]);
            leases->slices[i].changed = false;
        }
    if (leases->position_changed)
        visitor->position(visitor->context, &leases->position);
    leases->removed_count = 0;
    leases->position_changed = false;
}

enum lg_status leases_restore_position(struct leases *leases, const struct leases_position *position,
                                       struct lg_error *error) {
    bool ended = position->epoch == leases->config.epochs && position->first == 0;
    if ((!ended && (position->epoch >= leases->config.epochs || position->first >= leases->config.samples)) ||
        position->next_lease == 0 || position->evaluated > leases->config.epochs)
        return lg_fail(error, LG_INVALID, "leases of epoch %llu from sample %llu on do not fit the job",
                       (unsigned long long)position->epoch, (unsigned long long)position->first);
    leases->position = *position;
    leases->position_changed = false;
    return LG_OK;
}

enum lg_status leases_restore_slice(struct leases *leases, const struct slice *slice, struct lg_error *error) {
    uint64_t cut = leases->position.first + leases->position.epoch * leases->config.samples;
    bool fits = slice->lease > 0 && slice->lease < leases->position.next_lease && slice->first < slice->end &&
                slice->end <= leases->config.samples && slice->epoch < leases->config.epochs &&
                slice->epoch * leases->config.samples + slice->end <= cut && slice->state <= SLICE_STATE_LOST;
    if (!fits || find(leases, slice->lease))
        return lg_fail(error, LG_INVALID, "lease %llu of samples [%llu, %llu) of epoch %llu does not fit the job",
                       (unsigned long long)slice->lease, (unsigned long long)slice->first,
                       (unsigned long long)slice->end, (unsigned long long)slice->epoch);
    struct slice copy = *slice;
    copy.cuts = NULL;
    if (slice->cut_count > 0) {
        copy.cuts = malloc(slice->cut_count * sizeof *copy.cuts);
        if (copy.cuts)
            memcpy(copy.cuts, slice->cuts, slice->cut_count * sizeof *copy.cuts);
    }
    if (!reserve(leases) || (slice->cut_count > 0 && !copy.cuts)) {
        free(copy.cuts);
        return lg_fail(error, LG_NO_MEMORY, "no memory for the leases of a job");
    }
    append(leases, &copy)->changed = false;
    return LG_OK;
}
