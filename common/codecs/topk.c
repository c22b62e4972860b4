/* The largest magnitudes only; the layout is in topk.h. */
#include "common/codecs/topk.h"

#include "common/codecs/kernel.h"

enum {
    GROUP = 32,        /* elements looked at together: most groups hold nothing that is sent */
    SAMPLE = 2048,     /* elements that bracket the threshold */
    CANDIDATES = 8192, /* elements inside the bracket, at most */
};

/* ---- the threshold: the k-th largest magnitude */

static inline size_t count_from(const uint32_t *magnitudes, size_t n, uint32_t least) {
    uint32_t count = 0;
    for (size_t i = 0; i < n; i++)
        count += magnitudes[i] >= least;
    return count;
}

/* The largest t in [low, high) with at least k of the magnitudes >= t; low is known to be one. */
static inline uint32_t kth_of(const uint32_t *magnitudes, size_t n, size_t k, uint32_t low, uint32_t high) {
    while (high - low > 1) {
        const uint32_t middle = low + (high - low) / 2;
        if (count_from(magnitudes, n, middle) >= k)
            low = middle;
        else
            high = middle;
    }
    return low;
}

/* A bracket that most likely holds the threshold: from a sample at equal distances, a few deviations to either side. */
static inline void bracket(const float *values, uint32_t elements, size_t k, uint32_t *low, uint32_t *high) {
    uint32_t sample[SAMPLE];
    for (size_t i = 0; i < SAMPLE; i++)
        sample[i] = kernel_magnitude(values[i * elements / SAMPLE]);
    const size_t rank = k * SAMPLE / elements;
    size_t spread = 4;
    while (spread * spread < 9 * rank)
        spread++;
    spread += 4;
    *low = rank + spread < SAMPLE ? kth_of(sample, SAMPLE, rank + spread, 0, KERNEL_SIGN) : 0;
    *high = rank > spread ? kth_of(sample, SAMPLE, rank - spread, *low, KERNEL_SIGN) + 1 : KERNEL_SIGN;
}

/* Whether any of GROUP magnitudes lies in [low, low + width). */
static inline uint32_t group_any(const uint32_t *magnitudes, uint32_t low, uint32_t width) {
    uint32_t any = 0;
    for (size_t i = 0; i < GROUP; i++)
        any |= magnitudes[i] - low < width;
    return any;
}

/* Puts the magnitudes in [low, high) into candidates[CANDIDATES] and counts those above; the number of candidates, or
 * more than CANDIDATES when they are too many. */
static inline size_t narrow(const uint32_t *magnitudes, uint32_t elements, uint32_t low, uint32_t high,
                            uint32_t *candidates, size_t *above) {
    size_t count = 0, at = 0;
    *above = count_from(magnitudes, elements, high);
    for (; at < elements && count <= CANDIDATES - GROUP; at += GROUP) {
        const size_t n = elements - at < GROUP ? elements - at : GROUP;
        if (n == GROUP && !group_any(magnitudes + at, low, high - low))
            continue;
        for (size_t i = 0; i < n; i++) {
            candidates[count] = magnitudes[at + i];
            count += magnitudes[at + i] - low < high - low;
        }
    }
    return at < elements ? CANDIDATES + 1 : count;
}

static inline uint32_t threshold(const float *values, const uint32_t *magnitudes, uint32_t elements, size_t k) {
    uint32_t candidates[CANDIDATES], low, high;
    if (elements <= SAMPLE)
        return kth_of(magnitudes, elements, k, 0, KERNEL_SIGN);
    bracket(values, elements, k, &low, &high);
    size_t above, count = narrow(magnitudes, elements, low, high, candidates, &above);
    if (count > CANDIDATES || above >= k || above + count < k)
        return kth_of(magnitudes, elements, k, 0, KERNEL_SIGN);
    return kth_of(candidates, count, k - above, low, high);
}

/* ---- encoding */

/* Places of the chunk's magnitudes from `least` on, ascending. */
static inline size_t places_from(const uint32_t *magnitudes, size_t n, uint32_t least, uint16_t *places) {
    size_t count = 0;
    for (size_t at = 0; at < n; at += GROUP) {
        const size_t here = n - at < GROUP ? n - at : GROUP;
        if (here == GROUP && !group_any(magnitudes + at, least, KERNEL_SIGN))
            continue;
        for (size_t i = 0; i < here; i++) {
            places[count] = (uint16_t)(at + i);
            count += magnitudes[at + i] >= least;
        }
    }
    return count;
}

