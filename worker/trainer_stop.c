#include "worker/trainer_stop.h"

#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

static atomic_bool asked, idle_now;
static int wake_fd = -1;

static void on_signal(int number) {
    static const char text[] = "asked to stop while waiting: leaving\n";
    const uint64_t one = 1;
    (void)number;
    atomic_store(&asked, true);
    (void)!write(wake_fd, &one, sizeof one);
    if (atomic_load(&idle_now)) {
        (void)!write(STDERR_FILENO, text, sizeof text - 1);
        _exit(0);
    }
}

void trainer_stop_install(void) {
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
    wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    sigaction(SIGTERM, &action, NULL);
    action.sa_handler = SIG_IGN;
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGPIPE, &action, NULL);
}

bool trainer_stop_asked(void) {
    return atomic_load(&asked);
}

void trainer_stop_idle(bool idle) {
    atomic_store(&idle_now, idle);
    if (idle && atomic_load(&asked)) /* the signal came just before */
        on_signal(SIGTERM);
}

void trainer_stop_sleep(uint64_t ns) {
    struct timespec left = {.tv_sec = (time_t)(ns / 1000000000), .tv_nsec = (long)(ns % 1000000000)};
    struct pollfd wake = {.fd = wake_fd, .events = POLLIN};
    ppoll(&wake, 1, &left, NULL);
}
