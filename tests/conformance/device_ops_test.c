/* Every op of every device against a plain loop in double, over sizes and shapes that do not fit vectors or blocks.
 * Where activations are bf16, the loop is given what the device is given, rounded, and a result may be half a unit of
 * its last place further off. */
#include "gpu/device.h"

#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/random.h"
#include "common/updater.h"
#include "tests/support/devices.h"

/* GPUs are tested where there are any. tests/gpu/emulated_ops_test.c names emulated ones in their place. */
#ifndef DEVICES_TESTED
#define DEVICES_TESTED                                                                                                 \
    {"cpu", 1}, {"cpu", 3}, {"cuda:0", 1}, {                                                                           \
        "cuda:0/bf16", 1                                                                                               \
    }
#define PRODUCTS_TESTED                                                                                                \
    { "cuda:0/tf32", 1 }
#endif
static const struct test_device devices[] = {DEVICES_TESTED}, rounding[] = {PRODUCTS_TESTED};
enum { DEVICES = sizeof devices / sizeof *devices, ROUNDING = sizeof rounding / sizeof *rounding };

static const uint32_t sizes[] = {0, 1, 31, 33, 1023, (1u << 20) + 1};
enum { SIZES = sizeof sizes / sizeof *sizes };

static struct device *device;
static const struct device_ops *ops;
static struct device_stream *stream;
static struct random source;

static void open_this(const struct test_device *one) {
    struct lg_error error = {0};
    ck_assert_msg(device_open(one->spec, one->threads, &device, &error) == LG_OK, "%s", error.message);
    ops = device->ops;
    stream = ops->stream_open(device);
    ck_assert_ptr_nonnull(stream);
    random_init(&source, 20240229);
}

static void open_device(int number) {
    open_this(&devices[number]);
}

static void close_device(void) {
    struct lg_error error = {0};
    ck_assert_msg(ops->synchronize(stream, &error) == LG_OK, "%s", error.message);
    ops->stream_close(stream);
    device_close(device);
}

/* An array on the host and its copy on the device, which is one of two: floats, or numbers of the device's own type. */
struct array {
    size_t n;
    float *host, *device;
    struct activation *flow;
};

static bool is_narrow(void) {
    return device->activation_bytes == 2;
}

