/* Text of trainers on its way to a log: bytes into lines, and lines into batches for the coordinator. */
#ifndef LAGOON_WORKER_AGENT_LINES_H
#define LAGOON_WORKER_AGENT_LINES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    LINE_BYTES_MAX = 1024, /* what is longer is cut, and says so */
    LINE_QUEUE_MAX = 1024, /* lines that wait for a coordinator that is away: at most 1 MiB */
};

typedef void line_fn(void *context, const char *line);

/* Zeroed is empty. */
struct line_splitter {
    char text[LINE_BYTES_MAX + 16];
    size_t used;
    bool cut; /* the rest of this line is left out */
};

/* Calls `each` for every whole line in `bytes`, without its newline (and a carriage return before it). Control
 * characters but tabs, and bytes that are no UTF-8, become '?'. */
void line_splitter_feed(struct line_splitter *splitter, const char *bytes, size_t count, line_fn *each, void *context);
/* The last line, when it had no newline. */
void line_splitter_flush(struct line_splitter *splitter, line_fn *each, void *context);

struct queued_line {
    uint64_t job, trainer;
    char *text;
};

/* A bounded queue. When it is full the oldest line goes, and the queue remembers how many went. Zeroed is empty. */
struct line_queue {
    struct queued_line lines[LINE_QUEUE_MAX];
    size_t first, count;
    uint64_t dropped; /* since line_queue_take_dropped */
};

void line_queue_deinit(struct line_queue *queue);
void line_queue_add(struct line_queue *queue, uint64_t job, uint64_t trainer, const char *text);
/* The next lines that belong to one trainer: at most `capacity`, and `bytes_max` of text. Borrowed until they are
 * removed by line_queue_remove. */
size_t line_queue_peek(const struct line_queue *queue, const char **lines, size_t capacity, size_t bytes_max,
                       uint64_t *job, uint64_t *trainer);
void line_queue_remove(struct line_queue *queue, size_t count);

#endif
