#include "common/option.h"

#include <assert.h>
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "common/option_value.h"

enum { KEY_BYTES = 512 };

static const char *or_empty(const char *prefix) {
    return prefix ? prefix : "";
}

static void key_join(const char *prefix, const struct option *option, char *key) {
    snprintf(key, KEY_BYTES, "%s%s", or_empty(prefix), option->key);
}

/* ---- nearest names */

enum { WORD_MAX = 64, FAR = 1000 };

static char fold(char c) {
    return c == '_' || c == '.' ? '-' : (char)tolower((unsigned char)c);
}

/* Edit distance in which swapping two neighbours counts as one edit; '_', '.' and '-' are alike, so are cases. */
static int edit_distance(const char *a, const char *b) {
    int rows[3][WORD_MAX + 1];
    size_t n = strlen(a), m = strlen(b);
    if (n > WORD_MAX || m > WORD_MAX)
        return FAR;
    int *before = rows[0], *last = rows[1], *now = rows[2];
    for (size_t j = 0; j <= m; j++)
        last[j] = (int)j;
    for (size_t i = 1; i <= n; i++) {
        now[0] = (int)i;
        for (size_t j = 1; j <= m; j++) {
            int best = last[j - 1] + (fold(a[i - 1]) != fold(b[j - 1]));
            best = last[j] + 1 < best ? last[j] + 1 : best;
            best = now[j - 1] + 1 < best ? now[j - 1] + 1 : best;
            if (i > 1 && j > 1 && fold(a[i - 1]) == fold(b[j - 2]) && fold(a[i - 2]) == fold(b[j - 1]))
                best = before[j - 2] + 1 < best ? before[j - 2] + 1 : best;
            now[j] = best;
        }
        int *spare = before;
        before = last;
        last = now;
        now = spare;
    }
    return last[m];
}

/* How many edits still count as a slip in a word of this length. */
static int slips_allowed(size_t length) {
    return length <= 4 ? 1 : length <= 7 ? 2 : 3;
}

/* Distance of a dotted key to a candidate, or FAR when they are not near. Leading words that both share do not count
 * towards the length, so that a long section name does not make short keys look alike. */
static int key_distance(const char *key, const char *candidate) {
    size_t shared = 0;
    for (size_t i = 0; key[i] && key[i] == candidate[i]; i++)
        if (key[i] == '.')
            shared = i + 1;
    int distance = edit_distance(key + shared, candidate + shared);
    size_t length = strlen(key + shared), other = strlen(candidate + shared);
    if (other < length)
        length = other;
    return distance <= slips_allowed(length) && (size_t)distance < length ? distance : FAR;
}

const char *option_nearest(const char *word, const char *const *words) {
    const char *nearest = NULL;
    int least = FAR;
    for (; *words; words++) {
        int distance = key_distance(word, *words);
        if (distance < least) {
            least = distance;
            nearest = *words;
        }
    }
    return nearest;
}

/* The full key of the tables nearest to `word`, in `nearest` (KEY_BYTES); false when none is near. */
static bool tables_nearest(const char *word, const struct option_table *const *tables, const char *const *prefixes,
                           size_t count, char *nearest) {
    int least = FAR;
    for (size_t t = 0; t < count; t++) {
        for (size_t i = 0; i < tables[t]->count; i++) {
            char key[KEY_BYTES];
            key_join(prefixes[t], &tables[t]->options[i], key);
            int distance = key_distance(word, key);
            if (distance < least) {
                least = distance;
                memcpy(nearest, key, KEY_BYTES);
            }
        }
    }
    return least < FAR;
}

/* ---- filling a config struct */

/* For a value that is a near miss of a choice: ; did you mean "async"? */
static void choice_hint(const struct option *option, const char *value, char *hint, size_t size) {
    char copy[KEY_BYTES], *words[33], *save = NULL;
    size_t count = 0;
    hint[0] = '\0';
    if (option->type != OPTION_CHOICE || strlen(option->choices) >= sizeof copy)
        return;
    memcpy(copy, option->choices, strlen(option->choices) + 1);
    for (char *word = strtok_r(copy, "|", &save); word && count < 32; word = strtok_r(NULL, "|", &save))
        words[count++] = word;
    words[count] = NULL;
    const char *near = option_nearest(value, (const char *const *)words);
    if (near)
        snprintf(hint, size, "; did you mean \"%s\"?", near);
}

static enum lg_status fail_value(const struct option *option, const struct config_entry *entry,
                                 struct lg_error *error) {
    char place[KEY_BYTES], expected[300], hint[100];
    config_place(entry, place, sizeof place);
    option_value_expected(option, expected, sizeof expected);
    choice_hint(option, entry->value, hint, sizeof hint);
    return lg_fail(error, LG_INVALID, "%s: \"%s\" must be %s, not \"%.60s\"%s", place, entry->key, expected,
                   entry->value, hint);
}

