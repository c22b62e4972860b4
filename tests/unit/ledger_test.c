#include "server/ledger.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/random.h"

static struct wire_cover cover(uint64_t epoch, uint64_t first, uint64_t end) {
    return (struct wire_cover){.lease = 1, .epoch = epoch, .first = first, .end = end, .samples = end - first};
}

/* What a shard does with a batch on one unit; true when it was applied. */
static bool take(struct ledger *ledger, uint32_t unit, uint64_t epoch, uint64_t first, uint64_t end) {
    const struct wire_cover range = cover(epoch, first, end);
    if (ledger_overlap(ledger, unit, &range, 1) != INTERVALS_NONE)
        return false;
    ck_assert_int_eq(ledger_reserve(ledger, unit, &range, 1, NULL), LG_OK);
    ledger_mark(ledger, unit, &range, 1, false);
    ledger_fold(ledger);
    return true;
}

static struct wire_ledger_row row_of(const struct ledger *ledger, uint64_t epoch) {
    static struct wire_ledger_row rows[WIRE_ROWS_MAX];
    size_t count = ledger_rows(ledger, rows);
    for (size_t i = 0; i < count; i++) {
        ck_assert(i == 0 || rows[i - 1].epoch < rows[i].epoch);
        if (rows[i].epoch == epoch)
            return rows[i];
    }
    ck_abort_msg("no row of epoch %llu", (unsigned long long)epoch);
}

START_TEST(complete_epochs_fold_into_exact_rows) {
    struct ledger ledger;
    ck_assert_int_eq(ledger_init(&ledger, 2, 100, NULL), LG_OK);
    ck_assert(take(&ledger, 0, 5, 0, 60));
    ck_assert(take(&ledger, 1, 5, 40, 100));
    struct wire_ledger_row row = row_of(&ledger, 5);
    ck_assert_uint_eq(row.samples_least, 60);
    ck_assert_uint_eq(row.samples_most, 60);
    ck_assert(take(&ledger, 0, 5, 60, 100));
    ck_assert(take(&ledger, 0, 6, 0, 10)); /* the next epoch begins before the last one ends */
    row = row_of(&ledger, 5);
    ck_assert_uint_eq(row.samples_least, 60);
    ck_assert_uint_eq(row.samples_most, 100);
    ck_assert(take(&ledger, 1, 5, 0, 40));
    ck_assert_uint_eq(ledger.open_count, 1);
    row = row_of(&ledger, 5);
    ck_assert_uint_eq(row.samples_least, 100);
    ck_assert_uint_eq(row.samples_most, 100);
    ck_assert(!take(&ledger, 0, 5, 0, 10)); /* stays complete */
    ck_assert(!take(&ledger, 1, 5, 99, 100));
    ledger_deinit(&ledger);
}
END_TEST

START_TEST(dropped_samples_are_consumed_and_counted_apart) {
    struct ledger ledger;
    ck_assert_int_eq(ledger_init(&ledger, 1, 100, NULL), LG_OK);
    const struct wire_cover dropped = cover(0, 10, 30);
    ck_assert_int_eq(ledger_reserve(&ledger, 0, &dropped, 1, NULL), LG_OK);
    ledger_mark(&ledger, 0, &dropped, 1, true);
    ck_assert(!take(&ledger, 0, 0, 10, 30));
    ck_assert(take(&ledger, 0, 0, 0, 10));
    ck_assert(take(&ledger, 0, 0, 30, 100));
    ck_assert_uint_eq(ledger.open_count, 0);
    struct wire_ledger_row row = row_of(&ledger, 0);
    ck_assert_uint_eq(row.samples_least, 80);
    ck_assert_uint_eq(row.samples_most, 80);
    ck_assert_uint_eq(row.dropped, 20);
    ledger_deinit(&ledger);
}
END_TEST

