#include "worker/trainer_ranges.h"

#include <stdlib.h>

void range_queue_deinit(struct range_queue *queue) {
    free(queue->ranges);
    *queue = (struct range_queue){0};
}

static enum lg_status push(struct range_queue *queue, uint64_t first, uint64_t end, struct lg_error *error) {
    if (queue->count == queue->capacity) {
        size_t capacity = queue->capacity ? 2 * queue->capacity : 16;
        void *grown = realloc(queue->ranges, capacity * sizeof *queue->ranges);
        if (!grown)
            return lg_fail(error, LG_NO_MEMORY, "no memory for the pieces of a lease");
        queue->ranges = grown;
        queue->capacity = capacity;
    }
    queue->ranges[queue->count++] = (struct sample_range){first, end};
    return LG_OK;
}

/* The largest of `cuts` inside (first, end), or `first`. */
static uint64_t last_cut(uint64_t first, uint64_t end, const uint64_t *cuts, size_t cut_count) {
    uint64_t last = first;
    for (size_t i = 0; i < cut_count; i++)
        if (cuts[i] > last && cuts[i] < end)
            last = cuts[i];
    return last;
}

enum lg_status range_queue_put(struct range_queue *queue, uint64_t first, uint64_t end, const uint64_t *cuts,
                               size_t cut_count, struct lg_error *error) {
    while (end > first) { /* from the back, so that the first piece ends up on top */
        uint64_t cut = last_cut(first, end, cuts, cut_count);
        enum lg_status status = push(queue, cut, end, error);
        if (status != LG_OK)
            return status;
        end = cut;
    }
    return LG_OK;
}

bool range_queue_take(struct range_queue *queue, uint64_t batch, struct sample_range *out) {
    if (queue->count == 0)
        return false;
    struct sample_range *top = &queue->ranges[queue->count - 1];
    *out = *top;
    if (out->end - out->first > batch)
        out->end = out->first + batch;
    top->first = out->end;
    if (top->first == top->end)
        queue->count--;
    return true;
}
