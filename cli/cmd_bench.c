/* lagoon bench: measures the limits of this machine and Lagoon beside them. */
#include <string.h>
#include <unistd.h>

#include "bench/bench.h"
#include "cli/cli.h"
#include "cli/table.h"

struct bench_flags {
    bool quick, check;
    char filter[OPTION_TEXT_BYTES], plot[OPTION_TEXT_BYTES];
    int64_t rounds;
    double seconds;
    uint64_t tensor_bytes;
};

#define AT(field) offsetof(struct bench_flags, field)

static const struct option options[] = {
    {"quick", OPTION_BOOL, AT(quick), "false", 0, 0, NULL, NULL,
     "only what the ratios need: no tensor sizes, shards and workers beyond them"},
    {"filter", OPTION_STRING, AT(filter), "", 0, 0, NULL, NULL,
     "measure only groups and figures whose names contain one of these words, comma-joined, and the limits beside "
     "them"},
    {"rounds", OPTION_INT, AT(rounds), "7", 1, FIGURE_ROUNDS_MAX, NULL, NULL,
     "how often everything is measured; figures are medians"},
    {"seconds", OPTION_FLOAT, AT(seconds), "0.1", 0, 60, NULL, "s", "how long one measurement lasts, about"},
    {"tensor", OPTION_BYTES, AT(tensor_bytes), "64MiB", 4096, 1073741824.0, NULL, "bytes",
     "size of the tensor of the ratios; the bars are for 64MiB"},
    {"plot", OPTION_STRING, AT(plot), "", 0, 0, NULL, NULL, "SVG file to draw the figures into"},
    {"check", OPTION_BOOL, AT(check), "false", 0, 0, NULL, NULL, "fail when a ratio is not measured or misses its bar"},
};

static const struct option_table table = {"bench", "options of `lagoon bench`", options,
                                          sizeof options / sizeof *options, sizeof(struct bench_flags)};

static int write_document(json_t *document, const char *path) {
    FILE *file = document ? fopen(path, "w") : NULL;
    if (file)
        print_json(document, file);
    if (!file || fclose(file) != 0)
        return cli_complain(CLI_EXIT_FAILED, "cannot write \"%s\"", path);
    return CLI_EXIT_OK;
}

static int report(const struct bench_result *result, const struct bench_flags *flags, bool json, const char *path) {
    struct lg_error error = {0};
    int code = CLI_EXIT_OK;
    if (json) {
        json_t *document = bench_document(result);
        if (path)
            code = write_document(document, path);
        else if (document)
            print_json(document, stdout);
        json_decref(document);
    }
    if (flags->plot[0] && bench_plot(result, flags->plot, &error) != LG_OK)
        code = cli_fail(&error);
    if (code == CLI_EXIT_OK && flags->check && !bench_all_met(result))
        code = cli_complain(CLI_EXIT_FAILED, "not every ratio was measured and met");
    return code;
}

static volatile sig_atomic_t interrupted;

static void on_interrupt(int number) {
    (void)number;
    interrupted = 1;
}

static int run(struct cli *cli, const void *own, int argc, char **argv) {
    const struct bench_flags *flags = own;
    const char *path = argc > 0 ? argv[0] : NULL;
    bool json = cli->globals.json;
    struct lg_error error = {0};
    struct bench_result result;
    if (path && !json)
        return cli_complain(CLI_EXIT_USAGE, "\"%s\": a file is for `--json FILE`", path);
    const struct bench_options wanted = {.quick = flags->quick,
                                         .filter = flags->filter,
                                         .rounds = (unsigned)flags->rounds,
                                         .seconds = flags->seconds,
                                         .tensor_bytes = flags->tensor_bytes,
                                         .table = json && !path ? NULL : stdout,
                                         .interrupted = &interrupted,
                                         .live = isatty(STDERR_FILENO) != 0};
    const struct sigaction action = {.sa_handler = on_interrupt};
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    enum lg_status status = bench_run(&wanted, &result, &error);
    int code = status == LG_OK ? report(&result, flags, json, path) : cli_fail(&error);
    if (interrupted)
        code = CLI_EXIT_INTERRUPTED;
    bench_result_deinit(&result);
    return code;
}

const struct cli_command cmd_bench = {
    .name = "bench",
    .summary = "measure this machine's limits, and Lagoon beside them",
    .arguments = "[--json [FILE]]",
    .least = 0,
    .most = 1,
    .details =
        "Measures memcpy, the update loops, raw TCP and bare ZeroMQ, then push and pull over tcp, ipc and shared "
        "memory,\n"
        "in turns, and prints what share of the limits Lagoon reaches. Leave the machine alone meanwhile: --quick "
        "takes\n"
        "about a minute, a full run about five. Needs no cluster. With --json FILE all figures go to that file. "
        "Ratios\n"
        "that miss their bars do not make the command fail unless --check is given. docs/performance.md explains the\n"
        "figures.",
    .options = &table,
    .run = run,
};
