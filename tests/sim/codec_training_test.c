/* Training in every codec, in the simulator: real shards, sessions and coordinator, workers of unequal speed. A small
 * MLP must come as far as with plain f32, but for the distance written here; and every codec goes with every updater,
 * staleness policy and consistency mode that goes without it. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/codec.h"
#include "common/log.h"
#include "server/policy.h"
#include "common/updater.h"
#include "sim/simulation.h"
#include "tests/support/sanitizer.h"

#define DISTANCE 0.02 /* of accuracy: two points in a hundred */

#define TRAINING                                                                                                       \
    "model.kind=mlp;model.hidden=32;dataset.kind=glyphs;dataset.train_samples=4000;dataset.test_samples=2000;"         \
    "train.batch=16;train.epochs=12;lr.base=0.1;sim.workers=3x1,1x3;sim.shards=2;"
/* Enough to go through everything once. */
#define GLANCE                                                                                                         \
    "model.kind=mlp;model.hidden=8;dataset.kind=mixture;dataset.train_samples=128;dataset.test_samples=16;"            \
    "dataset.features=8;train.batch=8;train.epochs=1;lr.base=0.001;sim.workers=2x1,1x3;sim.shards=2;"

/* A job with these keys, as "key=value;key=value". */
static enum lg_status run(const char *text, struct sim_outcome *outcome, struct lg_error *error) {
    struct config *config = config_new();
    char copy[1024], *rest = NULL;
    snprintf(copy, sizeof copy, "%s", text);
    for (char *pair = strtok_r(copy, ";", &rest); pair; pair = strtok_r(NULL, ";", &rest)) {
        char *equals = strchr(pair, '=');
        *equals = '\0';
        ck_assert_int_eq(config_set(config, pair, equals + 1, "test", error), LG_OK);
    }
    const struct sim_setup setup = {.config = config, .seed = 7};
    enum lg_status status = simulate(&setup, outcome, error);
    config_free(config);
    return status;
}

/* The test accuracy at the end. */
static double accuracy_of(const char *keys) {
    struct sim_outcome outcome;
    struct lg_error error = {0};
    char text[1024];
    snprintf(text, sizeof text, TRAINING "%s", keys);
    ck_assert_msg(run(text, &outcome, &error) == LG_OK, "%s: %s", keys, error.message);
    ck_assert_str_eq(outcome.end, "all epochs are done");
    double accuracy = outcome.curve[outcome.curve_count - 1].accuracy;
    sim_outcome_deinit(&outcome);
    return accuracy;
}

static size_t ran;
static double plain; /* accuracy of f32 */

static void train_plain(void) {
    plain = accuracy_of("");
}

static void compare(const char *name, const char *text) {
    double coded = accuracy_of(text);
    printf("%-72s %.3f, f32 %.3f\n", text, coded, plain);
    ck_assert_msg(plain > 0.8, "f32 comes to %.3f only: nothing can be compared with it", plain);
    ck_assert_msg(coded >= plain - DISTANCE, "%s comes to %.3f, f32 to %.3f", name, coded, plain);
}

START_TEST(pushes_in_every_codec_train_as_well) {
    SKIP_WHERE_THREADS_ARE_WATCHED();
    size_t count;
    const struct codec *codec = codecs(&count)[_i];
    char text[256];
    snprintf(text, sizeof text, "push.codec=%s;codec.topk=0.05", codec->name);
    compare(codec->name, text);
}
END_TEST

START_TEST(pulls_in_every_codec_train_as_well) {
    SKIP_WHERE_THREADS_ARE_WATCHED();
    size_t count;
    const struct codec *codec = codecs(&count)[_i];
    char text[256];
    if (codec->exact)
        return;
    if (!codec->changes_only) {
        snprintf(text, sizeof text, "pull.codec=%s", codec->name);
        compare(codec->name, text);
    }
    snprintf(text, sizeof text, "push.codec=%s;pull.codec=%s;pull.delta=yes;codec.topk=0.1", codec->name, codec->name);
    compare(codec->name, text);
}
END_TEST

/* How a job of these keys ends: the same in every codec. */
static void expect_end(const char *keys, const char *codec) {
    struct sim_outcome without, coded;
    struct lg_error error = {0};
    char text[1024];
    snprintf(text, sizeof text, GLANCE "%s", keys);
    enum lg_status status = run(text, &without, &error);
    if (status != LG_OK)
        return; /* the keys do not go together: nothing to compare */
    snprintf(text, sizeof text, GLANCE "%s;push.codec=%s;pull.codec=%s;pull.delta=%s", keys, codec, codec,
             strcmp(codec, "f32") == 0 ? "no" : "yes");
    ck_assert_msg(run(text, &coded, &error) == LG_OK, "%s in %s: %s", keys, codec, error.message);
    ck_assert_msg(strcmp(without.end, coded.end) == 0 && without.samples == coded.samples && !coded.diverged,
                  "%s in %s ends with \"%s\" after %llu samples", keys, codec, coded.end,
                  (unsigned long long)coded.samples);
    ran++;
    sim_outcome_deinit(&without);
    sim_outcome_deinit(&coded);
}

START_TEST(codecs_updaters_and_policies_all_go_together) {
    SKIP_WHERE_THREADS_ARE_WATCHED();
    size_t codec_count, updater_count, policy_count;
    const struct codec *codec = codecs(&codec_count)[_i];
    const struct updater *const *all = updaters(&updater_count);
    const struct policy *const *rules = policies(&policy_count);
    ran = 0;
    for (size_t u = 0; u < updater_count; u++)
        for (size_t p = 0; p < policy_count; p++) {
            char keys[256];
            snprintf(keys, sizeof keys, "updater.kind=%s;staleness.policy=%s", all[u]->name, rules[p]->name);
            expect_end(keys, codec->name);
        }
    ck_assert_uint_gt(ran, updater_count * policy_count / 2);
}
END_TEST

START_TEST(codecs_and_modes_all_go_together) {
    SKIP_WHERE_THREADS_ARE_WATCHED();
    static const char *const modes[] = {"async",
                                        "ssp;consistency.bound=2",
                                        "dssp;consistency.bound=1;consistency.bound_most=4",
                                        "bsp",
                                        "backup;consistency.pushes=2",
                                        "rennala;consistency.pushes=3",
                                        "buffered;consistency.pushes=2"};
    size_t count;
    ran = 0;
    for (size_t i = 0; i < sizeof modes / sizeof *modes; i++) {
        char keys[256];
        snprintf(keys, sizeof keys, "sim.loss.every=30;sim.loss.away=5;consistency.mode=%s", modes[i]);
        expect_end(keys, codecs(&count)[_i]->name);
    }
    ck_assert_uint_eq(ran, sizeof modes / sizeof *modes);
}
END_TEST

int main(void) {
    size_t count;
    (void)codecs(&count);
    setvbuf(stdout, NULL, _IOLBF, 0);
    log_init("test", LOG_LEVEL_ERROR);
    Suite *suite = suite_create("codec_training");
    TCase *tests = tcase_create("codec_training");
    tcase_set_timeout(tests, 120);
    if (!THREADS_ARE_WATCHED)
        tcase_add_unchecked_fixture(tests, train_plain, NULL);
    tcase_add_loop_test(tests, pushes_in_every_codec_train_as_well, 0, (int)count);
    tcase_add_loop_test(tests, pulls_in_every_codec_train_as_well, 0, (int)count);
    tcase_add_loop_test(tests, codecs_updaters_and_policies_all_go_together, 0, (int)count);
    tcase_add_loop_test(tests, codecs_and_modes_all_go_together, 0, (int)count);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
