#include "worker/worker_config.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "gpu/device.h"

#define AT(field) offsetof(struct worker_config, field)

static const struct option options[] = {
    {"name", OPTION_STRING, AT(name), "", 0, 0, NULL, NULL,
     "name of this worker, unique in the cluster; empty takes the host's name, numbered where it is taken"},
    {"coordinator", OPTION_STRING, AT(coordinator), "127.0.0.1:7710", 0, 0, NULL, NULL,
     "address of the coordinator, host:port"},
    {"slots", OPTION_INT, AT(slots), "0", 0, 256, NULL, "trainers",
     "trainers that may run here at once; 0: one on each device. More than there are devices share them evenly"},
    {"device", OPTION_STRING, AT(device), "auto", 0, 0, NULL, NULL,
     "where trainers compute: auto for all GPUs there are, else the CPU; or a list of cpu and cuda:N. Each trainer "
     "gets the device that has fewest. auto/bf16 and cuda:N/bf16 keep activations in bf16, the same with /tf32 round "
     "the inputs of matrix products: faster, and a little less exact"},
    {"threads", OPTION_INT, AT(threads), "0", 0, 1024, NULL, "threads",
     "compute threads of each trainer where the job names none; 0: cores divided by the slots of all workers on this "
     "machine"},
    {"slowdown", OPTION_FLOAT, AT(slowdown), "1", 1, 1000, NULL, NULL,
     "makes every training step take so many times as long, to try out unequal machines"},
    {"data_root", OPTION_STRING, AT(data_root), "", 0, 0, NULL, NULL,
     "folder that relative dataset paths start from; empty: where the worker was started"},
    {"trainer.state_dir", OPTION_STRING, AT(state_dir), "", 0, 0, NULL, NULL,
     "folder in which a trainer that is stopped before its job is finished leaves what its push codec has kept back of "
     "the gradients, for the job's next trainer here; empty: that is lost"},
    {"trainer.grace", OPTION_DURATION, AT(grace_ms), "10s", 0, 3600000, NULL, "ms",
     "how long a trainer that was asked to stop may take before it is killed"},
    {"security", OPTION_CHOICE, AT(security), "loopback", 0, 0, "loopback|none", NULL,
     "loopback refuses a coordinator on another machine; none talks to it unencrypted"},
    {"http.bind", OPTION_STRING, AT(http_bind), "127.0.0.1", 0, 0, NULL, NULL,
     "address of the stats endpoint: /metrics, /stats.json, /healthz"},
    {"http.port", OPTION_INT, AT(http_port), "0", 0, 65535, NULL, NULL, "port of the stats endpoint; 0 picks one"},
    {"http.token", OPTION_STRING, AT(http_token), "", 0, 0, NULL, NULL,
     "bearer token that requests must carry; empty: none"},
    {"http.hosts", OPTION_STRING, AT(http_hosts), "", 0, 0, NULL, NULL,
     "names accepted in the Host header besides numeric addresses and localhost, comma-joined"},
    {"log.level", OPTION_CHOICE, AT(log_level), "info", 0, 0, "debug|info|warn|error", NULL, "least level written"},
    {"ready_file", OPTION_STRING, AT(ready_file), "", 0, 0, NULL, NULL,
     "file written with the address of the stats endpoint (JSON) once it listens"},
};

const struct option_table worker_table = {"worker", "the daemon that runs trainers on one machine", options,
                                          sizeof options / sizeof *options, sizeof(struct worker_config)};

/* Where the value of `key` came from, for an error message. */
static const char *place_of(const struct config *config, const char *key, char *text, size_t bytes) {
    const struct config_entry *entry = config_find(config, key);
    if (entry)
        config_place(entry, text, bytes);
    else
        snprintf(text, bytes, "default of %s", key);
    return text;
}

