/* liblagoon: pull parameters, push gradients, take leases of data. Everything a trainer does goes through this file.
 *
 *     struct lg_client *client;
 *     lg_client_open(&options, &client, &error);
 *     while (lg_lease_next(client, &lease, &error) == LG_OK && lease.kind != LG_LEASE_FINISHED) {
 *         lg_pull(client, parameters, &error);
 *         ... compute gradients of a batch of the lease ...
 *         lg_push(client, &push, gradients, NULL, &error);
 *     }
 *     lg_client_close(&client);
 *
 * A client is one session of one job. A call that waits does the work itself; while the caller computes, a thread of
 * the client's own keeps the connections, resends and beats. No callback ever runs on it. Calls on one client come from
 * one thread at a time. Every blocking call has a deadline (options.timeout_ms, renewed while there is progress) and
 * says what it waited for. Buffers are the caller's. When the coordinator ends the session (evicted, cancelled), every
 * call returns LG_FENCED or LG_CANCELLED with the reason.
 *
 * Gradients and parameters travel in the codecs that the job names; the buffers here are f32, but a caller may encode
 * its gradients itself (lg_push.encoded). */
#ifndef LAGOON_H
#define LAGOON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/block.h"
#include "common/codec.h"
#include "common/status.h"

struct lg_client;

enum lg_role { LG_ROLE_TRAINER, LG_ROLE_OBSERVER, LG_ROLE_INITIALISER };

struct lg_client_options {
    const char *coordinator;           /* "127.0.0.1:7710" */
    const char *job;                   /* name or number */
    enum lg_role role;                 /* observers may only pull; initialisers may pull and push initial values */
    uint64_t trainer, token;           /* as the agent gave them; 0 for others */
    const struct tensor_spec *tensors; /* trainers: the model's table; others: NULL, the job's is used */
    size_t tensor_count;
    uint64_t dataset_fingerprint, train_samples, test_samples; /* trainers */
    uint32_t batch;
    const char *device;
    int64_t timeout_ms;    /* 0: 60 s */
    bool no_shared_memory; /* everything travels in messages, also to shards on this host */
};

/* Joins the job; waits while the job has no room yet, saying so in the log: trainers as long as the coordinator
 * answers, others up to the deadline. LG_TIMEOUT: it cannot be reached, or still has no room, as the error says. */
LG_MUST_CHECK enum lg_status lg_client_open(const struct lg_client_options *options, struct lg_client **out,
                                            struct lg_error *error);
/* Leaves the job and frees; *client becomes NULL. `reason` (may be NULL) shows in the job's history. */
void lg_client_close(struct lg_client **client, const char *reason);

/* The job's tensor table and specification, borrowed until close. */
const struct tensor_spec *lg_client_tensors(const struct lg_client *client, size_t *count);
/* Value of a key of the job's specification, or NULL. */
const char *lg_client_spec(const struct lg_client *client, const char *key);
/* Readable when a started pull or push may have made progress; for callers with a loop of their own. */
int lg_client_fd(const struct lg_client *client);

/* How the bytes travel now: "shm" (all shards are on this host and read and are read in place), "tcp", "ipc" (in
 * messages), or "mixed". Static text. */
const char *lg_client_transport(const struct lg_client *client);

/* Copies all parameters (flat, tensor-table order) into `parameters`. Waits while the job has no values yet. What has
 * not changed since the last pull into the same buffer is not sent again: leave the buffer as it is between pulls. */
LG_MUST_CHECK enum lg_status lg_pull(struct lg_client *client, float *parameters, struct lg_error *error);
/* The same in two halves; the buffer is the client's in between. */
LG_MUST_CHECK enum lg_status lg_pull_start(struct lg_client *client, float *parameters, struct lg_error *error);
LG_MUST_CHECK enum lg_status lg_pull_wait(struct lg_client *client, struct lg_error *error);

/* ---- pulls for callers whose parameters lie elsewhere, on a GPU: who copies is the caller.
 *
 *     lg_pull_start_places(client, parameters, &error);
 *     while (lg_pull_places(client, true, &places, &count, &error) == LG_OK && count > 0) {
 *         for each of them: if (lg_place_begin(&places[i])) queue a copy of elements * sizeof(float) bytes
 *         for each of them, when its copy is done: lg_place_end(&places[i])
 *     }
 *
 * Everything else is as with lg_pull: it waits for what pulls wait for, and a push whose `computed_from` is
 * `parameters` gets the base of what was copied. `parameters` stands for the caller's copy. Versions are remembered for
 * it, so that only what has changed since the copy was whole is told, and values that come in messages lie in it. A
 * buffer is used so or with lg_pull and lg_push.parameters; changing over costs a pull of everything. */

