/* A turn of the client's work, by whoever drives: takes the caller's wishes, drives the session and the talk with the
 * coordinator, receives what has come, and leaves outcomes. Nothing here waits. */
#include "client/client_internal.h"
#include "proto/wire_net.h"

#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>

#include "common/log.h"

enum { RECEIVE_BUDGET = 64, UNSENT_RETRY_MS = 5, LOCAL_RETRY_MS = 2, TROUBLE_MS = 200, IDLE_MS = 1000, UPLINK_MS = 20 };

/* ---- for the session */

/* ZeroMQ sends large payload from the caller's gradients: the push counts these loans. */
static void *lend_gradients(void *push, size_t at) {
    (void)at;
    atomic_fetch_add_explicit(&((struct push_call *)push)->loans, 1, memory_order_relaxed);
    return push;
}

static void give_back_gradients(void *data, void *hint) {
    struct push_call *push = hint;
    int wake_fd = push->wake_fd;
    (void)data;
    if (atomic_fetch_sub_explicit(&push->loans, 1, memory_order_acq_rel) == 1)
        (void)eventfd_write(wake_fd, 1);
}

/* Or from what the session has encoded, and keeps while there are loans of it. */
static void *lend_encoded(void *encoded, size_t at) {
    (void)at;
    atomic_fetch_add_explicit(&((struct session_encoded *)encoded)->loans, 1, memory_order_relaxed);
    return encoded;
}

static void give_back_encoded(void *data, void *hint) {
    (void)data;
    atomic_fetch_sub_explicit(&((struct session_encoded *)hint)->loans, 1, memory_order_release);
}

static enum lg_status add_push(struct lg_client *client, const struct wire_message *message, struct net_message *out) {
    size_t index = client->io.clocks[1] == message->push.clock;
    struct session_encoded *encoded = session_encoded(client->io.session);
    struct wire_net_lender lender = {&client->shared.pushes[index], lend_gradients, give_back_gradients};
    if (encoded)
        lender = (struct wire_net_lender){encoded, lend_encoded, give_back_encoded};
    return wire_net_add_lent(message, &lender, out);
}

bool client_send(void *context, uint32_t slot, const struct wire_message *message) {
    struct lg_client *client = context;
    struct shard_link *shard = &client->io.shards[slot];
    struct net_message *out = &client->io.out;
    struct wire_range ranges[WIRE_PAYLOAD_FRAMES_MAX];
    struct wire_message naming;
    if (shard->link.state != LINK_UP)
        return false;
    if (client_local_names(client, slot, message, &naming, ranges))
        message = &naming;
    enum lg_status status =
        message->kind == WIRE_PUSH && !message->push.ring ? add_push(client, message, out) : wire_net_add(message, out);
    if (status != LG_OK)
        net_message_clear(out);
    else
        status = link_send(&shard->link, out);
    shard->unsent = status != LG_OK;
    return status == LG_OK;
}

static void shard_lost(struct lg_client *client, uint32_t slot, const char *why) {
    struct shard_link *shard = &client->io.shards[slot];
    if (!shard->lost)
        log_warn("shard-lost", "shard %u at %s: %s; trying again", slot, shard->link.endpoint, why);
    shard->lost = true;
}

void client_reopen(void *context, uint32_t slot, const char *why) {
    struct lg_client *client = context;
    shard_lost(client, slot, why);
    client_local_lost(client, slot);
    link_reopen(&client->io.shards[slot].link, client_now_ns());
}

/* ---- outcomes */

void client_end(struct lg_client *client, enum lg_status status, const char *reason) {
    session_end(client->io.session, status, reason);
}

static void settle_pull(struct lg_client *client) {
    struct lg_error outcome = {0};
    outcome.status = session_pull_poll(client->io.session, &outcome);
    if (outcome.status == LG_UNAVAILABLE)
        return;
    client->io.pulling = false;
    pthread_mutex_lock(&client->mutex);
    client->shared.pull.outcome = outcome;
    client->shared.pull.places = session_pull_places(client->io.session, &client->shared.pull.place_count);
    client->shared.pull.state = CALL_DONE;
    pthread_mutex_unlock(&client->mutex);
}

