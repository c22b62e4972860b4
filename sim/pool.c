/* The cells of an experiment in processes of their own, as many at once as there are cores. Each writes lines of JSON
 * into a pipe: how far it is, and at the end what came out. */
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "common/buf.h"
#include "common/units.h"
#include "sim/experiment.h"
#include "sim/outcome.h"

enum { JOBS_MAX = 256, POLL_MS = 200, GRACE_MS = 5000 };

struct process {
    pid_t pid; /* 0: free */
    int pipe;
    size_t run;
    double share;
    struct buf text; /* not yet a whole line */
};

struct pool {
    struct experiment *experiment;
    const struct experiment_options *options;
    struct process processes[JOBS_MAX];
    size_t next, done, total; /* runs */
    bool drawn;               /* a line of progress stands there */
    struct timespec began;
    struct lg_error failure; /* of the first run that failed */
};

static double seconds_since(const struct timespec *then) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)(now.tv_sec - then->tv_sec) + 1e-9 * (double)(now.tv_nsec - then->tv_nsec);
}

/* ---- in the process of a run */

static volatile sig_atomic_t run_interrupted;

static void on_interrupt(int number) {
    (void)number;
    run_interrupted = 1;
}

struct teller {
    int pipe;
    struct timespec told;
};

static void write_line(int pipe, const char *text) {
    size_t length = strlen(text);
    while (length > 0) {
        ssize_t written = write(pipe, text, length);
        if (written < 0 && errno == EINTR)
            continue;
        if (written <= 0)
            return;
        text += written;
        length -= (size_t)written;
    }
}

static void tell_progress(void *context, double share, uint64_t samples, double accuracy) {
    struct teller *teller = context;
    char line[64];
    (void)samples;
    (void)accuracy;
    if (seconds_since(&teller->told) < 0.2)
        return;
    clock_gettime(CLOCK_MONOTONIC, &teller->told);
    snprintf(line, sizeof line, "{\"share\": %.4f}\n", share);
    write_line(teller->pipe, line);
}

static void run_cell(const struct experiment *experiment, size_t run, int pipe) {
    const struct sigaction action = {.sa_handler = on_interrupt};
    struct teller teller = {.pipe = pipe};
    struct sim_outcome outcome;
    struct lg_error error = {0};
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    const struct sim_setup setup = {.config = experiment->cells[run / experiment->seed_count].config,
                                    .seed = (uint64_t)experiment->seeds[run % experiment->seed_count],
                                    .interrupted = &run_interrupted,
                                    .progress = tell_progress,
                                    .context = &teller};
    enum lg_status status = simulate(&setup, &outcome, &error);
    json_t *document = outcome_document(&outcome, setup.seed, status, &error);
    char *text = document ? json_dumps(document, JSON_COMPACT) : NULL;
    if (text) {
        write_line(pipe, text);
        write_line(pipe, "\n");
    }
    free(text);
    json_decref(document);
    sim_outcome_deinit(&outcome);
}

/* ---- progress, for people */

static const char *label_of(const struct pool *pool, size_t run) {
    const char *label = pool->experiment->cells[run / pool->experiment->seed_count].label;
    return label[0] ? label : "run";
}

static void erase(struct pool *pool) {
    if (pool->drawn)
        fputs("\r\033[K", pool->options->progress);
    pool->drawn = false;
}

static void draw(struct pool *pool) {
    double share = (double)pool->done;
    char left[UNITS_TEXT_BYTES];
    if (!pool->options->live || !pool->options->progress)
        return;
    for (size_t i = 0; i < JOBS_MAX; i++)
        share += pool->processes[i].pid ? pool->processes[i].share : 0;
    share /= (double)pool->total;
    double took_s = seconds_since(&pool->began);
    int cells = (int)(share * 30);
    erase(pool);
    fprintf(pool->options->progress, "[%.*s%*s] %3.0f %%  %zu of %zu runs", cells, "##############################",
            30 - cells, "", 100 * share, pool->done, pool->total);
    if (share > 0.02 && took_s > 1)
        fprintf(pool->options->progress, ", about %s left",
                units_duration((int64_t)(1000 * took_s * (1 - share) / share), left, sizeof left));
    fflush(pool->options->progress);
    pool->drawn = true;
}

static void print_done(struct pool *pool, size_t run, const json_t *document) {
    FILE *out = pool->options->progress;
    const char *error = json_string_value(json_object_get(document, "error"));
    if (!out || pool->options->live)
        return;
    fprintf(out, "%zu of %zu: %s, seed %lld: ", pool->done, pool->total, label_of(pool, run),
            (long long)pool->experiment->seeds[run % pool->experiment->seed_count]);
    if (error && error[0])
        fprintf(out, "%s\n", error);
    else
        fprintf(out, "accuracy %.2f %%, loss %.4f%s (%.1f s)\n", 100 * outcome_number(document, "accuracy"),
                outcome_number(document, "loss"),
                json_is_true(json_object_get(document, "diverged")) ? ", diverged" : "",
                outcome_number(document, "detail.wall_s"));
    fflush(out);
}

/* ---- processes */

static enum lg_status start(struct pool *pool, struct process *process, struct lg_error *error) {
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0)
        return lg_fail(error, LG_IO, "no pipe to a run: %s", strerror(errno));
    fflush(NULL);
    pid_t pid = fork();
    if (pid < 0) {
        close(ends[0]);
        close(ends[1]);
        return lg_fail(error, LG_IO, "no process for a run: %s", strerror(errno));
    }
    if (pid == 0) {
        close(ends[0]);
        run_cell(pool->experiment, pool->next, ends[1]);
        _exit(0);
    }
    close(ends[1]);
    *process = (struct process){.pid = pid, .pipe = ends[0], .run = pool->next++};
    return LG_OK;
}

