#include "worker/agent_lines.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Bytes of the well-formed UTF-8 character at `text` (RFC 3629, table 3-7 of Unicode), or 0. */
static size_t utf8_bytes(const unsigned char *text, size_t left) {
    unsigned char lead = text[0];
    size_t bytes = lead < 0x80 ? 1 : lead >= 0xC2 && lead < 0xE0 ? 2 : lead >= 0xE0 && lead < 0xF0 ? 3 : 4;
    if ((lead >= 0x80 && lead < 0xC2) || lead > 0xF4 || bytes > left)
        return 0;
    for (size_t i = 1; i < bytes; i++)
        if ((text[i] & 0xC0) != 0x80)
            return 0;
    bool over_long = (lead == 0xE0 && text[1] < 0xA0) || (lead == 0xF0 && text[1] < 0x90);
    bool surrogate = lead == 0xED && text[1] > 0x9F, too_large = lead == 0xF4 && text[1] > 0x8F;
    return over_long || surrogate || too_large ? 0 : bytes;
}

/* Makes `text` safe to show and to send. */
static void clean(char *text, size_t count) {
    for (size_t i = 0; i < count;) {
        unsigned char c = (unsigned char)text[i];
        size_t bytes = utf8_bytes((const unsigned char *)text + i, count - i);
        if (bytes == 0 || (c < 0x20 && c != '\t') || c == 0x7F)
            text[i] = '?';
        i += bytes ? bytes : 1;
    }
}

static void emit(struct line_splitter *splitter, line_fn *each, void *context) {
    size_t used = splitter->used;
    if (used > 0 && !splitter->cut && splitter->text[used - 1] == '\r')
        used--;
    clean(splitter->text, used);
    splitter->text[used] = '\0';
    if (splitter->cut)
        snprintf(splitter->text + used, sizeof splitter->text - used, " [cut]");
    each(context, splitter->text);
    splitter->used = 0;
    splitter->cut = false;
}

void line_splitter_feed(struct line_splitter *splitter, const char *bytes, size_t count, line_fn *each, void *context) {
    while (count > 0) {
        const char *newline = memchr(bytes, '\n', count);
        size_t here = newline ? (size_t)(newline - bytes) : count;
        size_t room = LINE_BYTES_MAX - splitter->used, taken = here < room ? here : room;
        memcpy(splitter->text + splitter->used, bytes, taken);
        splitter->used += taken;
        splitter->cut = splitter->cut || taken < here;
        if (newline)
            emit(splitter, each, context);
        bytes += here + (newline != NULL);
        count -= here + (newline != NULL);
    }
}

void line_splitter_flush(struct line_splitter *splitter, line_fn *each, void *context) {
    if (splitter->used > 0)
        emit(splitter, each, context);
}

/* ---- queue */

static struct queued_line *queue_at(const struct line_queue *queue, size_t at) {
    return (struct queued_line *)&queue->lines[(queue->first + at) % LINE_QUEUE_MAX];
}

void line_queue_remove(struct line_queue *queue, size_t count) {
    for (; count > 0 && queue->count > 0; count--, queue->count--) {
        free(queue->lines[queue->first].text);
        queue->first = (queue->first + 1) % LINE_QUEUE_MAX;
    }
}

void line_queue_deinit(struct line_queue *queue) {
    line_queue_remove(queue, queue->count);
}

void line_queue_add(struct line_queue *queue, uint64_t job, uint64_t trainer, const char *text) {
    char *copy = strdup(text);
    if (queue->count == LINE_QUEUE_MAX) {
        line_queue_remove(queue, 1);
        queue->dropped++;
    }
    if (!copy) {
        queue->dropped++;
        return;
    }
    *queue_at(queue, queue->count++) = (struct queued_line){job, trainer, copy};
}

size_t line_queue_peek(const struct line_queue *queue, const char **lines, size_t capacity, size_t bytes_max,
                       uint64_t *job, uint64_t *trainer) {
    size_t taken = 0, bytes = 0;
    for (; taken < queue->count && taken < capacity; taken++) {
        const struct queued_line *line = queue_at(queue, taken);
        bytes += strlen(line->text) + 8; /* and what encoding adds */
        if (taken == 0) {
            *job = line->job;
            *trainer = line->trainer;
        } else if (line->job != *job || line->trainer != *trainer || bytes > bytes_max) {
            break;
        }
        lines[taken] = line->text;
    }
    return taken;
}
