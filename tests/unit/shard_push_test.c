/* Pushes: parts, staleness, repetition, ledgers, groups, initial values. */
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/block.h"
#include "tests/support/shard_bench.h"

static struct shard_bench bench;

static void setup(void) {
    shard_bench_init(&bench);
}

static void teardown(void) {
    shard_bench_stop(&bench);
}

/* A started bench with session 1 joined and all values 1. */
static void start_training(void) {
    shard_bench_start(&bench);
    shard_bench_join(&bench, 1);
    shard_bench_initialise(&bench, 1, 1);
}

static uint64_t counter(void) {
    struct bench_reply *reply = shard_bench_pull(&bench, 1, NULL);
    ck_assert_int_eq(reply->kind, WIRE_PULL_REPLY);
    return version_counter(reply->message.pull_reply.version);
}

/* ---- parts */

START_TEST(the_counter_moves_once_at_the_last_part) {
    start_training();
    for (uint32_t part = 0; part < 3; part++) {
        struct bench_reply *reply = shard_bench_push(&bench, &(struct bench_push){.session = 1,
                                                                                  .clock = 50,
                                                                                  .value = 1,
                                                                                  .base = shard_bench_version(0),
                                                                                  .part = part,
                                                                                  .part_count = 3,
                                                                                  .samples = 8,
                                                                                  .units = &part,
                                                                                  .unit_count = 1});
        ck_assert_uint_eq(reply->message.push_reply.version, shard_bench_version(part == 2));
    }
    struct wire_shard_job_stats stats;
    shard_stats(bench.shard, &stats, 1);
    ck_assert_uint_eq(stats.pushes, 1);
    ck_assert_uint_eq(stats.samples, 8);
    ck_assert_uint_eq(counter(), 1);
}
END_TEST

START_TEST(staleness_and_weight_are_fixed_at_the_first_part) {
    shard_bench_option(&bench, "staleness.policy", "polynomial");
    start_training();
    shard_bench_join(&bench, 2);
    struct bench_push slow = {.session = 2, .clock = 9, .base = shard_bench_version(0), .part_count = 3};
    const uint32_t units[] = {0, 1, 2};
    for (uint32_t part = 0; part < 3; part++) {
        for (int i = 0; i < 3; i++) /* others go on, also between the parts */
            shard_bench_push(&bench, &(struct bench_push){.session = 1, .base = shard_bench_version(0)});
        slow.part = part;
        slow.units = &units[part];
        slow.unit_count = 1;
        slow.seq = 0;
        struct bench_reply *reply = shard_bench_push(&bench, &slow);
        ck_assert_uint_eq(reply->message.push_reply.staleness, 3);
        ck_assert(reply->message.push_reply.weight == 0.5f); /* (1+3)^-0.5 */
    }
    struct wire_shard_job_stats stats;
    shard_stats(bench.shard, &stats, 1);
    ck_assert_uint_eq(stats.pushes, 10);
    ck_assert_uint_eq(stats.staleness_max, 8);
}
END_TEST

START_TEST(parts_of_two_pushes_may_mix) {
    start_training();
    const uint32_t units[] = {0, 1, 2};
    for (uint32_t part = 0; part < 3; part++)
        for (uint64_t clock = 100; clock < 102; clock++)
            shard_bench_push(&bench, &(struct bench_push){.session = 1,
                                                          .clock = clock,
                                                          .value = 0.5f,
                                                          .base = shard_bench_version(0),
                                                          .part = part,
                                                          .part_count = 3,
                                                          .units = &units[part],
                                                          .unit_count = 1});
    ck_assert_uint_eq(counter(), 2);
    for (uint32_t i = 0; i < 3; i++)
        ck_assert(shard_bench_value(&bench, i) == 0.5f);
}
END_TEST

START_TEST(unit_versions_differ_whenever_values_do) {
    start_training();
    shard_bench_join(&bench, 2);
    const uint32_t unit = 0;
    uint64_t versions[4];
    for (int i = 0; i < 4; i++) { /* four pushes apply to the unit before the counter moves at all */
        shard_unit_data(bench.shard, BENCH_JOB, unit, NULL, &versions[i]);
        for (int k = 0; k < i; k++)
            ck_assert_uint_lt(versions[k], versions[i]);
        shard_bench_push(&bench, &(struct bench_push){.session = i % 2 ? 1 : 2,
                                                      .value = 1,
                                                      .base = shard_bench_version(0),
                                                      .part_count = 2,
                                                      .units = &unit,
                                                      .unit_count = 1});
    }
    ck_assert_uint_eq(counter(), 0);
}
END_TEST

