#include "common/units.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* Decimals that make three significant digits of a value below 1024. */
static int decimals_for(double value) {
    return value < 9.995 ? 2 : value < 99.95 ? 1 : 0;
}

/* Cuts ".50" to ".5" and ".00" to nothing. */
static void trim_zeros(char *text) {
    if (!strchr(text, '.'))
        return;
    size_t length = strlen(text);
    while (text[length - 1] == '0')
        text[--length] = '\0';
    if (text[length - 1] == '.')
        text[length - 1] = '\0';
}

char *units_bytes(uint64_t bytes, char *text, size_t size) {
    static const char *const names[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    double value = (double)bytes;
    size_t unit = 0;
    char number[UNITS_TEXT_BYTES];
    while (value >= 1023.5 && unit + 1 < sizeof names / sizeof names[0]) {
        value /= 1024;
        unit++;
    }
    snprintf(number, sizeof number, "%.*f", decimals_for(value), value);
    trim_zeros(number);
    snprintf(text, size, "%s %s", number, names[unit]);
    return text;
}

char *units_bytes_exact(uint64_t bytes, char *text, size_t size) {
    static const char *const names[] = {"", "KiB", "MiB", "GiB", "TiB"};
    size_t unit = 0;
    while (bytes > 0 && bytes % 1024 == 0 && unit < 4) {
        bytes /= 1024;
        unit++;
    }
    snprintf(text, size, "%" PRIu64 "%s", bytes, names[unit]);
    return text;
}

char *units_duration(int64_t ms, char *text, size_t size) {
    int64_t s = (ms + 500) / 1000;
    if (ms < 1000)
        snprintf(text, size, "%" PRId64 " ms", ms);
    else if (ms < 59950)
        snprintf(text, size, "%.1f s", (double)ms / 1000);
    else if (s < 3600)
        snprintf(text, size, "%" PRId64 " min %" PRId64 " s", s / 60, s % 60);
    else if (s < 86400)
        snprintf(text, size, "%" PRId64 " h %" PRId64 " min", s / 3600, s % 3600 / 60);
    else
        snprintf(text, size, "%" PRId64 " d %" PRId64 " h", s / 86400, s % 86400 / 3600);
    return text;
}

char *units_duration_exact(int64_t ms, char *text, size_t size) {
    static const struct {
        int64_t ms;
        const char *name;
    } units[] = {{86400000, "d"}, {3600000, "h"}, {60000, "m"}, {1000, "s"}, {1, "ms"}};
    size_t i = 0;
    if (ms == 0) {
        snprintf(text, size, "0");
        return text;
    }
    while (ms % units[i].ms != 0)
        i++;
    snprintf(text, size, "%" PRId64 "%s", ms / units[i].ms, units[i].name);
    return text;
}

char *units_count(uint64_t count, char *text, size_t size) {
    char digits[UNITS_TEXT_BYTES], grouped[UNITS_TEXT_BYTES];
    int length = snprintf(digits, sizeof digits, "%" PRIu64, count);
    size_t used = 0;
    for (int i = 0; i < length; i++) {
        if (i > 0 && (length - i) % 3 == 0)
            grouped[used++] = ',';
        grouped[used++] = digits[i];
    }
    grouped[used] = '\0';
    snprintf(text, size, "%s", grouped);
    return text;
}

char *units_rate(double value, char *text, size_t size) {
    static const char *const names[] = {"", "k", "M", "G", "T", "P"};
    size_t unit = 0;
    char number[64];
    while (value >= 999.5 && unit + 1 < sizeof names / sizeof names[0]) {
        value /= 1000;
        unit++;
    }
    snprintf(number, sizeof number, "%.*f", decimals_for(value), value);
    trim_zeros(number);
    snprintf(text, size, "%s%s", number, names[unit]);
    return text;
}
