/* Inside the session: shared by session.c (connections, replies, time), session_push.c and session_pull.c. */
#ifndef LAGOON_CLIENT_SESSION_INTERNAL_H
#define LAGOON_CLIENT_SESSION_INTERNAL_H

#include "client/parts.h"
#include "client/session.h"

enum {
    SESSION_PUSHES = 2,     /* unsettled at once */
    SESSION_BUFFERS = 4,    /* whose contents are remembered: targets of a pull and two pushes, one to compute from */
    SESSION_CUTS_MAX = 1024 /* of one push; more come out when the pieces are sent */
};

/* Seqs, tags and hello requests are told apart by their top bits, so that an ERROR names exactly one thing. */
#define SESSION_TAG_BIT (UINT64_C(1) << 63)
#define SESSION_HELLO_BIT (UINT64_C(1) << 62)
#define SESSION_TAG_PART_BITS 20
#define SESSION_NS_PER_MS INT64_C(1000000)

enum slot_state { SLOT_DOWN, SLOT_CONNECTED, SLOT_GREETING, SLOT_READY };

/* One shard as the session sees it. */
struct slot {
    enum slot_state state;
    bool blocked;            /* the transport took no more: until session_writable */
    uint32_t waiting;        /* hello, parts sent on this connection and unanswered */
    int64_t heard_ns;        /* last answer, or when the first unanswered message went out */
    int64_t retry_ns;        /* nothing is sent before: the shard asked for patience; 0: no such wish */
    int64_t backoff_ms;      /* the next wish waits so long */
    uint64_t read_bytes;     /* values read in place that the shard has not been told of */
    uint32_t pushes_flying;  /* parts sent on this connection and unanswered */
    uint64_t flight_bytes;   /* push payload sent and unacknowledged + pull payload asked for */
    uint64_t credit_bytes;   /* as granted */
    uint32_t window;         /* as granted; 0: not greeted yet */
    uint32_t denials;        /* in a row */
    uint64_t hello_request;  /* of the last hello */
    uint64_t hello_version;  /* the job's version at the last hello */
    uint64_t pulled_version; /* the least version of the last completed pull */
    bool pulled;
    float rate;        /* learning rate that the shard applied last; 0: not known */
    char trouble[120]; /* why it is not ready, for session_describe */
};

enum push_part_state { PUSH_PART_NEW, PUSH_PART_SENT, PUSH_PART_AGAIN, PUSH_PART_SETTLED };
struct push_part {
    uint64_t seq; /* 0: none yet */
    enum push_part_state state;
    uint32_t flight_bytes;           /* sent: what it takes of the credit */
    bool asks;                       /* for values in its answer; else they are read in place, where any are wanted */
    bool unread;                     /* that did not work out: ask */
    struct session_encoded *encoded; /* NULL: not yet, or it goes as plain f32, or as the caller has encoded it */
};

/* A push's share of one slot. */
struct push_slot {
    struct push_part *parts; /* [parts_slot.push_count] */
    uint32_t next;           /* no part before it is NEW or AGAIN */
    uint32_t checked;        /* units of part `next`, from its end, whose tensors are known to be ready */
    uint64_t base;
    bool base_known;
    uint64_t least_version; /* of the values that came back */
};

struct push {
    bool used;
    uint64_t round;     /* that it is for */
    bool ticket_wanted; /* nothing of it goes out before the answer */
    uint64_t ticket;
    struct session_push spec;  /* covers point to `covers` */
    struct wire_cover *covers; /* [WIRE_COVERS_MAX] */
    struct held *held;         /* of spec.parameters; NULL: no values are wanted */
    const struct codec *codec; /* see session_codec_of */
    bool *ready;               /* [tensor_count] */
    size_t unready;            /* tensors; 0: closed */
    uint32_t unsettled;        /* parts, over all slots */
    struct push_slot *slots;
    struct session_push_result result;
    uint64_t *cuts;          /* [SESSION_CUTS_MAX], ascending */
    struct lg_error failure; /* status LG_OK: none */
};

/* Who a seq belongs to. The ring has `window` entries; entry seq % window is free once that seq is below the floor. */
struct flight {
    uint64_t seq;
    uint32_t push, slot, part;
    bool settled;
};

