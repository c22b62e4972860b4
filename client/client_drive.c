/* Who drives the client: the caller while it waits, else the client's own thread. The rules are in client_internal.h.
 */
#include "client/client_internal.h"

#include <sys/eventfd.h>
#include <time.h>

/* After a call the thread rests so long, so that calls in close succession do not wake it each time. */
enum { REST_MS = 5 };

/* ---- polls, under `drive` but for the poll itself */

static bool links_quiet(const struct client_io *io) {
    bool quiet = link_is_quiet(&io->coordinator);
    for (uint32_t i = 0; quiet && i < io->shard_count; i++)
        quiet = link_is_quiet(&io->shards[i].link);
    return quiet;
}

/* Sockets that links have opened so far: a poll that began at another count misses some. */
static uint64_t sockets_opened(const struct client_io *io) {
    uint64_t count = io->coordinator.opened;
    for (uint32_t i = 0; i < io->shard_count; i++)
        count += io->shards[i].link.opened;
    return count;
}

static nfds_t watch(const struct lg_client *client, struct pollfd *fds) {
    const struct client_io *io = &client->io;
    fds[0] = (struct pollfd){.fd = client->wake_fd, .events = POLLIN};
    link_watch(&io->coordinator, &fds[1]);
    for (uint32_t i = 0; i < io->shard_count; i++)
        link_watch(&io->shards[i].link, &fds[CLIENT_FDS_FIXED + LINK_FDS * i]);
    return CLIENT_FDS_FIXED + LINK_FDS * (nfds_t)io->shard_count;
}

static void polled(struct lg_client *client, const struct pollfd *fds, nfds_t count) {
    struct client_io *io = &client->io;
    eventfd_t wakes;
    if (fds[0].revents)
        (void)eventfd_read(client->wake_fd, &wakes);
    link_polled(&io->coordinator, &fds[1]);
    for (uint32_t i = 0; i < io->shard_count && CLIENT_FDS_FIXED + LINK_FDS * i < count; i++)
        link_polled(&io->shards[i].link, &fds[CLIENT_FDS_FIXED + LINK_FDS * i]);
}

static int poll_ms(int64_t due_ns, int64_t now_ns) {
    return due_ns <= now_ns ? 0 : (int)((due_ns - now_ns) / CLIENT_NS_PER_MS) + 1;
}

static void wake(struct lg_client *client) {
    (void)eventfd_write(client->wake_fd, 1);
}

/* ---- the caller */

static void take_wheel(struct client_shared *shared) {
    shared->driven = true;
    shared->drives++;
    shared->take_over = false;
}

/* Something that the thread, as it polls, would not notice in time. */
static bool thread_misses(struct lg_client *client) {
    const struct client_io *io = &client->io;
    return !links_quiet(io) || sockets_opened(io) != io->thread_sockets ||
           client_due_ns(client, client_now_ns()) < io->thread_due_ns;
}

/* With both locks held; gives up `drive`. */
static void leave_wheel(struct lg_client *client) {
    const struct client_io *io = &client->io;
    struct client_shared *shared = &client->shared;
    bool in_flight = io->pulling;
    for (size_t i = 0; i < CLIENT_PUSHES; i++)
        in_flight = in_flight || io->pushing[i] || io->answered[i];
    shared->driven = false;
    if (shared->thread == THREAD_RESTS && in_flight) {
        shared->take_over = true;
        pthread_cond_signal(&client->rest);
    } else if (shared->thread == THREAD_POLLS && thread_misses(client))
        wake(client);
    pthread_mutex_unlock(&client->drive);
}

/* False: the deadline has passed. */
static bool wait_for_news(struct lg_client *client, int64_t now_ns, int64_t deadline_ns) {
    struct client_io *io = &client->io;
    if (now_ns >= deadline_ns)
        return false;
    int64_t due_ns = client_due_ns(client, now_ns);
    nfds_t count = watch(client, io->fds);
    int wait_ms = links_quiet(io) ? poll_ms(due_ns < deadline_ns ? due_ns : deadline_ns, now_ns) : 0;
    if (poll(io->fds, count, wait_ms) > 0) /* else the time has come, or a signal */
        polled(client, io->fds, count);
    return true;
}

