#include "server/coordinator/leases.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "common/random.h"

static struct leases leases_of(uint64_t samples, uint64_t epochs, uint64_t every) {
    struct leases leases;
    struct leases_config config = {.samples = samples, .epochs = epochs, .evaluate_every = every, .evaluate = true};
    ck_assert_int_eq(leases_init(&leases, &config, NULL), LG_OK);
    return leases;
}

static const struct slice *take(struct leases *leases, uint64_t holder, uint64_t samples) {
    return leases_take(leases, holder, 0, samples, 1, 7);
}

static uint64_t evaluate(struct leases *leases, uint64_t holder, uint64_t *lease) {
    uint64_t due = leases_evaluation_take(leases, holder, 0);
    if (due)
        *lease = leases->position.evaluate_lease;
    return due;
}

static void expect_slice(const struct slice *slice, uint64_t epoch, uint64_t first, uint64_t end) {
    ck_assert_ptr_nonnull(slice);
    ck_assert_uint_eq(slice->epoch, epoch);
    ck_assert_uint_eq(slice->first, first);
    ck_assert_uint_eq(slice->end, end);
}

START_TEST(slices_are_cut_in_order) {
    struct leases leases = leases_of(10, 2, 1);
    expect_slice(take(&leases, 1, 4), 0, 0, 4);
    expect_slice(take(&leases, 2, 4), 0, 4, 8);
    expect_slice(take(&leases, 1, 4), 0, 8, 10);
    /* the next epoch is handed out while slices of this one are out */
    expect_slice(take(&leases, 1, 100), 1, 0, 10);
    ck_assert_ptr_null(take(&leases, 2, 4));
    ck_assert_uint_eq(leases_epochs_complete(&leases), 0);
    ck_assert_uint_eq(leases_samples_done(&leases), 0);
    for (uint64_t lease = 1; lease <= 3; lease++)
        ck_assert_int_eq(leases_done(&leases, lease, 1, lease == 2 ? 2 : 1), LG_OK);
    ck_assert_uint_eq(leases_epochs_complete(&leases), 1);
    ck_assert_uint_eq(leases_samples_done(&leases), 10);
    ck_assert(!leases_trained(&leases));
    ck_assert_int_eq(leases_done(&leases, 4, 1, 1), LG_OK);
    ck_assert(leases_trained(&leases));
    ck_assert(!leases_finished(&leases));
    leases_deinit(&leases);
}
END_TEST

START_TEST(a_rest_below_a_batch_is_not_left_over) {
    struct leases leases = leases_of(100, 1, 0);
    expect_slice(leases_take(&leases, 1, 0, 64, 32, 0), 0, 0, 64);
    expect_slice(leases_take(&leases, 1, 0, 32, 32, 0), 0, 64, 100);
    leases_deinit(&leases);
}
END_TEST

START_TEST(reports_are_idempotent_and_fenced) {
    struct leases leases = leases_of(10, 1, 0);
    uint64_t lease = take(&leases, 1, 5)->lease;
    ck_assert_int_eq(leases_done(&leases, lease, 1, 2), LG_FENCED);
    ck_assert_int_eq(leases_done(&leases, lease, 2, 1), LG_FENCED);
    ck_assert_int_eq(leases_done(&leases, 99, 1, 1), LG_NOT_FOUND);
    ck_assert_int_eq(leases_done(&leases, 0, 1, 1), LG_NOT_FOUND);
    ck_assert_int_eq(leases_done(&leases, lease, 1, 1), LG_OK);
    ck_assert_int_eq(leases_done(&leases, lease, 1, 1), LG_OK);
    ck_assert_uint_eq(leases_samples_done(&leases), 5);
    leases_deinit(&leases);
}
END_TEST

START_TEST(a_repeated_request_finds_its_grant) {
    struct leases leases = leases_of(10, 1, 0);
    uint64_t lease = leases_take(&leases, 1, 77, 5, 1, 0)->lease;
    ck_assert_uint_eq(leases_granted(&leases, 1, 77)->lease, lease);
    ck_assert_ptr_null(leases_granted(&leases, 1, 78));
    ck_assert_ptr_null(leases_granted(&leases, 2, 77));
    ck_assert_int_eq(leases_done(&leases, lease, 1, 1), LG_OK);
    ck_assert_ptr_null(leases_granted(&leases, 1, 77));
    leases_deinit(&leases);
}
END_TEST