enum pull_part_state { PULL_PART_NEW, PULL_PART_SENT, PULL_PART_SETTLED };
struct pull_part {
    uint64_t tag;
    enum pull_part_state state;
    bool unread; /* the caller could not copy some of it whole: ask */
};
struct pull_slot {
    struct pull_part *parts; /* [parts_slot.pull_count] */
    uint32_t next;
    uint64_t least_version;
};

/* What a caller's buffer contains. */
struct held {
    const float *buffer; /* NULL: unused */
    uint64_t *versions;  /* [unit count] 0: unknown */
    uint64_t *bases;     /* [shard_count] the shard's least version in the last fill that was completed; 0: none was */
    uint64_t used;       /* serial of the last fill */
    uint32_t fills;      /* under way: a pull, pushes with parameters */
    bool places;         /* versions are those of a copy that the caller makes elsewhere */
};

enum slot_gate_state { SLOT_GATE_IDLE, SLOT_GATE_WANTED, SLOT_GATE_SENT };

/* A GATE to one shard, until it is answered. */
struct slot_gate {
    enum slot_gate_state state;
    enum wire_gate_kind kind;
    uint64_t tag; /* 0: not sent yet */
    uint64_t round;
    int64_t sent_ns;  /* first */
    int64_t again_ns; /* when it is asked again */
    bool probing;     /* it was: an answer is due, if only that it is still parked */
};

/* session_gate.c */
struct session_gate {
    const struct consistency *mode;
    bool closed;         /* pulls wait for answers */
    bool resting;        /* the caller has nothing to train on */
    uint32_t unanswered; /* slots */
    uint64_t next_round; /* the first that the next push can be for */
    uint64_t round;      /* the next push is for it, where */
    bool agreed;         /* all shards said so */
    uint32_t lead;       /* slot of unit 0, which gives out tickets */
    struct slot_gate ticket;
    struct {
        struct slot_gate question; /* READ or REST */
        uint64_t round;            /* last answered */
    } * slots;                     /* [shard_count] */
};

/* What a pull has found of a unit, for a caller that copies itself. */
enum unit_news { UNIT_NEWS_NONE, UNIT_NEWS_IN_MAPPING, UNIT_NEWS_IN_BUFFER };

/* The places of a pull. Made with the first such pull. */
struct pull_places {
    uint8_t *news;                /* [unit count] enum unit_news */
    struct lg_place *places;      /* [unit count] */
    struct lg_mapping **mappings; /* [shard_count] held: what units of the slot were found in */
    uint32_t count;               /* of places */
    uint32_t tries;               /* copies that the caller has made of the same pull */
};

/* PLACED: the caller copies. */
enum pull_state { PULL_NONE, PULL_ACTIVE, PULL_PLACED, PULL_DONE, PULL_FAILED };
struct pull {
    enum pull_state state;
    float *target;
    struct held *held;
    uint32_t unsettled; /* parts */
    struct pull_slot *slots;
    bool to_places; /* the caller copies */
    struct pull_places places;
    struct lg_error failure;
};

/* Encoding of pushes. */
struct encoder {
    float *residual;                /* [elements] NULL: the codec keeps nothing back */
    float **rates;                  /* [shard_count][push_count] learning rates that the parts' residuals are for */
    uint32_t **bytes_max;           /* [shard_count][push_count] of the parts, encoded */
    size_t room;                    /* bytes of every buffer */
    struct session_encoded *unused; /* those used last first: they are in cache */
    struct session_encoded *all;
    struct session_encoded *sending; /* the message at hand; NULL: it is plain */
};

