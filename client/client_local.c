/* liblagoon: memory that shards on the same host read in place. */
#include <stdlib.h>
#include <string.h>

#include "client/client_internal.h"

enum { ALIGNMENT = 64 };

static size_t gradient_bytes(const struct lg_client *client) {
    uint64_t elements = 0;
    for (size_t i = 0; i < client->tensor_count; i++)
        elements += tensor_elements(&client->tensors[i]);
    size_t bytes = (size_t)elements * sizeof(float);
    return (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
}

float *lg_gradient_buffer(struct lg_client *client, size_t index) {
    if (index >= LG_GRADIENT_BUFFERS)
        return NULL;
    if (!client->gradients[index]) {
        size_t bytes = gradient_bytes(client);
        client->gradients[index] = aligned_alloc(ALIGNMENT, bytes ? bytes : ALIGNMENT);
        if (client->gradients[index])
            memset(client->gradients[index], 0, bytes);
    }
    return client->gradients[index];
}

void client_gradients_free(struct lg_client *client) {
    for (size_t i = 0; i < LG_GRADIENT_BUFFERS; i++)
        free(client->gradients[i]);
}

const char *lg_client_transport(const struct lg_client *client) {
    (void)client;
    return "tcp";
}
