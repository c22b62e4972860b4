/* Copies out of shards' memory on the host, for devices that cannot read it themselves: into the buffer that the
 * device's copies are made from. A few threads share the work with whoever waits for it, since one alone copies slower
 * than a bus; they sleep in between. Each unit is looked at right before and right after its copy. The owner's calls
 * come from one thread. */
#ifndef LAGOON_WORKER_TRAINER_STAGE_H
#define LAGOON_WORKER_TRAINER_STAGE_H

#include <pthread.h>

#include "client/lagoon.h"

enum { TRAINER_STAGE_THREADS = 3, TRAINER_STAGE_TRIES = 3 };

struct trainer_stage {
    bool running;
    pthread_t threads[TRAINER_STAGE_THREADS];
    size_t thread_count;
    pthread_mutex_t mutex;
    pthread_cond_t work, done;
    /* under the mutex */
    bool stop;
    struct lg_place *places;
    float *buffer;                    /* flat array that places are of */
    size_t count, next;               /* places; all before `next` are taken */
    size_t begun;                     /* threads that have come to work so far */
    size_t at[TRAINER_STAGE_THREADS]; /* the place that a thread copies; SIZE_MAX: none */
};

/* Zeroed is empty; threads start with the first work. */
void trainer_stage_deinit(struct trainer_stage *stage);
/* Begins to copy the places that lie in a shard's memory to where they belong in `buffer`; both are the stage's until
 * all were waited for. A place's `whole` says how it went. */
void trainer_stage_begin(struct trainer_stage *stage, struct lg_place *places, size_t count, float *buffer);
/* Copies along until the first `count` places are done. */
void trainer_stage_wait(struct trainer_stage *stage, size_t count);

#endif
