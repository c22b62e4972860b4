/* The wire: plain structs of every message, and the only code that turns them into bytes and back.
 *
 * A message is a header frame (protobuf, <= WIRE_HEADER_BYTES_MAX) and raw frames. wire_decode validates everything it
 * can without state: header size, protocol version, known body, string lengths and UTF-8, counts against limits,
 * enum ranges, finite doubles, frame counts and lengths against the header and the unit table. It never asserts on
 * bytes, and works in a bounded arena. Fields are named and documented as in lagoon.proto.
 *
 * Little-endian hosts only (asserted at build). */
#ifndef LAGOON_PROTO_WIRE_H
#define LAGOON_PROTO_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/config.h"
#include "common/status.h"
#include "common/tensor.h"

enum {
    WIRE_PROTOCOL = 1,
    WIRE_HEADER_BYTES_MAX = 64 * 1024,
    WIRE_TEXT_BYTES_MAX = 4096, /* any string */
    WIRE_PAIRS_MAX = 512,       /* spec entries */
    WIRE_SHARDS_MAX = 1024,     /* shards of a job or server */
    WIRE_LINES_MAX = 256,
    WIRE_MARKS_MAX = 4096,
    WIRE_ROWS_MAX = 1024,
    WIRE_STATS_MAX = 256,
    WIRE_DEVICES_MAX = 64, /* with numbers, in one BEAT */
    WIRE_COVERS_MAX = 256,
    WIRE_UNITS_MAX = 4096, /* entries of one unit table */
    WIRE_PAYLOAD_FRAMES_MAX = 256,
    WIRE_TENSOR_RECORD_BYTES = 144,     /* one tensor in a tensor table frame */
    WIRE_TENSORS_MAX = (8 << 20) / 144, /* what fits into the largest frame */
    WIRE_PLACEMENT_MAX = (8 << 20) / 2, /* units of a job: what a placement frame holds */
    WIRE_PART_BYTES = 1 << 20,          /* what a sender aims at for one part's payload */
    WIRE_PART_BYTES_HERE = 2 << 20,     /* ... where the receiver is on the same host and likely shares memory */
    WIRE_PAYLOAD_BYTES_MAX = 4 << 20    /* what a receiver accepts in one message */
};

enum wire_kind {
    WIRE_HELLO = 10,
    WIRE_HELLO_REPLY,
    WIRE_PUSH,
    WIRE_PUSH_REPLY,
    WIRE_PULL,
    WIRE_PULL_REPLY,
    WIRE_ERROR,
    WIRE_GATE,
    WIRE_GATE_REPLY,
    WIRE_JOB_OPEN = 20,
    WIRE_JOB_CLOSE,
    WIRE_SESSION_OPEN,
    WIRE_SESSION_CLOSE,
    WIRE_MARKS_QUERY,
    WIRE_MARKS_REPLY,
    WIRE_LEDGER_QUERY,
    WIRE_LEDGER_REPLY,
    WIRE_ACK,
    WIRE_REGISTER = 40,
    WIRE_REGISTER_REPLY,
    WIRE_BEAT,
    WIRE_BEAT_REPLY,
    WIRE_TRAINER_START,
    WIRE_TRAINER_STOP,
    WIRE_TRAINER_EXIT,
    WIRE_LOG,
    WIRE_JOIN = 60,
    WIRE_JOIN_REPLY,
    WIRE_LEASE_REQUEST,
    WIRE_LEASE_GRANT,
    WIRE_LEASE_DONE,
    WIRE_EVAL_REPORT,
    WIRE_LEAVE,
    WIRE_TRAINER_BEAT,
    WIRE_TRAINER_BEAT_REPLY,
    WIRE_SUBMIT = 80,
    WIRE_SUBMIT_REPLY,
    WIRE_CANCEL,
    WIRE_QUERY,
    WIRE_QUERY_REPLY,
};

