/* The CUDA device: memory, streams and events of one GPU. */
#include "gpu/cuda/cuda.cuh"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static_assert(CUDA_BLOCK == CUDA_WARP * CUDA_TILE_ROWS, "both kinds of block have as many threads");

/* ---- failures */

void cuda_fail(struct cuda_device *device, enum lg_status status, const char *what, const char *why) {
    if (device->failure != LG_OK)
        return;
    device->failure = status;
    snprintf(device->failure_text, sizeof device->failure_text, "%s: %s", what, why);
}

static enum lg_status status_of(cudaError_t code) {
    switch (code) {
    case cudaErrorMemoryAllocation:
        return LG_NO_MEMORY;
    case cudaErrorInvalidValue:
    case cudaErrorInvalidConfiguration:
    case cudaErrorIllegalAddress:
    case cudaErrorLaunchOutOfResources:
        return LG_INTERNAL;
    default:
        return LG_IO;
    }
}

bool cuda_check(struct cuda_device *device, const char *what, cudaError_t code) {
    if (code == cudaSuccess)
        return true;
    cudaGetLastError(); /* so that the next call does not return it again */
    cuda_fail(device, status_of(code), what, cudaGetErrorString(code));
    return false;
}

/* Returns and clears what went wrong since the last call. */
static enum lg_status failure_take(struct cuda_device *device, struct lg_error *error) {
    enum lg_status status = device->failure;
    device->failure = LG_OK;
    if (status == LG_OK)
        return LG_OK;
    return lg_fail(error, status, "%s on device \"cuda:%d\"%s", device->failure_text, device->number,
                   status == LG_NO_MEMORY ? "; use a smaller batch or model" : "");
}

/* ---- memory */

static void cuda_close(struct device *base) {
    struct cuda_device *device = (struct cuda_device *)(void *)base;
    while (device->blocks) { /* what was not freed is the caller's to answer for; its notes are ours */
        struct cuda_block *block = device->blocks;
        device->blocks = block->next;
        free(block);
    }
    free(device);
}

/* Makes a device the thread's current one. Every op asks, nearly all of them in vain: the runtime need not be. Nothing
 * else in the process chooses devices. */
static cudaError_t choose_device(int number) {
    static thread_local int chosen = -1;
    if (number == chosen)
        return cudaSuccess;
    cudaError_t code = cudaSetDevice(number);
    chosen = code == cudaSuccess ? number : -1;
    return code;
}

static struct cuda_device *enter_device(struct device *base) {
    struct cuda_device *device = (struct cuda_device *)(void *)base;
    cuda_check(device, "cudaSetDevice", choose_device(device->number));
    return device;
}

struct cuda_stream *cuda_enter(struct device_stream *s) {
    enter_device(s->device);
    return (struct cuda_stream *)(void *)s;
}

/* A failure here is the caller's to report, and no longer the device's. */
static void *memory_alloc(size_t bytes) {
    void *memory = NULL;
    if (cudaMalloc(&memory, bytes ? bytes : 1) == cudaSuccess)
        return memory;
    cudaGetLastError();
    return NULL;
}

/* Notes how much it is, for cuda_memory_used. */
static void *cuda_alloc(struct device *base, size_t bytes) {
    struct cuda_device *device = enter_device(base);
    struct cuda_block *block = (struct cuda_block *)calloc(1, sizeof *block);
    void *memory = block ? memory_alloc(bytes) : NULL;
    if (!memory) {
        free(block);
        return NULL;
    }
    *block = (struct cuda_block){device->blocks, memory, bytes};
    device->blocks = block;
    device->allocated_bytes += bytes;
    return memory;
}

static void forget(struct cuda_device *device, const void *memory) {
    for (struct cuda_block **at = &device->blocks; *at; at = &(*at)->next) {
        struct cuda_block *block = *at;
        if (block->memory != memory)
            continue;
        device->allocated_bytes -= block->bytes;
        *at = block->next;
        free(block);
        return;
    }
}

static void cuda_free(struct device *base, void *memory) {
    struct cuda_device *device = enter_device(base);
    if (!memory)
        return;
    forget(device, memory);
    cuda_check(device, "cudaFree", cudaFree(memory));
}

static uint64_t cuda_memory_used(struct device *base) {
    return ((struct cuda_device *)(void *)base)->allocated_bytes;
}

static void transfer(struct device_stream *base, size_t bytes, const void *from, void *to, cudaMemcpyKind kind) {
    struct cuda_stream *s = cuda_enter(base);
    if (bytes)
        cuda_check(cuda_device_of(s), "copy", cudaMemcpyAsync(to, from, bytes, kind, s->stream));
}