START_TEST(nobody_runs_far_ahead) {
    struct leases leases = leases_of(10, 100, 0);
    uint64_t first = take(&leases, 1, 10)->lease;
    for (int epoch = 1; epoch < LEASES_AHEAD_MAX; epoch++)
        ck_assert_int_eq(leases_done(&leases, take(&leases, 2, 10)->lease, 1, 2), LG_OK);
    ck_assert_ptr_null(take(&leases, 2, 10));
    ck_assert_int_eq(leases_done(&leases, first, 1, 1), LG_OK);
    ck_assert_ptr_nonnull(take(&leases, 2, 10));
    leases_deinit(&leases);
}
END_TEST

START_TEST(a_lost_slice_resumes_at_its_mark) {
    struct leases leases = leases_of(100, 1, 0);
    uint64_t lease = take(&leases, 1, 50)->lease;
    take(&leases, 2, 10);
    ck_assert_uint_eq(leases_revoke(&leases, 1), 1);
    ck_assert_uint_eq(leases_revoke(&leases, 1), 0);
    ck_assert_uint_eq(leases_lost(&leases, 0)->lease, lease);
    ck_assert_ptr_null(leases_lost(&leases, lease));
    /* not before the marks are known */
    expect_slice(take(&leases, 3, 10), 0, 60, 70);
    const uint64_t cuts[] = {10, 20, 20, 30, 50};
    ck_assert_int_eq(leases_give_back(&leases, lease, 20, cuts, 5), LG_OK);
    ck_assert_int_eq(leases_give_back(&leases, lease, 20, cuts, 5), LG_NOT_FOUND);
    ck_assert_uint_eq(leases.position.taken_over, 1);
    const struct slice *slice = take(&leases, 3, 50);
    expect_slice(slice, 0, 20, 50);
    ck_assert_uint_eq(slice->lease, lease);
    ck_assert_uint_eq(slice->fence, 2);
    ck_assert_uint_eq(slice->cut_count, 1);
    ck_assert_uint_eq(slice->cuts[0], 30);
    ck_assert_int_eq(leases_done(&leases, lease, 1, 1), LG_FENCED);
    ck_assert_int_eq(leases_done(&leases, lease, 2, 3), LG_OK);
    leases_deinit(&leases);
}
END_TEST

START_TEST(a_slice_applied_everywhere_is_done) {
    struct leases leases = leases_of(100, 1, 0);
    uint64_t lease = take(&leases, 1, 100)->lease;
    leases_revoke(&leases, 1);
    ck_assert_int_eq(leases_give_back(&leases, lease, 100, NULL, 0), LG_OK);
    ck_assert(leases_trained(&leases));
    ck_assert_uint_eq(leases.position.taken_over, 0);
    leases_deinit(&leases);
}
END_TEST

START_TEST(a_returned_slice_is_split_for_a_slow_trainer) {
    struct leases leases = leases_of(100, 1, 0);
    uint64_t lease = take(&leases, 1, 100)->lease;
    leases_revoke(&leases, 1);
    const uint64_t cuts[] = {10, 30, 40};
    ck_assert_int_eq(leases_give_back(&leases, lease, 0, cuts, 3), LG_OK);
    const struct slice *slice = take(&leases, 2, 30);
    expect_slice(slice, 0, 0, 30);
    ck_assert_uint_eq(slice->cut_count, 1);
    slice = take(&leases, 3, 70);
    expect_slice(slice, 0, 30, 100);
    ck_assert_uint_eq(slice->cut_count, 1);
    ck_assert_uint_eq(slice->cuts[0], 40);
    ck_assert_uint_ne(slice->lease, lease);
    leases_deinit(&leases);
}
END_TEST

START_TEST(sizes_follow_speed_and_shrink_at_the_end) {
    struct leases leases = leases_of(10000, 1, 0);
    ck_assert_uint_eq(leases_slice_samples(&leases, 0, 5000, 32, 3), 128);
    ck_assert_uint_eq(leases_slice_samples(&leases, 100, 5000, 32, 3), 480);
    ck_assert_uint_eq(leases_slice_samples(&leases, 1e9, 5000, 32, 2), 2496);
    ck_assert_uint_eq(leases_slice_samples(&leases, 0.001, 5000, 32, 2), 32);
    take(&leases, 1, 9900);
    ck_assert_uint_eq(leases_slice_samples(&leases, 1e9, 5000, 32, 1), 32);
    leases_deinit(&leases);
}
END_TEST

