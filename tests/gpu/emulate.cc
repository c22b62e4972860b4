/* The emulation's inside: fibers (of x86-64), memory, and products as plain loops. */
#include "tests/gpu/emulate.h"

#include <stdio.h>
#include <sys/mman.h>
#include <time.h>

#if defined(__SANITIZE_ADDRESS__)
#define FIBERS_ANNOTATED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define FIBERS_ANNOTATED 1
#endif
#endif
#ifdef FIBERS_ANNOTATED
#include <sanitizer/common_interface_defs.h>
/* The address sanitizer is told which stack is in use. */
static void *scheduler_fake;
static const void *scheduler_stack;
static size_t scheduler_stack_bytes;
#endif

enum { WARP = 32, THREADS_MAX = 1024, STACK_BYTES = 256 << 10 };
enum state { RUNNING, WAITS_WARP, WAITS_BLOCK, DONE };

static struct fiber {
    struct emulated_thread thread;
    void *stack; /* its pointer while another runs */
    enum state state;
} fibers[THREADS_MAX];

static void *scheduler;
static char *stacks;
static struct {
    unsigned threads;
    bool backwards;
    void (*body)(void *);
    void *context;
} kernel;

struct emulated_thread *emulated_now;
struct dim3 emulated_block, emulated_block_size, emulated_grid_size;
void *emulated_shared;
size_t emulated_shared_bytes;
thread_local int emulated_device;

void emulated_wrong(const char *what) {
    fprintf(stderr, "emulation: %s (block %u of %u, %u threads)\n", what, emulated_block.x, emulated_grid_size.x,
            kernel.threads);
    abort();
}

/* Keeps this stack's pointer at `from` and goes on with the stack at `to`. What a function must preserve lies on the
 * stack meanwhile. swapcontext would do the same with two system calls. */
extern "C" void emulated_switch(void **from, void *to);
asm(".text\n"
    ".globl emulated_switch\n"
    ".type emulated_switch, @function\n"
    "emulated_switch:\n"
    "    pushq %rbp\n"
    "    pushq %rbx\n"
    "    pushq %r12\n"
    "    pushq %r13\n"
    "    pushq %r14\n"
    "    pushq %r15\n"
    "    movq %rsp, (%rdi)\n"
    "    movq %rsi, %rsp\n"
    "    popq %r15\n"
    "    popq %r14\n"
    "    popq %r13\n"
    "    popq %r12\n"
    "    popq %rbx\n"
    "    popq %rbp\n"
    "    ret\n"
    ".size emulated_switch, . - emulated_switch\n");

static void leave_fiber(struct fiber *fiber, enum state state) {
    fiber->state = state;
#ifdef FIBERS_ANNOTATED
    void *fake = NULL;
    __sanitizer_start_switch_fiber(state == DONE ? NULL : &fake, scheduler_stack, scheduler_stack_bytes);
#endif
    emulated_switch(&fiber->stack, scheduler);
#ifdef FIBERS_ANNOTATED
    __sanitizer_finish_switch_fiber(fake, &scheduler_stack, &scheduler_stack_bytes);
#endif
}

static void fiber_main(void) {
#ifdef FIBERS_ANNOTATED
    __sanitizer_finish_switch_fiber(NULL, &scheduler_stack, &scheduler_stack_bytes);
#endif
    struct fiber *fiber = (struct fiber *)emulated_now;
    kernel.body(kernel.context);
    emulated_async_end((unsigned)(fiber - fibers));
    leave_fiber(fiber, DONE);
}

static void enter_fiber(unsigned number) {
    struct fiber *fiber = &fibers[number];
    emulated_now = &fiber->thread;
#ifdef FIBERS_ANNOTATED
    __sanitizer_start_switch_fiber(&scheduler_fake, stacks + (size_t)number * STACK_BYTES, STACK_BYTES);
#endif
    emulated_switch(&scheduler, fiber->stack);
#ifdef FIBERS_ANNOTATED
    __sanitizer_finish_switch_fiber(scheduler_fake, NULL, NULL);
#endif
}

void emulated_wait_block(void) {
    leave_fiber((struct fiber *)emulated_now, WAITS_BLOCK);
}

void emulated_wait_warp(void) {
    leave_fiber((struct fiber *)emulated_now, WAITS_WARP);
}

uint64_t emulated_slot(unsigned lane, unsigned turn) {
    if (lane >= WARP)
        emulated_wrong("a shuffle asks for a lane that is not there");
    return emulated_lane(lane)->slots[turn];
}

const struct emulated_thread *emulated_lane(unsigned lane) {
    const struct fiber *me = (const struct fiber *)emulated_now;
    return &(me - me->thread.lane + lane)->thread;
}

unsigned emulated_ballot(unsigned turn) {
    struct fiber *me = (struct fiber *)emulated_now, *first = me - me->thread.lane;
    unsigned all = 0;
    for (unsigned lane = 0; lane < WARP; lane++)
        all |= (unsigned)(first[lane].thread.slots[turn] & 1) << lane;
    return all;
}

