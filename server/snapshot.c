#include "server/snapshot.h"

#include <assert.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "common/block.h"

/* Buffers come in powers of two from CLASS_LEAST elements to a whole block. */
enum { CLASS_LEAST = 64, CLASS_COUNT = 11, ALIGNMENT = 64 };
_Static_assert(CLASS_LEAST << (CLASS_COUNT - 1) == BLOCK_ELEMENTS, "the last class holds a block");

struct buffer {
    struct snapshot snapshot; /* first: snapshot_release casts back */
    struct snapshot_pool *pool;
    struct buffer *next;
    uint32_t class;
};

struct snapshot_pool {
    _Atomic(struct buffer *) returned; /* any thread pushes, the owner takes all */
    struct buffer *spare[CLASS_COUNT]; /* the owner's */
    size_t spare_bytes, spare_bytes_max;
    atomic_size_t users; /* the owner, and everyone who holds a snapshot or is giving one back */
    atomic_bool closed;  /* the owner has gone: whoever gives back frees */
};

static size_t class_bytes(uint32_t class) {
    return ((size_t)CLASS_LEAST << class) * sizeof(float);
}

static uint32_t class_of(uint32_t elements) {
    uint32_t class = 0;
    while (((uint32_t)CLASS_LEAST << class) < elements)
        class ++;
    return class;
}

static void buffer_free(struct buffer *buffer) {
    free(buffer->snapshot.data);
    free(buffer);
}

static void pool_leave(struct snapshot_pool *pool) {
    if (atomic_fetch_sub(&pool->users, 1) == 1)
        free(pool);
}

/* Frees what was given back after the owner had gone. */
static void pool_drain(struct snapshot_pool *pool) {
    struct buffer *buffer = atomic_exchange(&pool->returned, NULL);
    while (buffer) {
        struct buffer *next = buffer->next;
        buffer_free(buffer);
        buffer = next;
    }
}

/* Takes what other threads gave back. */
static void pool_collect(struct snapshot_pool *pool) {
    struct buffer *buffer = atomic_exchange(&pool->returned, NULL);
    while (buffer) {
        struct buffer *next = buffer->next;
        size_t bytes = class_bytes(buffer->class);
        if (pool->spare_bytes + bytes <= pool->spare_bytes_max) {
            buffer->next = pool->spare[buffer->class];
            pool->spare[buffer->class] = buffer;
            pool->spare_bytes += bytes;
        } else {
            buffer_free(buffer);
        }
        buffer = next;
    }
}

struct snapshot_pool *snapshot_pool_new(size_t spare_bytes) {
    struct snapshot_pool *pool = calloc(1, sizeof *pool);
    if (!pool)
        return NULL;
    pool->spare_bytes_max = spare_bytes;
    atomic_init(&pool->users, 1);
    return pool;
}

void snapshot_pool_free(struct snapshot_pool *pool) {
    if (!pool)
        return;
    for (uint32_t i = 0; i < CLASS_COUNT; i++) {
        while (pool->spare[i]) {
            struct buffer *next = pool->spare[i]->next;
            buffer_free(pool->spare[i]);
            pool->spare[i] = next;
        }
    }
    atomic_store(&pool->closed, true);
    pool_drain(pool);
    pool_leave(pool);
}

static struct buffer *buffer_new(struct snapshot_pool *pool, uint32_t class) {
    struct buffer *buffer = calloc(1, sizeof *buffer);
    if (!buffer)
        return NULL;
    buffer->snapshot.data = aligned_alloc(ALIGNMENT, class_bytes(class));
    if (!buffer->snapshot.data) {
        free(buffer);
        return NULL;
    }
    buffer->pool = pool;
    buffer->class = class;
    return buffer;
}

struct snapshot *snapshot_reserve(struct snapshot_pool *pool, uint32_t elements, uint64_t version) {
    assert(elements > 0 && elements <= BLOCK_ELEMENTS);
    pool_collect(pool);
    uint32_t class = class_of(elements);
    struct buffer *buffer = pool->spare[class];
    if (buffer) {
        pool->spare[class] = buffer->next;
        pool->spare_bytes -= class_bytes(class);
    } else {
        buffer = buffer_new(pool, class);
        if (!buffer)
            return NULL;
    }
    atomic_fetch_add_explicit(&pool->users, 1, memory_order_relaxed);
    buffer->snapshot.elements = elements;
    buffer->snapshot.bytes = elements * sizeof *buffer->snapshot.data;
    buffer->snapshot.version = version;
    atomic_store_explicit(&buffer->snapshot.holders, 1, memory_order_relaxed);
    return &buffer->snapshot;
}

struct snapshot *snapshot_take(struct snapshot_pool *pool, const float *values, uint32_t elements, uint64_t version) {
    struct snapshot *snapshot = snapshot_reserve(pool, elements, version);
    if (snapshot)
        memcpy(snapshot->data, values, elements * sizeof *values);
    return snapshot;
}

void snapshot_retain(struct snapshot *snapshot) {
    uint32_t before = atomic_fetch_add_explicit(&snapshot->holders, 1, memory_order_relaxed);
    assert(before > 0);
    (void)before;
}

void snapshot_release(struct snapshot *snapshot) {
    uint32_t before = atomic_fetch_sub_explicit(&snapshot->holders, 1, memory_order_acq_rel);
    assert(before > 0);
    if (before != 1)
        return;
    struct buffer *buffer = (struct buffer *)snapshot;
    struct snapshot_pool *pool = buffer->pool;
    struct buffer *head = atomic_load_explicit(&pool->returned, memory_order_relaxed);
    do
        buffer->next = head;
    while (!atomic_compare_exchange_weak(&pool->returned, &head, buffer));
    /* Either the owner's last drain sees the buffer, or this thread sees that the owner has gone. */
    if (atomic_load(&pool->closed))
        pool_drain(pool);
    pool_leave(pool);
}
