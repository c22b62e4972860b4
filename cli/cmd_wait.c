/* lagoon wait: blocks until a job ends. */
#include "cli/follow.h"
#include "cli/table.h"

struct wait_options {
    int64_t timeout_ms;
    bool follow;
};

static const struct option options[] = {
    {"timeout", OPTION_DURATION, offsetof(struct wait_options, timeout_ms), "0ms", 0, 0, NULL, "ms",
     "give up waiting after this long (exit code 6); 0: never"},
    {"follow", OPTION_BOOL, offsetof(struct wait_options, follow), "false", 0, 0, NULL, NULL,
     "show progress and history meanwhile"},
};

static const struct option_table table = {"wait", "options of `lagoon wait`", options, sizeof options / sizeof *options,
                                          sizeof(struct wait_options)};

static int run(struct cli *cli, const void *own, int argc, char **argv) {
    const struct wait_options *wanted = own;
    (void)argc;
    struct lg_error error = {0};
    struct link *link = NULL;
    json_t *job = NULL;
    if (link_open(cli->coordinator, &link, &error) != LG_OK)
        return cli_fail(&error);
    const struct follow follow = {.job = argv[0],
                                  .out = cli->globals.json ? stderr : stdout,
                                  .quiet = !wanted->follow,
                                  .history = wanted->follow,
                                  .timeout_ms = wanted->timeout_ms};
    int code = follow_job(link, &follow, &job);
    if (job && cli->globals.json)
        print_json(job, stdout);
    else if (job && code == CLI_EXIT_OK)
        printf("job \"%s\" finished\n", field_text(job, "name", "?"));
    json_decref(job);
    link_close(link);
    return code;
}

const struct cli_command cmd_wait = {
    .name = "wait",
    .summary = "wait until a job has ended",
    .arguments = "JOB",
    .least = 1,
    .most = 1,
    .details = "Exit code 0: finished, 4: failed, 5: cancelled, 6: --timeout passed, 7: no such job.",
    .options = &table,
    .run = run,
};