static struct config_entry *entry_of(struct config *config, const char *key) {
    for (size_t i = 0; config && i < config->count; i++)
        if (strcmp(config->entries[i].key, key) == 0)
            return &config->entries[i];
    return NULL;
}

enum lg_status option_apply(const struct option_table *table, const char *prefix, struct config *config, void *out,
                            struct lg_error *error) {
    memset(out, 0, table->config_bytes);
    for (size_t i = 0; i < table->count; i++) {
        const struct option *option = &table->options[i];
        void *field = (char *)out + option->offset;
        char key[KEY_BYTES];
        key_join(prefix, option, key);
        struct config_entry *entry = entry_of(config, key);
        if (entry) {
            entry->used = true;
            if (option_value_parse(option, entry->value, field) != LG_OK)
                return fail_value(option, entry, error);
        } else if (option->fallback) {
            enum lg_status status = option_value_parse(option, option->fallback, field);
            assert(status == LG_OK); /* the table itself is wrong */
            (void)status;
        } else {
            return lg_fail(error, LG_INVALID, "\"%s\" is not set (%s): add it to the config file or give --%s", key,
                           option->help, key);
        }
    }
    return LG_OK;
}

/* `introduction` and "a, b, c" for the keys that begin with the first `section` bytes of `key`, as far as they fit;
 * empty when there are none. */
static void list_section(const char *introduction, const char *key, size_t section,
                         const struct option_table *const *tables, const char *const *prefixes, size_t count,
                         char *text, size_t size) {
    size_t used = 0;
    text[0] = '\0';
    for (size_t t = 0; t < count; t++) {
        for (size_t i = 0; i < tables[t]->count; i++) {
            char known[KEY_BYTES];
            key_join(prefixes[t], &tables[t]->options[i], known);
            if (strncmp(known, key, section) != 0 || strchr(known + section, '.') || used + strlen(known) + 20 > size)
                continue;
            used += (size_t)snprintf(text + used, size - used, "%s\"%s\"", used ? ", " : introduction, known);
        }
    }
}

/* Whether the option may be the one that was meant where its section was given `value`: numbers are no names. */
static bool fits(const struct option *option, const char *value) {
    union {
        bool flag;
        int64_t integer;
        uint64_t bytes;
        double number;
        char text[OPTION_TEXT_BYTES];
        struct option_ints integers;
    } field;
    if (option->type == OPTION_STRING && !isalpha((unsigned char)value[0]))
        return false;
    return option_value_parse(option, value, &field) == LG_OK;
}

/* For an entry that is a plain value where a section is expected, `updater: adam`; LG_OK where it is not one. */
static enum lg_status check_section(const struct config_entry *entry, const char *place,
                                    const struct option_table *const *tables, const char *const *prefixes, size_t count,
                                    struct lg_error *error) {
    char section[KEY_BYTES], list[300];
    size_t length = (size_t)snprintf(section, sizeof section, "%s.", entry->key);
    bool plain = entry->value[0] != '\0' && strpbrk(entry->value, " ,:{}[]#\"'") == NULL;
    for (size_t t = 0; plain && t < count; t++) {
        for (size_t i = 0; i < tables[t]->count; i++) {
            char known[KEY_BYTES];
            key_join(prefixes[t], &tables[t]->options[i], known);
            if (strncmp(known, section, length) != 0 || !fits(&tables[t]->options[i], entry->value))
                continue;
            return lg_fail(error, LG_INVALID,
                           entry->line > 0 ? "%s: \"%s\" has keys of its own; did you mean \"%s: {%s: %.60s}\"?"
                                           : "%s: \"%s\" has keys of its own; did you mean \"%s.%s=%.60s\"?",
                           place, entry->key, entry->key, known + length, entry->value);
        }
    }
    list_section(": ", section, length, tables, prefixes, count, list, sizeof list);
    return list[0] ? lg_fail(error, LG_INVALID, "%s: \"%s\" has keys of its own%s", place, entry->key, list) : LG_OK;
}

enum lg_status option_check_unused(const struct config *config, const struct option_table *const *tables,
                                   const char *const *prefixes, size_t count, struct lg_error *error) {
    for (size_t i = 0; i < config->count; i++) {
        const struct config_entry *entry = &config->entries[i];
        char place[KEY_BYTES], hint[300];
        if (entry->used)
            continue;
        config_place(entry, place, sizeof place);
        if (check_section(entry, place, tables, prefixes, count, error) != LG_OK)
            return LG_INVALID;
        char nearest[KEY_BYTES];
        if (tables_nearest(entry->key, tables, prefixes, count, nearest))
            return lg_fail(error, LG_INVALID, "%s: unknown key \"%s\"; did you mean \"%s\"?", place, entry->key,
                           nearest);
        const char *dot = strrchr(entry->key, '.');
        list_section("; known here: ", entry->key, dot ? (size_t)(dot - entry->key) + 1 : 0, tables, prefixes, count,
                     hint, sizeof hint);
        return lg_fail(error, LG_INVALID, "%s: unknown key \"%s\"%s", place, entry->key, hint);
    }
    return LG_OK;
}

