#include "worker/agent_host.h"

#include <inttypes.h>
#include <sched.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static const char slots_mark[] = "@lagoon-worker-slots/"; /* then SLOTS/PID */

/* Takes an abstract socket address (`text` without the '@'); -1 where it is taken. */
static int take_address(const char *text) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    size_t length = strlen(text);
    if (length > sizeof address.sun_path - 1)
        return -1;
    memcpy(address.sun_path + 1, text, length);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    socklen_t bytes = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + length);
    if (fd >= 0 && bind(fd, (struct sockaddr *)&address, bytes) == 0)
        return fd;
    host_release(fd);
    return -1;
}

void host_release(int lock) {
    if (lock >= 0)
        close(lock);
}

void host_take_name(const char *configured, char name[OPTION_TEXT_BYTES], int *lock) {
    enum { NUMBERS = 1000 };
    char host[64] = "", address[OPTION_TEXT_BYTES + 32];
    *lock = -1;
    snprintf(name, OPTION_TEXT_BYTES, "%s", configured);
    if (name[0])
        return;
    if (gethostname(host, sizeof host - 1) != 0 || !host[0] || host[0] == '.')
        snprintf(host, sizeof host, "worker");
    host[strcspn(host, ".")] = '\0';
    for (int i = 1; i <= NUMBERS && *lock < 0; i++) {
        if (i == 1)
            snprintf(name, OPTION_TEXT_BYTES, "%s", host);
        else
            snprintf(name, OPTION_TEXT_BYTES, "%s-%d", host, i);
        snprintf(address, sizeof address, "lagoon-worker/%s", name);
        *lock = take_address(address);
    }
}

void host_show_slots(int64_t slots, int *lock) {
    char address[80];
    snprintf(address, sizeof address, "%s%" PRId64 "/%d", slots_mark + 1, slots, (int)getpid());
    *lock = take_address(address);
}

int64_t host_count_slots(FILE *sockets) {
    char line[512];
    int64_t slots = 0;
    while (fgets(line, sizeof line, sockets)) {
        const char *mark = strstr(line, slots_mark);
        char *end = NULL;
        long count = mark ? strtol(mark + strlen(slots_mark), &end, 10) : 0;
        if (count > 0 && count <= 256 && *end == '/')
            slots += count;
    }
    return slots;
}

int64_t host_cores(void) {
    cpu_set_t cpus;
    return sched_getaffinity(0, sizeof cpus, &cpus) == 0 ? CPU_COUNT(&cpus) : 1;
}

size_t host_devices(const char *configured, unsigned gpus, char list[HOST_DEVICES_MAX][HOST_DEVICE_BYTES]) {
    bool all = strncmp(configured, "auto", 4) == 0;
    size_t count = 0;
    for (; all && count < gpus && count < HOST_DEVICES_MAX; count++)
        snprintf(list[count], HOST_DEVICE_BYTES, "cuda:%zu%.16s", count, configured + 4);
    for (const char *at = all ? "" : configured; *at && count < HOST_DEVICES_MAX; count++) {
        size_t length = strcspn(at, ",");
        snprintf(list[count], HOST_DEVICE_BYTES, "%.*s", (int)length, at);
        at += length + (at[length] == ',');
    }
    if (count == 0)
        snprintf(list[count++], HOST_DEVICE_BYTES, "cpu");
    return count;
}

int64_t host_threads(const struct worker_config *config, int64_t slots) {
    int64_t shown = 0, cores = host_cores();
    if (config->threads > 0)
        return config->threads;
    FILE *sockets = fopen("/proc/net/unix", "r");
    if (sockets) {
        shown = host_count_slots(sockets);
        fclose(sockets);
    }
    if (slots < shown)
        slots = shown;
    return slots > 0 && cores > slots ? cores / slots : 1;
}