START_TEST(a_units_version_is_the_jobs_after_its_last_push) {
    start_training();
    const uint32_t unit = 2;
    uint64_t version;
    shard_unit_data(bench.shard, BENCH_JOB, unit, NULL, &version);
    ck_assert_uint_eq(version, shard_bench_version(0));
    for (int i = 0; i < 6; i++) { /* the last one touches a unit that the others left alone */
        const uint32_t other = i < 5 ? 1 : unit;
        shard_bench_push(&bench, &(struct bench_push){
                                     .session = 1, .base = shard_bench_version(0), .units = &other, .unit_count = 1});
    }
    shard_unit_data(bench.shard, BENCH_JOB, unit, NULL, &version);
    ck_assert_uint_eq(version, shard_bench_version(6));
    shard_unit_data(bench.shard, BENCH_JOB, 1, NULL, &version);
    ck_assert_uint_eq(version, shard_bench_version(5));
}
END_TEST

START_TEST(a_closed_session_ends_its_push) {
    start_training();
    shard_bench_join(&bench, 2);
    const uint32_t unit = 0;
    const struct bench_push half = {
        .session = 2, .base = shard_bench_version(0), .part_count = 2, .samples = 16, .units = &unit, .unit_count = 1};
    shard_bench_push(&bench, &half);
    ck_assert_uint_eq(counter(), 0);
    shard_bench_close_session(&bench, 2, 1, "killed");
    ck_assert_uint_eq(counter(), 1);
    shard_bench_join(&bench, 3); /* one that has applied nothing moves nothing */
    shard_bench_close_session(&bench, 3, 1, "killed");
    ck_assert_uint_eq(counter(), 1);
}
END_TEST

START_TEST(pushes_that_never_finish_give_way) {
    start_training();
    const uint32_t unit = 0;
    for (uint64_t clock = 1; clock <= 20; clock++)
        shard_bench_push(&bench, &(struct bench_push){.session = 1,
                                                      .clock = 500 + clock,
                                                      .base = shard_bench_version(0),
                                                      .part_count = 2,
                                                      .units = &unit,
                                                      .unit_count = 1});
    ck_assert_uint_eq(counter(), 16); /* four are still open */
}
END_TEST

START_TEST(part_counts_must_agree) {
    start_training();
    const uint32_t units[] = {0, 1};
    struct bench_push push = {
        .session = 1, .clock = 4, .base = shard_bench_version(0), .part_count = 2, .units = units, .unit_count = 1};
    ck_assert_uint_eq(shard_bench_push(&bench, &push)->status, LG_OK);
    push.units = units + 1;
    push.part_count = 3;
    ck_assert_uint_eq(shard_bench_push(&bench, &push)->status, LG_INVALID);
    push.part = 2;
    push.part_count = 2;
    ck_assert_uint_eq(shard_bench_push(&bench, &push)->status, LG_INVALID);
}
END_TEST

/* ---- again */

START_TEST(a_repeated_push_is_answered_and_not_applied) {
    shard_bench_option(&bench, "staleness.policy", "polynomial");
    start_training();
    for (int i = 0; i < 3; i++)
        shard_bench_push(&bench, &(struct bench_push){.session = 1, .base = shard_bench_version(0)});
    struct bench_push push = {
        .session = 1, .seq = 40, .clock = 40, .value = 1, .base = shard_bench_version(0), .pull = true};
    struct bench_reply *reply = shard_bench_push(&bench, &push);
    const struct wire_push_reply first = reply->message.push_reply;
    ck_assert_uint_eq(first.staleness, 3);
    ck_assert(shard_bench_value(&bench, 0) == 0.75f);
    ck_assert(reply->values[0][0] == 0.75f);
    bench.next_seq = 41;
    shard_bench_push(&bench, &(struct bench_push){.session = 1, .value = 0.5f, .base = shard_bench_version(4)});
    push.value = 123; /* whatever it carries now */
    reply = shard_bench_push(&bench, &push);
    ck_assert_uint_eq(reply->status, LG_OK);
    ck_assert_uint_eq(reply->message.push_reply.staleness, 3);
    ck_assert(reply->message.push_reply.weight == first.weight);
    ck_assert_uint_eq(reply->message.push_reply.version, first.version);
    ck_assert_uint_eq(reply->message.push_reply.units_applied, BENCH_UNITS);
    ck_assert(shard_bench_value(&bench, 0) == 0.5f);
    ck_assert_uint_eq(reply->message.unit_count, BENCH_UNITS); /* the pull half is carried out anew */
    ck_assert(reply->values[0][0] == 0.5f);
    struct wire_shard_job_stats stats;
    shard_stats(bench.shard, &stats, 1);
    ck_assert_uint_eq(stats.duplicates, 1);
    ck_assert_uint_eq(stats.pushes, 5);
}
END_TEST

/* ---- values in the answer */

