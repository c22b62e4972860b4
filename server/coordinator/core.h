/* What the coordinator's files share.
 *
 *   coordinator.c   life, dispatch, rows of what changed
 *   members.c       servers and agents: registration, beats, liveness
 *   submit.c        submission: specifications
 *   jobs.c          phases, cancel, release, ledgers
 *   define.c        a job's tensors: fingerprints, admission, placement, opening
 *   sessions.c      joins, leaves, beats of trainers
 *   grants.c        leases: initialise, train, evaluate
 *   numbers.c       what beats say of speed: rates of shards, a trainer's times, devices
 *   losses.c        a session ends: fence, marks, slices given back
 *   trainers.c      trainer processes: slots, starts, exits, restarts
 *   tasks.c         commands to shards, sent again until they are answered
 *   history.c       lines for people: a job's history and log
 *   restore.c       rows in
 *   queries*.c      JSON documents
 *
 * Everything is found by number in arrays of pointers: a coordinator has hundreds of things, not millions. Whatever has
 * a row carries `changed`; changes leave at the end of the input that made them. */
#ifndef LAGOON_SERVER_COORDINATOR_CORE_H
#define LAGOON_SERVER_COORDINATOR_CORE_H

#include "client/job.h"
#include "common/block.h"
#include "server/coordinator/coordinator.h"
#include "server/coordinator/leases.h"

enum {
    CORE_REASON_BYTES = 480,
    CORE_NAME_BYTES = 128,
    CORE_JOBS_LIVE_MAX = 1000, /* more are refused at submission */
    CORE_JOBS_ENDED_MAX = 200, /* older ones are forgotten */
    CORE_SESSIONS_PER_JOB_MAX = 16384,
    CORE_MEMBERS_MAX = 4096,
    CORE_HISTORY_MAX = 500,   /* lines per job */
    CORE_LOGS_ENDED_MAX = 20, /* ended jobs that keep their log, the newest */
    CORE_LOG_MAX = 2000,      /* lines per job */
    CORE_LINE_BYTES = 1000,
    CORE_EVALUATIONS_MAX = 2000,  /* per job, the newest */
    CORE_ENDED_TRAINERS_MAX = 24, /* per job, shown beside the running ones */
    CORE_WINDOW_MS = 5000,        /* recent times and rates are over one to two of these */
    CORE_STEPS_MAX = 15,          /* step times a median is taken over */
    CORE_RETRY_MS = 100,          /* "ask again" */
    CORE_RETRY_LONG_MS = 1000,
    CORE_RESEND_MS = 1000,          /* of unanswered commands */
    CORE_OBSERVER_MS = 60000,       /* an observer's silence */
    CORE_STALL_MS = 30000,          /* least time without a step that is a stall */
    CORE_STALL_UNKNOWN_MS = 300000, /* while no step was seen yet */
    CORE_STALL_SINGLE_MS = 1800000, /* for the initial values, or for an evaluation, which count no steps */
    CORE_STALL_STEPS = 10,          /* times the median step */
    CORE_MISSING_BEATS = 3,         /* beats of an agent without a trainer it should have */
    CORE_SLICES_HELD_MAX = 4,       /* by one session: it works on one and has the next ready */
    CORE_ENDED_SESSION_MS = 600000,
    CORE_FORGET_MEMBER_MS = 600000,
    CORE_OWN_STOP_MS = 1000, /* between two ticks: the coordinator itself was stopped, or starved */
    CORE_STOP_GRACE_MS = 5000,
    CORE_EVALUATE_PATIENCE_MS = 2000, /* that an evaluation waits for a fast trainer to ask */
};

#define CORE_INITIAL_LEASE (UINT64_C(1) << 62)   /* number of the initialise lease of every job */
#define CORE_TRAINER_REQUEST (UINT64_C(1) << 62) /* requests to agents; those to shards lie below */

/* ---- members */

/* What an agent's last beat said of a device; see DeviceStats in lagoon.proto. */
struct device_numbers {
    char device[64], name[96];
    struct wire_device_stats stats; /* but for its texts */
};

