#include "server/local_door.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/codec.h"
#include "common/log.h"

enum { WAITING_MAX = LOCAL_DOOR_FDS - 1, WAIT_MS = 2000, BACKLOG = 64, DESCRIPTORS_MAX = 4 };

/* A session's gradient memory. */
struct ring {
    uint64_t job, session;
    uint32_t incarnation;
    const uint8_t *data;
    size_t bytes;
};

struct visitor {
    int fd;
    int64_t until_ns;
};

struct local_door {
    int fd;
    char name[LOCAL_NAME_BYTES];
    struct visitor visitors[WAITING_MAX]; /* connected, have not said anything yet; oldest first */
    int visitor_count;
    struct ring *rings;
    size_t ring_count, ring_capacity;
};

/* ---- life */

static enum lg_status listen_somewhere(struct local_door *door, struct lg_error *error) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    uint64_t number = 0;
    if (getrandom(&number, sizeof number, 0) != sizeof number)
        return lg_fail(error, LG_IO, "no random number for the name of a socket: %s", strerror(errno));
    int length = snprintf(door->name, sizeof door->name, "lagoon-shard-%016llx", (unsigned long long)number);
    memcpy(address.sun_path + 1, door->name, (size_t)length); /* the zero before it makes it abstract */
    door->fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    socklen_t bytes = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)length);
    if (door->fd < 0 || bind(door->fd, (const struct sockaddr *)&address, bytes) != 0 || listen(door->fd, BACKLOG) != 0)
        return lg_fail(error, LG_IO, "cannot listen on a Unix socket: %s", strerror(errno));
    return LG_OK;
}

enum lg_status local_door_open(struct local_door **out, struct lg_error *error) {
    *out = NULL;
    struct local_door *door = calloc(1, sizeof *door);
    if (!door)
        return lg_fail(error, LG_NO_MEMORY, "no memory for a shard's Unix socket");
    door->fd = -1;
    enum lg_status status = listen_somewhere(door, error);
    if (status == LG_OK)
        *out = door;
    else
        local_door_close(door);
    return status;
}

static void ring_unmap(const struct ring *ring) {
    munmap((void *)(uintptr_t)ring->data, ring->bytes);
}

void local_door_close(struct local_door *door) {
    if (!door)
        return;
    for (int i = 0; i < door->visitor_count; i++)
        close(door->visitors[i].fd);
    for (size_t i = 0; i < door->ring_count; i++)
        ring_unmap(&door->rings[i]);
    if (door->fd >= 0)
        close(door->fd);
    free(door->rings);
    free(door);
}

const char *local_door_name(const struct local_door *door) {
    return door->name;
}

/* ---- rings */

static struct ring *ring_find(const struct local_door *door, uint64_t job, uint64_t session) {
    for (size_t i = 0; i < door->ring_count; i++)
        if (door->rings[i].session == session && door->rings[i].job == job)
            return &door->rings[i];
    return NULL;
}

/* The memory may not shrink under the shard's eyes, which would be a SIGBUS. */
static enum lg_status ring_map(const struct local_hello *hello, int fd, struct ring *out, struct lg_error *error) {
    struct stat about;
    int seals = fcntl(fd, F_GET_SEALS);
    if (seals < 0 || !(seals & F_SEAL_SHRINK))
        return lg_fail(error, LG_INVALID, "gradient memory must be a memfd that is sealed against shrinking");
    if (fstat(fd, &about) != 0 || (uint64_t)about.st_size < hello->ring_bytes || hello->ring_bytes == 0)
        return lg_fail(error, LG_INVALID, "gradient memory of %llu bytes was announced, it has %llu",
                       (unsigned long long)hello->ring_bytes, (unsigned long long)about.st_size);
    void *data = mmap(NULL, (size_t)hello->ring_bytes, PROT_READ, MAP_SHARED, fd, 0);
    if (data == MAP_FAILED)
        return lg_fail(error, LG_NO_MEMORY, "cannot map a session's gradient memory: %s", strerror(errno));
    *out = (struct ring){hello->job, hello->session, hello->incarnation, data, (size_t)hello->ring_bytes};
    return LG_OK;
}

