#include "gpu/device.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "common/codec.h"
#include "common/log.h"
#include "gpu/cpu/cpu.h"
#include "gpu/cuda_load.h"

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

static enum lg_status open_auto(unsigned threads, struct device **out, struct lg_error *error) {
    struct lg_error reason = {0};
    if (cuda_load_open(0, "f32", out, &reason) == LG_OK) {
        log_info("device-auto", "computing on %s", (*out)->name);
        return LG_OK;
    }
    enum lg_status status = cpu_device_open(threads, out, error);
    if (status == LG_OK)
        log_info("device-auto", "computing on %s (no GPU: %s)", (*out)->name, reason.message);
    return status;
}

bool device_spec_is_cuda(const char *spec, unsigned *number, const char **math) {
    static const char *const maths[] = {"f32", "tf32", "bf16"};
    *number = 0;
    *math = maths[0];
    if (strncmp(spec, "cuda", 4) != 0)
        return false;
    spec += 4;
    if (*spec == ':') {
        size_t digits = strspn(++spec, "0123456789");
        if (digits == 0 || digits > 3)
            return false;
        *number = (unsigned)strtoul(spec, NULL, 10);
        spec += digits;
    }
    for (size_t i = 0; *spec == '/' && i < sizeof maths / sizeof *maths; i++) {
        if (strcmp(spec + 1, maths[i]) == 0) {
            *math = maths[i];
            return true;
        }
    }
    return *spec == '\0';
}

unsigned device_gpu_count(void) {
    return cuda_load_count();
}

enum lg_status device_open(const char *spec, unsigned threads, struct device **out, struct lg_error *error) {
    const char *math;
    unsigned number;
    enum lg_status status;
    *out = NULL;
    if (strcmp(spec, "auto") == 0)
        status = open_auto(threads, out, error);
    else if (strcmp(spec, "cpu") == 0)
        status = cpu_device_open(threads, out, error);
    else if (device_spec_is_cuda(spec, &number, &math))
        status = cuda_load_open(number, math, out, error);
    else
        status = lg_fail(error, LG_INVALID,
                         "no device is called \"%s\": use \"auto\", \"cpu\", or \"cuda:N\", to which \"/tf32\" or "
                         "\"/bf16\" may be added",
                         spec);
    if (status == LG_OK)
        device_ops_check((*out)->ops);
    return status;
}

size_t device_codec_alignment(const struct codec *codec) {
    return codec->dtype == CODEC_DTYPE_F32 ? sizeof(float) : sizeof(uint16_t);
}

void device_close(struct device *device) {
    if (device)
        device->ops->close(device);
}
