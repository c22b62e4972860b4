#include "common/config.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct config *read_ok(const char *text) {
    struct lg_error error = {0};
    struct config *config = NULL;
    enum lg_status status = config_read_text("job.yaml", text, strlen(text), &config, &error);
    ck_assert_msg(status == LG_OK, "%s", error.message);
    return config;
}

static void expect_error(const char *text, const char *message) {
    struct lg_error error = {0};
    struct config *config = NULL;
    ck_assert_int_eq(config_read_text("job.yaml", text, strlen(text), &config, &error), LG_INVALID);
    ck_assert_ptr_null(config);
    ck_assert_msg(strstr(error.message, message) != NULL, "for %s\nexpected ...%s...\ngot %s", text, message,
                  error.message);
}

START_TEST(nested_keys_join) {
    struct config *config = read_ok("name: mnist\nupdater: {kind: adam, beta1: 0.9}\nhttp:\n  tls:\n    port: 8080\n");
    ck_assert_uint_eq(config->count, 4);
    ck_assert_str_eq(config_text(config, "name", ""), "mnist");
    ck_assert_str_eq(config_text(config, "updater.kind", ""), "adam");
    ck_assert_str_eq(config_text(config, "updater.beta1", ""), "0.9");
    ck_assert_str_eq(config_text(config, "http.tls.port", ""), "8080");
    ck_assert_str_eq(config_text(config, "http", "none"), "none");
    config_free(config);
}
END_TEST

START_TEST(places_are_one_based) {
    struct config *config = read_ok("# a comment\nhttp:\n  port:   8080\n");
    const struct config_entry *entry = config_find(config, "http.port");
    char place[64];
    ck_assert_ptr_nonnull(entry);
    config_place(entry, place, sizeof place);
    ck_assert_str_eq(place, "job.yaml:3:11");
    config_free(config);
}
END_TEST

START_TEST(lists_join_with_commas) {
    struct config *config = read_ok("hidden: [256, 128]\nnames:\n  - a b\n  - 'c'\nnone: []\nempty: ''\n");
    ck_assert_str_eq(config_text(config, "hidden", ""), "256,128");
    ck_assert_str_eq(config_text(config, "names", ""), "a b,c");
    ck_assert_str_eq(config_text(config, "none", "x"), "");
    ck_assert_str_eq(config_text(config, "empty", "x"), "");
    config_free(config);
}
END_TEST

START_TEST(empty_documents_are_empty) {
    const char *const texts[] = {"", "\n", "# only a comment\n", "---\n", "{}"};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        struct config *config = read_ok(texts[i]);
        ck_assert_uint_eq(config->count, 0);
        config_free(config);
    }
}
END_TEST

