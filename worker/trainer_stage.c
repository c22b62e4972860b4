#include "worker/trainer_stage.h"

#include <signal.h>
#include <stdint.h>
#include <string.h>

#include "common/log.h"

static void copy_place(struct lg_place *place, float *buffer) {
    for (int i = 0; place->mapping && i < TRAINER_STAGE_TRIES; i++) {
        if (!lg_place_begin(place))
            return; /* it has waited a moment already */
        memcpy(buffer + place->offset, place->values, place->elements * sizeof *buffer);
        if (lg_place_end(place))
            return;
    }
}

/* With the mutex held, and given up meanwhile: copies the next place. */
static void copy_next(struct trainer_stage *stage) {
    struct lg_place *place = &stage->places[stage->next++];
    float *buffer = stage->buffer;
    pthread_mutex_unlock(&stage->mutex);
    copy_place(place, buffer);
    pthread_mutex_lock(&stage->mutex);
}

/* Which of the threads it is follows from the order in which they come here. */
static void *help(void *context) {
    struct trainer_stage *stage = context;
    pthread_mutex_lock(&stage->mutex);
    size_t *at = &stage->at[stage->begun++];
    while (!stage->stop) {
        if (stage->next == stage->count) {
            pthread_cond_wait(&stage->work, &stage->mutex);
            continue;
        }
        *at = stage->next;
        copy_next(stage);
        *at = SIZE_MAX;
        pthread_cond_signal(&stage->done);
    }
    pthread_mutex_unlock(&stage->mutex);
    return NULL;
}

/* Signals are for the trainer's thread. Without threads the owner copies alone. */
static void start(struct trainer_stage *stage) {
    sigset_t all, before;
    pthread_mutex_init(&stage->mutex, NULL);
    pthread_cond_init(&stage->work, NULL);
    pthread_cond_init(&stage->done, NULL);
    memset(stage->at, 0xff, sizeof stage->at);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    while (stage->thread_count < TRAINER_STAGE_THREADS &&
           pthread_create(&stage->threads[stage->thread_count], NULL, help, stage) == 0)
        stage->thread_count++;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    stage->running = true;
    if (stage->thread_count < TRAINER_STAGE_THREADS)
        log_warn("no-thread", "parameters are copied by %zu threads instead of %d: no more can be started",
                 stage->thread_count + 1, TRAINER_STAGE_THREADS + 1);
}

void trainer_stage_deinit(struct trainer_stage *stage) {
    if (!stage->running)
        return;
    pthread_mutex_lock(&stage->mutex);
    stage->stop = true;
    pthread_cond_broadcast(&stage->work);
    pthread_mutex_unlock(&stage->mutex);
    for (size_t i = 0; i < stage->thread_count; i++)
        pthread_join(stage->threads[i], NULL);
    pthread_cond_destroy(&stage->work);
    pthread_cond_destroy(&stage->done);
    pthread_mutex_destroy(&stage->mutex);
    *stage = (struct trainer_stage){0};
}

void trainer_stage_begin(struct trainer_stage *stage, struct lg_place *places, size_t count, float *buffer) {
    if (!stage->running)
        start(stage);
    pthread_mutex_lock(&stage->mutex);
    stage->places = places;
    stage->buffer = buffer;
    stage->count = count;
    stage->next = 0;
    pthread_cond_broadcast(&stage->work);
    pthread_mutex_unlock(&stage->mutex);
}

/* With the mutex held: places are taken in order, so those before all that are being copied are done. */
static size_t done_up_to(const struct trainer_stage *stage) {
    size_t least = stage->next;
    for (size_t i = 0; i < TRAINER_STAGE_THREADS; i++)
        least = stage->at[i] < least ? stage->at[i] : least;
    return least;
}

void trainer_stage_wait(struct trainer_stage *stage, size_t count) {
    pthread_mutex_lock(&stage->mutex);
    while (done_up_to(stage) < count) {
        if (stage->next < count)
            copy_next(stage);
        else
            pthread_cond_wait(&stage->done, &stage->mutex);
    }
    pthread_mutex_unlock(&stage->mutex);
}
