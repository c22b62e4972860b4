#include "common/http.h"

#include <arpa/inet.h>
#include <errno.h>
#include <microhttpd.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { CONNECTIONS = 32, IDLE_TIMEOUT_S = 30, CONNECTION_BYTES = 32 << 10, TOKEN_BYTES_MAX = 512, BACKLOG = 64 };

struct http_server {
    struct MHD_Daemon *daemon;
    struct http_route routes[HTTP_ROUTES_MAX];
    size_t route_count;
    char *token, *hosts; /* NULL: none */
    char url[96];
    uint16_t port;
    uv_poll_t poll;
    uv_timer_t timer;
    int open_handles;
    void (*on_closed)(void *data);
    void *closed_data;
};

/* ---- answering */

static enum MHD_Result answer(struct MHD_Connection *connection, unsigned status, const char *content_type,
                              struct buf *body) {
    size_t bytes = body->size;
    char *data = buf_take(body);
    if (!data)
        return MHD_NO; /* no memory: the connection is cut */
    struct MHD_Response *response = MHD_create_response_from_buffer(bytes, data, MHD_RESPMEM_MUST_FREE);
    if (!response) {
        free(data);
        return MHD_NO;
    }
    MHD_add_response_header(response, "Content-Type", content_type);
    MHD_add_response_header(response, "Cache-Control", "no-store");
    MHD_add_response_header(response, "X-Content-Type-Options", "nosniff");
    MHD_add_response_header(response, "Content-Security-Policy", "default-src 'self'");
    if (status == MHD_HTTP_METHOD_NOT_ALLOWED)
        MHD_add_response_header(response, "Allow", "GET, HEAD");
    if (status == MHD_HTTP_UNAUTHORIZED)
        MHD_add_response_header(response, "WWW-Authenticate", "Bearer");
    enum MHD_Result result = MHD_queue_response(connection, status, response);
    MHD_destroy_response(response);
    return result;
}

static enum MHD_Result answer_text(struct MHD_Connection *connection, unsigned status, const char *text) {
    struct buf body = {0};
    buf_printf(&body, "%s\n", text);
    return answer(connection, status, "text/plain; charset=utf-8", &body);
}

/* Whether `name` (length bytes) is in the comma-joined `list`; names have no case. */
static bool in_list(const char *list, const char *name, size_t length) {
    while (list && *list) {
        list += strspn(list, ", ");
        size_t here = strcspn(list, ", ");
        if (here == length && length > 0 && strncasecmp(list, name, length) == 0)
            return true;
        list += here;
    }
    return false;
}

/* A page elsewhere can point a name of its own at our address and make a browser ask us; then Host holds that name. So
 * names must be known; numeric addresses cannot be forged this way. */
static bool host_accepted(const struct http_server *server, const char *host) {
    char text[INET6_ADDRSTRLEN + 1];
    struct in6_addr address;
    bool bracketed = *host == '[';
    host += bracketed;
    size_t length = strcspn(host, bracketed ? "]" : ":");
    if (in_list("localhost", host, length) || in_list(server->hosts, host, length))
        return true;
    if (length >= sizeof text)
        return false;
    memcpy(text, host, length);
    text[length] = '\0';
    return inet_pton(bracketed ? AF_INET6 : AF_INET, text, &address) == 1;
}

/* Takes as long whatever the difference is. */
static bool token_accepted(const struct http_server *server, const char *authorization) {
    static const char scheme[] = "Bearer ";
    if (!server->token)
        return true;
    if (!authorization || strncasecmp(authorization, scheme, sizeof scheme - 1) != 0)
        return false;
    const char *given = authorization + sizeof scheme - 1;
    size_t length = strlen(server->token), given_length = strlen(given);
    unsigned char difference = given_length != length;
    for (size_t i = 0; i < length; i++)
        difference |= (unsigned char)(server->token[i] ^ (i < given_length ? given[i] : 0));
    return difference == 0;
}

static const struct http_route *find_route(const struct http_server *server, const char *path) {
    for (size_t i = 0; i < server->route_count; i++) {
        if (strcmp(server->routes[i].path, path) == 0)
            return &server->routes[i];
    }
    return NULL;
}

static enum MHD_Result answer_route(struct MHD_Connection *connection, const struct http_route *route) {
    struct http_reply reply = {.status = MHD_HTTP_OK, .content_type = "text/plain; charset=utf-8"};
    route->produce(route->data, &reply);
    return answer(connection, reply.status, reply.content_type, &reply.body);
}

static enum MHD_Result answer_unknown(const struct http_server *server, struct MHD_Connection *connection) {
    struct buf body = {0};
    buf_text(&body, "not found; this server has:");
    for (size_t i = 0; i < server->route_count; i++)
        buf_printf(&body, " %s", server->routes[i].path);
    buf_char(&body, '\n');
    return answer(connection, MHD_HTTP_NOT_FOUND, "text/plain; charset=utf-8", &body);
}

