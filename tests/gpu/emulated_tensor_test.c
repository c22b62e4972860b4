/* The instructions of gpu/cuda/tensor.cuh as the host runs them: fragments loaded and multiplied in every combination
 * are a plain product, copies arrive when they are waited for, and what a GPU would not take ends the test. */
#include <check.h>
#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "common/random.h"
#include "tests/gpu/emulate_probe.h"

/* Whole numbers from -8 to 7: bf16 and sums in f32 hold them exactly. */
static uint16_t small_number(struct random *random, float *value) {
    uint32_t bits;
    *value = (float)random_below(random, 16) - 8;
    memcpy(&bits, value, sizeof bits);
    return (uint16_t)(bits >> 16);
}

static void check_product(int kind) {
    enum { N = PROBE_ROWS * PROBE_K };
    _Alignas(16) static uint16_t a[N], b[N];
    static float x[N], y[N], c[PROBE_ROWS * PROBE_COLUMNS];
    bool a_trans = kind & 1, b_trans = kind & 2;
    struct random random;
    random_init(&random, 7);
    for (size_t i = 0; i < N; i++) {
        a[i] = small_number(&random, &x[i]);
        b[i] = small_number(&random, &y[i]);
    }
    probe_product(kind & 4, a_trans, b_trans, a, b, c);
    for (size_t row = 0; row < PROBE_ROWS; row++)
        for (size_t column = 0; column < PROBE_COLUMNS; column++) {
            float sum = 0;
            for (size_t k = 0; k < PROBE_K; k++)
                sum += x[a_trans ? k * PROBE_ROWS + row : row * PROBE_K + k] *
                       y[b_trans ? k * PROBE_COLUMNS + column : column * PROBE_K + k];
            ck_assert_msg(c[row * PROBE_COLUMNS + column] == sum, "[%zu][%zu] is %g, not %g", row, column,
                          (double)c[row * PROBE_COLUMNS + column], (double)sum);
        }
}

START_TEST(fragments_make_a_product) {
    check_product(_i);
}
END_TEST

START_TEST(copies_arrive_when_waited_for) {
    _Alignas(16) static const uint32_t words[8] = {1, 2, 3, 4, 5, 6, 7, 8};
    static const uint32_t nothing[4] = {~0u, ~0u, ~0u, ~0u}, zeros[4];
    uint32_t seen[3][12];
    probe_copies(words, seen[0]);
    for (int part = 0; part < 3; part++)
        ck_assert(memcmp(seen[0] + 4 * part, nothing, sizeof nothing) == 0);
    ck_assert(memcmp(seen[1], words, 16) == 0);
    ck_assert(memcmp(seen[1] + 4, nothing, 16) == 0);
    ck_assert(memcmp(seen[2] + 4, words + 4, 16) == 0);
    ck_assert(memcmp(seen[2] + 8, zeros, 16) == 0);
}
END_TEST

START_TEST(numbers_round) {
    uint32_t pair;
    float power;
    probe_numbers(1.0f, -2.0f, &pair, &power);
    ck_assert_uint_eq(pair, 0xc0003f80u);
    ck_assert(power == 2);
    probe_numbers(-INFINITY, 1.00390625f, &pair, &power); /* between two numbers of bf16: the even one */
    ck_assert_uint_eq(pair, 0x3f80ff80u);
    ck_assert(power == 0);
    probe_numbers(-127.0f, 0, &pair, &power);
    ck_assert(power == 0);
}
END_TEST

START_TEST(no_fault) {
    probe_fault(PROBE_FAULT_NONE);
}
END_TEST

START_TEST(faults) {
    probe_fault((enum probe_fault)_i);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("emulated tensor cores");
    TCase *tests = tcase_create("instructions");
    tcase_add_loop_test(tests, fragments_make_a_product, 0, 8);
    tcase_add_test(tests, copies_arrive_when_waited_for);
    tcase_add_test(tests, numbers_round);
    tcase_add_test(tests, no_fault);
    tcase_add_loop_test_raise_signal(tests, faults, SIGABRT, PROBE_FAULT_LDMATRIX_UNALIGNED,
                                     PROBE_FAULT_LANES_APART + 1);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
