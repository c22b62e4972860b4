/* bsp with N trainers is one trainer with a batch N times as large: the session and the shard against each other for
 * 200 steps of softmax regression, with momentum, weight decay and a schedule, over one and three shards, in good and
 * bad weather, with batches of the same and of other sizes. What the parameters have to be is computed here, in
 * doubles. */
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/session.h"
#include "server/shard.h"
#include "tests/support/sim_net.h"

enum {
    FEATURES = 20,
    CLASSES = 5,
    ELEMENTS = (FEATURES + 1) * CLASSES,
    TENSORS = 4,
    SHARDS_MAX = 3,
    WORKERS_MAX = 4,
    BATCH = 32, /* of all trainers together */
    STEPS = 200,
    SAMPLES = 1600,
    JOB = 5,
    MAP = 1,
    EVENT_TICK = 1,
    EVENT_CONNECT = 2,
};
#define MS INT64_C(1000000)

static const uint32_t rows[TENSORS] = {8, 7, 5, 1}; /* of features; the last tensor is the bias */

struct bench;

struct worker {
    struct bench *bench;
    uint32_t index;
    uint64_t first, batch; /* its samples within a step's batch */
    struct session *session;
    bool connected[SHARDS_MAX];
    uint32_t connection[SHARDS_MAX];
    int step;
    bool has_pulled;
    enum { WORKER_WANTS, WORKER_PULLS, WORKER_PUSHES } phase;
    uint64_t ticket;
    float parameters[ELEMENTS], gradients[ELEMENTS];
};

struct bench {
    struct sim_net net;
    struct shard *shards[SHARDS_MAX];
    uint32_t shard_count, worker_count;
    struct worker workers[WORKERS_MAX];
};

static float features[SAMPLES][FEATURES];
static int labels[SAMPLES];

static void draw_samples(void) {
    struct random random;
    random_init(&random, 7);
    for (int i = 0; i < SAMPLES; i++) {
        labels[i] = (int)random_below(&random, CLASSES);
        for (int k = 0; k < FEATURES; k++)
            features[i][k] = 2 * random_float(&random) - 1 + (k % CLASSES == labels[i] ? 0.7f : 0);
    }
}

/* ---- the model, in doubles: row `FEATURES` is the bias */

static void sample_gradient(const double *w, uint64_t sample, double *sum) {
    double scores[CLASSES], total = 0;
    for (int c = 0; c < CLASSES; c++) {
        scores[c] = w[FEATURES * CLASSES + c];
        for (int k = 0; k < FEATURES; k++)
            scores[c] += (double)features[sample][k] * w[k * CLASSES + c];
        scores[c] = exp(scores[c]);
        total += scores[c];
    }
    for (int c = 0; c < CLASSES; c++) {
        double error = scores[c] / total - (labels[sample] == c);
        for (int k = 0; k < FEATURES; k++)
            sum[k * CLASSES + c] += error * (double)features[sample][k];
        sum[FEATURES * CLASSES + c] += error;
    }
}

static void mean_gradient(const double *w, uint64_t first, uint64_t count, double *mean) {
    memset(mean, 0, ELEMENTS * sizeof *mean);
    for (uint64_t i = first; i < first + count; i++)
        sample_gradient(w, i % SAMPLES, mean);
    for (int i = 0; i < ELEMENTS; i++)
        mean[i] /= (double)count;
}

static const double rate = 0.2, beta = 0.8, decay = 0.01, warmup = 640;

/* Momentum with decoupled decay (not of the bias), as algorithms of the time are written down. */
static void expected(double *w) {
    double mean[ELEMENTS], m[ELEMENTS] = {0};
    memset(w, 0, ELEMENTS * sizeof *w);
    for (int step = 0; step < STEPS; step++) {
        double seen = (step + 1) * BATCH, eta = seen < warmup ? rate * seen / warmup : rate;
        mean_gradient(w, (uint64_t)(step * BATCH), BATCH, mean);
        for (int i = 0; i < ELEMENTS; i++) {
            double shrink = i < FEATURES * CLASSES ? eta * decay * w[i] : 0;
            m[i] = beta * m[i] + mean[i];
            w[i] -= eta * m[i] + shrink;
        }
    }
}

/* ---- shards */

static void shard_says(void *context, uint64_t route, const struct wire_message *message,
                       struct snapshot *const *snapshots, size_t count) {
    struct bench *bench = context;
    (void)snapshots;
    (void)count;
    if (route == SHARD_ROUTE_CONTROL)
        ck_assert_msg(message->ack.status == LG_OK, "%s", message->ack.reason);
    else
        sim_send(&bench->net, (uint32_t)route - 1, false, message);
}

