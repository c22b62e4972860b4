/* Softmax and cross-entropy, forward and backward in one pass over the logits. */
#include "gpu/cpu/cpu.h"

enum { GRAIN = 4096 /* logits */ };

struct softmax {
    size_t classes;
    const float *logits;
    const int32_t *labels;
    float scale;
    float *gradient;
    double loss[CPU_THREADS_MAX];
    uint64_t correct[CPU_THREADS_MAX];
};

CPU_BODY exponentials_body(size_t n, const float *x, float most, float *y) {
    for (size_t i = 0; i < n; i++)
        y[i] = cpu_exp(x[i] - most);
}
CPU_VARIANTS(exponentials, (size_t n, const float *x, float most, float *y), (n, x, most, y))

CPU_BODY row_sum_body(size_t n, const float *x, float *total) {
    *total = cpu_sum(n, x);
}
CPU_VARIANTS(row_sum, (size_t n, const float *x, float *total), (n, x, total))

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
    float block[256], *room = block;
    if (!m->gradient && n > sizeof block / sizeof *block)
        room = NULL;
    double loss = 0;
    uint64_t correct = 0;
    for (size_t r = first; r < last; r++) {
        const float *x = m->logits + r * n;
        size_t label = (size_t)m->labels[r];
        float most, total = 0, at_label = x[label];
        row_most(n, x, &most);
        correct += row_is_correct(x, n, label, most);
        float *e = m->gradient ? m->gradient + r * n : room;
        if (e) {
            exponentials(n, x, most, e);
            row_sum(n, e, &total);
        } else {
            for (size_t i = 0; i < n; i++)
                total += cpu_exp(x[i] - most);
        }
        loss += log((double)total) - ((double)at_label - (double)most);
        if (m->gradient) {
            float factor = m->scale / total;
            for (size_t i = 0; i < n; i++)
                e[i] *= factor;
            e[label] -= m->scale;
        }
    }
    m->loss[thread] = loss;
    m->correct[thread] = correct;
}

void cpu_softmax_cross_entropy(struct device_stream *s, uint32_t rows, uint32_t classes, const float *logits,
                               const int32_t *labels, float scale, float *gradient, struct device_sums *sums) {
    struct softmax m = {.classes = classes, .logits = logits, .labels = labels, .scale = scale, .gradient = gradient};
    *sums = (struct device_sums){0};
    if (classes)
        cpu_split(cpu_of(s), rows, 1 + GRAIN / classes, 1, softmax_rows, &m);
    for (unsigned t = 0; t < s->device->threads; t++) {
        sums->loss += m.loss[t];
        sums->correct += m.correct[t];
    }
}