static void cuda_upload(struct device_stream *s, size_t bytes, const void *host, void *memory) {
    transfer(s, bytes, host, memory, cudaMemcpyHostToDevice);
}

static void cuda_download(struct device_stream *s, size_t bytes, const void *memory, void *host) {
    transfer(s, bytes, memory, host, cudaMemcpyDeviceToHost);
}

static void cuda_copy(struct device_stream *s, size_t bytes, const void *from, void *to) {
    transfer(s, bytes, from, to, cudaMemcpyDeviceToDevice);
}

static bool cuda_host_register(struct device *base, void *memory, size_t bytes, bool read_only) {
    const struct cuda_device *device = enter_device(base);
    if (bytes == 0 || (read_only && !device->register_read_only))
        return false;
    unsigned flags = cudaHostRegisterPortable | (read_only ? (unsigned)cudaHostRegisterReadOnly : 0u);
    if (cudaHostRegister(memory, bytes, flags) == cudaSuccess)
        return true;
    cudaGetLastError();
    return false;
}

static void cuda_host_unregister(struct device *base, void *memory) {
    struct cuda_device *device = enter_device(base);
    cuda_check(device, "cudaHostUnregister", cudaHostUnregister(memory));
}

/* It grows seldom, so that waiting for the stream before the old memory goes costs nothing. */
void *cuda_scratch(struct cuda_stream *s, enum cuda_room_of which, const char *what, size_t bytes) {
    struct cuda_room *room = &s->rooms[which];
    if (bytes <= room->bytes)
        return room->memory;
    cuda_check(cuda_device_of(s), what, cudaStreamSynchronize(s->stream));
    if (room->memory)
        cuda_check(cuda_device_of(s), what, cudaFree(room->memory));
    cuda_device_of(s)->allocated_bytes -= room->bytes;
    room->memory = memory_alloc(bytes);
    room->bytes = room->memory ? bytes : 0;
    cuda_device_of(s)->allocated_bytes += room->bytes;
    if (!room->memory)
        cuda_fail(cuda_device_of(s), LG_NO_MEMORY, what, "no memory for intermediate results");
    return room->memory;
}

/* ---- order */

static void cuda_stream_close(struct device_stream *base) {
    if (!base)
        return;
    struct cuda_stream *s = cuda_enter(base);
    struct cuda_device *device = cuda_device_of(s);
    cuda_check(device, "closing a stream", cudaStreamSynchronize(s->stream));
    if (s->blas)
        cublasDestroy(s->blas);
    for (int i = 0; i < CUDA_ROOMS; i++)
        if (s->rooms[i].memory) {
            device->allocated_bytes -= s->rooms[i].bytes;
            cuda_check(device, "closing a stream", cudaFree(s->rooms[i].memory));
        }
    cuda_check(device, "closing a stream", cudaStreamDestroy(s->stream));
    free(s);
}

static struct device_stream *cuda_stream_open(struct device *base) {
    enter_device(base);
    struct cuda_stream *s = (struct cuda_stream *)calloc(1, sizeof *s);
    if (!s)
        return NULL;
    s->base.device = base;
    if (cudaStreamCreateWithFlags(&s->stream, cudaStreamNonBlocking) == cudaSuccess)
        return &s->base;
    cudaGetLastError();
    free(s);
    return NULL;
}

static enum lg_status cuda_synchronize(struct device_stream *base, struct lg_error *error) {
    struct cuda_stream *s = cuda_enter(base);
    cuda_check(cuda_device_of(s), "queued work", cudaStreamSynchronize(s->stream));
    return failure_take(cuda_device_of(s), error);
}

static struct device_event *open_event(struct device *base, unsigned flags) {
    enter_device(base);
    struct cuda_event *event = (struct cuda_event *)calloc(1, sizeof *event);
    if (!event)
        return NULL;
    event->base.device = base;
    if (cudaEventCreateWithFlags(&event->event, flags) == cudaSuccess)
        return &event->base;
    cudaGetLastError();
    free(event);
    return NULL;
}

static struct device_event *cuda_event_open(struct device *base) {
    return open_event(base, cudaEventDisableTiming);
}

static struct device_event *cuda_event_open_timed(struct device *base) {
    return open_event(base, cudaEventDefault);
}

static void cuda_event_close(struct device_event *base) {
    if (!base)
        return;
    struct cuda_event *event = (struct cuda_event *)(void *)base;
    cuda_check(enter_device(base->device), "closing an event", cudaEventDestroy(event->event));
    free(event);
}

static void cuda_event_record(struct device_stream *base, struct device_event *event) {
    struct cuda_stream *s = cuda_enter(base);
    cuda_check(cuda_device_of(s), "recording an event",
               cudaEventRecord(((struct cuda_event *)(void *)event)->event, s->stream));
}

