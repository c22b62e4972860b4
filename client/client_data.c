/* liblagoon, the caller's side: pulls and pushes. */
#include "client/client_internal.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>

enum { GATHER_BYTES = WIRE_PART_BYTES / 4 };

/* ---- pulls */

static bool pull_over(const struct lg_client *client) {
    return client->shared.pull.state == CALL_DONE;
}

static enum lg_status pull_begin(struct lg_client *client, const struct pull_call *call, struct lg_error *error) {
    struct pull_call *pull = &client->shared.pull;
    enum lg_status status = LG_OK;
    pthread_mutex_lock(&client->mutex);
    if (client->shared.ended.status != LG_OK)
        status = client_ended(client, error);
    else if (pull->state != CALL_IDLE)
        status = lg_fail(error, LG_INVALID, "a pull is under way: %s comes before the next lg_pull_start",
                         pull->to_places ? "the last lg_pull_places" : "lg_pull_wait");
    else {
        bool forget = pull->forget;
        *pull = *call;
        pull->state = CALL_STARTED;
        pull->forget = forget;
        client_wish(client);
    }
    pthread_mutex_unlock(&client->mutex);
    return status;
}

/* Asking shards takes no time; copying out of their memory does, so that is the thread's. */
enum lg_status lg_pull_start(struct lg_client *client, float *parameters, struct lg_error *error) {
    enum lg_status status = pull_begin(client, &(struct pull_call){.target = parameters}, error);
    if (status != LG_OK)
        return status;
    if (client_shares_memory(client)) {
        pthread_mutex_lock(&client->mutex);
        client_delegate(client);
        pthread_mutex_unlock(&client->mutex);
    } else
        client_nudge(client);
    return LG_OK;
}

/* With the mutex held: the outcome. The buffer is let go of before this returns, also when the deadline has passed. */
static enum lg_status pull_settle(struct lg_client *client, struct lg_error *error) {
    struct pull_call *pull = &client->shared.pull;
    client->shared.activity = "pulling";
    enum lg_status status =
        client_wait(client, pull_over, &client->shared.shard_answers, "pulling the parameters", error);
    if (status != LG_OK) {
        pull->give_up = true;
        client_wish(client);
        (void)client_drive(client, pull_over, INT64_MAX);
    } else {
        status = pull->outcome.status;
        if (status != LG_OK && error)
            *error = pull->outcome;
    }
    client->shared.activity = "training";
    return status;
}

enum lg_status lg_pull_wait(struct lg_client *client, struct lg_error *error) {
    struct pull_call *pull = &client->shared.pull;
    enum lg_status status = LG_OK;
    pthread_mutex_lock(&client->mutex);
    if (pull->state == CALL_IDLE)
        status = lg_fail(error, LG_INVALID, "no pull was started");
    else if (pull->to_places)
        status = lg_fail(error, LG_INVALID, "what the caller copies is waited for by lg_pull_places");
    else {
        status = pull_settle(client, error);
        pull->state = CALL_IDLE;
        client_show_ready(client);
    }
    pthread_mutex_unlock(&client->mutex);
    return status;
}

enum lg_status lg_pull(struct lg_client *client, float *parameters, struct lg_error *error) {
    enum lg_status status = pull_begin(client, &(struct pull_call){.target = parameters}, error);
    return status == LG_OK ? lg_pull_wait(client, error) : status;
}

enum lg_status lg_pull_start_places(struct lg_client *client, float *parameters, struct lg_error *error) {
    enum lg_status status = pull_begin(client, &(struct pull_call){.target = parameters, .to_places = true}, error);
    if (status == LG_OK)
        client_nudge(client);
    return status;
}

/* With the mutex held: what was told has been copied. */
static void places_copied(struct lg_client *client, bool wait) {
    struct pull_call *pull = &client->shared.pull;
    pull->told = false;
    pull->check = true;
    pull->state = CALL_RUNNING;
    client_wish(client);
    if (!wait)
        client_delegate(client);
}

