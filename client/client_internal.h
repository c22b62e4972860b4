/* Inside liblagoon: who may touch what.
 *
 * Everything in client_io, which is all sockets, the session and what is due when, belongs to whoever holds `drive`.
 * While the caller waits in a call it drives itself: it sends, polls and receives, and no other thread stands between
 * it and the wire. At other times the client's own thread drives. It polls without the lock and takes it to work; while
 * the caller drives, and a moment longer, it rests. ZeroMQ's sockets may change threads so, under a lock.
 *
 * A poll sees only what is news on a socket's fd. So whoever polls has left every link quiet before (link.h), and
 * whoever gives up the lock while the thread polls leaves them quiet too, or wakes it.
 *
 * `mutex` guards client_shared: the caller's wishes and their outcomes. It is held for moments only, never while
 * tensors are copied or sent. `drive` is taken before `mutex`. */
#ifndef LAGOON_CLIENT_CLIENT_INTERNAL_H
#define LAGOON_CLIENT_CLIENT_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>
#include <zmq.h>

#include "client/lagoon.h"
#include "client/link.h"
#include "client/local_link.h"
#include "client/session.h"
#include "common/config.h"
#include "proto/wire.h"

enum {
    CLIENT_PUSHES = 2,  /* unsettled at once */
    CLIENT_REPORTS = 8, /* lease dones and evaluations the coordinator has not acknowledged */
    CLIENT_CUTS_MAX = WIRE_MARKS_MAX,
    CLIENT_TEXT_BYTES = 256,
    CLIENT_BEAT_MS = 1000,
    CLIENT_LEAVE_MS = 1000,          /* close waits so long for the coordinator's goodbye */
    CLIENT_FDS_FIXED = 1 + LINK_FDS, /* of a poll: wake_fd, the coordinator's, then LINK_FDS for each shard */
    CLIENT_FDS_MAX = CLIENT_FDS_FIXED + WIRE_SHARDS_MAX * LINK_FDS
};
#define CLIENT_NS_PER_MS INT64_C(1000000)

enum call_state { CALL_IDLE, CALL_STARTED, CALL_RUNNING, CALL_DONE };

struct pull_call {
    enum call_state state;
    bool give_up;
    float *target;
    bool forget;             /* no buffer's contents are to be relied on */
    bool to_places;          /* the caller copies */
    bool told;               /* and has been told what: it is over after another look */
    bool check;              /* which it has asked for */
    struct lg_place *places; /* DONE */
    uint32_t place_count;
    struct lg_error outcome;
};

struct ready_range {
    size_t first, count; /* tensors */
};

struct push_call {
    enum call_state state;
    uint64_t order; /* the lower one was started first */
    struct session_push spec;
    struct wire_cover cover;
    bool *ready;                /* [tensor count] as marked by the caller */
    size_t unready;             /* tensors */
    struct ready_range *ranges; /* [tensor count] marks on their way to the session */
    size_t range_count, ranges_taken;
    uint64_t untold_bytes;             /* marked since the session was last told */
    struct session_push_result result; /* its cuts point to `cuts` */
    uint64_t *cuts;                    /* [CLIENT_CUTS_MAX] */
    struct lg_error outcome;
    struct lg_error
        spoilt;      /* why the units that the caller has encoded do not go; LG_OK: they do. The caller's alone */
    uint64_t ticket; /* under `drive` */
    /* The buffer is the caller's again at 0: one is for the push itself until its outcome is known, one for every frame
     * that ZeroMQ sends from the buffer. Whoever takes the last wakes whoever drives, who settles the call. */
    atomic_uint loans;
    int wake_fd; /* the client's, for ZeroMQ's threads */
};

struct lease_record {
    struct lg_lease lease;
    uint64_t cuts[CLIENT_CUTS_MAX];
};

/* Whether there is something to train on; see session_rest. */
enum rest_wish { REST_NO_NEWS, REST_NOW, REST_APPLIED, REST_OVER };