START_TEST(evaluations_come_after_epochs_and_at_the_end) {
    struct leases leases = leases_of(10, 5, 2);
    uint64_t lease = 0, again = 0;
    for (uint64_t epoch = 0; epoch < 5; epoch++) {
        uint64_t due = evaluate(&leases, 9, &lease);
        ck_assert_uint_eq(due, epoch >= 2 && epoch % 2 == 0 ? epoch : 0);
        if (due) {
            ck_assert_uint_eq(evaluate(&leases, 8, &again), 0);
            if (epoch == 2) { /* its holder is lost: leased again */
                leases_revoke(&leases, 9);
                ck_assert_uint_eq(evaluate(&leases, 8, &again), 2);
                ck_assert_uint_ne(again, lease);
                ck_assert_int_eq(leases_evaluation_done(&leases, lease, 9), LG_FENCED);
                ck_assert_int_eq(leases_evaluation_done(&leases, again, 8), LG_OK);
                ck_assert_int_eq(leases_evaluation_done(&leases, again, 8), LG_EXISTS);
            } else {
                ck_assert_int_eq(leases_evaluation_done(&leases, lease, 9), LG_OK);
            }
        }
        const struct slice *slice = take(&leases, 1, 10);
        ck_assert_int_eq(leases_done(&leases, slice->lease, 1, 1), LG_OK);
    }
    ck_assert(leases_trained(&leases) && !leases_finished(&leases));
    ck_assert_uint_eq(evaluate(&leases, 9, &lease), 5);
    ck_assert_int_eq(leases_evaluation_done(&leases, lease, 9), LG_OK);
    ck_assert(leases_finished(&leases));
    ck_assert_uint_eq(evaluate(&leases, 9, &lease), 0);
    leases_deinit(&leases);
}
END_TEST

START_TEST(an_overtaken_evaluation_is_left_out) {
    struct leases leases = leases_of(10, 4, 1);
    uint64_t lease;
    for (int i = 0; i < 3; i++) {
        const struct slice *slice = take(&leases, 1, 10);
        ck_assert_int_eq(leases_done(&leases, slice->lease, 1, 1), LG_OK);
    }
    ck_assert_uint_eq(evaluate(&leases, 1, &lease), 3);
    leases_deinit(&leases);
}
END_TEST

/* ---- a store in memory, to restore from at any moment */

enum { ROWS_MAX = 4096 };

struct rows {
    struct leases_position position;
    struct slice slices[ROWS_MAX];
    bool there[ROWS_MAX];
};

static void keep_position(void *context, const struct leases_position *position) {
    ((struct rows *)context)->position = *position;
}
static void keep_slice(void *context, const struct slice *slice) {
    struct rows *rows = context;
    ck_assert_uint_lt(slice->lease, ROWS_MAX);
    free(rows->slices[slice->lease].cuts);
    rows->slices[slice->lease] = *slice;
    rows->slices[slice->lease].cuts = malloc((slice->cut_count + 1) * sizeof *slice->cuts);
    if (slice->cut_count)
        memcpy(rows->slices[slice->lease].cuts, slice->cuts, slice->cut_count * sizeof *slice->cuts);
    rows->there[slice->lease] = true;
}
static void drop_slice(void *context, uint64_t lease) {
    ((struct rows *)context)->there[lease] = false;
}

static void restart(struct leases *leases, struct rows *rows) {
    struct leases_visitor visitor = {rows, keep_position, keep_slice, drop_slice};
    struct leases_config config = leases->config;
    leases_changes(leases, &visitor);
    leases_deinit(leases);
    ck_assert_int_eq(leases_init(leases, &config, NULL), LG_OK);
    ck_assert_int_eq(leases_restore_position(leases, &rows->position, NULL), LG_OK);
    for (size_t i = 0; i < ROWS_MAX; i++)
        if (rows->there[i])
            ck_assert_int_eq(leases_restore_slice(leases, &rows->slices[i], NULL), LG_OK);
}

enum { N = 257, EPOCHS = 4, HOLDERS = 5, UNITS = 3 };

/* What the shards know: per unit, epoch and sample, how often it was applied. */
static uint8_t applied[UNITS][EPOCHS][N];

/* Between two cuts a unit has all samples or none: else a batch would be applied partly, or twice. */
static void expect_even(const struct slice *slice) {
    for (size_t cut = 0; cut <= slice->cut_count; cut++) {
        uint64_t first = cut ? slice->cuts[cut - 1] : slice->first;
        uint64_t end = cut < slice->cut_count ? slice->cuts[cut] : slice->end;
        for (int unit = 0; unit < UNITS; unit++)
            for (uint64_t i = first; i < end; i++)
                ck_assert_uint_eq(applied[unit][slice->epoch][i], applied[unit][slice->epoch][first]);
    }
}

