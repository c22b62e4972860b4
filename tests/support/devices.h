/* Devices that tests walk: those this machine has. */
#ifndef LAGOON_TESTS_SUPPORT_DEVICES_H
#define LAGOON_TESTS_SUPPORT_DEVICES_H

#include <stdbool.h>

struct test_device {
    const char *spec;
    unsigned threads;
};

/* Whether it can be opened; if not, prints a line "SKIP: reason". Asked in a child process, as CUDA does not survive
 * the forks of Check. An error that is more than an absence is no reason to skip: then it is true. */
bool test_device_is_there(const struct test_device *one);

#endif
