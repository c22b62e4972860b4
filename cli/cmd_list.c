/* The listings: status, jobs, workers, shards, stats. Each asks for one document and prints it as a table or as JSON.
 */
#include "cli/link.h"
#include "cli/table.h"
#include "common/units.h"

#include <string.h>
#include <time.h>

static int fetch(const struct cli *cli, const char *what, const char *job, json_t **document) {
    struct lg_error error = {0};
    return link_query_once(cli, what, job, document, &error) == LG_OK ? CLI_EXIT_OK : cli_fail(&error);
}

/* Fetches, then prints JSON or calls `print`. */
static int list(const struct cli *cli, const char *what, const char *job, void (*print)(const json_t *document)) {
    json_t *document = NULL;
    int code = fetch(cli, what, job, &document);
    if (code != CLI_EXIT_OK)
        return code;
    if (cli->globals.json)
        print_json(document, stdout);
    else
        print(document);
    json_decref(document);
    return CLI_EXIT_OK;
}

/* ---- status */

static void print_status(const json_t *document) {
    char used[UNITS_TEXT_BYTES], all[UNITS_TEXT_BYTES], uptime[UNITS_TEXT_BYTES];
    const json_t *coordinator = json_object_get(document, "coordinator");
    long long uptime_s = field_integer(coordinator, "uptime_s", 0);
    json_t *count;
    const char *state;
    snprintf(uptime, sizeof uptime, "%lld s", uptime_s);
    if (uptime_s >= 60)
        units_duration(1000 * uptime_s, uptime, sizeof uptime);
    printf("coordinator  %s, up %s, version %s, stats at %s\n", field_text(coordinator, "address", "?"), uptime,
           field_text(coordinator, "version", "?"), field_text(coordinator, "http", "-"));
    printf("servers      %lld with %lld shards, %s of %s in use\n", field_integer(document, "servers", 0),
           field_integer(document, "shards", 0),
           units_bytes((uint64_t)field_integer(document, "memory_used_bytes", 0), used, sizeof used),
           units_bytes((uint64_t)field_integer(document, "memory_bytes", 0), all, sizeof all));
    printf("workers      %lld\njobs         ", field_integer(document, "workers", 0));
    const char *gap = "";
    json_object_foreach(json_object_get(document, "jobs"), state, count) {
        if (json_integer_value(count) == 0)
            continue;
        printf("%s%lld %s", gap, (long long)json_integer_value(count), state);
        gap = ", ";
    }
    printf("%s\n", gap[0] ? "" : "none");
}

static int run_status(struct cli *cli, const void *own, int argc, char **argv) {
    (void)own, (void)argc, (void)argv;
    return list(cli, "status", "", print_status);
}

const struct cli_command cmd_status = {
    .name = "status", .summary = "the cluster in a few lines", .arguments = "", .run = run_status};

/* ---- jobs */

static void percent_cell(struct table *table, size_t row, size_t column, const json_t *value) {
    if (json_is_number(value))
        table_cell(table, row, column, "%.2f %%", 100 * json_number_value(value));
    else
        table_cell(table, row, column, "-");
}

static void print_jobs(const json_t *document) {
    struct table table;
    char rate[UNITS_TEXT_BYTES];
    json_t *job;
    size_t i;
    table_init(&table, (const char *const[]){">ID", "NAME", "STATE", ">EPOCH", ">DONE", ">SAMPLES/S", ">LOSS",
                                             ">ACCURACY", ">TRAINERS", "REASON", NULL});
    json_array_foreach(document, i, job) {
        size_t row = table_row(&table);
        double total = field_number(job, "samples_total", 0);
        table_cell(&table, row, 0, "%lld", field_integer(job, "id", 0));
        table_cell(&table, row, 1, "%s", field_text(job, "name", "?"));
        table_cell(&table, row, 2, "%s", field_text(job, "state", "?"));
        table_cell(&table, row, 3, "%lld/%lld", field_epoch(job), field_integer(job, "epochs", 0));
        table_cell(&table, row, 4, "%.1f %%", total > 0 ? 100 * field_number(job, "samples_applied", 0) / total : 0);
        double now = field_number(job, "samples_per_second", 0);
        table_cell(&table, row, 5, "%s", now > 0 ? units_rate(now, rate, sizeof rate) : "-");
        if (field_number(job, "samples_applied", 0) > 0)
            table_cell(&table, row, 6, "%.4f", field_number(job, "loss", 0));
        else
            table_cell(&table, row, 6, "-");
        percent_cell(&table, row, 7, json_object_get(job, "accuracy"));
        const json_t *trainers = json_object_get(job, "trainers");
        table_cell(&table, row, 8, "%lld",
                   json_is_array(trainers) ? (long long)json_array_size(trainers) : field_integer(job, "trainers", 0));
        table_cell(&table, row, 9, "%s", field_text(job, "reason", ""));
    }
    table_print(&table, "no jobs; `lagoon submit FILE` starts one", stdout);
}

static int run_jobs(struct cli *cli, const void *own, int argc, char **argv) {
    (void)own, (void)argc, (void)argv;
    return list(cli, "jobs", "", print_jobs);
}

const struct cli_command cmd_jobs = {.name = "jobs", .summary = "all jobs", .arguments = "", .run = run_jobs};

/* ---- workers */

/* How the trainers of a worker reach their shards: "shm", "tcp", ..., each once. */
static void list_transports(const json_t *worker, char *text, size_t bytes) {
    json_t *trainer;
    size_t i, used = 0;
    text[0] = '\0';
    json_array_foreach(json_object_get(worker, "trainers"), i, trainer) {
        const char *transport = field_text(trainer, "transport", "");
        if (transport[0] && !strstr(text, transport) && used < bytes)
            used += (size_t)snprintf(text + used, bytes - used, "%s%s", used ? "," : "", transport);
    }
    if (text[0] == '\0')
        snprintf(text, bytes, "-");
}