/* One unit of a push with three parts, for the values that it brings. */
static struct bench_reply *pulling_part(uint64_t session, uint64_t clock, uint32_t part, uint64_t base) {
    static const uint32_t units[] = {0, 1, 2};
    return shard_bench_push(&bench, &(struct bench_push){.session = session,
                                                         .seq = 100 * session + 10 * clock + part,
                                                         .clock = clock,
                                                         .value = 1,
                                                         .base = base,
                                                         .part = part,
                                                         .part_count = 3,
                                                         .pull = true,
                                                         .units = &units[part],
                                                         .unit_count = 1});
}

START_TEST(values_of_an_unfinished_push_have_the_base_of_when_it_is_whole) {
    start_training();
    shard_bench_join(&bench, 2);
    for (uint32_t part = 0; part < 3; part++) {
        struct bench_reply *reply = pulling_part(1, 5, part, shard_bench_version(0));
        ck_assert_uint_eq(reply->message.push_reply.version, shard_bench_version(part == 2));
        ck_assert_uint_eq(reply->message.push_reply.values_version, shard_bench_version(1));
        ck_assert_uint_eq(reply->message.unit_count, 1);
        ck_assert(reply->values[0][0] == 0.5f);
    }
    struct bench_reply *reply = pulling_part(1, 6, 0, shard_bench_version(1));
    ck_assert_uint_eq(reply->message.push_reply.staleness, 0);
    ck_assert_uint_eq(reply->message.push_reply.values_version, shard_bench_version(2));
    reply = pulling_part(2, 1, 0, shard_bench_version(0)); /* another session's open push does not count */
    ck_assert_uint_eq(reply->message.push_reply.values_version, shard_bench_version(2));
    pulling_part(2, 1, 1, shard_bench_version(0));
    pulling_part(2, 1, 2, shard_bench_version(0));
    reply = pulling_part(1, 6, 1, shard_bench_version(1)); /* what others did meanwhile does */
    ck_assert_uint_eq(reply->message.push_reply.values_version, shard_bench_version(3));
    reply = pulling_part(1, 6, 0, shard_bench_version(1)); /* repeated while it is open, and after it ended */
    ck_assert_uint_eq(reply->message.push_reply.values_version, shard_bench_version(3));
    pulling_part(1, 6, 2, shard_bench_version(1));
    reply = pulling_part(1, 6, 0, shard_bench_version(1));
    ck_assert_uint_eq(reply->message.push_reply.values_version, shard_bench_version(3));
    ck_assert_uint_eq(counter(), 3);
}
END_TEST

/* A base that came with values is never from the future, even where the push moved nothing. */
START_TEST(values_of_a_push_that_changed_nothing_have_the_base_of_now) {
    start_training();
    shard_bench_join(&bench, 2);
    struct bench_push push = {.session = 1,
                              .value = 1,
                              .base = shard_bench_version(0),
                              .pull = true,
                              .lease = 7,
                              .epoch = 2,
                              .end = 32,
                              .samples = 32};
    ck_assert_uint_eq(shard_bench_push(&bench, &push)->message.push_reply.values_version, shard_bench_version(1));
    pulling_part(2, 1, 0, shard_bench_version(0)); /* the session's other push is open and has applied something */
    push.session = 2;
    struct bench_reply *reply = shard_bench_push(&bench, &push);
    ck_assert_uint_eq(reply->message.push_reply.units_repeated, BENCH_UNITS);
    ck_assert_uint_eq(reply->message.push_reply.values_version, shard_bench_version(1));
    push.base = reply->message.push_reply.values_version;
    push.first = 32;
    push.end = 64;
    ck_assert_uint_eq(shard_bench_push(&bench, &push)->status, LG_OK);
    push.first = 48;
    push.end = 80; /* cut: not applied */
    ck_assert_uint_eq(shard_bench_push(&bench, &push)->message.push_reply.values_version, shard_bench_version(2));
}
END_TEST

START_TEST(values_come_with_a_push_that_was_dropped_too) {
    shard_bench_option(&bench, "staleness.policy", "cutoff");
    shard_bench_option(&bench, "staleness.bound", "2");
    start_training();
    for (uint64_t i = 0; i < 2; i++)
        shard_bench_push(&bench, &(struct bench_push){.session = 1, .value = 1, .base = shard_bench_version(i)});
    struct bench_reply *reply = shard_bench_push(
        &bench, &(struct bench_push){.session = 1, .value = 1, .base = shard_bench_version(0), .pull = true});
    ck_assert_uint_eq(reply->status, LG_DROPPED);
    ck_assert_uint_eq(reply->message.push_reply.values_version, shard_bench_version(2));
    ck_assert(reply->values[0][0] == 0);
}
END_TEST

