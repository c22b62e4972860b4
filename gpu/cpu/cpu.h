/* Inside of the CPU backend: its device, its threads, and the small arithmetic that several ops share. */
#ifndef LAGOON_GPU_CPU_CPU_H
#define LAGOON_GPU_CPU_CPU_H

#include <math.h>
#include <stdatomic.h>
#include <string.h>

#include "gpu/device.h"

enum { CPU_THREADS_MAX = 256, CPU_ALIGNMENT_BYTES = 64 };

/* A growing buffer of one thread, for im2col columns, partial gradients and the like. */
struct cpu_scratch {
    float *memory;
    size_t floats;
};

struct cpu_device {
    struct device base;
    struct cpu_team *team;       /* NULL with one thread */
    struct cpu_scratch *scratch; /* [threads] */
    _Atomic bool out_of_memory;  /* an op could not get its scratch since the last synchronize */
};

struct cpu_event {
    struct device_event base;
    uint64_t recorded_ns; /* clock */
};

/* Opens the backend; part of device_open. */
enum lg_status cpu_device_open(unsigned threads, struct device **out, struct lg_error *error);
extern const struct device_ops cpu_ops;

static inline struct cpu_device *cpu_of(struct device_stream *s) {
    return (struct cpu_device *)(void *)s->device;
}

/* Activations are f32 on this device. */
static inline const float *cpu_in(const struct activation *x) {
    return (const float *)(const void *)x;
}

static inline float *cpu_out(struct activation *x) {
    return (float *)(void *)x;
}

/* ---- team.c: threads that work on one op together. */

/* Works on items [first, last) as thread `thread`. */
typedef void cpu_range_fn(void *context, size_t first, size_t last, unsigned thread);

struct cpu_team *cpu_team_new(unsigned threads);
void cpu_team_free(struct cpu_team *team);

/* Splits [0, n) into equal ranges of at least `grain` items, one per thread, at multiples of `align` (except the end),
 * and returns when all are done. Small work runs on the caller alone. */
void cpu_split(struct cpu_device *device, size_t n, size_t grain, size_t align, cpu_range_fn *fn, void *context);

/* `floats` floats for `thread`, valid until its next call; NULL when there is no memory, which the device remembers for
 * the next synchronize. Different threads may call at once. */
float *cpu_scratch_get(struct cpu_device *device, unsigned thread, size_t floats);

/* ---- instruction sets. CPU_VARIANTS(name, (parameters), (arguments)) defines `static void name(parameters)` from an
 * always-inlined name_body, compiled for AVX2 too and chosen at run time where the processor has it. The loops are
 * written so that both give the same bits: no contraction, reductions over CPU_LANES fixed lanes. */
#define CPU_BODY static inline __attribute__((always_inline)) void
#if defined(__x86_64__)
#define CPU_VARIANTS(name, parameters, arguments)                                                                      \
    static __attribute__((target("avx2"))) void name##_avx2 parameters {                                               \
        name##_body arguments;                                                                                         \
    }                                                                                                                  \
    static void name parameters {                                                                                      \
        if (__builtin_cpu_supports("avx2"))                                                                            \
            name##_avx2 arguments;                                                                                     \
        else                                                                                                           \
            name##_body arguments;                                                                                     \
    }
#else
#define CPU_VARIANTS(name, parameters, arguments)                                                                      \
    static void name parameters {                                                                                      \
        name##_body arguments;                                                                                         \
    }
#endif

/* ---- small arithmetic. */

enum { CPU_LANES = 8, CPU_UNROLL = 4 };
typedef float cpu_lanes __attribute__((vector_size(32), aligned(4), may_alias));

#define CPU_INLINE static inline __attribute__((always_inline))

typedef int32_t cpu_ints __attribute__((vector_size(32), aligned(4), may_alias));
typedef float cpu_quad __attribute__((vector_size(16), aligned(4), may_alias));

