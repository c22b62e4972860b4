/* The coordinator's database: SQLite in its data folder, written in transactions, loaded at the start.
 *
 * Everything here runs on the thread that calls it; store_thread.h gives it a thread of its own. The journal is
 * a write-ahead log with synchronous=FULL: one fsync a transaction. Transactions gather all that happened meanwhile
 * (group commit) and nobody on the data path waits for one, so the fsync costs little, and what a peer was told is
 * still known after the power failed. */
#ifndef LAGOON_SERVER_COORDINATOR_STORE_H
#define LAGOON_SERVER_COORDINATOR_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/status.h"
#include "proto/wire.h"

enum store_table {
#define TABLE(name, NAME) STORE_TABLE_##NAME,
#include "server/coordinator/store_rows.def"
    STORE_TABLE_COUNT
};

#define TABLE(name, NAME) struct store_##name {
#define KEY(field) uint64_t field;
#define KEY_TEXT(field) const char *field;
#define NUMBER(field) uint64_t field;
#define REAL(field) double field;
#define TEXT(field) const char *field;
#define BLOB(field) struct wire_bytes field;
#define END                                                                                                            \
    }                                                                                                                  \
    ;
#include "server/coordinator/store_rows.def"

/* One change: puts a row (insert or replace), or removes the row with its keys. Removing a job's row removes its rows
 * in all tables. `row` is a struct store_<table>, borrowed. */
struct store_change {
    enum store_table table;
    bool remove;
    const void *row;
};

struct store;

/* Opens or makes the database `path` (its folder must exist); ":memory:" for tests. Another program's lock, a damaged
 * file or a schema of another version is one error that names the file and what to do. */
LG_MUST_CHECK enum lg_status store_open(const char *path, struct store **out, struct lg_error *error);
void store_close(struct store *store);

/* All changes in one transaction: on return everything or nothing is durable. */
LG_MUST_CHECK enum lg_status store_write(struct store *store, const struct store_change *changes, size_t count,
                                         struct lg_error *error);

/* Every row of every table, table by table, by key. A row is borrowed during the call; a failing visitor ends it. */
LG_MUST_CHECK enum lg_status store_load(struct store *store,
                                        enum lg_status (*visit)(void *context, enum store_table table, const void *row,
                                                                struct lg_error *error),
                                        void *context, struct lg_error *error);

const char *store_table_name(enum store_table table);

/* A copy of a row with its texts and blobs in one block of memory (free), or NULL. */
void *store_row_copy(enum store_table table, const void *row);

#endif
