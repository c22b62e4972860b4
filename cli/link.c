#include "cli/link.h"

#include <stdlib.h>
#include <time.h>

#include "proto/wire_net.h"

struct link {
    void *zmq, *socket;
    struct wire_arena *arena;
    struct net_message in, out;
    uint64_t request;
    int64_t timeout_ms;
    int wake[LINK_WAKES]; /* descriptors that end a wait; -1: none */
    char coordinator[NET_ENDPOINT_BYTES];
};

static int64_t now_ms(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

enum lg_status link_open(const char *coordinator, struct link **out, struct lg_error *error) {
    struct link *link = calloc(1, sizeof *link);
    if (!link)
        return lg_fail(error, LG_NO_MEMORY, "no memory to talk to the coordinator");
    link_limit(link, LINK_TIMEOUT_MS, (const int[LINK_WAKES]){-1, -1});
    link->zmq = zmq_ctx_new();
    link->arena = wire_arena_new(16 << 20);
    enum lg_status status = net_endpoint_parse(coordinator, false, link->coordinator, error);
    if (status == LG_OK && (!link->zmq || !link->arena))
        status = lg_fail(error, LG_NO_MEMORY, "no memory to talk to the coordinator");
    if (status == LG_OK)
        status = net_socket_open(link->zmq, NET_CLIENT, NULL, &link->socket, error);
    if (status == LG_OK)
        status = net_connect(link->socket, link->coordinator, error);
    if (status != LG_OK) {
        link_close(link);
        return status;
    }
    *out = link;
    return LG_OK;
}

void link_close(struct link *link) {
    if (!link)
        return;
    net_message_clear(&link->in);
    net_message_clear(&link->out);
    net_socket_close(link->socket);
    if (link->zmq)
        zmq_ctx_term(link->zmq);
    wire_arena_free(link->arena);
    free(link);
}

void link_limit(struct link *link, int64_t timeout_ms, const int wake[LINK_WAKES]) {
    link->timeout_ms = timeout_ms;
    for (int i = 0; i < LINK_WAKES; i++)
        link->wake[i] = wake[i];
}

/* Waits for the socket. False: woken by a descriptor. */
static bool wait_for(struct link *link, short events, int64_t wait_ms) {
    zmq_pollitem_t items[1 + LINK_WAKES] = {{.socket = link->socket, .events = events}};
    int count = 1;
    for (int i = 0; i < LINK_WAKES; i++)
        if (link->wake[i] >= 0)
            items[count++] = (zmq_pollitem_t){.fd = link->wake[i], .events = ZMQ_POLLIN};
    if (zmq_poll(items, count, (long)wait_ms) <= 0)
        return true;
    for (int i = 1; i < count; i++)
        if (items[i].revents)
            return false;
    return true;
}

/* Sends until ZeroMQ takes it: a connection may not be up yet. */
static enum lg_status send_by(struct link *link, const struct wire_message *request, int64_t deadline_ms) {
    for (;;) {
        enum lg_status status = wire_net_add(request, &link->out);
        if (status == LG_OK)
            status = net_send(link->socket, &link->out);
        net_message_clear(&link->out);
        if (status != LG_UNAVAILABLE || now_ms() >= deadline_ms)
            return status;
        if (!wait_for(link, ZMQ_POLLOUT, 50))
            return LG_CANCELLED;
    }
}

/* Takes messages until the one that echoes the request. */
static enum lg_status receive_by(struct link *link, int64_t deadline_ms, struct wire_message *reply,
                                 struct lg_error *error) {
    for (;;) {
        int64_t left_ms = deadline_ms - now_ms();
        if (left_ms <= 0)
            return LG_UNAVAILABLE;
        if (!wait_for(link, ZMQ_POLLIN, left_ms))
            return lg_fail(error, LG_CANCELLED, "interrupted");
        enum lg_status status = net_receive(link->socket, &link->in);
        if (status == LG_UNAVAILABLE)
            continue;
        if (status == LG_OK)
            status = wire_net_decode(&link->in, 0, link->arena, reply, error);
        if (status != LG_OK)
            return lg_fail_prefix(error, LG_MALFORMED, "the answer of %s", link->coordinator);
        if (reply->request == link->request)
            return LG_OK;
    }
}

enum lg_status link_ask(struct link *link, struct wire_message *request, int64_t timeout_ms, struct wire_message *reply,
                        struct lg_error *error) {
    int64_t deadline_ms = now_ms() + timeout_ms;
    request->request = ++link->request;
    enum lg_status status = send_by(link, request, deadline_ms);
    if (status == LG_OK)
        status = receive_by(link, deadline_ms, reply, error);
    if (status == LG_UNAVAILABLE)
        return lg_fail(error, LG_UNAVAILABLE,
                       "no coordinator answers at %s; start a local cluster with `lagoon up`, or name the right "
                       "address with --coordinator HOST:PORT",
                       link->coordinator);
    if (status == LG_OK && reply->kind == WIRE_ERROR)
        return lg_fail(error, (enum lg_status)reply->error.status, "%s", reply->error.reason);
    return status;
}

enum lg_status link_query(struct link *link, const char *what, const char *job, uint64_t since, json_t **document,
                          uint64_t *next, struct lg_error *error) {
    struct wire_message request = {.kind = WIRE_QUERY}, reply;
    request.query = (struct wire_query){.what = what, .job = job, .since = since, .limit = 1000};
    enum lg_status status = link_ask(link, &request, link->timeout_ms, &reply, error);
    if (status != LG_OK)
        return status;
    if (reply.kind != WIRE_QUERY_REPLY)
        return lg_fail(error, LG_MALFORMED, "the coordinator answered %s to a query", wire_kind_name(reply.kind));
    if (reply.query_reply.status != LG_OK)
        return lg_fail(error, (enum lg_status)reply.query_reply.status, "%s", reply.query_reply.reason);
    json_error_t fault;
    *document = json_loadb(reply.document.data, reply.document.bytes, JSON_ALLOW_NUL, &fault);
    if (!*document)
        return lg_fail(error, LG_MALFORMED, "the coordinator's document cannot be read: %s", fault.text);
    if (next)
        *next = reply.query_reply.next;
    return LG_OK;
}

enum lg_status link_query_once(const struct cli *cli, const char *what, const char *job, json_t **document,
                               struct lg_error *error) {
    struct link *link = NULL;
    enum lg_status status = link_open(cli->coordinator, &link, error);
    if (status == LG_OK)
        status = link_query(link, what, job, 0, document, NULL, error);
    link_close(link);
    return status;
}
