#include "worker/trainer_encoder.h"

#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/log.h"

enum { PAGE_BYTES = 4096, ALIGNMENT = 64 };

bool trainer_encoder_wanted(const struct model *model, const struct lg_client *client) {
    struct lg_encoding how;
    return !model->device->host_memory && lg_client_encoding(client, &how);
}

/* ---- life */

static size_t rounded(size_t bytes, size_t to) {
    return (bytes + to - 1) / to * to;
}

/* Byte at which a unit begins when those before it take `end`. */
static size_t place_of(const struct trainer_encoder *encoder, size_t end) {
    return rounded(end, device_codec_alignment(encoder->how.codec));
}

/* Of all units of a push, encoded. */
static size_t bytes_of(const struct trainer_encoder *encoder) {
    const struct block_table *units = encoder->how.units;
    size_t end = 0;
    for (uint32_t i = 0; i < units->count; i++)
        end = place_of(encoder, end) + encoder->how.codec->bytes_max(units->blocks[i].elements, &encoder->how.options);
    return end;
}

/* What a side takes, but for bytes that lie in `lent` (not NULL); sets its pointers where there is a block. Arrays that
 * the host writes come first. */
static size_t side_layout(const struct trainer_encoder *encoder, struct encoder_side *side, uint8_t *lent) {
    const size_t count = encoder->how.units->count;
    char *block = side->block;
    size_t at[5] = {0};
    at[1] = at[0] + rounded(count * sizeof *side->units, ALIGNMENT);
    at[2] = at[1] + rounded(count * sizeof *side->factors, ALIGNMENT);
    at[3] = at[2] + rounded(count * sizeof *side->shares, ALIGNMENT);
    at[4] = at[3] + rounded(count * sizeof *side->lengths, ALIGNMENT);
    if (block) {
        side->units = (void *)(block + at[0]);
        side->factors = (void *)(block + at[1]);
        side->shares = (void *)(block + at[2]);
        side->lengths = (void *)(block + at[3]);
        side->bytes = lent ? lent : (void *)(block + at[4]);
    }
    return rounded(at[4] + (lent ? 0 : bytes_of(encoder)), PAGE_BYTES);
}

static void units_fill(const struct trainer_encoder *encoder, struct device_unit *units) {
    const struct block_table *table = encoder->how.units;
    size_t end = 0;
    for (uint32_t i = 0; i < table->count; i++) {
        const struct block *block = &table->blocks[i];
        units[i] =
            (struct device_unit){.first = block->offset, .at = place_of(encoder, end), .elements = block->elements};
        end = units[i].at + encoder->how.codec->bytes_max(block->elements, &encoder->how.options);
    }
}

static bool push_init(struct trainer_encoder *encoder, struct encoder_push *push, bool own_values) {
    struct device *device = encoder->model->device;
    const size_t bytes = side_layout(encoder, &push->host, push->lent);
    push->values = encoder->model->gradients;
    if (own_values)
        push->values = push->own_values =
            device->ops->alloc(device, encoder->model->elements * sizeof *push->own_values);
    push->device.block = device->ops->alloc(device, side_layout(encoder, &push->device, NULL));
    push->host.block = aligned_alloc(PAGE_BYTES, bytes);
    push->encoded = calloc(encoder->how.units->count, sizeof *push->encoded);
    if (!push->values || !push->device.block || !push->host.block || !push->encoded)
        return false;
    memset(push->host.block, 0, bytes);
    push->kept_in_place = device->ops->host_register(device, push->host.block, bytes, false);
    (void)side_layout(encoder, &push->host, push->lent);
    (void)side_layout(encoder, &push->device, NULL);
    units_fill(encoder, push->host.units);
    return true;
}

static void push_deinit(struct device *device, struct encoder_push *push) {
    if (push->kept_in_place)
        device->ops->host_unregister(device, push->host.block);
    device->ops->free(device, push->own_values);
    device->ops->free(device, push->device.block);
    free(push->host.block);
    free(push->encoded);
}

/* Starts from what the client's residual is: zero, or what another trainer has left. */
static enum lg_status residual_init(struct trainer_encoder *encoder, struct lg_client *client, struct lg_error *error) {
    const struct device_ops *ops = encoder->model->device->ops;
    uint64_t elements;
    const float *left = lg_client_residual(client, &elements);
    assert(left && elements == encoder->model->elements);
    ops->upload(encoder->stream, elements * sizeof *left, left, encoder->residual);
    return ops->synchronize(encoder->stream, error);
}

