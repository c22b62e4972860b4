#include "common/codec.h"

#include <stdio.h>
#include <string.h>

#include "common/codecs/kernel.h"

#define X(symbol) &codec_##symbol,
static const struct codec *const table[] = {
#include "common/codec.def"
};
#undef X

enum { COUNT = sizeof table / sizeof *table };
_Static_assert((int)COUNT <= (int)CODEC_COUNT_MAX, "raise CODEC_COUNT_MAX");

const struct codec *const *codecs(size_t *count) {
    *count = COUNT;
    return table;
}

enum lg_status codec_find(const char *name, const struct codec **out, struct lg_error *error) {
    char list[200] = "";
    for (size_t i = 0; i < COUNT; i++) {
        if (strcmp(table[i]->name, name) == 0) {
            *out = table[i];
            return LG_OK;
        }
        size_t used = strlen(list);
        snprintf(list + used, sizeof list - used, "%s%s", i > 0 ? ", " : "", table[i]->name);
    }
    return lg_fail(error, LG_INVALID, "unknown codec \"%.60s\" (there are: %s)", name, list);
}

enum lg_status codec_of_wire(uint32_t dtype, uint32_t number, const struct codec **out, struct lg_error *error) {
    for (size_t i = 0; i < COUNT; i++)
        if ((uint32_t)table[i]->dtype == dtype && table[i]->number == number) {
            *out = table[i];
            return LG_OK;
        }
    return lg_fail(error, LG_UNSUPPORTED, "codec %u of element type %u is not known here: send f32 (codec 0, type 0)",
                   number, dtype);
}

const struct codec *codec_plain(void) {
    return &codec_f32;
}

size_t codec_index(const struct codec *codec) {
    size_t index = 0;
    while (table[index] != codec)
        index++;
    return index;
}

void codec_take_back(const struct codec *codec, enum isa isa, const uint8_t *data, uint32_t elements, float share,
                     const float *values, float *residual) {
    _Alignas(64) float scratch[CODEC_CHUNK];
    for (size_t first = 0; first < elements; first += CODEC_CHUNK) {
        const size_t n = elements - first < CODEC_CHUNK ? elements - first : CODEC_CHUNK;
        const float *decoded = codec->kernels[isa]->decode(data, elements, first, n, scratch);
        for (size_t i = 0; i < n; i++)
            residual[first + i] = kernel_take_back(residual[first + i], share, decoded[i], values[first + i]);
    }
}

float codec_follow_rate(float *rate, float now) {
    const float factor = *rate > 0 && now > 0 ? *rate / now : 1;
    if (now > 0)
        *rate = now;
    return factor;
}

void codec_add(const struct codec *codec, enum isa isa, const uint8_t *data, uint32_t elements, float *target) {
    _Alignas(64) float scratch[CODEC_CHUNK];
    for (size_t first = 0; first < elements; first += CODEC_CHUNK) {
        const size_t n = elements - first < CODEC_CHUNK ? elements - first : CODEC_CHUNK;
        const float *decoded = codec->kernels[isa]->decode(data, elements, first, n, scratch);
        for (size_t i = 0; i < n; i++)
            target[first + i] += decoded[i];
    }
}
