/* lagoon demo: a whole cluster for a minute. Two shards, three workers of which one is slow, one worker killed on the
 * way; ends with a table and a model file, and leaves nothing running. */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "cli/cluster.h"
#include "cli/export.h"
#include "cli/follow.h"
#include "cli/job_file.h"
#include "cli/table.h"
#include "common/units.h"

enum { WORKERS = 3 };
static const double KILL_AT = 0.3, KILL_LATE = 0.6; /* of the samples */
static const double SLICE_S = 2;                    /* lease.duration below */

struct demo_options {
    char output[OPTION_TEXT_BYTES];
    bool keep;
};

#define AT(field) offsetof(struct demo_options, field)
static const struct option options[] = {
    {"output", OPTION_STRING, AT(output), "lagoon-demo.safetensors", 0, 0, NULL, NULL, "where the model goes"},
    {"keep", OPTION_BOOL, AT(keep), "false", 0, 0, NULL, NULL, "keep the folder with the daemons' logs"},
};
#undef AT

static const struct option_table table = {"demo", "options of `lagoon demo`", options, sizeof options / sizeof *options,
                                          sizeof(struct demo_options)};

static const char *const job_text[] = {
    "name=demo",
    "model.kind=cnn",
    "dataset.kind=glyphs",
    "dataset.train_samples=20000",
    "dataset.test_samples=2000",
    "train.epochs=6",
    "train.batch=32",
    "train.threads=1",
    "updater.kind=adam",
    "lr.base=0.002",
    "lr.schedule=cosine",
    "staleness.policy=polynomial",
    "lease.duration=2s",
};

static volatile sig_atomic_t interrupted;

static void on_interrupt(int number) {
    (void)number;
    interrupted = 1;
}

struct demo {
    struct cluster cluster;
    bool killed;
};

static bool holds_young_slice(const json_t *job, long long trainer) {
    const json_t *leases = json_object_get(job, "leases");
    for (size_t i = 0; i < json_array_size(leases); i++) {
        const json_t *lease = json_array_get(leases, i);
        if (field_integer(lease, "holder", -1) == trainer && field_number(lease, "age_s", SLICE_S) < SLICE_S / 2)
            return true;
    }
    return false;
}

/* A worker's trainer has begun a slice not long ago. */
static bool is_amid_slice(const json_t *job, const char *worker) {
    const json_t *trainers = json_object_get(job, "trainers");
    for (size_t i = 0; i < json_array_size(trainers); i++) {
        const json_t *trainer = json_array_get(trainers, i);
        if (strcmp(field_text(trainer, "agent", ""), worker) == 0 &&
            holds_young_slice(job, field_integer(trainer, "trainer", 0)))
            return true;
    }
    return false;
}

/* Kills the victim once enough is trained, in the middle of a slice if there is such a moment; false when the user
 * interrupts. */
static bool look(void *context, const json_t *job) {
    struct demo *demo = context;
    double total = field_number(job, "samples_total", 0), done = field_number(job, "samples_applied", 0);
    struct cluster_member *victim = cluster_find(&demo->cluster, "worker2");
    const bool due =
        total > 0 && done >= KILL_AT * total && (is_amid_slice(job, "worker2") || done >= KILL_LATE * total);
    if (!demo->killed && victim && due) {
        kill(victim->pid, SIGKILL);
        demo->killed = true;
        printf("%s  >>> kill -9 %d: worker2 dies in the middle of its slice\n", isatty(STDOUT_FILENO) ? "\r\033[K" : "",
               (int)victim->pid);
        fflush(stdout);
    }
    return !interrupted;
}

static enum lg_status submit(struct link *link, char number[32], struct lg_error *error) {
    struct config *config = NULL;
    struct job_config job;
    struct wire_pair pairs[WIRE_PAIRS_MAX];
    struct wire_message request = {.kind = WIRE_SUBMIT}, reply;
    size_t count = 0;
    enum lg_status status =
        job_file_load(NULL, job_text, (int)(sizeof job_text / sizeof *job_text), &config, &job, error);
    if (status == LG_OK)
        status = wire_pairs_from_config(config, pairs, WIRE_PAIRS_MAX, &count, error);
    request.submit = (struct wire_submit){.spec = pairs, .spec_count = count};
    if (status == LG_OK)
        status = link_ask(link, &request, LINK_TIMEOUT_MS, &reply, error);
    if (status == LG_OK && reply.submit_reply.status != LG_OK)
        status = lg_fail(error, (enum lg_status)reply.submit_reply.status, "%s", reply.submit_reply.reason);
    if (status == LG_OK)
        snprintf(number, 32, "%llu", (unsigned long long)reply.submit_reply.job);
    config_free(config);
    return status;
}

/* "12,000 on every unit of both shards" for each epoch, or what differs. */
static void print_epochs(const json_t *job, long long samples) {
    const json_t *ledger = json_object_get(job, "ledger");
    long long epochs = field_integer(job, "epochs", 0);
    char text[UNITS_TEXT_BYTES];
    for (long long epoch = 1; epoch <= epochs; epoch++) {
        long long least = -1, most = -1;
        json_t *row;
        size_t i;
        json_array_foreach(ledger, i, row) {
            if (field_integer(row, "epoch", -1) != epoch)
                continue;
            long long low = field_integer(row, "samples_least", 0), high = field_integer(row, "samples_most", 0);
            least = least < 0 || low < least ? low : least;
            most = high > most ? high : most;
        }
        if (least == samples && most == samples)
            printf("  epoch %lld              %s samples applied, each exactly once on every shard\n", epoch,
                   units_count((uint64_t)samples, text, sizeof text));
        else
            printf("  epoch %lld              between %lld and %lld samples applied, of %lld\n", epoch, least, most,
                   samples);
    }
}