static void cuda_event_wait(struct device_stream *base, struct device_event *event) {
    struct cuda_stream *s = cuda_enter(base);
    cuda_check(cuda_device_of(s), "waiting for an event",
               cudaStreamWaitEvent(s->stream, ((struct cuda_event *)(void *)event)->event, 0));
}

static enum lg_status cuda_event_synchronize(struct device_event *base, struct lg_error *error) {
    struct cuda_device *device = enter_device(base->device);
    cuda_check(device, "queued work", cudaEventSynchronize(((struct cuda_event *)(void *)base)->event));
    return failure_take(device, error);
}

static enum lg_status cuda_event_elapsed(struct device_event *from, struct device_event *to, uint64_t *ns,
                                         struct lg_error *error) {
    struct cuda_device *device = enter_device(from->device);
    float ms = 0;
    cuda_check(device, "reading the time of an event",
               cudaEventElapsedTime(&ms, ((struct cuda_event *)(void *)from)->event,
                                    ((struct cuda_event *)(void *)to)->event));
    *ns = ms > 0 ? (uint64_t)(1e6 * (double)ms) : 0;
    return failure_take(device, error);
}

static const struct device_ops cuda_ops = {
    .kind = "cuda",
    .close = cuda_close,
    .alloc = cuda_alloc,
    .free = cuda_free,
    .memory_used = cuda_memory_used,
    .upload = cuda_upload,
    .download = cuda_download,
    .copy = cuda_copy,
    .host_register = cuda_host_register,
    .host_unregister = cuda_host_unregister,
    .stream_open = cuda_stream_open,
    .stream_close = cuda_stream_close,
    .synchronize = cuda_synchronize,
    .event_open = cuda_event_open,
    .event_close = cuda_event_close,
    .event_record = cuda_event_record,
    .event_wait = cuda_event_wait,
    .event_synchronize = cuda_event_synchronize,
    .event_open_timed = cuda_event_open_timed,
    .event_elapsed = cuda_event_elapsed,
    .gemm = cuda_gemm,
    .gemm_gradient = cuda_gemm_gradient,
    .zero = cuda_zero,
    .narrow = cuda_narrow,
    .widen = cuda_widen,
    .fill = cuda_fill,
    .scale = cuda_scale,
    .axpy = cuda_axpy,
    .add = cuda_add,
    .bias_add = cuda_bias_add,
    .bias_residual = cuda_bias_residual,
    .column_sums = cuda_column_sums,
    .relu_forward = cuda_relu_forward,
    .relu_backward = cuda_relu_backward,
    .gelu_forward = cuda_gelu_forward,
    .gelu_backward = cuda_gelu_backward,
    .bias_relu = cuda_bias_relu,
    .bias_gelu = cuda_bias_gelu,
    .relu_backward_sums = cuda_relu_backward_sums,
    .gelu_backward_sums = cuda_gelu_backward_sums,
    .softmax_cross_entropy = cuda_softmax_cross_entropy,
    .norm_forward = cuda_norm_forward,
    .norm_backward = cuda_norm_backward,
    .attention_saved = cuda_attention_saved,
    .attention_forward = cuda_attention_forward,
    .attention_backward = cuda_attention_backward,
    .embedding_forward = cuda_embedding_forward,
    .embedding_backward = cuda_embedding_backward,
    .conv_forward = cuda_conv_forward,
    .conv_backward = cuda_conv_backward,
    .pool_forward = cuda_pool_forward,
    .pool_backward = cuda_pool_backward,
    .sparse_forward = cuda_sparse_forward,
    .sparse_backward = cuda_sparse_backward,
    .adamw = cuda_adamw,
    .encode = cuda_encode,
    .take_back = cuda_take_back,
    .scale_units = cuda_scale_units,
    .clip = cuda_clip,
};

/* ---- life */

static bool math_parse(const char *name, enum cuda_math *math) {
    static const char *const names[] = {"f32", "tf32", "bf16"};
    for (int i = 0; i < 3; i++) {
        if (strcmp(name, names[i]) == 0) {
            *math = (enum cuda_math)i;
            return true;
        }
    }
    return false;
}

/* Floating-point operations a second, two for each multiply-add, that products of this math get at most: per
 * multiprocessor and clock, as NVIDIA's whitepapers of A100 and H100 give them (dense). 108 multiprocessors of an A100
 * at 1.41 GHz come to its 312 TFLOP/s in bf16, 132 of an H100 SXM at 1.83 GHz to its 989. The clock is the highest that
 * the device says it has, which may be above the one those figures are for. */
