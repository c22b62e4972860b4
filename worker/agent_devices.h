/* Numbers of the devices that an agent offers: GPUs from NVIDIA's management library, the CPU from the kernel. A thread
 * of its own asks once a second, since a card in trouble may not answer for long; what is handed out is its last
 * sample. */
#ifndef LAGOON_WORKER_AGENT_DEVICES_H
#define LAGOON_WORKER_AGENT_DEVICES_H

#include "gpu/nvml.h"
#include "proto/wire.h"
#include "worker/agent_host.h"

struct agent_devices;

struct agent_devices_options {
    const char (*devices)[HOST_DEVICE_BYTES]; /* as they are offered: "cuda:0/bf16", "cpu", "auto" (the CPU) */
    size_t device_count;
    const char *library;                                             /* NVML_LIBRARY */
    bool (*bus_id)(unsigned number, char bus_id[NVML_BUS_ID_BYTES]); /* nvml_bus_id; runs in the thread */
};

struct device_sample {
    struct wire_device_stats stats; /* its texts are the two below */
    char device[HOST_DEVICE_BYTES], name[NVML_NAME_BYTES];
};

/* Starts the thread; NULL where it cannot be: then nothing is known. */
struct agent_devices *agent_devices_start(const struct agent_devices_options *options);
/* Waits a second at most: a thread that hangs in a driver is left behind. NULL is fine. */
void agent_devices_stop(struct agent_devices *devices);
/* The last sample of every device that something is known of, none older than ten seconds; returns their number. Does
 * not wait. NULL is fine. */
size_t agent_devices_take(struct agent_devices *devices, struct device_sample samples[HOST_DEVICES_MAX]);

/* ---- the CPU; `file` is in the form of /proc/meminfo, /proc/stat. False: it says nothing of it. */
bool host_read_memory(FILE *file, uint64_t *bytes, uint64_t *used_bytes);
/* Ticks since the start of the machine, of all cores. */
bool host_read_ticks(FILE *file, uint64_t *busy, uint64_t *all);
/* Of the ticks since a moment ago; 100 at most: the kernel's count of idle ones may go back a little. */
uint32_t host_busy_percent(uint64_t busy, uint64_t all);

#endif
