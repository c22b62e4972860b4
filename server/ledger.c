#include "server/ledger.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

enum lg_status ledger_init(struct ledger *ledger, uint32_t unit_count, uint64_t samples, struct lg_error *error) {
    *ledger = (struct ledger){.unit_count = unit_count, .samples = samples};
    ledger->folded = calloc(LEDGER_FOLDED_MAX, sizeof *ledger->folded);
    if (!ledger->folded)
        return lg_fail(error, LG_NO_MEMORY, "no memory for a ledger");
    return LG_OK;
}

static void epoch_free(struct ledger *ledger, struct ledger_epoch *epoch) {
    for (uint32_t i = 0; i < ledger->unit_count; i++)
        intervals_deinit(&epoch->units[i].consumed);
    free(epoch->units);
}

void ledger_deinit(struct ledger *ledger) {
    for (uint32_t i = 0; i < ledger->open_count; i++)
        epoch_free(ledger, &ledger->open[i]);
    free(ledger->folded);
    *ledger = (struct ledger){0};
}

/* ---- finding epochs */

static struct ledger_epoch *ledger_open_epoch(const struct ledger *ledger, uint64_t epoch) {
    for (uint32_t i = 0; i < ledger->open_count; i++)
        if (ledger->open[i].epoch == epoch)
            return (struct ledger_epoch *)&ledger->open[i];
    return NULL;
}

/* True for an epoch that every unit has consumed; open epochs are not complete. */
static bool ledger_complete(const struct ledger *ledger, uint64_t epoch) {
    if (epoch < ledger->complete_below)
        return ledger_open_epoch(ledger, epoch) == NULL;
    for (uint32_t i = ledger->folded_count; i > 0; i--)
        if (ledger->folded[i - 1].epoch == epoch)
            return true;
    return false;
}

static enum lg_status ledger_open(struct ledger *ledger, uint64_t epoch, struct lg_error *error) {
    if (ledger_open_epoch(ledger, epoch))
        return LG_OK;
    if (ledger->open_count == LEDGER_OPEN_MAX)
        return lg_fail(error, LG_UNAVAILABLE, "%d epochs are unfinished: finish one before epoch %llu begins",
                       LEDGER_OPEN_MAX, (unsigned long long)epoch);
    struct ledger_unit *units = calloc(ledger->unit_count ? ledger->unit_count : 1, sizeof *units);
    if (!units)
        return lg_fail(error, LG_NO_MEMORY, "no memory for the ledger of epoch %llu", (unsigned long long)epoch);
    uint32_t at = ledger->open_count;
    while (at > 0 && ledger->open[at - 1].epoch > epoch)
        at--;
    memmove(&ledger->open[at + 1], &ledger->open[at], (ledger->open_count - at) * sizeof *ledger->open);
    ledger->open[at] = (struct ledger_epoch){.epoch = epoch, .units = units};
    ledger->open_count++;
    return LG_OK;
}

/* ---- covers */

static bool overlap_each_other(const struct wire_cover *a, const struct wire_cover *b) {
    return b->lease != 0 && a->epoch == b->epoch && a->first < b->end && b->first < a->end;
}

enum lg_status ledger_check(const struct ledger *ledger, const struct wire_cover *covers, size_t count,
                            struct lg_error *error) {
    for (size_t i = 0; i < count; i++) {
        const struct wire_cover *cover = &covers[i];
        if (cover->lease == 0)
            continue;
        if (cover->first >= cover->end || (ledger->samples > 0 && cover->end > ledger->samples))
            return lg_fail(error, LG_INVALID, "samples [%llu, %llu) are not a range within an epoch of %llu",
                           (unsigned long long)cover->first, (unsigned long long)cover->end,
                           (unsigned long long)ledger->samples);
        for (size_t k = 0; k < i; k++)
            if (overlap_each_other(cover, &covers[k]))
                return lg_fail(error, LG_INVALID, "two covers of one push share samples from %llu on",
                               (unsigned long long)(cover->first > covers[k].first ? cover->first : covers[k].first));
    }
    return LG_OK;
}