#define CPU_LOAD(x) (*(const cpu_lanes *)(x))
#define CPU_STORE(x, value) (*(cpu_lanes *)(x) = (value))
/* Per lane: mask ? a : b, for masks that a comparison gave. */
#define CPU_SELECT(mask, a, b) ((cpu_lanes)(((cpu_ints)(a) & (mask)) | ((cpu_ints)(b) & ~(mask))))

/* x becomes e^x within 4e-7 of its value for -87 <= x <= 88; beyond, x counts as the nearer of the two; NaN stays NaN.
 * x = n ln2 + r with |r| <= ln2 / 2 (n by adding and taking away 1.5 * 2^23; ln2 in two parts so that n times the first
 * is exact), e^r by its Taylor polynomial of degree 6 (next term: 1.2e-7), 2^n by adding n to the exponent. Vectors, as
 * compilers make branches of the limits and then no vectors of the loop. */
CPU_INLINE void cpu_exp(cpu_lanes *x_) {
    cpu_lanes x = *x_, least = {0}, most = {0};
    least = least - 87.0f;
    most = most + 88.0f;
    x = CPU_SELECT(x < least, least, x);
    x = CPU_SELECT(x > most, most, x);
    cpu_lanes shifted = x * 1.44269504f + 12582912.0f;
    cpu_lanes n = shifted - 12582912.0f;
    cpu_lanes r = (x - n * 0x1.62ep-1f) - n * 3.19461849e-5f;
    cpu_lanes p = r * (1.0f / 720) + 1.0f / 120;
    p = p * r + 1.0f / 24;
    p = p * r + 1.0f / 6;
    p = p * r + 0.5f;
    p = p * r * r + r + 1.0f;
    *x_ = (cpu_lanes)((cpu_ints)p + ((cpu_ints)shifted << 23));
}

/* y = e^(scale * x - shift); may be in place. */
CPU_INLINE void cpu_exponentials(size_t n, const float *x, float scale, float shift, float *y) {
    size_t i = 0;
    for (; i + CPU_LANES <= n; i += CPU_LANES) {
        cpu_lanes e = CPU_LOAD(x + i) * scale - shift;
        cpu_exp(&e);
        CPU_STORE(y + i, e);
    }
    if (i < n) {
        cpu_lanes e = {0};
        memcpy(&e, x + i, (n - i) * sizeof *x);
        e = e * scale - shift;
        cpu_exp(&e);
        memcpy(y + i, &e, (n - i) * sizeof *y);
    }
}

/* Short copies, for which memcpy is a call too many. */
CPU_INLINE void cpu_copy(size_t n, const float *x, float *y) {
    size_t i = 0;
    for (; i + CPU_LANES <= n; i += CPU_LANES)
        CPU_STORE(y + i, CPU_LOAD(x + i));
    for (; i + 4 <= n; i += 4)
        *(cpu_quad *)(y + i) = *(const cpu_quad *)(x + i);
    for (; i < n; i++)
        y[i] = x[i];
}

/* Sums of x, of x*y and of (x - mean)^2 over n elements, in CPU_UNROLL * CPU_LANES partial sums. */
#define CPU_REDUCE(n, term, lane_term)                                                                                 \
    cpu_lanes part0 = {0}, part1 = {0}, part2 = {0}, part3 = {0};                                                      \
    size_t i = 0;                                                                                                      \
    for (; i + CPU_UNROLL * CPU_LANES <= (n); i += CPU_UNROLL * CPU_LANES) {                                           \
        part0 += lane_term(i);                                                                                         \
        part1 += lane_term(i + CPU_LANES);                                                                             \
        part2 += lane_term(i + 2 * CPU_LANES);                                                                         \
        part3 += lane_term(i + 3 * CPU_LANES);                                                                         \
    }                                                                                                                  \
    part0 = (part0 + part1) + (part2 + part3);                                                                         \
    float total = ((part0[0] + part0[4]) + (part0[2] + part0[6])) + ((part0[1] + part0[5]) + (part0[3] + part0[7]));   \
    for (; i < (n); i++)                                                                                               \
        total += term(i);                                                                                              \
    return total;

