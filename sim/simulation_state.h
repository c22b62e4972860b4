/* Inside the simulator: shared by simulation.c (clock and events), cluster.c (shards and coordinator), network.c,
 * virtual_worker.h, compute.c (gradients and evaluations). One thread. */
#ifndef LAGOON_SIM_SIMULATION_STATE_H
#define LAGOON_SIM_SIMULATION_STATE_H

#include "client/job.h"
#include "client/session.h"
#include "common/math/permutation.h"
#include "server/coordinator/coordinator.h"
#include "server/shard.h"
#include "sim/event_queue.h"
#include "sim/letter.h"
#include "sim/simulation.h"
#include "sim/step_times.h"
#include "worker/local_steps.h"
#include "worker/model.h"
#include "worker/trainer_clip.h"
#include "worker/trainer_ranges.h"

#define SIM_NS_PER_S 1e9
#define SIM_EPOCH_NS INT64_C(1000000000) /* the virtual clock starts here: 0 means "never" to the cores */

enum {
    SIM_TICK_MS = 500, /* of the coordinator, which takes more than a second for a standstill of its own */
    SIM_PUSHES = 2,    /* of a worker, unsettled at once */
    SIM_EVALUATE_BATCH = 256,
    SIM_CUTS_MAX = 1024
};

/* Return addresses at the coordinator. Workers have the top bit, their life and their number. */
enum { SIM_ROUTE_SERVER = 1, SIM_ROUTE_CLI = 2 };
#define SIM_ROUTE_WORKER (UINT64_C(1) << 63)

enum event_kind {
    EVENT_TO_SHARD,  /* from a worker; slot: index of the shard */
    EVENT_TO_WORKER, /* from shard slot `slot` of the session */
    EVENT_COMMAND,   /* from the coordinator; slot: index of the shard */
    EVENT_TO_CORE,   /* to the coordinator */
    EVENT_FROM_CORE, /* to a worker */
    EVENT_JOIN,      /* a worker starts, or is back, or asks again to join */
    EVENT_COMPUTED,  /* a worker's step is over */
    EVENT_DRIVE,     /* a worker may have something to do */
    EVENT_ASK,       /* a worker asks for a lease again */
    EVENT_LOSE,      /* a worker is lost */
    EVENT_TICK,
};

enum worker_state {
    WORKER_AWAY,
    WORKER_JOINING,
    WORKER_LEASING, /* has nothing to do until it has a lease */
    WORKER_SETTING, /* pushes the initial values */
    WORKER_READY,   /* takes the next batch when its parameters are there */
    WORKER_COMPUTING,
    WORKER_COMPUTED, /* pushes when it may */
    WORKER_RESTING,  /* its lease is done; it says so to the shards, then to the coordinator */
    WORKER_FINISHED,
};

enum worker_ahead { AHEAD_NONE, AHEAD_PULLED, AHEAD_PUSHED, AHEAD_THERE };

struct worker_flight { /* a push that is not settled */
    uint64_t ticket;
    struct sample_range range;
    float *gradients; /* of the pool */
};

struct worker_lease {
    bool there;
    enum wire_lease kind;
    uint64_t lease, epoch, first, end;
    uint32_t fence;
    uint64_t *cuts;
    size_t cut_count;
};

struct virtual_worker {
    struct simulation *simulation;
    uint32_t index, class, life;
    enum worker_state state;
    struct random random;
    size_t place; /* in a trace */
    struct session *session;
    uint64_t id; /* of the session */
    uint32_t incarnation, slot_count;
    uint16_t *slots; /* [slot_count] index of the shard */
    int64_t up_free_ns, down_free_ns;
    float *parameters[2];
    unsigned current; /* of `parameters`: computed from; the other is filled ahead */
    enum worker_ahead ahead;
    struct worker_flight flights[SIM_PUSHES]; /* oldest first */
    size_t flight_count;
    struct range_queue ranges;
    struct sample_range batch; /* at hand */
    struct worker_lease lease, next;
    bool asked;                   /* for a lease; no answer yet */
    bool turn, queued;            /* sequential: has the turn, or waits for it */
    struct virtual_worker *after; /* in the queue for the turn */
    bool rested;                  /* the shards know that it has nothing to train on */
    struct local_steps local;     /* where the job has them */
    uint64_t requests, join_request, lease_request;
    uint64_t steps, samples, clock;
    int64_t step_ns; /* when the step at hand began */
    double rate;     /* samples/s, as trainers measure it */
    int64_t said_ns; /* last word to the coordinator */
};

struct virtual_shard {
    struct simulation *simulation;
    uint32_t index, number; /* in the simulation; at the coordinator */
    struct shard *shard;
    uint64_t samples, updates;
    int64_t in_free_ns, out_free_ns;
};

