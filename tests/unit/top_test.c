/* lagoon top: documents become numbers, numbers become lines that fit. */
#include "cli/top.h"

#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static const char document[] =
    "{\"status\": {\"coordinator\": {\"address\": \"tcp://h:7710\", \"uptime_s\": 65}, \"servers\": 1, \"shards\": 2,"
    "   \"workers\": 2},"
    " \"jobs\": ["
    "  {\"id\": 1, \"name\": \"old\", \"state\": \"finished\", \"epoch\": 3, \"epochs\": 3, \"samples_applied\": 30,"
    "   \"samples_total\": 30, \"loss\": 0.125, \"trainers\": 0, \"staleness\": {\"mean\": 1.5, \"p99\": 4, \"max\": "
    "9}},"
    "  {\"id\": 2, \"name\": \"words\", \"state\": \"running\", \"epoch\": 0, \"epochs\": 3, \"samples_applied\": 15,"
    "   \"samples_total\": 60, \"samples_per_second\": 125, \"tokens_per_second\": 128000, \"flops_per_second\": 4e14,"
    "   \"flops_peak\": 1e15, \"loss\": 3.25, \"trainers\": 2, \"staleness\": {\"mean\": 2.5, \"p99\": 8, \"max\": "
    "11}},"
    "  {\"id\": 3, \"name\": \"next\\u001b[31m\", \"state\": \"queued\", \"epoch\": 0, \"epochs\": 1,"
    "   \"samples_applied\": 0, \"samples_total\": 0, \"samples_per_second\": 0, \"loss\": 0, \"trainers\": 0}],"
    " \"workers\": ["
    "  {\"name\": \"big\", \"devices\": [\"cuda:0\", \"cuda:1\"], \"device_stats\": ["
    "    {\"device\": \"cuda:0\", \"name\": \"some GPU\", \"memory_bytes\": 85899345920, \"memory_used_bytes\": 0,"
    "     \"utilisation\": 0.97, \"temperature_c\": 61, \"power_w\": 512.4}],"
    "   \"trainers\": [{\"trainer\": 8, \"job\": \"words\", \"device\": \"cuda:0, some GPU, 81920 MiB\","
    "     \"state\": \"training\", \"steps\": 10, \"samples_per_second\": 100, \"tokens_per_second\": 102400,"
    "     \"transport\": \"shm\", \"staleness_mean\": 0.5, \"weight_mean\": 0.75, \"memory_used_bytes\": 3221225472,"
    "     \"recent\": {\"compute_seconds\": 8, \"communication_seconds\": 2, \"read_seconds\": 1, \"copy_seconds\": 2,"
    "       \"wait_seconds\": 1.5}}]},"
    "  {\"name\": \"small\", \"devices\": [\"cpu\"],"
    "   \"trainers\": [{\"trainer\": 7, \"job\": \"words\", \"device\": \"cpu\", \"state\": \"starting\", \"steps\": 0,"
    "     \"transport\": \"\"}]}],"
    " \"shards\": ["
    "  {\"shard\": 0, \"server\": \"s\", \"state\": \"alive\", \"jobs\": [{\"parameter_bytes\": 1048576,"
    "    \"state_bytes\": 1048576, \"pushes_per_second\": 12.5, \"pulls_per_second\": 13, \"bytes_per_second\": "
    "2097152,"
    "    \"version\": 281474976710697}]},"
    "  {\"shard\": 1, \"server\": \"s\", \"state\": \"silent\", \"jobs\": []}]}";

static struct top top;

static void read_text(const char *text) {
    json_error_t fault;
    json_t *stats = json_loads(text, 0, &fault);
    ck_assert_msg(stats != NULL, "%s", fault.text);
    ck_assert(top_read(&top, stats));
    json_decref(stats);
}

/* Lines, to be freed. */
static char *lines(int width, int height, bool colour) {
    static char *text; /* static: some compilers think that the stream's end takes it along */
    static size_t bytes;
    FILE *out = open_memstream(&text, &bytes);
    top_write(&top, &(struct top_window){width, height, colour}, out);
    fclose(out);
    return text;
}

