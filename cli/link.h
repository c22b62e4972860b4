/* Questions to the coordinator, one at a time, with a deadline. */
#ifndef LAGOON_CLI_LINK_H
#define LAGOON_CLI_LINK_H

#include <jansson.h>

#include "cli/cli.h"
#include "proto/wire.h"

enum { LINK_TIMEOUT_MS = 5000, LINK_WAKES = 2 };

struct link;

LG_MUST_CHECK enum lg_status link_open(const char *coordinator, struct link **out, struct lg_error *error);
void link_close(struct link *link);

/* Sends `request` and waits for its answer, which is borrowed until the next question. LG_UNAVAILABLE when nothing
 * answers within `timeout_ms`; an ERROR answer becomes its status and reason. */
LG_MUST_CHECK enum lg_status link_ask(struct link *link, struct wire_message *request, int64_t timeout_ms,
                                      struct wire_message *reply, struct lg_error *error);

/* Queries wait so long for an answer, LINK_TIMEOUT_MS unless told otherwise; all questions end with LG_CANCELLED as
 * soon as one of the descriptors (-1: none) can be read. */
void link_limit(struct link *link, int64_t timeout_ms, const int wake[LINK_WAKES]);

/* QUERY: the document is the caller's (json_decref). `next` may be NULL. */
LG_MUST_CHECK enum lg_status link_query(struct link *link, const char *what, const char *job, uint64_t since,
                                        json_t **document, uint64_t *next, struct lg_error *error);

/* Opens, queries, closes. */
LG_MUST_CHECK enum lg_status link_query_once(const struct cli *cli, const char *what, const char *job,
                                             json_t **document, struct lg_error *error);

#endif
