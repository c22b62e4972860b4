#include "common/config.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <yaml.h>

enum {
    CONFIG_BYTES_MAX = 1 << 20,
    CONFIG_DEPTH_MAX = 8,
    CONFIG_ENTRIES_MAX = 4096, /* keeps the duplicate check, which looks at all of them, below 10 ms */
    CONFIG_KEY_BYTES = 256,
    CONFIG_VALUE_BYTES = 64 << 10,
};

struct config *config_new(void) {
    return calloc(1, sizeof(struct config));
}

static void entry_deinit(struct config_entry *entry) {
    free(entry->key);
    free(entry->value);
    free(entry->origin);
}

void config_free(struct config *config) {
    if (!config)
        return;
    for (size_t i = 0; i < config->count; i++)
        entry_deinit(&config->entries[i]);
    free(config->entries);
    free(config);
}

static struct config_entry *entry_find(const struct config *config, const char *key) {
    for (size_t i = 0; i < config->count; i++)
        if (strcmp(config->entries[i].key, key) == 0)
            return &config->entries[i];
    return NULL;
}

const struct config_entry *config_find(const struct config *config, const char *key) {
    return config ? entry_find(config, key) : NULL;
}

const char *config_text(const struct config *config, const char *key, const char *fallback) {
    const struct config_entry *entry = config_find(config, key);
    return entry ? entry->value : fallback;
}

const char *config_take_text(struct config *config, const char *key, const char *fallback) {
    struct config_entry *entry = config ? entry_find(config, key) : NULL;
    if (!entry)
        return fallback;
    entry->used = true;
    return entry->value;
}

void config_place(const struct config_entry *entry, char *text, size_t bytes) {
    if (entry->line > 0)
        snprintf(text, bytes, "%s:%d:%d", entry->origin, entry->line, entry->column);
    else
        snprintf(text, bytes, "%s", entry->origin);
}

/* Words of letters, digits, '_' and '-', joined by single dots. */
static bool key_is_valid(const char *key, size_t bytes) {
    bool inside = false;
    for (size_t i = 0; i < bytes; i++) {
        char c = key[i];
        bool word = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-';
        if (!word && !(c == '.' && inside))
            return false;
        inside = word;
    }
    return inside && bytes < CONFIG_KEY_BYTES;
}

/* True when the bytes hold no control character: none below space, no DEL, no C1 (U+0080..U+009F in UTF-8). */
static bool text_is_clean(const unsigned char *text, size_t bytes) {
    for (size_t i = 0; i < bytes; i++) {
        if (text[i] < 0x20 || text[i] == 0x7f)
            return false;
        if (text[i] == 0xc2 && i + 1 < bytes && text[i + 1] < 0xa0)
            return false;
    }
    return true;
}

static enum lg_status entries_reserve(struct config *config, struct lg_error *error) {
    if (config->count == CONFIG_ENTRIES_MAX)
        return lg_fail(error, LG_INVALID, "more than %d settings", CONFIG_ENTRIES_MAX);
    if (config->count < config->capacity)
        return LG_OK;
    size_t capacity = config->capacity ? 2 * config->capacity : 16;
    struct config_entry *entries = realloc(config->entries, capacity * sizeof *entries);
    if (!entries)
        return lg_fail(error, LG_NO_MEMORY, "no memory for %zu settings", capacity);
    config->entries = entries;
    config->capacity = capacity;
    return LG_OK;
}

/* Appends or replaces `key`; the strings are copied. */
static enum lg_status entry_put(struct config *config, const char *key, const char *value, const char *origin, int line,
                                int column, struct lg_error *error) {
    struct config_entry fresh = {strdup(key), strdup(value), strdup(origin), line, column, false};
    struct config_entry *old = entry_find(config, key);
    enum lg_status status = old ? LG_OK : entries_reserve(config, error);
    if (status == LG_OK && !(fresh.key && fresh.value && fresh.origin))
        status = lg_fail(error, LG_NO_MEMORY, "no memory for the setting \"%s\"", key);
    if (status != LG_OK) {
        entry_deinit(&fresh);
        return status;
    }
    if (old) {
        entry_deinit(old);
        *old = fresh;
    } else {
        config->entries[config->count++] = fresh;
    }
    return LG_OK;
}

