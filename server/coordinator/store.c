#include "server/coordinator/store.h"

#include <assert.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include <sqlite3.h>

#include "common/buf.h"

enum { SCHEMA_VERSION = 2, APPLICATION_ID = 0x4c41474f /* "LAGO" */, COLUMNS_MAX = 16, LOCK_WAIT_MS = 2000 };

/* ---- tables as data, made from store_rows.def */

enum column_type { COLUMN_TYPE_NUMBER, COLUMN_TYPE_REAL, COLUMN_TYPE_TEXT, COLUMN_TYPE_BLOB };

struct column {
    const char *name;
    enum column_type type;
    bool key;
    size_t offset; /* in the row struct */
};

struct table {
    const char *name;
    size_t row_bytes, count;
    struct column columns[COLUMNS_MAX];
};

static struct table tables[STORE_TABLE_COUNT];

static void add(struct table *table, const char *name, enum column_type type, bool key, size_t offset) {
    assert(table->count < COLUMNS_MAX);
    table->columns[table->count++] = (struct column){name, type, key, offset};
}

#define TABLE(NAME_lower, NAME)                                                                                        \
    static void describe_##NAME_lower(struct table *table) {                                                           \
        typedef struct store_##NAME_lower row;                                                                         \
        table->name = #NAME_lower;                                                                                     \
        table->row_bytes = sizeof(row);
#define KEY(field) add(table, #field, COLUMN_TYPE_NUMBER, true, offsetof(row, field));
#define KEY_TEXT(field) add(table, #field, COLUMN_TYPE_TEXT, true, offsetof(row, field));
#define NUMBER(field) add(table, #field, COLUMN_TYPE_NUMBER, false, offsetof(row, field));
#define REAL(field) add(table, #field, COLUMN_TYPE_REAL, false, offsetof(row, field));
#define TEXT(field) add(table, #field, COLUMN_TYPE_TEXT, false, offsetof(row, field));
#define BLOB(field) add(table, #field, COLUMN_TYPE_BLOB, false, offsetof(row, field));
#define END }
#include "server/coordinator/store_rows.def"

static void describe_all(void) {
#define TABLE(name, NAME) describe_##name(&tables[STORE_TABLE_##NAME]);
#include "server/coordinator/store_rows.def"
}

static const struct table *table_of(enum store_table number) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, describe_all);
    return &tables[number];
}

const char *store_table_name(enum store_table table) {
    return table_of(table)->name;
}

static void *field_of(const void *row, const struct column *column) {
    return (char *)(uintptr_t)row + column->offset;
}

/* Bytes behind a text (its NUL included) or blob column; 0 for the others. */
static size_t extra_bytes(const void *row, const struct column *column) {
    if (column->type == COLUMN_TYPE_TEXT) {
        const char *text = *(const char *const *)field_of(row, column);
        return text ? strlen(text) + 1 : 1;
    }
    return column->type == COLUMN_TYPE_BLOB ? ((const struct wire_bytes *)field_of(row, column))->bytes : 0;
}

void *store_row_copy(enum store_table number, const void *row) {
    const struct table *table = table_of(number);
    size_t bytes = table->row_bytes;
    for (size_t i = 0; i < table->count; i++)
        bytes += extra_bytes(row, &table->columns[i]);
    char *copy = malloc(bytes);
    if (!copy)
        return NULL;
    char *at = copy + table->row_bytes;
    memcpy(copy, row, table->row_bytes);
    for (size_t i = 0; i < table->count; i++) {
        const struct column *column = &table->columns[i];
        size_t extra = extra_bytes(row, column);
        if (column->type == COLUMN_TYPE_TEXT) {
            const char *text = *(const char *const *)field_of(row, column);
            memcpy(at, text ? text : "", extra);
            *(const char **)field_of(copy, column) = at;
        } else if (column->type == COLUMN_TYPE_BLOB) {
            if (extra > 0)
                memcpy(at, ((const struct wire_bytes *)field_of(row, column))->data, extra);
            ((struct wire_bytes *)field_of(copy, column))->data = at;
        }
        at += extra;
    }
    return copy;
}

/* ---- the database */

struct store {
    sqlite3 *database;
    char path[480];
    sqlite3_stmt *put[STORE_TABLE_COUNT], *remove[STORE_TABLE_COUNT], *purge[STORE_TABLE_COUNT];
    sqlite3_stmt *begin, *commit, *rollback;
};