struct session {
    struct session_config config; /* tensors and placement are not kept */
    struct session_sink sink;
    struct parts parts;
    struct slot *slots;
    struct push pushes[SESSION_PUSHES];
    struct session_gate gate;
    struct push *open; /* not all tensors ready; NULL: none */
    struct pull pull;
    struct held held[SESSION_BUFFERS];
    float *mirror;             /* [elements] pull_delta: what the shards know that the session holds */
    uint64_t *mirror_versions; /* [unit count] 0: nothing, or not known */
    struct encoder encoder;
    struct flight *ring; /* [config.window] */
    uint64_t seq_floor, seq_next;
    uint64_t serial; /* for tags, hellos, tickets and uses of buffers */
    uint64_t progress;
    bool window_full;    /* somebody waited for the floor to move */
    struct lg_error end; /* status LG_OK: alive */
    /* scratch of the message being sent */
    struct wire_bytes frames[WIRE_PAYLOAD_FRAMES_MAX];
    struct wire_unit table[WIRE_UNITS_MAX];
    struct wire_cover covers[WIRE_COVERS_MAX];
};

/* session.c */
void session_pump(struct session *session, uint32_t slot, int64_t now_ns);
void session_pump_all(struct session *session, int64_t now_ns);
/* Hands the message to the transport; false: it took none, and the slot is blocked. */
bool session_send(struct session *session, uint32_t slot, const struct wire_message *message, int64_t now_ns);
/* A message of `bytes` in flight on the slot is in flight no more. */
void session_answered(struct session *session, uint32_t slot, uint32_t bytes);
/* And brought what it was for. */
void session_settled(struct session *session, uint32_t slot);
/* The slot rests for its backoff, which doubles. */
void session_back_off(struct session *session, uint32_t slot, const char *reason, int64_t now_ns);
/* Closes the connection and asks for another. */
void session_drop(struct session *session, uint32_t slot, const char *why, int64_t now_ns);
/* For an answer that denied something: true when the slot is to be greeted on a new connection first. */
bool session_greets_again(struct session *session, uint32_t slot, const char *reason, int64_t now_ns);
/* True when `bytes` more may be in flight: within the credit, or the only message (every session is guaranteed one). */
bool session_credit_allows(const struct slot *slot, uint64_t bytes);

/* session_push.c; `pump` returns false when a part that is ready could not go, so that a pull must not overtake it. */
LG_MUST_CHECK enum lg_status session_push_init(struct session *session, struct lg_error *error);
void session_push_deinit(struct session *session);
bool session_push_pump(struct session *session, uint32_t slot, int64_t now_ns);
/* What was in flight on a lost connection goes again. */
void session_push_lost(struct session *session, uint32_t slot);
/* A PUSH_REPLY, or what an ERROR says in its place. */
void session_push_answer(struct session *session, uint32_t slot, const struct wire_message *message, int64_t now_ns);

/* session_gate.c; nothing of it happens in mode async but one look at `closed` for each pull. */
LG_MUST_CHECK enum lg_status session_gate_init(struct session *session, const struct session_config *config,
                                               struct lg_error *error);
void session_gate_deinit(struct session *session);
/* False: pulls from the slot have to wait. */
bool session_gate_pump(struct session *session, uint32_t slot, int64_t now_ns);
void session_ticket_pump(struct session *session, uint32_t slot, int64_t now_ns);
void session_gate_lost(struct session *session, uint32_t slot);
/* A pull begins. */
void session_gate_pull(struct session *session);
/* A push begins; its tensors are all ready. */
LG_MUST_CHECK enum lg_status session_gate_push(struct session *session, struct push *push,
                                               const struct session_push *spec, struct lg_error *error);
void session_gate_push_ready(struct session *session, const struct push *push);
void session_gate_answer(struct session *session, uint32_t slot, const struct wire_gate_reply *reply, int64_t now_ns);
/* False: the tag is none of a gate. */
bool session_gate_refused(struct session *session, uint32_t slot, const struct wire_error *refusal, int64_t now_ns);
int64_t session_gate_due_ns(const struct session *session, uint32_t slot);
void session_gate_tick(struct session *session, uint32_t slot, int64_t now_ns);
/* False: nothing is waited for. */
bool session_gate_describe(const struct session *session, uint32_t slot, int64_t now_ns, char *text, size_t bytes);

/* session_pull.c */
LG_MUST_CHECK enum lg_status session_pull_init(struct session *session, struct lg_error *error);
void session_pull_deinit(struct session *session);
void session_pull_pump(struct session *session, uint32_t slot, int64_t now_ns);
void session_pull_lost(struct session *session, uint32_t slot);
void session_pull_answer(struct session *session, uint32_t slot, const struct wire_message *message, int64_t now_ns);
void session_pull_refused(struct session *session, uint32_t slot, const struct wire_error *refusal, int64_t now_ns);

