#include "cli/cli.h"

#include <stdarg.h>
#include <string.h>

#include "common/wrap.h"

#define X(symbol) extern const struct cli_command cmd_##symbol;
#include "cli/command.def"
#undef X

#define AT(field) offsetof(struct cli_globals, field)

static const struct option global_options[] = {
    {"coordinator", OPTION_STRING, AT(coordinator), "", 0, 0, NULL, NULL,
     "address of the coordinator; empty: the cluster that `lagoon up` started, else 127.0.0.1:7710"},
    {"state_dir", OPTION_STRING, AT(state_dir), "", 0, 0, NULL, NULL, "folder of the local cluster; empty: ~/.lagoon"},
    {"json", OPTION_BOOL, AT(json), "false", 0, 0, NULL, NULL, "print one JSON document instead of text"},
};

const struct option_table cli_global_table = {"global", "options that every command takes", global_options,
                                              sizeof global_options / sizeof *global_options,
                                              sizeof(struct cli_globals)};

static const struct cli_command *const commands[] = {
#define X(symbol) &cmd_##symbol,
#include "cli/command.def"
#undef X
};

const struct cli_command *const *cli_commands(size_t *count) {
    *count = sizeof commands / sizeof *commands;
    return commands;
}

const struct cli_exit_meaning cli_exit_meanings[] = {
    {CLI_EXIT_OK, "done"},
    {CLI_EXIT_FAILED, "failed"},
    {CLI_EXIT_USAGE, "wrong flags, files or keys"},
    {CLI_EXIT_UNREACHABLE, "no coordinator answers"},
    {CLI_EXIT_JOB_FAILED, "the job failed"},
    {CLI_EXIT_JOB_CANCELLED, "the job was cancelled"},
    {CLI_EXIT_TIMEOUT, "the time given with --timeout passed"},
    {CLI_EXIT_NOT_FOUND, "no such job or file"},
    {CLI_EXIT_INTERRUPTED, "interrupted"},
    {0, NULL},
};

int cli_fail(const struct lg_error *error) {
    fprintf(stderr, "lagoon: %s\n", error->message[0] ? error->message : lg_status_text(error->status));
    switch (error->status) {
    case LG_UNAVAILABLE:
        return CLI_EXIT_UNREACHABLE;
    case LG_TIMEOUT:
        return CLI_EXIT_TIMEOUT;
    case LG_NOT_FOUND:
        return CLI_EXIT_NOT_FOUND;
    default:
        return CLI_EXIT_FAILED;
    }
}

int cli_complain(int exit_code, const char *format, ...) {
    va_list args;
    va_start(args, format);
    fputs("lagoon: ", stderr);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    va_end(args);
    return exit_code;
}

void cli_print_overview(FILE *out) {
    fprintf(out, "lagoon %s: a parameter server for machines that are not alike\n\nusage: lagoon COMMAND [--help]\n\n",
            LAGOON_VERSION);
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++)
        fprintf(out, "  %-14s %s\n", commands[i]->name, commands[i]->summary);
    fprintf(out, "\nStart with `lagoon demo`. Daemons: lagoon-server, lagoon-worker.\n");
}

void cli_print_command_help(const struct cli_command *command, FILE *out) {
    fprintf(out, "lagoon %s: %s\n\nusage: lagoon %s%s%s [OPTIONS]\n", command->name, command->summary, command->name,
            command->arguments[0] ? " " : "", command->arguments);
    if (command->details) {
        fputc('\n', out);
        wrap_paragraphs(command->details, out);
    }
    fprintf(out, "\noptions:\n");
    if (command->options)
        option_print_help(command->options, "", out);
    option_print_help(&cli_global_table, "", out);
}
