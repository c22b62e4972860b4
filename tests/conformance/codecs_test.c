/* Every codec in the registry: what comes back and how close it is, over lengths, instruction sets and compilers; that
 * random rounding is unbiased and that error feedback loses nothing; NaN and infinities; bytes from a hostile peer. */
#include "common/codec.h"

#include <check.h>
#include <float.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "common/random.h"

static const uint32_t sizes[] = {1,    2,    31,   32,   33,   63,   255,  256,  257,  511,   512,  513,
                                 1023, 1024, 1025, 2047, 2049, 4095, 4096, 4097, 9000, 65535, 65536};
enum { SIZE_COUNT = sizeof sizes / sizeof *sizes };

static const struct codec_options usual = {.key = 0x0123456789abcdef, .keep = 0.05};

static const struct codec *codec_at(int index) {
    size_t count;
    const struct codec *const *table = codecs(&count);
    ck_assert_uint_lt((size_t)index, count);
    return table[index];
}

/* For loops over elements: ck_assert_msg writes to its parent each time. */
#define EXPECT(condition, ...)                                                                                         \
    do {                                                                                                               \
        if (!(condition))                                                                                              \
            ck_abort_msg(__VA_ARGS__);                                                                                 \
    } while (0)

static void *memory(size_t bytes) {
    void *data = calloc(1, bytes ? bytes : 1);
    EXPECT(data, "no memory");
    return data;
}

/* Exact in every environment: integers and powers of two only; zeros, ties and subnormals among them. */
static void fill(float *values, uint32_t n, uint64_t seed) {
    static const float scales[] = {1, 0x1p-3f, 0x1p-10f, 0x1p-14f, 0x1p5f};
    struct random random;
    random_init_stream(&random, seed, n);
    for (uint32_t i = 0; i < n; i++) {
        uint64_t kind = random_below(&random, 40);
        float x = random_float(&random) - 0.5f;
        values[i] = kind == 0   ? 0
                    : kind == 1 ? -0.0f
                    : kind == 2 ? x * 0x1p-130f
                    : kind == 3 ? 0.25f
                                : x * scales[random_below(&random, 5)];
    }
}

/* One unit: encoded into memory of exactly its size, so that sanitizers see every step beyond it. */
struct unit {
    uint32_t n;
    uint8_t *data;
    size_t bytes;
};

static struct unit encode(const struct codec *codec, enum isa isa, const float *values, float *residual, uint32_t n,
                          const struct codec_options *options) {
    size_t room = codec->bytes_max(n, options), measured = 0;
    uint8_t *buffer = memory(room);
    struct lg_error error = {0};
    struct unit unit = {.n = n, .bytes = codec->kernels[isa]->encode(values, residual, n, options, buffer)};
    EXPECT(unit.bytes > 0 && unit.bytes <= room, "%s: %zu of at most %zu bytes", codec->name, unit.bytes, room);
    EXPECT(unit.bytes == room || !codec->fixed, "%s: %zu of always %zu bytes", codec->name, unit.bytes, room);
    unit.data = memory(unit.bytes);
    memcpy(unit.data, buffer, unit.bytes);
    free(buffer);
    EXPECT(codec->measure(unit.data, unit.bytes, n, &measured, &error) == LG_OK, "%s, %u elements: %s", codec->name, n,
           error.message);
    EXPECT(measured == unit.bytes, "%s: measured %zu, not %zu", codec->name, measured, unit.bytes);
    return unit;
}

static void decode(const struct codec *codec, enum isa isa, const struct unit *unit, float *out) {
    float *scratch = memory(CODEC_CHUNK * sizeof *scratch);
    for (size_t first = 0; first < unit->n; first += CODEC_CHUNK) {
        size_t n = unit->n - first < CODEC_CHUNK ? unit->n - first : CODEC_CHUNK;
        memcpy(out + first, codec->kernels[isa]->decode(unit->data, unit->n, first, n, scratch), n * sizeof *out);
    }
    free(scratch);
}

/* ---- the registry */

