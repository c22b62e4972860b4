/* Gives a recording to a new shard and sees to it that it decides and ends as the first one did. */
#ifndef LAGOON_SERVER_REPLAY_H
#define LAGOON_SERVER_REPLAY_H

#include "server/recording.h"

struct replay_options {
    enum isa isa;
    uint64_t until; /* stop when so many decisions were made; 0: at the end */
    /* May be NULL. Every input before the shard gets it, and every decision with the input that led to it. */
    void (*hear)(void *context, const struct shard_input *input);
    void (*show)(void *context, const struct shard_input *input, const struct shard_decision *decision);
    void *context;
};

struct replay_summary {
    char version[RECORDING_VERSION_BYTES + 1]; /* of the program that recorded */
    uint32_t shard;
    uint64_t inputs, decisions;
    uint64_t digests;          /* compared, and equal */
    int64_t first_ns, last_ns; /* of the inputs; monotonic clock of the recording's machine */
    bool cut;                  /* the recording ends within a record: its server was killed */
    uint64_t cut_at;           /* byte */
};

/* The shard as it is then; free it. LG_INVALID: it decided otherwise, or its values are others; the message says where.
 */
LG_MUST_CHECK enum lg_status replay_run(const char *path, const struct replay_options *options, struct shard **out,
                                        struct replay_summary *summary, struct lg_error *error);

#endif
