/* Codecs on the CPU: common/codecs/ itself, a unit at a time, units spread over the threads. */
#include "common/codec.h"

#include "gpu/cpu/cpu.h"

/* What the three ops are given; each uses its part. */
struct codec_work {
    const struct codec *codec;
    const struct codec_options *options;
    const struct device_unit *units;
    const float *values, *factors; /* factors: shares to take_back, too */
    float *residual;
    const uint8_t *encoded;
    uint8_t *out;
    uint32_t *bytes;
    enum isa isa;
};

static void encode_units(void *context, size_t first, size_t last, unsigned thread) {
    const struct codec_work *work = context;
    const struct codec_kernels *kernels = work->codec->kernels[work->isa];
    struct codec_options options = *work->options;
    (void)thread;
    for (size_t i = first; i < last; i++) {
        const struct device_unit *unit = &work->units[i];
        options.key = unit->key;
        work->bytes[i] =
            (uint32_t)kernels->encode(work->values + unit->first, work->residual ? work->residual + unit->first : NULL,
                                      unit->elements, &options, work->out + unit->at);
    }
}

void cpu_encode(struct device_stream *s, const struct codec *codec, const struct codec_options *options, size_t count,
                const struct device_unit *units, const float *values, float *residual, uint8_t *out, uint32_t *bytes) {
    struct codec_work work = {.codec = codec,
                              .options = options,
                              .units = units,
                              .values = values,
                              .residual = residual,
                              .out = out,
                              .bytes = bytes,
                              .isa = isa_detect()};
    cpu_split(cpu_of(s), count, 1, 1, encode_units, &work);
}

static void take_back_units(void *context, size_t first, size_t last, unsigned thread) {
    const struct codec_work *work = context;
    (void)thread;
    for (size_t i = first; i < last; i++) {
        const struct device_unit *unit = &work->units[i];
        if (work->factors[i] != 0)
            codec_take_back(work->codec, work->isa, work->encoded + unit->at, unit->elements, work->factors[i],
                            work->values + unit->first, work->residual + unit->first);
    }
}

void cpu_take_back(struct device_stream *s, const struct codec *codec, size_t count, const struct device_unit *units,
                   const float *shares, const uint8_t *encoded, const float *values, float *residual) {
    struct codec_work work = {.codec = codec,
                              .units = units,
                              .factors = shares,
                              .encoded = encoded,
                              .values = values,
                              .residual = residual,
                              .isa = isa_detect()};
    cpu_split(cpu_of(s), count, 1, 1, take_back_units, &work);
}

static void scale_range(void *context, size_t first, size_t last, unsigned thread) {
    const struct codec_work *work = context;
    (void)thread;
    for (size_t i = first; i < last; i++) {
        float *x = work->residual + work->units[i].first;
        const float factor = work->factors[i];
        for (size_t j = 0; j < work->units[i].elements; j++)
            x[j] *= factor;
    }
}

void cpu_scale_units(struct device_stream *s, size_t count, const struct device_unit *units, const float *factors,
                     float *x) {
    struct codec_work work = {.units = units, .factors = factors, .residual = x};
    cpu_split(cpu_of(s), count, 1, 1, scale_range, &work);
}
