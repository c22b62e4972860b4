/* The client's talk with the coordinator, what it is answered. */
#include "client/client_internal.h"

#include <stdio.h>
#include <string.h>

#include "common/log.h"

enum { RETRY_LEAST_MS = 20, RETRY_MOST_MS = 5000, REFUSED_RETRY_MS = 500 };

static int64_t retry_at(int64_t now_ns, uint64_t ms) {
    int64_t bounded = ms < RETRY_LEAST_MS ? RETRY_LEAST_MS : ms > RETRY_MOST_MS ? RETRY_MOST_MS : (int64_t)ms;
    return now_ns + bounded * CLIENT_NS_PER_MS;
}

/* Logs why something waits, once for each reason. */
static void tell(struct client_io *io, const char *id, const char *what, const char *reason) {
    char text[CLIENT_TEXT_BYTES];
    snprintf(text, sizeof text, "%.100s: %.150s", what, reason && reason[0] ? reason : "not ready yet");
    if (strcmp(text, io->told) == 0)
        return;
    memcpy(io->told, text, sizeof text);
    log_info(id, "%s", text);
}

/* ---- join */

static void join_over(struct lg_client *client, const struct lg_error *outcome) {
    pthread_mutex_lock(&client->mutex);
    client->shared.join_outcome = *outcome;
    client->shared.joined = outcome->status == LG_OK;
    pthread_mutex_unlock(&client->mutex);
}

static void join_refused(struct lg_client *client, uint32_t status, const char *reason) {
    struct lg_error outcome = {0};
    (void)lg_fail(&outcome, (enum lg_status)status, "cannot join job \"%s\": %s", client->job,
                  reason[0] ? reason : lg_status_text((enum lg_status)status));
    join_over(client, &outcome);
}

static void join_answer(struct lg_client *client, const struct wire_message *message, int64_t now_ns) {
    struct client_io *io = &client->io;
    const struct wire_join_reply *reply = &message->join_reply;
    if (uplink_joined(&client->io) || io->join.request == 0 || message->request != io->join.request)
        return;
    io->join.request = 0;
    if (reply->status == LG_UNAVAILABLE) {
        char what[CLIENT_TEXT_BYTES];
        snprintf(what, sizeof what, "waiting to join job \"%.64s\"", client->job);
        tell(io, "join-wait", what, reply->reason);
        io->join_ns = retry_at(now_ns, reply->retry_ms);
        return;
    }
    io->join_ns = INT64_MAX; /* one verdict is enough */
    if (reply->status != LG_OK) {
        join_refused(client, reply->status, reply->reason);
        return;
    }
    struct lg_error outcome = {.status = LG_OK};
    outcome.status = client_join_accept(client, message, &outcome);
    io->told[0] = '\0';
    io->beat_ns = now_ns;
    join_over(client, &outcome);
}

/* ---- leases */

/* What the current answer leaves to be waited for. */
static void lease_wait(struct lg_client *client, uint64_t retry_ms, const char *reason, int64_t now_ns) {
    struct client_io *io = &client->io;
    pthread_mutex_lock(&client->mutex);
    bool waiting = client->shared.lease_waiting;
    pthread_mutex_unlock(&client->mutex);
    if (waiting && reason && reason[0])
        tell(io, "lease-wait", "waiting for a lease", reason);
    io->lease_ns = retry_at(now_ns, retry_ms);
}

static void lease_take(struct lg_client *client, const struct wire_lease_grant *grant) {
    struct client_shared *shared = &client->shared;
    static const enum lg_lease_kind kinds[] = {[WIRE_LEASE_TRAIN] = LG_LEASE_TRAIN,
                                               [WIRE_LEASE_EVALUATE] = LG_LEASE_EVALUATE,
                                               [WIRE_LEASE_INITIALISE] = LG_LEASE_INITIALISE,
                                               [WIRE_LEASE_FINISHED] = LG_LEASE_FINISHED};
    client->io.told[0] = '\0';
    pthread_mutex_lock(&client->mutex);
    struct lease_record *ahead = &shared->ahead;
    ahead->lease = (struct lg_lease){.kind = kinds[grant->kind],
                                     .lease = grant->lease,
                                     .fence = grant->fence,
                                     .epoch = grant->epoch,
                                     .first = grant->first,
                                     .end = grant->end};
    ahead->lease.cut_count = grant->cut_count < CLIENT_CUTS_MAX ? grant->cut_count : CLIENT_CUTS_MAX;
    if (ahead->lease.cut_count > 0)
        memcpy(ahead->cuts, grant->cuts, ahead->lease.cut_count * sizeof *ahead->cuts);
    shared->lease_there = true;
    shared->lease_finished = grant->kind == WIRE_LEASE_FINISHED;
    shared->lease_wanted = shared->lease_urgent = false;
    pthread_mutex_unlock(&client->mutex);
}