/* The nearest bf16, ties to even; also as a float. */
static uint16_t bf16_of(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    if (isnan(x))
        return 0x7fc0;
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

static float float_of(uint16_t half) {
    uint32_t bits = (uint32_t)half << 16;
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* Half a unit in the last of bf16's 8 bits, for numbers up to |x|. */
static double half_ulp(double x) {
    int exponent;
    frexp(x, &exponent);
    return ldexp(1, exponent - 9);
}

/* Copies the host's numbers to the device; what that cannot hold is rounded in both places. */
static void array_upload(struct array *a) {
    if (!a->flow || !is_narrow()) {
        ops->upload(stream, a->n * sizeof(float), a->host, a->flow ? (void *)a->flow : (void *)a->device);
        return;
    }
    uint16_t *halves = calloc(a->n + 1, sizeof *halves);
    ck_assert_ptr_nonnull(halves);
    for (size_t i = 0; i < a->n; i++) {
        halves[i] = bf16_of(a->host[i]);
        a->host[i] = float_of(halves[i]);
    }
    ops->upload(stream, a->n * sizeof *halves, halves, a->flow);
    ck_assert_int_eq(ops->synchronize(stream, NULL), LG_OK);
    free(halves);
}

static struct array array_drawn(size_t n, bool flow) {
    void *memory = ops->alloc(device, n * (flow ? device->activation_bytes : sizeof(float)));
    struct array a = {n, calloc(n + 1, sizeof(float)), flow ? NULL : memory, flow ? memory : NULL};
    ck_assert_ptr_nonnull(a.host);
    ck_assert_ptr_nonnull(memory);
    for (size_t i = 0; i < n; i++)
        a.host[i] = random_normal(&source);
    array_upload(&a);
    return a;
}

static struct array array_new(size_t n) {
    return array_drawn(n, false);
}

static struct array flow_new(size_t n) {
    return array_drawn(n, true);
}

/* What the device holds now; the caller frees it. */
static float *array_read(const struct array *a) {
    float *now = calloc(a->n + 1, sizeof *now);
    bool narrow = a->flow && is_narrow();
    ck_assert_ptr_nonnull(now);
    ops->download(stream, a->n * (narrow ? 2 : sizeof(float)), a->flow ? (void *)a->flow : (void *)a->device, now);
    ck_assert_int_eq(ops->synchronize(stream, NULL), LG_OK);
    for (size_t i = a->n; narrow && i-- > 0;) { /* from the end, in place */
        uint16_t half;
        memcpy(&half, (const char *)now + i * sizeof half, sizeof half);
        now[i] = float_of(half);
    }
    return now;
}

static void array_free(struct array *a) {
    free(a->host);
    ops->free(device, a->device);
    ops->free(device, a->flow);
}

static double *zeros(size_t n) {
    double *x = calloc(n + 1, sizeof *x);
    ck_assert_ptr_nonnull(x);
    return x;
}

/* How far a result may be off: `bound`, as computed in f32, and then the rounding to the device's type. */
static double allowed(const struct array *a, double want, double bound) {
    return bound + (a->flow && is_narrow() ? half_ulp(fabs(want) + bound) : 0);
}

/* Frees `want`. `relative` is of the largest magnitude in want (at least 1). */
static void expect(const char *what, const struct array *got, double *want, double relative) {
    float *now = array_read(got);
    double scale = 1;
    for (size_t i = 0; i < got->n; i++)
        scale = fmax(scale, fabs(want[i]));
    for (size_t i = 0; i < got->n; i++) /* an assertion each would be a system call each */
        if (!(fabs((double)now[i] - want[i]) <= allowed(got, want[i], relative * scale)))
            ck_abort_msg("%s[%zu] of %zu: %.9g, expected %.9g", what, i, got->n, (double)now[i], want[i]);
    free(now);
    free(want);
}

START_TEST(vectors) {
    open_device(_i);
    for (int s = 0; s < SIZES; s++) {
        size_t n = sizes[s]; /* the last one is large enough for several threads */
        struct array a = array_new(n), b = array_new(n), c = array_new(n), d = array_new(n);
        struct array e = flow_new(n), f = flow_new(n), g = flow_new(n), h = array_new(n);
        ops->fill(stream, n, 0.5f, a.device);
        ops->scale(stream, n, -3.0f, b.device);
        ops->axpy(stream, n, 0.25f, d.device, c.device);
        ops->add(stream, n, e.flow, f.flow, f.flow);
        ops->narrow(stream, n, d.device, g.flow);
        ops->widen(stream, n, e.flow, h.device);
        double *fill = zeros(n), *scale = zeros(n), *axpy = zeros(n), *add = zeros(n);
        double *narrow = zeros(n), *widen = zeros(n);
        for (size_t i = 0; i < n; i++) {
            fill[i] = 0.5;
            scale[i] = (double)(-3.0f * b.host[i]);
            axpy[i] = (double)(c.host[i] + 0.25f * d.host[i]);
            add[i] = (double)(e.host[i] + f.host[i]);
            narrow[i] = (double)(is_narrow() ? float_of(bf16_of(d.host[i])) : d.host[i]);
            widen[i] = (double)e.host[i];
        }
        expect("fill", &a, fill, 0);
        expect("scale", &b, scale, 0);
        expect("axpy", &c, axpy, 0);
        expect("add", &f, add, 0);
        float *exact = array_read(&g);
        for (size_t i = 0; i < n; i++)
            ck_assert((double)exact[i] == narrow[i]);
        free(exact), free(narrow);
        expect("widen", &h, widen, 0);
        ops->zero(stream, n * device->activation_bytes, g.flow);
        expect("zero", &g, zeros(n), 0);
        ops->copy(stream, n * sizeof(float), d.device, a.device);
        float *copied = array_read(&a);
        ck_assert(memcmp(copied, d.host, n * sizeof(float)) == 0);
        free(copied);
        array_free(&a), array_free(&b), array_free(&c), array_free(&d), array_free(&e);
        array_free(&f), array_free(&g), array_free(&h);
    }
    close_device();
}
END_TEST

START_TEST(biases) {
    open_device(_i);
    static const uint32_t shapes[][2] = {{0, 5},    {5, 0},     {1, 1},     {31, 33},   {33, 1},
                                         {1, 1023}, {1023, 31}, {257, 300}, {4097, 33}, {1, 65537}};
    for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++) {
        uint32_t rows = shapes[s][0], columns = shapes[s][1];
        struct array x = flow_new((size_t)rows * columns), bias = array_new(columns), sums = array_new(columns);
        struct array residual = flow_new(x.n), y = flow_new(x.n);
        ops->column_sums(stream, rows, columns, x.flow, sums.device);
        ops->bias_residual(stream, rows, columns, bias.device, x.flow, residual.flow, y.flow);
        ops->bias_residual(stream, rows, columns, bias.device, x.flow, residual.flow, residual.flow);
        ops->bias_add(stream, rows, columns, bias.device, x.flow);
        double *added = zeros(x.n), *summed = zeros(columns), *onto = zeros(x.n), *in_place = zeros(x.n);
        for (size_t i = 0, c = 0; i < x.n; i++, c = c + 1 < columns ? c + 1 : 0) {
            added[i] = (double)(x.host[i] + bias.host[c]);
            summed[c] += (double)x.host[i];
            in_place[i] = onto[i] = (double)((x.host[i] + bias.host[c]) + residual.host[i]);
        }
        expect("bias_add", &x, added, 0);
        expect("bias_residual", &y, onto, 0);
        expect("bias_residual in place", &residual, in_place, 0);
        expect("column_sums", &sums, summed, 1e-5);
        array_free(&x), array_free(&bias), array_free(&sums), array_free(&residual), array_free(&y);
    }
    close_device();
}
END_TEST

static void check_gemm(bool ta, bool tb, uint32_t m, uint32_t n, uint32_t k, float alpha, float beta) {
    struct array a = flow_new((size_t)m * k), b = flow_new((size_t)k * n), c = flow_new((size_t)m * n);
    struct array d = array_new(c.n);
    ops->gemm(stream, ta, tb, m, n, k, alpha, a.flow, b.flow, beta, c.flow);
    ops->gemm_gradient(stream, ta, tb, m, n, k, alpha, a.flow, b.flow, beta, d.device);
    double *want = zeros(c.n), *gradient = zeros(c.n);
    for (size_t i = 0; i < m; i++) {
        for (size_t j = 0; j < n; j++) {
            double sum = 0;
            for (size_t l = 0; l < k; l++)
                sum += (double)a.host[ta ? l * m + i : i * k + l] * (double)b.host[tb ? j * k + l : l * n + j];
            want[i * n + j] = (double)alpha * sum + (double)beta * (double)c.host[i * n + j];
            gradient[i * n + j] = (double)alpha * sum + (double)beta * (double)d.host[i * n + j];
        }
    }
    expect("gemm", &c, want, 1e-5);
    expect("gemm_gradient", &d, gradient, 1e-5);
    array_free(&a), array_free(&b), array_free(&c), array_free(&d);
}

START_TEST(matmul) {
    open_device(_i);
    static const uint32_t shapes[][3] = {{0, 3, 2},    {3, 0, 2},   {3, 2, 0},     {1, 1, 1},    {31, 33, 7},
                                         {33, 31, 65}, {1, 10, 97}, {1023, 17, 5}, {5, 1023, 3}, {129, 65, 1023}};
    for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++) {
        for (int t = 0; t < 4; t++) {
            check_gemm(t & 1, t & 2, shapes[s][0], shapes[s][1], shapes[s][2], 1, 0);
            check_gemm(t & 1, t & 2, shapes[s][0], shapes[s][1], shapes[s][2], -0.5f, 1);
            check_gemm(t & 1, t & 2, shapes[s][0], shapes[s][1], shapes[s][2], 2, 0.25f);
        }
    }
    close_device();
}
END_TEST

/* The bound is of both inputs' rounding, of each product's magnitude: TF32 has 11 bits, which hardware may cut off
 * (2 * 2^-10); and a little for the sum. */
