#include "sim/event_queue.h"

#include <stdlib.h>

#include "sim/letter.h"

void event_queue_deinit(struct event_queue *queue) {
    for (size_t i = 0; i < queue->count; i++)
        letter_free(queue->heap[i].letter);
    free(queue->heap);
    *queue = (struct event_queue){0};
}

static bool before(const struct event *a, const struct event *b) {
    return a->at_ns != b->at_ns ? a->at_ns < b->at_ns : a->order < b->order;
}

bool event_queue_push(struct event_queue *queue, struct event event) {
    if (queue->count == queue->capacity) {
        size_t capacity = queue->capacity ? 2 * queue->capacity : 256;
        struct event *heap = realloc(queue->heap, capacity * sizeof *heap);
        if (!heap)
            return false;
        queue->heap = heap;
        queue->capacity = capacity;
    }
    event.order = ++queue->orders;
    size_t at = queue->count++;
    for (; at > 0 && before(&event, &queue->heap[(at - 1) / 2]); at = (at - 1) / 2)
        queue->heap[at] = queue->heap[(at - 1) / 2];
    queue->heap[at] = event;
    return true;
}

bool event_queue_pop(struct event_queue *queue, struct event *event) {
    if (queue->count == 0)
        return false;
    *event = queue->heap[0];
    const struct event last = queue->heap[--queue->count];
    size_t at = 0;
    for (size_t child = 1; child < queue->count; child = 2 * at + 1) {
        if (child + 1 < queue->count && before(&queue->heap[child + 1], &queue->heap[child]))
            child++;
        if (!before(&queue->heap[child], &last))
            break;
        queue->heap[at] = queue->heap[child];
        at = child;
    }
    queue->heap[at] = last;
    return true;
}
