/* The option table of jobs: defaults, what a file may say, what is refused and where. */
#include "client/job.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "client/consistency.h"
#include "common/codec.h"

static enum lg_status read_job(const char *text, struct job_config *job, struct lg_error *error) {
    struct config *config = NULL;
    enum lg_status status = config_read_text("job.yaml", text, strlen(text), &config, error);
    if (status == LG_OK)
        status = job_configure(config, job, error);
    config_free(config);
    return status;
}

START_TEST(an_empty_job_has_defaults) {
    struct job_config job;
    struct lg_error error = {0};
    ck_assert_msg(read_job("", &job, &error) == LG_OK, "%s", error.message);
    ck_assert_str_eq(job.name, "job");
    ck_assert_str_eq(job.model, "mlp");
    ck_assert_str_eq(job.dataset, "glyphs");
    ck_assert_str_eq(job.updater, "sgd");
    ck_assert_str_eq(job.staleness, "polynomial");
    ck_assert_str_eq(job.schedule, "constant");
    ck_assert_str_eq(job.clip, "none");
    ck_assert_str_eq(job.mode, "async");
    ck_assert_int_eq(job.batch, 32);
    ck_assert_int_eq(job.epochs, 1);
    ck_assert_int_eq(job.workers, 0);
    ck_assert_int_eq(job.restarts, 10);
    ck_assert_int_eq(job.lease_ms, 5000);
    ck_assert(job.learning_rate == 0.01);
}
END_TEST

START_TEST(local_steps_stand_alone) {
    struct job_config job;
    struct lg_error error = {0};
    ck_assert_int_eq(read_job("train: {local_steps: 20}\nlocal: {lr: 0.5, updater: {kind: adamw}}\n", &job, &error),
                     LG_OK);
    ck_assert_int_eq(job.local_steps, 20);
    ck_assert(job.local_rate == 0.5);
    ck_assert_int_eq(read_job("train: {local_steps: 20, pipeline: 2}\n", &job, &error), LG_INVALID);
    ck_assert_ptr_nonnull(strstr(error.message, "job.yaml:1"));
    ck_assert_int_eq(read_job("\nlocal: {lr: 0.5}\n", &job, &error), LG_INVALID);
    ck_assert_ptr_nonnull(strstr(error.message, "job.yaml:2"));
    ck_assert_ptr_nonnull(strstr(error.message, "set train.local_steps"));
    ck_assert_int_eq(read_job("local: {lr: 0.01}\n", &job, &error), LG_OK); /* the default, as config show prints it */
}
END_TEST

START_TEST(every_shared_key_reaches_its_field) {
    static const char *const text = "name: night-run.2\n"
                                    "seed: 7\n"
                                    "workers: 3\n"
                                    "model: {kind: cnn, channels: 8}\n"
                                    "dataset: {kind: idx, path: data}\n"
                                    "train: {batch: 64, micro_batch: 24, epochs: 5,\n"
                                    "        clip: global, clip_norm: 2.5, threads: 1}\n"
                                    "updater: {kind: adamw, beta1: 0.8}\n"
                                    "weight_decay: 0.1\n"
                                    "staleness: {policy: hinge}\n"
                                    "lr: {schedule: step, base: 0.5, final_factor: 0, warmup_samples: 10,\n"
                                    "     total_samples: 20, step_samples: 30, step_factor: 0.25}\n"
                                    "evaluate: {every_epochs: 2, samples: 100}\n"
                                    "restart: {max: 4}\n"
                                    "lease: {duration: 750ms}\n";
    struct job_config job;
    struct lg_error error = {0};
    ck_assert_msg(read_job(text, &job, &error) == LG_OK, "%s", error.message);
    ck_assert_str_eq(job.name, "night-run.2");
    ck_assert_int_eq(job.seed, 7);
    ck_assert_int_eq(job.workers, 3);
    ck_assert_str_eq(job.model, "cnn");
    ck_assert_str_eq(job.dataset, "idx");
    ck_assert_int_eq(job.batch, 64);
    ck_assert_int_eq(job.micro_batch, 24);
    ck_assert_int_eq(job.epochs, 5);
    ck_assert_str_eq(job.clip, "global");
    ck_assert(job.clip_norm == 2.5);
    ck_assert_int_eq(job.threads, 1);
    ck_assert_str_eq(job.updater, "adamw");
    ck_assert(job.weight_decay == 0.1);
    ck_assert_str_eq(job.staleness, "hinge");
    ck_assert_str_eq(job.schedule, "step");
    ck_assert(job.learning_rate == 0.5 && job.final_factor == 0 && job.step_factor == 0.25);
    ck_assert_int_eq(job.warmup_samples, 10);
    ck_assert_int_eq(job.total_samples, 20);
    ck_assert_int_eq(job.step_samples, 30);
    ck_assert_int_eq(job.evaluate_epochs, 2);
    ck_assert_int_eq(job.evaluate_samples, 100);
    ck_assert_int_eq(job.restarts, 4);
    ck_assert_int_eq(job.lease_ms, 750);
}
END_TEST

