/* A shard that is told anything at all, in any order: every message gets one answer, nothing crashes, and what the
 * ledger says was applied is what the values show.
 *
 *   shard_hostile_test [SEED [RUNS]] */
#include <check.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/block.h"
#include "common/random.h"
#include "tests/support/shard_bench.h"

enum { UNITS = 5, MESSAGES = 4000, ROUTES = 4, ELEMENTS_MAX = 9 };

static uint64_t first_seed = 1, runs = 25;

struct storm {
    struct shard_bench bench;
    struct random random;
    struct wire_unit units[8];
    struct wire_bytes payload[8];
    struct wire_cover covers[3];
    float values[8 * 16];
    uint64_t counter; /* the greatest version seen */
    unsigned accepted, repeated, cut;
};

static uint64_t below(struct storm *storm, uint64_t bound) {
    return random_below(&storm->random, bound);
}

/* `usual`, but now and then anything. */
static uint64_t mostly(struct storm *storm, uint64_t usual, uint64_t odds) {
    if (below(storm, odds) > 0)
        return usual;
    switch (below(storm, 4)) {
    case 0:
        return 0;
    case 1:
        return UINT64_MAX;
    case 2:
        return usual + 1;
    default:
        return random_u64(&storm->random) >> below(storm, 64);
    }
}

static size_t choose_units(struct storm *storm) {
    size_t count = 0;
    for (uint32_t unit = 0; unit < UNITS; unit++)
        if (below(storm, 2))
            storm->units[count++] = (struct wire_unit){
                .unit = (uint32_t)mostly(storm, unit, 100),
                .elements = (uint32_t)mostly(storm, shard_bench_elements(&storm->bench, unit), 200) % 16,
                .version = below(storm, 3) ? 0 : shard_bench_version(below(storm, 20))};
    return count;
}

/* Covers of epoch 0; the gradient of every element is the number of their samples. */
static size_t choose_covers(struct storm *storm, const struct wire_push *push, float *value) {
    size_t count = 1 + (below(storm, 8) == 0);
    *value = 0;
    for (size_t i = 0; i < count; i++) {
        uint64_t first = below(storm, BENCH_SAMPLES / 10) * 10, length = 10 * (1 + below(storm, 3));
        storm->covers[i] = (struct wire_cover){.session = mostly(storm, push->session, 200),
                                               .incarnation = push->incarnation,
                                               .seq = push->seq,
                                               .lease = 1,
                                               .first = mostly(storm, first, 100),
                                               .end = mostly(storm, first + length, 100)};
        *value += (float)(storm->covers[i].end - storm->covers[i].first);
    }
    return count;
}

static void tell_push(struct storm *storm) {
    struct wire_message message = {.kind = WIRE_PUSH, .request = below(storm, 100), .units = storm->units};
    struct wire_push *push = &message.push;
    uint64_t session = 1 + below(storm, 4);
    *push = (struct wire_push){.session = session,
                               .incarnation = (uint32_t)mostly(storm, 1 + below(storm, 2), 50),
                               .seq = mostly(storm, storm->bench.next_seq + below(storm, 6), 50),
                               .seq_floor = below(storm, storm->bench.next_seq),
                               .job = mostly(storm, BENCH_JOB, 100),
                               .map_version = mostly(storm, BENCH_MAP, 100),
                               .clock = below(storm, 8),
                               .part = (uint32_t)below(storm, 3),
                               .part_count = (uint32_t)mostly(storm, 3, 100),
                               .kind = below(storm, 10) ? WIRE_PUSH_KIND_GRADIENT : WIRE_PUSH_KIND_INITIAL,
                               .codec = (uint32_t)mostly(storm, 0, 200),
                               .samples = below(storm, 64),
                               .base = mostly(storm, shard_bench_version(below(storm, storm->counter + 1)), 50),
                               .pull = below(storm, 3) == 0,
                               .covers = storm->covers};
    float value = 0;
    if (below(storm, 3) == 0)
        storm->bench.next_seq++;
    push->cover_count = choose_covers(storm, push, &value);
    message.unit_count = choose_units(storm);
    if (push->kind == WIRE_PUSH_KIND_INITIAL)
        value = 0;
    for (size_t i = 0; i < sizeof storm->values / sizeof *storm->values; i++)
        storm->values[i] = value;
    message.payload = storm->payload;
    for (size_t i = 0; i < message.unit_count; i++)
        storm->payload[i] = (struct wire_bytes){storm->values + 16 * i, storm->units[i].elements * sizeof(float)};
    message.payload_count = (size_t)mostly(storm, message.unit_count, 200) % 9;
    for (size_t i = message.unit_count; i < 8; i++)
        storm->payload[i] = (struct wire_bytes){storm->values, 4};
    struct bench_reply *reply = shard_bench_send(&storm->bench, 1 + below(storm, ROUTES), &message);
    ck_assert_int_eq(reply->kind, WIRE_PUSH_REPLY);
    const struct wire_push_reply *answer = &reply->message.push_reply;
    if (reply->status == LG_OK) {
        ck_assert_uint_le(answer->units_applied + answer->units_repeated, message.unit_count);
        if (version_counter(answer->version) > storm->counter)
            storm->counter = version_counter(answer->version);
    } else {
        ck_assert(reply->reason[0] != '\0');
        ck_assert_uint_eq(reply->message.unit_count, 0);
    }
    storm->accepted += reply->status == LG_OK && answer->units_applied > 0;
    storm->repeated += answer->units_repeated > 0;
    storm->cut += answer->cut_count > 0;
}

