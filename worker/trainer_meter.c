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
    meter->points[meter->point_count++] = (struct meter_point){meter->busy_ns, meter->numbers.samples};
}

/* Samples per second since the oldest point, or since the start. */
static double rate(const struct meter *meter) {
    struct meter_point from = {0};
    if (meter->point_count > 0)
        from = meter->points[0];
    uint64_t busy_ns = meter->busy_ns - from.busy_ns;
    return busy_ns ? (double)(meter->numbers.samples - from.samples) * 1e9 / (double)busy_ns : 0;
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
    meter->busy_ns += busy_ns;
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
    numbers->samples_per_second = rate(meter);
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
    };
    if (client)
        lg_report_progress(client, &progress);
    tell_pushes(meter);
    tell_numbers(meter);
    meter->reported_ns = now;
}

static void log_numbers(struct meter *meter, uint64_t now) {
    const struct trainer_numbers *numbers = &meter->numbers;
    char speed[UNITS_TEXT_BYTES], samples[UNITS_TEXT_BYTES];
    double all = (double)(meter->busy_ns ? meter->busy_ns : 1);
    log_info("progress",
             "step %llu, %s samples: loss %.4f, accuracy %.2f %%, %s samples/s, %.0f %% computing, %.0f %% "
             "communicating; staleness %.2f in the mean, %llu at most, mean weight %.3f",
             (unsigned long long)numbers->steps, units_count(numbers->samples, samples, sizeof samples), numbers->loss,
             100 * numbers->accuracy, units_rate(numbers->samples_per_second, speed, sizeof speed),
             100 * (double)numbers->compute_ns / all, 100 * (double)numbers->communication_ns / all,
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
