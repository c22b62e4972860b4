#include "common/math/permutation.h"

#include <check.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

enum { N_MAX = 70000 };
static bool seen[N_MAX];

START_TEST(is_a_bijection) {
    static const uint64_t sizes[] = {1, 2, 3, 4, 5, 7, 8, 9, 31, 32, 33, 1000, 4096, 4097, 60000, 65537};
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
        for (uint64_t stream = 0; stream < 3; stream++) {
            struct permutation permutation;
            permutation_init(&permutation, sizes[s], 42, stream);
            memset(seen, 0, sizeof seen);
            for (uint64_t i = 0; i < sizes[s]; i++) {
                uint64_t at = permutation_at(&permutation, i);
                ck_assert_uint_lt(at, sizes[s]);
                ck_assert_msg(!seen[at], "n %lu: %lu comes twice", (unsigned long)sizes[s], (unsigned long)at);
                seen[at] = true;
            }
        }
    }
}
END_TEST

START_TEST(huge_domains_work) {
    struct permutation permutation;
    permutation_init(&permutation, UINT64_C(1) << 63, 1, 0);
    uint64_t a = permutation_at(&permutation, 0), b = permutation_at(&permutation, 1);
    ck_assert_uint_lt(a, UINT64_C(1) << 63);
    ck_assert_uint_ne(a, b);
    permutation_init(&permutation, UINT64_MAX, 1, 0);
    ck_assert_uint_ne(permutation_at(&permutation, UINT64_MAX - 1), permutation_at(&permutation, 0));
}
END_TEST

static uint64_t fixed_points(uint64_t n, uint64_t seed_a, uint64_t stream_a, uint64_t seed_b, uint64_t stream_b) {
    struct permutation a, b;
    uint64_t equal = 0;
    permutation_init(&a, n, seed_a, stream_a);
    permutation_init(&b, n, seed_b, stream_b);
    for (uint64_t i = 0; i < n; i++)
        equal += permutation_at(&a, i) == permutation_at(&b, i);
    return equal;
}

START_TEST(depends_on_seed_and_stream_and_on_nothing_else) {
    /* Two random permutations agree in one place on average. */
    ck_assert_uint_eq(fixed_points(5000, 7, 3, 7, 3), 5000);
    ck_assert_uint_lt(fixed_points(5000, 7, 3, 7, 4), 12);
    ck_assert_uint_lt(fixed_points(5000, 7, 3, 8, 3), 12);
    ck_assert_uint_lt(fixed_points(5000, 7, 0, 7, 1), 12);
}
END_TEST

/* Chi-square over cells: with k cells and many draws, k - 1 on average; the limit is about 6 sigma. */
START_TEST(every_place_is_equally_likely) {
    enum { N = 6, SEEDS = 12000 };
    static unsigned counts[N][N];
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        struct permutation permutation;
        permutation_init(&permutation, N, seed, seed % 5);
        for (uint64_t i = 0; i < N; i++)
            counts[i][permutation_at(&permutation, i)]++;
    }
    double expected = (double)SEEDS / N, chi = 0;
    for (int i = 0; i < N; i++)
        for (int j = 0; j < N; j++)
            chi += ((double)counts[i][j] - expected) * ((double)counts[i][j] - expected) / expected;
    ck_assert_msg(chi < 75, "chi-square %g over 36 cells", chi);
}
END_TEST

START_TEST(neighbours_are_spread) {
    enum { N = 60000, BINS = 20 };
    struct permutation permutation;
    unsigned counts[BINS] = {0};
    permutation_init(&permutation, N, 1, 0);
    /* How far a place is from its neighbour's, modulo n: uniform for a random order. */
    for (uint64_t i = 0; i + 1 < N; i++) {
        uint64_t gap = (permutation_at(&permutation, i + 1) + N - permutation_at(&permutation, i)) % N;
        counts[gap * BINS / N]++;
    }
    double expected = (double)(N - 1) / BINS, chi = 0;
    for (int i = 0; i < BINS; i++)
        chi += ((double)counts[i] - expected) * ((double)counts[i] - expected) / expected;
    ck_assert_msg(chi < 60, "chi-square %g over 20 bins", chi);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("permutation");
    TCase *tests = tcase_create("permutation");
    tcase_add_test(tests, is_a_bijection);
    tcase_add_test(tests, huge_domains_work);
    tcase_add_test(tests, depends_on_seed_and_stream_and_on_nothing_else);
    tcase_add_test(tests, every_place_is_equally_likely);
    tcase_add_test(tests, neighbours_are_spread);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
