/* lagoon up and down: a local cluster in the background. */
#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "cli/cluster.h"
#include "cli/link.h"
#include "cli/table.h"

struct up_options {
    int64_t port, servers, shards, workers, slots;
    char data_root[OPTION_TEXT_BYTES], device[OPTION_TEXT_BYTES];
};

#define AT(field) offsetof(struct up_options, field)
static const struct option options[] = {
    {"port", OPTION_INT, AT(port), "0", 0, 65535, NULL, NULL, "port of the coordinator; 0 picks one"},
    {"servers", OPTION_INT, AT(servers), "1", 1, 16, NULL, NULL, "server processes"},
    {"shards", OPTION_INT, AT(shards), "2", 1, 64, NULL, NULL, "shards per server"},
    {"workers", OPTION_INT, AT(workers), "2", 0, 32, NULL, NULL, "worker daemons"},
    {"slots", OPTION_INT, AT(slots), "0", 0, 64, NULL, NULL,
     "trainers at once per worker daemon; 0: one on each of its devices"},
    {"device", OPTION_STRING, AT(device), "auto", 0, 0, NULL, NULL,
     "where trainers compute, as in worker.yaml; auto shares the GPUs among the worker daemons"},
    {"data_root", OPTION_STRING, AT(data_root), "", 0, 0, NULL, NULL,
     "folder that relative dataset paths start from; empty: this one"},
};
#undef AT

static const struct option_table table = {"up", "options of `lagoon up`", options, sizeof options / sizeof *options,
                                          sizeof(struct up_options)};

/* LG_EXISTS while a daemon of the remembered cluster is alive. */
static enum lg_status refuse_second(const struct cli *cli, struct lg_error *error) {
    struct cluster cluster;
    struct lg_error missing;
    if (cluster_load(&cluster, cli->state_dir, &missing) != LG_OK)
        return LG_OK;
    for (size_t i = 0; i < cluster.count; i++)
        if (cluster_member_alive(&cluster.members[i]))
            return lg_fail(error, LG_EXISTS,
                           "a cluster in \"%s\" runs already (%s is process %d); `lagoon down` stops it", cluster.dir,
                           cluster.members[i].name, (int)cluster.members[i].pid);
    return LG_OK;
}

/* Whether the coordinator lists `member` as alive among its servers or workers. */
static bool is_listed(const json_t *rows, const struct cluster_member *member) {
    json_t *row;
    size_t i;
    json_array_foreach(rows, i, row) {
        if (field_integer(row, "pid", 0) == member->pid && strcmp(field_text(row, "state", ""), "alive") == 0)
            return true;
    }
    return false;
}

/* Daemons listen before the coordinator knows them; the next command shall find them all. */
static enum lg_status await_members(const struct cluster *cluster, struct lg_error *error) {
    enum { LOOKS = 500, LOOK_MS = 20 };
    static const char *const lists[] = {"servers", "workers"};
    struct link *link = NULL;
    const char *missing = "";
    enum lg_status status = link_open(cluster->coordinator, &link, error);
    for (int look = 0; status == LG_OK && missing && look < LOOKS; look++) {
        json_t *rows[2] = {NULL, NULL};
        missing = NULL;
        for (int i = 0; i < 2 && status == LG_OK; i++)
            status = link_query(link, lists[i], "", 0, &rows[i], NULL, error);
        for (size_t i = 1; i < cluster->count; i++) /* after the coordinator */
            if (!is_listed(rows[0], &cluster->members[i]) && !is_listed(rows[1], &cluster->members[i]))
                missing = cluster->members[i].name;
        json_decref(rows[0]);
        json_decref(rows[1]);
        if (missing)
            nanosleep(&(struct timespec){0, LOOK_MS * 1000000L}, NULL);
    }
    link_close(link);
    if (status == LG_OK && missing)
        return lg_fail(error, LG_TIMEOUT, "%s runs but has not registered after 10 s; its log is %.400s/%s.log",
                       missing, cluster->dir, missing);
    return status;
}