static double flops_peak(int major, int minor, enum cuda_math math, double multiprocessors, double clock_hz) {
    static const struct {
        int major, minor;
        double flops[3]; /* f32, tf32, bf16 */
    } rows[] = {
        {8, 0, {128, 1024, 2048}},
        {9, 0, {256, 2048, 4096}},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (rows[i].major == major && rows[i].minor == minor)
            return rows[i].flops[math] * multiprocessors * clock_hz;
    return 0;
}

/* How many GPUs there are; UNSUPPORTED where the driver gives none. */
static enum lg_status count_devices(unsigned number, unsigned *count, struct lg_error *error) {
    int found = 0;
    cudaError_t code = cudaGetDeviceCount(&found);
    *count = (unsigned)found;
    if (code != cudaSuccess || found == 0) {
        cudaGetLastError();
        return lg_fail(error, LG_UNSUPPORTED, "device \"cuda:%u\": no GPU can be used: %s", number,
                       code == cudaSuccess ? "the driver sees none" : cudaGetErrorString(code));
    }
    if (number < *count)
        return LG_OK;
    return lg_fail(error, LG_NOT_FOUND, "there is no device \"cuda:%u\": this machine has %u GPU%s, from cuda:0 on",
                   number, *count, *count == 1 ? "" : "s");
}

static enum lg_status look_at(struct cuda_device *device, const char *math, struct lg_error *error) {
    cudaDeviceProp properties;
    int read_only = 0, clock_khz = 0;
    cudaError_t code = choose_device(device->number);
    if (code == cudaSuccess)
        code = cudaGetDeviceProperties(&properties, device->number);
    if (code == cudaSuccess) /* makes the context now, so that what is wrong with it is said here */
        code = cudaFree(NULL);
    if (code != cudaSuccess) {
        cudaGetLastError();
        return lg_fail(error, LG_UNSUPPORTED, "device \"cuda:%d\" cannot be opened: %s", device->number,
                       cudaGetErrorString(code));
    }
    if (properties.major < CUDA_CAPABILITY_LEAST)
        return lg_fail(error, LG_UNSUPPORTED,
                       "device \"cuda:%d\" is a %s of compute capability %d.%d: 8.0 or later is needed", device->number,
                       properties.name, properties.major, properties.minor);
    cudaDeviceGetAttribute(&read_only, cudaDevAttrHostRegisterReadOnlySupported, device->number);
    if (cudaDeviceGetAttribute(&clock_khz, cudaDevAttrClockRate, device->number) != cudaSuccess)
        clock_khz = 0;
    cudaGetLastError(); /* so that the first launch does not return what an attribute that is not known has left */
    device->register_read_only = read_only != 0;
    device->multiprocessors = (unsigned)properties.multiProcessorCount;
    device->shared_bytes_max = properties.sharedMemPerBlockOptin;
    device->base.flops_peak = flops_peak(properties.major, properties.minor, device->math,
                                         (double)properties.multiProcessorCount, 1e3 * (double)clock_khz);
    snprintf(device->base.name, sizeof device->base.name, "cuda:%d, %.64s, %zu MiB, products in %s", device->number,
             properties.name, properties.totalGlobalMem >> 20, math);
    return LG_OK;
}

static enum lg_status backend_open(unsigned number, const char *math, struct device **out, struct lg_error *error) {
    unsigned count;
    enum lg_status status = count_devices(number, &count, error);
    *out = NULL;
    if (status != LG_OK)
        return status;
    struct cuda_device *device = (struct cuda_device *)calloc(1, sizeof *device);
    if (!device)
        return lg_fail(error, LG_NO_MEMORY, "no memory for device \"cuda:%u\"", number);
    device->base.ops = &cuda_ops;
    device->base.threads = 1;
    device->base.activation_bytes = sizeof(float);
    device->number = (int)number;
    if (math_parse(math, &device->math))
        status = look_at(device, math, error);
    else
        status = lg_fail(error, LG_INVALID, "products are computed in f32, tf32 or bf16, not in \"%s\"", math);
    if (device->math == CUDA_MATH_BF16)
        device->base.activation_bytes = sizeof(__nv_bfloat16);
    if (status == LG_OK)
        *out = &device->base;
    else
        free(device);
    return status;
}

extern "C" __attribute__((visibility("default"))) const struct cuda_backend lagoon_cuda_backend = {
    CUDA_BACKEND_ABI, sizeof(struct device_ops), LAGOON_VERSION, backend_open};

/* ---- shapes of launches */

unsigned cuda_spread(struct cuda_stream *s, size_t n, size_t each) {
    size_t blocks = (n + each - 1) / each, most = (size_t)cuda_device_of(s)->multiprocessors * CUDA_BLOCKS_EACH;
    return (unsigned)(blocks < 1 ? 1 : blocks > most ? most : blocks);
}