static void lease_answer(struct lg_client *client, const struct wire_message *message, int64_t now_ns) {
    struct client_io *io = &client->io;
    const struct wire_lease_grant *grant = &message->lease_grant;
    if (io->lease.request == 0 || message->request != io->lease.request)
        return;
    io->lease.request = 0;
    if (grant->status == LG_UNAVAILABLE || (grant->status == LG_OK && grant->kind == WIRE_LEASE_WAIT))
        lease_wait(client, grant->retry_ms, grant->reason, now_ns);
    else if (grant->status != LG_OK)
        client_end(client, (enum lg_status)grant->status, grant->reason);
    else
        lease_take(client, grant);
}

/* ---- reports and refusals */

static bool ends(uint32_t status) {
    return status == LG_FENCED || status == LG_CANCELLED || status == LG_NOT_FOUND || status == LG_DENIED;
}

static void acknowledged(struct lg_client *client, uint64_t request, uint32_t status, const char *reason,
                         int64_t now_ns) {
    struct client_io *io = &client->io;
    if (io->leave.request != 0 && request == io->leave.request) {
        io->over = true;
        return;
    }
    pthread_mutex_lock(&client->mutex);
    struct report *report = NULL;
    for (size_t i = 0; request != 0 && i < CLIENT_REPORTS; i++) /* those that were not sent yet have number 0 */
        if (client->shared.reports[i].used && client->shared.reports[i].message.request == request)
            report = &client->shared.reports[i];
    bool again = report && status == LG_UNAVAILABLE;
    if (report && !again)
        report->used = false;
    if (again)
        report->sent = false;
    pthread_mutex_unlock(&client->mutex);
    if (again)
        io->report_ns = now_ns + REFUSED_RETRY_MS * CLIENT_NS_PER_MS;
    if (!report || status == LG_OK || again)
        return;
    if (ends(status) && status != LG_NOT_FOUND)
        client_end(client, (enum lg_status)status, reason);
    else
        log_warn("report-refused", "the coordinator refused a report about a lease: %s", reason);
}

static void refused(struct lg_client *client, const struct wire_message *message, int64_t now_ns) {
    struct client_io *io = &client->io;
    const struct wire_error *refusal = &message->error;
    uint64_t request = message->request;
    if (request != 0 && request == io->join.request) {
        struct wire_message reply = {
            .kind = WIRE_JOIN_REPLY,
            .request = request,
            .join_reply = {.status = refusal->status ? refusal->status : LG_INTERNAL, .reason = refusal->reason}};
        join_answer(client, &reply, now_ns);
    } else if (request != 0 && request == io->lease.request) {
        struct wire_message reply = {
            .kind = WIRE_LEASE_GRANT,
            .request = request,
            .lease_grant = {.status = refusal->status ? refusal->status : LG_INTERNAL, .reason = refusal->reason}};
        lease_answer(client, &reply, now_ns);
    } else if (ends(refusal->status) && uplink_joined(&client->io))
        client_end(client, (enum lg_status)refusal->status, refusal->reason);
    else
        acknowledged(client, request, refusal->status, refusal->reason, now_ns);
}

/* Whether anything that was asked is still unanswered. */
static bool answers_due(const struct client_io *io) {
    return io->join.request || io->lease.request || io->leave.request;
}

void uplink_receive(struct lg_client *client, const struct wire_message *message, int64_t now_ns) {
    struct client_io *io = &client->io;
    switch (message->kind) {
    case WIRE_JOIN_REPLY:
        join_answer(client, message, now_ns);
        break;
    case WIRE_LEASE_GRANT:
        lease_answer(client, message, now_ns);
        break;
    case WIRE_ACK:
        acknowledged(client, message->request, message->ack.status, message->ack.reason, now_ns);
        break;
    case WIRE_TRAINER_BEAT_REPLY:
        if (uplink_joined(io) && ends(message->trainer_beat_reply.status))
            client_end(client, (enum lg_status)message->trainer_beat_reply.status, message->trainer_beat_reply.reason);
        break;
    case WIRE_ERROR:
        refused(client, message, now_ns);
        break;
    default:
        log_warn("unexpected", "the coordinator sent a %s, which is not for clients", wire_kind_name(message->kind));
        return;
    }
    io->uplink_ns = 0; /* something else may be due after this */
    io->silent_ns = answers_due(io) ? now_ns : 0;
    io->silence_told = false;
    pthread_mutex_lock(&client->mutex);
    client->shared.coordinator_answers++;
    pthread_mutex_unlock(&client->mutex);
}
