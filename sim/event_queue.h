/* Events of a simulation in the order in which they happen: by time, and those of the same time first come, first
 * served. A binary heap; the order is total, so it depends on nothing but what was put in. */
#ifndef LAGOON_SIM_EVENT_QUEUE_H
#define LAGOON_SIM_EVENT_QUEUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct letter;

struct event {
    int64_t at_ns;
    uint64_t order; /* set by event_queue_push */
    uint16_t kind;  /* of whoever handles it */
    uint16_t slot;
    uint32_t worker, life;
    struct letter *letter; /* NULL: the event is no message */
};

/* Zeroed is empty. */
struct event_queue {
    struct event *heap;
    size_t count, capacity;
    uint64_t orders;
};

/* Letters of events still queued are freed. */
void event_queue_deinit(struct event_queue *queue);
/* False when there is no memory. */
bool event_queue_push(struct event_queue *queue, struct event event);
/* False when nothing is left. */
bool event_queue_pop(struct event_queue *queue, struct event *event);

#endif
