/* How a job's units travel: which units of a shard slot share a message, and which stretches of the caller's flat
 * array their payload frames are. Made once per session; nothing here changes afterwards. */
#ifndef LAGOON_CLIENT_PARTS_H
#define LAGOON_CLIENT_PARTS_H

#include "common/block.h"
#include "proto/wire.h"

/* A message's units: a range of the slot's unit list. */
struct part {
    uint32_t first_unit, unit_count; /* in parts_slot.units */
    uint32_t first_run, run_count;   /* in parts_slot.runs; pushes only */
    uint32_t bytes;                  /* payload, as f32 */
    bool takes_values;               /* pushes: some tensor in it is assigned or averaged */
};

/* One payload frame: elements of the flat array that lie one behind the other. */
struct part_run {
    uint64_t offset;   /* element */
    uint32_t elements; /* whole units */
};

struct parts_slot {
    struct wire_unit *units; /* ascending, version 0: tables of push parts point straight into it */
    uint32_t unit_count;
    struct part *push; /* last tensors first: the order in which a backward pass finishes them */
    uint32_t push_count;
    struct part *pull; /* first tensors first */
    uint32_t pull_count;
    struct part_run *runs;
    uint32_t run_count;
};

struct parts {
    struct block_table blocks;
    struct parts_slot *slots;
    uint32_t slot_count;
    uint32_t part_bytes; /* at most, but for single units */
    size_t tensor_count;
    uint64_t elements; /* of the flat array */
};

struct parts_plan {
    const struct tensor_spec *tensors;
    size_t tensor_count;
    const uint16_t *placement; /* per unit of the table: a slot below slot_count */
    size_t placement_count;
    uint32_t slot_count;
    uint32_t part_bytes; /* 0: WIRE_PART_BYTES */
    bool values_apart;   /* tensors that are assigned or averaged share no push part with others */
};
LG_MUST_CHECK enum lg_status parts_init(struct parts *parts, const struct parts_plan *plan, struct lg_error *error);
void parts_deinit(struct parts *parts);

#endif
