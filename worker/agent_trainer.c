/* One trainer process: started, fed, listened to, stopped, and reported when it has ended. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/log.h"
#include "worker/agent_host.h"
#include "worker/agent_internal.h"
#include "worker/trainer_handover.h"

enum { DRAIN_MS = 500 }; /* for output that is still in the pipes when the process has gone */

/* Exit codes of trainers, see trainer.h, as the metric and the log name them. */
static const char *exit_kind(const struct agent_trainer *trainer) {
    if (trainer->signal)
        return "signal";
    if (trainer->code == 0)
        return trainer->stopping ? "stopped" : "finished";
    return trainer->code == 3 ? "configuration" : trainer->code == 4 ? "fenced" : "failed";
}

static void exit_reason(const struct agent_trainer *trainer, char *reason, size_t bytes) {
    const char *said = trainer->said_reason[0] ? trainer->said_reason : trainer->last_line;
    if (trainer->killed)
        snprintf(reason, bytes, "did not stop when asked and was killed");
    else if (trainer->signal)
        snprintf(reason, bytes, "killed by signal %d (%s)", trainer->signal, strsignal(trainer->signal));
    else if (trainer->code == 0)
        snprintf(reason, bytes, "%s%.*s", trainer->stopping ? "stopped: " : "finished", (int)bytes - 16,
                 trainer->stop_reason);
    else if (said[0])
        snprintf(reason, bytes, "%s", said);
    else
        snprintf(reason, bytes, "ended with exit code %lld and said nothing", (long long)trainer->code);
}

/* ---- the end */

static void on_closed(uv_handle_t *handle) {
    struct agent_trainer *trainer = handle->data;
    if (--trainer->open_handles == 0)
        free(trainer);
}

static void close_handle(struct agent_trainer *trainer, void *handle) {
    (void)trainer;
    if (!uv_is_closing(handle))
        uv_close(handle, on_closed);
}

static void end(struct agent_trainer *trainer) {
    struct agent_exit exit = {
        .trainer = trainer->trainer,
        .job = trainer->job,
        .attempt = trainer->attempt,
        .code = (int32_t)trainer->code,
        .signal = (int32_t)trainer->signal,
    };
    if (trainer->ended)
        return;
    trainer->ended = true;
    exit_reason(trainer, exit.reason, sizeof exit.reason);
    bool good = trainer->signal == 0 && trainer->code == 0;
    log_write(good ? LOG_LEVEL_INFO : LOG_LEVEL_WARN, "trainer-exit", "trainer %llu of job \"%s\": %s",
              (unsigned long long)trainer->trainer, trainer->job_name, exit.reason);
    agent_stats_count_exit(trainer->agent, exit_kind(trainer));
    for (int i = 0; i < PIPE_COUNT; i++)
        close_handle(trainer, &trainer->pipes[i]);
    close_handle(trainer, &trainer->process);
    close_handle(trainer, &trainer->timer);
    agent_remove(trainer); /* first: the coordinator may answer with another start */
    agent_exit_add(trainer->agent, &exit);
}

static void on_drain_over(uv_timer_t *timer) {
    end(timer->data);
}

static void on_process_exit(uv_process_t *process, int64_t code, int signal) {
    struct agent_trainer *trainer = process->data;
    bool stopped_early = trainer->stopping && signal == SIGTERM; /* before it could catch the signal */
    trainer->exited = true;
    trainer->code = stopped_early ? 0 : code;
    trainer->signal = stopped_early ? 0 : signal;
    if (trainer->open_outputs == 0)
        end(trainer);
    else
        uv_timer_start(&trainer->timer, on_drain_over, DRAIN_MS, 0);
}

/* ---- what it prints */

static void take_output(void *context, const char *line) {
    struct agent_trainer *trainer = context;
    char out[LINE_BYTES_MAX + 64];
    int length = snprintf(out, sizeof out, "trainer %llu| %s\n", (unsigned long long)trainer->trainer, line);
    ssize_t written = write(STDERR_FILENO, out, (size_t)length);
    (void)written;
    line_queue_add(&trainer->agent->lines, trainer->job, trainer->trainer, line);
}

static void take_error(void *context, const char *line) {
    struct agent_trainer *trainer = context;
    if (line[0])
        snprintf(trainer->last_line, sizeof trainer->last_line, "%.*s", AGENT_REASON_BYTES - 1, line);
    take_output(context, line);
}

