#include "worker/trainer_handover.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

static const struct trainer_handover sample = {
    .coordinator = "tcp://127.0.0.1:7710",
    .job_name = "digits",
    .job = 12,
    .trainer = 3,
    .attempt = 2,
    .device = "cuda:1",
    .threads = 4,
    .slowdown = 2.5,
    .state_dir = "/var/lib/lagoon",
    .log_level = "debug",
    .agent_pid = 4242,
    .token = UINT64_C(0x0123456789abcdef),
};

static char *written(const struct wire_pair *pairs, size_t count) {
    struct buf text = {0};
    ck_assert_int_eq(trainer_handover_write(&sample, pairs, count, &text, NULL), LG_OK);
    return buf_take(&text);
}

START_TEST(what_is_written_is_read) {
    const struct wire_pair pairs[] = {{"model.kind", "mlp"},
                                      {"dataset.path", "a\\b \\n=c"},
                                      {"note", "=x = y"},
                                      {"empty", ""},
                                      {"trainer", "not ours"}};
    struct trainer_handover read;
    struct lg_error error = {0};
    char *text = written(pairs, 5);
    ck_assert_msg(trainer_handover_read(text, strlen(text), &read, &error) == LG_OK, "%s", error.message);
    ck_assert_str_eq(read.coordinator, sample.coordinator);
    ck_assert_str_eq(read.job_name, sample.job_name);
    ck_assert_str_eq(read.device, sample.device);
    ck_assert_str_eq(read.state_dir, sample.state_dir);
    ck_assert_str_eq(read.log_level, sample.log_level);
    ck_assert_int_eq(read.job, 12);
    ck_assert_int_eq(read.trainer, 3);
    ck_assert_int_eq(read.attempt, 2);
    ck_assert_int_eq(read.threads, 4);
    ck_assert_int_eq(read.agent_pid, 4242);
    ck_assert_double_eq(read.slowdown, 2.5);
    ck_assert_uint_eq(read.token, sample.token);
    ck_assert_uint_eq(read.spec->count, 5);
    for (size_t i = 0; i < 5; i++)
        ck_assert_str_eq(config_text(read.spec, pairs[i].key, "(missing)"), pairs[i].value);
    trainer_handover_deinit(&read);
    ck_assert_ptr_null(read.spec);
    free(text);
}
END_TEST

START_TEST(newlines_in_values_do_not_make_lines) {
    const struct wire_pair pair = {"name", "x\ntoken=0\r\nend\n"};
    char *text = written(&pair, 1);
    ck_assert_ptr_nonnull(strstr(text, "spec.name=x\\ntoken=0\\r\\nend\\n\n"));
    free(text);
}
END_TEST

/* Reading `text` fails, with `expected` in the message. */
static void refuse(const char *text, const char *expected) {
    struct trainer_handover read;
    struct lg_error error = {0};
    ck_assert_int_ne(trainer_handover_read(text, strlen(text), &read, &error), LG_OK);
    ck_assert_msg(strstr(error.message, expected) != NULL, "\"%s\" lacks \"%s\"", error.message, expected);
    ck_assert_ptr_null(read.spec);
}

START_TEST(every_shorter_text_is_refused) {
    const struct wire_pair pair = {"model.kind", "mlp"};
    char *text = written(&pair, 1);
    for (size_t length = strlen(text) - 1; length > 0; length--) {
        text[length] = '\0';
        refuse(text, "");
    }
    refuse("", "not by hand");
    free(text);
}
END_TEST

/* The sample's text with the line that begins with `key` replaced. */
static char *with_line(const char *key, const char *line) {
    struct buf made = {0};
    char *text = written(NULL, 0);
    for (char *rest = text, *each; (each = strsep(&rest, "\n")) && *each;)
        buf_printf(&made, "%s\n", strncmp(each, key, strlen(key)) == 0 ? line : each);
    free(text);
    return buf_take(&made);
}

START_TEST(bad_lines_are_refused) {
    static const struct {
        const char *key, *line, *expected;
    } cases[] = {
        {"job=", "job=x", "\"job\" must be"},
        {"job=", "nothing here", "without '='"},
        {"threads=", "threads=0", "from 1"},
        {"slowdown=", "slowdown=0.5", "from 1"},
        {"token=", "token=12", "no good token"},
        {"token=", "token=0123456789abcdeg", "no good token"},
        {"token=", "tokens=1", "\"token\" is not set"},
        {"device=", "device=a\\q", "broken escape"},
        {"device=", "device=a\\", "broken escape"},
        {"job=", "spec.seed=1", "\"job\" is not set"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char *text = with_line(cases[i].key, cases[i].line);
        refuse(text, cases[i].expected);
        free(text);
    }
}
END_TEST

int main(void) {
    Suite *suite = suite_create("trainer_handover");
    TCase *tests = tcase_create("trainer_handover");
    tcase_add_test(tests, what_is_written_is_read);
    tcase_add_test(tests, newlines_in_values_do_not_make_lines);
    tcase_add_test(tests, every_shorter_text_is_refused);
    tcase_add_test(tests, bad_lines_are_refused);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