START_TEST(products_of_rounded_inputs) {
    open_this(&rounding[_i]);
    const double rounded = 0x1p-9;
    static const uint32_t shapes[][3] = {{1, 1, 1}, {31, 33, 7}, {33, 31, 65}, {64, 128, 256}};
    for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++) {
        size_t m = shapes[s][0], n = shapes[s][1], k = shapes[s][2];
        struct array a = flow_new(m * k), b = flow_new(k * n), c = flow_new(m * n);
        ops->gemm(stream, false, true, (uint32_t)m, (uint32_t)n, (uint32_t)k, -0.5f, a.flow, b.flow, 1, c.flow);
        float *now = array_read(&c);
        for (size_t i = 0; i < m * n; i++) {
            double sum = 0, magnitude = 0;
            for (size_t l = 0; l < k; l++) {
                double product = (double)a.host[i / n * k + l] * (double)b.host[i % n * k + l];
                sum += product;
                magnitude += fabs(product);
            }
            ck_assert_double_eq_tol((double)now[i], (double)c.host[i] - 0.5 * sum,
                                    0.5 * magnitude * rounded * 1.1 + 1e-6);
        }
        free(now);
        array_free(&a), array_free(&b), array_free(&c);
    }
    close_device();
}
END_TEST

START_TEST(host_memory_may_be_registered) {
    enum { N = 1 << 12 };
    open_device(_i);
    float *host = aligned_alloc(4096, N * sizeof *host);
    struct array a = array_new(N);
    ck_assert_ptr_nonnull(host);
    bool registered = ops->host_register(device, host, N * sizeof *host, false);
    ops->fill(stream, N, 7, a.device);
    ops->download(stream, N * sizeof *host, a.device, host);
    ck_assert_int_eq(ops->synchronize(stream, NULL), LG_OK);
    for (size_t i = 0; i < N; i++)
        ck_assert(host[i] == 7);
    if (registered)
        ops->host_unregister(device, host);
    free(host);
    array_free(&a);
    close_device();
}
END_TEST

START_TEST(gemm_ignores_what_beta_zero_overwrites) {
    open_device(_i);
    struct array a = flow_new(6), b = flow_new(6), c = flow_new(4), d = flow_new(4);
    for (int i = 0; i < 4; i++)
        c.host[i] = d.host[i] = NAN;
    array_upload(&c), array_upload(&d);
    ops->gemm(stream, false, false, 2, 2, 3, 1, a.flow, b.flow, 0, c.flow);
    ops->gemm(stream, false, false, 2, 2, 0, 1, a.flow, b.flow, 0, d.flow);
    float *now = array_read(&c), *empty = array_read(&d);
    for (int i = 0; i < 4; i++) {
        ck_assert(isfinite(now[i]));
        ck_assert(empty[i] == 0);
    }
    free(now), free(empty);
    array_free(&a), array_free(&b), array_free(&c), array_free(&d);
    close_device();
}
END_TEST

