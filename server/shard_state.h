/* Inside the shard: shared by shard.c (dispatch, life, statistics), shard_job.c and shard_session.c (what the
 * coordinator commands, and hello), shard_push.c and shard_apply.c, shard_gate.c, shard_pull.c. One thread; no locks.
 */
#ifndef LAGOON_SERVER_SHARD_STATE_H
#define LAGOON_SERVER_SHARD_STATE_H

#include "client/job.h"
#include "common/block.h"
#include "server/dedup.h"
#include "server/gate.h"
#include "server/gather.h"
#include "server/ledger.h"
#include "server/payload.h"
#include "server/policy.h"
#include "server/segment.h"
#include "server/shadow.h"
#include "server/shard.h"
#include "server/tally.h"
#include "server/unit.h"
#include "common/updater.h"

enum {
    SHARD_CREDIT_LEAST = WIRE_PART_BYTES_HERE, /* of one session: the largest part that the client library sends */
    SHARD_PUSHES_OPEN = 4,                     /* of one session; the client library has two */
    SHARD_ENDED_MAX = 64,                      /* ended sessions remembered per job, to tell them why */
    SHARD_REASON_BYTES = 160,
    SHARD_CUTS_MAX = 1024,                /* in one reply */
    SHARD_GATHER_ELEMENTS = 8192,         /* changed units of up to so many share a frame with their neighbours */
    SHARD_SNAPSHOTS_CACHED = 64,          /* shared by readers that pull at about the same time: at most 16 MiB */
    SHARD_SNAPSHOT_SPARE_BYTES = 8 << 20, /* buffers kept for the next snapshots */
    SHARD_STATUS_COUNT = LG_INTERNAL + 1,
};

#define SHARD_SEQ_MAX (UINT64_C(1) << 62) /* so that counting on from a seq never overflows */

/* A push of which some parts are still to come. Staleness, weight and learning rate are fixed at its first part. */
struct open_push {
    bool used;
    uint64_t clock, opened; /* opened: the shard's message serial */
    uint32_t part_count, parts;
    uint64_t samples, staleness;
    float weight, learning_rate;
    bool applied, dropped; /* some unit was */
    bool old_base;         /* computed from an earlier epoch of the shard */
};

struct shard_session {
    uint64_t id, token;
    uint32_t incarnation;
    bool may_push, may_initialise;
    bool greeted; /* has said hello, on `route`, as `principal` */
    uint64_t route, principal;
    uint64_t hello_request; /* of the last hello: an older one that comes late does not take the route back */
    uint32_t window;
    uint64_t credit_bytes; /* granted */
    struct open_push pushes[SHARD_PUSHES_OPEN];
    struct dedup dedup;
    struct gate_member gate; /* open where it may push */
    struct shadow *shadow;   /* what it holds, for pulls of differences; NULL until it asks for them */
};

struct ended_session {
    uint64_t id; /* 0: unused */
    uint32_t incarnation;
    char reason[SHARD_REASON_BYTES];
};

/* Metric cells of one job on one shard; all NULL without metrics. */
struct job_cells {
    struct metric_cell *push_parts, *pushes, *pulls, *push_bytes, *pull_bytes, *applied, *dropped, *duplicates,
        *staleness, *weight, *apply_seconds, *old_bases;
};

struct shard_job {
    uint64_t id, epoch, map_version, train_samples, fingerprint;
    uint32_t slot;
    char name[OPTION_TEXT_BYTES];
    struct tensor_spec *tensors;
    size_t tensor_count;
    struct block_table blocks;
    uint32_t *local; /* [blocks.count] index into `units` + 1; 0: placed elsewhere */
    struct unit *units;
    uint32_t unit_count, units_initialised;
    struct segment segment; /* parameters */
    float *states;          /* optimizer state, one allocation */
    uint64_t parameter_bytes, state_bytes;

    struct job_config config;
    const struct updater *updater;
    const struct policy *policy;
    double updater_values[UPDATER_PARAMS_MAX], policy_values[POLICY_PARAMS_MAX];