enum lg_status trainer_encoder_init(struct trainer_encoder *encoder, struct model *model, struct lg_client *client,
                                    size_t pushes, float *const *lent, size_t lent_count, struct lg_error *error) {
    struct device *device = model->device;
    *encoder = (struct trainer_encoder){.model = model, .count = pushes};
    const bool encodes = lg_client_encoding(client, &encoder->how);
    assert(encodes && pushes <= LG_GRADIENT_BUFFERS);
    const bool feedback = encoder->how.codec->feedback;
    const size_t units = encoder->how.units->count;
    encoder->stream = device->ops->stream_open(device);
    encoder->settled = device->ops->event_open(device);
    encoder->rates = calloc(units, sizeof *encoder->rates);
    encoder->rates_now = calloc(units, sizeof *encoder->rates_now);
    encoder->buckets = calloc(model->tensor_count + 1, sizeof *encoder->buckets);
    if (feedback)
        encoder->residual = device->ops->alloc(device, model->elements * sizeof *encoder->residual);
    for (size_t i = 0; i < model->tensor_count; i++)
        encoder->some_plain = encoder->some_plain || encoder->how.plain[i];
    bool fine = encoder->stream && encoder->settled && encoder->rates && encoder->rates_now && encoder->buckets &&
                (!feedback || encoder->residual);
    const bool fits = bytes_of(encoder) <= model->elements * sizeof(float) && !encoder->some_plain;
    for (size_t i = 0; fine && i < pushes; i++) { /* without a residual nobody looks at values again */
        encoder->pushes[i].lent = fits && i < lent_count ? (void *)lent[i] : NULL;
        fine = push_init(encoder, &encoder->pushes[i], feedback && i > 0);
    }
    if (!fine)
        return lg_fail(error, LG_NO_MEMORY,
                       "no memory to encode %" PRIu64 " gradients as %s on device \"%s\": use a smaller batch or "
                       "model, or push.codec f32",
                       model->elements, encoder->how.codec->name, device->name);
    log_info("encoding", "gradients are encoded as %s on %s, before they are copied", encoder->how.codec->name,
             device->name);
    return encoder->residual ? residual_init(encoder, client, error) : LG_OK;
}

void trainer_encoder_leave(struct trainer_encoder *encoder) {
    if (encoder->stream)
        (void)!encoder->model->device->ops->synchronize(encoder->stream, NULL); /* failures were reported */
}

void trainer_encoder_deinit(struct trainer_encoder *encoder) {
    if (!encoder->model)
        return;
    struct device *device = encoder->model->device;
    trainer_encoder_leave(encoder);
    for (size_t i = 0; i < encoder->count; i++)
        push_deinit(device, &encoder->pushes[i]);
    for (size_t i = 0; encoder->buckets && i < encoder->model->tensor_count; i++)
        device->ops->event_close(encoder->buckets[i].event);
    device->ops->free(device, encoder->residual);
    device->ops->event_close(encoder->settled);
    device->ops->stream_close(encoder->stream);
    free(encoder->buckets);
    free(encoder->rates);
    free(encoder->rates_now);
    *encoder = (struct trainer_encoder){0};
}

enum lg_status trainer_encoder_hand_over(struct trainer_encoder *encoder, struct lg_client *client,
                                         struct lg_error *error) {
    uint64_t elements;
    if (!encoder->model || !encoder->residual)
        return LG_OK;
    const struct device_ops *ops = encoder->model->device->ops;
    float *left = lg_client_residual(client, &elements);
    ops->download(encoder->stream, elements * sizeof *left, encoder->residual, left);
    return ops->synchronize(encoder->stream, error);
}

/* ---- a push */

void trainer_encoder_turn(struct trainer_encoder *encoder) {
    model_use_gradients(encoder->model, encoder->pushes[encoder->turn].values);
}

/* The push that turn has led to; it may be begun, or not yet. */
static struct encoder_push *newest(struct trainer_encoder *encoder) {
    return &encoder->pushes[encoder->turn];
}

/* The residual follows the learning rates; the host's arrays are free, as the push that used them last has arrived. */
struct lg_encoded_unit *trainer_encoder_begin(struct trainer_encoder *encoder, const struct lg_client *client) {
    const struct device_ops *ops = encoder->model->device->ops;
    const uint32_t count = encoder->how.units->count;
    struct encoder_push *push = newest(encoder);
    bool changes = false;
    for (uint32_t i = 0; i < count; i++) {
        push->host.units[i].key = lg_push_key(client, i);
        push->host.factors[i] = codec_follow_rate(&encoder->rates[i], encoder->rates_now[i]);
        changes = changes || push->host.factors[i] != 1;
        push->encoded[i] = (struct lg_encoded_unit){0};
    }
    ops->upload(encoder->stream, count * sizeof *push->host.units, push->host.units, push->device.units);
    if (encoder->residual && changes) {
        ops->upload(encoder->stream, count * sizeof *push->host.factors, push->host.factors, push->device.factors);
        ops->scale_units(encoder->stream, count, push->device.units, push->device.factors, encoder->residual);
    }
    return push->encoded;
}

