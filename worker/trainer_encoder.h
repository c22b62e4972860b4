/* Gradients encoded where they are computed: on a device with memory of its own, in jobs whose push.codec is not f32.
 * What the codec makes of them is copied to the host, and the client sends it as it is (lg_push.encoded); the residual,
 * where the codec keeps something back, lies in the device's memory and stays right as shards weigh pushes. Works on a
 * stream beside the model's: the gradients of the last layers are encoded and pushed while those of the first are still
 * being computed. Bits are those that the client would send. One thread. */
#ifndef LAGOON_WORKER_TRAINER_ENCODER_H
#define LAGOON_WORKER_TRAINER_ENCODER_H

#include "client/lagoon.h"
#include "worker/model.h"
#include "worker/trainer_buffers.h"

/* Of one push, on one side of the bus; in the device's memory all lies in one block, on the host in another. */
struct encoder_side {
    void *block;
    struct device_unit *units; /* [units] */
    float *factors;            /* [units] that the residual is multiplied by first */
    float *shares;             /* [units] that are taken back at last */
    uint32_t *lengths;         /* [units] of what each unit takes */
    uint8_t *bytes;            /* of all units; unit u lies from units[u].at on */
};

/* One push, from the backward pass until the shards have answered. */
struct encoder_push {
    struct encoder_side device, host;
    struct lg_encoded_unit *encoded; /* [units] for lg_push.encoded */
    float *values;                   /* device [elements]: what is encoded */
    float *own_values;               /* to be freed; NULL: the values are the model's gradients */
    bool kept_in_place;              /* the host's block */
    uint8_t *lent;                   /* host.bytes in memory of the client's; NULL: they are in the block */
};

struct trainer_encoder {
    struct model *model; /* NULL: the client encodes, or nobody does */
    struct lg_encoding how;
    struct device_stream *stream;
    struct device_event *settled; /* what was taken back last is */
    float *residual;              /* device [elements]; NULL: the codec keeps nothing back */
    float *rates, *rates_now;     /* host [units] learning rates: that the residual is for, and that shards have now */
    struct encoder_push pushes[LG_GRADIENT_BUFFERS];
    size_t count, turn, oldest;     /* pushes: how many, the next one's place, that of the next to settle */
    struct trainer_bucket *buckets; /* on their way: [bucket_next, bucket_count) */
    size_t bucket_count, bucket_next;
    uint64_t copied_bytes; /* to the host, so far; whoever counts them sets it to 0 */
    bool some_plain;       /* tensors that the codec is not for */
};

/* Whether the trainer of this client is to encode on the model's device. */
bool trainer_encoder_wanted(const struct model *model, const struct lg_client *client);
/* For up to `pushes` at once. Takes over the client's residual: what another trainer has left. Encoded bytes lie in
 * lent[0 .. lent_count), gradient buffers of the client's, which shards on this host read in place, where they fit and
 * nothing else is pushed from there. Zeroed is empty. */
LG_MUST_CHECK enum lg_status trainer_encoder_init(struct trainer_encoder *encoder, struct model *model,
                                                  struct lg_client *client, size_t pushes, float *const *lent,
                                                  size_t lent_count, struct lg_error *error);
/* Before the client is closed: nothing is on its way into its memory any more. */
void trainer_encoder_leave(struct trainer_encoder *encoder);
void trainer_encoder_deinit(struct trainer_encoder *encoder);
/* After all pushes are settled: the client's residual is what this one has kept back. */
LG_MUST_CHECK enum lg_status trainer_encoder_hand_over(struct trainer_encoder *encoder, struct lg_client *client,
                                                       struct lg_error *error);

/* The next backward pass writes to the next push's values; what was pushed from there must be settled before it. */
void trainer_encoder_turn(struct trainer_encoder *encoder);
/* Before that push is started: its units, for lg_push.encoded. */
struct lg_encoded_unit *trainer_encoder_begin(struct trainer_encoder *encoder, const struct lg_client *client);
/* From model_backward's announcement: sends tensors [first, first + count) on their way, encoded, or as they are into
 * the flat `plain` where the codec is not for them. */
LG_MUST_CHECK enum lg_status trainer_encoder_fetch(struct trainer_encoder *encoder, size_t first, size_t count,
                                                   float *plain, struct lg_error *error);
/* Waits for the next that were fetched to be there, in order; *count 0: no more are on their way. */
LG_MUST_CHECK enum lg_status trainer_encoder_arrive(struct trainer_encoder *encoder, size_t *first, size_t *count,
                                                    struct lg_error *error);
/* The oldest push was waited for: what of it was not applied goes back to the residual. */
void trainer_encoder_settle(struct trainer_encoder *encoder);

#endif
