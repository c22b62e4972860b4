/* The database: what is put comes back, a transaction is whole or not there, and a file that is not ours is refused. */
#include "server/coordinator/store.h"

#include <check.h>
#include <pthread.h>
#include <sqlite3.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "server/coordinator/store_thread.h"

static char folder[64], path[128];

static void make_folder(void) {
    snprintf(folder, sizeof folder, "/tmp/lagoon-store-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/test.db", folder);
}

static void remove_folder(void) {
    static const char *const endings[] = {"", "-wal", "-shm", "-journal"};
    for (size_t i = 0; i < sizeof endings / sizeof *endings; i++) {
        char file[160];
        snprintf(file, sizeof file, "%s/test.db%s", folder, endings[i]);
        unlink(file);
    }
    ck_assert_int_eq(rmdir(folder), 0);
}

static struct store *open_store(const char *where) {
    struct store *store = NULL;
    struct lg_error error = {0};
    ck_assert_msg(store_open(where, &store, &error) == LG_OK, "%s", error.message);
    return store;
}

static void put(struct store *store, enum store_table table, const void *row) {
    struct lg_error error = {0};
    ck_assert_msg(store_write(store, &(struct store_change){table, false, row}, 1, &error) == LG_OK, "%s",
                  error.message);
}

struct seen {
    size_t rows[STORE_TABLE_COUNT];
    struct store_job job;
    struct store_slice slice;
    struct store_evaluation evaluation;
    char job_name[64], spec[256], cuts[64];
    uint64_t order[16];
    enum lg_status answer;
};

static enum lg_status look(void *context, enum store_table table, const void *row, struct lg_error *error) {
    struct seen *seen = context;
    seen->rows[table]++;
    if (table == STORE_TABLE_JOB) {
        seen->job = *(const struct store_job *)row;
        snprintf(seen->job_name, sizeof seen->job_name, "%s", seen->job.name);
        snprintf(seen->spec, sizeof seen->spec, "%s", seen->job.spec);
        if (seen->rows[table] <= 16)
            seen->order[seen->rows[table] - 1] = seen->job.job;
    }
    if (table == STORE_TABLE_SLICE) {
        seen->slice = *(const struct store_slice *)row;
        ck_assert_uint_le(seen->slice.cuts.bytes, sizeof seen->cuts);
        memcpy(seen->cuts, seen->slice.cuts.data, seen->slice.cuts.bytes);
    }
    if (table == STORE_TABLE_EVALUATION)
        seen->evaluation = *(const struct store_evaluation *)row;
    return seen->answer == LG_OK ? LG_OK : lg_fail(error, seen->answer, "enough");
}

static struct seen load(struct store *store) {
    struct seen seen = {.answer = LG_OK};
    struct lg_error error = {0};
    ck_assert_msg(store_load(store, look, &seen, &error) == LG_OK, "%s", error.message);
    return seen;
}

START_TEST(rows_come_back_as_they_were) {
    struct store *store = open_store(path);
    const uint64_t cuts[] = {3, UINT64_MAX};
    put(store, STORE_TABLE_JOB,
        &(struct store_job){
            .job = 7, .name = "quote ' and \"", .spec = "{\"a\":\"\\u00e9\"}", .reason = "", .loss = -0.5});
    put(store, STORE_TABLE_SLICE,
        &(struct store_slice){.job = 7, .lease = 1, .holder = UINT64_MAX - 3, .cuts = {cuts, sizeof cuts}});
    put(store, STORE_TABLE_EVALUATION,
        &(struct store_evaluation){.job = 7, .epoch = 1, .loss = 1e-300, .accuracy = 0.1});
    store_close(store);
    store = open_store(path); /* from the file */
    struct seen seen = load(store);
    ck_assert_uint_eq(seen.job.job, 7);
    ck_assert_str_eq(seen.job_name, "quote ' and \"");
    ck_assert_str_eq(seen.spec, "{\"a\":\"\\u00e9\"}");
    ck_assert(seen.job.loss == -0.5);
    ck_assert_uint_eq(seen.slice.holder, UINT64_MAX - 3);
    ck_assert_uint_eq(seen.slice.cuts.bytes, sizeof cuts);
    ck_assert_int_eq(memcmp(seen.cuts, cuts, sizeof cuts), 0);
    ck_assert(seen.evaluation.loss == 1e-300 && seen.evaluation.accuracy == 0.1);
    store_close(store);
}
END_TEST