enum wire_push_kind {
    WIRE_PUSH_KIND_GRADIENT,
    WIRE_PUSH_KIND_DELTA,
    WIRE_PUSH_KIND_INITIAL,
    WIRE_PUSH_KIND_SKIPPED, /* no payload: the samples are given up */
};
enum wire_gate_kind { WIRE_GATE_KIND_READ, WIRE_GATE_KIND_REST, WIRE_GATE_KIND_TICKET };
enum wire_sign { WIRE_SIGN_DESCEND, WIRE_SIGN_ADD };
enum wire_dtype { WIRE_DTYPE_F32, WIRE_DTYPE_F16, WIRE_DTYPE_BF16 };
enum wire_member { WIRE_MEMBER_SERVER, WIRE_MEMBER_AGENT };
enum wire_role { WIRE_ROLE_TRAINER, WIRE_ROLE_OBSERVER, WIRE_ROLE_INITIALISER };
enum wire_lease { WIRE_LEASE_WAIT, WIRE_LEASE_TRAIN, WIRE_LEASE_EVALUATE, WIRE_LEASE_INITIALISE, WIRE_LEASE_FINISHED };

struct wire_pair {
    const char *key, *value;
};

/* One entry of a unit table frame (16 bytes, little-endian, packed as it stands). */
struct wire_unit {
    uint32_t unit, elements;
    uint64_t version;
};

/* One entry of a ring frame: payload that lies in the session's shared memory. */
struct wire_range {
    uint64_t offset, bytes;
};

struct wire_cover {
    uint64_t session;
    uint32_t incarnation;
    uint64_t seq;
    uint64_t lease;
    uint32_t fence;
    uint64_t epoch, first, end, samples;
};

struct wire_hello {
    uint64_t session;
    uint32_t incarnation;
    uint64_t token, job;
    uint32_t window;
    uint64_t seq_floor;
};
struct wire_hello_reply {
    uint32_t shard, window;
    uint64_t credit_bytes, version;
    const char *local;
};
struct wire_push {
    uint64_t session;
    uint32_t incarnation;
    uint64_t seq, seq_floor, job, map_version, clock;
    uint32_t part, part_count;
    enum wire_push_kind kind;
    enum wire_sign sign;
    enum wire_dtype dtype;
    uint32_t codec;
    uint64_t samples;
    uint32_t local_steps;
    uint64_t base, round;
    uint32_t ticket;
    bool pull, ring;
    uint64_t read_bytes;
    enum wire_dtype pull_dtype;
    uint32_t pull_codec;
    bool pull_delta;
    const struct wire_cover *covers;
    size_t cover_count;
};
struct wire_push_reply {
    uint64_t seq;
    uint32_t status;
    uint64_t staleness;
    float weight;
    uint64_t version;
    uint32_t units_applied, units_repeated;
    const char *reason;
    const uint64_t *cuts;
    size_t cut_count;
    uint64_t values_version;
    enum wire_dtype dtype;
    uint32_t codec;
    bool delta;
    float rate;
};
struct wire_pull {
    uint64_t session;
    uint32_t incarnation;
    uint64_t job, map_version, clock, tag;
    enum wire_dtype dtype;
    uint32_t codec;
    bool delta;
};
struct wire_pull_reply {
    uint64_t tag, version;
    enum wire_dtype dtype;
    uint32_t codec, units_unchanged;
    bool delta;
};
struct wire_error {
    uint32_t status;
    const char *reason;
    uint64_t seq;
};
struct wire_gate {
    uint64_t session;
    uint32_t incarnation;
    uint64_t job, map_version, tag;
    enum wire_gate_kind kind;
    uint64_t round;
};
struct wire_gate_reply {
    uint64_t tag;
    uint32_t status;
    uint64_t round;
};

