#include "worker/trainer_pull.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/log.h"

static uint64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

/* ---- life */

enum lg_status trainer_pull_init(struct trainer_pull *pull, struct device *device, struct lg_error *error) {
    const struct device_ops *ops = device->ops;
    *pull = (struct trainer_pull){.device = device};
    pull->stream = ops->stream_open(device);
    pull->unused = ops->event_open(device);
    bool complete = pull->stream && pull->unused;
    for (size_t i = 0; i < TRAINER_PULL_CHUNKS; i++) {
        pull->chunks[i].event = ops->event_open(device);
        complete = complete && pull->chunks[i].event;
    }
    if (complete)
        return LG_OK;
    return lg_fail(error, LG_NO_MEMORY, "no memory to copy parameters to device \"%s\"", device->name);
}

static void let_go(struct trainer_pull *pull, size_t index) {
    struct trainer_pull_mapping *entry = &pull->mappings[index];
    size_t bytes;
    void *memory = (void *)(uintptr_t)lg_mapping_memory(entry->mapping, &bytes);
    if (entry->registered)
        pull->device->ops->host_unregister(pull->device, memory);
    lg_mapping_release(entry->mapping);
    *entry = pull->mappings[--pull->mapping_count];
}

void trainer_pull_leave(struct trainer_pull *pull) {
    if (pull->stream)
        (void)!pull->device->ops->synchronize(pull->stream, NULL); /* failures were reported */
    while (pull->mapping_count > 0)
        let_go(pull, 0);
    pull->under_way = false;
}

void trainer_pull_deinit(struct trainer_pull *pull) {
    if (!pull->device)
        return;
    const struct device_ops *ops = pull->device->ops;
    trainer_pull_leave(pull);
    for (size_t i = 0; i < TRAINER_PULL_CHUNKS; i++)
        ops->event_close(pull->chunks[i].event);
    ops->event_close(pull->unused);
    ops->stream_close(pull->stream);
    trainer_stage_deinit(&pull->stage);
    free(pull->mappings);
    *pull = (struct trainer_pull){0};
}

/* ---- shards' memory */

static void say_once(struct trainer_pull *pull, enum trainer_pull_way way) {
    if (pull->told & way)
        return;
    pull->told |= way;
    switch (way) {
    case TRAINER_PULL_IN_PLACE:
        log_info("parameters", "they go from the shards' memory to device \"%s\" without a copy on the host",
                 pull->device->name);
        break;
    case TRAINER_PULL_STAGED:
        log_info("parameters",
                 "device \"%s\" cannot keep memory of the shards in place, which this process may not write: what has "
                 "changed is copied on the host first",
                 pull->device->name);
        break;
    case TRAINER_PULL_MESSAGES:
        log_info("parameters", "they come in messages, and go to device \"%s\" from the host's memory",
                 pull->device->name);
        break;
    }
}

/* Without memory to note it, it is copied from all the same, only slower. */
static bool meet_new(struct trainer_pull *pull, struct lg_mapping *mapping) {
    size_t bytes;
    if (pull->mapping_count == pull->mapping_room) {
        size_t room = 2 * pull->mapping_room + 4;
        struct trainer_pull_mapping *more = realloc(pull->mappings, room * sizeof *more);
        if (!more)
            return false;
        pull->mappings = more;
        pull->mapping_room = room;
    }
    void *memory = (void *)(uintptr_t)lg_mapping_memory(mapping, &bytes);
    bool registered = pull->device->ops->host_register(pull->device, memory, bytes, true);
    lg_mapping_hold(mapping);
    pull->mappings[pull->mapping_count++] = (struct trainer_pull_mapping){mapping, registered};
    return registered;
}

static bool is_registered(struct trainer_pull *pull, struct lg_mapping *mapping) {
    for (size_t i = 0; i < pull->mapping_count; i++)
        if (pull->mappings[i].mapping == mapping)
            return pull->mappings[i].registered;
    return meet_new(pull, mapping);
}

void trainer_pull_meet(struct trainer_pull *pull, struct lg_mapping *mapping) {
    if (is_registered(pull, mapping))
        say_once(pull, TRAINER_PULL_IN_PLACE);
    else
        pull->staged = true; /* from now on */
}

/* Before anything is queued: takes note of where the places lie. */
static void look_at_mappings(struct trainer_pull *pull, const struct lg_place *places, size_t count) {
    const struct lg_mapping *last = NULL;
    for (size_t i = 0; i < count; i++) {
        if (!places[i].mapping || places[i].mapping == last)
            continue;
        last = places[i].mapping;
        trainer_pull_meet(pull, places[i].mapping);
    }
    if (pull->staged)
        say_once(pull, TRAINER_PULL_STAGED);
    else if (!last)
        say_once(pull, TRAINER_PULL_MESSAGES);
}

/* ---- copying */

