/* The session: the client's half of the data protocol as a state machine over all shards of one job.
 *
 * It cuts pushes and pulls into parts of about 1 MiB, keeps at most `window` parts and the granted credit in flight,
 * resends what is unacknowledged after a reconnect, and takes the base for pushes from the least version pulled. A push
 * may bring the values back in the same round trip.
 * No socket, file or clock; one thread at a time. Buffers are the caller's: a push's gradients must stay as they are
 * until the push is settled, a pull's target until the pull is done. */
#ifndef LAGOON_CLIENT_SESSION_H
#define LAGOON_CLIENT_SESSION_H

#include <stdatomic.h>

#include "client/consistency.h"
#include "client/lagoon.h"
#include "client/mapping.h"
#include "common/block.h"
#include "common/codec.h"
#include "proto/local.h"
#include "proto/wire.h"

struct session;

enum { SESSION_WINDOW_MAX = 4096 };

struct session_config {
    uint64_t session, token, job, map_version;
    uint32_t incarnation;
    const struct tensor_spec *tensors; /* copied */
    size_t tensor_count;
    const uint16_t *placement; /* per unit: shard slot; copied */
    size_t placement_count;
    uint32_t shard_count;           /* slots */
    uint32_t window;                /* push parts unsettled at once that are wanted, 1 .. SESSION_WINDOW_MAX */
    uint32_t part_bytes;            /* payload of one part; 0: WIRE_PART_BYTES; a larger unit is a part of its own */
    const struct consistency *mode; /* NULL: async, and for sessions that only pull */
    int64_t reply_timeout_ms;       /* no answer to anything in flight for so long: reopen that connection */
    const struct codec *push_codec, *pull_codec; /* NULL: plain f32 */
    bool pull_delta;                             /* pulls bring differences, in pull_codec */
    double topk;                                 /* share of the elements that codec topk sends */
    enum isa isa;                                /* for encoding and decoding */
};

/* A part in the push's codec. It belongs to the session, which keeps it until the part is settled, and is not used anew
 * while the transport has loans of it. */
struct session_encoded {
    struct session_encoded *next; /* unused ones */
    struct session_encoded *made; /* all */
    uint8_t *data;
    size_t bytes;
    atomic_uint loans;
};

struct session_sink {
    void *context;
    /* Sends one message to a shard slot; payload points into the caller's gradient buffer, or is session_encoded.
     * Returns false when the transport cannot take it now: the session offers it again after session_writable. */
    bool (*send)(void *context, uint32_t slot, const struct wire_message *message);
    /* Close the connection to the slot, open a new one and call session_connected (later, not from in here). */
    void (*reopen)(void *context, uint32_t slot, const char *why);
    /* All NULL: no memory is shared with any shard. Else, asked before values are read: false where that is not
     * possible now; *version is a base for pushes computed from what is read after it. */
    bool (*local_version)(void *context, uint32_t slot, uint64_t *version);
    /* Copies unit `index` of the slot's list (parts.h) out; see local_unit_read. */
    enum local_read (*local_read)(void *context, uint32_t slot, uint32_t index, float *into, uint64_t *version);
    /* What the slot's units can be read in; borrowed. May be NULL, as the sink is: then nothing is told as places. */
    struct lg_mapping *(*local_mapping)(void *context, uint32_t slot);
    /* True when the shard reads gradients that start at `data` in place: they take no credit. */
    bool (*local_gradients)(void *context, uint32_t slot, const float *data);
};

/* What a push brought, summed or kept per shard slot. */
struct session_push_result {
    uint64_t staleness_max;
    float weight_min;
    uint32_t units_applied, units_repeated;
    bool dropped;         /* some shard gave it weight zero */
    bool skipped;         /* it had no ticket: its round had all it takes */
    const uint64_t *cuts; /* marks inside the batch, ascending: send it again in pieces (units there were not
                           * applied); borrowed until the next push is opened */
    size_t cut_count;
};

struct session_push {
    uint64_t clock;           /* the caller's step, ascending */
    enum wire_push_kind kind; /* GRADIENT, DELTA or INITIAL */
    uint64_t samples;
    uint32_t local_steps;            /* at least 1 */
    const struct wire_cover *covers; /* session, incarnation and seq are filled in here */
    size_t cover_count;              /* 0: one cover without a lease */
    const float *gradients;          /* flat, whole job, until settled */
    struct lg_encoded_unit *encoded; /* not NULL: [units] in push_codec, in place of gradients where they do not go
                                      * plain; whole and within bytes_max. The session's until settled */
    const float *computed_from; /* the pulled buffer that the gradients were computed from: its base is taken. NULL:
                                 * that of the pull, or push with parameters, completed last */
    float *parameters;          /* not NULL: filled with values that have this push in them, as by a pull; the
                                 * session's until settled */
};