/* The caller may have its buffer back: not before ZeroMQ is done with it. */
static void finish_push(struct lg_client *client, size_t index) {
    struct push_call *push = &client->shared.pushes[index];
    if (atomic_load_explicit(&push->loans, memory_order_acquire) > 0)
        return;
    client->io.answered[index] = false;
    pthread_mutex_lock(&client->mutex);
    push->state = CALL_DONE;
    pthread_mutex_unlock(&client->mutex);
}

static void settle_push(struct lg_client *client, size_t index) {
    struct push_call *push = &client->shared.pushes[index];
    struct session_push_result result = {0};
    struct lg_error outcome = {0};
    outcome.status = session_push_poll(client->io.session, push->ticket, &result, &outcome);
    if (outcome.status == LG_UNAVAILABLE)
        return;
    client->io.pushing[index] = false;
    client->io.answered[index] = true;
    if (outcome.status == LG_OK && result.cut_count > 0)
        memcpy(push->cuts, result.cuts, result.cut_count * sizeof *push->cuts);
    push->result = result;
    push->result.cuts = push->cuts;
    push->outcome = outcome;
    atomic_fetch_sub_explicit(&push->loans, 1, memory_order_relaxed);
}

/* Tells the caller that the session is over, once, and closes the connections to the shards: so what ZeroMQ still has
 * of the caller's buffers comes back. */
static void settle_end(struct lg_client *client) {
    struct client_io *io = &client->io;
    struct lg_error end = {0};
    if (io->shards_closed || session_status(io->session, &end) == LG_OK)
        return;
    for (uint32_t i = 0; i < io->shard_count; i++)
        link_stop(&io->shards[i].link);
    io->shards_closed = true;
    pthread_mutex_lock(&client->mutex);
    client->shared.ended = end;
    pthread_mutex_unlock(&client->mutex);
    log_warn("session-over", "the session is over: %s", end.message);
}

static void settle_rest(struct lg_client *client) {
    client->io.resting = false;
    pthread_mutex_lock(&client->mutex);
    client->shared.at_rest = true;
    pthread_mutex_unlock(&client->mutex);
}

static void settle_calls(struct lg_client *client) {
    struct client_io *io = &client->io;
    if (!io->session)
        return;
    if (session_progress(io->session) != io->progress) {
        pthread_mutex_lock(&client->mutex);
        client->shared.shard_answers += session_progress(io->session) - io->progress;
        pthread_mutex_unlock(&client->mutex);
        io->progress = session_progress(io->session);
    }
    settle_end(client);
    if (io->resting && session_at_rest(io->session))
        settle_rest(client);
    if (io->pulling)
        settle_pull(client);
    for (size_t i = 0; i < CLIENT_PUSHES; i++) {
        if (io->pushing[i])
            settle_push(client, i);
        if (io->answered[i])
            finish_push(client, i);
    }
}

static void look_for_trouble(struct lg_client *client, int64_t now_ns) {
    struct client_io *io = &client->io;
    char text[CLIENT_TEXT_BYTES] = "";
    if (now_ns < io->trouble_ns)
        return;
    io->trouble_ns = now_ns + TROUBLE_MS * CLIENT_NS_PER_MS;
    if (io->session)
        session_describe(io->session, now_ns, text, sizeof text);
    if (!text[0])
        uplink_describe(client, text, sizeof text);
    pthread_mutex_lock(&client->mutex);
    memcpy(client->shared.trouble, text, sizeof text);
    pthread_mutex_unlock(&client->mutex);
}

/* ---- wishes */

/* False: it was refused, and the caller has been told. */
static bool open_pull(struct lg_client *client, const struct pull_call *call, int64_t now_ns) {
    struct client_io *io = &client->io;
    struct lg_error error = {0};
    enum lg_status status = call->to_places ? session_pull_open_places(io->session, call->target, now_ns, &error)
                                            : session_pull_open(io->session, call->target, now_ns, &error);
    io->pulling = status == LG_OK;
    if (status == LG_OK)
        return true;
    pthread_mutex_lock(&client->mutex);
    client->shared.pull.outcome = error;
    client->shared.pull.state = CALL_DONE;
    pthread_mutex_unlock(&client->mutex);
    return false;
}