/* Of `count` places, those whose magnitude is above `least`, and the first *equal of those where it is that. */
static inline size_t places_thin(const uint32_t *magnitudes, uint32_t least, size_t *equal, uint16_t *places,
                                 size_t count) {
    size_t kept = 0;
    for (size_t i = 0; i < count; i++) {
        const size_t tie = magnitudes[places[i]] == least, wanted = !tie || *equal > 0;
        places[kept] = places[i];
        kept += wanted;
        *equal -= tie && wanted;
    }
    return kept;
}

/* Values and places of one chunk at `out`; its word in *word. */
static inline size_t chunk_write(const float *values, size_t n, const uint16_t *places, size_t count, uint8_t *out,
                                 uint32_t *word) {
    *word = topk_word(count, n);
    for (size_t i = 0; i < count; i++)
        memcpy(out + i * sizeof *values, &values[places[i]], sizeof *values);
    out += count * sizeof *values;
    if (*word & TOPK_BITMAP) {
        uint32_t words[CODEC_CHUNK / TOPK_WORD_BITS] = {0};
        for (size_t i = 0; i < count; i++)
            words[places[i] / TOPK_WORD_BITS] |= 1u << places[i] % TOPK_WORD_BITS;
        memcpy(out, words, topk_bitmap_bytes(n));
    } else {
        memcpy(out, places, count * sizeof *places);
        memset(out + count * sizeof *places, 0, topk_list_bytes(count) - count * sizeof *places);
    }
    return topk_chunk_bytes(*word, n);
}

static size_t topk_encode(const float *values, float *residual, uint32_t elements, const struct codec_options *options,
                          uint8_t *out) {
    uint32_t magnitudes[CODEC_ELEMENTS_MAX];
    uint16_t places[CODEC_CHUNK];
    const float *input = values;
    if (residual) { /* holds the whole input until what is sent is taken out of it */
        for (size_t i = 0; i < elements; i++)
            residual[i] += values[i];
        input = residual;
    }
    for (size_t i = 0; i < elements; i++)
        magnitudes[i] = kernel_magnitude(input[i]);
    const size_t k = topk_quota(elements, options->keep);
    uint32_t least = threshold(input, magnitudes, elements, k);
    least = least > 0 ? least : 1; /* zeros need not be sent */
    size_t equal = k - count_from(magnitudes, elements, least + 1);
    size_t used = topk_chunks(elements) * sizeof(uint32_t);
    for (size_t chunk = 0; chunk < topk_chunks(elements); chunk++) {
        const size_t first = chunk * CODEC_CHUNK, n = topk_chunk_elements(elements, chunk);
        size_t count = places_from(magnitudes + first, n, least, places);
        count = places_thin(magnitudes + first, least, &equal, places, count);
        uint32_t word;
        used += chunk_write(input + first, n, places, count, out + used, &word);
        memcpy(out + chunk * sizeof word, &word, sizeof word);
        for (size_t i = 0; residual && i < count; i++)
            residual[first + places[i]] = 0;
    }
    if (residual && least >= KERNEL_INFINITY) /* more NaN than are sent */
        for (size_t i = 0; i < elements; i++)
            residual[i] = kernel_magnitude(residual[i]) < KERNEL_INFINITY ? residual[i] : 0;
    return used;
}

/* ---- decoding */

static const float *topk_decode(const uint8_t *data, uint32_t elements, size_t first, size_t n, float *scratch) {
    const size_t chunk = first / CODEC_CHUNK;
    size_t at = topk_chunks(elements) * sizeof(uint32_t);
    for (size_t i = 0; i < chunk; i++)
        at += topk_chunk_bytes(kernel_load32(data + i * sizeof(uint32_t)), CODEC_CHUNK);
    const uint32_t word = kernel_load32(data + chunk * sizeof(uint32_t));
    const size_t count = word & TOPK_COUNT_MASK;
    const uint8_t *values = data + at, *places = values + count * sizeof(float);
    memset(scratch, 0, n * sizeof *scratch);
    if (!(word & TOPK_BITMAP)) {
        for (size_t i = 0; i < count; i++)
            memcpy(&scratch[kernel_load16(places + i * sizeof(uint16_t))], values + i * sizeof(float), sizeof(float));
        return scratch;
    }
    for (size_t i = 0; i * TOPK_WORD_BITS < n; i++)
        for (uint32_t bits = kernel_load32(places + i * sizeof bits); bits != 0; bits &= bits - 1) {
            memcpy(&scratch[i * TOPK_WORD_BITS + (size_t)__builtin_ctz(bits)], values, sizeof(float));
            values += sizeof(float);
        }
    return scratch;
}