static double gelu(double x) {
    return 0.5 * x * (1 + tanh(sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
}

static double gelu_slope(double x) {
    const double h = 1e-5;
    return (gelu(x + h) - gelu(x - h)) / (2 * h);
}

START_TEST(activations) {
    open_device(_i);
    for (int s = 0; s < SIZES; s++) {
        size_t n = sizes[s];
        struct array x = flow_new(n), dy = flow_new(n), y = flow_new(n), dx = flow_new(n);
        for (size_t i = 0; i < n; i++) /* -12 .. 12, and the far ends */
            x.host[i] = i % 50 == 49 ? (i & 1 ? 300.0f : -300.0f) : (float)((double)i / (double)n * 24 - 12);
        array_upload(&x);
        double *relu = zeros(n), *relu_d = zeros(n);
        for (size_t i = 0; i < n; i++) {
            relu[i] = x.host[i] > 0 ? (double)x.host[i] : 0;
            relu_d[i] = x.host[i] > 0 ? (double)dy.host[i] : 0;
        }
        ops->relu_forward(stream, n, x.flow, y.flow);
        ops->relu_backward(stream, n, y.flow, dy.flow, dx.flow);
        expect("relu", &y, relu, 0);
        expect("relu gradient", &dx, relu_d, 0);
        ops->gelu_forward(stream, n, x.flow, y.flow);
        ops->gelu_backward(stream, n, x.flow, dy.flow, dx.flow);
        float *forward = array_read(&y), *backward = array_read(&dx);
        for (size_t i = 0; i < n; i++) {
            double at = (double)x.host[i], bound = 1e-6 * fmax(1, fabs(at));
            double slope = gelu_slope(at) * (double)dy.host[i];
            if (!(fabs((double)forward[i] - gelu(at)) <= allowed(&y, gelu(at), bound)))
                ck_abort_msg("gelu(%g) is %g", at, (double)forward[i]);
            if (!(fabs((double)backward[i] - slope) <= allowed(&dx, slope, 1e-5)))
                ck_abort_msg("gelu'(%g) is %g, expected %g", at, (double)backward[i], slope);
        }
        free(forward), free(backward);
        array_free(&x), array_free(&dy), array_free(&y), array_free(&dx);
    }
    close_device();
}
END_TEST

/* x + bias is what activations are given here; backward of ReLU is given its result, of GELU the sum. */
static void check_activations_with_bias(uint32_t rows, uint32_t columns) {
    struct array x = flow_new((size_t)rows * columns), kept = flow_new(x.n), bias = array_new(columns);
    struct array relued = flow_new(x.n), gelued = flow_new(x.n), dy = flow_new(x.n), relu_dx = flow_new(x.n);
    struct array gelu_dx = flow_new(x.n), relu_sums = array_new(columns), gelu_sums = array_new(columns);
    memcpy(kept.host, x.host, x.n * sizeof(float));
    array_upload(&kept);
    ops->relu_backward_sums(stream, rows, columns, x.flow, dy.flow, relu_dx.flow, relu_sums.device);
    ops->gelu_backward_sums(stream, rows, columns, x.flow, dy.flow, gelu_dx.flow, gelu_sums.device);
    ops->bias_gelu(stream, rows, columns, bias.device, kept.flow, gelued.flow);
    ops->bias_relu(stream, rows, columns, bias.device, x.flow, relued.flow);
    ops->bias_relu(stream, rows, columns, bias.device, x.flow, x.flow);
    double *sum = zeros(x.n), *wr = zeros(x.n), *wr2 = zeros(x.n), *wg = zeros(x.n), *wrd = zeros(x.n);
    double *wgd = zeros(x.n), *wrs = zeros(columns), *wgs = zeros(columns);
    for (size_t i = 0, c = 0; i < x.n; i++, c = c + 1 < columns ? c + 1 : 0) {
        double at = (double)x.host[i], d = (double)dy.host[i];
        sum[i] = (double)(x.host[i] + bias.host[c]);
        wr2[i] = wr[i] = fmax(sum[i], 0);
        wg[i] = gelu(sum[i]);
        wrs[c] += wrd[i] = at > 0 ? d : 0;
        wgs[c] += wgd[i] = gelu_slope(at) * d;
    }
    expect("bias_gelu's x", &kept, sum, 0);
    expect("bias_relu", &relued, wr, 0);
    expect("bias_relu in place", &x, wr2, 0);
    expect("bias_gelu", &gelued, wg, 1e-6);
    expect("relu_backward_sums' dx", &relu_dx, wrd, 0);
    expect("relu_backward_sums", &relu_sums, wrs, 1e-5);
    expect("gelu_backward_sums' dx", &gelu_dx, wgd, 1e-5);
    expect("gelu_backward_sums", &gelu_sums, wgs, 1e-5);
    array_free(&x), array_free(&kept), array_free(&bias), array_free(&relued), array_free(&gelued), array_free(&dy);
    array_free(&relu_dx), array_free(&gelu_dx), array_free(&relu_sums), array_free(&gelu_sums);
}

START_TEST(activations_with_bias) {
    open_device(_i);
    static const uint32_t shapes[][2] = {{0, 5},    {5, 0},     {1, 1},     {31, 33},   {33, 1},
                                         {1, 1023}, {1023, 31}, {257, 304}, {4097, 32}, {2, 65537}};
    for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++)
        check_activations_with_bias(shapes[s][0], shapes[s][1]);
    close_device();
}
END_TEST

/* Copies `bytes` to new device memory. */
static void *upload_new(size_t bytes, const void *host) {
    void *memory = ops->alloc(device, bytes);
    ck_assert_ptr_nonnull(memory);
    ops->upload(stream, bytes, host, memory);
    return memory;
}

static struct device_sums read_sums(struct device_sums *sums) {
    struct device_sums now;
    ops->download(stream, sizeof now, sums, &now);
    ck_assert_int_eq(ops->synchronize(stream, NULL), LG_OK);
    return now;
}

static void check_softmax(uint32_t rows, uint32_t classes, bool want_gradient) {
    struct array x = flow_new((size_t)rows * classes), g = flow_new(x.n);
    int32_t *labels = calloc(rows + 1u, sizeof *labels);
    double *want = zeros(x.n), loss = 0;
    uint64_t correct = 0;
    for (uint32_t r = 0; r < rows; r++) {
        const float *row = x.host + (size_t)r * classes;
        labels[r] = (int32_t)random_below(&source, classes);
        double total = 0;
        uint32_t best = 0; /* the first of equal ones */
        for (uint32_t i = 0; i < classes; i++) {
            total += exp((double)row[i]);
            best = row[i] > row[best] ? i : best;
        }
        loss += classes ? log(total) - (double)row[labels[r]] : 0;
        correct += best == (uint32_t)labels[r];
        for (uint32_t i = 0; i < classes; i++)
            want[(size_t)r * classes + i] = 0.125 * (exp((double)row[i]) / total - ((int32_t)i == labels[r]));
    }
    int32_t *device_labels = upload_new(rows * sizeof *labels, labels);
    struct device_sums *sums = ops->alloc(device, sizeof *sums);
    ops->softmax_cross_entropy(stream, rows, classes, x.flow, device_labels, 0.125f, want_gradient ? g.flow : NULL,
                               sums);
    struct device_sums now = read_sums(sums);
    ck_assert_double_eq_tol(now.loss, loss, 1e-5 * (1 + loss));
    ck_assert_uint_eq(now.correct, correct);
    if (want_gradient)
        expect("softmax gradient", &g, want, 1e-6);
    else
        free(want);
    free(labels);
    ops->free(device, device_labels), ops->free(device, sums);
    array_free(&x), array_free(&g);
}

START_TEST(softmax) {
    open_device(_i);
    static const uint32_t shapes[][2] = {{0, 10},    {1, 1},     {1, 2},    {31, 33}, {33, 10},
                                         {1023, 10}, {301, 256}, {5, 1023}, {3, 257}, {2, 50304}};
    for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++) {
        check_softmax(shapes[s][0], shapes[s][1], true);
        check_softmax(shapes[s][0], shapes[s][1], false);
    }
    close_device();
}
END_TEST

START_TEST(softmax_counts_ties_and_survives_extremes) {
    open_device(_i);
    /* Of equal logits the first counts; large ones must not overflow; a NaN makes its row wrong. */
    const float logits[5][3] = {{2, 2, 1}, {2, 2, 1}, {1000, -1000, 0}, {-1e30f, 0, 1e30f}, {NAN, 1, 0}};
    const int32_t labels[5] = {0, 1, 0, 2, 1};
    static const double losses[4] = {0.86199480, 0.86199480, 0, 0};
    struct array x = flow_new(15);
    memcpy(x.host, logits, sizeof logits);
    array_upload(&x);
    int32_t *l = upload_new(sizeof labels, labels);
    struct device_sums *sums = ops->alloc(device, sizeof *sums);
    for (int row = 0; row < 4; row++) {
        ops->softmax_cross_entropy(stream, 1, 3, activation_at(device, x.flow, (size_t)row * 3), l + row, 1, NULL,
                                   sums);
        struct device_sums now = read_sums(sums);
        ck_assert_double_eq_tol(now.loss, losses[row], 1e-6);
        ck_assert_uint_eq(now.correct, row != 1);
    }
    ops->softmax_cross_entropy(stream, 5, 3, x.flow, l, 1, NULL, sums);
    struct device_sums all = read_sums(sums);
    ck_assert(isnan(all.loss));
    ck_assert_uint_eq(all.correct, 3);
    array_free(&x), ops->free(device, l), ops->free(device, sums);
    close_device();
}
END_TEST

