/* The command line: what every command shares.
 *
 * A command is one file cmd_NAME.c and one line in command.def. Its options are an option table; --help, the man page
 * and docs/cli.md come from the same description. */
#ifndef LAGOON_CLI_CLI_H
#define LAGOON_CLI_CLI_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "common/daemon.h"
#include "common/option.h"
#include "common/status.h"

/* Exit codes beyond those of daemons; `lagoon help exit-codes` lists them. */
enum cli_exit {
    CLI_EXIT_OK = EXIT_CODE_OK,
    CLI_EXIT_FAILED = EXIT_CODE_FAILED,
    CLI_EXIT_USAGE = EXIT_CODE_USAGE,
    CLI_EXIT_UNREACHABLE = 3,   /* no coordinator answers */
    CLI_EXIT_JOB_FAILED = 4,    /* the job that was waited for failed */
    CLI_EXIT_JOB_CANCELLED = 5, /* ... or was cancelled */
    CLI_EXIT_TIMEOUT = 6,       /* --timeout passed */
    CLI_EXIT_NOT_FOUND = 7,     /* no such job */
    CLI_EXIT_INTERRUPTED = 130, /* Ctrl-C */
};

struct cli_exit_meaning {
    int code;
    const char *text;
};

extern const struct cli_exit_meaning cli_exit_meanings[]; /* the last one's text is NULL */

/* Options that every command takes. */
struct cli_globals {
    char coordinator[OPTION_TEXT_BYTES]; /* "" : the cluster in state_dir, else 127.0.0.1:7710 */
    char state_dir[OPTION_TEXT_BYTES];   /* "" : ~/.lagoon */
    bool json;
};

extern const struct option_table cli_global_table;

struct cli {
    struct cli_globals globals;
    char coordinator[OPTION_TEXT_BYTES]; /* resolved */
    char state_dir[OPTION_TEXT_BYTES];   /* resolved */
};

struct cli_command {
    const char *name;                   /* "submit", or two words: "config check" */
    const char *summary;                /* one sentence for the list of commands */
    const char *arguments;              /* "FILE", "[NAME]", "" */
    int least, most;                    /* positional arguments */
    const char *details;                /* paragraphs for --help, or NULL */
    const struct option_table *options; /* NULL: none of its own */
    /* `options` is filled from the table above; returns an exit code. */
    int (*run)(struct cli *cli, const void *options, int argc, char **argv);
};

const struct cli_command *const *cli_commands(size_t *count);

/* Prints "lagoon: message" on stderr and returns the exit code that fits the status. */
int cli_fail(const struct lg_error *error);
/* The same for a sentence of one's own. */
int cli_complain(int exit_code, const char *format, ...) LG_PRINTF(2, 3);

/* Help texts; also the source of man pages and docs/cli.md. */
void cli_print_overview(FILE *out);
void cli_print_command_help(const struct cli_command *command, FILE *out);

#endif
