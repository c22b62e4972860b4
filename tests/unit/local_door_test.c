/* The door to a shard's memory, and visitors of every kind. */
#include "server/local_door.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/codec.h"
#include "tests/support/shard_bench.h"

enum { RING_BYTES = 8192, SESSION = 1, TOKEN = 3 };

static struct shard_bench bench;
static struct local_door *door;
static struct local_hello hello;
static struct local_welcome welcome;

static void setup(void) {
    shard_bench_init(&bench);
    shard_bench_start(&bench);
    shard_bench_join(&bench, SESSION);
    ck_assert_int_eq(local_door_open(&door, NULL), LG_OK);
    hello = (struct local_hello){.magic = LOCAL_MAGIC,
                                 .layout = LOCAL_LAYOUT,
                                 .incarnation = 1,
                                 .job = BENCH_JOB,
                                 .session = SESSION,
                                 .token = TOKEN,
                                 .ring_bytes = RING_BYTES};
}

static void teardown(void) {
    local_door_close(door);
    shard_bench_stop(&bench);
}

static int make_ring(size_t bytes, int seals) {
    int fd = memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(ftruncate(fd, (off_t)bytes), 0);
    ck_assert_int_eq(pwrite(fd, "\1\2\3\4", 4, 4096), 4);
    ck_assert_int_eq(fcntl(fd, F_ADD_SEALS, seals), 0);
    return fd;
}

static int visit(void) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    const char *name = local_door_name(door);
    memcpy(address.sun_path + 1, name, strlen(name));
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    ck_assert_int_ge(fd, 0);
    socklen_t bytes = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + strlen(name));
    ck_assert_int_eq(connect(fd, (const struct sockaddr *)&address, bytes), 0);
    return fd;
}

/* Sends `bytes` of the hello with `count` copies of `memory`, has it answered; returns the descriptor that came, or -1.
 */
static int say(int fd, size_t bytes, int memory, int count) {
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(3 * sizeof(int))];
    } control = {0};
    int fds[3] = {memory, memory, memory}, given = -1;
    struct iovec vector = {&hello, bytes};
    struct msghdr message = {.msg_iov = &vector, .msg_iovlen = 1};
    if (count > 0) {
        message.msg_control = &control;
        message.msg_controllen = CMSG_SPACE((size_t)count * sizeof(int));
        struct cmsghdr *header = CMSG_FIRSTHDR(&message);
        *header = (struct cmsghdr){CMSG_LEN((size_t)count * sizeof(int)), SOL_SOCKET, SCM_RIGHTS};
        memcpy(CMSG_DATA(header), fds, (size_t)count * sizeof(int));
    }
    ck_assert_int_eq(sendmsg(fd, &message, 0), (ssize_t)bytes);
    local_door_serve(door, bench.shard, 0);
    vector = (struct iovec){&welcome, sizeof welcome};
    message =
        (struct msghdr){.msg_iov = &vector, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
    memset(&control, 0, sizeof control);
    ck_assert_int_eq(recvmsg(fd, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC), sizeof welcome);
    if (CMSG_FIRSTHDR(&message))
        memcpy(&given, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof given);
    char more;
    ck_assert_int_eq(recv(fd, &more, 1, MSG_DONTWAIT), 0); /* the door has closed the connection */
    close(fd);
    return given;
}

static void check_refused(size_t bytes, int memory, int count, enum lg_status status) {
    ck_assert_int_eq(say(visit(), bytes, memory, count), -1);
    ck_assert_uint_eq(welcome.status, status);
    ck_assert(welcome.reason[0] != '\0');
    if (memory >= 0)
        close(memory);
}

static const struct codec *codec; /* of what is resolved; NULL: f32 */

