/* Threads that work on one op together. A member waits for the next op by spinning for a few microseconds (ops
 * follow each other closely within a step), then by sleeping, so an idle trainer uses no processor time. OpenBLAS is
 * called from these threads with one thread of its own: its thread pool loses up to 4x on the narrow matrices of
 * small models, and leaves everything that is not a matrix product on one core. */
#include "gpu/cpu/cpu.h"

#include <assert.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

enum { SPIN_ROUNDS = 4000 };

struct work {
    cpu_range_fn *fn;
    void *context;
    size_t n, step; /* member t works on [t * step, (t + 1) * step), cut at n */
    bool stop;
};

struct member {
    struct cpu_team *team;
    pthread_t thread;
    unsigned number;
};

struct cpu_team {
    unsigned threads; /* with the caller */
    struct member *members;
    unsigned started;
    struct work work;         /* written before `round` moves, read after */
    _Atomic uint32_t round;   /* one more per op */
    _Atomic uint32_t pending; /* members still at work */
    _Atomic uint32_t sleeping;
    pthread_mutex_t mutex;
    pthread_cond_t wake;
};

static void relax(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
}

static uint32_t wait_for_round(struct cpu_team *team, uint32_t seen) {
    for (int i = 0; i < SPIN_ROUNDS; i++) {
        uint32_t now = atomic_load_explicit(&team->round, memory_order_acquire);
        if (now != seen)
            return now;
        relax();
    }
    pthread_mutex_lock(&team->mutex);
    atomic_fetch_add(&team->sleeping, 1);
    while (atomic_load(&team->round) == seen)
        pthread_cond_wait(&team->wake, &team->mutex);
    atomic_fetch_sub(&team->sleeping, 1);
    pthread_mutex_unlock(&team->mutex);
    return atomic_load(&team->round);
}

static void work_part(const struct work *work, unsigned number) {
    size_t first = number * work->step, last = first + work->step;
    if (last > work->n)
        last = work->n;
    if (first < last)
        work->fn(work->context, first, last, number);
}

static void *member_run(void *argument) {
    struct member *member = argument;
    struct cpu_team *team = member->team;
    uint32_t seen = 0;
    for (;;) {
        seen = wait_for_round(team, seen);
        if (team->work.stop)
            return NULL;
        work_part(&team->work, member->number);
        atomic_fetch_sub_explicit(&team->pending, 1, memory_order_release);
    }
}

/* Publishes team->work to the members. */
static void round_start(struct cpu_team *team) {
    atomic_fetch_add(&team->round, 1);
    if (atomic_load(&team->sleeping) == 0)
        return;
    pthread_mutex_lock(&team->mutex);
    pthread_cond_broadcast(&team->wake);
    pthread_mutex_unlock(&team->mutex);
}

struct cpu_team *cpu_team_new(unsigned threads) {
    struct cpu_team *team = calloc(1, sizeof *team);
    if (!team)
        return NULL;
    team->threads = threads;
    pthread_mutex_init(&team->mutex, NULL);
    pthread_cond_init(&team->wake, NULL);
    team->members = calloc(threads, sizeof *team->members);
    for (unsigned i = 1; team->members && i < threads; i++) {
        struct member *member = &team->members[i];
        *member = (struct member){.team = team, .number = i};
        if (pthread_create(&member->thread, NULL, member_run, member) != 0)
            break;
        team->started++;
    }
    if (!team->members || team->started + 1 < threads) {
        cpu_team_free(team);
        return NULL;
    }
    return team;
}

void cpu_team_free(struct cpu_team *team) {
    if (!team)
        return;
    team->work.stop = true;
    round_start(team);
    for (unsigned i = 1; i <= team->started; i++)
        pthread_join(team->members[i].thread, NULL);
    pthread_cond_destroy(&team->wake);
    pthread_mutex_destroy(&team->mutex);
    free(team->members);
    free(team);
}

void cpu_split(struct cpu_device *device, size_t n, size_t grain, size_t align, cpu_range_fn *fn, void *context) {
    struct cpu_team *team = device->team;
    if (n == 0)
        return;
    if (!team || n < 2 * grain) {
        fn(context, 0, n, 0);
        return;
    }
    size_t parts = n / grain < team->threads ? n / grain : team->threads;
    size_t step = (n + parts - 1) / parts;
    step = (step + align - 1) / align * align;
    team->work = (struct work){.fn = fn, .context = context, .n = n, .step = step};
    atomic_store(&team->pending, team->threads - 1);
    round_start(team);
    work_part(&team->work, 0);
    while (atomic_load_explicit(&team->pending, memory_order_acquire) != 0)
        relax();
}

float *cpu_scratch_get(struct cpu_device *device, unsigned thread, size_t floats) {
    assert(thread < device->base.threads);
    struct cpu_scratch *scratch = &device->scratch[thread];
    if (floats <= scratch->floats)
        return scratch->memory;
    free(scratch->memory);
    scratch->floats = 0;
    size_t bytes = (floats * sizeof(float) + CPU_ALIGNMENT_BYTES - 1) / CPU_ALIGNMENT_BYTES * CPU_ALIGNMENT_BYTES;
    scratch->memory = aligned_alloc(CPU_ALIGNMENT_BYTES, bytes);
    if (!scratch->memory) {
        atomic_store(&device->out_of_memory, true);
        return NULL;
    }
    scratch->floats = floats;
    return scratch->memory;
}
