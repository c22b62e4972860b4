/* CUDA in the place of CUDA, for checking kernels on machines without a GPU: gpu/cuda/ compiled for the host, included
 * before everything else. A thread of a block is a fiber that runs until it waits for its warp or its block, so
 * barriers and shuffles mean what they do on a GPU; blocks run one after the other. Two devices are there, or as many
 * as the environment's LAGOON_EMULATED_GPUS says: on cuda:0 the threads of a block run in order, on cuda:1 backwards,
 * so that a missing barrier shows on one of them. Memory is the host's, filled with NaNs when allocated, and shared
 * memory is exactly as large as asked for: with the address sanitizer, wild indices are found. What this cannot show:
 * speed, memory ordering between warps, and cuBLAS, which is a plain loop here. */
#ifndef LAGOON_TESTS_GPU_EMULATE_H
#define LAGOON_TESTS_GPU_EMULATE_H

#define CUDA_EMULATED 1

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __shared__ static
#define __launch_bounds__(...)
#define __align__(n) __attribute__((aligned(n)))

struct dim3 {
    unsigned x, y, z;
    dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
};
struct uint2 {
    unsigned x, y;
};
struct alignas(16) uint4 {
    unsigned x, y, z, w;
};

/* ---- running kernels */

enum { EMULATED_GIVEN = 8 };

struct emulated_thread {
    dim3 index;
    unsigned lane;
    uint64_t slots[2]; /* what a shuffle gives to the others; two, so that none overwrites what is yet to be read */
    uint32_t given[2][EMULATED_GIVEN]; /* the same for tensor cores */
    unsigned turn;
};

extern struct emulated_thread *emulated_now;
extern struct dim3 emulated_block, emulated_block_size, emulated_grid_size;
extern void *emulated_shared;
extern size_t emulated_shared_bytes;
extern thread_local int emulated_device; /* the thread's current one */
#define threadIdx (emulated_now->index)
#define blockIdx emulated_block
#define blockDim emulated_block_size
#define gridDim emulated_grid_size

void emulated_run(struct dim3 grid, struct dim3 block, size_t shared_bytes, bool backwards, void (*body)(void *),
                  void *context);
void emulated_wait_block(void);
void emulated_wait_warp(void);
[[noreturn]] void emulated_wrong(const char *what);
/* The slot of the same warp's lane. */
uint64_t emulated_slot(unsigned lane, unsigned turn);
const struct emulated_thread *emulated_lane(unsigned lane);
/* A bit for each lane of the same warp: the lowest of its slot. */
unsigned emulated_ballot(unsigned turn);

template <class F> void emulated_launch(dim3 grid, dim3 block, size_t shared_bytes, bool backwards, F body) {
    emulated_run(
        grid, block, shared_bytes, backwards, [](void *f) { (*(F *)f)(); }, &body);
}

/* True for the one that runs backwards. */
static inline bool emulated_device_is(int number) {
    if (number != emulated_device)
        emulated_wrong("a kernel for another device than the thread's current one");
    return number == 1;
}

#define CUDA_LAUNCH(s, kernel, grid, block, shared_bytes, ...)                                                         \
    emulated_launch((grid), (block), (shared_bytes), emulated_device_is(cuda_device_of(s)->number),                    \
                    [&]() { kernel(__VA_ARGS__); })
#define CUDA_SHARED(type, name) type *name = (type *)emulated_shared

static inline void __syncthreads(void) {
    emulated_wait_block();
}

static inline void __syncwarp(void) {
    emulated_wait_warp();
}

/* What the warp's lane `from` gives; every lane takes part. */
template <class T> static inline T emulated_shuffle(T value, unsigned from) {
    struct emulated_thread *me = emulated_now;
    unsigned turn = me->turn++ & 1;
    T other;
    memcpy(&me->slots[turn], &value, sizeof value);
    emulated_wait_warp();
    uint64_t slot = emulated_slot(from, turn);
    memcpy(&other, &slot, sizeof other);
    return other;
}

template <class T> static inline T __shfl_xor_sync(unsigned, T value, int mask) {
    return emulated_shuffle(value, emulated_now->lane ^ (unsigned)mask);
}