static void take_pull(struct lg_client *client, int64_t now_ns) {
    struct client_io *io = &client->io;
    struct pull_call *pull = &client->shared.pull;
    pthread_mutex_lock(&client->mutex);
    const struct pull_call call = *pull;
    const bool start = call.state == CALL_STARTED;
    if (start)
        pull->state = CALL_RUNNING;
    pull->give_up = pull->check = false;
    pull->forget = pull->forget && !start;
    pthread_mutex_unlock(&client->mutex);
    if (start && call.forget)
        session_pull_forget(io->session);
    if (start && !open_pull(client, &call, now_ns))
        return;
    if (call.check) {
        io->pulling = true;
        session_pull_check(io->session, now_ns);
    }
    if (call.give_up)
        session_pull_cancel(io->session);
}

static void fail_push(struct lg_client *client, size_t index, const struct lg_error *error) {
    struct push_call *push = &client->shared.pushes[index];
    pthread_mutex_lock(&client->mutex);
    push->outcome = *error;
    push->state = CALL_DONE;
    pthread_mutex_unlock(&client->mutex);
}

/* Opens the push if it is new and hands its marks to the session. */
static void take_push(struct lg_client *client, size_t index, int64_t now_ns) {
    struct client_io *io = &client->io;
    struct push_call *push = &client->shared.pushes[index];
    struct lg_error error = {0};
    pthread_mutex_lock(&client->mutex);
    bool start = push->state == CALL_STARTED;
    struct session_push spec = push->spec;
    if (start)
        push->state = CALL_RUNNING;
    pthread_mutex_unlock(&client->mutex);
    if (start) {
        error.status = session_push_open(io->session, &spec, now_ns, &push->ticket, &error);
        io->pushing[index] = error.status == LG_OK;
        io->clocks[index] = spec.clock;
        atomic_store_explicit(&push->loans, error.status == LG_OK, memory_order_relaxed);
        if (error.status != LG_OK)
            fail_push(client, index, &error);
    }
    while (io->pushing[index]) {
        struct ready_range range = {0, 0};
        pthread_mutex_lock(&client->mutex);
        if (push->ranges_taken < push->range_count)
            range = push->ranges[push->ranges_taken++];
        pthread_mutex_unlock(&client->mutex);
        if (range.count == 0)
            return;
        session_push_ready(io->session, range.first, range.count, now_ns);
    }
}

static void take_rest(struct lg_client *client, enum rest_wish wish, int64_t now_ns) {
    struct client_io *io = &client->io;
    if (wish == REST_OVER)
        session_work(io->session);
    else
        session_rest(io->session, wish == REST_APPLIED, now_ns);
    io->resting = wish != REST_OVER;
}

static void take_wishes(struct lg_client *client, int64_t now_ns) {
    struct client_io *io = &client->io;
    struct client_shared *shared = &client->shared;
    char give_up[CLIENT_TEXT_BYTES];
    pthread_mutex_lock(&client->mutex);
    bool stop = shared->stop;
    size_t older = shared->pushes[1].order < shared->pushes[0].order;
    memcpy(give_up, shared->give_up, sizeof give_up);
    enum rest_wish rest = io->session ? shared->rest : REST_NO_NEWS;
    shared->rest = io->session ? REST_NO_NEWS : shared->rest;
    pthread_mutex_unlock(&client->mutex);
    if (stop && io->leave_ns == 0) {
        bool polite = io->session_id != 0 && io->coordinator.state == LINK_UP &&
                      (!io->session || session_status(io->session, NULL) != LG_FENCED);
        io->leave_ns = now_ns + CLIENT_LEAVE_MS * CLIENT_NS_PER_MS;
        io->over = !polite;
    }
    if (!io->session)
        return;
    if (give_up[0])
        client_end(client, LG_TIMEOUT, give_up);
    /* a pull that was started after a push brings what the push did */
    take_push(client, older, now_ns);
    take_push(client, 1 - older, now_ns);
    if (rest != REST_NO_NEWS)
        take_rest(client, rest, now_ns);
    take_pull(client, now_ns);
}

/* ---- events */