START_TEST(descriptors_are_complete) {
    const struct codec *codec = codec_at(_i), *found = NULL;
    ck_assert_int_eq(codec_find(codec->name, &found, NULL), LG_OK);
    ck_assert_ptr_eq(found, codec);
    ck_assert_int_eq(codec_of_wire((uint32_t)codec->dtype, codec->number, &found, NULL), LG_OK);
    ck_assert_ptr_eq(found, codec);
    ck_assert_uint_eq(codec_index(codec), (size_t)_i);
    ck_assert(codec->summary[0] && codec->bytes_max && codec->measure);
    ck_assert(codec->number == 0 || codec->dtype == CODEC_DTYPE_F32);
    ck_assert(!codec->changes_only || !codec->exact);
    for (int isa = 0; isa <= (int)isa_detect(); isa++)
        ck_assert(codec->kernels[isa]->encode && codec->kernels[isa]->decode && codec->kernels[isa]->finite);
}
END_TEST

START_TEST(unknown_names_and_numbers_are_refused) {
    const struct codec *found = NULL;
    struct lg_error error = {0};
    ck_assert_int_eq(codec_find("int9", &found, &error), LG_INVALID);
    ck_assert_ptr_nonnull(strstr(error.message, "int8"));
    ck_assert_int_eq(codec_of_wire(CODEC_DTYPE_F32, 99, &found, &error), LG_UNSUPPORTED);
    ck_assert_int_eq(codec_of_wire(CODEC_DTYPE_BF16, 1, &found, &error), LG_UNSUPPORTED);
    ck_assert_int_eq(codec_of_wire(7, 0, &found, &error), LG_UNSUPPORTED);
    ck_assert_str_eq(codec_plain()->name, "f32");
    ck_assert(codec_plain()->exact);
}
END_TEST

/* ---- what comes back */

/* The error that element i may have, for codecs without feedback. */
static double bound_of(const struct codec *codec, const float *values, uint32_t n, uint32_t i, bool nearest) {
    double x = fabs((double)values[i]);
    if (codec->exact)
        return 0;
    if (strcmp(codec->name, "bf16") == 0)
        return x * 0x1p-8 + 0x1p-134;
    if (strcmp(codec->name, "f16") == 0)
        return x * 0x1p-11 + 0x1p-25;
    if (strcmp(codec->name, "int8") == 0) {
        double most = 0;
        for (uint32_t at = i / 512 * 512; at < n && at < i / 512 * 512 + 512; at++)
            most = fmax(most, fabs((double)values[at]));
        return most / 127 * (nearest ? 0.501 : 1.001) + 0x1p-100;
    }
    ck_abort_msg("write down the error of \"%s\" in this test", codec->name);
    return 0;
}

START_TEST(values_come_back_within_bounds) {
    const struct codec *codec = codec_at(_i);
    for (size_t size = 0; size < SIZE_COUNT && !codec->feedback; size++)
        for (int nearest = 0; nearest < 2; nearest++) {
            uint32_t n = sizes[size], checked = n > 9000 ? 9000 : n;
            struct codec_options options = usual;
            options.nearest = nearest;
            float *values = memory(n * sizeof *values), *got = memory(n * sizeof *got);
            fill(values, n, 1);
            struct unit unit = encode(codec, isa_detect(), values, NULL, n, &options);
            decode(codec, isa_detect(), &unit, got);
            ck_assert(codec->kernels[ISA_BASE]->finite(unit.data, n));
            for (uint32_t i = 0; i < checked; i++) {
                double error = fabs((double)got[i] - (double)values[i]), bound = bound_of(codec, values, n, i, nearest);
                EXPECT(error <= bound, "%s: element %u of %u: %.9g came back as %.9g", codec->name, i, n,
                       (double)values[i], (double)got[i]);
            }
            if (codec->exact)
                ck_assert_mem_eq(values, got, n * sizeof *got);
            free(unit.data);
            free(values);
            free(got);
        }
}
END_TEST

START_TEST(feedback_keeps_what_is_not_sent) {
    const struct codec *codec = codec_at(_i);
    for (size_t size = 0; size < SIZE_COUNT && codec->feedback; size++) {
        uint32_t n = sizes[size];
        float *values = memory(n * sizeof *values), *got = memory(n * sizeof *got);
        float *residual = memory(n * sizeof *residual), *before = memory(n * sizeof *before);
        fill(values, n, 1);
        fill(before, n, 2);
        memcpy(residual, before, n * sizeof *residual);
        struct unit unit = encode(codec, isa_detect(), values, residual, n, &usual);
        decode(codec, isa_detect(), &unit, got);
        for (uint32_t i = 0; i < n; i++) {
            double input = (double)(values[i] + before[i]), kept = (double)got[i] + (double)residual[i];
            EXPECT(fabs(input - kept) <= 1e-6 * (fabs(input) + fabs((double)got[i])),
                   "%s: element %u of %u: %.9g became %.9g and %.9g", codec->name, i, n, input, (double)got[i],
                   (double)residual[i]);
        }
        codec_take_back(codec, isa_detect(), unit.data, n, 1, values, residual);
        for (uint32_t i = 0; i < n; i++)
            EXPECT(fabs((double)(residual[i] - before[i])) <=
                       1e-6 * (fabs((double)before[i]) + fabs((double)values[i]) + fabs((double)got[i])),
                   "%s: element %u is not taken back", codec->name, i);
        free(unit.data);
        free(values);
        free(got);
        free(residual);
        free(before);
    }
}
END_TEST