START_TEST(rows_are_replaced_and_ordered_by_key) {
    struct store *store = open_store(":memory:");
    for (uint64_t job = 12; job-- > 1;)
        put(store, STORE_TABLE_JOB, &(struct store_job){.job = job, .name = "old"});
    put(store, STORE_TABLE_JOB, &(struct store_job){.job = 11, .name = "new"});
    struct seen seen = load(store);
    ck_assert_uint_eq(seen.rows[STORE_TABLE_JOB], 11);
    ck_assert_str_eq(seen.job_name, "new");
    for (uint64_t i = 0; i < 11; i++)
        ck_assert_uint_eq(seen.order[i], i + 1);
    store_close(store);
}
END_TEST

START_TEST(removing_a_job_removes_all_of_it) {
    struct store *store = open_store(":memory:");
    for (uint64_t job = 1; job <= 2; job++) {
        put(store, STORE_TABLE_JOB, &(struct store_job){.job = job});
        put(store, STORE_TABLE_HISTORY, &(struct store_history){.job = job, .seq = 4, .text = "x"});
        put(store, STORE_TABLE_SLICE, &(struct store_slice){.job = job, .lease = 1});
        put(store, STORE_TABLE_SLICE, &(struct store_slice){.job = job, .lease = 2});
        put(store, STORE_TABLE_SESSION, &(struct store_session){.session = job, .job = job});
    }
    put(store, STORE_TABLE_COUNTER, &(struct store_counter){"job", 3});
    const struct store_change changes[] = {{STORE_TABLE_JOB, true, &(struct store_job){.job = 1}},
                                           {STORE_TABLE_SLICE, true, &(struct store_slice){.job = 2, .lease = 1}}};
    ck_assert_int_eq(store_write(store, changes, 2, NULL), LG_OK);
    struct seen seen = load(store);
    ck_assert_uint_eq(seen.rows[STORE_TABLE_JOB], 1);
    ck_assert_uint_eq(seen.rows[STORE_TABLE_HISTORY], 1);
    ck_assert_uint_eq(seen.rows[STORE_TABLE_SESSION], 1);
    ck_assert_uint_eq(seen.rows[STORE_TABLE_SLICE], 1);
    ck_assert_uint_eq(seen.slice.lease, 2);
    ck_assert_uint_eq(seen.rows[STORE_TABLE_COUNTER], 1);
    store_close(store);
}
END_TEST

START_TEST(a_failing_visitor_ends_the_load) {
    struct store *store = open_store(":memory:");
    struct seen seen = {.answer = LG_INVALID};
    struct lg_error error;
    put(store, STORE_TABLE_JOB, &(struct store_job){.job = 1});
    put(store, STORE_TABLE_JOB, &(struct store_job){.job = 2});
    ck_assert_int_eq(store_load(store, look, &seen, &error), LG_INVALID);
    ck_assert_str_eq(error.message, "enough");
    ck_assert_uint_eq(seen.rows[STORE_TABLE_JOB], 1);
    store_close(store);
}
END_TEST

START_TEST(a_transaction_is_whole_or_not_there) {
    struct store *store = open_store(":memory:");
    const double nan = strtod("nan", NULL); /* stored as NULL, which no column takes */
    const struct store_change changes[] = {
        {STORE_TABLE_JOB, false, &(struct store_job){.job = 1}},
        {STORE_TABLE_EVALUATION, false, &(struct store_evaluation){.job = 1, .loss = nan}}};
    struct lg_error error;
    ck_assert_int_ne(store_write(store, changes, 2, &error), LG_OK);
    ck_assert_uint_eq(load(store).rows[STORE_TABLE_JOB], 0);
    put(store, STORE_TABLE_JOB, &(struct store_job){.job = 2}); /* it can still be used */
    ck_assert_uint_eq(load(store).rows[STORE_TABLE_JOB], 1);
    store_close(store);
}
END_TEST

