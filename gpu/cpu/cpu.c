/* The CPU device: memory is host memory, and an op has run when its call returns, so streams and events have nothing
 * to wait for. */
#include "gpu/cpu/cpu.h"

#include <cblas.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

static unsigned cores_allowed(void) {
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) != 0)
        return 1;
    int count = CPU_COUNT(&set);
    return count < 1 ? 1 : count > CPU_THREADS_MAX ? CPU_THREADS_MAX : (unsigned)count;
}

static void cpu_close(struct device *base) {
    struct cpu_device *device = (struct cpu_device *)base;
    cpu_team_free(device->team);
    for (unsigned i = 0; device->scratch && i < base->threads; i++)
        free(device->scratch[i].memory);
    free(device->scratch);
    free(device);
}

enum lg_status cpu_device_open(unsigned threads, struct device **out, struct lg_error *error) {
    if (threads > CPU_THREADS_MAX)
        return lg_fail(error, LG_INVALID, "%u threads for device \"cpu\": %d is the most", threads, CPU_THREADS_MAX);
    struct cpu_device *device = calloc(1, sizeof *device);
    if (!device)
        return lg_fail(error, LG_NO_MEMORY, "no memory for device \"cpu\"");
    device->base.ops = &cpu_ops;
    device->base.threads = threads ? threads : cores_allowed();
    device->base.host_memory = true;
    device->base.activation_bytes = sizeof(float);
    snprintf(device->base.name, sizeof device->base.name, "cpu, %u thread%s, OpenBLAS %s", device->base.threads,
             device->base.threads == 1 ? "" : "s", openblas_get_corename());
    device->scratch = calloc(device->base.threads, sizeof *device->scratch);
    if (device->base.threads > 1)
        device->team = cpu_team_new(device->base.threads);
    if (!device->scratch || (device->base.threads > 1 && !device->team)) {
        cpu_close(&device->base);
        return lg_fail(error, LG_NO_MEMORY, "cannot start %u threads for device \"cpu\": ask for fewer", threads);
    }
    openblas_set_num_threads(1); /* see team.c */
    *out = &device->base;
    return LG_OK;
}

static void *cpu_alloc(struct device *device, size_t bytes) {
    (void)device;
    if (bytes > SIZE_MAX - CPU_ALIGNMENT_BYTES)
        return NULL;
    size_t rounded = (bytes + CPU_ALIGNMENT_BYTES - 1) / CPU_ALIGNMENT_BYTES * CPU_ALIGNMENT_BYTES;
    return aligned_alloc(CPU_ALIGNMENT_BYTES, rounded ? rounded : CPU_ALIGNMENT_BYTES);
}

static void cpu_free(struct device *device, void *memory) {
    (void)device;
    free(memory);
}

static uint64_t cpu_memory_used(struct device *device) {
    unsigned long long all, resident = 0;
    FILE *file = fopen("/proc/self/statm", "re");
    (void)device;
    if (file && fscanf(file, "%llu %llu", &all, &resident) != 2)
        resident = 0;
    if (file)
        fclose(file);
    return resident * (uint64_t)sysconf(_SC_PAGESIZE);
}

static void cpu_transfer(struct device_stream *s, size_t bytes, const void *from, void *to) {
    (void)s;
    if (bytes)
        memcpy(to, from, bytes);
}

static bool cpu_host_register(struct device *device, void *memory, size_t bytes, bool read_only) {
    (void)device;
    (void)memory;
    (void)bytes;
    (void)read_only;
    return false;
}

static void cpu_host_unregister(struct device *device, void *memory) {
    (void)device;
    (void)memory;
}

static struct device_stream *cpu_stream_open(struct device *device) {
    struct device_stream *s = calloc(1, sizeof *s);
    if (s)
        s->device = device;
    return s;
}

static void cpu_stream_close(struct device_stream *s) {
    free(s);
}

static enum lg_status failure_take(struct device *base, struct lg_error *error) {
    struct cpu_device *device = (struct cpu_device *)base;
    if (!atomic_exchange(&device->out_of_memory, false))
        return LG_OK;
    return lg_fail(error, LG_NO_MEMORY, "no memory for the scratch buffers of device \"cpu\": use a smaller batch");
}