START_TEST(a_push_is_repeated_over_a_new_connection_too) {
    start_training();
    struct bench_push push = {.session = 1, .seq = 30, .clock = 30, .value = 1, .base = shard_bench_version(0)};
    shard_bench_push(&bench, &push);
    shard_bench_hello(&bench, 1, 77);
    push.route = 77;
    ck_assert_uint_eq(shard_bench_push(&bench, &push)->status, LG_OK);
    ck_assert(shard_bench_value(&bench, 0) == 0.5f);
}
END_TEST

START_TEST(a_seq_names_one_part_for_ever) {
    start_training();
    const uint32_t units[] = {0, 1, 2};
    struct bench_push push = {
        .session = 1, .seq = 30, .clock = 30, .base = shard_bench_version(0), .units = units, .unit_count = 2};
    ck_assert_uint_eq(shard_bench_push(&bench, &push)->status, LG_OK);
    push.unit_count = 3;
    ck_assert_uint_eq(shard_bench_push(&bench, &push)->status, LG_INVALID);
    push.units = units + 1;
    push.unit_count = 2;
    ck_assert_uint_eq(shard_bench_push(&bench, &push)->status, LG_INVALID);
}
END_TEST

START_TEST(settled_seqs_are_refused) {
    start_training();
    struct bench_push push = {.session = 1, .seq = 30, .base = shard_bench_version(0), .seq_floor = 30};
    ck_assert_uint_eq(shard_bench_push(&bench, &push)->status, LG_OK);
    push.seq = 29;
    ck_assert_uint_eq(shard_bench_push(&bench, &push)->status, LG_STALE);
    push.seq = 31;
    push.seq_floor = 31;
    ck_assert_uint_eq(shard_bench_push(&bench, &push)->status, LG_OK);
    push.seq = 30;
    ck_assert_uint_eq(shard_bench_push(&bench, &push)->status, LG_STALE);
}
END_TEST

/* ---- leased samples */

static struct bench_reply *leased(uint64_t session, uint64_t first, uint64_t end, const uint32_t *units, size_t count) {
    return shard_bench_push(&bench, &(struct bench_push){.session = session,
                                                         .value = 1,
                                                         .base = shard_bench_version(0),
                                                         .lease = 7,
                                                         .epoch = 2,
                                                         .first = first,
                                                         .end = end,
                                                         .samples = end - first,
                                                         .units = units,
                                                         .unit_count = count});
}

START_TEST(samples_are_applied_once_whoever_sends_them) {
    start_training();
    shard_bench_join(&bench, 2);
    const uint32_t some[] = {0, 2};
    ck_assert_uint_eq(leased(1, 0, 32, some, 2)->message.push_reply.units_applied, 2);
    struct bench_reply *reply = leased(2, 0, 32, NULL, 0); /* another session, another seq: the taken-over slice */
    ck_assert_uint_eq(reply->status, LG_OK);
    ck_assert_uint_eq(reply->message.push_reply.units_repeated, 2);
    ck_assert_uint_eq(reply->message.push_reply.units_applied, 1);
    ck_assert_uint_eq(reply->message.push_reply.cut_count, 0);
    for (uint32_t i = 0; i < 3; i++)
        ck_assert(shard_bench_value(&bench, i) == 0.5f);
    reply = leased(1, 0, 32, NULL, 0);
    ck_assert_uint_eq(reply->message.push_reply.units_repeated, 3);
    ck_assert_uint_eq(reply->message.push_reply.version, shard_bench_version(2)); /* nothing applied: it stays */
    struct wire_shard_job_stats stats;
    shard_stats(bench.shard, &stats, 1);
    ck_assert_uint_eq(stats.duplicates, 1);
}
END_TEST

START_TEST(a_batch_across_a_mark_is_cut) {
    start_training();
    shard_bench_join(&bench, 2);
    const uint32_t some[] = {1};
    leased(1, 0, 32, NULL, 0);
    leased(1, 32, 48, some, 1);
    struct bench_reply *reply = leased(2, 16, 64, NULL, 0);
    ck_assert_uint_eq(reply->status, LG_OK);
    ck_assert_uint_eq(reply->message.push_reply.units_applied, 0);
    ck_assert_uint_eq(reply->message.push_reply.cut_count, 2);
    ck_assert(reply->positions[0] == 32 && reply->positions[1] == 48);
    ck_assert_uint_eq(leased(2, 16, 32, NULL, 0)->message.push_reply.units_repeated, 3);
    reply = leased(2, 32, 48, NULL, 0);
    ck_assert_uint_eq(reply->message.push_reply.units_repeated, 1);
    ck_assert_uint_eq(reply->message.push_reply.units_applied, 2);
    ck_assert_uint_eq(leased(2, 48, 64, NULL, 0)->message.push_reply.units_applied, 3);
    for (uint32_t i = 0; i < 3; i++)
        ck_assert(shard_bench_value(&bench, i) == -0.5f); /* three batches each */
}
END_TEST

