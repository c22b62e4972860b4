/* ReLU and GELU. */
#include "gpu/cpu/cpu.h"

enum { RELU_GRAIN = 32768, GELU_GRAIN = 4096 };

struct activation_op {
    const float *x, *dy;
    float *y;
    size_t columns;
    const float *bias;
    float *sum; /* x, where it is written too */
};

CPU_BODY relu_body(size_t n, const float *x, float *y) {
    for (size_t i = 0; i < n; i++)
        y[i] = x[i] > 0 ? x[i] : 0;
}
CPU_VARIANTS(relu, (size_t n, const float *x, float *y), (n, x, y))

CPU_BODY relu_gradient_body(size_t n, const float *y, const float *dy, float *dx) {
    for (size_t i = 0; i < n; i++)
        dx[i] = y[i] > 0 ? dy[i] : 0;
}
CPU_VARIANTS(relu_gradient, (size_t n, const float *y, const float *dy, float *dx), (n, y, dy, dx))

/* 1 / (1 + e^-2u) with u = sqrt(2/pi) (x + 0.044715 x^3), so that GELU(x) = x * gate(x): tanh u = 2 sigmoid(2u) - 1. */
CPU_INLINE void gate(const cpu_lanes *x_, cpu_lanes *s) {
    cpu_lanes x = *x_;
    *s = -1.59576912f * (x + 0.044715f * x * x * x);
    cpu_exp(s);
    *s = 1.0f / (1.0f + *s);
}

CPU_BODY gelu_body(size_t n, const float *x, float *y) {
    for (size_t i = 0; i < n; i += CPU_LANES) {
        size_t count = n - i < CPU_LANES ? n - i : CPU_LANES;
        cpu_lanes a = {0}, s;
        if (count == CPU_LANES)
            a = CPU_LOAD(x + i);
        else
            memcpy(&a, x + i, count * sizeof *x);
        gate(&a, &s);
        a *= s;
        if (count == CPU_LANES)
            CPU_STORE(y + i, a);
        else
            memcpy(y + i, &a, count * sizeof *y);
    }
}
CPU_VARIANTS(gelu, (size_t n, const float *x, float *y), (n, x, y))

/* d(x s)/dx = s + x s (1 - s) 2u' with 2u' = 2 sqrt(2/pi) (1 + 3 * 0.044715 x^2). */
CPU_BODY gelu_gradient_body(size_t n, const float *x, const float *dy, float *dx) {
    for (size_t i = 0; i < n; i += CPU_LANES) {
        size_t count = n - i < CPU_LANES ? n - i : CPU_LANES;
        cpu_lanes a = {0}, d = {0}, s;
        if (count == CPU_LANES) {
            a = CPU_LOAD(x + i);
            d = CPU_LOAD(dy + i);
        } else {
            memcpy(&a, x + i, count * sizeof *x);
            memcpy(&d, dy + i, count * sizeof *dy);
        }
        gate(&a, &s);
        d *= s + a * s * (1.0f - s) * (1.59576912f * (1.0f + 0.134145f * a * a));
        if (count == CPU_LANES)
            CPU_STORE(dx + i, d);
        else
            memcpy(dx + i, &d, count * sizeof *dx);
    }
}
CPU_VARIANTS(gelu_gradient, (size_t n, const float *x, const float *dy, float *dx), (n, x, dy, dx))

CPU_BODY bias_relu_body(size_t n, const float *bias, const float *x, float *y) {
    for (size_t i = 0; i < n; i++) {
        float sum = x[i] + bias[i];
        y[i] = sum > 0 ? sum : 0;
    }
}
CPU_VARIANTS(bias_relu, (size_t n, const float *bias, const float *x, float *y), (n, bias, x, y))

CPU_BODY bias_sum_body(size_t n, const float *bias, float *x) {
    for (size_t i = 0; i < n; i++)
        x[i] += bias[i];
}
CPU_VARIANTS(bias_sum, (size_t n, const float *bias, float *x), (n, bias, x))

static void relu_range(void *context, size_t first, size_t last, unsigned thread) {
    struct activation_op *a = context;
    (void)thread;
    relu(last - first, a->x + first, a->y + first);
}

