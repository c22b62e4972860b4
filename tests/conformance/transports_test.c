/* Parameters have the same bits whichever way bytes travel: over tcp, ipc and shared memory, copied by the client or by
 * the caller, for every updater, and in every codec. */
#include <check.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "client/lagoon.h"
#include "common/codec.h"
#include "common/random.h"
#include "common/updater.h"
#include "tests/support/fake_cluster.h"
#include "worker/trainer_encoder.h"

enum { STEPS = 24 };

static const char *const names[] = {[FAKE_TCP] = "tcp", [FAKE_IPC] = "ipc", [FAKE_LOCAL] = "shm"};

static void must(enum lg_status status, const struct lg_error *error) {
    ck_assert_msg(status == LG_OK, "%s: %s", lg_status_name(status), error->message);
}

static void draw(struct random *random, float *values) {
    for (size_t i = 0; i < FAKE_ELEMENTS; i++)
        values[i] = random_normal(random);
}

static struct lg_client *open_client(const struct fake_cluster *cluster) {
    struct lg_client_options options = {.coordinator = fake_address(cluster),
                                        .job = "fake",
                                        .role = LG_ROLE_TRAINER,
                                        .trainer = 4,
                                        .token = 5,
                                        .train_samples = 1000,
                                        .test_samples = 10,
                                        .batch = 4,
                                        .timeout_ms = 20000};
    struct lg_client *client = NULL;
    struct lg_error error = {0};
    options.tensors = fake_tensors(&options.tensor_count);
    must(lg_client_open(&options, &client, &error), &error);
    return client;
}

static void initialise(struct lg_client *client, struct random *random, float *gradients) {
    struct lg_error error = {0};
    struct lg_lease lease;
    must(lg_lease_next(client, &lease, &error), &error);
    draw(random, gradients);
    must(lg_push(client, &(struct lg_push){.initial = true}, gradients, NULL, &error), &error);
    must(lg_lease_done(client, &lease, &error), &error);
}

static void wait_for_transport(const struct lg_client *client, const char *name) {
    for (int i = 0; i < 20000 && strcmp(lg_client_transport(client), name) != 0; i++)
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    ck_assert_str_eq(lg_client_transport(client), name);
}

/* A caller that encodes its gradients itself, and keeps what its codec keeps back. */
static struct encoding_caller {
    bool encodes;
    struct lg_encoding how;
    float residual[FAKE_ELEMENTS];
    const float *values;
    struct lg_encoded_unit units[FAKE_UNITS];
    uint8_t bytes[FAKE_ELEMENTS * sizeof(float)];
} caller;

static void caller_encode(const struct lg_client *client, const float *gradients) {
    size_t at = 0;
    caller.values = gradients;
    for (uint32_t i = 0; i < FAKE_UNITS; i++) {
        const struct block *unit = &caller.how.units->blocks[i];
        struct codec_options options = caller.how.options;
        options.key = lg_push_key(client, i);
        caller.units[i] = (struct lg_encoded_unit){.data = caller.bytes + at};
        caller.units[i].bytes = caller.how.codec->kernels[ISA_BASE]->encode(
            gradients + unit->offset, caller.residual + unit->offset, unit->elements, &options, caller.bytes + at);
        at += caller.units[i].bytes;
    }
}

static void caller_settle(void) {
    for (uint32_t i = 0; caller.how.codec->feedback && i < FAKE_UNITS; i++) {
        const struct block *unit = &caller.how.units->blocks[i];
        if (caller.units[i].weight != 1)
            codec_take_back(caller.how.codec, ISA_BASE, caller.units[i].data, unit->elements,
                            1 - caller.units[i].weight, caller.values + unit->offset, caller.residual + unit->offset);
    }
}

/* As callers that copy themselves pull. `buffer` is what the copy goes by. */
static void pull_places(struct lg_client *client, float *buffer, float *copy) {
    struct lg_error error = {0};
    struct lg_place *places;
    size_t count;
    for (must(lg_pull_places(client, true, &places, &count, &error), &error); count > 0;
         must(lg_pull_places(client, true, &places, &count, &error), &error))
        for (size_t i = 0; i < count; i++) {
            ck_assert(places[i].mapping || places[i].values == buffer + places[i].offset);
            (void)lg_place_begin(&places[i]);
            memcpy(copy + places[i].offset, places[i].values, places[i].elements * sizeof *copy);
            (void)lg_place_end(&places[i]);
        }
}

/* A trainer that encodes its gradients on a device, whose memory the host is made to believe it cannot read. */
static struct encoding_device {
    bool encodes;
    struct device *device;
    struct model model; /* of tensors alone */
    struct trainer_encoder encoder;
} trainer;

