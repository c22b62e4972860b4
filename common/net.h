/* ZeroMQ sockets the way lagoon uses them. This is the only file that sets socket options.
 *
 * Servers are ROUTERs, clients are DEALERs, one per (client, server). ZeroMQ delivers whole messages or nothing, but
 * loses what was accepted when a connection breaks: acknowledgement and retry belong to the caller. Nothing here
 * blocks, but for net_receive_soon. A socket belongs to the thread that uses it. */
#ifndef LAGOON_COMMON_NET_H
#define LAGOON_COMMON_NET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>
#include <zmq.h>

#include "common/status.h"

enum {
    NET_FRAMES_MAX = 272,          /* routing id, header, unit table, 256 payload frames, and some to spare */
    NET_FRAME_BYTES_MAX = 8 << 20, /* ZMQ_MAXMSGSIZE: a peer that sends a larger frame is disconnected */
    NET_RECEIVE_BUDGET = 256,      /* messages a watch takes before it lets the loop turn */
    NET_SOON_MS = 5,               /* how long net_receive_soon waits */
    NET_ENDPOINT_BYTES = 256,      /* "tcp://host:port" with its NUL */
    NET_ROUTING_ID_BYTES_MAX = 255,
    NET_QUEUE = 8192, /* of a server, per peer: more than any peer that reads its answers has under way */
};

enum net_kind {
    NET_SERVER, /* ROUTER: frame 0 of every message is the peer's routing id; an unknown peer is an error on send */
    NET_CLIENT, /* DEALER */
};

struct net_options {
    bool no_reconnect;   /* RECONNECT_IVL -1: a lost connection stays lost, the caller opens a new socket */
    int connect_ms;      /* give up a connection attempt after this long; 0: 5 s */
    int64_t frame_bytes; /* largest frame taken; 0: NET_FRAME_BYTES_MAX */
    int queue;           /* messages to a peer that are kept while it does not take them; more are LG_UNAVAILABLE.
                          * 0: NET_QUEUE for servers, no bound for clients, whose own protocol bounds them */
};

/* Opens a socket of `ctx` with every option set; `options` may be NULL. net_socket_close takes it back: unsent
 * messages are dropped (linger 0). NULL is fine. */
LG_MUST_CHECK enum lg_status net_socket_open(void *ctx, enum net_kind kind, const struct net_options *options,
                                             void **out, struct lg_error *error);
void net_socket_close(void *socket);

/* Binds to `endpoint` ("tcp://127.0.0.1:0"; port 0 picks one) and writes the endpoint with the real port to `actual`.
 */
LG_MUST_CHECK enum lg_status net_bind(void *socket, const char *endpoint, char actual[NET_ENDPOINT_BYTES],
                                      struct lg_error *error);
/* Starts connecting (over IPv6 where the address is in brackets, else IPv4); success says only that the endpoint can be
 * read. Use a monitor to learn of the connection. */
LG_MUST_CHECK enum lg_status net_connect(void *socket, const char *endpoint, struct lg_error *error);

/* The fd that becomes readable when `socket` may have something to take; -1 on failure. It tells of news only: after a
 * send, or a receive that brought something, net_receive must have said LG_UNAVAILABLE before anyone relies on it. */
int net_fd(void *socket);

/* ---- messages */

/* A whole multipart message. A zeroed struct is empty. About 17 KiB: keep one per socket, not one per message. */
struct net_message {
    size_t count;
    zmq_msg_t frames[NET_FRAMES_MAX]; /* the first `count` are initialised and owned by the message */
};

void net_message_clear(struct net_message *message); /* closes all frames */
/* Appends a frame. `add` copies `bytes`; `add_move` takes the content of `frame` (then empty, still initialised);
 * `add_data` borrows `data` until `release(data, hint)` runs, maybe on ZeroMQ's I/O thread. On failure (the message is
 * full, or no memory) nothing is taken and LG_NO_MEMORY comes back. */
LG_MUST_CHECK enum lg_status net_message_add(struct net_message *message, const void *data, size_t bytes);
LG_MUST_CHECK enum lg_status net_message_add_move(struct net_message *message, zmq_msg_t *frame);
LG_MUST_CHECK enum lg_status net_message_add_data(struct net_message *message, void *data, size_t bytes,
                                                  void (*release)(void *data, void *hint), void *hint);
static inline const void *net_frame_data(const struct net_message *message, size_t at) {
    return zmq_msg_data((zmq_msg_t *)&message->frames[at]);
}
static inline size_t net_frame_bytes(const struct net_message *message, size_t at) {
    return zmq_msg_size(&message->frames[at]);
}
/* Sum over all frames. */
size_t net_message_bytes(const struct net_message *message);