LG_MUST_CHECK enum lg_status session_new(const struct session_config *config, const struct session_sink *sink,
                                         struct session **out, struct lg_error *error);
void session_free(struct session *session);

/* The slot's units, ascending; borrowed. */
const struct wire_unit *session_units(const struct session *session, uint32_t slot, uint32_t *count);

/* Transport events. */
void session_connected(struct session *session, uint32_t slot, int64_t now_ns);
void session_disconnected(struct session *session, uint32_t slot, int64_t now_ns);
void session_writable(struct session *session, uint32_t slot, int64_t now_ns);
void session_receive(struct session *session, uint32_t slot, const struct wire_message *message, int64_t now_ns);
void session_tick(struct session *session, int64_t now_ns);

/* Opens a push; one may be open at a time, up to two unsettled or not yet polled. Parts go out as their tensors are
 * marked ready. */
LG_MUST_CHECK enum lg_status session_push_open(struct session *session, const struct session_push *push, int64_t now_ns,
                                               uint64_t *ticket, struct lg_error *error);
/* Gradients of tensors [first, first + count) are final. Marking all closes the push. */
void session_push_ready(struct session *session, size_t first, size_t count, int64_t now_ns);
/* LG_UNAVAILABLE: not settled yet; LG_OK: every part acknowledged, *result filled (may be NULL); else what a shard
 * refused, e.g. LG_FENCED (session ended: stop), LG_NONFINITE, once every part is answered. Anything but
 * LG_UNAVAILABLE ends the push: its ticket is gone. */
LG_MUST_CHECK enum lg_status session_push_poll(struct session *session, uint64_t ticket,
                                               struct session_push_result *result, struct lg_error *error);

/* Starts pulling all tensors into `parameters` (flat). Units unchanged since the last pull into the *same* buffer are
 * left out by the shards. One pull at a time. */
LG_MUST_CHECK enum lg_status session_pull_open(struct session *session, float *parameters, int64_t now_ns,
                                               struct lg_error *error);
LG_MUST_CHECK enum lg_status session_pull_poll(struct session *session, struct lg_error *error);
/* Gives the pull up: its target is not touched any more. */
void session_pull_cancel(struct session *session);
/* A pull for a caller that copies itself (lagoon.h). `parameters` stands for the caller's copy in all that is
 * remembered of buffers, and takes what comes in messages. */
LG_MUST_CHECK enum lg_status session_pull_open_places(struct session *session, float *parameters, int64_t now_ns,
                                                      struct lg_error *error);
/* Once session_pull_poll says LG_OK: what is to be copied; the caller's until the check. 0: the pull is done. */
struct lg_place *session_pull_places(struct session *session, uint32_t *count);
/* The copies of the places are done, `whole` or not. session_pull_poll says when the rest is known. */
void session_pull_check(struct session *session, int64_t now_ns);
/* What is remembered about the contents of buffers is forgotten: the next pull brings every unit. For buffers that were
 * changed or freed; not during a pull, nor while a push fills one. */
void session_pull_forget(struct session *session);

/* In modes that wait for each other: the session pushes nothing until session_work and the next pull, or push; pulls
 * are not held up meanwhile. `applied`: until all shards have applied what it pushed, they are. */
void session_rest(struct session *session, bool applied, int64_t now_ns);
void session_work(struct session *session);
/* No answer to that, or to a pull's question whether it may, is awaited. */
bool session_at_rest(const struct session *session);
/* A pull waits until other workers have done something. */
bool session_parked(const struct session *session);
/* What the payload of the push that is being sent lies in, for the transport to count its loans; NULL: in the caller's
 * gradients. */
struct session_encoded *session_encoded(const struct session *session);
/* What the push codec has kept back of gradients so far, flat; NULL where it keeps nothing. Changes while pushes are
 * unsettled; at other times the caller may change it, to go on where another session has left off. */
float *session_residual(struct session *session, uint64_t *elements);

/* The key that random numbers of a unit have in the push of this clock. */
uint64_t session_codec_key(uint64_t session, uint64_t clock, uint32_t unit);

/* LG_OK, or the reason why the session is over (fenced, cancelled). */
LG_MUST_CHECK enum lg_status session_status(const struct session *session, struct lg_error *error);
/* Ends the session from this side: nothing is sent any more, every poll gives `status` and `reason`. */
void session_end(struct session *session, enum lg_status status, const char *reason);
/* Rises with every answer that settled something: a caller renews its deadline while it does. */
uint64_t session_progress(const struct session *session);
/* No answer to a push or pull is awaited. */
bool session_idle(const struct session *session);
/* "shard 1: no answer for 2.3 s" or "" when everything flows; for progress reports. */
void session_describe(const struct session *session, int64_t now_ns, char *text, size_t bytes);
/* Nanoseconds until session_tick is next needed; -1: not before the next event. */
int64_t session_next_tick_ns(const struct session *session, int64_t now_ns);

#endif