/* dx += rstd (g - mean g - h mean(g h)), with g = gain dy and h = (x - mean) rstd. */
static void norm_reference(uint32_t rows, uint32_t n, const float *x, const float *gain, const float *bias,
                           const float *dy, double *y, double *dx, double *dgain, double *dbias) {
    for (size_t r = 0; r < rows; r++) {
        double mean = 0, variance = 0, g_mean = 0, gh_mean = 0;
        const float *row = x + r * n, *d = dy + r * n;
        for (size_t i = 0; i < n; i++)
            mean += (double)row[i] / n;
        for (size_t i = 0; i < n; i++)
            variance += pow((double)row[i] - mean, 2) / n;
        double rstd = 1 / sqrt(variance + 1e-5);
        for (size_t i = 0; i < n; i++) {
            double h = ((double)row[i] - mean) * rstd, g = (double)gain[i] * (double)d[i];
            y[r * n + i] = h * (double)gain[i] + (double)bias[i];
            dgain[i] += (double)d[i] * h;
            dbias[i] += (double)d[i];
            g_mean += g / n;
            gh_mean += g * h / n;
        }
        for (size_t i = 0; i < n; i++) {
            double h = ((double)row[i] - mean) * rstd;
            dx[r * n + i] += rstd * ((double)gain[i] * (double)d[i] - g_mean - h * gh_mean);
        }
    }
}

START_TEST(norm) {
    open_device(_i);
    static const uint32_t shapes[][2] = {{0, 8},     {1, 2},   {31, 33},   {33, 31},  {7, 1023}, {1023, 31},
                                         {300, 128}, {3, 768}, {100, 776}, {77, 512}, {40, 1032}};
    for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++) {
        uint32_t rows = shapes[s][0], n = shapes[s][1];
        size_t all = (size_t)rows * n;
        struct array x = flow_new(all), gain = array_new(n), bias = array_new(n), y = flow_new(all);
        struct array mean = array_new(rows), rstd = array_new(rows), dy = flow_new(all), dx = flow_new(all);
        struct array dgain = array_new(n), dbias = array_new(n);
        ops->norm_forward(stream, rows, n, 1e-5f, x.flow, gain.device, bias.device, y.flow, mean.device, rstd.device);
        ops->norm_backward(stream, rows, n, x.flow, gain.device, mean.device, rstd.device, dy.flow, dx.flow,
                           dgain.device, dbias.device);
        double *wy = zeros(all), *wdx = zeros(all), *wdgain = zeros(n), *wdbias = zeros(n);
        for (size_t i = 0; i < all; i++)
            wdx[i] = (double)dx.host[i]; /* backward adds */
        norm_reference(rows, n, x.host, gain.host, bias.host, dy.host, wy, wdx, wdgain, wdbias);
        expect("norm", &y, wy, 1e-5);
        expect("norm dx", &dx, wdx, 1e-4);
        expect("norm dgain", &dgain, wdgain, 1e-5);
        expect("norm dbias", &dbias, wdbias, 1e-5);
        array_free(&x), array_free(&gain), array_free(&bias), array_free(&y), array_free(&mean), array_free(&rstd);
        array_free(&dy), array_free(&dx), array_free(&dgain), array_free(&dbias);
    }
    close_device();
}
END_TEST

/* One head of one sequence, in double: probabilities p [time][time], out, and dqkv added up. Row r of a head's query,
 * key, value lies at qkv[r * stride + {0, all, 2 all}], of its result at out[r * all]. */
static void attention_reference(size_t time, size_t width, size_t all, const float *qkv, const float *dout, double *out,
                                double *dqkv) {
    double scale = 1 / sqrt((double)width), *p = zeros(time), *dp = zeros(time);
    size_t stride = 3 * all;
    for (size_t i = 0; i < time; i++) {
        double total = 0, mean = 0;
        for (size_t j = 0; j <= i; j++) {
            p[j] = 0;
            for (size_t d = 0; d < width; d++)
                p[j] += scale * (double)qkv[i * stride + d] * (double)qkv[j * stride + all + d];
            p[j] = exp(p[j]);
            total += p[j];
        }
        for (size_t j = 0; j <= i; j++) {
            p[j] /= total;
            dp[j] = 0;
            for (size_t d = 0; d < width; d++) {
                out[i * all + d] += p[j] * (double)qkv[j * stride + 2 * all + d];
                dqkv[j * stride + 2 * all + d] += p[j] * (double)dout[i * all + d];
                dp[j] += (double)dout[i * all + d] * (double)qkv[j * stride + 2 * all + d];
            }
            mean += p[j] * dp[j];
        }
        for (size_t j = 0; j <= i; j++) {
            double ds = scale * p[j] * (dp[j] - mean);
            for (size_t d = 0; d < width; d++) {
                dqkv[i * stride + d] += ds * (double)qkv[j * stride + all + d];
                dqkv[j * stride + all + d] += ds * (double)qkv[i * stride + d];
            }
        }
    }
    free(p), free(dp);
}

START_TEST(attention) {
    open_device(_i);
    static const struct device_attention shapes[] = {{0, 4, 2, 8},   {2, 0, 2, 8},    {1, 1, 1, 1},    {2, 31, 3, 5},
                                                     {1, 33, 2, 8},  {3, 100, 2, 7},  {2, 64, 1, 33},  {1, 130, 2, 64},
                                                     {1, 65, 1, 16}, {2, 70, 1, 100}, {1, 40, 2, 200}, {1, 33, 1, 256}};
    for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++) {
        const struct device_attention *a = &shapes[s];
        size_t all = (size_t)a->heads * a->width, rows = (size_t)a->batch * a->time;
        struct array qkv = flow_new(rows * 3 * all), out = flow_new(rows * all), dout = flow_new(rows * all);
        struct array dqkv = flow_new(rows * 3 * all), saved = array_new(ops->attention_saved(a));
        ops->attention_forward(stream, a, qkv.flow, out.flow, saved.device);
        ops->attention_backward(stream, a, qkv.flow, out.flow, saved.device, dout.flow, dqkv.flow);
        double *want = zeros(out.n), *gradient = zeros(dqkv.n);
        for (size_t b = 0; b < a->batch; b++)
            for (size_t h = 0; h < a->heads; h++) {
                size_t at = b * a->time * all + h * a->width, packed = b * a->time * 3 * all + h * a->width;
                attention_reference(a->time, a->width, all, qkv.host + packed, dout.host + at, want + at,
                                    gradient + packed);
            }
        /* Products of bf16 round probabilities too, and backward reads out; attention_test has closer bounds. */
        expect("attention", &out, want, is_narrow() ? 2e-2 : 1e-5);
        expect("attention gradient", &dqkv, gradient, is_narrow() ? 2e-2 : 1e-5);
        array_free(&qkv), array_free(&out), array_free(&dout), array_free(&dqkv), array_free(&saved);
    }
    close_device();
}
END_TEST

