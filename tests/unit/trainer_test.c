/* The trainer's loop, with real datasets and models, against a client library played by the test: one array of
 * parameters that takes plain gradient steps, at once when a push is whole, and leases from a script. (The lg_
 * functions here take the place of those in the library.) Every call is written down as a letter, so that tests can
 * read the order of things. */
#include "worker/trainer.h"

#include <check.h>
#include <fcntl.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "client/lagoon.h"
#include "common/random.h"

/* tests/gpu/emulated_trainer_test.c names an emulated GPU in its place, and runs what is for devices alone. */
#ifndef DEVICE_TESTED
#define DEVICE_TESTED "cpu"
#endif

enum { SAMPLES = 4096, ELEMENTS_MAX = 300000, SCRIPT_MAX = 16 };

struct lg_client {
    /* what it does */
    struct lg_lease script[SCRIPT_MAX];
    size_t script_next;
    enum lg_status join_status, wait_status; /* of the join; of every push from fail_push on */
    unsigned fail_push;
    unsigned cut_push; /* this push (from 1) is not applied but cut at cut_at; 0: none */
    uint64_t cut_at;
    unsigned terminate_at_push; /* asks the process to stop during this push; 0: never */
    float learning_rate, spoil; /* spoil: added to all pulled values */
    const struct codec *codec;  /* of pushes; NULL: f32 */
    /* what it saw */
    char calls[4096];
    size_t elements, tensor_count;
    float parameters[ELEMENTS_MAX];
    float *pull_target, pulled[ELEMENTS_MAX];
    bool pulling, told, no_gradient_memory, tcp;
    struct block_table units; /* of the codec */
    unsigned encoded;         /* pushes that came so */
    float residual[ELEMENTS_MAX];
    _Alignas(64) float gradient_buffers[LG_GRADIENT_BUFFERS][ELEMENTS_MAX];
    struct fake_push {
        struct lg_push push;
        const float *gradients;
        size_t ready; /* tensors */
        float values[ELEMENTS_MAX];
    } flying[2];
    size_t flying_count, most_flying;
    unsigned pushes, settled, initials, evaluations;
    uint64_t applied[2][SAMPLES]; /* by epoch and position: how often */
    double largest_norm, first_loss, loss, accuracy;
    uint64_t predictions, steps;
    struct lg_client_options options; /* its texts are gone; the job: */
    char job[32];
    char close_reason[480];
    bool open;
};
static struct lg_client fake;

static void note(char letter) {
    size_t used = strlen(fake.calls);
    ck_assert_uint_lt(used + 1, sizeof fake.calls);
    fake.calls[used] = letter;
}

enum lg_status lg_client_open(const struct lg_client_options *options, struct lg_client **out, struct lg_error *error) {
    *out = NULL;
    if (fake.join_status != LG_OK)
        return lg_fail(error, fake.join_status, "the join failed as the test wants it");
    fake.options = *options;
    snprintf(fake.job, sizeof fake.job, "%s", options->job);
    fake.elements = tensor_total_elements(options->tensors, options->tensor_count);
    fake.tensor_count = options->tensor_count;
    ck_assert_uint_le(fake.elements, ELEMENTS_MAX);
    fake.open = true;
    if (fake.codec)
        ck_assert_int_eq(block_table_init(&fake.units, options->tensors, options->tensor_count, NULL), LG_OK);
    *out = &fake;
    return LG_OK;
}

void lg_client_close(struct lg_client **client, const char *reason) {
    if (*client)
        fake.open = false;
    block_table_deinit(&fake.units);
    snprintf(fake.close_reason, sizeof fake.close_reason, "%s", reason ? reason : "");
    *client = NULL;
}

enum lg_status lg_pull_start(struct lg_client *client, float *parameters, struct lg_error *error) {
    (void)error;
    ck_assert(!client->pulling);
    client->pulling = true;
    client->pull_target = parameters;
    memcpy(client->pulled, client->parameters, sizeof client->pulled);
    for (size_t i = 0; i < client->flying_count; i++)
        ck_assert_ptr_ne(client->flying[i].push.parameters, parameters);
    note('p');
    return LG_OK;
}

enum lg_status lg_pull_wait(struct lg_client *client, struct lg_error *error) {
    (void)error;
    ck_assert(client->pulling);
    client->pulling = false;
    for (size_t i = 0; i < client->elements; i++)
        client->pull_target[i] = client->pulled[i] + client->spoil;
    note('P');
    return LG_OK;
}

/* Only for devices with memory of their own: all values at once, from the buffer. */
enum lg_status lg_pull_start_places(struct lg_client *client, float *parameters, struct lg_error *error) {
    ck_assert_str_ne(DEVICE_TESTED, "cpu");
    client->told = false;
    return lg_pull_start(client, parameters, error);
}