CPU_INLINE float cpu_sum(size_t n, const float *x){
#define LANES_OF(at) CPU_LOAD(x + (at))
#define ONE_OF(at) (x[at])
    CPU_REDUCE(n, ONE_OF, LANES_OF)
#undef LANES_OF
#undef ONE_OF
}

CPU_INLINE float cpu_dot(size_t n, const float *x, const float *y){
#define LANES_OF(at) (CPU_LOAD(x + (at)) * CPU_LOAD(y + (at)))
#define ONE_OF(at) (x[at] * y[at])
    CPU_REDUCE(n, ONE_OF, LANES_OF)
#undef LANES_OF
#undef ONE_OF
}

CPU_INLINE float cpu_square_distance(size_t n, const float *x, float mean){
#define LANES_OF(at) ((CPU_LOAD(x + (at)) - mean) * (CPU_LOAD(x + (at)) - mean))
#define ONE_OF(at) ((x[at] - mean) * (x[at] - mean))
    CPU_REDUCE(n, ONE_OF, LANES_OF)
#undef LANES_OF
#undef ONE_OF
}

/* The largest of n >= 1 elements; NaN elements are passed over unless x[0] is one. */
CPU_INLINE float cpu_max(size_t n, const float *x) {
    float lanes[CPU_LANES], most = x[0];
    for (int l = 0; l < CPU_LANES; l++)
        lanes[l] = most;
    size_t i = 0;
    for (; i + CPU_LANES <= n; i += CPU_LANES)
        for (int l = 0; l < CPU_LANES; l++)
            lanes[l] = x[i + (size_t)l] > lanes[l] ? x[i + (size_t)l] : lanes[l];
    for (int l = 0; l < CPU_LANES; l++)
        most = lanes[l] > most ? lanes[l] : most;
    for (; i < n; i++)
        most = x[i] > most ? x[i] : most;
    return most;
}

/* ---- the ops, one file each; contracts in gpu/device.h. */

void cpu_gemm(struct device_stream *s, bool transpose_a, bool transpose_b, uint32_t m, uint32_t n, uint32_t k,
              float alpha, const struct activation *a, const struct activation *b, float beta, struct activation *c);
void cpu_gemm_gradient(struct device_stream *s, bool transpose_a, bool transpose_b, uint32_t m, uint32_t n, uint32_t k,
                       float alpha, const struct activation *a, const struct activation *b, float beta, float *c);
void cpu_zero(struct device_stream *s, size_t bytes, void *memory);
void cpu_narrow(struct device_stream *s, size_t n, const float *x, struct activation *y);
void cpu_widen(struct device_stream *s, size_t n, const struct activation *x, float *y);
void cpu_fill(struct device_stream *s, size_t n, float value, float *x);
void cpu_scale(struct device_stream *s, size_t n, float a, float *x);
void cpu_axpy(struct device_stream *s, size_t n, float a, const float *x, float *y);
void cpu_add(struct device_stream *s, size_t n, const struct activation *a, const struct activation *b,
             struct activation *y);
void cpu_bias_add(struct device_stream *s, uint32_t rows, uint32_t columns, const float *bias, struct activation *x);
void cpu_bias_residual(struct device_stream *s, uint32_t rows, uint32_t columns, const float *bias,
                       const struct activation *x, const struct activation *residual, struct activation *y);
void cpu_column_sums(struct device_stream *s, uint32_t rows, uint32_t columns, const struct activation *x, float *sums);
void cpu_relu_forward(struct device_stream *s, size_t n, const struct activation *x, struct activation *y);
void cpu_relu_backward(struct device_stream *s, size_t n, const struct activation *y, const struct activation *dy,
                       struct activation *dx);
void cpu_gelu_forward(struct device_stream *s, size_t n, const struct activation *x, struct activation *y);
void cpu_gelu_backward(struct device_stream *s, size_t n, const struct activation *x, const struct activation *dy,
                       struct activation *dx);
void cpu_bias_relu(struct device_stream *s, uint32_t rows, uint32_t columns, const float *bias,
                   const struct activation *x, struct activation *y);
