#include "worker/trainer_meter.h"

#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#include "common/log.h"
#include "common/units.h"

#define SECOND_NS UINT64_C(1000000000)

enum { SMOOTH_STEPS = 50 }; /* the averages reach back about so many steps */

static uint64_t read_clock(clockid_t clock) {
    struct timespec now;
    clock_gettime(clock, &now);
    return (uint64_t)now.tv_sec * SECOND_NS + (uint64_t)now.tv_nsec;
}

uint64_t meter_clock_ns(void) {
    return read_clock(CLOCK_MONOTONIC);
}

uint64_t meter_cpu_ns(void) {
    return read_clock(CLOCK_THREAD_CPUTIME_ID);
}

void meter_init(struct meter *meter, int fd) {
    uint64_t now = meter_clock_ns();
    *meter = (struct meter){.fd = fd, .reported_ns = now, .logged_ns = now};
    snprintf(meter->numbers.state, sizeof meter->numbers.state, "starting");
}

void meter_describe(struct meter *meter, bool tokens, double flops_per_prediction, struct device *device) {
    meter->tokens = tokens;
    meter->flops_per_prediction = flops_per_prediction;
    meter->device = device;
    meter->numbers.flops_peak = device ? device->flops_peak : 0;
}

/* Numbers that the agent does not take in time are left out: the next ones replace them. */
static void tell_agent(const struct meter *meter, const char *line, size_t bytes) {
    if (meter->fd >= 0)
        (void)!send(meter->fd, line, bytes, MSG_DONTWAIT | MSG_NOSIGNAL);
}

static void tell_numbers(const struct meter *meter) {
    char line[TRAINER_LINE_BYTES_MAX];
    tell_agent(meter, line, trainer_numbers_write(&meter->numbers, line));
}

void meter_set_state(struct meter *meter, const char *state) {
    snprintf(meter->numbers.state, sizeof meter->numbers.state, "%s", state);
    tell_numbers(meter);
}

void meter_say_reason(const struct meter *meter, const char *reason) {
    char line[TRAINER_LINE_BYTES_MAX];
    int length = snprintf(line, sizeof line, "reason %.*s\n", (int)sizeof line - 16, reason);
    tell_agent(meter, line, (size_t)length);
}

static void take_point(struct meter *meter) {
    if (meter->point_count == METER_POINTS) {
        memmove(meter->points, meter->points + 1, (METER_POINTS - 1) * sizeof *meter->points);
        meter->point_count--;
    }
    meter->points[meter->point_count++] =
        (struct meter_point){meter->busy_ns, meter->numbers.samples, meter->predictions};
}

/* Per second since the oldest point, or since the start. */
static void take_rates(struct meter *meter) {
    struct trainer_numbers *numbers = &meter->numbers;
    struct meter_point from = {0};
    if (meter->point_count > 0)
        from = meter->points[0];
    uint64_t busy_ns = meter->busy_ns - from.busy_ns;
    double per_second = busy_ns ? 1e9 / (double)busy_ns : 0;
    double predictions = (double)(meter->predictions - from.predictions) * per_second;
    numbers->samples_per_second = (double)(numbers->samples - from.samples) * per_second;
    numbers->tokens_per_second = meter->tokens ? predictions : 0;
    numbers->flops_per_second = meter->flops_per_prediction * predictions;
}

void meter_add_step(struct meter *meter, uint64_t samples, uint64_t predictions, double loss_sum, uint64_t correct,
                    uint64_t busy_ns) {
    struct trainer_numbers *numbers = &meter->numbers;
    double share = 1.0 / (double)(numbers->steps < SMOOTH_STEPS ? numbers->steps + 1 : SMOOTH_STEPS);
    if (predictions > 0) {
        numbers->loss += share * (loss_sum / (double)predictions - numbers->loss);
        numbers->accuracy += share * ((double)correct / (double)predictions - numbers->accuracy);
    }
    numbers->steps++;
    numbers->samples += samples;
    meter->predictions += predictions;
    meter->busy_ns += busy_ns;
}

void meter_add_read(struct meter *meter, uint64_t ns) {
    meter->numbers.read_ns += ns;
    meter->numbers.compute_ns += ns;
}

void meter_add_copies(struct meter *meter, uint64_t ns, uint64_t bytes) {
    meter->numbers.copy_ns += ns;
    meter->numbers.copy_bytes += bytes;
}

void meter_add_wait(struct meter *meter, uint64_t ns) {
    meter->numbers.wait_ns += ns;
    meter->numbers.communication_ns += ns;
}

static void tell_pushes(struct meter *meter) {
    char line[TRAINER_LINE_BYTES_MAX];
    if (meter->push_count > 0)
        tell_agent(meter, line, trainer_pushes_write(meter->pushes, meter->push_count, line));
    meter->push_count = 0;
}

