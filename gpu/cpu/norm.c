/* Layer normalisation. */
#include "gpu/cpu/cpu.h"

enum { GRAIN = 8192 /* elements */ };

struct norm {
    size_t rows, columns;
    float epsilon;
    const float *x, *gain, *bias, *dy;
    float *y, *mean, *rstd;
    const float *mean_in, *rstd_in;
    float *dx, *dgain, *dbias;
};

CPU_BODY norm_row_body(size_t n, float epsilon, const float *x, const float *gain, const float *bias, float *y,
                       float *mean_out, float *rstd_out) {
    float mean = cpu_sum(n, x) / (float)n;
    float rstd = 1.0f / sqrtf(cpu_square_distance(n, x, mean) / (float)n + epsilon);
    for (size_t i = 0; i < n; i++)
        y[i] = (x[i] - mean) * rstd * gain[i] + bias[i];
    *mean_out = mean;
    *rstd_out = rstd;
}
CPU_VARIANTS(norm_row,
             (size_t n, float epsilon, const float *x, const float *gain, const float *bias, float *y, float *mean_out,
              float *rstd_out),
             (n, epsilon, x, gain, bias, y, mean_out, rstd_out))

/* With h = (x - mean) rstd and g = gain dy: dx = rstd (g - mean(g) - h mean(g h)). `g` and `h` are scratch [n]. */
CPU_BODY norm_row_gradient_body(size_t n, const float *x, const float *gain, float mean, float rstd, const float *dy,
                                float *g, float *h, float *dx, float *dgain, float *dbias) {
    for (size_t i = 0; i < n; i++) {
        g[i] = gain[i] * dy[i];
        h[i] = (x[i] - mean) * rstd;
        dgain[i] += dy[i] * h[i];
        dbias[i] += dy[i];
    }
    float g_mean = cpu_sum(n, g) / (float)n, gh_mean = cpu_dot(n, g, h) / (float)n;
    for (size_t i = 0; i < n; i++)
        dx[i] += rstd * (g[i] - g_mean - h[i] * gh_mean);
}
CPU_VARIANTS(norm_row_gradient,
             (size_t n, const float *x, const float *gain, float mean, float rstd, const float *dy, float *restrict g,
              float *restrict h, float *restrict dx, float *restrict dgain, float *restrict dbias),
             (n, x, gain, mean, rstd, dy, g, h, dx, dgain, dbias))

static void norm_rows(void *context, size_t first, size_t last, unsigned thread) {
    struct norm *m = context;
    (void)thread;
    for (size_t r = first; r < last; r++)
        norm_row(m->columns, m->epsilon, m->x + r * m->columns, m->gain, m->bias, m->y + r * m->columns, &m->mean[r],
                 &m->rstd[r]);
}

void cpu_norm_forward(struct device_stream *s, uint32_t rows, uint32_t columns, float epsilon,
                      const struct activation *x, const float *gain, const float *bias, struct activation *y,
                      float *mean, float *rstd) {
    struct norm m = {.rows = rows,
                     .columns = columns,
                     .epsilon = epsilon,
                     .x = cpu_in(x),
                     .gain = gain,
                     .bias = bias,
                     .y = cpu_out(y),
                     .mean = mean,
                     .rstd = rstd};
    if (columns)
        cpu_split(cpu_of(s), rows, 1 + GRAIN / columns, 1, norm_rows, &m);
}

/* Each thread sums the gradients of gain and bias over its rows into its scratch: [4][columns] = g, h, dgain, dbias. */
struct norm_backward {
    struct cpu_device *device;
    struct norm norm;
    float *partial[CPU_THREADS_MAX];
};

static void norm_gradient_rows(void *context, size_t first, size_t last, unsigned thread) {
    struct norm_backward *b = context;
    struct norm *m = &b->norm;
    size_t n = m->columns;
    float *room = cpu_scratch_get(b->device, thread, 4 * n);
    if (!room)
        return;
    b->partial[thread] = room + 2 * n;
    memset(room + 2 * n, 0, 2 * n * sizeof *room);
    for (size_t r = first; r < last; r++)
        norm_row_gradient(n, m->x + r * n, m->gain, m->mean_in[r], m->rstd_in[r], m->dy + r * n, room, room + n,
                          m->dx + r * n, room + 2 * n, room + 3 * n);
}

void cpu_norm_backward(struct device_stream *s, uint32_t rows, uint32_t columns, const struct activation *x,
                       const float *gain, const float *mean, const float *rstd, const struct activation *dy,
                       struct activation *dx, float *dgain, float *dbias) {
    struct norm_backward b = {.device = cpu_of(s),
                              .norm = {.rows = rows,
                                       .columns = columns,
                                       .x = cpu_in(x),
                                       .gain = gain,
                                       .mean_in = mean,
                                       .rstd_in = rstd,
                                       .dy = cpu_in(dy),
                                       .dx = cpu_out(dx)}};
    if (columns == 0)
        return;
    cpu_split(b.device, rows, 1 + GRAIN / columns, 1, norm_gradient_rows, &b);
    memset(dgain, 0, columns * sizeof *dgain);
    memset(dbias, 0, columns * sizeof *dbias);
    for (unsigned t = 0; t < s->device->threads; t++) {
        for (size_t i = 0; b.partial[t] && i < columns; i++) {
            dgain[i] += b.partial[t][i];
            dbias[i] += b.partial[t][columns + i];
        }
    }
}