static void command(struct bench *bench, uint32_t slot, const struct wire_message *message) {
    shard_receive(bench->shards[slot], &(struct shard_input){.route = SHARD_ROUTE_CONTROL, .message = message});
}

static void make_tensors(struct tensor_spec *tensors, uint16_t *placement, uint32_t shards) {
    for (uint32_t i = 0; i < TENSORS; i++) {
        tensors[i] = (struct tensor_spec){.rank = 2, .shape = {rows[i], CLASSES}, .lr_factor = 1};
        tensors[i].no_weight_decay = i == TENSORS - 1;
        snprintf(tensors[i].name, sizeof tensors[i].name, "rows%u", i);
        placement[i] = (uint16_t)(i % shards);
    }
}

static void start_shard(struct bench *bench, uint32_t slot, const char *mode) {
    static const struct wire_pair shared[] = {{"name", "equal"},       {"updater.kind", "momentum"},
                                              {"updater.beta", "0.8"}, {"weight_decay", "0.01"},
                                              {"lr.base", "0.2"},      {"lr.warmup_samples", "640"}};
    struct wire_pair spec[7];
    struct tensor_spec tensors[TENSORS];
    uint16_t placement[TENSORS];
    struct lg_error error = {0};
    const struct shard_config config = {.index = slot,
                                        .credit_bytes = 64 << 20,
                                        .session_credit_bytes = 8 << 20,
                                        .window = 64,
                                        .sessions_max = 8,
                                        .isa = isa_detect()};
    const struct shard_sink sink = {.context = bench, .send = shard_says};
    memcpy(spec, shared, sizeof shared);
    spec[6] = (struct wire_pair){"consistency.mode", mode};
    make_tensors(tensors, placement, bench->shard_count);
    ck_assert_int_eq(shard_new(&config, &sink, &bench->shards[slot], &error), LG_OK);
    const struct wire_message open = {.kind = WIRE_JOB_OPEN,
                                      .job_open = {.job = JOB,
                                                   .name = "equal",
                                                   .shard = slot,
                                                   .slot = slot,
                                                   .epoch = 1,
                                                   .map_version = MAP,
                                                   .spec = spec,
                                                   .spec_count = 7},
                                      .tensors = tensors,
                                      .tensor_count = TENSORS,
                                      .placement = placement,
                                      .placement_count = TENSORS};
    command(bench, slot, &open);
    for (uint64_t i = 0; i < bench->worker_count; i++) {
        const struct wire_message session = {.kind = WIRE_SESSION_OPEN,
                                             .session_open = {.job = JOB,
                                                              .shard = slot,
                                                              .session = 10 + i,
                                                              .incarnation = 1,
                                                              .token = 3,
                                                              .may_push = true,
                                                              .may_initialise = true}};
        command(bench, slot, &session);
    }
}

/* ---- trainers */

static bool worker_send(void *context, uint32_t slot, const struct wire_message *message) {
    struct worker *worker = context;
    if (!worker->connected[slot])
        return false;
    sim_send(&worker->bench->net, worker->connection[slot], true, message);
    return true;
}

static void worker_reopen(void *context, uint32_t slot, const char *why) {
    struct worker *worker = context;
    (void)why;
    if (worker->connected[slot])
        sim_close(&worker->bench->net, worker->connection[slot]);
    worker->connected[slot] = false;
    sim_later(&worker->bench->net, MS, EVENT_CONNECT, worker->index, slot);
}

static void worker_connect(struct worker *worker, uint32_t slot) {
    if (worker->connected[slot])
        return;
    worker->connection[slot] = sim_connect(&worker->bench->net, ((uint64_t)worker->index << 8) | slot);
    worker->connected[slot] = true;
    session_connected(worker->session, slot, worker->bench->net.now_ns);
}

static void start_worker(struct bench *bench, uint32_t index, uint64_t first, uint64_t batch, const char *mode) {
    struct worker *worker = &bench->workers[index];
    struct tensor_spec tensors[TENSORS];
    uint16_t placement[TENSORS];
    struct lg_error error = {0};
    make_tensors(tensors, placement, bench->shard_count);
    *worker = (struct worker){.bench = bench, .index = index, .first = first, .batch = batch, .step = -1};
    const struct session_config config = {.session = 10 + index,
                                          .token = 3,
                                          .job = JOB,
                                          .map_version = MAP,
                                          .incarnation = 1,
                                          .tensors = tensors,
                                          .tensor_count = TENSORS,
                                          .placement = placement,
                                          .placement_count = TENSORS,
                                          .shard_count = bench->shard_count,
                                          .window = 64,
                                          .mode = consistency_find(mode),
                                          .reply_timeout_ms = 300};
    const struct session_sink sink = {.context = worker, .send = worker_send, .reopen = worker_reopen};
    ck_assert_int_eq(session_new(&config, &sink, &worker->session, &error), LG_OK);
    for (uint32_t slot = 0; slot < bench->shard_count; slot++)
        sim_later(&bench->net, MS, EVENT_CONNECT, index, slot);
    sim_later(&bench->net, MS, EVENT_TICK, index, 0);
}

