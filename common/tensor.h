/* What a job's parameters are made of: named dense tensors with the group they belong to.
 *
 * A model's tensors lie one behind the other, in table order, in one flat f32 array: tensor i starts at element
 * tensor_offset(i). Parameters and gradients use the same layout everywhere: trainer, client, export file. */
#ifndef LAGOON_COMMON_TENSOR_H
#define LAGOON_COMMON_TENSOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/status.h"

enum { TENSOR_RANK_MAX = 4, TENSOR_NAME_BYTES = 96, TENSOR_COUNT_MAX = 65536 };

/* What a push does to a tensor: the job's updater consumes a gradient, or the pushed value itself is stored
 * (assign) or averaged in (average), for buffers such as running statistics. Numbers travel on the wire. */
enum tensor_update { TENSOR_UPDATE_GRADIENT = 0, TENSOR_UPDATE_ASSIGN = 1, TENSOR_UPDATE_AVERAGE = 2 };

struct tensor_spec {
    char name[TENSOR_NAME_BYTES]; /* unique within the job, e.g. "block2.attention.qkv.weight" */
    uint32_t rank;                /* 0 (scalar) .. TENSOR_RANK_MAX */
    uint64_t shape[TENSOR_RANK_MAX];
    enum tensor_update update;
    bool frozen;          /* pushes leave it as it is */
    bool no_weight_decay; /* biases and norm gains */
    float lr_factor;      /* multiplies the job's learning rate; 1 unless the model says otherwise */
};

/* Product of the shape; 1 for rank 0. */
uint64_t tensor_elements(const struct tensor_spec *spec);
/* Sum over the table. */
uint64_t tensor_total_elements(const struct tensor_spec *specs, size_t count);
/* Checks names (non-empty, unique, printable), ranks, shapes (no zero, product below 2^40), factors (finite, >= 0). */
LG_MUST_CHECK enum lg_status tensor_table_check(const struct tensor_spec *specs, size_t count, struct lg_error *error);
/* A 64-bit fingerprint (XXH3) of names, shapes and groups: two trainers of one job must agree on it. */
uint64_t tensor_table_fingerprint(const struct tensor_spec *specs, size_t count);

#endif
