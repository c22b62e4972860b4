/* Part plans of random jobs: every unit exactly once, in order, within every limit, and frames where it lies. */
#include "client/parts.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/random.h"

enum { TENSORS_MAX = 700, UNITS_MAX = 2000, SLOTS_MAX = 5 };

static struct tensor_spec tensors[TENSORS_MAX];
static uint16_t placement[UNITS_MAX];
static unsigned planned[UNITS_MAX];

/* Small tensors mostly, now and then one of several units. Returns units. */
static size_t random_job(struct random *random, size_t tensor_count, uint32_t slots) {
    size_t units = 0;
    for (size_t i = 0; i < tensor_count; i++) {
        uint64_t most = random_below(random, 20) ? 3000 : 5 * BLOCK_ELEMENTS / 2;
        tensors[i] = (struct tensor_spec){.rank = 1, .shape = {1 + random_below(random, most)}, .lr_factor = 1};
        snprintf(tensors[i].name, sizeof tensors[i].name, "t%zu", i);
        units += (size_t)((tensors[i].shape[0] + BLOCK_ELEMENTS - 1) / BLOCK_ELEMENTS);
    }
    ck_assert_uint_le(units, UNITS_MAX);
    bool runs = random_below(random, 2); /* neighbours together, or spread */
    for (size_t i = 0; i < units; i++)
        placement[i] = (uint16_t)(runs ? i * slots / units : random_below(random, slots));
    return units;
}

static void check_part(const struct parts *parts, const struct parts_slot *slot, const struct part *part) {
    uint64_t bytes = 0;
    for (uint32_t i = part->first_unit; i < part->first_unit + part->unit_count; i++) {
        bytes += slot->units[i].elements * sizeof(float);
        planned[slot->units[i].unit]++;
    }
    ck_assert_uint_gt(part->unit_count, 0);
    ck_assert_uint_eq(bytes, part->bytes);
    ck_assert(bytes <= parts->part_bytes || part->unit_count == 1);
}

/* The runs of a part, one behind the other, are its units, one behind the other. */
static void check_runs(const struct parts *parts, const struct parts_slot *slot, const struct part *part) {
    uint32_t run = part->first_run, within = 0;
    for (uint32_t i = part->first_unit; i < part->first_unit + part->unit_count; i++) {
        const struct block *block = &parts->blocks.blocks[slot->units[i].unit];
        ck_assert_uint_lt(run, part->first_run + part->run_count);
        ck_assert_uint_eq(slot->runs[run].offset + within, block->offset);
        within += block->elements;
        ck_assert_uint_le(within, slot->runs[run].elements);
        if (within == slot->runs[run].elements) {
            run++;
            within = 0;
        }
    }
    ck_assert_uint_eq(run, part->first_run + part->run_count);
    for (uint32_t i = part->first_run + 1; i < run; i++) /* touching runs would have been one */
        ck_assert_uint_ne(slot->runs[i - 1].offset + slot->runs[i - 1].elements, slot->runs[i].offset);
    ck_assert_uint_le(part->run_count, WIRE_PAYLOAD_FRAMES_MAX);
    ck_assert_uint_le(part->unit_count, WIRE_UNITS_MAX);
}

static void check_once(size_t units) {
    for (size_t i = 0; i < units; i++) {
        ck_assert_msg(planned[i] == 1, "unit %zu is planned %u times", i, planned[i]);
        planned[i] = 0;
    }
}

