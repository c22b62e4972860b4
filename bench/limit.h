/* The limits that Lagoon is measured against: what the memory, the update loop, TCP and ZeroMQ give on this machine by
 * themselves. These files stay as they are, so that ratios of different versions can be compared; they do the least
 * that the job allows and nothing cleverer than that. All use `daemon_keep_memory`, as the daemons do. */
#ifndef LAGOON_BENCH_LIMIT_H
#define LAGOON_BENCH_LIMIT_H

#include "bench/probe.h"

enum { LIMIT_CHUNK_BYTES = 1 << 20, LIMIT_WINDOW = 8, LIMIT_SMALL_BYTES = 64 };

struct limit {
    struct process processes[2];
    uint64_t bytes; /* of a tensor */
};

/* Each opens a station for tensors of `bytes`; limit_close stops its processes, also after a failed open. */
LG_MUST_CHECK enum lg_status limit_memory_open(struct limit *limit, uint64_t bytes, struct lg_error *error);
LG_MUST_CHECK enum lg_status limit_kernels_open(struct limit *limit, uint64_t bytes, struct lg_error *error);
LG_MUST_CHECK enum lg_status limit_tcp_open(struct limit *limit, uint64_t bytes, struct lg_error *error);
LG_MUST_CHECK enum lg_status limit_zmq_open(struct limit *limit, uint64_t bytes, struct lg_error *error);
void limit_close(struct limit *limit);

/* Measurements for probes whose station is such a limit. */

/* GB/s of memcpy by one thread into pages that are there. */
enum lg_status limit_memory_copy(struct probe *probe, struct figures *figures, struct lg_error *error);
/* Billions of parameters per second of the update loop over plain arrays; `what` counts in limit_kernel_names. */
enum lg_status limit_kernel_run(struct probe *probe, struct figures *figures, struct lg_error *error);
extern const char *const limit_kernel_names[]; /* ends with NULL */
/* The same in GB/s of gradients. */
enum lg_status limit_kernel_bytes(struct probe *probe, struct figures *figures, struct lg_error *error);
/* GB/s one way, at the best of some message sizes. */
enum lg_status limit_tcp_send(struct probe *probe, struct figures *figures, struct lg_error *error);
/* GB/s of chunks that are received, applied with SGD, and acknowledged (LIMIT_ZMQ_PUSH) or answered with the updated
 * chunk (LIMIT_ZMQ_PUSHPULL); NAME.cpu: seconds of the receiving process's processor time per GB. LIMIT_ZMQ_SMALL:
 * NAME.p50 and NAME.p99 in microseconds of a push of 64 bytes and its acknowledgement. */
enum limit_zmq { LIMIT_ZMQ_PUSH, LIMIT_ZMQ_PUSHPULL, LIMIT_ZMQ_SMALL };
enum lg_status limit_zmq_run(struct probe *probe, struct figures *figures, struct lg_error *error);

/* What the reference machine gave (2 cores, Debian 12; docs/performance.md). A run whose own limit is below
 * LIMIT_FLOOR of it was disturbed, or the machine is a slower one: the run says so. */
#define LIMIT_FLOOR 0.7
struct limit_reference {
    const char *figure, *what;
    double value;
};
extern const struct limit_reference limit_references[]; /* ends with NULL */

#endif
