/* lagoon: the command line. Finds the command, reads its options, runs it. */
#include <signal.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/cluster.h"
#include "common/log.h"

/* "config check" takes two words, "submit" one: how many words of argv name the command, 0 for none. */
static int command_words(const struct cli_command *command, int argc, char **argv) {
    const char *space = strchr(command->name, ' ');
    size_t first = space ? (size_t)(space - command->name) : strlen(command->name);
    if (argc < 2 || strlen(argv[1]) != first || strncmp(argv[1], command->name, first) != 0)
        return 0;
    if (!space)
        return 1;
    return argc > 2 && strcmp(argv[2], space + 1) == 0 ? 2 : 0;
}

static const struct cli_command *command_find(int argc, char **argv, int *words) {
    size_t count;
    const struct cli_command *const *commands = cli_commands(&count);
    for (size_t i = 0; i < count; i++)
        if ((*words = command_words(commands[i], argc, argv)) > 0)
            return commands[i];
    return NULL;
}

static int unknown_command(const char *word) {
    size_t count;
    const struct cli_command *const *commands = cli_commands(&count);
    const char *names[64] = {0};
    for (size_t i = 0; i < count && i < 63; i++)
        names[i] = commands[i]->name;
    const char *nearest = option_nearest(word, names);
    return cli_complain(CLI_EXIT_USAGE, "unknown command \"%s\"%s%s%s; `lagoon help` lists them", word,
                        nearest ? "; did you mean \"" : "", nearest ? nearest : "", nearest ? "\"?" : "");
}

static bool asks_for_help(int argc, char **argv) {
    for (int i = 1; i < argc; i++)
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0)
            return true;
    return false;
}

/* The options of one command's invocation: the shared ones into cli, its own into `own`. */
static enum lg_status read_options(const struct cli_command *command, int *argc, char **argv, struct cli *cli,
                                   void *own, struct lg_error *error) {
    struct config *config = config_new();
    const struct option_table *tables[2] = {&cli_global_table, command->options};
    static const char *const prefixes[2] = {"", ""};
    size_t count = command->options ? 2 : 1;
    if (!config)
        return lg_fail(error, LG_NO_MEMORY, "no memory for the options");
    enum lg_status status = option_take_flags_of(tables, prefixes, count, argc, argv, config, error);
    if (status == LG_OK)
        status = option_apply(&cli_global_table, "", config, &cli->globals, error);
    if (status == LG_OK && command->options)
        status = option_apply(command->options, "", config, own, error);
    config_free(config);
    return status;
}

static int run_command(const struct cli_command *command, int argc, char **argv) {
    static char own[64 * 1024] __attribute__((aligned(16)));
    struct cli cli = {0};
    struct lg_error error = {0};
    if (asks_for_help(argc, argv)) {
        cli_print_command_help(command, stdout);
        return CLI_EXIT_OK;
    }
    if (command->options && command->options->config_bytes > sizeof own)
        return cli_complain(CLI_EXIT_FAILED, "the options of \"%s\" do not fit; please report it", command->name);
    if (read_options(command, &argc, argv, &cli, own, &error) != LG_OK) {
        cli_fail(&error);
        return CLI_EXIT_USAGE;
    }
    if (argc - 1 < command->least || argc - 1 > command->most)
        return cli_complain(CLI_EXIT_USAGE, "usage: lagoon %s%s%s; see `lagoon %s --help`", command->name,
                            command->arguments[0] ? " " : "", command->arguments, command->name);
    if (cluster_resolve(&cli, &error) != LG_OK)
        return cli_fail(&error);
    return command->run(&cli, own, argc - 1, argv + 1);
}

int main(int argc, char **argv) {
    log_init("lagoon", LOG_LEVEL_WARN);
    signal(SIGPIPE, SIG_IGN);
    if (argc < 2 || strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0) {
        cli_print_overview(stdout);
        return argc < 2 ? CLI_EXIT_USAGE : CLI_EXIT_OK;
    }
    if (strcmp(argv[1], "--version") == 0) {
        printf("lagoon %s\n", LAGOON_VERSION);
        return CLI_EXIT_OK;
    }
    int words = 0;
    const struct cli_command *command = command_find(argc, argv, &words);
    if (!command)
        return unknown_command(argv[1]);
    argv[words] = argv[0];
    return run_command(command, argc - words, argv + words);
}
