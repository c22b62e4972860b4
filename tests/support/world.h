/* A small cluster around the coordinator's core: fake servers, agents and trainers, a clock of its own, a database in
 * memory. Every message is encoded and decoded on its way. Losses, repeats, deaths and silences are up to the test.
 *
 * A fake shard keeps, per job, which samples of which epoch it has applied; a batch is applied whole, passed over when
 * it was applied before, and counted as torn when only part of it was: that must never happen. */
#ifndef LAGOON_TESTS_SUPPORT_WORLD_H
#define LAGOON_TESTS_SUPPORT_WORLD_H

#include <jansson.h>

#include "common/random.h"
#include "server/coordinator/coordinator.h"

enum {
    WORLD_SERVERS = 3,
    WORLD_SHARDS_EACH = 2,
    WORLD_AGENTS = 4,
    WORLD_TRAINERS = 256,
    WORLD_JOBS = 8,
    WORLD_SESSIONS = 256,
    WORLD_SESSIONS_PER_JOB_MAX = 300, /* that the coordinator takes */
    WORLD_SAMPLES = 400,              /* of an epoch, at most */
    WORLD_EPOCHS = 6,
    WORLD_TICK_MS = 50,
};

enum { ROUTE_CLI = 10, ROUTE_SERVER = 100, ROUTE_AGENT = 200, ROUTE_TRAINER = 1000 };

struct world_job {
    uint64_t id;
    bool open;
    uint64_t epoch, map_version, train_samples;
    uint8_t applied[WORLD_EPOCHS][WORLD_SAMPLES];
    uint64_t sessions[WORLD_SESSIONS];
    size_t session_count;
    uint64_t closed[WORLD_SESSIONS];
    size_t closed_count;
};
struct world_shard {
    uint32_t number;
    struct world_job jobs[WORLD_JOBS];
};
struct world_server {
    bool there, stopped; /* stopped: as with SIGSTOP */
    char name[32];
    uint64_t instance, member, route, memory_bytes;
    bool registered;
    size_t shard_count;
    struct world_shard shards[WORLD_SHARDS_EACH];
    int64_t beat_ms;
};
struct world_agent {
    bool there;
    char name[32];
    uint64_t instance, member, route;
    uint32_t slots;
    const char *devices[4]; /* "cpu" unless told */
    size_t device_count;
    bool registered, refused;
    int64_t beat_ms;
};

enum world_trainer_state { WORLD_TRAINER_JOINING, WORLD_TRAINER_IDLE, WORLD_TRAINER_WORKING, WORLD_TRAINER_DONE };

struct world_trainer {
    bool there;
    bool used;       /* also after its end: pointers to it stay good */
    int agent;       /* index; -1: came by itself */
    char device[64]; /* that it was told to use */
    uint64_t number, token, job, route, session, map_version, request, next_request;
    enum wire_role role;
    enum world_trainer_state state;
    enum lg_status refused; /* why a join came to nothing, or the session ended */
    char reason[256];
    int64_t asked_ms, beat_ms, retry_ms, step_ms;
    bool frozen, silent; /* no step; no beat either */
    bool parked;         /* frozen, and says that it waits for others */
    enum wire_lease lease_kind;
    uint64_t lease, epoch, first, end, at;
    uint32_t fence;
    uint64_t cuts[64];
    size_t cut_count;
    uint64_t report_request; /* of the unacknowledged LEASE_DONE or EVAL_REPORT; 0: none */
    bool stuck_after_half;   /* dies between its pushes to two shards */
    uint64_t steps, samples;
    uint32_t shards[16];
    size_t shard_count;
};

struct world_exit { /* an agent's report, until it is acknowledged */
    bool used;
    int agent;
    uint64_t trainer, request;
    int32_t code, signal;
    char reason[128];
    int64_t sent_ms;
};

struct world_letter;

