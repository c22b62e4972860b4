#include "server/unit.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "common/block.h"
#include "common/random.h"

enum { ELEMENTS = 2 * UPDATER_CHUNK + 17 };

static float values[ELEMENTS], state[ELEMENTS];
static float payload[ELEMENTS];
static struct unit unit;
static struct unit_change change;

static void setup(void) {
    unit = (struct unit){.elements = ELEMENTS, .values = values, .states = {state}};
    change.codec = codec_plain()->kernels[isa_detect()];
    struct random random;
    random_init(&random, 1);
    for (size_t i = 0; i < ELEMENTS; i++) {
        values[i] = random_float(&random);
        payload[i] = random_float(&random);
        state[i] = 0;
    }
}

static void teardown(void) {}

/* w -= 2g, and counts how often it saw each element. */
static void halve(float *w, float *const *states, const float *g, size_t n, const float *scalars) {
    ck_assert_uint_le(n, UPDATER_CHUNK);
    ck_assert(scalars[0] == 2);
    for (size_t i = 0; i < n; i++) {
        w[i] -= 2 * g[i];
        states[0][i] += 1;
    }
}

START_TEST(chunks_cover_every_element_once) {
    float before[ELEMENTS];
    memcpy(before, values, sizeof before);
    change.kind = UNIT_CHANGE_UPDATE;
    change.apply = halve;
    change.scalars[0] = 2;
    unit_apply(&unit, &change, (const uint8_t *)payload);
    for (size_t i = 0; i < ELEMENTS; i++) {
        ck_assert(values[i] == before[i] - 2 * payload[i]);
        ck_assert(state[i] == 1);
    }
    change.negate = true;
    memcpy(before, values, sizeof before);
    unit_apply(&unit, &change, (const uint8_t *)payload);
    for (size_t i = 0; i < ELEMENTS; i++)
        ck_assert(values[i] == before[i] + 2 * payload[i]);
}
END_TEST

START_TEST(assign_and_average_ignore_the_updater) {
    float before[ELEMENTS];
    memcpy(before, values, sizeof before);
    change.kind = UNIT_CHANGE_AVERAGE;
    change.rate = 0.25f;
    unit_apply(&unit, &change, (const uint8_t *)payload);
    for (size_t i = 0; i < ELEMENTS; i++)
        ck_assert(values[i] == before[i] + 0.25f * (payload[i] - before[i]));
    change.kind = UNIT_CHANGE_ASSIGN;
    unit_apply(&unit, &change, (const uint8_t *)payload);
    for (size_t i = 0; i < ELEMENTS; i++)
        ck_assert(values[i] == payload[i]);
}
END_TEST

START_TEST(versions_always_rise) {
    unit_touch(&unit, 7);
    ck_assert_uint_eq(unit.version, 7);
    unit_touch(&unit, 7); /* a second push before the counter moved */
    ck_assert_uint_eq(unit.version, 8);
    unit_touch(&unit, 3);
    ck_assert_uint_eq(unit.version, 9);
    unit_touch(&unit, version_make(2, 0));
    ck_assert_uint_eq(unit.version, version_make(2, 0));
}
END_TEST

int main(void) {
    Suite *suite = suite_create("unit");
    TCase *tests = tcase_create("unit");
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, chunks_cover_every_element_once);
    tcase_add_test(tests, assign_and_average_ignore_the_updater);
    tcase_add_test(tests, versions_always_rise);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
