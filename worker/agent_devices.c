#include "worker/agent_devices.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/log.h"
#include "gpu/device.h"

enum { SAMPLE_MS = 1000, STALE_MS = 10000, STOP_MS = 1000 };

struct slot {
    struct device_sample sample;
    bool known;
    int64_t taken_ms;
    bool gpu;
    unsigned number;
    char bus_id[NVML_BUS_ID_BYTES]; /* "": not asked for yet */
};

struct agent_devices {
    pthread_t thread;
    pthread_mutex_t mutex; /* over `stopping`, and each slot's sample, known, taken_ms */
    pthread_cond_t changed;
    bool stopping;
    struct slot slots[HOST_DEVICES_MAX];
    size_t slot_count;
    /* the thread's own */
    const char *library;
    bool (*bus_id)(unsigned number, char bus_id[NVML_BUS_ID_BYTES]);
    struct nvml *nvml;
    FILE *memory, *times; /* /proc/meminfo, /proc/stat; opened once, as NULL or for good */
    uint64_t busy_ticks, all_ticks;
};

static struct timespec time_in(clockid_t clock, int64_t ms) {
    struct timespec at;
    clock_gettime(clock, &at);
    at.tv_sec += ms / 1000;
    at.tv_nsec += ms % 1000 * 1000000;
    if (at.tv_nsec >= 1000000000) {
        at.tv_sec++;
        at.tv_nsec -= 1000000000;
    }
    return at;
}