/* Units [first, end). */
static void encode(struct trainer_encoder *encoder, struct encoder_push *push, uint32_t first, uint32_t end) {
    const struct device_ops *ops = encoder->model->device->ops;
    const struct device_unit *units = push->host.units;
    const uint32_t count = end - first;
    const size_t from = units[first].at,
                 to = units[end - 1].at + encoder->how.codec->bytes_max(units[end - 1].elements, &encoder->how.options);
    ops->encode(encoder->stream, encoder->how.codec, &encoder->how.options, count, push->device.units + first,
                push->values, encoder->residual, push->device.bytes, push->device.lengths + first);
    ops->download(encoder->stream, count * sizeof(uint32_t), push->device.lengths + first, push->host.lengths + first);
    ops->download(encoder->stream, to - from, push->device.bytes + from, push->host.bytes + from);
    encoder->copied_bytes += to - from + count * sizeof(uint32_t);
}

static void copy_plain(struct trainer_encoder *encoder, const struct encoder_push *push, uint32_t first, uint32_t end,
                       float *plain) {
    const struct block *blocks = encoder->how.units->blocks;
    const uint64_t from = blocks[first].offset, to = blocks[end - 1].offset + blocks[end - 1].elements;
    encoder->model->device->ops->download(encoder->stream, (to - from) * sizeof *plain, push->values + from,
                                          plain + from);
    encoder->copied_bytes += (to - from) * sizeof *plain;
}

enum lg_status trainer_encoder_fetch(struct trainer_encoder *encoder, size_t first, size_t count, float *plain,
                                     struct lg_error *error) {
    struct model *model = encoder->model;
    const struct device_ops *ops = model->device->ops;
    const uint32_t *first_of_tensor = encoder->how.units->first_of_tensor;
    struct trainer_bucket *bucket = &encoder->buckets[encoder->bucket_count];
    assert(encoder->bucket_count < model->tensor_count && count > 0);
    if (!bucket->event)
        bucket->event = ops->event_open(model->device);
    if (!bucket->event)
        return lg_fail(error, LG_NO_MEMORY, "no memory to encode gradients on device \"%s\"", model->device->name);
    bucket->first = first;
    bucket->count = count;
    ops->event_record(model->stream, bucket->event);
    ops->event_wait(encoder->stream, bucket->event);
    for (size_t at = first, end; at < first + count; at = end) { /* tensors that go the same way go together */
        for (end = at + 1; end < first + count && encoder->how.plain[end] == encoder->how.plain[at];)
            end++;
        if (encoder->how.plain[at])
            copy_plain(encoder, newest(encoder), first_of_tensor[at], first_of_tensor[end], plain);
        else
            encode(encoder, newest(encoder), first_of_tensor[at], first_of_tensor[end]);
    }
    ops->event_record(encoder->stream, bucket->event);
    encoder->bucket_count++;
    return LG_OK;
}

enum lg_status trainer_encoder_arrive(struct trainer_encoder *encoder, size_t *first, size_t *count,
                                      struct lg_error *error) {
    *first = *count = 0;
    if (encoder->bucket_next == encoder->bucket_count) { /* the push is on its way: the next one is another */
        encoder->bucket_next = encoder->bucket_count = 0;
        encoder->turn = (encoder->turn + 1) % encoder->count;
        return LG_OK;
    }
    const struct trainer_bucket *bucket = &encoder->buckets[encoder->bucket_next++];
    enum lg_status status = encoder->model->device->ops->event_synchronize(bucket->event, error);
    if (status != LG_OK)
        return status;
    struct encoder_push *push = newest(encoder);
    const uint32_t *first_of_tensor = encoder->how.units->first_of_tensor;
    for (uint32_t i = first_of_tensor[bucket->first]; i < first_of_tensor[bucket->first + bucket->count]; i++) {
        push->encoded[i].data = push->host.bytes + push->host.units[i].at;
        push->encoded[i].bytes = push->host.lengths[i];
    }
    *first = bucket->first;
    *count = bucket->count;
    return LG_OK;
}

void trainer_encoder_settle(struct trainer_encoder *encoder) {
    const struct device_ops *ops = encoder->model->device->ops;
    const struct block_table *units = encoder->how.units;
    struct encoder_push *push = &encoder->pushes[encoder->oldest];
    bool something = false;
    encoder->oldest = (encoder->oldest + 1) % encoder->count;
    for (uint32_t i = 0; i < units->count; i++) {
        encoder->rates_now[i] = push->encoded[i].rate > 0 ? push->encoded[i].rate : encoder->rates_now[i];
        push->host.shares[i] = encoder->how.plain[units->blocks[i].tensor] ? 0 : 1 - push->encoded[i].weight;
        something = something || push->host.shares[i] != 0;
    }
    if (!encoder->residual || !something)
        return;
    ops->upload(encoder->stream, units->count * sizeof *push->host.shares, push->host.shares, push->device.shares);
    ops->take_back(encoder->stream, encoder->how.codec, units->count, push->device.units, push->device.shares,
                   push->device.bytes, push->values, encoder->residual);
    ops->event_record(encoder->stream, encoder->settled);
    /* has read the values that the next backward pass writes to, whose turn may have come already */
    ops->event_wait(encoder->model->stream, encoder->settled);
}
