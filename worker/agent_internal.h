/* What the agent's files share. Everything belongs to the loop's thread. */
#ifndef LAGOON_WORKER_AGENT_INTERNAL_H
#define LAGOON_WORKER_AGENT_INTERNAL_H

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#include "common/http.h"
#include "common/metrics.h"
#include "common/net.h"
#include "proto/wire.h"
#include "worker/agent_devices.h"
#include "worker/agent_host.h"
#include "worker/agent_lines.h"
#include "worker/trainer_numbers.h"
#include "worker/worker_config.h"

enum {
    AGENT_SLOTS_MAX = 256,
    AGENT_EXITS_MAX = 512, /* remembered; more than can be unacknowledged: those are at most the slots and refusals */
    AGENT_REASON_BYTES = 400,
    AGENT_TICK_MS = 100,
};

struct agent;

/* The pipes between agent and trainer, by the trainer's file descriptor. */
enum { PIPE_HANDOVER, PIPE_OUTPUT, PIPE_ERRORS, PIPE_NUMBERS, PIPE_COUNT };

/* A running trainer process; freed when it has ended and all its handles are closed. */
struct agent_trainer {
    struct agent *agent;
    uint64_t trainer, job;
    uint32_t attempt;
    char job_name[OPTION_TEXT_BYTES], device[OPTION_TEXT_BYTES];
    uint64_t started_ms;

    uv_process_t process;
    uv_pipe_t pipes[PIPE_COUNT];
    uv_timer_t timer; /* kills after the grace; then bounds the wait for the last output */
    uv_write_t write;
    char *handover; /* bytes being written */
    size_t handover_bytes;
    int open_handles, open_outputs;
    bool exited, ended; /* the process is gone; it was reported */
    int64_t code;
    int signal;

    bool stopping, killed; /* asked to stop; killed because it did not */
    char stop_reason[AGENT_REASON_BYTES];
    char said_reason[AGENT_REASON_BYTES]; /* on PIPE_NUMBERS */
    char last_line[AGENT_REASON_BYTES];   /* of its errors */
    struct line_splitter splitters[PIPE_COUNT];

    struct trainer_numbers numbers;
    struct metric_cell *compute, *communication, *samples, *steps, *staleness, *weight;
    struct metric_cell *read, *copy, *copy_bytes, *wait; /* parts of the first two */
};

/* How a trainer ended; resent until the coordinator acknowledged it. */
struct agent_exit {
    uint64_t trainer, job;
    uint32_t attempt;
    int32_t code, signal;
    char reason[AGENT_REASON_BYTES];
    uint64_t request; /* of the TRAINER_EXIT; 0: this place is empty */
    uint64_t sent_ms;
    bool acknowledged;
};

struct agent {
    const struct worker_config *config;
    const char *program;
    char name[OPTION_TEXT_BYTES];
    int name_lock, slots_lock; /* see agent_host.h */
    char devices[HOST_DEVICES_MAX][HOST_DEVICE_BYTES];
    size_t device_count;
    int64_t slots; /* as configured, or the devices' number */
    uv_loop_t loop;
    uv_signal_t signals[2];
    uv_timer_t tick;
    uint64_t started_ms;
    bool stopping, failed;
    uint64_t stopped_ms; /* when the last trainer was gone */

    void *zmq, *link; /* DEALER to the coordinator */
    struct net_watch link_watch;
    bool watching;
    struct wire_arena *arena;
    uint64_t instance, member, coordinator, beat_ms;
    bool registered, silent;              /* silent: said that the coordinator does not answer */
    bool refused;                         /* said that the coordinator refuses this worker */
    uint64_t heard_ms, sent_ms, noted_ms; /* last answer; last REGISTER or BEAT; last remark about silence */
    uint64_t next_request;

    struct agent_trainer *trainers[AGENT_SLOTS_MAX];
    size_t trainer_count; /* running, at the front */
    struct agent_exit exits[AGENT_EXITS_MAX];
    size_t exit_next;
    struct line_queue lines;
    char read_buffer[65536];

    struct agent_devices *device_numbers; /* NULL: nothing is known of them */
    struct metrics *metrics;
    struct metric_cell *running;
    struct http_server *http;
};

/* ---- agent.c */
struct agent_trainer *agent_find(struct agent *agent, uint64_t trainer);
/* The remembered end of this start, or NULL. */
struct agent_exit *agent_exit_find(struct agent *agent, uint64_t trainer, uint32_t attempt);
/* Remembers an end and tells the coordinator. */
void agent_exit_add(struct agent *agent, const struct agent_exit *exit);
/* Takes a trainer that has ended off the list: its slot is free. */
void agent_remove(struct agent_trainer *trainer);

/* ---- agent_link.c */
LG_MUST_CHECK enum lg_status agent_link_open(struct agent *agent, struct lg_error *error);
/* Registers, beats, resends exits, flushes lines, remarks on silence: whatever is due. */
void agent_link_tick(struct agent *agent);
void agent_link_send_exit(struct agent *agent, struct agent_exit *exit);
void agent_link_flush_lines(struct agent *agent);
/* Tells the coordinator that there are no slots here any more. */
void agent_link_withdraw(struct agent *agent);

/* ---- agent_trainer.c */
/* Starts a process. What cannot be started is reported as an exit. */
void agent_trainer_start(struct agent *agent, const struct wire_trainer_start *start);
/* SIGTERM now and SIGKILL after the grace; a second call has no effect but to shorten the grace. */
void agent_trainer_stop(struct agent_trainer *trainer, uint64_t grace_ms, const char *reason);

/* ---- agent_stats.c */
LG_MUST_CHECK enum lg_status agent_stats_start(struct agent *agent, struct lg_error *error);
void agent_stats_take_numbers(struct agent_trainer *trainer, const struct trainer_numbers *fresh);
void agent_stats_take_pushes(struct agent_trainer *trainer, const struct trainer_push *pushes, size_t count);
/* Takes the counters of an ended trainer off /metrics. */
void agent_stats_forget(struct agent *agent, uint64_t trainer);
void agent_stats_count_exit(struct agent *agent, const char *kind);

#endif
