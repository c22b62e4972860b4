#include "worker/datasets/input.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <xxhash.h>
#include <zlib.h>

enum { CHUNK_BYTES = 256 << 10 };

bool input_grow(void *buffer, size_t *capacity, size_t need, size_t size) {
    void **slot = buffer;
    if (need <= *capacity)
        return true;
    size_t wanted = *capacity + *capacity / 2;
    wanted = wanted < need ? need : wanted;
    wanted = wanted < 16 ? 16 : wanted;
    void *grown = wanted > SIZE_MAX / size ? NULL : realloc(*slot, wanted * size);
    if (!grown)
        return false;
    *slot = grown;
    *capacity = wanted;
    return true;
}

enum lg_status input_open(struct input *input, const char *path, const char *option, struct lg_error *error) {
    *input = (struct input){.name = path};
    struct stat info;
    if (stat(path, &info) != 0) {
        int code = errno;
        return lg_fail(error, code == ENOENT ? LG_NOT_FOUND : LG_IO,
                       "cannot open \"%s\": %s; set \"%s\" to a file that is there (a relative path starts where the "
                       "worker was started)",
                       path, strerror(code), option);
    }
    if (!S_ISREG(info.st_mode))
        return lg_fail(error, LG_INVALID, "cannot read \"%s\": not a regular file; set \"%s\" to a file", path, option);
    input->file = gzopen(path, "rbe");
    input->chunk = malloc(CHUNK_BYTES);
    if (!input->file || !input->chunk) {
        int code = errno;
        input_close(input);
        return lg_fail(error, LG_IO, "cannot open \"%s\": %s; check \"%s\" and its permissions", path, strerror(code),
                       option);
    }
    input->window = input->chunk;
    return LG_OK;
}

void input_open_memory(struct input *input, const char *name, const void *bytes, size_t count) {
    *input = (struct input){.name = name, .window = bytes, .window_bytes = count};
}

void input_close(struct input *input) {
    if (input->file)
        gzclose(input->file);
    free(input->chunk);
    free(input->text);
    *input = (struct input){0};
}

/* Refills an empty window; at the end of the input it stays empty. */
static enum lg_status refill(struct input *input, struct lg_error *error) {
    if (input->at < input->window_bytes || !input->file)
        return LG_OK;
    input->at = input->window_bytes = 0;
    int got = gzread(input->file, input->chunk, CHUNK_BYTES);
    int code = Z_OK;
    const char *why = gzerror(input->file, &code);
    if (got < 0 || code == Z_BUF_ERROR || code == Z_DATA_ERROR)
        return lg_fail(error, LG_MALFORMED,
                       "\"%s\" cannot be read beyond byte %llu: %s; the file is damaged or cut short, fetch it again",
                       input->name, (unsigned long long)input->offset, why);
    input->window_bytes = (size_t)got;
    return LG_OK;
}

enum lg_status input_read(struct input *input, void *bytes, size_t count, size_t *got, struct lg_error *error) {
    uint8_t *to = bytes;
    *got = 0;
    while (*got < count) {
        enum lg_status status = refill(input, error);
        if (status != LG_OK)
            return status;
        size_t here = input->window_bytes - input->at;
        if (here == 0)
            break;
        here = here < count - *got ? here : count - *got;
        memcpy(to + *got, input->window + input->at, here);
        input->at += here;
        input->offset += here;
        *got += here;
    }
    return LG_OK;
}

enum lg_status input_read_all(struct input *input, uint64_t most, uint8_t **bytes, size_t *count,
                              struct lg_error *error) {
    uint8_t *data = NULL;
    size_t size = 0, capacity = 0;
    enum lg_status status = LG_OK;
    for (;;) {
        size_t want = CHUNK_BYTES, got = 0;
        if (most - size < want)
            want = (size_t)(most - size);
        if (!input_grow(&data, &capacity, size + want + 1, 1)) {
            status = lg_fail(error, LG_NO_MEMORY, "no memory for \"%s\" beyond its first %zu bytes", input->name, size);
            break;
        }
        status = input_read(input, data + size, want, &got, error);
        size += got;
        if (status != LG_OK || got < want || size == most)
            break;
    }
    if (status != LG_OK) {
        free(data);
        data = NULL;
        size = 0;
    }
    *bytes = data;
    *count = size;
    return status;
}