/* Called once when the headers are there, then for each piece of an upload, then to answer. */
static enum MHD_Result on_request(void *data, struct MHD_Connection *connection, const char *path, const char *method,
                                  const char *version, const char *upload, size_t *upload_bytes, void **state) {
    const struct http_server *server = data;
    static char headers_seen;
    (void)version;
    (void)upload;
    if (!*state) {
        *state = &headers_seen;
        return MHD_YES;
    }
    if (*upload_bytes > 0) { /* nobody here reads bodies */
        *upload_bytes = 0;
        return MHD_YES;
    }
    const char *host = MHD_lookup_connection_value(connection, MHD_HEADER_KIND, "Host");
    const char *authorization = MHD_lookup_connection_value(connection, MHD_HEADER_KIND, "Authorization");
    if (strcmp(method, "GET") != 0 && strcmp(method, "HEAD") != 0)
        return answer_text(connection, MHD_HTTP_METHOD_NOT_ALLOWED, "only GET and HEAD are offered");
    if (!host)
        return answer_text(connection, MHD_HTTP_BAD_REQUEST, "the Host header is missing");
    if (!host_accepted(server, host))
        return answer_text(connection, MHD_HTTP_MISDIRECTED_REQUEST,
                           "this server does not go by that name; use its address, or add the name to \"hosts\"");
    const struct http_route *route = find_route(server, path);
    if ((!route || !route->open) && !token_accepted(server, authorization))
        return answer_text(connection, MHD_HTTP_UNAUTHORIZED, "a bearer token is needed");
    return route ? answer_route(connection, route) : answer_unknown(server, connection);
}

/* ---- the loop */

static void on_timer(uv_timer_t *timer);

/* Lets libmicrohttpd work, then sleeps until it wants to be called again. */
static void turn(struct http_server *server) {
    MHD_UNSIGNED_LONG_LONG wait_ms;
    MHD_run(server->daemon);
    if (uv_is_closing((uv_handle_t *)&server->timer))
        return;
    if (MHD_get_timeout(server->daemon, &wait_ms) == MHD_YES)
        uv_timer_start(&server->timer, on_timer, wait_ms, 0);
    else
        uv_timer_stop(&server->timer);
}

static void on_timer(uv_timer_t *timer) {
    turn(timer->data);
}

static void on_poll(uv_poll_t *poll, int status, int events) {
    (void)status;
    (void)events;
    turn(poll->data);
}

/* ---- starting and stopping */

static void silence(void *data, const char *format, va_list args) {
    (void)data;
    (void)format;
    (void)args;
}

static void server_free(struct http_server *server) {
    if (server->daemon)
        MHD_stop_daemon(server->daemon); /* closes the listening socket and all connections */
    free(server->token);
    free(server->hosts);
    free(server);
}

union socket_address {
    struct sockaddr any;
    struct sockaddr_in four;
    struct sockaddr_in6 six;
};

static enum lg_status parse_address(const char *text, uint16_t port, union socket_address *address, socklen_t *bytes,
                                    bool *loopback, struct lg_error *error) {
    memset(address, 0, sizeof *address);
    if (inet_pton(AF_INET, text, &address->four.sin_addr) == 1) {
        address->four.sin_family = AF_INET;
        address->four.sin_port = htons(port);
        *bytes = sizeof address->four;
        *loopback = ntohl(address->four.sin_addr.s_addr) >> 24 == 127;
        return LG_OK;
    }
    if (inet_pton(AF_INET6, text, &address->six.sin6_addr) == 1) {
        address->six.sin6_family = AF_INET6;
        address->six.sin6_port = htons(port);
        *bytes = sizeof address->six;
        *loopback = IN6_IS_ADDR_LOOPBACK(&address->six.sin6_addr);
        return LG_OK;
    }
    return lg_fail(error, LG_INVALID, "http address \"%s\" is no numeric address; expected such as 127.0.0.1 or ::1",
                   text);
}

static enum lg_status open_listener(const char *text, union socket_address *address, socklen_t bytes, int *fd,
                                    struct lg_error *error) {
    int on = 1;
    *fd = socket(address->any.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (*fd < 0)
        return lg_fail(error, LG_IO, "cannot open the http socket: %s", strerror(errno));
    setsockopt(*fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(*fd, &address->any, bytes) == 0 && listen(*fd, BACKLOG) == 0 &&
        getsockname(*fd, &address->any, &bytes) == 0)
        return LG_OK;
    int code = errno;
    close(*fd);
    return lg_fail(error, code == EADDRINUSE ? LG_EXISTS : LG_IO,
                   "cannot serve http at %s port %u: %s; choose another http port or port 0", text,
                   ntohs(address->four.sin_port), code == EADDRINUSE ? "address already in use" : strerror(code));
}

static enum lg_status check_options(const struct http_options *options, size_t routes, bool loopback,
                                    struct lg_error *error) {
    const char *token = options->token ? options->token : "";
    if (routes > HTTP_ROUTES_MAX)
        return lg_fail(error, LG_INVALID, "%zu http routes: expected at most %d", routes, HTTP_ROUTES_MAX);
    if (strlen(token) > TOKEN_BYTES_MAX || strpbrk(token, " \t\r\n"))
        return lg_fail(error, LG_INVALID, "the http token must have at most %d characters and no spaces",
                       TOKEN_BYTES_MAX);
    if (!loopback && !*token && !options->exposed)
        return lg_fail(error, LG_DENIED,
                       "http at %s can be reached from other machines: set a token, or say that it is meant to be open",
                       options->address);
    return LG_OK;
}

static enum lg_status start_daemon(struct http_server *server, int listener, unsigned connections,
                                   struct lg_error *error) {
    server->daemon = MHD_start_daemon(MHD_USE_EPOLL | MHD_USE_ERROR_LOG, 0, NULL, NULL, on_request, server,
                                      MHD_OPTION_EXTERNAL_LOGGER, silence, NULL, MHD_OPTION_LISTEN_SOCKET, listener,
                                      MHD_OPTION_CONNECTION_LIMIT, connections ? connections : (unsigned)CONNECTIONS,
                                      MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)IDLE_TIMEOUT_S,
                                      MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)CONNECTION_BYTES, MHD_OPTION_END);
    if (server->daemon)
        return LG_OK;
    close(listener);
    return lg_fail(error, LG_IO, "cannot start the http server: libmicrohttpd refused");
}

