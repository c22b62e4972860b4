/* Encoded units from anyone: measured or refused; what is measured is decoded within bounds, alike by all instruction
 * sets, and comes back the same when it is encoded again where the codec allows. Input: codec, element count (2 bytes),
 * then the unit. */
#include <assert.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "common/codec.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

static void decode_all(const struct codec *codec, enum isa isa, const uint8_t *data, uint32_t n, float *out) {
    _Alignas(64) float scratch[CODEC_CHUNK];
    for (size_t first = 0; first < n; first += CODEC_CHUNK) {
        size_t count = n - first < CODEC_CHUNK ? n - first : CODEC_CHUNK;
        memcpy(out + first, codec->kernels[isa]->decode(data, n, first, count, scratch), count * sizeof *out);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
    static float values[CODEC_ELEMENTS_MAX], again[CODEC_ELEMENTS_MAX], residual[CODEC_ELEMENTS_MAX];
    size_t count, used = 0;
    const struct codec *const *table = codecs(&count);
    struct lg_error error = {0};
    if (size < 3)
        return 0;
    const struct codec *codec = table[bytes[0] % count];
    const uint32_t n = 1 + (uint32_t)(bytes[1] | bytes[2] << 8);
    uint8_t *data = malloc(size - 3 + !(size - 3)); /* of its own size: a step beyond it is seen */
    assert(data);
    memcpy(data, bytes + 3, size - 3);
    if (codec->measure(data, size - 3, n, &used, &error) != LG_OK) {
        assert(error.status == LG_MALFORMED && error.message[0]);
        free(data);
        return 0;
    }
    assert(used <= size - 3);
    decode_all(codec, ISA_BASE, data, n, values);
    const bool finite = codec->kernels[ISA_BASE]->finite(data, n);
    for (int isa = ISA_BASE + 1; isa <= (int)isa_detect(); isa++) {
        decode_all(codec, (enum isa)isa, data, n, again);
        assert(codec->kernels[isa]->finite(data, n) == finite);
        for (uint32_t i = 0; i < n; i++) /* NaN may come with other bits */
            assert(memcmp(&values[i], &again[i], sizeof *values) == 0 || (isnan(values[i]) && isnan(again[i])));
    }
    for (uint32_t i = 0; finite && i < n; i++)
        assert(isfinite(values[i]));
    const struct codec_options options = {.key = size, .keep = 0.01};
    uint8_t *out = malloc(codec->bytes_max(n, &options));
    assert(out);
    memset(residual, 0, n * sizeof *residual);
    size_t written = codec->kernels[isa_detect()]->encode(values, residual, n, &options, out);
    assert(written <= codec->bytes_max(n, &options));
    assert(codec->measure(out, written, n, &used, NULL) == LG_OK && used == written);
    assert(!codec->exact || memcmp(out, data, written) == 0);
    assert(codec->kernels[ISA_BASE]->finite(out, n) || !finite);
    for (uint32_t i = 0; i < n; i++)
        assert(isfinite(residual[i]));
    free(out);
    free(data);
    return 0;
}
