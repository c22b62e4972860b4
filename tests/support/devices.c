#include "tests/support/devices.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { ABSENT = 3 };

static int look(const struct test_device *one) {
    struct lg_error error = {0};
    struct device *device = NULL;
    enum lg_status status = device_open(one->spec, one->threads, &device, &error);
    device_close(device);
    if (status != LG_UNSUPPORTED && status != LG_NOT_FOUND)
        return 0;
    printf("SKIP: %s\n", error.message);
    fflush(stdout);
    return ABSENT;
}

bool test_device_is_there(const struct test_device *one) {
    int status = 0;
    fflush(stdout);
    pid_t child = fork();
    if (child == 0)
        _exit(look(one));
    if (child < 0 || waitpid(child, &status, 0) != child)
        return true;
    return !(WIFEXITED(status) && WEXITSTATUS(status) == ABSENT);
}

/* ---- with memory of its own */

enum { COPIES_MAX = 4096, KEPT_MAX = 32 };

struct apart_copy {
    const void *from;
    void *to;
    size_t bytes;
    bool upload;
};

struct apart_stream {
    struct device_stream base;
    bool lazy;
    struct apart_copy copies[COPIES_MAX];
    size_t queued, done;
};

struct apart_event {
    struct device_event base;
    struct apart_stream *stream; /* NULL: never recorded */
    size_t at;
};

static struct device_ops apart_ops;
static struct test_apart *apart;
static bool apart_lazy;
static const void *kept[KEPT_MAX];

static void make_copy(const struct apart_copy *copy) {
    size_t half = copy->upload && apart->on_upload ? copy->bytes / 2 : 0;
    memcpy(copy->to, copy->from, half);
    if (half > 0)
        apart->on_upload(apart->context, copy->from, copy->bytes);
    memcpy((char *)copy->to + half, (const char *)copy->from + half, copy->bytes - half);
    apart->uploads += copy->upload;
    apart->uploaded += copy->upload ? copy->bytes : 0;
}

static void make_copies(struct apart_stream *stream, size_t up_to) {
    while (stream->done < up_to) {
        const struct apart_copy *copy = &stream->copies[stream->done++ % COPIES_MAX];
        make_copy(copy);
    }
}

static void queue(struct device_stream *s, const void *from, void *to, size_t bytes, bool upload) {
    struct apart_stream *stream = (struct apart_stream *)s;
    if (!stream->lazy) {
        memcpy(to, from, bytes);
        return;
    }
    ck_assert_uint_lt(stream->queued - stream->done, COPIES_MAX);
    stream->copies[stream->queued++ % COPIES_MAX] = (struct apart_copy){from, to, bytes, upload};
}

static void apart_upload(struct device_stream *s, size_t bytes, const void *host, void *memory) {
    queue(s, host, memory, bytes, true);
}

static void apart_download(struct device_stream *s, size_t bytes, const void *memory, void *host) {
    queue(s, memory, host, bytes, false);
}

static struct device_stream *apart_stream_open(struct device *device) {
    struct apart_stream *stream = calloc(1, sizeof *stream);
    ck_assert_ptr_nonnull(stream);
    stream->base.device = device;
    stream->lazy = apart_lazy;
    return &stream->base;
}

static void apart_stream_close(struct device_stream *s) {
    struct apart_stream *stream = (struct apart_stream *)s;
    if (stream)
        make_copies(stream, stream->queued);
    free(stream);
}

static enum lg_status apart_synchronize(struct device_stream *s, struct lg_error *error) {
    struct apart_stream *stream = (struct apart_stream *)s;
    (void)error;
    make_copies(stream, stream->queued);
    return LG_OK;
}

static struct device_event *apart_event_open(struct device *device) {
    struct apart_event *event = calloc(1, sizeof *event);
    ck_assert_ptr_nonnull(event);
    event->base.device = device;
    return &event->base;
}

static void apart_event_close(struct device_event *event) {
    free(event);
}

static void apart_event_record(struct device_stream *s, struct device_event *e) {
    struct apart_event *event = (struct apart_event *)e;
    event->stream = (struct apart_stream *)s;
    event->at = event->stream->queued;
}

static void event_reach(const struct apart_event *event) {
    if (event->stream)
        make_copies(event->stream, event->at);
}

static enum lg_status apart_event_synchronize(struct device_event *e, struct lg_error *error) {
    if (apart->fails_after > 0 && --apart->fails_after == 0)
        return lg_fail(error, LG_IO, "the device fails as the test wants it");
    event_reach((const struct apart_event *)e);
    return LG_OK;
}

static enum lg_status apart_event_elapsed(struct device_event *from, struct device_event *to, uint64_t *ns,
                                          struct lg_error *error) {
    ck_assert_ptr_nonnull(((struct apart_event *)from)->stream);
    ck_assert_ptr_nonnull(((struct apart_event *)to)->stream);
    (void)error;
    *ns = TEST_APART_ELAPSED_NS;
    return LG_OK;
}

/* What the other stream computes is computed at once: so what it waits for is made at once too. */
static void apart_event_wait(struct device_stream *s, struct device_event *event) {
    (void)s;
    event_reach((const struct apart_event *)event);
}

static bool apart_register(struct device *device, void *memory, size_t bytes, bool read_only) {
    (void)device;
    ck_assert_uint_gt(bytes, 0);
    if (read_only ? !apart->keeps_read_only : !apart->keeps)
        return false;
    for (size_t i = 0; i < apart->kept; i++)
        ck_assert_ptr_ne(kept[i], memory);
    ck_assert_uint_lt(apart->kept, KEPT_MAX);
    kept[apart->kept++] = memory;
    return true;
}

static void apart_unregister(struct device *device, void *memory) {
    size_t i = 0;
    (void)device;
    while (i < apart->kept && kept[i] != memory)
        i++;
    ck_assert_uint_lt(i, apart->kept);
    kept[i] = kept[--apart->kept];
}

void test_apart_lazy(bool lazy) {
    apart_lazy = lazy;
}

struct device *test_apart_open(struct test_apart *with) {
    struct device *device = NULL;
    ck_assert_int_eq(device_open("cpu", 1, &device, NULL), LG_OK);
    apart = with;
    apart_lazy = false;
    apart_ops = *device->ops;
    apart_ops.upload = apart_upload;
    apart_ops.download = apart_download;
    apart_ops.stream_open = apart_stream_open;
    apart_ops.stream_close = apart_stream_close;
    apart_ops.synchronize = apart_synchronize;
    apart_ops.event_open = apart_event_open;
    apart_ops.event_close = apart_event_close;
    apart_ops.event_record = apart_event_record;
    apart_ops.event_wait = apart_event_wait;
    apart_ops.event_synchronize = apart_event_synchronize;
    apart_ops.event_open_timed = apart_event_open;
    apart_ops.event_elapsed = apart_event_elapsed;
    apart_ops.host_register = apart_register;
    apart_ops.host_unregister = apart_unregister;
    device->ops = &apart_ops;
    device->host_memory = false;
    return device;
}
