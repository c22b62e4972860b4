#include "common/net.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

/* ---- sockets */

enum { CONNECT_MS = 5000, HANDSHAKE_MS = 5000, RECONNECT_MS = 100, RECONNECT_MAX_MS = 1000, RETRANSMIT_MS = 15000 };

/* Never ZMQ_HEARTBEAT_*: libzmq 4.3.4 can abort the process with it. Keepalive finds a partition in three seconds, our
 * own beats find a stopped process. TCP_MAXRT must be longer than a peer may be stopped and come back. */
static bool set_options(void *socket, enum net_kind kind, const struct net_options *options) {
    int reconnect = options->no_reconnect ? -1 : RECONNECT_MS;
    int connect_ms = options->connect_ms > 0 ? options->connect_ms : CONNECT_MS;
    int queue = options->queue > 0 || kind == NET_CLIENT ? options->queue : NET_QUEUE;
    const struct {
        int name, value;
    } settings[] = {
        {ZMQ_LINGER, 0},
        {ZMQ_RCVTIMEO, NET_SOON_MS},
        {ZMQ_RCVHWM, queue}, /* a full queue leaves the rest in TCP's buffers: the sender waits, nothing is lost */
        {ZMQ_SNDHWM, queue},
        {ZMQ_TCP_KEEPALIVE, 1},
        {ZMQ_TCP_KEEPALIVE_IDLE, 1},
        {ZMQ_TCP_KEEPALIVE_INTVL, 1},
        {ZMQ_TCP_KEEPALIVE_CNT, 2},
        {ZMQ_TCP_MAXRT, RETRANSMIT_MS},
        {ZMQ_HANDSHAKE_IVL, HANDSHAKE_MS},
        {ZMQ_CONNECT_TIMEOUT, connect_ms},
        {ZMQ_RECONNECT_IVL, reconnect},
        {ZMQ_RECONNECT_IVL_MAX, options->no_reconnect ? 0 : RECONNECT_MAX_MS},
    };
    int64_t frame_bytes = options->frame_bytes > 0 ? options->frame_bytes : NET_FRAME_BYTES_MAX;
    int mandatory = 1;
    bool fine = zmq_setsockopt(socket, ZMQ_MAXMSGSIZE, &frame_bytes, sizeof frame_bytes) == 0;
    for (size_t i = 0; i < sizeof settings / sizeof settings[0]; i++)
        fine = zmq_setsockopt(socket, settings[i].name, &settings[i].value, sizeof settings[i].value) == 0 && fine;
    if (kind == NET_SERVER)
        fine = zmq_setsockopt(socket, ZMQ_ROUTER_MANDATORY, &mandatory, sizeof mandatory) == 0 && fine;
    return fine;
}

enum lg_status net_socket_open(void *ctx, enum net_kind kind, const struct net_options *options, void **out,
                               struct lg_error *error) {
    static const struct net_options defaults = {0};
    *out = NULL;
    void *socket = zmq_socket(ctx, kind == NET_SERVER ? ZMQ_ROUTER : ZMQ_DEALER);
    if (!socket)
        return lg_fail(error, errno == EMFILE ? LG_NO_MEMORY : LG_IO,
                       "cannot open a socket: %s; raise the limit of open files (ulimit -n)", zmq_strerror(errno));
    if (!set_options(socket, kind, options ? options : &defaults)) {
        int code = errno;
        zmq_close(socket);
        return lg_fail(error, LG_IO, "cannot set the options of a socket: %s; libzmq 4.3 or later is needed",
                       zmq_strerror(code));
    }
    *out = socket;
    return LG_OK;
}

void net_socket_close(void *socket) {
    if (socket)
        zmq_close(socket);
}

/* IPv6 only where the address is written so: with it on, libzmq reports 127.0.0.1 as [::ffff:127.0.0.1] and takes a
 * name's IPv6 address although the server may be bound to the other one. */
static void choose_family(void *socket, const char *endpoint) {
    int six = strchr(endpoint, '[') != NULL;
    zmq_setsockopt(socket, ZMQ_IPV6, &six, sizeof six);
}

