/* A worker process of a benchmark: joins like a trainer, then pushes and pulls as it is told. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "bench/bench_cluster.h"
#include "bench/latency.h"
#include "client/lagoon.h"

enum { TRANSPORT_TRIES = 1000 };

struct worker {
    struct lg_client *client;
    float *gradients, *parameters;
    size_t elements;
    bool one_round_trip;
};

static enum lg_status join(struct worker *worker, const struct bench_cluster *cluster, struct lg_error *error) {
    struct tensor_spec *tensors = bench_tensors(&cluster->setup);
    if (!tensors)
        return lg_fail(error, LG_NO_MEMORY, "no memory for a tensor table");
    const struct lg_client_options options = {.coordinator = cluster->endpoint,
                                              .job = "bench",
                                              .role = LG_ROLE_TRAINER,
                                              .tensors = tensors,
                                              .tensor_count = cluster->setup.tensors,
                                              .train_samples = 1000,
                                              .batch = 1,
                                              .device = "cpu",
                                              .no_shared_memory = cluster->setup.transport != BENCH_SHM};
    enum lg_status status = lg_client_open(&options, &worker->client, error);
    free(tensors);
    return status;
}

/* Gradients are made where the library wants them. */
static enum lg_status make_buffers(struct worker *worker, const struct bench_setup *setup, struct lg_error *error) {
    uint64_t bytes = setup->tensors * setup->tensor_bytes;
    worker->elements = bytes / sizeof(float);
    worker->gradients = lg_gradient_buffer(worker->client, 0);
    worker->parameters = aligned_alloc(64, (bytes + 63) / 64 * 64);
    if (!worker->gradients || !worker->parameters)
        return lg_fail(error, LG_NO_MEMORY, "no memory for %llu bytes of gradients and parameters",
                       (unsigned long long)bytes);
    for (size_t i = 0; i < worker->elements; i++)
        worker->gradients[i] = 1e-3f * (float)(1 + i % 7);
    memset(worker->parameters, 0, bytes);
    return LG_OK;
}

static enum lg_status push(struct worker *worker, bool initial, struct lg_error *error) {
    const struct lg_push push = {.samples = 1, .local_steps = 1, .initial = initial};
    return lg_push(worker->client, &push, worker->gradients, NULL, error);
}

static enum lg_status pull(struct worker *worker, struct lg_error *error) {
    lg_pull_forget(worker->client); /* else what another worker left unchanged would not be sent again */
    return lg_pull(worker->client, worker->parameters, error);
}

static enum lg_status push_pull(struct worker *worker, struct lg_error *error) {
    const struct lg_push push_back = {.samples = 1, .local_steps = 1, .parameters = worker->parameters};
    if (worker->one_round_trip)
        return lg_push(worker->client, &push_back, worker->gradients, NULL, error);
    enum lg_status status = push(worker, false, error);
    return status == LG_OK ? lg_pull(worker->client, worker->parameters, error) : status;
}

/* Does a push bring parameters back by itself? */
static enum lg_status look_for_round_trip(struct worker *worker, struct lg_error *error) {
    worker->parameters[0] = worker->parameters[worker->elements - 1] = NAN;
    worker->one_round_trip = true;
    enum lg_status status = push_pull(worker, error);
    worker->one_round_trip = !isnan(worker->parameters[0]) && !isnan(worker->parameters[worker->elements - 1]);
    return status;
}

static enum lg_status obey(struct worker *worker, const struct process_order *order, struct process_report *report,
                           struct lg_error *error) {
    static struct latency latency;
    enum lg_status status = LG_OK;
    latency_begin(&latency);
    report->began_s = process_now_s();
    for (uint32_t i = 0; status == LG_OK && i < order->count; i++) {
        double began_s = process_now_s();
        switch ((enum bench_what)order->what) {
        case BENCH_PUSH:
        case BENCH_SMALL:
            status = push(worker, false, error);
            break;
        case BENCH_PULL:
            status = pull(worker, error);
            break;
        case BENCH_PUSHPULL:
            status = push_pull(worker, error);
            break;
        }
        latency_add(&latency, process_now_s() - began_s);
    }
    report->ended_s = process_now_s();
    latency_end(&latency, &report->values[0], &report->values[1]);
    return status;
}

/* A figure is called shm only where all of it was, which the client may find out some milliseconds after it joined.
 * Whether messages go by tcp or ipc was decided by the server. */
static enum lg_status check_transport(const struct worker *worker, const struct bench_setup *setup,
                                      struct lg_error *error) {
    const char *used = lg_client_transport(worker->client), *wanted = bench_transport_name(setup->transport);
    for (int i = 0; i < TRANSPORT_TRIES && strcmp(used, wanted) != 0; i++) {
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
        used = lg_client_transport(worker->client);
    }
    if (strcmp(used, wanted) == 0)
        return LG_OK;
    return lg_fail(error, LG_UNSUPPORTED, "the client travels by %s, not by %s", used, wanted);
}

static enum lg_status begin(struct worker *worker, const struct bench_cluster *cluster, struct lg_error *error) {
    enum lg_status status = join(worker, cluster, error);
    if (status == LG_OK)
        status = make_buffers(worker, &cluster->setup, error);
    if (status == LG_OK)
        status = push(worker, true, error);
    if (status == LG_OK)
        status = pull(worker, error);
    if (status == LG_OK)
        status = check_transport(worker, &cluster->setup, error);
    if (status == LG_OK)
        status = look_for_round_trip(worker, error);
    return status;
}

int bench_client_run(int fd, const void *context) {
    struct worker worker = {0};
    struct process_report report = {0};
    struct process_order order;
    struct lg_error error = {0};
    enum lg_status status = begin(&worker, context, &error);
    report.values[0] = worker.one_round_trip;
    bool heard = status == LG_OK ? process_say(fd, &report) : process_say_error(fd, &error);
    while (status == LG_OK && heard && process_next(fd, &order)) {
        status = obey(&worker, &order, &report, &error);
        heard = status == LG_OK ? process_say(fd, &report) : process_say_error(fd, &error);
    }
    return status == LG_OK ? EXIT_SUCCESS : EXIT_FAILURE; /* killed as a rule: nothing here needs a goodbye */
}
