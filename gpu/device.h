/* Devices: where models compute. One interface, one folder of implementations each (gpu/cpu/, gpu/cuda/), the same
 * file names in both. Models are written once, against this header.
 *
 * Matrices are row-major and dense; [a][b] below is a shape. Numbers are of two kinds, which the compiler keeps apart:
 *
 *   float *              f32: parameters, their gradients, sums, what an optimizer keeps
 *   struct activation *  the device's own type: what flows between layers and the gradients of that, and the copy of
 *                        the parameters that products read (op narrow). f32, but bf16 on "cuda:N/bf16". Ops widen it
 *                        to f32 as they read it, compute in f32 and round once, to the nearest, as they write it
 *
 * Pointers called `device memory` come from alloc (on the CPU any host memory will do). Ops are queued on a stream and
 * run in its order; they do not fail by themselves: the first failure of a device (a kernel launch, a workspace
 * allocation) is kept and returned by the next device_synchronize. On the CPU everything runs at once, on the caller
 * and the device's threads.
 *
 * Sizes may be 0: then nothing is read, and what an op overwrites is empty or zero. Inputs and outputs
 * may overlap only where an op says "in place". A device is used by one thread at a time. */
#ifndef LAGOON_GPU_DEVICE_H
#define LAGOON_GPU_DEVICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/status.h"

struct codec;         /* common/codec.h */
struct codec_options; /* common/codec.h */
struct device;
struct device_ops;
struct device_stream; /* backends embed this first */
struct device_event;  /* backends embed this first */
struct activation;    /* never defined: numbers of a device's own type, struct device.activation_bytes each */

enum { DEVICE_NAME_BYTES = 128, DEVICE_POOL_WINDOW_MAX = 15 };

struct device {
    const struct device_ops *ops;
    char name[DEVICE_NAME_BYTES]; /* for people: "cpu, 2 threads, OpenBLAS Haswell" */
    unsigned threads;             /* host threads that compute; 1 on a GPU */
    bool host_memory;             /* the host may read and write device memory directly */
    uint32_t activation_bytes;    /* of a number of an activation: 4 (f32) or 2 (bf16) */
    double flops_peak;            /* dense products at their best, FLOP a second, as opened; 0: not known */
};

/* The place of element `first`; like strchr, it takes the const away. */
static inline struct activation *activation_at(const struct device *device, const struct activation *x, size_t first) {
    return (struct activation *)(uintptr_t)((const unsigned char *)x + first * device->activation_bytes);
}

struct device_stream {
    struct device *device;
};

struct device_event {
    struct device *device;
};

/* What softmax_cross_entropy finds out about a batch; lies in device memory. */
struct device_sums {
    double loss;      /* sum over rows, natural log */
    uint64_t correct; /* rows whose largest logit is the label; the first of equal ones counts */
};

/* A convolution of [batch][channels][height][width] with [filters][channels][kernel][kernel], stride 1. The result is
 * [batch][filters][height + 2 padding - kernel + 1][width + 2 padding - kernel + 1]. */
struct device_conv {
    uint32_t batch, channels, height, width, filters, kernel, padding;
};

/* Max-pooling of `planes` images with square windows that do not overlap; rows and columns beyond the last whole window
 * are left out. The result is [planes][height / window][width / window]. */
struct device_pool {
    uint32_t planes, height, width, window; /* 1 <= window <= DEVICE_POOL_WINDOW_MAX */
};

/* Causal self-attention over packed rows: qkv is [batch][time][3][heads][width], everything else
 * [batch][time][heads][width]. */
struct device_attention {
    uint32_t batch, time, heads, width;
};

/* Rows of index:value pairs (compressed sparse rows): row r has the entries row_starts[r] .. row_starts[r+1] of
 * columns and values. An index may repeat within a row; its values add up. All three lie in device memory. */
struct device_sparse {
    uint32_t rows, features; /* columns[] < features */
    const uint32_t *row_starts, *columns;
    const float *values;
};

/* A unit (common/block.h) in device memory: `elements` (1 .. CODEC_ELEMENTS_MAX) floats from `first` of a flat array;
 * encoded, it lies from byte `at` of another, where there is room for the codec's bytes_max. `at` is a multiple of the
 * codec's device_codec_alignment(), so that units of codecs with one length may lie end to end. Units of one call do
 * not overlap. */
struct device_unit {
    uint64_t first;
    uint64_t key; /* codec_options.key of this unit */
    uint64_t at;
    uint32_t elements;
};

/* AdamW (Loshchilov, Hutter 2019) as of its `step`-th update: 1, 2, ... The rule is in common/updaters/adam_rule.h,
 * with a staleness weight of 1. */
