/* The client's talk with the coordinator, what it asks: join, leases, reports, beats, goodbye. The answers are taken in
 * client_answers.c.
 *
 * Every request is repeated under its own number on every new connection until it is answered, so a coordinator may go
 * away and come back; meanwhile training goes on with the lease at hand. */
#include "client/client_internal.h"
#include "proto/wire_net.h"

#include <stdio.h>
#include <string.h>

#include "common/log.h"

enum {
    SILENCE_TOLD_MS = 3000,   /* an answer is due for so long: say so */
    SILENCE_LIMIT_MS = 10000, /* ... and try a new connection */
    JOIN_LIMIT_MS = 30000     /* joins take longer: shards set aside memory */
};

/* ---- asking */

static bool uplink_send(struct client_io *io, const struct wire_message *message, int64_t now_ns) {
    if (wire_net_add(message, &io->out) != LG_OK) {
        net_message_clear(&io->out);
        log_warn("no-memory", "no memory for a %s message; trying again", wire_kind_name(message->kind));
        return false;
    }
    if (link_send(&io->coordinator, &io->out) != LG_OK)
        return false;
    if (io->silent_ns == 0)
        io->silent_ns = now_ns;
    return true;
}

static void ask_send(struct client_io *io, struct ask *ask, struct wire_message *message, int64_t now_ns) {
    if (ask->request == 0)
        ask->request = ++io->requests;
    message->request = ask->request;
    ask->sent = uplink_send(io, message, now_ns);
}

static void send_join(struct lg_client *client, int64_t now_ns) {
    static const enum wire_role roles[] = {[LG_ROLE_TRAINER] = WIRE_ROLE_TRAINER,
                                           [LG_ROLE_OBSERVER] = WIRE_ROLE_OBSERVER,
                                           [LG_ROLE_INITIALISER] = WIRE_ROLE_INITIALISER};
    const struct lg_client_options *options = &client->options;
    struct wire_message message = {.kind = WIRE_JOIN,
                                   .join = {.job = client->job,
                                            .role = roles[options->role],
                                            .trainer = options->trainer,
                                            .token = options->token,
                                            .dataset_fingerprint = options->dataset_fingerprint,
                                            .train_samples = options->train_samples,
                                            .test_samples = options->test_samples,
                                            .batch = options->batch,
                                            .device = client->device},
                                   .tensors = client->own_tensors,
                                   .tensor_count = client->own_tensors ? options->tensor_count : 0};
    ask_send(&client->io, &client->io.join, &message, now_ns);
}

/* The caller's thread changes wishes at any time; they are looked at under the mutex, and sent after it. */
static void lease_tick(struct lg_client *client, int64_t now_ns) {
    struct client_io *io = &client->io;
    pthread_mutex_lock(&client->mutex);
    struct client_shared *shared = &client->shared;
    bool wanted = shared->lease_wanted && !shared->lease_there && !shared->lease_finished &&
                  (shared->lease_urgent || now_ns >= io->lease_ns);
    double rate = shared->progress.samples_per_second;
    bool send = io->lease.request ? !io->lease.sent : wanted;
    if (send) {
        shared->lease_urgent = false;
        io->lease_ns = 0;
    }
    pthread_mutex_unlock(&client->mutex);
    if (!send)
        return;
    struct wire_message message = {
        .kind = WIRE_LEASE_REQUEST,
        .lease_request = {.session = io->session_id, .incarnation = io->incarnation, .samples_per_second = rate}};
    ask_send(io, &io->lease, &message, now_ns);
}

static void beat(struct lg_client *client, int64_t now_ns) {
    struct client_io *io = &client->io;
    char state[CLIENT_TEXT_BYTES];
    session_describe(io->session, now_ns, state, sizeof state);
    pthread_mutex_lock(&client->mutex);
    struct lg_progress progress = client->shared.progress;
    const char *activity = client->shared.activity;
    pthread_mutex_unlock(&client->mutex);
    struct wire_message message = {.kind = WIRE_TRAINER_BEAT,
                                   .request = ++io->requests,
                                   .trainer_beat = {.session = io->session_id,
                                                    .incarnation = io->incarnation,
                                                    .steps = progress.steps,
                                                    .samples = progress.samples,
                                                    .loss = progress.loss,
                                                    .accuracy = progress.accuracy,
                                                    .compute_ns = progress.compute_ns,
                                                    .communication_ns = progress.communication_ns,
                                                    .samples_per_second = progress.samples_per_second,
                                                    .state = state[0] ? state : activity,
                                                    .transport = lg_client_transport(client),
                                                    .staleness_mean = progress.staleness_mean,
                                                    .staleness_max = progress.staleness_max,
                                                    .weight_mean = progress.weight_mean,
                                                    .pushes_dropped = progress.pushes_dropped,
                                                    .parked = session_parked(io->session),
                                                    .read_ns = progress.read_ns,
                                                    .copy_ns = progress.copy_ns,
                                                    .copy_bytes = progress.copy_bytes,
                                                    .wait_ns = progress.wait_ns,
                                                    .tokens_per_second = progress.tokens_per_second,
                                                    .flops_per_second = progress.flops_per_second,
                                                    .flops_peak = progress.flops_peak,
                                                    .memory_used_bytes = progress.memory_used_bytes}};
    io->beat_ns = now_ns + CLIENT_BEAT_MS * CLIENT_NS_PER_MS;
    (void)uplink_send(io, &message, now_ns);
}

static void beat_tick(struct lg_client *client, int64_t now_ns) {
    if (now_ns >= client->io.beat_ns)
        beat(client, now_ns);
}