static void print_cluster(const struct cli *cli, const struct cluster *cluster) {
    struct table text;
    table_init(&text, (const char *const[]){"DAEMON", ">PID", "STATS", NULL});
    for (size_t i = 0; i < cluster->count; i++) {
        size_t row = table_row(&text);
        table_cell(&text, row, 0, "%s", cluster->members[i].name);
        table_cell(&text, row, 1, "%d", (int)cluster->members[i].pid);
        table_cell(&text, row, 2, "%s/metrics", cluster->members[i].http);
    }
    table_print(&text, "", stdout);
    printf("\ncoordinator at %s, logs in %s; `lagoon down` stops everything\n", cluster->coordinator, cli->state_dir);
}

static int run_up(struct cli *cli, const void *own, int argc, char **argv) {
    const struct up_options *wanted = own;
    (void)argc, (void)argv;
    struct lg_error error = {0};
    struct cluster cluster;
    char here[PATH_MAX] = "";
    if (!wanted->data_root[0] && !getcwd(here, sizeof here))
        return cli_complain(CLI_EXIT_FAILED, "cannot tell the working folder: %s", strerror(errno));
    const struct cluster_plan plan = {.coordinator_port = (int)wanted->port,
                                      .servers = (int)wanted->servers,
                                      .shards = (int)wanted->shards,
                                      .workers = (int)wanted->workers,
                                      .slots = (int)wanted->slots,
                                      .device = wanted->device,
                                      .data_root = wanted->data_root[0] ? wanted->data_root : here,
                                      .dead_after = "5s"};
    enum lg_status status = refuse_second(cli, &error);
    if (status == LG_OK)
        status = cluster_start(&cluster, cli->state_dir, &plan, &error);
    if (status != LG_OK)
        return cli_fail(&error);
    status = await_members(&cluster, &error);
    if (status == LG_OK)
        status = cluster_save(&cluster, &error);
    if (status != LG_OK) {
        cluster_stop(&cluster, 2000);
        return cli_fail(&error);
    }
    if (cli->globals.json)
        print_document(json_pack("{s:s, s:I, s:s}", "coordinator", cluster.coordinator, "members",
                                 (json_int_t)cluster.count, "state_dir", cli->state_dir));
    else
        print_cluster(cli, &cluster);
    return CLI_EXIT_OK;
}

const struct cli_command cmd_up = {
    .name = "up",
    .summary = "start a cluster on this machine, in the background",
    .arguments = "",
    .details = "Starts a coordinator, servers and workers on free loopback ports and remembers them in the state\n"
               "folder, where their logs are too. Other commands find the cluster there.",
    .options = &table,
    .run = run_up,
};

static int run_down(struct cli *cli, const void *own, int argc, char **argv) {
    (void)own, (void)argc, (void)argv;
    struct lg_error error = {0};
    struct cluster cluster;
    if (cluster_load(&cluster, cli->state_dir, &error) != LG_OK) {
        if (error.status == LG_NOT_FOUND && !cli->globals.json)
            printf("nothing to stop: %s\n", error.message);
        return error.status == LG_NOT_FOUND ? CLI_EXIT_OK : cli_fail(&error);
    }
    int killed = cluster_stop(&cluster, 10000);
    cluster_forget(&cluster);
    if (cli->globals.json)
        printf("{\"stopped\": %zu, \"killed\": %d}\n", cluster.count, killed);
    else if (killed > 0)
        printf("stopped %zu daemons, %d of them by force\n", cluster.count, killed);
    else
        printf("stopped %zu daemons\n", cluster.count);
    return CLI_EXIT_OK;
}

const struct cli_command cmd_down = {
    .name = "down", .summary = "stop the cluster that `lagoon up` started", .arguments = "", .run = run_down};
