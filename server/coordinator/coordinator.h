/* The coordinator: membership, placement, the job queue, sessions and leases, as a state machine.
 *
 * Message in, time in, messages and rows out. No socket, file or clock: the coordinator process, the simulator and the
 * tests drive the same code. One thread at a time.
 *
 * What must survive a restart leaves through sink.store as rows; feeding them to coordinator_restore of a new
 * coordinator rebuilds it. Messages that an input led to must not leave before the rows of that input are durable: who
 * was told something may rely on it. Only what nobody may rely on need not wait: documents (QUERY_REPLY), which show
 * the state of the moment, and answers to beats that say no more than "heard" or "register again". */
#ifndef LAGOON_SERVER_COORDINATOR_COORDINATOR_H
#define LAGOON_SERVER_COORDINATOR_COORDINATOR_H

#include "common/metrics.h"
#include "proto/wire.h"
#include "server/coordinator/store.h"

struct coordinator;

struct coordinator_config {
    uint64_t instance; /* random per process */
    int64_t beat_ms, dead_after_ms, server_grace_ms;
    uint32_t sessions_per_job_max;     /* 0: CORE_SESSIONS_PER_JOB_MAX */
    uint64_t (*random)(void *context); /* for session numbers and tokens: getrandom in the process, seeded in tests */
    void *random_context;
    const char *address, *http; /* shown by `lagoon status`; borrowed */
    const char *version;
    uint64_t pid;
    struct metrics *metrics; /* may be NULL */
};

struct coordinator_sink {
    void *context;
    /* `message` and what it points to are valid until the call returns. A peer that is gone is no error: what matters
     * is sent again. */
    void (*send)(void *context, uint64_t route, const struct wire_message *message);
    /* A row of the input at hand; all rows of one input are one transaction. */
    void (*store)(void *context, const struct store_change *change);
};

struct coordinator_moment {
    int64_t now_ns;  /* monotonic */
    int64_t wall_ms; /* for people and for rows */
};

struct coordinator_input {
    struct coordinator_moment now;
    uint64_t route; /* return address; opaque, not 0 */
    const struct wire_message *message;
};

LG_MUST_CHECK enum lg_status coordinator_new(const struct coordinator_config *config,
                                             const struct coordinator_sink *sink, struct coordinator **out,
                                             struct lg_error *error);
void coordinator_free(struct coordinator *coordinator);

/* The addresses shown by `lagoon status`, once they are known; borrowed. */
void coordinator_set_addresses(struct coordinator *coordinator, const char *address, const char *http);

/* Puts a row back; all rows in store_load's order, then coordinator_start. */
LG_MUST_CHECK enum lg_status coordinator_restore(struct coordinator *coordinator, enum store_table table,
                                                 const void *row, struct lg_error *error);
/* Once, before the first input: goes on with whatever was under way. Everyone restored has `dead_after` from now to
 * come back. */
void coordinator_start(struct coordinator *coordinator, struct coordinator_moment now);

void coordinator_receive(struct coordinator *coordinator, const struct coordinator_input *input);
/* An answer to bytes that could not be decoded. */
void coordinator_refuse(struct coordinator *coordinator, uint64_t route, uint64_t request,
                        const struct lg_error *error);
/* Time passes: about ten times a second. */
void coordinator_tick(struct coordinator *coordinator, struct coordinator_moment now);

/* A JSON document as `lagoon` gets it, malloc'ed, or NULL with the reason in `error`. `next`: see QUERY_REPLY. */
char *coordinator_query(struct coordinator *coordinator, const struct wire_query *query, uint64_t *next,
                        struct lg_error *error);

#endif