/* Applies [first, end) to the first `units` units. Samples that a unit has already are passed over, as a shard does. */
static void apply(const struct slice *slice, uint64_t first, uint64_t end, int units) {
    for (int unit = 0; unit < units; unit++)
        for (uint64_t i = first; i < end; i++)
            applied[unit][slice->epoch][i] = 1;
}

static void work(struct random *random, struct leases *leases, const struct slice *slice, bool dies) {
    expect_even(slice);
    uint64_t at = slice->first, length = slice->end - slice->first;
    uint64_t stop = dies ? slice->first + random_below(random, length + 1) : slice->end;
    apply(slice, at, stop, UNITS);
    if (dies && stop < slice->end) { /* the last batch reaches only some shards */
        uint64_t end = stop + 1 + random_below(random, slice->end - stop);
        apply(slice, stop, end, 1 + (int)random_below(random, UNITS - 1));
    }
    if (!dies)
        ck_assert_int_eq(leases_done(leases, slice->lease, slice->fence, slice->holder), LG_OK);
}

/* The least position not applied everywhere, and every place where some unit's coverage begins or ends. */
static uint64_t marks_of(const struct slice *slice, uint64_t *cuts, size_t *count) {
    uint64_t resume = slice->end;
    *count = 0;
    for (uint64_t i = slice->end; i-- > slice->first;)
        for (int unit = 0; unit < UNITS; unit++)
            if (!applied[unit][slice->epoch][i])
                resume = i;
    for (uint64_t i = slice->first + 1; i < slice->end; i++) {
        bool edge = false;
        for (int unit = 0; unit < UNITS; unit++)
            edge = edge || applied[unit][slice->epoch][i] != applied[unit][slice->epoch][i - 1];
        if (edge)
            cuts[(*count)++] = i;
    }
    return resume;
}

START_TEST(every_sample_is_done_exactly_once) {
    struct random random;
    static struct rows rows;
    uint64_t lease = 0, cuts[N], seed = 1000 + (uint64_t)_i, out[HOLDERS][8];
    size_t cut_count, held[HOLDERS] = {0}, evaluations = 0, restarts = 0;
    random_init(&random, seed);
    memset(applied, 0, sizeof applied);
    struct leases leases = leases_of(N, EPOCHS, 1);
    uint64_t session[HOLDERS], next_session = HOLDERS + 1;
    for (size_t i = 0; i < HOLDERS; i++)
        session[i] = i + 1;
    for (int step = 0; step < 100000 && !leases_finished(&leases); step++) {
        size_t who = random_below(&random, HOLDERS);
        uint64_t dice = random_below(&random, 100);
        const struct slice *slice;
        if (dice < 40 && held[who] < 2) {
            slice = leases_take(&leases, session[who], 0, 1 + random_below(&random, 40), 4, step);
            if (slice)
                out[who][held[who]++] = slice->lease;
        } else if (dice < 80 && held[who] > 0) {
            slice = leases_find(&leases, out[who][0]);
            ck_assert_msg(slice && slice->holder == session[who], "seed %llu", (unsigned long long)seed);
            work(&random, &leases, slice, false);
            out[who][0] = out[who][1];
            held[who]--;
        } else if (dice < 90) { /* this holder is lost */
            for (size_t i = 0; i < held[who]; i++)
                work(&random, &leases, leases_find(&leases, out[who][i]), true);
            leases_revoke(&leases, session[who]);
            held[who] = 0;
            session[who] = next_session++;
        } else if (dice < 95) {
            slice = leases_lost(&leases, 0);
            if (slice) {
                uint64_t resume = marks_of(slice, cuts, &cut_count);
                ck_assert_int_eq(leases_give_back(&leases, slice->lease, resume, cuts, cut_count), LG_OK);
            }
        } else if (dice < 98) {
            uint64_t due = evaluate(&leases, session[who], &lease);
            if (due && random_below(&random, 2)) {
                ck_assert_int_eq(leases_evaluation_done(&leases, lease, session[who]), LG_OK);
                evaluations++;
            } else if (due) {
                for (size_t i = 0; i < held[who]; i++)
                    work(&random, &leases, leases_find(&leases, out[who][i]), true);
                leases_revoke(&leases, session[who]);
                held[who] = 0;
                session[who] = next_session++;
            }
        } else {
            restart(&leases, &rows);
            restarts++;
        }
    }
    ck_assert_msg(leases_finished(&leases), "seed %llu does not end", (unsigned long long)seed);
    ck_assert_uint_eq(leases_samples_done(&leases), N * EPOCHS);
    ck_assert_uint_ge(evaluations, 1);
    ck_assert_uint_ge(restarts, 1);
    for (int unit = 0; unit < UNITS; unit++)
        for (int epoch = 0; epoch < EPOCHS; epoch++)
            for (int i = 0; i < N; i++)
                ck_assert_msg(applied[unit][epoch][i] == 1, "seed %llu: unit %d, epoch %d, sample %d was left out",
                              (unsigned long long)seed, unit, epoch, i);
    leases_deinit(&leases);
}
END_TEST

