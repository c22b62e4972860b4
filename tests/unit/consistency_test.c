/* The registry of modes, and which settings of a job go together. */
#include "client/consistency.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/job.h"

static enum lg_status read_job(const char *text, struct job_config *job, struct lg_error *error) {
    struct config *config = NULL;
    enum lg_status status = config_read_text("job.yaml", text, strlen(text), &config, error);
    if (status == LG_OK)
        status = job_configure(config, job, error);
    config_free(config);
    return status;
}

START_TEST(the_choices_of_the_option_are_the_registry) {
    size_t count;
    const struct consistency *all = consistencies(&count);
    char choices[200] = "";
    for (size_t i = 0; i < count; i++) {
        size_t used = strlen(choices);
        snprintf(choices + used, sizeof choices - used, "%s%s", i ? "|" : "", all[i].name);
        ck_assert_ptr_eq(consistency_find(all[i].name), &all[i]);
        ck_assert(all[i].summary[0] && all[i].rule[0] && all[i].source[0]);
    }
    ck_assert_ptr_null(consistency_find("bulk"));
    for (size_t i = 0; i < job_table.count; i++)
        if (strcmp(job_table.options[i].key, "consistency.mode") == 0) {
            ck_assert_str_eq(job_table.options[i].choices, choices);
            return;
        }
    ck_abort_msg("there is no consistency.mode");
}
END_TEST

/* The parts that modes are made of depend on each other. */
START_TEST(modes_are_sound) {
    size_t count;
    const struct consistency *mode = consistencies(&count);
    for (size_t i = 0; i < count; i++, mode++) {
        bool reads = consistency_has(mode, CONSISTENCY_READS), gathers = consistency_has(mode, CONSISTENCY_GATHERS);
        ck_assert(!reads || consistency_has(mode, CONSISTENCY_RESTS));
        ck_assert(!gathers || consistency_has(mode, CONSISTENCY_RESTS));
        ck_assert(!consistency_has(mode, CONSISTENCY_ROUNDS) || (reads && gathers));
        ck_assert(!consistency_has(mode, CONSISTENCY_TICKETS) ||
                  consistency_has(mode, CONSISTENCY_ROUNDS | CONSISTENCY_TAKES_PUSHES));
        ck_assert(!consistency_has(mode, CONSISTENCY_REPEATS) || consistency_has(mode, CONSISTENCY_TICKETS));
        ck_assert(!consistency_has(mode, CONSISTENCY_TAKES_BOUND_MOST) ||
                  consistency_has(mode, CONSISTENCY_TAKES_BOUND));
    }
}
END_TEST

static const char *const good[] = {
    "consistency: {mode: async}\n",
    "consistency: {mode: bsp}\n",
    "consistency: {mode: bsp}\nstaleness: {policy: constant}\n",
    "consistency: {mode: ssp}\nstaleness: {policy: inverse}\n",
    "consistency: {mode: ssp, bound: 0}\n",
    "consistency: {mode: dssp, bound: 2, bound_most: 2}\n",
    "consistency: {mode: backup, pushes: 4}\nworkers: 5\n",
    "consistency: {mode: backup, pushes: 4}\n",
    "consistency: {mode: rennala, pushes: 12}\nworkers: 5\n",
    "consistency: {mode: buffered, pushes: 12}\nworkers: 5\ntrain: {pipeline: 2, push_pull: yes}\n",
};

START_TEST(what_goes_together_is_taken) {
    struct job_config job;
    struct lg_error error = {0};
    ck_assert_msg(read_job(good[_i], &job, &error) == LG_OK, "%s", error.message);
    ck_assert_str_eq(job.consistency->name, job.mode);
}
END_TEST

static const struct {
    const char *text, *says;
} bad[] = {
    {"consistency: {mode: bsp}\nstaleness: {policy: inverse}\n",
     "job.yaml:2:21: staleness.policy \"inverse\" has nothing to weigh"},
    {"consistency: {mode: rennala, pushes: 2}\nstaleness: {policy: hinge}\n", "staleness.policy \"hinge\""},
    {"consistency: {mode: ssp}\ntrain: {pipeline: 2}\n", "train.pipeline 2 reads ahead of its own pushes"},
    {"consistency: {mode: bsp}\ntrain: {pipeline: 2}\n", "train.pipeline 2 reads ahead of its own pushes"},
    {"consistency: {mode: backup, pushes: 2}\ntrain: {pipeline: 2}\n", "train.pipeline 2"},
    {"consistency: {mode: dssp}\ntrain: {push_pull: yes}\n", "before consistency.mode \"dssp\" lets them be read"},
    {"consistency: {mode: backup}\n", "\"backup\" needs consistency.pushes"},
    {"consistency: {mode: rennala}\n", "\"rennala\" needs consistency.pushes"},
    {"consistency: {mode: buffered}\n", "\"buffered\" needs consistency.pushes"},
    {"consistency: {mode: backup, pushes: 6}\nworkers: 5\n", "a round of 6 pushes never fills with 5 workers"},
    {"consistency: {mode: dssp, bound: 9, bound_most: 8}\n", "bound_most 8 is below consistency.bound 9"},
    {"consistency: {mode: async, bound: 4}\n", "consistency.bound says nothing in consistency.mode \"async\""},
    {"consistency: {mode: ssp, bound_most: 3}\n", "it is for dssp"},
    {"consistency: {mode: bsp, pushes: 3}\n", "it is for backup, rennala, buffered"},
};

START_TEST(what_does_not_is_refused_with_the_reason) {
    struct job_config job;
    struct lg_error error = {0};
    ck_assert_int_eq(read_job(bad[_i].text, &job, &error), LG_INVALID);
    ck_assert_msg(strstr(error.message, bad[_i].says), "\"%s\": %s", bad[_i].text, error.message);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("consistency");
    TCase *tests = tcase_create("modes");
    tcase_add_test(tests, the_choices_of_the_option_are_the_registry);
    tcase_add_test(tests, modes_are_sound);
    tcase_add_loop_test(tests, what_goes_together_is_taken, 0, sizeof good / sizeof *good);
    tcase_add_loop_test(tests, what_does_not_is_refused_with_the_reason, 0, sizeof bad / sizeof *bad);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