struct device_adamw {
    float rate, weight_decay;
    double beta1, beta2, epsilon;
    uint64_t step;
};

/* Every slot is required; device_open asserts it. */
struct device_ops {
    const char *kind; /* "cpu", "cuda" */
    void (*close)(struct device *device);

    /* ---- memory. alloc: 64-byte aligned, contents undefined, NULL when there is none left; 0 bytes give a pointer
     * that free takes. upload/download: host <-> device in stream order; the host side may be reused when the
     * stream has been synchronized. copy: device -> device, no overlap. */
    void *(*alloc)(struct device *device, size_t bytes);
    void (*free)(struct device *device, void *memory); /* NULL is fine */
    /* Bytes of the device's memory that are allocated through `device`, its own scratch included; on the CPU what the
     * process has in main memory. 0: unknown. */
    uint64_t (*memory_used)(struct device *device);
    void (*upload)(struct device_stream *s, size_t bytes, const void *host, void *memory);
    void (*download)(struct device_stream *s, size_t bytes, const void *memory, void *host);
    void (*copy)(struct device_stream *s, size_t bytes, const void *from, void *to);
    /* Keeps pages of the host in place, so that uploads and downloads of them run at the bus's speed and beside other
     * work. False: it cannot be, and they are copied all the same. read_only: this process may not write them.
     * Unregister what was registered before it is unmapped; nothing may be on its way then. */
    bool (*host_register)(struct device *device, void *memory, size_t bytes, bool read_only);
    void (*host_unregister)(struct device *device, void *memory);

    /* ---- order. stream_open/event_open return NULL when there is no memory. event_record marks what the stream
     * has been given so far; event_wait makes another stream wait for it; event_synchronize makes the host wait.
     * synchronize: the host waits for the stream; returns the device's first failure, and clears it. */
    struct device_stream *(*stream_open)(struct device *device);
    void (*stream_close)(struct device_stream *s); /* NULL is fine */
    enum lg_status (*synchronize)(struct device_stream *s, struct lg_error *error);
    struct device_event *(*event_open)(struct device *device);
    void (*event_close)(struct device_event *event); /* NULL is fine */
    void (*event_record)(struct device_stream *s, struct device_event *event);
    void (*event_wait)(struct device_stream *s, struct device_event *event);
    enum lg_status (*event_synchronize)(struct device_event *event, struct lg_error *error);
    /* Events that tell the time too, and so cost a little more. event_elapsed: nanoseconds on the device from one of
     * them to another; both have happened (event_synchronize), on any streams; 0 where the second came first. */
    struct device_event *(*event_open_timed)(struct device *device);
    enum lg_status (*event_elapsed)(struct device_event *from, struct device_event *to, uint64_t *ns,
                                    struct lg_error *error);

    /* ---- matmul. c [m][n] = alpha * op(a) op(b) + beta * c. a is [m][k], or [k][m] with transpose_a; b is [k][n],
     * or [n][k] with transpose_b. With beta 0, c is not read. gemm_gradient is the same with an f32 result. */
    void (*gemm)(struct device_stream *s, bool transpose_a, bool transpose_b, uint32_t m, uint32_t n, uint32_t k,
                 float alpha, const struct activation *a, const struct activation *b, float beta, struct activation *c);
    void (*gemm_gradient)(struct device_stream *s, bool transpose_a, bool transpose_b, uint32_t m, uint32_t n,
                          uint32_t k, float alpha, const struct activation *a, const struct activation *b, float beta,
                          float *c);

    /* ---- vector. n elements each. zero: all bytes of any memory. narrow: y = x, rounded to the device's type; widen:
     * back. fill: x = value. scale: x *= a. axpy: y += a * x. add: y = a + b, in place. */
    void (*zero)(struct device_stream *s, size_t bytes, void *memory);
    void (*narrow)(struct device_stream *s, size_t n, const float *x, struct activation *y);
    void (*widen)(struct device_stream *s, size_t n, const struct activation *x, float *y);
    void (*fill)(struct device_stream *s, size_t n, float value, float *x);
    void (*scale)(struct device_stream *s, size_t n, float a, float *x);
    void (*axpy)(struct device_stream *s, size_t n, float a, const float *x, float *y);
    void (*add)(struct device_stream *s, size_t n, const struct activation *a, const struct activation *b,
                struct activation *y);
    /* x [rows][columns] += bias [columns]. */
    void (*bias_add)(struct device_stream *s, uint32_t rows, uint32_t columns, const float *bias, struct activation *x);
    /* y = x + bias + residual, all but bias [rows][columns]; y may be x or residual. */
    void (*bias_residual)(struct device_stream *s, uint32_t rows, uint32_t columns, const float *bias,
                          const struct activation *x, const struct activation *residual, struct activation *y);
    /* sums [columns] = sum over the rows of x [rows][columns]: the gradient of a bias. */
    void (*column_sums)(struct device_stream *s, uint32_t rows, uint32_t columns, const struct activation *x,
                        float *sums);

