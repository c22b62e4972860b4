/* Structured log lines on stderr: time, level, program, message id, text.
 *
 *   2026-03-01T12:00:00.123Z info  server   shard-ready      shard 0 listens on tcp://127.0.0.1:40123
 *
 * Message ids are short, stable and greppable. Any thread may log; a line is written with one write(2). */
#ifndef LAGOON_COMMON_LOG_H
#define LAGOON_COMMON_LOG_H

#include "common/status.h"

enum log_level { LOG_LEVEL_DEBUG, LOG_LEVEL_INFO, LOG_LEVEL_WARN, LOG_LEVEL_ERROR };

/* Sets the program name shown in each line (static string) and the least level written. */
void log_init(const char *program, enum log_level least);
/* Parses "debug", "info", "warn" or "error". */
LG_MUST_CHECK enum lg_status log_level_parse(const char *text, enum log_level *level);
void log_write(enum log_level level, const char *id, const char *format, ...) LG_PRINTF(3, 4);

#define log_debug(...) log_write(LOG_LEVEL_DEBUG, __VA_ARGS__)
#define log_info(...) log_write(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_warn(...) log_write(LOG_LEVEL_WARN, __VA_ARGS__)
#define log_error(...) log_write(LOG_LEVEL_ERROR, __VA_ARGS__)

#endif
