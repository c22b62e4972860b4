#include "server/replay.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/block.h"

static char path[64];

/* A recorded life of a shard: two sessions push, one part repeated, one push unfinished when its session is closed. */
struct life {
    struct recorder *recorder;
    struct shard *shard;
    struct shard_config config;
};

static void send_nothing(void *context, uint64_t route, const struct wire_message *message,
                         struct snapshot *const *snapshots, size_t count) {
    (void)context, (void)route, (void)message, (void)snapshots, (void)count;
}

static void decide(void *context, const struct shard_decision *decision, const struct wire_message *push) {
    struct life *life = context;
    recorder_decide(life->recorder, decision, push);
}

static void give(struct life *life, int64_t now_ns, uint64_t route, const struct wire_message *message) {
    struct shard_input input = {.now_ns = now_ns, .route = route, .message = message};
    input.message = recorder_input(life->recorder, &input);
    ck_assert_ptr_ne(input.message, message); /* what was written is what is given */
    shard_receive(life->shard, &input);
}

static const struct tensor_spec tensors[] = {
    {.name = "weight", .rank = 2, .shape = {300, 300}, .lr_factor = 1},
    {.name = "bias", .rank = 1, .shape = {10}, .lr_factor = 1},
};
static const struct wire_pair spec[] = {
    {"name", "recorded"}, {"updater.kind", "momentum"}, {"lr.base", "0.5"}, {"staleness.policy", "inverse"}};
static const uint16_t placement[3];
static float gradients[300 * 300 + 10];

static void open_job(struct life *life) {
    struct wire_message open = {.kind = WIRE_JOB_OPEN};
    open.job_open = (struct wire_job_open){.job = 7,
                                           .name = "recorded",
                                           .shard = 4,
                                           .epoch = 1,
                                           .map_version = 1,
                                           .train_samples = 1000,
                                           .spec = spec,
                                           .spec_count = 4};
    open.tensors = tensors;
    open.tensor_count = 2;
    open.placement = placement;
    open.placement_count = 3;
    give(life, 1, SHARD_ROUTE_CONTROL, &open);
}

static void join(struct life *life, uint64_t session) {
    struct wire_message message = {.kind = WIRE_SESSION_OPEN};
    message.session_open = (struct wire_session_open){.job = 7,
                                                      .shard = 4,
                                                      .session = session,
                                                      .incarnation = 1,
                                                      .token = 3,
                                                      .may_push = true,
                                                      .may_initialise = true};
    give(life, 2, SHARD_ROUTE_CONTROL, &message);
    message = (struct wire_message){.kind = WIRE_HELLO, .request = 1};
    message.hello = (struct wire_hello){.session = session, .incarnation = 1, .token = 3, .job = 7, .window = 8};
    give(life, 3, session, &message);
}

static void push(struct life *life, uint64_t session, uint64_t seq, enum wire_push_kind kind, uint32_t parts,
                 float value) {
    const struct wire_unit units[] = {{0, BLOCK_ELEMENTS, 0}, {1, (300 * 300 - BLOCK_ELEMENTS), 0}, {2, 10, 0}};
    for (size_t i = 0; i < sizeof gradients / sizeof *gradients; i++)
        gradients[i] = value;
    const struct wire_bytes payload[] = {{gradients, BLOCK_ELEMENTS * sizeof(float)},
                                         {gradients + BLOCK_ELEMENTS, (300 * 300 - BLOCK_ELEMENTS) * sizeof(float)},
                                         {gradients + 300 * 300, 10 * sizeof(float)}};
    const struct wire_cover cover = {.session = session, .incarnation = 1, .seq = seq, .samples = 1};
    struct wire_message message = {.kind = WIRE_PUSH, .request = seq};
    message.push = (struct wire_push){.session = session,
                                      .incarnation = 1,
                                      .seq = seq,
                                      .seq_floor = 1,
                                      .job = 7,
                                      .map_version = 1,
                                      .clock = seq,
                                      .part_count = parts,
                                      .kind = kind,
                                      .samples = 1,
                                      .local_steps = 1,
                                      .base = UINT64_C(1) << 48,
                                      .covers = &cover,
                                      .cover_count = 1};
    message.units = units;
    message.payload = payload;
    message.unit_count = message.payload_count = parts == 1 ? 3 : 2;
    give(life, (int64_t)(10 * seq), session, &message);
}

