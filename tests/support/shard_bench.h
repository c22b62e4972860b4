/* A shard with one job, driven by hand: what it answers and decides is copied and kept. */
#ifndef LAGOON_TESTS_SUPPORT_SHARD_BENCH_H
#define LAGOON_TESTS_SUPPORT_SHARD_BENCH_H

#include "server/shard.h"

enum {
    BENCH_JOB = 7,
    BENCH_MAP = 3,
    BENCH_EPOCH = 1,
    BENCH_INDEX = 4,
    BENCH_UNITS = 3, /* of the default job: "weight" 300x300 in units 0 and 1, "bias" 10 in unit 2 */
    BENCH_SAMPLES = 1000,
};

struct bench_reply {
    enum wire_kind kind;
    uint64_t route, request;
    uint32_t status; /* of a PUSH_REPLY, ERROR, ACK, MARKS_REPLY or LEDGER_REPLY */
    char reason[512];
    struct wire_message message; /* its pointers point to the copies below */
    struct wire_unit units[256];
    float *values[256];              /* decoded copies, freed with the next reply */
    struct snapshot *snapshots[256]; /* of the frames, held until the next reply */
    uint64_t positions[4096];        /* cuts or marks */
    struct wire_ledger_row rows[1024];
};

/* A decision and the push it was for, copied. */
struct bench_record {
    struct shard_decision decision;
    uint64_t *steps;
    uint8_t *applied;
    bool has_push;
    struct wire_message push;
    struct wire_unit *units;
    struct wire_bytes payload;
    struct wire_cover *covers;
};

/* A GATE_REPLY. */
struct bench_gate {
    uint64_t session, tag, round;
    uint32_t status;
};

struct shard_bench {
    struct shard_config config;
    struct tensor_spec tensors[160];
    size_t tensor_count;
    uint16_t placement[256];
    size_t placement_count;
    struct wire_pair spec[32];
    size_t spec_count;
    struct shard *shard;
    struct bench_reply reply;
    unsigned replies;
    struct bench_gate gates[64]; /* answers to gates, which may come at any time: they are no replies */
    size_t gate_count;
    uint64_t next_tag;
    uint64_t next_seq, next_clock, next_request; /* request: of hellos */
    bool record;
    struct bench_record *records;
    size_t record_count, record_capacity;
    void *scratch; /* payload of the last push */
};

/* The default job, on a shard with generous limits; change it before shard_bench_start. */
void shard_bench_init(struct shard_bench *bench);
void shard_bench_option(struct shard_bench *bench, const char *key, const char *value);
/* Makes the shard and opens the job. */
void shard_bench_start(struct shard_bench *bench);
void shard_bench_stop(struct shard_bench *bench);

/* Hands over a message; the answer is in bench->reply. Exactly one answer is asserted. */
struct bench_reply *shard_bench_send(struct shard_bench *bench, uint64_t route, const struct wire_message *message);
struct bench_reply *shard_bench_open_job(struct shard_bench *bench);
struct bench_reply *shard_bench_open_session(struct shard_bench *bench, uint64_t session, uint32_t incarnation);
struct bench_reply *shard_bench_close_session(struct shard_bench *bench, uint64_t session, uint32_t incarnation,
                                              const char *reason);
/* The token is session * 3; the route is the session's number. */
struct bench_reply *shard_bench_hello(struct shard_bench *bench, uint64_t session, uint64_t route);
/* Opens the session (incarnation 1) and greets on route = session. */
void shard_bench_join(struct shard_bench *bench, uint64_t session);

struct bench_push {
    uint64_t session, route; /* route 0: the session's number */
    uint32_t incarnation;    /* 0: 1 */
    uint64_t seq, clock;     /* 0: the next */
    uint64_t seq_floor;
    uint64_t base;             /* version */
    uint32_t part, part_count; /* part_count 0: 1 of 1 */
    enum wire_push_kind kind;
    enum wire_sign sign;
    uint64_t samples; /* 0: 1 */
    bool pull;
    uint64_t lease, epoch, first, end; /* one cover; lease 0: unleased */
    const uint32_t *units;             /* NULL: all of this shard's */
    size_t unit_count;
    float value;                    /* every element, unless: */
    const float *values;            /* units one behind the other */
    const char *codec, *pull_codec; /* NULL: f32; topk sends a tenth */
    bool pull_delta;
    uint64_t round;
    uint64_t key; /* of codecs that round at random */
};
struct bench_reply *shard_bench_push(struct shard_bench *bench, const struct bench_push *push);
/* INITIAL push of `value` into all units by `session`. */
void shard_bench_initialise(struct shard_bench *bench, uint64_t session, float value);
/* A pull of all units; `held` (per unit) may be NULL. */
struct bench_reply *shard_bench_pull(struct shard_bench *bench, uint64_t session, const uint64_t *held);
/* The same in a codec (NULL: f32), as differences to what is held. */
struct bench_reply *shard_bench_pull_as(struct shard_bench *bench, uint64_t session, const uint64_t *held,
                                        const char *codec, bool delta);

/* Asks with a new tag, from route = session. The answer if there is one, as the status; UINT32_MAX: none yet. An
 * ERROR's status and reason are in bench->reply. */
uint32_t shard_bench_gate(struct shard_bench *bench, uint64_t session, enum wire_gate_kind kind, uint64_t round);
/* The last answer to the session's last gate, NULL: none. */
const struct bench_gate *shard_bench_answer(const struct shard_bench *bench, uint64_t session);

uint64_t shard_bench_version(uint64_t counter);
/* First value of a unit; asserts that all are equal. */
float shard_bench_value(const struct shard_bench *bench, uint32_t unit);
/* Elements of a unit of the job. */
uint32_t shard_bench_elements(const struct shard_bench *bench, uint32_t unit);

#endif