static void push(struct worker *worker, enum wire_push_kind kind) {
    struct lg_error error = {0};
    const struct session_push spec = {.clock = (uint64_t)worker->step + 2,
                                      .kind = kind,
                                      .samples = kind == WIRE_PUSH_KIND_INITIAL ? 0 : worker->batch,
                                      .local_steps = 1,
                                      .gradients = worker->gradients};
    int64_t now_ns = worker->bench->net.now_ns;
    enum lg_status status = session_push_open(worker->session, &spec, now_ns, &worker->ticket, &error);
    ck_assert_msg(status == LG_OK, "%s", error.message);
    session_push_ready(worker->session, 0, TENSORS, now_ns);
    worker->phase = WORKER_PUSHES;
}

static void compute(struct worker *worker) {
    double w[ELEMENTS], mean[ELEMENTS];
    for (int i = 0; i < ELEMENTS; i++)
        w[i] = (double)worker->parameters[i];
    mean_gradient(w, (uint64_t)worker->step * BATCH + worker->first, worker->batch, mean);
    for (int i = 0; i < ELEMENTS; i++)
        worker->gradients[i] = (float)mean[i];
    push(worker, WIRE_PUSH_KIND_GRADIENT);
}

/* The first sets the initial values, which are zero; the others' pulls wait for them. */
static void begin(struct worker *worker) {
    struct lg_error error = {0};
    if (worker->step == -1 && worker->index == 0) {
        push(worker, WIRE_PUSH_KIND_INITIAL);
        return;
    }
    worker->step += worker->step == -1;
    ck_assert_int_eq(session_pull_open(worker->session, worker->parameters, worker->bench->net.now_ns, &error), LG_OK);
    worker->phase = WORKER_PULLS;
}

/* All begin together: who came later would rightly be left out of the first rounds. */
static bool all_have_pulled(const struct bench *bench) {
    for (uint32_t i = 0; i < bench->worker_count; i++)
        if (!bench->workers[i].has_pulled)
            return false;
    return true;
}

static void drive(struct worker *worker) {
    struct session_push_result result = {0};
    struct lg_error error = {0};
    enum lg_status status = LG_OK;
    if (worker->phase == WORKER_PULLS) {
        status = session_pull_poll(worker->session, &error);
        worker->has_pulled = worker->has_pulled || status == LG_OK;
        if (status == LG_OK && all_have_pulled(worker->bench))
            compute(worker);
    } else if (worker->phase == WORKER_PUSHES) {
        status = session_push_poll(worker->session, worker->ticket, &result, &error);
        if (status == LG_OK) {
            ck_assert(!result.dropped);
            worker->step++;
            worker->phase = WORKER_WANTS;
        }
    }
    ck_assert_msg(status == LG_OK || status == LG_UNAVAILABLE, "%s", error.message);
    if (worker->phase == WORKER_WANTS && worker->step < STEPS)
        begin(worker);
}

/* ---- the run */

static void handle(struct bench *bench, const struct sim_event *event) {
    struct wire_message message;
    struct lg_error error = {0};
    uint64_t tag = event->kind == SIM_USER ? event->a << 8 | event->b : bench->net.connections[event->connection].tag;
    struct worker *worker = &bench->workers[tag >> 8];
    uint32_t slot = (uint32_t)(tag & 0xff);
    int64_t now_ns = bench->net.now_ns;
    if (event->kind == SIM_TO_SERVER && sim_message(&bench->net, event, &message, &error))
        shard_receive(bench->shards[slot], &(struct shard_input){now_ns, (uint64_t)event->connection + 1, 0, &message});
    else if (event->kind == SIM_TO_CLIENT && sim_message(&bench->net, event, &message, &error))
        session_receive(worker->session, slot, &message, now_ns);
    else if (event->kind == SIM_BROKEN && worker->connected[slot] && worker->connection[slot] == event->connection) {
        worker->connected[slot] = false;
        session_disconnected(worker->session, slot, now_ns);
        sim_later(&bench->net, MS, EVENT_CONNECT, worker->index, slot);
    } else if (event->kind == SIM_USER && event->what == EVENT_CONNECT)
        worker_connect(worker, slot);
    else if (event->kind == SIM_USER) {
        session_tick(worker->session, now_ns);
        sim_later(&bench->net, 10 * MS, EVENT_TICK, worker->index, 0);
    }
    ck_assert_str_eq(error.message, "");
    for (uint32_t i = 0; i < bench->worker_count; i++)
        drive(&bench->workers[i]);
}