static void shard_change(struct lg_client *client, uint32_t slot, enum link_change change, int64_t now_ns) {
    struct shard_link *shard = &client->io.shards[slot];
    switch (change) {
    case LINK_CHANGE_NONE:
        return;
    case LINK_CHANGE_UP:
        if (shard->lost)
            log_info("shard-back", "shard %u at %s is connected again", slot, shard->link.endpoint);
        shard->lost = shard->unsent = false;
        session_connected(client->io.session, slot, now_ns);
        return;
    case LINK_CHANGE_DOWN:
        shard_lost(client, slot, "the connection was lost");
        break;
    case LINK_CHANGE_FAILED:
        shard_lost(client, slot, "cannot connect: is the server running?");
        break;
    }
    client_local_lost(client, slot);
    session_disconnected(client->io.session, slot, now_ns);
}

static void uplink_change(struct lg_client *client, enum link_change change, int64_t now_ns) {
    if (change == LINK_CHANGE_UP)
        uplink_up(client, now_ns);
    else if (change != LINK_CHANGE_NONE)
        uplink_down(client, change == LINK_CHANGE_DOWN, now_ns);
}

static void tick_uplink(struct lg_client *client, int64_t now_ns) {
    struct client_io *io = &client->io;
    if (now_ns < io->uplink_ns)
        return;
    uplink_tick(client, now_ns);
    int64_t next_ns = uplink_next_ns(client), soon_ns = now_ns + UPLINK_MS * CLIENT_NS_PER_MS;
    io->uplink_ns = next_ns < soon_ns ? next_ns : soon_ns;
}

static void ticks(struct lg_client *client, int64_t now_ns) {
    struct client_io *io = &client->io;
    uplink_change(client, link_tick(&io->coordinator, now_ns), now_ns);
    tick_uplink(client, now_ns);
    if (!io->session)
        return;
    for (uint32_t i = 0; i < io->shard_count; i++) {
        shard_change(client, i, link_tick(&io->shards[i].link, now_ns), now_ns);
        if (io->shards[i].unsent) {
            io->shards[i].unsent = false;
            session_writable(io->session, i, now_ns);
        }
    }
    session_tick(io->session, now_ns);
    io->local_waiting = client_local_tick(client);
}

/* What arrived on the coordinator's socket; callbacks may close it. */
static void drain_coordinator(struct lg_client *client, int64_t now_ns) {
    struct client_io *io = &client->io;
    void *socket = io->coordinator.socket;
    for (int i = 0; i < RECEIVE_BUDGET && socket && io->coordinator.socket == socket; i++) {
        struct wire_message message;
        struct lg_error error = {0};
        enum lg_status status = link_receive(&io->coordinator, &io->in);
        if (status == LG_UNAVAILABLE || status == LG_IO)
            return;
        if (status == LG_OK)
            status = wire_net_decode(&io->in, 0, io->coordinator_arena, &message, &error);
        if (status == LG_OK)
            uplink_receive(client, &message, now_ns);
        else
            log_warn("malformed", "the coordinator sent a message that cannot be read: %s", error.message);
    }
}

/* Not beyond what is awaited: the caller of a short call goes on at once, without another look at the socket. */
static void drain_shard(struct lg_client *client, uint32_t slot, bool patient, int64_t now_ns) {
    struct client_io *io = &client->io;
    struct link *link = &io->shards[slot].link;
    void *socket = link->socket;
    for (int i = 0; i < RECEIVE_BUDGET && socket && link->socket == socket; i++) {
        struct wire_message message;
        struct lg_error error = {0};
        enum lg_status status = patient && i == 0 ? link_receive_soon(link, &io->in) : link_receive(link, &io->in);
        if (status == LG_UNAVAILABLE || status == LG_IO)
            return;
        if (status == LG_OK)
            status = wire_net_decode(&io->in, 0, io->shard_arena, &message, &error);
        if (status == LG_OK) {
            session_receive(io->session, slot, &message, now_ns);
            if (message.kind == WIRE_HELLO_REPLY)
                client_local_greeted(client, slot, message.hello_reply.local);
            if (session_idle(io->session))
                return;
            continue;
        }
        log_warn("malformed", "shard %u sent a message that cannot be read: %s", slot, error.message);
        session_disconnected(io->session, slot, now_ns);
        client_local_lost(client, slot);
        link_reopen(link, now_ns);
    }
}

