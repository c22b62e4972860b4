/* From an accepting JOIN_REPLY to a session: copies what outlives the message and makes the links to the shards. */
#include "client/client_internal.h"
#include "client/job.h"

#include <stdlib.h>
#include <string.h>

enum { WINDOW = 256, SHARD_REPLY_MS = 10000 };

/* Buffers of the caller are as large as its own table says: a job of another shape must not get near them. */
static enum lg_status check_tensors(const struct lg_client *client, const struct wire_message *message,
                                    struct lg_error *error) {
    enum lg_status status = tensor_table_check(message->tensors, message->tensor_count, error);
    if (status != LG_OK)
        return lg_fail_prefix(error, LG_MALFORMED, "the coordinator's answer to the join");
    if (client->own_tensors && tensor_table_fingerprint(client->own_tensors, client->options.tensor_count) !=
                                   tensor_table_fingerprint(message->tensors, message->tensor_count))
        return lg_fail(error, LG_INVALID,
                       "job \"%s\" has other tensors than this trainer's model: start all trainers of a job with the "
                       "same model",
                       client->job);
    return LG_OK;
}

static enum lg_status copy_tables(struct lg_client *client, const struct wire_message *message,
                                  struct lg_error *error) {
    client->tensors = calloc(message->tensor_count, sizeof *client->tensors);
    if (!client->tensors)
        return lg_fail(error, LG_NO_MEMORY, "no memory for %zu tensors", message->tensor_count);
    memcpy(client->tensors, message->tensors, message->tensor_count * sizeof *client->tensors);
    client->tensor_count = message->tensor_count;
    for (size_t i = 0; i < CLIENT_PUSHES; i++) {
        struct push_call *push = &client->shared.pushes[i];
        push->ready = calloc(message->tensor_count, sizeof *push->ready);
        push->ranges = calloc(message->tensor_count, sizeof *push->ranges);
        push->cuts = calloc(CLIENT_CUTS_MAX, sizeof *push->cuts);
        push->wake_fd = client->wake_fd;
        if (!push->ready || !push->ranges || !push->cuts)
            return lg_fail(error, LG_NO_MEMORY, "no memory for pushes of %zu tensors", message->tensor_count);
    }
    return wire_pairs_to_config(message->join_reply.spec, message->join_reply.spec_count, &client->spec, error);
}

static enum lg_status make_links(struct lg_client *client, const struct wire_join_reply *reply,
                                 struct lg_error *error) {
    struct client_io *io = &client->io;
    io->shards = calloc(reply->shard_count ? reply->shard_count : 1, sizeof *io->shards);
    if (!io->shards)
        return lg_fail(error, LG_NO_MEMORY, "no memory for the connections to %zu shards", reply->shard_count);
    for (uint32_t i = 0; i < reply->shard_count; i++) {
        char endpoint[NET_ENDPOINT_BYTES];
        enum lg_status status = net_endpoint_parse(reply->shards[i].endpoint, false, endpoint, error);
        if (status != LG_OK)
            return lg_fail_prefix(error, status, "the address of shard %u", reply->shards[i].shard);
        link_init(&io->shards[i].link, client->zmq, endpoint);
        local_link_init(&io->shards[i].local, NULL, 0);
        io->shard_count = i + 1;
    }
    return LG_OK;
}

/* Where pushes only name their payload, larger parts mean fewer messages and cost nothing; over TCP they would come in
 * later. Whether memory will be shared is not known yet: addresses of this host promise it. */
static uint32_t part_bytes(const struct lg_client *client, const struct wire_join_reply *reply) {
    bool here = !client->options.no_shared_memory;
    for (size_t i = 0; i < reply->shard_count; i++)
        here = here && net_is_loopback(reply->shards[i].endpoint);
    return here ? WIRE_PART_BYTES_HERE : WIRE_PART_BYTES;
}

enum lg_status client_join_accept(struct lg_client *client, const struct wire_message *message,
                                  struct lg_error *error) {
    const struct wire_join_reply *reply = &message->join_reply;
    struct client_io *io = &client->io;
    io->session_id = reply->session;
    io->incarnation = reply->incarnation;
    io->job = reply->job;
    io->token = reply->token;
    enum lg_status status = check_tensors(client, message, error);
    if (status == LG_OK)
        status = copy_tables(client, message, error);
    if (status == LG_OK)
        status = make_links(client, reply, error);
    if (status != LG_OK)
        return status;
    bool trains = client->options.role == LG_ROLE_TRAINER;
    const char *mode = trains ? config_text(client->spec, "consistency.mode", "async") : "async";
    client->mode = consistency_find(mode);
    if (!client->mode)
        return lg_fail(error, LG_UNSUPPORTED,
                       "consistency.mode \"%s\" is not known here: the job was made by a newer "
                       "lagoon; update this one",
                       mode);
    struct job_codecs codecs;
    status = job_codecs(client->spec, &codecs, error);
    if (status != LG_OK)
        return status;
    struct session_config config = {.session = reply->session,
                                    .incarnation = reply->incarnation,
                                    .token = reply->token,
                                    .job = reply->job,
                                    .map_version = reply->map_version,
                                    .tensors = client->tensors,
                                    .tensor_count = client->tensor_count,
                                    .placement = message->placement,
                                    .placement_count = message->placement_count,
                                    .shard_count = (uint32_t)reply->shard_count,
                                    .window = WINDOW,
                                    .part_bytes = part_bytes(client, reply),
                                    .mode = client->mode,
                                    .reply_timeout_ms = SHARD_REPLY_MS,
                                    .push_codec = codecs.push,
                                    .pull_codec = trains ? codecs.pull : NULL,
                                    .pull_delta = trains && codecs.pull_delta,
                                    .topk = codecs.topk,
                                    .isa = isa_detect()};
    client->encodes = !codecs.push->exact;
    client->encoding.session = reply->session;
    status = client_encoding_init(client, codecs.push, codecs.topk, error);
    if (status != LG_OK)
        return status;
    if (client->encodes && trains && !codecs.pull->exact)
        client->options.no_shared_memory = true; /* there is nothing that would go through it */
    struct session_sink sink = {.context = client,
                                .send = client_send,
                                .reopen = client_reopen,
                                .local_version = client_local_version,
                                .local_read = client_local_read,
                                .local_mapping = client_local_mapping,
                                .local_gradients = client_local_gradients};
    status = session_new(&config, &sink, &io->session, error);
    if (status == LG_OK)
        client_ring_open(client);
    return status;
}