enum lg_status lg_pull_places(struct lg_client *client, bool wait, struct lg_place **places, size_t *count,
                              struct lg_error *error) {
    static struct lg_place place;
    if (!wait)
        return LG_UNAVAILABLE;
    *places = &place;
    *count = client->told ? 0 : 1;
    if (client->told)
        return LG_OK;
    client->told = true;
    place = (struct lg_place){.values = client->pull_target, .elements = (uint32_t)client->elements};
    return lg_pull_wait(client, error);
}

/* What arrives of gradients in a codec: encoded by the trainer, or here as the library does it. */
static const float *decode(struct lg_client *client, const struct lg_push *push, const float *gradients) {
    static float decoded[ELEMENTS_MAX];
    static uint8_t bytes[BLOCK_ELEMENTS * sizeof(float)];
    memset(decoded, 0, sizeof decoded);
    for (uint32_t i = 0; i < client->units.count; i++) {
        const struct block *unit = &client->units.blocks[i];
        const uint64_t at = unit->offset;
        const struct codec_options options = {.keep = 0.1, .key = lg_push_key(client, i)};
        if (!push->encoded)
            (void)client->codec->kernels[ISA_BASE]->encode(gradients + at, client->residual + at, unit->elements,
                                                           &options, bytes);
        codec_add(client->codec, ISA_BASE, push->encoded ? push->encoded[i].data : bytes, unit->elements, decoded + at);
    }
    client->encoded += push->encoded != NULL;
    return decoded;
}

static void apply(struct lg_client *client, const struct lg_push *push, const float *gradients) {
    double sum = 0;
    if (client->codec)
        gradients = decode(client, push, gradients);
    for (size_t i = 0; i < client->elements; i++) {
        client->parameters[i] -= push->delta ? -gradients[i] : client->learning_rate * gradients[i];
        sum += (double)gradients[i] * (double)gradients[i];
    }
    client->largest_norm = fmax(client->largest_norm, sqrt(sum));
    ck_assert_uint_eq(push->samples, push->end - push->first);
    for (uint64_t i = push->first; i < push->end; i++)
        client->applied[push->epoch][i]++;
}

const char *lg_client_transport(const struct lg_client *client) {
    return client->tcp ? "tcp" : "shm";
}

const struct tensor_spec *lg_client_tensors(const struct lg_client *client, size_t *count) {
    (void)client;
    *count = 0;
    return NULL;
}

bool lg_client_encoding(const struct lg_client *client, struct lg_encoding *out) {
    static const bool plain[16];
    *out = (struct lg_encoding){client->codec, {.keep = 0.1}, &client->units, plain};
    return client->codec != NULL;
}

uint64_t lg_push_key(const struct lg_client *client, uint32_t unit) {
    return random_mix(client->pushes, unit);
}

float *lg_client_residual(struct lg_client *client, uint64_t *elements) {
    const bool keeps = client->codec && client->codec->feedback;
    *elements = keeps ? client->elements : 0;
    return keeps ? client->residual : NULL;
}

float *lg_gradient_buffer(struct lg_client *client, size_t index) {
    ck_assert_uint_lt(index, LG_GRADIENT_BUFFERS);
    return client->no_gradient_memory ? NULL : client->gradient_buffers[index];
}

static struct fake_push *open_push(struct lg_client *client) {
    ck_assert_uint_gt(client->flying_count, 0);
    return &client->flying[client->flying_count - 1];
}

enum lg_status lg_push_start(struct lg_client *client, const struct lg_push *push, const float *gradients,
                             struct lg_error *error) {
    (void)error;
    ck_assert_uint_lt(client->flying_count, 2);
    ck_assert_ptr_nonnull(push->computed_from);
    ck_assert_ptr_ne(push->computed_from, push->parameters); /* backward still reads it */
    ck_assert(!client->pulling || client->pull_target != push->computed_from);
    for (size_t i = 0; i < client->flying_count; i++) {
        ck_assert_uint_eq(client->flying[i].ready, client->tensor_count);
        ck_assert(client->flying[i].gradients != gradients || push->encoded);
        ck_assert(client->flying[i].push.encoded != push->encoded || !push->encoded);
    }
    struct fake_push *flying = &client->flying[client->flying_count++];
    flying->push = *push;
    flying->gradients = gradients;
    flying->ready = 0;
    if (client->flying_count > client->most_flying)
        client->most_flying = client->flying_count;
    client->pushes++;
    if (client->pushes == client->terminate_at_push)
        raise(SIGTERM);
    note('s');
    return LG_OK;
}

