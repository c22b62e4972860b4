/* Matrix products: OpenBLAS, on slices of the result when several threads help. */
#include "gpu/cpu/cpu.h"

#include <cblas.h>

void cpu_gemm_strided(bool transpose_a, bool transpose_b, size_t m, size_t n, size_t k, float alpha, const float *a,
                      size_t lda, const float *b, size_t ldb, float beta, float *c, size_t ldc) {
    cblas_sgemm(CblasRowMajor, transpose_a ? CblasTrans : CblasNoTrans, transpose_b ? CblasTrans : CblasNoTrans, (int)m,
                (int)n, (int)k, alpha, a, (int)lda, b, (int)ldb, beta, c, (int)ldc);
}

struct gemm {
    bool transpose_a, transpose_b;
    size_t m, n, k;
    float alpha, beta;
    const float *a, *b;
    float *c;
};

static void gemm_rows(void *context, size_t first, size_t last, unsigned thread) {
    const struct gemm *g = context;
    (void)thread;
    cpu_gemm_strided(g->transpose_a, g->transpose_b, last - first, g->n, g->k, g->alpha,
                     g->a + (g->transpose_a ? first : first * g->k), g->transpose_a ? g->m : g->k, g->b,
                     g->transpose_b ? g->k : g->n, g->beta, g->c + first * g->n, g->n);
}

static void gemm_columns(void *context, size_t first, size_t last, unsigned thread) {
    const struct gemm *g = context;
    (void)thread;
    cpu_gemm_strided(g->transpose_a, g->transpose_b, g->m, last - first, g->k, g->alpha, g->a,
                     g->transpose_a ? g->m : g->k, g->b + (g->transpose_b ? first * g->k : first),
                     g->transpose_b ? g->k : g->n, g->beta, g->c + first, g->n);
}

void cpu_gemm_gradient(struct device_stream *s, bool transpose_a, bool transpose_b, uint32_t m, uint32_t n, uint32_t k,
                       float alpha, const struct activation *a, const struct activation *b, float beta, float *c) {
    struct gemm g = {transpose_a, transpose_b, m, n, k, alpha, beta, cpu_in(a), cpu_in(b), c};
    if (m == 0 || n == 0)
        return;
    if (k == 0) { /* BLAS wants leading dimensions of at least 1 */
        if (beta == 0)
            cpu_fill(s, (size_t)m * n, 0, c);
        else
            cpu_scale(s, (size_t)m * n, beta, c);
        return;
    }
    /* Below about 10 us of work for a thread, waking it costs more than it gives. */
    const size_t least_work = 1u << 19;
    size_t line = 1 + least_work / ((size_t)(m >= n ? n : m) * k);
    if (m >= n)
        cpu_split(cpu_of(s), m, line, 16, gemm_rows, &g);
    else
        cpu_split(cpu_of(s), n, line, 16, gemm_columns, &g);
}

void cpu_gemm(struct device_stream *s, bool transpose_a, bool transpose_b, uint32_t m, uint32_t n, uint32_t k,
              float alpha, const struct activation *a, const struct activation *b, float beta, struct activation *c) {
    cpu_gemm_gradient(s, transpose_a, transpose_b, m, n, k, alpha, a, b, beta, cpu_out(c));
}