static void relu_gradient_range(void *context, size_t first, size_t last, unsigned thread) {
    struct activation_op *a = context;
    (void)thread;
    relu_gradient(last - first, a->x + first, a->dy + first, a->y + first);
}

static void gelu_range(void *context, size_t first, size_t last, unsigned thread) {
    struct activation_op *a = context;
    (void)thread;
    gelu(last - first, a->x + first, a->y + first);
}

static void gelu_gradient_range(void *context, size_t first, size_t last, unsigned thread) {
    struct activation_op *a = context;
    (void)thread;
    gelu_gradient(last - first, a->x + first, a->dy + first, a->y + first);
}

void cpu_relu_forward(struct device_stream *s, size_t n, const struct activation *x, struct activation *y) {
    struct activation_op a = {.x = cpu_in(x), .y = cpu_out(y)};
    cpu_split(cpu_of(s), n, RELU_GRAIN, CPU_LANES, relu_range, &a);
}

void cpu_relu_backward(struct device_stream *s, size_t n, const struct activation *y, const struct activation *dy,
                       struct activation *dx) {
    struct activation_op a = {.x = cpu_in(y), .dy = cpu_in(dy), .y = cpu_out(dx)};
    cpu_split(cpu_of(s), n, RELU_GRAIN, CPU_LANES, relu_gradient_range, &a);
}

void cpu_gelu_forward(struct device_stream *s, size_t n, const struct activation *x, struct activation *y) {
    struct activation_op a = {.x = cpu_in(x), .y = cpu_out(y)};
    cpu_split(cpu_of(s), n, GELU_GRAIN, CPU_LANES, gelu_range, &a);
}

void cpu_gelu_backward(struct device_stream *s, size_t n, const struct activation *x, const struct activation *dy,
                       struct activation *dx) {
    struct activation_op a = {.x = cpu_in(x), .dy = cpu_in(dy), .y = cpu_out(dx)};
    cpu_split(cpu_of(s), n, GELU_GRAIN, CPU_LANES, gelu_gradient_range, &a);
}

/* ---- with the bias. Rows one after the other, so that a row is in the cache from its first use to its last. */

static void bias_relu_rows(void *context, size_t first, size_t last, unsigned thread) {
    struct activation_op *a = context;
    (void)thread;
    for (size_t r = first; r < last; r++)
        bias_relu(a->columns, a->bias, a->x + r * a->columns, a->y + r * a->columns);
}

static void bias_gelu_rows(void *context, size_t first, size_t last, unsigned thread) {
    struct activation_op *a = context;
    (void)thread;
    for (size_t r = first; r < last; r++) {
        float *x = a->sum + r * a->columns;
        bias_sum(a->columns, a->bias, x);
        gelu(a->columns, x, a->y + r * a->columns);
    }
}

void cpu_bias_relu(struct device_stream *s, uint32_t rows, uint32_t columns, const float *bias,
                   const struct activation *x, struct activation *y) {
    struct activation_op a = {.columns = columns, .bias = bias, .x = cpu_in(x), .y = cpu_out(y)};
    if (columns)
        cpu_split(cpu_of(s), rows, 1 + RELU_GRAIN / columns, 1, bias_relu_rows, &a);
}

void cpu_bias_gelu(struct device_stream *s, uint32_t rows, uint32_t columns, const float *bias, struct activation *x,
                   struct activation *y) {
    struct activation_op a = {.columns = columns, .bias = bias, .sum = cpu_out(x), .y = cpu_out(y)};
    if (columns)
        cpu_split(cpu_of(s), rows, 1 + GELU_GRAIN / columns, 1, bias_gelu_rows, &a);
}

/* Two passes: here the sums go down the columns and the rest along the rows. */
void cpu_relu_backward_sums(struct device_stream *s, uint32_t rows, uint32_t columns, const struct activation *y,
                            const struct activation *dy, struct activation *dx, float *sums) {
    cpu_relu_backward(s, (size_t)rows * columns, y, dy, dx);
    cpu_column_sums(s, rows, columns, dx, sums);
}

void cpu_gelu_backward_sums(struct device_stream *s, uint32_t rows, uint32_t columns, const struct activation *x,
                            const struct activation *dy, struct activation *dx, float *sums) {
    cpu_gelu_backward(s, (size_t)rows * columns, x, dy, dx);
    cpu_column_sums(s, rows, columns, dx, sums);
}
