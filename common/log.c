#include "common/log.h"

#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static const char *program_name = "lagoon";
static _Atomic int least_level = LOG_LEVEL_INFO;
static const char *const level_names[] = {"debug", "info", "warn", "error"};

void log_init(const char *program, enum log_level least) {
    program_name = program;
    atomic_store(&least_level, (int)least);
}

enum lg_status log_level_parse(const char *text, enum log_level *level) {
    for (int i = 0; i < 4; i++) {
        if (strcmp(text, level_names[i]) == 0) {
            *level = (enum log_level)i;
            return LG_OK;
        }
    }
    return LG_INVALID;
}

void log_write(enum log_level level, const char *id, const char *format, ...) {
    if ((int)level < atomic_load(&least_level))
        return;
    struct timespec now;
    struct tm utc;
    char line[2048];
    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &utc);
    size_t used = strftime(line, sizeof line, "%Y-%m-%dT%H:%M:%S", &utc);
    int head = snprintf(line + used, sizeof line - used, ".%03ldZ %-5s %-8s %-18s ", now.tv_nsec / 1000000,
                        level_names[level], program_name, id);
    used += (size_t)head;
    va_list args;
    va_start(args, format);
    int body = vsnprintf(line + used, sizeof line - used - 1, format, args);
    va_end(args);
    used += body < 0 ? 0 : (size_t)body;
    if (used > sizeof line - 2)
        used = sizeof line - 2;
    line[used++] = '\n';
    ssize_t written = write(STDERR_FILENO, line, used);
    (void)written;
}