enum lg_status net_bind(void *socket, const char *endpoint, char actual[NET_ENDPOINT_BYTES], struct lg_error *error) {
    choose_family(socket, endpoint);
    if (zmq_bind(socket, endpoint) != 0) {
        int code = errno;
        const char *remedy = "use host:port, with an address of this machine";
        if (code == EADDRINUSE)
            remedy = "choose another bind address or port 0";
        else if (code == EACCES)
            remedy = "choose a port from 1024 up";
        return lg_fail(error, code == EADDRINUSE ? LG_EXISTS : LG_IO, "cannot bind \"%s\": %s; %s", endpoint,
                       code == EADDRINUSE ? "address already in use" : zmq_strerror(code), remedy);
    }
    size_t bytes = NET_ENDPOINT_BYTES;
    if (zmq_getsockopt(socket, ZMQ_LAST_ENDPOINT, actual, &bytes) != 0)
        return lg_fail(error, LG_IO, "cannot read back the address bound for \"%s\": %s", endpoint,
                       zmq_strerror(errno));
    return LG_OK;
}

enum lg_status net_connect(void *socket, const char *endpoint, struct lg_error *error) {
    choose_family(socket, endpoint);
    if (zmq_connect(socket, endpoint) != 0)
        return lg_fail(error, errno == EINVAL ? LG_INVALID : LG_IO, "cannot connect to \"%s\": %s; expected host:port",
                       endpoint, zmq_strerror(errno));
    return LG_OK;
}

int net_fd(void *socket) {
    int fd = -1;
    size_t bytes = sizeof fd;
    return zmq_getsockopt(socket, ZMQ_FD, &fd, &bytes) == 0 ? fd : -1;
}

/* ---- messages */

void net_message_clear(struct net_message *message) {
    for (size_t i = 0; i < message->count; i++)
        zmq_msg_close(&message->frames[i]);
    message->count = 0;
}

enum lg_status net_message_add(struct net_message *message, const void *data, size_t bytes) {
    if (message->count == NET_FRAMES_MAX || zmq_msg_init_size(&message->frames[message->count], bytes) != 0)
        return LG_NO_MEMORY;
    if (bytes > 0)
        memcpy(zmq_msg_data(&message->frames[message->count]), data, bytes);
    message->count++;
    return LG_OK;
}

enum lg_status net_message_add_move(struct net_message *message, zmq_msg_t *frame) {
    if (message->count == NET_FRAMES_MAX)
        return LG_NO_MEMORY;
    zmq_msg_init(&message->frames[message->count]);
    zmq_msg_move(&message->frames[message->count++], frame);
    return LG_OK;
}

enum lg_status net_message_add_data(struct net_message *message, void *data, size_t bytes,
                                    void (*release)(void *data, void *hint), void *hint) {
    if (message->count == NET_FRAMES_MAX ||
        zmq_msg_init_data(&message->frames[message->count], data, bytes, release, hint) != 0)
        return LG_NO_MEMORY;
    message->count++;
    return LG_OK;
}

size_t net_message_bytes(const struct net_message *message) {
    size_t bytes = 0;
    for (size_t i = 0; i < message->count; i++)
        bytes += net_frame_bytes(message, i);
    return bytes;
}

static enum lg_status receive_frame(void *socket, zmq_msg_t *frame, int flags) {
    int rc;
    do {
        rc = zmq_msg_recv(frame, socket, flags);
    } while (rc < 0 && errno == EINTR);
    return rc >= 0 ? LG_OK : errno == EAGAIN ? LG_UNAVAILABLE : LG_IO;
}

/* Takes the rest of a message that has too many frames. */
static enum lg_status drain(void *socket) {
    enum lg_status status = LG_OK;
    bool more = true;
    while (status == LG_OK && more) {
        zmq_msg_t frame;
        zmq_msg_init(&frame);
        status = receive_frame(socket, &frame, ZMQ_DONTWAIT);
        more = status == LG_OK && zmq_msg_more(&frame);
        zmq_msg_close(&frame);
    }
    return status == LG_OK ? LG_MALFORMED : status;
}

static enum lg_status receive(void *socket, struct net_message *message, int flags) {
    bool more = true;
    net_message_clear(message);
    while (more) {
        if (message->count == NET_FRAMES_MAX) {
            net_message_clear(message);
            return drain(socket);
        }
        zmq_msg_t *frame = &message->frames[message->count];
        zmq_msg_init(frame);
        enum lg_status status = receive_frame(socket, frame, flags);
        if (status != LG_OK) {
            zmq_msg_close(frame);
            net_message_clear(message);
            return status;
        }
        message->count++;
        more = zmq_msg_more(frame);
    }
    return LG_OK;
}

enum lg_status net_receive(void *socket, struct net_message *message) {
    return receive(socket, message, ZMQ_DONTWAIT);
}