START_TEST(covers_are_checked) {
    struct ledger ledger;
    ck_assert_int_eq(ledger_init(&ledger, 1, 100, NULL), LG_OK);
    struct wire_cover covers[] = {cover(0, 10, 20), cover(0, 20, 30)};
    ck_assert_int_eq(ledger_check(&ledger, covers, 2, NULL), LG_OK);
    covers[1] = cover(0, 19, 30);
    ck_assert_int_eq(ledger_check(&ledger, covers, 2, NULL), LG_INVALID);
    covers[1].epoch = 1;
    ck_assert_int_eq(ledger_check(&ledger, covers, 2, NULL), LG_OK);
    covers[1] = cover(0, 90, 101); /* beyond the epoch */
    ck_assert_int_eq(ledger_check(&ledger, covers, 2, NULL), LG_INVALID);
    covers[1] = cover(0, 50, 50); /* empty */
    ck_assert_int_eq(ledger_check(&ledger, covers, 2, NULL), LG_INVALID);
    covers[1].lease = 0; /* not leased: not counted */
    ck_assert_int_eq(ledger_check(&ledger, covers, 2, NULL), LG_OK);
    ck_assert_int_eq(ledger_overlap(&ledger, 0, &covers[1], 1), INTERVALS_NONE);
    ledger_deinit(&ledger);
}
END_TEST

START_TEST(several_covers_count_as_one_batch) {
    struct ledger ledger;
    ck_assert_int_eq(ledger_init(&ledger, 1, 100, NULL), LG_OK);
    ck_assert(take(&ledger, 0, 0, 0, 10));
    ck_assert(take(&ledger, 0, 1, 0, 10));
    struct wire_cover covers[] = {cover(0, 0, 10), cover(1, 0, 10)};
    ck_assert_int_eq(ledger_overlap(&ledger, 0, covers, 2), INTERVALS_ALL);
    covers[1] = cover(1, 10, 20);
    ck_assert_int_eq(ledger_overlap(&ledger, 0, covers, 2), INTERVALS_PARTLY);
    covers[0] = cover(0, 10, 20);
    ck_assert_int_eq(ledger_overlap(&ledger, 0, covers, 2), INTERVALS_NONE);
    ledger_deinit(&ledger);
}
END_TEST

START_TEST(epochs_without_a_size_never_fold) {
    struct ledger ledger;
    ck_assert_int_eq(ledger_init(&ledger, 1, 0, NULL), LG_OK);
    ck_assert(take(&ledger, 0, 0, 0, UINT64_MAX - 1));
    ck_assert_uint_eq(ledger.open_count, 1);
    ledger_deinit(&ledger);
}
END_TEST

START_TEST(memory_is_bounded) {
    struct ledger ledger;
    struct lg_error error = {0};
    ck_assert_int_eq(ledger_init(&ledger, 1, 100000, NULL), LG_OK);
    for (uint64_t epoch = 0; epoch < LEDGER_OPEN_MAX; epoch++)
        ck_assert(take(&ledger, 0, epoch, 0, 1));
    const struct wire_cover more = cover(LEDGER_OPEN_MAX, 0, 1);
    ck_assert_int_eq(ledger_reserve(&ledger, 0, &more, 1, &error), LG_UNAVAILABLE);
    for (uint64_t i = 1; i < LEDGER_INTERVALS_MAX; i++)
        ck_assert(take(&ledger, 0, 0, 2 * i, 2 * i + 1));
    const struct wire_cover hole = cover(0, 99999, 100000);
    ck_assert_int_eq(ledger_reserve(&ledger, 0, &hole, 1, &error), LG_UNAVAILABLE);
    ledger_deinit(&ledger);
}
END_TEST

START_TEST(old_rows_are_forgotten_but_stay_complete) {
    struct ledger ledger;
    enum { EPOCHS = LEDGER_FOLDED_MAX + 50 };
    ck_assert_int_eq(ledger_init(&ledger, 1, 10, NULL), LG_OK);
    for (uint64_t epoch = 0; epoch < EPOCHS; epoch++)
        ck_assert(take(&ledger, 0, epoch, 0, 10));
    struct wire_ledger_row rows[WIRE_ROWS_MAX];
    ck_assert_uint_eq(ledger_rows(&ledger, rows), LEDGER_FOLDED_MAX);
    ck_assert_uint_eq(rows[0].epoch, 50);
    for (uint64_t epoch = 0; epoch < EPOCHS; epoch++)
        ck_assert(!take(&ledger, 0, epoch, 3, 4));
    ledger_deinit(&ledger);
}
END_TEST

/* ---- against a bitmap */

enum { UNITS = 5, SAMPLES = 120, EPOCHS = 3 };