/* Both handles are started only when nothing can fail any more, so failing needs no trip around the loop. */
static enum lg_status join_loop(struct http_server *server, uv_loop_t *loop, struct lg_error *error) {
    const union MHD_DaemonInfo *info = MHD_get_daemon_info(server->daemon, MHD_DAEMON_INFO_EPOLL_FD);
    int rc = info ? uv_poll_init(loop, &server->poll, info->epoll_fd) : UV_EINVAL;
    if (rc != 0)
        return lg_fail(error, LG_IO, "cannot watch the http socket: %s", uv_strerror(rc));
    uv_timer_init(loop, &server->timer);
    server->poll.data = server->timer.data = server;
    server->open_handles = 2;
    uv_poll_start(&server->poll, UV_READABLE, on_poll);
    uv_timer_start(&server->timer, on_timer, 0, 0);
    return LG_OK;
}

static enum lg_status copy_options(struct http_server *server, const struct http_options *options,
                                   const struct http_route *routes, size_t count, struct lg_error *error) {
    bool token = options->token && *options->token, hosts = options->hosts && *options->hosts;
    memcpy(server->routes, routes, count * sizeof *routes);
    server->route_count = count;
    server->token = token ? strdup(options->token) : NULL;
    server->hosts = hosts ? strdup(options->hosts) : NULL;
    if ((token && !server->token) || (hosts && !server->hosts))
        return lg_fail(error, LG_NO_MEMORY, "no memory for the http server");
    return LG_OK;
}

static void remember_address(struct http_server *server, const union socket_address *address) {
    char text[INET6_ADDRSTRLEN];
    bool six = address->any.sa_family == AF_INET6;
    inet_ntop(address->any.sa_family, six ? (const void *)&address->six.sin6_addr : &address->four.sin_addr, text,
              sizeof text);
    server->port = ntohs(address->four.sin_port); /* at the same place in both */
    snprintf(server->url, sizeof server->url, six ? "http://[%s]:%u" : "http://%s:%u", text, server->port);
}

enum lg_status http_start(uv_loop_t *loop, const struct http_options *options, const struct http_route *routes,
                          size_t count, struct http_server **out, struct lg_error *error) {
    const char *text = options->address ? options->address : "127.0.0.1";
    union socket_address address;
    socklen_t bytes = 0;
    bool loopback = false;
    int listener = -1;
    *out = NULL;
    struct http_server *server = calloc(1, sizeof *server);
    if (!server)
        return lg_fail(error, LG_NO_MEMORY, "no memory for the http server");
    enum lg_status status = parse_address(text, options->port, &address, &bytes, &loopback, error);
    if (status == LG_OK)
        status = check_options(options, count, loopback, error);
    if (status == LG_OK)
        status = copy_options(server, options, routes, count, error);
    if (status == LG_OK)
        status = open_listener(text, &address, bytes, &listener, error);
    if (status == LG_OK)
        status = start_daemon(server, listener, options->connections, error);
    if (status == LG_OK)
        status = join_loop(server, loop, error);
    if (status != LG_OK) {
        server_free(server);
        return status;
    }
    remember_address(server, &address);
    *out = server;
    return LG_OK;
}

uint16_t http_port(const struct http_server *server) {
    return server->port;
}

const char *http_url(const struct http_server *server) {
    return server->url;
}

static void on_handle_closed(uv_handle_t *handle) {
    struct http_server *server = handle->data;
    if (--server->open_handles > 0)
        return;
    void (*on_closed)(void *data) = server->on_closed;
    void *data = server->closed_data;
    server_free(server);
    if (on_closed)
        on_closed(data);
}

void http_close(struct http_server *server, void (*on_closed)(void *data), void *data) {
    if (!server || uv_is_closing((uv_handle_t *)&server->poll))
        return;
    server->on_closed = on_closed;
    server->closed_data = data;
    uv_close((uv_handle_t *)&server->poll, on_handle_closed);
    uv_close((uv_handle_t *)&server->timer, on_handle_closed);
}
