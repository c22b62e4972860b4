#include "bench/process.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "common/daemon.h"

enum { PROCESS_TIMEOUT_S = 120 };

double process_now_s(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

/* ---- life */

static void become(const char *name, int fd, pid_t parent, int (*run)(int fd, const void *context),
                   const void *context) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    prctl(PR_SET_NAME, name);
    if (getppid() != parent)
        _exit(EXIT_FAILURE);
    signal(SIGINT, SIG_IGN); /* the parent decides */
    daemon_keep_memory();
    _exit(run(fd, context));
}

enum lg_status process_start(struct process *process, const char *name, int (*run)(int fd, const void *context),
                             const void *context, struct process_report *report, struct lg_error *error) {
    int ends[2];
    *process = (struct process){.fd = -1};
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0)
        return lg_fail(error, LG_IO, "cannot make a socket pair: %s", strerror(errno));
    fflush(NULL);
    pid_t parent = getpid(), pid = fork();
    if (pid == 0) {
        close(ends[0]);
        become(name, ends[1], parent, run, context);
    }
    close(ends[1]);
    if (pid < 0) {
        close(ends[0]);
        return lg_fail(error, LG_IO, "cannot start a process: %s", strerror(errno));
    }
    *process = (struct process){.pid = pid, .fd = ends[0]};
    enum lg_status status = process_hear(process, report, error);
    if (status != LG_OK)
        process_stop(process);
    return status;
}

void process_stop(struct process *process) {
    if (process->pid == 0)
        return;
    kill(process->pid, SIGKILL);
    waitpid(process->pid, NULL, 0);
    close(process->fd);
    *process = (struct process){.fd = -1};
}

double process_cpu_s(const struct process *process) {
    clockid_t clock;
    struct timespec spent;
    if (clock_getcpuclockid(process->pid, &clock) != 0 || clock_gettime(clock, &spent) != 0)
        return 0;
    return (double)spent.tv_sec + (double)spent.tv_nsec * 1e-9;
}

uint64_t process_faults(const struct process *process) {
    char path[64], text[1024];
    unsigned long long faults = 0;
    snprintf(path, sizeof path, "/proc/%d/stat", (int)process->pid);
    FILE *file = fopen(path, "r");
    size_t size = file ? fread(text, 1, sizeof text - 1, file) : 0;
    if (file)
        fclose(file);
    text[size] = '\0';
    const char *at = strrchr(text, ')'); /* what follows is one letter, six numbers, then minflt */
    if (!at || sscanf(at + 1, " %*c %*s %*s %*s %*s %*s %*s %llu", &faults) != 1)
        return 0;
    return faults;
}

/* ---- talking */

enum lg_status process_tell(struct process *process, const struct process_order *order, struct lg_error *error) {
    if (send(process->fd, order, sizeof *order, MSG_NOSIGNAL) == (ssize_t)sizeof *order)
        return LG_OK;
    return lg_fail(error, LG_IO, "a process of the benchmark has gone");
}

static bool wait_readable(int fd) {
    struct pollfd item = {.fd = fd, .events = POLLIN};
    double until_s = process_now_s() + PROCESS_TIMEOUT_S;
    for (;;) {
        int left_ms = (int)((until_s - process_now_s()) * 1000);
        int ready = poll(&item, 1, left_ms > 0 ? left_ms : 0);
        if (ready >= 0 || errno != EINTR)
            return ready > 0;
    }
}

enum lg_status process_hear(struct process *process, struct process_report *report, struct lg_error *error) {
    if (!wait_readable(process->fd))
        return lg_fail(error, LG_TIMEOUT, "a process of the benchmark says nothing for %d s", PROCESS_TIMEOUT_S);
    if (recv(process->fd, report, sizeof *report, 0) != (ssize_t)sizeof *report)
        return lg_fail(error, LG_IO, "a process of the benchmark ended in the middle of its work");
    report->text[sizeof report->text - 1] = '\0';
    if (report->status != LG_OK)
        return lg_fail(error, (enum lg_status)report->status, "%s", report->text);
    return LG_OK;
}

enum lg_status process_ask(struct process *process, const struct process_order *order, struct process_report *report,
                           struct lg_error *error) {
    enum lg_status status = process_tell(process, order, error);
    return status == LG_OK ? process_hear(process, report, error) : status;
}

bool process_next(int fd, struct process_order *order) {
    ssize_t taken;
    do {
        taken = recv(fd, order, sizeof *order, 0);
    } while (taken < 0 && errno == EINTR);
    return taken == (ssize_t)sizeof *order;
}

bool process_say(int fd, const struct process_report *report) {
    return send(fd, report, sizeof *report, MSG_NOSIGNAL) == (ssize_t)sizeof *report;
}

bool process_say_error(int fd, const struct lg_error *error) {
    struct process_report report = {.status = (uint32_t)error->status};
    snprintf(report.text, sizeof report.text, "%s", error->message);
    return process_say(fd, &report);
}