    /* ---- activation. n elements, in place. GELU is the tanh form 0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3)))
     * (Hendrycks, Gimpel 2016), within 1e-6 * max(1, |x|). relu_backward takes the forward's result y (or its input,
     * which has the same signs), gelu_backward its input x. */
    void (*relu_forward)(struct device_stream *s, size_t n, const struct activation *x, struct activation *y);
    void (*relu_backward)(struct device_stream *s, size_t n, const struct activation *y, const struct activation *dy,
                          struct activation *dx);
    void (*gelu_forward)(struct device_stream *s, size_t n, const struct activation *x, struct activation *y);
    void (*gelu_backward)(struct device_stream *s, size_t n, const struct activation *x, const struct activation *dy,
                          struct activation *dx);
    /* The same with what stands beside it in a layer, in one pass over memory: x [rows][columns] += bias, then
     * y = relu(x) (y alone is written, and may be x) or y = gelu(x) (both are; y is not x). Backward also overwrites
     * sums [columns] with dx's column sums, in f32 before dx is rounded: the gradient of the bias. */
    void (*bias_relu)(struct device_stream *s, uint32_t rows, uint32_t columns, const float *bias,
                      const struct activation *x, struct activation *y);
    void (*bias_gelu)(struct device_stream *s, uint32_t rows, uint32_t columns, const float *bias, struct activation *x,
                      struct activation *y);
    void (*relu_backward_sums)(struct device_stream *s, uint32_t rows, uint32_t columns, const struct activation *y,
                               const struct activation *dy, struct activation *dx, float *sums);
    void (*gelu_backward_sums)(struct device_stream *s, uint32_t rows, uint32_t columns, const struct activation *x,
                               const struct activation *dy, struct activation *dx, float *sums);

    /* ---- softmax. logits [rows][classes], labels [rows] in 0..classes-1. Overwrites *sums and gradient
     * [rows][classes] = scale * (softmax - one hot); gradient may be NULL or be logits. A NaN logit makes the loss NaN
     * and the row wrong. */
    void (*softmax_cross_entropy)(struct device_stream *s, uint32_t rows, uint32_t classes,
                                  const struct activation *logits, const int32_t *labels, float scale,
                                  struct activation *gradient, struct device_sums *sums);

    /* ---- norm. Layer normalisation over the last dimension (Ba, Kiros, Hinton 2016): x, y [rows][columns], gain and
     * bias [columns], mean and rstd [rows] are kept for backward. Backward *adds* to dx [rows][columns] (the residual's
     * gradient is there already) and overwrites dgain, dbias [columns]. */
    void (*norm_forward)(struct device_stream *s, uint32_t rows, uint32_t columns, float epsilon,
                         const struct activation *x, const float *gain, const float *bias, struct activation *y,
                         float *mean, float *rstd);
    void (*norm_backward)(struct device_stream *s, uint32_t rows, uint32_t columns, const struct activation *x,
                          const float *gain, const float *mean, const float *rstd, const struct activation *dy,
                          struct activation *dx, float *dgain, float *dbias);

    /* ---- attention. out = softmax(q k^T / sqrt(width), j <= i) v per head. `saved` holds attention_saved() floats
     * of the backend's own between forward and backward. Backward overwrites dqkv. */
    size_t (*attention_saved)(const struct device_attention *shape);
    void (*attention_forward)(struct device_stream *s, const struct device_attention *shape,
                              const struct activation *qkv, struct activation *out, float *saved);
    void (*attention_backward)(struct device_stream *s, const struct device_attention *shape,
                               const struct activation *qkv, const struct activation *out, const float *saved,
                               const struct activation *dout, struct activation *dqkv);

    /* ---- embedding. tokens [batch][time] below the table's rows. out [batch][time][width] = table[token] +
     * positions[time]. Backward *adds* to dtable and overwrites dpositions [time][width]. positions and dpositions may
     * be NULL. */
    void (*embedding_forward)(struct device_stream *s, uint32_t batch, uint32_t time, uint32_t width,
                              const int32_t *tokens, const float *table, const float *positions,
                              struct activation *out);
    void (*embedding_backward)(struct device_stream *s, uint32_t batch, uint32_t time, uint32_t width,
                               const int32_t *tokens, const struct activation *dout, float *dtable, float *dpositions);