static unsigned count_in(enum state state, unsigned first, unsigned last) {
    unsigned count = 0;
    for (unsigned i = first; i < last; i++)
        count += fibers[i].state == state;
    return count;
}

static void release(enum state state, unsigned first, unsigned last) {
    for (unsigned i = first; i < last; i++)
        if (fibers[i].state == state)
            fibers[i].state = RUNNING;
}

/* Runs the warp's threads until each waits or has ended; lets those go on that wait for their warp. */
static bool run_warp(unsigned first, unsigned last) {
    bool ran = false;
    for (unsigned i = 0; i < last - first; i++) {
        unsigned number = kernel.backwards ? last - 1 - i : first + i;
        if (fibers[number].state == RUNNING) {
            enter_fiber(number);
            ran = true;
        }
    }
    unsigned waiting = count_in(WAITS_WARP, first, last);
    if (waiting > 0 && waiting < last - first)
        emulated_wrong("a part of a warp waits for the rest, which ended or waits for the block");
    release(WAITS_WARP, first, last);
    return ran;
}

/* A warp runs as far as it can before the next one does: what needs a barrier between them and has none goes wrong. */
static void run_block(void) {
    for (;;) {
        bool ran = false;
        unsigned warps = (kernel.threads + WARP - 1) / WARP;
        for (unsigned w = 0; w < warps; w++) {
            unsigned at = kernel.backwards ? warps - 1 - w : w, last = (at + 1) * WARP;
            while (run_warp(at * WARP, last < kernel.threads ? last : kernel.threads))
                ran = true;
        }
        unsigned waiting = count_in(WAITS_BLOCK, 0, kernel.threads);
        if (ran && waiting < kernel.threads)
            continue;
        if (waiting == 0)
            return;
        if (waiting < kernel.threads)
            emulated_wrong("a part of a block waits for threads that have ended");
        release(WAITS_BLOCK, 0, kernel.threads);
    }
}

static void begin_block(size_t shared_bytes) {
    memset(emulated_shared, 0xff, shared_bytes);
    for (unsigned i = 0; i < kernel.threads; i++) {
        struct fiber *fiber = &fibers[i];
        fiber->state = RUNNING;
        fiber->thread = {dim3(i % emulated_block_size.x, i / emulated_block_size.x, 0), i % WARP, {0, 0}, {}, 0};
        emulated_async_begin(i);
        /* As if it had switched away when fiber_main was to begin: six registers, and where to go on. */
        void **top = (void **)(stacks + (size_t)(i + 1) * STACK_BYTES) - 8;
        memset(top, 0, 8 * sizeof *top);
        top[6] = (void *)fiber_main;
        fiber->stack = top;
    }
}

/* Of a block: what compute capability 9.0 has, or as many KiB as the environment says. */
static size_t shared_bytes_max(void) {
    const char *text = getenv("LAGOON_EMULATED_SHARED_KIB");
    return (text ? strtoul(text, NULL, 10) : 227) << 10;
}

void emulated_run(struct dim3 grid, struct dim3 block, size_t shared_bytes, bool backwards, void (*body)(void *),
                  void *context) {
    if (!stacks)
        stacks = (char *)mmap(NULL, (size_t)THREADS_MAX * STACK_BYTES, PROT_READ | PROT_WRITE,
                              MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    emulated_grid_size = grid;
    emulated_block_size = block;
    kernel.threads = block.x * block.y;
    kernel.backwards = backwards;
    kernel.body = body;
    kernel.context = context;
    if (kernel.threads == 0 || kernel.threads > THREADS_MAX || block.z != 1 || grid.z != 1 || grid.x == 0 ||
        grid.y == 0 || grid.y > 65535 || grid.x > 0x7fffffffu || shared_bytes > shared_bytes_max())
        emulated_wrong("a grid or block that no GPU takes");
    emulated_shared_bytes = shared_bytes;
    emulated_shared = aligned_alloc(16, (shared_bytes + 15) / 16 * 16);
    for (unsigned y = 0; y < grid.y; y++) {
        for (unsigned x = 0; x < grid.x; x++) {
            emulated_block = dim3(x, y);
            begin_block(shared_bytes);
            run_block();
        }
    }
    free(emulated_shared);
}

/* ---- the runtime */

cudaError_t cudaMalloc(void **memory, size_t bytes) {
    *memory = bytes > ((size_t)1 << 40) ? NULL : aligned_alloc(256, (bytes + 255) / 256 * 256);
    if (!*memory)
        return cudaErrorMemoryAllocation;
    memset(*memory, 0xff, (bytes + 255) / 256 * 256);
    return cudaSuccess;
}

cudaError_t cudaFree(void *memory) {
    free(memory);
    return cudaSuccess;
}

cudaError_t cudaGetDeviceCount(int *count) {
    const char *text = getenv("LAGOON_EMULATED_GPUS"); /* as in emulated_driver.c */
    *count = text ? atoi(text) : 2;
    return cudaSuccess;
}

cudaError_t cudaGetDeviceProperties(struct cudaDeviceProp *properties, int device) {
    *properties = {"emulated GPU", 9, 0, 2, (size_t)1 << 30, shared_bytes_max()};
    int count;
    cudaGetDeviceCount(&count);
    return device < count ? cudaSuccess : cudaErrorInvalidValue;
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned) {
    *stream = (int *)malloc(1);
    return *stream ? cudaSuccess : cudaErrorMemoryAllocation;
}

cudaError_t cudaStreamDestroy(cudaStream_t stream) {
    free(stream);
    return cudaSuccess;
}

struct emulated_event {
    bool timed, recorded;
    struct timespec at;
};

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event, unsigned flags) {
    *event = (cudaEvent_t)calloc(1, sizeof **event);
    if (*event)
        (*event)->timed = !(flags & cudaEventDisableTiming);
    return *event ? cudaSuccess : cudaErrorMemoryAllocation;
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t) {
    event->recorded = true;
    clock_gettime(CLOCK_MONOTONIC, &event->at);
    return cudaSuccess;
}