/* Appends what the window holds of the current line; true when its end was among it. */
static enum lg_status take_line_part(struct input *input, size_t *length, bool *ended, struct lg_error *error) {
    const uint8_t *from = input->window + input->at;
    size_t here = input->window_bytes - input->at;
    const uint8_t *end = memchr(from, '\n', here);
    size_t part = end ? (size_t)(end - from) : here;
    if (*length + part > INPUT_LINE_BYTES_MAX)
        return input_fail(input, LG_MALFORMED, error, "longer than %d bytes; is this a text file with lines?",
                          INPUT_LINE_BYTES_MAX);
    if (!input_grow(&input->text, &input->text_capacity, *length + part + 1, 1))
        return input_fail(input, LG_NO_MEMORY, error, "no memory for the line");
    memcpy(input->text + *length, from, part);
    *length += part;
    *ended = end != NULL;
    input->at += part + (end != NULL);
    input->offset += part + (end != NULL);
    return LG_OK;
}

enum lg_status input_next_line(struct input *input, char **line, struct lg_error *error) {
    size_t length = 0;
    bool ended = false, any = false;
    *line = NULL;
    input->line++;
    while (!ended) {
        enum lg_status status = refill(input, error);
        if (status != LG_OK)
            return status;
        if (input->at == input->window_bytes)
            break;
        any = true;
        status = take_line_part(input, &length, &ended, error);
        if (status != LG_OK)
            return status;
    }
    if (!any)
        return LG_OK;
    if (memchr(input->text, '\0', length))
        return input_fail(input, LG_MALFORMED, error, "has a NUL byte; expected text");
    if (length > 0 && input->text[length - 1] == '\r')
        length--;
    input->text[length] = '\0';
    *line = input->text;
    return LG_OK;
}

enum lg_status input_fail(const struct input *input, enum lg_status status, struct lg_error *error, const char *format,
                          ...) {
    char detail[320];
    va_list args;
    va_start(args, format);
    vsnprintf(detail, sizeof detail, format, args);
    va_end(args);
    return lg_fail(error, status, "\"%.120s\" line %llu: %s", input->name, (unsigned long long)input->line, detail);
}

/* Numbers of up to 15 digits with at most 15 behind the point, no exponent: exact in a double, and several times
 * faster than strtod. */
static bool plain_number(const char *text, double *number) {
    static const double power[] = {1e0, 1e1, 1e2,  1e3,  1e4,  1e5,  1e6,  1e7,
                                   1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15};
    bool minus = *text == '-';
    const char *at = text + (minus || *text == '+');
    int64_t value = 0;
    int digits = 0, behind = 0;
    for (; *at >= '0' && *at <= '9' && digits < 16; at++, digits++)
        value = value * 10 + (*at - '0');
    if (*at == '.') {
        for (at++; *at >= '0' && *at <= '9' && digits < 16; at++, digits++, behind++)
            value = value * 10 + (*at - '0');
    }
    if (*at != '\0' || digits == 0 || digits > 15)
        return false;
    *number = (double)value / power[behind];
    if (minus)
        *number = -*number;
    return true;
}

enum lg_status input_number(const char *text, float *number) {
    double value = 0;
    if (!plain_number(text, &value)) {
        const char *digits = text + (*text == '-' || *text == '+');
        bool hex = digits[0] == '0' && (digits[1] == 'x' || digits[1] == 'X');
        char *end = NULL;
        if (*text == '\0' || *text == ' ' || *text == '\t' || hex)
            return LG_MALFORMED;
        value = strtod(text, &end);
        if (*end != '\0')
            return LG_MALFORMED;
    }
    *number = (float)value;
    return isfinite(*number) ? LG_OK : LG_NONFINITE;
}

uint64_t fingerprint_bytes(uint64_t fingerprint, const void *bytes, size_t count) {
    return XXH3_64bits_withSeed(bytes, count, fingerprint);
}

uint64_t fingerprint_number(uint64_t fingerprint, double number) {
    return XXH3_64bits_withSeed(&number, sizeof number, fingerprint);
}