START_TEST(error_feedback_loses_nothing_over_many_steps) {
    enum { N = 5000, STEPS = 50 };
    const struct codec *codec = codec_at(_i);
    static float values[N], got[N], residual[N];
    static double in[N], out[N];
    memset(residual, 0, sizeof residual);
    for (uint64_t step = 0; step < STEPS && codec->feedback; step++) {
        fill(values, N, step);
        struct unit unit = encode(codec, isa_detect(), values, residual, N, &usual);
        decode(codec, isa_detect(), &unit, got);
        free(unit.data);
        for (size_t i = 0; i < N; i++) {
            in[i] += (double)values[i];
            out[i] += (double)got[i];
        }
    }
    for (size_t i = 0; i < N && codec->feedback; i++) {
        EXPECT(fabs(in[i] - out[i] - (double)residual[i]) < 1e-4, "%s: element %zu: %g went in, %g came out",
               codec->name, i, in[i], out[i]);
        EXPECT(fabsf(residual[i]) < 16 * STEPS / 2, "%s: a residual of %g", codec->name, (double)residual[i]);
    }
}
END_TEST

START_TEST(random_rounding_is_unbiased) {
    enum { N = 700, KEYS = 4000 };
    const struct codec *codec = codec_at(_i);
    static float values[N], got[N];
    static double sum[N];
    struct codec_options options = usual;
    fill(values, N, 3);
    for (uint64_t key = 0; key < KEYS && codec->random; key++) {
        options.key = random_mix(key, 5);
        struct unit unit = encode(codec, isa_detect(), values, NULL, N, &options);
        decode(codec, isa_detect(), &unit, got);
        free(unit.data);
        for (size_t i = 0; i < N; i++)
            sum[i] += (double)got[i];
    }
    double all = 0;
    for (uint32_t i = 0; i < N && codec->random; i++) { /* a step rounded at random deviates by half of it at most */
        double off = sum[i] / KEYS - (double)values[i], deviation = bound_of(codec, values, N, i, false) / 2;
        all += off / deviation;
        EXPECT(fabs(off) <= 5 * deviation / sqrt(KEYS), "%s: %g is %g in the mean", codec->name, (double)values[i],
               sum[i] / KEYS);
    }
    ck_assert_msg(fabs(all) <= 5 * sqrt((double)N / KEYS), "%s: off by %g in all", codec->name, all);
}
END_TEST

START_TEST(bytes_follow_from_input_and_key) {
    enum { N = 3000 };
    const struct codec *codec = codec_at(_i);
    float values[N];
    fill(values, N, 4);
    struct codec_options options = usual, other = usual;
    other.key++;
    struct unit first = encode(codec, isa_detect(), values, NULL, N, &options);
    struct unit again = encode(codec, isa_detect(), values, NULL, N, &options);
    struct unit differs = encode(codec, isa_detect(), values, NULL, N, &other);
    ck_assert_uint_eq(first.bytes, again.bytes);
    ck_assert_mem_eq(first.data, again.data, first.bytes);
    ck_assert(codec->random == (memcmp(first.data, differs.data, first.bytes) != 0));
    options.nearest = other.nearest = true;
    struct unit near = encode(codec, isa_detect(), values, NULL, N, &options);
    struct unit same = encode(codec, isa_detect(), values, NULL, N, &other);
    ck_assert_mem_eq(near.data, same.data, near.bytes);
    free(first.data);
    free(again.data);
    free(differs.data);
    free(near.data);
    free(same.data);
}
END_TEST

/* ---- bits */

