/* Status codes of every fallible call, and the caller's place for the detail.
 *
 * A bug asserts; an operating failure returns a status; bytes from outside never assert. */
#ifndef LAGOON_COMMON_STATUS_H
#define LAGOON_COMMON_STATUS_H

#include <stdarg.h>

enum lg_status {
#define X(symbol, number, name, text) LG_##symbol = number,
#include "common/status.def"
#undef X
};

#define LG_MUST_CHECK __attribute__((warn_unused_result))
#define LG_PRINTF(format_at, args_at) __attribute__((format(printf, format_at, args_at)))

/* What went wrong, in one sentence for a person: lower case, cause first, subject in quotes, remedy last.
 * Owned by the caller; every function that takes one accepts NULL. */
struct lg_error {
    enum lg_status status;
    char message[480];
};

/* The short name ("not-found") and one-line explanation; static strings, also for numbers nobody defined. */
const char *lg_status_name(enum lg_status status);
const char *lg_status_text(enum lg_status status);

/* Fills `error` (may be NULL) and returns `status`, so that a failing function ends in one line. */
enum lg_status lg_fail(struct lg_error *error, enum lg_status status, const char *format, ...) LG_PRINTF(3, 4);

/* Puts "prefix: " before the message already in `error` (NULL is fine) and returns its status. */
enum lg_status lg_fail_prefix(struct lg_error *error, enum lg_status status, const char *format, ...) LG_PRINTF(3, 4);

#if defined(__clang_analyzer__) && !defined(LG_STATUS_IMPLEMENTATION)
/* Tells the static analyzer, which looks at one file at a time, that these return what they are given. */
#define lg_fail(error, status, ...) (lg_fail(error, status, __VA_ARGS__), status)
#define lg_fail_prefix(error, status, ...) (lg_fail_prefix(error, status, __VA_ARGS__), status)
#endif

#endif