void cpu_bias_gelu(struct device_stream *s, uint32_t rows, uint32_t columns, const float *bias, struct activation *x,
                   struct activation *y);
void cpu_relu_backward_sums(struct device_stream *s, uint32_t rows, uint32_t columns, const struct activation *y,
                            const struct activation *dy, struct activation *dx, float *sums);
void cpu_gelu_backward_sums(struct device_stream *s, uint32_t rows, uint32_t columns, const struct activation *x,
                            const struct activation *dy, struct activation *dx, float *sums);
void cpu_softmax_cross_entropy(struct device_stream *s, uint32_t rows, uint32_t classes,
                               const struct activation *logits, const int32_t *labels, float scale,
                               struct activation *gradient, struct device_sums *sums);
void cpu_norm_forward(struct device_stream *s, uint32_t rows, uint32_t columns, float epsilon,
                      const struct activation *x, const float *gain, const float *bias, struct activation *y,
                      float *mean, float *rstd);
void cpu_norm_backward(struct device_stream *s, uint32_t rows, uint32_t columns, const struct activation *x,
                       const float *gain, const float *mean, const float *rstd, const struct activation *dy,
                       struct activation *dx, float *dgain, float *dbias);
size_t cpu_attention_saved(const struct device_attention *shape);
void cpu_attention_forward(struct device_stream *s, const struct device_attention *shape, const struct activation *qkv,
                           struct activation *out, float *saved);
void cpu_attention_backward(struct device_stream *s, const struct device_attention *shape, const struct activation *qkv,
                            const struct activation *out, const float *saved, const struct activation *dout,
                            struct activation *dqkv);
void cpu_embedding_forward(struct device_stream *s, uint32_t batch, uint32_t time, uint32_t width,
                           const int32_t *tokens, const float *table, const float *positions, struct activation *out);
void cpu_embedding_backward(struct device_stream *s, uint32_t batch, uint32_t time, uint32_t width,
                            const int32_t *tokens, const struct activation *dout, float *dtable, float *dpositions);
void cpu_conv_forward(struct device_stream *s, const struct device_conv *shape, const struct activation *x,
                      const struct activation *weight, const float *bias, struct activation *y);
void cpu_conv_backward(struct device_stream *s, const struct device_conv *shape, const struct activation *x,
                       const struct activation *weight, const struct activation *dy, struct activation *dx,
                       float *dweight, float *dbias);
void cpu_pool_forward(struct device_stream *s, const struct device_pool *shape, const struct activation *x,
                      struct activation *y, uint8_t *which);
void cpu_pool_backward(struct device_stream *s, const struct device_pool *shape, const uint8_t *which,
                       const struct activation *dy, struct activation *dx);
void cpu_sparse_forward(struct device_stream *s, const struct device_sparse *x, uint32_t outputs, const float *weight,
                        struct activation *y);
void cpu_sparse_backward(struct device_stream *s, const struct device_sparse *x, uint32_t outputs,
                         const struct activation *dy, float *dweight);
void cpu_adamw(struct device_stream *s, size_t n, const struct device_adamw *rule, const float *gradients,
               float *parameters, float *m, float *v);
/* A product on the calling thread alone, with leading dimensions (elements from one stored row to the next). */
void cpu_gemm_strided(bool transpose_a, bool transpose_b, size_t m, size_t n, size_t k, float alpha, const float *a,
                      size_t lda, const float *b, size_t ldb, float beta, float *c, size_t ldc);
void cpu_encode(struct device_stream *s, const struct codec *codec, const struct codec_options *options, size_t count,
                const struct device_unit *units, const float *values, float *residual, uint8_t *out, uint32_t *bytes);
void cpu_take_back(struct device_stream *s, const struct codec *codec, size_t count, const struct device_unit *units,
                   const float *shares, const uint8_t *encoded, const float *values, float *residual);
void cpu_scale_units(struct device_stream *s, size_t count, const struct device_unit *units, const float *factors,
                     float *x);
void cpu_clip(struct device_stream *s, size_t n, double most, float *x);

#endif
