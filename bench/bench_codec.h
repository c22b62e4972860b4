/* Codecs by themselves, on one thread: gradients encoded unit by unit, and decoded in the chunks that updaters take. */
#ifndef LAGOON_BENCH_BENCH_CODEC_H
#define LAGOON_BENCH_BENCH_CODEC_H

#include "bench/limit.h"

/* A process with `bytes` of values and every codec's encoding of them. */
LG_MUST_CHECK enum lg_status bench_codec_open(struct limit *limit, uint64_t bytes, struct lg_error *error);
/* GB/s of f32: encoded (what: twice the codec's place in the registry) or decoded (one more). */
enum lg_status bench_codec_run(struct probe *probe, struct figures *figures, struct lg_error *error);

#endif
