#include "server/shadow.h"

#include <stdlib.h>
#include <string.h>

static size_t values_span(const struct unit *units, uint32_t count) {
    return (size_t)(units[count - 1].values - units[0].values) + units[count - 1].elements;
}

uint64_t shadow_bytes(const struct unit *units, uint32_t count, bool extra) {
    return count == 0 ? 0 : (1 + extra) * values_span(units, count) * sizeof(float) + count * sizeof(uint64_t);
}

struct shadow *shadow_new(const struct unit *units, uint32_t count, bool extra) {
    struct shadow *shadow = count > 0 ? calloc(1, sizeof *shadow) : NULL;
    if (!shadow)
        return NULL;
    shadow->units = units;
    shadow->bytes = shadow_bytes(units, count, extra);
    shadow->values = malloc(values_span(units, count) * sizeof *shadow->values);
    shadow->versions = calloc(count, sizeof *shadow->versions);
    shadow->extra = extra ? calloc(values_span(units, count), sizeof *shadow->extra) : NULL;
    if (!shadow->values || !shadow->versions || (extra && !shadow->extra)) {
        shadow_free(shadow);
        return NULL;
    }
    return shadow;
}

void shadow_free(struct shadow *shadow) {
    if (!shadow)
        return;
    free(shadow->values);
    free(shadow->extra);
    free(shadow->versions);
    free(shadow);
}

static size_t place_of(const struct shadow *shadow, const struct unit *unit) {
    return (size_t)(unit->values - shadow->units[0].values);
}

static float *values_of(const struct shadow *shadow, const struct unit *unit) {
    return shadow->values + place_of(shadow, unit);
}

const float *shadow_values(const struct shadow *shadow, const struct unit *unit) {
    return values_of(shadow, unit);
}

float *shadow_extra(const struct shadow *shadow, const struct unit *unit) {
    return shadow->extra ? shadow->extra + place_of(shadow, unit) : NULL;
}

uint64_t shadow_version(const struct shadow *shadow, const struct unit *unit) {
    return shadow->versions[unit - shadow->units];
}

void shadow_set(struct shadow *shadow, const struct unit *unit) {
    memcpy(values_of(shadow, unit), unit->values, unit->elements * sizeof *unit->values);
    shadow->versions[unit - shadow->units] = unit->version;
}

static void subtract(const float *restrict from, const float *restrict what, size_t n, float *restrict out) {
    for (size_t i = 0; i < n; i++)
        out[i] = from[i] - what[i];
}

size_t shadow_encode(struct shadow *shadow, const struct unit *unit, const struct codec *codec, enum isa isa,
                     const struct codec_options *options, uint8_t *out) {
    _Alignas(64) float change[CODEC_ELEMENTS_MAX];
    float *held = values_of(shadow, unit);
    const struct codec_kernels *kernels = codec->kernels[isa];
    subtract(unit->values, held, unit->elements, change);
    const size_t bytes = kernels->encode(change, NULL, unit->elements, options, out);
    if (!kernels->finite(out, unit->elements)) {
        shadow->versions[unit - shadow->units] = 0;
        return 0;
    }
    codec_add(codec, isa, out, unit->elements, held);
    shadow->versions[unit - shadow->units] = unit->version;
    return bytes;
}