static void tell_pull(struct storm *storm) {
    struct wire_message message = {.kind = WIRE_PULL, .units = storm->units, .unit_count = choose_units(storm)};
    message.pull = (struct wire_pull){.session = 1 + below(storm, 4),
                                      .incarnation = 1 + (uint32_t)below(storm, 2),
                                      .job = mostly(storm, BENCH_JOB, 50),
                                      .map_version = mostly(storm, BENCH_MAP, 50),
                                      .tag = 5};
    struct bench_reply *reply = shard_bench_send(&storm->bench, 1 + below(storm, ROUTES), &message);
    ck_assert(reply->kind == WIRE_PULL_REPLY || reply->kind == WIRE_ERROR);
}

static void tell_session(struct storm *storm) {
    uint64_t session = 1 + below(storm, 4);
    uint32_t incarnation = 1 + (uint32_t)(below(storm, 20) == 0);
    const struct wire_message hello = {.kind = WIRE_HELLO,
                                       .request = ++storm->bench.next_request - below(storm, 2),
                                       .hello = {.session = session,
                                                 .incarnation = 1 + (uint32_t)below(storm, 2),
                                                 .token = mostly(storm, session * 3, 20),
                                                 .job = BENCH_JOB,
                                                 .window = (uint32_t)mostly(storm, 8, 10),
                                                 .seq_floor = below(storm, storm->bench.next_seq)}};
    switch (below(storm, 12)) {
    case 0:
        if (below(storm, 8) == 0)
            shard_bench_close_session(&storm->bench, session, incarnation, "by chance");
        break;
    case 1:
    case 2:
        shard_bench_open_session(&storm->bench, session, incarnation);
        break;
    default:
        shard_bench_send(&storm->bench, 1 + below(storm, ROUTES), &hello);
        break;
    }
}

static void tell_query(struct storm *storm) {
    struct wire_message query = {.kind = WIRE_MARKS_QUERY};
    query.marks_query = (struct wire_marks_query){.job = mostly(storm, BENCH_JOB, 10),
                                                  .shard = BENCH_INDEX,
                                                  .epoch = mostly(storm, 0, 10),
                                                  .first = mostly(storm, 10, 5),
                                                  .end = mostly(storm, BENCH_SAMPLES, 5)};
    ck_assert_int_eq(shard_bench_send(&storm->bench, SHARD_ROUTE_CONTROL, &query)->kind, WIRE_MARKS_REPLY);
}

/* With rate 1, weight 1 and no decay every unit holds minus the samples that were applied to it. */
static void check_ledger(struct storm *storm) {
    const struct wire_message query = {.kind = WIRE_LEDGER_QUERY,
                                       .ledger_query = {.job = BENCH_JOB, .shard = BENCH_INDEX}};
    uint64_t least = UINT64_MAX, most = 0;
    for (uint32_t unit = 0; unit < UNITS; unit++) {
        float value = shard_bench_value(&storm->bench, unit);
        ck_assert(value <= 0 && value >= -BENCH_SAMPLES);
        uint64_t samples = (uint64_t)-value;
        least = samples < least ? samples : least;
        most = samples > most ? samples : most;
    }
    struct bench_reply *reply = shard_bench_send(&storm->bench, SHARD_ROUTE_CONTROL, &query);
    ck_assert_uint_eq(reply->message.ledger_reply.row_count, 1);
    ck_assert_uint_eq(reply->rows[0].samples_least, least);
    ck_assert_uint_eq(reply->rows[0].samples_most, most);
}

START_TEST(anything_is_answered_and_the_ledger_tells_the_truth) {
    static struct storm storm;
    uint64_t seed = first_seed + (uint64_t)_i;
    memset(&storm, 0, sizeof storm);
    random_init(&storm.random, seed);
    shard_bench_init(&storm.bench);
    shard_bench_option(&storm.bench, "lr.base", "1");
    for (size_t i = 0; i < UNITS; i++) {
        storm.bench.tensors[i] = (struct tensor_spec){.rank = 1, .shape = {2 * i + 1}, .lr_factor = 1};
        snprintf(storm.bench.tensors[i].name, sizeof storm.bench.tensors[i].name, "t%zu", i);
    }
    storm.bench.tensor_count = storm.bench.placement_count = UNITS;
    shard_bench_start(&storm.bench);
    shard_bench_join(&storm.bench, 1);
    shard_bench_initialise(&storm.bench, 1, 0);
    for (int i = 0; i < MESSAGES; i++) {
        uint64_t kind = below(&storm, 20);
        if (kind < 13)
            tell_push(&storm);
        else if (kind < 15)
            tell_pull(&storm);
        else if (kind < 19)
            tell_session(&storm);
        else
            tell_query(&storm);
    }
    ck_assert_msg(storm.accepted > 20 && storm.repeated > 0 && storm.cut > 0,
                  "seed %" PRIu64 " tests little: %u accepted, %u repeated, %u cut", seed, storm.accepted,
                  storm.repeated, storm.cut);
    check_ledger(&storm);
    shard_bench_stop(&storm.bench);
}
END_TEST

int main(int argc, char **argv) {
    first_seed = argc > 1 ? strtoull(argv[1], NULL, 10) : first_seed;
    runs = argc > 2 ? strtoull(argv[2], NULL, 10) : runs;
    printf("seeds %" PRIu64 " to %" PRIu64 "\n", first_seed, first_seed + runs - 1);
    Suite *suite = suite_create("shard_hostile");
    TCase *tests = tcase_create("shard_hostile");
    tcase_set_timeout(tests, 60);
    tcase_add_loop_test(tests, anything_is_answered_and_the_ledger_tells_the_truth, 0, (int)runs);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
