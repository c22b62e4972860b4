/* Consistency modes: when pulls and pushes of a job may proceed. One line in consistency.def adds one that is made of
 * the parts there are; what the parts do is in server/gate.c (who waits), server/gather.c (what is averaged) and
 * client/session_gate.c (what a session asks). */
#ifndef LAGOON_CLIENT_CONSISTENCY_H
#define LAGOON_CLIENT_CONSISTENCY_H

#include <stdbool.h>
#include <stddef.h>

#include "common/config.h"
#include "common/status.h"

enum consistency_flag {
    CONSISTENCY_READS = 1 << 0,   /* a trainer asks before it pulls */
    CONSISTENCY_RESTS = 1 << 1,   /* and says when it has nothing to train on */
    CONSISTENCY_TICKETS = 1 << 2, /* and asks before it pushes */
    CONSISTENCY_GATHERS = 1 << 3, /* pushes are averaged before they are applied */
    CONSISTENCY_ROUNDS = 1 << 4,  /* pushes belong to rounds, which begin one after the other */
    CONSISTENCY_REPEATS = 1 << 5, /* a trainer may push several times in a round */
    CONSISTENCY_TAKES_BOUND = 1 << 6,
    CONSISTENCY_TAKES_BOUND_MOST = 1 << 7,
    CONSISTENCY_TAKES_PUSHES = 1 << 8,
};

struct consistency {
    const char *name;
    unsigned flags; /* enum consistency_flag */
    const char *summary;
    const char *rule;
    const char *source; /* paper */
};

struct job_config;

const struct consistency *consistencies(size_t *count);
/* NULL: there is none of that name. */
const struct consistency *consistency_find(const char *name);

/* LG_INVALID, with place and reason, where the job's settings do not go together with its mode. */
LG_MUST_CHECK enum lg_status consistency_check(const struct config *config, const struct job_config *job,
                                               struct lg_error *error);

static inline bool consistency_has(const struct consistency *mode, unsigned flags) {
    return (mode->flags & flags) == flags;
}

#endif
