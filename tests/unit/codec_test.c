/* What single codecs promise beyond the conformance test: rounding of the 16-bit formats, sizes, which elements topk
 * takes, and what its validation refuses. */
#include "common/codec.h"

#include <check.h>
#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/random.h"

/* For loops over elements: ck_assert writes to its parent each time. */
#define EXPECT(condition)                                                                                              \
    do {                                                                                                               \
        if (!(condition))                                                                                              \
            ck_abort_msg("not true: %s", #condition);                                                                  \
    } while (0)

static const struct codec *named(const char *name) {
    const struct codec *codec = NULL;
    if (codec_find(name, &codec, NULL) != LG_OK)
        ck_abort_msg("no codec \"%s\"", name);
    return codec;
}

static size_t encode(const char *name, const float *values, float *residual, uint32_t n, double keep, uint8_t *out) {
    const struct codec_options options = {.keep = keep};
    return named(name)->kernels[isa_detect()]->encode(values, residual, n, &options, out);
}

static const float *decode(const char *name, const uint8_t *data, uint32_t n) {
    static float scratch[CODEC_CHUNK];
    EXPECT(n <= CODEC_CHUNK);
    return named(name)->kernels[isa_detect()]->decode(data, n, 0, n, scratch);
}

/* ---- 16 bits */

static double half_value(uint16_t word, int exponent_bits, int mantissa_bits) {
    int exponent = word >> mantissa_bits & ((1 << exponent_bits) - 1), bias = (1 << (exponent_bits - 1)) - 1;
    double mantissa = word & ((1 << mantissa_bits) - 1);
    double size = exponent == 0 ? ldexp(mantissa, 1 - bias - mantissa_bits)
                                : ldexp(mantissa + (1 << mantissa_bits), exponent - bias - mantissa_bits);
    return word & 0x8000 ? -size : size;
}

/* Every word decodes to what the format says, and encodes to itself; between two neighbours the middle goes to the even
 * one, and what lies a little to either side to the nearer one. */
static void check_format(const char *name, int exponent_bits, int mantissa_bits) {
    const unsigned finite = ((1u << exponent_bits) - 1) << mantissa_bits;
    for (unsigned word = 0; word < 0x10000; word++) {
        uint16_t bytes = (uint16_t)word, back;
        float value = *decode(name, (const uint8_t *)&bytes, 1);
        if ((word & 0x7fff) > finite) {
            EXPECT(isnan(value));
            continue;
        }
        if ((word & 0x7fff) == finite)
            EXPECT(isinf(value));
        else
            EXPECT(fabs((double)value - half_value(bytes, exponent_bits, mantissa_bits)) <= 0);
        EXPECT(encode(name, &value, NULL, 1, 0, (uint8_t *)&back) == 2);
        EXPECT(back == word);
        if ((word & 0x7fff) + 1 >= finite)
            continue;
        double low = half_value(bytes, exponent_bits, mantissa_bits);
        double high = half_value((uint16_t)(word + 1), exponent_bits, mantissa_bits);
        float middle = (float)((low + high) / 2), below = nextafterf(middle, (float)low),
              above = nextafterf(middle, (float)high);
        encode(name, &middle, NULL, 1, 0, (uint8_t *)&back);
        EXPECT(back == (word % 2 ? word + 1 : word));
        encode(name, &below, NULL, 1, 0, (uint8_t *)&back);
        EXPECT(back == word);
        encode(name, &above, NULL, 1, 0, (uint8_t *)&back);
        EXPECT(back == word + 1);
    }
}

START_TEST(f16_rounds_to_nearest_even) {
    check_format("f16", 5, 10);
}
END_TEST

START_TEST(bf16_rounds_to_nearest_even) {
    check_format("bf16", 8, 7);
}
END_TEST

START_TEST(too_large_values_saturate) {
    const float large[] = {FLT_MAX, -FLT_MAX, 65505, 65536, -1e9f};
    uint16_t words[5];
    encode("f16", large, NULL, 5, 0, (uint8_t *)words);
    ck_assert(words[0] == 0x7bff && words[1] == 0xfbff && words[2] == 0x7bff && words[3] == 0x7bff &&
              words[4] == 0xfbff);
    encode("bf16", large, NULL, 2, 0, (uint8_t *)words);
    ck_assert(words[0] == 0x7f7f && words[1] == 0xff7f);
}
END_TEST

/* ---- int8 */

START_TEST(int8_keeps_the_largest_of_each_block) {
    enum { N = 1100 };
    static float values[N];
    uint8_t data[2 * N];
    for (size_t i = 0; i < N; i++)
        values[i] = 1e-3f;
    values[3] = -2;
    values[600] = 5;
    values[1099] = 1e-30f;
    ck_assert_uint_eq(encode("int8", values, NULL, N, 0, data), 3 * 4 + N);
    const float *got = decode("int8", data, N);
    ck_assert(fabsf(got[3] + 2) < 1e-6f && fabsf(got[600] - 5) < 1e-6f);
    ck_assert(got[3] == -127 * (2.0f / 127));
}
END_TEST

START_TEST(int8_steps_are_taken_with_their_probability) {
    enum { N = 65536 };
    static float values[N];
    static uint8_t data[2 * N];
    const struct codec *codec = named("int8");
    const struct codec_options options = {.key = 99};
    unsigned up = 0;
    for (size_t i = 0; i < N; i++)
        values[i] = i % 512 == 0 ? 127 : 0.25f;
    codec->kernels[isa_detect()]->encode(values, NULL, N, &options, data);
    for (size_t i = 0; i < N; i++)
        if (i % 512 != 0) {
            EXPECT(data[512 + i] <= 1);
            up += data[512 + i];
        }
    double count = N - N / 512, deviation = sqrt(count * 0.25 * 0.75);
    ck_assert_msg(fabs(up - count / 4) < 5 * deviation, "%u of %g", up, count);
}
END_TEST

/* ---- 1 bit */

START_TEST(onebit_sends_the_two_means) {
    const float values[5] = {1, -4, 3, -0.5f, 2};
    float residual[5] = {0};
    uint8_t data[64];
    ck_assert_uint_eq(encode("onebit", values, residual, 5, 0, data), 8 + 4);
    const float *got = decode("onebit", data, 5);
    const float expected[5] = {2, -2.25f, 2, -2.25f, 2};
    ck_assert_mem_eq(got, expected, sizeof expected);
    ck_assert(residual[0] == -1 && residual[1] == -1.75f && residual[3] == 1.75f && residual[4] == 0);
}
END_TEST

/* ---- topk */

START_TEST(topk_takes_the_largest_and_of_equals_the_first) {
    const float values[8] = {1, -3, 2, 3, -3, 0, 5, 3};
    float residual[8] = {0};
    uint8_t data[256];
    size_t bytes = encode("topk", values, residual, 8, 0.5, data);
    ck_assert_uint_eq(bytes, 4 + 4 * 4 + 4); /* a bitmap is shorter than four places */
    const float *got = decode("topk", data, 8);
    const float expected[8] = {0, -3, 0, 3, -3, 0, 5, 0}, left[8] = {1, 0, 2, 0, 0, 0, 0, 3};
    ck_assert_mem_eq(got, expected, sizeof expected);
    ck_assert_mem_eq(residual, left, sizeof left);
    ck_assert_uint_eq(encode("topk", values, NULL, 8, 1e-9, data), 4 + 4 + 4); /* at least one */
    ck_assert(decode("topk", data, 8)[6] == 5);
}
END_TEST

START_TEST(topk_does_not_send_zeros) {
    float values[300] = {0}, residual[300] = {0};
    uint8_t data[2048];
    values[7] = -1;
    ck_assert_uint_eq(encode("topk", values, residual, 300, 0.5, data), 4 + 4 + 4);
    ck_assert(decode("topk", data, 300)[7] == -1);
    memset(values, 0, sizeof values);
    ck_assert_uint_eq(encode("topk", values, residual, 300, 0.5, data), 4);
    ck_assert(decode("topk", data, 300)[7] == 0);
}
END_TEST

static int by_size(const void *a, const void *b) {
    float x = fabsf(*(const float *)a), y = fabsf(*(const float *)b);
    return (x < y) - (x > y);
}

/* Against a full sort, for values that hardly differ, that differ by orders of magnitude, and that are mostly equal. */
START_TEST(topk_takes_exactly_what_a_sort_would) {
    enum { N = 65536 };
    static float values[N], sorted[N], got[CODEC_CHUNK];
    static uint8_t data[N * 5];
    static const double keeps[] = {0.0001, 0.01, 0.1, 0.9};
    const struct codec *codec = named("topk");
    struct random random;
    random_init(&random, 5);
    for (int shape = 0; shape < 3; shape++) {
        for (size_t i = 0; i < N; i++) {
            float x = random_float(&random) - 0.5f;
            values[i] = shape == 0   ? 1 + x * 1e-5f
                        : shape == 1 ? ldexpf(x, -(int)random_below(&random, 100))
                                     : (float)(1 + random_below(&random, 3));
        }
        memcpy(sorted, values, sizeof sorted);
        qsort(sorted, N, sizeof *sorted, by_size);
        for (size_t k = 0; k < 4; k++) {
            size_t wanted = (size_t)ceil(keeps[k] * N), sent = 0, bytes;
            float least = fabsf(sorted[wanted - 1]);
            size_t used = encode("topk", values, NULL, N, keeps[k], data);
            ck_assert_int_eq(codec->measure(data, used, N, &bytes, NULL), LG_OK);
            bool ended = false; /* an element as large as the least one was left out */
            for (size_t first = 0; first < N; first += CODEC_CHUNK) {
                codec->kernels[isa_detect()]->decode(data, N, first, CODEC_CHUNK, got);
                for (size_t i = 0; i < CODEC_CHUNK; i++) {
                    float x = values[first + i];
                    sent += got[i] != 0;
                    EXPECT(got[i] == 0 || got[i] == x);
                    EXPECT(fabsf(x) <= least || got[i] == x);
                    EXPECT(fabsf(x) >= least || got[i] == 0);
                    ended = ended || (fabsf(x) == least && got[i] == 0);
                    EXPECT(!(ended && fabsf(x) == least && got[i] != 0));
                }
            }
            ck_assert_uint_eq(sent, wanted);
        }
    }
}
END_TEST

static bool measures(const uint32_t *words, size_t bytes, uint32_t n) {
    size_t used;
    return named("topk")->measure((const uint8_t *)words, bytes, n, &used, NULL) == LG_OK && used == bytes;
}

START_TEST(topk_refuses_what_does_not_fit) {
    const uint32_t bitmap = 0x10000;
    ck_assert(measures((uint32_t[]){2, 0, 0, 3u << 16 | 1}, 16, 4));
    ck_assert(!measures((uint32_t[]){2, 0, 0, 1u << 16 | 1}, 16, 4));     /* one place twice */
    ck_assert(!measures((uint32_t[]){2, 0, 0, 1u << 16 | 3}, 16, 4));     /* descending */
    ck_assert(!measures((uint32_t[]){2, 0, 0, 4u << 16 | 1}, 16, 4));     /* beyond the end */
    ck_assert(!measures((uint32_t[]){5, 0, 0, 0, 0, 0, 0, 0, 0}, 36, 4)); /* more than there are */
    ck_assert(!measures((uint32_t[]){2 | 0x20000, 0, 0, 3u << 16 | 1}, 16, 4));
    ck_assert(measures((uint32_t[]){2 | bitmap, 0, 0, 9}, 16, 4));
    ck_assert(!measures((uint32_t[]){2 | bitmap, 0, 0, 8}, 16, 4));  /* fewer bits than values */
    ck_assert(!measures((uint32_t[]){2 | bitmap, 0, 0, 24}, 16, 4)); /* a bit beyond the end */
    ck_assert(!measures((uint32_t[]){0xffffffffu, 0, 0, 0}, 16, 4));
    ck_assert(!measures((uint32_t[]){0}, 3, 4));
}
END_TEST

int main(void) {
    Suite *suite = suite_create("codec");
    TCase *tests = tcase_create("codec");
    tcase_set_timeout(tests, 30);
    tcase_add_test(tests, f16_rounds_to_nearest_even);
    tcase_add_test(tests, bf16_rounds_to_nearest_even);
    tcase_add_test(tests, too_large_values_saturate);
    tcase_add_test(tests, int8_keeps_the_largest_of_each_block);
    tcase_add_test(tests, int8_steps_are_taken_with_their_probability);
    tcase_add_test(tests, onebit_sends_the_two_means);
    tcase_add_test(tests, topk_takes_the_largest_and_of_equals_the_first);
    tcase_add_test(tests, topk_does_not_send_zeros);
    tcase_add_test(tests, topk_takes_exactly_what_a_sort_would);
    tcase_add_test(tests, topk_refuses_what_does_not_fit);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
