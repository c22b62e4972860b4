/* Matrix products: cuBLAS. It is column-major, where a row-major [m][n] is an [n][m]; so c^T = op(b)^T op(a)^T is asked
 * for, which changes places of a and b and nothing else. */
#include "gpu/cuda/cuda.cuh"

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
    return blas_check(s, cublasSetStream(s->blas, s->stream));
}

/* What cuBLAS is asked for, in its order. */
struct product {
    cublasOperation_t first_op, second_op;
    int m, n, k, first_stride, second_stride;
    const void *first, *second;
    cudaDataType_t type;
    cublasComputeType_t compute;
};

void product_queue(struct cuda_stream *s, const struct product *p, float alpha, float beta, float *c) {
    if (blas_ready(s))
        blas_check(s, cublasGemmEx(s->blas, p->first_op, p->second_op, p->m, p->n, p->k, &alpha, p->first, p->type,
                                   p->first_stride, p->second, p->type, p->second_stride, &beta, c, CUDA_R_32F, p->m,
                                   p->compute, CUBLAS_GEMM_DEFAULT));
}

struct alignas(8) narrow_pack {
    __nv_bfloat16 v[4];
};

/* f32 -> bf16, to the nearest. `whole` is a multiple of 4, as in map.cuh. */
__global__ void narrow_kernel(size_t n, size_t whole, const float *x, __nv_bfloat16 *y) {
    for (size_t i = 4 * cuda_thread(); i < whole; i += 4 * cuda_threads()) {
        pack<4> p = pack_load<4>(x + i);
        narrow_pack q;
        for (int l = 0; l < 4; l++)
            q.v[l] = __float2bfloat16_rn(p.v[l]);
        *(narrow_pack *)(void *)(y + i) = q;
    }
    for (size_t i = whole + cuda_thread(); i < n; i += cuda_threads())
        y[i] = __float2bfloat16_rn(x[i]);
}

void narrow(struct cuda_stream *s, size_t n, const float *x, __nv_bfloat16 *y) {
    size_t whole = cuda_quads(0, x) ? n / 4 * 4 : 0;
    CUDA_LAUNCH(s, narrow_kernel, cuda_spread(s, n, 4 * CUDA_BLOCK), CUDA_BLOCK, 0, n, whole, x, y);
}

/* Puts bf16 copies in the place of the inputs of p, of so many elements. */
bool product_narrow(struct cuda_stream *s, struct product *p, size_t first, size_t second) {
    size_t apart = (first + 127) / 128 * 128;
    __nv_bfloat16 *room = (__nv_bfloat16 *)cuda_scratch(s, CUDA_ROOM_PRODUCT, "gemm", (apart + second) * sizeof *room);
    if (!room)
        return false;
    narrow(s, first, (const float *)p->first, room);
    narrow(s, second, (const float *)p->second, room + apart);
    p->first = room;
    p->second = room + apart;
    p->type = CUDA_R_16BF;
    p->compute = CUBLAS_COMPUTE_32F;
    return true;
}

} // namespace

void cuda_gemm(struct device_stream *base, bool transpose_a, bool transpose_b, uint32_t m, uint32_t n, uint32_t k,
               float alpha, const float *a, const float *b, float beta, float *c) {
    if (m == 0 || n == 0)
        return;
    if (k == 0) { /* BLAS wants leading dimensions of at least 1 */
        if (beta == 0)
            cuda_fill(base, (size_t)m * n, 0, c);
        else
            cuda_scale(base, (size_t)m * n, beta, c);
        return;
    }
    struct cuda_stream *s = cuda_enter(base);
    if (m > INT_MAX || n > INT_MAX || k > INT_MAX) {
        cuda_fail(cuda_device_of(s), LG_UNSUPPORTED, "gemm", "a matrix has more than 2147483647 rows or columns");
        return;
    }
    enum cuda_math math = cuda_device_of(s)->math;
    struct product p = {transpose_b ? CUBLAS_OP_T : CUBLAS_OP_N,
                        transpose_a ? CUBLAS_OP_T : CUBLAS_OP_N,
                        (int)n,
                        (int)m,
                        (int)k,
                        (int)(transpose_b ? k : n),
                        (int)(transpose_a ? m : k),
                        b,
                        a,
                        CUDA_R_32F,
                        math == CUDA_MATH_TF32 ? CUBLAS_COMPUTE_32F_FAST_TF32 : CUBLAS_COMPUTE_32F};
    if (math == CUDA_MATH_BF16 && !product_narrow(s, &p, (size_t)k * n, (size_t)m * k))
        return;
    product_queue(s, &p, alpha, beta, c);
}