bool client_drive(struct lg_client *client, bool (*over)(const struct lg_client *client), int64_t deadline_ns) {
    bool done = over(client);
    if (done)
        return true;
    take_wheel(&client->shared);
    pthread_mutex_unlock(&client->mutex);
    pthread_mutex_lock(&client->drive);
    for (bool in_time = true;;) {
        int64_t now_ns = client_turn(client, in_time);
        pthread_mutex_lock(&client->mutex);
        done = over(client);
        if (done || !in_time)
            break;
        pthread_mutex_unlock(&client->mutex);
        in_time = wait_for_news(client, now_ns, deadline_ns);
    }
    leave_wheel(client);
    return done;
}

void client_nudge(struct lg_client *client) {
    if (pthread_mutex_trylock(&client->drive) != 0) {
        wake(client); /* the thread works now, and looks for wishes again before it polls for long */
        return;
    }
    pthread_mutex_lock(&client->mutex);
    take_wheel(&client->shared);
    pthread_mutex_unlock(&client->mutex);
    (void)client_turn(client, false);
    pthread_mutex_lock(&client->mutex);
    leave_wheel(client);
    client_show_ready(client);
    pthread_mutex_unlock(&client->mutex);
}

void client_delegate(struct lg_client *client) {
    client->shared.take_over = true;
    pthread_cond_signal(&client->rest);
    wake(client);
}

void client_wish(struct lg_client *client) {
    atomic_store_explicit(&client->wished, true, memory_order_relaxed);
}

void client_show_ready(struct lg_client *client) {
    struct client_shared *shared = &client->shared;
    eventfd_t events;
    bool ready = shared->pull.state == CALL_DONE && !shared->pull.told;
    for (size_t i = 0; i < CLIENT_PUSHES; i++)
        ready = ready || shared->pushes[i].state == CALL_DONE;
    if (ready == shared->ready_told)
        return;
    shared->ready_told = ready;
    if (ready)
        (void)eventfd_write(client->ready_fd, 1);
    else
        (void)eventfd_read(client->ready_fd, &events);
}

/* ---- the thread */

/* While the caller drives, and until it has not done so for a moment or has left something in flight. */
static void rest(struct lg_client *client) {
    struct client_shared *shared = &client->shared;
    uint64_t seen;
    do {
        int64_t until_ns = client_now_ns() + REST_MS * CLIENT_NS_PER_MS;
        struct timespec until = {.tv_sec = (time_t)(until_ns / 1000000000), .tv_nsec = until_ns % 1000000000};
        seen = shared->drives;
        pthread_cond_timedwait(&client->rest, &client->mutex, &until);
    } while (!shared->stop && (shared->driven || (!shared->take_over && shared->drives != seen)));
}

/* Holds `drive` before and after, not meanwhile. */
static void thread_poll(struct lg_client *client, int64_t now_ns) {
    struct client_io *io = &client->io;
    nfds_t count = watch(client, client->fds);
    io->thread_due_ns = client_due_ns(client, now_ns);
    io->thread_sockets = sockets_opened(io);
    int wait_ms = links_quiet(io) ? poll_ms(io->thread_due_ns, now_ns) : 0;
    pthread_mutex_lock(&client->mutex);
    client->shared.thread = THREAD_POLLS;
    if (!client->shared.driven)
        client_show_ready(client);
    pthread_mutex_unlock(&client->mutex);
    pthread_mutex_unlock(&client->drive);

    bool news = poll(client->fds, count, wait_ms) > 0;

    pthread_mutex_lock(&client->mutex);
    if (client->shared.driven) {
        client->shared.thread = THREAD_RESTS;
        rest(client);
    }
    client->shared.thread = THREAD_WORKS;
    pthread_mutex_unlock(&client->mutex);
    pthread_mutex_lock(&client->drive);
    if (news)
        polled(client, client->fds, count);
}

void *client_run(void *context) {
    struct lg_client *client = context;
    pthread_mutex_lock(&client->drive);
    int64_t now_ns = client_turn(client, false);
    while (!client->io.over) {
        thread_poll(client, now_ns);
        now_ns = client_turn(client, false);
    }
    client_close_links(client);
    pthread_mutex_unlock(&client->drive);
    return NULL;
}
