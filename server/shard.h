/* The shard: a state machine that holds its part of every job's parameters and applies pushes as they arrive.
 *
 * Message in, time in, messages out. No socket, file or clock: the server's shard thread, the simulator, replay and
 * fuzzing drive the same code. One thread at a time per shard; nothing here locks.
 *
 *   shard_receive -> one switch over the kind -> handler -> decide (staleness, weight, scalars) -> apply -> reply
 *
 * Units are all units of the job placed on this shard. Unknown job, unit, session, wrong length, wrong map version: an
 * answer with a status and a reason, never silence. Every PUSH is answered by a PUSH_REPLY, also when it is refused; a
 * refused HELLO, PULL or GATE by an ERROR (`seq` is the tag); commands by ACK, MARKS_REPLY, LEDGER_REPLY.
 *
 * What the payload of a push means: with sign DESCEND it is a gradient for the job's updater, with sign ADD (deltas)
 * its negative is. Tensors with update ASSIGN take the payload as it is; with AVERAGE w += s * min(1, lr_factor) *
 * (payload - w). INITIAL parts overwrite until the first gradient was applied, afterwards they count as repeated.
 * Frozen tensors count as applied and stay as they are. Weight zero: LG_DROPPED, samples are consumed, nothing is
 * applied. In jobs whose consistency mode gathers pushes, all of this happens to their mean, once the group is whole; a
 * push that is SKIPPED, or for a round that is over, is treated as one of weight zero. */
#ifndef LAGOON_SERVER_SHARD_H
#define LAGOON_SERVER_SHARD_H

#include "common/isa.h"
#include "common/metrics.h"
#include "proto/local.h"
#include "proto/wire.h"
#include "server/snapshot.h"

struct shard;

struct shard_config {
    uint32_t index;                /* global shard number, for replies and metrics */
    uint64_t credit_bytes;         /* pool granted out to sessions at hello; one message per session is guaranteed */
    uint64_t session_credit_bytes; /* what one session gets while the pool lasts */
    uint64_t memory_bytes;         /* parameters + optimizer state; 0: no limit of its own */
    uint32_t window;               /* parts unacknowledged at once that a session may have (seqs kept for dedup) */
    uint32_t sessions_max;         /* per job */
    bool reject_nonfinite;         /* refuse parts that contain NaN or infinity */
    enum isa isa;
    const char *local;       /* name of the Unix socket that clients on this host are told; NULL: none. Outlives it */
    struct metrics *metrics; /* may be NULL */
};

/* One decision: all that apply needs besides the payload. Feeding the same decisions and payloads to another shard
 * gives bit-identical parameters on any ISA (shard_replay). */
enum shard_decision_kind {
    SHARD_DECISION_APPLY,  /* the part changes its units */
    SHARD_DECISION_GATHER, /* the part is added to what is gathered for its units */
    SHARD_DECISION_COMMIT, /* units change by what was gathered for them; there is no push */
};

struct shard_decision {
    enum shard_decision_kind kind;
    uint64_t order; /* 0, 1, 2, ... on this shard */
    uint64_t job, session;
    uint32_t incarnation;
    uint64_t seq, clock;
    uint64_t staleness;
    float weight;
    float learning_rate;         /* schedule value for this push */
    uint64_t version_after;      /* of the job, once the part is applied */
    uint64_t samples_after;      /* applied to the job, likewise */
    const uint64_t *unit_steps;  /* [unit_count] applied updates per unit after this part; 0: unit skipped */
    const uint8_t *unit_applied; /* [unit_count] 1: apply, 0: its samples were applied before */
};

enum { SHARD_ROUTE_CONTROL = 0 }; /* route of the coordinator's messages; data routes are never 0 */

struct shard_input {
    int64_t now_ns;     /* monotonic */
    uint64_t route;     /* return address; opaque */
    uint64_t principal; /* who the transport authenticated; 0: nobody (security: none) */
    const struct wire_message *message;
};

/* Where outputs go; called synchronously from shard_receive, in order. */
struct shard_sink {
    void *context;
    /* `message` and what it points to are valid until the call returns. For replies with values, payload[i] is the data
     * of snapshots[i]: to keep it longer, retain the snapshot. */
    void (*send)(void *context, uint64_t route, const struct wire_message *message, struct snapshot *const *snapshots,
                 size_t snapshot_count);
    /* May be NULL. Called before the part is applied. With `push` NULL the decision is only that a push that will get
     * no more parts counts as done: version_after and samples_after. A COMMIT has learning_rate besides. */
    void (*decide)(void *context, const struct shard_decision *decision, const struct wire_message *push);
    /* May be NULL. A clock for the statistics of apply times; nothing else depends on it. */
    int64_t (*clock_ns)(void *context);
};

LG_MUST_CHECK enum lg_status shard_new(const struct shard_config *config, const struct shard_sink *sink,
                                       struct shard **out, struct lg_error *error);
void shard_free(struct shard *shard);

/* Handles one decoded message: HELLO, PUSH, PULL, GATE from sessions; JOB_OPEN, JOB_CLOSE, SESSION_OPEN, SESSION_CLOSE,
 * MARKS_QUERY, LEDGER_QUERY from the control route. Anything else is answered with an ERROR. */
void shard_receive(struct shard *shard, const struct shard_input *input);
/* An answer to bytes that could not be decoded, or whose payload is not there; `about` is a push's seq or 0. */
void shard_refuse(struct shard *shard, uint64_t route, uint64_t request, uint64_t about, const struct lg_error *error);

/* Applies a recorded decision to the payload of `push` (NULL where it was NULL) as the original did, without deciding
 * anything. The shard has the same jobs open and no sessions; decisions come in order from the first. Jobs whose policy
 * compensates are not replayed this way (LG_UNSUPPORTED), but from all inputs: replay.h. */
LG_MUST_CHECK enum lg_status shard_replay(struct shard *shard, const struct shard_decision *decision,
                                          const struct wire_message *push, struct lg_error *error);

/* A client on this host wants to read the job's parameters in place: may it? The descriptor stays the shard's. */
struct shard_attachment {
    int fd;
    uint32_t unit_count;
    uint64_t bytes;
};
LG_MUST_CHECK enum lg_status shard_attach(const struct shard *shard, const struct local_hello *hello,
                                          struct shard_attachment *out, struct lg_error *error);
bool shard_has_session(const struct shard *shard, uint64_t job, uint64_t session, uint32_t incarnation);

/* Fills one entry per job, the newest first: ended ones, whose values are kept, are left out where there is no room.
 * Returns how many. */
size_t shard_stats(const struct shard *shard, struct wire_shard_job_stats *stats, size_t capacity);
/* Parameters + state held now. */
uint64_t shard_memory_bytes(const struct shard *shard);
/* The current values of one unit, for tests and replay; NULL where the unit is not here. Borrowed. */
const float *shard_unit_data(const struct shard *shard, uint64_t job, uint32_t unit, uint32_t *elements,
                             uint64_t *version);
/* A checksum (XXH3) over the job's units here: numbers, versions and values. 0 where there is no such job. */
uint64_t shard_digest(const struct shard *shard, uint64_t job);

#endif