static enum lg_status resolve(uint64_t session, uint64_t offset, uint64_t bytes, struct wire_bytes *out) {
    static struct wire_bytes payload[WIRE_PAYLOAD_FRAMES_MAX];
    const struct wire_range range = {offset, bytes};
    struct lg_error error = {0};
    struct wire_message message = {.kind = WIRE_PUSH,
                                   .push = {.job = BENCH_JOB, .session = session, .incarnation = 1, .ring = true},
                                   .ranges = &range,
                                   .range_count = 1};
    if (codec) {
        message.push.dtype = (enum wire_dtype)codec->dtype;
        message.push.codec = codec->number;
    }
    enum lg_status status = local_door_resolve(door, &message, payload, &error);
    if (status == LG_OK) {
        ck_assert_uint_eq(message.payload_count, 1);
        *out = message.payload[0];
    }
    return status;
}

START_TEST(memory_is_exchanged) {
    struct wire_bytes found = {0};
    int ring = make_ring(RING_BYTES, F_SEAL_SHRINK);
    int segment = say(visit(), sizeof hello, ring, 1);
    close(ring);
    ck_assert_msg(welcome.status == LG_OK, "%s", welcome.reason);
    ck_assert_uint_eq(welcome.unit_count, BENCH_UNITS);
    const void *head = mmap(NULL, welcome.bytes, PROT_READ, MAP_SHARED, segment, 0);
    ck_assert_ptr_ne(head, MAP_FAILED);
    ck_assert(local_segment_fits(head, BENCH_UNITS, welcome.bytes));
    ck_assert_int_eq(resolve(SESSION, 4096, 4096, &found), LG_OK);
    ck_assert_uint_eq(found.bytes, 4096);
    ck_assert_mem_eq(found.data, "\1\2\3\4", 4);
    close(segment);
}
END_TEST

START_TEST(ranges_outside_are_refused) {
    struct wire_bytes found;
    int ring = make_ring(RING_BYTES, F_SEAL_SHRINK);
    close(say(visit(), sizeof hello, ring, 1));
    close(ring);
    ck_assert_int_eq(resolve(SESSION, 0, RING_BYTES, &found), LG_OK);
    ck_assert_int_eq(resolve(SESSION, 4, RING_BYTES, &found), LG_INVALID);
    ck_assert_int_eq(resolve(SESSION, RING_BYTES, 4, &found), LG_INVALID);
    ck_assert_int_eq(resolve(SESSION, UINT64_MAX - 3, 8, &found), LG_INVALID);
    ck_assert_int_eq(resolve(SESSION, 4, UINT64_MAX - 3, &found), LG_INVALID);
    ck_assert_int_eq(resolve(SESSION, 2, 4, &found), LG_INVALID); /* not aligned */
    ck_assert_int_eq(resolve(SESSION, 0, 0, &found), LG_INVALID);
    ck_assert_int_eq(resolve(SESSION + 1, 0, 4, &found), LG_DENIED);
}
END_TEST

/* Bytes may change while the shard reads them: that must not lead anywhere. */
START_TEST(encoded_units_are_of_lengths_that_do_not_change) {
    struct wire_bytes found;
    size_t count;
    codec = codecs(&count)[_i];
    int ring = make_ring(RING_BYTES, F_SEAL_SHRINK);
    close(say(visit(), sizeof hello, ring, 1));
    close(ring);
    ck_assert_int_eq(resolve(SESSION, 4, 4, &found), codec->fixed ? LG_OK : LG_UNSUPPORTED);
    ck_assert_int_eq(resolve(SESSION, 3, 4, &found), !codec->fixed  ? LG_UNSUPPORTED
                                                     : codec->exact ? LG_INVALID
                                                                    : LG_OK);
    ck_assert_int_eq(codec->fixed, strcmp(codec->name, "topk") != 0);
}
END_TEST

START_TEST(memory_that_might_vanish_is_refused) {
    check_refused(sizeof hello, make_ring(RING_BYTES, F_SEAL_GROW), 1, LG_INVALID);
    check_refused(sizeof hello, make_ring(RING_BYTES - 1, F_SEAL_SHRINK), 1, LG_INVALID);
    int pipes[2];
    ck_assert_int_eq(pipe(pipes), 0);
    check_refused(sizeof hello, pipes[0], 1, LG_INVALID);
}
END_TEST