/* Memory of a shard on this host, mapped by the client; this process may not write it. It stays mapped as long as
 * somebody holds it: the client while it uses it itself, and until the next pull begins; the caller by hold and
 * release, from any thread and also after the client is closed. Who registers it with a device holds it. */
struct lg_mapping;
const void *lg_mapping_memory(const struct lg_mapping *mapping, size_t *bytes); /* begins at a page */
void lg_mapping_hold(struct lg_mapping *mapping);
void lg_mapping_release(struct lg_mapping *mapping);
/* The client uses it no more, since the connection was lost or the shard has opened the job anew: no place that is told
 * from the next pull on lies in it. Time to unregister and release. */
bool lg_mapping_gone(const struct lg_mapping *mapping);

/* Values to be copied. All but `whole` is the library's to change. */
struct lg_place {
    const float *values; /* from here, */
    uint64_t offset;     /* to this element of the flat array */
    uint32_t elements;
    bool whole;                 /* the copy was made and is to be relied on */
    struct lg_mapping *mapping; /* what the values lie in, and a shard may change; NULL: in the pull's buffer */
    /* opaque */
    const void *guard;
    uint64_t sequence, version;
    uint32_t unit, slot, part;
};
/* Right before a copy is queued; false: the shard is changing the values, and a copy now would be in vain. */
bool lg_place_begin(struct lg_place *place);
/* Right after a copy is done, as its event says, and before anything uses it: true, and place->whole, when the values
 * were not changed since lg_place_begin. Neither call touches the client: any thread, any number at once. The shorter
 * the time in between, the more copies are whole. */
bool lg_place_end(struct lg_place *place);

LG_MUST_CHECK enum lg_status lg_pull_start_places(struct lg_client *client, float *parameters, struct lg_error *error);
/* What is to be copied; *count 0: everything is there, and the pull is done. Every call but the first is made when the
 * copies of the places told before are done: those not whole are told again, and values that shards went on changing
 * come in a message after a few times. With `wait` false: LG_UNAVAILABLE where nothing is known yet. The places are
 * the client's, and valid until the next call. After an error the pull is over. */
LG_MUST_CHECK enum lg_status lg_pull_places(struct lg_client *client, bool wait, struct lg_place **places,
                                            size_t *count, struct lg_error *error);

/* The next pull brings everything: for buffers that were changed, or freed and allocated anew. */
void lg_pull_forget(struct lg_client *client);

/* ---- gradients that the caller has encoded, for those that lie where the client cannot read them. The flat array is
 * cut into units (common/block.h), each of which is encoded by itself (common/codec.h). A client that is given units
 * needs no gradients, and keeps nothing back: the residual, where the codec has one, is the caller's. */
struct lg_encoding {
    const struct codec *codec;       /* push.codec of the job, which is not exact */
    struct codec_options options;    /* but for the key: lg_push_key */
    const struct block_table *units; /* of the flat array, in its order */
    const bool *plain;               /* [tensors] whose units are not encoded, and go out of the gradients instead */
};
/* How gradients are to be encoded, borrowed until close. False: they are not, push.codec changes nothing. */
bool lg_client_encoding(const struct lg_client *client, struct lg_encoding *out);
/* codec_options.key of a unit in the push that will be started next. */
uint64_t lg_push_key(const struct lg_client *client, uint32_t unit);

/* What of a unit's push came to anything is told by the weight: of what was encoded, the share `weight` was applied,
 * and of the gradient no more, so 1 - weight of their difference goes back to the residual (codec_take_back). Residuals
 * follow the rate (codec_follow_rate). */
struct lg_encoded_unit {
    const void *data; /* there, and the client's, from when its tensor is marked ready until the push was waited for.
                       * Shards on this host read it in place where it lies in a gradient buffer of the client's, but
                       * for codecs that are not `fixed` */
    size_t bytes;
    float weight; /* set until lg_push_wait returns; 0: it was dropped, refused, applied before */
    float rate;   /* too: the learning rate of its shard; 0: not known */
};

/* What a push stands for: samples [first, end) of the lease's epoch order, or no lease at all (lease 0). */
struct lg_push {
    uint64_t samples; /* that the mean gradient is over */
    uint64_t lease;
    uint32_t fence;
    uint64_t epoch, first, end;
    uint32_t local_steps;       /* 1 for a gradient */
    bool delta;                 /* not a gradient, but how far local steps led: what is to be added */
    bool initial;               /* sets the parameters to the buffer: the holder of the initialise lease only */
    float *parameters;          /* not NULL: push and pull in one round trip. Filled like lg_pull does, with values that
                                 * have this push in them; the client's until the push was waited for */
    const float *computed_from; /* the buffer whose values the gradients were computed from; its staleness counts. NULL:
                                 * the one whose pull was completed last. The last four filled are told apart */
    struct lg_encoded_unit *encoded; /* not NULL: [lg_encoding.units->count], the client's until the push was waited
                                      * for. Gradients are read of plain tensors only, and may be NULL without such */
};