START_TEST(plans_cover_every_unit_once_within_the_limits) {
    struct random random;
    struct parts parts;
    struct lg_error error = {0};
    random_init(&random, (uint64_t)_i + 1);
    uint32_t slots = 1 + (uint32_t)random_below(&random, SLOTS_MAX);
    size_t tensor_count = 1 + random_below(&random, TENSORS_MAX);
    size_t units = random_job(&random, tensor_count, slots);
    uint32_t part_bytes = random_below(&random, 2) ? 0 : 64 + (uint32_t)random_below(&random, 1 << 19);
    const struct parts_plan plan = {.tensors = tensors,
                                    .tensor_count = tensor_count,
                                    .placement = placement,
                                    .placement_count = units,
                                    .slot_count = slots,
                                    .part_bytes = part_bytes};
    ck_assert_msg(parts_init(&parts, &plan, &error) == LG_OK, "%s", error.message);
    for (uint32_t s = 0; s < slots; s++) { /* pushes: each part ends where the one before it begins */
        const struct parts_slot *slot = &parts.slots[s];
        for (uint32_t i = 0, end = slot->unit_count; i < slot->push_count; end = slot->push[i++].first_unit) {
            ck_assert_uint_eq(slot->push[i].first_unit + slot->push[i].unit_count, end);
            check_part(&parts, slot, &slot->push[i]);
            check_runs(&parts, slot, &slot->push[i]);
        }
    }
    check_once(units);
    for (uint32_t s = 0; s < slots; s++) { /* pulls: in order */
        const struct parts_slot *slot = &parts.slots[s];
        for (uint32_t i = 0, next = 0; i < slot->pull_count; next += slot->pull[i++].unit_count) {
            ck_assert_uint_eq(slot->pull[i].first_unit, next);
            check_part(&parts, slot, &slot->pull[i]);
        }
    }
    check_once(units);
    parts_deinit(&parts);
}
END_TEST

START_TEST(a_job_in_one_piece_goes_in_full_parts) {
    struct parts parts;
    tensors[0] = (struct tensor_spec){.name = "w", .rank = 1, .shape = {10 * BLOCK_ELEMENTS}, .lr_factor = 1};
    for (size_t i = 0; i < 10; i++)
        placement[i] = 0;
    const struct parts_plan plan = {
        .tensors = tensors, .tensor_count = 1, .placement = placement, .placement_count = 10, .slot_count = 1};
    ck_assert_int_eq(parts_init(&parts, &plan, NULL), LG_OK);
    ck_assert_uint_eq(parts.slots[0].push_count, 3);
    ck_assert_uint_eq(parts.slots[0].push[0].bytes, WIRE_PART_BYTES);
    ck_assert_uint_eq(parts.slots[0].push[0].run_count, 1);
    ck_assert_uint_eq(parts.slots[0].push[0].first_unit, 6);
    ck_assert_uint_eq(parts.slots[0].push[2].unit_count, 2);
    ck_assert_uint_eq(parts.slots[0].pull_count, 3);
    parts_deinit(&parts);
}
END_TEST

/* A tensor that takes values, between two that take gradients. */
START_TEST(values_go_in_parts_of_their_own_where_that_is_asked_for) {
    static const char *const names[] = {"a", "b", "c"};
    struct parts parts;
    for (size_t i = 0; i < 3; i++) {
        tensors[i] = (struct tensor_spec){.rank = 1, .shape = {100}, .lr_factor = 1};
        snprintf(tensors[i].name, sizeof tensors[i].name, "%s", names[i]);
        placement[i] = 0;
    }
    tensors[1].update = TENSOR_UPDATE_AVERAGE;
    struct parts_plan plan = {
        .tensors = tensors, .tensor_count = 3, .placement = placement, .placement_count = 3, .slot_count = 1};
    ck_assert_int_eq(parts_init(&parts, &plan, NULL), LG_OK);
    ck_assert_uint_eq(parts.slots[0].push_count, 1);
    ck_assert(parts.slots[0].push[0].takes_values);
    parts_deinit(&parts);
    plan.values_apart = true;
    ck_assert_int_eq(parts_init(&parts, &plan, NULL), LG_OK);
    ck_assert_uint_eq(parts.slots[0].push_count, 3);
    for (uint32_t i = 0; i < 3; i++)
        ck_assert(parts.slots[0].push[i].takes_values == (i == 1));
    parts_deinit(&parts);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("parts");
    TCase *tests = tcase_create("parts");
    tcase_add_loop_test(tests, plans_cover_every_unit_once_within_the_limits, 0, 60);
    tcase_add_test(tests, a_job_in_one_piece_goes_in_full_parts);
    tcase_add_test(tests, values_go_in_parts_of_their_own_where_that_is_asked_for);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
