/* A job's spec on the wire: the entries of a config, in order. */
#include "proto/wire_internal.h"

#include <string.h>

enum lg_status wire_pairs_to_config(const struct wire_pair *pairs, size_t count, struct config **out,
                                    struct lg_error *error) {
    struct config *config = config_new();
    if (!config)
        return lg_fail(error, LG_NO_MEMORY, "no memory for a spec of %zu entries", count);
    for (size_t i = 0; i < count; i++) {
        enum lg_status status = LG_OK;
        if (config_find(config, pairs[i].key))
            status = lg_fail(error, LG_INVALID, "the spec has the key \"%.100s\" twice", pairs[i].key);
        else
            status = config_set(config, pairs[i].key, pairs[i].value, "wire", error);
        if (status) {
            config_free(config);
            return status;
        }
    }
    *out = config;
    return LG_OK;
}

static enum lg_status entry_check(const struct config_entry *entry, struct lg_error *error) {
    size_t key_bytes = strlen(entry->key), value_bytes = strlen(entry->value);
    char place[128];
    config_place(entry, place, sizeof place);
    if (key_bytes > WIRE_TEXT_BYTES_MAX || value_bytes > WIRE_TEXT_BYTES_MAX)
        return lg_fail(error, LG_INVALID, "%s: \"%.100s\" is longer than the %d bytes that fit into a message", place,
                       entry->key, WIRE_TEXT_BYTES_MAX);
    if (wire_text_sound(entry->key, key_bytes) < key_bytes || wire_text_sound(entry->value, value_bytes) < value_bytes)
        return lg_fail(error, LG_INVALID, "%s: the value of \"%.100s\" is not UTF-8", place, entry->key);
    return LG_OK;
}

enum lg_status wire_pairs_from_config(const struct config *config, struct wire_pair *pairs, size_t capacity,
                                      size_t *count, struct lg_error *error) {
    if (config->count > capacity || config->count > WIRE_PAIRS_MAX)
        return lg_fail(error, LG_INVALID, "a spec of %zu entries is too long, the limit is %zu", config->count,
                       capacity < WIRE_PAIRS_MAX ? capacity : (size_t)WIRE_PAIRS_MAX);
    for (size_t i = 0; i < config->count; i++) {
        enum lg_status status = entry_check(&config->entries[i], error);
        if (status)
            return status;
        pairs[i] = (struct wire_pair){config->entries[i].key, config->entries[i].value};
    }
    *count = config->count;
    return LG_OK;
}
