/* What every daemon's main does first: read `-c FILE`, flags, --help, --version and --check against an option table. */
#ifndef LAGOON_COMMON_DAEMON_H
#define LAGOON_COMMON_DAEMON_H

#include <stdbool.h>
#include <stdio.h>

#include "common/option.h"
#include "common/status.h"

/* Exit codes of every Lagoon program. */
enum exit_code {
    EXIT_CODE_OK = 0,
    EXIT_CODE_FAILED = 1, /* could not do its work */
    EXIT_CODE_USAGE = 2,  /* flags or configuration are wrong */
};

struct daemon_program {
    const char *name;    /* "lagoon-server" */
    const char *summary; /* one sentence */
    const struct option_table *table;
    /* Checks what one option alone does not show, and may fill further fields of `options`; NULL: nothing. Also part of
     * --check. `config` is where the options came from, for the place in an error. */
    enum lg_status (*check)(const struct config *config, void *options, struct lg_error *error);
};

/* Fills `config` (table->config_bytes). Returns true when the daemon should run; else *exit_code says how to end:
 * help, version and a good --check print and give 0, errors print one line on stderr and give EXIT_CODE_USAGE. */
bool daemon_configure(const struct daemon_program *program, int argc, char **argv, void *config, int *exit_code);

/* The text of --help. */
void daemon_print_help(const struct daemon_program *program, FILE *out);

/* Keeps the memory of messages for the next ones: libzmq allocates every message it receives, and without this each
 * part of 1 MiB would be a fresh mapping and its page faults, which costs more than the update itself. Once, first. */
void daemon_keep_memory(void);

/* Writes `json` to `path` so that a reader sees all of it or nothing (temporary name, then rename). "" does nothing. */
LG_MUST_CHECK enum lg_status daemon_write_ready(const char *path, const char *json, struct lg_error *error);

#endif