/* Takes one whole message if one is there; what `message` held is closed first. LG_UNAVAILABLE: nothing there.
 * LG_MALFORMED: it had more than NET_FRAMES_MAX frames, all of them were taken and dropped. LG_IO: the context ended.
 */
LG_MUST_CHECK enum lg_status net_receive(void *socket, struct net_message *message);
/* The same, but waits for the message, up to NET_SOON_MS: for one that is as good as there, as this takes half the
 * system calls of poll(2) and net_receive. */
LG_MUST_CHECK enum lg_status net_receive_soon(void *socket, struct net_message *message);
/* Sends and always empties the message. LG_UNAVAILABLE: the peer is gone or not there yet, and nothing of the message
 * will arrive. LG_IO: the context ended. LG_INVALID: the message has no frames. */
LG_MUST_CHECK enum lg_status net_send(void *socket, struct net_message *message);

/* ---- connection events of a client socket */

enum net_event {
    NET_EVENT_NONE,
    NET_EVENT_UP,     /* the peer answered ZeroMQ's handshake */
    NET_EVENT_DOWN,   /* an established connection was lost */
    NET_EVENT_FAILED, /* an attempt to connect failed (refused, timed out, not ZeroMQ) */
};

struct net_monitor {
    void *monitored;
    void *socket; /* a PAIR that becomes readable with an event: give it to a watch or zmq_poll */
};

/* Start before net_connect, else the first event may be missed; close before the socket itself. */
LG_MUST_CHECK enum lg_status net_monitor_open(struct net_monitor *monitor, void *ctx, void *socket,
                                              struct lg_error *error);
void net_monitor_close(struct net_monitor *monitor);
/* The next event that matters, or NET_EVENT_NONE. */
enum net_event net_monitor_next(struct net_monitor *monitor);
/* What a message taken from the monitor's socket (by a watch) says; NET_EVENT_NONE for the ones that do not matter. */
enum net_event net_monitor_decode(const struct net_message *message);

/* ---- a ZeroMQ socket in a libuv loop */

/* ZMQ_FD is edge-triggered and a send may make the socket readable without an fd event, so the fd only wakes the loop;
 * `prepare` looks at ZMQ_EVENTS and keeps the loop from blocking with `idle`; `check` receives. All on the loop's
 * thread. The struct is the caller's and must stay until the close callback. */
struct net_watch {
    void *socket;
    void *data;
    /* One message; borrowed, closed after the call unless moved out. Or LG_MALFORMED with an empty message. */
    void (*on_message)(struct net_watch *watch, enum lg_status status, struct net_message *message);
    /* After every burst of `messages` >= 1; may be NULL: the place to flush what the messages led to. */
    void (*on_burst)(struct net_watch *watch, size_t messages);
    void (*on_closed)(struct net_watch *watch);
    uv_poll_t poll;
    uv_prepare_t prepare;
    uv_idle_t idle;
    uv_check_t check;
    int open_handles;
    bool closing;
    struct net_message message;
};

/* `data` and `on_burst` may be set in the struct before. The watch must be closed before its socket. */
LG_MUST_CHECK enum lg_status net_watch_start(struct net_watch *watch, uv_loop_t *loop, void *socket,
                                             void (*on_message)(struct net_watch *watch, enum lg_status status,
                                                                struct net_message *message),
                                             void *data, struct lg_error *error);
/* May be called from on_message: no further message is delivered. `on_closed` (may be NULL) runs on a later turn of
 * the loop; the socket may be closed as soon as net_watch_close has returned and the current callback has too. */
void net_watch_close(struct net_watch *watch, void (*on_closed)(struct net_watch *watch));

/* ---- addresses */

/* "host:port", "tcp://host:port", "[::1]:port", "tcp://[::1]:port" or "ipc:///path" as an endpoint. Port 0 and the
 * hosts "*", "0.0.0.0" and "[::]" are allowed only where `bind` is true; "localhost" then becomes 127.0.0.1. */
LG_MUST_CHECK enum lg_status net_endpoint_parse(const char *text, bool bind, char endpoint[NET_ENDPOINT_BYTES],
                                                struct lg_error *error);
/* Splits a tcp endpoint that net_endpoint_parse made; `host` without brackets. */
LG_MUST_CHECK enum lg_status net_endpoint_split(const char *endpoint, char host[NET_ENDPOINT_BYTES], uint16_t *port,
                                                struct lg_error *error);
/* True for 127.0.0.0/8, ::1, localhost and ipc. */
bool net_is_loopback(const char *endpoint);
/* The endpoint others should connect to: `advertise` ("host" or "host:port", a missing or 0 port is the bound one)
 * where it is set, else `bound` itself. Bound to all addresses with nothing to advertise is an error that says what to
 * set. */
LG_MUST_CHECK enum lg_status net_advertise(const char *bound, const char *advertise, char endpoint[NET_ENDPOINT_BYTES],
                                           struct lg_error *error);

#endif
