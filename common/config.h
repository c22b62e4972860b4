/* A configuration as a flat list of dotted keys with text values and the place each came from.
 *
 * YAML files (libyaml), command-line flags and the wire all become this one form; option tables (option.h) consume
 * it. Nested mappings join with '.', so `updater: {kind: adam}` is the entry "updater.kind" = "adam". A list of
 * scalars becomes one value joined with ','. Aliases, anchors, tags, duplicate keys, documents beyond the first,
 * depth over 8, files over 1 MiB and control characters are refused with file, line and column. */
#ifndef LAGOON_COMMON_CONFIG_H
#define LAGOON_COMMON_CONFIG_H

#include <stdbool.h>
#include <stddef.h>

#include "common/status.h"

struct config_entry {
    char *key;        /* "updater.beta1" */
    char *value;      /* text as written, unquoted */
    char *origin;     /* "job.yaml" or "flag --batch" or "wire" */
    int line, column; /* 1-based place of the value; 0 where there is none */
    bool used;        /* set by option_apply */
};

struct config {
    struct config_entry *entries;
    size_t count, capacity;
};

/* Both return a new config (config_free) through `out`. */
LG_MUST_CHECK enum lg_status config_read_file(const char *path, struct config **out, struct lg_error *error);
LG_MUST_CHECK enum lg_status config_read_text(const char *origin, const char *text, size_t bytes, struct config **out,
                                              struct lg_error *error);
struct config *config_new(void);
void config_free(struct config *config);

/* Sets or overrides one key; copies all strings. Returns LG_INVALID on a malformed key. */
LG_MUST_CHECK enum lg_status config_set(struct config *config, const char *key, const char *value, const char *origin,
                                        struct lg_error *error);
/* The entry of `key`, or NULL; borrowed. */
const struct config_entry *config_find(const struct config *config, const char *key);
/* The value of `key`, or `fallback` where it is not set; borrowed. */
const char *config_text(const struct config *config, const char *key, const char *fallback);

/* The same, and counts the entry as used: for keys read outside an option table, such as "model.kind". */
const char *config_take_text(struct config *config, const char *key, const char *fallback);

/* "file.yaml:3:12" (or "flag --batch") into `text`: the place an error message starts with. */
void config_place(const struct config_entry *entry, char *text, size_t bytes);

#endif
