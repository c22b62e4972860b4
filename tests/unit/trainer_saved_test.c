/* What a trainer leaves for the next one, with a client that is only its residual. */
#include "worker/trainer_saved.h"

#include <check.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/datasets.h"

enum { ELEMENTS = 12 };

struct lg_client {
    float residual[ELEMENTS];
    bool keeps_nothing;
};

static const struct tensor_spec tensors[] = {{.name = "weight", .rank = 2, .shape = {5, 2}, .lr_factor = 1},
                                             {.name = "bias", .rank = 1, .shape = {2}, .lr_factor = 1}};
static const struct lg_client zero;

const struct tensor_spec *lg_client_tensors(const struct lg_client *client, size_t *count) {
    (void)client;
    *count = 2;
    return tensors;
}

float *lg_client_residual(struct lg_client *client, uint64_t *elements) {
    *elements = client->keeps_nothing ? 0 : ELEMENTS;
    return client->keeps_nothing ? NULL : client->residual;
}

static struct trainer_handover handover_of(int64_t job, int64_t trainer) {
    struct trainer_handover handover = {.job = job, .trainer = trainer};
    snprintf(handover.job_name, sizeof handover.job_name, "digits");
    snprintf(handover.state_dir, sizeof handover.state_dir, "%s", scratch_folder());
    return handover;
}

static unsigned files(void) {
    unsigned count = 0;
    DIR *folder = opendir(scratch_folder());
    ck_assert_ptr_nonnull(folder);
    for (struct dirent *entry; (entry = readdir(folder));)
        count += entry->d_name[0] != '.';
    closedir(folder);
    return count;
}

static void put(int64_t job, int64_t trainer, float value) {
    const struct trainer_handover handover = handover_of(job, trainer);
    struct lg_client client = zero;
    for (size_t i = 0; i < ELEMENTS; i++)
        client.residual[i] = value + (float)i;
    trainer_saved_put(&handover, &client);
}

/* The value that was put in, or -1. */
static float taken(int64_t job, int64_t trainer) {
    const struct trainer_handover handover = handover_of(job, trainer);
    struct lg_client client = zero;
    trainer_saved_take(&handover, &client);
    for (size_t i = 1; i < ELEMENTS; i++)
        ck_assert(client.residual[i] == (client.residual[1] == 0 ? 0 : client.residual[0] + (float)i));
    return client.residual[1] == 0 ? -1 : client.residual[0];
}

START_TEST(one_trainer_of_the_job_goes_on_with_it) {
    put(5, 1, 10);
    ck_assert_uint_eq(files(), 1);
    ck_assert(taken(6, 2) == -1); /* another job */
    ck_assert(taken(5, 2) == 10);
    ck_assert(taken(5, 3) == -1);
    ck_assert_uint_eq(files(), 0);
}
END_TEST

START_TEST(each_goes_to_another_trainer) {
    put(5, 1, 10);
    put(5, 2, 30);
    float first = taken(5, 3), second = taken(5, 4);
    ck_assert(first + second == 40 && first != second);
}
END_TEST

START_TEST(a_file_that_does_not_fit_is_left_behind) {
    scratch_write("job5-digits-1.residual.safetensors", "nonsense", 8);
    ck_assert(taken(5, 2) == -1);
    ck_assert_uint_eq(files(), 0);
}
END_TEST

START_TEST(nothing_happens_without_a_folder_or_a_residual) {
    struct trainer_handover handover = handover_of(5, 1);
    struct lg_client client = {.keeps_nothing = true};
    trainer_saved_put(&handover, &client);
    trainer_saved_take(&handover, &client);
    ck_assert_uint_eq(files(), 0);
    handover.state_dir[0] = '\0';
    client.keeps_nothing = false;
    trainer_saved_put(&handover, &client);
    trainer_saved_take(&handover, &client);
    snprintf(handover.state_dir, sizeof handover.state_dir, "/no/such/folder");
    trainer_saved_put(&handover, &client);
    trainer_saved_take(&handover, &client);
    ck_assert(client.residual[0] == 0);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("trainer_saved");
    TCase *tests = tcase_create("trainer_saved");
    tcase_add_checked_fixture(tests, scratch_setup, scratch_teardown);
    tcase_add_test(tests, one_trainer_of_the_job_goes_on_with_it);
    tcase_add_test(tests, each_goes_to_another_trainer);
    tcase_add_test(tests, a_file_that_does_not_fit_is_left_behind);
    tcase_add_test(tests, nothing_happens_without_a_folder_or_a_residual);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
