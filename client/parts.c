#include "client/parts.h"

#include <stdlib.h>

static bool slot_alloc(struct parts_slot *slot) {
    size_t count = slot->unit_count ? slot->unit_count : 1;
    slot->units = calloc(count, sizeof *slot->units);
    slot->push = calloc(count, sizeof *slot->push);
    slot->pull = calloc(count, sizeof *slot->pull);
    slot->runs = calloc(count, sizeof *slot->runs);
    return slot->units && slot->push && slot->pull && slot->runs;
}

/* True when unit `at` of the slot begins where the one before it ends. */
static bool joins_previous(const struct parts *parts, const struct parts_slot *slot, uint32_t at) {
    const struct block *before = &parts->blocks.blocks[slot->units[at - 1].unit];
    return before->offset + before->elements == parts->blocks.blocks[slot->units[at].unit].offset;
}

static uint32_t unit_bytes(const struct parts_slot *slot, uint32_t at) {
    return slot->units[at].elements * (uint32_t)sizeof(float);
}

static void runs_append(struct parts *parts, struct parts_slot *slot, struct part *part) {
    part->first_run = slot->run_count;
    for (uint32_t i = part->first_unit; i < part->first_unit + part->unit_count; i++) {
        if (i == part->first_unit || !joins_previous(parts, slot, i))
            slot->runs[slot->run_count++] = (struct part_run){parts->blocks.blocks[slot->units[i].unit].offset, 0};
        slot->runs[slot->run_count - 1].elements += slot->units[i].elements;
    }
    part->run_count = slot->run_count - part->first_run;
}

static bool takes_values(const struct parts *parts, const struct parts_plan *plan, const struct parts_slot *slot,
                         uint32_t at) {
    return plan->tensors[parts->blocks.blocks[slot->units[at].unit].tensor].update != TENSOR_UPDATE_GRADIENT;
}

/* From the last unit backwards, as many as a message takes. */
static void plan_push(struct parts *parts, const struct parts_plan *plan, struct parts_slot *slot) {
    for (uint32_t end = slot->unit_count; end > 0;) {
        uint32_t first = end - 1, bytes = unit_bytes(slot, first), runs = 1;
        bool values = takes_values(parts, plan, slot, first);
        while (first > 0 && end - first < WIRE_UNITS_MAX && bytes + unit_bytes(slot, first - 1) <= parts->part_bytes) {
            bool joins = joins_previous(parts, slot, first), values_too = takes_values(parts, plan, slot, first - 1);
            if ((!joins && runs == WIRE_PAYLOAD_FRAMES_MAX) || (plan->values_apart && values_too != values))
                break;
            values = values || values_too;
            runs += !joins;
            bytes += unit_bytes(slot, --first);
        }
        struct part *part = &slot->push[slot->push_count++];
        *part = (struct part){.first_unit = first, .unit_count = end - first, .bytes = bytes, .takes_values = values};
        runs_append(parts, slot, part);
        end = first;
    }
}

static void plan_pull(const struct parts *parts, struct parts_slot *slot) {
    for (uint32_t first = 0; first < slot->unit_count;) {
        uint32_t end = first + 1, bytes = unit_bytes(slot, first);
        while (end < slot->unit_count && end - first < WIRE_UNITS_MAX &&
               bytes + unit_bytes(slot, end) <= parts->part_bytes)
            bytes += unit_bytes(slot, end++);
        slot->pull[slot->pull_count++] = (struct part){.first_unit = first, .unit_count = end - first, .bytes = bytes};
        first = end;
    }
}

static enum lg_status slots_init(struct parts *parts, const uint16_t *placement, struct lg_error *error) {
    for (uint32_t unit = 0; unit < parts->blocks.count; unit++) {
        if (placement[unit] >= parts->slot_count)
            return lg_fail(error, LG_INVALID, "the placement puts unit %u on shard slot %u, but there are %u", unit,
                           placement[unit], parts->slot_count);
        parts->slots[placement[unit]].unit_count++;
    }
    for (uint32_t i = 0; i < parts->slot_count; i++) {
        if (!slot_alloc(&parts->slots[i]))
            return lg_fail(error, LG_NO_MEMORY, "no memory for the part plan of %u units", parts->blocks.count);
        parts->slots[i].unit_count = 0;
    }
    for (uint32_t unit = 0; unit < parts->blocks.count; unit++) {
        struct parts_slot *slot = &parts->slots[placement[unit]];
        slot->units[slot->unit_count++] = (struct wire_unit){unit, parts->blocks.blocks[unit].elements, 0};
    }
    return LG_OK;
}

enum lg_status parts_init(struct parts *parts, const struct parts_plan *plan, struct lg_error *error) {
    *parts = (struct parts){.slot_count = plan->slot_count,
                            .part_bytes = plan->part_bytes ? plan->part_bytes : WIRE_PART_BYTES,
                            .tensor_count = plan->tensor_count};
    enum lg_status status = block_table_init(&parts->blocks, plan->tensors, plan->tensor_count, error);
    if (status != LG_OK)
        return status;
    if (parts->blocks.count != plan->placement_count || plan->slot_count == 0) {
        status = lg_fail(error, LG_INVALID, "a placement of %zu units on %u shards does not fit a job of %u units",
                         plan->placement_count, plan->slot_count, parts->blocks.count);
        goto out;
    }
    parts->elements = tensor_total_elements(plan->tensors, plan->tensor_count);
    parts->slots = calloc(plan->slot_count, sizeof *parts->slots);
    status = parts->slots ? slots_init(parts, plan->placement, error)
                          : lg_fail(error, LG_NO_MEMORY, "no memory for the part plan of %u shards", plan->slot_count);
    for (uint32_t i = 0; status == LG_OK && i < plan->slot_count; i++) {
        plan_push(parts, plan, &parts->slots[i]);
        plan_pull(parts, &parts->slots[i]);
    }
out:
    if (status != LG_OK)
        parts_deinit(parts);
    return status;
}

void parts_deinit(struct parts *parts) {
    for (uint32_t i = 0; parts->slots && i < parts->slot_count; i++) {
        free(parts->slots[i].units);
        free(parts->slots[i].push);
        free(parts->slots[i].pull);
        free(parts->slots[i].runs);
    }
    free(parts->slots);
    block_table_deinit(&parts->blocks);
    *parts = (struct parts){0};
}