enum lg_status lg_pull_places(struct lg_client *client, bool wait, struct lg_place **places, size_t *count,
                              struct lg_error *error) {
    struct pull_call *pull = &client->shared.pull;
    enum lg_status status = LG_OK;
    *places = NULL;
    *count = 0;
    pthread_mutex_lock(&client->mutex);
    if (pull->state == CALL_IDLE || !pull->to_places) {
        status = lg_fail(error, LG_INVALID, "no pull with lg_pull_start_places was started");
        goto out;
    }
    if (pull->told)
        places_copied(client, wait);
    if (!wait && pull->state != CALL_DONE) {
        status = lg_fail(error, LG_UNAVAILABLE, "nothing is known yet of what is to be copied");
        goto out;
    }
    status = pull_settle(client, error);
    if (status == LG_OK && pull->place_count > 0) {
        *places = pull->places;
        *count = pull->place_count;
        pull->told = true;
    } else
        pull->state = CALL_IDLE;
    client_show_ready(client);
out:
    pthread_mutex_unlock(&client->mutex);
    return status;
}

void lg_pull_forget(struct lg_client *client) {
    pthread_mutex_lock(&client->mutex);
    client->shared.pull.forget = true;
    pthread_mutex_unlock(&client->mutex);
}

/* ---- pushes */

/* The push that was started last or first among the unfinished ones; NULL: none. */
static struct push_call *push_newest(struct lg_client *client) {
    struct push_call *found = NULL;
    for (size_t i = 0; i < CLIENT_PUSHES; i++) {
        struct push_call *push = &client->shared.pushes[i];
        if (push->state != CALL_IDLE && (!found || push->order > found->order))
            found = push;
    }
    return found;
}

static const struct push_call *push_oldest(const struct lg_client *client) {
    const struct push_call *found = NULL;
    for (size_t i = 0; i < CLIENT_PUSHES; i++) {
        const struct push_call *push = &client->shared.pushes[i];
        if (push->state != CALL_IDLE && (!found || push->order < found->order))
            found = push;
    }
    return found;
}

static bool push_over(const struct lg_client *client) {
    return push_oldest(client)->state == CALL_DONE;
}

static enum lg_status check_push(const struct lg_client *client, const struct lg_push *push, const float *gradients,
                                 struct lg_error *error) {
    if (client->options.role == LG_ROLE_OBSERVER)
        return lg_fail(error, LG_DENIED, "observers only pull");
    if (client->options.role == LG_ROLE_INITIALISER && !push->initial)
        return lg_fail(error, LG_DENIED, "initialisers push initial values only");
    if (!push->initial && push->samples == 0)
        return lg_fail(error, LG_INVALID, "a push of no samples");
    if (push->lease != 0 && !push->initial && push->first >= push->end)
        return lg_fail(error, LG_INVALID, "a push of the samples from %llu to %llu, which are none",
                       (unsigned long long)push->first, (unsigned long long)push->end);
    return client_encoding_check(client, push, gradients, error);
}

static void push_fill(struct lg_client *client, struct push_call *call, const struct lg_push *push,
                      const float *gradients) {
    bool leased = push->lease != 0 && !push->initial;
    call->cover = leased ? (struct wire_cover){.lease = push->lease,
                                               .fence = push->fence,
                                               .epoch = push->epoch,
                                               .first = push->first,
                                               .end = push->end,
                                               .samples = push->samples}
                         : (struct wire_cover){.samples = push->samples};
    call->spec = (struct session_push){.clock = ++client->clock,
                                       .kind = push->initial ? WIRE_PUSH_KIND_INITIAL
                                               : push->delta ? WIRE_PUSH_KIND_DELTA
                                                             : WIRE_PUSH_KIND_GRADIENT,
                                       .samples = push->samples,
                                       .local_steps = push->local_steps > 1 ? push->local_steps : 1,
                                       .covers = &call->cover,
                                       .cover_count = 1,
                                       .gradients = gradients,
                                       .encoded = push->encoded,
                                       .computed_from = push->computed_from,
                                       .parameters = push->parameters};
    call->order = ++client->push_order;
    call->unready = client->tensor_count;
    memset(call->ready, 0, client->tensor_count * sizeof *call->ready);
    call->range_count = call->ranges_taken = 0;
    call->untold_bytes = 0;
    call->spoilt.status = LG_OK;
    call->state = CALL_STARTED;
}