struct naive {
    bool consumed[EPOCHS][UNITS][SAMPLES + 1];
};

static bool naive_edge(const struct naive *naive, uint64_t epoch, uint32_t unit, uint64_t at) {
    bool before = at > 0 && naive->consumed[epoch][unit][at - 1];
    bool after = at < SAMPLES && naive->consumed[epoch][unit][at];
    return before != after;
}

static void compare_marks(const struct ledger *ledger, const struct naive *naive, uint64_t epoch, uint64_t first,
                          uint64_t end) {
    uint64_t marks[WIRE_MARKS_MAX], resume, wanted_resume = end;
    size_t count = ledger_marks(ledger, epoch, first, end, marks, WIRE_MARKS_MAX, &resume), at = 0;
    bool folded = true;
    for (uint32_t i = 0; i < ledger->open_count; i++)
        folded = folded && ledger->open[i].epoch != epoch;
    for (uint64_t sample = first; sample <= end; sample++) {
        bool edge = false;
        for (uint32_t unit = 0; unit < UNITS; unit++) {
            edge = edge || naive_edge(naive, epoch, unit, sample);
            if (sample < end && !naive->consumed[epoch][unit][sample] && sample < wanted_resume)
                wanted_resume = sample;
        }
        if (edge && !folded) {
            ck_assert_uint_lt(at, count);
            ck_assert_uint_eq(marks[at++], sample);
        }
    }
    ck_assert_uint_eq(at, count);
    ck_assert_uint_eq(resume, wanted_resume);
}

START_TEST(random_batches_agree_with_a_bitmap) {
    for (uint64_t seed = 0; seed < 60; seed++) {
        struct random random;
        struct ledger ledger;
        struct naive naive;
        memset(&naive, 0, sizeof naive);
        random_init(&random, seed);
        ck_assert_int_eq(ledger_init(&ledger, UNITS, SAMPLES, NULL), LG_OK);
        for (int round = 0; round < 400; round++) {
            uint64_t epoch = random_below(&random, EPOCHS), first = random_below(&random, SAMPLES);
            uint64_t end = first + 1 + random_below(&random, SAMPLES - first);
            uint32_t unit = (uint32_t)random_below(&random, UNITS);
            uint64_t consumed = 0;
            bool *bits = naive.consumed[epoch][unit];
            for (uint64_t i = first; i < end; i++)
                consumed += bits[i];
            const struct wire_cover range = cover(epoch, first, end);
            enum intervals_overlap wanted = consumed == 0             ? INTERVALS_NONE
                                            : consumed == end - first ? INTERVALS_ALL
                                                                      : INTERVALS_PARTLY;
            ck_assert_msg(ledger_overlap(&ledger, unit, &range, 1) == wanted, "seed %llu", (unsigned long long)seed);
            uint64_t cuts[SAMPLES];
            size_t cut_count = 0, at = 0;
            ledger_cuts(&ledger, unit, &range, 1, cuts, SAMPLES, &cut_count);
            for (uint64_t i = first + 1; wanted == INTERVALS_PARTLY && i < end; i++)
                if (naive_edge(&naive, epoch, unit, i))
                    ck_assert(at < cut_count && cuts[at++] == i);
            ck_assert_uint_eq(at, cut_count);
            /* a refused batch comes again in pieces */
            for (uint64_t from = first; from < end;) {
                uint64_t to = end;
                for (size_t i = cut_count; i > 0; i--)
                    to = cuts[i - 1] > from ? cuts[i - 1] : to;
                if (take(&ledger, unit, epoch, from, to))
                    memset(bits + from, true, to - from);
                else
                    ck_assert(bits[from] && bits[to - 1]);
                from = to;
            }
            compare_marks(&ledger, &naive, epoch, first, end);
        }
        for (uint64_t epoch = 0; epoch < EPOCHS; epoch++) {
            uint64_t least = SAMPLES, most = 0;
            for (uint32_t unit = 0; unit < UNITS; unit++) {
                uint64_t sum = 0;
                for (uint64_t i = 0; i < SAMPLES; i++)
                    sum += naive.consumed[epoch][unit][i];
                least = sum < least ? sum : least;
                most = sum > most ? sum : most;
            }
            ck_assert_uint_eq(row_of(&ledger, epoch).samples_least, least);
            ck_assert_uint_eq(row_of(&ledger, epoch).samples_most, most);
        }
        ledger_deinit(&ledger);
    }
}
END_TEST

