/* Whole messages as frames in memory and on disk, for the tests of the wire. */
#ifndef LAGOON_TESTS_SUPPORT_WIRE_FRAMES_H
#define LAGOON_TESTS_SUPPORT_WIRE_FRAMES_H

#include <stdio.h>

#include "proto/wire.h"

enum { WIRE_FRAMES_MAX = WIRE_PAYLOAD_FRAMES_MAX + 3 };

/* Every frame lies in its own allocation of its exact size, so that a sanitizer sees a read beyond it. */
struct wire_frames {
    size_t count;
    struct wire_bytes frames[WIRE_FRAMES_MAX];
};

void wire_frames_free(struct wire_frames *frames);
/* Appends a copy of `data`; aborts without memory or room. */
void wire_frames_add(struct wire_frames *frames, const void *data, size_t bytes);
/* Header and raw frames; false where the message breaks a limit (nothing to free then). */
bool wire_frames_encode(const struct wire_message *message, struct wire_frames *out);

/* The form of tests/golden/x.bin and of fuzzing inputs: for each frame a u32 length, little-endian, and the bytes. A
 * length beyond the end is cut to what is there. */
void wire_frames_parse(const unsigned char *data, size_t bytes, struct wire_frames *out);
/* Writes that form; false when the file cannot be written. */
bool wire_frames_write(const struct wire_frames *frames, FILE *file);
bool wire_frames_equal(const struct wire_frames *a, const struct wire_frames *b);

/* The first field, raw frames included, in which two messages differ ("push.covers.first", "units"); NULL: none. A
 * NULL text equals "". Payloads are compared as one run of bytes. */
const char *wire_difference(const struct wire_message *a, const struct wire_message *b);

#endif
