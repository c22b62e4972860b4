#include "cli/cluster.h"

#include <check.h>
#include <stdlib.h>

static const char *share(const char *device, unsigned gpus, int workers, int number) {
    static char text[OPTION_TEXT_BYTES];
    cluster_share_devices(device, gpus, workers, number, text);
    return text;
}

START_TEST(workers_of_one_machine_share_its_gpus) {
    ck_assert_str_eq(share("auto", 0, 2, 1), "auto");
    ck_assert_str_eq(share("auto", 4, 1, 1), "auto");
    ck_assert_str_eq(share("auto", 4, 2, 1), "cuda:0,cuda:2");
    ck_assert_str_eq(share("auto/bf16", 3, 2, 2), "cuda:1/bf16");
    ck_assert_str_eq(share("auto", 3, 2, 1), "cuda:0,cuda:2");
    ck_assert_str_eq(share("auto", 2, 3, 3), "cuda:0"); /* more workers than GPUs: some share one */
    ck_assert_str_eq(share("cuda:1", 4, 2, 2), "cuda:1");
    ck_assert_str_eq(share("cpu", 4, 2, 2), "cpu");
}
END_TEST

int main(void) {
    Suite *suite = suite_create("cluster");
    TCase *tests = tcase_create("cluster");
    tcase_add_test(tests, workers_of_one_machine_share_its_gpus);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
