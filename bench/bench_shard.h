/* The update kernels inside a shard: a shard core takes whole pushes, from the decoded message to the answer. */
#ifndef LAGOON_BENCH_BENCH_SHARD_H
#define LAGOON_BENCH_BENCH_SHARD_H

#include "bench/limit.h"

/* A process with a shard per updater of limit_kernel_names, each with one tensor of `bytes`. */
LG_MUST_CHECK enum lg_status bench_shard_open(struct limit *limit, uint64_t bytes, struct lg_error *error);
/* Billions of parameters per second; the same arrays are touched as by limit_kernel_run, in parts of 1 MiB. */
enum lg_status bench_shard_run(struct probe *probe, struct figures *figures, struct lg_error *error);

#endif
