/* How fast codecs encode and decode, per instruction set.
 *
 *   build/release/bench/codec [--seconds S]
 *
 * Prints a Markdown table in millions of elements per second, the best of several rounds, over units of 65,536 elements
 * that do not fit a core's cache together. Decoding goes through cache-sized chunks, as in a shard. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "bench/clock.h"
#include "common/codec.h"
#include "common/random.h"

enum { UNITS = 64, ELEMENTS = UNITS * CODEC_ELEMENTS_MAX, ROUNDS = 5 };

static void *memory(size_t bytes) {
    void *data = aligned_alloc(64, (bytes + 63) / 64 * 64);
    if (!data) {
        fputs("codec: no memory\n", stderr);
        exit(EXIT_FAILURE);
    }
    memset(data, 0, bytes);
    return data;
}

struct bench {
    const struct codec *codec;
    const struct codec_kernels *kernels;
    struct codec_options options;
    float *values, *residual;
    uint8_t *bytes;
    size_t room, used;
    double sum; /* of decoded chunks' first elements: keeps the work from being left out */
};

static void encode_all(struct bench *bench) {
    for (size_t i = 0; i < UNITS; i++) {
        bench->options.key++;
        float *residual = bench->codec->feedback ? bench->residual + i * CODEC_ELEMENTS_MAX : NULL;
        bench->used = bench->kernels->encode(bench->values + i * CODEC_ELEMENTS_MAX, residual, CODEC_ELEMENTS_MAX,
                                             &bench->options, bench->bytes + i * bench->room);
    }
}

static void decode_all(struct bench *bench) {
    _Alignas(64) float scratch[CODEC_CHUNK];
    for (size_t i = 0; i < UNITS; i++)
        for (size_t first = 0; first < CODEC_ELEMENTS_MAX; first += CODEC_CHUNK)
            bench->sum += (double)bench->kernels->decode(bench->bytes + i * bench->room, CODEC_ELEMENTS_MAX, first,
                                                         CODEC_CHUNK, scratch)[first % 7];
}

static double rate(struct bench *bench, void (*work)(struct bench *), double seconds) {
    double best = 0;
    for (int round = 0; round < ROUNDS; round++) {
        double start = clock_seconds(), spent = 0, done = 0;
        while (spent < seconds / ROUNDS) {
            work(bench);
            done += ELEMENTS;
            spent = clock_seconds() - start;
        }
        best = done / spent > best ? done / spent : best;
    }
    return best;
}

int main(int argc, char **argv) {
    double seconds = argc == 3 && strcmp(argv[1], "--seconds") == 0 ? strtod(argv[2], NULL) : 0.5;
    struct bench bench = {.options = {.keep = 0.01}};
    struct random random;
    random_init(&random, 1);
    bench.values = memory(ELEMENTS * sizeof(float));
    bench.residual = memory(ELEMENTS * sizeof(float));
    for (size_t i = 0; i < ELEMENTS; i++)
        bench.values[i] = random_normal(&random);
    size_t count;
    const struct codec *const *table = codecs(&count);
    printf("| codec | isa | encode | decode | bytes an element |\n|---|---|---:|---:|---:|\n");
    for (size_t i = 0; i < count; i++)
        for (int isa = 0; isa <= (int)isa_detect(); isa++) {
            bench.codec = table[i];
            bench.kernels = table[i]->kernels[isa];
            bench.room = table[i]->bytes_max(CODEC_ELEMENTS_MAX, &bench.options);
            bench.bytes = memory(bench.room * UNITS);
            double encoded = rate(&bench, encode_all, seconds), decoded = rate(&bench, decode_all, seconds);
            printf("| %s | %s | %.0f | %.0f | %.3f |\n", table[i]->name, isa_name((enum isa)isa), encoded / 1e6,
                   decoded / 1e6, (double)bench.used / CODEC_ELEMENTS_MAX);
            free(bench.bytes);
        }
    free(bench.values);
    free(bench.residual);
    return bench.sum == 0.5 ? EXIT_FAILURE : EXIT_SUCCESS;
}