/* A LEASE_DONE or EVAL_REPORT until it is acknowledged. */
struct report {
    bool used;
    uint64_t order;              /* the lower one goes first */
    struct wire_message message; /* without pointers; the request is numbered when it is first sent */
    bool sent;                   /* on this connection */
};

enum thread_state { THREAD_WORKS, THREAD_POLLS, THREAD_RESTS };

/* Guarded by lg_client.mutex. */
struct client_shared {
    enum thread_state thread;
    bool driven;     /* the caller drives, or is about to */
    uint64_t drives; /* how often it did */
    bool take_over;  /* the thread is to rest no longer: something is in flight */
    bool ready_told; /* ready_fd is readable */
    bool joined;
    struct lg_error join_outcome; /* status LG_UNAVAILABLE: still joining */
    struct lg_error ended;        /* status LG_OK: the session lives */
    bool stop;
    char stop_reason[CLIENT_TEXT_BYTES];
    char give_up[CLIENT_TEXT_BYTES]; /* "": none; else end the session, the caller's deadline passed */
    struct pull_call pull;
    struct push_call pushes[CLIENT_PUSHES];
    bool lease_wanted;         /* one lease ahead, please */
    bool lease_urgent;         /* the caller waits, and nothing was asked since it does */
    bool lease_waiting;        /* the caller waits */
    bool lease_there;          /* `ahead` is one */
    bool lease_finished;       /* there will be no more */
    enum rest_wish rest;       /* what the session is to be told, where the job's mode asks for it */
    bool at_rest;              /* and all shards know */
    struct lease_record ahead; /* granted, not yet handed out */
    struct report reports[CLIENT_REPORTS];
    uint64_t report_order;
    struct lg_progress progress;
    uint64_t coordinator_answers, shard_answers; /* rise with everything that counts as progress */
    char trouble[CLIENT_TEXT_BYTES];             /* what holds things up; "" nothing */
    const char *activity;                        /* what the caller is doing, for the beat; static text */
};

/* One shard's connection. */
struct shard_link {
    struct link link;
    struct local_link local; /* shared memory, where the shard is on this host */
    bool lost;               /* its loss was logged */
    bool unsent;             /* the transport took no more: offer again soon */
};

/* A request that is repeated, with its number, on every new connection until it is answered. */
struct ask {
    uint64_t request; /* 0: nothing is asked */
    bool sent;        /* on this connection */
};

/* Guarded by lg_client.drive. */
struct client_io {
    struct link coordinator;
    struct shard_link *shards; /* [shard_count], after the join */
    uint32_t shard_count;
    struct session *session; /* NULL before the join */
    uint64_t session_id;     /* 0 before the join */
    uint64_t job, token;
    uint32_t incarnation;
    struct wire_arena *coordinator_arena, *shard_arena;
    struct net_message in, out;
    struct pollfd fds[CLIENT_FDS_MAX]; /* scratch of the caller's polls */
    int64_t thread_due_ns;             /* the thread polls until then, */
    uint64_t thread_sockets;           /* and what was open when it began */
    uint64_t requests;                 /* numbers given out */
    struct ask join, lease, leave;
    int64_t join_ns, lease_ns, report_ns, beat_ns; /* when to ask again */
    int64_t uplink_ns;                             /* when to look at all these again; 0: at once */
    int64_t leave_ns;                              /* leaving: until when the goodbye may take; 0: not leaving */
    int64_t silent_ns;                             /* since when an answer is due; 0: none is */
    bool silence_told, lost_told;
    char told[CLIENT_TEXT_BYTES]; /* the last reason for waiting that was logged: once is enough */
    bool over;                    /* the client's thread may end */
    /* calls taken over from the caller */
    bool pulling, pushing[CLIENT_PUSHES];
    bool resting;                   /* the caller may wait for the shards to know */
    bool answered[CLIENT_PUSHES];   /* the outcome is known, but ZeroMQ has not sent the last of the buffer yet */
    uint64_t clocks[CLIENT_PUSHES]; /* of the pushes taken over: what messages call them */
    bool local_waiting;             /* some shard has been asked to share memory */
    bool shards_closed;             /* the session is over, and so are its connections */
    uint64_t progress;              /* of the session, as last told to the caller */
    int64_t trouble_ns;             /* when to look for trouble again */
};