START_TEST(what_was_committed_survives_a_kill) {
    int told[2];
    ck_assert_int_eq(pipe(told), 0);
    pid_t child = fork();
    if (child == 0) {
        struct store *store = open_store(path);
        for (uint64_t job = 1; job <= 20; job++)
            put(store, STORE_TABLE_JOB, &(struct store_job){.job = job});
        if (write(told[1], "x", 1) == 1)
            pause();
        _exit(1);
    }
    char byte;
    ck_assert_int_eq((int)read(told[0], &byte, 1), 1);
    kill(child, SIGKILL);
    ck_assert_int_eq(waitpid(child, NULL, 0), child);
    struct store *store = open_store(path);
    ck_assert_uint_eq(load(store).rows[STORE_TABLE_JOB], 20);
    store_close(store);
}
END_TEST

/* ---- files that are not ours */

static void expect_refused(enum lg_status status, const char *text) {
    struct store *store = NULL;
    struct lg_error error = {0};
    ck_assert_int_eq(store_open(path, &store, &error), status);
    ck_assert_msg(strstr(error.message, text) && strstr(error.message, path), "%s", error.message);
}

static void run_sql(const char *sql) {
    sqlite3 *database;
    ck_assert_int_eq(sqlite3_open(path, &database), SQLITE_OK);
    ck_assert_int_eq(sqlite3_exec(database, sql, NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(database);
}

START_TEST(a_locked_database_is_refused) {
    pid_t child;
    int told[2];
    ck_assert_int_eq(pipe(told), 0);
    child = fork();
    if (child == 0) {
        (void)open_store(path);
        if (write(told[1], "x", 1) == 1)
            pause();
        _exit(1);
    }
    char byte;
    ck_assert_int_eq((int)read(told[0], &byte, 1), 1);
    expect_refused(LG_UNAVAILABLE, "another coordinator uses this folder");
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    store_close(open_store(path)); /* the lock went with it */
}
END_TEST

START_TEST(garbage_is_refused) {
    FILE *file = fopen(path, "w");
    for (int i = 0; i < 4096; i++)
        fputs("not a database, not at all\n", file);
    fclose(file);
    expect_refused(LG_INVALID, "damaged or no database");
}
END_TEST

START_TEST(another_programs_database_is_refused) {
    run_sql("CREATE TABLE cats(name); INSERT INTO cats VALUES('tom')");
    expect_refused(LG_INVALID, "another program");
}
END_TEST

START_TEST(another_schema_version_is_refused) {
    store_close(open_store(path));
    run_sql("PRAGMA user_version = 99");
    expect_refused(LG_UNSUPPORTED, "schema version 99");
    run_sql("PRAGMA user_version = 1"); /* without a job's epoch and map version */
    expect_refused(LG_UNSUPPORTED, "schema version 1, this lagoon-server reads version 2");
}
END_TEST

START_TEST(a_missing_table_is_refused) {
    store_close(open_store(path));
    run_sql("DROP TABLE slice");
    expect_refused(LG_IO, "slice");
}
END_TEST

START_TEST(a_missing_folder_is_refused) {
    snprintf(path, sizeof path, "%s/nowhere/test.db", folder);
    expect_refused(LG_IO, "check that its folder exists");
}
END_TEST

/* ---- its thread */

struct waiting {
    pthread_mutex_t mutex;
    pthread_cond_t wake;
    int calls;
};

static void on_committed(void *context) {
    struct waiting *waiting = context;
    pthread_mutex_lock(&waiting->mutex);
    waiting->calls++;
    pthread_cond_signal(&waiting->wake);
    pthread_mutex_unlock(&waiting->mutex);
}

static enum lg_status wait_for(struct store_thread *thread, struct waiting *waiting, uint64_t batch) {
    for (;;) {
        uint64_t durable = 0;
        pthread_mutex_lock(&waiting->mutex);
        int calls = waiting->calls;
        pthread_mutex_unlock(&waiting->mutex);
        enum lg_status status = store_thread_durable(thread, &durable, NULL);
        if (status != LG_OK || durable >= batch)
            return status;
        pthread_mutex_lock(&waiting->mutex);
        while (waiting->calls == calls)
            pthread_cond_wait(&waiting->wake, &waiting->mutex);
        pthread_mutex_unlock(&waiting->mutex);
    }
}

START_TEST(the_thread_commits_in_order_and_tells) {
    struct waiting waiting = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, 0};
    struct store *store = open_store(path);
    struct store_thread *thread = NULL;
    uint64_t batch = 0;
    ck_assert_int_eq(store_thread_start(&store, on_committed, &waiting, &thread, NULL), LG_OK);
    ck_assert_ptr_null(store);
    ck_assert_uint_eq(store_thread_seal(thread), 0); /* nothing to wait for */
    for (uint64_t job = 1; job <= 200; job++) {
        char name[16];
        snprintf(name, sizeof name, "job-%d", (int)job);
        struct store_job row = {.job = job, .name = name};
        ck_assert(store_thread_put(thread, &(struct store_change){STORE_TABLE_JOB, false, &row}));
        uint64_t next = store_thread_seal(thread);
        ck_assert_uint_eq(next, batch + 1);
        batch = next;
        memset(name, 'x', sizeof name); /* it has its own copy */
    }
    ck_assert_uint_eq(store_thread_seal(thread), batch);
    ck_assert_int_eq(wait_for(thread, &waiting, batch), LG_OK);
    ck_assert_int_le(waiting.calls, 200);
    struct store_job last = {.job = 201};
    ck_assert(store_thread_put(thread, &(struct store_change){STORE_TABLE_JOB, false, &last}));
    store_thread_seal(thread);
    store_thread_stop(thread); /* writes what is sealed */
    store = open_store(path);
    struct seen seen = load(store);
    ck_assert_uint_eq(seen.rows[STORE_TABLE_JOB], 201);
    store_close(store);
}
END_TEST

START_TEST(a_failure_is_told_and_stays) {
    struct waiting waiting = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, 0};
    struct store *store = open_store(":memory:");
    struct store_thread *thread = NULL;
    const double nan = strtod("nan", NULL);
    ck_assert_int_eq(store_thread_start(&store, on_committed, &waiting, &thread, NULL), LG_OK);
    struct store_evaluation bad = {.job = 1, .loss = nan};
    ck_assert(store_thread_put(thread, &(struct store_change){STORE_TABLE_EVALUATION, false, &bad}));
    uint64_t batch = store_thread_seal(thread);
    ck_assert_int_ne(wait_for(thread, &waiting, batch), LG_OK);
    struct store_job good = {.job = 1};
    ck_assert(store_thread_put(thread, &(struct store_change){STORE_TABLE_JOB, false, &good}));
    batch = store_thread_seal(thread);
    ck_assert_int_ne(wait_for(thread, &waiting, batch), LG_OK);
    store_thread_stop(thread);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("store");
    TCase *tests = tcase_create("store");
    tcase_set_timeout(tests, 60);
    tcase_add_checked_fixture(tests, make_folder, remove_folder);
    tcase_add_test(tests, rows_come_back_as_they_were);
    tcase_add_test(tests, rows_are_replaced_and_ordered_by_key);
    tcase_add_test(tests, removing_a_job_removes_all_of_it);
    tcase_add_test(tests, a_failing_visitor_ends_the_load);
    tcase_add_test(tests, a_transaction_is_whole_or_not_there);
    tcase_add_test(tests, what_was_committed_survives_a_kill);
    tcase_add_test(tests, a_locked_database_is_refused);
    tcase_add_test(tests, garbage_is_refused);
    tcase_add_test(tests, another_programs_database_is_refused);
    tcase_add_test(tests, another_schema_version_is_refused);
    tcase_add_test(tests, a_missing_table_is_refused);
    tcase_add_test(tests, a_missing_folder_is_refused);
    tcase_add_test(tests, the_thread_commits_in_order_and_tells);
    tcase_add_test(tests, a_failure_is_told_and_stays);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