/* Three encodings in a row, so that residuals take part; everything that came out is hashed. */
static uint64_t run(const struct codec *codec, enum isa isa, uint32_t n, double keep) {
    float *values = memory(n * sizeof *values), *got = memory(n * sizeof *got), *residual = memory(n * sizeof *got);
    struct codec_options options = usual;
    uint64_t hash = n;
    options.keep = keep;
    for (uint64_t step = 0; step < 3; step++) {
        options.key += step;
        fill(values, n, step);
        struct unit unit = encode(codec, isa, values, residual, n, &options);
        decode(codec, isa, &unit, got);
        hash = XXH3_64bits_withSeed(unit.data, unit.bytes, hash);
        hash = XXH3_64bits_withSeed(got, n * sizeof *got, hash);
        hash = XXH3_64bits_withSeed(residual, n * sizeof *got, hash);
        free(unit.data);
    }
    free(values);
    free(got);
    free(residual);
    return hash;
}

START_TEST(all_instruction_sets_give_the_same_bits) {
    const struct codec *codec = codec_at(_i);
    static const double keeps[] = {0.001, 0.05, 0.5, 1};
    for (size_t size = 0; size < SIZE_COUNT; size++)
        for (size_t keep = 0; keep < 4; keep++) {
            uint64_t expected = run(codec, ISA_BASE, sizes[size], keeps[keep]);
            for (int isa = ISA_BASE + 1; isa <= (int)isa_detect(); isa++)
                ck_assert_msg(run(codec, (enum isa)isa, sizes[size], keeps[keep]) == expected,
                              "%s differs on %s, %u elements", codec->name, isa_name((enum isa)isa), sizes[size]);
        }
}
END_TEST

/* Made by gcc 12 with -O3; clang 14 and the sanitizer builds must agree. A change of a codec's arithmetic or layout
 * changes its hash, and is a change of the protocol. */
static const struct {
    const char *name;
    uint64_t hash;
} golden[] = {
    {"f32", 0x4e76b75e7f49f625},  {"bf16", 0x38527f2f0fcbe656},   {"f16", 0x21dce873775d04e7},
    {"int8", 0x5c7b679bc2b5a19a}, {"onebit", 0x0307066982995636}, {"topk", 0x3c372cda21d2d047},
};

START_TEST(bits_are_the_golden_ones) {
    const struct codec *codec = codec_at(_i);
    uint64_t hash = run(codec, isa_detect(), 9000, 0.05);
    for (size_t i = 0; i < sizeof golden / sizeof *golden; i++)
        if (strcmp(golden[i].name, codec->name) == 0) {
            ck_assert_msg(golden[i].hash == hash, "%s gives 0x%016" PRIx64, codec->name, hash);
            return;
        }
    ck_abort_msg("no golden hash for \"%s\": it is 0x%016" PRIx64, codec->name, hash);
}
END_TEST

START_TEST(encoded_units_need_no_alignment) {
    enum { N = 4500 };
    const struct codec *codec = codec_at(_i);
    static float values[N], got[N], expected[N];
    fill(values, N, 6);
    struct unit unit = encode(codec, isa_detect(), values, NULL, N, &usual), shifted = unit;
    decode(codec, isa_detect(), &unit, expected);
    uint8_t *room = memory(unit.bytes + 3);
    for (size_t offset = 1; offset < 4; offset++) {
        size_t bytes;
        shifted.data = room + offset;
        memcpy(shifted.data, unit.data, unit.bytes);
        ck_assert_int_eq(codec->measure(shifted.data, unit.bytes, N, &bytes, NULL), LG_OK);
        decode(codec, isa_detect(), &shifted, got);
        ck_assert_mem_eq(got, expected, sizeof got);
        ck_assert(codec->kernels[isa_detect()]->finite(shifted.data, N));
    }
    free(room);
    free(unit.data);
}
END_TEST

/* ---- values that are no numbers, and the largest that are */

START_TEST(nan_and_infinities_are_seen_wherever_they_are) {
    static const float bad[] = {NAN, -NAN, INFINITY, -INFINITY};
    const struct codec *codec = codec_at(_i);
    for (size_t size = 0; size < SIZE_COUNT; size++) {
        uint32_t n = sizes[size];
        float *values = memory(n * sizeof *values), *residual = memory(n * sizeof *residual);
        for (uint32_t at = 0, turn = 0; at < n; at += n / 5 + 1, turn++) {
            fill(values, n, 7);
            fill(residual, n, 8);
            values[at] = bad[(n + turn) % 4];
            struct unit unit = encode(codec, isa_detect(), values, residual, n, &usual);
            for (int isa = 0; isa <= (int)isa_detect(); isa++)
                ck_assert_msg(!codec->kernels[isa]->finite(unit.data, n), "%s hides %g at %u of %u", codec->name,
                              (double)values[at], at, n);
            codec_take_back(codec, isa_detect(), unit.data, n, 1, values, residual);
            for (uint32_t i = 0; i < n; i++)
                EXPECT(isfinite(residual[i]), "%s: residual %u", codec->name, (unsigned)i);
            free(unit.data);
        }
        free(values);
        free(residual);
    }
}
END_TEST