/* auto, auto/MATH, or a list of cpu, cuda:N and cuda:N/MATH, comma-joined. */
static bool device_fits(const char *devices) {
    char device[HOST_DEVICE_BYTES];
    const char *math, *at = devices;
    unsigned number;
    if (strncmp(at, "auto", 4) == 0) {
        snprintf(device, sizeof device, "cuda:0%s", at + 4);
        return strlen(at) < HOST_DEVICE_BYTES && device_spec_is_cuda(device, &number, &math);
    }
    for (size_t count = 1;; count++) {
        size_t length = strcspn(at, ",");
        if (length >= sizeof device || count > HOST_DEVICES_MAX)
            return false;
        snprintf(device, sizeof device, "%.*s", (int)length, at);
        bool is_gpu = strncmp(device, "cuda:", 5) == 0 && device_spec_is_cuda(device, &number, &math);
        if (!is_gpu && strcmp(device, "cpu") != 0)
            return false;
        if (at[length] == '\0')
            return true;
        at += length + 1;
    }
}

static enum lg_status check_name(const struct config *config, const char *name, struct lg_error *error) {
    char place[OPTION_TEXT_BYTES];
    bool fits = strlen(name) <= 64;
    for (const char *c = name; *c; c++)
        fits = fits && (isalnum((unsigned char)*c) || strchr("-_.", *c));
    if (fits)
        return LG_OK;
    return lg_fail(error, LG_INVALID, "%s: name \"%s\" must be at most 64 letters, digits, '-', '_' or '.'",
                   place_of(config, "name", place, sizeof place), name);
}

static enum lg_status check_coordinator(const struct config *config, struct worker_config *worker,
                                        struct lg_error *error) {
    char place[OPTION_TEXT_BYTES];
    enum lg_status status = net_endpoint_parse(worker->coordinator, false, worker->endpoint, error);
    if (status != LG_OK)
        return lg_fail_prefix(error, status, "%s: coordinator", place_of(config, "coordinator", place, sizeof place));
    if (!net_is_loopback(worker->endpoint) && strcmp(worker->security, "none") != 0)
        return lg_fail(error, LG_INVALID,
                       "%s: coordinator \"%s\" is on another machine and the connection is not encrypted; on a network "
                       "you trust, say so with security: none",
                       place_of(config, "coordinator", place, sizeof place), worker->coordinator);
    return LG_OK;
}

static enum lg_status check_folder(const struct config *config, const char *key, const char *path,
                                   struct lg_error *error) {
    char place[OPTION_TEXT_BYTES];
    struct stat info;
    if (path[0] == '\0')
        return LG_OK;
    place_of(config, key, place, sizeof place);
    if (stat(path, &info) != 0)
        return lg_fail(error, LG_INVALID, "%s: %s \"%s\": %s", place, key, path, strerror(errno));
    if (!S_ISDIR(info.st_mode))
        return lg_fail(error, LG_INVALID, "%s: %s \"%s\" is not a folder", place, key, path);
    return LG_OK;
}

/* Trainers may be started in another folder. */
static enum lg_status make_absolute(char path[OPTION_TEXT_BYTES], struct lg_error *error) {
    char *whole = path[0] ? realpath(path, NULL) : NULL;
    if (!whole && !path[0])
        return LG_OK;
    enum lg_status status = LG_OK;
    if (!whole || strlen(whole) >= OPTION_TEXT_BYTES)
        status = lg_fail(error, LG_INVALID, "trainer.state_dir \"%s\" cannot be used: %s", path,
                         whole ? "its whole path is too long" : strerror(errno));
    else
        memcpy(path, whole, strlen(whole) + 1);
    free(whole);
    return status;
}

enum lg_status worker_config_check(const struct config *config, void *out, struct lg_error *error) {
    struct worker_config *worker = out;
    char place[OPTION_TEXT_BYTES];
    enum lg_status status = check_name(config, worker->name, error);
    if (status == LG_OK && !device_fits(worker->device))
        status =
            lg_fail(error, LG_INVALID,
                    "%s: device \"%s\" must be auto, cpu or cuda:N, or a list of the last two; auto and cuda:N may "
                    "end in /tf32 or /bf16",
                    place_of(config, "device", place, sizeof place), worker->device);
    if (status == LG_OK)
        status = check_coordinator(config, worker, error);
    if (status == LG_OK)
        status = check_folder(config, "data_root", worker->data_root, error);
    if (status == LG_OK)
        status = check_folder(config, "trainer.state_dir", worker->state_dir, error);
    if (status == LG_OK)
        status = make_absolute(worker->state_dir, error);
    if (status == LG_OK)
        status = log_level_parse(worker->log_level, &worker->level);
    return status;
}
