/* A growing buffer of bytes or text.
 *
 * Appending never fails loudly: when memory runs out (or the text would pass BUF_BYTES_MAX) `failed` is set, the
 * buffer stays as it was and later appends do nothing, so that a writer checks once, at the end. A zeroed struct is an
 * empty buffer. Not thread-safe. */
#ifndef LAGOON_COMMON_BUF_H
#define LAGOON_COMMON_BUF_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>

#include "common/status.h"

/* No text or message that is built here comes near this; a runaway writer stops at it. */
#define BUF_BYTES_MAX ((size_t)1 << 30)

struct buf {
    char *data; /* `size` bytes, then a NUL once anything was appended; NULL before that */
    size_t size, capacity;
    bool failed;
};

void buf_deinit(struct buf *buf); /* frees; the buffer is empty and usable afterwards */
void buf_clear(struct buf *buf);  /* empty again, memory kept, `failed` reset */

/* Makes room for `more` bytes beyond `size`; false (and `failed`) when it cannot. */
bool buf_reserve(struct buf *buf, size_t more);
void buf_append(struct buf *buf, const void *bytes, size_t count);
void buf_text(struct buf *buf, const char *text);
void buf_char(struct buf *buf, char c);
void buf_printf(struct buf *buf, const char *format, ...) LG_PRINTF(2, 3);
void buf_vprintf(struct buf *buf, const char *format, va_list args) LG_PRINTF(2, 0);
/* `text` as a JSON string, quotes included; bytes that are no UTF-8 become U+FFFD. NULL gives null. */
void buf_json_text(struct buf *buf, const char *text);
/* A number as JSON: shortest of %.9g and %.17g that reads back equal; NaN and infinities give null. */
void buf_json_number(struct buf *buf, double number);

/* The text so far, NUL-terminated, "" when empty; borrowed until the next append. */
const char *buf_string(const struct buf *buf);
/* Hands the memory to the caller (free) and leaves the buffer empty; NULL when it had failed. */
char *buf_take(struct buf *buf);
/* LG_NO_MEMORY when an append had failed. */
LG_MUST_CHECK enum lg_status buf_check(const struct buf *buf, struct lg_error *error);

#endif
