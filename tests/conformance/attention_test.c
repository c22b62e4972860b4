/* Attention of every device in every arithmetic against loops in double, forward and backward, within bounds that
 * follow from what is rounded where.
 *
 * Inputs are numbers of bf16, so that they are the same for all. u is half a unit in the last place of bf16, 2^-8,
 * where products are of bf16, and 0 where they are not; O the same for what is stored; eps = 2^-22 stands for one
 * operation in f32, with room for tensor cores that cut off instead of rounding; n is the length of the sum at hand. Of
 * a head, with row i and column j:
 *
 * - scores s = scale q k: wrong by at most D(i) = max over j of (width + 8) eps scale sum |q k|, and by L(i) = 8 eps
 *   max |s| for what follows (log2(e), the maximum, 2^x, the saved sum); so p is relatively wrong by r = 2 (D + L);
 * - out, the sum of p v over the sum of p: p is rounded for the product, not for its sum, (u + r + n eps) sum p |v|;
 * - dv: the same with dout in the place of v;
 * - dp: n eps sum |dout v|;
 * - inner, the sum of dout out: E(i) = sum |dout| (error of out) + n eps sum |dout out|;
 * - ds = p (dp - inner): r |ds| + p (error of dp + E), and rounded for the products, u |ds|;
 * - dq and dk: scale sum |k| (error of ds) + n eps scale sum |ds k|, and for dk with q.
 *
 * Results stored in a narrower type have O times themselves on top. */
#include "gpu/device.h"

#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/random.h"
#include "tests/support/devices.h"

/* GPUs are tested where there are any; tests/gpu/emulated_attention_test.c names emulated ones in their place. */
#ifndef DEVICES_TESTED
#define DEVICES_TESTED                                                                                                 \
    {"cpu", 1}, {"cuda:0", 1}, {"cuda:0/tf32", 1}, {                                                                   \
        "cuda:0/bf16", 1                                                                                               \
    }
#endif
static const struct test_device devices[] = {DEVICES_TESTED};
enum { DEVICES = sizeof devices / sizeof *devices };

static const double eps = 0x1p-22, least = 1e-30;

static struct device *device;
static const struct device_ops *ops;
static struct device_stream *stream;
static struct random source;
static double narrow; /* u */
static double stored; /* O */

static void open_device(int number) {
    struct lg_error error = {0};
    ck_assert_msg(device_open(devices[number].spec, 1, &device, &error) == LG_OK, "%s", error.message);
    ops = device->ops;
    stream = ops->stream_open(device);
    ck_assert_ptr_nonnull(stream);
    random_init(&source, 20240301);
    narrow = strstr(devices[number].spec, "bf16") ? 0x1p-8 : 0;
    stored = device->activation_bytes == 2 ? 0x1p-8 : 0;
}

static void close_device(void) {
    struct lg_error error = {0};
    ck_assert_msg(ops->synchronize(stream, &error) == LG_OK, "%s", error.message);
    ops->stream_close(stream);
    device_close(device);
}

static void *zeros(size_t n, size_t bytes) {
    void *x = calloc(n + 1, bytes);
    ck_assert_ptr_nonnull(x);
    return x;
}

