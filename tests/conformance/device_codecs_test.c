/* Every codec of the registry on every device: encoding, taking back and scaling give the bits that common/codecs/
 * gives, bytes and residuals alike, over several rounds. */
#include "gpu/device.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/codec.h"
#include "common/random.h"
#include "tests/support/devices.h"

/* GPUs are tested where there are any. tests/gpu/emulated_codecs_test.c names emulated ones in their place. */
#ifndef DEVICES_TESTED
#define DEVICES_TESTED                                                                                                 \
    {"cpu", 1}, {"cpu", 3}, {                                                                                          \
        "cuda:0", 1                                                                                                    \
    }
#endif
static const struct test_device devices[] = {DEVICES_TESTED};
enum { DEVICES = sizeof devices / sizeof *devices };

static const uint32_t sizes[] = {1, 31, 33, 511, 512, 513, 1023, 1024, 1025, 4095, 4096, 4097, 65535, 65536};
enum { UNITS_MAX = sizeof sizes / sizeof *sizes, UNITS_SMALL = UNITS_MAX - 2, ROUNDS = 3, GUARD = 4 };

static const float shares[] = {0, 1, 0.25f, 0.9f}, factors[] = {1, 0.5f, 2, 0.3f};
enum { SHARES = sizeof shares / sizeof *shares, FACTORS = sizeof factors / sizeof *factors };

/* What values are drawn from. */
enum kind { USUAL, TIES, ZEROS, TINY, HUGE, SPECIAL, SPECIAL_ALL, KINDS };
static const struct {
    const char *name;
    int variant;    /* of the options; all of them with the usual values */
    uint32_t units; /* the first of the sizes: the largest take long where a CPU runs the kernels of a GPU */
} kinds[KINDS] = {
    {"usual", 0, UNITS_MAX},  {"ties", 1, UNITS_MAX},    {"zeros", 2, UNITS_SMALL},           {"tiny", 3, UNITS_SMALL},
    {"huge", 0, UNITS_SMALL}, {"special", 0, UNITS_MAX}, {"special all over", 1, UNITS_SMALL}};

static const struct codec_options variants[] = {
    {.keep = 0.01}, {.keep = 0.3, .nearest = true}, {.keep = 0.9}, {.keep = 1, .nearest = true}};
enum { VARIANTS = sizeof variants / sizeof *variants };

static struct device *device;
static const struct device_ops *ops;
static struct device_stream *stream;

/* The host's and the device's side of one codec's rounds; both lay units out alike. */
static struct {
    struct device_unit units[UNITS_MAX];
    uint32_t count;
    size_t elements, room; /* floats of values, bytes of encoded units; gaps between units too */
    float *values, *residual, *device_values, *device_residual;
    uint8_t *out, *device_out;
    uint32_t *device_bytes;
    struct device_unit *device_units;
    float *device_factors;
} bench;

#define EXPECT(condition, ...)                                                                                         \
    do {                                                                                                               \
        if (!(condition))                                                                                              \
            ck_abort_msg(__VA_ARGS__);                                                                                 \
    } while (0)

static void *memory(size_t bytes) {
    void *data = malloc(bytes + 1);
    EXPECT(data, "no memory");
    return data;
}

static void *device_memory(size_t bytes) {
    void *data = ops->alloc(device, bytes);
    EXPECT(data, "no memory on the device");
    return data;
}

static void synchronize(void) {
    struct lg_error error = {0};
    EXPECT(ops->synchronize(stream, &error) == LG_OK, "%s", error.message);
}

static void device_begin(int number) {
    struct lg_error error = {0};
    EXPECT(device_open(devices[number].spec, devices[number].threads, &device, &error) == LG_OK, "%s", error.message);
    ops = device->ops;
    stream = ops->stream_open(device);
    EXPECT(stream, "no stream");
}

static void device_end(void) {
    synchronize();
    ops->stream_close(stream);
    device_close(device);
}

/* Units with gaps of 0 to 3 elements between, so that they begin at every alignment, and encoded ones with gaps that
 * nobody may write to. */
static void bench_begin(const struct codec *codec, const struct codec_options *options, uint32_t count) {
    size_t first = 0, at = 0;
    bench.count = count;
    for (uint32_t i = 0; i < bench.count; i++) {
        first += i % 4;
        bench.units[i] = (struct device_unit){
            .first = first, .key = random_mix(i, options->nearest), .at = at, .elements = sizes[i]};
        first += sizes[i];
        at += codec->bytes_max(sizes[i], options) + GUARD;
        at = (at + device_codec_alignment(codec) - 1) / device_codec_alignment(codec) * device_codec_alignment(codec);
    }
    bench.elements = first;
    bench.room = at;
    bench.values = memory(first * sizeof(float));
    bench.residual = memory(first * sizeof(float));
    bench.out = memory(at);
    bench.device_values = device_memory(first * sizeof(float));
    bench.device_residual = device_memory(first * sizeof(float));
    bench.device_out = device_memory(at);
    bench.device_bytes = device_memory(UNITS_MAX * sizeof(uint32_t));
    bench.device_units = device_memory(sizeof bench.units);
    bench.device_factors = device_memory(UNITS_MAX * sizeof(float));
    ops->upload(stream, sizeof bench.units, bench.units, bench.device_units);
}

