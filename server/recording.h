/* A recording: everything that one shard was given, and what it decided, in a file. `lagoon replay` gives the same to
 * another shard and gets the same parameters, bit for bit.
 *
 * The file: "LGRECORD", a head, then records of {u32 kind, u32 bytes, u64 XXH3 of the body} and a body, little-endian.
 * Inputs are kept as frames of the wire protocol. A file that ends within a record is whole up to there: the server was
 * killed. Used by one thread at a time; writing blocks on the disk. */
#ifndef LAGOON_SERVER_RECORDING_H
#define LAGOON_SERVER_RECORDING_H

#include "server/shard.h"

enum { RECORDING_VERSION_BYTES = 32, RECORDING_BODY_MAX = 64 << 20 };

/* What must agree between two decisions that are the same. */
struct recorded_decision {
    uint64_t kind; /* enum shard_decision_kind */
    uint64_t order, job, session, incarnation, seq, clock, staleness;
    uint64_t weight_bits, rate_bits; /* of the floats */
    uint64_t version_after, samples_after;
    uint64_t units, steps_hash, applied_hash; /* 0 where there is no part */
};

struct recorded_decision recorded_decision_of(const struct shard_decision *decision, const struct wire_message *push);

/* ---- writing */

struct recorder;

/* Makes the file anew. What `config` says that changes results goes into its head. */
LG_MUST_CHECK enum lg_status recorder_open(const char *path, const struct shard_config *config, struct recorder **out,
                                           struct lg_error *error);
/* Writes an input and returns its message as it was written, which is what the shard is to be given: payload that
 * lies in a client's memory could be something else a moment later. Valid until the next call. */
const struct wire_message *recorder_input(struct recorder *recorder, const struct shard_input *input);
/* For shard_sink.decide. */
void recorder_decide(struct recorder *recorder, const struct shard_decision *decision, const struct wire_message *push);
/* The digest of a job's values as they are now, for a replay to compare. */
void recorder_digest(struct recorder *recorder, const struct shard *shard, uint64_t job);
/* True until something could not be written; `error` says what, once. The shard goes on. */
bool recorder_works(struct recorder *recorder, struct lg_error *error);
/* Writes what is left and frees. NULL is fine. */
LG_MUST_CHECK enum lg_status recorder_close(struct recorder *recorder, struct lg_error *error);

/* ---- reading */

struct recording;

enum recorded_kind { RECORDED_END, RECORDED_CUT, RECORDED_INPUT, RECORDED_DECISION, RECORDED_DIGEST };

struct recorded_digest {
    uint64_t job, digest;
};

struct recorded {
    enum recorded_kind kind; /* CUT: the file ends within the record that would follow */
    uint64_t at;             /* offset of the record in the file */
    struct shard_input input;
    struct recorded_decision decision;
    struct recorded_digest digest;
};

/* `config` gets what the head says; isa, local and metrics are left as they are. */
LG_MUST_CHECK enum lg_status recording_open(const char *path, struct recording **out, struct shard_config *config,
                                            struct lg_error *error);
/* Version of the program that wrote it; borrowed. */
const char *recording_version(const struct recording *recording);
/* The next record; its message is valid until the next call. LG_MALFORMED: the file was changed. */
LG_MUST_CHECK enum lg_status recording_next(struct recording *recording, struct recorded *out, struct lg_error *error);
void recording_close(struct recording *recording);

#endif