static enum lg_status cpu_synchronize(struct device_stream *s, struct lg_error *error) {
    return failure_take(s->device, error);
}

static struct device_event *cpu_event_open(struct device *device) {
    struct cpu_event *event = calloc(1, sizeof *event);
    if (!event)
        return NULL;
    event->base.device = device;
    return &event->base;
}

static void cpu_event_close(struct device_event *event) {
    free(event);
}

static void cpu_event_record(struct device_stream *s, struct device_event *base) {
    struct cpu_event *event = (struct cpu_event *)base;
    struct timespec now;
    (void)s;
    clock_gettime(CLOCK_MONOTONIC, &now);
    event->recorded_ns = (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static enum lg_status cpu_event_elapsed(struct device_event *from, struct device_event *to, uint64_t *ns,
                                        struct lg_error *error) {
    uint64_t begin = ((struct cpu_event *)from)->recorded_ns, end = ((struct cpu_event *)to)->recorded_ns;
    (void)error;
    *ns = end > begin ? end - begin : 0;
    return LG_OK;
}

static void cpu_event_wait(struct device_stream *s, struct device_event *event) {
    (void)s;
    (void)event;
}

static enum lg_status cpu_event_synchronize(struct device_event *event, struct lg_error *error) {
    return failure_take(event->device, error);
}

const struct device_ops cpu_ops = {
    .kind = "cpu",
    .close = cpu_close,
    .alloc = cpu_alloc,
    .free = cpu_free,
    .memory_used = cpu_memory_used,
    .upload = cpu_transfer,
    .download = cpu_transfer,
    .copy = cpu_transfer,
    .host_register = cpu_host_register,
    .host_unregister = cpu_host_unregister,
    .stream_open = cpu_stream_open,
    .stream_close = cpu_stream_close,
    .synchronize = cpu_synchronize,
    .event_open = cpu_event_open,
    .event_close = cpu_event_close,
    .event_record = cpu_event_record,
    .event_wait = cpu_event_wait,
    .event_synchronize = cpu_event_synchronize,
    .event_open_timed = cpu_event_open,
    .event_elapsed = cpu_event_elapsed,
    .gemm = cpu_gemm,
    .gemm_gradient = cpu_gemm_gradient,
    .zero = cpu_zero,
    .narrow = cpu_narrow,
    .widen = cpu_widen,
    .fill = cpu_fill,
    .scale = cpu_scale,
    .axpy = cpu_axpy,
    .add = cpu_add,
    .bias_add = cpu_bias_add,
    .bias_residual = cpu_bias_residual,
    .column_sums = cpu_column_sums,
    .relu_forward = cpu_relu_forward,
    .relu_backward = cpu_relu_backward,
    .gelu_forward = cpu_gelu_forward,
    .gelu_backward = cpu_gelu_backward,
    .bias_relu = cpu_bias_relu,
    .bias_gelu = cpu_bias_gelu,
    .relu_backward_sums = cpu_relu_backward_sums,
    .gelu_backward_sums = cpu_gelu_backward_sums,
    .softmax_cross_entropy = cpu_softmax_cross_entropy,
    .norm_forward = cpu_norm_forward,
    .norm_backward = cpu_norm_backward,
    .attention_saved = cpu_attention_saved,
    .attention_forward = cpu_attention_forward,
    .attention_backward = cpu_attention_backward,
    .embedding_forward = cpu_embedding_forward,
    .embedding_backward = cpu_embedding_backward,
    .conv_forward = cpu_conv_forward,
    .conv_backward = cpu_conv_backward,
    .pool_forward = cpu_pool_forward,
    .pool_backward = cpu_pool_backward,
    .sparse_forward = cpu_sparse_forward,
    .sparse_backward = cpu_sparse_backward,
    .adamw = cpu_adamw,
    .encode = cpu_encode,
    .take_back = cpu_take_back,
    .scale_units = cpu_scale_units,
    .clip = cpu_clip,
};
