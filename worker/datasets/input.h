/* What dataset readers read from: a file (plain or gzip) or bytes in memory, so that tests and fuzzers drive the very
 * same parsers. Memory grows with what is really there, never with what a header claims. */
#ifndef LAGOON_WORKER_DATASETS_INPUT_H
#define LAGOON_WORKER_DATASETS_INPUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/status.h"

enum { INPUT_LINE_BYTES_MAX = 16 << 20 };

struct input {
    const char *name;        /* for messages; borrowed */
    void *file;              /* gzFile; NULL when reading memory */
    const uint8_t *window;   /* the bytes at hand ... */
    size_t window_bytes, at; /* ... of which `at` are consumed */
    uint8_t *chunk;          /* the window's memory when reading a file */
    uint64_t offset;         /* bytes consumed so far, after decompression */
    uint64_t line;           /* number of the line last returned, from 1 */
    char *text;              /* that line */
    size_t text_capacity;
};

/* `option` is the config key that named the path, for the remedy in the message. */
LG_MUST_CHECK enum lg_status input_open(struct input *input, const char *path, const char *option,
                                        struct lg_error *error);
void input_open_memory(struct input *input, const char *name, const void *bytes, size_t count);
void input_close(struct input *input); /* a zeroed struct is closed */

/* Up to `count` bytes; fewer only at the end. LG_MALFORMED when the compressed data is damaged or cut. */
LG_MUST_CHECK enum lg_status input_read(struct input *input, void *bytes, size_t count, size_t *got,
                                        struct lg_error *error);
/* Up to `most` bytes into fresh memory (free) that grows as they come; *bytes is NULL only on failure. */
LG_MUST_CHECK enum lg_status input_read_all(struct input *input, uint64_t most, uint8_t **bytes, size_t *count,
                                            struct lg_error *error);
/* The next line without its end, NUL-terminated, writable, good until the next call; *line is NULL at the end of the
 * input. Lines with NUL bytes or over INPUT_LINE_BYTES_MAX are refused. */
LG_MUST_CHECK enum lg_status input_next_line(struct input *input, char **line, struct lg_error *error);

/* Fails with `"name" line N: ...`. */
enum lg_status input_fail(const struct input *input, enum lg_status status, struct lg_error *error, const char *format,
                          ...) LG_PRINTF(4, 5);

/* Reads a decimal number that fills the whole of `text`. LG_NONFINITE for NaN, infinities and overflow of a float. */
LG_MUST_CHECK enum lg_status input_number(const char *text, float *number);

/* Chains XXH3 over parts. */
uint64_t fingerprint_bytes(uint64_t fingerprint, const void *bytes, size_t count);
uint64_t fingerprint_number(uint64_t fingerprint, double number);

/* Makes room for `need` elements of `size` bytes in *buffer (grown by half, contents kept). False: no memory. */
bool input_grow(void *buffer, size_t *capacity, size_t need, size_t size);

#endif