static enum intervals_overlap cover_overlap(const struct ledger *ledger, uint32_t unit,
                                            const struct wire_cover *cover) {
    const struct ledger_epoch *epoch = ledger_open_epoch(ledger, cover->epoch);
    if (epoch)
        return intervals_overlap(&epoch->units[unit].consumed, cover->first, cover->end);
    return ledger_complete(ledger, cover->epoch) ? INTERVALS_ALL : INTERVALS_NONE;
}

enum intervals_overlap ledger_overlap(const struct ledger *ledger, uint32_t unit, const struct wire_cover *covers,
                                      size_t count) {
    assert(unit < ledger->unit_count);
    bool none = false, all = false;
    for (size_t i = 0; i < count; i++) {
        enum intervals_overlap overlap =
            covers[i].lease == 0 ? INTERVALS_NONE : cover_overlap(ledger, unit, &covers[i]);
        if (overlap == INTERVALS_PARTLY)
            return INTERVALS_PARTLY;
        none = none || overlap == INTERVALS_NONE;
        all = all || overlap == INTERVALS_ALL;
    }
    return none && all ? INTERVALS_PARTLY : all ? INTERVALS_ALL : INTERVALS_NONE;
}

enum lg_status ledger_reserve(struct ledger *ledger, uint32_t unit, const struct wire_cover *covers, size_t count,
                              struct lg_error *error) {
    for (size_t i = 0; i < count; i++) {
        if (covers[i].lease == 0)
            continue;
        enum lg_status status = ledger_open(ledger, covers[i].epoch, error);
        if (status != LG_OK)
            return status;
        struct intervals *consumed = &ledger_open_epoch(ledger, covers[i].epoch)->units[unit].consumed;
        if (consumed->count + count > LEDGER_INTERVALS_MAX)
            return lg_fail(error, LG_UNAVAILABLE, "epoch %llu is in more than %d pieces: finish some leases first",
                           (unsigned long long)covers[i].epoch, LEDGER_INTERVALS_MAX);
        if (!intervals_reserve(consumed, (uint32_t)count))
            return lg_fail(error, LG_NO_MEMORY, "no memory for the ledger of epoch %llu",
                           (unsigned long long)covers[i].epoch);
    }
    return LG_OK;
}

void ledger_mark(struct ledger *ledger, uint32_t unit, const struct wire_cover *covers, size_t count, bool dropped) {
    for (size_t i = 0; i < count; i++) {
        if (covers[i].lease == 0)
            continue;
        struct ledger_epoch *epoch = ledger_open_epoch(ledger, covers[i].epoch);
        assert(epoch && unit < ledger->unit_count);
        struct ledger_unit *entry = &epoch->units[unit];
        intervals_add(&entry->consumed, covers[i].first, covers[i].end);
        *(dropped ? &entry->dropped : &entry->applied) += covers[i].end - covers[i].first;
        if (entry->applied + entry->dropped == ledger->samples)
            epoch->complete++;
    }
}

/* ---- folding */

static struct wire_ledger_row epoch_row(const struct ledger *ledger, const struct ledger_epoch *epoch) {
    struct wire_ledger_row row = {.epoch = epoch->epoch, .samples_least = UINT64_MAX};
    for (uint32_t i = 0; i < ledger->unit_count; i++) {
        const struct ledger_unit *unit = &epoch->units[i];
        row.samples_least = unit->applied < row.samples_least ? unit->applied : row.samples_least;
        row.samples_most = unit->applied > row.samples_most ? unit->applied : row.samples_most;
        row.dropped = unit->dropped > row.dropped ? unit->dropped : row.dropped;
    }
    return row;
}