static void record_life(bool finish) {
    struct lg_error error = {0};
    struct life life = {.config = {.index = 4,
                                   .credit_bytes = 64 << 20,
                                   .session_credit_bytes = 8 << 20,
                                   .window = 64,
                                   .sessions_max = 8,
                                   .reject_nonfinite = true}};
    snprintf(path, sizeof path, "/tmp/lagoon-replay-%d", getpid());
    ck_assert_int_eq(recorder_open(path, &life.config, &life.recorder, &error), LG_OK);
    struct shard_sink sink = {.context = &life, .send = send_nothing, .decide = decide};
    ck_assert_int_eq(shard_new(&life.config, &sink, &life.shard, &error), LG_OK);
    open_job(&life);
    join(&life, 1);
    join(&life, 2);
    push(&life, 1, 1, WIRE_PUSH_KIND_INITIAL, 1, 1);
    for (uint64_t seq = 2; seq < 10; seq++)
        push(&life, 1 + seq % 2, seq, WIRE_PUSH_KIND_GRADIENT, 1, 0.01f * (float)seq);
    push(&life, 2, 9, WIRE_PUSH_KIND_GRADIENT, 1, 5); /* repeated: changes nothing */
    push(&life, 1, 10, WIRE_PUSH_KIND_GRADIENT, 2, 0.3f);
    struct wire_message close = {.kind = WIRE_SESSION_CLOSE};
    close.session_close =
        (struct wire_session_close){.job = 7, .shard = 4, .session = 1, .incarnation = 1, .reason = "test"};
    give(&life, 200, SHARD_ROUTE_CONTROL, &close);
    recorder_digest(life.recorder, life.shard, 7);
    if (finish)
        recorder_digest(life.recorder, life.shard, 7);
    ck_assert_int_eq(recorder_close(life.recorder, &error), LG_OK);
    shard_free(life.shard);
}

static enum lg_status play(struct replay_summary *summary, uint64_t until, float *first, struct lg_error *error) {
    struct shard *shard = NULL;
    const struct replay_options options = {.until = until};
    enum lg_status status = replay_run(path, &options, &shard, summary, error);
    ck_assert_int_eq(status == LG_OK, shard != NULL);
    if (shard)
        *first = *shard_unit_data(shard, 7, 0, NULL, NULL);
    shard_free(shard);
    return status;
}

START_TEST(a_replay_decides_and_ends_the_same) {
    struct replay_summary summary;
    struct lg_error error = {0};
    float first;
    record_life(true);
    ck_assert_msg(play(&summary, 0, &first, &error) == LG_OK, "%s", error.message);
    ck_assert_uint_eq(summary.shard, 4);
    ck_assert_uint_eq(summary.inputs, 1 + 4 + 1 + 8 + 1 + 1 + 1);
    ck_assert_uint_eq(summary.decisions, 1 + 8 + 1 + 1); /* the last: a push that gets no more parts */
    ck_assert_uint_eq(summary.digests, 2);
    ck_assert(!summary.cut);
    ck_assert_str_eq(summary.version, LAGOON_VERSION);
    unlink(path);
}
END_TEST

START_TEST(a_replay_stops_where_it_is_told) {
    struct replay_summary summary;
    struct lg_error error = {0};
    float first;
    record_life(true);
    ck_assert_int_eq(play(&summary, 1, &first, &error), LG_OK);
    ck_assert_uint_eq(summary.decisions, 1);
    ck_assert(first == 1); /* the initial value */
    ck_assert_int_eq(play(&summary, 2, &first, &error), LG_OK);
    ck_assert(first == 1 - 0.5f * 0.02f);
    unlink(path);
}
END_TEST

/* Reads the file, changes it, writes it back. */
static void change_file(long cut_to, long at, const char *bytes, size_t count) {
    FILE *file = fopen(path, "r+b");
    ck_assert_ptr_nonnull(file);
    if (cut_to >= 0)
        ck_assert_int_eq(ftruncate(fileno(file), cut_to), 0);
    if (count > 0) {
        ck_assert_int_eq(fseek(file, at, at < 0 ? SEEK_END : SEEK_SET), 0);
        ck_assert_uint_eq(fwrite(bytes, 1, count, file), count);
    }
    fclose(file);
}

