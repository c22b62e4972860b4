/* Sparse rows times dense matrices. */
#include "gpu/cpu/cpu.h"

enum { GRAIN = 256 /* rows */ };

struct sparse {
    const struct device_sparse *x;
    size_t outputs;
    const float *weight, *dy;
    float *y, *dweight;
};

CPU_BODY row_axpy_body(size_t n, float a, const float *x, float *y) {
    for (size_t i = 0; i < n; i++)
        y[i] += a * x[i];
}
CPU_VARIANTS(row_axpy, (size_t n, float a, const float *x, float *y), (n, a, x, y))

static void sparse_rows(void *context, size_t first, size_t last, unsigned thread) {
    struct sparse *p = context;
    (void)thread;
    for (size_t r = first; r < last; r++) {
        float *y = p->y + r * p->outputs;
        memset(y, 0, p->outputs * sizeof *y);
        for (size_t e = p->x->row_starts[r]; e < p->x->row_starts[r + 1]; e++)
            row_axpy(p->outputs, p->x->values[e], p->weight + p->x->columns[e] * p->outputs, y);
    }
}

void cpu_sparse_forward(struct device_stream *s, const struct device_sparse *x, uint32_t outputs, const float *weight,
                        struct activation *y) {
    struct sparse p = {.x = x, .outputs = outputs, .weight = weight, .y = cpu_out(y)};
    if (outputs)
        cpu_split(cpu_of(s), x->rows, GRAIN, 1, sparse_rows, &p);
}

/* On the calling thread alone: rows of the batch meet in the same rows of dweight. */
void cpu_sparse_backward(struct device_stream *s, const struct device_sparse *x, uint32_t outputs,
                         const struct activation *dy, float *dweight) {
    const float *rows = cpu_in(dy);
    cpu_fill(s, (size_t)x->features * outputs, 0, dweight);
    for (size_t r = 0; r < x->rows; r++)
        for (size_t e = x->row_starts[r]; e < x->row_starts[r + 1]; e++)
            row_axpy(outputs, x->values[e], rows + r * outputs, dweight + (size_t)x->columns[e] * outputs);
}
