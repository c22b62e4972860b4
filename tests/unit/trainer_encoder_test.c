/* Gradients encoded on a device, whose memory the host is made to believe it cannot read, against the codecs
 * themselves: what is sent, and what is kept back whatever becomes of pushes. The client is played by the test. */
#include "worker/trainer_encoder.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "common/random.h"

#ifndef DEVICE_TESTED
#define DEVICE_TESTED "cpu"
#endif

enum { WIDTH = 1800, HIDDEN = 40, CLASSES = 10, UNITS = 5, STEPS = 14 };
enum { ELEMENTS = WIDTH * HIDDEN + HIDDEN + HIDDEN * CLASSES + CLASSES };

struct lg_client {
    struct lg_encoding how;
    struct block_table units;
    bool encodes, plain[4];
    uint64_t clock;
    float residual[ELEMENTS];
};
static struct lg_client client;

bool lg_client_encoding(const struct lg_client *c, struct lg_encoding *out) {
    *out = c->how;
    return c->encodes;
}

uint64_t lg_push_key(const struct lg_client *c, uint32_t unit) {
    return random_mix(c->clock, unit);
}

float *lg_client_residual(struct lg_client *c, uint64_t *elements) {
    *elements = c->how.codec->feedback ? ELEMENTS : 0;
    return c->how.codec->feedback ? c->residual : NULL;
}

float *lg_gradient_buffer(struct lg_client *c, size_t index) {
    (void)c;
    (void)index;
    return NULL;
}

static struct device *device;
static struct model *model;
static struct trainer_encoder encoder;
static float lent_memory[LG_GRADIENT_BUFFERS][ELEMENTS], *const lent[] = {lent_memory[0], lent_memory[1]};
static size_t lent_count;

static void start(const char *codec, size_t pushes) {
    static const struct dataset_info info = {.form = DATASET_DENSE, .width = WIDTH, .classes = CLASSES};
    struct config *config = config_new();
    struct lg_error error = {0};
    ck_assert_int_eq(config_set(config, "model.kind", "mlp", "test", NULL), LG_OK);
    ck_assert_int_eq(config_set(config, "model.hidden", "40", "test", NULL), LG_OK);
    ck_assert_msg(device_open(DEVICE_TESTED, 1, &device, &error) == LG_OK, "%s", error.message);
    ck_assert_msg(model_create(config, &info, device, 1, &model, &error) == LG_OK, "%s", error.message);
    config_free(config);
    ck_assert_uint_eq(model->elements, ELEMENTS);
    device->host_memory = false;
    ck_assert_int_eq(codec_find(codec, &client.how.codec, NULL), LG_OK);
    ck_assert_int_eq(block_table_init(&client.units, model->tensors, model->tensor_count, NULL), LG_OK);
    ck_assert_uint_eq(client.units.count, UNITS);
    client.how.options.keep = 0.03;
    client.how.units = &client.units;
    client.how.plain = client.plain;
    client.encodes = true;
    ck_assert(trainer_encoder_wanted(model, &client));
    ck_assert_msg(trainer_encoder_init(&encoder, model, &client, pushes, lent, lent_count, &error) == LG_OK, "%s",
                  error.message);
}

static void stop(void) {
    trainer_encoder_deinit(&encoder);
    block_table_deinit(&client.units);
    model_destroy(model);
    device_close(device);
}

/* The same with the codecs themselves. */
static struct {
    float residual[ELEMENTS], rates[UNITS], rates_now[UNITS];
    struct made {
        float values[ELEMENTS];
        uint8_t bytes[UNITS][BLOCK_ELEMENTS * sizeof(float)];
        size_t lengths[UNITS];
        struct lg_encoded_unit *encoded; /* the encoder's */
    } made[2];
} reference;

static void draw(uint64_t seed, float *values) {
    struct random random;
    random_init(&random, seed);
    for (size_t i = 0; i < ELEMENTS; i++)
        values[i] = random_normal(&random);
}

static bool is_plain(uint32_t unit) {
    return client.plain[client.units.blocks[unit].tensor];
}

static void encode(struct made *made) {
    for (uint32_t i = 0; i < UNITS; i++) {
        const struct block *unit = &client.units.blocks[i];
        float *residual = reference.residual + unit->offset;
        struct codec_options options = client.how.options;
        options.key = lg_push_key(&client, i);
        const float factor = codec_follow_rate(&reference.rates[i], reference.rates_now[i]);
        for (uint32_t j = 0; j < unit->elements; j++)
            residual[j] *= factor;
        if (!is_plain(i))
            made->lengths[i] = client.how.codec->kernels[ISA_BASE]->encode(made->values + unit->offset, residual,
                                                                           unit->elements, &options, made->bytes[i]);
    }
}

