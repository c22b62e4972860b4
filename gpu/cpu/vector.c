/* Element by element: fills, sums, scaling; biases. */
#include "gpu/cpu/cpu.h"

enum { GRAIN = 32768 /* elements a thread should get at least: about 10 us */ };

struct vector {
    float a;
    const float *x, *z;
    float *y;
};

CPU_BODY fill_body(size_t n, float a, float *y) {
    for (size_t i = 0; i < n; i++)
        y[i] = a;
}
CPU_VARIANTS(fill, (size_t n, float a, float *y), (n, a, y))

CPU_BODY scale_body(size_t n, float a, float *y) {
    for (size_t i = 0; i < n; i++)
        y[i] *= a;
}
CPU_VARIANTS(scale, (size_t n, float a, float *y), (n, a, y))

CPU_BODY axpy_body(size_t n, float a, const float *x, float *y) {
    for (size_t i = 0; i < n; i++)
        y[i] += a * x[i];
}
CPU_VARIANTS(axpy, (size_t n, float a, const float *x, float *y), (n, a, x, y))

CPU_BODY add_body(size_t n, const float *x, const float *z, float *y) {
    for (size_t i = 0; i < n; i++)
        y[i] = x[i] + z[i];
}
CPU_VARIANTS(add, (size_t n, const float *x, const float *z, float *y), (n, x, z, y))

CPU_BODY add3_body(size_t n, const float *bias, const float *x, const float *z, float *y) {
    for (size_t i = 0; i < n; i++)
        y[i] = (x[i] + bias[i]) + z[i];
}
CPU_VARIANTS(add3, (size_t n, const float *bias, const float *x, const float *z, float *y), (n, bias, x, z, y))

static void fill_range(void *context, size_t first, size_t last, unsigned thread) {
    struct vector *v = context;
    (void)thread;
    fill(last - first, v->a, v->y + first);
}

static void scale_range(void *context, size_t first, size_t last, unsigned thread) {
    struct vector *v = context;
    (void)thread;
    scale(last - first, v->a, v->y + first);
}

static void axpy_range(void *context, size_t first, size_t last, unsigned thread) {
    struct vector *v = context;
    (void)thread;
    axpy(last - first, v->a, v->x + first, v->y + first);
}

static void add_range(void *context, size_t first, size_t last, unsigned thread) {
    struct vector *v = context;
    (void)thread;
    add(last - first, v->x + first, v->z + first, v->y + first);
}

void cpu_zero(struct device_stream *s, size_t bytes, void *memory) {
    (void)s;
    if (bytes)
        memset(memory, 0, bytes);
}

static void copy_range(void *context, size_t first, size_t last, unsigned thread) {
    struct vector *v = context;
    (void)thread;
    memcpy(v->y + first, v->x + first, (last - first) * sizeof *v->y);
}

void cpu_narrow(struct device_stream *s, size_t n, const float *x, struct activation *y) {
    struct vector v = {.x = x, .y = cpu_out(y)};
    cpu_split(cpu_of(s), n, GRAIN, CPU_LANES, copy_range, &v);
}

void cpu_widen(struct device_stream *s, size_t n, const struct activation *x, float *y) {
    struct vector v = {.x = cpu_in(x), .y = y};
    cpu_split(cpu_of(s), n, GRAIN, CPU_LANES, copy_range, &v);
}

void cpu_fill(struct device_stream *s, size_t n, float value, float *x) {
    struct vector v = {.a = value, .y = x};
    cpu_split(cpu_of(s), n, GRAIN, CPU_LANES, fill_range, &v);
}

void cpu_scale(struct device_stream *s, size_t n, float a, float *x) {
    struct vector v = {.a = a, .y = x};
    cpu_split(cpu_of(s), n, GRAIN, CPU_LANES, scale_range, &v);
}

void cpu_axpy(struct device_stream *s, size_t n, float a, const float *x, float *y) {
    struct vector v = {.a = a, .x = x, .y = y};
    cpu_split(cpu_of(s), n, GRAIN, CPU_LANES, axpy_range, &v);
}

void cpu_add(struct device_stream *s, size_t n, const struct activation *a, const struct activation *b,
             struct activation *y) {
    struct vector v = {.x = cpu_in(a), .z = cpu_in(b), .y = cpu_out(y)};
    cpu_split(cpu_of(s), n, GRAIN, CPU_LANES, add_range, &v);
}

struct bias {
    size_t rows, columns;
    const float *in; /* bias_add, bias_residual: the bias; column_sums: what is summed up */
    float *out;
    const float *x, *residual;
};

static void bias_add_rows(void *context, size_t first, size_t last, unsigned thread) {
    struct bias *b = context;
    (void)thread;
    for (size_t r = first; r < last; r++)
        add(b->columns, b->out + r * b->columns, b->in, b->out + r * b->columns);
}

static void bias_residual_rows(void *context, size_t first, size_t last, unsigned thread) {
    struct bias *b = context;
    (void)thread;
    for (size_t r = first; r < last; r++)
        add3(b->columns, b->in, b->x + r * b->columns, b->residual + r * b->columns, b->out + r * b->columns);
}

void cpu_bias_add(struct device_stream *s, uint32_t rows, uint32_t columns, const float *bias, struct activation *x) {
    struct bias b = {.rows = rows, .columns = columns, .in = bias, .out = cpu_out(x)};
    if (columns)
        cpu_split(cpu_of(s), rows, 1 + GRAIN / columns, 1, bias_add_rows, &b);
}

void cpu_bias_residual(struct device_stream *s, uint32_t rows, uint32_t columns, const float *bias,
                       const struct activation *x, const struct activation *residual, struct activation *y) {
    struct bias b = {rows, columns, bias, cpu_out(y), cpu_in(x), cpu_in(residual)};
    if (columns)
        cpu_split(cpu_of(s), rows, 1 + GRAIN / columns, 1, bias_residual_rows, &b);
}

static void column_sums_range(void *context, size_t first, size_t last, unsigned thread) {
    struct bias *b = context;
    (void)thread;
    fill(last - first, 0, b->out + first);
    for (size_t r = 0; r < b->rows; r++)
        add(last - first, b->in + r * b->columns + first, b->out + first, b->out + first);
}

void cpu_column_sums(struct device_stream *s, uint32_t rows, uint32_t columns, const struct activation *x,
                     float *sums) {
    struct bias b = {.rows = rows, .columns = columns, .in = cpu_in(x), .out = sums};
    cpu_split(cpu_of(s), columns, 1 + GRAIN / (rows ? rows : 1), 16, column_sums_range, &b);
}
