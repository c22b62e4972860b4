/* lagoon help: commands, job keys, registries, exit codes. */
#include <string.h>

#include "cli/cli.h"
#include "cli/registries.h"
#include "client/job.h"
#include "sim/sim_options.h"

static void print_exit_codes(void) {
    for (size_t i = 0; cli_exit_meanings[i].text; i++)
        printf("%3d  %s\n", cli_exit_meanings[i].code, cli_exit_meanings[i].text);
}

static bool print_command(const char *name) {
    size_t count;
    const struct cli_command *const *commands = cli_commands(&count);
    for (size_t i = 0; i < count; i++) {
        if (strcmp(commands[i]->name, name) == 0) {
            cli_print_command_help(commands[i], stdout);
            return true;
        }
    }
    return false;
}

static int run(struct cli *cli, const void *own, int argc, char **argv) {
    (void)cli, (void)own;
    char topic[64] = "";
    for (int i = 0; i < argc; i++)
        snprintf(topic + strlen(topic), sizeof topic - strlen(topic), "%s%s", i ? " " : "", argv[i]);
    if (argc == 0) {
        cli_print_overview(stdout);
        printf("Topics of `lagoon help`: keys (of job files), sim-keys (of experiments), exit-codes, models, datasets, "
               "updaters, policies, modes, or a command.\n");
    } else if (strcmp(topic, "exit-codes") == 0) {
        print_exit_codes();
    } else if (strcmp(topic, "keys") == 0) {
        option_print_keys(&job_table, "", stdout);
    } else if (strcmp(topic, "sim-keys") == 0) {
        option_print_keys(&sim_table, "sim.", stdout);
    } else if (!registries_print(topic, REGISTRIES_HELP, stdout) && !print_command(topic)) {
        return cli_complain(CLI_EXIT_USAGE, "no help on \"%s\"; `lagoon help` lists the topics", topic);
    }
    return CLI_EXIT_OK;
}

const struct cli_command cmd_help = {
    .name = "help",
    .summary = "help on a command or a topic",
    .arguments = "[TOPIC]",
    .most = 2,
    .details =
        "Topics: keys (of job files), sim-keys (of experiments), exit-codes, models, datasets, updaters, policies, "
        "modes, or a command.",
    .run = run,
};