/* Memory that gradient buffers lie in and that shards on this host may map: one behind the other. */
struct gradient_ring {
    int fd; /* -1: none, gradient buffers are ordinary memory */
    char *data;
    size_t bytes, buffer_bytes;
};

/* What lg_client_encoding tells. */
struct client_encoding {
    const struct codec *codec;    /* of pushes */
    struct codec_options options; /* but for the key */
    struct block_table units;
    bool *plain; /* [tensor count] */
    bool some_plain;
    uint64_t session; /* what keys are made of */
};

struct lg_client {
    /* set before the thread starts, read-only since */
    char endpoint[NET_ENDPOINT_BYTES]; /* of the coordinator */
    char job[CLIENT_TEXT_BYTES], device[CLIENT_TEXT_BYTES];
    struct lg_client_options options; /* texts and tensors point to the copies here */
    struct tensor_spec *own_tensors;  /* what a trainer joined with */
    void *zmq;
    int wake_fd;  /* ends polls */
    int ready_fd; /* to the caller */
    pthread_t thread;
    /* set before `joined` */
    struct tensor_spec *tensors;
    size_t tensor_count;
    struct config *spec;
    const struct consistency *mode; /* of the job; async for whoever does not train */
    bool encodes;                   /* gradients, before they are sent, unless the caller does */
    struct client_encoding encoding;
    /* the caller's thread only */
    struct lease_record current;
    uint64_t clock, push_order;
    uint64_t cuts[CLIENT_CUTS_MAX];
    size_t cut_count;
    float *gradients[LG_GRADIENT_BUFFERS]; /* NULL until asked for */
    struct gradient_ring ring;             /* made before `joined`, kept until close */
    _Atomic(const char *) transport;

    /* the client's thread only */
    struct pollfd fds[CLIENT_FDS_MAX];

    pthread_mutex_t drive;
    struct client_io io;
    atomic_bool wished; /* there may be something new among the wishes; set under the mutex */
    pthread_mutex_t mutex;
    pthread_cond_t rest; /* the client's thread; monotonic clock */
    struct client_shared shared;
};

/* client.c */
int64_t client_now_ns(void);
/* With the mutex held: drives until `over` says so, up to the deadline, which moves on while the counter `progress`
 * (may be NULL) does. LG_OK: over; LG_TIMEOUT: the sentence says what held things up, and `what` was given up. */
LG_MUST_CHECK enum lg_status client_wait(struct lg_client *client, bool (*over)(const struct lg_client *client),
                                         const uint64_t *progress, const char *what, struct lg_error *error);
/* With the mutex held: LG_OK, or why the session is over. */
LG_MUST_CHECK enum lg_status client_ended(const struct lg_client *client, struct lg_error *error);

/* client_drive.c: who drives. */
void *client_run(void *client); /* the thread's main function */
/* With the mutex held: the caller drives until `over` says so (true), or until the deadline (false). */
bool client_drive(struct lg_client *client, bool (*over)(const struct lg_client *client), int64_t deadline_ns);
/* With the mutex held, by the caller who leaves a wish: turns look at wishes only after this. */
void client_wish(struct lg_client *client);
/* The caller has left a wish: it is carried out as far as that goes at once, or by the thread where that is at work. */
void client_nudge(struct lg_client *client);
/* With the mutex held: the same, but all of it is the thread's. */
void client_delegate(struct lg_client *client);
/* With the mutex held: ready_fd is readable while an outcome waits to be taken. */
void client_show_ready(struct lg_client *client);