void lg_push_ready(struct lg_client *client, size_t first_tensor, size_t count) {
    ck_assert_uint_le(first_tensor + count, client->tensor_count);
    struct fake_push *push = open_push(client);
    push->ready += count;
    bool fails = client->fail_push && client->pushes >= client->fail_push;
    if (push->ready < client->tensor_count || fails)
        return;
    if (client->pushes != client->cut_push)
        apply(client, &push->push, push->gradients);
    memcpy(push->values, client->parameters, sizeof push->values);
}

enum lg_status lg_push_wait(struct lg_client *client, struct lg_push_result *result, struct lg_error *error) {
    struct lg_push_result outcome = {.weight_min = 1};
    ck_assert_uint_gt(client->flying_count, 0);
    static struct fake_push flying;
    flying = client->flying[0];
    ck_assert_uint_eq(flying.ready, client->tensor_count);
    client->flying[0] = client->flying[1];
    client->flying_count--;
    for (uint32_t i = 0; flying.push.encoded && i < client->units.count; i++) {
        flying.push.encoded[i].weight = client->settled + 1 == client->cut_push ? 0 : 1;
        flying.push.encoded[i].rate = client->learning_rate;
    }
    note('W');
    if (client->fail_push && client->pushes >= client->fail_push)
        return lg_fail(error, client->wait_status, "the push failed as the test wants it");
    if (++client->settled == client->cut_push)
        outcome.cut_count = 1;
    for (size_t i = 0; flying.push.parameters && i < client->elements; i++)
        flying.push.parameters[i] = flying.values[i] + client->spoil;
    if (result)
        *result = outcome;
    return LG_OK;
}

const uint64_t *lg_push_cuts(const struct lg_client *client, size_t *count) {
    *count = 1;
    return &client->cut_at;
}

enum lg_status lg_push(struct lg_client *client, const struct lg_push *push, const float *gradients,
                       struct lg_push_result *result, struct lg_error *error) {
    (void)result;
    (void)error;
    ck_assert(push->initial);
    memcpy(client->parameters, gradients, client->elements * sizeof *gradients);
    client->initials++;
    note('I');
    return LG_OK;
}

enum lg_status lg_lease_next(struct lg_client *client, struct lg_lease *lease, struct lg_error *error) {
    (void)error;
    ck_assert_uint_lt(client->script_next, SCRIPT_MAX);
    ck_assert_uint_eq(client->flying_count, 0);
    *lease = client->script[client->script_next++];
    return LG_OK;
}

enum lg_status lg_lease_done(struct lg_client *client, const struct lg_lease *lease, struct lg_error *error) {
    (void)error;
    ck_assert_uint_eq(client->flying_count, 0);
    ck_assert_uint_eq(lease->lease, client->script[client->script_next - 1].lease);
    note('D');
    return LG_OK;
}

enum lg_status lg_report_evaluation(struct lg_client *client, const struct lg_lease *lease, double loss,
                                    double accuracy, uint64_t predictions, struct lg_error *error) {
    (void)lease;
    (void)error;
    if (client->evaluations++ == 0)
        client->first_loss = loss;
    client->loss = loss;
    client->accuracy = accuracy;
    client->predictions = predictions;
    note('E');
    return LG_OK;
}

void lg_report_progress(struct lg_client *client, const struct lg_progress *progress) {
    client->steps = progress->steps;
    ck_assert(progress->samples_per_second > 0 || progress->samples == 0);
}

/* ---- running a trainer */

static int numbers_fd, their_fd; /* the agent's end, the trainer's */

static void setup(void) {
    int pair[2];
    if (!getenv("V"))
        dup2(open("/dev/null", O_WRONLY), STDERR_FILENO);
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    numbers_fd = pair[0];
    their_fd = pair[1];
    memset(&fake, 0, sizeof fake);
    fake.learning_rate = 0.1F;
}

static const char *const defaults[][2] = {
    {"name", "test"},           {"model.kind", "softmax"},         {"dataset.kind", "glyphs"},
    {"train.batch", "32"},      {"dataset.train_samples", "4096"}, {"dataset.test_samples", "300"},
    {"dataset.fresh", "no"},    {"updater.kind", "adam"},          {"updater.beta1", "0.8"},
    {"staleness.power", "0.4"}, {"dataset.noise", "0.02"},
};

static const char *device_used = DEVICE_TESTED;

