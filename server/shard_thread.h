/* One shard on a thread of its own: a ROUTER for sessions, a PAIR for the control loop, no locks.
 *
 * Over the pair travel whole wire messages without a routing id: commands of the coordinator in, their answers and,
 * a few times a second, the shard's statistics (a BEAT) out. */
#ifndef LAGOON_SERVER_SHARD_THREAD_H
#define LAGOON_SERVER_SHARD_THREAD_H

#include "common/net.h"
#include "server/shard.h"

struct shard_thread;

struct shard_thread_options {
    void *zmq;                 /* context; outlives the thread */
    const char *endpoint;      /* to bind: "tcp://127.0.0.1:0" */
    bool local;                /* clients on this host may share memory with the shard */
    const char *record;        /* file to record to, see recording.h; NULL: none */
    struct shard_config shard; /* index is only known after registration: see shard_thread_start */
};

/* Binds (so that errors come back here) but serves nothing yet. */
LG_MUST_CHECK enum lg_status shard_thread_open(const struct shard_thread_options *options, struct shard_thread **out,
                                               struct lg_error *error);
/* The bound endpoint. */
const char *shard_thread_endpoint(const struct shard_thread *thread);
/* Starts serving as shard number `index`. */
LG_MUST_CHECK enum lg_status shard_thread_start(struct shard_thread *thread, uint32_t index, struct lg_error *error);
/* The control loop's end of the pair: watch it, send commands to it. */
void *shard_thread_control(const struct shard_thread *thread);
/* The shard's number; UINT32_MAX before the start. */
uint32_t shard_thread_index(const struct shard_thread *thread);
/* Answers what has arrived, stops, joins, frees. Close the watch of the control end first. NULL is fine. */
void shard_thread_stop(struct shard_thread *thread);

#endif