enum lg_status config_set(struct config *config, const char *key, const char *value, const char *origin,
                          struct lg_error *error) {
    size_t bytes = strlen(key);
    if (!key_is_valid(key, bytes))
        return lg_fail(error, LG_INVALID,
                       "%s: malformed key \"%.80s\"; a key is words of letters, digits, '_' and '-' joined by dots",
                       origin, text_is_clean((const unsigned char *)key, bytes) ? key : "(control characters)");
    size_t value_bytes = strlen(value);
    if (value_bytes > CONFIG_VALUE_BYTES || !text_is_clean((const unsigned char *)value, value_bytes))
        return lg_fail(error, LG_INVALID, "%s: the value of \"%s\" is longer than %d bytes or has control characters",
                       origin, key, CONFIG_VALUE_BYTES);
    return entry_put(config, key, value, origin, 0, 0, error);
}

/* ---- reading YAML: a recursive descent over libyaml's events, at most CONFIG_DEPTH_MAX deep */

struct reader {
    yaml_parser_t parser;
    yaml_event_t event; /* the current one; valid while `held` */
    bool held;
    const char *origin, *text;
    struct config *config;
    struct config *sections; /* full keys of the mappings seen, so that none is opened twice */
    char value[CONFIG_VALUE_BYTES];
    struct lg_error *error;
};

static enum lg_status fail_at(struct reader *reader, yaml_mark_t mark, const char *text) {
    return lg_fail(reader->error, LG_INVALID, "%s:%zu:%zu: %s", reader->origin, mark.line + 1, mark.column + 1, text);
}

/* Line and column of a byte offset, for errors that libyaml reports by offset only. */
static yaml_mark_t mark_of_offset(const struct reader *reader, size_t offset) {
    yaml_mark_t mark = {offset, 0, 0};
    for (size_t i = 0; i < offset; i++) {
        mark.column++;
        if (reader->text[i] == '\n') {
            mark.line++;
            mark.column = 0;
        }
    }
    return mark;
}

static enum lg_status fail_parse(struct reader *reader) {
    yaml_parser_t *parser = &reader->parser;
    if (parser->error == YAML_MEMORY_ERROR)
        return lg_fail(reader->error, LG_NO_MEMORY, "%s: no memory to read it", reader->origin);
    char text[200];
    snprintf(text, sizeof text, "not valid YAML: %s", parser->problem ? parser->problem : "unknown problem");
    if (parser->error == YAML_READER_ERROR)
        return fail_at(reader, mark_of_offset(reader, parser->problem_offset), text);
    return fail_at(reader, parser->problem_mark, text);
}

/* Refuses what makes a file mean more than it says: anchors, aliases, tags, directives. */
static enum lg_status event_check(struct reader *reader) {
    const yaml_event_t *event = &reader->event;
    const yaml_char_t *anchor = NULL, *tag = NULL;
    if (event->type == YAML_ALIAS_EVENT)
        return fail_at(reader, event->start_mark, "aliases (*name) are not supported; write the value out");
    if (event->type == YAML_SCALAR_EVENT) {
        anchor = event->data.scalar.anchor;
        tag = event->data.scalar.tag;
    } else if (event->type == YAML_SEQUENCE_START_EVENT) {
        anchor = event->data.sequence_start.anchor;
        tag = event->data.sequence_start.tag;
    } else if (event->type == YAML_MAPPING_START_EVENT) {
        anchor = event->data.mapping_start.anchor;
        tag = event->data.mapping_start.tag;
    } else if (event->type == YAML_DOCUMENT_START_EVENT) {
        bool tags = event->data.document_start.tag_directives.start != event->data.document_start.tag_directives.end;
        if (tags || event->data.document_start.version_directive)
            return fail_at(reader, event->start_mark, "directives (%...) are not supported; remove the line");
    }
    if (anchor)
        return fail_at(reader, event->start_mark, "anchors (&name) are not supported; remove it");
    if (tag)
        return fail_at(reader, event->start_mark, "tags (!name) are not supported; remove it");
    return LG_OK;
}

static void reader_release(struct reader *reader) {
    if (reader->held)
        yaml_event_delete(&reader->event);
    reader->held = false;
}

static enum lg_status reader_next(struct reader *reader) {
    reader_release(reader);
    if (!yaml_parser_parse(&reader->parser, &reader->event))
        return fail_parse(reader);
    reader->held = true;
    return event_check(reader);
}

/* Copies the current scalar to `out`, refusing control characters and what does not fit. */
static enum lg_status scalar_copy(struct reader *reader, char *out, size_t bytes) {
    const yaml_event_t *event = &reader->event;
    size_t length = event->data.scalar.length;
    if (!text_is_clean(event->data.scalar.value, length))
        return fail_at(reader, event->start_mark, "control characters and line breaks are not allowed in a text");
    if (length >= bytes)
        return fail_at(reader, event->start_mark, "the text is too long");
    memcpy(out, event->data.scalar.value, length);
    out[length] = '\0';
    return LG_OK;
}