START_TEST(a_cut_push_repeats_its_cuts) {
    start_training();
    leased(1, 0, 32, NULL, 0);
    struct bench_push push = {.session = 1,
                              .seq = 60,
                              .clock = 60,
                              .base = shard_bench_version(0),
                              .lease = 7,
                              .epoch = 2,
                              .first = 16,
                              .end = 64};
    ck_assert_uint_eq(shard_bench_push(&bench, &push)->message.push_reply.cut_count, 1);
    struct bench_reply *reply = shard_bench_push(&bench, &push);
    ck_assert_uint_eq(reply->message.push_reply.cut_count, 1);
    ck_assert_uint_eq(reply->positions[0], 32);
}
END_TEST

START_TEST(ranges_outside_the_epoch_are_refused) {
    start_training();
    ck_assert_uint_eq(leased(1, 990, 1001, NULL, 0)->status, LG_INVALID);
    ck_assert_uint_eq(leased(1, 5, 5, NULL, 0)->status, LG_INVALID);
}
END_TEST

START_TEST(unleased_pushes_have_no_ledger) {
    start_training();
    for (int i = 0; i < 3; i++) {
        struct bench_reply *reply = shard_bench_push(
            &bench, &(struct bench_push){.session = 1, .base = shard_bench_version(0), .first = 0, .end = 10});
        ck_assert_uint_eq(reply->message.push_reply.units_applied, 3);
    }
}
END_TEST

/* ---- weight zero */

START_TEST(too_stale_a_push_is_dropped_and_consumed) {
    shard_bench_option(&bench, "staleness.policy", "cutoff");
    shard_bench_option(&bench, "staleness.bound", "2");
    start_training();
    for (int i = 0; i < 2; i++)
        shard_bench_push(&bench, &(struct bench_push){.session = 1, .base = shard_bench_version((uint64_t)i)});
    struct bench_reply *reply = leased(1, 0, 40, NULL, 0);
    ck_assert_uint_eq(reply->status, LG_DROPPED);
    ck_assert_ptr_nonnull(strstr(reply->reason, "weight zero"));
    ck_assert_uint_eq(reply->message.push_reply.staleness, 2);
    ck_assert(reply->message.push_reply.weight == 0);
    ck_assert_uint_eq(reply->message.push_reply.units_applied, 0);
    ck_assert_uint_eq(reply->message.push_reply.version, shard_bench_version(2));
    ck_assert(shard_bench_value(&bench, 0) == 1);
    struct wire_shard_job_stats stats;
    shard_stats(bench.shard, &stats, 1);
    ck_assert_uint_eq(stats.dropped, 40);
    ck_assert_uint_eq(stats.pushes, 2);
    ck_assert_uint_eq(leased(1, 0, 40, NULL, 0)->message.push_reply.units_repeated, 3); /* consumed */
    const struct wire_message query = {.kind = WIRE_LEDGER_QUERY,
                                       .ledger_query = {.job = BENCH_JOB, .shard = BENCH_INDEX}};
    reply = shard_bench_send(&bench, SHARD_ROUTE_CONTROL, &query);
    ck_assert_uint_eq(reply->rows[0].samples_most, 0);
    ck_assert_uint_eq(reply->rows[0].dropped, 40);
}
END_TEST

/* ---- values */

START_TEST(nonfinite_parts_change_nothing) {
    start_training();
    float *values = calloc(90010, sizeof *values);
    ck_assert_ptr_nonnull(values);
    values[90005] = NAN; /* in the bias, the last unit */
    struct bench_push push = {.session = 1, .seq = 30, .clock = 30, .base = shard_bench_version(0), .values = values};
    struct bench_reply *reply = shard_bench_push(&bench, &push);
    ck_assert_uint_eq(reply->status, LG_NONFINITE);
    ck_assert_ptr_nonnull(strstr(reply->reason, "\"bias\""));
    ck_assert_ptr_nonnull(strstr(reply->reason, "unit 2"));
    ck_assert(shard_bench_value(&bench, 0) == 1);
    ck_assert_uint_eq(counter(), 0);
    values[90005] = 0;
    ck_assert_uint_eq(shard_bench_push(&bench, &push)->status, LG_OK); /* the seq was not used up */
    free(values);
}
END_TEST

START_TEST(nonfinite_parts_pass_where_the_server_says_so) {
    bench.config.reject_nonfinite = false;
    start_training();
    shard_bench_push(&bench, &(struct bench_push){.session = 1, .value = INFINITY, .base = shard_bench_version(0)});
    ck_assert(isinf(shard_unit_data(bench.shard, BENCH_JOB, 0, NULL, NULL)[0]));
}
END_TEST

