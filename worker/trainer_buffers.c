#include "worker/trainer_buffers.h"

#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { PAGE_BYTES = 4096 };

/* [elements] zeroed, freed by deinit; NULL: no memory. Whole pages, since devices keep pages in place. */
static float *own(struct trainer_buffers *buffers, size_t slot) {
    size_t bytes = (size_t)buffers->model->elements * sizeof(float);
    bytes = (bytes + PAGE_BYTES) / PAGE_BYTES * PAGE_BYTES;
    float *memory = aligned_alloc(PAGE_BYTES, bytes);
    if (memory)
        memset(memory, 0, bytes);
    return buffers->owned[slot] = memory;
}

/* Copies go faster, and beside other work, from and to memory that stays in place; where it cannot, they go. */
static void keep_in_place(struct trainer_buffers *buffers, float *memory) {
    struct device *device = buffers->model->device;
    size_t bytes = (size_t)buffers->model->elements * sizeof(float);
    if (!buffers->stream || !device->ops->host_register(device, memory, bytes, false))
        return;
    buffers->registered[buffers->registered_count++] = memory;
}

static void let_go(struct trainer_buffers *buffers, size_t down_to) {
    struct device *device = buffers->model->device;
    if (buffers->registered_count > down_to)
        (void)!device->ops->synchronize(buffers->stream, NULL); /* nothing is on its way; failures were reported */
    while (buffers->registered_count > down_to)
        device->ops->host_unregister(device, buffers->registered[--buffers->registered_count]);
}

/* What it takes to copy beside the model's work, and to fill parameters while others are computed from. */
static enum lg_status open_stream(struct trainer_buffers *buffers, struct lg_error *error) {
    struct model *model = buffers->model;
    const struct device_ops *ops = model->device->ops;
    const size_t bytes = (size_t)model->elements * sizeof(float);
    buffers->stream = ops->stream_open(model->device);
    buffers->adopted = ops->event_open(model->device);
    buffers->buckets = calloc(model->tensor_count + 1, sizeof *buffers->buckets);
    if (!buffers->stream || !buffers->adopted || !buffers->buckets)
        return lg_fail(error, LG_NO_MEMORY, "no memory to copy gradients from device \"%s\"", model->device->name);
    buffers->own_on_device = buffers->ahead_on_device = ops->alloc(model->device, bytes);
    buffers->on_device = buffers->of_model = model->parameters;
    if (!buffers->own_on_device)
        return lg_fail(error, LG_NO_MEMORY, "no memory for a second copy of %" PRIu64 " parameters on device \"%s\"",
                       model->elements, model->device->name);
    enum lg_status status = trainer_copies_init(&buffers->copies, model->device, error);
    return status == LG_OK ? trainer_pull_init(&buffers->pull, model->device, error) : status;
}

enum lg_status trainer_buffers_init(struct trainer_buffers *buffers, struct model *model, struct lg_error *error) {
    *buffers = (struct trainer_buffers){.model = model};
    buffers->ahead = own(buffers, 0);
    buffers->parameters = model->device->host_memory ? model->parameters : own(buffers, 1);
    if (!buffers->ahead || !buffers->parameters)
        return lg_fail(error, LG_NO_MEMORY, "no memory for a second copy of %" PRIu64 " parameters", model->elements);
    if (model->device->host_memory)
        return LG_OK;
    enum lg_status status = open_stream(buffers, error);
    if (status != LG_OK)
        return status;
    keep_in_place(buffers, buffers->ahead);
    keep_in_place(buffers, buffers->parameters);
    buffers->lent = buffers->registered_count;
    return LG_OK;
}

void trainer_buffers_leave(struct trainer_buffers *buffers) {
    if (!buffers->stream)
        return;
    trainer_pull_leave(&buffers->pull);
    let_go(buffers, buffers->lent);
}

void trainer_buffers_deinit(struct trainer_buffers *buffers) {
    if (buffers->model && !buffers->model->device->host_memory) {
        const struct device_ops *ops = buffers->model->device->ops;
        trainer_pull_deinit(&buffers->pull);
        trainer_copies_deinit(&buffers->copies);
        let_go(buffers, 0);
        for (size_t i = 0; buffers->buckets && i < buffers->model->tensor_count; i++)
            ops->event_close(buffers->buckets[i].event);
        ops->event_close(buffers->adopted);
        ops->stream_close(buffers->stream);
        if (buffers->of_model)
            model_use_parameters(buffers->model, buffers->of_model);
        ops->free(buffers->model->device, buffers->own_on_device);
        free(buffers->buckets);
    }
    for (size_t i = 0; i < sizeof buffers->owned / sizeof *buffers->owned; i++)
        free(buffers->owned[i]);
    *buffers = (struct trainer_buffers){0};
}

enum lg_status trainer_buffers_join(struct trainer_buffers *buffers, struct lg_client *client, size_t wanted,
                                    struct lg_error *error) {
    for (size_t i = 0; i < wanted && i < LG_GRADIENT_BUFFERS; i++) {
        float *memory = lg_gradient_buffer(client, i);
        if (memory)
            buffers->gradient[buffers->gradient_count++] = memory;
    }
    if (buffers->gradient_count == 0) {
        buffers->gradient[0] = buffers->stream ? own(buffers, 2) : buffers->model->gradients;
        buffers->gradient_count = 1;
    }
    if (!buffers->gradient[0])
        return lg_fail(error, LG_NO_MEMORY, "no memory for %" PRIu64 " gradients", buffers->model->elements);
    for (size_t i = 0; i < buffers->gradient_count; i++)
        keep_in_place(buffers, buffers->gradient[i]);
    trainer_buffers_turn(buffers);
    return LG_OK;
}