/* One sentence with what to do about it. */
static enum lg_status fail(const struct store *store, const char *doing, struct lg_error *error) {
    int code = store->database ? sqlite3_errcode(store->database) : SQLITE_NOMEM;
    const char *text = store->database ? sqlite3_errmsg(store->database) : "no memory";
    const char *path = store->path;
    switch (code) {
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
        return lg_fail(error, LG_UNAVAILABLE,
                       "\"%s\" is locked: another coordinator uses this folder; stop it or choose another data_dir",
                       path);
    case SQLITE_NOTADB:
    case SQLITE_CORRUPT:
        return lg_fail(error, LG_INVALID,
                       "\"%s\" is damaged or no database (%s); move the file away to start empty, or restore a backup",
                       path, text);
    case SQLITE_CANTOPEN:
        return lg_fail(error, LG_IO, "\"%s\" cannot be opened (%s); check that its folder exists and may be written",
                       path, text);
    case SQLITE_READONLY:
        return lg_fail(error, LG_IO, "\"%s\" is read-only; check its owner and permissions", path);
    case SQLITE_FULL:
        return lg_fail(error, LG_IO, "no space left for \"%s\"; free some and start the coordinator again", path);
    default:
        return lg_fail(error, LG_IO, "%s \"%s\": %s", doing, path, text);
    }
}

static enum lg_status run(struct store *store, const char *sql, struct lg_error *error) {
    if (sqlite3_exec(store->database, sql, NULL, NULL, NULL) != SQLITE_OK)
        return fail(store, "cannot set up", error);
    return LG_OK;
}

static enum lg_status read_number(struct store *store, const char *sql, int64_t *number, struct lg_error *error) {
    sqlite3_stmt *statement = NULL;
    enum lg_status status = LG_OK;
    if (sqlite3_prepare_v2(store->database, sql, -1, &statement, NULL) != SQLITE_OK ||
        sqlite3_step(statement) != SQLITE_ROW)
        status = fail(store, "cannot read", error);
    else
        *number = sqlite3_column_int64(statement, 0);
    sqlite3_finalize(statement);
    return status;
}

static const char *const sql_types[] = {"INTEGER", "REAL", "TEXT", "BLOB"};

static void list_columns(struct buf *sql, const struct table *table, bool keys_only, const char *between,
                         const char *after) {
    bool first = true;
    for (size_t i = 0; i < table->count; i++) {
        if (keys_only && !table->columns[i].key)
            continue;
        buf_printf(sql, "%s\"%s\"%s", first ? "" : between, table->columns[i].name, after);
        first = false;
    }
}

static enum lg_status make_tables(struct store *store, struct lg_error *error) {
    struct buf sql = {0};
    buf_text(&sql, "BEGIN IMMEDIATE;");
    for (int number = 0; number < STORE_TABLE_COUNT; number++) {
        const struct table *table = table_of((enum store_table)number);
        buf_printf(&sql, "CREATE TABLE \"%s\" (", table->name);
        for (size_t i = 0; i < table->count; i++)
            buf_printf(&sql, "\"%s\" %s NOT NULL, ", table->columns[i].name, sql_types[table->columns[i].type]);
        buf_text(&sql, "PRIMARY KEY (");
        list_columns(&sql, table, true, ", ", "");
        buf_text(&sql, ")) WITHOUT ROWID;");
    }
    buf_printf(&sql, "PRAGMA application_id=%d; PRAGMA user_version=%d; COMMIT;", APPLICATION_ID, SCHEMA_VERSION);
    enum lg_status status = buf_check(&sql, error);
    if (status == LG_OK)
        status = run(store, buf_string(&sql), error);
    buf_deinit(&sql);
    return status;
}

/* A new file gets the tables; any other must be ours and of this version. */
static enum lg_status check_schema(struct store *store, struct lg_error *error) {
    int64_t version = 0, application = 0, entries = 0;
    enum lg_status status = read_number(store, "PRAGMA user_version", &version, error);
    if (status == LG_OK)
        status = read_number(store, "PRAGMA application_id", &application, error);
    if (status == LG_OK)
        status = read_number(store, "SELECT count(*) FROM sqlite_schema", &entries, error);
    if (status != LG_OK)
        return status;
    if (version == 0 && application == 0 && entries == 0)
        return make_tables(store, error);
    if (application != APPLICATION_ID)
        return lg_fail(error, LG_INVALID, "\"%s\" is a database of another program; choose another data_dir",
                       store->path);
    if (version != SCHEMA_VERSION)
        return lg_fail(error, LG_UNSUPPORTED,
                       "\"%s\" has schema version %lld, this lagoon-server reads version %d; use the version that made "
                       "it, or move the file away to start empty",
                       store->path, (long long)version, SCHEMA_VERSION);
    return LG_OK;
}

