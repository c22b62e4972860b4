#define LG_STATUS_IMPLEMENTATION
#include "common/status.h"

#include <stdio.h>
#include <string.h>

const char *lg_status_name(enum lg_status status) {
    switch (status) {
#define X(symbol, number, name, text)                                                                                  \
    case LG_##symbol:                                                                                                  \
        return name;
#include "common/status.def"
#undef X
    }
    return "unknown";
}

const char *lg_status_text(enum lg_status status) {
    switch (status) {
#define X(symbol, number, name, text)                                                                                  \
    case LG_##symbol:                                                                                                  \
        return text;
#include "common/status.def"
#undef X
    }
    return "a status that this version does not know";
}

enum lg_status lg_fail(struct lg_error *error, enum lg_status status, const char *format, ...) {
    if (error) {
        va_list args;
        va_start(args, format);
        vsnprintf(error->message, sizeof error->message, format, args);
        va_end(args);
        error->status = status;
    }
    return status;
}

enum lg_status lg_fail_prefix(struct lg_error *error, enum lg_status status, const char *format, ...) {
    if (error) {
        char before[sizeof error->message], joined[2 * sizeof error->message + 2];
        va_list args;
        va_start(args, format);
        vsnprintf(before, sizeof before, format, args);
        va_end(args);
        snprintf(joined, sizeof joined, "%s: %s", before, error->message);
        memcpy(error->message, joined, sizeof error->message);
        error->message[sizeof error->message - 1] = '\0';
        error->status = status;
    }
    return status;
}