struct member {
    uint64_t number, instance;
    enum wire_member kind;
    char name[CORE_NAME_BYTES];  /* as reported */
    char title[CORE_NAME_BYTES]; /* unique among the members, for people */
    char http[CORE_NAME_BYTES], version[64];
    char **endpoints; /* server: [shard_count] */
    uint32_t *shards;
    size_t shard_count;
    char **devices; /* agent */
    size_t device_count;
    uint64_t memory_bytes, memory_used_bytes, pid, cores;
    uint32_t slots;
    struct device_numbers *device_numbers; /* agent: [device_number_count], of its last beat; texts within */
    size_t device_number_count;

    uint64_t route; /* 0: not heard of since the coordinator's start */
    int64_t heard_ns, registered_ns, dead_ns, dead_wall_ms;
    bool registered; /* since the coordinator's start */
    bool dead;
    bool changed;
};

/* ---- lines for people */

struct line {
    uint64_t seq, trainer;
    int64_t at_ms;
    char *text;
};
struct line_ring {
    struct line *lines; /* [capacity], the oldest at `first` */
    size_t first, count, capacity, limit;
    uint64_t next; /* seq of the next line */
};

/* ---- jobs */

/* Numbers are in the database. */
enum job_phase {
    JOB_PHASE_QUEUED,
    JOB_PHASE_DEFINING,
    JOB_PHASE_INITIALISING,
    JOB_PHASE_RUNNING,
    JOB_PHASE_CLOSING, /* everything is done; the ledgers are being read */
    JOB_PHASE_FINISHED,
    JOB_PHASE_FAILED,
    JOB_PHASE_CANCELLED,
    JOB_PHASE_COUNT
};

/* What the shards hold of a job. In the database. */
enum job_memory {
    JOB_MEMORY_NONE,
    JOB_MEMORY_HELD,
    JOB_MEMORY_DROPPING, /* told to drop it; counted until all have answered */
};

struct evaluation {
    uint64_t epoch, predictions;
    double loss, accuracy;
    int64_t at_ms;
};
struct ledger_row {
    uint32_t shard;
    struct wire_ledger_row row;
};
/* Where a trainer's time went, so far; read and copy are parts of compute, wait is one of communication. */
struct trainer_times {
    uint64_t compute_ns, communication_ns, read_ns, copy_ns, wait_ns;
};
/* A shard's work for a job, so far; per second from two of them. */
struct shard_work {
    int64_t at_ns;
    uint64_t pushes, pulls, bytes;
};
/* A trainer that has ended, for listings. */
struct ended_trainer {
    uint64_t trainer;
    uint32_t attempt;
    char agent[CORE_NAME_BYTES], device[64], state[96];
    uint64_t steps, samples;
    double loss;
    struct trainer_times times;
};

struct job {
    uint64_t id;
    char name[CORE_NAME_BYTES];
    struct config *spec;
    struct job_config config;
    uint32_t state_count; /* of its updater, and where pushes are gathered */
    bool external_init;
    enum job_phase phase;
    char reason[CORE_REASON_BYTES];
    enum job_memory memory;
    uint64_t submit_route, submit_request;
    int64_t submitted_ms, started_ms, finished_ms, started_ns;
    bool changed;

    /* from the first trainer's join; `tensors` NULL: none yet */
    struct tensor_spec *tensors;
    size_t tensor_count;
    struct block_table blocks;
    uint64_t fingerprint, dataset_fingerprint, train_samples, test_samples;
    bool placed, definition_changed;
    uint64_t epoch;       /* of the shards' memory of the job, from 1: raised when that is made anew */
    uint64_t map_version; /* of the placement, from 1: raised when units move */
    uint16_t *placement;  /* [blocks.count] slots */
    uint32_t *shards;     /* [shard_count] global numbers, by slot */
    uint64_t *slot_bytes; /* parameters and state */
    uint32_t *slot_units;
    struct wire_shard_job_stats *stats; /* as last reported */
    struct shard_work (*work)[3];       /* [shard_count]: the oldest first, the last is the newest; at_ns 0: none */
    size_t shard_count;

    struct leases leases; /* valid once placed */
    uint64_t init_holder; /* session */
    uint32_t init_fence;
    int64_t evaluation_due_ns; /* when an evaluation was first due and not taken; 0: none */

    uint64_t restarts;
    uint32_t next_attempt;  /* of the next trainer started */
    int64_t start_after_ns; /* no trainer is started before */
    uint64_t *unsuited;     /* agents whose trainer was refused: its data or model differs */
    size_t unsuited_count;

