#include "client/local_link.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

/* ---- life */

void local_link_init(struct local_link *link, const struct wire_unit *units, uint32_t unit_count) {
    *link = (struct local_link){.fd = -1, .units = units, .unit_count = unit_count};
}

void local_link_drop(struct local_link *link) {
    mapping_leave(link->mapping);
    if (link->fd >= 0)
        close(link->fd);
    link->mapping = NULL;
    link->fd = -1;
    link->state = LOCAL_OFF;
}

void local_link_deinit(struct local_link *link) {
    local_link_drop(link);
}

static void fall_back(struct local_link *link, const char *why) {
    local_link_drop(link);
    snprintf(link->why, sizeof link->why, "%s", why);
}

/* ---- asking */

static bool send_hello(int fd, const struct local_hello *hello, int ring_fd) {
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control = {0};
    struct local_hello copy = *hello;
    struct iovec vector = {&copy, sizeof copy};
    struct msghdr message = {
        .msg_iov = &vector, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(header), &ring_fd, sizeof(int));
    return sendmsg(fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL) == (ssize_t)sizeof copy;
}

void local_link_ask(struct local_link *link, const char *name, const struct local_hello *hello, int ring_fd) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    size_t length = strlen(name);
    local_link_drop(link);
    link->why[0] = '\0';
    if (length == 0 || length >= LOCAL_NAME_BYTES)
        return;
    memcpy(address.sun_path + 1, name, length);
    link->fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    socklen_t bytes = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + length);
    if (link->fd < 0 || connect(link->fd, (const struct sockaddr *)&address, bytes) != 0) {
        bool elsewhere = errno == ECONNREFUSED || errno == ENOENT;
        fall_back(link, elsewhere ? "" : strerror(errno));
        return;
    }
    if (send_hello(link->fd, hello, ring_fd))
        link->state = LOCAL_ASKED;
    else
        fall_back(link, strerror(errno));
}

/* ---- the answer */

static bool map_segment(struct local_link *link, const struct local_welcome *welcome, int fd) {
    if (welcome->unit_count == link->unit_count)
        link->mapping = mapping_new(link->units, link->unit_count, welcome->bytes, fd);
    return link->mapping != NULL;
}

static ssize_t receive_welcome(int fd, struct local_welcome *welcome, int *segment_fd) {
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control;
    struct iovec vector = {welcome, sizeof *welcome};
    struct msghdr message = {
        .msg_iov = &vector, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
    ssize_t bytes = recvmsg(fd, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    const struct cmsghdr *header = bytes >= 0 ? CMSG_FIRSTHDR(&message) : NULL;
    if (header && header->cmsg_level == SOL_SOCKET && header->cmsg_type == SCM_RIGHTS &&
        header->cmsg_len == CMSG_LEN(sizeof(int)))
        memcpy(segment_fd, CMSG_DATA(header), sizeof(int));
    return bytes;
}

bool local_link_answer(struct local_link *link) {
    struct local_welcome welcome = {0};
    int segment_fd = -1;
    if (link->state != LOCAL_ASKED)
        return false;
    ssize_t bytes = receive_welcome(link->fd, &welcome, &segment_fd);
    if (bytes < 0 && (errno == EAGAIN || errno == EINTR))
        return false;
    welcome.reason[sizeof welcome.reason - 1] = '\0';
    if (bytes != (ssize_t)sizeof welcome || welcome.magic != LOCAL_MAGIC || welcome.layout != LOCAL_LAYOUT) {
        fall_back(link, "the shard's answer cannot be read");
    } else if (welcome.status != LG_OK || segment_fd < 0) {
        fall_back(link, welcome.reason);
    } else if (!map_segment(link, &welcome, segment_fd)) {
        fall_back(link, "the shard's memory does not fit the job");
    } else {
        close(link->fd);
        link->fd = -1;
        link->state = LOCAL_UP;
    }
    if (segment_fd >= 0)
        close(segment_fd);
    return true;
}

/* ---- reading */

bool local_link_version(const struct local_link *link, uint64_t *version) {
    if (link->state != LOCAL_UP || atomic_load_explicit(&link->mapping->head->readable, memory_order_acquire) == 0)
        return false;
    *version = atomic_load_explicit(&link->mapping->head->job_version, memory_order_acquire);
    return true;
}

enum local_read local_link_read(const struct local_link *link, uint32_t index, float *into, uint64_t *version) {
    const struct lg_mapping *mapping = link->mapping;
    return local_unit_read(mapping_unit(mapping, index), mapping_values(mapping, index), mapping->units[index].elements,
                           into, version);
}