int64_t client_due_ns(const struct lg_client *client, int64_t now_ns) {
    const struct client_io *io = &client->io;
    int64_t due = now_ns + IDLE_MS * CLIENT_NS_PER_MS;
    bool busy = io->pulling || io->pushing[0] || io->pushing[1];
    int64_t candidates[] = {link_next_ns(&io->coordinator), uplink_next_ns(client),
                            io->leave_ns ? io->leave_ns : INT64_MAX, busy ? io->trouble_ns : INT64_MAX};
    for (size_t i = 0; i < sizeof candidates / sizeof *candidates; i++)
        due = candidates[i] < due ? candidates[i] : due;
    for (uint32_t i = 0; io->session && i < io->shard_count; i++) {
        int64_t next = link_next_ns(&io->shards[i].link);
        if (io->shards[i].unsent && next > now_ns + UNSENT_RETRY_MS * CLIENT_NS_PER_MS)
            next = now_ns + UNSENT_RETRY_MS * CLIENT_NS_PER_MS;
        due = next < due ? next : due;
    }
    int64_t tick_ns = io->session ? session_next_tick_ns(io->session, now_ns) : -1;
    if (tick_ns >= 0 && now_ns + tick_ns < due)
        due = now_ns + tick_ns;
    if (io->local_waiting && due > now_ns + LOCAL_RETRY_MS * CLIENT_NS_PER_MS)
        due = now_ns + LOCAL_RETRY_MS * CLIENT_NS_PER_MS;
    return due;
}

/* There is nothing to do but to wait for the answer of the one shard. */
static bool answer_is_all(const struct lg_client *client, int64_t now_ns) {
    const struct client_io *io = &client->io;
    if (!io->session || io->shard_count != 1 || session_idle(io->session) || io->shards[0].link.state != LINK_UP)
        return false;
    bool others = !io->shards[0].link.monitor_quiet || !link_is_quiet(&io->coordinator) || io->lease.request != 0;
    for (size_t i = 0; i < CLIENT_PUSHES; i++)
        others = others || io->answered[i]; /* waits for ZeroMQ */
    return !others && client_due_ns(client, now_ns) > now_ns + NET_SOON_MS * CLIENT_NS_PER_MS;
}

/* Messages are taken before the news that their connection is gone. */
static void receive_all(struct lg_client *client, bool patient, int64_t now_ns) {
    struct client_io *io = &client->io;
    patient = patient && answer_is_all(client, now_ns);
    for (uint32_t i = 0; i < io->shard_count; i++) {
        struct link *link = &io->shards[i].link;
        if (!link->quiet || patient)
            drain_shard(client, i, patient, now_ns);
        if (!link->monitor_quiet)
            shard_change(client, i, link_events(link, now_ns), now_ns);
    }
    if (!io->coordinator.quiet)
        drain_coordinator(client, now_ns);
    if (!io->coordinator.monitor_quiet)
        uplink_change(client, link_events(&io->coordinator, now_ns), now_ns);
}

int64_t client_turn(struct lg_client *client, bool patient) {
    struct client_io *io = &client->io;
    int64_t now_ns = client_now_ns();
    if (atomic_exchange_explicit(&client->wished, false, memory_order_relaxed)) { /* the mutex orders the rest */
        io->uplink_ns = 0;
        take_wishes(client, now_ns);
    }
    ticks(client, now_ns);
    receive_all(client, patient, now_ns);
    settle_calls(client);
    look_for_trouble(client, now_ns);
    if (io->leave_ns != 0 && (now_ns >= io->leave_ns || io->coordinator.state != LINK_UP))
        io->over = true;
    return now_ns;
}

void client_close_links(struct lg_client *client) {
    struct client_io *io = &client->io;
    link_deinit(&io->coordinator);
    for (uint32_t i = 0; i < io->shard_count; i++) {
        link_deinit(&io->shards[i].link);
        local_link_deinit(&io->shards[i].local);
    }
}