struct wire_job_open {
    uint64_t job;
    const char *name;
    uint32_t shard, slot;
    uint64_t epoch, map_version, train_samples;
    const struct wire_pair *spec;
    size_t spec_count;
};
struct wire_job_close {
    uint64_t job;
    uint32_t shard;
};
struct wire_session_open {
    uint64_t job;
    uint32_t shard;
    uint64_t session;
    uint32_t incarnation;
    uint64_t token;
    bool may_push, may_initialise;
};
struct wire_session_close {
    uint64_t job;
    uint32_t shard;
    uint64_t session;
    uint32_t incarnation;
    const char *reason;
};
struct wire_marks_query {
    uint64_t job;
    uint32_t shard;
    uint64_t epoch, first, end;
};
struct wire_marks_reply {
    uint32_t status;
    uint64_t resume;
    const uint64_t *marks;
    size_t mark_count;
};
struct wire_ledger_query {
    uint64_t job;
    uint32_t shard;
};
struct wire_ledger_row {
    uint64_t epoch, samples_least, samples_most, dropped;
};
struct wire_ledger_reply {
    uint32_t status;
    const struct wire_ledger_row *rows;
    size_t row_count;
};
struct wire_ack {
    uint32_t status;
    const char *reason;
};

struct wire_register {
    enum wire_member kind;
    const char *name;
    uint64_t instance;
    const char *const *endpoints;
    size_t endpoint_count;
    uint64_t memory_bytes;
    uint32_t slots;
    const char *const *devices;
    size_t device_count;
    const char *http;
    uint64_t pid;
    const char *version;
    uint64_t member, cores;
};
struct wire_register_reply {
    uint32_t status;
    const char *reason;
    uint64_t member;
    const uint32_t *shards;
    size_t shard_count;
    uint64_t beat_ms, coordinator;
};
struct wire_shard_job_stats {
    uint64_t job;
    uint32_t shard;
    uint64_t pushes, samples, dropped, duplicates;
    double staleness_mean;
    uint64_t staleness_p99, staleness_max;
    double weight_mean;
    uint64_t push_bytes, pull_bytes, parameter_bytes, state_bytes;
    bool initialised;
    uint64_t pulls, version;
};
struct wire_device_stats {
    const char *device, *name;
    uint64_t memory_bytes, memory_used_bytes;
    bool utilisation_known;
    uint32_t utilisation_percent, temperature_c;
    uint64_t power_mw;
};
struct wire_beat {
    uint64_t member, instance;
    const struct wire_shard_job_stats *stats;
    size_t stat_count;
    const uint64_t *trainers;
    size_t trainer_count;
    uint64_t memory_used_bytes;
    const struct wire_device_stats *devices;
    size_t device_count;
};
struct wire_beat_reply {
    bool register_again;
};
struct wire_trainer_start {
    uint64_t trainer, token, job;
    const char *job_name;
    uint32_t attempt;
    const char *device;
    const struct wire_pair *spec;
    size_t spec_count;
};
struct wire_trainer_stop {
    uint64_t trainer, grace_ms;
    const char *reason;
};
struct wire_trainer_exit {
    uint64_t trainer;
    int32_t code, signal;
    const char *reason;
};
struct wire_log {
    uint64_t job, trainer;
    const char *const *lines;
    size_t line_count;
};