/* The line that begins (after blanks) with `start`; static. */
static const char *line_of(const char *text, const char *start) {
    static char line[1000];
    while (*text) {
        size_t blanks = strspn(text, " "), length = strcspn(text, "\n");
        if (strncmp(text + blanks, start, strlen(start)) == 0) {
            snprintf(line, sizeof line, "%.*s", (int)length, text);
            return line;
        }
        text += length + (text[length] != '\0');
    }
    ck_abort_msg("no line begins with \"%s\"", start);
    return NULL;
}

static void teardown(void) {
    top_deinit(&top);
}

START_TEST(a_document_becomes_numbers) {
    read_text(document);
    ck_assert_uint_eq(top.job_count, 3);
    ck_assert_str_eq(top.jobs[0].name, "words"); /* live ones first */
    ck_assert_int_eq(top.jobs[0].epoch, 1);
    ck_assert_double_eq_tol(top.jobs[0].utilisation, 0.4, 1e-9);
    ck_assert_str_eq(top.jobs[1].name, "next?[31m"); /* no escape sequence comes through */
    ck_assert(isnan(top.jobs[1].done));
    ck_assert(isnan(top.jobs[1].loss));
    ck_assert_str_eq(top.jobs[2].name, "old");
    ck_assert_uint_eq(top.trainer_count, 2);
    ck_assert_int_eq(top.trainers[0].number, 7);
    ck_assert(isnan(top.trainers[0].compute));
    ck_assert_str_eq(top.trainers[0].via, "-");
    ck_assert_str_eq(top.trainers[1].device, "cuda:0");
    ck_assert_double_eq_tol(top.trainers[1].compute, 0.5, 1e-9); /* without reading and copying */
    ck_assert_double_eq_tol(top.trainers[1].copy, 0.2, 1e-9);
    ck_assert_double_eq_tol(top.trainers[1].read, 0.1, 1e-9);
    ck_assert_double_eq_tol(top.trainers[1].wait, 0.15, 1e-9);
    ck_assert_double_eq_tol(top.trainers[1].send, 0.05, 1e-9);
    ck_assert_uint_eq(top.device_count, 3);
    ck_assert_double_eq(top.devices[0].used_bytes, 0);
    ck_assert(isnan(top.devices[1].used_bytes));
    ck_assert_uint_eq(top.shard_count, 2);
    ck_assert_double_eq(top.shards[0].memory_bytes, 2097152);
    ck_assert(isnan(top.shards[1].pushes_per_second));
}
END_TEST

START_TEST(lines_say_what_is_known) {
    read_text(document);
    char *text = lines(0, 0, false);
    ck_assert_ptr_nonnull(strstr(text, "lagoon tcp://h:7710, up 1 min 5 s: servers 1, shards 2, workers 2\n"));
    ck_assert_str_eq(line_of(text, "2  words"),
                     " 2  words      running     1/3   25.0%  128k tok  3.2500   2.50   11         2  40%");
    ck_assert_str_eq(line_of(text, "3  next"),
                     " 3  next?[31m  queued      1/1       -         -       -      -    -         0    -");
    ck_assert_str_eq(line_of(text, "8"),
                     " 8    2  big     cuda:0  training  102k tok   50%   20%   15%   10%    5%   0.50   0.750  shm   "
                     "3 GiB");
    ck_assert_str_eq(line_of(text, "7"),
                     " 7    2  small   cpu     starting         -     -     -     -     -     -      -       -  -     "
                     "    -");
    ck_assert_str_eq(line_of(text, "big"), "big     cuda:0   0 B  80 GiB   97%  61 C  512 W  some GPU");
    ck_assert_str_eq(line_of(text, "small"), "small   cpu        -       -     -     -      -  -");
    ck_assert_str_eq(line_of(text, "0  s"), "    0  s       alive    2 MiB      12.5       13    2 MiB     1:41");
    ck_assert_ptr_null(strchr(text, '\033'));
    ck_assert_ptr_null(strstr(text, "nan"));
    free(text);
}
END_TEST

