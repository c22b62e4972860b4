#include "bench/group.h"

#include <assert.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/bench_codec.h"
#include "bench/bench_shard.h"

/* ---- declaring */

struct group *group_new(const char *format, ...) {
    struct group *group = calloc(1, sizeof *group);
    if (!group)
        abort();
    va_list args;
    va_start(args, format);
    vsnprintf(group->name, sizeof group->name, format, args);
    va_end(args);
    return group;
}

void group_free(struct group *group) {
    free(group);
}

static struct station *add_station(struct group *group, enum station_kind kind) {
    assert(group->station_count < GROUP_STATIONS_MAX);
    struct station *station = &group->stations[group->station_count++];
    station->kind = kind;
    return station;
}

size_t group_limit(struct group *group, enum station_kind kind, uint64_t bytes) {
    add_station(group, kind)->bytes = bytes;
    return group->station_count - 1;
}

size_t group_cluster(struct group *group, const struct bench_setup *setup) {
    add_station(group, STATION_CLUSTER)->setup = *setup;
    return group->station_count - 1;
}

struct probe *group_probe(struct group *group, size_t station, uint32_t what, const char *format, ...) {
    static enum lg_status (*const measures[])(struct probe *, struct figures *, struct lg_error *) = {
        [STATION_MEMORY] = limit_memory_copy,  [STATION_KERNELS] = limit_kernel_run,
        [STATION_UPDATE] = limit_kernel_bytes, [STATION_TCP] = limit_tcp_send,
        [STATION_ZMQ] = limit_zmq_run,         [STATION_CLUSTER] = bench_cluster_run,
        [STATION_SHARD] = bench_shard_run,     [STATION_CODEC] = bench_codec_run,
    };
    assert(group->probe_count < GROUP_PROBES_MAX);
    struct station *at = &group->stations[station];
    struct probe *probe = &group->probes[group->probe_count];
    *probe = (struct probe){.measure = measures[at->kind], .what = what};
    probe->station = at->kind == STATION_CLUSTER ? (void *)&at->cluster : (void *)&at->limit;
    group->places[group->probe_count++] = station;
    va_list args;
    va_start(args, format);
    vsnprintf(probe->name, sizeof probe->name, format, args);
    va_end(args);
    return probe;
}

/* ---- choosing */

static void drop_probe(struct group *group, size_t at) {
    group->probe_count--;
    memmove(&group->probes[at], &group->probes[at + 1], (group->probe_count - at) * sizeof *group->probes);
    memmove(&group->places[at], &group->places[at + 1], (group->probe_count - at) * sizeof *group->places);
}

bool filter_names(const char *filter, const char *text) {
    char word[FIGURE_NAME_BYTES];
    for (;;) {
        size_t length = strcspn(filter, ",");
        snprintf(word, sizeof word, "%.*s", (int)(length < sizeof word ? length : sizeof word - 1), filter);
        if (strstr(text, word))
            return true;
        if (filter[length] == '\0')
            return false;
        filter += length + 1;
    }
}

static bool is_limit(const struct probe *probe) {
    return strncmp(probe->name, "limit.", 6) == 0;
}

bool group_filter(struct group *group, const char *filter) {
    bool whole = filter_names(filter, group->name), any = whole;
    for (size_t i = group->probe_count; i-- > 0;) {
        bool named = filter_names(filter, group->probes[i].name);
        any = any || named;
        if (!whole && !named && !is_limit(&group->probes[i]))
            drop_probe(group, i);
    }
    return any;
}

bool group_drop_known(struct group *group, const struct figures *figures) {
    for (size_t i = group->probe_count; i-- > 0;)
        if (figures_find(figures, group->probes[i].name))
            drop_probe(group, i);
    return group->probe_count > 0;
}

/* ---- running */

void omissions_add(struct omissions *omissions, const char *what, const char *reason) {
    if (omissions->count == sizeof omissions->list / sizeof *omissions->list)
        return;
    struct omission *omission = &omissions->list[omissions->count++];
    snprintf(omission->what, sizeof omission->what, "%s", what);
    snprintf(omission->reason, sizeof omission->reason, "%s", reason);
}

static enum lg_status station_open(struct station *station, struct lg_error *error) {
    switch (station->kind) {
    case STATION_MEMORY:
        return limit_memory_open(&station->limit, station->bytes, error);
    case STATION_KERNELS:
    case STATION_UPDATE:
        return limit_kernels_open(&station->limit, station->bytes, error);
    case STATION_TCP:
        return limit_tcp_open(&station->limit, station->bytes, error);
    case STATION_ZMQ:
        return limit_zmq_open(&station->limit, station->bytes, error);
    case STATION_SHARD:
        return bench_shard_open(&station->limit, station->bytes, error);
    case STATION_CODEC:
        return bench_codec_open(&station->limit, station->bytes, error);
    case STATION_CLUSTER:
        return bench_cluster_open(&station->cluster, &station->setup, error);
    }
    return lg_fail(error, LG_INTERNAL, "a station of no kind");
}

static void station_close(struct station *station) {
    if (station->kind == STATION_CLUSTER)
        bench_cluster_close(&station->cluster);
    else
        limit_close(&station->limit);
    station->open = false;
}

/* Opens what has probes; drops the probes of what is not supported. */
static enum lg_status open_stations(struct group *group, struct omissions *omissions, struct lg_error *error) {
    enum lg_status status = LG_OK;
    for (size_t i = 0; i < group->probe_count; i++)
        group->stations[group->places[i]].wanted = true;
    for (size_t at = 0; status == LG_OK && at < group->station_count; at++) {
        if (!group->stations[at].wanted)
            continue;
        group->stations[at].open = true; /* also after a failure: something of it may run */
        status = station_open(&group->stations[at], error);
        if (status != LG_UNSUPPORTED)
            continue;
        for (size_t i = group->probe_count; i-- > 0;)
            if (group->places[i] == at) {
                omissions_add(omissions, group->probes[i].name, error->message);
                drop_probe(group, i);
            }
        status = LG_OK;
    }
    return status;
}

/* The calling process and those that it forks from now on stay on the core where it is. */
static void stay_here(cpu_set_t *before) {
    cpu_set_t here;
    int core = sched_getcpu();
    CPU_ZERO(&here);
    CPU_SET((size_t)(core < 0 ? 0 : core), &here);
    (void)sched_getaffinity(0, sizeof *before, before);
    (void)sched_setaffinity(0, sizeof here, &here);
}

static enum lg_status sitting(struct group *group, const struct probe_plan *plan, struct figures *figures,
                              struct omissions *omissions, struct lg_error *error) {
    cpu_set_t before;
    if (group->one_core)
        stay_here(&before);
    enum lg_status status = open_stations(group, omissions, error);
    if (group->one_core) /* its processes are there */
        (void)sched_setaffinity(0, sizeof before, &before);
    if (status == LG_OK)
        status = probes_run(group->probes, group->probe_count, plan, figures, error);
    for (size_t i = group->station_count; i-- > 0;)
        if (group->stations[i].open)
            station_close(&group->stations[i]);
    return status;
}

enum lg_status group_run(struct group *group, const struct probe_plan *plan, struct figures *figures,
                         struct omissions *omissions, struct lg_error *error) {
    struct probe_plan part = *plan;
    enum lg_status status = LG_OK;
    for (part.begin = 0; status == LG_OK && part.begin < plan->rounds; part.begin = part.rounds) {
        part.rounds = group->fresh ? part.begin + 1 : plan->rounds;
        status = sitting(group, &part, figures, omissions, error);
    }
    return status;
}
