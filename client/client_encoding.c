/* Gradients that the caller has encoded itself: how it is to do that, and whether it has. The caller's thread. */
#include "client/client_internal.h"

#include <stdlib.h>

enum lg_status client_encoding_init(struct lg_client *client, const struct codec *codec, double keep,
                                    struct lg_error *error) {
    struct client_encoding *encoding = &client->encoding;
    encoding->codec = codec;
    encoding->options.keep = keep;
    encoding->plain = calloc(client->tensor_count, sizeof *encoding->plain);
    if (!encoding->plain)
        return lg_fail(error, LG_NO_MEMORY, "no memory for %zu tensors", client->tensor_count);
    for (size_t i = 0; i < client->tensor_count; i++) {
        encoding->plain[i] = codec->changes_only && client->tensors[i].update != TENSOR_UPDATE_GRADIENT;
        encoding->some_plain = encoding->some_plain || encoding->plain[i];
    }
    return block_table_init(&encoding->units, client->tensors, client->tensor_count, error);
}

void client_encoding_deinit(struct lg_client *client) {
    free(client->encoding.plain);
    block_table_deinit(&client->encoding.units);
}

bool lg_client_encoding(const struct lg_client *client, struct lg_encoding *out) {
    const struct client_encoding *encoding = &client->encoding;
    if (client->options.role != LG_ROLE_TRAINER || encoding->codec->exact)
        return false;
    *out = (struct lg_encoding){encoding->codec, encoding->options, &encoding->units, encoding->plain};
    return true;
}

uint64_t lg_push_key(const struct lg_client *client, uint32_t unit) {
    return session_codec_key(client->encoding.session, client->clock + 1, unit);
}

enum lg_status client_encoding_check(const struct lg_client *client, const struct lg_push *push, const float *gradients,
                                     struct lg_error *error) {
    struct lg_encoding encoding;
    if (!push->encoded)
        return LG_OK;
    if (push->initial)
        return lg_fail(error, LG_INVALID, "initial values are not encoded: give them as they are");
    if (!lg_client_encoding(client, &encoding))
        return lg_fail(error, LG_INVALID, "push.codec of the job is %s: its gradients are not encoded",
                       client->encoding.codec->name);
    if (!gradients && client->encoding.some_plain)
        return lg_fail(error, LG_INVALID, "some tensors take values, and those are not sent as %s: give them too",
                       encoding.codec->name);
    return LG_OK;
}

static enum lg_status check_unit(const struct lg_client *client, const struct lg_encoded_unit *unit,
                                 const struct block *block, struct lg_error *error) {
    const struct client_encoding *encoding = &client->encoding;
    const size_t most = encoding->codec->bytes_max(block->elements, &encoding->options);
    struct lg_error detail = {0};
    size_t bytes = 0;
    if (!unit->data)
        return lg_fail(error, LG_INVALID, "there are no bytes");
    if (unit->bytes > most)
        return lg_fail(error, LG_INVALID, "%zu bytes are more than %u elements take, %zu", unit->bytes, block->elements,
                       most);
    if (encoding->codec->measure(unit->data, unit->bytes, block->elements, &bytes, &detail) != LG_OK)
        return lg_fail(error, LG_INVALID, "%s", detail.message);
    if (bytes != unit->bytes)
        return lg_fail(error, LG_INVALID, "its %zu bytes end after %zu", unit->bytes, bytes);
    return LG_OK;
}

enum lg_status client_encoding_look(const struct lg_client *client, const struct lg_encoded_unit *units,
                                    size_t first_tensor, size_t count, struct lg_error *error) {
    const struct block_table *table = &client->encoding.units;
    for (size_t tensor = first_tensor; tensor < client->tensor_count && tensor - first_tensor < count; tensor++)
        for (uint32_t i = table->first_of_tensor[tensor];
             !client->encoding.plain[tensor] && i < table->first_of_tensor[tensor + 1]; i++) {
            struct lg_error detail = {0};
            if (check_unit(client, &units[i], &table->blocks[i], &detail) != LG_OK)
                return lg_fail(error, LG_INVALID, "unit %u, of tensor \"%s\", is not well encoded as %s: %s", i,
                               client->tensors[tensor].name, client->encoding.codec->name, detail.message);
        }
    return LG_OK;
}