static long file_bytes(void) {
    FILE *file = fopen(path, "rb");
    ck_assert_int_eq(fseek(file, 0, SEEK_END), 0);
    long bytes = ftell(file);
    fclose(file);
    return bytes;
}

START_TEST(a_recording_that_was_cut_is_played_to_there) {
    struct replay_summary summary;
    struct lg_error error = {0};
    float first;
    for (long less = 1; less < 2000000; less = less * 3 + 5) {
        record_life(true);
        long bytes = file_bytes();
        if (less >= bytes - 200)
            break;
        change_file(bytes - less, 0, NULL, 0);
        ck_assert_msg(play(&summary, 1, &first, &error) == LG_OK, "%ld: %s", less, error.message);
        ck_assert_msg(play(&summary, 0, &first, &error) == LG_OK, "%ld: %s", less, error.message);
        ck_assert(summary.cut || summary.digests > 0);
    }
    unlink(path);
}
END_TEST

START_TEST(damage_is_noticed) {
    struct replay_summary summary;
    struct lg_error error = {0};
    float first;
    record_life(true);
    change_file(-1, 500000, "\x7f\x7f", 2); /* within a gradient */
    ck_assert_int_eq(play(&summary, 0, &first, &error), LG_MALFORMED);
    ck_assert_ptr_nonnull(strstr(error.message, "damaged"));
    record_life(true);
    change_file(-1, 0, "LGRECORX", 8);
    ck_assert_int_eq(play(&summary, 0, &first, &error), LG_MALFORMED);
    ck_assert_ptr_nonnull(strstr(error.message, "no recording"));
    unlink(path);
    ck_assert_int_eq(play(&summary, 0, &first, &error), LG_NOT_FOUND);
}
END_TEST

/* What the shard decides is compared with what was decided: here a digest of other values was written down. */
START_TEST(another_outcome_is_noticed) {
    struct lg_error error = {0};
    struct replay_summary summary;
    float first;
    struct life life = {
        .config = {
            .index = 4, .credit_bytes = 64 << 20, .session_credit_bytes = 8 << 20, .window = 64, .sessions_max = 8}};
    for (int kind = 0; kind < 3; kind++) {
        snprintf(path, sizeof path, "/tmp/lagoon-replay-%d", getpid());
        ck_assert_int_eq(recorder_open(path, &life.config, &life.recorder, &error), LG_OK);
        struct shard_sink sink = {.context = &life, .send = send_nothing, .decide = kind == 1 ? NULL : decide};
        ck_assert_int_eq(shard_new(&life.config, &sink, &life.shard, &error), LG_OK);
        open_job(&life);
        join(&life, 1);
        if (kind == 0)
            recorder_decide(life.recorder, &(struct shard_decision){.order = 0, .job = 7}, NULL);
        push(&life, 1, 1, WIRE_PUSH_KIND_INITIAL, 1, 1);
        if (kind == 2) { /* the shard gets what is not written down */
            struct wire_message close = {.kind = WIRE_JOB_CLOSE};
            close.job_close = (struct wire_job_close){.job = 7, .shard = 4};
            shard_receive(life.shard, &(struct shard_input){.message = &close});
            recorder_digest(life.recorder, life.shard, 7);
        }
        ck_assert_int_eq(recorder_close(life.recorder, &error), LG_OK);
        shard_free(life.shard);
        ck_assert_int_eq(play(&summary, 0, &first, &error), LG_INVALID);
        static const char *const words[] = {"not made again", "not recorded", "checksum"};
        ck_assert_msg(strstr(error.message, words[kind]) != NULL, "%s", error.message);
    }
    unlink(path);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("replay");
    TCase *tests = tcase_create("replay");
    tcase_add_test(tests, a_replay_decides_and_ends_the_same);
    tcase_add_test(tests, a_replay_stops_where_it_is_told);
    tcase_add_test(tests, a_recording_that_was_cut_is_played_to_there);
    tcase_add_test(tests, damage_is_noticed);
    tcase_add_test(tests, another_outcome_is_noticed);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
