/* A trainer's buffers, where the host can read the device's memory and where values are copied. The client is played by
 * the test. */
#include "worker/trainer_buffers.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { GRADIENTS_MAX = 64 };
static _Alignas(64) float lent[LG_GRADIENT_BUFFERS][GRADIENTS_MAX];
static size_t lent_count;

float *lg_gradient_buffer(struct lg_client *client, size_t index) {
    (void)client;
    return index < lent_count ? lent[index] : NULL;
}

/* Pulls bring `brought` everywhere, in places behind the client's buffer. */
static float brought, *pulling, *elsewhere;
static struct lg_place told;
static struct model *model;

enum lg_status lg_pull_start(struct lg_client *client, float *parameters, struct lg_error *error) {
    (void)client;
    (void)error;
    pulling = parameters;
    return LG_OK;
}

enum lg_status lg_pull_wait(struct lg_client *client, struct lg_error *error) {
    (void)client;
    (void)error;
    for (uint64_t i = 0; i < model->elements; i++)
        pulling[i] = brought;
    return LG_OK;
}

enum lg_status lg_pull_start_places(struct lg_client *client, float *parameters, struct lg_error *error) {
    elsewhere = calloc(model->elements, sizeof *elsewhere);
    ck_assert_ptr_nonnull(elsewhere);
    return lg_pull_start(client, parameters, error);
}

enum lg_status lg_pull_places(struct lg_client *client, bool wait, struct lg_place **places, size_t *count,
                              struct lg_error *error) {
    (void)client;
    (void)error;
    *places = &told;
    *count = told.whole ? 0 : 1;
    if (!wait)
        return LG_UNAVAILABLE;
    for (uint64_t i = 0; i < model->elements; i++)
        elsewhere[i] = brought;
    if (told.whole) {
        free(elsewhere);
        told.whole = false;
    } else
        told = (struct lg_place){.values = elsewhere, .elements = (uint32_t)model->elements};
    return LG_OK;
}

static struct device *device;
static struct trainer_buffers buffers;

/* A softmax of 4 features and 3 classes: 15 parameters. With `apart` the host is made to believe that it cannot read
 * the device's memory. */
static void open_buffers(bool apart, size_t memory, size_t wanted) {
    static const struct dataset_info info = {.form = DATASET_DENSE, .width = 4, .classes = 3};
    struct config *config = config_new();
    struct lg_error error = {0};
    ck_assert_int_eq(config_set(config, "model.kind", "softmax", "test", NULL), LG_OK);
    ck_assert_int_eq(device_open("cpu", 1, &device, NULL), LG_OK);
    device->host_memory = !apart;
    ck_assert_msg(model_create(config, &info, device, 2, &model, &error) == LG_OK, "%s", error.message);
    config_free(config);
    ck_assert_uint_le(model->elements, GRADIENTS_MAX);
    ck_assert_int_eq(trainer_buffers_init(&buffers, model, &error), LG_OK);
    lent_count = memory;
    ck_assert_int_eq(trainer_buffers_join(&buffers, NULL, wanted, &error), LG_OK);
}

static void close_buffers(void) {
    trainer_buffers_deinit(&buffers);
    model_destroy(model);
    device_close(device);
}

START_TEST(what_was_filled_ahead_is_computed_from) {
    open_buffers(_i == 1, 2, 1);
    const float *first = buffers.parameters, *second = buffers.ahead, *of_model = model->parameters;
    ck_assert_ptr_ne(first, second);
    for (int round = 0; round < 3; round++) {
        for (uint64_t i = 0; i < model->elements; i++)
            buffers.ahead[i] = (float)(round * 100 + (int)i);
        ck_assert_int_eq(trainer_buffers_adopt(&buffers, NULL), LG_OK);
        ck_assert_ptr_eq(buffers.parameters, round % 2 ? first : second);
        ck_assert_ptr_eq(buffers.ahead, round % 2 ? second : first);
        for (uint64_t i = 0; i < model->elements; i++)
            ck_assert(model->parameters[i] == (float)(round * 100 + (int)i));
        ck_assert(_i == 0 || round % 2 == 0 || model->parameters == of_model);
    }
    close_buffers();
}
END_TEST

/* Parameters that are computed from stay what they are while others are filled in. */
START_TEST(a_pull_fills_what_is_not_computed_from) {
    open_buffers(_i == 1, 2, 1);
    const float *used[2] = {NULL, NULL};
    for (int round = 1; round < 5; round++) {
        brought = (float)round;
        const float *present = model->parameters, *of = buffers.parameters;
        const float before = present[0];
        ck_assert_int_eq(trainer_buffers_pull_start(&buffers, NULL, NULL), LG_OK);
        ck_assert_int_eq(trainer_buffers_pull_go_on(&buffers, NULL, NULL), LG_OK);
        ck_assert_int_eq(trainer_buffers_pull_wait(&buffers, NULL, NULL), LG_OK);
        for (uint64_t i = 0; i < model->elements; i++)
            ck_assert(present[i] == before);
        ck_assert_ptr_eq(model->parameters, present);
        ck_assert_ptr_eq(buffers.parameters, of);
        ck_assert_int_eq(trainer_buffers_adopt(&buffers, NULL), LG_OK);
        ck_assert_ptr_ne(model->parameters, present);
        ck_assert_ptr_ne(buffers.parameters, of);
        ck_assert(!used[round % 2] || used[round % 2] == model->parameters);
        used[round % 2] = model->parameters;
        for (uint64_t i = 0; i < model->elements; i++)
            ck_assert(model->parameters[i] == brought);
    }
    if (_i == 1) { /* what a push has brought lies in the host's buffer, as a whole */
        buffers.ahead[3] = 77;
        ck_assert_int_eq(trainer_buffers_adopt(&buffers, NULL), LG_OK);
        ck_assert(model->parameters[3] == 77);
        ck_assert_uint_eq(buffers.pull.copied_bytes, 4 * model->elements * sizeof(float));
    }
    close_buffers();
}
END_TEST