static void bench_end(void) {
    synchronize();
    void *const there[] = {bench.device_values, bench.device_residual, bench.device_out,
                           bench.device_bytes,  bench.device_units,    bench.device_factors};
    for (size_t i = 0; i < sizeof there / sizeof *there; i++)
        ops->free(device, there[i]);
    free(bench.values);
    free(bench.residual);
    free(bench.out);
}

static uint32_t special(struct random *random) {
    static const uint32_t bits[] = {0x7f800000, 0xff800000, 0x7fc00000, 0xffc00001,
                                    0x7f800001, 0xff812345, 0x7fffffff, 0xffffffff};
    return bits[random_below(random, sizeof bits / sizeof *bits)];
}

static uint32_t bits_of(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

static uint32_t draw(struct random *random, enum kind kind) {
    static const float few[] = {0, -0.0f, 1, -1, 0.5f, -0.5f, 0.25f, 0x1p-126f};
    const float x = random_float(random) - 0.5f;
    switch (kind) {
    case TIES:
        return bits_of(few[random_below(random, sizeof few / sizeof *few)]);
    case ZEROS:
        return bits_of(random_below(random, 200) ? 0 : x);
    case TINY: /* denormals, and what int8 sends as zeros */
        return random_below(random, 2) ? (uint32_t)random_below(random, 4) : bits_of(x * 0x1p-98f);
    case HUGE:
        return bits_of(x * 0x1.fffffep127f) + (random_below(random, 3) ? 0x00800000 : 0);
    case SPECIAL:
        return random_below(random, 900) ? bits_of(x) : special(random);
    case SPECIAL_ALL:
        return random_below(random, 3) ? special(random) : bits_of(x);
    default:
        return bits_of(random_normal(random) * (random_below(random, 3) ? 1e-3f : 1));
    }
}

/* `finite`: what is not becomes 1. */
static void fill(float *x, size_t n, enum kind kind, uint64_t seed, bool finite) {
    struct random random;
    random_init_stream(&random, seed, (uint64_t)kind);
    for (size_t i = 0; i < n; i++) {
        uint32_t bits = draw(&random, kind);
        if (finite && (bits & 0x7f800000) == 0x7f800000)
            bits = 0x3f800000;
        memcpy(&x[i], &bits, sizeof bits);
    }
}

/* The residual of the device has the host's bits. */
static void expect_residual(const char *what) {
    uint32_t *got = memory(bench.elements * sizeof *got), want;
    ops->download(stream, bench.elements * sizeof *got, bench.device_residual, got);
    synchronize();
    for (size_t i = 0; i < bench.elements; i++) {
        memcpy(&want, &bench.residual[i], sizeof want);
        EXPECT(got[i] == want, "%s: residual[%zu] has bits %08x, not %08x", what, i, got[i], want);
    }
    free(got);
}

static void check_encode(const char *what, const struct codec *codec, const struct codec_options *options,
                         bool feedback) {
    const struct codec_kernels *kernels = codec->kernels[isa_detect()];
    uint8_t *got = memory(bench.room);
    uint32_t bytes[UNITS_MAX];
    memset(bench.out, 0xa5, bench.room);
    ops->upload(stream, bench.elements * sizeof(float), bench.values, bench.device_values);
    ops->upload(stream, bench.room, bench.out, bench.device_out);
    ops->encode(stream, codec, options, bench.count, bench.device_units, bench.device_values,
                feedback ? bench.device_residual : NULL, bench.device_out, bench.device_bytes);
    ops->download(stream, bench.room, bench.device_out, got);
    ops->download(stream, sizeof bytes, bench.device_bytes, bytes);
    synchronize();
    for (uint32_t i = 0; i < bench.count; i++) {
        const struct device_unit *unit = &bench.units[i];
        struct codec_options own = *options;
        own.key = unit->key;
        const size_t want = kernels->encode(bench.values + unit->first, feedback ? bench.residual + unit->first : NULL,
                                            unit->elements, &own, bench.out + unit->at);
        EXPECT(bytes[i] == want, "%s, %u elements: %u bytes, not %zu", what, sizes[i], bytes[i], want);
        for (size_t at = unit->at; at < unit->at + want; at++)
            EXPECT(got[at] == bench.out[at], "%s, %u elements: byte %zu is %02x, not %02x", what, sizes[i],
                   at - unit->at, got[at], bench.out[at]);
        const size_t room = unit->at + codec->bytes_max(unit->elements, options);
        for (size_t at = room; at < room + GUARD; at++)
            EXPECT(got[at] == 0xa5, "%s, %u elements: written %zu bytes behind", what, sizes[i], at - room);
    }
    free(got);
    expect_residual(what);
}

static void check_take_back(const char *what, const struct codec *codec) {
    float each[UNITS_MAX];
    for (uint32_t i = 0; i < bench.count; i++) {
        const struct device_unit *unit = &bench.units[i];
        each[i] = shares[i % SHARES];
        if (each[i] != 0)
            codec_take_back(codec, isa_detect(), bench.out + unit->at, unit->elements, each[i],
                            bench.values + unit->first, bench.residual + unit->first);
    }
    ops->upload(stream, sizeof each, each, bench.device_factors);
    ops->take_back(stream, codec, bench.count, bench.device_units, bench.device_factors, bench.device_out,
                   bench.device_values, bench.device_residual);
    expect_residual(what);
}

static void check_scale(const char *what) {
    float each[UNITS_MAX];
    for (uint32_t i = 0; i < bench.count; i++) {
        each[i] = factors[i % FACTORS];
        for (size_t j = 0; j < bench.units[i].elements; j++)
            bench.residual[bench.units[i].first + j] *= each[i];
    }
    ops->upload(stream, sizeof each, each, bench.device_factors);
    ops->scale_units(stream, bench.count, bench.device_units, bench.device_factors, bench.device_residual);
    expect_residual(what);
}

/* Several rounds of one kind of values: what a round leaves is what the next one begins with. */
static void check_rounds(const struct codec *codec, const struct codec_options *options, enum kind kind,
                         bool feedback) {
    char what[160];
    bench_begin(codec, options, kinds[kind].units);
    fill(bench.residual, bench.elements, kind, 1, true);
    ops->upload(stream, bench.elements * sizeof(float), bench.residual, bench.device_residual);
    for (int round = 0; round < (codec->feedback ? ROUNDS : 1); round++) {
        snprintf(what, sizeof what, "%s, values %s, keep %g%s%s, round %d", codec->name, kinds[kind].name,
                 options->keep, options->nearest ? ", nearest" : "", feedback ? ", residual" : "", round);
        fill(bench.values, bench.elements, kind, 2 + (uint64_t)round, false);
        check_encode(what, codec, options, feedback);
        if (!feedback)
            break;
        check_take_back(what, codec);
        check_scale(what);
    }
    bench_end();
}

static const struct codec *codec_at(int index) {
    size_t count;
    return codecs(&count)[index];
}

START_TEST(bits_are_the_hosts) {
    size_t count;
    codecs(&count);
    const struct codec *codec = codec_at(_i % (int)count);
    device_begin(_i / (int)count);
    for (int kind = 0; kind < KINDS; kind++) {
        for (int variant = 0; variant < VARIANTS; variant++)
            if (kind == USUAL || variant == kinds[kind].variant)
                check_rounds(codec, &variants[variant], (enum kind)kind, true);
        check_rounds(codec, &variants[kinds[kind].variant], (enum kind)kind, false);
    }
    device_end();
}
END_TEST

START_TEST(no_units_are_nothing) {
    device_begin(_i);
    const struct codec *codec = codec_plain();
    ops->encode(stream, codec, &variants[0], 0, NULL, NULL, NULL, NULL, NULL);
    ops->take_back(stream, codec, 0, NULL, NULL, NULL, NULL, NULL);
    ops->scale_units(stream, 0, NULL, NULL, NULL);
    device_end();
}
END_TEST

/* A codec that a device has no kernels for is an error, not another codec. */
START_TEST(unknown_codecs_are_refused) {
    device_begin(_i);
    struct codec other = *codec_plain();
    struct lg_error error = {0};
    other.name = "other";
    other.number = 99;
    if (!device->host_memory) {
        ops->encode(stream, &other, &variants[0], 1, NULL, NULL, NULL, NULL, NULL);
        ck_assert_int_eq(ops->synchronize(stream, &error), LG_UNSUPPORTED);
        ck_assert_ptr_nonnull(strstr(error.message, "other"));
    }
    device_end();
}
END_TEST

int main(void) {
    Suite *suite = suite_create("device codecs");
    TCase *tests = tcase_create("every codec on every device");
    size_t count;
    codecs(&count);
    tcase_set_timeout(tests, 120);
    for (int d = 0; d < DEVICES; d++) {
        if (!test_device_is_there(&devices[d]))
            continue;
        tcase_add_loop_test(tests, bits_are_the_hosts, d * (int)count, (d + 1) * (int)count);
        tcase_add_loop_test(tests, no_units_are_nothing, d, d + 1);
        tcase_add_loop_test(tests, unknown_codecs_are_refused, d, d + 1);
    }
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