/* Runs a trainer on the default job with some keys set to something else (key NULL: none). */
static int run_with(const char *const (*keys)[2], size_t count) {
    struct trainer_handover handover = {
        .coordinator = "tcp://127.0.0.1:1",
        .job_name = "test",
        .job = 5,
        .trainer = 6,
        .threads = 1,
        .slowdown = 1,
        .log_level = "info",
        .agent_pid = 1,
        .token = 77,
        .spec = config_new(),
    };
    snprintf(handover.device, sizeof handover.device, "%s", device_used);
    for (size_t i = 0; i < sizeof defaults / sizeof *defaults; i++)
        ck_assert_int_eq(config_set(handover.spec, defaults[i][0], defaults[i][1], "job", NULL), LG_OK);
    for (size_t i = 0; i < count; i++)
        if (keys[i][0])
            ck_assert_int_eq(config_set(handover.spec, keys[i][0], keys[i][1], "job", NULL), LG_OK);
    int code = trainer_run(&handover, their_fd);
    trainer_handover_deinit(&handover);
    return code;
}

static int run(const char *key, const char *value) {
    return run_with((const char *const[][2]){{key, value}}, 1);
}

static const struct lg_lease initialise = {.kind = LG_LEASE_INITIALISE, .lease = 1};
static const struct lg_lease evaluate = {.kind = LG_LEASE_EVALUATE, .lease = 2, .epoch = 1};
static const struct lg_lease finished = {.kind = LG_LEASE_FINISHED};

static struct lg_lease train(uint64_t epoch, uint64_t first, uint64_t end) {
    return (struct lg_lease){.kind = LG_LEASE_TRAIN, .lease = 3, .epoch = epoch, .first = first, .end = end};
}

static void script(const struct lg_lease *leases, size_t count) {
    memcpy(fake.script, leases, count * sizeof *leases);
    fake.script[count] = finished;
}

/* All that the trainer wrote for its agent (static). */
static const char *told(void) {
    static char text[100000];
    ssize_t count = recv(numbers_fd, text, sizeof text - 1, MSG_DONTWAIT);
    text[count > 0 ? count : 0] = '\0';
    return text;
}

/* Plain local steps whose results are added make what the same steps on a shard make. */
START_TEST(local_steps_lead_where_steps_lead) {
    const struct lg_lease leases[] = {initialise, train(0, 0, 2048), train(0, 2048, 4000), evaluate};
    double loss[2];
    for (int i = 0; i < 2; i++) {
        memset(&fake, 0, sizeof fake);
        fake.learning_rate = 0.01F; /* as local.lr */
        fake.tcp = _i == 1;
        script(leases, 4);
        ck_assert_int_eq(run(i == 1 ? "train.local_steps" : NULL, "5"), TRAINER_EXIT_DONE);
        ck_assert_uint_eq(fake.pushes, i == 1 ? 13 + 13 : 64 + 61); /* of 160 samples, the last ones of fewer */
        ck_assert_uint_eq(fake.steps, 125);
        for (size_t at = 0; at < 4000; at++)
            ck_assert_uint_eq(fake.applied[0][at], 1);
        loss[i] = fake.loss;
    }
    ck_assert_double_eq_tol(loss[0], loss[1], 1e-4);
}
END_TEST

/* Batches in pieces lead where whole ones do: in every way of training, and where gradients are clipped. Batches
 * of 32 go in pieces of 11, 11 and 10, the last one in two of 11. */
START_TEST(batches_in_pieces_lead_where_whole_batches_do) {
    static const char *const ways[][2] = {{NULL, NULL},
                                          {"train.pipeline", "2"},
                                          {"train.local_steps", "3"},
                                          {"train.clip", "tensor"},
                                          {"train.clip", "global"}};
    const struct lg_lease leases[] = {initialise, train(0, 0, 2048), train(0, 2048, 3990), evaluate};
    static float whole[ELEMENTS_MAX];
    double loss = 0, norm = 0, accuracy = 0;
    for (int pieces = 0; pieces < 2; pieces++) {
        memset(&fake, 0, sizeof fake);
        fake.learning_rate = 0.03F;
        script(leases, 4);
        const char *const keys[][2] = {{ways[_i][0], ways[_i][1]}, {"train.micro_batch", pieces ? "11" : "0"}};
        ck_assert_int_eq(run_with(keys, 2), TRAINER_EXIT_DONE);
        for (size_t at = 0; at < 3990; at++)
            ck_assert_uint_eq(fake.applied[0][at], 1);
        ck_assert_uint_eq(fake.steps, 125);
        ck_assert_uint_eq(fake.predictions, 300);
        if (pieces) {
            for (size_t i = 0; i < fake.elements; i++)
                ck_assert_float_eq_tol(fake.parameters[i], whole[i], 1e-5F * fmaxf(1, fabsf(whole[i])));
            ck_assert_double_eq_tol(fake.loss, loss, 1e-5 * loss);
            ck_assert_double_eq_tol(fake.accuracy, accuracy, 1e-9);
            ck_assert_double_eq_tol(fake.largest_norm, norm, 1e-5 * norm);
        }
        memcpy(whole, fake.parameters, sizeof whole);
        loss = fake.loss, norm = fake.largest_norm, accuracy = fake.accuracy;
    }
}
END_TEST