static int64_t now_ms(void) {
    struct timespec now = time_in(CLOCK_MONOTONIC, 0);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* ---- the CPU */

bool host_read_memory(FILE *file, uint64_t *bytes, uint64_t *used_bytes) {
    char line[256];
    uint64_t total_kib = 0, free_kib = 0, number;
    while (fgets(line, sizeof line, file)) {
        if (sscanf(line, "MemTotal: %" SCNu64, &number) == 1)
            total_kib = number;
        else if (sscanf(line, "MemAvailable: %" SCNu64, &number) == 1)
            free_kib = number;
    }
    *bytes = total_kib * 1024;
    *used_bytes = (total_kib > free_kib ? total_kib - free_kib : 0) * 1024;
    return total_kib > 0 && free_kib > 0;
}

bool host_read_ticks(FILE *file, uint64_t *busy, uint64_t *all) {
    uint64_t user, nice, system, idle, waiting = 0, hard = 0, soft = 0, stolen = 0;
    if (fscanf(file, "cpu %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64,
               &user, &nice, &system, &idle, &waiting, &hard, &soft, &stolen) < 4)
        return false;
    *busy = user + nice + system + hard + soft + stolen;
    *all = *busy + idle + waiting;
    return true;
}

uint32_t host_busy_percent(uint64_t busy, uint64_t all) {
    return busy < all ? (uint32_t)(100 * busy / all) : 100;
}

/* From the beginning, and not what was read ahead before. */
static void read_anew(FILE *file) {
    if (!file)
        return;
    (void)fflush(file);
    rewind(file);
}

static bool sample_cpu(struct agent_devices *devices, struct device_sample *sample) {
    struct wire_device_stats *stats = &sample->stats;
    uint64_t busy = 0, all = 0, busy_before = devices->busy_ticks, all_before = devices->all_ticks;
    read_anew(devices->memory);
    read_anew(devices->times);
    bool known = devices->memory && host_read_memory(devices->memory, &stats->memory_bytes, &stats->memory_used_bytes);
    if (devices->times && host_read_ticks(devices->times, &busy, &all)) {
        devices->busy_ticks = busy;
        devices->all_ticks = all;
        stats->utilisation_known = all_before > 0 && all > all_before && busy >= busy_before;
        if (stats->utilisation_known)
            stats->utilisation_percent = host_busy_percent(busy - busy_before, all - all_before);
    }
    snprintf(sample->name, sizeof sample->name, "%" PRId64 " core%s", host_cores(), host_cores() == 1 ? "" : "s");
    return known || stats->utilisation_known;
}

/* ---- GPUs */

static bool sample_gpu(struct agent_devices *devices, struct slot *slot, struct device_sample *sample) {
    struct nvml_numbers numbers;
    struct wire_device_stats *stats = &sample->stats;
    if (!devices->nvml)
        return false;
    if (!slot->bus_id[0] && !devices->bus_id(slot->number, slot->bus_id))
        slot->bus_id[0] = '\0';
    if (!slot->bus_id[0] || !nvml_read(devices->nvml, slot->bus_id, &numbers))
        return false;
    stats->memory_bytes = numbers.memory_known ? numbers.memory_bytes : 0;
    stats->memory_used_bytes = numbers.memory_known ? numbers.memory_used_bytes : 0;
    stats->utilisation_known = numbers.utilisation_known;
    stats->utilisation_percent = numbers.utilisation_known ? numbers.utilisation_percent : 0;
    stats->temperature_c = numbers.temperature_known ? numbers.temperature_c : 0;
    stats->power_mw = numbers.power_known ? numbers.power_mw : 0;
    memcpy(sample->name, numbers.name, sizeof sample->name);
    return true;
}

/* ---- the thread */

static bool has_gpu(const struct agent_devices *devices) {
    for (size_t i = 0; i < devices->slot_count; i++)
        if (devices->slots[i].gpu)
            return true;
    return false;
}

static void open_library(struct agent_devices *devices) {
    struct lg_error error = {0};
    if (has_gpu(devices) && nvml_open(devices->library, &devices->nvml, &error) != LG_OK)
        log_info("device-numbers", "memory and utilisation of GPUs are not known: %s", error.message);
}

static void take_sample(struct agent_devices *devices, struct slot *slot) {
    struct device_sample sample = {0};
    bool known = slot->gpu ? sample_gpu(devices, slot, &sample) : sample_cpu(devices, &sample);
    memcpy(sample.device, slot->sample.device, sizeof sample.device); /* does not change */
    pthread_mutex_lock(&devices->mutex);
    slot->sample = sample;
    slot->known = known;
    slot->taken_ms = now_ms();
    pthread_mutex_unlock(&devices->mutex);
}

/* False: the agent stops. */
static bool rest(struct agent_devices *devices) {
    struct timespec until = time_in(CLOCK_MONOTONIC, SAMPLE_MS);
    pthread_mutex_lock(&devices->mutex);
    while (!devices->stopping && pthread_cond_timedwait(&devices->changed, &devices->mutex, &until) != ETIMEDOUT)
        ;
    bool go_on = !devices->stopping;
    pthread_mutex_unlock(&devices->mutex);
    return go_on;
}

static void *run(void *argument) {
    struct agent_devices *devices = argument;
    open_library(devices);
    do {
        for (size_t i = 0; i < devices->slot_count; i++)
            take_sample(devices, &devices->slots[i]);
    } while (rest(devices));
    nvml_close(devices->nvml);
    return NULL;
}

/* ---- life */

static void add_slot(struct agent_devices *devices, const char *device) {
    struct slot *slot = &devices->slots[devices->slot_count++];
    const char *math;
    memcpy(slot->sample.device, device, HOST_DEVICE_BYTES);
    slot->gpu = device_spec_is_cuda(device, &slot->number, &math);
}

static void release(struct agent_devices *devices) {
    if (devices->memory)
        fclose(devices->memory);
    if (devices->times)
        fclose(devices->times);
    pthread_cond_destroy(&devices->changed);
    pthread_mutex_destroy(&devices->mutex);
    free(devices);
}

struct agent_devices *agent_devices_start(const struct agent_devices_options *options) {
    struct agent_devices *devices = calloc(1, sizeof *devices);
    pthread_condattr_t attributes;
    if (!devices)
        return NULL;
    devices->memory = fopen("/proc/meminfo", "re");
    devices->times = fopen("/proc/stat", "re");
    devices->library = options->library;
    devices->bus_id = options->bus_id;
    for (size_t i = 0; i < options->device_count && i < HOST_DEVICES_MAX; i++)
        add_slot(devices, options->devices[i]);
    pthread_mutex_init(&devices->mutex, NULL);
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&devices->changed, &attributes);
    pthread_condattr_destroy(&attributes);
    if (pthread_create(&devices->thread, NULL, run, devices) == 0)
        return devices;
    log_warn("device-numbers", "memory and utilisation of devices are not known: no thread can be started");
    release(devices);
    return NULL;
}

void agent_devices_stop(struct agent_devices *devices) {
    if (!devices)
        return;
    pthread_mutex_lock(&devices->mutex);
    devices->stopping = true;
    pthread_cond_signal(&devices->changed);
    pthread_mutex_unlock(&devices->mutex);
    struct timespec until = time_in(CLOCK_REALTIME, STOP_MS);
    if (pthread_timedjoin_np(devices->thread, NULL, &until) != 0) {
        log_warn("device-numbers", "the management library of a GPU does not answer: not waiting for it");
        pthread_detach(devices->thread);
        return; /* its memory is still in use */
    }
    release(devices);
}

size_t agent_devices_take(struct agent_devices *devices, struct device_sample samples[HOST_DEVICES_MAX]) {
    size_t count = 0;
    if (!devices)
        return 0;
    pthread_mutex_lock(&devices->mutex);
    for (size_t i = 0; i < devices->slot_count; i++) {
        const struct slot *slot = &devices->slots[i];
        if (slot->known && now_ms() - slot->taken_ms < STALE_MS)
            samples[count++] = slot->sample;
    }
    pthread_mutex_unlock(&devices->mutex);
    for (size_t i = 0; i < count; i++) {
        samples[i].stats.device = samples[i].device;
        samples[i].stats.name = samples[i].name;
    }
    return count;
}