/* session_places.c: pulls for callers that copy themselves. `open` lets go of what the pull before held. */
LG_MUST_CHECK enum lg_status session_places_open(struct session *session, struct lg_error *error);
void session_places_deinit(struct session *session);
/* Notes which units of a part have changed. False: that cannot be read in place; ask for the part. */
bool session_places_find(struct session *session, uint32_t slot, const struct part *part);
/* The unit's values have come into the buffer of `held`. */
void session_places_came(struct session *session, const struct held *held, uint32_t unit);
/* All that was noted becomes places; returns how many. */
uint32_t session_places_tell(struct session *session);
/* Takes note of what the caller has copied. `unread` is called for parts that are to be asked for. */
void session_places_check(struct session *session,
                          void (*unread)(struct session *session, uint32_t slot, uint32_t part));
/* The pull is done: nothing is copied any more. */
void session_places_close(struct session *session);

/* session_codec.c: pushes in the job's codec, from buffers that are used again and again. */
LG_MUST_CHECK enum lg_status session_codec_init(struct session *session, struct lg_error *error);
void session_codec_deinit(struct session *session);
/* The codec that a part of the push goes in. */
const struct codec *session_codec_of(const struct push *push, const struct part *part);
/* Payload bytes of the part in its codec, at most. */
uint32_t session_codec_bytes(const struct session *session, const struct push *push, uint32_t slot, uint32_t part);
/* Encodes the part, once, unless the caller has; false: no memory. */
bool session_encode(struct session *session, struct push *push, uint32_t slot, uint32_t part);
/* The units of a part that the caller has encoded, in session->frames, those that lie one behind the other in one. 0:
 * the caller has not, or there are too many frames. */
size_t session_caller_frames(struct session *session, const struct push *push, uint32_t slot, uint32_t part);
/* The part is settled and was applied with `weight` (0: not at all): what the codec keeps back changes accordingly, or
 * the caller is told. */
void session_encoded_settle(struct session *session, struct push *push, uint32_t slot, uint32_t part, float weight);
/* All of a push that the caller has encoded is settled: tells it the learning rates. */
void session_tell_rates(struct session *session, struct push *push);

/* session_values.c: what buffers contain. */
LG_MUST_CHECK enum lg_status session_values_init(struct session *session, struct lg_error *error);
void session_values_deinit(struct session *session);
/* A fill of the buffer begins, and ends. `places`: of a copy elsewhere that it stands for. */
struct held *session_held_begin(struct session *session, const float *buffer, bool places);
void session_held_end(struct held *held);
/* The buffer's entry, or NULL where it is not remembered. */
const struct held *session_held_find(const struct session *session, const float *buffer);
/* Its versions are no longer relied on; bases stay, since gradients may have been computed from it. */
void session_held_forget(const struct session *session, struct held *held);
/* The slot is filled with values of at least this version of the shard. */
void session_held_settle(struct session *session, struct held *held, uint32_t slot, uint64_t least_version);
/* The part's units with the versions held, in session->table. */
const struct wire_unit *session_held_table(struct session *session, const struct held *held, uint32_t slot,
                                           const struct part *part);
/* Decodes the values of a reply into `target`, the flat array of `held`: some of the part's units, in its order. What
 * it leaves out must be held already. False: it does not fit what was asked for; then nothing of the part counts as
 * held.
 */
bool session_values_take(struct session *session, struct held *held, float *target, uint32_t slot,
                         const struct part *part, const struct wire_message *message);
/* True where the slot's values can be read in place now; *version (may be NULL) is a base for what is read after it. */
bool session_values_local(const struct session *session, uint32_t slot, uint64_t *version);
/* Copies a part's values out of the shard's memory into `target`, but for those held. False: some unit was being
 * changed all the time; ask for the part. */
bool session_values_read(struct session *session, struct held *held, float *target, uint32_t slot,
                         const struct part *part);

#endif
