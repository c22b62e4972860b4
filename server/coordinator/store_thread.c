#include "server/coordinator/store_thread.h"

#include <pthread.h>
#include <stdlib.h>

struct change_list {
    struct store_change *changes;
    size_t count, capacity;
};

struct store_thread {
    struct store *store;
    void (*committed)(void *context);
    void *context;
    pthread_t thread;
    struct change_list open; /* the caller's */

    pthread_mutex_t mutex; /* what follows */
    pthread_cond_t wake;
    struct change_list sealed;
    uint64_t sealed_batch, durable_batch;
    bool stopping, failed;
    struct lg_error failure;
};

static void clear(struct change_list *list) {
    for (size_t i = 0; i < list->count; i++)
        free((void *)(uintptr_t)list->changes[i].row);
    list->count = 0;
}

static bool append(struct change_list *list, const struct store_change *change) {
    if (list->count == list->capacity) {
        size_t capacity = list->capacity ? 2 * list->capacity : 64;
        struct store_change *changes = realloc(list->changes, capacity * sizeof *changes);
        if (!changes)
            return false;
        list->changes = changes;
        list->capacity = capacity;
    }
    list->changes[list->count++] = *change;
    return true;
}

bool store_thread_put(struct store_thread *thread, const struct store_change *change) {
    struct store_change copy = *change;
    copy.row = store_row_copy(change->table, change->row);
    if (copy.row && append(&thread->open, &copy))
        return true;
    free((void *)(uintptr_t)copy.row);
    return false;
}

uint64_t store_thread_seal(struct store_thread *thread) {
    pthread_mutex_lock(&thread->mutex);
    bool moved = thread->open.count > 0;
    for (size_t i = 0; i < thread->open.count; i++)
        if (!append(&thread->sealed, &thread->open.changes[i])) {
            free((void *)(uintptr_t)thread->open.changes[i].row);
            if (!thread->failed)
                (void)lg_fail(&thread->failure, LG_NO_MEMORY, "no memory to write to the database");
            thread->failed = true;
        }
    thread->open.count = 0;
    if (moved)
        thread->sealed_batch++;
    uint64_t batch = thread->sealed_batch;
    pthread_cond_signal(&thread->wake);
    pthread_mutex_unlock(&thread->mutex);
    return batch;
}

enum lg_status store_thread_durable(struct store_thread *thread, uint64_t *batch, struct lg_error *error) {
    pthread_mutex_lock(&thread->mutex);
    *batch = thread->durable_batch;
    enum lg_status status = thread->failed ? thread->failure.status : LG_OK;
    if (thread->failed && error)
        *error = thread->failure;
    pthread_mutex_unlock(&thread->mutex);
    return status;
}

/* One transaction of everything sealed so far; the mutex is held on entry and return. */
static void write_sealed(struct store_thread *thread) {
    struct change_list writing = thread->sealed;
    uint64_t batch = thread->sealed_batch;
    struct lg_error error = {0};
    thread->sealed = (struct change_list){0};
    pthread_mutex_unlock(&thread->mutex);
    enum lg_status status = store_write(thread->store, writing.changes, writing.count, &error);
    clear(&writing);
    free(writing.changes);
    pthread_mutex_lock(&thread->mutex);
    if (status == LG_OK && !thread->failed)
        thread->durable_batch = batch;
    if (status != LG_OK && !thread->failed) {
        thread->failed = true;
        thread->failure = error;
    }
    thread->committed(thread->context);
}

static void *run(void *argument) {
    struct store_thread *thread = argument;
    pthread_mutex_lock(&thread->mutex);
    for (;;) {
        while (thread->sealed.count == 0 && !thread->stopping)
            pthread_cond_wait(&thread->wake, &thread->mutex);
        if (thread->sealed.count == 0)
            break;
        write_sealed(thread);
    }
    pthread_mutex_unlock(&thread->mutex);
    return NULL;
}

enum lg_status store_thread_start(struct store **store, void (*committed)(void *context), void *context,
                                  struct store_thread **out, struct lg_error *error) {
    struct store_thread *thread = calloc(1, sizeof *thread);
    if (!thread)
        return lg_fail(error, LG_NO_MEMORY, "no memory for the database's thread");
    thread->store = *store;
    thread->committed = committed;
    thread->context = context;
    pthread_mutex_init(&thread->mutex, NULL);
    pthread_cond_init(&thread->wake, NULL);
    if (pthread_create(&thread->thread, NULL, run, thread) != 0) {
        pthread_cond_destroy(&thread->wake);
        pthread_mutex_destroy(&thread->mutex);
        free(thread);
        return lg_fail(error, LG_NO_MEMORY, "cannot start the database's thread");
    }
    *store = NULL;
    *out = thread;
    return LG_OK;
}

void store_thread_stop(struct store_thread *thread) {
    if (!thread)
        return;
    pthread_mutex_lock(&thread->mutex);
    thread->stopping = true;
    pthread_cond_signal(&thread->wake);
    pthread_mutex_unlock(&thread->mutex);
    pthread_join(thread->thread, NULL);
    pthread_cond_destroy(&thread->wake);
    pthread_mutex_destroy(&thread->mutex);
    clear(&thread->open);
    clear(&thread->sealed);
    free(thread->open.changes);
    free(thread->sealed.changes);
    store_close(thread->store);
    free(thread);
}
