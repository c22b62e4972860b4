/* A job's spec on the wire: the entries of a config, in order. */
#include "proto/wire.h"

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

enum lg_status wire_pairs_from_config(const struct config *config, struct wire_pair *pairs, size_t capacity,
                                      size_t *count, struct lg_error *error) {
    if (config->count > capacity || config->count > WIRE_PAIRS_MAX)
        return lg_fail(error, LG_INVALID, "a spec of %zu entries is too long, the limit is %zu", config->count,
                       capacity < WIRE_PAIRS_MAX ? capacity : (size_t)WIRE_PAIRS_MAX);
    for (size_t i = 0; i < config->count; i++)
        pairs[i] = (struct wire_pair){config->entries[i].key, config->entries[i].value};
    *count = config->count;
    return LG_OK;
}
