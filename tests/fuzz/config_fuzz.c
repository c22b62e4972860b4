/* The config reader on any bytes: it reads or refuses, within bounds, and what it reads keeps its promises. */
#include <assert.h>
#include <stdint.h>
#include <string.h>

#include "common/config.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
    struct lg_error error = {0};
    struct config *config = NULL;
    enum lg_status status = config_read_text("fuzz", (const char *)bytes, size, &config, &error);
    if (status != LG_OK) {
        assert(!config && error.status == status && error.message[0]);
        return 0;
    }
    for (size_t i = 0; i < config->count; i++) {
        const struct config_entry *entry = &config->entries[i];
        assert(config_find(config, entry->key) == entry); /* no duplicates */
        assert(entry->line > 0 && entry->column > 0 && !entry->used);
        for (const char *at = entry->value; *at; at++)
            assert((unsigned char)*at >= 0x20 && *at != 0x7f);
        assert(config_set(config, entry->key, entry->value, "again", NULL) == LG_OK);
    }
    config_free(config);
    return 0;
}