/* Appends the current scalar mapping key to `path` (a buffer of CONFIG_KEY_BYTES holding `used` bytes). */
static enum lg_status key_append(struct reader *reader, char *path, size_t *used) {
    yaml_mark_t mark = reader->event.start_mark;
    if (reader->event.type != YAML_SCALAR_EVENT)
        return fail_at(reader, mark, "a key must be a word, not a list or a mapping");
    const char *key = (const char *)reader->event.data.scalar.value;
    size_t bytes = reader->event.data.scalar.length;
    if (!key_is_valid(key, bytes))
        return fail_at(reader, mark, "malformed key; a key is words of letters, digits, '_' and '-' joined by dots");
    size_t dot = *used ? 1 : 0;
    if (*used + dot + bytes >= CONFIG_KEY_BYTES)
        return fail_at(reader, mark, "the key is too long");
    if (dot)
        path[*used] = '.';
    memcpy(path + *used + dot, key, bytes);
    *used += dot + bytes;
    path[*used] = '\0';
    return LG_OK;
}

/* Fails when `path` already has a value or names a mapping that was read before. */
static enum lg_status path_claim(struct reader *reader, const char *path, yaml_mark_t mark) {
    char text[CONFIG_KEY_BYTES + 80];
    const struct config_entry *before = config_find(reader->config, path);
    if (!before)
        before = config_find(reader->sections, path);
    if (!before)
        return LG_OK;
    snprintf(text, sizeof text, "\"%s\" is set twice; the first is on line %d", path, before->line);
    return fail_at(reader, mark, text);
}

/* Joins a list of scalars with ',' into reader->value. */
static enum lg_status read_list(struct reader *reader, const char *path) {
    size_t used = 0;
    char text[CONFIG_KEY_BYTES + 80];
    reader->value[0] = '\0';
    for (bool first = true;; first = false) {
        enum lg_status status = reader_next(reader);
        if (status != LG_OK || reader->event.type == YAML_SEQUENCE_END_EVENT)
            return status;
        yaml_mark_t mark = reader->event.start_mark;
        if (reader->event.type != YAML_SCALAR_EVENT) {
            snprintf(text, sizeof text, "the list \"%s\" may hold plain values only", path);
            return fail_at(reader, mark, text);
        }
        if (memchr(reader->event.data.scalar.value, ',', reader->event.data.scalar.length))
            return fail_at(reader, mark, "a value in a list may not contain a comma");
        if (!first)
            reader->value[used++] = ',';
        status = scalar_copy(reader, reader->value + used, sizeof reader->value - used - 1);
        if (status != LG_OK)
            return status;
        used += strlen(reader->value + used);
    }
}

/* The current event is a scalar: leaves its text in reader->value. */
static enum lg_status read_scalar(struct reader *reader, const char *path) {
    const yaml_event_t *event = &reader->event;
    char text[CONFIG_KEY_BYTES + 80];
    if (event->data.scalar.length == 0 && event->data.scalar.style == YAML_PLAIN_SCALAR_STYLE) {
        snprintf(text, sizeof text, "\"%s\" has no value; write one, or '' for an empty text, or remove the key", path);
        return fail_at(reader, event->start_mark, text);
    }
    return scalar_copy(reader, reader->value, sizeof reader->value);
}

static enum lg_status read_mapping(struct reader *reader, char *path, size_t used, int depth);

/* The current event starts the value of `path` (of `used` bytes). */
static enum lg_status read_value(struct reader *reader, char *path, size_t used, int depth) {
    yaml_mark_t mark = reader->event.start_mark;
    int line = (int)mark.line + 1, column = (int)mark.column + 1;
    enum lg_status status = LG_OK;
    if (reader->event.type == YAML_MAPPING_START_EVENT) {
        status = entry_put(reader->sections, path, "", "", line, column, reader->error);
        return status == LG_OK ? read_mapping(reader, path, used, depth + 1) : status;
    }
    if (reader->event.type == YAML_SEQUENCE_START_EVENT)
        status = read_list(reader, path);
    else
        status = read_scalar(reader, path);
    if (status != LG_OK)
        return status;
    status = entry_put(reader->config, path, reader->value, reader->origin, line, column, reader->error);
    return status == LG_INVALID ? lg_fail_prefix(reader->error, status, "%s:%d:%d", reader->origin, line, column)
                                : status;
}

