/* A libnvidia-ml.so.1 for machines without a driver, with cards at 0000:10:00.0, 0000:11:00.0, ... whose numbers tell
 * which is which. Some are odd: the one at 0000:0f:00.0 knows its memory alone, the one at 0000:0e:00.0 does not answer
 * for some seconds. With tests/gpu/emulated_driver.c beside it, agents that integration tests start find both. */
#include <stdio.h>
#include <string.h>
#include <time.h>

enum { SUCCESS = 0, NOT_SUPPORTED = 3, NOT_FOUND = 6, CARDS = 64, HANG_S = 4 };

struct nvmlDevice_st {
    unsigned bus;
};
typedef struct nvmlDevice_st *nvmlDevice_t;
typedef struct {
    unsigned long long total, free, used;
} nvmlMemory_t;
typedef struct {
    unsigned int gpu, memory;
} nvmlUtilization_t;

static struct nvmlDevice_st cards[CARDS];
static int users;

int nvmlInit_v2(void);
int nvmlShutdown(void);
const char *nvmlErrorString(int code);
int nvmlDeviceGetHandleByPciBusId_v2(const char *bus_id, nvmlDevice_t *device);
int nvmlDeviceGetName(nvmlDevice_t device, char *name, unsigned int bytes);
int nvmlDeviceGetMemoryInfo(nvmlDevice_t device, nvmlMemory_t *memory);
int nvmlDeviceGetUtilizationRates(nvmlDevice_t device, nvmlUtilization_t *utilisation);
int nvmlDeviceGetTemperature(nvmlDevice_t device, int sensor, unsigned int *celsius);
int nvmlDeviceGetPowerUsage(nvmlDevice_t device, unsigned int *milliwatts);

int nvmlInit_v2(void) {
    for (unsigned i = 0; i < CARDS; i++)
        cards[i].bus = i;
    users++;
    return SUCCESS;
}

int nvmlShutdown(void) {
    users--;
    return SUCCESS;
}

const char *nvmlErrorString(int code) {
    return code == SUCCESS ? "Success" : "Some error";
}

int nvmlDeviceGetHandleByPciBusId_v2(const char *bus_id, nvmlDevice_t *device) {
    unsigned domain, bus;
    if (users < 1 || sscanf(bus_id, "%x:%x:00.0", &domain, &bus) != 2 || domain != 0 || bus >= CARDS || bus < 0x0e)
        return NOT_FOUND;
    if (bus == 0x0e)
        nanosleep(&(struct timespec){HANG_S, 0}, NULL);
    *device = &cards[bus];
    return SUCCESS;
}

int nvmlDeviceGetName(nvmlDevice_t device, char *name, unsigned int bytes) {
    snprintf(name, bytes, "fake card %x", device->bus);
    return SUCCESS;
}

int nvmlDeviceGetMemoryInfo(nvmlDevice_t device, nvmlMemory_t *memory) {
    memory->total = 80ULL << 30;
    memory->used = (unsigned long long)(device->bus - 0x0f) << 30;
    memory->free = memory->total - memory->used;
    return SUCCESS;
}

int nvmlDeviceGetUtilizationRates(nvmlDevice_t device, nvmlUtilization_t *utilisation) {
    *utilisation = (nvmlUtilization_t){device->bus, 1};
    return device->bus == 0x0f ? NOT_SUPPORTED : SUCCESS;
}

int nvmlDeviceGetTemperature(nvmlDevice_t device, int sensor, unsigned int *celsius) {
    *celsius = 40 + device->bus;
    return sensor != 0 || device->bus == 0x0f ? NOT_SUPPORTED : SUCCESS;
}

int nvmlDeviceGetPowerUsage(nvmlDevice_t device, unsigned int *milliwatts) {
    *milliwatts = 1000 * device->bus;
    return device->bus == 0x0f ? NOT_SUPPORTED : SUCCESS;
}