/* Slices out at the same time never overlap, whatever is returned in which order. */
START_TEST(slices_never_overlap) {
    struct random random;
    struct leases leases = leases_of(N, 2, 0);
    random_init(&random, 77 + (uint64_t)_i);
    for (int step = 0; step < 400; step++) {
        uint64_t holder = 1 + random_below(&random, 4);
        uint64_t dice = random_below(&random, 3);
        const struct slice *lost = leases_lost(&leases, 0);
        if (dice == 0)
            leases_take(&leases, holder, 0, 1 + random_below(&random, 20), 1, 0);
        else if (dice == 1)
            leases_revoke(&leases, holder);
        else if (lost)
            ck_assert_int_eq(leases_give_back(&leases, lost->lease, lost->first + random_below(&random, 3), NULL, 0),
                             LG_OK);
        for (size_t i = 0; i < leases.count; i++)
            for (size_t j = i + 1; j < leases.count; j++) {
                const struct slice *a = &leases.slices[i], *b = &leases.slices[j];
                ck_assert(a->epoch != b->epoch || a->end <= b->first || b->end <= a->first);
                ck_assert_uint_ne(a->lease, b->lease);
            }
    }
    leases_deinit(&leases);
}
END_TEST

START_TEST(rows_that_do_not_fit_are_refused) {
    struct leases leases = leases_of(10, 2, 0);
    struct leases_position position = {.epoch = 2, .first = 1, .next_lease = 5};
    ck_assert_int_eq(leases_restore_position(&leases, &position, NULL), LG_INVALID);
    position = (struct leases_position){.epoch = 1, .first = 4, .next_lease = 5};
    ck_assert_int_eq(leases_restore_position(&leases, &position, NULL), LG_OK);
    struct slice slice = {.lease = 3, .fence = 1, .epoch = 1, .first = 0, .end = 4, .state = SLICE_STATE_QUEUED};
    ck_assert_int_eq(leases_restore_slice(&leases, &slice, NULL), LG_OK);
    ck_assert_int_eq(leases_restore_slice(&leases, &slice, NULL), LG_INVALID); /* twice */
    slice.lease = 4, slice.end = 5;                                            /* beyond what was cut */
    ck_assert_int_eq(leases_restore_slice(&leases, &slice, NULL), LG_INVALID);
    slice.lease = 5, slice.end = 4;
    ck_assert_int_eq(leases_restore_slice(&leases, &slice, NULL), LG_INVALID);
    leases_deinit(&leases);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("leases");
    TCase *tests = tcase_create("leases");
    tcase_add_test(tests, slices_are_cut_in_order);
    tcase_add_test(tests, a_rest_below_a_batch_is_not_left_over);
    tcase_add_test(tests, reports_are_idempotent_and_fenced);
    tcase_add_test(tests, a_repeated_request_finds_its_grant);
    tcase_add_test(tests, nobody_runs_far_ahead);
    tcase_add_test(tests, a_lost_slice_resumes_at_its_mark);
    tcase_add_test(tests, a_slice_applied_everywhere_is_done);
    tcase_add_test(tests, a_returned_slice_is_split_for_a_slow_trainer);
    tcase_add_test(tests, sizes_follow_speed_and_shrink_at_the_end);
    tcase_add_test(tests, evaluations_come_after_epochs_and_at_the_end);
    tcase_add_test(tests, an_overtaken_evaluation_is_left_out);
    tcase_add_test(tests, rows_that_do_not_fit_are_refused);
    tcase_add_loop_test(tests, every_sample_is_done_exactly_once, 0, 40);
    tcase_add_loop_test(tests, slices_never_overlap, 0, 10);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
