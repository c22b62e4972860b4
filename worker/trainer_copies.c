#include "worker/trainer_copies.h"

enum lg_status trainer_copies_init(struct trainer_copies *copies, struct device *device, struct lg_error *error) {
    struct device_event **events[] = {&copies->upload.from, &copies->upload.to, &copies->download.from,
                                      &copies->download.to};
    *copies = (struct trainer_copies){.device = device};
    for (size_t i = 0; i < sizeof events / sizeof *events; i++) {
        *events[i] = device->ops->event_open_timed(device);
        if (!*events[i])
            return lg_fail(error, LG_NO_MEMORY, "no memory to time copies of device \"%s\"", device->name);
    }
    return LG_OK;
}

void trainer_copies_deinit(struct trainer_copies *copies) {
    if (!copies->device)
        return;
    struct device_event *events[] = {copies->upload.from, copies->upload.to, copies->download.from,
                                     copies->download.to};
    for (size_t i = 0; i < sizeof events / sizeof *events; i++)
        copies->device->ops->event_close(events[i]);
    *copies = (struct trainer_copies){0};
}

void trainer_copies_await(struct trainer_copies *copies, struct device_stream *computing, struct device_event *event) {
    const struct device_ops *ops = copies->device->ops;
    ops->event_record(computing, copies->upload.from);
    ops->event_wait(computing, event);
    ops->event_record(computing, copies->upload.to);
    copies->upload.used = true;
}

void trainer_copies_end_of_step(struct trainer_copies *copies, struct device_stream *computing,
                                struct device_stream *downloads) {
    const struct device_ops *ops = copies->device->ops;
    ops->event_record(computing, copies->download.from);
    ops->event_record(downloads, copies->download.to);
    copies->download.used = true;
}

static enum lg_status take_span(const struct device_ops *ops, struct trainer_copies_span *span, uint64_t *ns,
                                struct lg_error *error) {
    uint64_t elapsed_ns = 0;
    if (!span->used)
        return LG_OK;
    span->used = false;
    enum lg_status status = ops->event_synchronize(span->from, error);
    if (status == LG_OK)
        status = ops->event_synchronize(span->to, error);
    if (status == LG_OK)
        status = ops->event_elapsed(span->from, span->to, &elapsed_ns, error);
    *ns += elapsed_ns;
    return status;
}

enum lg_status trainer_copies_take(struct trainer_copies *copies, uint64_t *ns, uint64_t *bytes,
                                   struct lg_error *error) {
    *ns = 0;
    *bytes = copies->bytes;
    copies->bytes = 0;
    if (!copies->device)
        return LG_OK;
    enum lg_status status = take_span(copies->device->ops, &copies->upload, ns, error);
    return status == LG_OK ? take_span(copies->device->ops, &copies->download, ns, error) : status;
}
