#include "sim/step_times.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- trace files */

static enum lg_status trace_add(struct step_times *times, size_t *capacity, double seconds, struct lg_error *error) {
    if (times->trace_count == *capacity) {
        *capacity = *capacity ? 2 * *capacity : 1024;
        double *grown = realloc(times->trace_s, *capacity * sizeof *grown);
        if (!grown)
            return lg_fail(error, LG_NO_MEMORY, "no memory for a trace of step times");
        times->trace_s = grown;
    }
    times->trace_s[times->trace_count++] = seconds;
    return LG_OK;
}

/* Lines that are empty or start with '#' are passed over. */
static enum lg_status trace_line(struct step_times *times, size_t *capacity, const char *line, double slowness,
                                 const char *path, size_t number, struct lg_error *error) {
    const char *from = line + strspn(line, " \t\r\n");
    char *end = NULL;
    if (*from == '\0' || *from == '#')
        return LG_OK;
    double seconds = strtod(from, &end);
    if (end == from || end[strspn(end, " \t\r\n")] != '\0' || !isfinite(seconds) || seconds <= 0)
        return lg_fail(error, LG_INVALID, "%s:%zu: a step time in seconds should be here, one on each line", path,
                       number);
    return trace_add(times, capacity, seconds * slowness, error);
}

static enum lg_status trace_read(struct step_times *times, const struct sim_class *class, struct lg_error *error) {
    FILE *file = fopen(class->trace, "r");
    char line[256];
    size_t capacity = 0;
    enum lg_status status = LG_OK;
    if (!file)
        return lg_fail(error, LG_IO, "cannot read \"%s\": %s", class->trace, strerror(errno));
    for (size_t number = 1; status == LG_OK && fgets(line, sizeof line, file); number++)
        status = trace_line(times, &capacity, line, class->slowness, class->trace, number, error);
    fclose(file);
    if (status == LG_OK && times->trace_count == 0)
        return lg_fail(error, LG_INVALID, "%s: there are no step times in it", class->trace);
    double sum = 0;
    for (size_t i = 0; i < times->trace_count; i++)
        sum += times->trace_s[i];
    times->mean_s = status == LG_OK ? sum / (double)times->trace_count : 0;
    return status;
}

enum lg_status step_times_init(struct step_times *times, const struct sim_options *options,
                               const struct sim_class *class, struct lg_error *error) {
    static const char *const names[] = {"constant", "lognormal", "exponential", "gamma", "trace"};
    *times = (struct step_times){
        .mean_s = options->step_time * class->slowness, .sigma = options->step_sigma, .shape = options->step_shape};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(options->distribution, names[i]) == 0)
            times->distribution = (enum step_distribution)i;
    return times->distribution == STEP_TRACE ? trace_read(times, class, error) : LG_OK;
}

void step_times_deinit(struct step_times *times) {
    free(times->trace_s);
    *times = (struct step_times){0};
}

/* ---- draws */

double step_times_exponential(struct random *random, double mean_s) {
    return -mean_s * log1p(-random_double(random));
}

/* Marsaglia and Tsang 2000; below a shape of 1 through shape + 1. Mean `shape`. */
static double draw_gamma(struct random *random, double shape) {
    double boost = 1;
    if (shape < 1) {
        boost = pow(1 - random_double(random), 1 / shape);
        shape += 1;
    }
    double d = shape - 1.0 / 3, c = 1 / sqrt(9 * d);
    for (;;) {
        double x = (double)random_normal(random), v = 1 + c * x;
        if (v <= 0)
            continue;
        v = v * v * v;
        if (log(1 - random_double(random)) < 0.5 * x * x + d - d * v + d * log(v))
            return boost * d * v;
    }
}

double step_times_draw(const struct step_times *times, struct random *random, size_t *place) {
    switch (times->distribution) {
    case STEP_LOGNORMAL: /* the mean of exp(N(m, sigma^2)) is exp(m + sigma^2 / 2) */
        return times->mean_s * exp(times->sigma * (double)random_normal(random) - 0.5 * times->sigma * times->sigma);
    case STEP_EXPONENTIAL:
        return step_times_exponential(random, times->mean_s);
    case STEP_GAMMA:
        return times->mean_s * draw_gamma(random, times->shape) / times->shape;
    case STEP_TRACE:
        *place = (*place + 1) % times->trace_count;
        return times->trace_s[*place];
    case STEP_CONSTANT:
        break;
    }
    return times->mean_s;
}

size_t step_times_place(const struct step_times *times, struct random *random) {
    return times->trace_count > 0 ? (size_t)random_below(random, times->trace_count) : 0;
}
