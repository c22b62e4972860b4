#include "bench/training.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cluster.h"
#include "cli/follow.h"
#include "cli/job_file.h"
#include "cli/table.h"

enum { WORKERS = 2, ROUNDS_MOST = 3, JOB_TIMEOUT_MS = 300000, TRANSPORTS = 2, PIPELINES = 2 };

static const char *const transports[TRANSPORTS] = {"shm", "tcp"};

/* configs/jobs/mlp-10m.yaml, but for its length: 784 x 2560 x 2560 x 560 x 10 are 10.0 million parameters. Nothing is
 * evaluated on the way. */
static const char *const job_text[] = {
    "model.kind=mlp",      "model.hidden=2560,2560,560", "dataset.kind=glyphs", "dataset.train_samples=2560",
    "dataset.fresh=false", "dataset.test_samples=32",    "train.epochs=1",      "train.batch=32",
    "train.threads=1",     "updater.kind=momentum",      "lr.base=0.01",        "evaluate.every_epochs=0",
    "lease.duration=1s",
};

enum { KEYS = sizeof job_text / sizeof *job_text };

/* ---- one job */

static enum lg_status submit(struct link *link, int pipeline, char number[32], struct lg_error *error) {
    const char *keys[KEYS + 1];
    char depth[32];
    snprintf(depth, sizeof depth, "train.pipeline=%d", pipeline);
    memcpy(keys, job_text, sizeof job_text);
    keys[KEYS] = depth;
    struct config *config = NULL;
    struct job_config job;
    struct wire_pair pairs[WIRE_PAIRS_MAX];
    struct wire_message request = {.kind = WIRE_SUBMIT}, reply;
    size_t count = 0;
    enum lg_status status = job_file_load(NULL, keys, KEYS + 1, &config, &job, error);
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

struct watch {
    const struct probe_plan *plan;
    char transport[16]; /* that a trainer was seen to use last; "" : not seen yet */
};

static bool look(void *context, const json_t *job) {
    struct watch *watch = context;
    const json_t *row;
    size_t i;
    json_array_foreach(json_object_get(job, "trainers"), i, row) {
        const char *used = field_text(row, "transport", "");
        if (used[0])
            snprintf(watch->transport, sizeof watch->transport, "%s", used);
    }
    return probe_plan_check(watch->plan, NULL) == LG_OK;
}

/* What the trainers counted, all together. */
static enum lg_status add_figures(const json_t *job, const char *transport, int pipeline, struct figures *figures,
                                  struct lg_error *error) {
    double compute_s = 0, communication_s = 0, rate = 0;
    char name[FIGURE_NAME_BYTES];
    const json_t *row;
    size_t i;
    json_array_foreach(json_object_get(job, "trainers"), i, row) {
        double compute = field_number(row, "compute_seconds", 0);
        double communication = field_number(row, "communication_seconds", 0);
        compute_s += compute;
        communication_s += communication;
        rate += compute > 0 ? field_number(row, "samples", 0) / (compute + communication) : 0;
    }
    if (compute_s <= 0)
        return lg_fail(error, LG_INTERNAL, "the trainers counted no time");
    snprintf(name, sizeof name, "training.%s.pipeline%d.share", transport, pipeline);
    enum lg_status status = figures_add(figures, name, "", communication_s / (compute_s + communication_s), error);
    snprintf(name, sizeof name, "training.%s.pipeline%d.rate", transport, pipeline);
    return status == LG_OK ? figures_add(figures, name, "samples/s", rate, error) : status;
}

static enum lg_status train(struct cluster *cluster, const char *transport, int pipeline, const struct probe_plan *plan,
                            struct figures *figures, struct lg_error *error) {
    struct link *link = NULL;
    json_t *job = NULL;
    struct watch watch = {.plan = plan};
    char number[32] = "";
    enum lg_status status = link_open(cluster->coordinator, &link, error);
    if (status == LG_OK)
        status = submit(link, pipeline, number, error);
    if (status == LG_OK) {
        const struct follow follow = {
            .job = number, .out = stderr, .quiet = true, .timeout_ms = JOB_TIMEOUT_MS, .look = look, .context = &watch};
        if (follow_job(link, &follow, &job) != CLI_EXIT_OK)
            status = lg_fail(error, LG_IO, "the training job did not finish");
    }
    if (status != LG_OK && probe_plan_check(plan, NULL) != LG_OK)
        status = probe_plan_check(plan, error);
    if (status == LG_OK && watch.transport[0] && strcmp(watch.transport, transport) != 0)
        status = lg_fail(error, LG_UNSUPPORTED, "the trainers travel by %s, not by %s", watch.transport, transport);
    if (status == LG_OK)
        status = add_figures(job, transport, pipeline, figures, error);
    json_decref(job);
    link_close(link);
    return status;
}

/* ---- clusters: both stand ready, one trains at a time */

static enum lg_status start(struct cluster *cluster, const char *transport, char *dir, struct lg_error *error) {
    const struct cluster_plan plan = {.servers = 1,
                                      .shards = 1,
                                      .workers = WORKERS,
                                      .slots = 1,
                                      .data_root = "",
                                      .dead_after = "30s",
                                      .attached = true,
                                      .messages = strcmp(transport, "tcp") == 0};
    if (!mkdtemp(dir)) {
        dir[0] = '\0';
        return lg_fail(error, LG_IO, "cannot make a folder under /tmp: %s", strerror(errno));
    }
    return cluster_start(cluster, dir, &plan, error);
}

static enum lg_status train_in_rounds(struct cluster clusters[TRANSPORTS], const struct probe_plan *plan,
                                      struct figures *figures, struct lg_error *error) {
    unsigned rounds = plan->rounds < ROUNDS_MOST ? plan->rounds : ROUNDS_MOST;
    enum lg_status status = LG_OK;
    for (unsigned round = 0; status == LG_OK && round < rounds; round++)
        for (int i = 0; status == LG_OK && i < TRANSPORTS * PIPELINES; i++) {
            const char *transport = transports[i / PIPELINES];
            int pipeline = 1 + i % PIPELINES;
            char text[96];
            snprintf(text, sizeof text, "round %u of %u: training over %s, pipeline of %d", round + 1, rounds,
                     transport, pipeline);
            if (plan->tell)
                plan->tell(plan->context, text);
            status = train(&clusters[i / PIPELINES], transport, pipeline, plan, figures, error);
        }
    return status;
}

enum lg_status training_run(const struct probe_plan *plan, struct figures *figures, struct omissions *omissions,
                            struct lg_error *error) {
    char dirs[TRANSPORTS][32];
    struct cluster *clusters = calloc(TRANSPORTS, sizeof *clusters);
    enum lg_status status = clusters ? LG_OK : lg_fail(error, LG_NO_MEMORY, "no memory for two clusters");
    for (int i = 0; i < TRANSPORTS; i++) {
        snprintf(dirs[i], sizeof dirs[i], "/tmp/lagoon-bench-XXXXXX");
        if (status == LG_OK)
            status = start(&clusters[i], transports[i], dirs[i], error);
        else
            dirs[i][0] = '\0';
    }
    if (status == LG_OK)
        status = train_in_rounds(clusters, plan, figures, error);
    for (int i = 0; clusters && i < TRANSPORTS; i++) {
        cluster_stop(&clusters[i], 5000);
        if (dirs[i][0])
            cluster_remove_folder(dirs[i]);
    }
    free(clusters);
    if (status != LG_NOT_FOUND && status != LG_UNSUPPORTED)
        return status;
    omissions_add(omissions, "training", error ? error->message : "the daemons are missing");
    return LG_OK;
}
