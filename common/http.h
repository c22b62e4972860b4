/* A small HTTP server on a libuv loop (libmicrohttpd underneath): GET and HEAD of fixed paths, made for /metrics,
 * /stats.json and /healthz. Everything runs on the loop's thread; producers must not block. */
#ifndef LAGOON_COMMON_HTTP_H
#define LAGOON_COMMON_HTTP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

#include "common/buf.h"
#include "common/status.h"

struct http_reply {
    unsigned status;          /* 200 unless the producer sets another */
    const char *content_type; /* static string; "text/plain; charset=utf-8" unless set */
    struct buf body;          /* appended to by the producer */
};

struct http_route {
    const char *path; /* "/metrics"; static */
    bool open;        /* answered without the bearer token: for /healthz */
    void (*produce)(void *data, struct http_reply *reply);
    void *data;
};

enum { HTTP_ROUTES_MAX = 16 };

struct http_options {
    const char *address;  /* numeric address to bind; NULL: 127.0.0.1 */
    uint16_t port;        /* 0 picks one */
    const char *token;    /* bearer token that requests must carry; NULL or "": none */
    bool exposed;         /* said in so many words: off loopback without a token is wanted */
    const char *hosts;    /* comma-joined names accepted in Host besides numeric addresses and localhost; NULL: none */
    unsigned connections; /* at once; 0: 32 */
};

struct http_server;

/* Routes and strings are copied, except what a route's own pointers name. A port in use, or an address off loopback
 * with neither token nor `exposed`, is an error that says what to change. */
LG_MUST_CHECK enum lg_status http_start(uv_loop_t *loop, const struct http_options *options,
                                        const struct http_route *routes, size_t count, struct http_server **out,
                                        struct lg_error *error);
uint16_t http_port(const struct http_server *server);
/* "http://127.0.0.1:40123" */
const char *http_url(const struct http_server *server);
/* Cuts open connections, frees everything on a later turn of the loop, then calls `on_closed` (may be NULL). */
void http_close(struct http_server *server, void (*on_closed)(void *data), void *data);

#endif
