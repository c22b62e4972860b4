#include "bench/bench_cluster.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cluster.h"
#include "client/job.h"

const char *bench_transport_name(enum bench_transport transport) {
    static const char *const names[BENCH_TRANSPORTS] = {"tcp", "ipc", "shm"};
    return names[transport];
}

struct tensor_spec *bench_tensors(const struct bench_setup *setup) {
    struct tensor_spec *tensors = calloc(setup->tensors, sizeof *tensors);
    for (uint64_t i = 0; tensors && i < setup->tensors; i++) {
        tensors[i] = (struct tensor_spec){.rank = 1, .shape = {setup->tensor_bytes / sizeof(float)}, .lr_factor = 1};
        snprintf(tensors[i].name, sizeof tensors[i].name, "tensor%llu", (unsigned long long)i);
    }
    return tensors;
}

/* ---- life */

static enum lg_status make_folder(struct bench_cluster *cluster, struct lg_error *error) {
    char dir[BENCH_PATH_BYTES] = "/tmp/lagoon-bench-XXXXXX";
    if (!mkdtemp(dir))
        return lg_fail(error, LG_IO, "cannot make a folder under /tmp: %s", strerror(errno));
    memcpy(cluster->dir, dir, sizeof dir);
    return LG_OK;
}

/* A job with a key that nobody reads would be measured as if it had been read. */
static enum lg_status check_codec(const char *codec, struct lg_error *error) {
    bool known = !codec;
    for (size_t i = 0; !known && i < job_table.count; i++)
        known = strcmp(job_table.options[i].key, "push.codec") == 0;
    return known ? LG_OK : lg_fail(error, LG_UNSUPPORTED, "jobs have no codec \"%s\" in this version", codec);
}

enum lg_status bench_cluster_open(struct bench_cluster *cluster, const struct bench_setup *setup,
                                  struct lg_error *error) {
    struct process_report report;
    *cluster = (struct bench_cluster){.setup = *setup};
    enum lg_status status = check_codec(setup->codec, error);
    if (status == LG_OK)
        status = make_folder(cluster, error);
    if (status == LG_OK)
        status = process_start(&cluster->server, "bench-server", bench_server_run, cluster, &report, error);
    if (status == LG_OK)
        memcpy(cluster->endpoint, report.text, sizeof cluster->endpoint);
    for (unsigned i = 0; status == LG_OK && i < setup->workers; i++) {
        status = process_start(&cluster->workers[i], "bench-worker", bench_client_run, cluster, &report, error);
        cluster->one_round_trip = status == LG_OK && report.values[0] > 0;
    }
    return status;
}

void bench_cluster_close(struct bench_cluster *cluster) {
    for (int i = 0; i < BENCH_WORKERS_MAX; i++)
        process_stop(&cluster->workers[i]);
    process_stop(&cluster->server);
    if (cluster->dir[0])
        cluster_remove_folder(cluster->dir);
    cluster->dir[0] = '\0';
}

/* ---- measuring */

/* All workers at once; *seconds: from the first one's beginning to the last one's end. */
static enum lg_status order_all(struct bench_cluster *cluster, const struct process_order *order, double *seconds,
                                struct process_report *last, struct lg_error *error) {
    enum lg_status status = LG_OK;
    double began_s = 0, ended_s = 0;
    for (unsigned i = 0; status == LG_OK && i < cluster->setup.workers; i++)
        status = process_tell(&cluster->workers[i], order, error);
    for (unsigned i = 0; status == LG_OK && i < cluster->setup.workers; i++) {
        status = process_hear(&cluster->workers[i], last, error);
        began_s = i == 0 || last->began_s < began_s ? last->began_s : began_s;
        ended_s = last->ended_s > ended_s ? last->ended_s : ended_s;
    }
    *seconds += ended_s - began_s;
    return status;
}

/* What the server has spent. */
struct spent {
    double cpu_s, faults;
};

static void spent_add(struct spent *spent, const struct process *server, double sign) {
    spent->cpu_s += sign * process_cpu_s(server);
    spent->faults += sign * (double)process_faults(server);
}

/* Large tensors change before every pull, so that a pull includes what the shard does once per version; of small ones
 * many pulls go between two changes, which are too short to be told apart from the orders. */
static enum lg_status pull_all(struct probe *probe, struct spent *spent, struct process_report *last,
                               struct lg_error *error) {
    struct bench_cluster *cluster = probe->station;
    enum { LARGE = 1 << 20 };
    uint32_t between = cluster->setup.tensors * cluster->setup.tensor_bytes >= LARGE ? 1 : probe->count;
    enum lg_status status = LG_OK;
    for (uint32_t done = 0; status == LG_OK && done < probe->count; done += between) {
        const struct process_order change = {.what = BENCH_PUSH, .count = 1};
        const struct process_order order = {.what = BENCH_PULL, .count = between};
        status = process_ask(&cluster->workers[0], &change, last, error);
        spent_add(spent, &cluster->server, -1);
        if (status == LG_OK)
            status = order_all(cluster, &order, &probe->spent_s, last, error);
        spent_add(spent, &cluster->server, 1);
    }
    return status;
}

static enum lg_status push_all(struct probe *probe, struct spent *spent, struct process_report *last,
                               struct lg_error *error) {
    struct bench_cluster *cluster = probe->station;
    const struct process_order order = {.what = probe->what, .count = probe->count};
    spent_add(spent, &cluster->server, -1);
    enum lg_status status = order_all(cluster, &order, &probe->spent_s, last, error);
    spent_add(spent, &cluster->server, 1);
    return status;
}

enum lg_status bench_cluster_run(struct probe *probe, struct figures *figures, struct lg_error *error) {
    const struct bench_cluster *cluster = probe->station;
    const struct bench_setup *setup = &cluster->setup;
    struct process_report report;
    struct spent spent = {0};
    probe->spent_s = 0;
    enum lg_status status =
        probe->what == BENCH_PULL ? pull_all(probe, &spent, &report, error) : push_all(probe, &spent, &report, error);
    if (status != LG_OK)
        return lg_fail_prefix(error, status, "%s", probe->name);
    if (probe->what == BENCH_SMALL)
        return probe_add_latency(probe, figures, &report, error);
    double gigabytes = (double)(setup->tensors * setup->tensor_bytes) * setup->workers * probe->count / 1e9;
    status = probe_add(probe, figures, "", "GB/s", gigabytes / probe->spent_s, error);
    if (status == LG_OK)
        status = probe_add(probe, figures, ".cpu", "s/GB", spent.cpu_s / gigabytes, error);
    if (status == LG_OK)
        status = probe_add(probe, figures, ".faults", "1/GB", spent.faults / gigabytes, error);
    return status;
}
