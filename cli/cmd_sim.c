/* lagoon sim: experiments on a simulated cluster. */
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cli/cli.h"
#include "cli/job_file.h"
#include "cli/table.h"
#include "common/log.h"
#include "sim/experiment.h"

struct sim_flags {
    int64_t jobs;
    char plot[OPTION_TEXT_BYTES];
};

#define AT(field) offsetof(struct sim_flags, field)

static const struct option options[] = {
    {"jobs", OPTION_INT, AT(jobs), "0", 0, 256, NULL, "processes", "runs at once; 0: one for each core"},
    {"plot", OPTION_STRING, AT(plot), "", 0, 0, NULL, NULL, "SVG file to draw the curves and histograms into"},
};

static const struct option_table table = {"sim", "options of `lagoon sim`", options, sizeof options / sizeof *options,
                                          sizeof(struct sim_flags)};

static volatile sig_atomic_t interrupted;

static void on_interrupt(int number) {
    (void)number;
    interrupted = 1;
}

static enum lg_status check_job(struct config *config, struct lg_error *error) {
    struct job_config job;
    return job_file_check(config, &job, error);
}

static unsigned cores(void) {
    cpu_set_t set;
    return sched_getaffinity(0, sizeof set, &set) == 0 ? (unsigned)CPU_COUNT(&set) : 1;
}

static enum lg_status write_document(const struct experiment *experiment, const char *path, struct lg_error *error) {
    json_t *document = experiment_document(experiment);
    FILE *out = document ? fopen(path, "w") : NULL;
    if (!document)
        return lg_fail(error, LG_NO_MEMORY, "no memory for the document");
    if (out)
        print_json(document, out);
    json_decref(document);
    if (!out || fclose(out) != 0)
        return lg_fail(error, LG_IO, "cannot write \"%s\": %s", path, strerror(errno));
    return LG_OK;
}

/* `path`: where the document goes, beside the table; NULL: with `json`, it goes where the table would. */
static enum lg_status report(const struct experiment *experiment, const struct sim_flags *flags, bool json,
                             const char *path, struct lg_error *error) {
    enum lg_status status = LG_OK;
    if (json && !path) {
        json_t *document = experiment_document(experiment);
        if (document)
            print_json(document, stdout);
        json_decref(document);
    } else {
        experiment_print(experiment, stdout);
    }
    if (path)
        status = write_document(experiment, path, error);
    if (status == LG_OK && flags->plot[0])
        status = experiment_plot(experiment, flags->plot, error);
    return status;
}

/* Takes the file of `--json FILE` out of the arguments behind the experiment: the one that sets no key. */
static const char *take_path(int *argc, char **argv) {
    const char *path = NULL;
    int kept = 1;
    for (int i = 1; i < *argc; i++)
        if (!path && !strchr(argv[i], '='))
            path = argv[i];
        else
            argv[kept++] = argv[i];
    *argc = kept;
    return path;
}

static int run(struct cli *cli, const void *own, int argc, char **argv) {
    const struct sim_flags *flags = own;
    const struct sigaction action = {.sa_handler = on_interrupt};
    struct experiment experiment;
    struct lg_error error = {0}, trouble = {0};
    const char *path = cli->globals.json ? take_path(&argc, argv) : NULL;
    log_init("sim", LOG_LEVEL_ERROR);
    if (experiment_load(argv[0], (const char *const *)(argv + 1), (size_t)(argc - 1), check_job, &experiment, &error) !=
        LG_OK) {
        int wrong = cli_fail(&error);
        return error.status == LG_INVALID ? CLI_EXIT_USAGE : wrong;
    }
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    const struct experiment_options how = {.jobs = flags->jobs > 0 ? (unsigned)flags->jobs : cores(),
                                           .live = isatty(STDERR_FILENO) != 0,
                                           .progress = stderr,
                                           .interrupted = &interrupted};
    enum lg_status status = experiment_run(&experiment, &how, &trouble);
    int code = CLI_EXIT_OK;
    if (report(&experiment, flags, cli->globals.json, path, &error) != LG_OK)
        code = cli_fail(&error);
    if (status != LG_OK)
        code = cli_fail(&trouble);
    experiment_free(&experiment);
    return interrupted ? CLI_EXIT_INTERRUPTED : code;
}

const struct cli_command cmd_sim = {
    .name = "sim",
    .summary = "try jobs on a simulated cluster: policies, modes, learning rates",
    .arguments = "FILE [KEY=VALUE ...] [--json [OUT]]",
    .least = 1,
    .most = 100,
    .details =
        "FILE is a job file with keys of the simulated machines, below `sim.`, and of what is varied: `grid.KEY: [A, "
        "B]`\n"
        "runs the job with each value, `variants.NAME: {KEY: VALUE}` with each set of keys; all combinations are "
        "cells,\n"
        "and each cell runs once with every seed of sim.seeds, in processes of its own. Gradients, shards, sessions "
        "and\n"
        "the coordinator are the real ones; machines, network and clock are pretended, so that a thousand workers fit\n"
        "on one core, and the same file gives the same numbers each time. Needs no cluster. KEY=VALUE overrides the\n"
        "file; --json OUT writes everything to a file, curves and histograms of each run too. `lagoon help sim-keys` "
        "lists the keys; docs/simulator.md says what is modelled and what is not.",
    .options = &table,
    .run = run,
};
