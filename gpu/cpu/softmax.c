/* Softmax and cross-entropy, forward and backward in one pass over the logits. */
#include "gpu/cpu/cpu.h"

enum { GRAIN = 4096 /* logits */ };

struct softmax {
    struct cpu_device *device;
    size_t classes;
    const float *logits;
    const int32_t *labels;
    float scale;
    float *gradient;
    double loss[CPU_THREADS_MAX];
    uint64_t correct[CPU_THREADS_MAX];
};

/* e (may be x) = e^(x - most), *total its sum. */
CPU_BODY row_body(size_t n, const float *x, float most, float *e, float *total) {
    cpu_exponentials(n, x, 1, most, e);
    *total = cpu_sum(n, e);
}
CPU_VARIANTS(row, (size_t n, const float *x, float most, float *e, float *total), (n, x, most, e, total))

CPU_BODY row_most_body(size_t n, const float *x, float *most) {
    *most = cpu_max(n, x);
}
CPU_VARIANTS(row_most, (size_t n, const float *x, float *most), (n, x, most))

static bool row_is_correct(const float *x, size_t classes, size_t label, float most) {
    if (!(x[label] == most))
        return false;
    for (size_t i = 0; i < label; i++)
        if (x[i] == most)
            return false;
    for (size_t i = 0; i < classes; i++)
        if (isnan(x[i]))
            return false;
    return true;
}

/* loss = log(sum e^(x - most)) - (x[label] - most) */
static void softmax_rows(void *context, size_t first, size_t last, unsigned thread) {
    struct softmax *m = context;
    size_t n = m->classes;
    float *room = m->gradient ? NULL : cpu_scratch_get(m->device, thread, n);
    if (!m->gradient && !room)
        return;
    for (size_t r = first; r < last; r++) {
        const float *x = m->logits + r * n;
        float *e = m->gradient ? m->gradient + r * n : room;
        size_t label = (size_t)m->labels[r];
        float most, total, at_label = x[label];
        row_most(n, x, &most);
        m->correct[thread] += row_is_correct(x, n, label, most);
        row(n, x, most, e, &total);
        m->loss[thread] += log((double)total) - ((double)at_label - (double)most);
        if (m->gradient) {
            float factor = m->scale / total;
            for (size_t i = 0; i < n; i++)
                e[i] *= factor;
            e[label] -= m->scale;
        }
    }
}

void cpu_softmax_cross_entropy(struct device_stream *s, uint32_t rows, uint32_t classes,
                               const struct activation *logits, const int32_t *labels, float scale,
                               struct activation *gradient, struct device_sums *sums) {
    struct softmax m = {.device = cpu_of(s),
                        .classes = classes,
                        .logits = cpu_in(logits),
                        .labels = labels,
                        .scale = scale,
                        .gradient = cpu_out(gradient)};
    *sums = (struct device_sums){0};
    if (classes)
        cpu_split(cpu_of(s), rows, 1 + GRAIN / classes, 1, softmax_rows, &m);
    for (unsigned t = 0; t < s->device->threads; t++) {
        sums->loss += m.loss[t];
        sums->correct += m.correct[t];
    }
}