static void take_numbers(void *context, const char *line) {
    struct agent_trainer *trainer = context;
    struct trainer_numbers fresh = trainer->numbers;
    struct trainer_push pushes[TRAINER_PUSHES_MAX];
    size_t count = trainer_pushes_read(line, pushes);
    if (count > 0)
        agent_stats_take_pushes(trainer, pushes, count);
    else if (trainer_numbers_read(line, &fresh))
        agent_stats_take_numbers(trainer, &fresh);
    else if (strncmp(line, "reason ", 7) == 0)
        snprintf(trainer->said_reason, sizeof trainer->said_reason, "%.*s", AGENT_REASON_BYTES - 1, line + 7);
}

static line_fn *const takers[PIPE_COUNT] = {NULL, take_output, take_error, take_numbers};

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *out) {
    struct agent_trainer *trainer = handle->data;
    (void)suggested;
    *out = uv_buf_init(trainer->agent->read_buffer, sizeof trainer->agent->read_buffer);
}

static void on_read(uv_stream_t *stream, ssize_t count, const uv_buf_t *bytes) {
    struct agent_trainer *trainer = stream->data;
    long pipe = (uv_pipe_t *)stream - trainer->pipes;
    if (count > 0) {
        line_splitter_feed(&trainer->splitters[pipe], bytes->base, (size_t)count, takers[pipe], trainer);
    } else if (count < 0) {
        line_splitter_flush(&trainer->splitters[pipe], takers[pipe], trainer);
        close_handle(trainer, stream);
        if (--trainer->open_outputs == 0 && trainer->exited)
            end(trainer);
    }
}

/* ---- the start */

static void on_handover_written(uv_write_t *write, int status) {
    struct agent_trainer *trainer = write->data;
    (void)status; /* a trainer that does not read it ends, and says so */
    explicit_bzero(trainer->handover, trainer->handover_bytes);
    free(trainer->handover);
    trainer->handover = NULL;
    close_handle(trainer, &trainer->pipes[PIPE_HANDOVER]);
}

static enum lg_status make_handover(struct agent_trainer *trainer, const struct wire_trainer_start *start,
                                    struct lg_error *error) {
    const struct worker_config *config = trainer->agent->config;
    struct buf text = {0};
    struct trainer_handover handover = {
        .job = (int64_t)start->job,
        .trainer = (int64_t)start->trainer,
        .attempt = start->attempt,
        .threads = host_threads(config, trainer->agent->slots),
        .slowdown = config->slowdown,
        .agent_pid = getpid(),
        .token = start->token,
    };
    snprintf(handover.coordinator, sizeof handover.coordinator, "%s", config->endpoint);
    snprintf(handover.job_name, sizeof handover.job_name, "%s", trainer->job_name);
    snprintf(handover.device, sizeof handover.device, "%s", trainer->device);
    snprintf(handover.state_dir, sizeof handover.state_dir, "%s", config->state_dir);
    snprintf(handover.log_level, sizeof handover.log_level, "%s", config->log_level);
    enum lg_status status = trainer_handover_write(&handover, start->spec, start->spec_count, &text, error);
    trainer->handover_bytes = text.size;
    trainer->handover = buf_take(&text);
    buf_deinit(&text);
    return status;
}

static int spawn(struct agent_trainer *trainer) {
    struct agent *agent = trainer->agent;
    char label[OPTION_TEXT_BYTES + 64];
    char trainer_flag[] = "--trainer", name[] = "lagoon-worker";
    char *args[] = {name, trainer_flag, label, NULL};
    uv_stdio_container_t stdio[PIPE_COUNT];
    snprintf(label, sizeof label, "%s/%llu", trainer->job_name, (unsigned long long)trainer->trainer);
    for (int i = 0; i < PIPE_COUNT; i++) {
        stdio[i].flags = UV_CREATE_PIPE | (i == PIPE_HANDOVER ? UV_READABLE_PIPE : UV_WRITABLE_PIPE);
        stdio[i].data.stream = (uv_stream_t *)&trainer->pipes[i];
    }
    uv_process_options_t options = {
        .exit_cb = on_process_exit,
        .file = agent->program,
        .args = args,
        .cwd = agent->config->data_root[0] ? agent->config->data_root : NULL,
        .stdio_count = PIPE_COUNT,
        .stdio = stdio,
    };
    return uv_spawn(&agent->loop, &trainer->process, &options);
}

static void open_handles(struct agent_trainer *trainer) {
    uv_loop_t *loop = &trainer->agent->loop;
    for (int i = 0; i < PIPE_COUNT; i++) {
        uv_pipe_init(loop, &trainer->pipes[i], 0);
        trainer->pipes[i].data = trainer;
    }
    uv_timer_init(loop, &trainer->timer);
    trainer->timer.data = trainer;
    trainer->process.data = trainer;
    trainer->open_handles = PIPE_COUNT + 2; /* and the timer and the process */
}

