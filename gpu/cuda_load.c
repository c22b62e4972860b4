#include "gpu/cuda_load.h"

#include <dlfcn.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "gpu/cuda/backend.h"

#define BACKEND_FILE "lib/lagoon/lagoon-cuda.so"
enum { FOLDERS_UP = 3 /* bin/lagoon-worker and tests/unit/x_test both find the lib/ above them */ };

static struct {
    void *driver, *library; /* never closed: CUDA does not survive it */
    const struct cuda_backend *backend;
    struct lg_error error; /* why there is no backend */
} loaded;
static pthread_once_t load_once = PTHREAD_ONCE_INIT;

/* lib/lagoon/lagoon-cuda.so in the program's folder or one above it. */
static bool backend_path(char path[PATH_MAX]) {
    char folder[PATH_MAX];
    ssize_t bytes = readlink("/proc/self/exe", folder, sizeof folder - 1);
    folder[bytes > 0 ? bytes : 0] = '\0';
    for (int up = 0; up < FOLDERS_UP; up++) {
        char *slash = strrchr(folder, '/');
        if (!slash)
            return false;
        *slash = '\0';
        int length = snprintf(path, PATH_MAX, "%s/%s", folder, BACKEND_FILE);
        if (length > 0 && length < PATH_MAX && access(path, R_OK) == 0)
            return true;
    }
    return false;
}

static enum lg_status load(struct lg_error *error) {
    char path[PATH_MAX];
    if (!backend_path(path))
        return lg_fail(error, LG_UNSUPPORTED,
                       "this installation has no " BACKEND_FILE ": it is built where nvcc is found");
    loaded.driver = dlopen("libcuda.so.1", RTLD_LAZY | RTLD_LOCAL); /* before cuBLAS is loaded for nothing */
    if (!loaded.driver)
        return lg_fail(error, LG_UNSUPPORTED, "this machine has no NVIDIA driver: %s", dlerror());
    loaded.library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!loaded.library)
        return lg_fail(error, LG_UNSUPPORTED, "the CUDA backend cannot be loaded: %s", dlerror());
    const struct cuda_backend *backend = dlsym(loaded.library, CUDA_BACKEND_SYMBOL);
    if (!backend || backend->abi != CUDA_BACKEND_ABI || backend->ops_bytes != sizeof(struct device_ops) ||
        strcmp(backend->version, LAGOON_VERSION) != 0)
        return lg_fail(error, LG_UNSUPPORTED, "\"%.300s\" is not of this version of lagoon, " LAGOON_VERSION, path);
    loaded.backend = backend;
    return LG_OK;
}

static void load_first(void) {
    loaded.error.status = load(&loaded.error);
}

enum lg_status cuda_load_open(unsigned number, const char *math, struct device **out, struct lg_error *error) {
    pthread_once(&load_once, load_first);
    if (!loaded.backend)
        return lg_fail(error, loaded.error.status, "device \"cuda:%u\": %s", number, loaded.error.message);
    return loaded.backend->open(number, math, out, error);
}

/* The driver is asked, which is quick; cuBLAS is not loaded for it. Attribute 75 is the first number of the compute
 * capability (CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR). */
unsigned cuda_load_count(void) {
    enum { CAPABILITY_MAJOR = 75 };
    char path[PATH_MAX];
    void *driver = backend_path(path) ? dlopen("libcuda.so.1", RTLD_LAZY | RTLD_LOCAL) : NULL;
    if (!driver)
        return 0;
    int (*init)(unsigned) = NULL, (*get_count)(int *) = NULL, (*get)(int *, int) = NULL;
    int (*attribute)(int *, int, int) = NULL, count = 0, device = 0, major = 0, usable = 0;
    *(void **)&init = dlsym(driver, "cuInit");
    *(void **)&get_count = dlsym(driver, "cuDeviceGetCount");
    *(void **)&get = dlsym(driver, "cuDeviceGet");
    *(void **)&attribute = dlsym(driver, "cuDeviceGetAttribute");
    if (!init || !get_count || !get || !attribute || init(0) != 0 || get_count(&count) != 0)
        return 0;
    while (usable < count && get(&device, usable) == 0 && attribute(&major, CAPABILITY_MAJOR, device) == 0 &&
           major >= CUDA_CAPABILITY_LEAST)
        usable++;
    return (unsigned)usable;
}
