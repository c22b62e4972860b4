/* A trainer's numbers: what it did, how fast, how well; told to the job's coordinator, the agent and the log. */
#ifndef LAGOON_WORKER_TRAINER_METER_H
#define LAGOON_WORKER_TRAINER_METER_H

#include <stdbool.h>
#include <stdint.h>

#include "client/lagoon.h"
#include "gpu/device.h"
#include "worker/trainer_numbers.h"

enum { METER_POINTS = 6 }; /* a second apart: the rate is over about five */

struct meter_point {
    uint64_t busy_ns, samples, predictions;
};

struct meter {
    struct trainer_numbers numbers;
    uint64_t predictions;
    bool tokens;                 /* predictions are tokens */
    double flops_per_prediction; /* 0: unknown */
    struct device *device;       /* whose memory is told; NULL: none is */
    uint64_t busy_ns;            /* spent in train leases; waiting for one does not count against the speed */
    struct meter_point points[METER_POINTS];
    size_t point_count;
    uint64_t point_ns;               /* when the last point was taken */
    uint64_t reported_ns, logged_ns; /* clock */
    uint64_t logged_samples;
    struct trainer_push pushes[TRAINER_PUSHES_MAX]; /* that the agent was not told of yet */
    size_t push_count;
    uint64_t skipped; /* pushes without a ticket; no others count them */
    int fd;           /* to the agent; -1: none */
};

uint64_t meter_clock_ns(void);
/* Processor time of the calling thread. */
uint64_t meter_cpu_ns(void);
void meter_init(struct meter *meter, int fd);
/* What there is to be told about predictions: whether they are tokens, what the model computes for one (0: unknown) and
 * on which device (NULL: unknown); it knows what it could do at best and how much memory is in use. */
void meter_describe(struct meter *meter, bool tokens, double flops_per_prediction, struct device *device);
/* Tells the agent at once; `state` is one word. */
void meter_set_state(struct meter *meter, const char *state);
/* A step over `samples` samples, `predictions` of which `correct` were right, took `busy_ns` in all. */
void meter_add_step(struct meter *meter, uint64_t samples, uint64_t predictions, double loss_sum, uint64_t correct,
                    uint64_t busy_ns);
/* Time that is part of the step's: reading a batch, which counts as computing too; a copy between host and device that
 * the computation was held up by, part of what is counted as computing already; waiting for shards or for a lease. */
void meter_add_read(struct meter *meter, uint64_t ns);
void meter_add_copies(struct meter *meter, uint64_t ns, uint64_t bytes);
void meter_add_wait(struct meter *meter, uint64_t ns);
/* The shards have answered a push: its staleness and weight, the largest and the least of them. */
void meter_add_push(struct meter *meter, uint64_t staleness, double weight);
/* Reports what is due: numbers every second (sooner at the start), a log line every ten. `client` may be NULL. */
void meter_tick(struct meter *meter, struct lg_client *client);
/* Reports now, so that what others read after the end of a lease is whole. */
void meter_flush(struct meter *meter, struct lg_client *client);
/* Says why the trainer is about to fail. */
void meter_say_reason(const struct meter *meter, const char *reason);

#endif