START_TEST(bases_are_checked_against_the_version) {
    start_training();
    shard_bench_push(&bench, &(struct bench_push){.session = 1, .base = shard_bench_version(0)});
    ck_assert_uint_eq(
        shard_bench_push(&bench, &(struct bench_push){.session = 1, .base = shard_bench_version(2)})->status,
        LG_INVALID);
    ck_assert_ptr_nonnull(strstr(bench.reply.reason, "1.2"));
    const uint64_t next_epoch = version_make(BENCH_EPOCH + 1, 0), last_epoch = version_make(BENCH_EPOCH - 1, 900);
    ck_assert_uint_eq(shard_bench_push(&bench, &(struct bench_push){.session = 1, .base = next_epoch})->status,
                      LG_INVALID);
    struct bench_reply *reply = shard_bench_push(&bench, &(struct bench_push){.session = 1, .base = last_epoch});
    ck_assert_uint_eq(reply->status, LG_OK);
    ck_assert_uint_eq(reply->message.push_reply.staleness, 1); /* from the beginning of this epoch */
}
END_TEST

START_TEST(deltas_move_along_the_payload) {
    start_training();
    shard_bench_push(&bench, &(struct bench_push){.session = 1,
                                                  .kind = WIRE_PUSH_KIND_DELTA,
                                                  .sign = WIRE_SIGN_ADD,
                                                  .value = 0.5f,
                                                  .base = shard_bench_version(0)});
    ck_assert(shard_bench_value(&bench, 0) == 1.25f); /* 1 + 0.5 * 0.5 */
}
END_TEST

START_TEST(groups_are_treated_as_they_say) {
    shard_bench_option(&bench, "weight_decay", "0.5");
    shard_bench_option(&bench, "staleness.policy", "inverse");
    const struct tensor_spec plain = {.rank = 1, .shape = {4}, .lr_factor = 1};
    enum { PLAIN, FROZEN, UNDECAYED, SLOW, ASSIGN, AVERAGE, MIXED, COUNT };
    for (size_t i = 0; i < COUNT; i++) {
        bench.tensors[i] = plain;
        snprintf(bench.tensors[i].name, sizeof bench.tensors[i].name, "t%zu", i);
    }
    bench.tensors[FROZEN].frozen = true;
    bench.tensors[UNDECAYED].no_weight_decay = true;
    bench.tensors[SLOW].lr_factor = 0.5f;
    bench.tensors[SLOW].no_weight_decay = true;
    bench.tensors[ASSIGN].update = TENSOR_UPDATE_ASSIGN;
    bench.tensors[AVERAGE].update = TENSOR_UPDATE_AVERAGE;
    bench.tensors[MIXED].update = TENSOR_UPDATE_AVERAGE;
    bench.tensors[MIXED].lr_factor = 0.25f;
    bench.tensor_count = bench.placement_count = COUNT;
    start_training();
    struct bench_reply *reply =
        shard_bench_push(&bench, &(struct bench_push){.session = 1, .value = 2, .base = shard_bench_version(0)});
    ck_assert_uint_eq(reply->message.push_reply.units_applied, COUNT);
    const float first[COUNT] = {1 - 0.5f * 2 - 0.25f, 1, 1 - 0.5f * 2, 1 - 0.25f * 2, 2, 2, 1.25f};
    for (uint32_t i = 0; i < COUNT; i++)
        ck_assert_msg(shard_bench_value(&bench, i) == first[i], "tensor %u is %g, not %g", i,
                      (double)shard_bench_value(&bench, i), (double)first[i]);
    shard_bench_push(&bench, &(struct bench_push){.session = 1, .value = 2, .base = shard_bench_version(0)});
    /* staleness 2 against the counter 2: weight 1/2 */
    shard_bench_push(&bench, &(struct bench_push){.session = 1, .value = 0, .base = shard_bench_version(0)});
    ck_assert(shard_bench_value(&bench, FROZEN) == 1);
    ck_assert(shard_bench_value(&bench, ASSIGN) == 0);
    ck_assert(shard_bench_value(&bench, AVERAGE) == 1); /* 2 + 0.5 * (0 - 2) */
}
END_TEST

START_TEST(the_learning_rate_follows_the_samples) {
    shard_bench_option(&bench, "lr.base", "1");
    shard_bench_option(&bench, "lr.schedule", "step");
    shard_bench_option(&bench, "lr.step_samples", "10");
    shard_bench_option(&bench, "lr.step_factor", "0.5");
    start_training();
    const float expected[] = {0, -0.5f, -0.75f}; /* rates 1, 1/2, 1/4: the push's own samples count */
    for (int i = 0; i < 3; i++) {
        shard_bench_push(
            &bench,
            &(struct bench_push){.session = 1, .value = 1, .samples = i == 0 ? 9 : 10, .base = shard_bench_version(0)});
        ck_assert(shard_bench_value(&bench, 0) == expected[i]);
    }
}
END_TEST