static void device_open_for(struct lg_client *client) {
    struct lg_error error = {0};
    must(device_open("cpu", 1, &trainer.device, &error), &error);
    trainer.device->host_memory = false;
    const struct device_ops *ops = trainer.device->ops;
    trainer.model = (struct model){.device = trainer.device,
                                   .stream = ops->stream_open(trainer.device),
                                   .elements = FAKE_ELEMENTS,
                                   .gradients = ops->alloc(trainer.device, FAKE_ELEMENTS * sizeof(float))};
    trainer.model.tensors = (struct tensor_spec *)(uintptr_t)fake_tensors(&trainer.model.tensor_count);
    float *lent[] = {lg_gradient_buffer(client, 1)};
    must(trainer_encoder_init(&trainer.encoder, &trainer.model, client, 1, lent, 1, &error), &error);
}

static void device_close_for(void) {
    const struct device_ops *ops = trainer.device->ops;
    float *gradients = trainer.model.gradients;
    trainer_encoder_deinit(&trainer.encoder);
    ops->free(trainer.device, gradients);
    ops->stream_close(trainer.model.stream);
    device_close(trainer.device);
}

static void device_step(struct lg_client *client, int number, const float *gradients, float *parameters) {
    static float drawn[FAKE_ELEMENTS];
    struct lg_error error = {0};
    size_t first, count;
    trainer_encoder_turn(&trainer.encoder);
    gradients = memcpy(drawn, gradients, sizeof drawn); /* the client's buffer is for the bytes */
    memcpy(trainer.model.gradients, gradients, FAKE_ELEMENTS * sizeof *gradients);
    const struct lg_push push = {.samples = 1,
                                 .local_steps = 1,
                                 .encoded = trainer_encoder_begin(&trainer.encoder, client),
                                 .parameters = number % 3 == 2 ? parameters : NULL};
    must(lg_push_start(client, &push, NULL, &error), &error);
    for (size_t tensor = 3; tensor-- > 0;)
        must(trainer_encoder_fetch(&trainer.encoder, tensor, 1, NULL, &error), &error);
    while (trainer_encoder_arrive(&trainer.encoder, &first, &count, &error) == LG_OK && count > 0)
        lg_push_ready(client, first, count);
    if (number % 3 == 1)
        must(lg_pull_start(client, parameters, &error), &error);
    must(lg_push_wait(client, NULL, &error), &error);
    trainer_encoder_settle(&trainer.encoder);
    if (number % 3 == 1)
        must(lg_pull_wait(client, &error), &error);
}

/* Whole pushes, pushes tensor by tensor with a pull behind them, and push and pull in one, in turn. */
static void step(struct lg_client *client, int number, const float *gradients, float *parameters, float *copy) {
    struct lg_push push = {.samples = 1, .local_steps = 1};
    struct lg_error error = {0};
    if (trainer.encodes) {
        device_step(client, number, gradients, parameters);
        return;
    }
    if (caller.encodes) {
        caller_encode(client, gradients);
        push.encoded = caller.units;
        gradients = NULL;
    }
    if (number % 3 == 2) {
        push.parameters = parameters;
        must(lg_push(client, &push, gradients, NULL, &error), &error);
        if (caller.encodes)
            caller_settle();
        return;
    }
    must(lg_push_start(client, &push, gradients, &error), &error);
    for (size_t tensor = 3; tensor-- > 0;)
        lg_push_ready(client, tensor, 1);
    if (number % 3 == 1 && copy)
        must(lg_pull_start_places(client, parameters, &error), &error);
    else if (number % 3 == 1)
        must(lg_pull_start(client, parameters, &error), &error);
    must(lg_push_wait(client, NULL, &error), &error);
    if (caller.encodes)
        caller_settle();
    if (number % 3 == 1 && copy)
        pull_places(client, parameters, copy);
    else if (number % 3 == 1)
        must(lg_pull_wait(client, &error), &error);
}

