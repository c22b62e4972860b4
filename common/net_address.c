/* Addresses; declared in net.h. */
#include <arpa/inet.h>
#include <ctype.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/net.h"

enum { IPC_PATH_MAX = 107 }; /* what a Unix socket's address holds */

struct address {
    char host[NET_ENDPOINT_BYTES]; /* without brackets; for ipc the path */
    bool ipc;
    bool bracketed;
    bool has_port;
    uint16_t port;
};

static enum lg_status address_fail(const char *text, const char *why, struct lg_error *error) {
    return lg_fail(error, LG_INVALID,
                   "address \"%.200s\": %s; expected host:port, such as 127.0.0.1:7800 or [::1]:7800", text, why);
}

static bool host_fine(const char *host, bool bracketed) {
    if (*host == '\0')
        return false;
    if (bracketed) {
        struct in6_addr address;
        return inet_pton(AF_INET6, host, &address) == 1;
    }
    if (strcmp(host, "*") == 0)
        return true;
    for (; *host; host++) {
        if (!isalnum((unsigned char)*host) && !strchr(".-_", *host))
            return false;
    }
    return true;
}

static enum lg_status parse_port(const char *text, const char *port, struct address *out, struct lg_error *error) {
    char *end;
    out->has_port = true;
    if (!isdigit((unsigned char)*port))
        return address_fail(text, "the port is missing or no number", error);
    unsigned long number = strtoul(port, &end, 10);
    if (*end != '\0' || number > 65535)
        return address_fail(text, "the port is not a number from 0 to 65535", error);
    out->port = (uint16_t)number;
    return LG_OK;
}

/* ipc:///absolute/path */
static enum lg_status parse_ipc(const char *text, const char *path, struct address *out, struct lg_error *error) {
    size_t length = strlen(path);
    if (*path != '/' || length < 2)
        return address_fail(text, "a path after ipc:// begins with \"/\"", error);
    if (length > IPC_PATH_MAX)
        return address_fail(text, "a path after ipc:// has at most 107 characters", error);
    *out = (struct address){.ipc = true};
    memcpy(out->host, path, length);
    return LG_OK;
}

/* [tcp://]host[:port], the host in brackets when it is an IPv6 address, or ipc:///path. */
static enum lg_status address_parse(const char *text, struct address *out, struct lg_error *error) {
    if (strncmp(text, "ipc://", 6) == 0)
        return parse_ipc(text, text + 6, out, error);
    const char *host = strncmp(text, "tcp://", 6) == 0 ? text + 6 : text;
    *out = (struct address){0};
    if (strstr(host, "://"))
        return address_fail(text, "only tcp and ipc are offered", error);
    if (strlen(host) >= NET_ENDPOINT_BYTES - sizeof "tcp://[]:65535")
        return address_fail(text, "too long", error);
    out->bracketed = *host == '[';
    host += out->bracketed;
    size_t length = strcspn(host, out->bracketed ? "]" : ":");
    const char *rest = host + length;
    memcpy(out->host, host, length);
    if (out->bracketed && *rest++ != ']')
        return address_fail(text, "a bracket is not closed", error);
    if (!out->bracketed && *rest == ':' && strchr(rest + 1, ':'))
        return address_fail(text, "IPv6 addresses go in brackets", error);
    if (!host_fine(out->host, out->bracketed))
        return address_fail(text, "the host is missing or has characters that no host has", error);
    if (*rest == '\0')
        return LG_OK;
    return *rest == ':' ? parse_port(text, rest + 1, out, error)
                        : address_fail(text, "something follows the host that is no port", error);
}

static void address_print(const struct address *address, char endpoint[NET_ENDPOINT_BYTES]) {
    if (address->ipc) {
        snprintf(endpoint, NET_ENDPOINT_BYTES, "ipc://%.*s", IPC_PATH_MAX, address->host);
        return;
    }
    snprintf(endpoint, NET_ENDPOINT_BYTES, "tcp://%s%.*s%s:%u", address->bracketed ? "[" : "",
             NET_ENDPOINT_BYTES - (int)sizeof "tcp://[]:65535", address->host, address->bracketed ? "]" : "",
             address->port);
}

static bool all_addresses(const struct address *address) {
    return strcmp(address->host, "*") == 0 || strcmp(address->host, "0.0.0.0") == 0 || strcmp(address->host, "::") == 0;
}

enum lg_status net_endpoint_parse(const char *text, bool bind, char endpoint[NET_ENDPOINT_BYTES],
                                  struct lg_error *error) {
    struct address address;
    enum lg_status status = address_parse(text, &address, error);
    if (status != LG_OK)
        return status;
    if (address.ipc) {
        address_print(&address, endpoint);
        return LG_OK;
    }
    if (!address.has_port)
        return address_fail(text, "the port is missing", error);
    if (!bind && all_addresses(&address))
        return address_fail(text, "this means all addresses, nobody can connect to it", error);
    if (!bind && address.port == 0)
        return address_fail(text, "port 0 is for binding only", error);
    if (bind && strcmp(address.host, "localhost") == 0)
        snprintf(address.host, sizeof address.host, "127.0.0.1");
    address_print(&address, endpoint);
    return LG_OK;
}

enum lg_status net_endpoint_split(const char *endpoint, char host[NET_ENDPOINT_BYTES], uint16_t *port,
                                  struct lg_error *error) {
    struct address address;
    enum lg_status status = address_parse(endpoint, &address, error);
    if (status == LG_OK && address.ipc)
        status = address_fail(endpoint, "a path has neither host nor port", error);
    if (status == LG_OK && !address.has_port)
        status = address_fail(endpoint, "the port is missing", error);
    if (status != LG_OK)
        return status;
    memcpy(host, address.host, sizeof address.host);
    *port = address.port;
    return LG_OK;
}

bool net_is_loopback(const char *endpoint) {
    struct address address;
    struct in_addr four;
    struct in6_addr six;
    if (address_parse(endpoint, &address, NULL) != LG_OK)
        return false;
    if (address.ipc || strcmp(address.host, "localhost") == 0)
        return true;
    if (inet_pton(AF_INET, address.host, &four) == 1)
        return ntohl(four.s_addr) >> 24 == 127;
    if (inet_pton(AF_INET6, address.host, &six) == 1)
        return IN6_IS_ADDR_LOOPBACK(&six) || (IN6_IS_ADDR_V4MAPPED(&six) && six.s6_addr[12] == 127);
    return false;
}

enum lg_status net_advertise(const char *bound, const char *advertise, char endpoint[NET_ENDPOINT_BYTES],
                             struct lg_error *error) {
    struct address from, to;
    enum lg_status status = address_parse(bound, &from, error);
    if (status != LG_OK)
        return status;
    if (from.ipc) { /* others on this host reach it where it is, and nobody else does */
        address_print(&from, endpoint);
        return LG_OK;
    }
    if (!advertise || !*advertise) {
        if (all_addresses(&from))
            return lg_fail(
                error, LG_INVALID,
                "bound to all addresses (\"%s\") and nothing says which one others reach: set \"advertise\" to "
                "this machine's name or address",
                bound);
        address_print(&from, endpoint);
        return LG_OK;
    }
    status = address_parse(advertise, &to, error);
    if (status != LG_OK)
        return status;
    if (to.ipc)
        return address_fail(advertise, "a path is no address for other hosts", error);
    if (all_addresses(&to))
        return address_fail(advertise, "\"advertise\" must be one address", error);
    to.port = to.port ? to.port : from.port;
    address_print(&to, endpoint);
    return LG_OK;
}
