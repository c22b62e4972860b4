/* A group: probes that are measured together, in rounds, because they are compared or belong to one table row. It is
 * declared first; what a filter leaves of it is then opened, measured and closed. */
#ifndef LAGOON_BENCH_GROUP_H
#define LAGOON_BENCH_GROUP_H

#include "bench/bench_cluster.h"
#include "bench/limit.h"
#include "bench/probe.h"

enum { GROUP_STATIONS_MAX = 12, GROUP_PROBES_MAX = 32 };

enum station_kind {
    STATION_MEMORY,
    STATION_KERNELS, /* rates in parameters */
    STATION_UPDATE,  /* the same in bytes */
    STATION_TCP,
    STATION_ZMQ,
    STATION_CLUSTER,
    STATION_SHARD,
    STATION_CODEC,
};

struct station {
    enum station_kind kind;
    uint64_t bytes;           /* of a limit's tensor */
    struct bench_setup setup; /* of a cluster */
    union {
        struct limit limit;
        struct bench_cluster cluster;
    };
    bool wanted, open;
};

struct group {
    char name[FIGURE_NAME_BYTES];
    bool one_core; /* all its processes share one */
    bool fresh;    /* new processes for every round: on which cores they sit is part of what is measured */
    struct station stations[GROUP_STATIONS_MAX];
    size_t station_count;
    struct probe probes[GROUP_PROBES_MAX];
    size_t places[GROUP_PROBES_MAX]; /* the probe's station */
    size_t probe_count;
};

/* What of the run could not be measured. */
struct omission {
    char what[FIGURE_NAME_BYTES];
    char reason[PROCESS_TEXT_BYTES];
};

struct omissions {
    struct omission list[64];
    size_t count;
};

struct group *group_new(const char *format, ...) LG_PRINTF(1, 2);
void group_free(struct group *group);
size_t group_limit(struct group *group, enum station_kind kind, uint64_t bytes);
size_t group_cluster(struct group *group, const struct bench_setup *setup);
/* A probe of that station; its name is the figure's. */
struct probe *group_probe(struct group *group, size_t station, uint32_t what, const char *format, ...) LG_PRINTF(4, 5);

/* True when the text contains one of the filter's words, which stand between commas; "" is a word of every text. */
bool filter_names(const char *filter, const char *text);
/* Leaves out what the filter does not name: a group that it names stays whole, else probes that it names stay, and
 * limits beside them. False: nothing is left. */
bool group_filter(struct group *group, const char *filter);
/* Leaves out probes whose figures are there already. False: nothing is left. */
bool group_drop_known(struct group *group, const struct figures *figures);
/* Opens, measures, closes. Stations that this machine or version does not support are left out and noted. */
LG_MUST_CHECK enum lg_status group_run(struct group *group, const struct probe_plan *plan, struct figures *figures,
                                       struct omissions *omissions, struct lg_error *error);
void omissions_add(struct omissions *omissions, const char *what, const char *reason);

#endif