enum lg_status trainer_buffers_pull_start(struct trainer_buffers *buffers, struct lg_client *client,
                                          struct lg_error *error) {
    buffers->pulled = false;
    if (!buffers->stream)
        return lg_pull_start(client, buffers->ahead, error);
    return trainer_pull_start(&buffers->pull, client, buffers->ahead, buffers->ahead_on_device, error);
}

enum lg_status trainer_buffers_pull_go_on(struct trainer_buffers *buffers, struct lg_client *client,
                                          struct lg_error *error) {
    return buffers->stream ? trainer_pull_go_on(&buffers->pull, client, false, error) : LG_OK;
}

enum lg_status trainer_buffers_pull_wait(struct trainer_buffers *buffers, struct lg_client *client,
                                         struct lg_error *error) {
    if (!buffers->stream)
        return lg_pull_wait(client, error);
    enum lg_status status = trainer_pull_go_on(&buffers->pull, client, true, error);
    buffers->pulled = status == LG_OK;
    return status;
}

static void swap(float **a, float **b) {
    float *kept = *a;
    *a = *b;
    *b = kept;
}

/* The model's stream waits for the upload, the host does not. The host's buffer is filled again after the next adopt at
 * the earliest, so it is enough to wait for the upload before the last. */
static void upload_ahead(struct trainer_buffers *buffers) {
    struct model *model = buffers->model;
    const struct device_ops *ops = model->device->ops;
    ops->event_wait(buffers->pull.stream, buffers->pull.unused);
    ops->upload(buffers->pull.stream, model->elements * sizeof(float), buffers->ahead, buffers->ahead_on_device);
    ops->event_record(buffers->pull.stream, buffers->adopted);
    trainer_copies_await(&buffers->copies, model->stream, buffers->adopted);
    buffers->copies.bytes += model->elements * sizeof(float);
}

/* What a pull has copied is there, and the host knows: kernels that are queued from now on find it. */
enum lg_status trainer_buffers_adopt(struct trainer_buffers *buffers, struct lg_error *error) {
    struct model *model = buffers->model;
    if (buffers->stream) {
        enum lg_status status = model->device->ops->event_synchronize(buffers->adopted, error);
        if (status != LG_OK)
            return status;
        if (!buffers->pulled)
            upload_ahead(buffers);
        /* what was queued so far computes from the present ones, which are filled next */
        model->device->ops->event_record(model->stream, buffers->pull.unused);
        swap(&buffers->on_device, &buffers->ahead_on_device);
    }
    swap(&buffers->parameters, &buffers->ahead);
    buffers->pulled = false;
    model_use_parameters(model, buffers->stream ? buffers->on_device : buffers->parameters);
    return LG_OK;
}

void trainer_buffers_turn(struct trainer_buffers *buffers) {
    buffers->gradients = buffers->gradient[buffers->turn];
    buffers->turn = (buffers->turn + 1) % buffers->gradient_count;
    if (!buffers->stream)
        model_use_gradients(buffers->model, buffers->gradients);
}

enum lg_status trainer_buffers_fetch(struct trainer_buffers *buffers, size_t first, size_t count, uint64_t from,
                                     uint64_t to, struct lg_error *error) {
    struct model *model = buffers->model;
    const struct device_ops *ops = model->device->ops;
    struct trainer_bucket *bucket = &buffers->buckets[buffers->bucket_count];
    assert(buffers->bucket_count < model->tensor_count);
    if (!bucket->event)
        bucket->event = ops->event_open(model->device);
    if (!bucket->event)
        return lg_fail(error, LG_NO_MEMORY, "no memory to copy gradients from device \"%s\"", model->device->name);
    bucket->first = first;
    bucket->count = count;
    ops->event_record(model->stream, bucket->event);
    ops->event_wait(buffers->stream, bucket->event);
    ops->download(buffers->stream, (to - from) * sizeof(float), model->gradients + from, buffers->gradients + from);
    ops->event_record(buffers->stream, bucket->event);
    buffers->copies.bytes += (to - from) * sizeof(float);
    buffers->bucket_count++;
    return LG_OK;
}

enum lg_status trainer_buffers_arrive(struct trainer_buffers *buffers, size_t *first, size_t *count,
                                      struct lg_error *error) {
    *first = *count = 0;
    if (buffers->bucket_next == buffers->bucket_count) {
        buffers->bucket_next = buffers->bucket_count = 0;
        return LG_OK;
    }
    const struct trainer_bucket *bucket = &buffers->buckets[buffers->bucket_next++];
    enum lg_status status = buffers->model->device->ops->event_synchronize(bucket->event, error);
    if (status == LG_OK) {
        *first = bucket->first;
        *count = bucket->count;
    }
    return status;
}

enum lg_status trainer_buffers_take_copies(struct trainer_buffers *buffers, uint64_t *ns, uint64_t *bytes,
                                           struct lg_error *error) {
    enum lg_status status = trainer_copies_take(&buffers->copies, ns, bytes, error);
    *bytes += buffers->pull.copied_bytes - buffers->pulled_bytes;
    buffers->pulled_bytes = buffers->pull.copied_bytes;
    return status;
}