static void settle(struct made *made, float weight, float rate) {
    for (uint32_t i = 0; i < UNITS; i++) {
        const struct block *unit = &client.units.blocks[i];
        made->encoded[i].weight = i % 2 ? weight : 1; /* shards differ */
        made->encoded[i].rate = rate;
        reference.rates_now[i] = rate > 0 ? rate : reference.rates_now[i];
        if (client.how.codec->feedback && !is_plain(i) && i % 2 && weight != 1)
            codec_take_back(client.how.codec, ISA_BASE, made->bytes[i], unit->elements, 1 - weight,
                            made->values + unit->offset, reference.residual + unit->offset);
    }
    trainer_encoder_settle(&encoder);
}

/* One push up to where it is on its way. */
static void push(struct made *made) {
    static float plain[ELEMENTS];
    static const size_t buckets[][2] = {{2, 2}, {0, 2}}; /* tensors: the last ones first */
    size_t first, count;
    draw(++client.clock, made->values);
    memset(plain, 0, sizeof plain);
    trainer_encoder_turn(&encoder);
    device->ops->upload(model->stream, sizeof made->values, made->values, model->gradients);
    made->encoded = trainer_encoder_begin(&encoder, &client);
    encode(made);
    for (size_t b = 0; b < 2; b++)
        ck_assert_int_eq(trainer_encoder_fetch(&encoder, buckets[b][0], buckets[b][1], plain, NULL), LG_OK);
    for (size_t b = 0; b < 2; b++) {
        ck_assert_int_eq(trainer_encoder_arrive(&encoder, &first, &count, NULL), LG_OK);
        ck_assert(first == buckets[b][0] && count == buckets[b][1]);
    }
    ck_assert_int_eq(trainer_encoder_arrive(&encoder, &first, &count, NULL), LG_OK);
    ck_assert_uint_eq(count, 0);
    for (uint32_t i = 0; i < UNITS; i++) {
        const struct block *unit = &client.units.blocks[i];
        if (is_plain(i)) {
            ck_assert_mem_eq(plain + unit->offset, made->values + unit->offset, unit->elements * sizeof(float));
            continue;
        }
        ck_assert(plain[unit->offset] == 0);
        ck_assert_uint_eq(made->encoded[i].bytes, made->lengths[i]);
        ck_assert_mem_eq(made->encoded[i].data, made->bytes[i], made->lengths[i]);
    }
}

/* Dropped pushes, weighted ones, learning rates that change; one push at a time, and one behind the other. */
static void live_through(size_t depth) {
    static const float weights[] = {1, 0.5f, 0, 1, 0.125f, 0.75f, 0}, rates[] = {0.5f, 0.5f, 0.25f, 0, 1};
    for (uint64_t step = 0, settled = 0; settled < STEPS; settled++) {
        while (step < STEPS && step < settled + depth)
            push(&reference.made[step++ % depth]);
        settle(&reference.made[settled % depth], weights[settled % 7], rates[settled % 5]);
    }
    ck_assert_int_eq(trainer_encoder_hand_over(&encoder, &client, NULL), LG_OK);
    ck_assert_mem_eq(client.residual, reference.residual, sizeof client.residual);
}

START_TEST(bits_are_the_codecs_whatever_becomes_of_pushes) {
    size_t count;
    const struct codec *codec = codecs(&count)[_i / 2];
    if (codec->exact)
        return;
    start(codec->name, (size_t)(1 + _i % 2));
    live_through((size_t)(1 + _i % 2));
    stop();
}
END_TEST

/* One buffer is lent for two pushes: the other's bytes lie elsewhere. */
START_TEST(bytes_lie_in_the_clients_memory_where_they_fit) {
    static const size_t most[] = {0, 1, 2};
    for (size_t i = 0; i < 3; i++) {
        memset(&reference, 0, sizeof reference);
        lent_count = most[i];
        start("int8", 2);
        for (size_t p = 0; p < 2; p++)
            ck_assert_int_eq((void *)encoder.pushes[p].host.bytes == (void *)lent[p], p < lent_count);
        live_through(2);
        trainer_encoder_leave(&encoder);
        stop();
    }
    client.plain[0] = true; /* plain gradients lie there */
    start("int8", 2);
    ck_assert_ptr_ne(encoder.pushes[0].host.bytes, (void *)lent[0]);
    stop();
}
END_TEST