template <class T> static inline T __shfl_sync(unsigned, T value, int lane) {
    return emulated_shuffle(value, (unsigned)lane);
}

template <class T> static inline T __shfl_up_sync(unsigned, T value, unsigned delta) {
    unsigned lane = emulated_now->lane;
    return emulated_shuffle(value, lane >= delta ? lane - delta : lane);
}

static inline unsigned __ballot_sync(unsigned, int yes) {
    struct emulated_thread *me = emulated_now;
    unsigned turn = me->turn++ & 1;
    me->slots[turn] = yes != 0;
    emulated_wait_warp();
    return emulated_ballot(turn);
}

static inline int __popc(unsigned x) {
    return __builtin_popcount(x);
}

static inline unsigned atomicAdd(unsigned *at, unsigned value) {
    unsigned before = *at;
    *at = before + value;
    return before;
}

static inline float atomicAdd(float *at, float value) {
    float before = *at;
    *at = before + value;
    return before;
}

static inline float __fadd_rn(float a, float b) {
    return a + b;
}

static inline float __fmul_rn(float a, float b) {
    volatile float c = a * b; /* never contracted */
    return c;
}

static inline void __stwb(struct uint4 *at, struct uint4 value) {
    *at = value;
}

static inline unsigned __float_as_uint(float value) {
    unsigned bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

static inline float __uint_as_float(unsigned bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static inline float __fdiv_rn(float a, float b) {
    return a / b;
}

static inline float __fsqrt_rn(float a) {
    return sqrtf(a);
}

/* ---- bf16 */

struct __nv_bfloat16 {
    uint16_t bits;
};

static inline float __bfloat162float(__nv_bfloat16 x) {
    uint32_t bits = (uint32_t)x.bits << 16;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* To the nearest, ties to even; NaN stays one. */
static inline __nv_bfloat16 __float2bfloat16_rn(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    if (x != x)
        return {0x7fff};
    return {(uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16)};
}

/* ---- tensor cores and asynchronous copies: what gpu/cuda/tensor.cuh says of each, in emulate_tensor.cc. Addresses
 * that are not aligned or not in shared memory end the test. What a copy is to bring reads as NaNs until it was waited
 * for, and a thread may not end before that. */

void emulated_mma_bf16(float (&sums)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1);
void emulated_ldmatrix(uint32_t (&r)[4], const void *row, bool transposed);
void emulated_async_copy(void *shared, const void *global, bool inside);
void emulated_async_commit(void);
void emulated_async_wait(unsigned groups);
/* Forgets a thread's copies at its start; checks at its end that none is on its way. */
void emulated_async_begin(unsigned thread);
void emulated_async_end(unsigned thread);

/* ---- the runtime, as much of it as is used */

enum cudaError_t {
    cudaSuccess,
    cudaErrorInvalidValue,
    cudaErrorMemoryAllocation,
    cudaErrorInvalidConfiguration,
    cudaErrorIllegalAddress,
    cudaErrorLaunchOutOfResources,
};
enum cudaMemcpyKind { cudaMemcpyHostToDevice, cudaMemcpyDeviceToHost, cudaMemcpyDeviceToDevice };
enum {
    cudaStreamNonBlocking = 1,
    cudaEventDefault = 0,
    cudaEventDisableTiming = 2,
    cudaHostRegisterPortable = 1,
    cudaHostRegisterReadOnly = 8
};
enum cudaFuncAttribute { cudaFuncAttributeMaxDynamicSharedMemorySize };
enum cudaDeviceAttr { cudaDevAttrHostRegisterReadOnlySupported, cudaDevAttrClockRate };
typedef int *cudaStream_t;
typedef struct emulated_event *cudaEvent_t;
struct cudaDeviceProp {
    char name[256];
    int major, minor, multiProcessorCount;
    size_t totalGlobalMem, sharedMemPerBlockOptin;
};

cudaError_t cudaMalloc(void **memory, size_t bytes);
cudaError_t cudaFree(void *memory);
cudaError_t cudaGetDeviceProperties(struct cudaDeviceProp *properties, int device);
cudaError_t cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned flags);
cudaError_t cudaStreamDestroy(cudaStream_t stream);
cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event, unsigned flags);
cudaError_t cudaEventDestroy(cudaEvent_t event);
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream);
/* Of events that were both recorded, with timing. */
cudaError_t cudaEventElapsedTime(float *ms, cudaEvent_t from, cudaEvent_t to);
cudaError_t cudaFuncSetAttribute(const void *function, cudaFuncAttribute attribute, int value);

