/* Values for a session and pushes for a shard, from anyone: whole, in every codec, and as differences. Whatever comes
 * is taken or refused, within bounds. Input: codec, what is asked for (bit 0: differences; bit 1: to the shard), how
 * many units are named and how the payload is cut, then versions and payload. */
#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "client/session.h"
#include "server/payload.h"

enum { UNITS = 3, FIRST = 70, SECOND = 5000, THIRD = 1, ELEMENTS = FIRST + SECOND + THIRD, ARGUMENTS = 4 };

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

static const uint32_t elements[UNITS] = {FIRST, SECOND, THIRD};
static uint64_t hello, tag;
static unsigned reopened;

static bool on_send(void *context, uint32_t slot, const struct wire_message *message) {
    (void)context;
    (void)slot;
    if (message->kind == WIRE_HELLO)
        hello = message->request;
    if (message->kind == WIRE_PULL)
        tag = message->pull.tag;
    return true;
}

static void on_reopen(void *context, uint32_t slot, const char *why) {
    (void)context;
    (void)slot;
    assert(why[0]);
    reopened++;
}

static struct session *open_session(const struct codec *codec, bool delta) {
    static const struct tensor_spec tensors[UNITS] = {{.name = "a", .rank = 1, .shape = {FIRST}, .lr_factor = 1},
                                                      {.name = "b", .rank = 1, .shape = {SECOND}, .lr_factor = 1},
                                                      {.name = "c", .rank = 1, .shape = {THIRD}, .lr_factor = 1}};
    static const uint16_t placement[UNITS] = {0};
    const struct session_config config = {.session = 1,
                                          .tensors = tensors,
                                          .tensor_count = UNITS,
                                          .placement = placement,
                                          .placement_count = UNITS,
                                          .shard_count = 1,
                                          .window = 4,
                                          .reply_timeout_ms = 1000,
                                          .pull_codec = codec,
                                          .pull_delta = delta};
    const struct session_sink sink = {.send = on_send, .reopen = on_reopen};
    struct session *session = NULL;
    enum lg_status status = session_new(&config, &sink, &session, NULL);
    assert(status == LG_OK);
    session_connected(session, 0, 1);
    const struct wire_message reply = {
        .kind = WIRE_HELLO_REPLY, .request = hello, .hello_reply = {.window = 4, .credit_bytes = 1 << 20}};
    session_receive(session, 0, &reply, 1);
    return session;
}

/* What nothing was known of comes whole first, or not at all; then as the input has it. */
static void to_session(const struct codec *codec, bool delta, struct wire_message *message) {
    static float target[ELEMENTS], whole[ELEMENTS];
    struct wire_unit units[UNITS];
    const struct wire_bytes all = {whole, sizeof whole};
    struct session *session = open_session(codec, delta);
    enum lg_status status = session_pull_open(session, target, 1, NULL);
    assert(status == LG_OK);
    for (uint32_t i = 0; i < UNITS; i++)
        units[i] = (struct wire_unit){i, elements[i], 5};
    struct wire_message first = {.kind = WIRE_PULL_REPLY,
                                 .pull_reply = {.tag = tag, .version = 5},
                                 .units = units,
                                 .unit_count = UNITS,
                                 .payload = &all,
                                 .payload_count = 1};
    session_receive(session, 0, &first, 1);
    status = session_pull_poll(session, NULL);
    assert(status == LG_OK);
    status = session_pull_open(session, target, 1, NULL);
    assert(status == LG_OK);
    message->kind = WIRE_PULL_REPLY;
    message->pull_reply = (struct wire_pull_reply){
        .tag = tag, .version = 6, .dtype = (enum wire_dtype)codec->dtype, .codec = codec->number, .delta = delta};
    reopened = 0;
    session_receive(session, 0, message, 1);
    status = session_pull_poll(session, NULL);
    assert(status == LG_OK ? reopened == 0 : status == LG_UNAVAILABLE && reopened == 1);
    session_free(session);
}

static void to_shard(const struct codec *codec, const struct wire_message *message) {
    const uint8_t *data[UNITS];
    uint64_t used = 0;
    struct lg_error error = {0};
    if (payload_locate(message, codec, data, &used, &error) != LG_OK) {
        assert(error.message[0]);
        return;
    }
    for (size_t i = 0; i < message->unit_count; i++)
        (void)codec->kernels[isa_detect()]->finite(data[i], message->units[i].elements);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
    struct wire_unit units[UNITS];
    struct wire_bytes payload[2];
    size_t count, left = size - ARGUMENTS;
    if (size < ARGUMENTS + UNITS + 1)
        return 0;
    const struct codec *codec = codecs(&count)[bytes[0] % CODEC_COUNT_MAX % count];
    const size_t named = bytes[2] % (UNITS + 1),
                 skipped = bytes[2] / 16 % (UNITS - (named < UNITS ? named : UNITS - 1));
    for (size_t i = 0; i < named; i++) {
        const uint32_t unit = (uint32_t)(i + skipped) % UNITS;
        units[i] = (struct wire_unit){unit, elements[unit], bytes[ARGUMENTS + i]};
    }
    left -= UNITS;
    uint8_t *data = malloc(left); /* of its own size: a step beyond it is seen */
    assert(data);
    memcpy(data, bytes + size - left, left);
    const size_t cut = left * bytes[3] / 256;
    payload[0] = (struct wire_bytes){data, cut};
    payload[1] = (struct wire_bytes){data + cut, left - cut};
    struct wire_message message = {
        .units = units, .unit_count = named, .payload = cut ? payload : payload + 1, .payload_count = cut ? 2 : 1};
    if (bytes[1] & 2)
        to_shard(codec, &message);
    else
        to_session(codec, bytes[1] & 1, &message);
    free(data);
    return 0;
}
