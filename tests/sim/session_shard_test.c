/* The client's session and the shard against each other in a simulated network: thousands of small worlds, each from a
 * seed, and worlds with a fault put in, which must be found.
 *
 * LAGOON_SEED=n (or an argument) runs that one world and tells what happened in it. */
#include <check.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "tests/support/sim_world.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { WORLDS = 300 };
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
enum { WORLDS = 300 };
#else
enum { WORLDS = 3000 };
#endif
#else
enum { WORLDS = 3000 };
#endif
enum { BUG_WORLDS = 1000, BATCHES = 10 };

START_TEST(every_sample_counts_exactly_once) {
    struct world_summary sum = {0}, one;
    for (int i = 0; i < WORLDS / BATCHES; i++) {
        uint64_t seed = (uint64_t)_i * 1000000 + (uint64_t)i + 1;
        ck_assert_msg(world_run(seed, consistency_find("async"), WORLD_BUG_NONE, &one),
                      "seed %" PRIu64 ": %s; run with LAGOON_SEED=%" PRIu64 " to see it alone", seed, one.failure,
                      seed);
        sum.lost += one.lost;
        sum.repeated += one.repeated;
        sum.connections_cut += one.connections_cut;
        sum.evictions += one.evictions;
        sum.taken_over += one.taken_over;
        sum.cuts += one.cuts;
        sum.reopened += one.reopened;
    }
    /* a simulation in which nothing goes wrong shows nothing */
    ck_assert_uint_gt(sum.lost, 0);
    ck_assert_uint_gt(sum.repeated, 0);
    ck_assert_uint_gt(sum.connections_cut, 0);
    ck_assert_uint_gt(sum.evictions, 0);
    ck_assert_uint_gt(sum.taken_over, 0);
    ck_assert_uint_gt(sum.reopened, 0);
}
END_TEST

/* Samples are exact in every mode, nobody waits for ever, and rounds are of the same pushes everywhere. */
START_TEST(every_mode_keeps_its_promises) {
    size_t count;
    const struct consistency *mode = &consistencies(&count)[_i];
    struct world_summary sum = {0}, one;
    for (int i = 0; i < WORLDS / BATCHES; i++) {
        uint64_t seed = (uint64_t)_i * 1000000 + 500000 + (uint64_t)i;
        ck_assert_msg(world_run(seed, mode, WORLD_BUG_NONE, &one),
                      "%s, seed %" PRIu64 ": %s; run with LAGOON_SIM_MODE=%s LAGOON_SEED=%" PRIu64 " to see it alone",
                      mode->name, seed, one.failure, mode->name, seed);
        sum.evictions += one.evictions;
        sum.connections_cut += one.connections_cut;
        sum.commits += one.commits;
        sum.skipped += one.skipped;
    }
    ck_assert_uint_gt(sum.evictions, 0);
    ck_assert_uint_gt(sum.connections_cut, 0);
    ck_assert_int_eq(sum.commits > 0, consistency_has(mode, CONSISTENCY_GATHERS));
    ck_assert_int_eq(sum.skipped > 0, consistency_has(mode, CONSISTENCY_TICKETS));
}
END_TEST

START_TEST(the_same_seed_gives_the_same_world) {
    struct world_summary a, b;
    ck_assert(world_run(42, consistency_find("async"), WORLD_BUG_NONE, &a));
    ck_assert(world_run(42, consistency_find("async"), WORLD_BUG_NONE, &b));
    ck_assert_mem_eq(&a, &b, sizeof a);
}
END_TEST

START_TEST(faults_put_in_are_found) {
    struct world_summary summary;
    int found = 0, worlds = 0;
    for (; worlds < BUG_WORLDS && found < 3; worlds++)
        found += !world_run((uint64_t)worlds + 1, consistency_find(_i == WORLD_BUG_HASTY_READ ? "bsp" : "async"),
                            (enum world_bug)_i, &summary);
    ck_assert_msg(found == 3, "fault %d was found in %d of %d worlds only", _i, found, worlds);
}
END_TEST

static int run_one(const char *text) {
    static const char *const bugs[WORLD_BUG_COUNT] = {"none",          "no dedup",   "false ack", "cuts ignored",
                                                      "greatest mark", "stale pull", "hasty read"};
    const char *mode = getenv("LAGOON_SIM_MODE");
    const struct consistency *consistency = consistency_find(mode ? mode : "async");
    uint64_t seed = strtoull(text, NULL, 10);
    const char *bug = getenv("LAGOON_SIM_BUG");
    int number = bug ? atoi(bug) : 0;
    struct world_summary s;
    if (number < 0 || number >= WORLD_BUG_COUNT || !consistency)
        return EXIT_FAILURE;
    bool held = world_run(seed, consistency, (enum world_bug)number, &s);
    printf("seed %" PRIu64 ", fault: %s: %s\n", seed, bugs[number], held ? "everything held" : s.failure);
    printf("%" PRIu64 " messages, %" PRIu64 " lost, %" PRIu64 " repeated, %" PRIu64 " connections cut, %" PRIu64
           " reopened\n%" PRIu64 " pushes, %" PRIu64 " pull messages, %" PRIu64 " evictions, %" PRIu64
           " slices taken over, %" PRIu64 " batches cut\n%" PRIu64 " groups applied, %" PRIu64
           " pushes skipped, %.3f virtual seconds\n",
           s.messages, s.lost, s.repeated, s.connections_cut, s.reopened, s.pushes, s.pulls, s.evictions, s.taken_over,
           s.cuts, s.commits, s.skipped, (double)s.virtual_ns / 1e9);
    return held ? EXIT_SUCCESS : EXIT_FAILURE;
}

int main(int argc, char **argv) {
    const char *seed = argc > 1 ? argv[1] : getenv("LAGOON_SEED");
    if (seed)
        return run_one(seed);
    Suite *suite = suite_create("session and shard");
    TCase *tests = tcase_create("worlds");
    tcase_set_timeout(tests, 300);
    tcase_add_loop_test(tests, every_sample_counts_exactly_once, 0, BATCHES);
    size_t modes;
    consistencies(&modes);
    tcase_add_loop_test(tests, every_mode_keeps_its_promises, 0, (int)modes);
    tcase_add_test(tests, the_same_seed_gives_the_same_world);
    tcase_add_loop_test(tests, faults_put_in_are_found, WORLD_BUG_NO_DEDUP, WORLD_BUG_COUNT);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