    uint64_t counter; /* applied pushes */
    uint64_t samples; /* applied: what the learning rate is a function of */
    bool trained;     /* a gradient was applied: initial values no longer overwrite */
    struct ledger ledger;
    bool gated; /* some session may have to wait, or pushes are gathered: any mode but async */
    struct gate gate;
    struct gather gather;
    struct shard_session **sessions;
    uint32_t session_count, session_capacity; /* `sessions` are sorted by number */
    uint32_t pushers;                         /* sessions that may push */
    struct ended_session ended[SHARD_ENDED_MAX];
    uint32_t ended_next;

    struct tally tally;
    struct job_cells cells;
};

/* How values are to come. */
struct shard_form {
    const struct codec *codec;
    bool delta;
};

/* One push part while it is being handled. */
struct push_part {
    struct shard_job *job;
    struct shard_session *session; /* NULL in a replay */
    const struct wire_message *message;
    const struct codec *codec;
    uint64_t bytes;         /* payload */
    enum gate_push taken;   /* LATE: its round is over, so it has no weight */
    struct shard_form form; /* of the values asked for */
    struct unit *units[WIRE_UNITS_MAX];
    const uint8_t *payload[WIRE_UNITS_MAX];
    uint16_t outcomes[WIRE_UNITS_MAX]; /* enum dedup_outcome */
    uint64_t steps[WIRE_UNITS_MAX];
    uint8_t applied[WIRE_UNITS_MAX];
};

struct shard {
    struct shard_config config;
    struct shard_sink sink;
    struct shard_job **jobs;
    uint32_t job_count, job_capacity;
    uint64_t order;  /* of the next decision */
    uint64_t serial; /* of the message being handled */
    int64_t now_ns;  /* when it came */
    uint64_t credit_granted;
    struct snapshot_pool *pool;
    struct unit *cached[SHARD_SNAPSHOTS_CACHED]; /* units whose snapshot is kept, oldest at cached_next */
    uint32_t cached_next;
    struct push_part part;
    /* the reply being built */
    struct wire_unit reply_units[WIRE_UNITS_MAX];
    struct wire_bytes reply_payload[WIRE_PAYLOAD_FRAMES_MAX];
    struct snapshot *reply_snapshots[WIRE_PAYLOAD_FRAMES_MAX];
    uint64_t cuts[SHARD_CUTS_MAX];
    uint64_t marks[WIRE_MARKS_MAX];
    struct wire_ledger_row rows[WIRE_ROWS_MAX];
    char number[16]; /* of the shard, as a label */
    struct metric_cell *refused[SHARD_STATUS_COUNT];
    struct metric_cell *credit_cell, *pool_cell, *parameter_cell, *state_cell, *session_cell;
};

/* ---- shard.c */

void shard_send(struct shard *shard, const struct shard_input *input, struct wire_message *reply);
/* ERROR; `about` is the push's seq or the pull's tag. */
void shard_send_error(struct shard *shard, const struct shard_input *input, uint64_t about,
                      const struct lg_error *error);
void shard_send_ack(struct shard *shard, const struct shard_input *input, enum lg_status status,
                    const struct lg_error *error);
void shard_count_refusal(struct shard *shard, enum lg_status status);
/* NULL where the job is not here. */
struct shard_job *shard_find_job(const struct shard *shard, uint64_t id);
LG_MUST_CHECK enum lg_status shard_need_job(const struct shard *shard, uint64_t id, struct shard_job **out,
                                            struct lg_error *error);
void shard_show_memory(struct shard *shard);
/* Commands name their shard. */
LG_MUST_CHECK enum lg_status shard_need_here(const struct shard *shard, uint32_t asked, struct lg_error *error);

/* ---- shard_job.c */

void shard_handle_job_open(struct shard *shard, const struct shard_input *input);
void shard_handle_job_close(struct shard *shard, const struct shard_input *input);
void shard_handle_marks_query(struct shard *shard, const struct shard_input *input);
void shard_handle_ledger_query(struct shard *shard, const struct shard_input *input);
/* Ends its sessions and frees it; it is no longer in shard->jobs. */
void shard_job_free(struct shard *shard, struct shard_job *job);
/* The job's version now: (epoch, counter). */
uint64_t job_version(const struct shard_job *job);
bool job_initialised(const struct shard_job *job);
static inline bool job_gathers(const struct shard_job *job) {
    return job->gather.memory != NULL;
}
/* Shows the job's version, and that it may be read, to those who have its segment mapped. */
void job_publish(struct shard_job *job);

