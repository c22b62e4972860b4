/* Codecs: how the elements of one unit travel. One file under common/codecs/ and one line in codec.def add one.
 *
 * An encoded unit is a run of bytes that says by itself, together with the unit's element count, where it ends and what
 * each element is. Whatever comes from outside goes through `measure` first: it refuses what is not whole, and after
 * it neither `decode` nor `finite` reads anything but the measured bytes or fails. Encoded units need no alignment.
 *
 * Decoding works in chunks that stay in cache, so every codec serves every updater. Bits depend on the input and the
 * options alone: they are the same over instruction sets and compilers. */
#ifndef LAGOON_COMMON_CODEC_H
#define LAGOON_COMMON_CODEC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/isa.h"
#include "common/status.h"

enum {
    CODEC_CHUNK = 4096,         /* elements decoded at once, at most */
    CODEC_ELEMENTS_MAX = 65536, /* of one unit */
    CODEC_COUNT_MAX = 16,       /* codecs in the registry */
};

/* Element types as numbered on the wire; numbered codecs have F32. */
enum codec_dtype { CODEC_DTYPE_F32, CODEC_DTYPE_F16, CODEC_DTYPE_BF16 };

struct codec_options {
    uint64_t key; /* of the random numbers: element i of a unit gets a pure function of (key, i) */
    bool nearest; /* round to nearest, without random numbers */
    double keep;  /* topk: share of the elements that is sent, above 0, at most 1; at least one is */
};

/* Kernels, one set of them per instruction set. */
struct codec_kernels {
    /* Writes one unit of `elements` (1 .. CODEC_ELEMENTS_MAX) to `out`, which has room for bytes_max; returns the bytes
     * written. With `residual` [elements], a codec with feedback encodes values + residual and leaves there what it did
     * not send; other codecs do not touch it. NaN and infinities come out as values that `finite` reports; what they
     * leave in the residual is finite. Finite values stay finite: they saturate. */
    size_t (*encode)(const float *values, float *residual, uint32_t elements, const struct codec_options *options,
                     uint8_t *out);
    /* Elements [first, first + n): `first` is a multiple of CODEC_CHUNK and n is CODEC_CHUNK, or less at the unit's
     * end. Returns `scratch` [n] or, where the bytes are floats already, a pointer into `data`. */
    const float *(*decode)(const uint8_t *data, uint32_t elements, size_t first, size_t n, float *scratch);
    /* False when some element is, or could become, NaN or infinite. */
    bool (*finite)(const uint8_t *data, uint32_t elements);
};

struct codec {
    const char *name;
    const char *summary;
    enum codec_dtype dtype; /* dtype and number name the codec on the wire */
    uint32_t number;        /* 0: plain elements of `dtype` */
    bool exact;             /* decoding gives the encoded bits back */
    bool random;            /* rounds at random unless told otherwise: unbiased */
    bool feedback;          /* sends a part of the input only; the rest is kept in a residual and comes later */
    bool changes_only;      /* fit for gradients and differences, not for values themselves */
    bool fixed; /* a unit takes bytes_max bytes, and decoding reads just those, whatever is in them: they may
                 * change meanwhile, and lead nowhere */
    /* Bytes that `encode` writes at most. */
    size_t (*bytes_max)(uint32_t elements, const struct codec_options *options);
    /* The length of the unit at `data`; LG_MALFORMED with a reason unless all of it lies within `available`. */
    enum lg_status (*measure)(const uint8_t *data, size_t available, uint32_t elements, size_t *bytes,
                              struct lg_error *error);
    const struct codec_kernels *kernels[ISA_COUNT]; /* NULL where the build lacks the set */
};

const struct codec *const *codecs(size_t *count);
LG_MUST_CHECK enum lg_status codec_find(const char *name, const struct codec **out, struct lg_error *error);
/* By its identity on the wire; LG_UNSUPPORTED for what this version does not have. */
LG_MUST_CHECK enum lg_status codec_of_wire(uint32_t dtype, uint32_t number, const struct codec **out,
                                           struct lg_error *error);
/* The codec that changes nothing: f32. */
const struct codec *codec_plain(void);
/* Place in the registry, below CODEC_COUNT_MAX. */
size_t codec_index(const struct codec *codec);

/* Undoes `share` (0 to 1) of a push that was not applied, or with less weight: residual += share (decoded - values),
 * element by element, but for those where that is not finite. With the weight s and a share of 1 - s, what was applied
 * and what is left grow by s values together, as they would without a codec. */
void codec_take_back(const struct codec *codec, enum isa isa, const uint8_t *data, uint32_t elements, float share,
                     const float *values, float *residual);
/* A residual is a gradient: where the learning rate has gone from *rate, which the residual is for, to `now`, it is to
 * be multiplied by what this returns, so that rate times residual stays. *rate becomes `now`. A rate of 0 is not known:
 * then nothing changes. */
float codec_follow_rate(float *rate, float now);
/* target += decoded, element by element. */
void codec_add(const struct codec *codec, enum isa isa, const uint8_t *data, uint32_t elements, float *target);

#endif
