/* Tensor cores and asynchronous copies of the emulation, from the PTX ISA's pages on mma.m16n8k16, ldmatrix and
 * cp.async. A warp's lanes show each other what they hold, wait for each other, and take what is theirs. */
#include "tests/gpu/emulate.h"

enum { THREADS_MAX = 1024, COPIES_MAX = 256, COPY_BYTES = 16 };
enum kind { KIND_MMA = 1, KIND_LDMATRIX, KIND_LDMATRIX_TRANS };

/* Shows this lane's words to the warp; returns which of two places they are in. */
static unsigned give(enum kind kind, const uint32_t *words, unsigned count) {
    struct emulated_thread *me = emulated_now;
    unsigned turn = me->turn++ & 1;
    memcpy(me->given[turn], words, count * sizeof *words);
    me->given[turn][EMULATED_GIVEN - 1] = kind;
    emulated_wait_warp();
    for (unsigned lane = 0; lane < 32; lane++)
        if (emulated_lane(lane)->given[turn][EMULATED_GIVEN - 1] != (uint32_t)kind)
            emulated_wrong("lanes of a warp meet in different instructions");
    return turn;
}

static float half_of(uint32_t pair, unsigned which) {
    return __bfloat162float({(uint16_t)(pair >> 16 * which)});
}

void emulated_mma_bf16(float (&sums)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
    const uint32_t words[6] = {a[0], a[1], a[2], a[3], b0, b1};
    unsigned turn = give(KIND_MMA, words, 6), g = emulated_now->lane / 4, t = emulated_now->lane % 4;
    for (unsigned i = 0; i < 4; i++) {
        unsigned lower = i / 2, column = 2 * t + i % 2; /* lower: row g + 8 */
        double sum = (double)sums[i];
        for (unsigned k = 0; k < 16; k++) {
            unsigned lane = k % 8 / 2, upper = k / 8;
            const uint32_t *row = emulated_lane(4 * g + lane)->given[turn];
            const uint32_t *other = emulated_lane(4 * column + lane)->given[turn];
            sum += (double)half_of(row[2 * upper + lower], k % 2) * (double)half_of(other[4 + upper], k % 2);
        }
        sums[i] = (float)sum;
    }
}

/* Where in shared memory, in bytes. */
static size_t shared_place(const void *at) {
    uintptr_t place = (uintptr_t)at - (uintptr_t)emulated_shared;
    if (place % COPY_BYTES != 0)
        emulated_wrong("16 bytes of shared memory are not aligned");
    if (place > emulated_shared_bytes || emulated_shared_bytes - place < COPY_BYTES)
        emulated_wrong("16 bytes are not in shared memory");
    return place;
}

void emulated_ldmatrix(uint32_t (&r)[4], const void *row, bool transposed) {
    const uint32_t word = (uint32_t)shared_place(row);
    unsigned turn = give(transposed ? KIND_LDMATRIX_TRANS : KIND_LDMATRIX, &word, 1);
    unsigned g = emulated_now->lane / 4, t = emulated_now->lane % 4;
    for (unsigned i = 0; i < 4; i++) {
        uint16_t halves[2];
        for (unsigned h = 0; h < 2; h++) {
            unsigned from = transposed ? 2 * t + h : g, column = transposed ? g : 2 * t + h;
            const char *start = (const char *)emulated_shared + emulated_lane(8 * i + from)->given[turn][0];
            memcpy(&halves[h], start + column * sizeof *halves, sizeof *halves);
        }
        r[i] = halves[0] | (uint32_t)halves[1] << 16;
    }
}

/* ---- copies */

static struct queue {
    struct {
        void *to;
        unsigned char bytes[COPY_BYTES];
        unsigned group; /* counted from 0 */
    } copies[COPIES_MAX];
    unsigned count, group;
} queues[THREADS_MAX];

static struct queue *queue_of_this(void) {
    return &queues[emulated_now->index.x + emulated_now->index.y * emulated_block_size.x];
}

void emulated_async_begin(unsigned thread) {
    queues[thread].count = queues[thread].group = 0;
}

void emulated_async_end(unsigned thread) {
    if (queues[thread].count > 0)
        emulated_wrong("a thread ended before its copies were waited for");
}

void emulated_async_copy(void *shared, const void *global, bool inside) {
    struct queue *queue = queue_of_this();
    shared_place(shared);
    if ((uintptr_t)global % COPY_BYTES != 0)
        emulated_wrong("16 bytes of global memory are not aligned");
    if (queue->count == COPIES_MAX)
        emulated_wrong("more copies are on their way than the emulation holds");
    auto copy = &queue->copies[queue->count++];
    copy->to = shared;
    copy->group = queue->group;
    memset(copy->bytes, 0, COPY_BYTES);
    if (inside)
        memcpy(copy->bytes, global, COPY_BYTES);
    memset(shared, 0xff, COPY_BYTES);
}

void emulated_async_commit(void) {
    queue_of_this()->group++;
}

void emulated_async_wait(unsigned groups) {
    struct queue *queue = queue_of_this();
    unsigned kept = 0;
    for (unsigned i = 0; i < queue->count; i++) {
        if (queue->copies[i].group + groups < queue->group)
            memcpy(queue->copies[i].to, queue->copies[i].bytes, COPY_BYTES);
        else
            queue->copies[kept++] = queue->copies[i];
    }
    queue->count = kept;
}
