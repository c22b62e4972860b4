/* A client's connection to one server: a DEALER and its monitor. A lost connection stays lost; the link opens a new
 * socket after a while and says so, and its user greets and resends. One thread at a time. */
#ifndef LAGOON_CLIENT_LINK_H
#define LAGOON_CLIENT_LINK_H

#include <poll.h>

#include "common/net.h"

enum link_state { LINK_RESTING, LINK_CONNECTING, LINK_UP };
enum link_change { LINK_CHANGE_NONE, LINK_CHANGE_UP, LINK_CHANGE_DOWN, LINK_CHANGE_FAILED };

struct link {
    void *zmq;
    char endpoint[NET_ENDPOINT_BYTES];
    enum link_state state;
    void *socket; /* NULL while resting */
    struct net_monitor monitor;
    int fd, monitor_fd;        /* of the two, for poll(2); -1 while resting */
    bool quiet, monitor_quiet; /* nothing is there to be taken; the fd will tell when something comes */
    uint64_t opened;           /* sockets, so far */
    int64_t until_ns;          /* resting: next attempt; connecting: this attempt has failed then */
    int64_t backoff_ms;        /* the next rest */
};

/* Opens nothing yet. */
void link_init(struct link *link, void *zmq, const char *endpoint);
void link_deinit(struct link *link);
/* Starts an attempt where one is due, gives up one that takes too long. */
enum link_change link_tick(struct link *link, int64_t now_ns);
/* Reads the monitor. Down and failed links have closed their socket and rest. */
enum link_change link_events(struct link *link, int64_t now_ns);
/* Closes the socket; a new one comes after a short rest. */
void link_reopen(struct link *link, int64_t now_ns);
/* Closes the socket for good. What was not sent is dropped, and memory lent to it comes back soon. */
void link_stop(struct link *link);
/* Like net_send and net_receive; the link is quiet when there was nothing to receive, until the next send. */
LG_MUST_CHECK enum lg_status link_send(struct link *link, struct net_message *message);
LG_MUST_CHECK enum lg_status link_receive(struct link *link, struct net_message *message);
/* Like net_receive_soon. */
LG_MUST_CHECK enum lg_status link_receive_soon(struct link *link, struct net_message *message);
/* Which fds to poll, and what came of it: a link with news is not quiet any more. Between the two the link may have
 * changed its sockets. */
enum { LINK_FDS = 2 };
void link_watch(const struct link *link, struct pollfd fds[LINK_FDS]);
void link_polled(struct link *link, const struct pollfd fds[LINK_FDS]);
static inline bool link_is_quiet(const struct link *link) {
    return link->quiet && link->monitor_quiet;
}
/* When link_tick is needed next. */
int64_t link_next_ns(const struct link *link);

#endif
