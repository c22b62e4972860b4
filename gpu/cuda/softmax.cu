/* Softmax and cross-entropy, forward and backward in one kernel: the logits of a row are read from memory once, and
 * once more from the cache for the gradient. */
#include "gpu/cuda/tensor.cuh"

namespace {

enum { LONG_ROW = 256 /* more classes than that get a block of their own */, SUM_BLOCK = 256 };

/* The largest of some logits, the first place it is at, and the sum of e^(x - most). */
struct best {
    float most, total;
    unsigned at;
};

CUDA_INLINE best best_merge(best a, best b) {
    bool other = b.most > a.most || (b.most == a.most && b.at < a.at);
    best both = {other ? b.most : a.most, 0, other ? b.at : a.at};
    both.total = a.total * expf(a.most - both.most) + b.total * expf(b.most - both.most);
    return both;
}

/* e^x for x <= 0, of which there are two for each logit, in fewer instructions than expf. Within 2 ulp and what
 * rounding x log2(e) makes of it, |x| 2^-24 of the value, which shrinks faster than that grows. */
CUDA_INLINE float exponential(float x) {
    return exp2_fast(x * 1.44269504f);
}

/* -FLT_MAX in place of minus infinity, whose difference to itself would be NaN. A NaN logit is never the largest, but
 * ends up in the sum. */
template <class T, int Q> CUDA_INLINE best best_of(const T *x, unsigned classes, unsigned first, unsigned step) {
    best b = {-FLT_MAX, 0, 0xffffffffu};
    for (unsigned i = first * Q; i < classes; i += step * Q) {
        pack<Q> p = pack_load<Q>(x + i);
        float before = b.most;
#pragma unroll
        for (int l = 0; l < Q; l++) {
            if (p.v[l] > b.most) {
                b.most = p.v[l];
                b.at = i + l;
            }
        }
        if (b.most > before)
            b.total *= exponential(before - b.most);
#pragma unroll
        for (int l = 0; l < Q; l++)
            b.total += exponential(p.v[l] - b.most);
    }
    return b;
}

CUDA_INLINE best best_of_warp(best b) {
    for (int lane = CUDA_WARP / 2; lane > 0; lane /= 2) {
        best other;
        other.most = __shfl_xor_sync(0xffffffffu, b.most, lane);
        other.total = __shfl_xor_sync(0xffffffffu, b.total, lane);
        other.at = __shfl_xor_sync(0xffffffffu, b.at, lane);
        b = best_merge(b, other);
    }
    return b;
}

/* Every thread of the block gets the same. */
CUDA_INLINE best best_of_block(best b) {
    __shared__ best warps[CUDA_WARP];
    b = best_of_warp(b);
    if (threadIdx.x % CUDA_WARP == 0)
        warps[threadIdx.x / CUDA_WARP] = b;
    __syncthreads();
    b = warps[0];
    for (unsigned w = 1; w < blockDim.x / CUDA_WARP; w++)
        b = best_merge(b, warps[w]);
    return b;
}

/* blockDim.x threads take a row: a warp, of which there are blockDim.y, or the block. gradient may be logits: a thread
 * writes what it alone reads, and the label's logit was read by all before the reduction. */
template <class T, int Q, bool WARP>
__global__ void softmax_kernel(unsigned rows, unsigned classes, const T *logits, const int32_t *labels, float scale,
                               T *gradient, struct device_sums *each) {
    unsigned row = blockIdx.x * blockDim.y + threadIdx.y;
    if (row >= rows) /* the whole warp, or nobody */
        return;
    const T *x = logits + (size_t)row * classes;
    unsigned label = (unsigned)labels[row];
    float at_label = widened(x[label]);
    best b = best_of<T, Q>(x, classes, threadIdx.x, blockDim.x);
    if (WARP)
        b = best_of_warp(b);
    else
        b = best_of_block(b);
    __syncwarp();
    if (threadIdx.x == 0) {
        each[row].loss = log((double)b.total) - ((double)at_label - (double)b.most);
        each[row].correct = b.at == label && b.total == b.total;
    }
    float factor = scale / b.total;
    T *g = gradient + (size_t)row * classes;
    for (unsigned i = threadIdx.x * Q; gradient && i < classes; i += blockDim.x * Q) {
        pack<Q> p = pack_load<Q>(x + i);
#pragma unroll
        for (int l = 0; l < Q; l++)
            p.v[l] = exponential(p.v[l] - b.most) * factor - (i + l == label ? scale : 0.0f);
        pack_store<Q>(g + i, p);
    }
}

/* One block adds up the rows. */
__global__ void sums_kernel(unsigned rows, const struct device_sums *each, struct device_sums *sums) {
    __shared__ struct device_sums part[SUM_BLOCK];
    struct device_sums total = {0, 0};
    for (unsigned r = threadIdx.x; r < rows; r += SUM_BLOCK) {
        total.loss += each[r].loss;
        total.correct += each[r].correct;
    }
    part[threadIdx.x] = total;
    __syncthreads();
    for (unsigned half = SUM_BLOCK / 2; half > 0; half /= 2) {
        if (threadIdx.x < half) {
            part[threadIdx.x].loss += part[threadIdx.x + half].loss;
            part[threadIdx.x].correct += part[threadIdx.x + half].correct;
        }
        __syncthreads();
    }
    if (threadIdx.x == 0)
        *sums = part[0];
}

template <class T, int Q>
void softmax_launch(struct cuda_stream *s, unsigned rows, unsigned classes, const T *logits, const int32_t *labels,
                    float scale, T *gradient, struct device_sums *each) {
    dim3 block(CUDA_WARP, CUDA_TILE_ROWS);
    unsigned threads = classes > 16 * LONG_ROW ? 1024 : CUDA_BLOCK;
    if (classes > LONG_ROW)
        CUDA_LAUNCH(s, (softmax_kernel<T, Q, false>), rows, threads, 0, rows, classes, logits, labels, scale, gradient,
                    each);
    else
        CUDA_LAUNCH(s, (softmax_kernel<T, Q, true>), cuda_ceil(rows, CUDA_TILE_ROWS), block, 0, rows, classes, logits,
                    labels, scale, gradient, each);
}

} // namespace

void cuda_softmax_cross_entropy(struct device_stream *base, uint32_t rows, uint32_t classes,
                                const struct activation *logits, const int32_t *labels, float scale,
                                struct activation *gradient, struct device_sums *sums) {
    struct cuda_stream *s = cuda_enter(base);
    if (classes == 0)
        rows = 0;
    struct device_sums *each =
        (struct device_sums *)cuda_scratch(s, CUDA_ROOM_OP, "softmax_cross_entropy", (rows + 1) * sizeof *each);
    if (!each)
        return;
    if (rows > 0)
        CUDA_BY_TYPE(s, {
            constexpr int Q = cuda_pack_of<T>::COUNT;
            const T *x = cuda_of<T>(logits);
            T *g = cuda_of<T>(gradient);
            if (classes % Q == 0 && cuda_aligned(logits, gradient))
                softmax_launch<T, Q>(s, rows, classes, x, labels, scale, g, each);
            else
                softmax_launch<T, 1>(s, rows, classes, x, labels, scale, g, each);
        });
    CUDA_LAUNCH(s, sums_kernel, 1, SUM_BLOCK, 0, rows, each, sums);
}