static void listen_to(struct agent_trainer *trainer) {
    uv_buf_t bytes = uv_buf_init(trainer->handover, (unsigned)trainer->handover_bytes);
    trainer->write.data = trainer;
    if (uv_write(&trainer->write, (uv_stream_t *)&trainer->pipes[PIPE_HANDOVER], &bytes, 1, on_handover_written) != 0)
        on_handover_written(&trainer->write, 0);
    for (int i = PIPE_OUTPUT; i < PIPE_COUNT; i++) {
        if (uv_read_start((uv_stream_t *)&trainer->pipes[i], on_alloc, on_read) == 0)
            trainer->open_outputs++;
        else
            close_handle(trainer, &trainer->pipes[i]);
    }
}

/* Reports a start that came to nothing. */
static void refuse(struct agent *agent, const struct wire_trainer_start *start, const char *reason) {
    struct agent_exit exit = {.trainer = start->trainer, .job = start->job, .attempt = start->attempt, .code = 1};
    snprintf(exit.reason, sizeof exit.reason, "%.*s", AGENT_REASON_BYTES - 1, reason);
    log_warn("trainer-refused", "trainer %llu is not started: %s", (unsigned long long)start->trainer, reason);
    agent_stats_count_exit(agent, "refused");
    agent_exit_add(agent, &exit);
}

static void launch(struct agent_trainer *trainer) {
    struct agent *agent = trainer->agent;
    agent->trainers[agent->trainer_count++] = trainer;
    metric_set(agent->running, (int64_t)agent->trainer_count);
    open_handles(trainer);
    int failure = spawn(trainer);
    if (failure) {
        snprintf(trainer->said_reason, sizeof trainer->said_reason, "cannot start \"%s\": %s", agent->program,
                 uv_strerror(failure));
        trainer->code = 1;
        free(trainer->handover);
        trainer->handover = NULL;
        end(trainer);
        return;
    }
    listen_to(trainer);
    log_info("trainer-start", "trainer %llu of job \"%s\" started, attempt %u, process %d",
             (unsigned long long)trainer->trainer, trainer->job_name, trainer->attempt,
             uv_process_get_pid(&trainer->process));
}

void agent_trainer_start(struct agent *agent, const struct wire_trainer_start *start) {
    struct lg_error error = {0};
    struct agent_exit *before = agent_exit_find(agent, start->trainer, start->attempt);
    if (agent_find(agent, start->trainer))
        return; /* asked again because our answer was late */
    if (before) {
        before->acknowledged = false; /* tell again how that start ended */
        agent_link_send_exit(agent, before);
        return;
    }
    if (agent->stopping || agent->trainer_count >= (size_t)agent->slots) {
        refuse(agent, start, agent->stopping ? "this worker is stopping" : "no free slot on this worker");
        return;
    }
    struct agent_trainer *trainer = calloc(1, sizeof *trainer);
    if (!trainer) {
        refuse(agent, start, "no memory on this worker");
        return;
    }
    trainer->agent = agent;
    trainer->trainer = start->trainer;
    trainer->job = start->job;
    trainer->attempt = start->attempt;
    trainer->started_ms = uv_now(&agent->loop);
    snprintf(trainer->numbers.state, sizeof trainer->numbers.state, "starting");
    snprintf(trainer->job_name, sizeof trainer->job_name, "%.*s", OPTION_TEXT_BYTES - 1, start->job_name);
    snprintf(trainer->device, sizeof trainer->device, "%.*s", OPTION_TEXT_BYTES - 1,
             start->device[0] ? start->device : agent->devices[0]);
    if (make_handover(trainer, start, &error) != LG_OK) {
        refuse(agent, start, error.message);
        free(trainer);
        return;
    }
    launch(trainer);
}

/* ---- stopping */

static void on_grace_over(uv_timer_t *timer) {
    struct agent_trainer *trainer = timer->data;
    trainer->killed = true;
    log_warn("trainer-kill", "trainer %llu did not stop when asked: killing it", (unsigned long long)trainer->trainer);
    uv_process_kill(&trainer->process, SIGKILL);
}

void agent_trainer_stop(struct agent_trainer *trainer, uint64_t grace_ms, const char *reason) {
    if (trainer->exited || trainer->ended)
        return;
    if (trainer->stopping && uv_timer_get_due_in(&trainer->timer) <= grace_ms)
        return;
    if (!trainer->stopping)
        snprintf(trainer->stop_reason, sizeof trainer->stop_reason, "%.*s", AGENT_REASON_BYTES - 1, reason);
    trainer->stopping = true;
    uv_process_kill(&trainer->process, SIGTERM);
    uv_timer_start(&trainer->timer, on_grace_over, grace_ms, 0);
}
