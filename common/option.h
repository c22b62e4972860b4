/* Option tables: one table declares a program's or a registry entry's options; the config file, the flags, --help,
 * man pages, docs/configuration.md and the checks all come from it. */
#ifndef LAGOON_COMMON_OPTION_H
#define LAGOON_COMMON_OPTION_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "common/config.h"
#include "common/status.h"

/* The field in the config struct that an option of this type fills. */
enum option_type {
    OPTION_BOOL,     /* bool; true/false/yes/no/on/off */
    OPTION_INT,      /* int64_t, within [least, most] */
    OPTION_FLOAT,    /* double, finite, within [least, most] */
    OPTION_BYTES,    /* uint64_t; "64MiB", "2 GiB", "4096" */
    OPTION_DURATION, /* int64_t milliseconds; "500ms", "5s", "2m", "1h" */
    OPTION_STRING,   /* char[OPTION_TEXT_BYTES] */
    OPTION_CHOICE,   /* char[OPTION_TEXT_BYTES], one of `choices` */
    OPTION_INTS,     /* struct option_ints: a list of integers within [least, most] */
};

enum { OPTION_TEXT_BYTES = 256, OPTION_INTS_MAX = 32 };

struct option_ints {
    size_t count;
    int64_t values[OPTION_INTS_MAX];
};

struct option {
    const char *key; /* dotted, relative to the table: "http.port" */
    enum option_type type;
    size_t offset;        /* offsetof(config struct, field) */
    const char *fallback; /* default as text, parsed like a value; NULL: the option is required */
    double least, most;   /* for numbers (bytes and ms included); least == most == 0: no limit */
    const char *choices;  /* OPTION_CHOICE: "async|ssp|bsp" */
    const char *unit;     /* "bytes", "ms", "samples", or NULL */
    const char *help;     /* one sentence, lower case, no full stop */
};

struct option_table {
    const char *name;    /* "server": heads the docs section */
    const char *summary; /* one sentence */
    const struct option *options;
    size_t count;
    size_t config_bytes; /* sizeof the config struct */
};

/* Fills *out (config_bytes, zeroed first) with defaults, then with every entry of `config` below `prefix` ("" or
 * "updater."), marking entries used. Errors carry place, key, what was expected. `config` may be NULL: defaults only.
 */
LG_MUST_CHECK enum lg_status option_apply(const struct option_table *table, const char *prefix, struct config *config,
                                          void *out, struct lg_error *error);

/* LG_INVALID for the first entry nobody used, with the nearest key of the `tables` (prefixes alongside) as a
 * suggestion: `job.yaml:3:1: unknown key "updater.bet1"; did you mean "updater.beta1"?`, or with the key of a section
 * that a plain value was meant for: `job.yaml:3:10: "updater" has keys of its own; did you mean "updater: {kind:
 * adam}"?` */
LG_MUST_CHECK enum lg_status option_check_unused(const struct config *config, const struct option_table *const *tables,
                                                 const char *const *prefixes, size_t count, struct lg_error *error);

/* argv[0] is the program's (or subcommand's) name and is passed over; so are arguments that do not start with "--", and
 * everything after a "--", which is removed.
 *
 * Takes `--key value`, `--key=value` and, for booleans, `--key`/`--no-key` for every option of `table` out of argv
 * ('.' and '_' in keys may be written '-'), and puts them into `config` with origin "flag --key". What is left over
 * stays in argv in order, *argc is adjusted. An unknown flag is an error with the nearest one suggested. */
LG_MUST_CHECK enum lg_status option_take_flags(const struct option_table *table, const char *prefix, int *argc,
                                               char **argv, struct config *config, struct lg_error *error);

/* The same for a program whose flags come from several tables (prefixes alongside): a flag unknown to all is an error.
 */
LG_MUST_CHECK enum lg_status option_take_flags_of(const struct option_table *const *tables, const char *const *prefixes,
                                                  size_t count, int *argc, char **argv, struct config *config,
                                                  struct lg_error *error);

/* "  --http.port INT   port of the stats endpoint, 0 picks one (default 0)" for each option, in lines that fit a
 * terminal. */
void option_print_help(const struct option_table *table, const char *prefix, FILE *out);
/* The same for keys of a file, without dashes. */
void option_print_keys(const struct option_table *table, const char *prefix, FILE *out);
/* A Markdown table: key, type, default, range, meaning. */
void option_print_markdown(const struct option_table *table, const char *prefix, FILE *out);
/* man(7) .TP entries of flags, and of keys without dashes. */
void option_print_man(const struct option_table *table, const char *prefix, FILE *out);
void option_print_man_keys(const struct option_table *table, const char *prefix, FILE *out);
/* A commented YAML file with every option at its default. */
void option_print_yaml(const struct option_table *table, const char *prefix, FILE *out);

/* True where the file does not have the key, or has its default written out. */
bool option_is_default(const struct option_table *table, const struct config *config, const char *key);
/* The word of `words` (NULL-terminated) nearest to `word` by edit distance, or NULL when none is near enough. */
const char *option_nearest(const char *word, const char *const *words);

/* The parsers behind the types, for other callers (flags such as --timeout). */
LG_MUST_CHECK enum lg_status option_parse_bytes(const char *text, uint64_t *bytes);
LG_MUST_CHECK enum lg_status option_parse_duration(const char *text, int64_t *ms);

#endif