START_TEST(embedding) {
    open_device(_i);
    enum { VOCABULARY = 37 };
    static const uint32_t shapes[][3] = {{0, 4, 8}, {1, 1, 1}, {3, 31, 33}, {2, 33, 31}, {5, 40, 200}};
    for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++) {
        uint32_t batch = shapes[s][0], time = shapes[s][1], width = shapes[s][2];
        size_t rows = (size_t)batch * time, table_n = (size_t)VOCABULARY * width;
        int32_t *tokens = calloc(rows + 1, sizeof *tokens);
        for (size_t i = 0; i < rows; i++)
            tokens[i] = (int32_t)random_below(&source, VOCABULARY);
        int32_t *device_tokens = upload_new(rows * sizeof *tokens, tokens);
        struct array table = array_new(table_n), positions = array_new((size_t)time * width);
        struct array out = flow_new(rows * width), dout = flow_new(rows * width), bare = flow_new(rows * width);
        struct array dtable = array_new(table_n), dpositions = array_new((size_t)time * width);
        ops->embedding_forward(stream, batch, time, width, device_tokens, table.device, positions.device, out.flow);
        ops->embedding_forward(stream, batch, time, width, device_tokens, table.device, NULL, bare.flow);
        ops->embedding_backward(stream, batch, time, width, device_tokens, dout.flow, dtable.device, dpositions.device);
        double *want = zeros(out.n), *want_bare = zeros(out.n), *wt = zeros(table_n), *wp = zeros(dpositions.n);
        for (size_t i = 0; i < table_n; i++)
            wt[i] = (double)dtable.host[i]; /* backward adds */
        for (size_t i = 0; i < out.n; i++) {
            size_t in_table = (size_t)tokens[i / width] * width + i % width, place = i % ((size_t)time * width);
            want_bare[i] = (double)table.host[in_table];
            want[i] = (double)(table.host[in_table] + positions.host[place]);
            wt[in_table] += (double)dout.host[i];
            wp[place] += (double)dout.host[i];
        }
        expect("embedding", &out, want, 0);
        expect("embedding without positions", &bare, want_bare, 0);
        expect("embedding dtable", &dtable, wt, 1e-5);
        expect("embedding dpositions", &dpositions, wp, 1e-5);
        free(tokens), ops->free(device, device_tokens);
        array_free(&table), array_free(&positions), array_free(&out), array_free(&dout), array_free(&bare);
        array_free(&dtable), array_free(&dpositions);
    }
    close_device();
}
END_TEST

/* Adds up y, dx and dw over every (result, tap) pair that falls inside the image. */
static void conv_reference(const struct device_conv *c, const float *x, const float *w, const float *dy, double *y,
                           double *dx, double *dw) {
    size_t k = c->kernel, oh = c->height + 2 * c->padding - k + 1, ow = c->width + 2 * c->padding - k + 1;
    for (size_t out = 0; out < (size_t)c->batch * c->filters * oh * ow; out++) {
        size_t column = out % ow, row = out / ow % oh, f = out / ow / oh % c->filters, b = out / ow / oh / c->filters;
        for (size_t tap = 0; tap < (size_t)c->channels * k * k; tap++) {
            size_t kx = tap % k, ky = tap / k % k, channel = tap / k / k;
            size_t iy = row + ky - c->padding, ix = column + kx - c->padding; /* wraps below zero: then too large */
            if (iy >= c->height || ix >= c->width)
                continue;
            size_t in = ((b * c->channels + channel) * c->height + iy) * c->width + ix;
            size_t weight = f * c->channels * k * k + tap;
            y[out] += (double)w[weight] * (double)x[in];
            dx[in] += (double)w[weight] * (double)dy[out];
            dw[weight] += (double)dy[out] * (double)x[in];
        }
    }
}

START_TEST(conv) {
    open_device(_i);
    static const struct device_conv shapes[] = {
        {0, 1, 5, 5, 2, 3, 0},  {1, 1, 1, 1, 1, 1, 0},   {3, 2, 7, 9, 5, 3, 0},
        {2, 3, 8, 8, 4, 5, 2},  {5, 1, 28, 28, 8, 5, 0}, {2, 4, 5, 31, 3, 5, 1},
        {4, 2, 3, 3, 33, 3, 1}, {1, 1, 2, 2, 2, 5, 2},   {35, 1, 5, 4, 2, 3, 0}};
    for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++) {
        const struct device_conv *c = &shapes[s];
        size_t places =
                   (size_t)(c->height + 2 * c->padding - c->kernel + 1) * (c->width + 2 * c->padding - c->kernel + 1),
               outs = c->batch * c->filters * places;
        struct array x = flow_new((size_t)c->batch * c->channels * c->height * c->width), dx = flow_new(x.n);
        struct array w = flow_new((size_t)c->filters * c->channels * c->kernel * c->kernel), dw = array_new(w.n);
        struct array bias = array_new(c->filters), dbias = array_new(c->filters), y = flow_new(outs),
                     dy = flow_new(outs), again = array_new(w.n);
        ops->conv_forward(stream, c, x.flow, w.flow, bias.device, y.flow);
        ops->conv_backward(stream, c, x.flow, w.flow, dy.flow, dx.flow, dw.device, dbias.device);
        ops->conv_backward(stream, c, x.flow, w.flow, dy.flow, NULL, again.device, NULL);
        double *wy = zeros(outs), *wdx = zeros(x.n), *wdw = zeros(w.n), *wdw2 = zeros(w.n), *wdb = zeros(c->filters);
        for (size_t i = 0; i < outs; i++) {
            wy[i] = (double)bias.host[i / places % c->filters];
            wdb[i / places % c->filters] += (double)dy.host[i];
        }
        conv_reference(c, x.host, w.host, dy.host, wy, wdx, wdw);
        memcpy(wdw2, wdw, w.n * sizeof *wdw);
        expect("conv", &y, wy, 1e-5);
        expect("conv dx", &dx, wdx, 1e-5);
        expect("conv dweight", &dw, wdw, 1e-5);
        expect("conv dweight alone", &again, wdw2, 1e-5);
        expect("conv dbias", &dbias, wdb, 1e-5);
        array_free(&x), array_free(&dx), array_free(&w), array_free(&dw), array_free(&bias), array_free(&dbias);
        array_free(&y), array_free(&dy), array_free(&again);
    }
    close_device();
}
END_TEST