static inline cudaError_t cudaGetLastError(void) {
    return cudaSuccess;
}
static inline const char *cudaGetErrorString(cudaError_t) {
    return "an error of the emulation";
}
cudaError_t cudaGetDeviceCount(int *count);
static inline cudaError_t cudaSetDevice(int device) {
    emulated_device = device;
    return cudaSuccess;
}
static inline cudaError_t cudaDeviceGetAttribute(int *value, cudaDeviceAttr what, int) {
    if (what == cudaDevAttrClockRate)
        *value = 1000000;
    else
        *value = getenv("LAGOON_EMULATED_NO_READ_ONLY") == NULL; /* cudaDevAttrHostRegisterReadOnlySupported */
    return cudaSuccess;
}
static inline cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, cudaMemcpyKind, cudaStream_t) {
    memcpy(to, from, bytes);
    return cudaSuccess;
}
static inline cudaError_t cudaMemsetAsync(void *memory, int value, size_t bytes, cudaStream_t) {
    memset(memory, value, bytes);
    return cudaSuccess;
}
static inline cudaError_t cudaHostRegister(void *, size_t, unsigned) {
    return cudaSuccess;
}
static inline cudaError_t cudaHostUnregister(void *) {
    return cudaSuccess;
}
static inline cudaError_t cudaStreamSynchronize(cudaStream_t) {
    return cudaSuccess;
}
static inline cudaError_t cudaStreamWaitEvent(cudaStream_t, cudaEvent_t, unsigned) {
    return cudaSuccess;
}
static inline cudaError_t cudaEventSynchronize(cudaEvent_t) {
    return cudaSuccess;
}

/* ---- cuBLAS */

enum cublasStatus_t { CUBLAS_STATUS_SUCCESS, CUBLAS_STATUS_ALLOC_FAILED };
enum cublasOperation_t { CUBLAS_OP_N, CUBLAS_OP_T };
enum cudaDataType { CUDA_R_32F, CUDA_R_16BF };
typedef enum cudaDataType cudaDataType_t;
enum cublasComputeType_t { CUBLAS_COMPUTE_32F, CUBLAS_COMPUTE_32F_FAST_TF32 };
#define CUDA_CONV_ROOM_FLOATS 4096 /* so that tests need several rounds */
enum { CUBLAS_GEMM_DEFAULT };
typedef int *cublasHandle_t;

cublasStatus_t cublasCreate(cublasHandle_t *handle);
cublasStatus_t cublasDestroy(cublasHandle_t handle);
cublasStatus_t cublasGemmEx(cublasHandle_t handle, cublasOperation_t transpose_a, cublasOperation_t transpose_b, int m,
                            int n, int k, const float *alpha, const void *a, cudaDataType type_a, int stride_a,
                            const void *b, cudaDataType type_b, int stride_b, const float *beta, void *c,
                            cudaDataType type_c, int stride_c, cublasComputeType_t compute, int algorithm);
enum cublasMath_t { CUBLAS_DEFAULT_MATH, CUBLAS_MATH_DISALLOW_REDUCED_PRECISION_REDUCTION = 16 };
static inline cublasStatus_t cublasSetMathMode(cublasHandle_t, cublasMath_t) {
    return CUBLAS_STATUS_SUCCESS;
}
static inline cublasStatus_t cublasSetStream(cublasHandle_t, cudaStream_t) {
    return CUBLAS_STATUS_SUCCESS;
}
static inline const char *cublasGetStatusString(cublasStatus_t) {
    return "an error of the emulation";
}

#endif