/* `shm`: shards on this host are read, or read, in place. `places`: the parameters are copied by the caller. */
static float *train(enum fake_transport transport, const struct wire_pair *spec, const char *shm, bool places) {
    struct fake_cluster *cluster = fake_cluster_start_over(transport, spec);
    struct lg_client *client = open_client(cluster);
    float *buffers[] = {lg_gradient_buffer(client, 0), lg_gradient_buffer(client, 1)};
    float *parameters = calloc(FAKE_ELEMENTS, sizeof *parameters);
    float *copy = places ? calloc(FAKE_ELEMENTS, sizeof *copy) : NULL;
    struct lg_error error = {0};
    struct random random;
    ck_assert(buffers[0] && buffers[1] && parameters && (copy || !places));
    memset(caller.residual, 0, sizeof caller.residual);
    caller.encodes = caller.encodes && lg_client_encoding(client, &caller.how);
    if (trainer.encodes)
        device_open_for(client);
    random_init(&random, 11);
    wait_for_transport(client, transport == FAKE_LOCAL ? shm : names[transport]);
    initialise(client, &random, buffers[0]);
    for (int i = 0; i < STEPS; i++) {
        draw(&random, buffers[i % 2]);
        step(client, i, buffers[i % 2], parameters, copy);
    }
    if (places) {
        must(lg_pull_start_places(client, parameters, &error), &error);
        pull_places(client, parameters, copy);
        memcpy(parameters, copy, FAKE_ELEMENTS * sizeof *copy);
    } else
        must(lg_pull(client, parameters, &error), &error);
    lg_client_close(&client, NULL);
    fake_cluster_stop(cluster);
    free(copy);
    if (trainer.encodes)
        device_close_for();
    return parameters;
}

static void compare(const struct wire_pair *spec, const char *shared) {
    float *tcp = train(FAKE_TCP, spec, shared, false);
    const enum fake_transport others[] = {FAKE_IPC, FAKE_LOCAL, FAKE_LOCAL, FAKE_TCP};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        float *other = train(others[i], spec, shared, i >= 2);
        ck_assert_int_eq(memcmp(tcp, other, FAKE_ELEMENTS * sizeof *tcp), 0);
        free(other);
    }
    free(tcp);
}

START_TEST(bits_are_equal_over_tcp_ipc_and_shared_memory) {
    size_t count;
    const struct updater *const *all = updaters(&count);
    compare((const struct wire_pair[]){{"updater.kind", all[_i]->name}, {"lr.base", "0.01"}, {NULL, NULL}}, "shm");
}
END_TEST

START_TEST(pushes_in_a_codec_give_the_same_bits) {
    size_t count;
    compare(
        (const struct wire_pair[]){{"push.codec", codecs(&count)[_i]->name}, {"updater.kind", "adam"}, {NULL, NULL}},
        "shm");
}
END_TEST

/* The weights of pushes differ, as some are computed from older parameters than others. */
START_TEST(callers_that_encode_give_the_same_bits) {
    size_t count;
    const struct codec *codec = codecs(&count)[_i / 2];
    const bool on_device = _i % 2 == 1;
    const struct wire_pair spec[] = {
        {"push.codec", codec->name}, {"codec.topk", "0.05"}, {"staleness.policy", "inverse"},
        {"staleness.shift", "1"},    {"lr.base", "0.1"},     {NULL, NULL}};
    float *expected = train(FAKE_TCP, spec, "shm", false);
    for (int transport = FAKE_TCP; transport <= FAKE_LOCAL; transport++) {
        caller.encodes = !on_device;
        trainer.encodes = on_device && !codec->exact;
        float *got = train((enum fake_transport)transport, spec, "shm", false);
        ck_assert_int_eq(caller.encodes, !codec->exact && !on_device);
        ck_assert_msg(memcmp(expected, got, FAKE_ELEMENTS * sizeof *got) == 0, "%s over %s", codec->name,
                      names[transport]);
        free(got);
    }
    free(expected);
}
END_TEST

/* Differences too, where they save something; shared memory serves what is left of plain f32. */
START_TEST(pulls_in_a_codec_give_the_same_bits) {
    size_t count;
    const struct codec *codec = codecs(&count)[_i];
    if (codec->exact)
        return;
    if (!codec->changes_only)
        compare((const struct wire_pair[]){{"pull.codec", codec->name}, {NULL, NULL}}, "shm");
    compare(
        (const struct wire_pair[]){
            {"push.codec", "int8"}, {"pull.codec", codec->name}, {"pull.delta", "true"}, {NULL, NULL}},
        "tcp");
}
END_TEST

int main(void) {
    size_t count;
    (void)updaters(&count);
    size_t codec_count;
    (void)codecs(&codec_count);
    Suite *suite = suite_create("transports");
    TCase *tests = tcase_create("transports");
    tcase_set_timeout(tests, 120);
    tcase_add_loop_test(tests, bits_are_equal_over_tcp_ipc_and_shared_memory, 0, (int)count);
    tcase_add_loop_test(tests, pushes_in_a_codec_give_the_same_bits, 0, (int)codec_count);
    tcase_add_loop_test(tests, callers_that_encode_give_the_same_bits, 0, 2 * (int)codec_count);
    tcase_add_loop_test(tests, pulls_in_a_codec_give_the_same_bits, 0, (int)codec_count);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
