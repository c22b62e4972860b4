#include "common/option.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

struct sample {
    bool fast;
    int64_t port;
    double beta;
    uint64_t pool;
    int64_t wait_ms;
    char name[OPTION_TEXT_BYTES];
    char mode[OPTION_TEXT_BYTES];
    struct option_ints hidden;
    int64_t any;
};

#define FIELD(name) offsetof(struct sample, name)
static const struct option sample_options[] = {
    {"fast", OPTION_BOOL, FIELD(fast), "false", 0, 0, NULL, NULL, "skip the slow part"},
    {"http.port", OPTION_INT, FIELD(port), "8080", 0, 65535, NULL, NULL, "port of the stats endpoint, 0 picks one"},
    {"beta", OPTION_FLOAT, FIELD(beta), "0.9", 0, 1, NULL, NULL, "decay of the mean"},
    {"pool_bytes", OPTION_BYTES, FIELD(pool), "64MiB", 4096, 1 << 30, NULL, "bytes", "credit pool"},
    {"http.wait_ms", OPTION_DURATION, FIELD(wait_ms), "5s", 1, 60000, NULL, "ms", "patience"},
    {"name", OPTION_STRING, FIELD(name), "it's", 0, 0, NULL, NULL, "a name"},
    {"mode", OPTION_CHOICE, FIELD(mode), "async", 0, 0, "async|ssp|bsp", NULL, "the consistency mode"},
    {"hidden", OPTION_INTS, FIELD(hidden), "256, 128", 1, 1e6, NULL, "units", "sizes of the hidden layers"},
    {"any", OPTION_INT, FIELD(any), "-5", 0, 0, NULL, NULL, "any number"},
};
static const struct option_table sample_table = {"sample", "a table for this test", sample_options, 9,
                                                 sizeof(struct sample)};

struct required {
    char path[OPTION_TEXT_BYTES];
    char kind[OPTION_TEXT_BYTES];
};
static const struct option required_options[] = {
    {"path", OPTION_STRING, offsetof(struct required, path), NULL, 0, 0, NULL, NULL, "the data folder"},
    {"kind", OPTION_CHOICE, offsetof(struct required, kind), "idx", 0, 0, "idx|csv", NULL, "the format"},
};
static const struct option_table required_table = {"data", "another table", required_options, 2,
                                                   sizeof(struct required)};

static struct config *read_ok(const char *text) {
    struct lg_error error = {0};
    struct config *config = NULL;
    enum lg_status status = config_read_text("job.yaml", text, strlen(text), &config, &error);
    ck_assert_msg(status == LG_OK, "%s", error.message);
    return config;
}

static void expect_defaults(const struct sample *sample) {
    ck_assert(!sample->fast);
    ck_assert_int_eq(sample->port, 8080);
    ck_assert_double_eq(sample->beta, 0.9);
    ck_assert_uint_eq(sample->pool, 64 << 20);
    ck_assert_int_eq(sample->wait_ms, 5000);
    ck_assert_str_eq(sample->name, "it's");
    ck_assert_str_eq(sample->mode, "async");
    ck_assert_uint_eq(sample->hidden.count, 2);
    ck_assert_int_eq(sample->hidden.values[0], 256);
    ck_assert_int_eq(sample->hidden.values[1], 128);
    ck_assert_int_eq(sample->any, -5);
}

START_TEST(defaults_are_parsed) {
    struct sample sample;
    ck_assert_int_eq(option_apply(&sample_table, "", NULL, &sample, NULL), LG_OK);
    expect_defaults(&sample);
}
END_TEST

START_TEST(values_are_parsed) {
    struct sample sample;
    struct config *config =
        read_ok("s:\n  fast: yes\n  http: {port: 0, wait_ms: 1m}\n  beta: 1e-3\n  pool_bytes: 4 KiB\n"
                "  name: ''\n  mode: bsp\n  hidden: [7]\n  any: 9223372036854775807\nother: 1\n");
    ck_assert_int_eq(option_apply(&sample_table, "s.", config, &sample, NULL), LG_OK);
    ck_assert(sample.fast);
    ck_assert_int_eq(sample.port, 0);
    ck_assert_int_eq(sample.wait_ms, 60000);
    ck_assert_double_eq(sample.beta, 1e-3);
    ck_assert_uint_eq(sample.pool, 4096);
    ck_assert_str_eq(sample.name, "");
    ck_assert_str_eq(sample.mode, "bsp");
    ck_assert_uint_eq(sample.hidden.count, 1);
    ck_assert_int_eq(sample.any, INT64_MAX);
    for (size_t i = 0; i < config->count; i++)
        ck_assert_int_eq(config->entries[i].used, strcmp(config->entries[i].key, "other") != 0);
    config_free(config);
}
END_TEST

