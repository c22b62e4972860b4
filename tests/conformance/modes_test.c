/* Every consistency mode with real clients over real connections, each in a thread of its own: who has fewer batches,
 * or dies, holds nobody up; every sample is applied or reported as given up. And bsp is what one trainer with all the
 * samples would do. */
#include <check.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "client/consistency.h"
#include "client/lagoon.h"
#include "tests/support/fake_cluster.h"

enum { CLIENTS = 3, SAMPLES = 600, SLICE = 40, BATCH = 7, STEPS = 200 };

struct trainer {
    const struct fake_cluster *cluster;
    uint32_t index;
    uint64_t samples, skipped;
    struct lg_push_result last;
    pthread_t thread;
    pthread_barrier_t *barrier;
    char failure[300];
};

static struct lg_client *open_client(const struct fake_cluster *cluster, enum lg_role role, struct lg_error *error) {
    struct lg_client_options options = {.coordinator = fake_address(cluster),
                                        .job = "fake",
                                        .role = role,
                                        .trainer = 4,
                                        .token = 5,
                                        .train_samples = 1000,
                                        .test_samples = 10,
                                        .batch = BATCH,
                                        .timeout_ms = 20000};
    struct lg_client *client = NULL;
    if (role == LG_ROLE_TRAINER)
        options.tensors = fake_tensors(&options.tensor_count);
    return lg_client_open(&options, &client, error) == LG_OK ? client : NULL;
}

static void fill(float *values, float value) {
    for (size_t i = 0; i < FAKE_ELEMENTS; i++)
        values[i] = value;
}

static void initialise(const struct fake_cluster *cluster) {
    struct lg_error error = {0};
    struct lg_client *client = open_client(cluster, LG_ROLE_INITIALISER, &error);
    float *values = malloc(FAKE_ELEMENTS * sizeof *values);
    ck_assert(client && values);
    fill(values, 0);
    ck_assert_msg(lg_push(client, &(struct lg_push){.initial = true}, values, NULL, &error) == LG_OK, "%s",
                  error.message);
    lg_client_close(&client, NULL);
    free(values);
}

/* ---- leases, until there are no more */

static enum lg_status train_on(struct trainer *trainer, struct lg_client *client, const struct lg_lease *lease,
                               float *parameters, float *gradients, struct lg_error *error) {
    enum lg_status status = LG_OK;
    for (uint64_t first = lease->first; status == LG_OK && first < lease->end;) {
        uint64_t batch = BATCH - trainer->index;
        uint64_t end = first + batch < lease->end ? first + batch : lease->end;
        const struct lg_push push = {.samples = end - first,
                                     .lease = lease->lease,
                                     .fence = lease->fence,
                                     .first = first,
                                     .end = end,
                                     .local_steps = 1};
        status = lg_pull(client, parameters, error);
        nanosleep(&(struct timespec){.tv_nsec = 300000L << trainer->index}, NULL); /* each half as fast as the last */
        if (status == LG_OK)
            status = lg_push(client, &push, gradients, &trainer->last, error);
        trainer->samples += end - first;
        trainer->skipped += trainer->last.dropped ? end - first : 0;
        first = end;
    }
    return status == LG_OK ? lg_lease_done(client, lease, error) : status;
}

static void *take_leases(void *context) {
    struct trainer *trainer = context;
    struct lg_error error = {0};
    struct lg_lease lease = {0};
    struct lg_client *client = open_client(trainer->cluster, LG_ROLE_TRAINER, &error);
    float *parameters = calloc(FAKE_ELEMENTS, sizeof *parameters), *gradients = calloc(FAKE_ELEMENTS, sizeof(float));
    enum lg_status status = client ? LG_OK : error.status;
    fill(gradients, 1);
    while (status == LG_OK && lease.kind != LG_LEASE_FINISHED) {
        status = lg_lease_next(client, &lease, &error);
        if (status == LG_OK && lease.kind == LG_LEASE_TRAIN)
            status = train_on(trainer, client, &lease, parameters, gradients, &error);
        else if (status == LG_OK && lease.kind == LG_LEASE_INITIALISE) {
            fill(gradients, 0);
            status = lg_push(client, &(struct lg_push){.initial = true}, gradients, NULL, &error);
            fill(gradients, 1);
            if (status == LG_OK)
                status = lg_lease_done(client, &lease, &error);
        }
    }
    if (status != LG_OK)
        snprintf(trainer->failure, sizeof trainer->failure, "%.280s", error.message);
    lg_client_close(&client, NULL);
    free(parameters);
    free(gradients);
    return NULL;
}

static struct fake_cluster *start(enum fake_transport transport, const struct consistency *mode, const char *rate) {
    static struct wire_pair spec[5];
    size_t count = 0;
    spec[count++] = (struct wire_pair){"consistency.mode", mode->name};
    spec[count++] = (struct wire_pair){"lr.base", rate};
    if (consistency_has(mode, CONSISTENCY_TAKES_PUSHES))
        spec[count++] = (struct wire_pair){"consistency.pushes", "2"};
    spec[count] = (struct wire_pair){NULL, NULL};
    return fake_cluster_start_over(transport, spec);
}

