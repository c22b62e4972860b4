#include "server/gather.h"

#include <stdlib.h>

#include "proto/local.h"

enum lg_status gather_init(struct gather *gather, const struct unit *units, uint32_t unit_count, const float *segment,
                           size_t elements, struct lg_error *error) {
    size_t bytes = elements * sizeof(float);
    gather->units = calloc(unit_count ? unit_count : 1, sizeof *gather->units);
    gather->memory = aligned_alloc(LOCAL_ALIGN_BYTES, bytes ? bytes : LOCAL_ALIGN_BYTES);
    if (!gather->units || !gather->memory)
        return lg_fail(error, LG_NO_MEMORY, "no memory for %zu bytes of gathered pushes", bytes);
    for (uint32_t i = 0; i < unit_count; i++)
        gather->units[i].sum = gather->memory + (units[i].values - segment);
    return LG_OK;
}

void gather_deinit(struct gather *gather) {
    free(gather->memory);
    free(gather->units);
}

static void put(float *restrict sum, const float *restrict values, size_t n, float factor) {
    for (size_t i = 0; i < n; i++)
        sum[i] = factor * values[i];
}

static void add(float *restrict sum, const float *restrict values, size_t n, float factor) {
    for (size_t i = 0; i < n; i++)
        sum[i] += factor * values[i];
}

void gather_add(struct gather_unit *into, const struct codec_kernels *codec, const uint8_t *payload, uint32_t elements,
                float weight, uint64_t samples, bool negate) {
    _Alignas(64) float scratch[CODEC_CHUNK];
    float factor = weight * (float)samples;
    factor = negate ? -factor : factor;
    for (size_t first = 0; first < elements; first += CODEC_CHUNK) {
        size_t n = elements - first < CODEC_CHUNK ? elements - first : CODEC_CHUNK;
        const float *values = codec->decode(payload, elements, first, n, scratch);
        if (into->samples > 0)
            add(into->sum + first, values, n, factor);
        else
            put(into->sum + first, values, n, factor);
    }
    into->samples += (double)samples;
    into->weighted += (double)weight * (double)samples;
}

const float *gather_take(struct gather_unit *from, uint32_t elements, bool whole) {
    float scale = (float)(1 / (whole ? from->weighted : from->samples));
    for (uint32_t i = 0; i < elements; i++)
        from->sum[i] *= scale;
    from->samples = from->weighted = 0;
    return from->sum;
}