START_TEST(gradients_take_turns_in_the_clients_memory) {
    open_buffers(false, 2, 2);
    ck_assert_uint_eq(buffers.gradient_count, 2);
    const float *last = buffers.gradients;
    for (int turn = 0; turn < 4; turn++) {
        trainer_buffers_turn(&buffers);
        ck_assert_ptr_ne(buffers.gradients, last);
        ck_assert(buffers.gradients == lent[0] || buffers.gradients == lent[1]);
        ck_assert_ptr_eq(model->gradients, buffers.gradients);
        last = buffers.gradients;
    }
    close_buffers();
}
END_TEST

START_TEST(without_the_clients_memory_there_is_one_buffer) {
    open_buffers(_i == 1, 0, 2);
    ck_assert_uint_eq(buffers.gradient_count, 1);
    ck_assert_ptr_nonnull(buffers.gradients);
    ck_assert_int_eq(buffers.gradients == model->gradients, _i == 0);
    const float *only = buffers.gradients;
    trainer_buffers_turn(&buffers);
    ck_assert_ptr_eq(buffers.gradients, only);
    close_buffers();
}
END_TEST

START_TEST(gradients_come_to_the_host_in_order) {
    open_buffers(true, 1, 1);
    ck_assert_ptr_eq(buffers.gradients, lent[0]);
    size_t first, count;
    uint64_t ns, bytes;
    for (int round = 1; round <= 2; round++) { /* weight [3][4], then bias [3] */
        for (uint64_t i = 0; i < model->elements; i++)
            model->gradients[i] = (float)(100 * round + (int)i);
        memset(lent, 0, sizeof lent);
        ck_assert_int_eq(trainer_buffers_fetch(&buffers, 1, 1, 12, 15, NULL), LG_OK);
        ck_assert(buffers.gradients[11] == 0 && buffers.gradients[12] == (float)(100 * round + 12));
        ck_assert_int_eq(trainer_buffers_fetch(&buffers, 0, 1, 0, 12, NULL), LG_OK);
        ck_assert(memcmp(buffers.gradients, model->gradients, model->elements * sizeof(float)) == 0);
        for (size_t expected = 2; expected-- > 0;) {
            ck_assert_int_eq(trainer_buffers_arrive(&buffers, &first, &count, NULL), LG_OK);
            ck_assert_uint_eq(first, expected);
            ck_assert_uint_eq(count, 1);
        }
        ck_assert_int_eq(trainer_buffers_arrive(&buffers, &first, &count, NULL), LG_OK);
        ck_assert_uint_eq(count, 0);
        ck_assert_int_eq(trainer_buffers_take_copies(&buffers, &ns, &bytes, NULL), LG_OK);
        ck_assert_uint_eq(bytes, 15 * sizeof(float));
        ck_assert_int_eq(trainer_buffers_take_copies(&buffers, &ns, &bytes, NULL), LG_OK);
        ck_assert(ns == 0 && bytes == 0);
    }
    trainer_buffers_leave(&buffers);
    close_buffers();
}
END_TEST

/* A device that keeps memory in place: what is registered is counted. */
static struct device_ops counting_ops;
static void *kept[8];
static size_t kept_count;

static bool count_register(struct device *d, void *memory, size_t bytes, bool read_only) {
    ck_assert_ptr_eq(d, device);
    ck_assert_uint_eq(bytes, model->elements * sizeof(float));
    ck_assert(!read_only);
    kept[kept_count++] = memory;
    return true;
}

static void count_unregister(struct device *d, void *memory) {
    ck_assert_ptr_eq(d, device);
    size_t i = 0;
    while (i < kept_count && kept[i] != memory)
        i++;
    ck_assert_uint_lt(i, kept_count);
    kept[i] = kept[--kept_count];
}

START_TEST(memory_stays_in_place_until_its_owner_takes_it_back) {
    open_buffers(true, 0, 1);
    trainer_buffers_deinit(&buffers);
    counting_ops = *device->ops;
    counting_ops.host_register = count_register;
    counting_ops.host_unregister = count_unregister;
    device->ops = &counting_ops;
    ck_assert_int_eq(trainer_buffers_init(&buffers, model, NULL), LG_OK);
    ck_assert_uint_eq(kept_count, 2);
    lent_count = 2;
    ck_assert_int_eq(trainer_buffers_join(&buffers, NULL, 2, NULL), LG_OK);
    ck_assert_uint_eq(kept_count, 4);
    trainer_buffers_leave(&buffers);
    ck_assert_uint_eq(kept_count, 2);
    ck_assert(kept[0] == buffers.ahead || kept[0] == buffers.parameters);
    trainer_buffers_deinit(&buffers);
    ck_assert_uint_eq(kept_count, 0);
    model_destroy(model);
    device_close(device);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("trainer_buffers");
    TCase *tests = tcase_create("trainer_buffers");
    tcase_add_loop_test(tests, what_was_filled_ahead_is_computed_from, 0, 2);
    tcase_add_loop_test(tests, a_pull_fills_what_is_not_computed_from, 0, 2);
    tcase_add_test(tests, gradients_take_turns_in_the_clients_memory);
    tcase_add_loop_test(tests, without_the_clients_memory_there_is_one_buffer, 0, 2);
    tcase_add_test(tests, gradients_come_to_the_host_in_order);
    tcase_add_test(tests, memory_stays_in_place_until_its_owner_takes_it_back);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
