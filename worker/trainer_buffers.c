#include "worker/trainer_buffers.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { ALIGNMENT = 64 };

/* [elements] zeroed, freed by deinit; NULL: no memory. */
static float *own(struct trainer_buffers *buffers, size_t slot) {
    size_t bytes = (size_t)buffers->model->elements * sizeof(float);
    bytes = (bytes + ALIGNMENT) / ALIGNMENT * ALIGNMENT;
    float *memory = aligned_alloc(ALIGNMENT, bytes);
    if (memory)
        memset(memory, 0, bytes);
    return buffers->owned[slot] = memory;
}

enum lg_status trainer_buffers_init(struct trainer_buffers *buffers, struct model *model, struct lg_error *error) {
    struct device *device = model->device;
    *buffers = (struct trainer_buffers){.model = model};
    buffers->ahead = own(buffers, 0);
    buffers->parameters = device->host_memory ? model->parameters : own(buffers, 1);
    if (!device->host_memory)
        buffers->stream = device->ops->stream_open(device);
    if (!buffers->ahead || !buffers->parameters || (!device->host_memory && !buffers->stream))
        return lg_fail(error, LG_NO_MEMORY, "no memory for a second copy of %" PRIu64 " parameters", model->elements);
    return LG_OK;
}

void trainer_buffers_deinit(struct trainer_buffers *buffers) {
    if (buffers->stream)
        buffers->model->device->ops->stream_close(buffers->stream);
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
    trainer_buffers_turn(buffers);
    return LG_OK;
}

enum lg_status trainer_buffers_adopt(struct trainer_buffers *buffers, struct lg_error *error) {
    struct model *model = buffers->model;
    float *filled = buffers->ahead;
    buffers->ahead = buffers->parameters;
    buffers->parameters = filled;
    if (!buffers->stream) {
        model_use_parameters(model, filled);
        return LG_OK;
    }
    model->device->ops->upload(buffers->stream, model->elements * sizeof(float), filled, model->parameters);
    return model->device->ops->synchronize(buffers->stream, error);
}

void trainer_buffers_turn(struct trainer_buffers *buffers) {
    buffers->gradients = buffers->gradient[buffers->turn];
    buffers->turn = (buffers->turn + 1) % buffers->gradient_count;
    if (!buffers->stream)
        model_use_gradients(buffers->model, buffers->gradients);
}

enum lg_status trainer_buffers_download(const struct trainer_buffers *buffers, uint64_t from, uint64_t to,
                                        struct lg_error *error) {
    const struct model *model = buffers->model;
    if (!buffers->stream)
        return LG_OK;
    model->device->ops->download(buffers->stream, (to - from) * sizeof(float), model->gradients + from,
                                 buffers->gradients + from);
    return model->device->ops->synchronize(buffers->stream, error);
}
