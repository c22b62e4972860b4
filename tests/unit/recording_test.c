#include "server/recording.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const struct shard_config config = {
    .index = 3, .credit_bytes = 8 << 20, .session_credit_bytes = 8 << 20, .window = 8, .sessions_max = 2};
static char path[64];
static float gradients[1000];

static void setup(void) {
    snprintf(path, sizeof path, "/tmp/lagoon-recording-%d", getpid());
}

static void teardown(void) {
    unlink(path);
}

static struct wire_message push_in_place(struct wire_unit *unit, struct wire_bytes *payload, struct wire_cover *cover) {
    *unit = (struct wire_unit){0, 1000, 0};
    *payload = (struct wire_bytes){gradients, sizeof gradients};
    *cover = (struct wire_cover){.session = 1, .incarnation = 1, .seq = 1, .samples = 1};
    struct wire_message message = {
        .kind = WIRE_PUSH, .units = unit, .unit_count = 1, .payload = payload, .payload_count = 1};
    message.push = (struct wire_push){
        .session = 1, .incarnation = 1, .seq = 1, .part_count = 1, .ring = true, .covers = cover, .cover_count = 1};
    return message;
}

START_TEST(what_lies_in_a_clients_memory_is_copied) {
    struct recorder *recorder;
    struct recording *recording;
    struct shard_config read;
    struct recorded next;
    struct lg_error error = {0};
    struct wire_unit unit;
    struct wire_bytes payload;
    struct wire_cover cover;
    struct wire_message message = push_in_place(&unit, &payload, &cover);
    ck_assert_int_eq(recorder_open(path, &config, &recorder, &error), LG_OK);
    gradients[999] = 1;
    const struct shard_input input = {.now_ns = 5, .route = 6, .principal = 7, .message = &message};
    const struct wire_message *taken = recorder_input(recorder, &input);
    gradients[999] = 2; /* the client goes on writing */
    ck_assert(((const float *)taken->payload[0].data)[999] == 1);
    ck_assert(!taken->push.ring);
    ck_assert_int_eq(recorder_close(recorder, &error), LG_OK);
    ck_assert_int_eq(recording_open(path, &recording, &read, &error), LG_OK);
    ck_assert_uint_eq(read.index, 3);
    ck_assert_int_eq(recording_next(recording, &next, &error), LG_OK);
    ck_assert_int_eq(next.kind, RECORDED_INPUT);
    ck_assert_int_eq(next.input.now_ns, 5);
    ck_assert_uint_eq(next.input.route, 6);
    ck_assert_uint_eq(next.input.principal, 7);
    ck_assert(((const float *)next.input.message->payload[0].data)[999] == 1);
    ck_assert_int_eq(recording_next(recording, &next, &error), LG_OK);
    ck_assert_int_eq(next.kind, RECORDED_END);
    recording_close(recording);
}
END_TEST

/* A replay compares what is written down: nothing that decides about values may be missing in it. */
START_TEST(decisions_that_differ_are_written_differently) {
    const struct shard_decision same = {
        .kind = SHARD_DECISION_APPLY, .order = 1, .weight = 0.5f, .learning_rate = 0.1f};
    struct shard_decision others[] = {same, same, same, same, same};
    const struct recorded_decision written = recorded_decision_of(&same, NULL);
    others[0].kind = SHARD_DECISION_GATHER;
    others[1].weight = 0.25f;
    others[2].learning_rate = 0.2f;
    others[3].staleness = 1;
    others[4].version_after = 1;
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        const struct recorded_decision other = recorded_decision_of(&others[i], NULL);
        ck_assert_msg(memcmp(&other, &written, sizeof other) != 0, "%zu", i);
    }
}
END_TEST

START_TEST(a_full_disk_ends_the_recording_alone) {
    struct recorder *recorder;
    struct lg_error error = {0};
    struct wire_unit unit;
    struct wire_bytes payload;
    struct wire_cover cover;
    struct wire_message message = push_in_place(&unit, &payload, &cover);
    ck_assert_int_eq(recorder_open("/dev/full", &config, &recorder, &error), LG_OK);
    const struct shard_input input = {.message = &message};
    for (int i = 0; i < 1000; i++)
        ck_assert_ptr_nonnull(recorder_input(recorder, &input));
    ck_assert(!recorder_works(recorder, &error));
    ck_assert_ptr_nonnull(strstr(error.message, "No space left"));
    ck_assert(recorder_works(recorder, &error)); /* said once */
    ck_assert_ptr_eq(recorder_input(recorder, &input), &message);
    ck_assert_int_eq(recorder_close(recorder, &error), LG_OK);
}
END_TEST

START_TEST(a_folder_that_is_not_there_is_an_error) {
    struct recorder *recorder;
    struct lg_error error = {0};
    ck_assert_int_eq(recorder_open("/nowhere/at/all", &config, &recorder, &error), LG_IO);
    ck_assert_ptr_nonnull(strstr(error.message, "\"/nowhere/at/all\": No such file"));
}
END_TEST

int main(void) {
    Suite *suite = suite_create("recording");
    TCase *tests = tcase_create("recording");
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, what_lies_in_a_clients_memory_is_copied);
    tcase_add_test(tests, decisions_that_differ_are_written_differently);
    tcase_add_test(tests, a_full_disk_ends_the_recording_alone);
    tcase_add_test(tests, a_folder_that_is_not_there_is_an_error);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
