/* Matrix products: cuBLAS. It is column-major, where a row-major [m][n] is an [n][m]; so c^T = op(b)^T op(a)^T is asked
 * for, which changes places of a and b and nothing else. */
#include "gpu/cuda/map.cuh"

#include <limits.h>

namespace {

bool blas_check(struct cuda_stream *s, cublasStatus_t code) {
    if (code == CUBLAS_STATUS_SUCCESS)
        return true;
    cuda_fail(cuda_device_of(s), code == CUBLAS_STATUS_ALLOC_FAILED ? LG_NO_MEMORY : LG_IO, "gemm",
              cublasGetStatusString(code));
    return false;
}

/* The stream's own handle, made with its first product: streams that only copy need none. */
bool blas_ready(struct cuda_stream *s) {
    if (s->blas)
        return true;
    if (!blas_check(s, cublasCreate(&s->blas))) {
        s->blas = NULL;
        return false;
    }
    /* Partial sums of a product that is cut along k stay f32 too, also where its result is bf16. */
    cublasMath_t exact = (cublasMath_t)(CUBLAS_DEFAULT_MATH | CUBLAS_MATH_DISALLOW_REDUCED_PRECISION_REDUCTION);
    return blas_check(s, cublasSetMathMode(s->blas, exact)) && blas_check(s, cublasSetStream(s->blas, s->stream));
}

/* What cuBLAS is asked for, in its order. */
struct product {
    cublasOperation_t first_op, second_op;
    int m, n, k, first_stride, second_stride;
    const void *first, *second;
};

/* c is of `type`. */
void product_queue(struct cuda_stream *s, const struct product *p, float alpha, float beta, void *c,
                   cudaDataType_t type) {
    enum cuda_math math = cuda_device_of(s)->math;
    cudaDataType_t inputs = math == CUDA_MATH_BF16 ? CUDA_R_16BF : CUDA_R_32F;
    cublasComputeType_t compute = math == CUDA_MATH_TF32 ? CUBLAS_COMPUTE_32F_FAST_TF32 : CUBLAS_COMPUTE_32F;
    if (blas_ready(s))
        blas_check(s, cublasGemmEx(s->blas, p->first_op, p->second_op, p->m, p->n, p->k, &alpha, p->first, inputs,
                                   p->first_stride, p->second, inputs, p->second_stride, &beta, c, type, p->m, compute,
                                   CUBLAS_GEMM_DEFAULT));
}

struct scaled {
    enum { inputs = 1 };
    float a;
    __device__ float operator()(float x, float) const {
        return a * x;
    }
};

/* What is left of a product without inputs: c [n] = beta c. */
template <class C> void empty_product(struct device_stream *base, size_t n, float beta, C *c) {
    if (beta == 0)
        cuda_zero(base, n * sizeof *c, c);
    else
        map(base, n, (const C *)c, (const C *)NULL, c, scaled{beta});
}

template <class C>
void multiply(struct device_stream *base, bool transpose_a, bool transpose_b, uint32_t m, uint32_t n, uint32_t k,
              float alpha, const struct activation *a, const struct activation *b, float beta, C *c) {
    if (m == 0 || n == 0)
        return;
    if (k == 0) { /* BLAS wants leading dimensions of at least 1 */
        empty_product(base, (size_t)m * n, beta, c);
        return;
    }
    struct cuda_stream *s = cuda_enter(base);
    if (m > INT_MAX || n > INT_MAX || k > INT_MAX) {
        cuda_fail(cuda_device_of(s), LG_UNSUPPORTED, "gemm", "a matrix has more than 2147483647 rows or columns");
        return;
    }
    struct product p = {transpose_b ? CUBLAS_OP_T : CUBLAS_OP_N,
                        transpose_a ? CUBLAS_OP_T : CUBLAS_OP_N,
                        (int)n,
                        (int)m,
                        (int)k,
                        (int)(transpose_b ? k : n),
                        (int)(transpose_a ? m : k),
                        b,
                        a};
    product_queue(s, &p, alpha, beta, c, sizeof *c == sizeof(float) ? CUDA_R_32F : CUDA_R_16BF);
}

} // namespace

void cuda_gemm(struct device_stream *base, bool transpose_a, bool transpose_b, uint32_t m, uint32_t n, uint32_t k,
               float alpha, const struct activation *a, const struct activation *b, float beta, struct activation *c) {
    struct cuda_stream *s = cuda_enter(base);
    CUDA_BY_TYPE(s, multiply(base, transpose_a, transpose_b, m, n, k, alpha, a, b, beta, cuda_of<T>(c)));
}

void cuda_gemm_gradient(struct device_stream *base, bool transpose_a, bool transpose_b, uint32_t m, uint32_t n,
                        uint32_t k, float alpha, const struct activation *a, const struct activation *b, float beta,
                        float *c) {
    multiply(base, transpose_a, transpose_b, m, n, k, alpha, a, b, beta, c);
}
