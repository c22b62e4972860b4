/* lagoon cancel: stops a job and frees its place on the shards. */
#include <stdio.h>

#include "cli/initial.h"

static int run(struct cli *cli, const void *own, int argc, char **argv) {
    (void)own;
    struct lg_error error = {0};
    for (int i = 0; i < argc; i++) {
        if (cancel_job(cli, argv[i], "cancelled by an operator", &error) != LG_OK)
            return cli_fail(&error);
        if (!cli->globals.json)
            printf("job \"%s\" cancelled\n", argv[i]);
    }
    if (cli->globals.json)
        printf("{\"cancelled\": %d}\n", argc);
    return CLI_EXIT_OK;
}

const struct cli_command cmd_cancel = {
    .name = "cancel",
    .summary = "stop a job, or drop the values of a finished one",
    .arguments = "JOB ...",
    .least = 1,
    .most = 100,
    .run = run,
};
