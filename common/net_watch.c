/* ZeroMQ sockets in a libuv loop; declared in net.h. */
#include <errno.h>

#include "common/net.h"

/* The fd only wakes the loop; `check` does the work. */
static void on_poll(uv_poll_t *poll, int status, int events) {
    (void)poll;
    (void)status;
    (void)events;
}

static void on_idle(uv_idle_t *idle) {
    (void)idle;
}

/* Messages may be waiting without an fd event to come: then the loop must not block. */
static void on_prepare(uv_prepare_t *prepare) {
    struct net_watch *watch = prepare->data;
    int events = 0;
    size_t bytes = sizeof events;
    if (zmq_getsockopt(watch->socket, ZMQ_EVENTS, &events, &bytes) == 0 && (events & ZMQ_POLLIN))
        uv_idle_start(&watch->idle, on_idle);
}

static void on_check(uv_check_t *check) {
    struct net_watch *watch = check->data;
    size_t messages = 0;
    uv_idle_stop(&watch->idle);
    while (messages < NET_RECEIVE_BUDGET && !watch->closing) {
        enum lg_status status = net_receive(watch->socket, &watch->message);
        if (status != LG_OK && status != LG_MALFORMED)
            break;
        messages++;
        watch->on_message(watch, status, &watch->message);
    }
    net_message_clear(&watch->message);
    if (messages > 0 && !watch->closing && watch->on_burst)
        watch->on_burst(watch, messages);
}

enum lg_status net_watch_start(struct net_watch *watch, uv_loop_t *loop, void *socket,
                               void (*on_message)(struct net_watch *watch, enum lg_status status,
                                                  struct net_message *message),
                               void *data, struct lg_error *error) {
    int fd;
    size_t bytes = sizeof fd;
    if (zmq_getsockopt(socket, ZMQ_FD, &fd, &bytes) != 0)
        return lg_fail(error, LG_IO, "cannot watch a socket: %s", zmq_strerror(errno));
    int rc = uv_poll_init(loop, &watch->poll, fd);
    if (rc != 0)
        return lg_fail(error, LG_IO, "cannot watch a socket: %s", uv_strerror(rc));
    uv_prepare_init(loop, &watch->prepare);
    uv_idle_init(loop, &watch->idle);
    uv_check_init(loop, &watch->check);
    watch->socket = socket;
    watch->data = data;
    watch->on_message = on_message;
    watch->on_closed = NULL;
    watch->closing = false;
    watch->message.count = 0;
    watch->open_handles = 4;
    watch->poll.data = watch->prepare.data = watch->idle.data = watch->check.data = watch;
    uv_prepare_start(&watch->prepare, on_prepare);
    uv_check_start(&watch->check, on_check);
    rc = uv_poll_start(&watch->poll, UV_READABLE, on_poll);
    if (rc != 0) {
        net_watch_close(watch, NULL);
        return lg_fail(error, LG_IO, "cannot watch a socket: %s", uv_strerror(rc));
    }
    return LG_OK;
}

static void on_handle_closed(uv_handle_t *handle) {
    struct net_watch *watch = handle->data;
    if (--watch->open_handles == 0 && watch->on_closed)
        watch->on_closed(watch);
}

void net_watch_close(struct net_watch *watch, void (*on_closed)(struct net_watch *watch)) {
    if (watch->closing)
        return;
    watch->closing = true;
    watch->on_closed = on_closed;
    uv_close((uv_handle_t *)&watch->poll, on_handle_closed);
    uv_close((uv_handle_t *)&watch->prepare, on_handle_closed);
    uv_close((uv_handle_t *)&watch->idle, on_handle_closed);
    uv_close((uv_handle_t *)&watch->check, on_handle_closed);
}
