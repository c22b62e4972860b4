/* A client's connection to one server: a DEALER and its monitor. A lost connection stays lost; the link opens a new
 * socket after a while and says so, and its user greets and resends. One thread. */
#ifndef LAGOON_CLIENT_LINK_H
#define LAGOON_CLIENT_LINK_H

#include "common/net.h"

enum link_state { LINK_RESTING, LINK_CONNECTING, LINK_UP };
enum link_change { LINK_CHANGE_NONE, LINK_CHANGE_UP, LINK_CHANGE_DOWN, LINK_CHANGE_FAILED };

struct link {
    void *zmq;
    char endpoint[NET_ENDPOINT_BYTES];
    enum link_state state;
    void *socket; /* NULL while resting */
    struct net_monitor monitor;
    int64_t until_ns;   /* resting: next attempt; connecting: this attempt has failed then */
    int64_t backoff_ms; /* the next rest */
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
/* When link_tick is needed next. */
int64_t link_next_ns(const struct link *link);

#endif
