/* Which samples of which data epoch each unit of a job has consumed on this shard: what makes leased data count exactly
 * once, whoever sends it and how often.
 *
 * Units are the job's local ones, numbered 0 .. unit_count - 1. An epoch is open until every unit has consumed all of
 * its samples; then its sets fold into one row. */
#ifndef LAGOON_SERVER_LEDGER_H
#define LAGOON_SERVER_LEDGER_H

#include "common/status.h"
#include "proto/wire.h"
#include "server/intervals.h"

enum {
    LEDGER_OPEN_MAX = 64,                                /* epochs with work out; a few in practice */
    LEDGER_FOLDED_MAX = WIRE_ROWS_MAX - LEDGER_OPEN_MAX, /* older rows are forgotten, their epochs stay complete */
    LEDGER_INTERVALS_MAX = 4096                          /* per epoch and unit: every lease out makes one */
};

struct ledger_unit {
    struct intervals consumed;
    uint64_t applied, dropped; /* samples */
};

struct ledger_epoch {
    uint64_t epoch;
    uint32_t complete; /* units that have consumed everything */
    struct ledger_unit *units;
};

struct ledger {
    uint32_t unit_count;
    uint64_t samples;                          /* of one epoch; 0: unknown, epochs are never complete */
    struct ledger_epoch open[LEDGER_OPEN_MAX]; /* ascending by epoch */
    uint32_t open_count;
    struct wire_ledger_row *folded; /* [LEDGER_FOLDED_MAX], ascending by epoch */
    uint32_t folded_count;
    uint64_t complete_below; /* epochs below it that are neither open nor folded were complete */
};

LG_MUST_CHECK enum lg_status ledger_init(struct ledger *ledger, uint32_t unit_count, uint64_t samples,
                                         struct lg_error *error);
void ledger_deinit(struct ledger *ledger);

/* Ranges within the epoch, in order, not overlapping each other. Covers without a lease are left out of all counts. */
LG_MUST_CHECK enum lg_status ledger_check(const struct ledger *ledger, const struct wire_cover *covers, size_t count,
                                          struct lg_error *error);
/* How much of the leased covers the unit has consumed; INTERVALS_NONE when nothing is leased. */
enum intervals_overlap ledger_overlap(const struct ledger *ledger, uint32_t unit, const struct wire_cover *covers,
                                      size_t count);
/* Opens the covers' epochs and takes room for the marks of one unit; LG_UNAVAILABLE or LG_NO_MEMORY where it cannot. */
LG_MUST_CHECK enum lg_status ledger_reserve(struct ledger *ledger, uint32_t unit, const struct wire_cover *covers,
                                            size_t count, struct lg_error *error);
/* The unit consumes covers of which it has consumed nothing; room is reserved. */
void ledger_mark(struct ledger *ledger, uint32_t unit, const struct wire_cover *covers, size_t count, bool dropped);
/* Folds epochs that all units have completed. Call after the marks of a part. */
void ledger_fold(struct ledger *ledger);

/* Adds the unit's edges strictly inside the leased covers to the ascending set cuts[*cut_count]. */
void ledger_cuts(const struct ledger *ledger, uint32_t unit, const struct wire_cover *covers, size_t count,
                 uint64_t *cuts, size_t capacity, size_t *cut_count);
/* Every edge of any unit in [first, end], ascending, the least `capacity` of them; returns how many were written (none
 * for an epoch that is complete or was never begun).
 * *resume: the least position of [first, end] that some unit has not consumed. */
size_t ledger_marks(const struct ledger *ledger, uint64_t epoch, uint64_t first, uint64_t end, uint64_t *marks,
                    size_t capacity, uint64_t *resume);
/* One row per epoch, ascending; rows has room for WIRE_ROWS_MAX. */
size_t ledger_rows(const struct ledger *ledger, struct wire_ledger_row *rows);

#endif