static void check_pool(const struct device_pool *p) {
    size_t oh = p->height / p->window, ow = p->width / p->window, outs = p->planes * oh * ow;
    struct array x = flow_new((size_t)p->planes * p->height * p->width), dx = flow_new(x.n);
    for (size_t i = 0; i < x.n; i++)
        x.host[i] = (float)random_below(&source, 5) - 2; /* few values, so that windows have ties */
    array_upload(&x);
    struct array y = flow_new(outs), dy = flow_new(outs);
    uint8_t *which = ops->alloc(device, outs);
    ops->pool_forward(stream, p, x.flow, y.flow, which);
    ops->pool_backward(stream, p, which, dy.flow, dx.flow);
    double *wy = zeros(outs), *wdx = zeros(x.n);
    for (size_t out = 0; out < outs; out++) {
        size_t plane = out / ow / oh, row = out / ow % oh, column = out % ow, best = SIZE_MAX;
        for (size_t k = 0; k < (size_t)p->window * p->window; k++) {
            size_t at =
                (plane * p->height + row * p->window + k / p->window) * p->width + column * p->window + k % p->window;
            if (best == SIZE_MAX || x.host[at] > x.host[best])
                best = at;
        }
        wy[out] = (double)x.host[best];
        wdx[best] += (double)dy.host[out];
    }
    expect("pool", &y, wy, 0);
    expect("pool dx", &dx, wdx, 0);
    ops->free(device, which);
    array_free(&x), array_free(&dx), array_free(&y), array_free(&dy);
}

START_TEST(pool) {
    open_device(_i);
    static const struct device_pool shapes[] = {{0, 4, 4, 2},  {1, 1, 1, 1},   {3, 1, 1, 2},    {5, 7, 9, 2},
                                                {2, 9, 31, 3}, {4, 24, 24, 2}, {33, 31, 33, 2}, {1, 40, 35, 15}};
    for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++)
        check_pool(&shapes[s]);
    close_device();
}
END_TEST

START_TEST(sparse) {
    open_device(_i);
    static const uint32_t shapes[][3] = {{0, 10, 2}, {1, 1, 1}, {31, 33, 3}, {1023, 126, 2}, {33, 1023, 31}};
    for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++) {
        uint32_t rows = shapes[s][0], features = shapes[s][1], outputs = shapes[s][2], entries = 0;
        uint32_t *starts = calloc(rows + 1u, sizeof *starts), *columns = calloc(rows * 9u + 1u, sizeof *columns);
        for (uint32_t r = 0; r < rows; r++) { /* 0..8 entries a row, columns may repeat */
            uint32_t count = (uint32_t)random_below(&source, 9);
            while (count-- > 0)
                columns[entries++] = (uint32_t)random_below(&source, features);
            starts[r + 1] = entries;
        }
        struct array values = array_new(entries), w = array_new((size_t)features * outputs), dw = array_new(w.n);
        struct array y = flow_new((size_t)rows * outputs), dy = flow_new(y.n);
        uint32_t *device_starts = upload_new((rows + 1) * sizeof *starts, starts);
        uint32_t *device_columns = upload_new(entries * sizeof *columns, columns);
        struct device_sparse x = {rows, features, device_starts, device_columns, values.device};
        ops->sparse_forward(stream, &x, outputs, w.device, y.flow);
        ops->sparse_backward(stream, &x, outputs, dy.flow, dw.device);
        double *wy = zeros(y.n), *wdw = zeros(w.n);
        for (size_t r = 0; r < rows; r++)
            for (size_t e = starts[r]; e < starts[r + 1]; e++)
                for (size_t o = 0; o < outputs; o++) {
                    wy[r * outputs + o] += (double)values.host[e] * (double)w.host[columns[e] * outputs + o];
                    wdw[columns[e] * outputs + o] += (double)values.host[e] * (double)dy.host[r * outputs + o];
                }
        expect("sparse", &y, wy, 1e-5);
        expect("sparse dweight", &dw, wdw, 1e-5);
        free(starts), free(columns), ops->free(device, device_starts), ops->free(device, device_columns);
        array_free(&values), array_free(&w), array_free(&dw), array_free(&y), array_free(&dy);
    }
    close_device();
}
END_TEST

/* The same bits as common/updaters, whose updater is the one that shards apply. */
START_TEST(adamw_is_the_updaters) {
    open_device(_i);
    const struct updater *updater;
    ck_assert_int_eq(updater_find("adamw", &updater, NULL), LG_OK);
    const double values[] = {0.9, 0.95, 1e-8};
    struct device_adamw rule = {.rate = 3e-3f, .weight_decay = 0.1f, .beta1 = 0.9, .beta2 = 0.95, .epsilon = 1e-8};
    for (int s = 0; s < SIZES; s++) {
        size_t n = sizes[s];
        struct array w = array_new(n), m = array_new(n), v = array_new(n);
        ops->zero(stream, n * sizeof(float), m.device);
        ops->zero(stream, n * sizeof(float), v.device);
        memset(m.host, 0, n * sizeof(float));
        memset(v.host, 0, n * sizeof(float));
        for (rule.step = 1; rule.step <= 3; rule.step++) {
            struct array g = array_new(n);
            float scalars[UPDATER_SCALARS_MAX];
            const struct updater_moment moment = {rule.rate, 1, rule.weight_decay, rule.step};
            updater->decide(values, &moment, scalars);
            updater->apply[ISA_BASE](w.host, (float *const[]){m.host, v.host}, g.host, n, scalars);
            ops->adamw(stream, n, &rule, g.device, w.device, m.device, v.device);
            float *now = array_read(&w), *first = array_read(&m), *second = array_read(&v);
            ck_assert(memcmp(first, m.host, n * sizeof(float)) == 0);
            ck_assert(memcmp(second, v.host, n * sizeof(float)) == 0);
            ck_assert(memcmp(now, w.host, n * sizeof(float)) == 0);
            free(now), free(first), free(second);
            array_free(&g);
        }
        array_free(&w), array_free(&m), array_free(&v);
    }
    close_device();
}
END_TEST

