/* A trainer's memory: the parameters it computes from, those that are being filled meanwhile, and gradients.
 *
 * Where the host can read the device's memory the model works on these buffers themselves. Else every buffer of
 * parameters has one in the device's memory that it stands for, and values go to and from the device here, on streams
 * of their own beside the model's: the next parameters are filled in while the present ones are computed from
 * (trainer_pull.h), and the gradients of the last layers come to the host and are pushed while those of the first are
 * still being computed. One thread. */
#ifndef LAGOON_WORKER_TRAINER_BUFFERS_H
#define LAGOON_WORKER_TRAINER_BUFFERS_H

#include "client/lagoon.h"
#include "worker/model.h"
#include "worker/trainer_copies.h"
#include "worker/trainer_pull.h"

/* Gradients of some tensors on their way to the host. */
struct trainer_bucket {
    size_t first, count;        /* tensors */
    struct device_event *event; /* final on the device; then, there */
};

struct trainer_buffers {
    struct model *model;
    float *parameters; /* [elements] computed from */
    float *ahead;      /* [elements] filled meanwhile; the two change places */
    float *gradients;  /* [elements] of the step at hand: one of `gradient` */
    float *gradient[LG_GRADIENT_BUFFERS];
    size_t gradient_count, turn;
    float *owned[3];              /* what is to be freed */
    struct device_stream *stream; /* of gradients; NULL: the model works on the buffers themselves */
    /* only with a stream */
    float *on_device, *ahead_on_device; /* [elements] what `parameters` and `ahead` stand for */
    float *own_on_device;               /* the one that is not the model's own */
    float *of_model;                    /* and the model's */
    struct trainer_pull pull;           /* into ahead_on_device */
    bool pulled;                        /* it is whole; else `ahead` is */
    struct device_event *adopted;       /* the last upload of `ahead` as a whole is done */
    struct trainer_copies copies;       /* how long they take */
    uint64_t pulled_bytes;              /* of the pull's, counted already */
    struct trainer_bucket *buckets;
    size_t bucket_count, bucket_next;          /* on their way: [bucket_next, bucket_count) */
    void *registered[2 + LG_GRADIENT_BUFFERS]; /* kept in place for the device's copies */
    size_t registered_count, lent;             /* from `lent` on it is the client's memory */
};

/* Zeroed is empty. The model outlives the buffers. */
LG_MUST_CHECK enum lg_status trainer_buffers_init(struct trainer_buffers *buffers, struct model *model,
                                                  struct lg_error *error);
void trainer_buffers_deinit(struct trainer_buffers *buffers);
/* Takes gradient memory from the client, which shards on this host read in place: `wanted` buffers, or fewer where
 * there is no memory. They are valid until the client is closed. */
LG_MUST_CHECK enum lg_status trainer_buffers_join(struct trainer_buffers *buffers, struct lg_client *client,
                                                  size_t wanted, struct lg_error *error);

/* Before the client is closed: lets go of its memory. */
void trainer_buffers_leave(struct trainer_buffers *buffers);

/* A pull into what is filled ahead, and the end of it; `go_on` in between, at times when the device has work and the
 * caller has none, copies what can be copied by now. */
LG_MUST_CHECK enum lg_status trainer_buffers_pull_start(struct trainer_buffers *buffers, struct lg_client *client,
                                                        struct lg_error *error);
LG_MUST_CHECK enum lg_status trainer_buffers_pull_go_on(struct trainer_buffers *buffers, struct lg_client *client,
                                                        struct lg_error *error);
LG_MUST_CHECK enum lg_status trainer_buffers_pull_wait(struct trainer_buffers *buffers, struct lg_client *client,
                                                       struct lg_error *error);
/* What was filled ahead, by a pull or from elsewhere through `ahead`, is computed from now. */
LG_MUST_CHECK enum lg_status trainer_buffers_adopt(struct trainer_buffers *buffers, struct lg_error *error);
/* The next backward pass writes to the next of the gradient buffers; what was pushed from it must be settled before. */
void trainer_buffers_turn(struct trainer_buffers *buffers);
/* ---- only with a stream. From model_backward's announcement of tensors [first, first + count), elements [from, to):
 * sends their gradients on the way to the host. */
LG_MUST_CHECK enum lg_status trainer_buffers_fetch(struct trainer_buffers *buffers, size_t first, size_t count,
                                                   uint64_t from, uint64_t to, struct lg_error *error);
/* Waits for the next that were fetched to be there, in order; *count 0: no more are on their way. */
LG_MUST_CHECK enum lg_status trainer_buffers_arrive(struct trainer_buffers *buffers, size_t *first, size_t *count,
                                                    struct lg_error *error);
/* At the end of a step: for how long copies have held up the device's work since the last call, but for those that the
 * pull has waited for itself, and bytes of all copies. 0 both without a stream. */
LG_MUST_CHECK enum lg_status trainer_buffers_take_copies(struct trainer_buffers *buffers, uint64_t *ns, uint64_t *bytes,
                                                         struct lg_error *error);

#endif