static enum lg_status prepare(struct store *store, const char *text, sqlite3_stmt **statement, struct lg_error *error) {
    if (sqlite3_prepare_v3(store->database, text, -1, SQLITE_PREPARE_PERSISTENT, statement, NULL) != SQLITE_OK)
        return fail(store, "cannot read", error);
    return LG_OK;
}

static enum lg_status prepare_table(struct store *store, int number, struct lg_error *error) {
    const struct table *table = table_of((enum store_table)number);
    struct buf sql = {0};
    enum lg_status status = LG_OK;
    buf_printf(&sql, "INSERT OR REPLACE INTO \"%s\" (", table->name);
    list_columns(&sql, table, false, ", ", "");
    buf_text(&sql, ") VALUES (?");
    for (size_t i = 1; i < table->count; i++)
        buf_text(&sql, ", ?");
    buf_text(&sql, ")");
    status = prepare(store, buf_string(&sql), &store->put[number], error);
    buf_clear(&sql);
    buf_printf(&sql, "DELETE FROM \"%s\" WHERE ", table->name);
    list_columns(&sql, table, true, " AND ", " = ?");
    if (status == LG_OK)
        status = prepare(store, buf_string(&sql), &store->remove[number], error);
    buf_clear(&sql);
    bool of_job = false;
    for (size_t i = 0; i < table->count; i++)
        of_job = of_job || strcmp(table->columns[i].name, "job") == 0;
    buf_printf(&sql, "DELETE FROM \"%s\" WHERE job = ?", table->name);
    if (status == LG_OK && of_job)
        status = prepare(store, buf_string(&sql), &store->purge[number], error);
    buf_deinit(&sql);
    return status;
}

static enum lg_status prepare_all(struct store *store, struct lg_error *error) {
    enum lg_status status = prepare(store, "BEGIN IMMEDIATE", &store->begin, error);
    if (status == LG_OK)
        status = prepare(store, "COMMIT", &store->commit, error);
    if (status == LG_OK)
        status = prepare(store, "ROLLBACK", &store->rollback, error);
    for (int i = 0; status == LG_OK && i < STORE_TABLE_COUNT; i++)
        status = prepare_table(store, i, error);
    return status;
}

enum lg_status store_open(const char *path, struct store **out, struct lg_error *error) {
    struct store *store = calloc(1, sizeof *store);
    if (!store)
        return lg_fail(error, LG_NO_MEMORY, "no memory for the database");
    strncpy(store->path, path, sizeof store->path - 1);
    enum lg_status status = LG_OK;
    if (sqlite3_open_v2(path, &store->database, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX,
                        NULL) != SQLITE_OK)
        status = fail(store, "cannot open", error);
    if (status == LG_OK) {
        sqlite3_busy_timeout(store->database, LOCK_WAIT_MS);
        /* One coordinator a database: the lock is held until it is closed, also over a kill -9 by the system. */
        status = run(store,
                     "PRAGMA locking_mode=EXCLUSIVE; PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;"
                     "BEGIN EXCLUSIVE; COMMIT;",
                     error);
    }
    if (status == LG_OK)
        status = check_schema(store, error);
    if (status == LG_OK)
        status = prepare_all(store, error);
    if (status != LG_OK) {
        store_close(store);
        return status;
    }
    *out = store;
    return LG_OK;
}

void store_close(struct store *store) {
    if (!store)
        return;
    for (int i = 0; i < STORE_TABLE_COUNT; i++) {
        sqlite3_finalize(store->put[i]);
        sqlite3_finalize(store->remove[i]);
        sqlite3_finalize(store->purge[i]);
    }
    sqlite3_finalize(store->begin);
    sqlite3_finalize(store->commit);
    sqlite3_finalize(store->rollback);
    sqlite3_close(store->database);
    free(store);
}

/* ---- writing */

static int bind(sqlite3_stmt *statement, int at, const void *row, const struct column *column) {
    const void *field = field_of(row, column);
    switch (column->type) {
    case COLUMN_TYPE_NUMBER:
        return sqlite3_bind_int64(statement, at, (sqlite3_int64) * (const uint64_t *)field);
    case COLUMN_TYPE_REAL:
        return sqlite3_bind_double(statement, at, *(const double *)field);
    case COLUMN_TYPE_TEXT: {
        const char *text = *(const char *const *)field;
        return sqlite3_bind_text(statement, at, text ? text : "", -1, SQLITE_STATIC);
    }
    default: {
        const struct wire_bytes *blob = field;
        return sqlite3_bind_blob64(statement, at, blob->bytes ? blob->data : "", blob->bytes, SQLITE_STATIC);
    }
    }
}