    int64_t waiting_ns; /* since when a server is silent; 0: none is */
    int64_t placed_ns;  /* when placing it was last tried */
    double loss, samples_per_second;
    struct evaluation *evaluations;
    size_t evaluation_count;
    struct ledger_row *ledger;
    size_t ledger_count;
    struct ended_trainer ended[CORE_ENDED_TRAINERS_MAX];
    size_t ended_count;
    struct line_ring history, log;
    struct metric_cell *leases_granted, *leases_revoked;
};

/* ---- trainers and sessions */

enum trainer_state { TRAINER_STATE_STARTING, TRAINER_STATE_RUNNING, TRAINER_STATE_STOPPING };

struct trainer {
    uint64_t number, job, agent /* 0: came by itself */, token, session /* 0: none */;
    char device[64];                /* as its agent lists it; it is no other's as long as there are enough */
    char reason[CORE_REASON_BYTES]; /* why it is being stopped */
    uint32_t attempt;
    enum trainer_state state;
    bool refused;      /* its join was refused: the worker does not suit the job */
    bool acknowledged; /* the agent has taken the start, or the stop */
    uint32_t missing;  /* beats of its agent that did not name it */
    int64_t started_ms, sent_ns;
    bool gone; /* to be removed at the end of the input */
    bool changed;
};

enum session_state {
    SESSION_STATE_OPENING, /* the shards are being told */
    SESSION_STATE_OPEN,
    SESSION_STATE_CLOSING, /* fenced, its slices are being taken back */
    SESSION_STATE_ENDED,   /* remembered, to answer late messages */
};

struct session {
    uint64_t id, token, job, trainer;
    uint32_t incarnation, batch;
    enum wire_role role;
    enum session_state state;
    bool may_initialise, changed;
    enum lg_status end_status; /* what late messages get */
    char reason[CORE_REASON_BYTES];
    char device[64];              /* as it calls it itself: "cpu, 2 threads, .." */
    uint64_t route, join_request; /* where the last join came from */
    int64_t heard_ns, ended_ns;

    uint64_t grant_request; /* the newest that was granted something; owners count requests up */

    uint64_t steps, samples;
    struct trainer_times times;
    struct trainer_times windows[2]; /* as they were one to two windows ago, and since then */
    int64_t window_ns;               /* when the second was taken; 0: not yet */
    uint64_t copy_bytes, memory_used_bytes;
    double tokens_per_second, flops_per_second, flops_peak;
    double loss, accuracy, samples_per_second;
    double staleness_mean, weight_mean; /* of its pushes */
    uint64_t staleness_max, pushes_dropped;
    char doing[128], transport[16];
    int64_t step_ns; /* when `steps` last rose, or the session got work */
    int64_t step_times[CORE_STEPS_MAX];
    size_t step_time_count;
};

/* ---- tasks: one command to each shard of a job */

enum task_kind {
    TASK_KIND_JOB_OPEN,
    TASK_KIND_JOB_CLOSE,
    TASK_KIND_SESSION_OPEN,
    TASK_KIND_SESSION_CLOSE,
    TASK_KIND_MARKS,
    TASK_KIND_LEDGER,
};

struct task_shard {
    bool answered;
    int64_t sent_ns; /* 0: not yet */
};

struct task {
    uint64_t number;
    enum task_kind kind;
    uint64_t job, session, lease;
    uint64_t epoch, first, end; /* MARKS */
    uint64_t resume, *marks;
    size_t mark_count;
    struct task_shard *shards; /* by the job's slots */
    size_t shard_count, answered;
    bool over; /* to be removed */
};

struct list {
    void **items;
    size_t count, capacity;
};

struct coordinator {
    struct coordinator_config config;
    struct coordinator_sink sink;
    struct coordinator_moment now;
    int64_t started_ns, ticked_ns;
    struct list members, jobs, trainers, sessions, tasks; /* jobs, trainers: by ascending number */
    uint64_t next_member, next_job, next_trainer, next_shard, next_task;
    bool counters_changed;
    uint64_t refused_instance; /* the last registration refused in the log, and when */
    int64_t refused_ns;
    struct wire_pair pairs[WIRE_PAIRS_MAX];
};

/* ---- coordinator.c */
bool list_add(struct list *list, void *item);
void list_remove(struct list *list, const void *item); /* keeps the order */
void core_send(struct coordinator *core, uint64_t route, const struct wire_message *message);
void core_ack(struct coordinator *core, const struct coordinator_input *input, enum lg_status status,
              const char *format, ...) LG_PRINTF(4, 5);