/* ---- flags */

/* True when `flag` (of `length` bytes) spells `key`: '.' and '_' may be written '-'. */
static bool flag_is_key(const char *flag, size_t length, const char *key) {
    if (strlen(key) != length)
        return false;
    for (size_t i = 0; i < length; i++)
        if (flag[i] != key[i] && !(flag[i] == '-' && (key[i] == '.' || key[i] == '_')))
            return false;
    return true;
}

struct flag_tables {
    const struct option_table *const *tables;
    const char *const *prefixes;
    size_t count;
};

/* Finds the option that `flag` names; its full key goes to `key` (KEY_BYTES). */
static const struct option *flag_find(const struct flag_tables *all, const char *flag, size_t length, char *key) {
    for (size_t t = 0; t < all->count; t++) {
        for (size_t i = 0; i < all->tables[t]->count; i++) {
            key_join(all->prefixes[t], &all->tables[t]->options[i], key);
            if (flag_is_key(flag, length, key))
                return &all->tables[t]->options[i];
        }
    }
    return NULL;
}

static enum lg_status fail_unknown_flag(const struct flag_tables *all, const char *flag, size_t length,
                                        struct lg_error *error) {
    char word[KEY_BYTES], nearest[KEY_BYTES];
    snprintf(word, sizeof word, "%.*s", (int)(length < 200 ? length : 200), flag);
    if (tables_nearest(word, all->tables, all->prefixes, all->count, nearest))
        return lg_fail(error, LG_INVALID, "unknown flag \"--%s\"; did you mean \"--%s\"?", word, nearest);
    return lg_fail(error, LG_INVALID, "unknown flag \"--%s\"; --help lists them", word);
}

/* Reads the flag at argv[at]; *taken is the number of arguments that belong to it. */
static enum lg_status flag_take(const struct flag_tables *all, int argc, char **argv, int at, struct config *config,
                                int *taken, struct lg_error *error) {
    const char *flag = argv[at] + 2, *value = NULL;
    size_t length = strcspn(flag, "=");
    char key[KEY_BYTES], origin[KEY_BYTES + 8];
    const struct option *option = flag_find(all, flag, length, key);
    *taken = 1;
    if (flag[length] == '=')
        value = flag + length + 1;
    if (!option && !value && strncmp(flag, "no-", 3) == 0) {
        option = flag_find(all, flag + 3, length - 3, key);
        if (option && option->type != OPTION_BOOL)
            option = NULL;
        value = "false";
    }
    if (!option)
        return fail_unknown_flag(all, flag, length, error);
    if (!value && option->type == OPTION_BOOL)
        value = "true";
    if (!value) {
        if (at + 1 >= argc || strncmp(argv[at + 1], "--", 2) == 0)
            return lg_fail(error, LG_INVALID, "flag \"--%s\" needs a value", key);
        value = argv[at + 1];
        *taken = 2;
    }
    snprintf(origin, sizeof origin, "flag --%s", key);
    return config_set(config, key, value, origin, error);
}

enum lg_status option_take_flags_of(const struct option_table *const *tables, const char *const *prefixes, size_t count,
                                    int *argc, char **argv, struct config *config, struct lg_error *error) {
    const struct flag_tables all = {tables, prefixes, count};
    int kept = *argc > 0 ? 1 : 0;
    for (int at = 1, taken = 1; at < *argc; at += taken) {
        taken = 1;
        if (strcmp(argv[at], "--") == 0) {
            for (at++; at < *argc; at++)
                argv[kept++] = argv[at];
            break;
        }
        if (strncmp(argv[at], "--", 2) != 0) {
            argv[kept++] = argv[at];
            continue;
        }
        enum lg_status status = flag_take(&all, *argc, argv, at, config, &taken, error);
        if (status != LG_OK)
            return status;
    }
    argv[kept] = NULL;
    *argc = kept;
    return LG_OK;
}

enum lg_status option_take_flags(const struct option_table *table, const char *prefix, int *argc, char **argv,
                                 struct config *config, struct lg_error *error) {
    return option_take_flags_of(&table, &prefix, 1, argc, argv, config, error);
}

bool option_is_default(const struct option_table *table, const struct config *config, const char *key) {
    const struct config_entry *entry = config_find(config, key);
    for (size_t i = 0; entry && i < table->count; i++)
        if (strcmp(table->options[i].key, key) == 0)
            return table->options[i].fallback && strcmp(entry->value, table->options[i].fallback) == 0;
    return !entry;
}
