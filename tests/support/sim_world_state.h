/* Inside the simulated world: shared by sim_world.c (shards, coordinator, the run), sim_worker.c and sim_oracle.c. */
#ifndef LAGOON_TESTS_SUPPORT_SIM_WORLD_STATE_H
#define LAGOON_TESTS_SUPPORT_SIM_WORLD_STATE_H

#include "client/session.h"
#include "server/shard.h"
#include "tests/support/sim_net.h"
#include "tests/support/sim_world.h"

enum {
    WORLD_SHARDS = 3,
    WORLD_WORKERS = 10, /* sessions over the life of a world */
    WORLD_UNITS = 8,
    WORLD_UNIT_ELEMENTS = 24,
    WORLD_ELEMENTS = WORLD_UNITS * WORLD_UNIT_ELEMENTS,
    WORLD_BUFFERS = 5, /* one more than a session remembers */
    WORLD_SLICES = 256,
    WORLD_SAMPLES = 68,
    WORLD_CUTS = 64,
    WORLD_ROUNDS = 512,
    WORLD_JOB = 2,
    WORLD_MAP = 7,
    WORLD_EPOCH = 1,
};
#define WORLD_MS INT64_C(1000000)

/* SIM_USER events. */
enum world_event {
    WORLD_TICK,     /* a: worker */
    WORLD_CONNECT,  /* a: worker, b: slot */
    WORLD_WRITABLE, /* a: worker, b: slot */
    WORLD_COMPUTED, /* a: worker */
    WORLD_READY,    /* a: worker */
    WORLD_EVICT,    /* a: worker, b: 1 its process is dead too */
    WORLD_CLOSE,    /* a: worker, b: slot: its session ends there */
    WORLD_SPAWN,
};

struct range {
    uint64_t first, end;
};

struct slice {
    uint64_t lease;
    struct range range;
    uint64_t cuts[WORLD_CUTS];
    size_t cut_count;
};

enum worker_phase { WORKER_SETTING, WORKER_IDLE, WORKER_PULLING, WORKER_COMPUTING, WORKER_MARKING };

struct flying {
    bool used;
    uint64_t ticket;
    struct range range;
    float gradients[WORLD_ELEMENTS];
    bool brings;              /* values back, into `buffer` */
    unsigned buffer;          /* of the worker's parameters */
    size_t seen[WORLD_UNITS]; /* states each unit had gone through when the push began */
};

struct worker {
    struct world *world;
    uint32_t index;
    bool alive, evicted, draws_last; /* draws_last: pulls ahead while a push is unsettled */
    uint32_t closes_left;
    bool owed; /* evicted with a slice, which the coordinator gives to another */
    struct session *session;
    bool connected[WORLD_SHARDS];
    uint32_t connection[WORLD_SHARDS];
    enum worker_phase phase;
    bool has_slice;
    struct slice slice;
    struct range pieces[WORLD_SLICES]; /* a stack */
    size_t piece_count;
    struct flying flying[2];
    struct flying *marking;
    size_t marked; /* tensors, from the last one */
    float parameters[WORLD_BUFFERS][WORLD_ELEMENTS];
    unsigned buffer;          /* pulled into, then computed from */
    size_t seen[WORLD_UNITS]; /* states each unit had gone through when the pull began */
    uint64_t clock, settled;
};

/* What the parameters have to be, from the decisions alone. */
struct oracle {
    float values[WORLD_ELEMENTS];
    uint64_t *states[WORLD_UNITS]; /* hash of every state a unit has been in, in order */
    size_t state_count[WORLD_UNITS], state_capacity[WORLD_UNITS];
    uint64_t counter[WORLD_SHARDS];
    /* of modes that gather pushes */
    float sums[WORLD_ELEMENTS];
    double samples[WORLD_UNITS];
    uint8_t taken[WORLD_UNITS][WORLD_SAMPLES];   /* how often a sample went into a unit */
    uint64_t pushes[WORLD_SHARDS][WORLD_ROUNDS]; /* which pushes went into a round: a sum of hashes */
};

struct world {
    enum world_bug bug;
    const struct consistency *mode;
    uint64_t gate_bound, gate_pushes;
    uint64_t seed;
    struct sim_net net;
    struct world_summary *summary;
    uint32_t shard_count, first_workers, worker_count, unit_count;
    struct tensor_spec tensors[WORLD_UNITS];
    uint64_t offset[WORLD_UNITS + 1];
    uint16_t placement[WORLD_UNITS];
    struct shard *shards[WORLD_SHARDS];
    struct wire_arena *unused;
    uint32_t answering;          /* slot of the shard that is at work */
    struct wire_message control; /* its last answer to a command */
    uint64_t marks[WIRE_MARKS_MAX];
    uint64_t fresh_seq, real_seq;
    bool leased, initialised, done;
    bool hasty; /* the coordinator gives an evicted worker's whole slice away at once, unfenced and without marks */
    uint64_t samples, batch, slice_samples, small_credit;
    uint32_t window, part_bytes;
    const struct codec *push_codec, *pull_codec; /* exact for what travels here */
    bool pull_delta;
    struct slice queue[WORLD_SLICES];
    size_t queue_count;
    uint64_t leases, out; /* given, not done */
    uint32_t evictions_left, evicting;
    struct worker workers[WORLD_WORKERS];
    struct oracle oracle;
};

static inline bool world_has(const struct world *world, unsigned flags) {
    return consistency_has(world->mode, flags);
}
void world_fail(struct world *world, const char *format, ...) LG_PRINTF(2, 3);
static inline bool world_failed(const struct world *world) {
    return world->summary->failure[0] != '\0';
}

/* sim_worker.c */
void worker_spawn(struct world *world);
void worker_free(struct worker *worker);
/* Does what can be done now. */
void worker_drive(struct worker *worker);
void worker_event(struct worker *worker, const struct sim_event *event);
void worker_hear(struct worker *worker, uint32_t slot, const struct wire_message *message);
void worker_broken(struct worker *worker, uint32_t slot);

/* sim_world.c: the coordinator's side. */
bool world_take_slice(struct world *world, struct worker *worker);
void world_slice_done(struct world *world, struct worker *worker);

/* sim_oracle.c */
float oracle_gradient(const struct world *world, uint64_t sample, uint32_t unit, uint32_t element);
float oracle_initial(uint32_t unit, uint32_t element);
void oracle_deinit(struct oracle *oracle);
void oracle_decide(struct world *world, const struct shard_decision *decision, const struct wire_message *push);
/* Every unit in the worker's buffer must be in a state that it was in after its first `seen` states, or the last of
 * them; with `moved`, after them. */
void oracle_check_pull(struct world *world, const struct worker *worker, unsigned buffer, const size_t *seen,
                       bool moved);
/* After all sessions have ended. */
void oracle_check_end(struct world *world);

#endif