START_TEST(nothing_but_nan_leaves_a_residual_of_numbers) {
    enum { N = 5000 };
    const struct codec *codec = codec_at(_i);
    static float values[N], residual[N];
    for (size_t i = 0; i < N; i++)
        values[i] = i % 2 ? NAN : INFINITY;
    fill(residual, N, 9);
    struct unit unit = encode(codec, isa_detect(), values, residual, N, &usual);
    ck_assert(!codec->kernels[ISA_BASE]->finite(unit.data, N));
    for (size_t i = 0; i < N; i++)
        EXPECT(isfinite(residual[i]), "%s: residual %u", codec->name, (unsigned)i);
    free(unit.data);
}
END_TEST

START_TEST(extreme_finite_values_stay_finite) {
    static const float extremes[] = {FLT_MAX,    -FLT_MAX, FLT_MIN, -FLT_MIN / 4, 65504,
                                     65519.996f, 65520,    0,       -0.0f,        0x1p-149f};
    enum { N = 2100, EXTREMES = sizeof extremes / sizeof *extremes };
    const struct codec *codec = codec_at(_i);
    float values[N], got[N];
    for (size_t kind = 0; kind <= EXTREMES; kind++)
        for (int nearest = 0; nearest < 2; nearest++) {
            struct codec_options options = {.key = kind, .keep = 1, .nearest = nearest};
            for (size_t i = 0; i < N; i++)
                values[i] = extremes[kind < EXTREMES ? kind : i * 7 % EXTREMES];
            struct unit unit = encode(codec, isa_detect(), values, NULL, N, &options);
            ck_assert_msg(codec->kernels[isa_detect()]->finite(unit.data, N), "%s, extreme %zu", codec->name, kind);
            decode(codec, isa_detect(), &unit, got);
            for (size_t i = 0; i < N; i++)
                EXPECT(isfinite(got[i]), "%s makes %g of %g", codec->name, (double)got[i], (double)values[i]);
            free(unit.data);
        }
}
END_TEST

/* ---- hostile bytes */

/* Everything that a receiver does with bytes that it was sent; they lie at the end of their own memory. */
static bool take(const struct codec *codec, const uint8_t *bytes, size_t size, uint32_t n) {
    uint8_t *data = memory(size);
    float *out = memory(n * sizeof *out);
    struct lg_error error = {0};
    size_t used = 0;
    memcpy(data, bytes, size);
    enum lg_status status = codec->measure(data, size, n, &used, &error);
    if (status == LG_OK) {
        struct unit unit = {n, data, used};
        ck_assert_uint_le(used, size);
        for (int isa = 0; isa <= (int)isa_detect(); isa++) {
            codec->kernels[isa]->finite(data, n);
            decode(codec, (enum isa)isa, &unit, out);
        }
        if (codec->kernels[ISA_BASE]->finite(data, n))
            for (uint32_t i = 0; i < n; i++)
                EXPECT(isfinite(out[i]), "%s: finite bytes give %g", codec->name, (double)out[i]);
    } else {
        ck_assert(status == LG_MALFORMED && error.message[0]);
    }
    free(data);
    free(out);
    return status == LG_OK;
}

START_TEST(every_truncation_is_refused) {
    const struct codec *codec = codec_at(_i);
    static const uint32_t lengths[] = {1, 33, 600, 4097};
    for (size_t k = 0; k < 4; k++) {
        uint32_t n = lengths[k];
        float *values = memory(n * sizeof *values);
        fill(values, n, 10);
        for (int dense = 0; dense < 2; dense++) {
            struct codec_options options = usual;
            options.keep = dense ? 0.7 : 0.02;
            struct unit unit = encode(codec, isa_detect(), values, NULL, n, &options);
            for (size_t size = 0; size < unit.bytes; size += 1 + unit.bytes / 300)
                ck_assert_msg(!take(codec, unit.data, size, n), "%s: %zu of %zu bytes", codec->name, size, unit.bytes);
            ck_assert(take(codec, unit.data, unit.bytes, n));
            free(unit.data);
        }
        free(values);
    }
}
END_TEST

