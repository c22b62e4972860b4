#include "client/link.h"

#include <stdio.h>

#define NS_PER_MS INT64_C(1000000)

enum { REST_LEAST_MS = 50, REST_MOST_MS = 1000, REOPEN_MS = 500, ATTEMPT_MS = 7000 };

void link_init(struct link *link, void *zmq, const char *endpoint) {
    *link = (struct link){.zmq = zmq, .backoff_ms = REST_LEAST_MS};
    link->fd = link->monitor_fd = -1;
    link->quiet = link->monitor_quiet = true;
    snprintf(link->endpoint, sizeof link->endpoint, "%s", endpoint);
}

void link_deinit(struct link *link) {
    net_monitor_close(&link->monitor);
    net_socket_close(link->socket);
    link->socket = NULL;
    link->fd = link->monitor_fd = -1;
    link->quiet = link->monitor_quiet = true;
}

static void rest(struct link *link, int64_t now_ns) {
    link_deinit(link);
    link->state = LINK_RESTING;
    link->until_ns = now_ns + link->backoff_ms * NS_PER_MS;
    link->backoff_ms = link->backoff_ms * 2 < REST_MOST_MS ? link->backoff_ms * 2 : REST_MOST_MS;
}

/* A peer that answers wrongly or not at all gets some rest, so that this does not become a storm. */
void link_reopen(struct link *link, int64_t now_ns) {
    link->backoff_ms = link->backoff_ms > REOPEN_MS ? link->backoff_ms : REOPEN_MS;
    rest(link, now_ns);
}

void link_stop(struct link *link) {
    link_deinit(link);
    link->state = LINK_RESTING;
    link->until_ns = INT64_MAX;
}

static enum link_change attempt(struct link *link, int64_t now_ns) {
    struct net_options options = {.no_reconnect = true};
    if (net_socket_open(link->zmq, NET_CLIENT, &options, &link->socket, NULL) != LG_OK ||
        net_monitor_open(&link->monitor, link->zmq, link->socket, NULL) != LG_OK ||
        net_connect(link->socket, link->endpoint, NULL) != LG_OK) {
        rest(link, now_ns);
        return LINK_CHANGE_FAILED;
    }
    link->opened++;
    link->fd = net_fd(link->socket);
    link->monitor_fd = net_fd(link->monitor.socket);
    link->quiet = link->monitor_quiet = false;
    link->state = LINK_CONNECTING;
    link->until_ns = now_ns + ATTEMPT_MS * NS_PER_MS;
    return LINK_CHANGE_NONE;
}

enum link_change link_tick(struct link *link, int64_t now_ns) {
    if (link->state == LINK_UP || now_ns < link->until_ns)
        return LINK_CHANGE_NONE;
    if (link->state == LINK_RESTING)
        return attempt(link, now_ns);
    rest(link, now_ns); /* a name that cannot be resolved gives no event */
    return LINK_CHANGE_FAILED;
}

enum link_change link_events(struct link *link, int64_t now_ns) {
    for (;;) {
        switch (link->monitor.socket ? net_monitor_next(&link->monitor) : NET_EVENT_NONE) {
        case NET_EVENT_NONE:
            link->monitor_quiet = true;
            return LINK_CHANGE_NONE;
        case NET_EVENT_UP:
            if (link->state != LINK_CONNECTING)
                continue;
            link->state = LINK_UP;
            link->backoff_ms = REST_LEAST_MS;
            return LINK_CHANGE_UP;
        case NET_EVENT_DOWN:
        case NET_EVENT_FAILED: {
            bool was_up = link->state == LINK_UP;
            rest(link, now_ns);
            return was_up ? LINK_CHANGE_DOWN : LINK_CHANGE_FAILED;
        }
        }
    }
}

enum lg_status link_send(struct link *link, struct net_message *message) {
    link->quiet = false;
    return net_send(link->socket, message);
}

enum lg_status link_receive(struct link *link, struct net_message *message) {
    enum lg_status status = net_receive(link->socket, message);
    link->quiet = status == LG_UNAVAILABLE;
    return status;
}

enum lg_status link_receive_soon(struct link *link, struct net_message *message) {
    enum lg_status status = net_receive_soon(link->socket, message);
    link->quiet = status == LG_UNAVAILABLE;
    return status;
}

void link_watch(const struct link *link, struct pollfd fds[LINK_FDS]) {
    fds[0] = (struct pollfd){.fd = link->fd, .events = POLLIN};
    fds[1] = (struct pollfd){.fd = link->monitor_fd, .events = POLLIN};
}

void link_polled(struct link *link, const struct pollfd fds[LINK_FDS]) {
    if (fds[0].revents && fds[0].fd == link->fd)
        link->quiet = false;
    if (fds[1].revents && fds[1].fd == link->monitor_fd)
        link->monitor_quiet = false;
}

int64_t link_next_ns(const struct link *link) {
    return link->state == LINK_UP ? INT64_MAX : link->until_ns;
}