static void print_summary(const json_t *job, double seconds, const char *model_file) {
    const json_t *staleness = json_object_get(job, "staleness");
    double total = field_number(job, "samples_total", 0);
    char rate[UNITS_TEXT_BYTES];
    printf("\n  test accuracy        %.2f %%\n", 100 * field_number(job, "accuracy", 0));
    printf("  samples/s            %s (over the whole run, start and evaluations included)\n",
           units_rate(seconds > 0 ? total / seconds : 0, rate, sizeof rate));
    printf("  staleness            mean %.2f, p99 %lld, max %lld\n", field_number(staleness, "mean", 0),
           field_integer(staleness, "p99", 0), field_integer(staleness, "max", 0));
    printf("  weight               mean %.3f\n", field_number(job, "weight_mean", 0));
    printf("  slices taken over    %lld\n", field_integer(job, "slices_taken_over", 0));
    print_epochs(job, (long long)(total / (double)field_integer(job, "epochs", 1)));
    printf("  model                %s\n", model_file);
}

static int train(struct demo *demo, struct cli *cli, const struct demo_options *wanted) {
    struct lg_error error = {0};
    struct link *link = NULL;
    struct export_summary summary;
    struct timespec began, ended;
    json_t *job = NULL;
    char number[32] = "";
    clock_gettime(CLOCK_MONOTONIC, &began);
    enum lg_status status = link_open(cli->coordinator, &link, &error);
    if (status == LG_OK)
        status = submit(link, number, &error);
    if (status != LG_OK) {
        link_close(link);
        return cli_fail(&error);
    }
    const struct follow follow = {
        .job = number, .out = stdout, .history = true, .timeout_ms = 300000, .look = look, .context = demo};
    int code = follow_job(link, &follow, &job);
    clock_gettime(CLOCK_MONOTONIC, &ended);
    double seconds = (double)(ended.tv_sec - began.tv_sec) + 1e-9 * (double)(ended.tv_nsec - began.tv_nsec);
    if (code == CLI_EXIT_OK && export_job(cli, number, wanted->output, &summary, &error) != LG_OK)
        code = cli_fail(&error);
    if (code == CLI_EXIT_OK) {
        if (cli->globals.json)
            print_json(job, stdout);
        print_summary(job, seconds, wanted->output);
    }
    json_decref(job);
    link_close(link);
    return interrupted ? CLI_EXIT_INTERRUPTED : code;
}

static void introduce(const struct cluster *cluster) {
    printf("A coordinator, 2 shards and 3 workers run on this machine; worker3 is slowed down 4 times.\n"
           "Metrics to look at meanwhile:\n");
    for (size_t i = 0; i < cluster->count; i++)
        printf("  %-12s %s/metrics\n", cluster->members[i].name, cluster->members[i].http);
    printf("\n");
    fflush(stdout);
}

static int run(struct cli *cli, const void *own, int argc, char **argv) {
    const struct demo_options *wanted = own;
    (void)argc, (void)argv;
    static const double slowdowns[WORKERS] = {1, 1, 4};
    const struct cluster_plan plan = {.servers = 1,
                                      .shards = 2,
                                      .workers = WORKERS,
                                      .slots = 1,
                                      .slowdowns = slowdowns,
                                      .data_root = "",
                                      .dead_after = "2s",
                                      .attached = true};
    struct demo demo = {0};
    struct lg_error error = {0};
    char dir[] = "/tmp/lagoon-demo-XXXXXX";
    const struct sigaction action = {.sa_handler = on_interrupt};
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    if (!mkdtemp(dir))
        return cli_complain(CLI_EXIT_FAILED, "cannot make a folder under /tmp: %s", strerror(errno));
    int code = CLI_EXIT_OK;
    if (cluster_start(&demo.cluster, dir, &plan, &error) != LG_OK)
        code = cli_fail(&error);
    if (code == CLI_EXIT_OK && !interrupted) {
        snprintf(cli->coordinator, sizeof cli->coordinator, "%s", demo.cluster.coordinator);
        introduce(&demo.cluster);
        code = train(&demo, cli, wanted);
    }
    cluster_stop(&demo.cluster, 5000);
    if (interrupted) {
        fprintf(stderr, "\nlagoon: interrupted; everything is stopped\n");
        code = CLI_EXIT_INTERRUPTED;
    }
    if (wanted->keep || (code != CLI_EXIT_OK && !interrupted))
        fprintf(stderr, "lagoon: the daemons' logs are in %s\n", dir);
    else
        cluster_remove_folder(dir);
    return code;
}

const struct cli_command cmd_demo = {
    .name = "demo",
    .summary = "watch a cluster train, lose a worker, and finish",
    .arguments = "",
    .details =
        "Starts 2 shards and 3 workers on free ports, trains a small CNN on drawn digits, kills one worker, and\n"
        "ends with a table and a model file. Takes less than a minute and leaves nothing running.",
    .options = &table,
    .run = run,
};