/* Memory for gradients, flat, tensor-table order, zeroed, aligned to 64 bytes: one of LG_GRADIENT_BUFFERS, the client's
 * own, valid until close. Shards on this host read what is pushed from it in place; from any other memory it is sent.
 * NULL: no memory. */
enum { LG_GRADIENT_BUFFERS = 2 };
float *lg_gradient_buffer(struct lg_client *client, size_t index);

struct lg_push_result {
    uint64_t staleness_max; /* over shards */
    float weight_min;       /* over shards */
    bool dropped;           /* it was given weight zero somewhere: by the staleness policy, or because of `skipped` */
    bool skipped;           /* its round had all it takes without it (consistency.mode backup, rennala) */
    bool repeated;          /* some units' samples had been applied before */
    size_t cut_count;       /* > 0: the batch straddles marks; see lg_push_cuts, send it again in pieces */
};

/* Pushes and waits until every shard has acknowledged. `result` may be NULL. A push cannot be taken back half-way: when
 * its deadline passes (LG_TIMEOUT) the session is over. */
LG_MUST_CHECK enum lg_status lg_push(struct lg_client *client, const struct lg_push *push, const float *gradients,
                                     struct lg_push_result *result, struct lg_error *error);
/* Overlapped: start, mark tensors ready in any order (backward announces them last layer first), wait. The gradient
 * buffer is the client's until lg_push_wait returns. One push may be unsettled when the next pull starts. */
LG_MUST_CHECK enum lg_status lg_push_start(struct lg_client *client, const struct lg_push *push, const float *gradients,
                                           struct lg_error *error);
/* Units that are not whole, or too long, make lg_push_wait fail with LG_INVALID, and end the session; lg_push looks
 * before it sends anything, and the session goes on. */
void lg_push_ready(struct lg_client *client, size_t first_tensor, size_t count);
LG_MUST_CHECK enum lg_status lg_push_wait(struct lg_client *client, struct lg_push_result *result,
                                          struct lg_error *error);
/* What the job's push codec has kept back of the gradients pushed so far, to send it later: flat, tensor-table order;
 * NULL where it keeps nothing back. A part of what a trainer saves: one that goes on where another has left off copies
 * that one's in here. The client's memory, valid until close; not to be looked at while a push is under way. */
float *lg_client_residual(struct lg_client *client, uint64_t *elements);

/* The cuts of the last push waited for; borrowed until the next call. */
const uint64_t *lg_push_cuts(const struct lg_client *client, size_t *count);

enum lg_lease_kind { LG_LEASE_TRAIN, LG_LEASE_EVALUATE, LG_LEASE_INITIALISE, LG_LEASE_FINISHED };
struct lg_lease {
    enum lg_lease_kind kind;
    uint64_t lease;
    uint32_t fence;
    uint64_t epoch, first, end; /* TRAIN: samples in the epoch's order; EVALUATE: epoch only */
    const uint64_t *cuts;       /* batches must not straddle these; borrowed until the next lg_lease_next */
    size_t cut_count;
};
/* Waits until there is something to do. The next lease is asked for ahead of time, so this seldom waits. */
LG_MUST_CHECK enum lg_status lg_lease_next(struct lg_client *client, struct lg_lease *lease, struct lg_error *error);
/* Train and initialise leases: all pushes of it were acknowledged. Reports (this and the next) are repeated until the
 * coordinator has them; training goes on meanwhile, and a call waits only when eight are unanswered. */
LG_MUST_CHECK enum lg_status lg_lease_done(struct lg_client *client, const struct lg_lease *lease,
                                           struct lg_error *error);
LG_MUST_CHECK enum lg_status lg_report_evaluation(struct lg_client *client, const struct lg_lease *lease, double loss,
                                                  double accuracy, uint64_t predictions, struct lg_error *error);

/* Numbers for the next beat; never blocks. */
struct lg_progress {
    uint64_t steps, samples;
    double loss, accuracy;
    uint64_t compute_ns, communication_ns;
    double samples_per_second;
    double staleness_mean, weight_mean; /* of the pushes so far */
    uint64_t staleness_max, pushes_dropped;
    uint64_t read_ns,
        copy_ns;         /* parts of compute_ns: reading batches; copies to and from the device, where waited for */
    uint64_t copy_bytes; /* all that was copied between host and device */
    uint64_t wait_ns;    /* part of communication_ns: waiting for shards and leases */
    double tokens_per_second;   /* language models; others 0 */
    double flops_per_second;    /* of the model's products; 0: unknown */
    double flops_peak;          /* of the device; 0: unknown */
    uint64_t memory_used_bytes; /* of the device, by this trainer; 0: unknown */
};
void lg_report_progress(struct lg_client *client, const struct lg_progress *progress);

#endif