START_TEST(broken_bytes_do_no_harm) {
    enum { ROUNDS = 1500 };
    const struct codec *codec = codec_at(_i);
    struct random random;
    random_init(&random, 11);
    for (int round = 0; round < ROUNDS; round++) {
        uint32_t n = 1 + (uint32_t)random_below(&random, random_below(&random, 4) ? 700 : 9000);
        struct codec_options options = {.key = (uint64_t)round, .keep = random_double(&random)};
        float *values = memory(n * sizeof *values);
        fill(values, n, (uint64_t)round);
        struct unit unit = encode(codec, isa_detect(), values, NULL, n, &options);
        for (uint64_t k = random_below(&random, 8); k > 0; k--)
            unit.data[random_below(&random, random_below(&random, 2) ? unit.bytes
                                            : unit.bytes < 16        ? unit.bytes
                                                                     : 16)] = (uint8_t)random_u64(&random);
        uint32_t claimed = random_below(&random, 4) ? n : 1 + (uint32_t)random_below(&random, 9000);
        take(codec, unit.data, unit.bytes, claimed);
        free(unit.data);
        free(values);
    }
    uint8_t noise[400];
    for (int round = 0; round < ROUNDS; round++) {
        for (size_t i = 0; i < sizeof noise; i++)
            noise[i] = (uint8_t)random_u64(&random);
        take(codec, noise, random_below(&random, sizeof noise),
             1 + (uint32_t)random_below(&random, CODEC_ELEMENTS_MAX));
    }
}
END_TEST

/* As they may in memory that is shared with their owner. The address sanitizer looks on. */
START_TEST(bytes_of_fixed_units_may_change_after_they_were_measured) {
    const struct codec *codec = codec_at(_i);
    static const uint32_t lengths[] = {1, 33, 600, 4097, CODEC_ELEMENTS_MAX};
    struct random random;
    random_init(&random, 12);
    for (size_t k = 0; codec->fixed && k < sizeof lengths / sizeof *lengths; k++) {
        const uint32_t n = lengths[k];
        float *values = memory(n * sizeof *values);
        fill(values, n, 13);
        struct unit unit = encode(codec, isa_detect(), values, NULL, n, &usual);
        for (int round = 0; round < 20; round++) {
            size_t measured = 0;
            for (size_t i = 0; i < unit.bytes; i++)
                unit.data[i] = (uint8_t)random_u64(&random);
            for (int isa = 0; isa <= (int)isa_detect(); isa++) {
                decode(codec, (enum isa)isa, &unit, values);
                (void)codec->kernels[isa]->finite(unit.data, n);
            }
            ck_assert_int_eq(codec->measure(unit.data, unit.bytes, n, &measured, NULL), LG_OK);
            ck_assert_uint_eq(measured, unit.bytes);
        }
        free(unit.data);
        free(values);
    }
}
END_TEST

int main(void) {
    Suite *suite = suite_create("codecs");
    TCase *tests = tcase_create("codecs");
    size_t count;
    codecs(&count);
    int last = (int)count;
    tcase_set_timeout(tests, 60);
    tcase_add_loop_test(tests, descriptors_are_complete, 0, last);
    tcase_add_test(tests, unknown_names_and_numbers_are_refused);
    tcase_add_loop_test(tests, values_come_back_within_bounds, 0, last);
    tcase_add_loop_test(tests, feedback_keeps_what_is_not_sent, 0, last);
    tcase_add_loop_test(tests, error_feedback_loses_nothing_over_many_steps, 0, last);
    tcase_add_loop_test(tests, random_rounding_is_unbiased, 0, last);
    tcase_add_loop_test(tests, bytes_follow_from_input_and_key, 0, last);
    tcase_add_loop_test(tests, all_instruction_sets_give_the_same_bits, 0, last);
    tcase_add_loop_test(tests, bits_are_the_golden_ones, 0, last);
    tcase_add_loop_test(tests, encoded_units_need_no_alignment, 0, last);
    tcase_add_loop_test(tests, nan_and_infinities_are_seen_wherever_they_are, 0, last);
    tcase_add_loop_test(tests, nothing_but_nan_leaves_a_residual_of_numbers, 0, last);
    tcase_add_loop_test(tests, extreme_finite_values_stay_finite, 0, last);
    tcase_add_loop_test(tests, every_truncation_is_refused, 0, last);
    tcase_add_loop_test(tests, broken_bytes_do_no_harm, 0, last);
    tcase_add_loop_test(tests, bytes_of_fixed_units_may_change_after_they_were_measured, 0, last);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