cudaError_t cudaEventElapsedTime(float *ms, cudaEvent_t from, cudaEvent_t to) {
    if (!from->timed || !to->timed || !from->recorded || !to->recorded)
        return cudaErrorInvalidValue;
    *ms = (float)(1e3 * (double)(to->at.tv_sec - from->at.tv_sec) + 1e-6 * (double)(to->at.tv_nsec - from->at.tv_nsec));
    return cudaSuccess;
}

cudaError_t cudaEventDestroy(cudaEvent_t event) {
    free(event);
    return cudaSuccess;
}

cudaError_t cudaFuncSetAttribute(const void *, cudaFuncAttribute, int value) {
    return value <= (int)shared_bytes_max() ? cudaSuccess : cudaErrorInvalidValue;
}

/* ---- cuBLAS */

cublasStatus_t cublasCreate(cublasHandle_t *handle) {
    *handle = (int *)malloc(1);
    return *handle ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_ALLOC_FAILED;
}

cublasStatus_t cublasDestroy(cublasHandle_t handle) {
    free(handle);
    return CUBLAS_STATUS_SUCCESS;
}

/* TF32 keeps 10 bits of a fraction. */
static float input(const void *x, size_t at, cudaDataType type, cublasComputeType_t compute) {
    if (type == CUDA_R_16BF)
        return __bfloat162float(((const __nv_bfloat16 *)x)[at]);
    float value = ((const float *)x)[at];
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    if (compute == CUBLAS_COMPUTE_32F_FAST_TF32 && value == value)
        bits = (bits + 0x1000) & ~0x1fffu;
    memcpy(&value, &bits, sizeof bits);
    return value;
}

static void output(void *c, size_t at, cudaDataType type, float value) {
    if (type == CUDA_R_16BF)
        ((__nv_bfloat16 *)c)[at] = __float2bfloat16_rn(value);
    else
        ((float *)c)[at] = value;
}

/* Column-major, as cuBLAS is documented: c [m x n] = alpha op(a) [m x k] op(b) [k x n] + beta c. */
cublasStatus_t cublasGemmEx(cublasHandle_t, cublasOperation_t transpose_a, cublasOperation_t transpose_b, int m, int n,
                            int k, const float *alpha, const void *a, cudaDataType type_a, int stride_a, const void *b,
                            cudaDataType type_b, int stride_b, const float *beta, void *c, cudaDataType type_c,
                            int stride_c, cublasComputeType_t compute, int) {
    bool ta = transpose_a == CUBLAS_OP_T, tb = transpose_b == CUBLAS_OP_T;
    if (type_a != type_b || (type_c == CUDA_R_16BF && type_a != CUDA_R_16BF))
        emulated_wrong("types that cuBLAS does not multiply");
    if (stride_a < (ta ? k : m) || stride_b < (tb ? n : k) || stride_c < m)
        emulated_wrong("a leading dimension that cuBLAS does not take");
    for (int column = 0; column < n; column++) {
        for (int row = 0; row < m; row++) {
            double sum = 0;
            for (int l = 0; l < k; l++) {
                size_t at_a =
                    ta ? (size_t)row * (size_t)stride_a + (size_t)l : (size_t)l * (size_t)stride_a + (size_t)row;
                size_t at_b =
                    tb ? (size_t)l * (size_t)stride_b + (size_t)column : (size_t)column * (size_t)stride_b + (size_t)l;
                sum += (double)input(a, at_a, type_a, compute) * (double)input(b, at_b, type_b, compute);
            }
            size_t at_c = (size_t)column * (size_t)stride_c + (size_t)row;
            float before = *beta == 0 ? 0 : input(c, at_c, type_c, CUBLAS_COMPUTE_32F);
            output(c, at_c, type_c, (float)(*alpha * sum) + *beta * before);
        }
    }
    return CUBLAS_STATUS_SUCCESS;
}