static bool step(sqlite3_stmt *statement) {
    int code = sqlite3_step(statement);
    sqlite3_reset(statement);
    return code == SQLITE_DONE;
}

static bool write_change(struct store *store, const struct store_change *change) {
    const struct table *table = table_of(change->table);
    sqlite3_stmt *statement = change->remove ? store->remove[change->table] : store->put[change->table];
    int at = 1;
    if (change->remove && change->table == STORE_TABLE_JOB) {
        const struct store_job *job = change->row;
        for (int i = 0; i < STORE_TABLE_COUNT; i++)
            if (store->purge[i] && (sqlite3_bind_int64(store->purge[i], 1, (sqlite3_int64)job->job) != SQLITE_OK ||
                                    !step(store->purge[i])))
                return false;
        return true;
    }
    for (size_t i = 0; i < table->count; i++)
        if (!change->remove || table->columns[i].key)
            if (bind(statement, at++, change->row, &table->columns[i]) != SQLITE_OK)
                return false;
    return step(statement);
}

enum lg_status store_write(struct store *store, const struct store_change *changes, size_t count,
                           struct lg_error *error) {
    if (!step(store->begin))
        return fail(store, "cannot write", error);
    bool written = true;
    for (size_t i = 0; i < count && written; i++)
        written = write_change(store, &changes[i]);
    if (written && step(store->commit))
        return LG_OK;
    enum lg_status status = fail(store, "cannot write", error);
    if (!sqlite3_get_autocommit(store->database))
        step(store->rollback);
    return status;
}

/* ---- loading */

static void read_column(sqlite3_stmt *statement, int at, void *row, const struct column *column) {
    void *field = field_of(row, column);
    switch (column->type) {
    case COLUMN_TYPE_NUMBER:
        *(uint64_t *)field = (uint64_t)sqlite3_column_int64(statement, at);
        break;
    case COLUMN_TYPE_REAL:
        *(double *)field = sqlite3_column_double(statement, at);
        break;
    case COLUMN_TYPE_TEXT: {
        const unsigned char *text = sqlite3_column_text(statement, at);
        *(const char **)field = text ? (const char *)text : "";
        break;
    }
    case COLUMN_TYPE_BLOB: {
        const void *data = sqlite3_column_blob(statement, at);
        *(struct wire_bytes *)field =
            (struct wire_bytes){data ? data : "", (size_t)sqlite3_column_bytes(statement, at)};
        break;
    }
    }
}

union store_row {
#define TABLE(name, NAME) struct store_##name name;
#include "server/coordinator/store_rows.def"
};

static enum lg_status load_table(struct store *store, enum store_table number,
                                 enum lg_status (*visit)(void *context, enum store_table table, const void *row,
                                                         struct lg_error *error),
                                 void *context, struct lg_error *error) {
    const struct table *table = table_of(number);
    struct buf sql = {0};
    sqlite3_stmt *statement = NULL;
    union store_row row;
    int code = SQLITE_DONE;
    buf_text(&sql, "SELECT ");
    list_columns(&sql, table, false, ", ", "");
    buf_printf(&sql, " FROM \"%s\" ORDER BY ", table->name);
    list_columns(&sql, table, true, ", ", "");
    enum lg_status status = prepare(store, buf_string(&sql), &statement, error);
    buf_deinit(&sql);
    while (status == LG_OK && (code = sqlite3_step(statement)) == SQLITE_ROW) {
        for (size_t i = 0; i < table->count; i++)
            read_column(statement, (int)i, &row, &table->columns[i]);
        status = visit(context, number, &row, error);
    }
    if (status == LG_OK && code != SQLITE_DONE)
        status = fail(store, "cannot read", error);
    sqlite3_finalize(statement);
    return status;
}

enum lg_status store_load(struct store *store,
                          enum lg_status (*visit)(void *context, enum store_table table, const void *row,
                                                  struct lg_error *error),
                          void *context, struct lg_error *error) {
    enum lg_status status = LG_OK;
    for (int i = 0; status == LG_OK && i < STORE_TABLE_COUNT; i++)
        status = load_table(store, (enum store_table)i, visit, context, error);
    return status;
}