START_TEST(bias_correction_counts_the_units_own_updates) {
    shard_bench_option(&bench, "updater.kind", "adam");
    shard_bench_option(&bench, "lr.base", "0.125");
    start_training();
    const uint32_t first = 0, second = 1;
    for (int i = 0; i < 50; i++)
        shard_bench_push(
            &bench, &(struct bench_push){
                        .session = 1, .value = 1, .base = shard_bench_version(0), .units = &first, .unit_count = 1});
    shard_bench_push(&bench,
                     &(struct bench_push){
                         .session = 1, .value = 1, .base = shard_bench_version(0), .units = &second, .unit_count = 1});
    /* Adam's first step is the learning rate itself, also for a unit that is touched late. */
    ck_assert_float_eq_tol(shard_bench_value(&bench, 1), 1 - 0.125f, 1e-5f);
}
END_TEST

/* ---- initial values */

START_TEST(initial_values_are_set_until_training_begins) {
    start_training();
    shard_bench_initialise(&bench, 1, 3); /* a second initialiser finishes what a first one began */
    ck_assert(shard_bench_value(&bench, 0) == 3);
    shard_bench_push(&bench, &(struct bench_push){.session = 1, .value = 2, .base = shard_bench_version(0)});
    struct bench_reply *reply =
        shard_bench_push(&bench, &(struct bench_push){.session = 1, .kind = WIRE_PUSH_KIND_INITIAL, .value = 9});
    ck_assert_uint_eq(reply->status, LG_OK);
    ck_assert_uint_eq(reply->message.push_reply.units_repeated, BENCH_UNITS);
    ck_assert(shard_bench_value(&bench, 0) == 2);
    ck_assert_uint_eq(counter(), 1); /* initial values are no update */
}
END_TEST

START_TEST(gradients_wait_for_initial_values) {
    shard_bench_start(&bench);
    shard_bench_join(&bench, 1);
    struct bench_push push = {.session = 1, .seq = 5, .clock = 5, .value = 1, .base = shard_bench_version(0)};
    struct bench_reply *reply = shard_bench_push(&bench, &push);
    ck_assert_uint_eq(reply->status, LG_UNAVAILABLE);
    ck_assert_ptr_nonnull(strstr(reply->reason, "no initial values"));
    shard_bench_initialise(&bench, 1, 1);
    ck_assert_uint_eq(shard_bench_push(&bench, &push)->status, LG_OK);
}
END_TEST

START_TEST(only_the_holder_of_the_lease_initialises) {
    shard_bench_start(&bench);
    const struct wire_message open = {
        .kind = WIRE_SESSION_OPEN,
        .session_open = {
            .job = BENCH_JOB, .shard = BENCH_INDEX, .session = 2, .incarnation = 1, .token = 6, .may_push = true}};
    shard_bench_send(&bench, SHARD_ROUTE_CONTROL, &open);
    shard_bench_hello(&bench, 2, 2);
    ck_assert_uint_eq(
        shard_bench_push(&bench, &(struct bench_push){.session = 2, .kind = WIRE_PUSH_KIND_INITIAL})->status,
        LG_DENIED);
}
END_TEST

/* ---- headers that do not hold */

static struct wire_message message;
static const struct wire_unit bias = {.unit = 2, .elements = 10};
static float ten[11];
static const struct wire_bytes payload = {ten, 40};
static struct wire_cover the_cover;

static uint32_t send_raw(void) {
    return shard_bench_send(&bench, 1, &message)->status;
}

static void raw_push(void) {
    the_cover = (struct wire_cover){.session = 1, .incarnation = 1};
    message = (struct wire_message){
        .kind = WIRE_PUSH, .units = &bias, .unit_count = 1, .payload = &payload, .payload_count = 1};
    message.push = (struct wire_push){.session = 1,
                                      .incarnation = 1,
                                      .seq = bench.next_seq++,
                                      .job = BENCH_JOB,
                                      .map_version = BENCH_MAP,
                                      .clock = bench.next_clock++,
                                      .part_count = 1,
                                      .samples = 1,
                                      .base = shard_bench_version(0),
                                      .covers = &the_cover,
                                      .cover_count = 1};
}

