/* lagoon doctor: looks at this machine and the cluster, and says what to do about what it finds. */
#include <cblas.h>
#include <errno.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "cli/cluster.h"
#include "cli/link.h"
#include "cli/table.h"
#include "common/isa.h"
#include "common/net.h"
#include "common/units.h"
#include "gpu/device.h"

static int problems;

static void finding(bool good, const char *what, const char *format, ...) LG_PRINTF(3, 4);
static void finding(bool good, const char *what, const char *format, ...) {
    va_list args;
    va_start(args, format);
    printf("%-4s  %-12s ", good ? "ok" : "!!", what);
    vprintf(format, args);
    printf("\n");
    va_end(args);
    problems += !good;
}

static void look_at_machine(void) {
    char memory[UNITS_TEXT_BYTES];
    struct rlimit files;
    uint64_t bytes = (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE);
    finding(true, "cores", "%ld, update kernels use %s", sysconf(_SC_NPROCESSORS_ONLN), isa_name(isa_detect()));
    finding(bytes > (UINT64_C(1) << 30), "memory", "%s", units_bytes(bytes, memory, sizeof memory));
    if (getrlimit(RLIMIT_NOFILE, &files) == 0)
        finding(files.rlim_cur >= 1024, "open files", "limit %llu%s", (unsigned long long)files.rlim_cur,
                files.rlim_cur >= 1024 ? "" : "; raise it to 1024 or more with `ulimit -n`");
    finding(true, "BLAS", "%s", openblas_get_config());
}

/* A GPU is no must, but who has one wants to know why it is not used. */
static void look_at_device(void) {
    struct lg_error error = {0};
    struct device *device = NULL;
    if (device_open("cuda:0", 0, &device, &error) == LG_OK)
        finding(true, "GPU", "%s", device->name);
    else
        finding(true, "GPU", "none is used: %s", error.message);
    device_close(device);
    if (device_open("cpu", 0, &device, &error) == LG_OK)
        finding(true, "CPU", "%s", device->name);
    else
        finding(false, "CPU", "%s", error.message);
    device_close(device);
}

static void look_at_network(void) {
    struct lg_error error = {0};
    void *zmq = zmq_ctx_new(), *socket = NULL;
    char actual[NET_ENDPOINT_BYTES];
    int major, minor, patch;
    zmq_version(&major, &minor, &patch);
    enum lg_status status = net_socket_open(zmq, NET_SERVER, NULL, &socket, &error);
    if (status == LG_OK)
        status = net_bind(socket, "tcp://127.0.0.1:0", actual, &error);
    finding(
        status == LG_OK, "network", "ZeroMQ %d.%d.%d, %s%s", major, minor, patch,
        status == LG_OK ? "could listen on " : "cannot listen on loopback: ", status == LG_OK ? actual : error.message);
    net_socket_close(socket);
    zmq_ctx_term(zmq);
}

static void look_at_folder(const char *dir) {
    struct statvfs space;
    char room[UNITS_TEXT_BYTES];
    const char *at = access(dir, F_OK) == 0 ? dir : "/tmp";
    if (statvfs(at, &space) != 0) {
        finding(false, "disk", "cannot look at \"%s\": %s", at, strerror(errno));
        return;
    }
    uint64_t bytes = (uint64_t)space.f_bavail * space.f_frsize;
    finding(bytes > (UINT64_C(256) << 20), "disk", "%s free in %s", units_bytes(bytes, room, sizeof room), at);
}

static void look_at_cluster(const struct cli *cli) {
    struct lg_error error = {0};
    json_t *status = NULL;
    if (link_query_once(cli, "status", "", &status, &error) != LG_OK) {
        finding(true, "cluster", "none answers at %s; `lagoon up` starts one here", cli->coordinator);
        return;
    }
    long long shards = field_integer(status, "shards", 0), workers = field_integer(status, "workers", 0);
    long long servers = field_integer(status, "servers", 0);
    finding(shards > 0, "cluster", "%lld shards, %lld server%s%s", shards, servers, servers == 1 ? "" : "s",
            shards > 0 ? "" : "; start lagoon-server with this coordinator");
    finding(workers > 0, "workers", "%lld%s", workers,
            workers > 0 ? "" : "; start lagoon-worker with this coordinator");
    json_decref(status);
}

static int run(struct cli *cli, const void *own, int argc, char **argv) {
    (void)own, (void)argc, (void)argv;
    look_at_machine();
    look_at_device();
    look_at_network();
    look_at_folder(cli->state_dir);
    look_at_cluster(cli);
    printf("%s\n", problems == 0 ? "nothing is in the way" : "see the lines marked !!");
    return problems == 0 ? CLI_EXIT_OK : CLI_EXIT_FAILED;
}

const struct cli_command cmd_doctor = {
    .name = "doctor", .summary = "look for what could be in the way on this machine", .arguments = "", .run = run};