/* With less than a second of the lease at hand left, the next one is asked for. */
static void push_looks_ahead(struct lg_client *client, const struct lg_push *push) {
    const struct lg_lease *lease = &client->current.lease;
    double rate = client->shared.progress.samples_per_second;
    if (lease->kind == LG_LEASE_TRAIN && push->lease == lease->lease && push->lease != 0 && push->end <= lease->end &&
        (double)(lease->end - push->end) <= rate)
        client->shared.lease_wanted = true; /* looked at when the push goes out */
}

enum lg_status lg_push_start(struct lg_client *client, const struct lg_push *push, const float *gradients,
                             struct lg_error *error) {
    struct push_call *call = NULL;
    enum lg_status status = check_push(client, push, gradients, error);
    if (status != LG_OK)
        return status;
    pthread_mutex_lock(&client->mutex);
    const struct push_call *newest = push_newest(client);
    for (size_t i = 0; i < CLIENT_PUSHES; i++)
        if (client->shared.pushes[i].state == CALL_IDLE)
            call = &client->shared.pushes[i];
    if (client->shared.ended.status != LG_OK)
        status = client_ended(client, error);
    else if (newest && newest->unready > 0)
        status = lg_fail(error, LG_INVALID, "a push is open: mark all its tensors ready before the next one");
    else if (!call)
        status = lg_fail(error, LG_INVALID, "%d pushes are under way: lg_push_wait comes first", CLIENT_PUSHES);
    else {
        push_fill(client, call, push, gradients);
        push_looks_ahead(client, push);
    }
    pthread_mutex_unlock(&client->mutex);
    return status; /* there is nothing to send before a tensor is ready */
}

/* Marks what was not marked yet, as ranges; one that continues the last untaken one, from either side, is joined. */
static void mark(struct push_call *push, size_t tensor) {
    assert(push->ready && push->ranges); /* made when the client joined, for every tensor */
    if (push->ready[tensor])
        return;
    push->ready[tensor] = true;
    push->unready--;
    if (push->range_count > push->ranges_taken) {
        struct ready_range *last = &push->ranges[push->range_count - 1];
        bool below = last->first == tensor + 1, above = last->first + last->count == tensor;
        last->first -= below;
        last->count += below || above;
        if (below || above)
            return;
    }
    push->ranges[push->range_count++] = (struct ready_range){tensor, 1};
}

/* With the mutex held. True when there is enough to tell the session: small tensors are gathered. */
static bool push_mark(struct lg_client *client, size_t first_tensor, size_t count) {
    struct push_call *push = push_newest(client);
    for (size_t i = first_tensor; push && i < client->tensor_count && i - first_tensor < count; i++) {
        mark(push, i);
        push->untold_bytes += tensor_elements(&client->tensors[i]) * sizeof(float);
    }
    bool tell = push && (push->unready == 0 || push->untold_bytes >= GATHER_BYTES);
    if (tell) {
        push->untold_bytes = 0;
        client_wish(client);
    }
    return tell;
}

/* With the mutex held, which is let go of meanwhile. True where tensors of the open push may be marked. */
static bool push_look(struct lg_client *client, size_t first_tensor, size_t count) {
    struct push_call *push = push_newest(client);
    if (!push || !push->spec.encoded || push->unready == 0)
        return true;
    pthread_mutex_unlock(&client->mutex);
    if (push->spoilt.status == LG_OK)
        push->spoilt.status = client_encoding_look(client, push->spec.encoded, first_tensor, count, &push->spoilt);
    pthread_mutex_lock(&client->mutex);
    return push->spoilt.status == LG_OK;
}