START_TEST(every_sample_is_applied_or_given_up) {
    static const enum fake_transport transports[] = {FAKE_TCP, FAKE_LOCAL};
    size_t count;
    const struct consistency *mode = &consistencies(&count)[_i / 2];
    struct fake_cluster *cluster = start(transports[_i % 2], mode, "1");
    struct trainer trainers[CLIENTS];
    struct fake_knobs *knobs = fake_lock(cluster);
    knobs->samples = SAMPLES;
    knobs->slice = SLICE;
    fake_unlock(cluster);
    uint64_t samples = 0, skipped = 0;
    for (uint32_t i = 0; i < CLIENTS; i++) {
        trainers[i] = (struct trainer){.cluster = cluster, .index = i};
        ck_assert_int_eq(pthread_create(&trainers[i].thread, NULL, take_leases, &trainers[i]), 0);
    }
    for (uint32_t i = 0; i < CLIENTS; i++) {
        pthread_join(trainers[i].thread, NULL);
        ck_assert_msg(!trainers[i].failure[0], "%s: %s", mode->name, trainers[i].failure);
        samples += trainers[i].samples;
        skipped += trainers[i].skipped;
    }
    ck_assert_uint_eq(samples, SAMPLES);
    ck_assert_int_eq(skipped > 0, consistency_has(mode, CONSISTENCY_TICKETS));
    fake_close_sessions(cluster, "the test is over");
    for (unsigned shard = 0; shard < FAKE_SHARDS; shard++) {
        struct wire_shard_job_stats stats;
        fake_stats(cluster, shard, &stats);
        ck_assert_uint_eq(stats.samples, SAMPLES - skipped);
        ck_assert_uint_eq(stats.dropped, skipped);
        ck_assert(!consistency_has(mode, CONSISTENCY_ROUNDS) || stats.staleness_max == 0);
    }
    bool same = !consistency_has(mode, CONSISTENCY_GATHERS) || consistency_has(mode, CONSISTENCY_ROUNDS);
    for (uint32_t unit = 0; unit < FAKE_UNITS; unit++) { /* as many steps everywhere, where groups do not differ */
        ck_assert(fake_value(cluster, unit) < 0);
        ck_assert(!same || fake_value(cluster, unit) == fake_value(cluster, 0));
    }
    fake_cluster_stop(cluster);
}
END_TEST

/* ---- steps by heart */

static double target_of(uint32_t index) {
    return 1 + 2 * (double)index;
}

/* w - target, over 1, 2, 3 samples. */
static void *take_steps(void *context) {
    struct trainer *trainer = context;
    struct lg_error error = {0};
    struct lg_client *client = open_client(trainer->cluster, LG_ROLE_TRAINER, &error);
    float *parameters = calloc(FAKE_ELEMENTS, sizeof *parameters), *gradients = calloc(FAKE_ELEMENTS, sizeof(float));
    enum lg_status status = client ? LG_OK : error.status;
    for (int step = 0; status == LG_OK && step < STEPS; step++) {
        status = lg_pull(client, parameters, &error);
        if (step == 0)
            pthread_barrier_wait(trainer->barrier); /* all have read: all are in the first round */
        fill(gradients, parameters[FAKE_ELEMENTS - 1] - (float)target_of(trainer->index));
        const struct lg_push push = {.samples = 1 + trainer->index, .local_steps = 1};
        if (status == LG_OK)
            status = lg_push(client, &push, gradients, NULL, &error);
    }
    if (status != LG_OK)
        snprintf(trainer->failure, sizeof trainer->failure, "%.280s", error.message);
    pthread_barrier_wait(trainer->barrier); /* nobody leaves before the last round */
    lg_client_close(&client, NULL);
    free(parameters);
    free(gradients);
    return NULL;
}

START_TEST(bsp_is_one_trainer_with_all_samples) {
    static const enum fake_transport transports[] = {FAKE_TCP, FAKE_LOCAL};
    struct fake_cluster *cluster = start(transports[_i], consistency_find("bsp"), "0.01");
    struct trainer trainers[CLIENTS];
    pthread_barrier_t barrier;
    pthread_barrier_init(&barrier, NULL, CLIENTS);
    initialise(cluster);
    for (uint32_t i = 0; i < CLIENTS; i++) {
        trainers[i] = (struct trainer){.cluster = cluster, .index = i, .barrier = &barrier};
        ck_assert_int_eq(pthread_create(&trainers[i].thread, NULL, take_steps, &trainers[i]), 0);
    }
    for (uint32_t i = 0; i < CLIENTS; i++) {
        pthread_join(trainers[i].thread, NULL);
        ck_assert_msg(!trainers[i].failure[0], "%s", trainers[i].failure);
    }
    double w = 0, mean = 0, weights = 0;
    for (uint32_t i = 0; i < CLIENTS; i++) {
        mean += (1 + (double)i) * target_of(i);
        weights += 1 + (double)i;
    }
    mean /= weights;
    for (int step = 0; step < STEPS; step++)
        w -= 0.01 * (w - mean);
    for (uint32_t unit = 0; unit < FAKE_UNITS; unit++)
        ck_assert_msg(fabs((double)fake_value(cluster, unit) - w) < 1e-4, "unit %u is %g, not %g", unit,
                      (double)fake_value(cluster, unit), w);
    struct wire_shard_job_stats stats;
    fake_stats(cluster, 0, &stats);
    ck_assert_uint_eq(stats.pushes, CLIENTS * STEPS);
    ck_assert_uint_eq(stats.staleness_max, 0);
    pthread_barrier_destroy(&barrier);
    fake_cluster_stop(cluster);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("modes");
    TCase *tests = tcase_create("modes");
    size_t count;
    consistencies(&count);
    tcase_set_timeout(tests, 120);
    tcase_add_loop_test(tests, every_sample_is_applied_or_given_up, 0, 2 * (int)count);
    tcase_add_loop_test(tests, bsp_is_one_trainer_with_all_samples, 0, 2);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