static struct report *next_report(struct client_shared *shared) {
    struct report *next = NULL;
    for (size_t i = 0; i < CLIENT_REPORTS; i++) {
        struct report *report = &shared->reports[i];
        if (report->used && !report->sent && (!next || report->order < next->order))
            next = report;
    }
    return next;
}

static void reports_tick(struct lg_client *client, int64_t now_ns) {
    struct client_io *io = &client->io;
    for (bool sent = now_ns >= io->report_ns; sent;) {
        pthread_mutex_lock(&client->mutex);
        struct report *report = next_report(&client->shared);
        struct wire_message message = {0};
        if (report) {
            if (report->message.request == 0)
                report->message.request = ++io->requests;
            message = report->message;
            report->sent = true;
        }
        pthread_mutex_unlock(&client->mutex);
        io->report_ns = 0;
        if (!report)
            return;
        beat(client, now_ns); /* numbers first: the job may be finished with this report */
        if (message.kind == WIRE_LEASE_DONE) {
            message.lease_done.session = io->session_id;
            message.lease_done.incarnation = io->incarnation;
        } else {
            message.eval_report.session = io->session_id;
            message.eval_report.incarnation = io->incarnation;
        }
        sent = uplink_send(io, &message, now_ns);
        if (!sent) {
            pthread_mutex_lock(&client->mutex);
            report->sent = false;
            pthread_mutex_unlock(&client->mutex);
        }
    }
}

static void leave_tick(struct lg_client *client, int64_t now_ns) {
    struct client_io *io = &client->io;
    if (io->leave.request && io->leave.sent)
        return;
    struct wire_message message = {
        .kind = WIRE_LEAVE,
        .leave = {.session = io->session_id, .incarnation = io->incarnation, .reason = client->shared.stop_reason}};
    ask_send(io, &io->leave, &message, now_ns);
}

static void silence_tick(struct lg_client *client, int64_t now_ns) {
    struct client_io *io = &client->io;
    int64_t silence_ms = io->silent_ns ? (now_ns - io->silent_ns) / CLIENT_NS_PER_MS : 0;
    if (silence_ms >= SILENCE_TOLD_MS && uplink_joined(io) && !io->silence_told) {
        log_warn("coordinator-silent", "the coordinator at %s has not answered for %d s; going on meanwhile",
                 io->coordinator.endpoint, SILENCE_TOLD_MS / 1000);
        io->silence_told = true;
    }
    if (silence_ms >= (uplink_joined(io) ? SILENCE_LIMIT_MS : JOIN_LIMIT_MS)) {
        link_reopen(&io->coordinator, now_ns);
        uplink_down(client, true, now_ns);
    }
}

void uplink_tick(struct lg_client *client, int64_t now_ns) {
    struct client_io *io = &client->io;
    if (io->coordinator.state != LINK_UP)
        return;
    if (io->leave_ns != 0) {
        if (uplink_alive(io))
            reports_tick(client, now_ns);
        if (uplink_alive(io) && io->leave.request == 0)
            beat(client, now_ns); /* its last numbers */
        leave_tick(client, now_ns);
    } else if (!uplink_joined(io)) {
        if (now_ns >= io->join_ns && (io->join.request == 0 || !io->join.sent))
            send_join(client, now_ns);
    } else if (uplink_alive(io)) {
        reports_tick(client, now_ns);
        lease_tick(client, now_ns);
        beat_tick(client, now_ns);
    }
    silence_tick(client, now_ns);
}

int64_t uplink_next_ns(const struct lg_client *client) {
    const struct client_io *io = &client->io;
    if (io->coordinator.state != LINK_UP)
        return INT64_MAX;
    if (!uplink_joined(io))
        return io->join.request ? INT64_MAX : io->join_ns;
    if (!uplink_alive(io) || io->leave_ns != 0)
        return INT64_MAX;
    int64_t next = io->beat_ns;
    if (io->lease.request == 0 && io->lease_ns > 0 && io->lease_ns < next)
        next = io->lease_ns;
    if (io->report_ns > 0 && io->report_ns < next)
        next = io->report_ns;
    return next;
}

/* ---- the connection */

void uplink_up(struct lg_client *client, int64_t now_ns) {
    struct client_io *io = &client->io;
    if (io->lost_told)
        log_info("coordinator-back", "reached the coordinator at %s", io->coordinator.endpoint);
    io->lost_told = io->silence_told = false;
    io->beat_ns = 0;
    uplink_tick(client, now_ns);
}

void uplink_down(struct lg_client *client, bool was_up, int64_t now_ns) {
    struct client_io *io = &client->io;
    (void)now_ns;
    if (!io->lost_told && was_up && uplink_joined(io))
        log_warn("coordinator-lost", "lost the coordinator at %s; going on with the work at hand, trying again",
                 io->coordinator.endpoint);
    else if (!io->lost_told)
        log_warn("coordinator-lost", "cannot reach the coordinator at %s: is it running? trying again",
                 io->coordinator.endpoint);
    io->lost_told = true;
    io->silent_ns = io->uplink_ns = 0;
    io->join.sent = io->lease.sent = io->leave.sent = false;
    pthread_mutex_lock(&client->mutex);
    for (size_t i = 0; i < CLIENT_REPORTS; i++)
        client->shared.reports[i].sent = false;
    pthread_mutex_unlock(&client->mutex);
}

void uplink_describe(const struct lg_client *client, char *text, size_t bytes) {
    const struct client_io *io = &client->io;
    if (io->coordinator.state != LINK_UP)
        snprintf(text, bytes,
                 "cannot reach the coordinator at %s: is it running? check the address, or start it with `lagoon up`",
                 io->coordinator.endpoint);
    else
        snprintf(text, bytes, "%s", io->told);
}
