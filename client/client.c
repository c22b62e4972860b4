/* liblagoon, the caller's side: every call leaves a wish and drives the client until there is an outcome. */
#include "client/client_internal.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "common/units.h"

enum { TIMEOUT_MS = 60000, SOCKETS_MAX = 8192, SHARD_ARENA_BYTES = 2 << 20, COORDINATOR_ARENA_BYTES = 16 << 20 };

int64_t client_now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* ---- waiting */

enum lg_status client_ended(const struct lg_client *client, struct lg_error *error) {
    if (client->shared.ended.status != LG_OK && error)
        *error = client->shared.ended;
    return client->shared.ended.status;
}

static enum lg_status fail_deadline(const struct lg_client *client, const char *what, struct lg_error *error) {
    char duration[UNITS_TEXT_BYTES];
    const char *trouble = client->shared.trouble;
    units_duration(client->options.timeout_ms, duration, sizeof duration);
    return lg_fail(error, LG_TIMEOUT, "%s; gave up %s after %s", trouble[0] ? trouble : "nothing happened", what,
                   duration);
}

enum lg_status client_wait(struct lg_client *client, bool (*over)(const struct lg_client *client),
                           const uint64_t *progress, const char *what, struct lg_error *error) {
    uint64_t before = progress ? *progress : 0;
    int64_t patience_ns = client->options.timeout_ms * CLIENT_NS_PER_MS;
    while (!client_drive(client, over, client_now_ns() + patience_ns)) {
        if (!progress || *progress == before)
            return fail_deadline(client, what, error);
        before = *progress;
    }
    return LG_OK;
}

/* ---- life */

static enum lg_status check_options(const struct lg_client_options *options, struct lg_error *error) {
    if (!options->coordinator || !options->job || !options->job[0])
        return lg_fail(error, LG_INVALID, "a client needs the coordinator's address and a job");
    if (strlen(options->job) >= CLIENT_TEXT_BYTES || (options->device && strlen(options->device) >= CLIENT_TEXT_BYTES))
        return lg_fail(error, LG_INVALID, "names of jobs and devices have at most %d characters",
                       CLIENT_TEXT_BYTES - 1);
    if ((options->role == LG_ROLE_TRAINER) != (options->tensors != NULL))
        return lg_fail(error, LG_INVALID, "trainers bring their model's tensors; other roles take the job's");
    return options->tensors ? tensor_table_check(options->tensors, options->tensor_count, error) : LG_OK;
}

static enum lg_status copy_options(struct lg_client *client, const struct lg_client_options *options,
                                   struct lg_error *error) {
    client->options = *options;
    client->options.timeout_ms = options->timeout_ms > 0 ? options->timeout_ms : TIMEOUT_MS;
    snprintf(client->job, sizeof client->job, "%s", options->job);
    snprintf(client->device, sizeof client->device, "%s", options->device ? options->device : "");
    client->options.job = client->job;
    client->options.device = client->device;
    client->options.coordinator = client->endpoint;
    client->options.tensors = NULL;
    if (options->tensors) {
        client->own_tensors = calloc(options->tensor_count, sizeof *client->own_tensors);
        if (!client->own_tensors)
            return lg_fail(error, LG_NO_MEMORY, "no memory for %zu tensors", options->tensor_count);
        memcpy(client->own_tensors, options->tensors, options->tensor_count * sizeof *client->own_tensors);
    }
    return net_endpoint_parse(options->coordinator, false, client->endpoint, error);
}

static enum lg_status make_parts(struct lg_client *client, struct lg_error *error) {
    struct client_io *io = &client->io;
    client->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    client->ready_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    client->zmq = zmq_ctx_new();
    if (client->zmq)
        zmq_ctx_set(client->zmq, ZMQ_MAX_SOCKETS, SOCKETS_MAX);
    io->coordinator_arena = wire_arena_new(COORDINATOR_ARENA_BYTES);
    io->shard_arena = wire_arena_new(SHARD_ARENA_BYTES);
    if (client->wake_fd < 0 || client->ready_fd < 0)
        return lg_fail(error, LG_IO, "cannot make an eventfd: %s", strerror(errno));
    if (!client->zmq || !io->coordinator_arena || !io->shard_arena)
        return lg_fail(error, LG_NO_MEMORY, "no memory for a client");
    link_init(&io->coordinator, client->zmq, client->endpoint);
    return LG_OK;
}