struct simulation {
    struct config *config;
    struct job_config job;
    struct sim_options options;
    struct sim_classes classes;
    struct step_times times[SIM_CLASSES_MAX];
    const struct sim_setup *setup;
    struct sim_outcome *outcome;
    struct lg_error failure; /* status LG_OK: none */
    bool over;

    int64_t now_ns, origin_ns; /* origin: when training began */
    struct event_queue queue;
    struct wire_arena *arena;

    struct virtual_shard shards[SIM_SHARDS_MAX];
    uint32_t shard_count;
    uint32_t lead; /* index of the shard that holds the first unit */
    struct coordinator *core;
    struct random secrets;
    uint64_t job_id, server_member, server_requests;
    bool trained; /* initial values are in place */

    struct virtual_worker *workers;
    uint32_t worker_count;
    struct virtual_worker *turn_first, *turn_last;
    bool turn_taken;

    struct device *device;
    struct dataset *dataset;
    struct model *model;
    enum clip clip;
    uint64_t *offsets; /* [tensor_count + 1] */
    uint64_t *indices;
    struct batch batch;
    struct permutation *orders; /* of the last few epochs, by epoch */
    uint64_t *order_epochs;
    float *evaluated; /* flat parameters that are evaluated */
    float *scratch;   /* gradients nobody wants */
    float **pool;     /* gradient buffers that are free */
    size_t pool_count, pool_capacity;
    uint64_t next_evaluation; /* samples */
    double accuracy;
};

/* ---- simulation.c */
void simulation_fail(struct simulation *simulation, enum lg_status status, const char *format, ...) LG_PRINTF(3, 4);
/* The run ends well, and why. */
void simulation_end(struct simulation *simulation, const char *format, ...) LG_PRINTF(2, 3);
void simulation_at(struct simulation *simulation, int64_t at_ns, struct event event);
/* The initial values are in place: the clock of training starts, and everybody comes. */
void simulation_begin(struct simulation *simulation);
double simulation_seconds(const struct simulation *simulation); /* since training began */

/* ---- network.c; messages are freed when they cannot be sent */
void network_to_shard(struct virtual_worker *worker, uint32_t shard, const struct wire_message *message);
void network_to_worker(struct virtual_shard *shard, uint64_t route, const struct wire_message *message,
                       struct snapshot *const *snapshots, size_t snapshot_count);
void network_to_core(struct virtual_worker *worker, struct wire_message *message);
void network_from_core(struct simulation *simulation, uint64_t route, const struct wire_message *message);
/* At once: between shards and the coordinator. */
void network_command(struct simulation *simulation, uint32_t shard, const struct wire_message *message);
void network_reply(struct simulation *simulation, const struct wire_message *message);

/* ---- cluster.c */
LG_MUST_CHECK enum lg_status cluster_open(struct simulation *simulation, struct lg_error *error);
void cluster_close(struct simulation *simulation);
void cluster_core_receive(struct simulation *simulation, const struct letter *letter);
void cluster_shard_receive(struct simulation *simulation, const struct event *event);
void cluster_tick(struct simulation *simulation);
/* Index of the shard with this number at the coordinator; UINT32_MAX: none. */
uint32_t cluster_shard(const struct simulation *simulation, uint32_t number);

/* ---- virtual_worker.c */
void worker_init(struct virtual_worker *worker, struct simulation *simulation, uint32_t index, uint32_t class);
void worker_deinit(struct virtual_worker *worker);
void worker_join(struct virtual_worker *worker);
void worker_lose(struct virtual_worker *worker);
void worker_drive(struct virtual_worker *worker);
void worker_computed(struct virtual_worker *worker);
void worker_ask(struct virtual_worker *worker);
void worker_hear_shard(struct virtual_worker *worker, uint32_t slot, const struct wire_message *message);
void worker_hear_core(struct virtual_worker *worker, const struct wire_message *message);
void worker_tick(struct virtual_worker *worker);

/* ---- virtual_session.c: a worker's session with the shards. */
LG_MUST_CHECK bool worker_session_open(struct virtual_worker *worker, const struct wire_message *welcome);
void worker_session_close(struct virtual_worker *worker);

/* ---- compute.c */
LG_MUST_CHECK enum lg_status compute_open(struct simulation *simulation, struct lg_error *error);
void compute_close(struct simulation *simulation);
float *compute_take_buffer(struct simulation *simulation); /* for gradients; NULL: no memory */
void compute_give_buffer(struct simulation *simulation, float *buffer);
/* What the worker pushes for its batch, into `out`: the gradient at its parameters, or how far its local steps lead.
 * False when it failed, or the loss was not finite. */
bool compute_push(struct virtual_worker *worker, float *out);
/* The parameters on the shards, on the test split; adds a point to the curve. */
void compute_evaluate(struct simulation *simulation);

#endif
