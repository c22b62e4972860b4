/* How fast parameters go from the memory of shards to a device, and gradients from a device to the memory that shards
 * read, beside what the same copies take from and to page-locked memory: the bar is 0.8 of that.
 *
 *     build/release/bench/device_path --device cuda:0
 *
 * The memory is a shard's segment and a client's ring as daemons have them, the copies are the trainer's
 * (worker/trainer_pull.h); there are no daemons. A second measurement has a thread that goes on changing the units, as
 * a shard under load does: what was copied in vain is copied again, up to as many times as a pull does. */
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "bench/clock.h"
#include "client/mapping.h"
#include "common/block.h"
#include "common/option.h"
#include "server/segment.h"
#include "worker/trainer_pull.h"

struct settings {
    char device[OPTION_TEXT_BYTES];
    int64_t mib, bucket_mib, shards;
    double seconds, bar;
};

#define ENTRY(key_, type_, fallback_, ...)                                                                             \
    { .key = #key_, .type = type_, .offset = offsetof(struct settings, key_), .fallback = fallback_, __VA_ARGS__ }
static const struct option options[] = {
    ENTRY(device, OPTION_STRING, "auto", .help = "auto, cpu or cuda:N, as in worker.yaml"),
    ENTRY(mib, OPTION_INT, "512", .least = 1, .most = 65536, .help = "MiB of parameters and of gradients"),
    ENTRY(bucket_mib, OPTION_INT, "8", .least = 1, .most = 1024, .help = "MiB of gradients that go at once"),
    ENTRY(shards, OPTION_INT, "2", .least = 1, .most = 64, .help = "shards that the parameters lie on"),
    ENTRY(seconds, OPTION_FLOAT, "1", .least = 0.01, .most = 60, .help = "for each line"),
    ENTRY(bar, OPTION_FLOAT, "0.8", .least = 0, .most = 2, .help = "least share of the page-locked copy's speed"),
};
#undef ENTRY

static const struct option_table table = {
    .name = "device_path",
    .summary = "measure the way between shards' memory and a device",
    .options = options,
    .count = sizeof options / sizeof *options,
    .config_bytes = sizeof(struct settings),
};

struct bench {
    struct settings settings;
    struct device *device;
    const struct device_ops *ops;
    struct device_stream *stream;
    struct device_event **events; /* [buckets] */
    struct trainer_pull pull;
    size_t bytes, bucket_bytes;
    char *host, *ring, *memory; /* page-locked if that can be, a memfd, device memory; [bytes] each */
    bool host_kept, ring_kept;
    struct wire_unit *units; /* [shard_units] of every shard */
    uint32_t shard_units, place_count;
    struct segment *segments;     /* [shards] */
    struct lg_mapping **mappings; /* [shards] */
    struct lg_place *places;
    atomic_bool stop; /* the thread that changes units */
    _Atomic uint64_t changes;
    uint64_t copied, in_vain; /* places */
};

/* ---- what it works on */

static char *shared_memory(size_t bytes) {
    int fd = memfd_create("lagoon-gradients", MFD_CLOEXEC);
    char *memory = MAP_FAILED;
    if (fd >= 0 && posix_fallocate(fd, 0, (off_t)bytes) == 0)
        memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (fd >= 0)
        close(fd);
    return memory == MAP_FAILED ? NULL : memory;
}

/* Units of 65,536 elements, as large tensors have them, evenly over the shards. */
static enum lg_status make_segments(struct bench *t, struct lg_error *error) {
    const size_t shards = (size_t)t->settings.shards, unit_bytes = BLOCK_ELEMENTS * sizeof(float);
    t->shard_units = (uint32_t)((t->bytes / unit_bytes + shards - 1) / shards);
    t->bytes = shards * t->shard_units * unit_bytes;
    t->units = calloc(t->shard_units, sizeof *t->units);
    t->segments = calloc(shards, sizeof *t->segments);
    t->mappings = calloc(shards, sizeof(struct lg_mapping *));
    t->places = calloc(shards * t->shard_units, sizeof *t->places);
    if (!t->units || !t->segments || !t->mappings || !t->places)
        return lg_fail(error, LG_NO_MEMORY, "no memory for %zu shards", shards);
    for (uint32_t i = 0; i < t->shard_units; i++)
        t->units[i] = (struct wire_unit){.unit = i, .elements = BLOCK_ELEMENTS};
    for (size_t i = 0; i < shards; i++) {
        struct segment *segment = &t->segments[i];
        enum lg_status status =
            segment_init(segment, "lagoon-parameters", t->shard_units, t->shard_units * unit_bytes, error);
        if (status != LG_OK)
            return status;
        for (uint32_t unit = 0; unit < t->shard_units; unit++) {
            local_unit_begin(&segment->head->units[unit]);
            memset(segment->data + (size_t)unit * BLOCK_ELEMENTS, 1, unit_bytes);
            local_unit_end(&segment->head->units[unit], 1);
        }
        t->mappings[i] = mapping_new(t->units, t->shard_units, segment->bytes, segment->fd);
        if (!t->mappings[i])
            return lg_fail(error, LG_IO, "cannot map a shard's memory");
    }
    return LG_OK;
}

static enum lg_status open_all(struct bench *t, struct lg_error *error) {
    enum lg_status status = device_open(t->settings.device, 1, &t->device, error);
    if (status != LG_OK)
        return status;
    t->ops = t->device->ops;
    t->bytes = (size_t)t->settings.mib << 20;
    t->bucket_bytes = (size_t)t->settings.bucket_mib << 20;
    status = make_segments(t, error);
    if (status == LG_OK)
        status = trainer_pull_init(&t->pull, t->device, error);
    if (status != LG_OK)
        return status;
    t->stream = t->ops->stream_open(t->device);
    t->host = aligned_alloc(4096, t->bytes);
    t->ring = shared_memory(t->bytes);
    t->memory = t->ops->alloc(t->device, t->bytes);
    t->pull.target = (float *)(void *)t->memory;
    t->pull.buffer = (float *)(void *)t->host;
    const size_t buckets = (t->bytes + t->bucket_bytes - 1) / t->bucket_bytes;
    t->events = calloc(buckets, sizeof(struct device_event *));
    for (size_t i = 0; t->events && i < buckets; i++)
        t->events[i] = t->ops->event_open(t->device);
    if (!t->stream || !t->host || !t->ring || !t->memory || !t->events)
        return lg_fail(error, LG_NO_MEMORY, "no memory for %zu MiB of parameters and as many gradients",
                       t->bytes >> 20);
    memset(t->host, 1, t->bytes);
    t->host_kept = t->ops->host_register(t->device, t->host, t->bytes, false);
    t->ring_kept = t->ops->host_register(t->device, t->ring, t->bytes, false);
    return LG_OK;
}

static void close_all(struct bench *t) {
    trainer_pull_deinit(&t->pull);
    if (t->host_kept)
        t->ops->host_unregister(t->device, t->host);
    if (t->ring_kept)
        t->ops->host_unregister(t->device, t->ring);
    if (t->device) {
        for (size_t i = 0; t->events && i < (t->bytes + t->bucket_bytes - 1) / t->bucket_bytes; i++)
            t->ops->event_close(t->events[i]);
        t->ops->stream_close(t->stream);
        t->ops->free(t->device, t->memory);
    }
    for (int64_t i = 0; t->mappings && i < t->settings.shards; i++)
        if (t->mappings[i]) {
            lg_mapping_release(t->mappings[i]);
            segment_deinit(&t->segments[i]);
        }
    if (t->ring)
        munmap(t->ring, t->bytes);
    free(t->host);
    free(t->events);
    free(t->units);
    free(t->segments);
    free(t->mappings);
    free(t->places);
    device_close(t->device);
}

/* ---- copies of everything, once */

typedef enum lg_status work_fn(struct bench *t, struct lg_error *error);

static enum lg_status upload_kept(struct bench *t, struct lg_error *error) {
    t->ops->upload(t->stream, t->bytes, t->host, t->memory);
    return t->ops->synchronize(t->stream, error);
}

static enum lg_status download_kept(struct bench *t, struct lg_error *error) {
    t->ops->download(t->stream, t->bytes, t->memory, t->host);
    return t->ops->synchronize(t->stream, error);
}

static void place_unit(struct bench *t, size_t shard, uint32_t unit) {
    struct lg_mapping *mapping = t->mappings[shard];
    t->places[t->place_count++] = (struct lg_place){.values = mapping_values(mapping, unit),
                                                    .offset = (shard * t->shard_units + unit) * BLOCK_ELEMENTS,
                                                    .elements = BLOCK_ELEMENTS,
                                                    .mapping = mapping,
                                                    .guard = mapping_unit(mapping, unit)};
}

/* As a pull does: what was changed meanwhile goes again, a few times. */
static enum lg_status pull_all(struct bench *t, bool staged, struct lg_error *error) {
    enum lg_status status = LG_OK;
    t->pull.staged = staged;
    t->place_count = 0;
    for (size_t shard = 0; shard < (size_t)t->settings.shards; shard++)
        for (uint32_t unit = 0; unit < t->shard_units; unit++)
            place_unit(t, shard, unit);
    for (int i = 0; i < LOCAL_TRIES && t->place_count > 0 && status == LG_OK; i++) {
        uint32_t again = 0;
        status = trainer_pull_copy(&t->pull, t->places, t->place_count, error);
        t->copied += t->place_count;
        for (uint32_t k = 0; k < t->place_count; k++)
            if (!t->places[k].whole)
                t->places[again++] = t->places[k];
        t->in_vain += again;
        t->place_count = again;
    }
    return status;
}

static enum lg_status pull_in_place(struct bench *t, struct lg_error *error) {
    return pull_all(t, false, error);
}

/* As where the device cannot read shards' memory: a few threads copy on the host first. */
static enum lg_status pull_staged(struct bench *t, struct lg_error *error) {
    return pull_all(t, true, error);
}

/* As the backward pass does: every bucket has an event, and the host waits for them in turn. */
static enum lg_status push_to_ring(struct bench *t, struct lg_error *error) {
    enum lg_status status = LG_OK;
    size_t count = 0;
    for (size_t at = 0; at < t->bytes; at += t->bucket_bytes, count++) {
        size_t bytes = t->bytes - at < t->bucket_bytes ? t->bytes - at : t->bucket_bytes;
        t->ops->download(t->stream, bytes, t->memory + at, t->ring + at);
        t->ops->event_record(t->stream, t->events[count]);
    }
    for (size_t i = 0; i < count && status == LG_OK; i++)
        status = t->ops->event_synchronize(t->events[i], error);
    return status;
}

/* ---- measuring */

/* GB/s of as many as take settings.seconds, after one to warm up, which registers. */
static enum lg_status measure(struct bench *t, work_fn *work, double *rate, struct lg_error *error) {
    enum lg_status status = work(t, error);
    double start = clock_seconds(), spent = 0;
    uint64_t count = 0;
    t->copied = t->in_vain = 0;
    for (; status == LG_OK && spent < t->settings.seconds; count++) {
        status = work(t, error);
        spent = clock_seconds() - start;
    }
    *rate = (double)count * (double)t->bytes / (spent > 0 ? spent : 1) / 1e9;
    return status;
}

/* `than`: the speed it is compared with, 0: it is the measure. *missed counts the bars that were missed. */
static enum lg_status line(struct bench *t, const char *name, work_fn *work, double *than, bool barred, int *missed,
                           struct lg_error *error) {
    double rate = 0;
    enum lg_status status = measure(t, work, &rate, error);
    if (status != LG_OK)
        return status;
    printf("%-56s %8.2f GB/s", name, rate);
    if (*than > 0)
        printf("   ratio %.2f", rate / *than);
    else
        *than = rate;
    if (barred) {
        bool met = rate >= t->settings.bar * *than;
        printf(", bar %.2f: %s", t->settings.bar, met ? "met" : "missed");
        *missed += !met;
    }
    if (t->in_vain > 0)
        printf("   %.1f %% of the copies in vain", 100 * (double)t->in_vain / (double)t->copied);
    printf("\n");
    fflush(stdout);
    return LG_OK;
}

/* Plays the shards: one unit after the other, all the time. */
static void *change_units(void *context) {
    struct bench *t = context;
    for (uint64_t version = 2; !atomic_load(&t->stop); version++)
        for (size_t shard = 0; shard < (size_t)t->settings.shards && !atomic_load(&t->stop); shard++)
            for (uint32_t unit = 0; unit < t->shard_units && !atomic_load(&t->stop); unit++) {
                struct segment *segment = &t->segments[shard];
                float *values = segment->data + (size_t)unit * BLOCK_ELEMENTS;
                local_unit_begin(&segment->head->units[unit]);
                for (size_t i = 0; i < BLOCK_ELEMENTS; i++)
                    values[i] = values[i] * 0.999f + 0.001f;
                local_unit_end(&segment->head->units[unit], version);
                atomic_fetch_add_explicit(&t->changes, 1, memory_order_relaxed);
            }
    return NULL;
}

static enum lg_status beside_changes(struct bench *t, const char *name, work_fn *work, double *than, int *missed,
                                     struct lg_error *error) {
    pthread_t thread;
    atomic_store(&t->stop, false);
    atomic_store(&t->changes, 0);
    if (pthread_create(&thread, NULL, change_units, t) != 0)
        return lg_fail(error, LG_NO_MEMORY, "cannot start a thread");
    double start = clock_seconds();
    enum lg_status status = line(t, name, work, than, false, missed, error);
    double rate = (double)atomic_load(&t->changes) * BLOCK_ELEMENTS * sizeof(float) / (clock_seconds() - start) / 1e9;
    atomic_store(&t->stop, true);
    pthread_join(thread, NULL);
    printf("%-56s %8.2f GB/s\n", "  meanwhile one thread has changed units at", rate);
    return status;
}

static enum lg_status run(struct bench *t, int *missed, struct lg_error *error) {
    double up = 0, down = 0;
    enum lg_status status = open_all(t, error);
    if (status != LG_OK)
        return status;
    printf("%s; %zu MiB, %d shards\n", t->device->name, t->bytes >> 20, (int)t->settings.shards);
    if (!t->host_kept)
        printf("it keeps no memory in place: the first line is an ordinary copy\n");
    status = line(t, "upload from page-locked memory", upload_kept, &up, false, missed, error);
    for (size_t i = 0; i < (size_t)t->settings.shards && status == LG_OK; i++)
        trainer_pull_meet(&t->pull, t->mappings[i]);
    if (status == LG_OK && t->host_kept && t->pull.staged)
        printf("it cannot keep memory in place that this process may not write: \"in place\" is an ordinary copy\n");
    bool staged = t->host_kept && t->pull.staged;
    if (status == LG_OK)
        status = line(t, "shards' memory to the device, in place", pull_in_place, &up, t->host_kept && !staged, missed,
                      error);
    if (status == LG_OK)
        status = line(t, "shards' memory to the device, staged", pull_staged, &up, staged, missed, error);
    if (status == LG_OK)
        status = beside_changes(t, "the same that has the bar, while units are changed",
                                staged ? pull_staged : pull_in_place, &up, missed, error);
    if (status == LG_OK)
        status = line(t, "download to page-locked memory", download_kept, &down, false, missed, error);
    if (status == LG_OK)
        status = line(t, "gradients to the ring, bucket by bucket", push_to_ring, &down, t->host_kept, missed, error);
    return status;
}

int main(int argc, char **argv) {
    struct bench bench = {0};
    struct lg_error error = {0};
    struct config *config = config_new();
    int missed = 0;
    const struct option_table *tables[] = {&table};
    static const char *const prefixes[] = {""};
    enum lg_status status = option_take_flags_of(tables, prefixes, 1, &argc, argv, config, &error);
    if (status == LG_OK && argc > 1)
        status = lg_fail(&error, LG_INVALID, "\"%s\" is not a flag", argv[1]);
    if (status == LG_OK)
        status = option_apply(&table, "", config, &bench.settings, &error);
    if (status == LG_OK)
        status = run(&bench, &missed, &error);
    close_all(&bench);
    config_free(config);
    if (status == LG_OK)
        return missed > 0 ? 2 : EXIT_SUCCESS;
    fprintf(stderr, "device_path: %s\n", error.message);
    return EXIT_FAILURE;
}