START_TEST(broken_headers_are_refused_and_nothing_changes) {
    start_training();
    raw_push();
    message.push.map_version++;
    ck_assert_uint_eq(send_raw(), LG_FENCED);
    raw_push();
    message.push.incarnation = 2;
    ck_assert_uint_eq(send_raw(), LG_DENIED);
    raw_push();
    message.push.codec = 4;
    ck_assert_uint_eq(send_raw(), LG_UNSUPPORTED);
    raw_push();
    message.push.codec = 1;
    message.push.dtype = WIRE_DTYPE_BF16;
    ck_assert_uint_eq(send_raw(), LG_UNSUPPORTED);
    raw_push();
    message.push.codec = 3; /* too short for that */
    ck_assert_uint_eq(send_raw(), LG_INVALID);
    raw_push();
    message.push.dtype = WIRE_DTYPE_BF16;
    message.push.kind = WIRE_PUSH_KIND_INITIAL;
    ck_assert_uint_eq(send_raw(), LG_INVALID);
    raw_push();
    the_cover.session = 2;
    ck_assert_uint_eq(send_raw(), LG_UNSUPPORTED);
    raw_push();
    message.push.seq = 0;
    ck_assert_uint_eq(send_raw(), LG_INVALID);
    raw_push();
    message.push.seq = UINT64_MAX; /* nothing could come after it */
    ck_assert_uint_eq(send_raw(), LG_INVALID);
    raw_push();
    message.unit_count = 0;
    ck_assert_uint_eq(send_raw(), LG_INVALID);
    raw_push();
    message.payload_count = 0;
    ck_assert_uint_eq(send_raw(), LG_INVALID);
    raw_push();
    const struct wire_bytes longer = {ten, 44};
    message.payload = &longer;
    ck_assert_uint_eq(send_raw(), LG_INVALID);
    raw_push();
    const struct wire_unit wrong = {.unit = 2, .elements = 9};
    message.units = &wrong;
    ck_assert_uint_eq(send_raw(), LG_INVALID);
    raw_push();
    const struct wire_unit twice[] = {bias, bias};
    const struct wire_bytes both[] = {payload, payload};
    message.units = twice;
    message.unit_count = 2;
    message.payload = both;
    message.payload_count = 2;
    ck_assert_uint_eq(send_raw(), LG_INVALID);
    ck_assert_uint_eq(counter(), 0);
    raw_push();
    ck_assert_uint_eq(send_raw(), LG_OK);
    ck_assert_uint_eq(counter(), 1);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("shard_push");
    TCase *tests = tcase_create("shard_push");
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, the_counter_moves_once_at_the_last_part);
    tcase_add_test(tests, staleness_and_weight_are_fixed_at_the_first_part);
    tcase_add_test(tests, parts_of_two_pushes_may_mix);
    tcase_add_test(tests, unit_versions_differ_whenever_values_do);
    tcase_add_test(tests, a_units_version_is_the_jobs_after_its_last_push);
    tcase_add_test(tests, a_closed_session_ends_its_push);
    tcase_add_test(tests, pushes_that_never_finish_give_way);
    tcase_add_test(tests, part_counts_must_agree);
    tcase_add_test(tests, a_repeated_push_is_answered_and_not_applied);
    tcase_add_test(tests, a_push_is_repeated_over_a_new_connection_too);
    tcase_add_test(tests, values_of_an_unfinished_push_have_the_base_of_when_it_is_whole);
    tcase_add_test(tests, values_of_a_push_that_changed_nothing_have_the_base_of_now);
    tcase_add_test(tests, values_come_with_a_push_that_was_dropped_too);
    tcase_add_test(tests, a_seq_names_one_part_for_ever);
    tcase_add_test(tests, settled_seqs_are_refused);
    tcase_add_test(tests, samples_are_applied_once_whoever_sends_them);
    tcase_add_test(tests, a_batch_across_a_mark_is_cut);
    tcase_add_test(tests, a_cut_push_repeats_its_cuts);
    tcase_add_test(tests, ranges_outside_the_epoch_are_refused);
    tcase_add_test(tests, unleased_pushes_have_no_ledger);
    tcase_add_test(tests, too_stale_a_push_is_dropped_and_consumed);
    tcase_add_test(tests, nonfinite_parts_change_nothing);
    tcase_add_test(tests, nonfinite_parts_pass_where_the_server_says_so);
    tcase_add_test(tests, bases_are_checked_against_the_version);
    tcase_add_test(tests, deltas_move_along_the_payload);
    tcase_add_test(tests, groups_are_treated_as_they_say);
    tcase_add_test(tests, the_learning_rate_follows_the_samples);
    tcase_add_test(tests, bias_correction_counts_the_units_own_updates);
    tcase_add_test(tests, initial_values_are_set_until_training_begins);
    tcase_add_test(tests, gradients_wait_for_initial_values);
    tcase_add_test(tests, only_the_holder_of_the_lease_initialises);
    tcase_add_test(tests, broken_headers_are_refused_and_nothing_changes);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