/* client_turn.c, under `drive`: everything there is to do now. Returns when that was. `patient`: where there is nothing
 * to do but to wait for a shard's answer, it is waited for a moment; else nothing waits. */
int64_t client_turn(struct lg_client *client, bool patient);
/* When client_turn is needed next, beside the events. */
int64_t client_due_ns(const struct lg_client *client, int64_t now_ns);
void client_close_links(struct lg_client *client);
/* What the session calls. */
bool client_send(void *client, uint32_t slot, const struct wire_message *message);
void client_reopen(void *client, uint32_t slot, const char *why);
/* Ends the session; every call from now on says why. */
void client_end(struct lg_client *client, enum lg_status status, const char *reason);

/* client_local.c. Ring and gradient buffers: open before the join is told, free at close. The rest under `drive`. */
void client_ring_open(struct lg_client *client);
void client_ring_free(struct lg_client *client);
/* Some shard's memory is read in place; anywhere. */
bool client_shares_memory(const struct lg_client *client);
/* The shard has said hello and told its Unix socket's name. */
void client_local_greeted(struct lg_client *client, uint32_t slot, const char *name);
/* Looks for answers; true while one is awaited. */
bool client_local_tick(struct lg_client *client);
void client_local_lost(struct lg_client *client, uint32_t slot);
/* For a PUSH whose payload lies in memory that the shard reads: `out` becomes the same push, naming it. */
bool client_local_names(const struct lg_client *client, uint32_t slot, const struct wire_message *message,
                        struct wire_message *out, struct wire_range ranges[WIRE_PAYLOAD_FRAMES_MAX]);
bool client_local_gradients(void *client, uint32_t slot, const float *data);
bool client_local_version(void *client, uint32_t slot, uint64_t *version);
enum local_read client_local_read(void *client, uint32_t slot, uint32_t index, float *into, uint64_t *version);
struct lg_mapping *client_local_mapping(void *client, uint32_t slot);

/* client_encoding.c. The tensors are known. */
LG_MUST_CHECK enum lg_status client_encoding_init(struct lg_client *client, const struct codec *codec, double keep,
                                                  struct lg_error *error);
void client_encoding_deinit(struct lg_client *client);
/* Whether the push may have encoded units, if it has any. */
LG_MUST_CHECK enum lg_status client_encoding_check(const struct lg_client *client, const struct lg_push *push,
                                                   const float *gradients, struct lg_error *error);
/* Whether the units of some tensors are whole. */
LG_MUST_CHECK enum lg_status client_encoding_look(const struct lg_client *client, const struct lg_encoded_unit *units,
                                                  size_t first_tensor, size_t count, struct lg_error *error);

/* client_uplink.c, under `drive` */
void uplink_up(struct lg_client *client, int64_t now_ns);
void uplink_down(struct lg_client *client, bool was_up, int64_t now_ns);
/* Asks for what is due: join, lease, reports, beat, goodbye. */
void uplink_tick(struct lg_client *client, int64_t now_ns);
/* When uplink_tick is needed next, beside the events. */
int64_t uplink_next_ns(const struct lg_client *client);
/* What keeps the client from the coordinator's answers; "" nothing. */
void uplink_describe(const struct lg_client *client, char *text, size_t bytes);

static inline bool uplink_joined(const struct client_io *io) {
    return io->session != NULL;
}
/* Joined, and the session not over. */
static inline bool uplink_alive(const struct client_io *io) {
    return io->session && session_status(io->session, NULL) == LG_OK;
}
/* client_answers.c, under `drive`: takes a message of the coordinator. */
void uplink_receive(struct lg_client *client, const struct wire_message *message, int64_t now_ns);

/* client_join.c: makes the session and the links to the shards from an accepting JOIN_REPLY. */
LG_MUST_CHECK enum lg_status client_join_accept(struct lg_client *client, const struct wire_message *message,
                                                struct lg_error *error);

#endif