static void print_workers(const json_t *document) {
    struct table table;
    json_t *worker;
    size_t i;
    table_init(&table, (const char *const[]){">MEMBER", "NAME", "STATE", ">CORES", ">SLOTS", ">USED", "DEVICES", "VIA",
                                             ">LAST BEAT", "STATS", NULL});
    json_array_foreach(document, i, worker) {
        size_t row = table_row(&table), d;
        json_t *device;
        char devices[TABLE_CELL_BYTES] = "", transports[TABLE_CELL_BYTES];
        size_t used = 0;
        list_transports(worker, transports, sizeof transports);
        json_array_foreach(json_object_get(worker, "devices"), d, device) {
            if (used < sizeof devices)
                used += (size_t)snprintf(devices + used, sizeof devices - used, "%s%s", d ? "," : "",
                                         json_string_value(device));
        }
        table_cell(&table, row, 0, "%lld", field_integer(worker, "member", 0));
        table_cell(&table, row, 1, "%s", field_text(worker, "name", "?"));
        table_cell(&table, row, 2, "%s", field_text(worker, "state", "?"));
        table_cell(&table, row, 3, "%lld", field_integer(worker, "cores", 0));
        table_cell(&table, row, 4, "%lld", field_integer(worker, "slots", 0));
        table_cell(&table, row, 5, "%lld", field_integer(worker, "used", 0));
        table_cell(&table, row, 6, "%s", devices);
        table_cell(&table, row, 7, "%s", transports);
        table_cell(&table, row, 8, "%.1f s", field_number(worker, "last_beat_s", 0));
        table_cell(&table, row, 9, "%s", field_text(worker, "http", ""));
    }
    table_print(&table, "no workers; start `lagoon-worker` on any machine that reaches the coordinator", stdout);
}

static int run_workers(struct cli *cli, const void *own, int argc, char **argv) {
    (void)own, (void)argc, (void)argv;
    return list(cli, "workers", "", print_workers);
}

const struct cli_command cmd_workers = {
    .name = "workers", .summary = "worker daemons and what they run", .arguments = "", .run = run_workers};

/* ---- shards */

static void print_shard_job(struct table *table, const json_t *shard, const json_t *job) {
    char bytes[UNITS_TEXT_BYTES], pushes[UNITS_TEXT_BYTES];
    size_t row = table_row(table);
    table_cell(table, row, 0, "%lld", field_integer(shard, "shard", 0));
    table_cell(table, row, 1, "%s", field_text(shard, "server", "?"));
    table_cell(table, row, 2, "%s", field_text(shard, "endpoint", "?"));
    table_cell(table, row, 3, "%s", field_text(shard, "state", "?"));
    table_cell(table, row, 12, "%s", field_text(shard, "http", ""));
    if (!job)
        return;
    table_cell(table, row, 4, "%s", field_text(job, "name", "?"));
    table_cell(table, row, 5, "%lld", field_integer(job, "units", 0));
    table_cell(table, row, 6, "%s",
               units_bytes((uint64_t)(field_integer(job, "parameter_bytes", 0) + field_integer(job, "state_bytes", 0)),
                           bytes, sizeof bytes));
    table_cell(table, row, 7, "%s", units_count((uint64_t)field_integer(job, "pushes", 0), pushes, sizeof pushes));
    table_cell(table, row, 8, "%.2f", field_number(job, "staleness_mean", 0));
    table_cell(table, row, 9, "%lld", field_integer(job, "staleness_p99", 0));
    table_cell(table, row, 10, "%lld", field_integer(job, "staleness_max", 0));
    table_cell(table, row, 11, "%.3f", field_number(job, "weight_mean", 0));
}

static void print_shards(const json_t *document) {
    struct table table;
    json_t *shard, *job;
    size_t i, j;
    table_init(&table, (const char *const[]){">SHARD", "SERVER", "ENDPOINT", "STATE", "JOB", ">UNITS", ">MEMORY",
                                             ">PUSHES", ">STALENESS", ">P99", ">MAX", ">WEIGHT", "STATS", NULL});
    json_array_foreach(document, i, shard) {
        const json_t *jobs = json_object_get(shard, "jobs");
        if (json_array_size(jobs) == 0)
            print_shard_job(&table, shard, NULL);
        json_array_foreach(jobs, j, job) {
            print_shard_job(&table, shard, job);
        }
    }
    table_print(&table, "no shards; start `lagoon-server` on any machine that reaches the coordinator", stdout);
}

static int run_shards(struct cli *cli, const void *own, int argc, char **argv) {
    (void)own, (void)argc, (void)argv;
    return list(cli, "shards", "", print_shards);
}

const struct cli_command cmd_shards = {.name = "shards",
                                       .summary = "shards, what they hold, and the staleness they see",
                                       .arguments = "",
                                       .run = run_shards};

/* ---- stats */

static void print_stats(const json_t *document) {
    print_json(document, stdout);
}

static int run_stats(struct cli *cli, const void *own, int argc, char **argv) {
    (void)own;
    return list(cli, "stats", argc > 0 ? argv[0] : "", print_stats);
}

const struct cli_command cmd_stats = {
    .name = "stats",
    .summary = "the coordinator's numbers as JSON",
    .arguments = "[JOB]",
    .most = 1,
    .details =
        "Every daemon also serves its own under /metrics and /stats.json; `lagoon workers`, `lagoon shards` and\n"
        "`lagoon status` show where.",
    .run = run_stats,
};
