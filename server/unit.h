/* One unit of a job on a shard: a block of parameters with its optimizer state, version and step count. */
#ifndef LAGOON_SERVER_UNIT_H
#define LAGOON_SERVER_UNIT_H

#include "common/codec.h"
#include "common/tensor.h"
#include "proto/local.h"
#include "server/policy.h"
#include "server/snapshot.h"
#include "common/updater.h"

struct unit {
    uint32_t number; /* within the job */
    uint32_t elements;
    const struct tensor_spec *tensor;
    float *values;                     /* [elements], in the job's segment */
    float *states[UPDATER_STATES_MAX]; /* [elements] each, private */
    float *drift;                      /* [elements] of the policy's compensation, private; NULL: none */
    struct local_unit *shared;         /* its sequence lock there; NULL: none */
    uint64_t version;                  /* rises with every change; 0: never set */
    uint64_t steps;                    /* applied updates */
    bool initialised;
    struct snapshot *snapshot; /* of the current version, or NULL */
    struct snapshot *encoded;  /* the same in codec encoded_as, or NULL */
    const struct codec *encoded_as;
    uint64_t seen; /* serial of the last message that named it */
};

enum unit_change_kind {
    UNIT_CHANGE_UPDATE,  /* the updater consumes the payload as a gradient */
    UNIT_CHANGE_ASSIGN,  /* w = payload */
    UNIT_CHANGE_AVERAGE, /* w += rate * (payload - w) */
};

/* How a policy changes the gradient before the updater gets it. */
struct unit_compensation {
    compensate_fn *compensate;
    compensation_learn_fn *learn; /* NULL: none */
    const float *held;            /* [elements] as the sender read them; NULL: not known, the gradient stays as it is */
    float *mine;                  /* [elements] or NULL */
    float scalars[COMPENSATION_SCALARS_MAX];
};

/* What a push does to one unit. */
struct unit_change {
    enum unit_change_kind kind;
    const struct codec_kernels *codec;
    bool negate; /* UPDATE: the payload points along the wanted move */
    updater_apply_fn *apply;
    float scalars[UPDATER_SCALARS_MAX];
    float rate;
    const struct unit_compensation *compensation; /* NULL: none */
};

/* Decodes and applies in cache-sized chunks. Bits depend on the change, the payload and the unit alone. From the first
 * unit_apply on, readers of the shared segment wait for unit_touch. */
void unit_apply(struct unit *unit, const struct unit_change *change, const uint8_t *payload);

/* The unit has changed: it gets the least version above its own and `at_least`, and its snapshot goes. */
void unit_touch(struct unit *unit, uint64_t at_least);
void unit_forget_snapshot(struct unit *unit);

#endif