START_TEST(tensors_that_the_codec_is_not_for_go_plain) {
    client.plain[_i] = true;
    start(_i % 2 ? "topk" : "onebit", 1);
    ck_assert(encoder.some_plain);
    live_through(1);
    stop();
}
END_TEST

START_TEST(what_another_trainer_has_left_is_gone_on_with) {
    draw(99, client.residual);
    memcpy(reference.residual, client.residual, sizeof client.residual);
    start("topk", 2);
    memset(client.residual, 0, sizeof client.residual);
    live_through(2);
    stop();
}
END_TEST

START_TEST(clients_of_devices_in_host_memory_encode) {
    start("topk", 1);
    device->host_memory = true;
    ck_assert(!trainer_encoder_wanted(model, &client));
    device->host_memory = client.encodes = false;
    ck_assert(!trainer_encoder_wanted(model, &client));
    stop();
}
END_TEST

/* The n-th allocation of device memory fails, for every n. */
static int allocations;
static const struct device_ops *real;

static void *alloc_some(struct device *d, size_t bytes) {
    return allocations-- > 0 ? real->alloc(d, bytes) : NULL;
}

START_TEST(no_memory_is_said) {
    struct lg_error error = {0};
    struct device_ops some;
    int n = 0;
    start("topk", 1);
    trainer_encoder_deinit(&encoder);
    real = device->ops;
    some = *real;
    some.alloc = alloc_some;
    device->ops = &some;
    for (enum lg_status status = LG_NO_MEMORY; status != LG_OK; n++) {
        allocations = n;
        status = trainer_encoder_init(&encoder, model, &client, 2, NULL, 0, &error);
        ck_assert(status == LG_OK || status == LG_NO_MEMORY);
        ck_assert(status == LG_OK || strstr(error.message, "as topk on device"));
        trainer_encoder_deinit(&encoder);
    }
    ck_assert_int_eq(n, 1 + 4); /* the residual, two blocks, values of the second push */
    device->ops = real;
    stop();
}
END_TEST

/* Whether the model's stream knows that values are still being read. */
static bool taking_back, noted;

static void see_take_back(struct device_stream *stream, const struct codec *codec, size_t count,
                          const struct device_unit *units, const float *shares, const uint8_t *bytes,
                          const float *values, float *residual) {
    real->take_back(stream, codec, count, units, shares, bytes, values, residual);
    taking_back = true;
    noted = false;
}

static void see_record(struct device_stream *stream, struct device_event *event) {
    real->event_record(stream, event);
    noted = noted || (stream == encoder.stream && event == encoder.settled);
}

static void see_wait(struct device_stream *stream, struct device_event *event) {
    real->event_wait(stream, event);
    if (noted && stream == model->stream && event == encoder.settled)
        taking_back = noted = false;
}

/* Also where a push is settled when the turn of the next but one has come, whose values lie where its own do. */
START_TEST(values_are_not_overwritten_before_they_were_taken_back) {
    struct device_ops seen;
    start("onebit", 2);
    real = device->ops;
    seen = *real;
    seen.take_back = see_take_back;
    seen.event_record = see_record;
    seen.event_wait = see_wait;
    device->ops = &seen;
    push(&reference.made[0]);
    push(&reference.made[1]);
    for (size_t i = 0; i < 4; i++) {
        if (i % 2)
            trainer_encoder_turn(&encoder);
        settle(&reference.made[i % 2], 0.5f, 0);
        if (!(i % 2))
            trainer_encoder_turn(&encoder);
        ck_assert_msg(!taking_back, "push %zu", i);
        push(&reference.made[i % 2]);
    }
    device->ops = real;
    stop();
}
END_TEST

int main(void) {
    Suite *suite = suite_create("trainer_encoder");
    TCase *tests = tcase_create("trainer_encoder");
    size_t count;
    codecs(&count);
    tcase_set_timeout(tests, 60);
    tcase_add_loop_test(tests, bits_are_the_codecs_whatever_becomes_of_pushes, 0, 2 * (int)count);
    tcase_add_test(tests, bytes_lie_in_the_clients_memory_where_they_fit);
    tcase_add_loop_test(tests, tensors_that_the_codec_is_not_for_go_plain, 0, 4);
    tcase_add_test(tests, what_another_trainer_has_left_is_gone_on_with);
    tcase_add_test(tests, clients_of_devices_in_host_memory_encode);
    tcase_add_test(tests, no_memory_is_said);
    tcase_add_test(tests, values_are_not_overwritten_before_they_were_taken_back);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
