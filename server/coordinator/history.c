/* Lines for people: what happened to a job (kept in the database), and what its trainers wrote (kept in memory). Both
 * are bounded: the oldest lines go. */
#include <stdlib.h>
#include <string.h>

#include "common/log.h"
#include "server/coordinator/core.h"

const struct line *line_ring_at(const struct line_ring *ring, size_t index) {
    return &ring->lines[(ring->first + index) % ring->capacity];
}

/* Doubles the room, oldest line first. */
static bool grow(struct line_ring *ring) {
    size_t capacity = ring->capacity ? 2 * ring->capacity : 16;
    if (capacity > ring->limit)
        capacity = ring->limit;
    struct line *lines = calloc(capacity, sizeof *lines);
    if (!lines)
        return false;
    for (size_t i = 0; i < ring->count; i++)
        lines[i] = *line_ring_at(ring, i);
    free(ring->lines);
    ring->lines = lines;
    ring->first = 0;
    ring->capacity = capacity;
    return true;
}

/* Appends as number ring->next. `dropped` gets the number of the line that went for it, or UINT64_MAX. */
bool line_ring_add(struct line_ring *ring, uint64_t trainer, int64_t at_ms, const char *text, uint64_t *dropped) {
    *dropped = UINT64_MAX;
    const size_t bytes = strnlen(text, CORE_LINE_BYTES) + 1;
    char *copy = malloc(bytes);
    if (!copy || (ring->count == ring->capacity && ring->capacity < ring->limit && !grow(ring))) {
        free(copy);
        return false;
    }
    core_copy(copy, bytes, text);
    if (ring->count == ring->capacity) {
        struct line *oldest = &ring->lines[ring->first];
        *dropped = oldest->seq;
        free(oldest->text);
        ring->first = (ring->first + 1) % ring->capacity;
        ring->count--;
    }
    ring->lines[(ring->first + ring->count) % ring->capacity] =
        (struct line){.seq = ring->next++, .trainer = trainer, .at_ms = at_ms, .text = copy};
    ring->count++;
    return true;
}

void line_ring_free(struct line_ring *ring) {
    for (size_t i = 0; i < ring->count; i++)
        free(line_ring_at(ring, i)->text);
    free(ring->lines);
    ring->lines = NULL;
    ring->count = ring->capacity = ring->first = 0;
}

void history_add(struct coordinator *core, struct job *job, const char *format, ...) {
    char whole[CORE_LINE_BYTES + 4], text[CORE_LINE_BYTES];
    uint64_t dropped;
    va_list args;
    va_start(args, format);
    vsnprintf(whole, sizeof whole, format, args);
    va_end(args);
    core_copy(text, sizeof text, whole); /* cuts between characters */
    uint64_t seq = job->history.next;
    log_info("job", "%s: %s", job->name, text);
    if (!line_ring_add(&job->history, 0, core->now.wall_ms, text, &dropped))
        return;
    core_put(core, STORE_TABLE_HISTORY, &(struct store_history){job->id, seq, (uint64_t)core->now.wall_ms, text});
    if (dropped != UINT64_MAX)
        core_remove(core, STORE_TABLE_HISTORY, &(struct store_history){.job = job->id, .seq = dropped});
}

/* Lines of a trainer, or of its agent about it. Lost lines are lost: nobody waits for an answer. */
void history_log(struct coordinator *core, const struct coordinator_input *input) {
    const struct wire_log *log = &input->message->log;
    const struct trainer *trainer = trainer_find(core, log->trainer);
    struct job *job = job_find(core, log->job ? log->job : trainer ? trainer->job : 0);
    uint64_t dropped;
    for (size_t i = 0; job && i < log->line_count; i++)
        line_ring_add(&job->log, log->trainer, core->now.wall_ms, log->lines[i], &dropped);
    if (input->message->request)
        core_ack(core, input, job ? LG_OK : LG_NOT_FOUND, "%s", job ? "" : "no such job");
}