/* ---- a worker killed between its pushes to two shards */

/* Two shards of two units each; the first worker's slice is [0, 100) of epoch 0 in batches of 10. It reaches 70 on
 * shard 0; on shard 1 one unit got the batch [50, 60) and the other did not. */
START_TEST(a_killed_workers_slice_resumes_exactly) {
    struct ledger shards[2];
    for (int i = 0; i < 2; i++)
        ck_assert_int_eq(ledger_init(&shards[i], 2, 100, NULL), LG_OK);
    for (uint64_t at = 0; at < 70; at += 10)
        for (uint32_t unit = 0; unit < 2; unit++)
            ck_assert(take(&shards[0], unit, 0, at, at + 10));
    for (uint64_t at = 0; at < 50; at += 10)
        for (uint32_t unit = 0; unit < 2; unit++)
            ck_assert(take(&shards[1], unit, 0, at, at + 10));
    ck_assert(take(&shards[1], 0, 0, 50, 60));

    uint64_t marks[2][WIRE_MARKS_MAX], resume[2], cuts[8], least;
    size_t counts[2], cut_count = 0;
    for (int i = 0; i < 2; i++)
        counts[i] = ledger_marks(&shards[i], 0, 0, 100, marks[i], WIRE_MARKS_MAX, &resume[i]);
    ck_assert_uint_eq(resume[0], 70);
    ck_assert_uint_eq(resume[1], 50);
    least = resume[1];
    for (int i = 0; i < 2; i++)
        for (size_t k = 0; k < counts[i]; k++)
            if (marks[i][k] > least)
                cuts[cut_count++] = marks[i][k];
    ck_assert_uint_eq(cut_count, 2);
    ck_assert(cuts[0] == 70 && cuts[1] == 60); /* where shard 0 stopped, and one unit of shard 1 */

    /* The next worker takes [50, 100) with batches of 25 that end at 60 and 70, but its first one forgets the cuts. */
    unsigned applied = 0, repeated = 0, refused = 0;
    const uint64_t batches[][2] = {{50, 75}, {50, 60}, {60, 70}, {70, 95}, {95, 100}};
    for (size_t b = 0; b < 5; b++)
        for (int i = 0; i < 2; i++)
            for (uint32_t unit = 0; unit < 2; unit++) {
                const struct wire_cover range = cover(0, batches[b][0], batches[b][1]);
                enum intervals_overlap overlap = ledger_overlap(&shards[i], unit, &range, 1);
                if (b == 0 && i == 1 && unit == 1)
                    continue; /* that message is lost: it would have been applied there */
                repeated += overlap == INTERVALS_ALL;
                refused += overlap == INTERVALS_PARTLY;
                applied += take(&shards[i], unit, 0, range.first, range.end);
            }
    ck_assert_uint_eq(refused, 3);
    ck_assert_uint_eq(repeated, 3 + 2);
    ck_assert_uint_eq(applied, 1 + 2 + 4 + 4);
    for (int i = 0; i < 2; i++) {
        struct wire_ledger_row row = row_of(&shards[i], 0);
        ck_assert_uint_eq(row.samples_least, 100);
        ck_assert_uint_eq(row.samples_most, 100);
        ck_assert_uint_eq(shards[i].open_count, 0);
        ledger_deinit(&shards[i]);
    }
}
END_TEST

int main(void) {
    Suite *suite = suite_create("ledger");
    TCase *tests = tcase_create("ledger");
    tcase_add_test(tests, complete_epochs_fold_into_exact_rows);
    tcase_add_test(tests, dropped_samples_are_consumed_and_counted_apart);
    tcase_add_test(tests, covers_are_checked);
    tcase_add_test(tests, several_covers_count_as_one_batch);
    tcase_add_test(tests, epochs_without_a_size_never_fold);
    tcase_add_test(tests, memory_is_bounded);
    tcase_add_test(tests, old_rows_are_forgotten_but_stay_complete);
    tcase_add_test(tests, random_batches_agree_with_a_bitmap);
    tcase_add_test(tests, a_killed_workers_slice_resumes_exactly);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
