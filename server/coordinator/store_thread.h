/* The database on a thread of its own, with group commit: what gathers while one transaction is written is the next
 * one. The caller puts changes, seals them into a batch and learns through `committed` (on the store's thread: an
 * uv_async_send, say) that a batch is durable. */
#ifndef LAGOON_SERVER_COORDINATOR_STORE_THREAD_H
#define LAGOON_SERVER_COORDINATOR_STORE_THREAD_H

#include "server/coordinator/store.h"

struct store_thread;

/* Takes over `*store` (NULL afterwards) on success. `committed` is called after each transaction and after a failure.
 */
LG_MUST_CHECK enum lg_status store_thread_start(struct store **store, void (*committed)(void *context), void *context,
                                                struct store_thread **out, struct lg_error *error);
/* Copies a change into the open batch; false without memory. */
bool store_thread_put(struct store_thread *thread, const struct store_change *change);
/* Closes the open batch; returns its number, counted from 1. Without changes: the number of the last batch. */
uint64_t store_thread_seal(struct store_thread *thread);
/* Batches up to this number are durable. LG_OK, or why nothing is written any more: then it stays so. */
LG_MUST_CHECK enum lg_status store_thread_durable(struct store_thread *thread, uint64_t *batch, struct lg_error *error);
/* Writes what is sealed, stops, closes the database. NULL is fine. */
void store_thread_stop(struct store_thread *thread);

#endif
