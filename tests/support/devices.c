#include "tests/support/devices.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "gpu/device.h"

enum { ABSENT = 3 };

static int look(const struct test_device *one) {
    struct lg_error error = {0};
    struct device *device = NULL;
    enum lg_status status = device_open(one->spec, one->threads, &device, &error);
    device_close(device);
    if (status != LG_UNSUPPORTED && status != LG_NOT_FOUND)
        return 0;
    printf("SKIP: %s\n", error.message);
    fflush(stdout);
    return ABSENT;
}

bool test_device_is_there(const struct test_device *one) {
    int status = 0;
    fflush(stdout);
    pid_t child = fork();
    if (child == 0)
        _exit(look(one));
    if (child < 0 || waitpid(child, &status, 0) != child)
        return true;
    return !(WIFEXITED(status) && WEXITSTATUS(status) == ABSENT);
}
