/* Torn reads are impossible: two processes write checksummed units into a segment each as fast as they can, four
 * processes read them through mappings of their own and look whether a copy that was called whole is. Two of them copy
 * as callers of lg_pull_places do, where memcpy stands in for a device: several units at once, whose sequences are
 * looked at before the first copy and after the last. One writer is killed in the middle of a change, again and again,
 * and a new one goes on in its place. LAGOON_STRESS_SECONDS sets how long (3). */
#include <check.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "client/mapping.h"
#include "server/segment.h"

enum { AT_ONCE = 2 }; /* copies of a reader that copies places */
enum { WRITERS = 2, READERS = 4, UNITS = 8, ELEMENTS = 16384, KILL_MS = 20 };

struct count {
    _Atomic uint64_t whole, unchanged, busy, torn, written, placed, in_vain;
};

static struct segment segments[WRITERS];
static struct count *counts; /* [READERS + WRITERS], shared */

static double seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static double stress_seconds(void) {
    const char *text = getenv("LAGOON_STRESS_SECONDS");
    return text ? strtod(text, NULL) : 3;
}

/* Every element follows from the version, so that a mixture of two shows. */
static uint32_t element(uint64_t version, size_t i) {
    return (uint32_t)(version * 0x9E3779B97F4A7C15u >> 32) ^ (uint32_t)i * 0x85EBCA6Bu;
}

static void write_unit(struct local_unit *unit, uint32_t *values, uint64_t version) {
    local_unit_begin(unit);
    for (size_t i = 0; i < ELEMENTS; i++)
        values[i] = element(version, i);
    local_unit_end(unit, version);
}

/* Versions go on from where the writer before was killed. */
static void writer(int index, double until) {
    struct local_segment *head = segments[index].head;
    while (seconds() < until)
        for (size_t i = 0; i < UNITS; i++) {
            uint64_t version = 1 + atomic_fetch_add(&counts[READERS + index].written, 1);
            write_unit(&head->units[i], (uint32_t *)(void *)segments[index].data + i * ELEMENTS, version);
        }
    _exit(0);
}

static bool is_whole(const uint32_t *values, uint64_t version) {
    uint32_t difference = 0;
    for (size_t i = 0; i < ELEMENTS; i++)
        difference |= values[i] ^ element(version, i);
    return difference == 0;
}

static void read_all(const struct local_segment *head, uint64_t *held, struct count *count) {
    static uint32_t into[ELEMENTS];
    const char *data = (const char *)head + local_data_offset(UNITS);
    for (size_t i = 0; i < UNITS; i++) {
        const float *from = (const float *)(const void *)(data + i * ELEMENTS * sizeof(float));
        switch (local_unit_read(&head->units[i], from, ELEMENTS, (float *)(void *)into, &held[i])) {
        case LOCAL_READ_DONE:
            atomic_fetch_add(is_whole(into, held[i]) ? &count->whole : &count->torn, 1);
            break;
        case LOCAL_READ_UNCHANGED:
            atomic_fetch_add(&count->unchanged, 1);
            break;
        case LOCAL_READ_BUSY:
            atomic_fetch_add(&count->busy, 1);
            break;
        }
    }
}

static void reader(int index, double until) {
    static uint64_t held[WRITERS][UNITS];
    const struct local_segment *heads[WRITERS];
    for (int i = 0; i < WRITERS; i++) {
        heads[i] = mmap(NULL, segments[i].bytes, PROT_READ, MAP_SHARED, segments[i].fd, 0);
        if (heads[i] == MAP_FAILED)
            _exit(1);
    }
    while (seconds() < until)
        for (int i = 0; i < WRITERS; i++)
            read_all(heads[i], held[i], &counts[index]);
    _exit(0);
}

/* Copies one chunk of places and looks at those that were called whole. */
static void copy_chunk(struct lg_place *places, struct count *count) {
    static uint32_t into[AT_ONCE][ELEMENTS];
    for (size_t i = 0; i < AT_ONCE; i++)
        atomic_fetch_add(&count->busy, !lg_place_begin(&places[i]));
    for (size_t i = 0; i < AT_ONCE; i++)
        memcpy(into[i], places[i].values, ELEMENTS * sizeof(float));
    for (size_t i = 0; i < AT_ONCE; i++) {
        if (!lg_place_end(&places[i]))
            atomic_fetch_add(&count->in_vain, 1);
        else
            atomic_fetch_add(is_whole(into[i], places[i].version) ? &count->placed : &count->torn, 1);
    }
}

