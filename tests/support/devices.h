/* Devices that tests walk: those this machine has. */
#ifndef LAGOON_TESTS_SUPPORT_DEVICES_H
#define LAGOON_TESTS_SUPPORT_DEVICES_H

#include <stdbool.h>
#include <stddef.h>

#include "gpu/device.h"

struct test_device {
    const char *spec;
    unsigned threads;
};

/* Whether it can be opened; if not, prints a line "SKIP: reason". Asked in a child process, as CUDA does not survive
 * the forks of Check. An error that is more than an absence is no reason to skip: then it is true. */
bool test_device_is_there(const struct test_device *one);

enum { TEST_APART_ELAPSED_NS = 1000 /* from any event to any other */ };

/* Plays a device with memory of its own, on the CPU and one at a time. The host may not look at its memory. Copies on
 * streams that are opened after `apart_lazy` are made when somebody waits for them and not before, so that what is used
 * or changed too early shows; other ops compute at once. */
struct test_apart {
    bool keeps, keeps_read_only; /* what it can keep in place; false at first */
    size_t kept;                 /* what it does */
    void (*on_upload)(void *context, const void *host,
                      size_t bytes); /* between the halves of a lazy one; may be NULL */
    void *context;
    uint64_t uploads, uploaded; /* lazy ones, and their bytes */
    unsigned fails_after;       /* so many waits for events; 0: never */
};
struct device *test_apart_open(struct test_apart *apart);
void test_apart_lazy(bool lazy);

#endif