void core_put(struct coordinator *core, enum store_table table, const void *row);
void core_remove(struct coordinator *core, enum store_table table, const void *row);
int64_t core_since_ms(const struct coordinator *core, int64_t then_ns);
void core_copy(char *to, size_t bytes, const char *from); /* cuts, between characters: JSON takes no half ones */
uint64_t core_random(struct coordinator *core);           /* never 0 */

/* ---- members.c */
void members_register(struct coordinator *core, const struct coordinator_input *input);
void members_beat(struct coordinator *core, const struct coordinator_input *input);
void members_tick(struct coordinator *core);
struct member *member_find(const struct coordinator *core, uint64_t number);
struct member *member_of_shard(const struct coordinator *core, uint32_t shard, size_t *at);
void member_free(struct member *member);
void member_put(struct coordinator *core, const struct member *member);
bool member_is_alive(const struct member *member);
uint32_t member_slots_used(const struct coordinator *core, uint64_t agent);
/* Sets title to the name, numbered where another member has it. */
void member_entitle(const struct coordinator *core, struct member *member);

/* ---- submit.c */
void jobs_submit(struct coordinator *core, const struct coordinator_input *input);
/* A job from its specification, which is consumed, also on failure; says what is wrong and where. */
LG_MUST_CHECK enum lg_status job_new(struct config *spec, struct job **out, struct lg_error *error);

/* ---- jobs.c */
void jobs_cancel(struct coordinator *core, const struct coordinator_input *input);
void jobs_tick(struct coordinator *core);
struct job *job_find(const struct coordinator *core, uint64_t id);
/* By name (the newest) or number; NULL with a reason. */
struct job *job_named(const struct coordinator *core, const char *name, struct lg_error *error);
void job_free(struct job *job);
/* A job from its specification (consumed); fails with the place of what is wrong. */
bool job_is_live(const struct job *job);    /* not finished, failed or cancelled */
bool job_has_values(const struct job *job); /* that may be pulled from the shards */
const char *job_state_name(const struct job *job);
void job_set_phase(struct coordinator *core, struct job *job, enum job_phase phase);
void job_fail(struct coordinator *core, struct job *job, const char *format, ...) LG_PRINTF(3, 4);
/* Shards drop it; a finished job keeps its records. */
void job_release(struct coordinator *core, struct job *job);
void job_released(struct job *job); /* all shards have */
void job_put(struct coordinator *core, const struct job *job);
void job_wait_reason(struct job *job, const char *format, ...) LG_PRINTF(2, 3);
/* A server's memory is gone: jobs with units there fail, values of ended ones are lost. */
void jobs_lose_server(struct coordinator *core, const struct member *member, const char *why);
/* Looks whether all is done; reads the ledgers if so. */
void job_advance(struct coordinator *core, struct job *job);
void job_take_ledger(struct coordinator *core, struct job *job, uint32_t shard, const struct wire_ledger_row *rows,
                     size_t count);
void job_ledgers_read(struct coordinator *core, struct job *job);
size_t job_slot_of(const struct job *job, uint32_t shard); /* SIZE_MAX: none */
bool job_servers_alive(const struct coordinator *core, const struct job *job);

/* ---- define.c */
/* Takes a trainer's description: LG_OK where it is the job's; LG_INVALID says which part differs. */
LG_MUST_CHECK enum lg_status define_check(struct coordinator *core, struct job *job, const struct wire_message *join,
                                          struct lg_error *error);
/* Tries to place a queued, defined job; sets its reason where it must wait, fails it where it never fits. */
void define_place(struct coordinator *core, struct job *job);
void define_opened(struct coordinator *core, struct job *job);
void define_put(struct coordinator *core, const struct job *job);
LG_MUST_CHECK enum lg_status define_restore(struct coordinator *core, const struct store_definition *row,
                                            struct lg_error *error);

/* ---- sessions.c */
void sessions_join(struct coordinator *core, const struct coordinator_input *input);
void sessions_leave(struct coordinator *core, const struct coordinator_input *input);
void sessions_beat(struct coordinator *core, const struct coordinator_input *input);
void sessions_tick(struct coordinator *core);
struct session *session_find(const struct coordinator *core, uint64_t id);
/* The session a message speaks for, heard of now, or NULL with what to answer. */
struct session *session_speaking(struct coordinator *core, uint64_t id, uint32_t incarnation, struct lg_error *error);
void session_opened(struct coordinator *core, struct session *session);
void session_refused(struct coordinator *core, struct session *session, enum lg_status status, const char *reason);
/* A shard has no room for the session now. True: it stays, to be opened once there is room; false: it ends. */
bool session_waits(struct coordinator *core, struct session *session, const char *reason);
void session_put(struct coordinator *core, const struct session *session);
bool session_may_push(const struct session *session);

