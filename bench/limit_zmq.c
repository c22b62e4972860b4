/* What ZeroMQ gives: a DEALER sends a tensor in chunks of 1 MiB without copying them, eight under way; a ROUTER in
 * another process receives each, applies SGD from the message, and answers with an acknowledgement or with the updated
 * chunk. No protocol, no sessions, no checks. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zmq.h>

#include "bench/latency.h"
#include "bench/limit.h"
#include "common/updater.h"

/* Frames: the header, then a chunk of floats. An answer is the header again, and the chunk where it was asked for. */
struct header {
    uint64_t first; /* element */
    uint32_t elements, pull;
};

static int fail(int fd, const char *what) {
    struct lg_error error;
    lg_fail(&error, LG_IO, "%s: %s", what, zmq_strerror(zmq_errno()));
    (void)process_say_error(fd, &error);
    return EXIT_FAILURE;
}

static void *socket_open(void *zmq, int type) {
    void *socket = zmq_socket(zmq, type);
    int none = 0;
    if (socket && (zmq_setsockopt(socket, ZMQ_RCVHWM, &none, sizeof none) != 0 ||
                   zmq_setsockopt(socket, ZMQ_SNDHWM, &none, sizeof none) != 0 ||
                   zmq_setsockopt(socket, ZMQ_LINGER, &none, sizeof none) != 0))
        return NULL;
    return socket;
}

static float *floats_new(uint64_t bytes, float value) {
    float *data = aligned_alloc(64, bytes);
    for (size_t i = 0; data && i < bytes / sizeof *data; i++)
        data[i] = value;
    return data;
}

/* ---- the receiving process */

struct server {
    void *socket;
    float *parameters;
    updater_apply_fn *sgd;
    float scalars[UPDATER_SCALARS_MAX];
};

/* One copy of the chunk into the answer. */
static bool answer(struct server *server, zmq_msg_t *id, const struct header *header) {
    zmq_msg_t chunk;
    size_t bytes = header->elements * sizeof(float);
    if (zmq_msg_send(id, server->socket, ZMQ_SNDMORE) < 0 ||
        zmq_send(server->socket, header, sizeof *header, header->pull ? ZMQ_SNDMORE : 0) < 0)
        return false;
    if (!header->pull)
        return true;
    if (zmq_msg_init_size(&chunk, bytes) != 0)
        return false;
    memcpy(zmq_msg_data(&chunk), server->parameters + header->first, bytes);
    return zmq_msg_send(&chunk, server->socket, 0) >= 0;
}

/* ZeroMQ leaves small messages where they lie in its receive buffer. */
static const float *aligned(zmq_msg_t *chunk) {
    static float small[LIMIT_SMALL_BYTES / sizeof(float)];
    if (zmq_msg_size(chunk) > sizeof small)
        return zmq_msg_data(chunk);
    memcpy(small, zmq_msg_data(chunk), zmq_msg_size(chunk));
    return small;
}

static bool serve_one(struct server *server) {
    zmq_msg_t id, chunk;
    struct header header;
    zmq_msg_init(&id);
    zmq_msg_init(&chunk);
    bool fine = zmq_msg_recv(&id, server->socket, 0) >= 0 &&
                zmq_recv(server->socket, &header, sizeof header, 0) == (int)sizeof header &&
                zmq_msg_recv(&chunk, server->socket, 0) >= 0;
    if (fine)
        server->sgd(server->parameters + header.first, NULL, aligned(&chunk), header.elements, server->scalars);
    zmq_msg_close(&chunk);
    fine = fine && answer(server, &id, &header);
    zmq_msg_close(&id);
    return fine;
}

static int serve(int fd, const void *context) {
    const struct limit *limit = context;
    const struct updater *sgd;
    struct process_report report = {0};
    size_t size = sizeof report.text;
    void *zmq = zmq_ctx_new();
    struct server server = {.socket = socket_open(zmq, ZMQ_ROUTER), .parameters = floats_new(limit->bytes, 1)};
    if (!server.parameters || updater_find("sgd", &sgd, NULL) != LG_OK)
        return EXIT_FAILURE;
    server.sgd = sgd->apply[isa_detect()];
    sgd->decide(NULL, &(struct updater_moment){.learning_rate = 1e-6f, .weight = 1, .step = 1}, server.scalars);
    if (!server.socket || zmq_bind(server.socket, "tcp://127.0.0.1:*") != 0 ||
        zmq_getsockopt(server.socket, ZMQ_LAST_ENDPOINT, report.text, &size) != 0)
        return fail(fd, "cannot listen");
    (void)process_say(fd, &report);
    while (serve_one(&server))
        ;
    return EXIT_SUCCESS;
}

/* ---- the sending process */

struct client {
    void *socket;
    float *gradients, *parameters;
    uint64_t elements;
};

static void keep(void *data, void *hint) {
    (void)data, (void)hint; /* the gradients stay */
}