START_TEST(strangers_are_refused) {
    hello.token++;
    check_refused(sizeof hello, make_ring(RING_BYTES, F_SEAL_SHRINK), 1, LG_DENIED);
    hello.token--;
    hello.session++;
    check_refused(sizeof hello, make_ring(RING_BYTES, F_SEAL_SHRINK), 1, LG_DENIED);
    hello.session--;
    hello.job++;
    check_refused(sizeof hello, make_ring(RING_BYTES, F_SEAL_SHRINK), 1, LG_NOT_FOUND);
    hello.job--;
    hello.layout++;
    check_refused(sizeof hello, make_ring(RING_BYTES, F_SEAL_SHRINK), 1, LG_UNSUPPORTED);
    hello.layout--;
    hello.ring_bytes = UINT64_MAX;
    check_refused(sizeof hello, make_ring(RING_BYTES, F_SEAL_SHRINK), 1, LG_INVALID);
}
END_TEST

/* As many descriptors stay open as were before. */
START_TEST(nonsense_is_refused_and_leaks_nothing) {
    int before = dup(0);
    close(before);
    check_refused(sizeof hello - 1, make_ring(RING_BYTES, F_SEAL_SHRINK), 1, LG_MALFORMED);
    check_refused(1, -1, 0, LG_MALFORMED);
    check_refused(sizeof hello, -1, 0, LG_MALFORMED);
    check_refused(sizeof hello, make_ring(RING_BYTES, F_SEAL_SHRINK), 3, LG_MALFORMED);
    int after = dup(0);
    close(after);
    ck_assert_int_eq(after, before);
}
END_TEST

/* Who says nothing is sent away in time, and keeps nobody else out. */
START_TEST(the_silent_are_sent_away) {
    int silent[LOCAL_DOOR_FDS + 3];
    struct pollfd fds[LOCAL_DOOR_FDS];
    for (size_t i = 0; i < sizeof silent / sizeof *silent; i++) {
        silent[i] = visit();
        local_door_serve(door, bench.shard, 0);
    }
    ck_assert_uint_eq(local_door_watch(door, fds), LOCAL_DOOR_FDS);
    int ring = make_ring(RING_BYTES, F_SEAL_SHRINK);
    close(say(visit(), sizeof hello, ring, 1));
    close(ring);
    ck_assert_uint_eq(welcome.status, LG_OK);
    local_door_serve(door, bench.shard, INT64_C(3600000000000));
    ck_assert_uint_eq(local_door_watch(door, fds), 1);
    for (size_t i = 0; i < sizeof silent / sizeof *silent; i++)
        close(silent[i]);
}
END_TEST

START_TEST(memory_goes_with_its_session) {
    struct wire_bytes found;
    int ring = make_ring(RING_BYTES, F_SEAL_SHRINK);
    close(say(visit(), sizeof hello, ring, 1));
    close(ring);
    local_door_sweep(door, bench.shard);
    ck_assert_int_eq(resolve(SESSION, 0, 4, &found), LG_OK);
    shard_bench_close_session(&bench, SESSION, 1, "over");
    local_door_sweep(door, bench.shard);
    ck_assert_int_eq(resolve(SESSION, 0, 4, &found), LG_DENIED);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("local_door");
    TCase *tests = tcase_create("local_door");
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, memory_is_exchanged);
    tcase_add_test(tests, ranges_outside_are_refused);
    size_t count;
    codecs(&count);
    tcase_add_loop_test(tests, encoded_units_are_of_lengths_that_do_not_change, 0, (int)count);
    tcase_add_test(tests, memory_that_might_vanish_is_refused);
    tcase_add_test(tests, strangers_are_refused);
    tcase_add_test(tests, nonsense_is_refused_and_leaks_nothing);
    tcase_add_test(tests, the_silent_are_sent_away);
    tcase_add_test(tests, memory_goes_with_its_session);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
