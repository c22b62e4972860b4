/* Causal self-attention, one head after the other, with the probabilities kept: saved is [batch][heads][time][time].
 *
 * Rows are taken in blocks of BLOCK, and a block of rows [i, i + BLOCK) looks at columns [0, i + BLOCK) only, so about
 * half of the work above the diagonal is never done; within the block it is masked. Columns at and beyond the end of
 * a row's block are never read nor written. */
#include "gpu/cpu/cpu.h"

enum { BLOCK = 32 };

struct attention {
    struct cpu_device *device;
    size_t time, heads, width;
    float scale;
    const float *qkv, *out, *dout;
    float *y, *saved, *dqkv;
    const float *saved_in;
};

size_t cpu_attention_saved(const struct device_attention *shape) {
    return (size_t)shape->batch * shape->heads * shape->time * shape->time;
}

/* x [0, n) becomes softmax(scale * x), x [n, end) zero. */
CPU_BODY softmax_row_body(size_t n, size_t end, float scale, float *x) {
    float most = cpu_max(n, x) * scale;
    cpu_exponentials(n, x, scale, most, x);
    float inverse = 1.0f / cpu_sum(n, x);
    for (size_t i = 0; i < n; i++)
        x[i] *= inverse;
    for (size_t i = n; i < end; i++)
        x[i] = 0;
}
CPU_VARIANTS(softmax_row, (size_t n, size_t end, float scale, float *x), (n, end, scale, x))

/* dp becomes the gradient of the scores: scale * p (dp - sum p dp). p is zero beyond the diagonal. */
CPU_BODY softmax_row_gradient_body(size_t end, float scale, const float *p, float *dp) {
    float mean = cpu_dot(end, p, dp);
    for (size_t i = 0; i < end; i++)
        dp[i] = scale * p[i] * (dp[i] - mean);
}
CPU_VARIANTS(softmax_row_gradient, (size_t end, float scale, const float *p, float *dp), (end, scale, p, dp))

/* Where head `item` (batch * heads + head) starts in qkv-like rows: query; key and value follow heads*width later. */
static size_t qkv_start(const struct attention *a, size_t item) {
    return item / a->heads * a->time * 3 * a->heads * a->width + item % a->heads * a->width;
}

static size_t out_start(const struct attention *a, size_t item) {
    return item / a->heads * a->time * a->heads * a->width + item % a->heads * a->width;
}

static void head_forward(const struct attention *a, size_t item) {
    size_t time = a->time, width = a->width, all = a->heads * width, stride = 3 * all;
    const float *q = a->qkv + qkv_start(a, item), *k = q + all, *v = k + all;
    float *p = a->saved + item * time * time, *y = a->y + out_start(a, item);
    for (size_t first = 0; first < time; first += BLOCK) {
        size_t rows = time - first < BLOCK ? time - first : BLOCK, end = first + rows;
        float *scores = p + first * time;
        cpu_gemm_strided(false, true, rows, end, width, 1, q + first * stride, stride, k, stride, 0, scores, time);
        for (size_t r = 0; r < rows; r++)
            softmax_row(first + r + 1, end, a->scale, scores + r * time);
        cpu_gemm_strided(false, false, rows, width, end, 1, scores, time, v, stride, 0, y + first * all, all);
    }
}

/* dp is scratch [BLOCK][time]. Blocks run from the last to the first: the last one reaches every key and value,
 * so it overwrites their gradients and the others add. */
static void head_backward(const struct attention *a, size_t item, float *dp) {
    size_t time = a->time, width = a->width, all = a->heads * width, stride = 3 * all;
    const float *q = a->qkv + qkv_start(a, item), *k = q + all, *v = k + all;
    const float *p = a->saved_in + item * time * time, *dout = a->dout + out_start(a, item);
    float *dq = a->dqkv + qkv_start(a, item), *dk = dq + all, *dv = dk + all;
    size_t blocks = (time + BLOCK - 1) / BLOCK;
    for (size_t block = blocks; block-- > 0;) {
        size_t first = block * BLOCK, rows = time - first < BLOCK ? time - first : BLOCK, end = first + rows;
        float beta = block + 1 == blocks ? 0.0f : 1.0f;
        const float *pb = p + first * time, *db = dout + first * all;
        cpu_gemm_strided(false, true, rows, end, width, 1, db, all, v, stride, 0, dp, time);
        cpu_gemm_strided(true, false, end, width, rows, 1, pb, time, db, all, beta, dv, stride);
        for (size_t r = 0; r < rows; r++)
            softmax_row_gradient(end, a->scale, pb + r * time, dp + r * time);
        cpu_gemm_strided(false, false, rows, width, end, 1, dp, time, k, stride, 0, dq + first * stride, stride);
        cpu_gemm_strided(true, false, end, width, rows, 1, dp, time, q + first * stride, stride, beta, dk, stride);
    }
}

static void heads_forward(void *context, size_t first, size_t last, unsigned thread) {
    (void)thread;
    for (size_t item = first; item < last; item++)
        head_forward(context, item);
}

static void heads_backward(void *context, size_t first, size_t last, unsigned thread) {
    struct attention *a = context;
    float *dp = cpu_scratch_get(a->device, thread, BLOCK * a->time);
    for (size_t item = first; dp && item < last; item++)
        head_backward(a, item, dp);
}

static struct attention attention_of(struct device_stream *s, const struct device_attention *shape) {
    return (struct attention){.device = cpu_of(s),
                              .time = shape->time,
                              .heads = shape->heads,
                              .width = shape->width,
                              .scale = 1.0f / sqrtf((float)shape->width)};
}

void cpu_attention_forward(struct device_stream *s, const struct device_attention *shape, const struct activation *qkv,
                           struct activation *out, float *saved) {
    struct attention a = attention_of(s, shape);
    a.qkv = cpu_in(qkv);
    a.y = cpu_out(out);
    a.saved = saved;
    if (shape->time && shape->width)
        cpu_split(a.device, (size_t)shape->batch * shape->heads, 1, 1, heads_forward, &a);
}

void cpu_attention_backward(struct device_stream *s, const struct device_attention *shape, const struct activation *qkv,
                            const struct activation *out, const float *saved, const struct activation *dout,
                            struct activation *dqkv) {
    struct attention a = attention_of(s, shape);
    a.qkv = cpu_in(qkv);
    a.out = cpu_in(out);
    a.saved_in = saved;
    a.dout = cpu_in(dout);
    a.dqkv = cpu_out(dqkv);
    if (shape->time && shape->width)
        cpu_split(a.device, (size_t)shape->batch * shape->heads, 1, 1, heads_backward, &a);
}