void meter_add_push(struct meter *meter, uint64_t staleness, double weight) {
    struct trainer_numbers *numbers = &meter->numbers;
    numbers->pushes++;
    numbers->dropped += weight == 0;
    numbers->staleness_max = staleness > numbers->staleness_max ? staleness : numbers->staleness_max;
    numbers->staleness_mean += ((double)staleness - numbers->staleness_mean) / (double)numbers->pushes;
    numbers->weight_mean += (weight - numbers->weight_mean) / (double)numbers->pushes;
    meter->pushes[meter->push_count++] = (struct trainer_push){staleness, weight};
    if (meter->push_count == TRAINER_PUSHES_MAX)
        tell_pushes(meter);
}

static void report(struct meter *meter, struct lg_client *client, uint64_t now) {
    struct trainer_numbers *numbers = &meter->numbers;
    take_rates(meter);
    if (meter->device)
        numbers->memory_used_bytes = meter->device->ops->memory_used(meter->device);
    if (now - meter->point_ns >= SECOND_NS) {
        take_point(meter);
        meter->point_ns = now;
    }
    struct lg_progress progress = {
        .steps = numbers->steps,
        .samples = numbers->samples,
        .loss = numbers->loss,
        .accuracy = numbers->accuracy,
        .compute_ns = numbers->compute_ns,
        .communication_ns = numbers->communication_ns,
        .samples_per_second = numbers->samples_per_second,
        .staleness_mean = numbers->staleness_mean,
        .staleness_max = numbers->staleness_max,
        .weight_mean = numbers->weight_mean,
        .pushes_dropped = numbers->dropped,
        .read_ns = numbers->read_ns,
        .copy_ns = numbers->copy_ns,
        .copy_bytes = numbers->copy_bytes,
        .wait_ns = numbers->wait_ns,
        .tokens_per_second = numbers->tokens_per_second,
        .flops_per_second = numbers->flops_per_second,
        .flops_peak = numbers->flops_peak,
        .memory_used_bytes = numbers->memory_used_bytes,
    };
    if (client)
        lg_report_progress(client, &progress);
    tell_pushes(meter);
    tell_numbers(meter);
    meter->reported_ns = now;
}

/* ", 12.3k tokens/s, model FLOPs utilisation 41.2 %", as much of it as there is. */
static void describe_tokens(const struct trainer_numbers *numbers, char *text, size_t bytes) {
    char rate[UNITS_TEXT_BYTES];
    int used = 0;
    text[0] = '\0';
    if (numbers->tokens_per_second > 0)
        used = snprintf(text, bytes, ", %s tokens/s", units_rate(numbers->tokens_per_second, rate, sizeof rate));
    if (numbers->flops_per_second > 0 && numbers->flops_peak > 0)
        snprintf(text + used, bytes - (size_t)used, ", model FLOPs utilisation %.1f %%",
                 100 * numbers->flops_per_second / numbers->flops_peak);
}

/* What the time in train leases went into: computing alone, reading, copying, waiting, and the trainer's own work on
 * what it sends and receives. */
static void describe_time(const struct meter *meter, char *text, size_t bytes) {
    const struct trainer_numbers *numbers = &meter->numbers;
    double percent = 100 / (double)(meter->busy_ns ? meter->busy_ns : 1);
    double other = (double)numbers->read_ns + (double)numbers->copy_ns;
    snprintf(text, bytes, "%.0f %% computing, %.0f %% reading, %.0f %% copying, %.0f %% waiting, %.0f %% sending",
             percent * ((double)numbers->compute_ns - other), percent * (double)numbers->read_ns,
             percent * (double)numbers->copy_ns, percent * (double)numbers->wait_ns,
             percent * (double)(numbers->communication_ns - numbers->wait_ns));
}

static void log_numbers(struct meter *meter, uint64_t now) {
    const struct trainer_numbers *numbers = &meter->numbers;
    char speed[UNITS_TEXT_BYTES], samples[UNITS_TEXT_BYTES], tokens[128], time[160];
    describe_tokens(numbers, tokens, sizeof tokens);
    describe_time(meter, time, sizeof time);
    log_info("progress",
             "step %llu, %s samples: loss %.4f, accuracy %.2f %%, %s samples/s%s, %s; staleness %.2f in the mean, %llu "
             "at most, mean weight %.3f",
             (unsigned long long)numbers->steps, units_count(numbers->samples, samples, sizeof samples), numbers->loss,
             100 * numbers->accuracy, units_rate(numbers->samples_per_second, speed, sizeof speed), tokens, time,
             numbers->staleness_mean, (unsigned long long)numbers->staleness_max, numbers->weight_mean);
    if (meter->skipped > 0)
        log_info("skipped",
                 "%llu pushes were skipped: their rounds were full without them, so their samples are given up",
                 (unsigned long long)meter->skipped);
    meter->logged_ns = now;
}

void meter_tick(struct meter *meter, struct lg_client *client) {
    uint64_t now = meter_clock_ns(), since = now - meter->reported_ns;
    bool young = meter->busy_ns < SECOND_NS;
    if (since >= (young ? SECOND_NS / 5 : SECOND_NS))
        report(meter, client, now);
    if (now - meter->logged_ns >= 10 * SECOND_NS)
        log_numbers(meter, now);
}

void meter_flush(struct meter *meter, struct lg_client *client) {
    report(meter, client, meter_clock_ns());
}
