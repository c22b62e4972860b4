/* What updating costs: a kernel over whole arrays in one call, nothing around it. */
#include <stdlib.h>
#include <string.h>

#include "bench/limit.h"
#include "common/updater.h"

const char *const limit_kernel_names[] = {"sgd", "momentum", "adam", NULL};

struct arrays {
    size_t elements;
    float *w, *g, *states[UPDATER_STATES_MAX];
};

static float *array_new(size_t elements, float value) {
    float *array = aligned_alloc(64, elements * sizeof *array);
    for (size_t i = 0; array && i < elements; i++)
        array[i] = value * (float)(1 + i % 7);
    return array;
}

static enum lg_status arrays_init(struct arrays *arrays, size_t elements, struct lg_error *error) {
    *arrays = (struct arrays){.elements = elements, .w = array_new(elements, 0.1f), .g = array_new(elements, 1e-3f)};
    bool fine = arrays->w && arrays->g;
    for (int i = 0; i < UPDATER_STATES_MAX; i++) {
        arrays->states[i] = array_new(elements, 0);
        fine = fine && arrays->states[i];
    }
    return fine ? LG_OK : lg_fail(error, LG_NO_MEMORY, "no memory for the arrays of an update");
}

/* One step of every parameter, with the updater's default settings. */
static void step(const struct arrays *arrays, const struct updater *updater, enum isa isa, uint64_t number) {
    double values[UPDATER_PARAMS_MAX] = {0};
    float scalars[UPDATER_SCALARS_MAX];
    const struct updater_moment moment = {.learning_rate = 1e-6f, .weight = 1, .step = number};
    for (size_t i = 0; i < updater->param_count; i++)
        values[i] = updater->params[i].fallback;
    updater->decide(values, &moment, scalars);
    updater->apply[isa](arrays->w, arrays->states, arrays->g, arrays->elements, scalars);
}

static int run(int fd, const void *context) {
    const struct limit *limit = context;
    struct process_report report = {0};
    struct process_order order;
    struct lg_error error;
    struct arrays arrays;
    enum isa isa = isa_detect();
    if (arrays_init(&arrays, limit->bytes / sizeof(float), &error) != LG_OK) {
        (void)process_say_error(fd, &error);
        return EXIT_FAILURE;
    }
    (void)process_say(fd, &report);
    for (uint64_t number = 1; process_next(fd, &order);) {
        const struct updater *updater;
        if (updater_find(limit_kernel_names[order.what], &updater, &error) != LG_OK) {
            (void)process_say_error(fd, &error);
            return EXIT_FAILURE;
        }
        report.began_s = process_now_s();
        for (uint32_t i = 0; i < order.count; i++)
            step(&arrays, updater, isa, number++);
        report.ended_s = process_now_s();
        if (!process_say(fd, &report))
            break;
    }
    return EXIT_SUCCESS;
}

enum lg_status limit_kernels_open(struct limit *limit, uint64_t bytes, struct lg_error *error) {
    struct process_report report;
    *limit = (struct limit){.bytes = bytes};
    return process_start(&limit->processes[0], "limit-kernels", run, limit, &report, error);
}

/* Billions of parameters per second in one measurement. */
static enum lg_status measure(struct probe *probe, double *rate, struct lg_error *error) {
    struct limit *limit = probe->station;
    struct process_report report;
    const struct process_order order = {.what = probe->what, .count = probe->count};
    enum lg_status status = process_ask(&limit->processes[0], &order, &report, error);
    if (status != LG_OK)
        return status;
    probe->spent_s = report.ended_s - report.began_s;
    *rate = (double)(limit->bytes / sizeof(float)) * probe->count / probe->spent_s / 1e9;
    return LG_OK;
}

enum lg_status limit_kernel_run(struct probe *probe, struct figures *figures, struct lg_error *error) {
    double rate = 0;
    enum lg_status status = measure(probe, &rate, error);
    return status == LG_OK ? probe_add(probe, figures, "", "Gparam/s", rate, error) : status;
}

enum lg_status limit_kernel_bytes(struct probe *probe, struct figures *figures, struct lg_error *error) {
    double rate = 0;
    enum lg_status status = measure(probe, &rate, error);
    return status == LG_OK ? probe_add(probe, figures, "", "GB/s", sizeof(float) * rate, error) : status;
}
