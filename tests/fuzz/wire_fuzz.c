/* The wire decoder on any frames: it decodes or refuses, within bounds; what it decodes keeps the promises of wire.h,
 * and encodes to frames that decode to the same message. Inputs have the form of tests/golden/x.bin. */
#include <assert.h>
#include <math.h>
#include <stdint.h>
#include <string.h>

#include "tests/support/wire_frames.h"

/* A list of one number may come in one byte less than it is sent in (unpacked), and there are few lists in a message.
 */
enum { SLACK_BYTES = 8 };

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

static void promises_hold(const struct wire_message *message) {
    size_t payload_bytes = 0;
    assert(message->unit_count <= WIRE_UNITS_MAX && message->payload_count <= WIRE_PAYLOAD_FRAMES_MAX);
    for (size_t i = 0; i < message->unit_count; i++)
        assert(message->units[i].elements >= 1 && message->units[i].elements <= 65536);
    for (size_t i = 0; i < message->payload_count; i++) {
        assert(message->payload[i].bytes > 0 && (uintptr_t)message->payload[i].data % 4 == 0);
        payload_bytes += message->payload[i].bytes;
    }
    assert(payload_bytes <= WIRE_PAYLOAD_BYTES_MAX);
    for (size_t i = 0; i < message->tensor_count; i++)
        assert(strlen(message->tensors[i].name) < TENSOR_NAME_BYTES && isfinite(message->tensors[i].lr_factor));
    if (message->kind == WIRE_PUSH)
        assert(message->push.cover_count >= 1 && message->push.part < message->push.part_count);
    if (message->kind == WIRE_TRAINER_BEAT)
        assert(isfinite(message->trainer_beat.loss) && strlen(message->trainer_beat.state) <= WIRE_TEXT_BYTES_MAX);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
    static struct wire_arena *first_arena, *second_arena;
    if (!first_arena) {
        first_arena = wire_arena_new(1 << 20);
        second_arena = wire_arena_new(1 << 20);
        assert(first_arena && second_arena);
    }
    struct wire_frames frames, encoded;
    struct wire_message first, second;
    struct lg_error error = {0};
    wire_frames_parse(bytes, size, &frames);
    enum lg_status status = wire_decode(frames.frames, frames.count, first_arena, &first, &error);
    if (status == LG_OK) {
        promises_hold(&first);
        if (frames.frames[0].bytes > WIRE_HEADER_BYTES_MAX - SLACK_BYTES) {
            wire_frames_free(&frames);
            return 0;
        }
        assert(wire_frames_encode(&first, &encoded));
        assert(encoded.frames[0].bytes <= frames.frames[0].bytes + SLACK_BYTES);
        status = wire_decode(encoded.frames, encoded.count, second_arena, &second, &error);
        assert(status == LG_OK && !wire_difference(&first, &second));
        wire_frames_free(&encoded);
    } else {
        assert((status == LG_MALFORMED || status == LG_UNSUPPORTED) && error.status == status && error.message[0]);
    }
    wire_frames_free(&frames);
    return 0;
}