enum lg_status net_receive_soon(void *socket, struct net_message *message) {
    return receive(socket, message, 0); /* ZMQ_RCVTIMEO is set; frames after the first are there with it */
}

/* When a frame is refused in mid-message, libzmq drops the ones after it, up to the last, only if it gets them. */
enum lg_status net_send(void *socket, struct net_message *message) {
    enum lg_status status = message->count > 0 ? LG_OK : LG_INVALID;
    for (size_t i = 0; i < message->count; i++) {
        int flags = ZMQ_DONTWAIT | (i + 1 < message->count ? ZMQ_SNDMORE : 0), rc;
        do {
            rc = zmq_msg_send(&message->frames[i], socket, flags);
        } while (rc < 0 && errno == EINTR);
        if (rc < 0 && status == LG_OK)
            status = errno == EAGAIN || errno == EHOSTUNREACH ? LG_UNAVAILABLE : LG_IO;
        if (rc < 0 && i == 0)
            break;
    }
    net_message_clear(message); /* frames that were sent are empty by now */
    return status;
}

/* ---- connection events */

enum lg_status net_monitor_open(struct net_monitor *monitor, void *ctx, void *socket, struct lg_error *error) {
    static _Atomic unsigned long number; /* inproc names must differ within the process */
    int events = ZMQ_EVENT_HANDSHAKE_SUCCEEDED | ZMQ_EVENT_DISCONNECTED | ZMQ_EVENT_CLOSED |
                 ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL | ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL |
                 ZMQ_EVENT_HANDSHAKE_FAILED_AUTH;
    char name[64];
    int linger = 0;
    *monitor = (struct net_monitor){0};
    snprintf(name, sizeof name, "inproc://lagoon-monitor-%lu", atomic_fetch_add(&number, 1));
    void *pair = zmq_socket(ctx, ZMQ_PAIR);
    if (!pair)
        return lg_fail(error, LG_IO, "cannot watch a connection: %s", zmq_strerror(errno));
    if (zmq_setsockopt(pair, ZMQ_LINGER, &linger, sizeof linger) != 0 ||
        zmq_socket_monitor(socket, name, events) != 0 || zmq_connect(pair, name) != 0) {
        int code = errno;
        zmq_socket_monitor(socket, NULL, 0);
        zmq_close(pair);
        return lg_fail(error, LG_IO, "cannot watch a connection: %s", zmq_strerror(code));
    }
    monitor->socket = pair;
    monitor->monitored = socket;
    return LG_OK;
}

void net_monitor_close(struct net_monitor *monitor) {
    if (!monitor->socket)
        return;
    zmq_socket_monitor(monitor->monitored, NULL, 0);
    zmq_close(monitor->socket);
    *monitor = (struct net_monitor){0};
}

static enum net_event decode_event(const void *frame, size_t bytes) {
    uint16_t event;
    if (bytes < sizeof event)
        return NET_EVENT_NONE;
    memcpy(&event, frame, sizeof event);
    switch (event) {
    case ZMQ_EVENT_HANDSHAKE_SUCCEEDED:
        return NET_EVENT_UP;
    case ZMQ_EVENT_DISCONNECTED:
        return NET_EVENT_DOWN;
    case ZMQ_EVENT_CLOSED:
    case ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL:
    case ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL:
    case ZMQ_EVENT_HANDSHAKE_FAILED_AUTH:
        return NET_EVENT_FAILED;
    default:
        return NET_EVENT_NONE;
    }
}

enum net_event net_monitor_decode(const struct net_message *message) {
    if (message->count != 2)
        return NET_EVENT_NONE;
    return decode_event(net_frame_data(message, 0), net_frame_bytes(message, 0));
}

enum net_event net_monitor_next(struct net_monitor *monitor) {
    enum net_event event = NET_EVENT_NONE;
    bool more = true;
    while (event == NET_EVENT_NONE && more) {
        zmq_msg_t number, address;
        zmq_msg_init(&number);
        zmq_msg_init(&address);
        more = receive_frame(monitor->socket, &number, ZMQ_DONTWAIT) == LG_OK;
        if (more)
            event = decode_event(zmq_msg_data(&number), zmq_msg_size(&number));
        if (more && zmq_msg_more(&number))
            more = receive_frame(monitor->socket, &address, ZMQ_DONTWAIT) == LG_OK;
        zmq_msg_close(&number);
        zmq_msg_close(&address);
    }
    return event;
}
