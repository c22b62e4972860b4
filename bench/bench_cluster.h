/* A cluster to measure: one server process with real shard threads and a coordinator that only lets clients in, and
 * one process per worker that uses nothing but liblagoon. */
#ifndef LAGOON_BENCH_BENCH_CLUSTER_H
#define LAGOON_BENCH_BENCH_CLUSTER_H

#include "bench/probe.h"
#include "common/tensor.h"

enum { BENCH_SHARDS_MAX = 2, BENCH_WORKERS_MAX = 2, BENCH_PATH_BYTES = 64 };

enum bench_transport { BENCH_TCP, BENCH_IPC, BENCH_SHM, BENCH_TRANSPORTS };

struct bench_setup {
    enum bench_transport transport;
    unsigned shards, workers;
    uint64_t tensors, tensor_bytes; /* all tensors are alike */
    const char *codec;              /* push.codec of the job; NULL: raw */
};

struct bench_cluster {
    struct bench_setup setup;
    struct process server, workers[BENCH_WORKERS_MAX];
    char dir[BENCH_PATH_BYTES];        /* of ipc sockets; "" : none was made */
    char endpoint[PROCESS_TEXT_BYTES]; /* of the coordinator */
    bool one_round_trip;               /* lg_push brings parameters back by itself */
};

/* Starts everything and sets initial values. LG_UNSUPPORTED: the clients cannot use that transport; the error says what
 * they used in its place. bench_cluster_close also after a failed open. */
LG_MUST_CHECK enum lg_status bench_cluster_open(struct bench_cluster *cluster, const struct bench_setup *setup,
                                                struct lg_error *error);
void bench_cluster_close(struct bench_cluster *cluster);

/* For probes whose station is a cluster: GB/s over all workers, a tensor's bytes counted once, and what that cost the
 * server: NAME.cpu, seconds of processor time per GB, and NAME.faults, page faults per GB. BENCH_SMALL: NAME.p50 and
 * NAME.p99 of a push in microseconds. */
enum bench_what { BENCH_PUSH, BENCH_PULL, BENCH_PUSHPULL, BENCH_SMALL };
enum lg_status bench_cluster_run(struct probe *probe, struct figures *figures, struct lg_error *error);

/* "tcp", "ipc", "shm". */
const char *bench_transport_name(enum bench_transport transport);

/* ---- the processes; their contexts are struct bench_cluster */

int bench_server_run(int fd, const void *context);
int bench_client_run(int fd, const void *context);
/* The tensor table of a setup, malloc'ed. */
struct tensor_spec *bench_tensors(const struct bench_setup *setup);

#endif