struct wire_join {
    const char *job;
    enum wire_role role;
    uint64_t trainer, token, dataset_fingerprint, train_samples, test_samples;
    uint32_t batch;
    const char *device;
};
struct wire_shard_address {
    uint32_t shard;
    const char *endpoint;
};
struct wire_join_reply {
    uint32_t status;
    const char *reason;
    uint64_t retry_ms, job, session;
    uint32_t incarnation;
    uint64_t token, map_version;
    const struct wire_shard_address *shards;
    size_t shard_count;
    const struct wire_pair *spec;
    size_t spec_count;
};
struct wire_lease_request {
    uint64_t session;
    uint32_t incarnation;
    double samples_per_second;
};
struct wire_lease_grant {
    uint32_t status;
    const char *reason;
    enum wire_lease kind;
    uint64_t retry_ms, lease;
    uint32_t fence;
    uint64_t epoch, first, end;
    const uint64_t *cuts;
    size_t cut_count;
};
struct wire_lease_done {
    uint64_t session;
    uint32_t incarnation;
    uint64_t lease;
    uint32_t fence;
};
struct wire_eval_report {
    uint64_t session;
    uint32_t incarnation;
    uint64_t lease, epoch;
    double loss, accuracy;
    uint64_t predictions;
};
struct wire_leave {
    uint64_t session;
    uint32_t incarnation;
    const char *reason;
};
struct wire_trainer_beat {
    uint64_t session;
    uint32_t incarnation;
    uint64_t steps, samples;
    double loss, accuracy;
    uint64_t compute_ns, communication_ns;
    double samples_per_second;
    const char *state, *transport;
    double staleness_mean;
    uint64_t staleness_max;
    double weight_mean;
    uint64_t pushes_dropped;
    bool parked;
    uint64_t read_ns, copy_ns, copy_bytes, wait_ns;
    double tokens_per_second, flops_per_second, flops_peak;
    uint64_t memory_used_bytes;
};
struct wire_trainer_beat_reply {
    uint32_t status;
    const char *reason;
};

struct wire_submit {
    const struct wire_pair *spec;
    size_t spec_count;
    bool external_init;
};
struct wire_submit_reply {
    uint32_t status;
    const char *reason;
    uint64_t job;
    const char *name;
    const char *const *warnings;
    size_t warning_count;
};
struct wire_cancel {
    const char *job, *reason;
};
struct wire_query {
    const char *what, *job;
    uint64_t since, limit;
};
struct wire_query_reply {
    uint32_t status;
    const char *reason;
    uint64_t next;
};

struct wire_bytes {
    const void *data;
    size_t bytes;
};

/* A message in memory. Whoever builds one borrows everything it points to; whoever decodes one owns nothing: texts and
 * arrays live in the arena, raw frames in the received frames. NULL texts encode as "". Decoded texts are never NULL.
 */
struct wire_message {
    enum wire_kind kind;
    uint64_t request;
    union {
        struct wire_hello hello;
        struct wire_hello_reply hello_reply;
        struct wire_push push;
        struct wire_push_reply push_reply;
        struct wire_pull pull;
        struct wire_pull_reply pull_reply;
        struct wire_error error;
        struct wire_gate gate;
        struct wire_gate_reply gate_reply;
        struct wire_job_open job_open;
        struct wire_job_close job_close;
        struct wire_session_open session_open;
        struct wire_session_close session_close;
        struct wire_marks_query marks_query;
        struct wire_marks_reply marks_reply;
        struct wire_ledger_query ledger_query;
        struct wire_ledger_reply ledger_reply;
        struct wire_ack ack;
        struct wire_register register_;
        struct wire_register_reply register_reply;
        struct wire_beat beat;
        struct wire_beat_reply beat_reply;
        struct wire_trainer_start trainer_start;
        struct wire_trainer_stop trainer_stop;
        struct wire_trainer_exit trainer_exit;
        struct wire_log log;
        struct wire_join join;
        struct wire_join_reply join_reply;
        struct wire_lease_request lease_request;
        struct wire_lease_grant lease_grant;
        struct wire_lease_done lease_done;
        struct wire_eval_report eval_report;
        struct wire_leave leave;
        struct wire_trainer_beat trainer_beat;
        struct wire_trainer_beat_reply trainer_beat_reply;
        struct wire_submit submit;
        struct wire_submit_reply submit_reply;
        struct wire_cancel cancel;
        struct wire_query query;
        struct wire_query_reply query_reply;
    };
    /* Raw frames. PUSH, PULL, PULL_REPLY, PUSH_REPLY with values: a unit table and, but for PULL and a PUSH that is
     * SKIPPED, payload frames. */
    const struct wire_unit *units;
    size_t unit_count;
    const struct wire_bytes *payload;
    size_t payload_count;
    /* PUSH with `ring`: where each payload frame lies instead. Only counted here: who knows the memory checks them. */
    const struct wire_range *ranges;
    size_t range_count;
    /* JOB_OPEN, JOIN, JOIN_REPLY: */
    const struct tensor_spec *tensors;
    size_t tensor_count;
    const uint16_t *placement;
    size_t placement_count; /* per unit: index into the job's shard list */
    /* QUERY_REPLY: a JSON document */
    struct wire_bytes document;
};