/* ---- numbers.c */
void numbers_take_times(struct coordinator *core, struct session *session, const struct wire_trainer_beat *beat);
/* Of the last windows; all of them where there was none yet. */
struct trainer_times numbers_recent_times(const struct session *session);
void numbers_take_work(struct coordinator *core, struct job *job, size_t slot);
/* Per second over the last windows; false: not known yet. */
bool numbers_rates(const struct job *job, size_t slot, double *pushes, double *pulls, double *bytes);
void numbers_take_devices(struct member *agent, const struct wire_beat *beat);

/* ---- grants.c */
void grants_request(struct coordinator *core, const struct coordinator_input *input);
void grants_done(struct coordinator *core, const struct coordinator_input *input);
void grants_evaluation(struct coordinator *core, const struct coordinator_input *input);

/* ---- losses.c */
/* Ends a session: fences it on the shards first, then asks for marks, then gives its slices back. Late messages get
 * `status` and the reason. */
void session_lose(struct coordinator *core, struct session *session, enum lg_status status, const char *format, ...)
    LG_PRINTF(4, 5);
void session_fenced(struct coordinator *core, struct session *session); /* all shards have closed it */
void session_marks_read(struct coordinator *core, struct task *task);
void losses_resume(struct coordinator *core, struct session *session); /* unless a step is under way */

/* ---- trainers.c */
void trainers_tick(struct coordinator *core);
void trainers_sweep(struct coordinator *core);
void trainers_exit(struct coordinator *core, const struct coordinator_input *input);
void trainers_answer(struct coordinator *core, const struct coordinator_input *input); /* ACK of a start or stop */
struct trainer *trainer_find(const struct coordinator *core, uint64_t number);
struct trainer *trainer_new(struct coordinator *core, struct job *job, uint64_t agent, const char *device);
void trainer_put(struct coordinator *core, const struct trainer *trainer);
/* Asks its agent to stop it; it is counted on its slot until it has ended. */
void trainer_stop(struct coordinator *core, struct trainer *trainer, const char *reason);
/* It does not work any more, though it was not told to stop: fenced, stopped, and counted as a restart. */
void trainer_evict(struct coordinator *core, struct trainer *trainer, const char *reason);
/* The process is gone. `crashed`: counts as a restart. */
void trainer_gone(struct coordinator *core, struct trainer *trainer, bool crashed, const char *reason);
void trainers_stop_job(struct coordinator *core, struct job *job, const char *reason);
void trainers_lose_agent(struct coordinator *core, const struct member *agent, const char *why);
void trainers_seen(struct coordinator *core, const struct member *agent, const uint64_t *numbers, size_t count);
size_t trainers_of(const struct coordinator *core, uint64_t job); /* working or about to */

/* ---- tasks.c */
struct task *task_start(struct coordinator *core, enum task_kind kind, struct job *job, struct session *session,
                        const struct slice *slice);
void tasks_answer(struct coordinator *core, const struct coordinator_input *input);
void tasks_tick(struct coordinator *core);
void tasks_end_job(struct coordinator *core, uint64_t job); /* drops all its tasks */
bool task_is_running(const struct coordinator *core, enum task_kind kind, uint64_t job, uint64_t session,
                     uint64_t lease);
/* What this shard held is gone: nothing to close there. */
void tasks_lose_shard(struct coordinator *core, uint32_t shard);
void tasks_sweep(struct coordinator *core);
void task_free(struct task *task);

/* ---- history.c */
void history_add(struct coordinator *core, struct job *job, const char *format, ...) LG_PRINTF(3, 4);
void history_log(struct coordinator *core, const struct coordinator_input *input);
bool line_ring_add(struct line_ring *ring, uint64_t trainer, int64_t at_ms, const char *text, uint64_t *dropped);
const struct line *line_ring_at(const struct line_ring *ring, size_t index);
void line_ring_free(struct line_ring *ring);

#endif
