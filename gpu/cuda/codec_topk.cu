/* topk: a block of 32 warps takes a unit. The threshold is found digit by digit from the top, 11, 10 and 10 bits of the
 * magnitudes: counts of the digit's values among those that have the digits found so far, then the value at which the
 * counts from above reach the quota. What is left of the quota then is how many of the magnitudes equal to the
 * threshold go. After that each warp has its segment of 2,048 elements: a look that keeps which ones are above and
 * equal as bits in shared memory, a sum over the segments, and a second look at what is sent alone. */
#include "gpu/cuda/codec.cuh"

extern "C" {
#include "common/codecs/topk.h"
}

namespace {

enum {
    THREADS = 1024,
    WARPS = 32,
    SEGMENT = 2048,
    GROUPS = 64, /* of 32 elements in a segment */
    SEGMENTS_EACH = 2,
    BINS = 2 * THREADS,
    DIGITS = 3,
    TOP_SHIFT = 20, /* of the first digit */
    DIGIT_BITS = 10,
    BATCH = 16 /* elements that a thread waits for together */
};
static_assert((int)WARPS * (int)CUDA_WARP == (int)THREADS && (int)GROUPS * (int)CUDA_WARP == (int)SEGMENT, "warps");
static_assert((int)WARPS * (int)SEGMENT == (int)CODEC_ELEMENTS_MAX, "a segment for each warp");
static_assert((int)SEGMENTS_EACH * (int)SEGMENT == (int)CODEC_CHUNK, "segments end with chunks");

/* A block's. */
struct topk_shared {
    uint32_t bins[BINS];
    uint32_t above[WARPS][GROUPS], equal[WARPS][GROUPS]; /* a bit an element */
    uint32_t totals[WARPS];                              /* of warps, in a scan */
    uint32_t digit, left;                                /* found: the digit, and what is left of the quota below it */
    bool enough;
    uint32_t sent[WARPS];           /* of each segment */
    uint32_t word[TOPK_CHUNKS_MAX]; /* of each chunk, and where it begins */
    uint32_t at[TOPK_CHUNKS_MAX];
};

/* The sum over the warp's lanes up to this one. */
CUDA_INLINE uint32_t warp_scan(uint32_t x) {
    for (unsigned lane = 1; lane < CUDA_WARP; lane *= 2) {
        const uint32_t before = __shfl_up_sync(0xffffffffu, x, lane);
        x += threadIdx.x % CUDA_WARP >= lane ? before : 0;
    }
    return x;
}

/* The sum over the block's threads up to this one. */
CUDA_INLINE uint32_t block_scan(struct topk_shared *shared, uint32_t x) {
    const unsigned warp = threadIdx.x / CUDA_WARP, lane = threadIdx.x % CUDA_WARP;
    x = warp_scan(x);
    if (lane == CUDA_WARP - 1)
        shared->totals[warp] = x;
    __syncthreads();
    const uint32_t sums = warp_scan(shared->totals[lane]);
    const uint32_t before = __shfl_sync(0xffffffffu, sums, (int)(warp ? warp - 1 : 0));
    return x + (warp ? before : 0);
}

/* Of the bins, the largest d for which `wanted` are in the bins from d on; left: those wanted of bin d itself. */
CUDA_INLINE void digit_find(struct topk_shared *shared, uint32_t wanted) {
    const unsigned high = BINS - 1 - 2 * threadIdx.x, low = high - 1;
    const uint32_t in_high = shared->bins[high], in_low = shared->bins[low];
    const uint32_t upto = block_scan(shared, in_high + in_low), before = upto - in_high - in_low;
    if (threadIdx.x == THREADS - 1)
        shared->enough = upto >= wanted;
    if (before < wanted && wanted <= upto) { /* one thread, or none */
        const bool in_first = before + in_high >= wanted;
        shared->digit = in_first ? high : low;
        shared->left = wanted - before - (in_first ? 0 : in_high);
    }
    __syncthreads();
}

/* Counts digit `number` of a magnitude if it begins with `prefix`. Zeros are never sent and need no count. */
CUDA_INLINE void digit_add(struct topk_shared *shared, uint32_t magnitude, unsigned number, uint32_t prefix) {
    const unsigned shift = TOP_SHIFT - number * DIGIT_BITS;
    if (magnitude == 0)
        return;
    if (number == 0)
        atomicAdd(&shared->bins[magnitude >> TOP_SHIFT], 1u);
    else if (magnitude >> (shift + DIGIT_BITS) == prefix)
        atomicAdd(&shared->bins[magnitude >> shift & ((1u << DIGIT_BITS) - 1)], 1u);
}

/* Counts digit `number` of elements [first, last), `last - first` a multiple of Q; with `sum`, the first time, values +
 * residual becomes the residual. BATCH elements of a thread are on their way at once. */
template <int Q>
CUDA_INLINE void digit_count(struct topk_shared *shared, const float *input, float *residual, unsigned first,
                             unsigned last, unsigned number, uint32_t prefix) {
    const bool sum = number == 0 && residual;
    for (unsigned base = first; base < last; base += BATCH * THREADS) {
        pack<Q> x[BATCH / Q], kept[BATCH / Q];
#pragma unroll
        for (unsigned l = 0; l < BATCH / Q; l++) {
            const unsigned at = base + (l * THREADS + threadIdx.x) * Q;
            x[l] = kept[l] = {};
            if (at < last)
                x[l] = pack_load<Q>(input + at);
            if (at < last && sum)
                kept[l] = pack_load<Q>(residual + at);
        }
#pragma unroll
        for (unsigned l = 0; l < BATCH / Q; l++) {
            const unsigned at = base + (l * THREADS + threadIdx.x) * Q;
            for (int i = 0; i < Q; i++) {
                x[l].v[i] = sum ? codec_input(x[l].v[i], kept[l].v[i]) : x[l].v[i];
                digit_add(shared, kernel_magnitude(x[l].v[i]), number, prefix);
            }
            if (at < last && sum)
                pack_store<Q>(residual + at, x[l]);
        }
    }
}

/* Digit `number` of all, in packs where they may be read so. */
CUDA_INLINE void digit_count_all(struct topk_shared *shared, const float *values, float *residual, unsigned n,
                                 unsigned number, uint32_t prefix) {
    const float *input = number > 0 && residual ? residual : values;
    const bool packs = (((uintptr_t)values | (uintptr_t)residual) & 15) == 0;
    const unsigned whole = packs ? n / 4 * 4 : 0;
    for (unsigned i = threadIdx.x; i < BINS; i += THREADS)
        shared->bins[i] = 0;
    __syncthreads();
    digit_count<4>(shared, input, residual, 0, whole, number, prefix);
    digit_count<1>(shared, input, residual, whole, n, number, prefix);
    __syncthreads();
}

/* The least magnitude that is sent, and in *equal how many of that one are. */
CUDA_INLINE uint32_t threshold(struct topk_shared *shared, const float *values, float *residual, unsigned n,
                               uint32_t quota, uint32_t *equal) {
    uint32_t prefix = 0;
    *equal = quota;
    for (unsigned digit = 0; digit < DIGITS; digit++) {
        digit_count_all(shared, values, residual, n, digit, prefix);
        digit_find(shared, *equal);
        if (!shared->enough) { /* fewer than the quota are not zero: with the first digit, or never */
            *equal = n;
            return 1;
        }
        prefix = digit == 0 ? shared->digit : prefix << DIGIT_BITS | shared->digit;
        *equal = shared->left;
    }
    return prefix;
}

/* Bits of the warp's segment, and in sent[] how many of it go. */
CUDA_INLINE void segment_look(struct topk_shared *shared, const float *input, unsigned n, uint32_t least,
                              uint32_t quota_equal, uint32_t *equal_left) {
    const unsigned warp = threadIdx.x / CUDA_WARP, lane = threadIdx.x % CUDA_WARP;
    uint32_t above = 0, equal = 0;
    for (unsigned begin = 0; begin < GROUPS && warp * SEGMENT + begin * CUDA_WARP < n; begin += BATCH) {
        uint32_t magnitudes[BATCH];
#pragma unroll
        for (unsigned l = 0; l < BATCH; l++) {
            const unsigned at = warp * SEGMENT + (begin + l) * CUDA_WARP + lane;
            magnitudes[l] = at < n ? kernel_magnitude(input[at]) : 0;
        }
#pragma unroll
        for (unsigned l = 0; l < BATCH; l++) {
            const uint32_t is_above = __ballot_sync(0xffffffffu, magnitudes[l] > least);
            const uint32_t is_equal = __ballot_sync(0xffffffffu, magnitudes[l] == least);
            if (lane == 0) {
                shared->above[warp][begin + l] = is_above;
                shared->equal[warp][begin + l] = is_equal;
            }
            above += (uint32_t)__popc(is_above);
            equal += (uint32_t)__popc(is_equal);
        }
    }
    if (lane == 0)
        shared->totals[warp] = equal;
    __syncthreads();
    const uint32_t sums = warp_scan(shared->totals[lane]);
    const uint32_t before = __shfl_sync(0xffffffffu, sums, (int)warp) - equal;
    *equal_left = before < quota_equal ? quota_equal - before : 0;
    if (lane == 0)
        shared->sent[warp] = above + (equal < *equal_left ? equal : *equal_left);
    __syncthreads();
}

/* The chunks' words, where each begins, and the unit's length: the work of one thread. */
CUDA_INLINE uint32_t chunks_place(struct topk_shared *shared, unsigned n, uint8_t *out) {
    const unsigned chunks = (unsigned)topk_chunks(n);
    uint32_t at = chunks * (uint32_t)sizeof(uint32_t);
    for (unsigned chunk = 0; chunk < chunks; chunk++) {
        uint32_t count = 0;
        for (unsigned i = 0; i < SEGMENTS_EACH; i++)
            count += shared->sent[chunk * SEGMENTS_EACH + i];
        const size_t elements = topk_chunk_elements(n, chunk);
        const uint32_t word = topk_word(count, elements);
        shared->word[chunk] = word;
        shared->at[chunk] = at;
        ((uint32_t *)(void *)out)[chunk] = word;
        at += (uint32_t)topk_chunk_bytes(word, elements);
        if (!(word & TOPK_BITMAP) && count % 2 != 0) /* what fills the list up */
            *(uint16_t *)(void *)(out + at - sizeof(uint16_t)) = 0;
    }
    return at;
}

/* Values and places of the warp's segment; the residual of what is sent becomes 0. With `clean` also that of NaN and
 * infinities that are not. */
CUDA_INLINE void segment_write(const struct topk_shared *shared, const float *input, float *residual, unsigned n,
                               uint32_t equal_left, bool clean, uint8_t *out) {
    const unsigned warp = threadIdx.x / CUDA_WARP, lane = threadIdx.x % CUDA_WARP;
    const unsigned chunk = warp / SEGMENTS_EACH, below = (1u << lane) - 1;
    const uint32_t word = shared->word[chunk];
    float *sent_values = (float *)(void *)(out + shared->at[chunk]);
    uint16_t *list = (uint16_t *)(void *)(sent_values + (word & TOPK_COUNT_MASK));
    uint32_t *bitmap = (uint32_t *)(void *)list;
    uint32_t rank = 0;
    for (unsigned i = chunk * SEGMENTS_EACH; i < warp; i++)
        rank += shared->sent[i];
    for (unsigned group = 0; group < GROUPS && warp * SEGMENT + group * CUDA_WARP < n; group++) {
        const unsigned at = warp * SEGMENT + group * CUDA_WARP + lane, place = at % CODEC_CHUNK;
        const uint32_t above = shared->above[warp][group], equal = shared->equal[warp][group];
        const bool first_ones = (equal >> lane & 1u) && (uint32_t)__popc(equal & below) < equal_left;
        const bool goes = above >> lane & 1u || first_ones;
        const uint32_t going = __ballot_sync(0xffffffffu, goes), taken = (uint32_t)__popc(going & equal);
        if (goes) {
            const uint32_t to = rank + (uint32_t)__popc(going & below);
            sent_values[to] = input[at];
            if (!(word & TOPK_BITMAP))
                list[to] = (uint16_t)place;
        }
        if ((word & TOPK_BITMAP) && lane == 0)
            bitmap[place / TOPK_WORD_BITS] = going;
        if (residual && at < n && (goes || (clean && kernel_magnitude(residual[at]) >= KERNEL_INFINITY)))
            residual[at] = 0;
        rank += (uint32_t)__popc(going);
        equal_left -= taken;
    }
}

__global__ void __launch_bounds__(THREADS) topk_kernel(const struct cuda_encoding work) {
    __shared__ struct topk_shared shared;
    const struct device_unit unit = work.units[blockIdx.x];
    const float *values = work.values + unit.first;
    float *residual = work.residual ? work.residual + unit.first : NULL;
    const unsigned n = unit.elements;
    uint8_t *out = work.out + unit.at;
    uint32_t equal, equal_left;
    const uint32_t least = threshold(&shared, values, residual, n, (uint32_t)topk_quota(n, work.keep), &equal);
    const float *input = residual ? residual : values;
    segment_look(&shared, input, n, least, equal, &equal_left);
    if (threadIdx.x == 0)
        work.bytes[blockIdx.x] = chunks_place(&shared, n, out);
    __syncthreads();
    segment_write(&shared, input, residual, n, equal_left, least >= KERNEL_INFINITY, out);
}

} // namespace

void cuda_encode_topk(struct cuda_stream *s, size_t count, const struct cuda_encoding &work) {
    CUDA_LAUNCH(s, topk_kernel, (unsigned)count, THREADS, 0, work);
}
