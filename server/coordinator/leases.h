/* The data leases of one job: which samples of which epoch are handed out, to whom, and what is left.
 *
 * Pure data, no clock: every sample of every epoch is cut into slices once, in order. A slice is QUEUED (somebody gave
 * it back), OUT (a holder works on it) or LOST (its holder is gone; what of it was applied is being asked for). A slice
 * that is done leaves the table, so epoch e is complete when it is cut to its end and no slice of it remains.
 *
 *   cut -> OUT --done--> gone
 *           |revoke
 *           v
 *          LOST --give_back(resume, cuts)--> QUEUED (or gone where all was applied) --take--> OUT
 *
 * Leases are numbered from 1 and never reused; the fence of a lease rises each time it is taken back, so that a late
 * report of an earlier holder is told from the holder's own. Evaluations are leased from the same numbers. */
#ifndef LAGOON_SERVER_COORDINATOR_LEASES_H
#define LAGOON_SERVER_COORDINATOR_LEASES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/status.h"

/* Epochs that may be worked on before an older one is complete: shards keep the sample sets of a few. */
enum { LEASES_AHEAD_MAX = 16 };

struct leases_config {
    uint64_t samples;        /* of one epoch; at least 1 */
    uint64_t epochs;         /* at least 1 */
    uint64_t evaluate_every; /* epochs between evaluations; 0: only after the last */
    bool evaluate;           /* false: there is nothing to evaluate on */
};

enum slice_state { SLICE_STATE_QUEUED, SLICE_STATE_OUT, SLICE_STATE_LOST };

struct slice {
    uint64_t lease;
    uint32_t fence;
    uint64_t epoch, first, end; /* samples [first, end) in the epoch's order */
    enum slice_state state;
    uint64_t holder;    /* session; 0 while QUEUED */
    uint64_t request;   /* of the message that asked for it, as given to leases_take; 0: none */
    int64_t granted_ms; /* wall clock, as given to leases_take; 0 while QUEUED */
    uint64_t *cuts;     /* ascending, inside (first, end): batches must not straddle them */
    size_t cut_count;
    bool changed; /* since the last leases_changes */
};

/* The part that is one row. */
struct leases_position {
    uint64_t epoch, first;   /* next sample to cut: epoch == config.epochs when all is cut */
    uint64_t next_lease;     /* number of the next lease */
    uint64_t evaluated;      /* epochs completed when the newest evaluation was reported; 0: none yet */
    uint64_t evaluating;     /* the same for the evaluation that is out; 0: none */
    uint64_t evaluate_lease; /* its lease, fence and holder */
    uint32_t evaluate_fence;
    uint64_t evaluate_holder, evaluate_request;
    uint64_t taken_over; /* slices taken back with samples left */
};

struct leases {
    struct leases_config config;
    struct leases_position position;
    bool position_changed;
    struct slice *slices; /* in no order */
    size_t count, capacity;
    uint64_t *removed; /* leases that left the table since the last leases_changes */
    size_t removed_count, removed_capacity;
};

LG_MUST_CHECK enum lg_status leases_init(struct leases *leases, const struct leases_config *config,
                                         struct lg_error *error);
void leases_deinit(struct leases *leases);

/* How many samples a trainer should get: its speed times `duration_ms`, whole batches, shrinking at the end of the data
 * to remaining / (2 x trainers), at least one batch. `rate` <= 0: unknown, four batches. */
uint64_t leases_slice_samples(const struct leases *leases, double rate, int64_t duration_ms, uint64_t batch,
                              uint64_t trainers);

/* The next slice for `holder`: returned ones first (lowest epoch, then position), else the next cut of the data, of
 * about `samples` samples, never over an epoch's end, never LEASES_AHEAD_MAX epochs before the oldest one that is not
 * complete. NULL: nothing to hand out now (or no memory). Borrowed until the
 * next call that changes the table. `batch`: a rest smaller than it is not left over. */
const struct slice *leases_take(struct leases *leases, uint64_t holder, uint64_t request, uint64_t samples,
                                uint64_t batch, int64_t granted_ms);
/* What this request of the holder was given and has not finished: asked again, it must get the same. NULL: nothing. */
const struct slice *leases_granted(const struct leases *leases, uint64_t holder, uint64_t request);
/* LG_OK when the slice is done, now or before; LG_FENCED when it is somebody else's by now; LG_NOT_FOUND when no such
 * lease was ever given. */
LG_MUST_CHECK enum lg_status leases_done(struct leases *leases, uint64_t lease, uint32_t fence, uint64_t holder);

/* The holder is gone: its slices become LOST with a higher fence, its evaluation is free again. Returns the number of
 * slices. */
size_t leases_revoke(struct leases *leases, uint64_t holder);
/* The next LOST slice after lease `after`, by number; NULL: none. */
const struct slice *leases_lost(const struct leases *leases, uint64_t after);
/* What the shards said about a LOST slice: samples before `resume` are applied everywhere, batches must be cut at
 * `cuts` (ascending; those outside (resume, end) are passed over). The slice is queued, or done when nothing is left.
 * LG_NOT_FOUND: no such lost slice. */
LG_MUST_CHECK enum lg_status leases_give_back(struct leases *leases, uint64_t lease, uint64_t resume,
                                              const uint64_t *cuts, size_t cut_count);

const struct slice *leases_find(const struct leases *leases, uint64_t lease);
size_t leases_held(const struct leases *leases, uint64_t holder);

/* Epochs of which every sample is done. */
uint64_t leases_epochs_complete(const struct leases *leases);
uint64_t leases_samples_total(const struct leases *leases);
uint64_t leases_samples_done(const struct leases *leases);
/* Samples that are not handed out: queued or not yet cut. */
uint64_t leases_samples_left(const struct leases *leases);
bool leases_trained(const struct leases *leases);  /* every sample of every epoch is done */
bool leases_finished(const struct leases *leases); /* and the last evaluation is in */

/* Is one due that nobody has taken? */
bool leases_evaluation_due(const struct leases *leases);
/* Evaluations: due after every `evaluate_every` complete epochs and after the last; one at a time. Returns the epochs
 * complete it is for, or 0 where none is due now; the position names its lease and fence. */
uint64_t leases_evaluation_take(struct leases *leases, uint64_t holder, uint64_t request);
/* LG_OK: taken down; LG_EXISTS: it had been reported already (a repeat); LG_FENCED: not this holder's any more. */
LG_MUST_CHECK enum lg_status leases_evaluation_done(struct leases *leases, uint64_t lease, uint64_t holder);

/* ---- rows for a store */

struct leases_visitor {
    void *context;
    void (*position)(void *context, const struct leases_position *position);
    void (*slice)(void *context, const struct slice *slice);
    void (*removed)(void *context, uint64_t lease);
};
/* Visits what changed since the last call and takes note that it was visited. */
void leases_changes(struct leases *leases, const struct leases_visitor *visitor);
/* Puts rows back after leases_init; cuts are copied. Rows that do not fit the configuration are refused. */
LG_MUST_CHECK enum lg_status leases_restore_position(struct leases *leases, const struct leases_position *position,
                                                     struct lg_error *error);
LG_MUST_CHECK enum lg_status leases_restore_slice(struct leases *leases, const struct slice *slice,
                                                  struct lg_error *error);

#endif
