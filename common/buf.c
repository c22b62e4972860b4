#include "common/buf.h"

#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void buf_deinit(struct buf *buf) {
    free(buf->data);
    *buf = (struct buf){0};
}

void buf_clear(struct buf *buf) {
    buf->size = 0;
    buf->failed = false;
    if (buf->data)
        buf->data[0] = '\0';
}

bool buf_reserve(struct buf *buf, size_t more) {
    if (buf->failed)
        return false;
    if (more < buf->capacity && buf->size + more < buf->capacity) /* `<`: a NUL follows the bytes */
        return true;
    if (more > BUF_BYTES_MAX || buf->size + more > BUF_BYTES_MAX) {
        buf->failed = true;
        return false;
    }
    size_t wanted = buf->size + more + 1;
    size_t capacity = buf->capacity * 2 > 256 ? buf->capacity * 2 : 256;
    capacity = capacity < wanted ? wanted : capacity;
    char *grown = realloc(buf->data, capacity);
    if (!grown) {
        buf->failed = true;
        return false;
    }
    buf->data = grown;
    buf->capacity = capacity;
    return true;
}

void buf_append(struct buf *buf, const void *bytes, size_t count) {
    if (!buf_reserve(buf, count))
        return;
    if (count > 0)
        memcpy(buf->data + buf->size, bytes, count);
    buf->size += count;
    buf->data[buf->size] = '\0';
}

void buf_text(struct buf *buf, const char *text) {
    buf_append(buf, text, strlen(text));
}

void buf_char(struct buf *buf, char c) {
    buf_append(buf, &c, 1);
}

void buf_printf(struct buf *buf, const char *format, ...) {
    va_list args;
    va_start(args, format);
    buf_vprintf(buf, format, args);
    va_end(args);
}

void buf_vprintf(struct buf *buf, const char *format, va_list args) {
    va_list again;
    va_copy(again, args);
    int length = vsnprintf(NULL, 0, format, args);
    if (length < 0)
        buf->failed = true;
    else if (buf_reserve(buf, (size_t)length)) {
        vsnprintf(buf->data + buf->size, (size_t)length + 1, format, again);
        buf->size += (size_t)length;
    }
    va_end(again);
}

/* Bytes of the UTF-8 character at `text`, 0 where it is none (overlong forms, surrogates, beyond U+10FFFF). */
static size_t utf8_bytes(const unsigned char *text) {
    unsigned char first = text[0];
    size_t bytes = first < 0x80 ? 1 : first < 0xc2 ? 0 : first < 0xe0 ? 2 : first < 0xf0 ? 3 : first < 0xf5 ? 4 : 0;
    for (size_t i = 1; i < bytes; i++) {
        if ((text[i] & 0xc0) != 0x80)
            return 0;
    }
    if ((first == 0xe0 && text[1] < 0xa0) || (first == 0xed && text[1] > 0x9f) || (first == 0xf0 && text[1] < 0x90) ||
        (first == 0xf4 && text[1] > 0x8f))
        return 0;
    return bytes;
}

void buf_json_text(struct buf *buf, const char *text) {
    if (!text) {
        buf_text(buf, "null");
        return;
    }
    buf_char(buf, '"');
    for (const unsigned char *at = (const unsigned char *)text; *at;) {
        size_t bytes = utf8_bytes(at);
        if (*at == '"' || *at == '\\')
            buf_printf(buf, "\\%c", *at);
        else if (*at < 0x20 || *at == 0x7f)
            buf_printf(buf, "\\u%04x", *at);
        else if (bytes == 0)
            buf_text(buf, "\xef\xbf\xbd");
        else
            buf_append(buf, at, bytes);
        at += bytes ? bytes : 1;
    }
    buf_char(buf, '"');
}

void buf_json_number(struct buf *buf, double number) {
    char text[40];
    if (!isfinite(number)) {
        buf_text(buf, "null");
        return;
    }
    snprintf(text, sizeof text, "%.9g", number);
    if (strtod(text, NULL) != number)
        snprintf(text, sizeof text, "%.17g", number);
    buf_text(buf, text);
}

const char *buf_string(const struct buf *buf) {
    return buf->data ? buf->data : "";
}

char *buf_take(struct buf *buf) {
    char *data = NULL;
    if (!buf->failed && buf_reserve(buf, 0)) {
        data = buf->data;
        data[buf->size] = '\0';
        buf->data = NULL;
    }
    buf_deinit(buf);
    return data;
}

enum lg_status buf_check(const struct buf *buf, struct lg_error *error) {
    if (buf->failed)
        return lg_fail(error, LG_NO_MEMORY, "no memory for a text of more than %zu bytes", buf->size);
    return LG_OK;
}