START_TEST(learns_and_evaluates) {
    const struct lg_lease leases[] = {initialise, evaluate, train(0, 0, 2048), train(0, 2048, 4096), evaluate};
    script(leases, 5);
    fake.tcp = _i == 1;
    ck_assert_int_eq(run(NULL, NULL), TRAINER_EXIT_DONE);
    ck_assert_uint_eq(fake.initials, 1);
    ck_assert_uint_eq(fake.pushes, 128);
    ck_assert_uint_eq(fake.steps, 128);
    for (size_t i = 0; i < SAMPLES; i++)
        ck_assert_uint_eq(fake.applied[0][i], 1);
    ck_assert_uint_eq(fake.predictions, 300);
    ck_assert_double_lt(fake.loss, 0.6 * fake.first_loss);
    ck_assert_double_gt(fake.accuracy, 0.5);
    ck_assert(!fake.open);
    ck_assert_uint_eq(fake.options.train_samples, 4096);
    ck_assert_uint_eq(fake.options.test_samples, 300);
    ck_assert_uint_eq(fake.options.token, 77);
    ck_assert_str_eq(fake.job, "5");
    ck_assert_ptr_nonnull(strstr(told(), "state=training"));
}
END_TEST

START_TEST(the_next_pull_is_asked_for_before_the_push_is_waited_for) {
    const struct lg_lease leases[] = {initialise, train(0, 0, 96), train(1, 0, 32)};
    script(leases, 3);
    fake.tcp = _i == 1;
    ck_assert_int_eq(run("train.push_pull", _i == 1 ? "no" : "auto"), TRAINER_EXIT_DONE);
    ck_assert_str_eq(fake.calls, "ID"
                                 "pPspWPspWPsWD"
                                 "pPsWD");
    ck_assert_uint_eq(fake.most_flying, 1);
}
END_TEST

START_TEST(pushes_bring_the_next_steps_parameters) {
    const struct lg_lease leases[] = {initialise, train(0, 0, 96), train(1, 0, 32)};
    script(leases, 3);
    fake.tcp = _i == 1;
    ck_assert_int_eq(run("train.push_pull", _i == 1 ? "auto" : "yes"), TRAINER_EXIT_DONE);
    ck_assert_str_eq(fake.calls, "ID"
                                 "pPsWsWsWD"
                                 "pPsWD");
    ck_assert_uint_eq(fake.most_flying, 1);
}
END_TEST

START_TEST(a_deeper_pipeline_asks_before_it_computes_and_waits_a_step_later) {
    const struct lg_lease leases[] = {initialise, train(0, 0, 128), train(1, 0, 32)};
    script(leases, 3);
    ck_assert_int_eq(run("train.pipeline", "2"), TRAINER_EXIT_DONE);
    ck_assert_str_eq(fake.calls, "ID"
                                 "pPpsPpsPpWsPWsWWD"
                                 "pPsWD");
    ck_assert_uint_eq(fake.most_flying, 2);
}
END_TEST

START_TEST(a_deeper_pipeline_learns_and_evaluates) {
    const struct lg_lease leases[] = {initialise, evaluate, train(0, 0, 2048), train(0, 2048, 4096), evaluate};
    script(leases, 5);
    fake.learning_rate = 0.03F;        /* stale steps bear less */
    fake.no_gradient_memory = _i == 1; /* then only one push is unsettled */
    ck_assert_int_eq(run("train.pipeline", "2"), TRAINER_EXIT_DONE);
    ck_assert_uint_eq(fake.most_flying, _i == 1 ? 1 : 2);
    for (size_t i = 0; i < SAMPLES; i++)
        ck_assert_uint_eq(fake.applied[0][i], 1);
    ck_assert_double_lt(fake.loss, 0.6 * fake.first_loss);
    ck_assert_double_gt(fake.accuracy, 0.5);
}
END_TEST

START_TEST(batches_end_at_cuts_and_at_the_end) {
    const uint64_t cuts[] = {40, 41};
    struct lg_lease leases[] = {initialise, train(0, 0, 70)};
    leases[1].cuts = cuts;
    leases[1].cut_count = 2;
    script(leases, 2);
    ck_assert_int_eq(run(NULL, NULL), TRAINER_EXIT_DONE);
    ck_assert_uint_eq(fake.pushes, 4); /* 0-32-40-41-70 */
    for (size_t i = 0; i < 70; i++)
        ck_assert_uint_eq(fake.applied[0][i], 1);
}
END_TEST

