/* Clipping by norm. */
#include "gpu/cpu/cpu.h"

enum { GRAIN = 65536 /* elements a thread should get at least */ };

struct clip {
    float *x;
    double squares[CPU_THREADS_MAX];
};

/* Four sums, so that the additions need not wait for each other. */
static void square_range(void *context, size_t first, size_t last, unsigned thread) {
    struct clip *c = context;
    double sums[4] = {0};
    size_t i = first;
    for (; i + 4 <= last; i += 4)
        for (size_t j = 0; j < 4; j++)
            sums[j] += (double)c->x[i + j] * (double)c->x[i + j];
    for (; i < last; i++)
        sums[0] += (double)c->x[i] * (double)c->x[i];
    c->squares[thread] = sums[0] + sums[1] + sums[2] + sums[3];
}

void cpu_clip(struct device_stream *s, size_t n, double most, float *x) {
    struct clip c = {.x = x};
    double norm = 0;
    cpu_split(cpu_of(s), n, GRAIN, 4, square_range, &c);
    for (unsigned t = 0; t < s->device->threads; t++)
        norm += c.squares[t];
    norm = sqrt(norm);
    if (isfinite(norm) && norm > most)
        cpu_scale(s, n, (float)(most / norm), x);
}