static void ledger_keep_row(struct ledger *ledger, struct wire_ledger_row row) {
    if (ledger->folded_count == LEDGER_FOLDED_MAX) {
        uint64_t forgotten = ledger->folded[0].epoch;
        if (ledger->complete_below <= forgotten)
            ledger->complete_below = forgotten + 1;
        memmove(&ledger->folded[0], &ledger->folded[1], (LEDGER_FOLDED_MAX - 1) * sizeof *ledger->folded);
        ledger->folded_count--;
    }
    uint32_t at = ledger->folded_count;
    for (; at > 0 && ledger->folded[at - 1].epoch > row.epoch; at--)
        ledger->folded[at] = ledger->folded[at - 1];
    ledger->folded[at] = row;
    ledger->folded_count++;
}

void ledger_fold(struct ledger *ledger) {
    for (uint32_t i = 0; i < ledger->open_count;) {
        struct ledger_epoch *epoch = &ledger->open[i];
        if (ledger->samples == 0 || epoch->complete < ledger->unit_count) {
            i++;
            continue;
        }
        ledger_keep_row(ledger, epoch_row(ledger, epoch));
        epoch_free(ledger, epoch);
        ledger->open_count--;
        memmove(epoch, epoch + 1, (ledger->open_count - i) * sizeof *epoch);
    }
}

size_t ledger_rows(const struct ledger *ledger, struct wire_ledger_row *rows) {
    size_t count = 0;
    uint32_t folded = 0, open = 0;
    while (folded < ledger->folded_count || open < ledger->open_count) {
        bool take_folded = open == ledger->open_count ||
                           (folded < ledger->folded_count && ledger->folded[folded].epoch < ledger->open[open].epoch);
        rows[count++] = take_folded ? ledger->folded[folded++] : epoch_row(ledger, &ledger->open[open++]);
    }
    return count;
}

/* ---- marks and cuts */

/* Adds `value` to the ascending set; when it is full the greatest falls out. */
static void set_add(uint64_t *set, size_t capacity, size_t *count, uint64_t value) {
    size_t at = *count;
    while (at > 0 && set[at - 1] > value)
        at--;
    if ((at > 0 && set[at - 1] == value) || at == capacity)
        return;
    size_t kept = *count < capacity ? *count : capacity - 1;
    memmove(&set[at + 1], &set[at], (kept - at) * sizeof *set);
    set[at] = value;
    *count = kept + 1;
}

static void add_edges(const struct intervals *consumed, uint64_t first, uint64_t end, uint64_t *set, size_t capacity,
                      size_t *count) {
    for (uint32_t i = 0; i < consumed->count && consumed->items[i].first <= end; i++) {
        const uint64_t edges[2] = {consumed->items[i].first, consumed->items[i].end};
        for (int k = 0; k < 2; k++)
            if (edges[k] >= first && edges[k] <= end)
                set_add(set, capacity, count, edges[k]);
    }
}

void ledger_cuts(const struct ledger *ledger, uint32_t unit, const struct wire_cover *covers, size_t count,
                 uint64_t *cuts, size_t capacity, size_t *cut_count) {
    for (size_t i = 0; i < count; i++) {
        const struct ledger_epoch *epoch = ledger_open_epoch(ledger, covers[i].epoch);
        if (covers[i].lease != 0 && epoch && covers[i].end - covers[i].first >= 2)
            add_edges(&epoch->units[unit].consumed, covers[i].first + 1, covers[i].end - 1, cuts, capacity, cut_count);
    }
}

size_t ledger_marks(const struct ledger *ledger, uint64_t epoch, uint64_t first, uint64_t end, uint64_t *marks,
                    size_t capacity, uint64_t *resume) {
    size_t count = 0;
    const struct ledger_epoch *open = ledger_open_epoch(ledger, epoch);
    *resume = end;
    if (!open) {
        bool all = ledger->unit_count == 0 || ledger_complete(ledger, epoch);
        if (!all)
            *resume = first;
        return 0;
    }
    for (uint32_t i = 0; i < ledger->unit_count; i++) {
        const struct intervals *consumed = &open->units[i].consumed;
        add_edges(consumed, first, end, marks, capacity, &count);
        uint64_t gap = intervals_gap(consumed, first, end);
        *resume = gap < *resume ? gap : *resume;
    }
    return count;
}