/* In the place of what the session handed in before. */
static enum lg_status ring_keep(struct local_door *door, const struct ring *ring, struct lg_error *error) {
    struct ring *place = ring_find(door, ring->job, ring->session);
    if (place) {
        ring_unmap(place);
    } else if (door->ring_count == door->ring_capacity) {
        size_t capacity = door->ring_capacity ? 2 * door->ring_capacity : 8;
        struct ring *rings = realloc(door->rings, capacity * sizeof *rings);
        if (!rings) {
            ring_unmap(ring);
            return lg_fail(error, LG_NO_MEMORY, "no memory to note a session's gradient memory");
        }
        door->rings = rings;
        door->ring_capacity = capacity;
    }
    place = place ? place : &door->rings[door->ring_count++];
    *place = *ring;
    return LG_OK;
}

void local_door_sweep(struct local_door *door, const struct shard *shard) {
    for (size_t i = 0; i < door->ring_count;) {
        const struct ring *ring = &door->rings[i];
        if (shard_has_session(shard, ring->job, ring->session, ring->incarnation)) {
            i++;
            continue;
        }
        ring_unmap(ring);
        door->rings[i] = door->rings[--door->ring_count];
    }
}

enum lg_status local_door_resolve(const struct local_door *door, struct wire_message *message,
                                  struct wire_bytes payload[WIRE_PAYLOAD_FRAMES_MAX], struct lg_error *error) {
    const struct wire_push *push = &message->push;
    const struct ring *ring = ring_find(door, push->job, push->session);
    const struct codec *codec = NULL;
    if (!ring || ring->incarnation != push->incarnation)
        return lg_fail(error, LG_DENIED, "the session has handed in no memory to push from: say hello again");
    enum lg_status status = codec_of_wire(push->dtype, push->codec, &codec, error);
    if (status != LG_OK)
        return status;
    if (!codec->fixed)
        return lg_fail(error, LG_UNSUPPORTED, "from shared memory nothing can be pushed as %s", codec->name);
    const size_t alignment = codec->exact ? sizeof(float) : 1;
    for (size_t i = 0; i < message->range_count; i++) {
        const struct wire_range *range = &message->ranges[i];
        if (range->offset % alignment != 0 || range->bytes == 0 || range->bytes > WIRE_PAYLOAD_BYTES_MAX ||
            range->offset > ring->bytes || range->bytes > ring->bytes - range->offset)
            return lg_fail(error, LG_INVALID, "%llu bytes at %llu are not within the session's memory of %zu",
                           (unsigned long long)range->bytes, (unsigned long long)range->offset, ring->bytes);
        payload[i] = (struct wire_bytes){ring->data + range->offset, (size_t)range->bytes};
    }
    message->payload = payload;
    message->payload_count = message->range_count;
    return LG_OK;
}

/* ---- visitors */

static enum lg_status check_user(int fd, struct lg_error *error) {
    struct ucred peer;
    socklen_t bytes = sizeof peer;
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &bytes) != 0)
        return lg_fail(error, LG_IO, "cannot tell who is at the other end of a Unix socket: %s", strerror(errno));
    if (peer.uid == geteuid() || peer.uid == 0 || geteuid() == 0)
        return LG_OK;
    return lg_fail(error, LG_DENIED, "user %u may not share memory with a server of user %u: run both as one user",
                   (unsigned)peer.uid, (unsigned)geteuid());
}

