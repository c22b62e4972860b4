/* What the loopback gives: one process writes a tensor to a TCP socket, message by message, another reads it. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "bench/limit.h"

static const uint32_t sizes[] = {64 << 10, 256 << 10, 1 << 20, 4 << 20};
enum { SIZES = sizeof sizes / sizeof *sizes };

struct transfer {
    uint64_t bytes, message_bytes;
};

static bool read_all(int fd, void *data, size_t bytes) {
    for (char *at = data; bytes > 0;) {
        ssize_t got = read(fd, at, bytes);
        if (got <= 0)
            return false;
        at += got;
        bytes -= (size_t)got;
    }
    return true;
}

static bool write_all(int fd, const void *data, size_t bytes) {
    for (const char *at = data; bytes > 0;) {
        ssize_t put = write(fd, at, bytes);
        if (put <= 0)
            return false;
        at += put;
        bytes -= (size_t)put;
    }
    return true;
}

static int fail(int fd, const char *what) {
    struct lg_error error;
    lg_fail(&error, LG_IO, "%s: %s", what, strerror(errno));
    (void)process_say_error(fd, &error);
    return EXIT_FAILURE;
}

/* ---- the reading process */

static bool take_transfer(int connection, char *buffer) {
    struct transfer transfer;
    if (!read_all(connection, &transfer, sizeof transfer))
        return false;
    for (uint64_t left = transfer.bytes; left > 0;) {
        size_t bytes = left < transfer.message_bytes ? left : transfer.message_bytes;
        if (!read_all(connection, buffer, bytes))
            return false;
        left -= bytes;
    }
    return write_all(connection, "", 1);
}

static int listen_here(char *text) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (listener < 0 || bind(listener, (struct sockaddr *)&address, size) != 0 || listen(listener, 1) != 0 ||
        getsockname(listener, (struct sockaddr *)&address, &size) != 0)
        return -1;
    snprintf(text, PROCESS_TEXT_BYTES, "%d", ntohs(address.sin_port));
    return listener;
}

static int receive(int fd, const void *context) {
    (void)context;
    struct process_report report = {0};
    char *buffer = malloc(sizes[SIZES - 1]);
    int listener = listen_here(report.text);
    if (!buffer || listener < 0)
        return fail(fd, "cannot listen");
    (void)process_say(fd, &report);
    int connection = accept(listener, NULL, NULL);
    if (connection < 0)
        return EXIT_FAILURE;
    while (take_transfer(connection, buffer))
        ;
    return EXIT_SUCCESS;
}

/* ---- the writing process */

struct sender {
    const struct limit *limit;
    uint16_t port;
};

static int connect_to(uint16_t port) {
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1;
    if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address) != 0)
        return -1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    return fd;
}

static bool send_tensor(int connection, const char *tensor, uint64_t bytes, uint64_t message_bytes) {
    const struct transfer transfer = {bytes, message_bytes};
    char done;
    if (!write_all(connection, &transfer, sizeof transfer))
        return false;
    for (uint64_t at = 0; at < bytes; at += message_bytes)
        if (!write_all(connection, tensor + at, bytes - at < message_bytes ? bytes - at : message_bytes))
            return false;
    return read_all(connection, &done, 1);
}

static int send_orders(int fd, const void *context) {
    const struct sender *sender = context;
    struct process_report report = {0};
    struct process_order order;
    uint64_t bytes = sender->limit->bytes;
    char *tensor = malloc(bytes);
    int connection = connect_to(sender->port);
    if (!tensor || connection < 0)
        return fail(fd, "cannot connect");
    memset(tensor, 1, bytes);
    (void)process_say(fd, &report);
    while (process_next(fd, &order)) {
        report.began_s = process_now_s();
        for (uint32_t i = 0; i < order.count; i++)
            if (!send_tensor(connection, tensor, bytes, order.bytes))
                return fail(fd, "cannot send");
        report.ended_s = process_now_s();
        if (!process_say(fd, &report))
            break;
    }
    return EXIT_SUCCESS;
}

/* ---- the station */

enum lg_status limit_tcp_open(struct limit *limit, uint64_t bytes, struct lg_error *error) {
    struct process_report report;
    *limit = (struct limit){.bytes = bytes};
    enum lg_status status = process_start(&limit->processes[0], "limit-tcp-in", receive, limit, &report, error);
    if (status != LG_OK)
        return status;
    const struct sender sender = {limit, (uint16_t)strtoul(report.text, NULL, 10)};
    status = process_start(&limit->processes[1], "limit-tcp-out", send_orders, &sender, &report, error);
    if (status != LG_OK)
        limit_close(limit);
    return status;
}

enum lg_status limit_tcp_send(struct probe *probe, struct figures *figures, struct lg_error *error) {
    struct limit *limit = probe->station;
    double best = 0;
    probe->spent_s = 0;
    for (size_t i = 0; i < SIZES; i++) {
        const struct process_order order = {.count = probe->count, .bytes = sizes[i]};
        struct process_report report;
        enum lg_status status = process_ask(&limit->processes[1], &order, &report, error);
        if (status != LG_OK)
            return status;
        double seconds = report.ended_s - report.began_s, rate = (double)limit->bytes * probe->count / seconds / 1e9;
        best = rate > best ? rate : best;
        probe->spent_s += seconds / SIZES;
    }
    return probe_add(probe, figures, "", "GB/s", best, error);
}