/* ---- shard_session.c */

void shard_handle_session_open(struct shard *shard, const struct shard_input *input);
void shard_handle_session_close(struct shard *shard, const struct shard_input *input);
void shard_handle_hello(struct shard *shard, const struct shard_input *input);
/* The session that may send on this route, or why not: unknown, ended, another incarnation, no hello here, another map
 * version. */
LG_MUST_CHECK enum lg_status shard_need_session(struct shard_job *job, const struct shard_input *input, uint64_t id,
                                                uint32_t incarnation, uint64_t map_version, struct shard_session **out,
                                                struct lg_error *error);
/* Finishes its open pushes, returns its credit, frees it; it is no longer in job->sessions. */
void shard_session_free(struct shard *shard, struct shard_job *job, struct shard_session *session);
/* Sessions that may push now, at least 1. */
uint32_t job_concurrency(const struct shard_job *job);

/* ---- shard_push.c */

void shard_handle_push(struct shard *shard, const struct shard_input *input);
/* No more parts are awaited: the counter moves if anything was applied. `announce` tells the sink, for pushes that end
 * without their last part. */
void shard_finish_push(struct shard *shard, struct shard_job *job, struct open_push *push, bool announce);

/* ---- shard_apply.c */

/* The units that the table names, and their payload: what replay checks too. Fills part->units, payload, codec, bytes.
 */
LG_MUST_CHECK enum lg_status part_resolve(struct shard *shard, struct push_part *part, struct lg_error *error);
/* What will become of each unit under this weight, and room in the ledger for it. Fills outcomes, applied, steps. */
LG_MUST_CHECK enum lg_status part_plan(struct push_part *part, float weight, struct lg_error *error);
/* Applies the decision to the units and marks the ledger. Cannot fail. */
void shard_apply(struct shard *shard, struct push_part *part, const struct shard_decision *decision);

/* ---- shard_gate.c */

void shard_handle_gate(struct shard *shard, const struct shard_input *input);
/* After anything that others may wait for: applies what is due, and answers who may go on. */
void shard_gate_settle(struct shard *shard, struct shard_job *job);
/* Applies what was gathered, as decided. Cannot fail. */
void shard_commit(struct shard *shard, struct shard_job *job, const struct shard_decision *decision);

/* ---- shard_pull.c */

void shard_handle_pull(struct shard *shard, const struct shard_input *input);
/* The units named by a table, checked against the job; fills units[message->unit_count]. */
LG_MUST_CHECK enum lg_status shard_find_units(struct shard *shard, const struct shard_job *job,
                                              const struct wire_message *message, struct unit **units,
                                              struct lg_error *error);

/* ---- shard_values.c */

/* Fills *form with what a PULL, or a PUSH that pulls, asks for; LG_OK where so much may be asked for so. */
LG_MUST_CHECK enum lg_status shard_check_pull(const struct shard_job *job, const struct shard_session *session,
                                              const struct wire_message *asked, struct shard_form *form,
                                              struct lg_error *error);
/* Puts the values of the message's units into `reply`, but for those whose version the asker has. Every snapshot in
 * reply_snapshots[0 .. reply->payload_count) is held until shard_release_values. */
LG_MUST_CHECK enum lg_status shard_add_values(struct shard *shard, struct shard_job *job, struct shard_session *session,
                                              const struct wire_message *asked, struct unit *const *units,
                                              const struct shard_form *form, struct wire_message *reply,
                                              uint32_t *unchanged, struct lg_error *error);
void shard_release_values(struct shard *shard, size_t count);
/* The session holds nothing that differences could be made to. */
void shard_forget_shadow(struct shard *shard, struct shard_job *job, struct shard_session *session);

#endif