static bool topk_finite(const uint8_t *data, uint32_t elements) {
    size_t at = topk_chunks(elements) * sizeof(uint32_t);
    bool finite = true;
    for (size_t chunk = 0; chunk < topk_chunks(elements); chunk++) {
        const uint32_t word = kernel_load32(data + chunk * sizeof word);
        finite = finite && kernel_all_finite(data + at, word & TOPK_COUNT_MASK);
        at += topk_chunk_bytes(word, topk_chunk_elements(elements, chunk));
    }
    return finite;
}

const struct codec_kernels ISA_NAME(codec_topk) = {topk_encode, topk_decode, topk_finite};

#ifdef LG_ISA_IS_base

static size_t topk_bytes_max(uint32_t elements, const struct codec_options *options) {
    const size_t k = topk_quota(elements, options->keep), chunks = topk_chunks(elements);
    const size_t lists = k * sizeof(uint16_t) + chunks * 2, bitmaps = topk_bitmap_bytes(elements);
    return chunks * sizeof(uint32_t) + k * sizeof(float) + (lists < bitmaps ? lists : bitmaps);
}

static bool list_valid(const uint8_t *places, size_t count, size_t n) {
    uint32_t least = 0, bad = 0;
    for (size_t i = 0; i < count; i++) {
        const uint32_t place = kernel_load16(places + i * sizeof(uint16_t));
        bad |= place < least || place >= n;
        least = place + 1;
    }
    return bad == 0;
}

static bool bitmap_valid(const uint8_t *places, size_t count, size_t n) {
    size_t found = 0;
    for (size_t i = 0; i * TOPK_WORD_BITS < n; i++)
        found += (size_t)__builtin_popcount(kernel_load32(places + i * sizeof(uint32_t)));
    const uint32_t last = kernel_load32(places + (n - 1) / TOPK_WORD_BITS * sizeof last);
    return found == count && (n % TOPK_WORD_BITS == 0 || last >> n % TOPK_WORD_BITS == 0);
}

static enum lg_status topk_measure(const uint8_t *data, size_t available, uint32_t elements, size_t *bytes,
                                   struct lg_error *error) {
    size_t at = topk_chunks(elements) * sizeof(uint32_t);
    *bytes = at;
    if (available < at)
        return kernel_measure(at, available, bytes, error);
    for (size_t chunk = 0; chunk < topk_chunks(elements); chunk++) {
        const uint32_t word = kernel_load32(data + chunk * sizeof word);
        const size_t count = word & TOPK_COUNT_MASK, n = topk_chunk_elements(elements, chunk);
        if (word > (TOPK_BITMAP | TOPK_COUNT_MASK) || count > n)
            return lg_fail(error, LG_MALFORMED, "chunk %zu claims %zu of %zu elements", chunk, count, n);
        if (available - at < topk_chunk_bytes(word, n))
            return kernel_measure(at + topk_chunk_bytes(word, n), available, bytes, error);
        const uint8_t *places = data + at + count * sizeof(float);
        if (word & TOPK_BITMAP ? !bitmap_valid(places, count, n) : !list_valid(places, count, n))
            return lg_fail(error, LG_MALFORMED, "the places of chunk %zu do not fit its %zu elements", chunk, n);
        at += topk_chunk_bytes(word, n);
    }
    *bytes = at;
    return LG_OK;
}

const struct codec codec_topk = {
    .name = "topk",
    .summary = "the largest elements only (codec.topk: which share), with error feedback",
    .dtype = CODEC_DTYPE_F32,
    .number = 3,
    .feedback = true,
    .changes_only = true,
    .bytes_max = topk_bytes_max,
    .measure = topk_measure,
    .kernels = CODEC_KERNELS(topk),
};
#endif