/* The number of bf16 towards zero. */
static float cut(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    bits &= 0xffff0000u;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* ---- what is expected */

struct expected {
    double *value, *bound;
};

static struct expected expected_new(size_t n) {
    return (struct expected){zeros(n, sizeof(double)), zeros(n, sizeof(double))};
}

static void expected_add(struct expected *e, size_t at, double value, double bound) {
    e->value[at] += value;
    e->bound[at] += bound;
}

/* Frees it. */
static void expect(const char *what, const struct device_attention *a, const float *now, size_t n, struct expected e) {
    for (size_t i = 0; i < n; i++) {
        double bound = e.bound[i] + stored * (fabs(e.value[i]) + e.bound[i]) + least;
        if (!(fabs((double)now[i] - e.value[i]) <= bound)) /* an assertion each would be a system call each */
            ck_abort_msg("%s[%zu] of %ux%ux%ux%u: %.9g, expected %.9g within %.3g", what, i, a->batch, a->time,
                         a->heads, a->width, (double)now[i], e.value[i], bound);
    }
    free(e.value), free(e.bound);
}

/* One row of one head: q at qkv[i * stride], k and v `all` and 2 all behind. */
struct row {
    double *p, *dp, *dp_bound; /* [time] */
    double wrong;              /* r */
    double sum;                /* log(sum of e^s) */
    double inner_bound;        /* E */
};

struct head {
    const struct device_attention *shape;
    size_t all, stride;
    const float *qkv, *dout;
    double scale;
};

static double product(size_t n, const float *a, const float *b, double *magnitude) {
    double sum = 0;
    *magnitude = 0;
    for (size_t d = 0; d < n; d++) {
        sum += (double)a[d] * (double)b[d];
        *magnitude += fabs((double)a[d] * (double)b[d]);
    }
    return sum;
}

static void row_scores(const struct head *h, size_t i, struct row *r) {
    double wrong = 0, largest = 0, top = -INFINITY, total = 0, magnitude;
    size_t width = h->shape->width;
    for (size_t j = 0; j <= i; j++) {
        r->p[j] = h->scale * product(width, h->qkv + i * h->stride, h->qkv + j * h->stride + h->all, &magnitude);
        wrong = fmax(wrong, (double)(width + 8) * eps * h->scale * magnitude);
        largest = fmax(largest, fabs(r->p[j]));
        top = fmax(top, r->p[j]);
    }
    for (size_t j = 0; j <= i; j++)
        total += r->p[j] = exp(r->p[j] - top);
    for (size_t j = 0; j <= i; j++)
        r->p[j] /= total;
    r->sum = top + log(total);
    r->wrong = 2 * (wrong + 8 * eps * (largest + 1));
}

/* out of a row, and with it what backward needs: dp and the error of inner. */
static void row_out(const struct head *h, size_t i, struct row *r, double *out, double *bound) {
    size_t width = h->shape->width;
    double relative = narrow + r->wrong + (double)(i + 8) * eps, magnitude;
    r->inner_bound = 0;
    for (size_t d = 0; d < width; d++) {
        out[d] = bound[d] = 0;
        for (size_t j = 0; j <= i; j++) {
            double term = r->p[j] * (double)h->qkv[j * h->stride + 2 * h->all + d];
            out[d] += term;
            bound[d] += relative * fabs(term);
        }
        double much = fabs((double)h->dout[i * h->all + d]);
        r->inner_bound += much * (bound[d] + stored * (fabs(out[d]) + bound[d]) +
                                  (double)(width + 8) * eps * (fabs(out[d]) + bound[d]));
    }
    for (size_t j = 0; j <= i; j++) {
        r->dp[j] = product(width, h->dout + i * h->all, h->qkv + j * h->stride + 2 * h->all, &magnitude);
        r->dp_bound[j] = (double)(width + 8) * eps * magnitude;
    }
}

static void row_gradients(const struct head *h, size_t i, const struct row *r, double inner, struct expected *dqkv,
                          size_t at) {
    double many = (double)(h->shape->time + 8) * eps;
    for (size_t j = 0; j <= i; j++) {
        double p = r->p[j], ds = h->scale * p * (r->dp[j] - inner);
        double wrong = (r->wrong + narrow + many) * fabs(ds) +
                       (1 + r->wrong + narrow) * h->scale * p * (r->dp_bound[j] + r->inner_bound);
        size_t q = i * h->stride, k = j * h->stride + h->all, v = k + h->all;
        for (size_t d = 0; d < h->shape->width; d++) {
            double term = p * (double)h->dout[i * h->all + d];
            expected_add(dqkv, at + v + d, term, (narrow + r->wrong + many) * fabs(term));
            expected_add(dqkv, at + q + d, ds * (double)h->qkv[k + d], wrong * fabs((double)h->qkv[k + d]));
            expected_add(dqkv, at + k + d, ds * (double)h->qkv[q + d], wrong * fabs((double)h->qkv[q + d]));
        }
    }
}

/* out [time] rows of `all`, from out_at; dqkv likewise; saved [time]. */
static void head_reference(const struct head *h, struct expected *out, size_t out_at, struct expected *dqkv,
                           size_t dqkv_at, struct expected *saved, size_t saved_at) {
    size_t time = h->shape->time;
    struct row r = {zeros(time, sizeof(double)), zeros(time, sizeof(double)), zeros(time, sizeof(double)), 0, 0, 0};
    for (size_t i = 0; i < time; i++) {
        double inner = 0;
        row_scores(h, i, &r);
        row_out(h, i, &r, out->value + out_at + i * h->all, out->bound + out_at + i * h->all);
        for (size_t j = 0; j <= i; j++)
            inner += r.p[j] * r.dp[j];
        row_gradients(h, i, &r, inner, dqkv, dqkv_at);
        expected_add(saved, saved_at + i, r.sum, r.wrong + (double)(i + 8) * eps);
    }
    free(r.p), free(r.dp), free(r.dp_bound);
}

/* ---- running it */

/* In the device's own type; `x` is of bf16's numbers, or NaN. */
static struct activation *upload(size_t n, const float *x) {
    void *floats = ops->alloc(device, n * sizeof *x), *memory = ops->alloc(device, n * sizeof *x);
    ck_assert_ptr_nonnull(floats);
    ck_assert_ptr_nonnull(memory);
    ops->upload(stream, n * sizeof *x, x, floats);
    ops->narrow(stream, n, floats, memory);
    ck_assert_int_eq(ops->synchronize(stream, NULL), LG_OK);
    ops->free(device, floats);
    return memory;
}

static float *download(size_t n, const float *memory) {
    float *x = zeros(n, sizeof *x);
    ops->download(stream, n * sizeof *x, memory, x);
    ck_assert_int_eq(ops->synchronize(stream, NULL), LG_OK);
    return x;
}

static float *download_activation(size_t n, const struct activation *x) {
    float *floats = ops->alloc(device, n * sizeof *floats);
    ck_assert_ptr_nonnull(floats);
    ops->widen(stream, n, x, floats);
    float *host = download(n, floats);
    ops->free(device, floats);
    return host;
}

/* Forward and backward of qkv and dout; the caller frees all three. */
static void run(const struct device_attention *a, const float *qkv, const float *dout, float **out, float **saved,
                float **dqkv) {
    size_t n = (size_t)a->batch * a->time * a->heads * a->width;
    float *nothing = zeros(3 * n, sizeof *nothing);
    for (size_t i = 0; i < 3 * n; i++)
        nothing[i] = NAN; /* what is not overwritten shows */
    struct activation *in = upload(3 * n, qkv), *din = upload(3 * n, nothing);
    struct activation *y = upload(n, nothing), *dy = upload(n, dout);
    float *kept = ops->alloc(device, ops->attention_saved(a) * sizeof *kept);
    ops->attention_forward(stream, a, in, y, kept);
    ops->attention_backward(stream, a, in, y, kept, dy, din);
    *out = download_activation(n, y);
    *saved = download((size_t)a->batch * a->heads * a->time, kept);
    *dqkv = download_activation(3 * n, din);
    ops->free(device, in), ops->free(device, din), ops->free(device, y), ops->free(device, dy), ops->free(device, kept);
    free(nothing);
}

static void check(const struct device_attention *a, const float *qkv, const float *dout) {
    size_t all = (size_t)a->heads * a->width, rows = (size_t)a->batch * a->time;
    float *out, *saved, *dqkv;
    run(a, qkv, dout, &out, &saved, &dqkv);
    struct expected want = expected_new(rows * all), gradient = expected_new(rows * 3 * all);
    struct expected sums = expected_new(rows * a->heads);
    for (size_t b = 0; b < a->batch; b++)
        for (size_t n = 0; n < a->heads; n++) {
            size_t at = b * a->time * all + n * a->width, packed = b * a->time * 3 * all + n * a->width;
            struct head h = {a, all, 3 * all, qkv + packed, dout + at, 1 / sqrt((double)a->width)};
            head_reference(&h, &want, at, &gradient, packed, &sums, (b * a->heads + n) * a->time);
        }
    expect("out", a, out, rows * all, want);
    if (strcmp(ops->kind, "cuda") == 0)
        expect("saved", a, saved, rows * a->heads, sums);
    else
        free(sums.value), free(sums.bound);
    expect("dqkv", a, dqkv, rows * 3 * all, gradient);
    free(out), free(saved), free(dqkv);
}

static float *inputs(size_t n, float factor) {
    float *x = zeros(n, sizeof *x);
    for (size_t i = 0; i < n; i++)
        x[i] = cut(factor * random_normal(&source));
    return x;
}

static void check_random(const struct device_attention *a, float scores) {
    size_t all = (size_t)a->heads * a->width, rows = (size_t)a->batch * a->time;
    float *qkv = inputs(rows * 3 * all, 1), *dout = inputs(rows * all, 1);
    for (size_t r = 0; r < rows; r++)
        for (size_t d = 0; d < all; d++) /* q alone: k's gradient grows with it, v's does not */
            qkv[r * 3 * all + d] = cut(scores * qkv[r * 3 * all + d]);
    check(a, qkv, dout);
    free(qkv), free(dout);
}

START_TEST(every_width_and_length) {
    open_device(_i);
    static const uint32_t widths[] = {1, 8, 16, 31, 32, 33, 64, 96, 128}, times[] = {1, 31, 33, 64, 65, 200};
    for (size_t w = 0; w < sizeof widths / sizeof *widths; w++)
        for (size_t t = 0; t < sizeof times / sizeof *times; t++) {
            bool large = (size_t)times[t] * widths[w] > 6000;
            struct device_attention a = {1 + (uint32_t)(t + w) % 2, times[t], large ? 1 : 1 + (uint32_t)t % 3,
                                         widths[w]};
            check_random(&a, 1);
        }
    close_device();
}
END_TEST

START_TEST(nothing_and_wide_heads) {
    open_device(_i);
    static const struct device_attention shapes[] = {{0, 4, 2, 8},    {2, 0, 2, 8},    {1, 4, 0, 8},
                                                     {3, 130, 1, 12}, {2, 40, 2, 136}, {1, 33, 1, 256}};
    for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++)
        check_random(&shapes[s], 1);
    close_device();
}
END_TEST