static bool all_done(const struct bench *bench) {
    for (uint32_t i = 0; i < bench->worker_count; i++)
        if (bench->workers[i].step < STEPS)
            return false;
    return true;
}

static void take_parameters(const struct bench *bench, float *out) {
    for (uint32_t unit = 0, at = 0; unit < TENSORS; unit++) {
        uint32_t elements;
        const float *data = shard_unit_data(bench->shards[unit % bench->shard_count], JOB, unit, &elements, NULL);
        memcpy(out + at, data, elements * sizeof *data);
        at += elements;
    }
}

/* Trainers with these batches; the parameters after 200 steps. */
static void run(const char *mode, const uint64_t *batches, uint32_t workers, uint32_t shards, bool storm, float *out) {
    static struct bench bench;
    static const struct sim_weather good = {0, 0, 0, MS / 10, MS}, bad = {15, 15, 5, MS / 10, 5 * MS};
    struct sim_event event;
    uint64_t first = 0;
    memset(&bench, 0, sizeof bench);
    bench.shard_count = shards;
    bench.worker_count = workers;
    sim_net_init(&bench.net, 11, storm ? &bad : &good);
    for (uint32_t slot = 0; slot < shards; slot++)
        start_shard(&bench, slot, mode);
    for (uint32_t i = 0; i < workers; first += batches[i++])
        start_worker(&bench, i, first, batches[i], mode);
    ck_assert_uint_eq(first, BATCH);
    while (!all_done(&bench)) {
        ck_assert(sim_next(&bench.net, &event));
        ck_assert_int_lt(bench.net.now_ns, 2000000 * MS);
        handle(&bench, &event);
        sim_done(&event);
    }
    take_parameters(&bench, out);
    for (uint32_t i = 0; i < workers; i++)
        session_free(bench.workers[i].session);
    for (uint32_t slot = 0; slot < shards; slot++)
        shard_free(bench.shards[slot]);
    sim_net_deinit(&bench.net);
}

static double distance(const float *a, const double *b) {
    double most = 0;
    for (int i = 0; i < ELEMENTS; i++)
        most = fmax(most, fabs((double)a[i] - b[i]));
    return most;
}

static const uint64_t alone[] = {BATCH}, equal[] = {8, 8, 8, 8}, unequal[] = {3, 17, 12}, two[] = {16, 16};
static const struct {
    const uint64_t *batches;
    uint32_t workers;
} crews[] = {{alone, 1}, {equal, 4}, {unequal, 3}, {two, 2}};

START_TEST(n_trainers_are_one_with_a_larger_batch) {
    double wanted[ELEMENTS], largest = 0;
    float one[ELEMENTS], got[ELEMENTS];
    expected(wanted);
    for (int i = 0; i < ELEMENTS; i++)
        largest = fmax(largest, fabs(wanted[i]));
    ck_assert_double_gt(largest, 0.5); /* it has learned something */
    run("async", alone, 1, 1, false, one);
    ck_assert_double_lt(distance(one, wanted), 2e-5);
    for (uint32_t shards = 1; shards <= 3; shards += 2)
        for (int storm = 0; storm < 2; storm++) {
            run("bsp", crews[_i].batches, crews[_i].workers, shards, storm, got);
            double apart = distance(got, wanted);
            ck_assert_msg(apart < 2e-5, "%u trainers, %u shards, %s: %g apart", crews[_i].workers, shards,
                          storm ? "storm" : "calm", apart);
        }
}
END_TEST

START_TEST(other_modes_are_not) {
    double wanted[ELEMENTS];
    float got[ELEMENTS];
    expected(wanted);
    run("async", equal, 4, 1, false, got);
    ck_assert_double_gt(distance(got, wanted), 1e-2);
}
END_TEST

int main(void) {
    draw_samples();
    Suite *suite = suite_create("bsp equivalence");
    TCase *tests = tcase_create("200 steps");
    tcase_set_timeout(tests, 120);
    tcase_add_loop_test(tests, n_trainers_are_one_with_a_larger_batch, 0, sizeof crews / sizeof *crews);
    tcase_add_test(tests, other_modes_are_not);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
