/* Max-pooling. */
#include "gpu/cpu/cpu.h"

enum { GRAIN = 16384 /* elements */ };

struct pool {
    struct device_pool shape;
    size_t out_height, out_width;
    const float *x, *dy;
    const uint8_t *which_in;
    float *y, *dx;
    uint8_t *which;
};

typedef int32_t quad_ints __attribute__((vector_size(16), aligned(4), may_alias));
typedef uint8_t quad_bytes __attribute__((vector_size(4), aligned(1), may_alias));
#define QUAD(x) (*(const cpu_quad *)(x))
#define EVEN(a, b) __builtin_shufflevector((a), (b), 0, 2, 4, 6)
#define ODD(a, b) __builtin_shufflevector((a), (b), 1, 3, 5, 7)
#define SELECT(mask, a, b) (((quad_ints)(a) & (mask)) | ((quad_ints)(b) & ~(mask)))

/* One result row from windows of 2, four at a time: `above` and `below` are the two lines. The first of equal ones
 * wins, so a later one must be larger. */
static void pair_row(size_t n, const float *above, const float *below, float *y, uint8_t *which) {
    size_t i = 0;
    for (; i + 4 <= n; i += 4) {
        cpu_quad a0 = QUAD(above + 2 * i), a1 = QUAD(above + 2 * i + 4);
        cpu_quad b0 = QUAD(below + 2 * i), b1 = QUAD(below + 2 * i + 4);
        cpu_quad a = EVEN(a0, a1), b = ODD(a0, a1), c = EVEN(b0, b1), d = ODD(b0, b1);
        quad_ints right = b > a, lower_right = d > c;
        cpu_quad upper = (cpu_quad)SELECT(right, b, a), lower = (cpu_quad)SELECT(lower_right, d, c);
        quad_ints down = lower > upper; /* masks are -1 where true */
        *(cpu_quad *)(y + i) = (cpu_quad)SELECT(down, lower, upper);
        quad_ints at = SELECT(down, 2 - lower_right, -right);
        *(quad_bytes *)(which + i) = __builtin_convertvector(at, quad_bytes);
    }
    for (; i < n; i++) {
        float a = above[2 * i], b = above[2 * i + 1], c = below[2 * i], d = below[2 * i + 1];
        float upper = b > a ? b : a, lower = d > c ? d : c;
        y[i] = lower > upper ? lower : upper;
        which[i] = (uint8_t)(lower > upper ? 2 + (d > c) : b > a);
    }
}

static void pair_row_gradient(size_t n, const uint8_t *which, const float *dy, float *above, float *below) {
    size_t i = 0;
    for (; i + 4 <= n; i += 4) {
        quad_ints at = __builtin_convertvector(*(const quad_bytes *)(which + i), quad_ints);
        quad_ints d = *(const quad_ints *)(dy + i);
        quad_ints zero = d & (at == 0), one = d & (at == 1), two = d & (at == 2), three = d & (at == 3);
        *(quad_ints *)(above + 2 * i) = __builtin_shufflevector(zero, one, 0, 4, 1, 5);
        *(quad_ints *)(above + 2 * i + 4) = __builtin_shufflevector(zero, one, 2, 6, 3, 7);
        *(quad_ints *)(below + 2 * i) = __builtin_shufflevector(two, three, 0, 4, 1, 5);
        *(quad_ints *)(below + 2 * i + 4) = __builtin_shufflevector(two, three, 2, 6, 3, 7);
    }
    for (; i < n; i++) {
        above[2 * i] = which[i] == 0 ? dy[i] : 0;
        above[2 * i + 1] = which[i] == 1 ? dy[i] : 0;
        below[2 * i] = which[i] == 2 ? dy[i] : 0;
        below[2 * i + 1] = which[i] == 3 ? dy[i] : 0;
    }
}

static void window_row(const struct pool *p, const float *lines, float *y, uint8_t *which) {
    size_t window = p->shape.window, width = p->shape.width;
    for (size_t i = 0; i < p->out_width; i++) {
        const float *corner = lines + i * window;
        float most = corner[0];
        size_t at = 0;
        for (size_t k = 1; k < window * window; k++) {
            float value = corner[k / window * width + k % window];
            if (value > most) {
                most = value;
                at = k;
            }
        }
        y[i] = most;
        which[i] = (uint8_t)at;
    }
}

static void window_row_gradient(const struct pool *p, const uint8_t *which, const float *dy, float *lines) {
    size_t window = p->shape.window, width = p->shape.width;
    for (size_t i = 0; i < p->out_width; i++)
        lines[i * window + which[i] / window * width + which[i] % window] = dy[i];
}

static void pool_planes(void *context, size_t first, size_t last, unsigned thread) {
    struct pool *p = context;
    size_t width = p->shape.width, window = p->shape.window;
    (void)thread;
    for (size_t plane = first; plane < last; plane++) {
        for (size_t row = 0; row < p->out_height; row++) {
            const float *lines = p->x + (plane * p->shape.height + row * window) * width;
            size_t out = (plane * p->out_height + row) * p->out_width;
            if (window == 2)
                pair_row(p->out_width, lines, lines + width, p->y + out, p->which + out);
            else
                window_row(p, lines, p->y + out, p->which + out);
        }
    }
}

static void pool_gradient_planes(void *context, size_t first, size_t last, unsigned thread) {
    struct pool *p = context;
    size_t height = p->shape.height, width = p->shape.width, window = p->shape.window;
    bool whole = window == 2 && height == 2 * p->out_height && width == 2 * p->out_width;
    (void)thread;
    if (!whole)
        memset(p->dx + first * height * width, 0, (last - first) * height * width * sizeof *p->dx);
    for (size_t plane = first; plane < last; plane++) {
        for (size_t row = 0; row < p->out_height; row++) {
            float *lines = p->dx + (plane * height + row * window) * width;
            size_t out = (plane * p->out_height + row) * p->out_width;
            if (window == 2)
                pair_row_gradient(p->out_width, p->which_in + out, p->dy + out, lines, lines + width);
            else
                window_row_gradient(p, p->which_in + out, p->dy + out, lines);
        }
    }
}

static size_t pool_prepare(struct pool *p, const struct device_pool *shape) {
    p->shape = *shape;
    p->out_height = shape->height / shape->window;
    p->out_width = shape->width / shape->window;
    return 1 + GRAIN / (1 + (size_t)shape->height * shape->width);
}

void cpu_pool_forward(struct device_stream *s, const struct device_pool *shape, const struct activation *x,
                      struct activation *y, uint8_t *which) {
    struct pool p = {.x = cpu_in(x), .y = cpu_out(y), .which = which};
    size_t grain = pool_prepare(&p, shape);
    cpu_split(cpu_of(s), shape->planes, grain, 1, pool_planes, &p);
}

void cpu_pool_backward(struct device_stream *s, const struct device_pool *shape, const uint8_t *which,
                       const struct activation *dy, struct activation *dx) {
    struct pool p = {.which_in = which, .dy = cpu_in(dy), .dx = cpu_out(dx)};
    size_t grain = pool_prepare(&p, shape);
    if (shape->height && shape->width)
        cpu_split(cpu_of(s), shape->planes, grain, 1, pool_gradient_planes, &p);
}