    /* ---- conv. Shapes at struct device_conv; bias [filters] may be NULL. Backward overwrites dx (NULL: not wanted),
     * dweight and dbias (NULL: not wanted). */
    void (*conv_forward)(struct device_stream *s, const struct device_conv *shape, const struct activation *x,
                         const struct activation *weight, const float *bias, struct activation *y);
    void (*conv_backward)(struct device_stream *s, const struct device_conv *shape, const struct activation *x,
                          const struct activation *weight, const struct activation *dy, struct activation *dx,
                          float *dweight, float *dbias);

    /* ---- pool. Shapes at struct device_pool. which [result's shape] is the place of the maximum in its window, row by
     * row; the first of equal ones. Backward overwrites dx. */
    void (*pool_forward)(struct device_stream *s, const struct device_pool *shape, const struct activation *x,
                         struct activation *y, uint8_t *which);
    void (*pool_backward)(struct device_stream *s, const struct device_pool *shape, const uint8_t *which,
                          const struct activation *dy, struct activation *dx);

    /* ---- sparse. y [rows][outputs] = x weight, with weight [features][outputs]. Backward overwrites dweight
     * [features][outputs] = x^T dy. */
    void (*sparse_forward)(struct device_stream *s, const struct device_sparse *x, uint32_t outputs,
                           const float *weight, struct activation *y);
    void (*sparse_backward)(struct device_stream *s, const struct device_sparse *x, uint32_t outputs,
                            const struct activation *dy, float *dweight);

    /* ---- adamw. One update of n parameters; m and v [n] start at zero. The same bits as common/updaters/adamw.c. */
    void (*adamw)(struct device_stream *s, size_t n, const struct device_adamw *rule, const float *gradients,
                  float *parameters, float *m, float *v);

    /* ---- codec. Gradients are encoded before they leave the device, with the bits that common/codecs/ gives for the
     * same values, residual and options. units, bytes, shares and factors are arrays of `count` in device memory;
     * options are read before the call returns. */
    /* Every unit of values, as codec_kernels.encode does; the key is the unit's, not the options'. residual may be
     * NULL. Overwrites the units' bytes in `out` and bytes[i], how many of them unit i takes. */
    void (*encode)(struct device_stream *s, const struct codec *codec, const struct codec_options *options,
                   size_t count, const struct device_unit *units, const float *values, float *residual, uint8_t *out,
                   uint32_t *bytes);
    /* codec_take_back with shares[i] for every unit that `encode` wrote: residual += share (decoded - values), where
     * that is finite. A share of 0 leaves a unit alone. */
    void (*take_back)(struct device_stream *s, const struct codec *codec, size_t count, const struct device_unit *units,
                      const float *shares, const uint8_t *encoded, const float *values, float *residual);
    /* x *= factors[i] over every unit: a residual follows the learning rate. */
    void (*scale_units)(struct device_stream *s, size_t count, const struct device_unit *units, const float *factors,
                        float *x);

    /* ---- clip. x *= most / |x| where the Euclidean norm |x| of its n elements, summed in double, is more than `most`
     * (Pascanu, Mikolov, Bengio 2013). A norm that is not finite leaves x as it is: shards refuse it, and say so. */
    void (*clip)(struct device_stream *s, size_t n, double most, float *x);
};

/* What `at` of a unit is a multiple of: 2 for elements of 16 bits, else 4. */
size_t device_codec_alignment(const struct codec *codec);

/* Opens "cpu", "cuda:N", or "auto": the first GPU where there is one, else the CPU, and says in the log which.
 * "cuda:N/tf32" computes products from inputs rounded to that (sums stay f32); "cuda:N/bf16" keeps activations in bf16;
 * without, nothing is rounded. `threads` is the number of host threads that compute; 0 takes all cores this process may
 * use. A device that is not there is an error with the reason, never another device. device_close frees; NULL is fine.
 */
LG_MUST_CHECK enum lg_status device_open(const char *spec, unsigned threads, struct device **out,
                                         struct lg_error *error);
void device_close(struct device *device);

/* How many GPUs device_open could open: cuda:0 to cuda:N-1. Opens none. */
unsigned device_gpu_count(void);
/* True for "cuda", "cuda:N" and both with "/f32", "/tf32" or "/bf16"; *math is static. */
bool device_spec_is_cuda(const char *spec, unsigned *number, const char **math);

/* Asserts that a backend fills every slot. */
void device_ops_check(const struct device_ops *ops);

#endif