void lg_push_ready(struct lg_client *client, size_t first_tensor, size_t count) {
    pthread_mutex_lock(&client->mutex);
    const struct push_call *push = push_newest(client);
    const bool encodes = client->encodes && push && !push->spec.encoded;
    bool tell = push_look(client, first_tensor, count) && push_mark(client, first_tensor, count);
    if (tell && encodes)
        client_delegate(client); /* encoding takes time, which the caller has better use for */
    pthread_mutex_unlock(&client->mutex);
    if (tell && !encodes)
        client_nudge(client);
}

/* A push whose deadline passed cannot be taken back: parts of it may be applied. So the session ends with it, and
 * nothing touches the gradients after this. */
static void push_give_up(struct lg_client *client, const char *why) {
    snprintf(client->shared.give_up, sizeof client->shared.give_up, "%.200s", why);
    client_wish(client);
    (void)client_drive(client, push_over, INT64_MAX);
}

static void push_report(struct lg_client *client, const struct push_call *push, struct lg_push_result *result) {
    client->cut_count = push->result.cut_count;
    if (client->cut_count > 0)
        memcpy(client->cuts, push->cuts, client->cut_count * sizeof *client->cuts);
    if (result)
        *result = (struct lg_push_result){.staleness_max = push->result.staleness_max,
                                          .weight_min = push->result.weight_min,
                                          .dropped = push->result.dropped,
                                          .skipped = push->result.skipped,
                                          .repeated = push->result.units_repeated > 0,
                                          .cut_count = push->result.cut_count};
}

enum lg_status lg_push_wait(struct lg_client *client, struct lg_push_result *result, struct lg_error *error) {
    enum lg_status status = LG_OK;
    client->cut_count = 0;
    pthread_mutex_lock(&client->mutex);
    struct push_call *push = (struct push_call *)push_oldest(client);
    if (!push)
        status = lg_fail(error, LG_INVALID, "no push was started");
    else if (push->unready > 0 && push->state != CALL_DONE && push->spoilt.status == LG_OK)
        status = lg_fail(error, LG_INVALID, "%zu tensors of the push are not marked ready", push->unready);
    if (status != LG_OK)
        goto out;
    client->shared.activity = "pushing";
    struct lg_error detail = push->spoilt;
    status = detail.status != LG_OK
                 ? detail.status
                 : client_wait(client, push_over, &client->shared.shard_answers, "pushing gradients", &detail);
    if (status != LG_OK)
        push_give_up(client, detail.message);
    else {
        status = push->outcome.status;
        detail = push->outcome;
    }
    if (status == LG_OK)
        push_report(client, push, result);
    else if (error)
        *error = detail;
    push->state = CALL_IDLE;
    client->shared.activity = "training";
    client_show_ready(client);
out:
    pthread_mutex_unlock(&client->mutex);
    return status;
}

enum lg_status lg_push(struct lg_client *client, const struct lg_push *push, const float *gradients,
                       struct lg_push_result *result, struct lg_error *error) {
    enum lg_status status = check_push(client, push, gradients, error);
    if (status == LG_OK && push->encoded)
        status = client_encoding_look(client, push->encoded, 0, client->tensor_count, error);
    if (status == LG_OK)
        status = lg_push_start(client, push, gradients, error);
    if (status != LG_OK)
        return status;
    pthread_mutex_lock(&client->mutex);
    (void)push_mark(client, 0, client->tensor_count);
    pthread_mutex_unlock(&client->mutex);
    return lg_push_wait(client, result, error);
}

float *lg_client_residual(struct lg_client *client, uint64_t *elements) {
    *elements = 0;
    pthread_mutex_lock(&client->drive);
    float *residual = client->io.session ? session_residual(client->io.session, elements) : NULL;
    pthread_mutex_unlock(&client->drive);
    return residual;
}

const uint64_t *lg_push_cuts(const struct lg_client *client, size_t *count) {
    *count = client->cut_count;
    return client->cuts;
}