static bool send_chunk(struct client *client, uint64_t first, uint32_t elements, bool pull) {
    const struct header header = {first, elements, pull};
    zmq_msg_t chunk;
    return zmq_send(client->socket, &header, sizeof header, ZMQ_SNDMORE) >= 0 &&
           zmq_msg_init_data(&chunk, client->gradients + first, elements * sizeof(float), keep, NULL) == 0 &&
           zmq_msg_send(&chunk, client->socket, 0) >= 0;
}

static bool take_answer(struct client *client) {
    struct header header;
    zmq_msg_t chunk;
    if (zmq_recv(client->socket, &header, sizeof header, 0) != (int)sizeof header)
        return false;
    if (!header.pull)
        return true;
    zmq_msg_init(&chunk);
    bool fine = zmq_msg_recv(&chunk, client->socket, 0) == (int)(header.elements * sizeof(float));
    if (fine)
        memcpy(client->parameters + header.first, zmq_msg_data(&chunk), zmq_msg_size(&chunk));
    zmq_msg_close(&chunk);
    return fine;
}

static bool push_tensor(struct client *client, bool pull) {
    unsigned under_way = 0;
    uint32_t chunk = LIMIT_CHUNK_BYTES / sizeof(float);
    for (uint64_t first = 0; first < client->elements || under_way > 0;) {
        if (first < client->elements && under_way < LIMIT_WINDOW) {
            uint64_t left = client->elements - first;
            uint32_t elements = left < chunk ? (uint32_t)left : chunk;
            if (!send_chunk(client, first, elements, pull))
                return false;
            first += elements;
            under_way++;
            continue;
        }
        if (!take_answer(client))
            return false;
        under_way--;
    }
    return true;
}

static bool obey(struct client *client, const struct process_order *order, struct process_report *report) {
    struct latency latency;
    bool fine = true;
    latency_begin(&latency);
    report->began_s = process_now_s();
    for (uint32_t i = 0; fine && i < order->count; i++)
        if (order->what == LIMIT_ZMQ_SMALL) {
            double began_s = process_now_s();
            fine = send_chunk(client, 0, LIMIT_SMALL_BYTES / sizeof(float), false) && take_answer(client);
            latency_add(&latency, process_now_s() - began_s);
        } else {
            fine = push_tensor(client, order->what == LIMIT_ZMQ_PUSHPULL);
        }
    report->ended_s = process_now_s();
    latency_end(&latency, &report->values[0], &report->values[1]);
    return fine;
}

struct client_context {
    const struct limit *limit;
    const char *endpoint;
};

static int drive(int fd, const void *context) {
    const struct client_context *given = context;
    struct process_report report = {0};
    struct process_order order;
    void *zmq = zmq_ctx_new();
    struct client client = {.socket = socket_open(zmq, ZMQ_DEALER),
                            .gradients = floats_new(given->limit->bytes, 1e-3f),
                            .parameters = floats_new(given->limit->bytes, 0),
                            .elements = given->limit->bytes / sizeof(float)};
    if (!client.gradients || !client.parameters || !client.socket || zmq_connect(client.socket, given->endpoint) != 0)
        return fail(fd, "cannot connect");
    (void)process_say(fd, &report);
    while (process_next(fd, &order)) {
        if (!obey(&client, &order, &report))
            return fail(fd, "cannot send");
        if (!process_say(fd, &report))
            break;
    }
    return EXIT_SUCCESS;
}

/* ---- the station */

enum lg_status limit_zmq_open(struct limit *limit, uint64_t bytes, struct lg_error *error) {
    struct process_report report, ready;
    *limit = (struct limit){.bytes = bytes};
    enum lg_status status = process_start(&limit->processes[0], "limit-zmq-in", serve, limit, &report, error);
    if (status != LG_OK)
        return status;
    const struct client_context context = {limit, report.text};
    status = process_start(&limit->processes[1], "limit-zmq-out", drive, &context, &ready, error);
    if (status != LG_OK)
        limit_close(limit);
    return status;
}

enum lg_status limit_zmq_run(struct probe *probe, struct figures *figures, struct lg_error *error) {
    struct limit *limit = probe->station;
    struct process_report report;
    const struct process_order order = {.what = probe->what, .count = probe->count};
    double cpu_s = process_cpu_s(&limit->processes[0]);
    enum lg_status status = process_ask(&limit->processes[1], &order, &report, error);
    if (status != LG_OK)
        return status;
    cpu_s = process_cpu_s(&limit->processes[0]) - cpu_s;
    probe->spent_s = report.ended_s - report.began_s;
    if (probe->what == LIMIT_ZMQ_SMALL)
        return probe_add_latency(probe, figures, &report, error);
    double gigabytes = (double)limit->bytes * probe->count / 1e9;
    status = probe_add(probe, figures, "", "GB/s", gigabytes / probe->spent_s, error);
    if (status == LG_OK)
        status = probe_add(probe, figures, ".cpu", "s/GB", cpu_s / gigabytes, error);
    return status;
}
