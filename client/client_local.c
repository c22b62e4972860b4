/* liblagoon: memory shared with shards on the same host. Gradients lie in a ring that such shards map, so that pushes
 * only name them; parameters are copied out of the shards' segments. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "client/client_internal.h"
#include "common/log.h"

/* ---- gradient memory */

static size_t buffer_bytes(const struct lg_client *client) {
    uint64_t elements = 0;
    for (size_t i = 0; i < client->tensor_count; i++)
        elements += tensor_elements(&client->tensors[i]);
    size_t bytes = (size_t)elements * sizeof(float);
    return (bytes + LOCAL_PAGE_BYTES) / LOCAL_PAGE_BYTES * LOCAL_PAGE_BYTES;
}

static void ring_close(struct gradient_ring *ring) {
    if (ring->data)
        munmap(ring->data, ring->bytes);
    if (ring->fd >= 0)
        close(ring->fd);
    ring->data = NULL;
    ring->fd = -1;
}

/* Takes no memory yet. Sealed, so that shards may map it without fear of a SIGBUS. */
static void ring_map(struct gradient_ring *ring) {
    ring->bytes = LG_GRADIENT_BUFFERS * ring->buffer_bytes;
    ring->fd = memfd_create("lagoon-gradients", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (ring->fd < 0)
        return;
    if (ftruncate(ring->fd, (off_t)ring->bytes) == 0 &&
        fcntl(ring->fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) == 0) {
        void *data = mmap(NULL, ring->bytes, PROT_READ | PROT_WRITE, MAP_SHARED, ring->fd, 0);
        ring->data = data == MAP_FAILED ? NULL : data;
    }
    if (!ring->data)
        ring_close(ring);
}

void client_ring_open(struct lg_client *client) {
    client->ring.buffer_bytes = buffer_bytes(client);
    if (client->options.no_shared_memory)
        return;
    ring_map(&client->ring);
    if (client->ring.fd < 0)
        log_info("no-local", "no shared memory for gradients (%s): they travel in messages", strerror(errno));
}

void client_ring_free(struct lg_client *client) {
    for (size_t i = 0; !client->ring.data && i < LG_GRADIENT_BUFFERS; i++)
        free(client->gradients[i]);
    ring_close(&client->ring);
}

/* Pages are reserved here, so that running out is an error now and not a SIGBUS later. */
float *lg_gradient_buffer(struct lg_client *client, size_t index) {
    const struct gradient_ring *ring = &client->ring;
    if (index >= LG_GRADIENT_BUFFERS || client->gradients[index])
        return index < LG_GRADIENT_BUFFERS ? client->gradients[index] : NULL;
    size_t offset = index * ring->buffer_bytes;
    if (!ring->data) {
        client->gradients[index] = aligned_alloc(LOCAL_PAGE_BYTES, ring->buffer_bytes);
        if (client->gradients[index])
            memset(client->gradients[index], 0, ring->buffer_bytes);
    } else if (posix_fallocate(ring->fd, (off_t)offset, (off_t)ring->buffer_bytes) == 0) {
        client->gradients[index] = (float *)(void *)(ring->data + offset);
    }
    return client->gradients[index];
}

/* ---- links */

/* Says so when the way has changed; not while a shard has been asked and has yet to answer, or to be greeted. */
static void transport_update(struct lg_client *client) {
    const struct client_io *io = &client->io;
    uint32_t up = 0, all = 0;
    for (uint32_t i = 0; i < io->shard_count; i++) {
        uint32_t units;
        (void)session_units(io->session, i, &units);
        if (io->shards[i].local.state == LOCAL_ASKED || (units > 0 && !io->shards[i].local.units))
            return;
        all += units > 0;
        up += io->shards[i].local.state == LOCAL_UP;
    }
    const char *messages = strncmp(io->shards[0].link.endpoint, "ipc:", 4) == 0 ? "ipc" : "tcp";
    const char *now = up == 0 ? messages : up == all ? "shm" : "mixed", *before = client->transport;
    atomic_store(&client->transport, now);
    if (now != before && (up > 0 || strcmp(before, "tcp") != 0))
        log_info("transport", "parameters and gradients travel by %s now", now);
}

const char *lg_client_transport(const struct lg_client *client) {
    return atomic_load(&client->transport);
}

bool client_shares_memory(const struct lg_client *client) {
    const char *transport = atomic_load(&client->transport);
    return strcmp(transport, "shm") == 0 || strcmp(transport, "mixed") == 0;
}

void client_local_greeted(struct lg_client *client, uint32_t slot, const char *name) {
    struct client_io *io = &client->io;
    struct local_link *local = &io->shards[slot].local;
    const struct local_hello hello = {.magic = LOCAL_MAGIC,
                                      .layout = LOCAL_LAYOUT,
                                      .incarnation = io->incarnation,
                                      .job = io->job,
                                      .session = io->session_id,
                                      .token = io->token,
                                      .ring_bytes = client->ring.bytes};
    uint32_t count;
    const struct wire_unit *units = session_units(io->session, slot, &count);
    local_link_deinit(local);
    local_link_init(local, units, count);
    if (client->ring.fd >= 0 && count > 0)
        local_link_ask(local, name, &hello, client->ring.fd);
    if (local->why[0])
        log_info("no-local", "shard %u is on this host, but no memory is shared with it: %s", slot, local->why);
    transport_update(client);
}

bool client_local_tick(struct lg_client *client) {
    bool waiting = false;
    for (uint32_t i = 0; i < client->io.shard_count; i++) {
        struct local_link *local = &client->io.shards[i].local;
        if (local_link_answer(local)) {
            if (local->why[0])
                log_info("no-local", "shard %u is on this host, but no memory is shared with it: %s", i, local->why);
            transport_update(client);
        }
        waiting = waiting || local->state == LOCAL_ASKED;
    }
    return waiting;
}

void client_local_lost(struct lg_client *client, uint32_t slot) {
    local_link_drop(&client->io.shards[slot].local);
    transport_update(client);
}

/* ---- using them */

static bool in_ring(const struct gradient_ring *ring, const void *data) {
    uintptr_t at = (uintptr_t)data, start = (uintptr_t)ring->data;
    return ring->data && at >= start && at < start + ring->bytes;
}

bool client_local_names(const struct lg_client *client, uint32_t slot, const struct wire_message *message,
                        struct wire_message *out, struct wire_range ranges[WIRE_PAYLOAD_FRAMES_MAX]) {
    const struct gradient_ring *ring = &client->ring;
    const struct codec *codec = NULL;
    if (message->kind != WIRE_PUSH || client->io.shards[slot].local.state != LOCAL_UP || message->payload_count == 0 ||
        codec_of_wire(message->push.dtype, message->push.codec, &codec, NULL) != LG_OK || !codec->fixed)
        return false;
    for (size_t i = 0; i < message->payload_count; i++) {
        const char *data = message->payload[i].data;
        if (!in_ring(ring, data))
            return false;
        ranges[i] = (struct wire_range){(uint64_t)(data - ring->data), message->payload[i].bytes};
    }
    *out = *message;
    out->push.ring = true;
    out->payload_count = 0;
    out->ranges = ranges;
    out->range_count = message->payload_count;
    return true;
}

bool client_local_gradients(void *context, uint32_t slot, const float *data) {
    const struct lg_client *client = context;
    return client->io.shards[slot].local.state == LOCAL_UP && in_ring(&client->ring, data);
}

bool client_local_version(void *context, uint32_t slot, uint64_t *version) {
    const struct lg_client *client = context;
    return local_link_version(&client->io.shards[slot].local, version);
}

enum local_read client_local_read(void *context, uint32_t slot, uint32_t index, float *into, uint64_t *version) {
    const struct lg_client *client = context;
    return local_link_read(&client->io.shards[slot].local, index, into, version);
}

struct lg_mapping *client_local_mapping(void *context, uint32_t slot) {
    const struct lg_client *client = context;
    return client->io.shards[slot].local.mapping;
}