static void take_line(struct pool *pool, struct process *process, const char *line, size_t length) {
    json_t *document = json_loadb(line, length, 0, NULL);
    if (json_object_get(document, "share")) {
        process->share = outcome_number(document, "share");
        json_decref(document);
    } else if (document) {
        size_t seeds = pool->experiment->seed_count;
        pool->experiment->cells[process->run / seeds].runs[process->run % seeds] = document;
    }
}

static void take_lines(struct pool *pool, struct process *process) {
    size_t at = 0;
    for (;;) {
        const char *from = process->text.data + at;
        const char *end = process->text.size > at ? memchr(from, '\n', process->text.size - at) : NULL;
        if (!end)
            break;
        take_line(pool, process, from, (size_t)(end - from));
        at += (size_t)(end - from) + 1;
    }
    if (at > 0) {
        memmove(process->text.data, process->text.data + at, process->text.size - at);
        process->text.size -= at;
    }
}

static void reap(struct pool *pool, struct process *process) {
    size_t seeds = pool->experiment->seed_count;
    struct experiment_cell *cell = &pool->experiment->cells[process->run / seeds];
    json_t **slot = &cell->runs[process->run % seeds];
    int code = 0;
    while (waitpid(process->pid, &code, 0) < 0 && errno == EINTR)
        ;
    close(process->pipe);
    buf_deinit(&process->text);
    process->pid = 0;
    pool->done++;
    if (!*slot) {
        struct lg_error error = {0};
        struct sim_outcome none = {0};
        (void)lg_fail(&error, LG_INTERNAL,
                      WIFSIGNALED(code) ? "the run's process was killed by signal %d"
                                        : "the run's process ended with code %d",
                      WIFSIGNALED(code) ? WTERMSIG(code) : WEXITSTATUS(code));
        *slot = outcome_document(&none, (uint64_t)pool->experiment->seeds[process->run % seeds], error.status, &error);
    }
    const char *message = json_string_value(json_object_get(*slot, "error"));
    const char *status = json_string_value(json_object_get(*slot, "status"));
    bool cancelled = status && strcmp(status, lg_status_name(LG_CANCELLED)) == 0;
    if (message && message[0] && !cancelled && pool->failure.status == LG_OK)
        lg_fail(&pool->failure, LG_INTERNAL, "%s, seed %lld: %.400s", label_of(pool, process->run),
                (long long)pool->experiment->seeds[process->run % seeds], message);
    print_done(pool, process->run, *slot);
}

static void hear(struct pool *pool, struct process *process) {
    char chunk[65536];
    ssize_t count = read(process->pipe, chunk, sizeof chunk);
    if (count < 0 && (errno == EINTR || errno == EAGAIN))
        return;
    if (count > 0) {
        buf_append(&process->text, chunk, (size_t)count);
        take_lines(pool, process);
        return;
    }
    reap(pool, process);
}

/* False when no process runs any more. */
static bool wait_some(struct pool *pool) {
    struct pollfd waits[JOBS_MAX];
    struct process *who[JOBS_MAX];
    nfds_t count = 0;
    for (size_t i = 0; i < JOBS_MAX; i++)
        if (pool->processes[i].pid) {
            who[count] = &pool->processes[i];
            waits[count++] = (struct pollfd){.fd = pool->processes[i].pipe, .events = POLLIN};
        }
    if (count == 0)
        return false;
    if (poll(waits, count, POLL_MS) > 0)
        for (nfds_t i = 0; i < count; i++)
            if (waits[i].revents)
                hear(pool, who[i]);
    draw(pool);
    return true;
}

static void signal_all(struct pool *pool, int number) {
    for (size_t i = 0; i < JOBS_MAX; i++)
        if (pool->processes[i].pid)
            kill(pool->processes[i].pid, number);
}

static bool interrupted(const struct pool *pool) {
    return pool->options->interrupted && *pool->options->interrupted;
}

/* Runs under way stop where they are and say how far they came. */
static void stop(struct pool *pool) {
    struct timespec asked;
    bool killed = false;
    clock_gettime(CLOCK_MONOTONIC, &asked);
    signal_all(pool, SIGTERM);
    while (wait_some(pool))
        if (!killed && seconds_since(&asked) * 1000 > GRACE_MS) {
            signal_all(pool, SIGKILL);
            killed = true;
        }
}

enum lg_status experiment_run(struct experiment *experiment, const struct experiment_options *options,
                              struct lg_error *error) {
    struct pool *pool = calloc(1, sizeof *pool);
    enum lg_status status = LG_OK;
    if (!pool)
        return lg_fail(error, LG_NO_MEMORY, "no memory for the runs");
    pool->experiment = experiment;
    pool->options = options;
    pool->total = experiment->cell_count * experiment->seed_count;
    clock_gettime(CLOCK_MONOTONIC, &pool->began);
    size_t jobs = options->jobs < 1 ? 1 : options->jobs > JOBS_MAX ? JOBS_MAX : options->jobs;
    do {
        for (size_t i = 0; i < jobs && status == LG_OK && pool->next < pool->total && !interrupted(pool); i++)
            if (!pool->processes[i].pid)
                status = start(pool, &pool->processes[i], error);
        if (interrupted(pool) || status != LG_OK)
            stop(pool);
    } while (wait_some(pool) || (status == LG_OK && pool->next < pool->total && !interrupted(pool)));
    erase(pool);
    if (status == LG_OK && interrupted(pool))
        status = lg_fail(error, LG_CANCELLED, "interrupted: %zu of %zu runs are whole", pool->done, pool->total);
    if (status == LG_OK && pool->failure.status != LG_OK)
        status = lg_fail(error, pool->failure.status, "%s", pool->failure.message);
    free(pool);
    return status;
}
