#include "worker/worker_config.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

static struct worker_config worker;
static struct lg_error error;

/* Applies and checks the YAML text. */
static enum lg_status check(const char *yaml) {
    static const struct option_table *const tables[] = {&worker_table};
    static const char *const prefixes[] = {""};
    struct config *config = NULL;
    memset(&error, 0, sizeof error);
    enum lg_status status = config_read_text("worker.yaml", yaml, strlen(yaml), &config, &error);
    if (status == LG_OK)
        status = option_apply(&worker_table, "", config, &worker, &error);
    if (status == LG_OK)
        status = option_check_unused(config, tables, prefixes, 1, &error);
    if (status == LG_OK)
        status = worker_config_check(config, &worker, &error);
    config_free(config);
    return status;
}

static void refuse(const char *yaml, const char *expected) {
    ck_assert_int_ne(check(yaml), LG_OK);
    ck_assert_msg(strstr(error.message, expected) != NULL, "\"%s\" lacks \"%s\"", error.message, expected);
}

START_TEST(defaults_work_on_one_machine) {
    ck_assert_msg(check("{}") == LG_OK, "%s", error.message);
    ck_assert_str_eq(worker.endpoint, "tcp://127.0.0.1:7710");
    ck_assert_int_eq(worker.slots, 0);
    ck_assert_int_eq(worker.grace_ms, 10000);
    ck_assert_int_eq(worker.level, LOG_LEVEL_INFO);
    ck_assert_str_eq(worker.device, "auto");
}
END_TEST

START_TEST(values_are_taken) {
    ck_assert_msg(check("name: box-1\ncoordinator: localhost:99\ndevice: cuda:12/bf16\nslowdown: 4\ndata_root: /\n"
                        "trainer: {grace: 2s}\nlog: {level: warn}\nhttp: {port: 81}\n") == LG_OK,
                  "%s", error.message);
    ck_assert_str_eq(worker.endpoint, "tcp://localhost:99");
    ck_assert_double_eq(worker.slowdown, 4);
    ck_assert_int_eq(worker.grace_ms, 2000);
    ck_assert_int_eq(worker.level, LOG_LEVEL_WARN);
    ck_assert_int_eq(worker.http_port, 81);
}
END_TEST

START_TEST(devices_may_be_several) {
    static const char *const texts[] = {"device: auto/bf16\n", "device: cuda:0,cuda:1/tf32\n",
                                        "device: [cuda:0, cpu]\n", "device: cpu\n"};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        ck_assert_msg(check(texts[i]) == LG_OK, "%s", error.message);
}
END_TEST

START_TEST(other_machines_are_refused_unless_said) {
    refuse("coordinator: 192.0.2.1:7710\n", "worker.yaml:1:14: coordinator \"192.0.2.1:7710\" is on another machine");
    refuse("coordinator: 192.0.2.1:7710\n", "security: none");
    ck_assert_int_eq(check("coordinator: 192.0.2.1:7710\nsecurity: none\n"), LG_OK);
}
END_TEST

START_TEST(bad_values_are_refused_with_their_place) {
    refuse("device: gpu\n", "worker.yaml:1:9: device \"gpu\" must be auto, cpu or cuda:N");
    refuse("device: 'cuda:'\n", "cuda:N");
    refuse("device: cuda:0/f16\n", "/bf16");
    refuse("device: 'cuda:1x'\n", "cuda:N");
    refuse("name: a b\n", "worker.yaml:1:7: name \"a b\"");
    refuse("coordinator: nowhere\n", "worker.yaml:1:14: coordinator");
    refuse("slots: 257\n", "from 0 to 256");
    refuse("device: auto,cpu\n", "or a list");
    refuse("device: cuda:0,\n", "or a list");
    refuse("device: auto/f16\n", "/bf16");
    refuse("device: cuda:0,gpu\n", "device \"cuda:0,gpu\"");
    refuse("slowdown: 0.5\n", "from 1");
    refuse("data_root: /no/such/folder\n", "worker.yaml:1:12: data_root \"/no/such/folder\": No such file");
    refuse("data_root: /dev/null\n", "is not a folder");
    refuse("trainer:\n  state_dir: /dev/null\n", "trainer.state_dir \"/dev/null\" is not a folder");
    refuse("solts: 2\n", "did you mean \"slots\"?");
}
END_TEST

int main(void) {
    Suite *suite = suite_create("worker_config");
    TCase *tests = tcase_create("worker_config");
    tcase_add_test(tests, defaults_work_on_one_machine);
    tcase_add_test(tests, values_are_taken);
    tcase_add_test(tests, devices_may_be_several);
    tcase_add_test(tests, other_machines_are_refused_unless_said);
    tcase_add_test(tests, bad_values_are_refused_with_their_place);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