/* Scores of thousands: e to their power is far beyond f32, and rows are almost one-hot. */
START_TEST(large_scores_do_not_overflow) {
    open_device(_i);
    static const struct device_attention shapes[] = {{1, 70, 2, 16}, {1, 130, 1, 64}, {1, 66, 1, 128}};
    for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++) {
        check_random(&shapes[s], 300);
        check_random(&shapes[s], 3000);
    }
    close_device();
}
END_TEST

/* Every key the same: each row is the average of the values up to its own, and q gets no gradient. */
START_TEST(equal_scores_average) {
    open_device(_i);
    static const struct device_attention shapes[] = {{1, 70, 1, 32}, {2, 150, 1, 64}, {1, 90, 1, 128}};
    for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++) {
        const struct device_attention *a = &shapes[s];
        size_t all = (size_t)a->heads * a->width, rows = (size_t)a->batch * a->time;
        float *qkv = inputs(rows * 3 * all, 1), *dout = inputs(rows * all, 1);
        for (size_t r = 1; r < rows; r++)
            memcpy(qkv + r * 3 * all + all, qkv + all, all * sizeof *qkv);
        check(a, qkv, dout);
        free(qkv), free(dout);
    }
    close_device();
}
END_TEST

/* Forward and the gradients of keys and values have one order of additions. */
START_TEST(results_repeat) {
    open_device(_i);
    const struct device_attention a = {2, 200, 3, 64};
    size_t n = (size_t)a.batch * a.time * a.heads * a.width, all = (size_t)a.heads * a.width;
    float *qkv = inputs(3 * n, 1), *dout = inputs(n, 1), *out[2], *saved[2], *dqkv[2];
    for (int i = 0; i < 2; i++)
        run(&a, qkv, dout, &out[i], &saved[i], &dqkv[i]);
    ck_assert(memcmp(out[0], out[1], n * sizeof **out) == 0);
    ck_assert(memcmp(saved[0], saved[1], n / a.width * sizeof **saved) == 0);
    for (size_t r = 0; r < n / all; r++)
        ck_assert(memcmp(dqkv[0] + r * 3 * all + all, dqkv[1] + r * 3 * all + all, 2 * all * sizeof **dqkv) == 0);
    for (int i = 0; i < 2; i++)
        free(out[i]), free(saved[i]), free(dqkv[i]);
    free(qkv), free(dout);
    close_device();
}
END_TEST

int main(void) {
    Suite *suite = suite_create("attention");
    TCase *tests = tcase_create("every device");
    tcase_set_timeout(tests, 300);
    for (int d = 0; d < DEVICES; d++) {
        if (!test_device_is_there(&devices[d]))
            continue;
        tcase_add_loop_test(tests, every_width_and_length, d, d + 1);
        tcase_add_loop_test(tests, nothing_and_wide_heads, d, d + 1);
        tcase_add_loop_test(tests, large_scores_do_not_overflow, d, d + 1);
        tcase_add_loop_test(tests, equal_scores_average, d, d + 1);
        tcase_add_loop_test(tests, results_repeat, d, d + 1);
    }
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