START_TEST(refusals_say_where_and_why) {
    static const struct {
        const char *text, *message;
    } cases[] = {
        {"a: 1\na: 2\n", "job.yaml:2:1: \"a\" is set twice; the first is on line 1"},
        {"a: {b: 1}\na: {c: 2}\n", "job.yaml:2:1: \"a\" is set twice"},
        {"a: 1\na: {c: 2}\n", "job.yaml:2:1: \"a\" is set twice"},
        {"a: {c: 2}\na: 1\n", "job.yaml:2:1: \"a\" is set twice"},
        {"a: {b: 1}\na.b: 2\n", "job.yaml:2:1: \"a.b\" is set twice"},
        {"a: &x 1\n", "job.yaml:1:4: anchors"},
        {"a: [&x 1]\n", "job.yaml:1:5: anchors"},
        {"a: &x {b: 1}\n", "job.yaml:1:4: anchors"},
        {"a: *x\n", "job.yaml:1:4: aliases"},
        {"a: !!int 1\n", "job.yaml:1:4: tags"},
        {"a: !x {b: 1}\n", "job.yaml:1:4: tags"},
        {"%YAML 1.1\n---\na: 1\n", "directives"},
        {"a: 1\n---\nb: 2\n", "job.yaml:2:1: a second document"},
        {"- 1\n- 2\n", "job.yaml:1:1: expected lines of the form"},
        {"hello\n", "job.yaml:1:1: expected lines of the form"},
        {"a: [[1]]\n", "job.yaml:1:5: the list \"a\" may hold plain values only"},
        {"a: [{b: 1}]\n", "may hold plain values only"},
        {"a: ['1,2']\n", "may not contain a comma"},
        {"a:\nb: 1\n", "\"a\" has no value"},
        {"a: ~x\nb c: 1\n", "job.yaml:2:1: malformed key"},
        {"? [a]\n: 1\n", "a key must be a word"},
        {".a: 1\n", "malformed key"},
        {"a..b: 1\n", "malformed key"},
        {"a.: 1\n", "malformed key"},
        {"<<: {a: 1}\n", "malformed key"},
        {"a: \"x\\ty\"\n", "control characters"},
        {"a: \"x\\0y\"\n", "control characters"},
        {"a: \"x\\u0085y\"\n", "control characters"},
        {"a: |\n  two\n  lines\n", "control characters"},
        {"a: b: c\n", "job.yaml:1:5: not valid YAML"},
        {"a: {b: 1\n", "not valid YAML"},
        {"ok: 1\na: \x01\n", "job.yaml:2:4: not valid YAML"},
        {"ok: 1\na: \xff\n", "job.yaml:2:4: not valid YAML"},
        {"a: {a: {a: {a: {a: {a: {a: {a: {a: 1}}}}}}}}\n", "nested deeper than 8 levels"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        expect_error(cases[i].text, cases[i].message);
}
END_TEST

START_TEST(eight_levels_are_allowed) {
    struct config *config = read_ok("a: {a: {a: {a: {a: {a: {a: {a: 1}}}}}}}\n");
    ck_assert_str_eq(config_text(config, "a.a.a.a.a.a.a.a", ""), "1");
    config_free(config);
}
END_TEST

START_TEST(deep_nesting_is_refused_quickly) {
    enum { BYTES = 200000 };
    char *text = malloc(BYTES + 1);
    memset(text, '[', BYTES);
    text[BYTES] = '\0';
    expect_error(text, "job.yaml:1:1");
    memcpy(text, "a: ", 3);
    expect_error(text, "plain values only");
    memset(text, '{', BYTES);
    expect_error(text, "a key must be a word");
    free(text);
}
END_TEST

START_TEST(sizes_are_limited) {
    enum { BYTES = (1 << 20) + 1 };
    char *text = malloc(BYTES + 1);
    memset(text, '#', BYTES);
    text[BYTES] = '\0';
    expect_error(text, "larger than 1 MiB");
    text[BYTES - 1] = '\0';
    struct config *config = read_ok(text);
    config_free(config);
    size_t used = 0;
    for (int i = 0; i <= 4096; i++)
        used += (size_t)snprintf(text + used, BYTES - used, "k%d: 1\n", i);
    expect_error(text, "job.yaml:4097:8: more than 4096 settings");
    memset(text, 'k', 300);
    memcpy(text + 300, ": 1", 4);
    expect_error(text, "malformed key");
    free(text);
}
END_TEST

START_TEST(set_overrides_and_checks) {
    struct lg_error error = {0};
    struct config *config = read_ok("a: 1\n");
    ck_assert_int_eq(config_set(config, "a", "2", "flag --a", &error), LG_OK);
    ck_assert_int_eq(config_set(config, "b.c_d-e", "3", "wire", NULL), LG_OK);
    ck_assert_uint_eq(config->count, 2);
    ck_assert_str_eq(config_text(config, "a", ""), "2");
    char place[64];
    config_place(config_find(config, "a"), place, sizeof place);
    ck_assert_str_eq(place, "flag --a");
    ck_assert_int_eq(config_set(config, "", "3", "wire", &error), LG_INVALID);
    ck_assert_int_eq(config_set(config, "a b", "3", "wire", &error), LG_INVALID);
    ck_assert_int_eq(config_set(config, "a\n", "3", "wire", &error), LG_INVALID);
    ck_assert_ptr_null(strchr(error.message, '\n'));
    ck_assert_int_eq(config_set(config, "a", "3\n", "wire", &error), LG_INVALID);
    ck_assert_str_eq(config_text(config, "a", ""), "2");
    config_free(config);
}
END_TEST

START_TEST(taking_marks_used) {
    struct config *config = read_ok("a: 1\n");
    ck_assert(!config->entries[0].used);
    ck_assert_str_eq(config_take_text(config, "b", "none"), "none");
    ck_assert(!config->entries[0].used);
    ck_assert_str_eq(config_take_text(config, "a", "none"), "1");
    ck_assert(config->entries[0].used);
    ck_assert_str_eq(config_take_text(NULL, "a", "none"), "none");
    config_free(config);
}
END_TEST

START_TEST(files_are_read) {
    struct lg_error error = {0};
    struct config *config = NULL;
    char path[] = "/tmp/lagoon_config_test_XXXXXX";
    int fd = mkstemp(path);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(write(fd, "a: 1\nb: \n", 9), 9);
    close(fd);
    ck_assert_int_eq(config_read_file(path, &config, &error), LG_INVALID);
    ck_assert_ptr_nonnull(strstr(error.message, path));
    ck_assert_ptr_nonnull(strstr(error.message, ":2:"));
    ck_assert_int_eq(truncate(path, 5), 0);
    ck_assert_int_eq(config_read_file(path, &config, &error), LG_OK);
    ck_assert_str_eq(config_text(config, "a", ""), "1");
    config_free(config);
    unlink(path);
    ck_assert_int_eq(config_read_file(path, &config, &error), LG_NOT_FOUND);
    ck_assert_ptr_nonnull(strstr(error.message, "No such file"));
    ck_assert_int_eq(config_read_file("/", &config, &error), LG_IO);
    ck_assert_ptr_null(config);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("config");
    TCase *tests = tcase_create("config");
    tcase_add_test(tests, nested_keys_join);
    tcase_add_test(tests, places_are_one_based);
    tcase_add_test(tests, lists_join_with_commas);
    tcase_add_test(tests, empty_documents_are_empty);
    tcase_add_test(tests, refusals_say_where_and_why);
    tcase_add_test(tests, eight_levels_are_allowed);
    tcase_add_test(tests, deep_nesting_is_refused_quickly);
    tcase_add_test(tests, sizes_are_limited);
    tcase_add_test(tests, set_overrides_and_checks);
    tcase_add_test(tests, taking_marks_used);
    tcase_add_test(tests, files_are_read);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