START_TEST(a_batch_that_straddles_a_mark_is_done_in_pieces) {
    const char *depth = _i == 2 ? "2" : "1";
    for (unsigned push = 1; push <= 3; push++) { /* also the last of the lease */
        const struct lg_lease leases[] = {initialise, train(0, 0, 96)};
        memset(&fake, 0, sizeof fake);
        script(leases, 2);
        fake.tcp = _i == 1;
        fake.cut_push = push;
        fake.cut_at = (push - 1) * 32 + 5;
        ck_assert_int_eq(run("train.pipeline", depth), TRAINER_EXIT_DONE);
        ck_assert_uint_eq(fake.pushes, 5);
        for (size_t i = 0; i < 96; i++)
            ck_assert_uint_eq(fake.applied[0][i], 1);
        ck_assert_ptr_nonnull(strstr(fake.calls, "WD"));
    }
}
END_TEST

START_TEST(clipping_bounds_what_is_pushed) {
    const struct lg_lease leases[] = {initialise, train(0, 0, 256)};
    script(leases, 2);
    ck_assert_int_eq(run(NULL, NULL), TRAINER_EXIT_DONE);
    double unclipped = fake.largest_norm;
    ck_assert_double_gt(unclipped, 1.1);
    memset(&fake, 0, sizeof fake);
    script(leases, 2);
    ck_assert_int_eq(run("train.clip", "global"), TRAINER_EXIT_DONE);
    ck_assert_double_le(fake.largest_norm, 1.0001);
    ck_assert_double_gt(fake.largest_norm, 0.99);
    memset(&fake, 0, sizeof fake);
    script(leases, 2);
    ck_assert_int_eq(run("train.clip", "tensor"), TRAINER_EXIT_DONE);
    ck_assert_double_le(fake.largest_norm, sqrt(2) + 0.0001); /* weight and bias, 1 each */
}
END_TEST

START_TEST(asked_to_stop_it_finishes_the_step) {
    const struct lg_lease leases[] = {initialise, train(0, 0, 4096)};
    script(leases, 2);
    fake.terminate_at_push = 3;
    fake.tcp = _i == 1;
    ck_assert_int_eq(run("train.pipeline", _i == 2 ? "2" : "1"), TRAINER_EXIT_DONE);
    ck_assert_uint_eq(fake.pushes, 3);
    ck_assert_uint_eq(fake.flying_count, 0);
    ck_assert(!fake.pulling);
    for (size_t i = 0; i < SAMPLES; i++)
        ck_assert_uint_eq(fake.applied[0][i], i < 96);
    ck_assert_ptr_null(strchr(fake.calls + 2, 'D')); /* the lease is not whole */
    ck_assert(!fake.open);
}
END_TEST

/* SIGTERM in a while, as likely as not in the middle of a step. */
static void terminate_soon(void) {
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGTERM};
    const struct itimerspec soon = {.it_value = {.tv_sec = 1}};
    timer_t timer;
    signal(SIGTERM, SIG_IGN); /* until the trainer listens */
    ck_assert_int_eq(timer_create(CLOCK_MONOTONIC, &event, &timer), 0);
    ck_assert_int_eq(timer_settime(timer, 0, &soon, NULL), 0);
}

START_TEST(a_slowdown_is_cut_short_by_a_stop) {
    const struct lg_lease leases[] = {initialise, train(0, 0, 4096)};
    struct trainer_handover handover = {.slowdown = 1e6, .threads = 1, .spec = config_new()};
    script(leases, 2);
    snprintf(handover.device, sizeof handover.device, "cpu");
    ck_assert_int_eq(config_set(handover.spec, "model.kind", "softmax", "job", NULL), LG_OK);
    terminate_soon();
    ck_assert_int_eq(trainer_run(&handover, their_fd), TRAINER_EXIT_DONE); /* or the test's time runs out */
    ck_assert_uint_le(fake.pushes, 1);
    trainer_handover_deinit(&handover);
}
END_TEST