/* Signals belong to the caller's threads. */
static enum lg_status start_thread(struct lg_client *client, struct lg_error *error) {
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int code = pthread_create(&client->thread, NULL, client_run, client);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return code == 0 ? LG_OK : lg_fail(error, LG_NO_MEMORY, "cannot start the client's thread: %s", strerror(code));
}

static void stop_thread(struct lg_client *client, const char *reason) {
    pthread_mutex_lock(&client->mutex);
    client->shared.stop = true;
    client_wish(client);
    snprintf(client->shared.stop_reason, sizeof client->shared.stop_reason, "%s", reason ? reason : "");
    client_delegate(client);
    pthread_mutex_unlock(&client->mutex);
    pthread_join(client->thread, NULL);
}

static void client_free(struct lg_client *client) {
    struct client_io *io = &client->io;
    free(io->shards);
    wire_arena_free(io->coordinator_arena);
    wire_arena_free(io->shard_arena);
    net_message_clear(&io->in);
    net_message_clear(&io->out);
    if (client->zmq)
        zmq_ctx_term(
            client->zmq); /* waits for its threads: nothing of the caller's or the session's buffers is lent after it */
    session_free(io->session);
    if (client->wake_fd >= 0)
        close(client->wake_fd);
    if (client->ready_fd >= 0)
        close(client->ready_fd);
    for (size_t i = 0; i < CLIENT_PUSHES; i++) {
        free(client->shared.pushes[i].ready);
        free(client->shared.pushes[i].ranges);
        free(client->shared.pushes[i].cuts);
    }
    client_ring_free(client);
    client_encoding_deinit(client);
    free(client->own_tensors);
    free(client->tensors);
    config_free(client->spec);
    pthread_cond_destroy(&client->rest);
    pthread_mutex_destroy(&client->mutex);
    pthread_mutex_destroy(&client->drive);
    free(client);
}

static bool join_over(const struct lg_client *client) {
    return client->shared.join_outcome.status != LG_UNAVAILABLE;
}

/* A trainer waits as long as the coordinator answers: its job's turn comes. Others have a person waiting for them. */
static enum lg_status wait_for_join(struct lg_client *client, struct lg_error *error) {
    char what[CLIENT_TEXT_BYTES + 32];
    snprintf(what, sizeof what, "joining job \"%.64s\"", client->job);
    pthread_mutex_lock(&client->mutex);
    const uint64_t *patience = client->options.role == LG_ROLE_TRAINER ? &client->shared.coordinator_answers : NULL;
    enum lg_status status = client_wait(client, join_over, patience, what, error);
    if (status == LG_OK) {
        status = client->shared.join_outcome.status;
        if (status != LG_OK && error)
            *error = client->shared.join_outcome;
    }
    pthread_mutex_unlock(&client->mutex);
    return status;
}

static struct lg_client *client_alloc(void) {
    struct lg_client *client = calloc(1, sizeof *client);
    if (!client)
        return NULL;
    client->wake_fd = client->ready_fd = client->ring.fd = -1;
    atomic_init(&client->transport, "tcp");
    client->shared.join_outcome.status = LG_UNAVAILABLE;
    client->shared.activity = "starting";
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&client->rest, &monotonic);
    pthread_condattr_destroy(&monotonic);
    pthread_mutex_init(&client->mutex, NULL);
    pthread_mutex_init(&client->drive, NULL);
    return client;
}

enum lg_status lg_client_open(const struct lg_client_options *options, struct lg_client **out, struct lg_error *error) {
    *out = NULL;
    enum lg_status status = check_options(options, error);
    if (status != LG_OK)
        return status;
    struct lg_client *client = client_alloc();
    if (!client)
        return lg_fail(error, LG_NO_MEMORY, "no memory for a client");
    status = copy_options(client, options, error);
    if (status == LG_OK)
        status = make_parts(client, error);
    if (status == LG_OK)
        status = start_thread(client, error);
    if (status != LG_OK) {
        client_free(client);
        return status;
    }
    status = wait_for_join(client, error);
    if (status != LG_OK)
        lg_client_close(&client, "the join failed");
    *out = client;
    return status;
}

void lg_client_close(struct lg_client **client, const char *reason) {
    if (!*client)
        return;
    stop_thread(*client, reason);
    client_free(*client);
    *client = NULL;
}

const struct tensor_spec *lg_client_tensors(const struct lg_client *client, size_t *count) {
    *count = client->tensor_count;
    return client->tensors;
}

const char *lg_client_spec(const struct lg_client *client, const char *key) {
    return config_text(client->spec, key, NULL);
}

int lg_client_fd(const struct lg_client *client) {
    return client->ready_fd;
}