/* The caller of lg_pull_places. */
static void placer(int index, double until) {
    struct wire_unit units[UNITS];
    struct lg_place places[WRITERS][UNITS] = {0};
    for (uint32_t i = 0; i < UNITS; i++)
        units[i] = (struct wire_unit){.unit = i, .elements = ELEMENTS};
    for (int w = 0; w < WRITERS; w++) {
        struct lg_mapping *mapping = mapping_new(units, UNITS, segments[w].bytes, segments[w].fd);
        if (!mapping)
            _exit(1);
        for (uint32_t i = 0; i < UNITS; i++)
            places[w][i] = (struct lg_place){.values = mapping_values(mapping, i),
                                             .elements = ELEMENTS,
                                             .mapping = mapping,
                                             .guard = mapping_unit(mapping, i)};
    }
    while (seconds() < until)
        for (int w = 0; w < WRITERS; w++)
            for (size_t i = 0; i < UNITS; i += AT_ONCE)
                copy_chunk(&places[w][i], &counts[index]);
    _exit(0);
}

static pid_t start(void (*work)(int index, double until), int index, double until) {
    pid_t pid = fork();
    ck_assert_int_ge(pid, 0);
    if (pid == 0)
        work(index, until);
    return pid;
}

static void finish(pid_t pid) {
    int status;
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

START_TEST(no_copy_that_is_called_whole_is_torn) {
    double until = seconds() + stress_seconds();
    pid_t readers[READERS], writers[WRITERS];
    unsigned kills = 0, in_change = 0;
    size_t bytes = (READERS + WRITERS) * sizeof *counts;
    counts = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    ck_assert_ptr_ne(counts, MAP_FAILED);
    for (int i = 0; i < WRITERS; i++) {
        ck_assert_int_eq(segment_init(&segments[i], "stress", UNITS, UNITS * ELEMENTS * sizeof(float), NULL), LG_OK);
        for (size_t unit = 0; unit < UNITS; unit++)
            write_unit(&segments[i].head->units[unit], (uint32_t *)(void *)segments[i].data + unit * ELEMENTS, 0);
    }
    for (int i = 0; i < READERS; i++)
        readers[i] = start(i % 2 ? placer : reader, i, until);
    for (int i = 0; i < WRITERS; i++)
        writers[i] = start(writer, i, until);
    while (seconds() + 0.001 * KILL_MS < until) {
        nanosleep(&(struct timespec){.tv_nsec = KILL_MS * 1000000L}, NULL);
        kill(writers[0], SIGKILL);
        waitpid(writers[0], NULL, 0);
        kills++;
        for (size_t i = 0; i < UNITS; i++)
            in_change += (unsigned)(atomic_load(&segments[0].head->units[i].sequence) & 1);
        writers[0] = start(writer, 0, until);
    }
    for (int i = 0; i < READERS; i++)
        finish(readers[i]);
    for (int i = 0; i < WRITERS; i++)
        finish(writers[i]);
    struct count sum = {0};
    for (int i = 0; i < READERS; i++) {
        sum.whole += counts[i].whole;
        sum.torn += counts[i].torn;
        sum.unchanged += counts[i].unchanged;
        sum.busy += counts[i].busy;
        sum.placed += counts[i].placed;
        sum.in_vain += counts[i].in_vain;
    }
    printf(
        "%llu whole, %llu unchanged, %llu busy, %llu torn; of places %llu whole, %llu in vain; %u kills, %u of them in "
        "mid-change\n",
        (unsigned long long)sum.whole, (unsigned long long)sum.unchanged, (unsigned long long)sum.busy,
        (unsigned long long)sum.torn, (unsigned long long)sum.placed, (unsigned long long)sum.in_vain, kills,
        in_change);
    ck_assert_uint_eq(sum.torn, 0);
    ck_assert_uint_gt(sum.whole, 0);
    ck_assert_uint_gt(sum.placed, 0);
    ck_assert_uint_gt(sum.in_vain, 0);
    ck_assert_uint_gt(in_change, 0);
    for (int i = 0; i < WRITERS; i++)
        segment_deinit(&segments[i]);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("torn reads");
    TCase *tests = tcase_create("torn reads");
    tcase_set_timeout(tests, stress_seconds() + 60);
    tcase_add_test(tests, no_copy_that_is_called_whole_is_torn);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
