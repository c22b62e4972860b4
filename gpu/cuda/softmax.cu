/* Softmax and cross-entropy, forward and backward in one kernel: the logits of a row are read from memory once, and
 * once more from the cache for the gradient. */
#include "gpu/cuda/cuda.cuh"

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

/* -FLT_MAX in place of minus infinity, whose difference to itself would be NaN. A NaN logit is never the largest, but
 * ends up in the sum. */
CUDA_INLINE best best_of(const float *x, unsigned classes, unsigned first, unsigned step) {
    best b = {-FLT_MAX, 0, 0xffffffffu};
    for (unsigned i = first; i < classes; i += step) {
        float value = x[i];
        if (value > b.most) {
            b.total = b.total * expf(b.most - value) + 1.0f;
            b.most = value;
            b.at = i;
        } else {
            b.total += expf(value - b.most);
        }
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
template <bool WARP>
__global__ void softmax_kernel(unsigned rows, unsigned classes, const float *logits, const int32_t *labels, float scale,
                               float *gradient, struct device_sums *each) {
    unsigned row = blockIdx.x * blockDim.y + threadIdx.y;
    if (row >= rows) /* the whole warp, or nobody */
        return;
    const float *x = logits + (size_t)row * classes;
    unsigned label = (unsigned)labels[row];
    float at_label = x[label];
    best b = best_of(x, classes, threadIdx.x, blockDim.x);
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
    float *g = gradient + (size_t)row * classes;
    for (unsigned i = threadIdx.x; gradient && i < classes; i += blockDim.x)
        g[i] = expf(x[i] - b.most) * factor - (i == label ? scale : 0.0f);
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

} // namespace

void cuda_softmax_cross_entropy(struct device_stream *base, uint32_t rows, uint32_t classes, const float *logits,
                                const int32_t *labels, float scale, float *gradient, struct device_sums *sums) {
    struct cuda_stream *s = cuda_enter(base);
    if (classes == 0)
        rows = 0;
    struct device_sums *each =
        (struct device_sums *)cuda_scratch(s, CUDA_ROOM_OP, "softmax_cross_entropy", (rows + 1) * sizeof *each);
    if (!each)
        return;
    if (rows > 0 && classes > LONG_ROW) {
        unsigned threads = classes > 16 * LONG_ROW ? 1024 : CUDA_BLOCK;
        CUDA_LAUNCH(s, softmax_kernel<false>, rows, threads, 0, rows, classes, logits, labels, scale, gradient, each);
    } else if (rows > 0) {
        dim3 block(CUDA_WARP, CUDA_TILE_ROWS);
        CUDA_LAUNCH(s, softmax_kernel<true>, cuda_ceil(rows, CUDA_TILE_ROWS), block, 0, rows, classes, logits, labels,
                    scale, gradient, each);
    }
    CUDA_LAUNCH(s, sums_kernel, 1, SUM_BLOCK, 0, rows, each, sums);
}