START_TEST(devices_of_a_silent_worker_tell_nothing) {
    read_text("{\"workers\": [{\"name\": \"gone\", \"state\": \"silent\", \"devices\": [\"cpu\"], \"device_stats\": ["
              "{\"device\": \"cpu\", \"name\": \"2 cores\", \"memory_bytes\": 4096, \"memory_used_bytes\": 1024,"
              " \"utilisation\": 1}]}]}");
    ck_assert_uint_eq(top.device_count, 1);
    ck_assert(isnan(top.devices[0].used_bytes) && isnan(top.devices[0].utilisation));
    char *text = lines(0, 0, true);
    ck_assert_ptr_nonnull(strstr(text, "\033[31msilent"));
    ck_assert_ptr_null(strstr(text, "2 cores"));
    free(text);
}
END_TEST

START_TEST(colours_only_where_asked_for_and_beside_the_text) {
    read_text(document);
    char *text = lines(100, 30, true), *plain = lines(100, 30, false), *to = text;
    ck_assert_ptr_nonnull(strstr(text, "\033[32mrunning"));
    ck_assert_ptr_nonnull(strstr(text, "\033[31msilent"));
    for (const char *from = text; *from; from++) { /* without them both are the same */
        if (*from == '\033')
            from = strchr(from, 'm');
        else
            *to++ = *from;
    }
    *to = '\0';
    ck_assert_str_eq(text, plain);
    free(text);
    free(plain);
}
END_TEST

/* A cluster of many. */
static void fill(size_t trainers) {
    static char text[1 << 20];
    size_t used = (size_t)snprintf(text, sizeof text,
                                   "{\"status\": {\"coordinator\": {\"address\": \"tcp://host:7710\"}}, \"jobs\": "
                                   "[{\"id\": 1, \"name\": \"a-job-with-quite-a-long-name-é-indeed\", \"state\": "
                                   "\"running\", \"epochs\": 10}], \"shards\": [], \"workers\": [");
    for (size_t i = 0; i < trainers; i++)
        used += (size_t)snprintf(text + used, sizeof text - used,
                                 "%s{\"name\": \"worker-%zu.rack-7.example\", \"devices\": [\"cuda:0\"], \"trainers\": "
                                 "[{\"trainer\": %zu, \"job\": \"a-job-with-quite-a-long-name-é-indeed\", "
                                 "\"device\": \"cuda:0\", \"state\": \"waiting for shard 1\", \"steps\": 1, "
                                 "\"samples_per_second\": 1234567, \"transport\": \"tcp\", \"staleness_mean\": "
                                 "12.25, \"weight_mean\": 0.125, \"recent\": {\"compute_seconds\": 1, "
                                 "\"communication_seconds\": 0, \"read_seconds\": 0, \"copy_seconds\": 0, "
                                 "\"wait_seconds\": 0}}]}",
                                 i ? "," : "", i, trainers - i);
    snprintf(text + used, sizeof text - used, "]}");
    read_text(text);
}

static int width_of(const char *line, size_t bytes) {
    int width = 0;
    for (size_t i = 0; i < bytes; i++)
        width += ((unsigned char)line[i] & 0xc0) != 0x80;
    return width;
}

START_TEST(every_window_holds_its_lines) {
    static const size_t clusters[] = {0, 1, 3, 100};
    for (size_t c = 0; c < sizeof clusters / sizeof *clusters; c++) {
        fill(clusters[c]);
        for (int width = 1; width <= 200; width += width < 90 ? 1 : 23)
            for (int height = 1; height <= 60; height += height < 30 ? 1 : 13) {
                char *text = lines(width, height, false);
                int count = 1;
                for (const char *line = text; *line;) {
                    size_t bytes = strcspn(line, "\n");
                    ck_assert_msg(width_of(line, bytes) <= width, "%d: \"%.*s\"", width, (int)bytes, line);
                    count += line[bytes] == '\n';
                    line += bytes + (line[bytes] == '\n');
                }
                ck_assert_int_le(count, height);
                free(text);
            }
    }
}
END_TEST

