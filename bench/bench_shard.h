/* The update kernels inside a shard: a shard core takes whole pushes, from the decoded message to the answer. */
#ifndef LAGOON_BENCH_BENCH_SHARD_H
#define LAGOON_BENCH_BENCH_SHARD_H

#include "bench/limit.h"

enum { BENCH_SHARD_VALIDATED = 16 };
/* A process with two shards per updater of limit_kernel_names, each with one tensor of `bytes`: one that does what the
 * loop alone does, and one, BENCH_SHARD_VALIDATED further in `what`, that looks for NaN and infinity before it. */
LG_MUST_CHECK enum lg_status bench_shard_open(struct limit *limit, uint64_t bytes, struct lg_error *error);
/* Billions of parameters per second; the same arrays are touched as by limit_kernel_run, in parts of 1 MiB. */
enum lg_status bench_shard_run(struct probe *probe, struct figures *figures, struct lg_error *error);

#endif
