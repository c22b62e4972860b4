/* Token and position embeddings: rows gathered forward, scattered and added backward. */
#include "gpu/cpu/cpu.h"

enum { GRAIN = 16384 /* elements */ };

struct embedding {
    size_t rows, time, width;
    const int32_t *tokens;
    const float *table, *positions, *dout;
    float *out, *dtable, *dpositions;
};

CPU_BODY row_add_body(size_t n, const float *a, const float *b, float *y) {
    for (size_t i = 0; i < n; i++)
        y[i] = a[i] + b[i];
}
CPU_VARIANTS(row_add, (size_t n, const float *a, const float *b, float *y), (n, a, b, y))

static void gather_rows(void *context, size_t first, size_t last, unsigned thread) {
    struct embedding *e = context;
    (void)thread;
    for (size_t r = first; r < last; r++) {
        const float *row = e->table + (size_t)e->tokens[r] * e->width;
        if (e->positions)
            row_add(e->width, row, e->positions + r % e->time * e->width, e->out + r * e->width);
        else
            memcpy(e->out + r * e->width, row, e->width * sizeof *row);
    }
}

/* Threads share the columns, so two of them never add to one element. */
static void scatter_columns(void *context, size_t first, size_t last, unsigned thread) {
    struct embedding *e = context;
    (void)thread;
    for (size_t t = 0; e->dpositions && t < e->time; t++)
        memset(e->dpositions + t * e->width + first, 0, (last - first) * sizeof(float));
    for (size_t r = 0, t = 0; r < e->rows; r++, t = t + 1 < e->time ? t + 1 : 0) {
        const float *from = e->dout + r * e->width + first;
        float *to = e->dtable + (size_t)e->tokens[r] * e->width + first;
        row_add(last - first, from, to, to);
        if (e->dpositions) {
            float *position = e->dpositions + t * e->width + first;
            row_add(last - first, from, position, position);
        }
    }
}

void cpu_embedding_forward(struct device_stream *s, uint32_t batch, uint32_t time, uint32_t width,
                           const int32_t *tokens, const float *table, const float *positions, struct activation *out) {
    struct embedding e = {.rows = (size_t)batch * time,
                          .time = time,
                          .width = width,
                          .tokens = tokens,
                          .table = table,
                          .positions = positions,
                          .out = cpu_out(out)};
    if (width)
        cpu_split(cpu_of(s), e.rows, 1 + GRAIN / width, 1, gather_rows, &e);
}

void cpu_embedding_backward(struct device_stream *s, uint32_t batch, uint32_t time, uint32_t width,
                            const int32_t *tokens, const struct activation *dout, float *dtable, float *dpositions) {
    struct embedding e = {.rows = (size_t)batch * time,
                          .time = time,
                          .width = width,
                          .tokens = tokens,
                          .dout = cpu_in(dout),
                          .dtable = dtable,
                          .dpositions = dpositions};
    if (e.rows)
        cpu_split(cpu_of(s), width, 1 + GRAIN / e.rows, 16, scatter_columns, &e);
    else if (dpositions)
        cpu_fill(s, (size_t)time * width, 0, dpositions);
}