/* Keys of models, datasets, updaters and policies are left to their registries. */
START_TEST(keys_of_registries_are_left_unused) {
    static const char *const text = "model: {kind: mlp, hidden: 3}\nname: a\n";
    struct config *config = NULL;
    struct job_config job;
    ck_assert_int_eq(config_read_text("job.yaml", text, strlen(text), &config, NULL), LG_OK);
    ck_assert_int_eq(job_configure(config, &job, NULL), LG_OK);
    ck_assert(config_find(config, "name")->used);
    ck_assert(!config_find(config, "model.hidden")->used);
    config_free(config);
}
END_TEST

static const struct {
    const char *text, *says;
} bad[] = {
    {"name: ''\n", "job.yaml:1:"},
    {"name: two words\n", "letters, digits"},
    {"name: 12\n", "not a number"}, /* "job 12" must mean one job */
    {"name: ../../etc\n", "letters, digits"},
    {"name: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\n", "1 to 64"},
    {"train: {batch: 0}\n", "train.batch"},
    {"train: {batch: many}\n", "job.yaml:1:"},
    {"train: {clip: sometimes}\n", "tensor"},
    {"lr: {schedule: step}\n", "lr.step_samples"},
    {"lr: {base: -1}\n", "lr.base"},
    {"lr: {base: nan}\n", "lr.base"},
    {"consistency: {mode: bulk}\n", "async"},
    {"durability: log\n", "memory"},
    {"lease: {duration: 1ms}\n", "lease.duration"},
};

START_TEST(bad_values_are_refused_with_their_place) {
    struct job_config job;
    struct lg_error error = {0};
    ck_assert_int_eq(read_job(bad[_i].text, &job, &error), LG_INVALID);
    ck_assert_msg(strstr(error.message, bad[_i].says), "\"%s\": %s", bad[_i].text, error.message);
}
END_TEST

static const char *choices_of(const char *key) {
    for (size_t i = 0; i < job_table.count; i++)
        if (strcmp(job_table.options[i].key, key) == 0)
            return job_table.options[i].choices;
    return NULL;
}

/* The choices are written out in the table, the registries are not: none may be forgotten. */
START_TEST(choices_are_those_of_the_registries) {
    char names[300];
    size_t count, used = 0;
    for (const struct codec *const *codec = codecs(&count), *const *end = codec + count; codec < end; codec++)
        used += (size_t)snprintf(names + used, sizeof names - used, "%s%s", used ? "|" : "", (*codec)->name);
    ck_assert_str_eq(choices_of("push.codec"), names);
    ck_assert_str_eq(choices_of("pull.codec"), names);
    used = 0;
    for (const struct consistency *mode = consistencies(&count), *end = mode + count; mode < end; mode++)
        used += (size_t)snprintf(names + used, sizeof names - used, "%s%s", used ? "|" : "", mode->name);
    ck_assert_str_eq(choices_of("consistency.mode"), names);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("job");
    TCase *tests = tcase_create("job");
    tcase_add_test(tests, an_empty_job_has_defaults);
    tcase_add_test(tests, every_shared_key_reaches_its_field);
    tcase_add_test(tests, local_steps_stand_alone);
    tcase_add_test(tests, keys_of_registries_are_left_unused);
    tcase_add_loop_test(tests, bad_values_are_refused_with_their_place, 0, sizeof bad / sizeof *bad);
    tcase_add_test(tests, choices_are_those_of_the_registries);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
