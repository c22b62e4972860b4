#include "common/log.h"

#include <check.h>
#include <pthread.h>
#include <regex.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Sends stderr into a file; capture_end restores it and returns the text (caller frees). */
struct capture {
    FILE *file;
    int saved;
};

static struct capture capture_begin(void) {
    struct capture capture = {tmpfile(), dup(STDERR_FILENO)};
    ck_assert_ptr_nonnull(capture.file);
    ck_assert_int_ge(dup2(fileno(capture.file), STDERR_FILENO), 0);
    return capture;
}

static char *capture_end(struct capture *capture) {
    dup2(capture->saved, STDERR_FILENO);
    close(capture->saved);
    off_t bytes = lseek(fileno(capture->file), 0, SEEK_END);
    char *text = calloc(1, (size_t)bytes + 1);
    ck_assert_int_eq(pread(fileno(capture->file), text, (size_t)bytes, 0), bytes);
    fclose(capture->file);
    return text;
}

static bool matches(const char *text, const char *pattern) {
    regex_t regex;
    ck_assert_int_eq(regcomp(&regex, pattern, REG_EXTENDED | REG_NOSUB), 0);
    bool found = regexec(&regex, text, 0, NULL, 0) == 0;
    regfree(&regex);
    return found;
}

START_TEST(lines_have_the_stated_form) {
    struct capture capture = capture_begin();
    log_init("server", LOG_LEVEL_INFO);
    log_info("shard-ready", "shard %d listens", 3);
    char *text = capture_end(&capture);
    ck_assert_msg(matches(text, "^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\\.[0-9]{3}Z info  server   "
                                "shard-ready        shard 3 listens\n$"),
                  "%s", text);
    free(text);
}
END_TEST

START_TEST(levels_below_the_least_are_silent) {
    struct capture capture = capture_begin();
    log_init("server", LOG_LEVEL_WARN);
    log_debug("a", "debug");
    log_info("b", "info");
    log_warn("c", "warned");
    log_error("d", "failed");
    char *text = capture_end(&capture);
    ck_assert_ptr_null(strstr(text, "debug"));
    ck_assert_ptr_null(strstr(text, "info"));
    ck_assert_ptr_nonnull(strstr(text, "warned\n"));
    ck_assert_ptr_nonnull(strstr(text, "failed\n"));
    free(text);
}
END_TEST

START_TEST(long_lines_are_cut_and_end) {
    char message[5000];
    struct capture capture = capture_begin();
    memset(message, 'x', sizeof message - 1);
    message[sizeof message - 1] = '\0';
    log_init("server", LOG_LEVEL_DEBUG);
    log_info("long", "%s", message);
    log_info("next", "after");
    char *text = capture_end(&capture);
    char *end = strchr(text, '\n');
    ck_assert_ptr_nonnull(end);
    ck_assert_int_le(end - text, 2048);
    ck_assert_int_eq(end[-1], 'x');
    ck_assert_ptr_nonnull(strstr(end, "after\n"));
    free(text);
}
END_TEST

static void *log_many(void *argument) {
    for (int i = 0; i < 500; i++)
        log_info("many", "%s%s%s", (char *)argument, (char *)argument, (char *)argument);
    return NULL;
}

START_TEST(threads_do_not_mix_lines) {
    pthread_t threads[4];
    char words[4][32] = {"aaaaaaaaaaaaaaaaaaa", "bbbbbbbbbbbbbbbbbbb", "ccccccccccccccccccc", "ddddddddddddddddddd"};
    struct capture capture = capture_begin();
    log_init("test", LOG_LEVEL_INFO);
    for (int i = 0; i < 4; i++)
        ck_assert_int_eq(pthread_create(&threads[i], NULL, log_many, words[i]), 0);
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    char *text = capture_end(&capture), *save = NULL;
    int lines = 0;
    for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save), lines++)
        ck_assert_msg(matches(line, " many +(a{57}|b{57}|c{57}|d{57})$"), "%s", line);
    ck_assert_int_eq(lines, 2000);
    free(text);
}
END_TEST

START_TEST(level_names_are_parsed) {
    enum log_level level = LOG_LEVEL_DEBUG;
    ck_assert_int_eq(log_level_parse("error", &level), LG_OK);
    ck_assert_int_eq(level, LOG_LEVEL_ERROR);
    ck_assert_int_eq(log_level_parse("debug", &level), LG_OK);
    ck_assert_int_eq(level, LOG_LEVEL_DEBUG);
    ck_assert_int_eq(log_level_parse("loud", &level), LG_INVALID);
    ck_assert_int_eq(log_level_parse("", &level), LG_INVALID);
    ck_assert_int_eq(level, LOG_LEVEL_DEBUG);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("log");
    TCase *tests = tcase_create("log");
    tcase_add_test(tests, lines_have_the_stated_form);
    tcase_add_test(tests, levels_below_the_least_are_silent);
    tcase_add_test(tests, long_lines_are_cut_and_end);
    tcase_add_test(tests, threads_do_not_mix_lines);
    tcase_add_test(tests, level_names_are_parsed);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
