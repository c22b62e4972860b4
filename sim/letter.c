#include "sim/letter.h"

#include <stdlib.h>
#include <string.h>

/* Payload belongs to somebody who keeps it: the push's sender, or a snapshot. */
static bool is_payload(const struct wire_message *message, struct wire_bytes frame) {
    for (size_t i = 0; i < message->payload_count; i++)
        if (message->payload[i].data == frame.data)
            return true;
    return false;
}

/* One block: the letter, its frames, its snapshots, the bytes of whatever is copied. */
static struct letter *letter_pack(const struct wire_message *message, const void *header, size_t header_bytes,
                                  const struct wire_bytes *raw, size_t raw_count, struct snapshot *const *snapshots,
                                  size_t snapshot_count) {
    size_t copied = header_bytes;
    for (size_t i = 0; i < raw_count; i++)
        copied += is_payload(message, raw[i]) ? 0 : raw[i].bytes;
    struct letter *letter = malloc(sizeof *letter + (raw_count + 1) * sizeof *letter->frames +
                                   snapshot_count * sizeof *letter->snapshots + copied);
    if (!letter)
        return NULL;
    *letter = (struct letter){.bytes = header_bytes, .frame_count = raw_count + 1, .snapshot_count = snapshot_count};
    letter->frames = (struct wire_bytes *)(letter + 1);
    letter->snapshots = (struct snapshot **)(letter->frames + raw_count + 1);
    char *at = (char *)(letter->snapshots + snapshot_count);
    letter->frames[0] = (struct wire_bytes){memcpy(at, header, header_bytes), header_bytes};
    at += header_bytes;
    for (size_t i = 0; i < raw_count; i++) {
        letter->bytes += raw[i].bytes;
        letter->frames[i + 1] = raw[i];
        if (is_payload(message, raw[i]) || raw[i].bytes == 0)
            continue;
        letter->frames[i + 1].data = memcpy(at, raw[i].data, raw[i].bytes);
        at += raw[i].bytes;
    }
    for (size_t i = 0; i < snapshot_count; i++) {
        letter->snapshots[i] = snapshots[i];
        snapshot_retain(snapshots[i]);
    }
    return letter;
}

struct letter *letter_new(const struct wire_message *message, struct snapshot *const *snapshots,
                          size_t snapshot_count) {
    static _Thread_local char header[WIRE_HEADER_BYTES_MAX];
    struct wire_bytes raw[WIRE_PAYLOAD_FRAMES_MAX + 2];
    size_t raw_count = 0, header_bytes = wire_header_encode(message, header);
    void *scratch = NULL;
    if (header_bytes == 0 || wire_raw_frames(message, raw, sizeof raw / sizeof *raw, &raw_count, &scratch) != LG_OK)
        return NULL;
    struct letter *letter = letter_pack(message, header, header_bytes, raw, raw_count, snapshots, snapshot_count);
    free(scratch);
    return letter;
}

void letter_free(struct letter *letter) {
    for (size_t i = 0; letter && i < letter->snapshot_count; i++)
        snapshot_release(letter->snapshots[i]);
    free(letter);
}

enum lg_status letter_read(const struct letter *letter, struct wire_arena *arena, struct wire_message *message,
                           struct lg_error *error) {
    return wire_decode(letter->frames, letter->frame_count, arena, message, error);
}