struct world {
    struct coordinator *core;
    struct store *store;
    struct random random, secrets;
    int64_t now_ms;
    struct world_server servers[WORLD_SERVERS];
    struct world_agent agents[WORLD_AGENTS];
    struct world_trainer trainers[WORLD_TRAINERS];
    struct world_exit exits[WORLD_TRAINERS];
    uint64_t next_route, next_request;
    /* what trainers are made of */
    struct tensor_spec tensors[3];
    size_t tensor_count;
    uint64_t fingerprint, train_samples, test_samples;
    int64_t step_time_ms; /* of a batch */
    /* trouble */
    uint32_t lose_percent, repeat_percent;
    bool keep_trainers_from_joining;
    size_t shard_sessions; /* that a shard takes of a job; 0: any number */
    int fast_exit;         /* trainers exit at once with this code; 0: they work */
    /* what came back to ROUTE_CLI and other routes nobody owns */
    struct wire_message reply; /* shallow: texts are below */
    char reply_text[512], reply_name[128];
    size_t reply_count, warning_count;
    uint64_t torn, evaluations, repeats;
    struct wire_arena *arena, *reply_arena;
    struct world_letter *first, *last;
    struct store_change changes[1024];
    size_t change_count;
    bool deaf; /* the coordinator's messages are lost: it was killed between the disk and the network */
};

struct world *world_new(uint64_t seed);
void world_free(struct world *world);
/* The defaults: two servers with two shards each, three agents with one slot each. */
void world_populate(struct world *world);
void world_add_server(struct world *world, int index, const char *name, size_t shards, uint64_t memory_bytes);
void world_add_agent(struct world *world, int index, const char *name, uint32_t slots);

/* Time passes: beats, steps, ticks, letters. */
void world_advance(struct world *world, int64_t ms);
/* The coordinator's process is stopped so long, as with SIGSTOP; the others go on. */
void world_stop_coordinator(struct world *world, int64_t ms);
/* Until the job is in `state`, or fails the test after `ms`. */
void world_until(struct world *world, const char *job, const char *state, int64_t ms);
/* The coordinator is killed and started again from its database. */
void world_restart(struct world *world);

/* A message straight to the core, from `route`; letters are delivered after it. */
void world_say(struct world *world, uint64_t route, const struct wire_message *message);
/* SUBMIT of "key=value;key=value"; the key "init" asks for initial values from a file. The reply is in world->reply.
 * Returns the job's number, 0 when refused. */
uint64_t world_submit(struct world *world, const char *format, ...) LG_PRINTF(2, 3);
void world_cancel(struct world *world, const char *job);

/* The trainer's process ends; its agent tells. */
void world_kill_trainer(struct world *world, struct world_trainer *trainer, int code, int signal, const char *reason);
void world_kill_agent(struct world *world, int index);
/* The server's process ends and is started again on the same ports. */
void world_restart_server(struct world *world, int index);
/* A new session of this role that comes by itself. */
struct world_trainer *world_join(struct world *world, const char *job, enum wire_role role);
/* The n-th trainer that is there, or NULL. */
struct world_trainer *world_trainer_at(struct world *world, size_t n);
size_t world_trainer_count(const struct world *world);
/* The trainer that holds a lease of this kind, or NULL. */
struct world_trainer *world_holder(struct world *world, enum wire_lease kind);

json_t *world_ask(struct world *world, const char *what, const char *job);
/* A text of the job's document; valid until the next call. */
const char *world_text(struct world *world, const char *job, const char *key);
int64_t world_number(struct world *world, const char *job, const char *key);
bool world_history_has(struct world *world, const char *job, const char *text);
/* Every sample of every epoch is applied on every shard that holds the job, and nothing was torn. */
void world_expect_exact(struct world *world, uint64_t job, uint64_t epochs);
/* Does any shard hold the job? */
bool world_holds(const struct world *world, uint64_t job);
/* Open sessions on all shards. */
size_t world_sessions(const struct world *world, uint64_t job);

#endif