/* A bounded arena for decoding; one per receiving thread. wire_decode resets it, so a decoded message is valid until
 * the next decode. Grows up to `limit_bytes` once and keeps that; NULL on exhaustion is LG_MALFORMED. */
struct wire_arena;
struct wire_arena *wire_arena_new(size_t limit_bytes); /* 1 MiB serves data sockets, 16 MiB control sockets */
void wire_arena_free(struct wire_arena *arena);

/* Decodes frames[0..count): header first (routing ids already taken off). On failure says what was wrong, and `out`
 * keeps what was understood for an error reply: `request`, and `kind` with its body where the header frame was sound
 * (kind 0 otherwise). LG_UNSUPPORTED: another protocol version, or a body this one does not know; else LG_MALFORMED.
 * Every payload frame handed out starts at a multiple of 4: one that lies unaligned (ZeroMQ leaves messages below its
 * 8 KiB receive buffer there) is copied into the arena, all others are borrowed. Duplicate units are not looked for. */
LG_MUST_CHECK enum lg_status wire_decode(const struct wire_bytes *frames, size_t count, struct wire_arena *arena,
                                         struct wire_message *out, struct lg_error *error);

/* Bytes of the encoded header, 0 when the message breaks a limit (a count or text above its WIRE_*_MAX, more than
 * WIRE_HEADER_BYTES_MAX in all, an unknown kind); then writes exactly that many. Neither allocates. Texts that are not
 * UTF-8 (a message cut in mid-character, a log) are mended: each bad byte becomes '?'. A double that is
 * not finite (a loss that has diverged) is sent as DBL_MAX, or -DBL_MAX for minus infinity. The raw frames in order
 * follow from the message: wire_raw_frames lists them (pointers into the message's own memory, or, for the tensor
 * table, into `scratch`, a malloc'ed buffer the caller frees; NULL where none was needed). `frames` has room for
 * `capacity` (WIRE_PAYLOAD_FRAMES_MAX + 2 always suffices). */
size_t wire_header_bytes(const struct wire_message *message);
void wire_header_write(const struct wire_message *message, void *header);
/* Both at once, into memory of WIRE_HEADER_BYTES_MAX: the bytes written, or 0. */
size_t wire_header_encode(const struct wire_message *message, void *header);
LG_MUST_CHECK enum lg_status wire_raw_frames(const struct wire_message *message, struct wire_bytes *frames,
                                             size_t capacity, size_t *count, void **scratch);

/* "PUSH", "JOIN_REPLY", ...; for logs. */
const char *wire_kind_name(enum wire_kind kind);
/* The shard that a coordinator's command to a server is for; UINT32_MAX: the message is no such command. */
uint32_t wire_command_shard(const struct wire_message *message);

/* The entries of a spec as a config (origin "wire") and back (borrowed from `config`; at most WIRE_PAIRS_MAX). */
LG_MUST_CHECK enum lg_status wire_pairs_to_config(const struct wire_pair *pairs, size_t count, struct config **out,
                                                  struct lg_error *error);
LG_MUST_CHECK enum lg_status wire_pairs_from_config(const struct config *config, struct wire_pair *pairs,
                                                    size_t capacity, size_t *count, struct lg_error *error);

#endif
