/* lagoon submit: checks a job file, hands it to the coordinator, and may follow it. */
#include <stdlib.h>
#include <string.h>

#include "cli/follow.h"
#include "cli/initial.h"
#include "cli/job_file.h"
#include "cli/table.h"

struct submit_options {
    bool follow;
    char init[OPTION_TEXT_BYTES];
};

static const struct option options[] = {
    {"follow", OPTION_BOOL, offsetof(struct submit_options, follow), "false", 0, 0, NULL, NULL,
     "watch the job until it ends; the exit code tells how it did"},
    {"init", OPTION_STRING, offsetof(struct submit_options, init), "", 0, 0, NULL, NULL,
     "start from the tensors of this safetensors file instead of random values"},
};

static const struct option_table table = {"submit", "options of `lagoon submit`", options,
                                          sizeof options / sizeof *options, sizeof(struct submit_options)};

static enum lg_status submit(struct link *link, const struct config *config, bool external_init,
                             struct wire_message *reply, struct lg_error *error) {
    struct wire_pair pairs[WIRE_PAIRS_MAX];
    struct wire_message request = {.kind = WIRE_SUBMIT};
    size_t count = 0;
    enum lg_status status = wire_pairs_from_config(config, pairs, WIRE_PAIRS_MAX, &count, error);
    request.submit = (struct wire_submit){pairs, count, external_init};
    if (status == LG_OK)
        status = link_ask(link, &request, LINK_TIMEOUT_MS, reply, error);
    if (status == LG_OK && reply->kind != WIRE_SUBMIT_REPLY)
        status = lg_fail(error, LG_MALFORMED, "the coordinator answered %s", wire_kind_name(reply->kind));
    if (status == LG_OK && reply->submit_reply.status != LG_OK)
        status = lg_fail(error, (enum lg_status)reply->submit_reply.status, "%s", reply->submit_reply.reason);
    return status;
}

static void announce(const struct cli *cli, const struct wire_submit_reply *reply, bool follows) {
    for (size_t i = 0; i < reply->warning_count && !follows; i++) /* the history has them too */
        fprintf(stderr, "lagoon: warning: %s\n", reply->warnings[i]);
    if (cli->globals.json && !follows)
        printf("{\"job\": %llu, \"name\": \"%s\"}\n", (unsigned long long)reply->job, reply->name);
    else if (!cli->globals.json)
        printf("job %llu \"%s\" submitted%s\n", (unsigned long long)reply->job, reply->name,
               follows ? "" : "; `lagoon wait` and `lagoon job` tell more");
    fflush(stdout);
}

static int follow_to_end(const struct cli *cli, struct link *link, const char *number) {
    const struct follow follow = {.job = number, .out = cli->globals.json ? stderr : stdout, .history = true};
    json_t *job = NULL;
    int code = follow_job(link, &follow, &job);
    if (job && cli->globals.json)
        print_json(job, stdout);
    else if (job && code == CLI_EXIT_OK)
        printf("job \"%s\" finished: test accuracy %.2f %%, loss %.4f; `lagoon export %s` writes the model\n",
               field_text(job, "name", "?"), 100 * field_number(job, "accuracy", 0),
               field_number(job, "evaluation_loss", 0), field_text(job, "name", "?"));
    json_decref(job);
    return code;
}

static int run(struct cli *cli, const void *own, int argc, char **argv) {
    const struct submit_options *wanted = own;
    struct lg_error error = {0};
    struct config *config = NULL;
    struct job_config job;
    struct link *link = NULL;
    struct wire_message reply;
    char number[32] = "";
    bool file = argc > 0 && !strchr(argv[0], '=');
    int code = CLI_EXIT_OK;
    enum lg_status status =
        job_file_load(file ? argv[0] : NULL, (const char *const *)argv + file, argc - file, &config, &job, &error);
    if (status != LG_OK) {
        code = cli_fail(&error);
        code = status == LG_INVALID ? CLI_EXIT_USAGE : code;
        goto out;
    }
    status = link_open(cli->coordinator, &link, &error);
    if (status == LG_OK)
        status = submit(link, config, wanted->init[0] != '\0', &reply, &error);
    if (status != LG_OK) {
        code = cli_fail(&error);
        goto out;
    }
    snprintf(number, sizeof number, "%llu", (unsigned long long)reply.submit_reply.job);
    announce(cli, &reply.submit_reply, wanted->follow);
    if (wanted->init[0])
        code = initial_push(cli, number, wanted->init);
    if (code == CLI_EXIT_OK && wanted->follow)
        code = follow_to_end(cli, link, number);
out:
    link_close(link);
    config_free(config);
    return code;
}

const struct cli_command cmd_submit = {
    .name = "submit",
    .summary = "hand a job to the cluster",
    .arguments = "[FILE] [KEY=VALUE ...]",
    .most = 256,
    .details = "Reads a job file (YAML), overrides keys with KEY=VALUE arguments, checks everything, and submits it.\n"
               "`lagoon help keys` lists the keys; configs/ has examples.\n\n"
               "  lagoon submit configs/jobs/mnist-mlp.yaml train.epochs=2 --follow",
    .options = &table,
    .run = run,
};