START_TEST(sections_share_the_height_and_say_what_is_left_out) {
    fill(100);
    char *text = lines(80, 24, false);
    ck_assert_ptr_nonnull(strstr(text, "waiting for"));
    const char *trainers = strstr(text, "... and "), *devices = trainers ? strstr(trainers + 1, "... and ") : NULL;
    ck_assert_ptr_nonnull(devices);
    ck_assert_int_ge(atoi(trainers + 8), 90);
    ck_assert_int_le(abs(atoi(trainers + 8) - atoi(devices + 8)), 1);
    ck_assert_ptr_nonnull(strstr(text, "no shards"));
    ck_assert_ptr_nonnull(strstr(text, "\n  1   1 ")); /* by number, the first of the many */
    ck_assert_ptr_nonnull(strstr(text, "COMP COPY WAIT READ STALE"));
    free(text);
    text = lines(0, 0, false);
    ck_assert_ptr_null(strstr(text, "... and "));
    ck_assert_ptr_nonnull(strstr(text, "a-job-with-quite-a-long-name-é-indeed"));
    ck_assert_ptr_nonnull(strstr(text, "\n100    1  worker-0.rack-7.example"));
    free(text);
}
END_TEST

START_TEST(a_lost_coordinator_is_one_line) {
    snprintf(top.lost, sizeof top.lost, "no coordinator answers at h:1");
    char *text = lines(80, 24, false);
    ck_assert_str_eq(text, "no coordinator answers at h:1");
    free(text);
    read_text(document);
    ck_assert_str_eq(top.lost, "no coordinator answers at h:1");
    text = lines(80, 24, false);
    ck_assert_ptr_nonnull(strstr(text, "\nno coordinator answers at h:1\n"));
    ck_assert_ptr_nonnull(strstr(text, "words")); /* what was seen last stays */
    free(text);
}
END_TEST

START_TEST(documents_that_say_little_or_nonsense_are_fine) {
    static const char *const odd[] = {
        "{}",
        "[]",
        "{\"jobs\": 3, \"workers\": {}, \"shards\": null}",
        "{\"jobs\": [1, {}], \"workers\": [null, {\"trainers\": [[]], \"devices\": [5]}]}",
        "{\"shards\": [{\"jobs\": [0]}]}",
    };
    for (size_t i = 0; i < sizeof odd / sizeof *odd; i++) {
        read_text(odd[i]);
        char *text = lines(80, 24, true);
        ck_assert_ptr_null(strstr(text, "nan"));
        free(text);
    }
}
END_TEST

START_TEST(long_texts_are_cut_at_characters) {
    static char text[4000];
    int used =
        snprintf(text, sizeof text, "{\"jobs\": [{\"id\": 1, \"epochs\": 1, \"state\": \"running\", \"name\": \"");
    for (int i = 0; i < 100; i++)
        used += snprintf(text + used, sizeof text - (size_t)used, "é");
    snprintf(text + used, sizeof text - (size_t)used, "\"}]}");
    read_text(text);
    ck_assert_uint_lt(strlen(top.jobs[0].name), TOP_TEXT_BYTES);
    ck_assert_uint_eq(strlen(top.jobs[0].name) % 2, 0);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("top");
    TCase *tests = tcase_create("top");
    tcase_add_checked_fixture(tests, NULL, teardown);
    tcase_set_timeout(tests, 60);
    tcase_add_test(tests, a_document_becomes_numbers);
    tcase_add_test(tests, lines_say_what_is_known);
    tcase_add_test(tests, devices_of_a_silent_worker_tell_nothing);
    tcase_add_test(tests, colours_only_where_asked_for_and_beside_the_text);
    tcase_add_test(tests, every_window_holds_its_lines);
    tcase_add_test(tests, sections_share_the_height_and_say_what_is_left_out);
    tcase_add_test(tests, a_lost_coordinator_is_one_line);
    tcase_add_test(tests, documents_that_say_little_or_nonsense_are_fine);
    tcase_add_test(tests, long_texts_are_cut_at_characters);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