/* One packet with one descriptor, which is the caller's then; LG_UNAVAILABLE: nothing has come yet. */
static enum lg_status read_hello(int fd, struct local_hello *hello, int *memory_fd, struct lg_error *error) {
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(DESCRIPTORS_MAX * sizeof(int))];
    } control;
    struct iovec vector = {hello, sizeof *hello};
    struct msghdr message = {
        .msg_iov = &vector, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
    ssize_t bytes = recvmsg(fd, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    if (bytes < 0 && (errno == EAGAIN || errno == EINTR))
        return LG_UNAVAILABLE;
    int fds[DESCRIPTORS_MAX], count = 0;
    for (struct cmsghdr *at = CMSG_FIRSTHDR(&message); bytes >= 0 && at; at = CMSG_NXTHDR(&message, at)) {
        if (at->cmsg_level != SOL_SOCKET || at->cmsg_type != SCM_RIGHTS)
            continue;
        count = (int)((at->cmsg_len - CMSG_LEN(0)) / sizeof(int));
        count = count < DESCRIPTORS_MAX ? count : DESCRIPTORS_MAX;
        memcpy(fds, CMSG_DATA(at), (size_t)count * sizeof(int));
    }
    enum lg_status status = LG_OK;
    if (bytes != (ssize_t)sizeof *hello || count != 1 || hello->magic != LOCAL_MAGIC)
        status = lg_fail(error, LG_MALFORMED, "a visitor on the Unix socket did not say hello");
    else if (hello->layout != LOCAL_LAYOUT)
        status = lg_fail(error, LG_UNSUPPORTED, "shared memory of layout %u is not offered, only %d", hello->layout,
                         LOCAL_LAYOUT);
    for (int i = status == LG_OK ? 1 : 0; i < count; i++)
        close(fds[i]);
    *memory_fd = status == LG_OK ? fds[0] : -1;
    return status;
}

static void answer(int fd, enum lg_status status, const struct shard_attachment *attachment, const char *reason) {
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control = {0};
    struct local_welcome welcome = {.magic = LOCAL_MAGIC, .layout = LOCAL_LAYOUT, .status = status};
    struct iovec vector = {&welcome, sizeof welcome};
    struct msghdr message = {.msg_iov = &vector, .msg_iovlen = 1};
    snprintf(welcome.reason, sizeof welcome.reason, "%.*s", LOCAL_REASON_BYTES - 1, reason);
    if (status == LG_OK) {
        welcome.unit_count = attachment->unit_count;
        welcome.bytes = attachment->bytes;
        message.msg_control = &control;
        message.msg_controllen = sizeof control;
        struct cmsghdr *header = CMSG_FIRSTHDR(&message);
        header->cmsg_level = SOL_SOCKET;
        header->cmsg_type = SCM_RIGHTS;
        header->cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(header), &attachment->fd, sizeof(int));
    }
    (void)sendmsg(fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL); /* who has left misses it */
}

/* False: the visitor has not spoken yet. */
static bool attend(struct local_door *door, int fd, const struct shard *shard) {
    struct local_hello hello = {0};
    struct shard_attachment attachment = {.fd = -1};
    struct lg_error error = {0};
    struct ring ring;
    int memory_fd = -1;
    enum lg_status status = read_hello(fd, &hello, &memory_fd, &error);
    if (status == LG_UNAVAILABLE)
        return false;
    if (status == LG_OK)
        status = check_user(fd, &error);
    if (status == LG_OK)
        status = shard_attach(shard, &hello, &attachment, &error);
    if (status == LG_OK)
        status = ring_map(&hello, memory_fd, &ring, &error);
    if (status == LG_OK)
        status = ring_keep(door, &ring, &error);
    if (status != LG_OK)
        log_debug("local-refused", "no shared memory for a client on this host: %s", error.message);
    if (memory_fd >= 0)
        close(memory_fd);
    answer(fd, status, &attachment, error.message);
    return true;
}

static void visitor_leave(struct local_door *door, int index) {
    close(door->visitors[index].fd);
    door->visitor_count--;
    memmove(&door->visitors[index], &door->visitors[index + 1],
            (size_t)(door->visitor_count - index) * sizeof *door->visitors);
}

static void take_visitors(struct local_door *door, int64_t now_ns) {
    for (int i = 0; i < WAITING_MAX; i++) {
        int fd = accept4(door->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0)
            return;
        if (door->visitor_count == WAITING_MAX)
            visitor_leave(door, 0);
        door->visitors[door->visitor_count++] = (struct visitor){fd, now_ns + WAIT_MS * INT64_C(1000000)};
    }
}

nfds_t local_door_watch(const struct local_door *door, struct pollfd *fds) {
    fds[0] = (struct pollfd){.fd = door->fd, .events = POLLIN};
    for (int i = 0; i < door->visitor_count; i++)
        fds[1 + i] = (struct pollfd){.fd = door->visitors[i].fd, .events = POLLIN};
    return 1 + (nfds_t)door->visitor_count;
}

void local_door_serve(struct local_door *door, const struct shard *shard, int64_t now_ns) {
    take_visitors(door, now_ns);
    for (int i = door->visitor_count; i-- > 0;)
        if (attend(door, door->visitors[i].fd, shard) || now_ns >= door->visitors[i].until_ns)
            visitor_leave(door, i);
}
