/* What an agent tells a trainer at its start, on the trainer's standard input: nothing secret shows in `ps`, and no
 * environment variable is needed.
 *
 * Lines of key=value; in values '\\', newline and carriage return are written \\, \n and \r. The keys of the job's
 * specification are prefixed "spec.". A last line "end" shows that nothing is missing. */
#ifndef LAGOON_WORKER_TRAINER_HANDOVER_H
#define LAGOON_WORKER_TRAINER_HANDOVER_H

#include <stdint.h>

#include "common/buf.h"
#include "common/config.h"
#include "common/option.h"
#include "common/status.h"
#include "proto/wire.h"

enum { TRAINER_HANDOVER_BYTES_MAX = 4 << 20 }; /* what WIRE_PAIRS_MAX values of the longest kind need */

struct trainer_handover {
    char coordinator[OPTION_TEXT_BYTES]; /* endpoint */
    char job_name[OPTION_TEXT_BYTES];
    int64_t job, trainer, attempt;
    char device[OPTION_TEXT_BYTES];
    int64_t threads; /* 1 or more: what the agent would give it; the job may name another number */
    double slowdown;
    char state_dir[OPTION_TEXT_BYTES]; /* see trainer_saved.h; "": none */
    char log_level[OPTION_TEXT_BYTES];
    int64_t agent_pid;
    uint64_t token;
    struct config *spec; /* owned; NULL for the writer */
};

/* Appends the text; spec entries come from `pairs`. Fails when memory runs out. */
LG_MUST_CHECK enum lg_status trainer_handover_write(const struct trainer_handover *handover,
                                                    const struct wire_pair *pairs, size_t count, struct buf *out,
                                                    struct lg_error *error);
/* Fills *out, which trainer_handover_deinit empties. */
LG_MUST_CHECK enum lg_status trainer_handover_read(const char *text, size_t bytes, struct trainer_handover *out,
                                                   struct lg_error *error);
void trainer_handover_deinit(struct trainer_handover *handover);

#endif
