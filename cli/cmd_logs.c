/* lagoon logs: what a job's trainers printed. */
#include <time.h>

#include "cli/link.h"
#include "cli/table.h"

struct logs_options {
    bool follow;
};

static const struct option options[] = {
    {"follow", OPTION_BOOL, offsetof(struct logs_options, follow), "false", 0, 0, NULL, NULL,
     "go on until the job has ended"},
};

static const struct option_table table = {"logs", "options of `lagoon logs`", options, sizeof options / sizeof *options,
                                          sizeof(struct logs_options)};

/* Prints the lines from *next on; returns how many. */
static enum lg_status print_lines(struct link *link, const struct cli *cli, const char *job, uint64_t *next,
                                  size_t *count, struct lg_error *error) {
    json_t *lines = NULL, *line;
    size_t i;
    enum lg_status status = link_query(link, "logs", job, *next, &lines, next, error);
    if (status != LG_OK)
        return status;
    *count = json_array_size(lines);
    json_array_foreach(lines, i, line) {
        if (cli->globals.json) {
            json_dumpf(line, stdout, JSON_COMPACT);
            fputc('\n', stdout);
        } else {
            printf("trainer %lld| %s\n", field_integer(line, "trainer", 0), field_text(line, "line", ""));
        }
    }
    fflush(stdout);
    json_decref(lines);
    return LG_OK;
}

static bool job_ended(struct link *link, const char *job) {
    json_t *document = NULL;
    if (link_query(link, "job", job, 0, &document, NULL, NULL) != LG_OK)
        return true;
    const char *state = field_text(document, "state", "");
    bool ended = state[0] == 'c' || state[0] == 'f'; /* cancelled, finished, failed */
    json_decref(document);
    return ended;
}

static int run(struct cli *cli, const void *own, int argc, char **argv) {
    const struct logs_options *wanted = own;
    (void)argc;
    struct lg_error error = {0};
    struct link *link = NULL;
    uint64_t next = 0;
    enum lg_status status = link_open(cli->coordinator, &link, &error);
    bool more = status == LG_OK;
    while (more) {
        size_t count = 0;
        bool ended = wanted->follow && job_ended(link, argv[0]);
        status = print_lines(link, cli, argv[0], &next, &count, &error);
        more = status == LG_OK && (count > 0 || (wanted->follow && !ended));
        if (more && count == 0)
            nanosleep(&(struct timespec){0, 300000000L}, NULL);
    }
    link_close(link);
    return status == LG_OK ? CLI_EXIT_OK : cli_fail(&error);
}

const struct cli_command cmd_logs = {
    .name = "logs",
    .summary = "what a job's trainers printed",
    .arguments = "JOB",
    .least = 1,
    .most = 1,
    .details = "With --json, one JSON object a line.",
    .options = &table,
    .run = run,
};