START_TEST(events_order_streams) {
    open_device(_i);
    struct device_stream *other = ops->stream_open(device);
    struct device_event *event = ops->event_open(device);
    ck_assert_ptr_nonnull(other);
    ck_assert_ptr_nonnull(event);
    struct array a = array_new(1023), b = array_new(1023);
    ops->fill(stream, a.n, 3, a.device);
    ops->event_record(stream, event);
    ops->event_wait(other, event);
    ops->copy(other, a.n * sizeof(float), a.device, b.device);
    ck_assert_int_eq(ops->event_synchronize(event, NULL), LG_OK);
    ck_assert_int_eq(ops->synchronize(other, NULL), LG_OK);
    float *now = array_read(&b);
    for (size_t i = 0; i < b.n; i++)
        ck_assert(now[i] == 3);
    free(now);
    ops->event_close(event);
    ops->stream_close(other);
    array_free(&a), array_free(&b);
    close_device();
}
END_TEST

START_TEST(events_tell_the_time) {
    open_device(_i);
    uint64_t ns = 1;
    struct device_stream *other = ops->stream_open(device);
    struct device_event *from = ops->event_open_timed(device), *to = ops->event_open_timed(device);
    struct array a = array_new(1 << 20), b = array_new(1 << 20);
    ck_assert(other && from && to);
    ops->event_record(stream, from);
    for (int i = 0; i < 20; i++)
        ops->copy(stream, a.n * sizeof(float), a.device, b.device);
    ops->event_record(stream, to);
    ck_assert_int_eq(ops->event_synchronize(to, NULL), LG_OK);
    ck_assert_int_eq(ops->event_elapsed(from, to, &ns, NULL), LG_OK);
    ck_assert_uint_gt(ns, 20 * 1000); /* 160 MB in and out in 20 us would be 8 TB/s */
    ck_assert_uint_lt(ns, UINT64_C(60000000000));
    ck_assert_int_eq(ops->event_elapsed(to, from, &ns, NULL), LG_OK);
    ck_assert_uint_eq(ns, 0);
    ops->event_wait(other, to); /* across streams */
    ops->event_record(other, from);
    ck_assert_int_eq(ops->event_synchronize(from, NULL), LG_OK);
    ck_assert_int_eq(ops->event_elapsed(to, from, &ns, NULL), LG_OK);
    ck_assert_uint_lt(ns, UINT64_C(60000000000));
    ops->event_close(from);
    ops->event_close(to);
    ops->stream_close(other);
    array_free(&a), array_free(&b);
    close_device();
}
END_TEST

START_TEST(another_device_is_opened_and_disturbs_nothing) {
    struct device *other = NULL;
    open_device(_i);
    ck_assert_int_eq(device_open(devices[0].spec, devices[0].threads, &other, NULL), LG_OK);
    struct array a = array_new(33);
    ops->fill(stream, a.n, 3, a.device);
    float *now = array_read(&a);
    for (size_t i = 0; i < a.n; i++)
        ck_assert(now[i] == 3);
    free(now);
    array_free(&a);
    device_close(other);
    close_device();
}
END_TEST

START_TEST(memory_in_use_is_known) {
    enum { BYTES = 64 << 20 };
    open_device(_i);
    uint64_t before = ops->memory_used(device);
    unsigned char *memory = ops->alloc(device, BYTES);
    ck_assert_ptr_nonnull(memory);
    ops->zero(stream, BYTES, memory); /* the kernel counts pages that were touched */
    ck_assert_int_eq(ops->synchronize(stream, NULL), LG_OK);
    ck_assert_uint_ge(ops->memory_used(device), before + BYTES * 9 / 10);
    ops->free(device, memory);
    if (!device->host_memory) /* a process may keep what it has freed */
        ck_assert_uint_eq(ops->memory_used(device), before);
    close_device();
}
END_TEST

int main(void) {
    Suite *suite = suite_create("device ops");
    TCase *tests = tcase_create("every device");
    tcase_set_timeout(tests, 120);
    for (int d = 0; d < DEVICES; d++) {
        if (!test_device_is_there(&devices[d]))
            continue;
        tcase_add_loop_test(tests, vectors, d, d + 1);
        tcase_add_loop_test(tests, biases, d, d + 1);
        tcase_add_loop_test(tests, matmul, d, d + 1);
        tcase_add_loop_test(tests, host_memory_may_be_registered, d, d + 1);
        tcase_add_loop_test(tests, gemm_ignores_what_beta_zero_overwrites, d, d + 1);
        tcase_add_loop_test(tests, activations, d, d + 1);
        tcase_add_loop_test(tests, activations_with_bias, d, d + 1);
        tcase_add_loop_test(tests, softmax, d, d + 1);
        tcase_add_loop_test(tests, softmax_counts_ties_and_survives_extremes, d, d + 1);
        tcase_add_loop_test(tests, norm, d, d + 1);
        tcase_add_loop_test(tests, attention, d, d + 1);
        tcase_add_loop_test(tests, embedding, d, d + 1);
        tcase_add_loop_test(tests, conv, d, d + 1);
        tcase_add_loop_test(tests, pool, d, d + 1);
        tcase_add_loop_test(tests, sparse, d, d + 1);
        tcase_add_loop_test(tests, adamw_is_the_updaters, d, d + 1);
        tcase_add_loop_test(tests, events_order_streams, d, d + 1);
        tcase_add_loop_test(tests, events_tell_the_time, d, d + 1);
        tcase_add_loop_test(tests, another_device_is_opened_and_disturbs_nothing, d, d + 1);
        tcase_add_loop_test(tests, memory_in_use_is_known, d, d + 1);
    }
    for (int r = 0; r < ROUNDING; r++)
        if (test_device_is_there(&rounding[r]))
            tcase_add_loop_test(tests, products_of_rounded_inputs, r, r + 1);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