static bool is_staged(const struct trainer_pull *pull, const struct lg_place *place) {
    return pull->staged && place->mapping;
}

static const float *source(const struct trainer_pull *pull, const struct lg_place *place) {
    return is_staged(pull, place) ? pull->buffer + place->offset : place->values;
}

/* One copy for places that follow each other on both sides. */
static size_t upload_run(struct trainer_pull *pull, const struct lg_place *places, size_t count) {
    const float *from = source(pull, &places[0]);
    size_t i = 1, elements = places[0].elements;
    for (; i < count && source(pull, &places[i]) == from + elements &&
           places[i].offset == places[0].offset + elements && (places[i].mapping == places[0].mapping || pull->staged);
         i++)
        elements += places[i].elements;
    pull->device->ops->upload(pull->stream, elements * sizeof(float), from, pull->target + places[0].offset);
    pull->copied_bytes += elements * sizeof(float);
    return i;
}

/* Those that are being changed just now are copied too, which keeps runs whole, and will not be called whole. */
static void queue_chunk(struct trainer_pull *pull, struct trainer_pull_chunk *chunk, struct lg_place *places) {
    if (pull->staged)
        trainer_stage_wait(&pull->stage, chunk->first + chunk->count);
    for (size_t i = 0; i < chunk->count; i++)
        if (!is_staged(pull, &places[i]))
            (void)lg_place_begin(&places[i]);
    for (size_t i = 0; i < chunk->count;)
        i += upload_run(pull, &places[i], chunk->count - i);
    pull->device->ops->event_record(pull->stream, chunk->event);
}

/* What was staged was looked at then. */
static enum lg_status settle_chunk(struct trainer_pull *pull, const struct trainer_pull_chunk *chunk,
                                   struct lg_place *places, struct lg_error *error) {
    enum lg_status status = pull->device->ops->event_synchronize(chunk->event, error);
    for (size_t i = chunk->first; status == LG_OK && i < chunk->first + chunk->count; i++)
        if (!is_staged(pull, &places[i]))
            (void)lg_place_end(&places[i]);
    return status;
}

static size_t chunk_places(const struct lg_place *places, size_t count) {
    size_t i = 0;
    for (uint64_t bytes = 0; i < count && bytes < TRAINER_PULL_CHUNK_BYTES; i++)
        bytes += places[i].elements * sizeof(float);
    return i;
}

enum lg_status trainer_pull_copy(struct trainer_pull *pull, struct lg_place *places, size_t count,
                                 struct lg_error *error) {
    size_t at = 0, queued = 0, settled = 0;
    enum lg_status status = LG_OK;
    pull->device->ops->event_wait(pull->stream, pull->unused);
    if (pull->staged)
        trainer_stage_begin(&pull->stage, places, count, pull->buffer);
    while (status == LG_OK && (at < count || settled < queued)) {
        if (at < count && queued - settled < TRAINER_PULL_CHUNKS) {
            struct trainer_pull_chunk *chunk = &pull->chunks[queued++ % TRAINER_PULL_CHUNKS];
            chunk->first = at;
            chunk->count = chunk_places(&places[at], count - at);
            queue_chunk(pull, chunk, &places[at]);
            at += chunk->count;
        } else
            status = settle_chunk(pull, &pull->chunks[settled++ % TRAINER_PULL_CHUNKS], places, error);
    }
    if (pull->staged)
        trainer_stage_wait(&pull->stage, count); /* also after a failure: they are the client's again */
    return status;
}

/* ---- the pull */

enum lg_status trainer_pull_start(struct trainer_pull *pull, struct lg_client *client, float *buffer, float *target,
                                  struct lg_error *error) {
    for (size_t i = pull->mapping_count; i-- > 0;)
        if (lg_mapping_gone(pull->mappings[i].mapping))
            let_go(pull, i); /* nothing is on its way: the pull before is done */
    pull->target = target;
    pull->buffer = buffer;
    enum lg_status status = lg_pull_start_places(client, buffer, error);
    pull->under_way = status == LG_OK;
    return status;
}

enum lg_status trainer_pull_go_on(struct trainer_pull *pull, struct lg_client *client, bool wait,
                                  struct lg_error *error) {
    struct lg_place *places;
    struct lg_error quiet = {0};
    size_t count;
    while (pull->under_way) {
        enum lg_status status = lg_pull_places(client, wait, &places, &count, &quiet);
        if (status == LG_UNAVAILABLE && !wait)
            return LG_OK;
        if (status == LG_OK && count > 0) {
            uint64_t start_ns = now_ns();
            look_at_mappings(pull, places, count);
            status = trainer_pull_copy(pull, places, count, &quiet);
            pull->copied_ns += now_ns() - start_ns;
        }
        pull->under_way = status == LG_OK && count > 0;
        if (status != LG_OK) {
            if (error)
                *error = quiet;
            return status;
        }
    }
    return LG_OK;
}
