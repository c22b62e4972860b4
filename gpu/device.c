#include "gpu/device.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "common/log.h"
#include "gpu/cpu/cpu.h"

void device_ops_check(const struct device_ops *ops) {
    /* The struct holds pointers alone, so a slot that nobody filled is a null among them. */
    static_assert(sizeof(struct device_ops) % sizeof(void *) == 0, "only pointers");
    const char *bytes = (const char *)ops;
    for (size_t at = 0; at < sizeof *ops; at += sizeof(void *)) {
        void *slot;
        memcpy(&slot, bytes + at, sizeof slot);
        assert(slot && "a device op is missing");
    }
}

/* Opens GPU `number`. UNSUPPORTED where this build has no CUDA backend, NOT_FOUND where there is no such GPU. */
static enum lg_status cuda_open(unsigned number, struct device **out, struct lg_error *error) {
    (void)out;
    return lg_fail(error, LG_UNSUPPORTED, "device \"cuda:%u\": this build has no CUDA backend; use \"cpu\" or \"auto\"",
                   number);
}

static enum lg_status open_auto(unsigned threads, struct device **out, struct lg_error *error) {
    struct lg_error reason = {0};
    if (cuda_open(0, out, &reason) == LG_OK)
        return LG_OK;
    enum lg_status status = cpu_device_open(threads, out, error);
    if (status == LG_OK)
        log_info("device-auto", "computing on %s (no GPU: %s)", (*out)->name, reason.message);
    return status;
}

/* "cuda" is GPU 0, "cuda:N" is GPU N. */
static bool parse_cuda(const char *spec, unsigned *number) {
    *number = 0;
    if (strncmp(spec, "cuda", 4) != 0)
        return false;
    if (spec[4] == '\0')
        return true;
    size_t digits = strspn(spec + 4 + (spec[4] == ':'), "0123456789");
    if (spec[4] != ':' || digits == 0 || digits > 3 || spec[5 + digits] != '\0')
        return false;
    *number = (unsigned)strtoul(spec + 5, NULL, 10);
    return true;
}

enum lg_status device_open(const char *spec, unsigned threads, struct device **out, struct lg_error *error) {
    unsigned number;
    enum lg_status status;
    *out = NULL;
    if (strcmp(spec, "auto") == 0)
        status = open_auto(threads, out, error);
    else if (strcmp(spec, "cpu") == 0)
        status = cpu_device_open(threads, out, error);
    else if (parse_cuda(spec, &number))
        status = cuda_open(number, out, error);
    else
        status = lg_fail(error, LG_INVALID, "no device is called \"%s\": use \"auto\", \"cpu\" or \"cuda:N\"", spec);
    if (status == LG_OK)
        device_ops_check((*out)->ops);
    return status;
}

void device_close(struct device *device) {
    if (device)
        device->ops->close(device);
}