START_TEST(ends_tell_what_they_mean) {
    static const struct {
        enum lg_status join, push;
        int code;
    } cases[] = {
        {LG_INVALID, LG_OK, TRAINER_EXIT_CONFIGURATION},   {LG_DENIED, LG_OK, TRAINER_EXIT_FENCED},
        {LG_TIMEOUT, LG_OK, TRAINER_EXIT_FAILED},          {LG_OK, LG_FENCED, TRAINER_EXIT_FENCED},
        {LG_OK, LG_CANCELLED, TRAINER_EXIT_DONE},          {LG_OK, LG_TIMEOUT, TRAINER_EXIT_FAILED},
        {LG_OK, LG_NONFINITE, TRAINER_EXIT_CONFIGURATION}, {LG_OK, LG_INVALID, TRAINER_EXIT_FAILED},
    };
    const struct lg_lease leases[] = {initialise, train(0, 0, 256)};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        memset(&fake, 0, sizeof fake);
        script(leases, 2);
        fake.join_status = cases[i].join;
        fake.wait_status = cases[i].push;
        fake.fail_push = cases[i].push == LG_OK ? 0 : 2;
        ck_assert_int_eq(run(NULL, NULL), cases[i].code);
        bool reason = strstr(told(), "reason the") != NULL;
        ck_assert_int_eq(reason, cases[i].code != TRAINER_EXIT_DONE);
        ck_assert(!fake.open);
    }
}
END_TEST

START_TEST(divergence_is_said) {
    const struct lg_lease leases[] = {initialise, train(0, 0, 256)};
    script(leases, 2);
    fake.spoil = NAN;
    ck_assert_int_eq(run(NULL, NULL), TRAINER_EXIT_CONFIGURATION);
    ck_assert_uint_eq(fake.pushes, 0);
    const char *text = told();
    ck_assert_msg(strstr(text, "reason diverged: the loss of step 1") && strstr(text, "lower lr.base"), "%s", text);
}
END_TEST

