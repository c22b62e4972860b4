/* liblagoon, the caller's side: leases, what is reported about them, and progress. */
#include "client/client_internal.h"

#include <string.h>

static bool lease_over(const struct lg_client *client) {
    return client->shared.lease_there || client->shared.lease_finished || client->shared.ended.status != LG_OK;
}

static bool report_room(const struct lg_client *client) {
    for (size_t i = 0; i < CLIENT_REPORTS; i++)
        if (!client->shared.reports[i].used)
            return true;
    return client->shared.ended.status != LG_OK;
}

/* Hands out the lease ahead. Once the job is finished it stays so. */
static void take_lease(struct lg_client *client, struct lg_lease *lease) {
    struct client_shared *shared = &client->shared;
    struct lease_record *current = &client->current;
    if (shared->lease_there) {
        current->lease = shared->ahead.lease;
        memcpy(current->cuts, shared->ahead.cuts, shared->ahead.lease.cut_count * sizeof *current->cuts);
    } else
        current->lease = (struct lg_lease){.kind = LG_LEASE_FINISHED};
    current->lease.cuts = current->cuts;
    shared->lease_there = false;
    /* while the speed is unknown there is no telling when this one ends */
    shared->lease_wanted = current->lease.kind == LG_LEASE_TRAIN && !(shared->progress.samples_per_second > 0);
    *lease = current->lease;
}

/* With the mutex held. So that nobody waits for pushes of a trainer that has nothing to train on. */
static void wish_rest(struct lg_client *client, enum rest_wish wish) {
    if (!consistency_has(client->mode, CONSISTENCY_RESTS))
        return;
    client->shared.rest = wish;
    client->shared.at_rest = false;
    client_wish(client);
}

static bool rest_over(const struct lg_client *client) {
    return client->shared.at_rest || client->shared.ended.status != LG_OK;
}

enum lg_status lg_lease_next(struct lg_client *client, struct lg_lease *lease, struct lg_error *error) {
    struct client_shared *shared = &client->shared;
    pthread_mutex_lock(&client->mutex);
    enum lg_status status = client_ended(client, error);
    if (status == LG_OK && !lease_over(client)) {
        shared->lease_wanted = shared->lease_urgent = shared->lease_waiting = true;
        client_wish(client);
        wish_rest(client, REST_NOW);
        shared->activity = "waiting for a lease";
        status = client_wait(client, lease_over, &shared->coordinator_answers, "waiting for a lease", error);
        shared->activity = "training";
        shared->lease_waiting = false;
    }
    if (status == LG_OK)
        status = client_ended(client, error);
    if (status == LG_OK) {
        take_lease(client, lease);
        wish_rest(client, lease->kind == LG_LEASE_TRAIN ? REST_OVER : REST_APPLIED);
    }
    bool ask = status == LG_OK && shared->lease_wanted;
    if (ask)
        client_wish(client);
    client_show_ready(client);
    pthread_mutex_unlock(&client->mutex);
    if (ask)
        client_nudge(client);
    return status;
}

/* Leaves the report with the client, which repeats it until the coordinator has acknowledged it: training goes on while
 * the coordinator is away. Waits only while too many are unacknowledged. */
static enum lg_status report_add(struct lg_client *client, const struct wire_message *message, struct lg_error *error) {
    struct client_shared *shared = &client->shared;
    pthread_mutex_lock(&client->mutex);
    enum lg_status status = client_wait(client, report_room, NULL, "reporting to the coordinator", error);
    if (status == LG_OK)
        status = client_ended(client, error);
    for (size_t i = 0; status == LG_OK && i < CLIENT_REPORTS; i++) {
        if (shared->reports[i].used)
            continue;
        client_wish(client);
        shared->reports[i] = (struct report){.used = true, .order = ++shared->report_order, .message = *message};
        break;
    }
    client_show_ready(client);
    pthread_mutex_unlock(&client->mutex);
    client_nudge(client);
    return status;
}

/* Before the coordinator hears that a lease is done, and lets somebody evaluate: where no other lease follows at once,
 * the shards know that this trainer pushes nothing more for now, and have applied what waited for it alone. */
static enum lg_status rest_before_report(struct lg_client *client, struct lg_error *error) {
    struct client_shared *shared = &client->shared;
    enum lg_status status = LG_OK;
    pthread_mutex_lock(&client->mutex);
    bool follows = shared->lease_there && shared->ahead.lease.kind == LG_LEASE_TRAIN;
    if (consistency_has(client->mode, CONSISTENCY_RESTS) && !follows) {
        wish_rest(client, REST_NOW);
        status = client_wait(client, rest_over, &shared->shard_answers, "telling the shards that it rests", error);
    }
    pthread_mutex_unlock(&client->mutex);
    return status;
}

enum lg_status lg_lease_done(struct lg_client *client, const struct lg_lease *lease, struct lg_error *error) {
    enum lg_status status = rest_before_report(client, error);
    if (status != LG_OK)
        return status;
    struct wire_message message = {.kind = WIRE_LEASE_DONE,
                                   .lease_done = {.lease = lease->lease, .fence = lease->fence}};
    return report_add(client, &message, error);
}

enum lg_status lg_report_evaluation(struct lg_client *client, const struct lg_lease *lease, double loss,
                                    double accuracy, uint64_t predictions, struct lg_error *error) {
    struct wire_message message = {.kind = WIRE_EVAL_REPORT,
                                   .eval_report = {.lease = lease->lease,
                                                   .epoch = lease->epoch,
                                                   .loss = loss,
                                                   .accuracy = accuracy,
                                                   .predictions = predictions}};
    return report_add(client, &message, error);
}

void lg_report_progress(struct lg_client *client, const struct lg_progress *progress) {
    pthread_mutex_lock(&client->mutex);
    client->shared.progress = *progress;
    pthread_mutex_unlock(&client->mutex);
}
