/* A local cluster: daemons that the command line starts, remembers in a folder, and stops. */
#ifndef LAGOON_CLI_CLUSTER_H
#define LAGOON_CLI_CLUSTER_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "cli/cli.h"

enum { CLUSTER_MEMBERS_MAX = 64, CLUSTER_PATH_BYTES = 512 };

struct cluster_member {
    char name[64]; /* "coordinator", "server1", "worker2"; also names its log and ready file */
    pid_t pid;
    unsigned long long started; /* start time of the pid in clock ticks: tells it from a later process */
    char http[128];
};

struct cluster {
    char dir[CLUSTER_PATH_BYTES];
    char coordinator[OPTION_TEXT_BYTES]; /* "tcp://127.0.0.1:40123" */
    struct cluster_member members[CLUSTER_MEMBERS_MAX];
    size_t count;
};

struct cluster_plan {
    int coordinator_port;    /* 0 picks one */
    int servers, shards;     /* shards per server */
    int workers, slots;      /* slots per worker; 0: one on each device */
    const char *device;      /* of the workers, "auto" is shared out; NULL: the workers' default */
    const double *slowdowns; /* [workers], or NULL */
    const char *data_root;   /* of the workers; "" : the working folder */
    const char *dead_after;  /* "5s" */
    bool attached;           /* daemons die with this process */
    bool messages;           /* servers share no memory with workers: everything travels over TCP */
};

/* Fills cli->state_dir and cli->coordinator from the globals, the state folder and the defaults. */
LG_MUST_CHECK enum lg_status cluster_resolve(struct cli *cli, struct lg_error *error);

/* Starts everything in `dir` (made when missing) and waits until all of it listens; on failure stops what runs and says
 * which daemon failed, with its last log line. */
LG_MUST_CHECK enum lg_status cluster_start(struct cluster *cluster, const char *dir, const struct cluster_plan *plan,
                                           struct lg_error *error);
/* SIGTERM to workers, then servers, then the coordinator; SIGKILL after `grace_ms`. Returns how many had to be killed.
 */
int cluster_stop(struct cluster *cluster, int grace_ms);
bool cluster_member_alive(const struct cluster_member *member);
struct cluster_member *cluster_find(struct cluster *cluster, const char *name);

/* What worker `number` of `workers` (from 1) is told where all are told `device`: with "auto" (and what may follow it,
 * "/bf16") its part of the `gpus`, so that no GPU is idle while two workers share another. */
void cluster_share_devices(const char *device, unsigned gpus, int workers, int number, char text[OPTION_TEXT_BYTES]);

/* DIR/cluster.json. cluster_load: LG_NOT_FOUND when there is none. */
LG_MUST_CHECK enum lg_status cluster_save(const struct cluster *cluster, struct lg_error *error);
LG_MUST_CHECK enum lg_status cluster_load(struct cluster *cluster, const char *dir, struct lg_error *error);
/* Removes a folder and everything in it; says on stderr what it could not. For folders under /tmp. */
void cluster_remove_folder(const char *dir);
void cluster_forget(const struct cluster *cluster);

#endif
