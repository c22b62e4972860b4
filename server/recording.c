#include "server/recording.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "common/buf.h"

enum { ARENA_BYTES = 16 << 20, FRAMES_MAX = WIRE_PAYLOAD_FRAMES_MAX + 3, FILE_BUFFER_BYTES = 1 << 20 };

static const char magic[8] = "LGRECORD";

struct head {
    char magic[8];
    uint32_t format, index, window, sessions_max, reject_nonfinite, reserved;
    uint64_t credit_bytes, session_credit_bytes, memory_bytes;
    char version[RECORDING_VERSION_BYTES];
};

struct record {
    uint32_t kind, bytes;
    uint64_t hash;
};

struct input_head {
    int64_t now_ns;
    uint64_t route, principal, frame_count;
};

/* Frames start at multiples of this, so that the decoder can lend them out. */
static size_t padded(size_t bytes) {
    return (bytes + 7) & ~(size_t)7;
}

static uint64_t float_bits(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

struct recorded_decision recorded_decision_of(const struct shard_decision *decision, const struct wire_message *push) {
    struct recorded_decision recorded = {.kind = decision->kind,
                                         .order = decision->order,
                                         .job = decision->job,
                                         .session = decision->session,
                                         .incarnation = decision->incarnation,
                                         .seq = decision->seq,
                                         .clock = decision->clock,
                                         .staleness = decision->staleness,
                                         .weight_bits = float_bits(decision->weight),
                                         .rate_bits = float_bits(decision->learning_rate),
                                         .version_after = decision->version_after,
                                         .samples_after = decision->samples_after};
    if (push && decision->unit_steps && decision->unit_applied) {
        recorded.units = push->unit_count;
        recorded.steps_hash = XXH3_64bits(decision->unit_steps, push->unit_count * sizeof *decision->unit_steps);
        recorded.applied_hash = XXH3_64bits(decision->unit_applied, push->unit_count);
    }
    return recorded;
}

/* ---- writing */

struct recorder {
    FILE *file;
    char *path;
    bool failed, told;
    struct lg_error error;
    struct buf body;
    struct wire_arena *arena;
    struct wire_message message; /* the last input's, as written */
};

static void recorder_fail(struct recorder *recorder, const char *why) {
    if (recorder->failed)
        return;
    recorder->failed = true;
    (void)lg_fail(&recorder->error, LG_IO, "cannot write the recording \"%.200s\": %s; it ends here", recorder->path,
                  why);
}

static void write_record(struct recorder *recorder, enum recorded_kind kind, const void *body, size_t bytes) {
    struct record record = {.kind = kind, .bytes = (uint32_t)bytes, .hash = XXH3_64bits(body, bytes)};
    if (recorder->failed)
        return;
    if (bytes > RECORDING_BODY_MAX)
        recorder_fail(recorder, "a message is too large");
    else if (fwrite(&record, sizeof record, 1, recorder->file) != 1 ||
             (bytes > 0 && fwrite(body, bytes, 1, recorder->file) != 1))
        recorder_fail(recorder, strerror(errno));
}

enum lg_status recorder_open(const char *path, const struct shard_config *config, struct recorder **out,
                             struct lg_error *error) {
    struct head head = {.format = 1,
                        .index = config->index,
                        .window = config->window,
                        .sessions_max = config->sessions_max,
                        .reject_nonfinite = config->reject_nonfinite,
                        .credit_bytes = config->credit_bytes,
                        .session_credit_bytes = config->session_credit_bytes,
                        .memory_bytes = config->memory_bytes};
    memcpy(head.magic, magic, sizeof magic);
    snprintf(head.version, sizeof head.version, "%s", LAGOON_VERSION);
    struct recorder *recorder = calloc(1, sizeof *recorder);
    if (!recorder)
        return lg_fail(error, LG_NO_MEMORY, "no memory for a recording");
    recorder->path = strdup(path);
    recorder->arena = wire_arena_new(ARENA_BYTES);
    recorder->file = recorder->path && recorder->arena ? fopen(path, "wbe") : NULL;
    if (!recorder->file || setvbuf(recorder->file, NULL, _IOFBF, FILE_BUFFER_BYTES) != 0 ||
        fwrite(&head, sizeof head, 1, recorder->file) != 1) {
        enum lg_status status =
            lg_fail(error, LG_IO, "cannot write the recording \"%.200s\": %s", path, strerror(errno));
        return recorder_close(recorder, NULL) == LG_OK ? status : LG_IO;
    }
    *out = recorder;
    return LG_OK;
}

/* The message as frames, lengths first, each frame padded. False: it cannot be encoded. */
static bool put_frames(struct buf *body, const struct wire_message *message, size_t count,
                       const struct wire_bytes *frames) {
    static const char zeros[8];
    size_t header = wire_header_bytes(message);
    uint64_t length = header;
    if (header == 0)
        return false;
    buf_append(body, &length, sizeof length);
    for (size_t i = 0; i < count; i++) {
        length = frames[i].bytes;
        buf_append(body, &length, sizeof length);
    }
    if (!buf_reserve(body, padded(header)))
        return false;
    wire_header_write(message, body->data + body->size);
    memset(body->data + body->size + header, 0, padded(header) - header);
    body->size += padded(header);
    for (size_t i = 0; i < count; i++) {
        buf_append(body, frames[i].data, frames[i].bytes);
        buf_append(body, zeros, padded(frames[i].bytes) - frames[i].bytes);
    }
    return !body->failed;
}

/* The frames of a body and the message in them. False: it lies about itself. */
static bool take_frames(const char *body, size_t bytes, uint64_t count, struct wire_arena *arena,
                        struct wire_message *message, struct lg_error *error) {
    struct wire_bytes frames[FRAMES_MAX];
    if (count == 0 || count > FRAMES_MAX || bytes < count * sizeof(uint64_t))
        return false;
    size_t at = count * sizeof(uint64_t);
    for (size_t i = 0; i < count; i++) {
        uint64_t length;
        memcpy(&length, body + i * sizeof length, sizeof length);
        if (length > bytes - at || padded(length) > bytes - at)
            return false;
        frames[i] = (struct wire_bytes){body + at, length};
        at += padded(length);
    }
    return at == bytes && wire_decode(frames, count, arena, message, error) == LG_OK;
}

const struct wire_message *recorder_input(struct recorder *recorder, const struct shard_input *input) {
    struct wire_message message = *input->message;
    struct wire_bytes frames[FRAMES_MAX];
    struct lg_error error = {0};
    size_t count = 0;
    void *scratch = NULL;
    if (recorder->failed)
        return input->message;
    if (message.kind == WIRE_PUSH && message.push.ring) { /* what it names is payload by now */
        message.push.ring = false;
        message.ranges = NULL;
        message.range_count = 0;
    }
    enum lg_status status = wire_raw_frames(&message, frames, FRAMES_MAX - 1, &count, &scratch);
    struct input_head head = {input->now_ns, input->route, input->principal, count + 1};
    buf_clear(&recorder->body);
    buf_append(&recorder->body, &head, sizeof head);
    bool fine = status == LG_OK && put_frames(&recorder->body, &message, count, frames) &&
                take_frames(recorder->body.data + sizeof head, recorder->body.size - sizeof head, count + 1,
                            recorder->arena, &recorder->message, &error);
    free(scratch);
    if (!fine) {
        recorder_fail(recorder, "a message cannot be written down");
        return input->message;
    }
    write_record(recorder, RECORDED_INPUT, recorder->body.data, recorder->body.size);
    return &recorder->message;
}

void recorder_decide(struct recorder *recorder, const struct shard_decision *decision,
                     const struct wire_message *push) {
    const struct recorded_decision recorded = recorded_decision_of(decision, push);
    write_record(recorder, RECORDED_DECISION, &recorded, sizeof recorded);
}

void recorder_digest(struct recorder *recorder, const struct shard *shard, uint64_t job) {
    const struct recorded_digest digest = {job, shard_digest(shard, job)};
    write_record(recorder, RECORDED_DIGEST, &digest, sizeof digest);
}

bool recorder_works(struct recorder *recorder, struct lg_error *error) {
    if (!recorder->failed || recorder->told)
        return true;
    recorder->told = true;
    *error = recorder->error;
    return false;
}

enum lg_status recorder_close(struct recorder *recorder, struct lg_error *error) {
    if (!recorder)
        return LG_OK;
    if (recorder->file && fclose(recorder->file) != 0)
        recorder_fail(recorder, strerror(errno));
    enum lg_status status = LG_OK;
    if (recorder->failed && !recorder->told)
        status = lg_fail(error, recorder->error.status, "%s", recorder->error.message);
    buf_deinit(&recorder->body);
    wire_arena_free(recorder->arena);
    free(recorder->path);
    free(recorder);
    return status;
}

/* ---- reading */

struct recording {
    FILE *file;
    char *path;
    uint64_t at;
    char version[RECORDING_VERSION_BYTES + 1];
    struct wire_arena *arena;
    struct wire_message message;
    char *body; /* of `capacity` */
    size_t capacity;
};

static enum lg_status read_head(struct recording *recording, struct shard_config *config, struct lg_error *error) {
    struct head head;
    if (fread(&head, sizeof head, 1, recording->file) != 1 || memcmp(head.magic, magic, sizeof magic) != 0)
        return lg_fail(error, LG_MALFORMED, "\"%.200s\" is no recording of a shard", recording->path);
    memcpy(recording->version, head.version, sizeof head.version);
    if (head.format != 1)
        return lg_fail(error, LG_UNSUPPORTED,
                       "\"%.200s\" has format %u, which this version (%s) cannot read: lagoon %s wrote it",
                       recording->path, head.format, LAGOON_VERSION, recording->version);
    config->index = head.index;
    config->window = head.window;
    config->sessions_max = head.sessions_max;
    config->reject_nonfinite = head.reject_nonfinite != 0;
    config->credit_bytes = head.credit_bytes;
    config->session_credit_bytes = head.session_credit_bytes;
    config->memory_bytes = head.memory_bytes;
    recording->at = sizeof head;
    return LG_OK;
}

enum lg_status recording_open(const char *path, struct recording **out, struct shard_config *config,
                              struct lg_error *error) {
    struct recording *recording = calloc(1, sizeof *recording);
    if (!recording)
        return lg_fail(error, LG_NO_MEMORY, "no memory for a recording");
    enum lg_status status = LG_OK;
    recording->path = strdup(path);
    recording->arena = wire_arena_new(ARENA_BYTES);
    if (!recording->path || !recording->arena)
        status = lg_fail(error, LG_NO_MEMORY, "no memory for a recording");
    if (status == LG_OK && !(recording->file = fopen(path, "rbe")))
        status =
            lg_fail(error, errno == ENOENT ? LG_NOT_FOUND : LG_IO, "cannot read \"%.200s\": %s", path, strerror(errno));
    if (status == LG_OK)
        status = read_head(recording, config, error);
    if (status != LG_OK) {
        recording_close(recording);
        return status;
    }
    *out = recording;
    return LG_OK;
}

const char *recording_version(const struct recording *recording) {
    return recording->version;
}

static enum lg_status changed(const struct recording *recording, uint64_t at, struct lg_error *error) {
    return lg_fail(error, LG_MALFORMED, "\"%.200s\" was damaged: the record at byte %llu is not what was written",
                   recording->path, (unsigned long long)at);
}

static bool reserve_body(struct recording *recording, size_t bytes) {
    if (bytes <= recording->capacity)
        return true;
    char *body = realloc(recording->body, bytes);
    if (!body)
        return false;
    recording->body = body;
    recording->capacity = bytes;
    return true;
}

static enum lg_status understand(struct recording *recording, size_t bytes, struct recorded *out,
                                 struct lg_error *error) {
    struct input_head head;
    if (out->kind == RECORDED_DECISION && bytes == sizeof out->decision) {
        memcpy(&out->decision, recording->body, bytes);
    } else if (out->kind == RECORDED_DIGEST && bytes == sizeof out->digest) {
        memcpy(&out->digest, recording->body, bytes);
    } else if (out->kind == RECORDED_INPUT && bytes >= sizeof head) {
        memcpy(&head, recording->body, sizeof head);
        if (!take_frames(recording->body + sizeof head, bytes - sizeof head, head.frame_count, recording->arena,
                         &recording->message, error))
            return changed(recording, out->at, error);
        out->input = (struct shard_input){head.now_ns, head.route, head.principal, &recording->message};
    } else {
        return changed(recording, out->at, error);
    }
    return LG_OK;
}

enum lg_status recording_next(struct recording *recording, struct recorded *out, struct lg_error *error) {
    struct record record;
    *out = (struct recorded){.kind = RECORDED_END, .at = recording->at};
    size_t got = fread(&record, 1, sizeof record, recording->file);
    if (got < sizeof record) {
        out->kind = got == 0 ? RECORDED_END : RECORDED_CUT;
        return LG_OK;
    }
    if (record.bytes > RECORDING_BODY_MAX || record.kind < RECORDED_INPUT || record.kind > RECORDED_DIGEST)
        return changed(recording, out->at, error);
    if (!reserve_body(recording, record.bytes))
        return lg_fail(error, LG_NO_MEMORY, "no memory for a record of %u bytes", record.bytes);
    if (fread(recording->body, 1, record.bytes, recording->file) < record.bytes) {
        out->kind = RECORDED_CUT;
        return LG_OK;
    }
    if (XXH3_64bits(recording->body, record.bytes) != record.hash)
        return changed(recording, out->at, error);
    recording->at += sizeof record + record.bytes;
    out->kind = (enum recorded_kind)record.kind;
    return understand(recording, record.bytes, out, error);
}

void recording_close(struct recording *recording) {
    if (!recording)
        return;
    if (recording->file)
        fclose(recording->file);
    wire_arena_free(recording->arena);
    free(recording->body);
    free(recording->path);
    free(recording);
}
