#include "gpu/nvml.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- the library's interface: functions return 0 for success */

typedef struct nvml_device *nvml_device;

struct nvml_memory { /* nvmlMemory_t */
    unsigned long long total, free, used;
};

struct nvml_utilisation { /* nvmlUtilization_t, percent */
    unsigned gpu, memory;
};

enum { NVML_TEMPERATURE_GPU = 0 };

struct nvml {
    void *library;
    int (*init)(void);
    int (*shutdown)(void);
    const char *(*error_text)(int code);
    int (*find)(const char *bus_id, nvml_device *device);
    int (*name)(nvml_device device, char *name, unsigned bytes);
    int (*memory)(nvml_device device, struct nvml_memory *memory);
    int (*utilisation)(nvml_device device, struct nvml_utilisation *utilisation);
    int (*temperature)(nvml_device device, unsigned sensor, unsigned *celsius);
    int (*power)(nvml_device device, unsigned *milliwatts);
};

/* ---- loading */

static bool find_functions(struct nvml *nvml, const char **missing) {
    const struct {
        const char *name;
        void *slot; /* of a pointer to a function */
    } functions[] = {
        {"nvmlInit_v2", &nvml->init},
        {"nvmlShutdown", &nvml->shutdown},
        {"nvmlErrorString", &nvml->error_text},
        {"nvmlDeviceGetHandleByPciBusId_v2", &nvml->find},
        {"nvmlDeviceGetName", &nvml->name},
        {"nvmlDeviceGetMemoryInfo", &nvml->memory},
        {"nvmlDeviceGetUtilizationRates", &nvml->utilisation},
        {"nvmlDeviceGetTemperature", &nvml->temperature},
        {"nvmlDeviceGetPowerUsage", &nvml->power},
    };
    for (size_t i = 0; i < sizeof functions / sizeof *functions; i++) {
        void *address = dlsym(nvml->library, functions[i].name);
        *missing = functions[i].name;
        if (!address)
            return false;
        memcpy(functions[i].slot, &address, sizeof address);
    }
    return true;
}

static enum lg_status start(struct nvml *nvml, const char *library, struct lg_error *error) {
    const char *missing = "";
    nvml->library = dlopen(library, RTLD_NOW | RTLD_LOCAL);
    if (!nvml->library)
        return lg_fail(error, LG_UNSUPPORTED, "NVIDIA's management library cannot be loaded: %s", dlerror());
    if (!find_functions(nvml, &missing))
        return lg_fail(error, LG_UNSUPPORTED, "NVIDIA's management library \"%s\" has no %s", library, missing);
    int code = nvml->init();
    if (code != 0)
        return lg_fail(error, LG_UNSUPPORTED, "NVIDIA's management library does not start: %s", nvml->error_text(code));
    return LG_OK;
}

enum lg_status nvml_open(const char *library, struct nvml **out, struct lg_error *error) {
    struct nvml *nvml = calloc(1, sizeof *nvml);
    if (!nvml)
        return lg_fail(error, LG_NO_MEMORY, "no memory for NVIDIA's management library");
    enum lg_status status = start(nvml, library, error);
    if (status == LG_OK) {
        *out = nvml;
        return LG_OK;
    }
    if (nvml->library)
        dlclose(nvml->library);
    free(nvml);
    return status;
}

void nvml_close(struct nvml *nvml) {
    if (!nvml)
        return;
    (void)nvml->shutdown();
    dlclose(nvml->library);
    free(nvml);
}

/* ---- asking */

bool nvml_read(struct nvml *nvml, const char *bus_id, struct nvml_numbers *numbers) {
    nvml_device device = NULL;
    struct nvml_memory memory = {0};
    struct nvml_utilisation utilisation = {0};
    unsigned celsius = 0, milliwatts = 0;
    *numbers = (struct nvml_numbers){0};
    if (nvml->find(bus_id, &device) != 0)
        return false;
    if (nvml->name(device, numbers->name, sizeof numbers->name) != 0)
        numbers->name[0] = '\0';
    numbers->name[sizeof numbers->name - 1] = '\0';
    numbers->memory_known = nvml->memory(device, &memory) == 0;
    numbers->utilisation_known = nvml->utilisation(device, &utilisation) == 0;
    numbers->temperature_known = nvml->temperature(device, NVML_TEMPERATURE_GPU, &celsius) == 0;
    numbers->power_known = nvml->power(device, &milliwatts) == 0;
    numbers->memory_bytes = memory.total;
    numbers->memory_used_bytes = memory.used;
    numbers->utilisation_percent = utilisation.gpu;
    numbers->temperature_c = celsius;
    numbers->power_mw = milliwatts;
    return true;
}

/* CUDA's driver counts as CUDA does; no context is made for it. */
bool nvml_bus_id(unsigned number, char bus_id[NVML_BUS_ID_BYTES]) {
    void *driver = dlopen("libcuda.so.1", RTLD_LAZY | RTLD_LOCAL); /* stays: it does not survive being closed */
    int (*init)(unsigned) = NULL, (*get)(int *, int) = NULL, (*address)(char *, int, int) = NULL, device = 0;
    if (!driver)
        return false;
    *(void **)&init = dlsym(driver, "cuInit");
    *(void **)&get = dlsym(driver, "cuDeviceGet");
    *(void **)&address = dlsym(driver, "cuDeviceGetPCIBusId");
    return init && get && address && init(0) == 0 && get(&device, (int)number) == 0 &&
           address(bus_id, NVML_BUS_ID_BYTES, device) == 0;
}