/* Reads `key: value` pairs up to the end of the current mapping. */
static enum lg_status read_mapping(struct reader *reader, char *path, size_t used, int depth) {
    if (depth > CONFIG_DEPTH_MAX)
        return fail_at(reader, reader->event.start_mark, "nested deeper than 8 levels");
    for (;;) {
        enum lg_status status = reader_next(reader);
        if (status != LG_OK || reader->event.type == YAML_MAPPING_END_EVENT)
            return status;
        size_t length = used;
        status = key_append(reader, path, &length);
        if (status == LG_OK)
            status = path_claim(reader, path, reader->event.start_mark);
        if (status == LG_OK)
            status = reader_next(reader);
        if (status == LG_OK)
            status = read_value(reader, path, length, depth);
        if (status != LG_OK)
            return status;
        path[used] = '\0';
    }
}

/* The current event starts the document's root: a mapping, or nothing at all. */
static enum lg_status read_root(struct reader *reader) {
    char path[CONFIG_KEY_BYTES] = "";
    const yaml_event_t *event = &reader->event;
    if (event->type == YAML_MAPPING_START_EVENT)
        return read_mapping(reader, path, 0, 1);
    if (event->type == YAML_SCALAR_EVENT && event->data.scalar.length == 0)
        return LG_OK;
    return fail_at(reader, event->start_mark, "expected lines of the form `key: value`");
}

static enum lg_status read_stream(struct reader *reader) {
    bool seen = false;
    for (;;) {
        enum lg_status status = reader_next(reader);
        if (status != LG_OK || reader->event.type == YAML_STREAM_END_EVENT)
            return status;
        if (reader->event.type != YAML_DOCUMENT_START_EVENT)
            continue;
        if (seen)
            return fail_at(reader, reader->event.start_mark, "a second document; put one in a file");
        seen = true;
        status = reader_next(reader);
        if (status == LG_OK)
            status = read_root(reader);
        if (status != LG_OK)
            return status;
    }
}

enum lg_status config_read_text(const char *origin, const char *text, size_t bytes, struct config **out,
                                struct lg_error *error) {
    enum lg_status status = LG_OK;
    *out = NULL;
    if (bytes > CONFIG_BYTES_MAX)
        return lg_fail(error, LG_INVALID, "\"%s\" is larger than 1 MiB; that is not a configuration", origin);
    struct reader *reader = calloc(1, sizeof *reader);
    if (!reader || !yaml_parser_initialize(&reader->parser)) {
        free(reader);
        return lg_fail(error, LG_NO_MEMORY, "%s: no memory to read it", origin);
    }
    yaml_parser_set_encoding(&reader->parser, YAML_UTF8_ENCODING);
    yaml_parser_set_input_string(&reader->parser, (const unsigned char *)text, bytes);
    reader->origin = origin;
    reader->text = text;
    reader->error = error;
    reader->config = config_new();
    reader->sections = config_new();
    status = reader->config && reader->sections ? read_stream(reader)
                                                : lg_fail(error, LG_NO_MEMORY, "%s: no memory to read it", origin);
    if (status == LG_OK) {
        *out = reader->config;
        reader->config = NULL;
    }
    reader_release(reader);
    yaml_parser_delete(&reader->parser);
    config_free(reader->config);
    config_free(reader->sections);
    free(reader);
    return status;
}

/* Reads up to `bytes` from `fd`; less than asked only at the end of the file. Negative: errno says why. */
static ssize_t read_fully(int fd, char *buffer, size_t bytes) {
    size_t used = 0;
    while (used < bytes) {
        ssize_t got = read(fd, buffer + used, bytes - used);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return -1;
        if (got == 0)
            break;
        used += (size_t)got;
    }
    return (ssize_t)used;
}

enum lg_status config_read_file(const char *path, struct config **out, struct lg_error *error) {
    enum lg_status status = LG_OK;
    char *text = NULL;
    ssize_t bytes = 0;
    *out = NULL;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        int code = errno;
        return lg_fail(error, code == ENOENT ? LG_NOT_FOUND : LG_IO, "cannot open the config file \"%s\": %s", path,
                       strerror(code));
    }
    text = malloc(CONFIG_BYTES_MAX + 1);
    if (!text) {
        status = lg_fail(error, LG_NO_MEMORY, "no memory to read \"%s\"", path);
        goto out;
    }
    bytes = read_fully(fd, text, CONFIG_BYTES_MAX + 1);
    if (bytes < 0) {
        status = lg_fail(error, LG_IO, "cannot read the config file \"%s\": %s", path, strerror(errno));
        goto out;
    }
    status = config_read_text(path, text, (size_t)bytes, out, error);
out:
    free(text);
    close(fd);
    return status;
}