START_TEST(bad_values_are_refused) {
    static const struct {
        const char *text, *message;
    } cases[] = {
        {"fast: maybe", "job.yaml:1:7: \"fast\" must be true or false, not \"maybe\""},
        {"http: {port: many}", "job.yaml:1:14: \"http.port\" must be an integer from 0 to 65535, not \"many\""},
        {"http: {port: 65536}", "must be an integer from 0 to 65535, not \"65536\""},
        {"http: {port: -1}", "must be an integer"},
        {"http: {port: 1.5}", "must be an integer"},
        {"http: {port: ' 1'}", "must be an integer"},
        {"any: 9223372036854775808", "must be an integer, not"},
        {"beta: 1.5", "must be a number from 0 to 1"},
        {"beta: nan", "must be a number"},
        {"beta: 1e999", "must be a number"},
        {"beta: 0x1", "must be a number"},
        {"beta: ''", "must be a number"},
        {"pool_bytes: 1KiB", "must be a size such as 4096, 64MiB or 2GiB from 4KiB to 1GiB"},
        {"pool_bytes: 5 apples", "must be a size"},
        {"http: {wait_ms: 5}", "must be a time such as 500ms, 5s or 2m from 1ms to 1m"},
        {"http: {wait_ms: 0}", "must be a time"},
        {"mode: asnyc", "must be one of async|ssp|bsp, not \"asnyc\"; did you mean \"async\"?"},
        {"mode: 'async|ssp'", "must be one of"},
        {"mode: ''", "must be one of"},
        {"hidden: [1, x]", "must be a list of at most 32 integers, each from 1 to 1000000"},
        {"hidden: [0]", "must be a list"},
        {"hidden: '1,'", "must be a list"},
        {"hidden: '1 2'", "must be a list"},
        {"hidden: [1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1]", "must be a list"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct lg_error error = {0};
        struct sample sample;
        struct config *config = read_ok(cases[i].text);
        ck_assert_int_eq(option_apply(&sample_table, "", config, &sample, &error), LG_INVALID);
        ck_assert_msg(strstr(error.message, cases[i].message) != NULL, "expected %s\ngot %s", cases[i].message,
                      error.message);
        config_free(config);
    }
}
END_TEST

START_TEST(long_texts_are_refused) {
    char text[300];
    struct sample sample;
    struct config *config = config_new();
    memset(text, 'x', sizeof text);
    text[OPTION_TEXT_BYTES - 1] = '\0';
    ck_assert_int_eq(config_set(config, "name", text, "wire", NULL), LG_OK);
    ck_assert_int_eq(option_apply(&sample_table, "", config, &sample, NULL), LG_OK);
    ck_assert_str_eq(sample.name, text);
    text[OPTION_TEXT_BYTES - 1] = 'x';
    text[OPTION_TEXT_BYTES] = '\0';
    ck_assert_int_eq(config_set(config, "name", text, "wire", NULL), LG_OK);
    ck_assert_int_eq(option_apply(&sample_table, "", config, &sample, NULL), LG_INVALID);
    config_free(config);
}
END_TEST

START_TEST(required_options_are_asked_for) {
    struct lg_error error = {0};
    struct required required;
    ck_assert_int_eq(option_apply(&required_table, "data.", NULL, &required, &error), LG_INVALID);
    ck_assert_str_eq(error.message,
                     "\"data.path\" is not set (the data folder): add it to the config file or give --data.path");
}
END_TEST

static void expect_unknown(const char *text, const char *message) {
    static const struct option_table *const tables[] = {&sample_table, &required_table};
    static const char *const prefixes[] = {"", "data."};
    struct lg_error error = {0};
    struct sample sample;
    struct config *config = read_ok(text);
    ck_assert_int_eq(option_apply(&sample_table, "", config, &sample, &error), LG_OK);
    if (message) {
        ck_assert_int_eq(option_check_unused(config, tables, prefixes, 2, &error), LG_INVALID);
        ck_assert_str_eq(error.message, message);
    } else {
        ck_assert_int_eq(option_check_unused(config, tables, prefixes, 2, &error), LG_OK);
    }
    config_free(config);
}

START_TEST(unknown_keys_are_suggested) {
    expect_unknown("beta: 0.5\n", NULL);
    expect_unknown("beta: 0.5\nbta: 1\n", "job.yaml:2:6: unknown key \"bta\"; did you mean \"beta\"?");
    expect_unknown("http: {prot: 1}\n", "job.yaml:1:14: unknown key \"http.prot\"; did you mean \"http.port\"?");
    expect_unknown("htpt.port: 1\n", "job.yaml:1:12: unknown key \"htpt.port\"; did you mean \"http.port\"?");
    expect_unknown("data: {pth: x}\n", "job.yaml:1:13: unknown key \"data.pth\"; did you mean \"data.path\"?");
    expect_unknown("pool-bytes: 1\n", "job.yaml:1:13: unknown key \"pool-bytes\"; did you mean \"pool_bytes\"?");
    expect_unknown("http: {zzzzzzz: 1}\n", "job.yaml:1:17: unknown key \"http.zzzzzzz\"; known here: "
                                           "\"http.port\", \"http.wait_ms\"");
    expect_unknown("nowhere: {zzzzzzz: 1}\n", "job.yaml:1:20: unknown key \"nowhere.zzzzzzz\"");
}
END_TEST

/* A value where keys are expected is taken for the first key that it fits. */
START_TEST(sections_are_no_values) {
    expect_unknown("http: 9000\n", "job.yaml:1:7: \"http\" has keys of its own; did you mean \"http: {port: 9000}\"?");
    expect_unknown("http: 5s\n", "job.yaml:1:7: \"http\" has keys of its own; did you mean \"http: {wait_ms: 5s}\"?");
    expect_unknown("data: csv\n", "job.yaml:1:7: \"data\" has keys of its own; did you mean \"data: {path: csv}\"?");
    expect_unknown("data: 3\n", "job.yaml:1:7: \"data\" has keys of its own: \"data.path\", \"data.kind\"");
    expect_unknown("data: [idx, csv]\n", "job.yaml:1:7: \"data\" has keys of its own: \"data.path\", \"data.kind\"");
    expect_unknown("data: 'idx: 3'\n", "job.yaml:1:7: \"data\" has keys of its own: \"data.path\", \"data.kind\"");
    expect_unknown("htp: x\n", "job.yaml:1:6: unknown key \"htp\"; known here: \"fast\", \"beta\", \"pool_bytes\", "
                               "\"name\", \"mode\", \"hidden\", \"any\"");
}
END_TEST

START_TEST(arguments_are_suggested_as_arguments) {
    const struct option_table *tables[] = {&sample_table};
    struct lg_error error = {0};
    struct config *config = config_new();
    ck_assert_int_eq(config_set(config, "http", "9000", "argument", &error), LG_OK);
    ck_assert_int_eq(option_check_unused(config, tables, (const char *const[]){""}, 1, &error), LG_INVALID);
    ck_assert_str_eq(error.message, "argument: \"http\" has keys of its own; did you mean \"http.port=9000\"?");
    config_free(config);
}
END_TEST

/* Cuts `line` at spaces into argv (room for 20); returns argc. */
static int split(char *line, char **argv) {
    int argc = 0;
    char *save = NULL;
    for (char *word = strtok_r(line, " ", &save); word && argc < 19; word = strtok_r(NULL, " ", &save))
        argv[argc++] = word;
    argv[argc] = NULL;
    return argc;
}

START_TEST(flags_are_taken) {
    char *argv[20], line[] = "lagoon run --http-port 99 --beta=0.5 x --fast --pool-bytes 1MiB --name= -c file "
                             "--any -7 -- --beta";
    int argc = split(line, argv);
    ck_assert_int_eq(argc, 16);
    struct config *config = config_new();
    struct lg_error error = {0};
    struct sample sample;
    enum lg_status status = option_take_flags(&sample_table, "", &argc, argv, config, &error);
    ck_assert_msg(status == LG_OK, "%s", error.message);
    const char *const left[] = {"lagoon", "run", "x", "-c", "file", "--beta"};
    ck_assert_int_eq(argc, 6);
    for (int i = 0; i < argc; i++)
        ck_assert_str_eq(argv[i], left[i]);
    ck_assert_ptr_null(argv[argc]);
    ck_assert_int_eq(option_apply(&sample_table, "", config, &sample, &error), LG_OK);
    ck_assert_int_eq(sample.port, 99);
    ck_assert_double_eq(sample.beta, 0.5);
    ck_assert(sample.fast);
    ck_assert_uint_eq(sample.pool, 1 << 20);
    ck_assert_str_eq(sample.name, "");
    ck_assert_int_eq(sample.any, -7);
    char place[64];
    config_place(config_find(config, "http.port"), place, sizeof place);
    ck_assert_str_eq(place, "flag --http.port");
    config_free(config);
}
END_TEST

START_TEST(flags_override_files_and_booleans_turn_off) {
    char *argv[20], line[] = "lagoon --no-fast --mode ssp";
    int argc = split(line, argv);
    struct config *config = read_ok("fast: true\nmode: bsp\n");
    struct sample sample;
    ck_assert_int_eq(option_take_flags(&sample_table, "", &argc, argv, config, NULL), LG_OK);
    ck_assert_int_eq(option_apply(&sample_table, "", config, &sample, NULL), LG_OK);
    ck_assert(!sample.fast);
    ck_assert_str_eq(sample.mode, "ssp");
    config_free(config);
}
END_TEST

static void expect_flag_error(const char *flags, const char *message) {
    char *argv[20], line[100];
    snprintf(line, sizeof line, "lagoon %s", flags);
    int argc = split(line, argv);
    struct config *config = config_new();
    struct lg_error error = {0};
    ck_assert_int_eq(option_take_flags(&sample_table, "", &argc, argv, config, &error), LG_INVALID);
    ck_assert_str_eq(error.message, message);
    config_free(config);
}

START_TEST(bad_flags_are_refused) {
    expect_flag_error("--bta 1", "unknown flag \"--bta\"; did you mean \"--beta\"?");
    expect_flag_error("--http-prot=1", "unknown flag \"--http-prot\"; did you mean \"--http.port\"?");
    expect_flag_error("--qqqqqqqqqqq", "unknown flag \"--qqqqqqqqqqq\"; --help lists them");
    expect_flag_error("--no-beta", "unknown flag \"--no-beta\"; --help lists them");
    expect_flag_error("--beta", "flag \"--beta\" needs a value");
    expect_flag_error("--beta --fast", "flag \"--beta\" needs a value");
}
END_TEST

START_TEST(flags_of_several_tables) {
    static const struct option_table *const tables[] = {&sample_table, &required_table};
    static const char *const prefixes[] = {"", "data."};
    char *argv[20], line[] = "lagoon --data-path /x --beta 0.1";
    int argc = split(line, argv);
    struct config *config = config_new();
    ck_assert_int_eq(option_take_flags_of(tables, prefixes, 2, &argc, argv, config, NULL), LG_OK);
    ck_assert_int_eq(argc, 1);
    ck_assert_str_eq(config_text(config, "data.path", ""), "/x");
    ck_assert_str_eq(config_text(config, "beta", ""), "0.1");
    config_free(config);
}
END_TEST

START_TEST(nearest_words) {
    static const char *const words[] = {"constant", "inverse", "polynomial", "hinge", NULL};
    ck_assert_str_eq(option_nearest("polinomial", words), "polynomial");
    ck_assert_str_eq(option_nearest("hnige", words), "hinge");
    ck_assert_str_eq(option_nearest("CONSTANT", words), "constant");
    ck_assert_ptr_null(option_nearest("x", words));
    ck_assert_ptr_null(option_nearest("", words));
    ck_assert_ptr_null(option_nearest("cutoff", words));
}
END_TEST

START_TEST(sizes_and_times) {
    uint64_t bytes = 0;
    int64_t ms = 0;
    ck_assert_int_eq(option_parse_bytes("1.5GiB", &bytes), LG_OK);
    ck_assert_uint_eq(bytes, UINT64_C(3) << 29);
    ck_assert_int_eq(option_parse_bytes("2 GB", &bytes), LG_OK);
    ck_assert_uint_eq(bytes, 2000000000);
    ck_assert_int_eq(option_parse_bytes("0", &bytes), LG_OK);
    ck_assert_uint_eq(bytes, 0);
    ck_assert_int_eq(option_parse_duration("1.5s", &ms), LG_OK);
    ck_assert_int_eq(ms, 1500);
    ck_assert_int_eq(option_parse_duration("0", &ms), LG_OK);
    ck_assert_int_eq(ms, 0);
    ck_assert_int_eq(option_parse_duration("1d", &ms), LG_OK);
    ck_assert_int_eq(ms, 86400000);
    static const char *const bad_bytes[] = {"",   "-1",     "1.5", "MiB",  "1 MiBs",        "9223372036854775808",
                                            ".5", "1..5GB", "1e3", "1mib", "99999999999TiB"};
    for (size_t i = 0; i < sizeof bad_bytes / sizeof bad_bytes[0]; i++)
        ck_assert_msg(option_parse_bytes(bad_bytes[i], &bytes) == LG_INVALID, "%s", bad_bytes[i]);
    static const char *const bad_times[] = {"", "5", "-5s", "5 S", "0.0001s", "1.5ms", "300000000000d"};
    for (size_t i = 0; i < sizeof bad_times / sizeof bad_times[0]; i++)
        ck_assert_msg(option_parse_duration(bad_times[i], &ms) == LG_INVALID, "%s", bad_times[i]);
}
END_TEST

typedef void print_fn(const struct option_table *table, const char *prefix, FILE *out);

static char *printed(print_fn *print, const struct option_table *table, const char *prefix) {
    char *text = NULL;
    size_t bytes = 0;
    FILE *out = open_memstream(&text, &bytes);
    ck_assert_ptr_nonnull(out);
    print(table, prefix, out);
    fclose(out);
    return text;
}

START_TEST(yaml_round_trips) {
    static const char *const prefixes[] = {"", "deep.er."};
    for (size_t i = 0; i < 2; i++) {
        char *text = printed(option_print_yaml, &sample_table, prefixes[i]);
        struct config *config = read_ok(text);
        struct sample sample;
        ck_assert_uint_eq(config->count, sample_table.count);
        ck_assert_int_eq(option_apply(&sample_table, prefixes[i], config, &sample, NULL), LG_OK);
        expect_defaults(&sample);
        for (size_t e = 0; e < config->count; e++)
            ck_assert(config->entries[e].used);
        config_free(config);
        free(text);
    }
    char *text = printed(option_print_yaml, &required_table, "data.");
    ck_assert_str_eq(text, "data:\n  # the data folder: a text of at most 255 bytes\n  # path: (required)\n"
                           "  # the format: one of idx|csv\n  kind: idx\n");
    free(text);
}
END_TEST

START_TEST(help_markdown_and_man) {
    char *help = printed(option_print_help, &sample_table, "");
    ck_assert_ptr_nonnull(strstr(help, "  --http.port INT                 port of the stats endpoint, 0 picks one\n"
                                       "                                  (default 8080)\n"));
    ck_assert_ptr_nonnull(strstr(help, "  --fast                          skip the slow part\n"));
    free(help);
    char *keys = printed(option_print_keys, &required_table, "data.");
    ck_assert_str_eq(keys, "  data.path TEXT                  the data folder (required)\n"
                           "  data.kind idx|csv               the format (default idx)\n");
    free(keys);
    char *markdown = printed(option_print_markdown, &sample_table, "s.");
    ck_assert_ptr_nonnull(strstr(markdown, "| `s.http.port` | integer | `8080` | from 0 to 65535 | port of"));
    ck_assert_ptr_nonnull(strstr(markdown, "| `s.mode` | choice | `async` | `async`, `ssp`, `bsp` | the"));
    free(markdown);
    char *man = printed(option_print_man, &required_table, "data.");
    ck_assert_ptr_nonnull(strstr(man, ".TP\n\\fB\\-\\-data.path\\fR \\fITEXT\\fR\n\\&the data folder (required).\n"));
    free(man);
    man = printed(option_print_man_keys, &required_table, "data.");
    ck_assert_ptr_nonnull(strstr(man, ".TP\n\\fBdata.path\\fR \\fITEXT\\fR\n\\&the data folder (required).\n"));
    free(man);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("option");
    TCase *tests = tcase_create("option");
    tcase_add_test(tests, defaults_are_parsed);
    tcase_add_test(tests, values_are_parsed);
    tcase_add_test(tests, bad_values_are_refused);
    tcase_add_test(tests, long_texts_are_refused);
    tcase_add_test(tests, required_options_are_asked_for);
    tcase_add_test(tests, unknown_keys_are_suggested);
    tcase_add_test(tests, sections_are_no_values);
    tcase_add_test(tests, arguments_are_suggested_as_arguments);
    tcase_add_test(tests, flags_are_taken);
    tcase_add_test(tests, flags_override_files_and_booleans_turn_off);
    tcase_add_test(tests, bad_flags_are_refused);
    tcase_add_test(tests, flags_of_several_tables);
    tcase_add_test(tests, nearest_words);
    tcase_add_test(tests, sizes_and_times);
    tcase_add_test(tests, yaml_round_trips);
    tcase_add_test(tests, help_markdown_and_man);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
