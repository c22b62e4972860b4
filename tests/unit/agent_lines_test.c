#include "worker/agent_lines.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct line_splitter splitter;
static char seen[8192]; /* every line in angle brackets */

static void note(void *context, const char *line) {
    size_t used = strlen(seen);
    (void)context;
    ck_assert_uint_lt(used + strlen(line) + 3, sizeof seen);
    snprintf(seen + used, sizeof seen - used, "<%s>", line);
}

static void setup(void) {
    memset(&splitter, 0, sizeof splitter);
    seen[0] = '\0';
}

static void feed(const char *text) {
    line_splitter_feed(&splitter, text, strlen(text), note, NULL);
}

START_TEST(lines_are_put_together_however_they_come) {
    feed("one\ntwo");
    ck_assert_str_eq(seen, "<one>");
    feed("");
    feed(" and more\r\n\nthr");
    ck_assert_str_eq(seen, "<one><two and more><>");
    feed("ee");
    line_splitter_flush(&splitter, note, NULL);
    line_splitter_flush(&splitter, note, NULL);
    ck_assert_str_eq(seen, "<one><two and more><><three>");
}
END_TEST

START_TEST(long_lines_are_cut_once) {
    static char text[5000];
    memset(text, 'x', sizeof text - 1);
    feed(text);
    feed(text);
    feed("\nnext\n");
    ck_assert_uint_eq(strlen(seen), 1 + LINE_BYTES_MAX + strlen(" [cut]>") + strlen("<next>"));
    ck_assert_ptr_nonnull(strstr(seen, "x [cut]><next>"));
    setup();
    text[LINE_BYTES_MAX] = '\0'; /* as long as it may be */
    feed(text);
    feed("\n");
    ck_assert_uint_eq(strlen(seen), LINE_BYTES_MAX + 2);
}
END_TEST

START_TEST(what_is_not_text_becomes_question_marks) {
    feed("tab\there, bell\a, escape\x1b[1m\n");
    ck_assert_str_eq(seen, "<tab\there, bell?, escape?[1m>");
    setup();
    feed("gr\xc3\xbc\xc3\x9f \xe2\x82\xac \xf0\x9f\x98\x80\n"); /* well-formed: stays */
    ck_assert_str_eq(seen, "<gr\xc3\xbc\xc3\x9f \xe2\x82\xac \xf0\x9f\x98\x80>");
    setup();
    feed("a\xff|\xc3|\xc0\x80|\xed\xa0\x80|\xf5\x80\x80\x80|\xe0\x80\x80|\xe2\x82\n"); /* none of these are */
    ck_assert_str_eq(seen, "<a?|?|\?\?|\?\?\?|\?\?\?\?|\?\?\?|\?\?>");
    setup();
    line_splitter_feed(&splitter, "nul\0inside\n", 11, note, NULL);
    ck_assert_str_eq(seen, "<nul?inside>");
}
END_TEST

/* ---- queue */

static struct line_queue queue;

static size_t peek(const char **lines, size_t capacity, size_t bytes, uint64_t *trainer) {
    uint64_t job = 0;
    return line_queue_peek(&queue, lines, capacity, bytes, &job, trainer);
}

START_TEST(batches_belong_to_one_trainer_and_are_bounded) {
    const char *lines[10];
    uint64_t trainer = 0;
    line_queue_add(&queue, 1, 7, "a");
    line_queue_add(&queue, 1, 7, "b");
    line_queue_add(&queue, 1, 8, "c");
    ck_assert_uint_eq(peek(lines, 10, 1000, &trainer), 2);
    ck_assert_uint_eq(trainer, 7);
    ck_assert_str_eq(lines[1], "b");
    ck_assert_uint_eq(peek(lines, 1, 1000, &trainer), 1);
    ck_assert_uint_eq(peek(lines, 10, 1, &trainer), 1); /* one always goes */
    line_queue_remove(&queue, 2);
    ck_assert_uint_eq(peek(lines, 10, 1000, &trainer), 1);
    ck_assert_uint_eq(trainer, 8);
    line_queue_remove(&queue, 5);
    ck_assert_uint_eq(peek(lines, 10, 1000, &trainer), 0);
    line_queue_deinit(&queue);
}
END_TEST

START_TEST(a_full_queue_loses_its_oldest_lines_and_counts_them) {
    const char *lines[1];
    char text[32];
    uint64_t trainer = 0;
    for (int i = 0; i < LINE_QUEUE_MAX + 5; i++) {
        snprintf(text, sizeof text, "%d", i);
        line_queue_add(&queue, 1, 7, text);
    }
    ck_assert_uint_eq(queue.dropped, 5);
    ck_assert_uint_eq(queue.count, LINE_QUEUE_MAX);
    ck_assert_uint_eq(peek(lines, 1, 1000, &trainer), 1);
    ck_assert_str_eq(lines[0], "5");
    line_queue_deinit(&queue);
    ck_assert_uint_eq(queue.count, 0);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("agent_lines");
    TCase *tests = tcase_create("agent_lines");
    tcase_add_checked_fixture(tests, setup, NULL);
    tcase_add_test(tests, lines_are_put_together_however_they_come);
    tcase_add_test(tests, long_lines_are_cut_once);
    tcase_add_test(tests, what_is_not_text_becomes_question_marks);
    tcase_add_test(tests, batches_belong_to_one_trainer_and_are_bounded);
    tcase_add_test(tests, a_full_queue_loses_its_oldest_lines_and_counts_them);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
