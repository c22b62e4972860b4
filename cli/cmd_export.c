/* lagoon export: a job's parameters as one safetensors file. */
#include <stdlib.h>
#include <string.h>

#include "cli/export.h"
#include "cli/table.h"
#include "common/units.h"

struct export_options {
    char output[OPTION_TEXT_BYTES];
};

static const struct option options[] = {
    {"output", OPTION_STRING, offsetof(struct export_options, output), "", 0, 0, NULL, NULL,
     "file to write; empty: JOB.safetensors"},
};

static const struct option_table table = {"export", "options of `lagoon export`", options,
                                          sizeof options / sizeof *options, sizeof(struct export_options)};

static int run(struct cli *cli, const void *own, int argc, char **argv) {
    const struct export_options *wanted = own;
    (void)argc;
    struct lg_error error = {0};
    struct export_summary summary;
    char path[2 * OPTION_TEXT_BYTES], count[UNITS_TEXT_BYTES];
    if (wanted->output[0])
        snprintf(path, sizeof path, "%s", wanted->output);
    else
        snprintf(path, sizeof path, "%.200s.safetensors", argv[0]);
    if (export_job(cli, argv[0], path, &summary, &error) != LG_OK)
        return cli_fail(&error);
    if (cli->globals.json)
        print_document(json_pack("{s:s, s:I, s:I}", "file", path, "tensors", (json_int_t)summary.tensors, "parameters",
                                 (json_int_t)summary.parameters));
    else
        printf("%s: %zu tensors, %s parameters\n", path, summary.tensors,
               units_count(summary.parameters, count, sizeof count));
    return CLI_EXIT_OK;
}

const struct cli_command cmd_export = {
    .name = "export",
    .summary = "write a job's parameters to one safetensors file",
    .arguments = "JOB",
    .least = 1,
    .most = 1,
    .details = "The file loads in PyTorch (safetensors.torch.load_file) and NumPy (safetensors.numpy.load_file).",
    .options = &table,
    .run = run,
};