START_TEST(bad_jobs_fail_for_good_with_the_reason) {
    static const char *const cases[][3] = {
        {"model.kind", "softmaxx", "softmax"},
        {"dataset.kind", "glyph", "glyphs"},
        {"dataset.nois", "0", "did you mean \"dataset.noise\"?"},
        {"model.hidden", "5", "unknown key \"model.hidden\""},
        {"train.batch", "many", "\"train.batch\" must be"},
        {"dataset.train_samples", "-1", "dataset.train_samples"},
        {"model.kind", "gpt", ""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        ck_assert_msg(run(cases[i][0], cases[i][1]) == TRAINER_EXIT_CONFIGURATION, "%s", cases[i][1]);
        const char *text = told();
        ck_assert_msg(strstr(text, "reason ") && strstr(text, cases[i][2]), "\"%s\" lacks \"%s\"", text, cases[i][2]);
        ck_assert_str_eq(fake.job, ""); /* it never got as far as joining */
    }
}
END_TEST

START_TEST(a_missing_dataset_is_named) {
    const struct lg_lease leases[] = {initialise};
    script(leases, 1);
    struct trainer_handover handover = {.slowdown = 1, .threads = 1, .spec = config_new()};
    snprintf(handover.device, sizeof handover.device, "cpu");
    ck_assert_int_eq(config_set(handover.spec, "dataset.kind", "text", "job", NULL), LG_OK);
    ck_assert_int_eq(config_set(handover.spec, "dataset.path", "no/such/file.txt", "job", NULL), LG_OK);
    ck_assert_int_eq(trainer_run(&handover, their_fd), TRAINER_EXIT_CONFIGURATION);
    const char *text = told();
    ck_assert_msg(strstr(text, "no/such/file.txt") != NULL, "%s", text);
    trainer_handover_deinit(&handover);
}
END_TEST

START_TEST(evaluation_takes_no_more_than_it_is_told) {
    const struct lg_lease leases[] = {initialise, evaluate};
    script(leases, 2);
    ck_assert_int_eq(run("evaluate.samples", "130"), TRAINER_EXIT_DONE);
    ck_assert_uint_eq(fake.predictions, 130);
    memset(&fake, 0, sizeof fake);
    script(leases, 2);
    ck_assert_int_eq(run("evaluate.samples", "100000"), TRAINER_EXIT_DONE);
    ck_assert_uint_eq(fake.predictions, 300);
    memset(&fake, 0, sizeof fake);
    script(leases, 2);
    ck_assert_int_eq(run("dataset.test_samples", "0"), TRAINER_EXIT_DONE);
    ck_assert_uint_eq(fake.evaluations, 1);
    ck_assert_uint_eq(fake.predictions, 0);
}
END_TEST

/* Devices with memory of their own encode what the library would: training goes as it goes on the CPU, where it does.
 * Codecs differ in what they do to a gradient, ways of training in what happens to it before. */
START_TEST(devices_encode_and_lead_where_the_library_does) {
    static const char *const codec_names[] = {"bf16", "int8", "onebit", "topk"};
    static const char *const ways[][2] = {{NULL, NULL},
                                          {"train.pipeline", "2"},
                                          {"train.clip", "tensor"},
                                          {"train.clip", "global"},
                                          {"train.micro_batch", "11"}};
    const struct lg_lease leases[] = {initialise, train(0, 0, 500), evaluate};
    double loss[2], norm[2];
    for (int on_device = 0; on_device < 2; on_device++) {
        memset(&fake, 0, sizeof fake);
        fake.learning_rate = 0.03F;
        fake.cut_push = _i / 4 == 1 ? 0 : 3; /* what a push that is cut would do to the next one is not played */
        fake.cut_at = 70;
        script(leases, 3);
        ck_assert_int_eq(codec_find(codec_names[_i % 4], &fake.codec, NULL), LG_OK);
        device_used = on_device ? DEVICE_TESTED : "cpu";
        const char *const keys[][2] = {{ways[_i / 4][0], ways[_i / 4][1]}, {"dataset.test_samples", "100"}};
        ck_assert_int_eq(run_with(keys, 2), TRAINER_EXIT_DONE);
        for (size_t at = 0; at < 500; at++)
            ck_assert_uint_eq(fake.applied[0][at], 1);
        ck_assert_uint_eq(fake.encoded, on_device ? fake.pushes - (fake.cut_push > 0) : 0);
        loss[on_device] = fake.loss;
        norm[on_device] = fake.largest_norm;
    }
    ck_assert_double_lt(loss[0], 2.2); /* it has learned */
    ck_assert_double_eq_tol(loss[1], loss[0], 0.02 * loss[0]);
    ck_assert_double_eq_tol(norm[1], norm[0], 0.05 * norm[0]);
}
END_TEST

/* What is kept back on the device is left with the client when the trainer is asked to stop. */
START_TEST(a_device_leaves_its_residual) {
    const struct lg_lease leases[] = {initialise, train(0, 0, 4096)};
    double sum = 0;
    script(leases, 2);
    fake.terminate_at_push = 3;
    ck_assert_int_eq(codec_find("topk", &fake.codec, NULL), LG_OK);
    ck_assert_int_eq(run(NULL, NULL), TRAINER_EXIT_DONE);
    ck_assert_uint_eq(fake.encoded, 3);
    for (size_t i = 0; i < fake.elements; i++)
        sum += fabs((double)fake.residual[i]);
    ck_assert_double_gt(sum, 0.01);
}
END_TEST

static void add_tests_of_devices(TCase *tests) {
    tcase_add_loop_test(tests, devices_encode_and_lead_where_the_library_does, 0, 20);
    tcase_add_test(tests, a_device_leaves_its_residual);
    tcase_add_loop_test(tests, the_next_pull_is_asked_for_before_the_push_is_waited_for, 0, 2);
    tcase_add_test(tests, a_deeper_pipeline_asks_before_it_computes_and_waits_a_step_later);
    tcase_add_test(tests, clipping_bounds_what_is_pushed);
}

static void add_tests(TCase *tests) {
    tcase_add_loop_test(tests, learns_and_evaluates, 0, 2);
    tcase_add_loop_test(tests, batches_in_pieces_lead_where_whole_batches_do, 0, 5);
    tcase_add_loop_test(tests, local_steps_lead_where_steps_lead, 0, 2);
    tcase_add_loop_test(tests, the_next_pull_is_asked_for_before_the_push_is_waited_for, 0, 2);
    tcase_add_loop_test(tests, pushes_bring_the_next_steps_parameters, 0, 2);
    tcase_add_test(tests, a_deeper_pipeline_asks_before_it_computes_and_waits_a_step_later);
    tcase_add_loop_test(tests, a_deeper_pipeline_learns_and_evaluates, 0, 2);
    tcase_add_test(tests, batches_end_at_cuts_and_at_the_end);
    tcase_add_loop_test(tests, a_batch_that_straddles_a_mark_is_done_in_pieces, 0, 3);
    tcase_add_test(tests, clipping_bounds_what_is_pushed);
    tcase_add_loop_test(tests, asked_to_stop_it_finishes_the_step, 0, 3);
    tcase_add_test(tests, a_slowdown_is_cut_short_by_a_stop);
    tcase_add_test(tests, ends_tell_what_they_mean);
    tcase_add_test(tests, divergence_is_said);
    tcase_add_test(tests, bad_jobs_fail_for_good_with_the_reason);
    tcase_add_test(tests, a_missing_dataset_is_named);
    tcase_add_test(tests, evaluation_takes_no_more_than_it_is_told);
}

int main(void) {
    Suite *suite = suite_create("trainer");
    TCase *tests = tcase_create("trainer");
    tcase_set_timeout(tests, 60);
    tcase_add_checked_fixture(tests, setup, NULL);
    if (strcmp(DEVICE_TESTED, "cpu") == 0)
        add_tests(tests);
    else
        add_tests_of_devices(tests);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
